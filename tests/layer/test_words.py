"""What a command names of the launch directory: it is sent, or the command is refused."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from envboot.config import Settings
from envboot.errors import UsageError
from envboot.layer import command_files as naming
from envboot.layer.command_target import check_command, find_target
from envboot.layer.loose_files import collect
from envboot.scan.modules import has_module
from tests.layer.code import build, found, shipped, write
from tests.layer.projects import unpack
from tests.sessions import make_session

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from envboot.layer.loose_files import Code

pytestmark = pytest.mark.subprocess


def test_files_that_a_command_names_are_sent_and_their_paths_stay(
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
    assert shipped(unpack(layer, tmp_path / "out")) == set(paths)
    placed, notes = naming.place_words(words, app, layer.code)
    assert placed == words
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
    assert placed == ("python", "sub/run.py", ".")
    assert notes == ()
    placed, _ = naming.place_words((f"{app}/run.sh", f"--d={app}/sub"), app, code)
    assert placed == (f"{app}/run.sh", "--d=sub"), "what is not sent has no place"


def test_arguments_that_lead_to_nothing_sent_are_named(tmp_path: Path) -> None:
    app = write(tmp_path / "app", {"data/a": "", "test/t.py": "", "more/x": "", "out/y": ""})
    outside = str(write(tmp_path / "o", {"x.csv": ""}) / "x.csv")
    words = [*("python", "-m", "test", "test", "test/", "--d=data", "data", "--dir", "./more")]
    words += ["--outdir", "out", ".", "..", "../o", outside, "/bin/sh", "/dev/null", "/tmp", "/"]
    given = [found(app, "test")]
    session = make_session(settings=Settings(include=("data/",)))
    code = collect(given, session, brought={})
    placed, notes = naming.place_words(words, app, code)
    assert placed == tuple(words)
    warned = {note.subject: note.message for note in notes}
    assert set(warned) == {"./more", "../o", outside}
    assert 'write `include = ["more/"]`' in warned["./more"]
    assert "outside the directory" in warned[outside]
    _, notes = naming.place_words(words, app, code, is_here=True)
    assert [note.subject for note in notes] == ["./more", "../o"]


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
    ("command", "kind", "name"),
    [
        ("python train.py", "script", "train.py"),
        ("/usr/bin/python3.11 -u -W error -Xdev jobs/train.py -m x", "script", "jobs/train.py"),
        ("python -um pkg.main -c x", "module", "pkg.main"),
        ("python -mpkg", "module", "pkg"),
        ("env -u HOME A=1 nice -n 5 python train", "script", "train"),
        ("bash -eu -o pipefail run.sh", "script", "run.sh"),
        ("./run.sh x", "program", "./run.sh"),
        (".venv/bin/python train.py", "program", ".venv/bin/python"),
        ("/opt/tool x", "program", "/opt/tool"),
    ],
)
def test_what_a_command_runs_is_read_as_its_interpreter_reads_it(
    command: str, kind: str, name: str
) -> None:
    target = find_target(command.split())
    assert target is not None
    assert (target.kind, target.name) == (kind, name)


@pytest.mark.parametrize(
    "command",
    ["", "python", "python -c x.py", "python -Ic x", "python -", "bash -lc x", "cat x.py"],
)
def test_a_program_in_the_command_itself_or_on_path_is_nobodys_file(command: str) -> None:
    assert find_target(command.split()) is None


@pytest.mark.parametrize(
    ("command", "cause", "hint"),
    [
        ("python trian.py", "`{app}/trian.py` was not found", "Did you mean `train.py`?"),
        ("python nowhere", "`{app}/nowhere` was not found", "Correct the path"),
        ("bash -e {app}/gone.sh", "`{app}/gone.sh` was not found", "Did you mean"),
        ("env A=1 ./gone", "`{app}/gone` was not found", "Correct the path"),
        ("python data", "without a `__main__.py`", "Name a script"),
        ("python ../above.py", "outside of `{app}`", "`cd {above}`"),
        ("python ignored.py", "`.gitignore` leaves out `ignored.py`", 'include = ["ignored.py"]'),
        ("venv/bin/python train.py", "environment here", "Write `python`"),
        ("python -m nomodule", "Neither the environment nor", "--add nomodule"),
        ("python -m tool.nothing", "neither `tool/nothing.py` nor", "Correct the module"),
        ("python -m nomain", "`nomain/__main__.py`", "Correct the module"),
        ("./train.py", "", "chmod +x ./train.py"),
    ],
)
def test_a_command_that_cannot_run_on_the_machines_is_refused_with_the_way_out(
    tmp_path: Path, command: str, cause: str, hint: str
) -> None:
    app, code = _launch_directory(tmp_path)
    words = command.format(app=app).split()
    with pytest.raises(UsageError, match="Cannot run") as caught:
        _check(words, app, code)
    assert cause.format(app=app) in " ".join(caught.value.causes)
    assert hint.format(above=tmp_path) in str(caught.value.hint)


@pytest.mark.parametrize(
    "command",
    [
        "python train.py",
        "python {app}/train.py --no such",
        "python ./tool",
        "python .",
        "python -m tool",
        "python -m tool.part",
        "python -m json.tool",
        "python /opt/elsewhere.py",
        "./run.sh",
        "sh run.sh",
        "env A=1 {app}/run.sh",
        "pytest tests",
    ],
)
def test_a_command_whose_code_is_sent_or_may_be_there_is_not_refused(
    tmp_path: Path, command: str
) -> None:
    app, code = _launch_directory(tmp_path)
    _check(command.format(app=app).split(), app, code)


def test_without_loose_code_the_hint_is_to_drop_that_option(tmp_path: Path) -> None:
    app, _ = _launch_directory(tmp_path)
    for words in (["python", "train.py"], ["python", "-m", "tool"]):
        with pytest.raises(UsageError) as caught:
            check_command(words, app, None, loose=False, has_module=lambda _: False)
        assert caught.value.hint == "Drop `--no-loose`"


def test_an_interpreter_is_asked_for_modules_without_importing_them(tmp_path: Path) -> None:
    write(tmp_path, {"here.py": "raise SystemExit(3)"})
    session = make_session(folder=tmp_path)
    found_here = {
        name: has_module(sys.executable, session, name)
        for name in ("json", "sys", "pytest", "nomodule", "here", "__main__")
    }
    assert found_here == {
        "json": True, "sys": True, "pytest": True, "nomodule": False, "here": False,
        "__main__": True,
    }  # fmt: skip
    assert has_module(str(tmp_path / "gone"), session, "nomodule")


def _launch_directory(tmp_path: Path) -> tuple[Path, Code]:
    app = write(
        tmp_path / "app",
        {
            "train.py": "",
            "__main__.py": "",
            "run.sh": "",
            "tool/__init__.py": "",
            "tool/__main__.py": "",
            "tool/part.py": "",
            "nomain/__init__.py": "",
            "data/a.csv": "",
            "ignored.py": "",
            ".gitignore": "ignored.py\n",
            "venv/bin/python": "",
        },
    )
    write(tmp_path, {"above.py": ""})
    (app / "run.sh").chmod(0o755)
    named = ("train.py", "__main__.py", "run.sh", "tool", "nomain", "ignored.py")
    return app, collect([found(app, *named)], make_session(), brought={})


def _check(words: Sequence[str], app: Path, code: Code) -> None:
    check_command(
        words, app, code, prefix=f"{app}/venv", has_module=lambda name: name in ("json", "pytest")
    )


def test_named_files_join_what_the_scan_found_in_the_folder(tmp_path: Path) -> None:
    app = write(tmp_path / "app", {"main.py": "", "a.yaml": ""})
    before = (found(app, "main.py"), found(tmp_path, "x.py", origin="pth"))
    assert naming.add_named(before, app, ()) == before
    added = naming.add_named(before, app, ("a.yaml",))
    assert added == (found(app, "a.yaml", "main.py"), before[1])
    assert naming.add_named((), app, (), include=True) == (found(app),)
