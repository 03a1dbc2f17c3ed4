"""Where pip, uv and conda are told to look, read as they read it."""

from __future__ import annotations

import base64
import json
import os
import sys
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import click
import pytest

from envboot.cli import run
from envboot.indexes import Indexes, open_indexes
from envboot.indexes.channels import read_channels
from envboot.indexes.configuration import PYPI, Configuration, Index, merge, put_local_last
from envboot.indexes.fingerprint import describe_indexes
from envboot.indexes.logins import Login, find_keyring, find_netrc, split_login
from envboot.indexes.pip import read_pip
from envboot.indexes.program import find_uv
from envboot.indexes.render import render_config, render_project
from envboot.indexes.uv import read_uv
from envboot.indexes.web import Web
from envboot.redaction import redact
from tests.index import make_wheel, serve_folder, write_simple

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = Login(username="user", password="hunter2")


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def urls(found: Configuration) -> list[str]:
    return [index.url for index in found.indexes]


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """Variables of a user of whom nothing is known."""
    return {"HOME": str(tmp_path / "home"), "XDG_CONFIG_DIRS": str(tmp_path / "etc")}


class TestPip:
    def test_several_extra_indexes_stay_several(self, home: dict[str, str], tmp_path: Path) -> None:
        text = "[global]\nextra-index-url = https://a.test/simple https://b.test/simple\n"
        text += "    https://c.test/simple\n"
        write(tmp_path / "home" / ".config" / "pip" / "pip.conf", text)
        found = read_pip(home, tmp_path, tmp_path / "venv")
        assert urls(found) == [f"https://{name}.test/simple" for name in "abc"]

    def test_a_later_place_replaces_an_earlier_one(
        self, home: dict[str, str], tmp_path: Path
    ) -> None:
        write(tmp_path / "etc" / "pip" / "pip.conf", "[global]\nindex-url = https://system.test\n")
        assert urls(read_pip(home, tmp_path, tmp_path / "venv")) == ["https://system.test"]
        write(tmp_path / "home" / ".pip" / "pip.conf", "[global]\nindex-url = https://user.test\n")
        assert urls(read_pip(home, tmp_path, tmp_path / "venv")) == ["https://user.test"]
        write(tmp_path / "venv" / "pip.conf", "[install]\nindex_url = https://venv.test\n")
        assert urls(read_pip(home, tmp_path, tmp_path / "venv")) == ["https://venv.test"]
        home["PIP_INDEX_URL"] = "https://variable.test"
        assert urls(read_pip(home, tmp_path, tmp_path / "venv")) == ["https://variable.test"]

    def test_no_file_is_read_where_pip_reads_none(
        self, home: dict[str, str], tmp_path: Path
    ) -> None:
        write(tmp_path / "venv" / "pip.conf", "[global]\nindex-url = https://venv.test\n")
        home["PIP_CONFIG_FILE"] = os.devnull
        assert urls(read_pip(home, tmp_path, tmp_path / "venv")) == []

    def test_links_hosts_and_certificates_are_read(
        self, home: dict[str, str], tmp_path: Path
    ) -> None:
        home |= {"PIP_FIND_LINKS": "wheels https://links.test/x", "PIP_TRUSTED_HOST": "a.test:80"}
        home |= {"PIP_CERT": "/ca.pem", "PIP_NO_INDEX": "true"}
        found = read_pip(home, tmp_path, tmp_path / "venv")
        assert found.find_links == (str(tmp_path / "wheels"), "https://links.test/x")
        assert (found.insecure, found.certificates) == (("a.test:80",), "/ca.pem")
        assert found.no_index


class TestUv:
    def test_tables_variables_and_old_keys_are_read_in_its_order(
        self, home: dict[str, str], tmp_path: Path
    ) -> None:
        project = '[[index]]\nname = "team"\nurl = "https://team.test/simple"\nexplicit = true\n'
        write(tmp_path / "uv.toml", f'index-url = "https://default.test"\n{project}')
        write(
            tmp_path / "home" / ".config" / "uv" / "uv.toml",
            'index-url = "https://other.test"\nextra-index-url = ["https://user.test"]\n',
        )
        home["UV_INDEX"] = "named=https://one.test/a=b https://two.test"
        found = read_uv(home, tmp_path)
        assert urls(found) == [
            "https://one.test/a=b",
            "https://two.test",
            "https://team.test/simple",
            "https://default.test",
            "https://user.test",
            "https://other.test",
        ]
        assert [index.url for index in found.indexes if index.default] == ["https://default.test"]
        assert [index.name for index in found.indexes[:3]] == ["named", None, "team"]
        assert found.indexes[2].explicit

    def test_a_login_by_variable_belongs_to_the_named_index(
        self, home: dict[str, str], tmp_path: Path
    ) -> None:
        write(tmp_path / "uv.toml", '[[index]]\nname = "my.team"\nurl = "https://team.test"\n')
        home |= {"UV_INDEX_MY_TEAM_USERNAME": "user", "UV_INDEX_MY_TEAM_PASSWORD": "hunter2"}
        (index,) = read_uv(home, tmp_path).indexes
        assert index.login == SECRET
        assert "hunter2" not in repr(index)

    def test_sources_send_a_package_to_its_index(
        self, home: dict[str, str], tmp_path: Path
    ) -> None:
        write(
            tmp_path / "pyproject.toml",
            '[tool.uv.sources]\nMy_Tool = { index = "team" }\nother = { path = "x" }\n'
            '[[tool.uv.index]]\nname = "team"\nurl = "https://team.test"\nexplicit = true\n',
        )
        found = read_uv(home, tmp_path)
        assert list(found.sources) == ["my-tool"]
        names = {"i0": found.indexes[0]}
        assert render_project(found, names, ["other==1"]) is None
        text = render_project(found, names, ["my-tool==1", "other==1"])
        assert text
        document = tomllib.loads(text)
        assert document["project"]["dependencies"] == ["my-tool==1", "other==1"]
        assert document["tool"]["uv"]["sources"] == {"my-tool": [{"index": "i0"}]}
        assert document["tool"]["uv"]["index"][0]["name"] == "i0"

    def test_no_file_is_read_where_uv_reads_none(
        self, home: dict[str, str], tmp_path: Path
    ) -> None:
        write(tmp_path / "uv.toml", 'index-url = "https://default.test"\n')
        assert read_uv({**home, "UV_NO_CONFIG": "1"}, tmp_path) == Configuration()

    def test_the_file_for_it_holds_no_login(self) -> None:
        index = Index(url="https://team.test", login=SECRET, default=True)
        links = Index(url="/wheels", flat=True)
        found = Configuration(indexes=(index, links), strategy="first-index")
        text = render_config(found, {"i0": index, "i1": links})
        assert "hunter2" not in text
        assert tomllib.loads(text) == {
            "find-links": ["/wheels"],
            "index-strategy": "first-index",
            "index": [{"name": "i0", "url": "https://team.test", "default": True}],
        }


def test_pips_default_is_asked_beside_uvs() -> None:
    ours = Configuration(indexes=(Index(url="https://uv.test", default=True),))
    pips = Index(url="https://pip.test", login=SECRET, default=True)
    again = Index(url="https://uv.test", login=SECRET)
    found = merge(ours, Configuration(indexes=(pips, again)))
    assert [(i.url, i.default) for i in found.indexes] == [
        ("https://uv.test", True),
        ("https://pip.test", False),
    ]
    assert all(index.login == SECRET for index in found.indexes)


def test_folders_of_this_machine_are_asked_after_what_guests_can_reach() -> None:
    team = Index(url="https://team.test/simple", default=True)
    extra = Index(url="https://extra.test/simple")
    near = Index(url="file:///mirror/simple")
    links = Index(url="/wheels", flat=True)
    found = put_local_last([near, team, links, extra])
    assert found == [
        extra,
        replace(team, default=False),
        near,
        replace(links, default=True),
    ]
    assert [index.url for index in put_local_last([near])] == [PYPI, near.url]
    assert put_local_last([team, extra]) == [team, extra]


@pytest.mark.subprocess
@pytest.mark.sockets
def test_a_wheel_that_guests_can_reach_too_is_not_taken_from_a_folder(
    home: dict[str, str], tmp_path: Path
) -> None:
    both, alone = tmp_path / "both", tmp_path / "alone"
    for folder in (both, alone):
        folder.mkdir()
        make_wheel(folder, "shared")
    make_wheel(alone, "mine")
    write_simple(both)
    with serve_folder(both) as url:
        found = open_indexes(
            {**os.environ, **home, "PIP_INDEX_URL": f"{url}/simple", "PIP_FIND_LINKS": str(alone)},
            tmp_path,
            prefix=tmp_path,
            pip=True,
            probe="shared",
        )
        done = found.run_uv(
            [find_uv(), "pip", "compile", "-q", "--no-deps", "--format", "pylock.toml"],
            ["shared==1.0", "mine==1.0"],
        )
    assert done.code == 0, done.errors
    packages = {item["name"]: item for item in tomllib.loads(done.text)["packages"]}
    assert packages["shared"]["wheels"][0]["url"].startswith(url)
    assert packages["mine"]["wheels"][0]["url"].startswith("file:")


class TestChannels:
    def test_channels_of_one_host_keep_their_own_tokens(self, home: dict[str, str]) -> None:
        write(
            Path(home["HOME"], ".condarc"),
            "channels:\n  - https://c.test/t/hunter2-a/a\n  - https://c.test/t/$TOKEN/b\n"
            "custom_channels:\n  team: https://user:hunter2@own.test/conda\n"
            "channel_alias: https://alias.test/t/hunter2-x\n",
        )
        found = read_channels({**home, "TOKEN": "hunter2-b"})
        for name in "ab":
            access = found.find(f"https://c.test/{name}/noarch/x-1-0.conda")
            assert access
            assert access.url == f"https://c.test/t/hunter2-{name}/{name}/noarch/x-1-0.conda"
            assert access.configured
        assert found.find("https://c.test/ab/noarch/x-1-0.conda") is None
        own = found.find("https://own.test/conda/team/noarch/x-1-0.conda")
        assert own
        assert own.authorization == SECRET.header
        assert found.open("team") == "https://user:hunter2@own.test/conda/team"
        assert found.open("any") == "https://alias.test/t/hunter2-x/any"
        assert found.open("https://c.test/a") == "https://c.test/t/hunter2-a/a"
        assert "hunter2" not in repr((found, own))

    def test_a_name_may_stand_for_several_channels_or_be_below_another(
        self, home: dict[str, str]
    ) -> None:
        assert read_channels(home).open_all(["defaults", "conda-forge"]) == (
            "https://repo.anaconda.com/pkgs/main",
            "https://repo.anaconda.com/pkgs/r",
            "conda-forge",
        )
        built = Path(home["HOME"], "conda-bld")
        built.mkdir(parents=True)
        write(
            Path(home["HOME"], ".condarc"),
            "channels: [defaults, lab]\n"
            "default_channels: [https://user:hunter2@own.test/main, https://own.test/r]\n"
            "custom_channels:\n  team: https://user:hunter2@own.test/conda/\n"
            "custom_multichannels:\n  lab: [team, https://own.test/r, team/label/dev]\n",
        )
        found = read_channels(home)
        assert found.names == ("defaults", "lab")
        assert found.open_all(found.names) == (
            "https://user:hunter2@own.test/main",
            "https://own.test/r",
            "https://user:hunter2@own.test/conda/team",
            "https://user:hunter2@own.test/conda/team/label/dev",
        )
        assert found.open_all(["local"]) == (built.as_uri(),)
        assert found.open("/srv/my channel") == "file:///srv/my%20channel"
        assert found.open("~/channel") == f"file://{home['HOME']}/channel"

    def test_files_win_in_the_order_that_conda_documents(
        self, home: dict[str, str], tmp_path: Path
    ) -> None:
        own, root, prefix = Path(home["HOME"]), tmp_path / "conda", tmp_path / "env"
        variables = {
            **home,
            "CONDA_EXE": str(root / "bin" / "conda"),
            "XDG_CONFIG_HOME": str(tmp_path / "xdg"),
            "CONDA_PREFIX": str(prefix),
            "CONDARC": str(tmp_path / "named.yml"),
        }
        places = [
            root / ".condarc",
            root / "condarc.d" / "a.yml",
            root / "condarc.d" / "b.yaml",
            tmp_path / "xdg" / "conda" / ".condarc",
            own / ".config" / "conda" / "condarc",
            own / ".conda" / ".condarc",
            own / ".conda" / "condarc.d" / "x.yml",
            own / ".condarc",
            prefix / ".condarc",
            tmp_path / "named.yml",
        ]
        for number, file in enumerate(places):
            write(file, f"channel_alias: https://{number}.test\nchannels: [c{number}, shared]\n")
            found = read_channels(variables)
            assert found.open("x") == f"https://{number}.test/x", file
            # Of a list, what wins comes first, and the rest behind it.
            assert found.names[:2] == (f"c{number}", "shared")
        assert len(found.names) == len(places) + 1

    @pytest.mark.parametrize(
        ("key", "entry", "url", "authorization"),
        [
            (
                "https://h.test",
                {"type": "BasicHTTPAuthentication", "user": "user", "password": "aHVudGVyMg=="},
                "https://h.test/c/x",
                SECRET.header,
            ),
            (
                "https://h.test:443",
                {"type": "CondaToken", "token": "hunter2"},
                "https://h.test:443/t/hunter2/c/x",
                None,
            ),
            (
                "h.test/c",
                {"type": "BearerToken", "token": "hunter2"},
                "https://h.test/c/x",
                "Bearer hunter2",
            ),
        ],
    )
    def test_micromambas_logins_are_read(
        self,
        home: dict[str, str],
        key: str,
        entry: dict[str, str],
        url: str,
        authorization: str | None,
    ) -> None:
        """Entries as `micromamba auth login` writes them (mamba's `auth` command)."""
        file = Path(home["HOME"], ".mamba", "auth", "authentication.json")
        other = {"type": "CondaToken", "token": "hunter2-other"}
        write(file, json.dumps({"https://other.test": other, key: entry, "odd": {"type": 1}}))
        host = key.removeprefix("https://").partition("/")[0]
        found = read_channels(home)
        access = found.find(f"https://{host}/c/x")
        assert access
        assert (access.url, access.authorization) == (url, authorization)
        assert found.find("https://none.test/c/x") is None
        assert "hunter2" not in repr(found)

    def test_later_files_win_and_mambas_is_read(self, home: dict[str, str]) -> None:
        write(Path(home["HOME"], ".condarc"), "channel_alias: https://one.test\n")
        write(Path(home["HOME"], ".mambarc"), "channel_alias: https://two.test\n")
        assert read_channels(home).open("x") == "https://two.test/x"
        write(Path(home["HOME"], ".conda", ".condarc"), "- no mapping\n")
        assert read_channels({**home, "CONDA_CHANNEL_ALIAS": "https://three.test"}).open("x") == (
            "https://three.test/x"
        )

    @pytest.mark.parametrize(
        ("entry", "url", "authorization"),
        [
            ({"CondaToken": "hunter2"}, "https://h.a.test/t/hunter2/c/x", None),
            ({"BearerToken": "hunter2"}, "https://h.a.test/c/x", "Bearer hunter2"),
            (
                {"BasicHTTP": {"username": "user", "password": "hunter2"}},
                "https://h.a.test/c/x",
                SECRET.header,
            ),
        ],
    )
    @pytest.mark.parametrize("host", ["h.a.test", "*.a.test"])
    def test_rattlers_logins_are_read(
        self,
        home: dict[str, str],
        host: str,
        entry: dict[str, object],
        url: str,
        authorization: str | None,
    ) -> None:
        file = Path(home["HOME"], ".rattler", "credentials.json")
        write(file, json.dumps({host: entry}))
        access = read_channels(home).find("https://h.a.test/c/x")
        assert access
        assert (access.url, access.authorization) == (url, authorization)
        assert not access.configured

    def test_anacondas_tokens_are_read(self, home: dict[str, str]) -> None:
        folder = Path(home["HOME"], ".continuum", "anaconda-client", "tokens")
        write(folder / "https%3A%2F%2Fapi.anaconda.test.token", "hunter2\n")
        access = read_channels(home).find("https://conda.anaconda.test/mine/noarch/x")
        assert access
        assert access.url == "https://conda.anaconda.test/t/hunter2/mine/noarch/x"


class TestLogins:
    def test_a_url_gives_its_login_away(self) -> None:
        assert split_login("https://user:hunter2@a.test:1/x") == ("https://a.test:1/x", SECRET)
        assert split_login("https://a.test/x@y") == ("https://a.test/x@y", None)
        _, login = split_login("https://us%40er:p%2Fq@a.test/")
        assert login == Login(username="us@er", password="p/q")
        assert base64.b64decode(SECRET.header.removeprefix("Basic ")) == b"user:hunter2"

    def test_netrcs_default_makes_no_host_private(self, home: dict[str, str]) -> None:
        text = "machine a.test login user password hunter2\ndefault login user password hunter2\n"
        write(Path(home["HOME"], ".netrc"), text).chmod(0o600)
        assert find_netrc("https://a.test:8080/x", home) == SECRET
        assert find_netrc("https://b.test/x", home) is None

    @pytest.mark.subprocess
    def test_keyring_is_asked_by_url_and_then_by_host(self, tmp_path: Path) -> None:
        script = '#!/bin/sh\necho "$@" >>asked\n'
        script += '[ "$4" = a.test ] && printf "user\\nhunter2\\n"\n'
        script += '[ "$2" = a.test ] && echo hunter2\nexit 0\n'
        write(tmp_path / "bin" / "keyring", script).chmod(0o755)
        environment = {"PATH": os.environ["PATH"], "PWD": str(tmp_path)}
        places = {"folder": tmp_path, "programs": tmp_path / "bin"}
        found = [
            find_keyring("https://a.test/x", name, environment, **places) for name in ("user", None)
        ]
        assert found == [SECRET, SECRET]
        assert (tmp_path / "asked").read_text().splitlines() == [
            "get https://a.test/x user",
            "get a.test user",
            "get --mode creds https://a.test/x",
            "get --mode creds a.test",
        ]


def test_a_programs_words_are_shown_without_secrets() -> None:
    said = "GET (https://user:hunter2@a.test/t/hunter2/b?sig=hunter2) failed, `http://c.test/d`"
    assert redact(said) == "GET (https://a.test/b) failed, `http://c.test/d`"


@pytest.mark.subprocess
def test_a_build_that_prints_its_environment_shows_no_login(tmp_path: Path) -> None:
    index = Index(url="https://a.test/simple", login=SECRET)
    indexes = Indexes(
        configuration=Configuration(indexes=(index,)),
        environment=dict(os.environ),
        folder=tmp_path,
        web=Web(),
    )
    program = "import os, sys; print(os.environ, file=sys.stderr)"
    done = indexes.run_uv([sys.executable, "-c", program], ())
    assert "'UV_INDEX_I0_PASSWORD': '***'" in done.errors
    assert "hunter2" not in done.errors


def test_a_fault_of_ours_is_logged_without_a_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def fails() -> None:
        raise ValueError(f"Cannot read https://user:{SECRET.password}@a.test/x")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run(fails, [], "fails") == 125
    (log,) = tmp_path.glob("envboot-*.log")
    for shown in (capsys.readouterr().err, log.read_text()):
        assert "ValueError: Cannot read https://a.test/x\n" in shown
        assert SECRET.password not in shown


@contextmanager
def serve_redirect(target: str) -> Iterator[str]:
    """Send every request on to the same path of another server."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", target + self.path)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.sockets
def test_a_login_does_not_follow_a_redirect_to_another_host(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "index.html").write_text("x")
    with serve_folder(tmp_path, "user:hunter2") as url, serve_redirect(url) as other:
        web = Web()
        # The server sends `/folder` on to `/folder/`, on the same host.
        assert web.status(f"{url}/folder", SECRET.header) == 200
        assert web.status(f"{other}/folder/", SECRET.header) == 401
        assert web.status(f"{url}/folder", None) == 401
        assert web.status("http://127.0.0.1:9/", None) is None


@pytest.mark.sockets
def test_an_index_is_private_by_its_answer_or_by_its_login(tmp_path: Path) -> None:
    make_wheel(tmp_path, "demo")
    write_simple(tmp_path)
    nobody = {"HOME": str(tmp_path), "UV_NO_CONFIG": "1", "PATH": "/nowhere"}

    def find(url: str) -> Indexes:
        environment = {**nobody, "UV_DEFAULT_INDEX": url}
        return open_indexes(environment, tmp_path, prefix=tmp_path, pip=False, probe="demo")

    with serve_folder(tmp_path) as url:
        assert not find(f"{url}/simple").is_private(f"{url}/demo-1.0-py3-none-any.whl")
        assert find(f"{url}/simple").is_private(f"{url}/demo-1.0-py3-none-any.whl?sig=1")
        named = find(f"{url}/simple".replace("://", "://user:hunter2@"))
        assert named.is_private(f"{url}/demo-1.0-py3-none-any.whl")
        assert not named.is_private("https://cdn.test/demo-1.0-py3-none-any.whl")


def test_a_change_of_any_configuration_asks_again(home: dict[str, str], tmp_path: Path) -> None:
    seen = [describe_indexes(home, tmp_path, tmp_path / "venv")]
    for file in ("uv.toml", "venv/pip.conf", "home/.condarc", "home/.mambarc"):
        write(tmp_path / file, "# changed")
        seen.append(describe_indexes(home, tmp_path, tmp_path / "venv"))
    for name in ("PIP_INDEX_URL", "UV_INDEX", "CONDA_CHANNELS"):
        home[name] = "https://user:hunter2@a.test/t/hunter2/x"
        seen.append(describe_indexes(home, tmp_path, tmp_path / "venv"))
    assert all(one != other for one, other in pairwise(seen))
    assert "hunter2" not in repr(seen)
