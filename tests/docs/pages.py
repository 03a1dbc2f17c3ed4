"""Reads the documentation: sections, tables, code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs/reference.md"
TROUBLESHOOTING = ROOT / "docs/troubleshooting.md"
PAGES = sorted(
    path
    for glob in ("*.md", "docs/**/*.md", "tests/*/*.md", "terraform/**/README.md")
    for path in ROOT.glob(glob)
)

# A span may hold backticks itself: it then stands between double ones.
_SPAN = re.compile(r"(?<!`)(`{1,2})(?!`) ?(.+?) ?(?<!`)\1(?!`)")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def read_section(page: Path, title: str) -> str:
    """Return what stands below a heading, up to the next one of the same rank."""
    text = page.read_text("utf-8")
    found = re.search(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
    assert found, f"{page.name} has no section {title!r}"
    rest = text[found.end() :]
    following = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: following.start()] if following else rest


def read_rows(text: str) -> dict[str, str]:
    """Return the rows of the tables in a text: each code of the first column, and the row.

    A row that names several codes counts for each of them.
    """
    rows: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("| `"):
            # A bar inside a cell is escaped.
            first = re.split(r"(?<!\\)\|", line)[1]
            for code in find_spans(first):
                assert code not in rows, f"{code} stands in two rows"
                rows[code] = line
    return rows


def find_spans(text: str) -> list[str]:
    """Return the inline code of a text."""
    return [found[2].replace("\\|", "|") for found in _SPAN.finditer(_FENCE.sub("", text))]


def find_blocks(text: str, *languages: str) -> list[str]:
    """Return the fenced blocks in one of some languages."""
    return [found[2] for found in _FENCE.finditer(text) if found[1] in languages]


def find_commands(text: str) -> Iterator[list[str]]:
    """Yield our commands in blocks for the shell and in inline code, each split into words."""
    lines: list[str] = []
    for block in find_blocks(text, "sh", "bash", "console", "shell"):
        lines += block.replace("\\\n", " ").splitlines()
    for line in [*lines, *find_spans(text)]:
        for simple in re.split(r"&&|[|;>]|\$\(", line.strip().removeprefix("$ ")):
            try:
                words = shlex.split(simple, comments=True)
            except ValueError:
                continue  # the half of something quoted
            if words and words[0] in ("envboot", "render-userdata", "envboot-agent", "make"):
                yield words


def flatten(document: Any, at: str = "") -> set[str]:
    """Return the path of every member of a JSON document, as in `instances[].name`."""
    if isinstance(document, dict) and document:
        members = (flatten(value, f"{at}.{key}") for key, value in document.items())
        return set().union(*members)
    if isinstance(document, list):
        return set().union(*(flatten(value, f"{at}[]") for value in document))
    return {at.removeprefix(".")}


def compare(documented: Collection[str], seen: Collection[str]) -> tuple[list[str], list[str]]:
    """Return what was seen and is not documented, and what is documented and was not seen.

    In what is documented `<word>` stands for any one name, and a final `/` or `…` for whatever
    is below. A member that is null stands for all that are documented below it.
    """
    patterns = {text: _compile(text) for text in documented}
    matched: set[str] = set()
    unknown = []
    for name in sorted(seen):
        found = {text for text, pattern in patterns.items() if pattern.fullmatch(name)}
        matched |= found
        if not found and not any(text.startswith((f"{name}.", f"{name}[")) for text in patterns):
            unknown.append(name)
    return unknown, sorted(patterns.keys() - matched)


def _compile(text: str) -> re.Pattern[str]:
    word = "[^/]+" if "/" in text else r"[^.\[]+"
    pattern = re.sub("<[^>]+>", lambda _: word, re.escape(text))
    return re.compile(re.sub(r"(/|…)$", r"(?:/?.*)", pattern))
