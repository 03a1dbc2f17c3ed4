"""Parts of a MIME user-data document, as cloud-init reads them. Pure."""

from __future__ import annotations

import quopri
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import yaml

from envboot.errors import RenderError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# cloudinit/handlers/__init__.py: what a part begins with, the longest first.
PREFIXES = {
    "## template: jinja": "text/jinja2",
    "#cloud-config-archive": "text/cloud-config-archive",
    "#cloud-config-jsonp": "text/cloud-config-jsonp",
    "#cloud-boothook": "text/cloud-boothook",
    "#cloud-config": "text/cloud-config",
    "#include-once": "text/x-include-once-url",
    "#part-handler": "text/part-handler",
    "#include": "text/x-include-url",
    "#!": "text/x-shellscript",
}
TYPES = (
    *PREFIXES.values(),
    "text/x-shellscript-per-boot",
    "text/x-shellscript-per-instance",
    "text/x-shellscript-per-once",
)
# By default a later part's `runcmd` or `write_files` replaces an earlier one's
# (cloudinit/handlers/cloud_config.py). `recurse_list` is what sends lists to `append`.
MERGE = "list(append)+dict(no_replace,recurse_list)+str()"
_OWN_MERGE = re.compile(r"""^["']?merge_(how|type)["']?\s*:""", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One part: its file name, MIME type (`text/…`) and text; `merge` is a `Merge-Type`."""

    name: str
    type: str
    text: str
    merge: str | None = None


def parse_part(name: str, data: bytes, *, type: str | None = None) -> Part:  # noqa: A002
    """Read a user's part; without `type`, what it begins with tells, as in cloud-init.

    A cloud-config that states no merge rule of its own is given one that keeps the lists of
    the parts before it.

    Raises:
        RenderError: the type is unknown, or cloud-init could not read the part.
    """
    if data[:2] == b"\x1f\x8b":
        raise RenderError(f"Cannot add `{name}`, which is gzip", hint="Decompress it first")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise RenderError(f"Expected `{name}` in UTF-8", causes=(str(error),)) from error
    if type is not None and type not in TYPES:
        known = ", ".join(f"`{known.partition('/')[2]}`" for known in TYPES)
        raise RenderError(f"Expected a type of part, found `{type}`", hint=f"Known are {known}")
    if type is None:
        type = _find_type(name, text)  # noqa: A001
    part = Part(name=_clean(name), type=type, text=text)
    return replace(part, merge=MERGE) if _want_merge(part) else part


def _find_type(name: str, text: str) -> str:
    start = text.lstrip().lower()
    for prefix, found in PREFIXES.items():
        if start.startswith(prefix):
            return found
    if re.match(r"(content-type|mime-version|from )", start):
        hint = "Give each of its parts with a `--part` of its own"
        raise RenderError(f"Cannot add `{name}`, which is a MIME document itself", hint=hint)
    first = text.strip().partition("\n")[0]
    raise RenderError(
        f"Cannot tell what `{name}` is: it begins with `{first:.40}`",
        hint="Begin it with `#cloud-config`, `#!` or `#cloud-boothook`, or say what it is: "
        f"`--part cloud-config:{name}`",
    )


def _want_merge(part: Part) -> bool:
    if part.type == "text/jinja2":
        return not _OWN_MERGE.search(part.text)
    if part.type != "text/cloud-config":
        return False
    try:
        config = yaml.safe_load(part.text)
    except yaml.YAMLError as error:
        raise RenderError(f"Cannot read `{part.name}` as YAML", causes=(str(error),)) from error
    if not isinstance(config, dict):
        found = type(config).__name__
        raise RenderError(f"Expected a mapping in `{part.name}`, found a {found}")
    return not {"merge_how", "merge_type"} & config.keys()


def _clean(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", name.rpartition("/")[2]) or "part"


def render_mime(parts: Sequence[Part]) -> list[tuple[str, str]]:
    """Return the document in pieces: the name of a part, or `` for the frame, and text.

    Joined, the pieces are a multipart document in ASCII. Two scripts of one name would be one
    file to cloud-init, so that the second is given a number.
    """
    boundary = "envboot"
    while any(f"--{boundary}" in part.text for part in parts):
        boundary += "-"
    pieces = [("", f'Content-Type: multipart/mixed; boundary="{boundary}"\nMIME-Version: 1.0\n')]
    for part in _with_unique_names(parts):
        header, body = _render_part(part)
        pieces += [("", f"\n--{boundary}\n{header}\n"), (part.name, body)]
    return [*pieces, ("", f"\n--{boundary}--\n")]


def _with_unique_names(parts: Sequence[Part]) -> Iterator[Part]:
    seen: set[str] = set()
    for part in parts:
        stem, dot, suffix = part.name.rpartition(".")
        name, number = part.name, 1
        while name in seen:
            number += 1
            name = f"{stem}-{number}{dot}{suffix}" if stem else f"{part.name}-{number}"
        seen.add(name)
        yield replace(part, name=name)


def _render_part(part: Part) -> tuple[str, str]:
    # cloud-init parses the document as text, which damages 8bit bodies: anything beyond
    # ASCII goes as quoted-printable, which gzip packs better than base64.
    encoding, body = "7bit", part.text
    if not (body.isascii() and "\r" not in body):
        encoding = "quoted-printable"
        body = quopri.encodestring(part.text.encode()).decode("ascii")
    lines = [
        f'Content-Type: {part.type}; charset="utf-8"',
        f"Content-Transfer-Encoding: {encoding}",
        f'Content-Disposition: attachment; filename="{part.name}"',
    ]
    if part.merge:
        lines.append(f"Merge-Type: {part.merge}")
    return "".join(f"{line}\n" for line in lines), body
