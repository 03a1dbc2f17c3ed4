"""The tables of a README that the module itself knows: requirements, inputs, outputs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.terraform.hcl import Folder, show, unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

BEGIN, END = "<!-- made by tests/terraform/readme.py: begin -->\n", "<!-- end -->\n"


def replace_tables(text: str, folder: Folder) -> str:
    """Return a README with its tables anew; the marks must be there."""
    assert text.count(BEGIN) == text.count(END) == 1
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + "".join(_render(folder)) + END + after


def _render(folder: Folder) -> Iterator[str]:
    (block,) = folder.of("terraform")
    yield "### Requirements\n\n| | version |\n|---|---|\n"
    yield f"| Terraform | `{unquote(block.body['required_version'])}` |\n"
    (providers,) = block.body["required_providers"]
    for each in (each for name, each in providers.items() if name[:2] != "__"):
        yield f"| Provider `{unquote(each['source'])}` | `{unquote(each['version'])}` |\n"
    yield "\n### Inputs\n\n| input | | type | default |\n|---|---|---|---|\n"
    for each in folder.of("variable"):
        default = f"`{show(each.body['default'])}`" if "default" in each.body else "required"
        kind = show(each.body["type"])
        cells = (f"`{each.labels[0]}`", unquote(each.body["description"]), f"`{kind}`", default)
        yield _row(cells)
    yield "\n### Outputs\n\n| output | |\n|---|---|\n"
    for each in folder.of("output"):
        yield _row((f"`{each.labels[0]}`", unquote(each.body["description"])))


def _row(cells: tuple[str, ...]) -> str:
    escaped = (re.sub(r"\s+", " ", cell).replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |\n"
