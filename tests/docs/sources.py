"""What the code says, read from the code: messages, variables, exit reasons, members."""

from __future__ import annotations

import ast
import re
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from tests.docs.pages import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODULES = sorted([*ROOT.glob("bootstrap/**/*.py"), *ROOT.glob("provisioners/**/*.py")])
TEMPLATES = sorted(path for path in ROOT.glob("templates/*") if path.is_file())
GAP = "…"
_FIELD = re.compile(r"%(\(\w+\))?[0-9.]*[sdrx]|\$\{[^}]*\}")


def parse(path: Path) -> ast.Module:
    """Return a module's syntax tree."""
    return ast.parse(path.read_text("utf-8"))


def find_messages() -> set[str]:
    """Return every text in the code; what is filled in when it is shown is a `…`."""
    found = {text for path in MODULES for node in ast.walk(parse(path)) for text in _texts(node)}
    for path in TEMPLATES:
        text = path.read_text("utf-8").replace("\\`", "`")
        found |= {_FIELD.sub(GAP, line) for line in text.splitlines()}
    return found


def find_raised(*names: str, below: str = "") -> set[str]:
    """Return the message of every `raise` of these errors in the modules below a folder."""
    found = set()
    for path in MODULES:
        if not path.relative_to(ROOT).as_posix().startswith(below):
            continue
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in names and node.args:
                text = _text(node.args[0])
                if text and text != GAP:
                    found.add(text)
    return found


def _texts(node: ast.AST) -> Iterator[str]:
    if isinstance(node, (ast.Constant, ast.JoinedStr, ast.BinOp)):
        text = _text(node)
        if text and text != GAP:
            yield text


def _text(node: ast.expr) -> str | None:
    """Return the text that an expression makes; None where it makes none."""
    if isinstance(node, ast.Constant):
        return _FIELD.sub(GAP, node.value) if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else GAP for part in node.values
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        return _text(node.left)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _text(node.left), _text(node.right)
        return None if left is None and right is None else f"{left or GAP}{right or GAP}"
    return GAP


def find_variables() -> set[str]:
    """Return the names of environment variables that the code reads or sets."""
    name = re.compile(r"_?[A-Z][A-Z0-9]*(_[A-Z0-9]+)+|HOME|PATH|TERM|PYTHON[A-Z]+")
    found = set()
    for path in MODULES:
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Constant) and name.fullmatch(str(node.value)):
                text = str(node.value)
                # Compute Engine's own words look like variables.
                if "gcp" not in path.parts or text.startswith(("CLOUDSDK_", "GOOGLE_")):
                    found.add(text)
    for path in TEMPLATES:
        found |= set(re.findall(r"\$\{(ENVBOOT_\w+)", path.read_text("utf-8")))
    # Journal fields, and constants of the C library and of ELF.
    others = {"MESSAGE_ID", "SYSLOG_IDENTIFIER", "CS_GNU_LIBC_VERSION", "O_BINARY", "SC_CLK_TCK"}
    return found - others - {"DT_NEEDED", "PT_DYNAMIC", "O_NOFOLLOW"}


def find_assigned(path: str, name: str) -> set[str]:
    """Return the texts that a module assigns to a variable, by `=` or as an attribute."""
    found: set[str] = set()
    for node in ast.walk(parse(ROOT / path)):
        if isinstance(node, ast.Assign) and any(
            name in (getattr(target, "id", ""), getattr(target, "attr", ""))
            for target in node.targets
        ):
            texts = (part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant))
            found |= {text for text in texts if isinstance(text, str) and text}
    return found


def members(kind: Any, at: str = "") -> set[str]:
    """Return the paths of all members that a record may have in JSON."""
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        return set().union(
            *(members(hints[item.name], f"{at}.{item.name}") for item in fields(kind))
        )
    arguments = [argument for argument in get_args(kind) if argument is not type(None)]
    if get_origin(kind) is tuple:
        return members(arguments[0], f"{at}[]")
    if get_origin(kind) is dict:
        return members(arguments[1], f"{at}.any")
    if len(arguments) == 1:
        return members(arguments[0], at)
    return {at.removeprefix(".")}
