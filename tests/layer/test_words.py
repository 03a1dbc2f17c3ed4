"""Files of the working folder that a command names: they travel, and the command finds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from envboot.config import Settings
from envboot.layer import command_files as naming
from envboot.layer.loose_files import collect
from tests.layer.code import build, found, shipped, write
from tests.layer.projects import unpack
from tests.sessions import make_session

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.subprocess

START = "\0/lib/envboot/path/0-app"


def test_files_that_a_command_names_travel_and_their_words_are_replaced(
    tmp_path: Path, cache: Path
) -> None:
    app = write(
        tmp_path / "app",
        {
            "train.py": "",
            "config.yaml": "a: 1\n",
            "scripts/job.py": "import beside\n",
            "scripts/beside.py": "",
            "python": "",
            "run.sh": "",
            ".gitignore": "secret\n",
            "secret": "x",
        },
    )
    words = (
        "python",
        "train.py",
        "--c=./config.yaml",
        "scripts/job.py",
        "secret",
        "-c",
        "x" * 5000,
    )
    named = naming.find_named(words, app)
    assert named == {1: "train.py", 2: "config.yaml", 3: "scripts/job.py", 4: "secret"}
    layer = build(*naming.add_named((), app, named.values()), cache=cache)
    assert layer is not None
    paths = ("config.yaml", "scripts/beside.py", "scripts/job.py", "train.py")
    assert shipped(unpack(layer, tmp_path / "out")) == {f"0-app/{path}" for path in paths}
    placed, notes = naming.place_words(words, app, layer.code)
    assert placed == (
        "python",
        f"{START}/train.py",
        f"--c={START}/config.yaml",
        f"{START}/scripts/job.py",
        "secret",
        "-c",
        "x" * 5000,
    )
    assert [note.subject for note in notes] == ["secret"]


def test_a_program_of_the_folder_needs_a_slash_as_in_a_shell(tmp_path: Path) -> None:
    app = write(tmp_path / "app", {"python": "", "run.sh": ""})
    (tmp_path / "above.py").write_text("")
    assert naming.find_named(("run.sh",), app) == {}
    assert naming.find_named(("./run.sh", "run.sh"), app) == {0: "run.sh", 1: "run.sh"}
    assert naming.find_named(("python", "../above.py"), app) == {}


def test_an_absolute_path_below_the_folder_is_the_relative_one(tmp_path: Path) -> None:
    app = write(tmp_path / "app", {"sub/run.py": ""})
    (tmp_path / "link").symlink_to(app)
    for place in (app, tmp_path / "link", app / "sub" / ".."):
        words = (f"{place}/sub/run.py", f"--c={place}/sub/run.py")
        assert naming.find_named(words, app) == {0: "sub/run.py", 1: "sub/run.py"}
    code = collect([found(app, "sub")], make_session(), brought={})
    placed, notes = naming.place_words(("python", f"{app}/sub/run.py", str(app)), app, code)
    assert placed == ("python", f"{START}/sub/run.py", START)
    assert notes == ()


def test_folders_and_paths_elsewhere_are_warned_of_or_placed(tmp_path: Path) -> None:
    app = write(tmp_path / "app", {"data/a": "", "test/t.py": "", "more/x": "", "out/y": ""})
    outside = str(write(tmp_path / "o", {"x.csv": ""}) / "x.csv")
    words = [*("python", "-m", "test", "test", "test/", "--d=data", "data", "--dir", "./more")]
    words += ["--outdir", "out", ".", "..", "../o", outside, "/bin/sh", "/dev/null", "/tmp", "/"]
    given = [found(app, "test")]
    session = make_session(settings=Settings(include=("data/",)))
    code = collect(given, session, brought={})
    placed, notes = naming.place_words(words, app, code)
    placed_words = {number: word for number, word in enumerate(placed) if word != words[number]}
    assert placed_words == {4: f"{START}/test", 5: f"--d={START}/data", 6: f"{START}/data"}
    warned = {note.subject: note.message for note in notes}
    assert set(warned) == {"test", "./more", "../o", outside}
    assert "write `test/`" in warned["test"]
    assert "name it in `include`" in warned["./more"]
    assert "outside of this folder" in warned[outside]
    _, notes = naming.place_words(words, app, code, is_here=True)
    assert [note.subject for note in notes] == ["test", "./more", "../o"]


@pytest.mark.parametrize(
    "options",
    [
        ("-o", "model.pt"),
        ("--out", "model.pt"),
        ("--output-file=model.pt",),
        ("--out_path=model.pt",),
    ],
)
def test_what_a_command_writes_stays_a_word_and_does_not_travel(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    app = write(tmp_path / "app", {"model.pt": ""})
    words = ("python", "-m", "train", "--resume", "model.pt", *options)
    assert naming.find_named(words, app) == {4: "model.pt"}
    outlying = ("python", "--outlying", "model.pt")
    assert naming.find_named(outlying, app) == {2: "model.pt"}


@pytest.mark.parametrize(
    ("command", "subjects"),
    [
        ("python nosuch.py", ["nosuch.py"]),
        ("python3.11 -u -W error jobs/nosuch.py --x", ["jobs/nosuch.py"]),
        ("python there.py nosuch.py", []),
        ("python /opt/nosuch.py", []),
        ("python -m nosuch.py", []),
        ("python -c nosuch.py", []),
        ("python - nosuch.py", []),
        ("python -u", []),
        ("cat nosuch.py", []),
        ("", []),
    ],
)
def test_a_script_that_is_not_there_is_warned_of(
    tmp_path: Path, command: str, subjects: list[str]
) -> None:
    app = write(tmp_path / "app", {"there.py": ""})
    code = collect([found(app, "there.py")], make_session(), brought={})
    _, notes = naming.place_words(command.split(), app, code)
    assert [note.subject for note in notes] == subjects
    assert all("Python cannot run it" in note.message for note in notes)


def test_named_files_join_what_the_scan_found_in_the_folder(tmp_path: Path) -> None:
    app = write(tmp_path / "app", {"main.py": "", "a.yaml": ""})
    before = (found(app, "main.py"), found(tmp_path, "x.py", origin="pth"))
    assert naming.add_named(before, app, ()) == before
    added = naming.add_named(before, app, ("a.yaml",))
    assert added == (found(app, "a.yaml", "main.py"), before[1])
    assert naming.add_named((), app, (), include=True) == (found(app),)
