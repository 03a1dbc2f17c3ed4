"""Links are followed inside of a project and its checkout; what leads elsewhere is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from envboot.errors import LayerError
from envboot.layer import links
from envboot.layer.links import find_boundary
from envboot.scan.schema import Source
from tests.layer.code import bring, build, found, shipped, write
from tests.layer.projects import SITE, commit_all, git, unpack, write_project
from tests.layer.projects import build as build_projects

if TYPE_CHECKING:
    from pathlib import Path

    from envboot.layer import BuiltLayer

pytestmark = pytest.mark.subprocess

OUTSIDE = (
    "Not sent (links that lead out of the project; name one exactly in `include` to follow it):"
)
LOST = "Not sent (links that lead nowhere, or to a directory around them):"


def messages(layer: BuiltLayer | None) -> list[str]:
    assert layer is not None
    return [note.message for note in layer.notes]


def link(place: Path, target: Path | str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


@pytest.mark.parametrize("has_git", [True, False])
@pytest.mark.parametrize("origin", ["current", "pythonpath", "pth", "site"])
def test_links_that_lead_out_of_the_project_are_named_and_not_followed(
    tmp_path: Path, cache: Path, origin: str, has_git: bool
) -> None:
    write(tmp_path / "home", {"notes.txt": "PLANTED", "docs/deep/a.txt": "PLANTED"})
    home = tmp_path / "home"
    app = write(tmp_path / "work", {"app/__init__.py": "", "app/data/x.txt": "mine"})
    link(app / "app/file.txt", home / "notes.txt")
    link(app / "app/relative.txt", "../../home/notes.txt")
    link(app / "app/folder", home / "docs")
    link(app / "app/chain.txt", "hop")
    link(app / "app/hop", home / "hop")
    link(home / "hop", home / "notes.txt")
    link(app / "app/through", "data/out")
    link(app / "app/data/out", home / "docs/deep")
    link(app / "app/dots", "../app/../../home")
    link(app / "app/there/and/back.txt", "../../../../work/app/data/x.txt")
    if has_git:
        git(app, "init", "--quiet")
        commit_all(app)
    layer = build(found(app, "app", origin=origin), cache=cache)
    assert layer is not None
    assert {file.path for file in layer.code.files} == {
        "app/__init__.py",
        "app/data/x.txt",
        "app/there/and/back.txt",
    }
    names = [
        "chain.txt",
        "data/out",
        "dots",
        "file.txt",
        "folder",
        "hop",
        "relative.txt",
        "through",
    ]
    assert messages(layer) == [f"{OUTSIDE} " + ", ".join(f"`app/{name}`" for name in names)]


def test_links_inside_of_the_project_travel_as_what_they_lead_to(
    tmp_path: Path, cache: Path
) -> None:
    app = write(
        tmp_path / "app", {"app/a.py": "A = 1\n", "pyproject.toml": "", "data/y.txt": "y\n"}
    )
    write(app, {"src/here/b.py": ""})
    link(app / "app/beside.txt", "../data/y.txt")
    link(app / "app/absolute", app / "data")
    link(app / "app/again", ".")
    link(app / "app/one", "two")
    link(app / "app/two", "one")
    link(app / "app/gone", "nowhere")
    link(app / "app/long", "x" * 300)
    link(app / "src/here/data", "../../data")
    layer = build(found(app, "app"), found(app / "src", "here", origin="pth"), cache=cache)
    assert layer is not None
    assert shipped(unpack(layer, tmp_path / "out")) == {
        "app/a.py",
        "app/absolute/y.txt",
        "app/beside.txt",
        "0-src/here/b.py",
        "0-src/here/data/y.txt",
    }
    assert messages(layer) == [
        f"{LOST} `app/again`, `app/gone`, `app/long`, `app/one`, `app/two`",
        "Not sent (not Python code): `data`; name it in the command, or in `include`",
    ]


def test_links_reach_the_top_of_the_git_checkout(tmp_path: Path, cache: Path) -> None:
    top = write(
        tmp_path / "mono", {"VERSION": "1\n", "shared/util.py": "", "services/a/run.py": ""}
    )
    service = top / "services" / "a"
    link(service / "VERSION", "../../VERSION")
    link(service / "shared", "../../shared")
    link(top / "shared/out", tmp_path)
    commit_all(top)
    layer = build(found(service, "run.py", "shared", "VERSION"), cache=cache)
    assert layer is not None
    assert {file.path for file in layer.code.files} == {"run.py", "shared/util.py", "VERSION"}
    assert messages(layer) == [f"{OUTSIDE} `shared/out`"]


@pytest.mark.parametrize("include", ["link", "link/", "/app/link", "app/link/"])
def test_include_follows_a_link_that_it_names_and_none_behind_it(
    tmp_path: Path, cache: Path, include: str
) -> None:
    write(tmp_path / "shared", {"z.csv": "", ".env": "TOKEN=1"})
    write(tmp_path / "home", {"notes.txt": ""})
    link(tmp_path / "shared/more.txt", tmp_path / "home/notes.txt")
    app = write(tmp_path / "work", {"app/a.py": ""})
    link(app / "app/link", tmp_path / "shared")
    link(app / "app/other", tmp_path / "shared")
    layer = build(found(app, "app"), cache=cache, include=(include,))
    assert layer is not None
    assert {file.path for file in layer.code.files} == {"app/a.py", "app/link/z.csv"}
    (credential, outside) = messages(layer)
    assert credential.endswith(": `app/link/.env`")
    assert outside == f"{OUTSIDE} `app/link/more.txt`, `app/other`"
    link(app / "app/keys", write(tmp_path / "home/.ssh", {"config": ""}))
    named = build(found(app, "app"), cache=cache, include=("keys",))
    assert named is not None
    assert {file.path for file in named.code.files} == {"app/a.py"}
    wide = build(found(app, "app"), cache=cache, include=("app/", "*"))
    assert wide is not None
    assert {file.path for file in wide.code.files} == {"app/a.py"}


def test_a_folder_on_the_path_may_be_a_link_itself(tmp_path: Path, cache: Path) -> None:
    code = write(tmp_path / "code", {"tool.py": "", "data.txt": "x"})
    link(code / "more.txt", "data.txt")
    link(tmp_path / "named", code)
    given = found(tmp_path / "named", "tool.py", "more.txt", origin="pythonpath")
    assert shipped(bring(given, cache=cache, to=tmp_path / "out")) == {
        "0-named/more.txt",
        "0-named/tool.py",
    }


def test_a_link_in_site_packages_was_put_there_and_is_followed(tmp_path: Path, cache: Path) -> None:
    tool = write(tmp_path / "dev" / "tool", {"__init__.py": "X = 1\n"})
    link(tool / "home", tmp_path)
    site = write(tmp_path / "site-packages", {})
    site.mkdir(exist_ok=True)
    link(site / "tool", tool)
    layer = build(found(site, "tool", origin="site"), cache=cache)
    assert layer is not None
    assert unpack(layer, tmp_path / "out").site("tool/__init__.py") == "X = 1\n"
    assert messages(layer) == [f"{OUTSIDE} `tool/home`"]


def test_files_that_git_tracks_below_what_has_become_a_link_are_not_read(
    tmp_path: Path, cache: Path
) -> None:
    app = write(tmp_path / "app", {"app/a.py": "", "app/keys/notes.txt": "mine"})
    source = write_project(tmp_path / "p", files={"demo/__init__.py": "", "demo/k/a.txt": "mine"})
    write(tmp_path / "home", {"notes.txt": "PLANTED", "a.txt": "PLANTED"})
    for top, folder in ((app, "app/keys"), (tmp_path / "p", "demo/k")):
        commit_all(top)
        for file in (top / folder).iterdir():
            file.unlink()
        (top / folder).rmdir()
        link(top / folder, tmp_path / "home")
    layer = build(found(app, "app"), cache=cache)
    assert layer is not None
    assert {file.path for file in layer.code.files} == {"app/a.py"}
    assert messages(layer) == [f"{OUTSIDE} `app/keys`"]
    opened = unpack(build_projects(source, cache=cache), tmp_path / "out")
    assert f"{SITE}/demo/k/a.txt" not in opened.paths


def test_links_that_multiply_are_refused(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "_MOST", 20)
    app = write(tmp_path / "work", {f"app/d{n}/a.py": "" for n in range(6)})
    for one in range(6):
        for other in range(6):
            link(app / f"app/d{one}/to{other}", f"../d{other}")
    with pytest.raises(LayerError, match="at most 20 directories, found more"):
        build(found(app, "app"), cache=cache)


@pytest.mark.parametrize("mark", [".git/HEAD", "pyproject.toml"])
def test_a_home_directory_is_no_project(tmp_path: Path, mark: str) -> None:
    home = write(tmp_path / "home" / "me", {mark: "", ".ssh/id_rsa": ""})
    write(tmp_path / "home", {mark: ""})
    project = write(home / "work" / "app", {"a.py": ""})
    for place, wanted in ((home, project), (home / "below", project), (tmp_path / "x", home)):
        assert find_boundary(project, {"HOME": str(place)}) == wanted
    write(home / "work", {mark: ""})
    assert find_boundary(project, {"HOME": str(home)}) == home / "work"


def test_the_configuration_of_a_repository_does_not_widen_it(tmp_path: Path) -> None:
    app = write(tmp_path / "a" / "app", {"a.py": ""})
    git(app, "init", "--quiet")
    git(app, "config", "core.worktree", str(tmp_path))
    assert find_boundary(app, {"HOME": "/nowhere"}) == app
    (app / "b").mkdir()
    assert find_boundary(app / "b", {"HOME": "/nowhere"}) == app


def test_a_worktree_has_a_top_of_its_own(tmp_path: Path) -> None:
    commit_all(write(tmp_path / "a", {"a.py": ""}))
    tree = tmp_path / "b" / "tree"
    git(tmp_path / "a", "worktree", "add", "--quiet", "--detach", str(tree))
    (tree / "c").mkdir()
    assert find_boundary(tree / "c", {"HOME": "/nowhere"}) == tree


@pytest.mark.parametrize("has_git", [True, False])
def test_a_projects_links_stay_inside_and_the_rest_is_named(
    tmp_path: Path, cache: Path, has_git: bool
) -> None:
    top = tmp_path / "top"
    write(top, {"VERSION": "7", "shared/a.txt": "shared"})
    write(tmp_path / "home", {"notes.txt": "PLANTED"})
    source = write_project(top / "p", files={"demo/__init__.py": "", "demo/y.txt": "y"})
    demo = top / "p" / "demo"
    link(demo / "VERSION", "../../VERSION")
    link(demo / "shared", "../../shared")
    link(top / "shared/home", tmp_path / "home")
    link(demo / "home", tmp_path / "home")
    link(demo / "notes.txt", tmp_path / "home/notes.txt")
    link(demo / "round.txt", "../../p/demo/y.txt")
    link(demo / "absolute.txt", demo / "y.txt")
    if has_git:
        commit_all(top)
    layer = build_projects(source, cache=cache)
    opened = unpack(layer, tmp_path / "out")
    brought = {path.removeprefix(f"{SITE}/demo/") for path in opened.paths if "/demo/" in path}
    inside = {"__init__.py", "y.txt", "absolute.txt", "round.txt"}
    beyond = {"VERSION", "shared/a.txt"}
    assert brought == (inside | beyond if has_git else inside)
    left = ["home", "notes.txt", "shared/home"] if has_git else [
        "VERSION", "home", "notes.txt", "shared",
    ]  # fmt: skip
    message = messages(layer)[0]
    assert message.startswith("Not packaged (links that lead out of the project;")
    assert message.endswith(": " + ", ".join(f"`demo/{name}`" for name in left))
    # Also when nothing has to be built.
    assert messages(build_projects(source, cache=cache)) == messages(layer)


def test_what_a_projects_link_leads_to_is_part_of_its_content(tmp_path: Path, cache: Path) -> None:
    top = write(tmp_path / "top", {"shared/a.txt": "1"})
    source = write_project(top / "p")
    link(top / "p/demo/shared", "../../shared")
    commit_all(top)
    first = build_projects(source, cache=cache)
    (top / "shared/a.txt").write_text("2")
    second = build_projects(source, cache=cache)
    assert unpack(second, tmp_path / "out").site("demo/shared/a.txt") == "2"
    assert second.manifest.digest != first.manifest.digest


def test_include_brings_what_a_projects_link_leads_to(tmp_path: Path, cache: Path) -> None:
    write(tmp_path, {"shared.py": "SHARED = 1\n"})
    source = write_project(tmp_path / "p")
    link(tmp_path / "p/demo/shared.py", tmp_path / "shared.py")
    layer = build(cache=cache, sources=(source,), include=("demo/shared.py",))
    assert layer is not None
    assert unpack(layer, tmp_path / "out").site("demo/shared.py") == "SHARED = 1\n"
    assert layer.notes == ()


def test_a_link_that_leads_nowhere_here_leads_nowhere_in_the_copy(
    tmp_path: Path, cache: Path
) -> None:
    """From the copy of a project, `..` leads to other places than from the project."""
    source = write_project(tmp_path / "p")
    write(tmp_path / "cache" / "build", {"planted.txt": "PLANTED"})
    for up in range(1, 12):
        link(tmp_path / f"p/demo/up{up}.txt", "../" * up + "planted.txt")
        link(tmp_path / f"p/demo/root{up}", "../" * up + str(cache / "build").lstrip("/"))
    opened = unpack(build_projects(source, cache=cache), tmp_path / "out")
    assert not [path for path in opened.paths if "planted" in path or "/up" in path]


def test_what_lies_beside_a_project_and_leads_elsewhere_is_not_beside_its_copy(
    tmp_path: Path, cache: Path
) -> None:
    top = write(tmp_path / "top", {"shared/__init__.py": ""})
    write(tmp_path / "home", {"a.txt": "PLANTED"})
    link(top / "home", tmp_path / "home")
    source = write_project(top / "p", packages=("demo", "../shared", "../home"))
    commit_all(top)
    opened = unpack(build_projects(source, cache=cache), tmp_path / "out")
    assert [path for path in opened.paths if path.endswith("shared/__init__.py")]
    assert not [path for path in opened.paths if path.endswith("a.txt")]


def test_a_commits_links_that_lead_out_of_it_bring_nothing(tmp_path: Path, cache: Path) -> None:
    write(tmp_path / "home", {"notes.txt": "PLANTED"})
    upstream = tmp_path / "upstream"
    write_project(upstream, files={"demo/__init__.py": "", "demo/y.txt": "y"})
    link(upstream / "demo/notes.txt", tmp_path / "home/notes.txt")
    link(upstream / "demo/home", tmp_path / "home")
    link(upstream / "demo/gone.txt", "/nowhere")
    link(upstream / "demo/same.txt", "y.txt")
    commit = commit_all(upstream)
    source = Source(name="demo", version="1.0", git=upstream.as_uri(), commit=commit)
    for number in range(2):  # The second one is not built.
        layer = build_projects(source, cache=cache)
        opened = unpack(layer, tmp_path / f"out{number}")
        names = {path.rpartition("/")[2] for path in opened.paths if f"{SITE}/demo/" in path}
        assert names == {"__init__.py", "same.txt", "y.txt"}
        (note,) = layer.notes
        assert note.message.endswith(": `demo/home`, `demo/notes.txt`")
