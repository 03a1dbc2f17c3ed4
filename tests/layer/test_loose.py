"""Code that belongs to no distribution: what of it travels, and that it is found there."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from envboot.agent.unpack import unpack_layer
from envboot.agent.work import SENT
from envboot.errors import LayerError
from envboot.layer import loose_files
from envboot.scan.schema import Problem
from tests.layer.code import X86, bring, build, found, shipped, write
from tests.layer.projects import (
    GUEST,
    MINOR,
    SITE,
    Opened,
    commit_all,
    git,
    unpack,
    write_project,
)
from tests.sessions import make_session

if TYPE_CHECKING:
    from pathlib import Path

    from envboot.layer import BuiltLayer

pytestmark = pytest.mark.subprocess


def run_there(opened: Opened, program: str) -> str:
    """Run a program in a virtual environment that is made where the layer was unpacked."""
    import venv

    venv.create(opened.root, symlinks=True, with_pip=False)
    python = opened.root / "bin" / "python"
    command = [str(python), "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", env={}, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def messages(layer: BuiltLayer | None) -> list[str]:
    assert layer is not None
    return [note.message for note in layer.notes]


def test_packages_travel_with_data_files_and_extension_modules(tmp_path: Path, cache: Path) -> None:
    write(
        tmp_path / "app",
        {
            "tool/__init__.py": "",
            "tool/data/table.csv": "a,b\n",
            "tool/_fast.so": X86,
            "single.py": "X = 1\n",
            "notes.txt": "not code",
        },
    )
    (tmp_path / "app" / "tool" / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "app" / "tool" / "run.sh").chmod(0o700)
    given = found(tmp_path / "app", "tool", "single.py")
    opened = bring(given, cache=cache, to=tmp_path / "out")
    assert shipped(opened) == {
        "single.py",
        "tool/_fast.so",
        "tool/data/table.csv",
        "tool/__init__.py",
        "tool/run.sh",
    }
    assert (opened.root / SENT / "tool/run.sh").stat().st_mode & 0o777 == 0o755
    assert (opened.root / SENT / "single.py").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("name", ["with space", "wörk", "a'b\"c", "100%", "a\\b", "a\nb", "#x"])
def test_odd_characters_in_a_folders_name_break_nothing(
    tmp_path: Path, cache: Path, name: str
) -> None:
    write(tmp_path / name, {"module.py": "X = 7\n"})
    opened = bring(found(tmp_path / name, "module.py"), cache=cache, to=tmp_path / "out")
    assert run_there(opened, "import module; print(module.X)") == "7"


def test_two_folders_of_one_base_name_both_arrive_and_the_first_wins(
    tmp_path: Path, cache: Path
) -> None:
    one = write(tmp_path / "a" / "lib", {"only_one.py": "", "both.py": "X = 1\n"})
    two = write(tmp_path / "b" / "lib", {"only_two.py": "", "both.py": "X = 2\n"})
    opened = bring(
        found(one, "only_one.py", "both.py"),
        found(two, "only_two.py", "both.py", origin="pythonpath"),
        cache=cache,
        to=tmp_path / "out",
    )
    assert run_there(opened, "import both, only_one, only_two; print(both.X)") == "1"


def test_folders_stand_on_the_path_where_they_stood_and_once(tmp_path: Path, cache: Path) -> None:
    folders = [
        found(write(tmp_path / name, {"code.py": ""}), "code.py", origin=origin)
        for name, origin in (
            ("here", "current"),
            ("named", "pythonpath"),
            ("last", "pth"),
            ("later", "pth"),
        )
    ]
    opened = bring(*folders, cache=cache, to=tmp_path / "out")
    program = "import sys; print([p.rpartition('/')[2] for p in sys.path if p])"
    path = run_there(opened, program)
    standard = f"python{MINOR.replace('.', '')}.zip"
    assert path.startswith(f"['work', '0-named', '{standard}'")
    assert path.endswith("'site-packages', '1-last', '2-later']")


def test_stray_modules_of_site_packages_go_there_and_a_wheel_stays_whole(
    tmp_path: Path, cache: Path
) -> None:
    stray = write(tmp_path / "site", {"demo/__init__.py": "X = 'stray'\n", "stray.py": ""})
    layer = build(
        found(stray, "demo", "stray.py", origin="site"),
        cache=cache,
        sources=(write_project(tmp_path / "p"),),
    )
    assert layer is not None
    opened = unpack(layer, tmp_path / "out")
    assert opened.site("stray.py") == ""
    assert opened.site("demo/__init__.py") == "NAME = 'demo'\n"
    assert f"{SITE}/demo/__init__.py" in [note.subject for note in layer.notes]
    assert f"{SITE}/envboot.pth" not in opened.paths


def test_a_package_that_an_editable_project_brings_is_not_shipped_again(
    tmp_path: Path, cache: Path
) -> None:
    files = {"src/demo/__init__.py": "X = 1\n", "tools/helper.py": ""}
    source = write_project(tmp_path / "p", files=files, packages=("src/demo",))
    opened = bring(
        found(tmp_path / "p" / "tools", "helper.py"),
        found(tmp_path / "p" / "src", "demo", origin="pythonpath"),
        cache=cache,
        to=tmp_path / "out",
        sources=(source,),
    )
    assert [path for path in opened.paths if path.endswith("demo/__init__.py")] == [
        f"{SITE}/demo/__init__.py"
    ]
    assert shipped(opened) == {"helper.py"}


@pytest.mark.parametrize("has_git", [True, False])
def test_what_gitignore_names_stays_and_is_told(tmp_path: Path, cache: Path, has_git: bool) -> None:
    app = write(
        tmp_path / "app",
        {
            ".gitignore": "*.ckpt\n/app/cache/\n!keep.ckpt\n",
            "app/a.py": "",
            "app/model.ckpt": "x",
            "app/keep.ckpt": "x",
            "app/cache/x.bin": "x",
            "app/inner/.gitignore": "*.tmp\n!b.ckpt\n",
            "app/inner/a.tmp": "x",
            "app/inner/b.ckpt": "x",
            "app/__pycache__/a.pyc": "x",
        },
    )
    if has_git:
        git(app, "init", "--quiet")
    layer = build(found(app, "app"), cache=cache)
    assert layer is not None
    assert shipped(unpack(layer, tmp_path / "out")) == {
        f"app/{path}" for path in ("a.py", "inner/.gitignore", "inner/b.ckpt", "keep.ckpt")
    }
    assert messages(layer) == [
        "`.gitignore` leaves out `app/cache/`, `app/inner/a.tmp`, `app/model.ckpt`"
    ]


def test_a_repository_inside_a_repository_has_its_own_gitignore(
    tmp_path: Path, cache: Path
) -> None:
    app = write(tmp_path / "app", {"main.py": "", "vendor/a.py": "", "vendor/b.log": "x"})
    write(app / "vendor", {".gitignore": "*.log\n"})
    git(app, "init", "--quiet")
    commit_all(app / "vendor")
    opened = bring(found(app, "main.py", "vendor"), cache=cache, to=tmp_path / "out")
    paths = ("main.py", "vendor/.gitignore", "vendor/a.py")
    assert shipped(opened) == set(paths)


def test_code_below_a_folder_that_git_ignores_as_a_whole_travels(
    tmp_path: Path, cache: Path
) -> None:
    write(tmp_path, {".gitignore": "venv/\n", "venv/site/stray.py": "X = 1\n"})
    git(tmp_path, "init", "--quiet")
    given = found(tmp_path / "venv" / "site", "stray.py", origin="site")
    opened = bring(given, cache=cache, to=tmp_path / "out")
    assert opened.site("stray.py") == "X = 1\n"


def test_exclude_keeps_files_here_and_says_so(tmp_path: Path, cache: Path) -> None:
    app = write(tmp_path / "app", {"app/a.py": "", "app/data/big.bin": "x", "app/m.ckpt": "x"})
    layer = build(found(app, "app"), cache=cache, exclude=("data/", "*.ckpt"))
    assert layer is not None
    assert shipped(unpack(layer, tmp_path / "out")) == {"app/a.py"}
    assert layer.notes == (
        Problem(subject=str(app), message="`exclude` leaves out `app/data/big.bin`, `app/m.ckpt`"),
    )
    assert build(found(app, "app"), cache=cache, exclude=("app/",)) is None


def test_too_much_code_is_refused_and_its_largest_parts_are_named(
    tmp_path: Path, cache: Path
) -> None:
    app = write(tmp_path / "app", {"app/a.py": "", "small.py": ""})
    (app / "app" / "weights").mkdir()
    for name in ("a", "b"):
        with (app / "app" / "weights" / name).open("wb") as stream:
            stream.truncate(600_000)
    with pytest.raises(LayerError) as caught:
        build(found(app, "app", "small.py"), cache=cache, loose_limit=1)
    error = caught.value
    assert "at most 1 MB" in error.message
    assert "found 1.2 MB" in error.message
    assert error.causes == (f"`{app}/app/weights` has 1.2 MB",)
    for way in ("exclude", ".gitignore", "loose-limit", "--no-loose"):
        assert way in (error.hint or "")
    assert build(found(app, "app", "small.py"), cache=cache, loose_limit=2)


def test_a_path_that_no_machine_would_unpack_is_refused_by_its_beginning(
    tmp_path: Path, cache: Path
) -> None:
    app = write(tmp_path / "app", {"main.py": "", f"pkg/{'d/' * 120}x.py": ""})
    with pytest.raises(LayerError, match=r"Cannot send `lib/envboot/work/pkg/d/d.*98 levels"):
        build(found(app, "main.py", "pkg"), cache=cache)


def test_too_many_files_are_refused_by_number(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loose_files, "_FILES", 3)
    app = write(tmp_path / "app", {"a.py": "", "data/deep/tool.py": "", "data/deep/1": ""})
    given = found(app, "a.py", "data")
    assert build(given, cache=cache)
    write(app, {"data/deep/2": ""})
    with pytest.raises(LayerError, match=r"at most 3 files of code .* found 4") as caught:
        build(given, cache=cache)
    assert caught.value.causes[0] == f"`{app}/data/deep` has 3 files"
    assert "loose-limit" not in (caught.value.hint or "")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    app = write(tmp_path / "app", {"a.py": ""})
    code = loose_files.collect([found(app, "a.py")], make_session(), brought={})
    (app / "a.py").unlink()
    with pytest.raises(LayerError, match=r"Failed to read `.*/app/a\.py`") as caught:
        _ = code.digest
    assert "exclude" in (caught.value.hint or "")


def test_the_user_who_runs_the_command_can_read_what_only_its_owner_could_here(
    tmp_path: Path, cache: Path
) -> None:
    app = write(tmp_path / "app", {"pkg/a.py": "", "pkg/run.sh": "", "b.yaml": ""})
    for path in (app / "pkg", app / "pkg/run.sh", app / "pkg/a.py", app / "b.yaml"):
        path.chmod(0o700 if path.name in ("pkg", "run.sh") else 0o600)
    layer = build(found(app, "pkg", "b.yaml"), cache=cache)
    assert layer is not None
    before = os.umask(0o022)  # As the agent has it.
    try:
        unpack_layer(
            layer.path.read_bytes(), {"digest": layer.manifest.digest}, str(tmp_path / "env")
        )
    finally:
        os.umask(before)
    for path in (tmp_path / "env").rglob("*"):
        needed = 0o005 if path.is_dir() or path.suffix == ".sh" else 0o004
        assert path.stat().st_mode & needed == needed, path


def test_the_same_code_gives_the_same_digest_at_another_place_and_time_under_any_umask(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = set()
    for place, umask in (("one", 0o022), ("two", 0o077), ("three", 0)):
        before = os.umask(umask)
        try:
            app = write(tmp_path / place / "app", {"pkg/a.py": "X = {'a', 'b'}\n", "b.py": ""})
            os.utime(app / "b.py", (10**9, 10**9))
            monkeypatch.setenv("LC_ALL", "C")
            layer = build(found(app, "pkg", "b.py"), cache=tmp_path / f"cache {place}")
        finally:
            os.umask(before)
        assert layer is not None
        digests.add(layer.manifest.digest)
    assert len(digests) == 1
    write(app, {"b.py": "X = 2\n"})
    changed = build(found(app, "pkg", "b.py"), cache=cache)
    assert changed is not None
    assert changed.manifest.digest not in digests


def test_only_changed_code_is_packed_again(tmp_path: Path, cache: Path) -> None:
    app = write(tmp_path / "app", {"a.py": ""})
    first, second = (build(found(app, "a.py"), cache=cache) for _ in range(2))
    write(app, {"a.py": "X = 1\n"})
    layers = (first, second, build(found(app, "a.py"), cache=cache))
    assert [layer.cached for layer in layers if layer] == [False, True, False]


def test_byte_code_is_compiled_as_seen_from_the_prefix(tmp_path: Path, cache: Path) -> None:
    app = write(tmp_path / "app", {"a.py": "def f():\n    pass\n"})
    opened = bring(found(app, "a.py"), cache=cache, to=tmp_path / "out", target=GUEST)
    (byte_code,) = (opened.root / SENT / "__pycache__").iterdir()
    assert f"/opt/envboot/env/{SENT}/a.py".encode() in byte_code.read_bytes()
    for path in opened.root.rglob("*"):
        assert path.is_dir() or str(tmp_path).encode() not in path.read_bytes()
