"""Files of the working folder that a command names: they travel, and the command finds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bootstrap.layer import loose
from tests.layer.code import build, found, shipped, write
from tests.layer.projects import unpack

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.subprocess


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
    named = loose.find_named(words, app)
    assert named == {1: "train.py", 2: "config.yaml", 3: "scripts/job.py", 4: "secret"}
    layer = build(*loose.add_named((), app, named.values()), cache=cache)
    assert layer is not None
    paths = ("config.yaml", "scripts/beside.py", "scripts/job.py", "train.py")
    assert shipped(unpack(layer, tmp_path / "out")) == {f"0-app/{path}" for path in paths}
    placed, notes = loose.place_words(words, app, layer.code)
    start = "\0/lib/envboot/path/0-app"
    assert placed == (
        "python",
        f"{start}/train.py",
        f"--c={start}/config.yaml",
        f"{start}/scripts/job.py",
        "secret",
        "-c",
        "x" * 5000,
    )
    assert [note.subject for note in notes] == ["secret"]


def test_a_program_of_the_folder_needs_a_slash_as_in_a_shell(tmp_path: Path) -> None:
    app = write(tmp_path / "app", {"python": "", "run.sh": ""})
    (tmp_path / "above.py").write_text("")
    assert loose.find_named(("run.sh",), app) == {}
    assert loose.find_named(("./run.sh", "run.sh"), app) == {0: "run.sh", 1: "run.sh"}
    words = ("python", "../above.py", str(app / "run.sh"))
    assert loose.find_named(words, app) == {}


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
    assert loose.find_named(words, app) == {4: "model.pt"}
    outlying = ("python", "--outlying", "model.pt")
    assert loose.find_named(outlying, app) == {2: "model.pt"}


def test_named_files_join_what_the_scan_found_in_the_folder(tmp_path: Path) -> None:
    app = write(tmp_path / "app", {"main.py": "", "a.yaml": ""})
    before = (found(app, "main.py"), found(tmp_path, "x.py", origin="pth"))
    assert loose.add_named(before, app, ()) == before
    added = loose.add_named(before, app, ("a.yaml",))
    assert added == (found(app, "a.yaml", "main.py"), before[1])
