"""The client's modules and what they import, read from their source."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[1]
SOURCES = (ROOT / "bootstrap", ROOT / "provisioners")


@cache
def list_modules() -> dict[str, Path]:
    """Return every module of ours by its dotted name."""
    return {
        name_module(path, source): path
        for source in SOURCES
        for path in sorted(source.rglob("*.py"))
    }


def name_module(path: Path, source: Path) -> str:
    """Return the dotted name of a file below a source root."""
    dotted = ".".join(path.relative_to(source).with_suffix("").parts)
    return dotted.removesuffix(".__init__")


@cache
def parse(path: Path) -> ast.Module:
    """Return a file's syntax tree."""
    return ast.parse(path.read_text("utf-8"))


@cache
def find_imports(module: str) -> frozenset[str]:
    """Return our modules that one imports: at its top, inside functions and for types alone."""
    modules, found = list_modules(), set()
    for node in ast.walk(parse(modules[module])):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in modules else node.module)
    return frozenset(found & modules.keys()) - {module}


def find_room(module: str) -> str:
    """Return the room that a module is in: its package or file below `envboot`, or the other."""
    first, _, rest = module.partition(".")
    return rest.partition(".")[0] or first if first == "envboot" else first


def find_circles(arrows: Mapping[str, frozenset[str]]) -> list[list[str]]:
    """Return what is reached from itself, each circle once (Tarjan's strong components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in arrows[node]:
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            at = stack.index(node)
            circle = stack[at:]
            del stack[at:]
            if len(circle) > 1:
                found.append(sorted(circle))

    for node in sorted(arrows):
        if node not in index:
            visit(node)
    return found


def find_functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield every function and method of ours, with its module."""
    for module, path in list_modules().items():
        for node in ast.walk(parse(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield module, node
