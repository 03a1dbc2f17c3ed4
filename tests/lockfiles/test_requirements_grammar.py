"""Requirements files are read as pip reads them, which reads some of them here too."""

from __future__ import annotations

import codecs
import ensurepip
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from envboot.errors import LockError
from envboot.indexes.configuration import Configuration, Index, override
from envboot.indexes.logins import Login
from envboot.lockfiles.formats import decode
from envboot.lockfiles.requirements_grammar import RequirementsFile, read_lines, split_lines
from tests.lockfiles.reading import make_request
from tests.sessions import make_session

SHA, OTHER = "a" * 64, "b" * 64
# What pip's manual says of the format, and what lock files of pip-tools and uv have.
WHOLE = f"""\
# a comment \\
-i https://user:hunter2@a.test/simple
--extra-index-url=https://b.test/simple --trusted-host b.test
--find-l ./wheels
--pre
--no-binary=one,two  # a comment
-c constraints.txt
-r more/inner.txt
one==1.0 \\
    --hash=sha256:{SHA} \\
    --hash sha256:{OTHER}
    # via two
two[fast,slow] >= 2 , < 3 ; python_version > '3' --hash=sha256:{SHA} -C "--x=a b"
thr\\
ee==3 # three
six @ https://a.test/six-1.0-py3-none-any.whl#sha256={SHA}
https://a.test/My_Wheel-1.0-py3-none-any.whl --hash=sha256:{SHA}
https://a.test/archive/main.zip#egg=Main_One&subdirectory=sub --hash=sha256:{SHA}
git+https://${{HOST}}/${{UNSET}}/four.git@v1#egg=four
-e ./five
./six/
"""


def read(tmp_path: Path, text: str, **environment: str) -> RequirementsFile:
    session = make_session(cache=tmp_path, environment=environment)
    request = replace(make_request(), file=tmp_path / "requirements.txt", session=session)
    return read_lines(request, text)


def write_all(folder: Path) -> Path:
    """Write `WHOLE` and what it includes."""
    (folder / "more").mkdir()
    (folder / "wheels").mkdir()
    (folder / "constraints.txt").write_text(f"one==1.0\nnine<9 --hash=sha256:{SHA}\n")
    (folder / "more" / "inner.txt").write_text("seven==7\n-r deeper.txt\n-c ../constraints.txt\n")
    (folder / "more" / "deeper.txt").write_text("eight==8\n")
    (folder / "requirements.txt").write_text(WHOLE)
    return folder / "requirements.txt"


@pytest.mark.subprocess
def test_lines_are_those_that_pip_itself_reads(tmp_path: Path) -> None:
    file = write_all(tmp_path)
    (pip,) = (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")
    program = (
        "import json, sys; from pip._internal.req.req_file import parse_requirements\n"
        "from pip._internal.network.session import PipSession\n"
        "from pip._internal.index.package_finder import PackageFinder\n"
        "from pip._internal.models.selection_prefs import SelectionPreferences\n"
        "from pip._internal.index.collector import LinkCollector\n"
        "from pip._internal.models.search_scope import SearchScope\n"
        "session = PipSession()\n"
        "scope = SearchScope.create(find_links=[], index_urls=[], no_index=False)\n"
        "finder = PackageFinder.create(link_collector=LinkCollector(session, scope),"
        " selection_prefs=SelectionPreferences(allow_yanked=True))\n"
        "lines = [(line.requirement, line.constraint, line.is_editable,"
        " sorted((line.options or {}).get('hashes', {}).get('sha256', [])))"
        " for line in parse_requirements(sys.argv[1], session, finder=finder)]\n"
        "print(json.dumps([lines, finder.index_urls, list(finder.trusted_hosts)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(file)],
        env={"PYTHONPATH": str(pip), "HOST": "h.test", "PIP_CONFIG_FILE": "/dev/null"},
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines, indexes, hosts = json.loads(done.stdout)
    found = read(tmp_path, WHOLE, HOST="h.test")
    ours = [(line.text.removeprefix("-e "), line.text.startswith("-e ")) for line in found.lines]
    # pip takes the hash of a fragment from the link.
    stated = [sorted(line.sha256) for line in found.lines if "#sha256" not in line.text]
    installed = [(text, editable, hashes) for text, only, editable, hashes in lines if not only]
    assert sorted(ours) == sorted((text.strip(), editable) for text, editable, _ in installed)
    assert sorted(stated) == sorted(
        hashes for text, _, hashes in installed if "#sha256" not in text
    )
    constraints = {text for text, only, _, _ in lines if only}
    assert {line.text for line in found.constraints} == constraints == {"one==1.0", "nine<9"}
    assert indexes == ["https://user:hunter2@a.test/simple", "https://b.test/simple"]
    assert [index.url for index in found.configuration.indexes] == [
        "https://b.test/simple",
        "https://a.test/simple",
    ]
    assert list(found.configuration.insecure) == hosts == ["b.test"]


def test_every_option_has_its_meaning(tmp_path: Path) -> None:
    write_all(tmp_path)
    found = read(tmp_path, WHOLE, HOST="h.test")
    default = found.configuration.indexes[-1]
    assert default.default
    assert default.login == Login(username="user", password="hunter2")
    assert "hunter2" not in repr(found)
    assert found.configuration.find_links == (str(tmp_path / "wheels"),)
    assert found.options == ("--prerelease=allow", "--no-binary=one", "--no-binary=two")
    assert [line.name for line in found.lines if line.settings] == ["two"]
    named = {line.name: line.sha256 for line in found.lines if line.name}
    assert named["one"] == {SHA, OTHER}
    for name in ("two", "six", "my-wheel", "main-one"):
        assert named[name] == {SHA}
    assert found.sha256["three"] == set()
    places = [line.text for line in found.lines if line.name is None]
    assert places == ["git+https://h.test/${UNSET}/four.git@v1#egg=four", "-e ./five", "./six/"]


def test_hashes_of_constraints_count(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text(f"one==1.0 --hash=sha256:{SHA}\nother==1 --hash=sha256:{SHA}\n")
    found = read(tmp_path, "-c c.txt\none\n")
    assert found.sha256 == {"one": {SHA}}


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("--frobnicate\n", "no such option: --frobnicate"),
        ("one==1 --frobnicate\n", "no such option: --frobnicate"),
        ("one==1 --hash\n", "--hash option requires 1 argument"),
        ("one==1 --hash='\n", "No closing quotation"),
        ("not a requirement\n", "expected a requirement, found `not a requirement`"),
        ("https://a.test/main.zip\n", "expected the name of the package, as in `NAME @ https://"),
        ("-r https://a.test/more.txt\n", "download it, and include that file"),
        ("\n\n-r gone.txt\n", "includes `"),
    ],
)
def test_what_pip_would_not_take_is_named_with_its_line(
    text: str, cause: str, tmp_path: Path
) -> None:
    with pytest.raises(LockError) as error:
        read(tmp_path, text)
    (shown,) = error.value.causes
    assert shown.startswith(f"Line {text.count(chr(10))} of `{tmp_path}/requirements.txt`")
    assert cause in shown


def test_a_password_is_in_no_refusal(tmp_path: Path) -> None:
    with pytest.raises(LockError) as error:
        read(tmp_path, "https://user:hunter2@a.test/main.zip\n")
    assert "hunter2" not in str(error.value.causes)


@pytest.mark.parametrize(
    "data",
    [
        codecs.BOM_UTF8 + "näme==1\r\n".encode(),
        codecs.BOM_UTF16_LE + "näme==1\r\n".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "näme==1\n".encode("utf-16-be"),
        codecs.BOM_UTF32_LE + "näme==1\n".encode("utf-32-le"),
        "näme==1\n".encode(),
    ],
)
def test_an_encoding_is_known_by_its_mark(data: bytes) -> None:
    assert decode(data) == "näme==1\n"


def test_an_encoding_is_known_by_its_comment() -> None:
    text = "# -*- coding: latin-1 -*-\n# näme\n"
    assert decode(text.encode("latin-1")) == text
    with pytest.raises(ValueError, match="unknown encoding"):
        decode(b"# coding: frobnicate\n")


def test_lines_are_numbered_where_they_begin() -> None:
    assert list(split_lines("\none \\\n  two\nthree # x\n\\", {})) == [
        (2, "one   two"),
        (4, "three"),
    ]


def test_an_index_of_the_file_is_the_only_one_and_keeps_its_configured_login() -> None:
    login = Login(username="user", password="hunter2")
    configured = Configuration(
        indexes=(
            Index(url="https://a.test", login=login),
            Index(url="https://public.test", default=True),
        )
    )
    given = Configuration(indexes=(Index(url="https://a.test", default=True),))
    (only,) = override(given, configured).indexes
    assert (only.url, only.default, only.login) == ("https://a.test", True, login)
    more = Configuration(indexes=(Index(url="https://b.test"),))
    urls = [index.url for index in override(more, configured).indexes]
    assert urls == ["https://b.test", "https://a.test", "https://public.test"]
