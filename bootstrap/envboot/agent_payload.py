"""What every document carries: the agent, shrunk, and the files of `envboot.templates`."""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import io
import itertools
import json
import keyword
import re
import threading
import zipfile
from importlib.metadata import version
from importlib.resources import files
from string import ascii_lowercase
from types import MappingProxyType
from typing import TYPE_CHECKING

from envboot.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

OURS = frozenset(
    {
        "activate",
        "canonical",
        "checked",
        "children",
        "config",
        "envs",
        "exchange",
        "extract",
        "grants",
        "instance",
        "journal",
        "line",
        "link",
        "locate",
        "locked",
        "manifest",
        "notify",
        "opt",
        "parse",
        "report",
        "refuse",
        "root",
        "show",
        "shown",
        "spans",
        "stages",
        "state",
    }
)
"""Plain words that the agent's modules call something, and nothing that they import."""
_NAMED: dict[type[ast.AST], str] = {
    ast.Name: "id",
    ast.Attribute: "attr",
    ast.FunctionDef: "name",
    ast.ClassDef: "name",
    ast.arg: "arg",
    ast.alias: "name",
}
_SHRINKING = threading.Lock()
_FILES: dict[str, str] = {}
MAIN = """\
import sys
from agent.main import main
sys.exit(main(sys.argv[1:]))
"""
FOR_PUBLISHING = frozenset(
    f"agent/{name}.py" for name in ("pack", "permit", "publish", "soundness")
)
FOR_COMMANDS = frozenset({"agent/run.py", "agent/work.py"})
FOR_OUTPUT = "agent/output.py"
"""What uploads the output of commands: they start without it, so it may come from the bucket."""
FOR_RESULTS = frozenset({"agent/made.py", "agent/results.py"})
"""Where what a command has made comes home."""
FOR_IMDS = "agent/imds.py"
"""Where the metadata service is closed to commands; travels as `run` does."""
FOR_SEATS = frozenset({"agent/seat.py"})
FOR_SECRETS = frozenset({"agent/secret_manager.py"})
"""Where the cloud keeps secrets of the command; those of a cloud's role are needed then, too."""
FOR_KEYGEN = "agent/keygen.py"
"""In documents whose machines verify signatures themselves."""
FOR_SYNC = frozenset({FOR_KEYGEN, "agent/sync.py"})
FOR_ROLES = {kind: frozenset({"agent/role.py", f"agent/{kind}.py"}) for kind in ("aws", "gcp")}
"""By who gives the credentials: `kind` in the grants."""
FOR_NOTICES = frozenset({"agent/watch.py"})
FOR_LIFE = "agent/life.py"
"""Where machines end by themselves."""
FOR_LOCAL = "agent/local.py"
FOR_PRIVATE = "agent/private.py"
FOR_PROJECTS = "agent/room.py"
"""Where projects of the layer may stand for conda packages."""
FOR_CONDA = "agent/conda.py"
"""In every document of an environment with conda packages, and in no other."""
FOR_VERIFYING = "agent/verify.py"
FOR_ARCHIVES = frozenset(f"agent/{name}.py" for name in ("tar", "unpack", "workers", "zstd"))
"""What archives and layers are unpacked with: they come from a bucket only."""
FOR_BUCKETS = FOR_PUBLISHING | FOR_ARCHIVES | {FOR_VERIFYING, FOR_OUTPUT}
OF_CLOUDS = FOR_ROLES["aws"] | FOR_ROLES["gcp"] | FOR_NOTICES
EXTRAS = (
    FOR_PUBLISHING
    | FOR_COMMANDS
    | FOR_RESULTS
    | FOR_SEATS
    | FOR_SECRETS
    | FOR_SYNC
    | OF_CLOUDS
    | {"agent/explain.py", FOR_LOCAL, FOR_PRIVATE, FOR_CONDA, FOR_PROJECTS, FOR_KEYGEN}
    | {FOR_VERIFYING, FOR_IMDS, FOR_LIFE, FOR_OUTPUT}
)
"""Modules that not every document needs; the agent fetches those that are left out of one."""


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
    # What shrinks them counts too: this module, and the library.
    recipe = [sources, files("envboot").joinpath("agent_payload.py").read_text("utf-8")]
    key = hashlib.sha256(json.dumps([*recipe, version("python-minifier")]).encode()).hexdigest()
    kept = cache / "agent" / f"{key}.json" if cache else None
    if kept:
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, str] = json.loads(kept.read_text("ascii"))
            return found
    keywords = _keyword_names(sources.values())
    names = short_names(sources.values(), keywords)
    shrunk = {path: shrink(text, keywords, names) for path, text in sources.items()}
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


def shrink(
    source: str,
    keywords: frozenset[str] = frozenset(),
    names: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return a module with comments, docstrings, annotations and long local names cut.

    `keywords` are the names by which arguments are passed anywhere: these parameters keep
    theirs. So do all names that other modules may use, but for those in `names`, which become
    what stands there.
    """
    import python_minifier

    tree = _without_unused_imports(ast.parse(source))
    for node in ast.walk(tree):
        _rename(node, names)
        if isinstance(node, ast.FunctionDef):
            _make_positional(node.args, keywords)
        elif isinstance(node, ast.Raise):
            # Nobody sees a traceback of the agent.
            node.cause = None
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
    small = python_minifier.minify(ast.unparse(tree), hoist_literals=False, rename_locals=False)
    # No text has a line that begins with a tab, and JSON and shell have spaces too.
    return re.sub(r"(?m)^\t+", lambda tabs: " " * len(tabs[0]), small)


def short_names(sources: Iterable[str], keywords: frozenset[str]) -> dict[str, str]:
    """Map what the agent's modules define, and each other use, to two letters each.

    Only names by which no argument is passed, and that cannot be the standard library's: they have
    a capital or `_`, or are in `OURS`. Others that also stand in a text are kept, for they may be
    looked up by it.
    """
    defined: set[str] = set()
    texts: set[str] = set(keyword.kwlist)
    used: set[str] = set()
    for node in (node for text in sources for node in ast.walk(ast.parse(text))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            defined.add(node.name)
        elif isinstance(node, ast.Name):
            is_constant = isinstance(node.ctx, ast.Store) and node.id.isupper()
            (defined if is_constant else used).add(node.id)
        elif isinstance(node, ast.Attribute):
            used.add(node.attr)
        elif isinstance(node, ast.arg):
            used.add(node.arg)
        elif isinstance(node, ast.alias):
            used.add(node.asname or node.name)
        elif isinstance(node, ast.Constant):
            texts.add(str(node.value))
    looks = [name for name in defined - texts if "_" in name[1:] or name != name.lower()]
    long = sorted({*OURS, *(name for name in looks if name[0] != "_")} - keywords)
    pairs = ("".join(pair) for pair in itertools.product(ascii_lowercase, repeat=2))
    short = (name for name in pairs if name not in texts | used)
    return dict(zip(long, short, strict=False))


def _rename(node: ast.AST, names: Mapping[str, str]) -> None:
    """Give a node the new name of what it defines or uses, if it has one."""
    for kind, field in _NAMED.items():
        if isinstance(node, kind):
            setattr(node, field, names.get(getattr(node, field), getattr(node, field)))


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
