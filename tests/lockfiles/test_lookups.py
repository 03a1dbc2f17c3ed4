"""What has to be looked up or solved: requirements, and `environment.yml`."""

from __future__ import annotations

import io
import json
import os
import tarfile
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envboot.errors import LockError
from tests.channel import NUMPY, TABULATE, ensure_channel
from tests.index import make_wheel, serve_folder, write_simple
from tests.layer.projects import write_project
from tests.lock.documents import MINOR, VERSION
from tests.lockfiles.reading import DATA, conda_files, names, pins, read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.index import WheelFile

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, WheelFile]]:
    """Wheels of the only index that uv knows, by name; `user:hunter2` logs in."""
    folder = tmp_path / "index"
    folder.mkdir()
    made = [make_wheel(folder, "demo", requires=["needed"]), make_wheel(folder, "needed")]
    write_simple(folder)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for variable in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(variable, raising=False)
    for variable in ("UV_INDEX", "UV_FIND_LINKS", "UV_EXTRA_INDEX_URL", "UV_INDEX_URL"):
        monkeypatch.delenv(variable, raising=False)
    with serve_folder(folder) as url:
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"{url}/simple")
        yield {wheel.name: wheel for wheel in made}


@pytest.fixture(scope="module")
def channel() -> Iterator[str]:
    """Serve the tests' own channel."""
    with serve_folder(ensure_channel().folder) as url:
        yield f"{url}/conda"


class TestRequirements:
    """Hashes decide what may come."""

    def test_a_file_with_one_of_the_hashes_is_taken_and_nothing_else_comes(
        self, wheels: dict[str, WheelFile], tmp_path: Path
    ) -> None:
        file = tmp_path / "requirements.txt"
        (tmp_path / "more").mkdir()
        (tmp_path / "more" / "inner.txt").write_text(
            f"needed==1.0 --hash=sha256:{wheels['needed'].sha256}  # inner\n"
        )
        file.write_text(
            f"-r more/inner.txt\nDemo==1.0 ; python_version > '3' \\\n"
            f"    --hash=sha256:{'0' * 64} \\\n    --hash=sha256:{wheels['demo'].sha256}\n"
            f"win==1.0 ; sys_platform == 'win32' --hash=sha256:{'0' * 64}\n"
        )
        locked = read(file, cache=tmp_path / "cache")
        assert pins(locked) == ["demo==1.0", "needed==1.0"]
        assert locked.base.wheels[0].sha256 == wheels["demo"].sha256
        assert (locked.base.wheels[0].url or "").endswith("/demo-1.0-py3-none-any.whl")

    def test_a_file_with_another_hash_is_refused(
        self, wheels: dict[str, WheelFile], tmp_path: Path
    ) -> None:
        file = tmp_path / "requirements.txt"
        file.write_text(f"demo==1.0 --hash=sha256:{'0' * 64}\n")
        with pytest.raises(LockError) as error:
            read(file, cache=tmp_path / "cache")
        assert error.value.causes == ("`demo`: no file for the target has one of its hashes",)

    def test_what_no_index_has_is_told_in_uvs_words(
        self, wheels: dict[str, WheelFile], tmp_path: Path
    ) -> None:
        file = tmp_path / "requirements.txt"
        file.write_text(f"demo==7 --hash=sha256:{'0' * 64}\n")
        with pytest.raises(LockError) as error:
            read(file, cache=tmp_path / "cache")
        assert error.value.message == f"uv failed to look up the packages of `{file}`"
        assert any("demo==7" in cause for cause in error.value.causes)

    def test_projects_are_relative_to_the_file_and_need_no_hash(
        self, wheels: dict[str, WheelFile], tmp_path: Path
    ) -> None:
        write_project(tmp_path / "mine", "mine")
        file = tmp_path / "requirements.txt"
        file.write_text("./mine\n")
        locked = read(file, cache=tmp_path / "cache")
        assert [source.path for source in locked.sources] == [str(tmp_path / "mine")]

    def test_an_sdist_is_fetched_by_its_hash_to_be_built_here(
        self, wheels: dict[str, WheelFile], tmp_path: Path
    ) -> None:
        data = _make_sdist("only-source")
        place = tmp_path / "index" / "only_source-1.0.tar.gz"
        place.write_bytes(data)
        page = tmp_path / "index" / "simple" / "only-source" / "index.html"
        page.parent.mkdir()
        link = f"../../{place.name}#sha256={sha256(data).hexdigest()}"
        page.write_text(f'<html><body><a href="{link}">{place.name}</a></body></html>')
        file = tmp_path / "requirements.txt"
        file.write_text(f"only-source==1.0 --hash=sha256:{sha256(data).hexdigest()}\n")
        locked = read(file, cache=tmp_path / "cache")
        assert (names(locked), pins(locked)) == (["only-source"], [])
        assert any("is built here" in note.message for note in locked.notes)


def _make_sdist(name: str) -> bytes:
    stream = io.BytesIO()
    folder = f"{name.replace('-', '_')}-1.0"
    metadata = f"Metadata-Version: 2.2\nName: {name}\nVersion: 1.0\n".encode()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for file, data in (("PKG-INFO", metadata), ("pyproject.toml", b"")):
            info = tarfile.TarInfo(f"{folder}/{file}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("text", "causes"),
    [
        ("six==1.0\nidna==3.10\n", ("`six` has no sha256", "`idna` has no sha256")),
        ("six==1.0 --hash=md5:aa\n", ("`six` has no sha256",)),
        ("six==1.0 --hash=sha256:aa\nnot a requirement\n", ("Line 2 of",)),
        ("# one\n-r gone.txt\n", ("Line 2 of",)),
        ("-r requirements.txt\n", ("Line 1 of",)),
    ],
)
def test_requirements_that_cannot_be_taken_are_named(
    text: str, causes: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text(text)
    with pytest.raises(LockError) as error:
        read(file)
    assert len(error.value.causes) == len(causes)
    for cause, wanted in zip(error.value.causes, causes, strict=True):
        assert cause.startswith(wanted)


class TestEnvironment:
    """`environment.yml` has no lock: both parts are solved here."""

    def test_both_parts_are_solved_and_pip_takes_what_conda_has(
        self, wheels: dict[str, WheelFile], channel: str, tmp_path: Path
    ) -> None:
        make_wheel(tmp_path / "index", "plots", requires=["numpy", "demo"])
        write_simple(tmp_path / "index")
        # Of the index's numpy nothing may come: conda has it.
        make_wheel(tmp_path / "index", "numpy", "2.2.6")
        write_simple(tmp_path / "index")
        file = tmp_path / "environment.yml"
        file.write_text(
            f"name: demo\nchannels: [{channel}, nodefaults]\n"
            f"dependencies: [python={MINOR}, numpy >=2, pip: [plots]]\n"
        )
        locked = read(file, cache=tmp_path / "cache")
        assert pins(locked) == ["demo==1.0", "needed==1.0", "plots==1.0"]
        assert [name.split("-")[0] for name in conda_files(locked)] == ["python", "numpy"]
        assert locked.base.python.version == VERSION

    def test_pip_never_brings_another_version_of_what_conda_has(
        self, wheels: dict[str, WheelFile], channel: str, tmp_path: Path
    ) -> None:
        make_wheel(tmp_path / "index", "modern", requires=["numpy>=9"])
        make_wheel(tmp_path / "index", "numpy", "9.0")
        write_simple(tmp_path / "index")
        file = tmp_path / "environment.yml"
        file.write_text(f"channels: [{channel}]\ndependencies: [numpy, pip: [modern]]\n")
        with pytest.raises(LockError, match="uv failed") as error:
            read(file, cache=tmp_path / "cache")
        assert "numpy>=9" in " ".join(error.value.causes)

    def test_the_answer_is_kept(
        self, wheels: dict[str, WheelFile], channel: str, tmp_path: Path
    ) -> None:
        file = tmp_path / "environment.yml"
        file.write_text(f"channels: [{channel}]\ndependencies: [python, pip: [demo]]\n")
        first = read(file, cache=tmp_path / "cache")
        make_wheel(tmp_path / "index", "needed", "2.0")
        write_simple(tmp_path / "index")
        assert read(file, cache=tmp_path / "cache") == first

    @pytest.mark.parametrize(
        "specs",
        [
            [f"python={VERSION}=0_tests", f"numpy={NUMPY}=0_tests", f"tabulate={TABULATE}=pyh_0"],
            [f"python={MINOR}.*", "numpy=*=0_*", "tabulate>=0.8=pyh*", "python"],
            ["CHANNEL::numpy", "CHANNEL/noarch::tabulate", "sel(linux): python", "sel(win): gone"],
            ["numpy[version='>=2',build=0_tests]", "CHANNEL/noarch/tabulate-0.9.0-pyh_0.conda"],
            ["mine::numpy", "mine/noarch::tabulate"],
        ],
        ids=["exported", "patterns", "channels", "brackets", "configured"],
    )
    def test_specs_are_read_as_conda_reads_them(
        self,
        specs: list[str],
        channel: str,
        tmp_path: Path,
        wheels: dict[str, WheelFile],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The channel is known by its specs alone where they name it, as it is to conda."""
        monkeypatch.setenv("HOME", str(tmp_path))
        base, _, name = channel.rpartition("/")
        (tmp_path / ".condarc").write_text(
            f"custom_multichannels: {{mine: [{channel}]}}\ncustom_channels: {{{name}: {base}}}\n"
        )
        written = [spec.replace("CHANNEL", channel) for spec in specs]
        entries = [
            {"sel(linux)": "python"} if spec.startswith("sel(linux)")
            else {"sel(win)": "gone"} if spec.startswith("sel(win)")
            else spec
            for spec in written
        ]  # fmt: skip
        named = any("::" in spec for spec in specs)
        document = {
            "name": "demo",
            "channels": ["nodefaults"] if named else [name, "nodefaults"],
            "dependencies": entries,
            "prefix": "/home/user/envs/demo",
        }
        if named:
            # Where a file names no channel at all, the settings' are asked, and none is here.
            document["channels"] = [(tmp_path / "empty").as_uri(), "nodefaults"]
            (tmp_path / "empty" / "noarch").mkdir(parents=True)
            (tmp_path / "empty" / "noarch" / "repodata.json").write_text('{"packages": {}}')
            document["dependencies"] = [*entries, f"{channel}::python"]
        file = tmp_path / "environment.yml"
        file.write_text(json.dumps(document))
        found = conda_files(read(file, cache=tmp_path / "cache"))
        assert {name.split("-")[0] for name in found} == {"numpy", "python", "tabulate"}

    def test_a_spec_that_is_none_is_named(self, tmp_path: Path) -> None:
        file = tmp_path / "environment.yml"
        file.write_text("channels: [x]\ndependencies: [python, 'numpy @ 1', 'b=1=*=[']\n")
        with pytest.raises(LockError) as error:
            read(file)
        assert [cause.partition("`:")[0] for cause in error.value.causes] == [
            "`numpy @ 1",
            "`b=1=*=[",
        ]
        assert "conda install" in (error.value.hint or "")

    def test_what_conda_lock_renders_for_conda_is_read_up_to_its_channel(
        self, tmp_path: Path
    ) -> None:
        """The file is what conda-lock 4.0.3 renders with `--kind env` of `conda-lock.yml`."""
        text = (DATA / "environment.conda-lock.yml").read_text()
        file = tmp_path / "environment.yml"
        file.write_text(text.replace("- conda-forge", f"- {(tmp_path / 'gone').as_uri()}"))
        with pytest.raises(LockError) as error:
            read(file, cache=tmp_path / "cache")
        # It is its packages that are missing, not a spec that is refused.
        assert "lock file" not in error.value.message
        assert "gone" in error.value.message + str(error.value.causes)

    def test_the_pip_part_is_a_requirements_file(
        self,
        wheels: dict[str, WheelFile],
        channel: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        (tmp_path / "more").mkdir()
        (tmp_path / "more" / "requirements.txt").write_text(
            f"-c limits.txt\ndemo --hash=sha256:{wheels['demo'].sha256}\n"
        )
        (tmp_path / "more" / "limits.txt").write_text(
            f"needed==1.0 --hash=sha256:{wheels['needed'].sha256}\n"
        )
        index = os.environ["UV_DEFAULT_INDEX"]
        monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
        file = tmp_path / "environment.yml"
        file.write_text(
            f"channels: [{channel}, nodefaults]\ndependencies:\n- python\n- pip:\n"
            f"  - --index-url {index}\n  - -r more/requirements.txt\n"
        )
        assert pins(read(file, cache=tmp_path / "cache")) == ["demo==1.0", "needed==1.0"]
        file.write_text(
            f"channels: [{channel}, nodefaults]\ndependencies:\n- python\n- pip:\n"
            f"  - demo --hash=sha256:{'0' * 64}\n  - needed\n"
        )
        with pytest.raises(LockError) as error:
            read(file, cache=tmp_path / "cache")
        assert error.value.causes == ("`needed` has no sha256",)

    def test_configured_channels_are_asked_behind_the_files(
        self,
        wheels: dict[str, WheelFile],
        channel: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / ".condarc").write_text(f"default_channels: [{channel}]\nchannels: [defaults]\n")
        (tmp_path / "empty" / "noarch").mkdir(parents=True)
        (tmp_path / "empty" / "noarch" / "repodata.json").write_text('{"packages": {}}')
        file = tmp_path / "environment.yml"
        for channels in (
            "",
            f"channels: [{(tmp_path / 'empty').as_uri()}]\n",
            "channels: [defaults]\n",
        ):
            file.write_text(f"{channels}dependencies: [python]\n")
            assert len(conda_files(read(file, cache=tmp_path / "cache"))) == 1
        file.write_text(
            f"channels: [{(tmp_path / 'empty').as_uri()}, nodefaults]\ndependencies: [python]\n"
        )
        with pytest.raises(LockError):
            read(file, cache=tmp_path / "cache")

    @pytest.mark.parametrize("name", ["environment.yml", "renamed.json"])
    def test_variables_in_channels_are_expanded_in_the_json_that_conda_writes_too(
        self, channel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setenv("TEAM_HOST", channel.removeprefix("http://"))
        document = {"channels": ["http://${TEAM_HOST}", "nodefaults"], "dependencies": ["python"]}
        file = tmp_path / name
        file.write_text(json.dumps(document, indent=2))
        assert len(conda_files(read(file, cache=tmp_path / "cache"))) == 1

    def test_settings_of_conda_that_cannot_be_read_are_named(
        self, channel: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / ".condarc").write_text("ssl_verify: true\nchannels: [team\n")
        file = tmp_path / "environment.yml"
        file.write_text(f"channels: [{channel}]\ndependencies: [python]\n")
        notes = read(file, cache=tmp_path / "cache").notes
        [note] = (note for note in notes if note.subject.startswith(str(tmp_path)))
        assert note.subject == str(tmp_path / ".condarc")
        assert note.message.startswith("Not read, so its channels were not searched: ")
        assert note.message.endswith(" at line 3")

    def test_what_has_no_solution_is_told_without_credentials(
        self, channel: str, tmp_path: Path
    ) -> None:
        file = tmp_path / "environment.yml"
        secret = channel.replace("://", "://user:hunter2@")
        file.write_text(f"channels: [{secret}]\ndependencies: [python, numpy <1]\n")
        with pytest.raises(LockError) as error:
            read(file, cache=tmp_path / "cache")
        words = " ".join((error.value.message, *error.value.causes))
        assert "numpy <1" in words
        assert channel in words
        assert "hunter2" not in words

    @pytest.mark.parametrize(
        ("text", "cause"),
        [
            ("dependencies: {python: 3}", "Expected `dependencies` a list, found "),
            ("dependencies: [python, {npm: [x]}]", "Expected `dependencies[1]` a str or `pip:` "),
            ("dependencies: [{pip: [1]}]", "Expected `dependencies[0].pip[0]` a str, found `1`"),
            ("dependencies: [python\n", "Expected YAML: "),
        ],
    )
    def test_what_is_malformed_is_named_with_its_place(
        self, text: str, cause: str, tmp_path: Path
    ) -> None:
        file = tmp_path / "environment.yml"
        file.write_text(text)
        with pytest.raises(LockError) as error:
            read(file)
        assert error.value.causes[0].startswith(cause)


def test_a_wheel_whose_url_wants_a_login_travels_in_the_layer(tmp_path: Path) -> None:
    folder = tmp_path / "private"
    folder.mkdir()
    wheel = make_wheel(folder, "secret")
    with serve_folder(folder, "user:hunter2") as url:
        address = f"{url}/{wheel.path.name}".replace("://", "://user:hunter2@")
        (tmp_path / "pylock.toml").write_text(
            'lock-version = "1.0"\ncreated-by = "tests"\n[[packages]]\nname = "secret"\n'
            f'wheels = [{{ url = "{address}", hashes = {{ sha256 = "{wheel.sha256}" }} }}]\n'
        )
        locked = read(tmp_path / "pylock.toml", cache=tmp_path / "cache")
    assert (pins(locked), names(locked)) == ([], ["secret"])
    assert "hunter2" not in repr(locked)
    assert Path(locked.sources[0].path or "").read_bytes() == wheel.path.read_bytes()
