"""Projects for tests of the layer, and a look into what came out."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envboot.layer import BuiltLayer, build_parts, pack_parts
from envboot.lock.target import Target
from envboot.scan.schema import Source
from tests.sessions import make_session

VERSION = ".".join(map(str, sys.version_info[:3]))
MINOR = ".".join(map(str, sys.version_info[:2]))
SITE = f"lib/python{MINOR}/site-packages"
GUEST = Target(platform="linux-64", glibc="2.28", host_python=False)
HOST = Target(platform="linux-64", glibc="2.28", host_python=True)


def write_project(
    folder: Path,
    name: str = "demo",
    *,
    version: str = "1.0",
    files: dict[str, str] | None = None,
    packages: tuple[str, ...] | None = None,
    scripts: dict[str, str] | None = None,
    tiny: dict[str, Any] | None = None,
) -> Source:
    """Write a project that builds without network; by default one module in one package."""
    module = name.replace("-", "_")
    files = files or {f"{module}/__init__.py": f"NAME = {name!r}\n"}
    packages = (module,) if packages is None else packages
    document = {"name": name, "version": version, "packages": packages, "scripts": scripts or {}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny.json").write_text(json.dumps({**document, **(tiny or {})}))
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    shutil.copyfile(Path(__file__).with_name("backend.py"), folder / "backend.py")
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return Source(name=name, version=version, path=str(folder), editable=True)


def build(*sources: Source, cache: Path, target: Target = GUEST, **options: Any) -> BuiltLayer:
    """Build the layer of the running interpreter."""
    session = make_session(cache=cache)
    parts = build_parts(
        sources, session, python=sys.executable, version=VERSION, target=target, **options
    )
    layer = pack_parts(parts)
    assert layer is not None
    return layer


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """A layer unpacked by GNU tar."""

    root: Path

    @property
    def paths(self) -> set[str]:
        """Every file in it but byte code."""
        return {
            os.path.relpath(path, self.root)
            for path in self.root.rglob("*")
            if path.is_file() and path.suffix != ".pyc"
        }

    def read(self, path: str) -> str:
        """A file's text."""
        return (self.root / path).read_text()

    def site(self, path: str) -> str:
        """The text of a file below site-packages."""
        return self.read(f"{SITE}/{path}")

    def record(self, info: str) -> dict[str, str]:
        """RECORD of a dist-info: path to hash."""
        rows = csv.reader(io.StringIO(self.site(f"{info}.dist-info/RECORD")))
        return {row[0]: row[1] for row in rows}


def unpack(layer: BuiltLayer, folder: Path) -> Opened:
    """Unpack with nothing of ours."""
    folder.mkdir()
    command = ["tar", "--zstd", "-xpf", str(layer.path), "-C", str(folder)]
    subprocess.run(command, check=True)
    return Opened(root=folder)


def git(folder: Path, *arguments: str) -> str:
    """Run git as somebody, with no settings of this machine."""
    environment = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        **dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), "A. Nobody"),
        **dict.fromkeys(("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "nobody@example.com"),
    }
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def commit_all(folder: Path, message: str = "work") -> str:
    """Commit everything in a folder; returns the commit's id."""
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)
    return git(folder, "rev-parse", "HEAD")
