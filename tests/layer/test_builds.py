"""Projects to wheels: what is shipped, what is built again, and what a failure says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest

from envboot.errors import LayerError
from envboot.scan.schema import Source
from tests.index import make_wheel
from tests.layer.projects import (
    HOST,
    SITE,
    build,
    commit_all,
    git,
    unpack,
    write_project,
)

pytestmark = pytest.mark.subprocess


@pytest.mark.parametrize("name", ["with space", "näme", "a&b;c$(x)'\"", "-dash", "100%", "a\nb"])
def test_odd_characters_in_a_path_break_nothing(tmp_path: Path, cache: Path, name: str) -> None:
    opened = unpack(build(write_project(tmp_path / name), cache=cache), tmp_path / "out")
    assert opened.site("demo/__init__.py") == "NAME = 'demo'\n"


def test_two_folders_of_one_name_are_both_kept(tmp_path: Path, cache: Path) -> None:
    one = write_project(tmp_path / "a" / "lib", "one")
    two = write_project(tmp_path / "b" / "lib", "two")
    opened = unpack(build(one, two, cache=cache), tmp_path / "out")
    assert opened.site("one/__init__.py") == "NAME = 'one'\n"
    assert opened.site("two/__init__.py") == "NAME = 'two'\n"


def test_a_src_layout_is_shipped_once_and_data_files_arrive(tmp_path: Path, cache: Path) -> None:
    files = {
        "src/demo/__init__.py": "X = 1\n",
        "src/demo/data/table.csv": "a,b\n",
        "src/demo/template.html": "<p>\n",
        "README.md": "not code\n",
    }
    source = write_project(tmp_path / "p", files=files, packages=("src/demo",))
    opened = unpack(build(source, cache=cache), tmp_path / "out")
    shipped = {path for path in opened.paths if ".dist-info" not in path}
    brought = ("__init__.py", "data/table.csv", "template.html")
    assert shipped == {"lib/envboot/layer.txt", *(f"{SITE}/demo/{path}" for path in brought)}


def test_files_that_git_ignores_stay_and_untracked_ones_travel(tmp_path: Path, cache: Path) -> None:
    project = tmp_path / "p"
    source = write_project(project)
    (project / ".gitignore").write_text("*.secret\n")
    commit_all(project)
    (project / "demo" / "key.secret").write_text("hunter2")
    (project / "demo" / "new.py").write_text("")
    git(project, "rm", "--quiet", "--cached", ".gitignore")
    opened = unpack(build(source, cache=cache), tmp_path / "out")
    assert f"{SITE}/demo/new.py" in opened.paths
    assert not [path for path in opened.paths if "secret" in path]


def test_a_file_deleted_and_still_tracked_is_no_error(tmp_path: Path, cache: Path) -> None:
    project = tmp_path / "p"
    source = write_project(
        project, files={"demo/__init__.py": "", "demo/old.py": "", "demo/link.py": ""}
    )
    commit_all(project)
    (project / "demo" / "old.py").unlink()
    opened = unpack(build(source, cache=cache), tmp_path / "out")
    assert f"{SITE}/demo/old.py" not in opened.paths


def test_a_build_leaves_nothing_in_the_users_folder(tmp_path: Path, cache: Path) -> None:
    source = write_project(tmp_path / "p")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "p").rglob("*")}
    build(source, cache=cache)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "p").rglob("*")} == before
    assert not list((cache / "build").iterdir())


def test_an_unchanged_project_is_never_built_again(tmp_path: Path, cache: Path) -> None:
    counter = tmp_path / "builds"
    source = write_project(tmp_path / "p", tiny={"counter": str(counter)})
    first = build(source, cache=cache)
    for path in (tmp_path / "p").rglob("*"):
        os.utime(path, (1, 1))
    (tmp_path / "p" / "__pycache__").mkdir()
    (tmp_path / "p" / "__pycache__" / "x.pyc").write_bytes(b"x")
    second = build(source, cache=cache)
    assert counter.read_text() == "demo\n"
    assert (first.built, first.cached) == (("demo",), False)
    assert (second.built, second.cached) == ((), True)
    assert second.manifest == first.manifest


def test_an_edit_under_the_same_version_never_serves_a_stale_wheel(
    tmp_path: Path, cache: Path
) -> None:
    source = write_project(tmp_path / "p")
    other = write_project(tmp_path / "q", "other")
    first = build(source, other, cache=cache)
    (tmp_path / "p" / "demo" / "__init__.py").write_text("NAME = 'DEMO'\n")
    second = build(source, other, cache=cache)
    assert second.built == ("demo",)
    assert second.manifest.digest != first.manifest.digest
    assert unpack(second, tmp_path / "out").site("demo/__init__.py") == "NAME = 'DEMO'\n"


def test_a_renamed_file_is_another_content(tmp_path: Path, cache: Path) -> None:
    source = write_project(tmp_path / "p", files={"demo/one.py": "X = 1\n"})
    build(source, cache=cache)
    (tmp_path / "p" / "demo" / "one.py").rename(tmp_path / "p" / "demo" / "two.py")
    assert build(source, cache=cache).built == ("demo",)


def test_what_tools_leave_in_a_plain_folder_is_no_part_of_the_project(
    tmp_path: Path, cache: Path
) -> None:
    project = tmp_path / "p"
    source = write_project(project)
    first = build(source, cache=cache)
    for path in (
        ".venv/x.py",
        "env/pyvenv.cfg",
        "build/lib/demo/gone.py",
        "dist/x.whl",
        "demo/.pytest_cache/x",
        "demo.egg-info/PKG-INFO",
    ):
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text("")
    assert build(source, cache=cache).built == ()
    (project / "demo" / "build").mkdir()
    (project / "demo" / "build" / "mine.py").write_text("")
    second = build(source, cache=cache)
    assert second.manifest.digest != first.manifest.digest


def test_projects_are_built_side_by_side(tmp_path: Path, cache: Path) -> None:
    if (os.cpu_count() or 1) < 2:
        pytest.skip("needs two processors")
    tiny = {"meet": str(tmp_path / "meeting")}
    sources = [write_project(tmp_path / name, name, tiny=tiny) for name in ("one", "two")]
    build(*sources, cache=cache)


def test_an_interrupt_ends_builds_at_once(tmp_path: Path, cache: Path) -> None:
    meeting = tmp_path / "meeting"
    source = write_project(tmp_path / "alone", "alone", tiny={"meet": str(meeting)})
    sent: list[float] = []

    def interrupt() -> None:
        end = time.monotonic() + 50
        while not (meeting / "alone").exists() and time.monotonic() < end:
            time.sleep(0.02)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    waiting = threading.Thread(target=interrupt)
    waiting.start()
    with pytest.raises(KeyboardInterrupt):
        build(source, cache=cache)
    waiting.join()
    # The build itself gives up after a minute.
    assert time.monotonic() - sent[0] < 40
    names = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [name for name in names if str(cache).encode() in name]


def test_every_failing_build_shows_the_end_of_its_log_without_a_secret(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_INDEX_OURS_PASSWORD", "hunter2")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://user:hunter2@index.test/simple")
    bad = write_project(tmp_path / "p", "bad", tiny={"fail": "no compiler here"})
    with pytest.raises(LayerError, match="wheel of `bad`") as caught:
        build(bad, cache=cache)
    assert any("no compiler here" in line for line in caught.value.causes)
    log = (caught.value.hint or "").split("`")[1]
    with open(log) as stream:
        text = stream.read()
    assert "compiling the thing from https://files.test/x\n" in text
    assert "'PIP_EXTRA_INDEX_URL': 'https://index.test/simple'" in text
    assert "hunter2" not in text
    assert "hunter2" not in repr(vars(caught.value))


def test_all_failing_projects_are_named(tmp_path: Path, cache: Path) -> None:
    sources = [write_project(tmp_path / name, name, tiny={"fail": "no"}) for name in ("one", "two")]
    with pytest.raises(LayerError, match="2 projects") as caught:
        build(*sources, write_project(tmp_path / "p"), cache=cache)
    assert "`one`" in caught.value.causes[0]
    assert "`two`" in caught.value.causes[1]


def test_a_project_that_is_gone_is_named(tmp_path: Path, cache: Path) -> None:
    gone = Source(name="gone", version="1", path=str(tmp_path / "gone"))
    with pytest.raises(LayerError, match="project `gone`") as caught:
        build(gone, cache=cache)
    assert str(tmp_path / "gone") in caught.value.causes[0]


def test_a_wheel_file_is_used_as_it_is(tmp_path: Path, cache: Path) -> None:
    made = make_wheel(tmp_path, "given-wheel", text="GIVEN = 1\n")
    layer = build(Source(name="given-wheel", version="1.0", path=str(made.path)), cache=cache)
    assert layer.built == ()
    assert unpack(layer, tmp_path / "out").site("given_wheel.py") == "GIVEN = 1\n"


def test_an_sdist_file_is_built(tmp_path: Path, cache: Path) -> None:
    write_project(tmp_path / "demo-1.0")
    (tmp_path / "demo-1.0" / "PKG-INFO").write_text(
        "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n"
    )
    with tarfile.open(tmp_path / "demo-1.0.tar.gz", "w:gz") as sdist:
        sdist.add(tmp_path / "demo-1.0", "demo-1.0")
    source = Source(name="demo", version="1.0", path=str(tmp_path / "demo-1.0.tar.gz"))
    opened = unpack(build(source, cache=cache), tmp_path / "out")
    assert f"{SITE}/demo/__init__.py" in opened.paths


def test_another_file_is_refused(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "thing.exe").write_bytes(b"MZ")
    with pytest.raises(LayerError, match="Cannot build `thing`"):
        build(Source(name="thing", version="1", path=str(tmp_path / "thing.exe")), cache=cache)


def test_a_project_below_a_folder_is_found_by_its_subdirectory(tmp_path: Path, cache: Path) -> None:
    write_project(tmp_path / "repo" / "libs" / "demo")
    source = Source(
        name="demo", version="1.0", path=str(tmp_path / "repo"), subdirectory="libs/demo"
    )
    assert build(source, cache=cache).manifest.projects[0].name == "demo"


def test_a_project_inside_a_repository_sees_what_lies_beside_and_above_it(
    tmp_path: Path, cache: Path
) -> None:
    source = write_project(tmp_path / "libs" / "demo", packages=("../shared",))
    (tmp_path / "libs" / "shared").mkdir()
    (tmp_path / "libs" / "shared" / "__init__.py").write_text("")
    commit_all(tmp_path)
    opened = unpack(build(source, cache=cache), tmp_path / "out")
    assert f"{SITE}/shared/__init__.py" in opened.paths


def test_names_are_normalised(tmp_path: Path, cache: Path) -> None:
    source = write_project(tmp_path / "p", "My.Odd_Name", files={"m/__init__.py": ""})
    wheel = write_project(tmp_path / "q", "my-odd-name", files={"n/__init__.py": ""})
    assert build(wheel, cache=cache).manifest.projects[0].name == "my-odd-name"
    with pytest.raises(LayerError, match="one project that is named `my-odd-name`"):
        build(source, wheel, cache=cache)


@pytest.mark.parametrize(
    "tag", ["cp27-cp27m-linux_x86_64", "py3-none-win_amd64", "py3-none-manylinux_2_39_x86_64"]
)
def test_a_wheel_that_the_target_cannot_run_is_refused(
    tmp_path: Path, cache: Path, tag: str
) -> None:
    source = write_project(tmp_path / "p", tiny={"tag": tag})
    with pytest.raises(LayerError, match=f"`demo-1.0-{tag}.whl` on `linux-64`"):
        build(source, cache=cache)


def test_a_git_project_is_built_at_its_commit_in_its_subdirectory(
    tmp_path: Path, cache: Path
) -> None:
    upstream = tmp_path / "up stream"
    write_project(upstream / "python" / "pkg")
    commit = commit_all(upstream)
    (upstream / "python" / "pkg" / "demo" / "__init__.py").write_text("LATER = 1\n")
    commit_all(upstream, "later")
    source = Source(
        name="demo",
        version="1.0",
        git=upstream.as_uri(),
        commit=commit,
        subdirectory="python/pkg",
    )
    layer = build(source, cache=cache)
    opened = unpack(layer, tmp_path / "out")
    assert opened.site("demo/__init__.py") == "NAME = 'demo'\n"
    assert layer.manifest.projects[0].commit == commit
    direct = opened.site("demo-1.0.dist-info/direct_url.json")
    assert f'"commit_id":"{commit}"' in direct
    assert '"subdirectory":"python/pkg"' in direct
    # The second time git is not asked: the repository may be gone.
    upstream.rename(tmp_path / "moved")
    assert build(source, cache=cache).cached


def test_two_projects_of_one_commit_are_kept_apart(tmp_path: Path, cache: Path) -> None:
    upstream = tmp_path / "upstream"
    for name in ("one", "two"):
        write_project(upstream / name, name)
    commit = commit_all(upstream)
    sources = [
        Source(name=n, version="1.0", git=upstream.as_uri(), commit=commit, subdirectory=n)
        for n in ("one", "two")
    ]
    projects = build(*sources, cache=cache).manifest.projects
    assert [project.name for project in projects] == ["one", "two"]


def test_a_git_project_that_cannot_be_reached_says_what_git_says(
    tmp_path: Path, cache: Path
) -> None:
    source = Source(name="demo", version="1.0", git=(tmp_path / "none").as_uri(), commit="0" * 40)
    with pytest.raises(LayerError, match="with git") as caught:
        build(source, cache=cache)
    assert caught.value.causes
    assert "git ls-remote" in (caught.value.hint or "")


def test_a_password_in_a_git_url_is_shown_nowhere(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = tmp_path / "upstream"
    write_project(upstream)
    commit = commit_all(upstream)
    # What git is told to do with such a URL: the test's own server is a folder.
    secret = "https://user:hunter2@git.test/demo"
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{upstream.as_uri()}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", secret)
    source = Source(name="demo", version="1.0", git=secret, commit=commit)
    layer = build(source, cache=cache)
    opened = unpack(layer, tmp_path / "out")
    assert '"url":"https://git.test/demo"' in opened.site("demo-1.0.dist-info/direct_url.json")
    for path in [*opened.root.rglob("*"), *cache.rglob("*")]:
        assert "hunter2" not in str(path)
        if path.is_file():
            assert b"hunter2" not in path.read_bytes()


@pytest.mark.network
@pytest.mark.parametrize(
    ("requires", "backend"),
    [("setuptools>=77", "setuptools.build_meta"), ("hatchling", "hatchling.build")],
)
def test_real_backends_build_a_src_layout_with_its_data(
    tmp_path: Path, cache: Path, requires: str, backend: str
) -> None:
    project = tmp_path / "my project"
    (project / "src" / "demo").mkdir(parents=True)
    (project / "src" / "demo" / "__init__.py").write_text("X = 1\n")
    (project / "src" / "demo" / "data.json").write_text("{}\n")
    (project / "pyproject.toml").write_text(
        f'[build-system]\nrequires = ["{requires}"]\nbuild-backend = "{backend}"\n'
        '[project]\nname = "demo"\nversion = "1.0"\n[project.scripts]\ndemo = "demo:main"\n'
        '[tool.setuptools.package-data]\ndemo = ["*.json"]\n'
    )
    source = Source(name="demo", version="1.0", path=str(project))
    first = build(source, cache=cache)
    opened = unpack(first, tmp_path / "out")
    assert {f"{SITE}/demo/__init__.py", f"{SITE}/demo/data.json", "bin/demo"} <= opened.paths
    assert sorted(path.name for path in project.iterdir()) == ["pyproject.toml", "src"]
    again = build(source, cache=tmp_path / "another cache")
    assert again.manifest.digest == first.manifest.digest


@pytest.mark.network
def test_a_version_from_git_tags_is_the_one_that_is_installed_here(
    tmp_path: Path, cache: Path
) -> None:
    project = tmp_path / "p"
    (project / "demo" / "assets").mkdir(parents=True)
    (project / "demo" / "__init__.py").write_text("")
    (project / "demo" / "assets" / "tracked.bin").write_text("data")
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools>=77", "setuptools-scm>=8"]\n'
        'build-backend = "setuptools.build_meta"\n'
        '[project]\nname = "demo"\ndynamic = ["version"]\n[tool.setuptools_scm]\n'
        '[tool.setuptools]\npackages = ["demo"]\ninclude-package-data = true\n'
    )
    commit_all(project)
    source = Source(name="demo", version="1.2.dev3+gabcdef0", path=str(project), editable=True)
    layer = build(source, cache=cache)
    assert layer.manifest.projects[0].version == "1.2.dev3+gabcdef0"
    # setuptools-scm ships what git tracks: the copy still is in the repository.
    assert f"{SITE}/demo/assets/tracked.bin" in unpack(layer, tmp_path / "out").paths
    assert git(project, "status", "--porcelain") == ""


@pytest.mark.network
def test_an_extension_module_is_compiled_for_this_platform(tmp_path: Path, cache: Path) -> None:
    project = tmp_path / "p"
    project.mkdir()
    (project / "fast.c").write_text(
        '#include <Python.h>\nstatic struct PyModuleDef m = {PyModuleDef_HEAD_INIT, "fast"};\n'
        "PyMODINIT_FUNC PyInit_fast(void) { return PyModule_Create(&m); }\n"
    )
    (project / "setup.py").write_text(
        "from setuptools import Extension, setup\n"
        'setup(name="fast", version="1.0", ext_modules=[Extension("fast", ["fast.c"])])\n'
    )
    layer = build(Source(name="fast", version="1.0", path=str(project)), cache=cache, target=HOST)
    opened = unpack(layer, tmp_path / "out")
    command = [sys.executable, "-c", "import fast; print(fast.__name__)"]
    path = {"PYTHONPATH": str(opened.root / SITE)}
    done = subprocess.run(command, env=path, capture_output=True, text=True, check=True)
    assert done.stdout == "fast\n"
