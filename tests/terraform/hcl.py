"""Reads our HCL: blocks, expressions, and what they refer to."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import hcl2

ROOT = Path(__file__).parents[2] / "terraform"
MODULES = sorted(ROOT.glob("modules/*"))
EXAMPLES = sorted(ROOT.glob("examples/*"))
FOLDERS = [*MODULES, *EXAMPLES]
MARKS = ("__is_block__", "__comments__")


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """One block at the top of a file: `resource "aws_iam_role" "this"` has two labels."""

    file: str
    kind: str
    labels: tuple[str, ...]
    body: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Folder:
    """All blocks of a module or example."""

    path: Path
    blocks: list[Block] = field(default_factory=list)

    def of(self, kind: str) -> list[Block]:
        """Return the blocks of one kind, in the order of files and lines."""
        return [block for block in self.blocks if block.kind == kind]


@cache
def read_folder(path: Path) -> Folder:
    """Parse every file of a folder."""
    folder = Folder(path=path)
    for file in sorted(path.glob("*.tf")):
        for kind, found in hcl2.loads(file.read_text("utf-8")).items():
            if kind not in MARKS:
                folder.blocks.extend(_split(file.name, kind, (), body) for body in found)
    return folder


def _split(file: str, kind: str, labels: tuple[str, ...], body: dict[str, Any]) -> Block:
    """Take labels off a block, which the parser gives as members around its body."""
    if "__is_block__" not in body:
        ((label, inner),) = ((key, value) for key, value in body.items() if key not in MARKS)
        return _split(file, kind, (*labels, unquote(label)), inner)
    return Block(file=file, kind=kind, labels=labels, body=body)


def unquote(text: str) -> str:
    """Return the text of a literal: the parser keeps its quotes."""
    if text[:1] == text[-1:] == '"':
        return text[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return text


def show(value: Any) -> str:
    """Return an expression as HCL has it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(show(each) for each in value)}]"
    if isinstance(value, dict):
        inside = ", ".join(
            f"{key} = {show(each)}" for key, each in value.items() if key not in MARKS
        )
        return f"{{ {inside} }}" if inside else "{}"
    text = str(value)
    if text.startswith("${") and text.endswith("}"):
        return text[2:-1]
    return text


def without_comments(path: Path) -> str:
    """Return the text of all files of a folder, without its comments."""
    text = "\n".join(file.read_text("utf-8") for file in sorted(path.glob("*.tf")))
    return re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)
