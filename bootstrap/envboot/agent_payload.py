"""What every document carries: the agent, shrunk, and the files of `envboot.templates`."""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import io
import json
import threading
import zipfile
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING

from envboot.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_SHRINKING = threading.Lock()
_FILES: dict[str, str] = {}
MAIN = """\
import sys
from agent.main import main
sys.exit(main(sys.argv[1:]))
"""
FOR_PUBLISHING = frozenset(
    {"agent/pack.py", "agent/permit.py", "agent/publish.py", "agent/renew.py"}
)
FOR_COMMANDS = frozenset({"agent/run.py"})
FOR_SEATS = frozenset({"agent/seat.py"})
FOR_SYNC = frozenset({"agent/sync.py"})
FOR_ROLES = {kind: frozenset({"agent/role.py", f"agent/{kind}.py"}) for kind in ("aws", "gcp")}
"""By who gives the credentials: `kind` in the grants."""
FOR_NOTICES = frozenset({"agent/watch.py"})
FOR_RENEWING = {kind: f"agent/{kind}_copy.py" for kind in FOR_ROLES}
FOR_SHARING = "agent/share.py"
OF_CLOUDS = FOR_ROLES["aws"] | FOR_ROLES["gcp"] | FOR_NOTICES
EXTRAS = (
    FOR_PUBLISHING
    | FOR_COMMANDS
    | FOR_SEATS
    | FOR_SYNC
    | OF_CLOUDS
    | {*FOR_RENEWING.values(), "agent/explain.py", FOR_SHARING}
)
"""Modules that not every boot waits for: the agent fetches them when it first needs one."""


def agent_files(cache: Path | None = None) -> dict[str, str]:
    """Return the agent as it travels: path below `lib/` to source, shrunk, in ASCII.

    Shrinking takes half a second: it is done once a process, and kept in the cache directory.
    """
    # Threads that ask at once wait for the first one.
    with _SHRINKING:
        if not _FILES:
            _FILES.update(_find_files(cache))
    return dict(_FILES)


def _find_files(cache: Path | None) -> dict[str, str]:
    folder = files("envboot.agent")
    sources = {
        f"agent/{item.name}": item.read_text(encoding="utf-8")
        for item in sorted(folder.iterdir(), key=lambda item: item.name)
        if item.name.endswith(".py")
    }
    key = hashlib.sha256(json.dumps([sources, version("python-minifier")]).encode()).hexdigest()
    kept = cache / "agent" / f"{key}.json" if cache else None
    if kept:
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, str] = json.loads(kept.read_text("ascii"))
            return found
    keywords = _keyword_names(sources.values())
    shrunk = {path: shrink(text, keywords) for path, text in sources.items()}
    made = {"__main__.py": MAIN} | {path: f"{text}\n" for path, text in shrunk.items()}
    if kept:
        with contextlib.suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_whole(kept, json.dumps(made).encode("ascii"))
    return made


def pack_zip(contents: Mapping[str, str]) -> tuple[str, bytes]:
    """Return the sha256 (hex) and the bytes of the agent as one object of the bucket.

    Nothing in it is compressed, so that the bytes do not depend on the version of zlib.
    """
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for path, text in contents.items():
            entry = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o100644 << 16
            entry.create_system = 3
            archive.writestr(entry, text)
    return hashlib.sha256(stream.getvalue()).hexdigest(), stream.getvalue()


def agent_zip(cache: Path | None = None) -> tuple[str, bytes]:
    """Return the sha256 (hex) and the bytes of our own agent, for `agent` in the grants."""
    return pack_zip(agent_files(cache))


@functools.cache
def template(name: str) -> str:
    """Return one file of `envboot.templates`."""
    return files("envboot.templates").joinpath(name).read_text(encoding="ascii")


def without_comments(text: str) -> str:
    """Cut the comment lines of a unit file."""
    return "".join(line for line in text.splitlines(True) if not line.startswith("#"))


def shrink(source: str, keywords: frozenset[str] = frozenset()) -> str:
    """Return a module with comments, docstrings, annotations and long local names cut.

    `keywords` are the names by which arguments are passed anywhere: these parameters keep
    theirs, as do all names that other modules may use.
    """
    import python_minifier

    tree = _without_unused_imports(ast.parse(source))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            _make_positional(node.args, keywords)
    renamed = python_minifier.minify(
        ast.unparse(tree),
        remove_literal_statements=True,
        remove_annotations=True,
        hoist_literals=False,
        rename_globals=True,
        preserve_globals=_public_names(tree),
    )
    # Imports for annotations only are unused by now, and `/` has done its work.
    tree = _without_unused_imports(ast.parse(renamed))
    return python_minifier.minify(ast.unparse(tree), hoist_literals=False, rename_locals=False)


def _make_positional(arguments: ast.arguments, keywords: frozenset[str]) -> None:
    """Say that leading parameters are never named by a caller, so that they may be renamed."""
    names = [argument.arg in keywords for argument in arguments.args]
    count = names.index(True) if True in names else len(names)
    arguments.posonlyargs += arguments.args[:count]
    del arguments.args[:count]


def _public_names(tree: ast.Module) -> list[str]:
    """Return the names of a module's top level that do not begin with an underscore."""
    found = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).split(".")[0])
    return sorted(name for name in found if name[:1] != "_" or name[:2] == "__")


def _without_unused_imports(tree: ast.Module) -> ast.Module:
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node in list(tree.body):
        if isinstance(node, ast.ImportFrom) and node.module in ("__future__", "typing"):
            node.names = [name for name in node.names if name.name in used]
            if not node.names:
                tree.body.remove(node)
    return tree


def _keyword_names(sources: Iterable[str]) -> frozenset[str]:
    calls = (node for text in sources for node in ast.walk(ast.parse(text)))
    return frozenset(node.arg for node in calls if isinstance(node, ast.keyword) and node.arg)
