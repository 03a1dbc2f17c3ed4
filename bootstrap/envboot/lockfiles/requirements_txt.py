"""`requirements.txt` with hashes: uv finds the files, the hashes say which ones may come."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.pylock import Package
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from envboot.lockfiles.compile import Requirements, compile_kept
from envboot.lockfiles.content import Content, LockFileRequest, refuse, refuse_names
from envboot.lockfiles.interpreters import choose_python
from envboot.lockfiles.pylock import parse_pylock

if TYPE_CHECKING:
    from collections.abc import Iterator

_COMMENT = re.compile(r"(^|\s)#.*$")
_HASH = re.compile(r"\s--hash[= ]\s*(\w+):([0-9a-fA-F]+)")
_INCLUDE = re.compile(r"(?:-r|--requirement)[= ]?\s*(.+)")
_DIRECT = re.compile(r"@\s*(git\+|file:|\.|/)|^(git\+|file:|\.{0,2}/)")


def read_requirements(request: LockFileRequest) -> Content:
    """Read requirements that are pinned with hashes, local and git ones aside.

    Raises:
        LockError: naming every requirement without a hash, or without a file that has it.
    """
    if request.names:
        refuse_names(request, request.names, [])
    lines, hashes = _read_file(request, request.file, request.text, ())
    python = choose_python(request)
    text = compile_kept(
        Requirements(lines=lines, file=request.file, alone=True),
        request.session,
        target=request.target,
        version=python.version,
        prefix=Path(request.interpreter.prefix),
        fresh=request.fresh,
    )
    packages, wrong = [], []
    for package in parse_pylock(request, text).packages:
        wanted = hashes.get(package.name)
        kept = package if wanted is None else _keep(package, wanted)
        if kept:
            packages.append(kept)
        else:
            wrong.append(f"`{package.name}`: no file for the target has one of its hashes")
    if wrong:
        refuse(request, *wrong, hint="Lock again with `uv pip compile --generate-hashes`")
    return Content(python=python, packages=packages)


def _keep(package: Package, wanted: set[str]) -> Package | None:
    """Return a package with only the files that have one of the hashes."""
    if package.is_direct:
        archive = package.archive
        return package if not archive or archive.hashes.get("sha256") in wanted else None
    wheels = [file for file in package.wheels or () if file.hashes.get("sha256") in wanted]
    sdist = package.sdist
    if sdist and sdist.hashes.get("sha256") not in wanted:
        sdist = None
    if not (wheels or sdist):
        return None
    return Package(name=package.name, version=package.version, wheels=wheels, sdist=sdist)


def _read_file(
    request: LockFileRequest, file: Path, text: str, above: tuple[Path, ...]
) -> tuple[list[str], dict[str, set[str]]]:
    """Return lines without hashes and files that they include, and every sha256 by name."""
    lines: list[str] = []
    hashes: dict[str, set[str]] = {}
    offenders = []
    for number, line in _logical_lines(text):
        include = _INCLUDE.fullmatch(line)
        if include:
            where = f"Line {number} of `{file}`"
            other = file.parent / include[1].strip()
            if other in (*above, file):
                refuse(request, f"{where} includes `{other}` once more")
            try:
                inner = other.read_text("utf-8-sig")
            except (OSError, ValueError) as error:
                refuse(request, f"{where} includes `{other}`: {error}")
            more, found = _read_file(request, other, inner, (*above, file))
            lines += more
            for name, values in found.items():
                hashes.setdefault(name, set()).update(values)
            continue
        clean = _HASH.sub("", line).strip()
        lines.append(clean)
        if clean.startswith("-") or _DIRECT.search(clean):
            continue
        try:
            name = canonicalize_name(Requirement(clean).name)
        except InvalidRequirement as error:
            reason = str(error).partition("\n")[0]
            refuse(
                request,
                f"Line {number} of `{file}`: expected a requirement, found `{clean:.80}`: {reason}",
            )
        sha256 = {value.lower() for kind, value in _HASH.findall(line) if kind == "sha256"}
        if not sha256:
            offenders.append(name)
        hashes.setdefault(name, set()).update(sha256)
    if offenders:
        refuse(
            request,
            *(f"`{name}` has no sha256" for name in offenders),
            hint="Lock it with `uv pip compile --generate-hashes`",
        )
    return lines, hashes


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield lines as pip joins them: without comments, with the number of the first one."""
    joined, start = "", 1
    for number, line in enumerate(text.splitlines(), 1):
        start = start if joined else number
        if line.endswith("\\") and not line.lstrip().startswith("#"):
            joined += line[:-1] + " "
            continue
        found = _COMMENT.sub("", joined + line).strip()
        joined = ""
        if found:
            yield start, found
    if joined.strip():
        yield start, joined.strip()
