"""What every environment of the suite gets: one of each kind of package, all from this machine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.index import download_wheels, make_wheel, write_simple, write_uv
from tests.layer.projects import commit_all, git, write_project

if TYPE_CHECKING:
    from pathlib import Path

SETUPTOOLS = "setuptools==80.9.0"
PINS = ("six==1.17.0", "markupsafe==3.0.2", SETUPTOOLS)
SEEDS = ("pip", "setuptools", "wheel")
INDEXED = ("six", "markupsafe", "gadget", "spacious-one", "spacious-two")
"""What is installed from the index; the others from this machine."""
VERSIONS = {
    **dict(pin.split("==") for pin in PINS[:2]),
    **dict.fromkeys(("gadget", "spacious-one", "spacious-two", "flat"), "1.0"),
    "odd-src": "2.0",
    "by-path": "3.0",
    "by-git": "4.0",
    "handmade": "1.0+local.1",
}
_BUILD = f"""\
[build-system]
requires = ["{SETUPTOOLS.split("==")[0]}"]
build-backend = "setuptools.build_meta"

"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kit:
    """Where everything is; `url` is the index's, as `http://127.0.0.1:1234/simple`."""

    folder: Path
    url: str
    commit: str

    @property
    def flat(self) -> Path:
        """A project whose package stands beside pyproject.toml."""
        return self.folder / "flat"

    @property
    def src(self) -> Path:
        """A project with a `src/` layout, its name not normalised."""
        return self.folder / "src-project"

    @property
    def path(self) -> Path:
        """A project that is installed from its folder, not editable."""
        return self.folder / "by-path"

    @property
    def git(self) -> str:
        """The URL of a repository, of which `packages/by-git` is installed."""
        return self.url.replace("/simple", "/repository.git")

    @property
    def wheel(self) -> Path:
        """A wheel that no index has."""
        return self.folder / "handmade-1.0+local.1-py3-none-any.whl"

    def requirements(self) -> list[str]:
        """Return the arguments with which pip and uv install everything."""
        git = f"git+{self.git}@{self.commit}#subdirectory=packages/by-git"
        pins = [f"{name}=={VERSIONS[name]}" for name in INDEXED]
        editable = ["-e", str(self.flat), "-e", str(self.src)]
        return [*pins, *editable, str(self.path), git, str(self.wheel)]

    def add_seeds(self, versions: dict[str, str]) -> None:
        """Have in the index what a tool puts into its environments by itself."""
        index = self.folder / "index"
        there = {"-".join(path.name.split("-")[:2]) for path in index.glob("*.whl")}
        found = {(name, versions[name]) for name in SEEDS if name in versions}
        missing = [
            f"{name}=={version}" for name, version in found if f"{name}-{version}" not in there
        ]
        if missing:
            download_wheels(tuple(missing), index)
            write_simple(index)

    def add_python(self, version: str) -> None:
        """Have in the index the compiled wheels of one more Python (`3.12`)."""
        index = self.folder / "index"
        download_wheels(PINS, index, version)
        write_simple(index)


def make_kit(folder: Path, url: str) -> Kit:
    """Write everything below `folder`; `folder`/index is to be served at `url`."""
    index = folder / "index"
    index.mkdir(parents=True, exist_ok=True)
    download_wheels(PINS, index)
    make_wheel(index, "gadget", files=_gadget())
    for name in ("one", "two"):
        text = f"from importlib.metadata import version\nNAME = version('spacious-{name}')\n"
        files = {f"spacious/{name}/__init__.py": text, f"spacious/{name}/notes.txt": f"{name}\n"}
        make_wheel(index, f"spacious-{name}", files=files)
    write_simple(index)
    write_uv(index)
    _write_setuptools_projects(folder)
    write_project(
        folder / "by-path",
        version="3.0",
        name="by-path",
        files={"by_path/__init__.py": "VALUE = 'path'\n", "by_path/deep/data.bin": "\x00\x01"},
        scripts={"by-path": "by_path:VALUE.upper"},
    )
    write_project(
        folder / "repository/packages/by-git",
        version="4.0",
        name="by-git",
        files={"by_git/__init__.py": "VALUE = 'git'\n", "by_git/data.csv": "a,b\n"},
    )
    write_project(folder / "repository", name="wrong-one")
    commit = commit_all(folder / "repository")
    # Some tools take `git+file:` for a path, or for a machine that is reached by ssh.
    git(folder, "clone", "--quiet", "--bare", "repository", "index/repository.git")
    git(index / "repository.git", "update-server-info")
    make_wheel(folder, "handmade", "1.0+local.1")
    return Kit(folder=folder, url=f"{url}/simple", commit=commit)


def _gadget() -> dict[str, str]:
    """Return a package with scripts of both kinds, data of both kinds, and a plug-in."""
    return {
        "gadget/__init__.py": "def main():\n    print('gadget')\n",
        "gadget/templates/page.html": "<p>{{ gadget }}</p>\n",
        "gadget/broken_here.py": "import no_such_module\n",
        "gadget-1.0.data/scripts/gadget-shell": "#!/bin/sh\necho gadget\n",
        "gadget-1.0.data/scripts/gadget-python": "#!python\nprint('gadget')\n",
        "gadget-1.0.data/data/share/gadget/model.bin": "\x00\x7f weights",
        "gadget-1.0.data/data/etc/gadget.conf": "size = 1\n",
        "gadget-1.0.dist-info/entry_points.txt": "[console_scripts]\ngadget = gadget:main\n\n"
        "[gadget.plugins]\nfirst = gadget:main\n",
    }


def _write_setuptools_projects(folder: Path) -> None:
    for name, place, root, version in (
        ("flat", folder / "flat", "", "1.0"),
        ("Odd.SRC", folder / "src-project", "src/", "2.0"),
    ):
        module = re.sub(r"\W", "_", name.lower())
        table = f'[project]\nname = "{name}"\nversion = "{version}"\n'
        table += f'scripts = {{ "{module}-run" = "{module}.cli:main" }}\n\n'
        table += f'[tool.setuptools.package-data]\n{module} = ["*.txt", "*/*.json"]\n'
        files = {
            "pyproject.toml": _BUILD + table,
            f"{root}{module}/__init__.py": f"VALUE = {name!r}\n",
            f"{root}{module}/cli.py": "def main():\n    print('run')\n",
            f"{root}{module}/data.txt": f"{name}\n",
            f"{root}{module}/inner/__init__.py": "",
            f"{root}{module}/inner/table.json": "[]\n",
        }
        for path, text in files.items():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_text(text)
