"""What may differ between an environment and its copy on a machine, and why; all else may not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Allowed:
    """A pattern of differences, as `compare` names them, in a user's words, and the reason."""

    pattern: str
    what: str
    reason: str


_INFO = r"files: site/[^/]+\.dist-info/"
_CHANGE = r" (differs|is new|is missing)"
ALLOWED = (
    Allowed(
        pattern=rf"{_INFO}(INSTALLER|RECORD|REQUESTED|uv_build\.json|uv_cache\.json){_CHANGE}",
        what="`INSTALLER`, `RECORD`, `REQUESTED`, `uv_*.json` of a distribution",
        reason="An installer's own notes: uv and envboot install on the machine",
    ),
    Allowed(
        pattern=rf"{_INFO}direct_url\.json{_CHANGE}",
        what="`direct_url.json` of a distribution",
        reason="A folder of the client means nothing on the machine; a wheel that is not from "
        "PyPI is fetched by its URL",
    ),
    Allowed(
        pattern=rf"{_INFO}WHEEL differs",
        what="`WHEEL` of an editable project",
        reason="The project is built as a plain wheel, not as an editable one",
    ),
    Allowed(
        pattern=r"(files: site/|modules: )__editable__[^/]+ is missing",
        what="Links of editable projects (`__editable__*`, `.pth`)",
        reason="The project itself is there in their place",
    ),
    Allowed(
        pattern=rf"files: bin/((de)?[Aa]ctivate[^/]*|python[^/]*|pydoc\.bat){_CHANGE}",
        what="`activate` scripts and links to the interpreter",
        reason="Every tool writes its own; those of the machine are uv's",
    ),
    Allowed(
        pattern=rf"files: (pyvenv\.cfg|\.gitignore|\.lock|\.project|CACHEDIR\.TAG){_CHANGE}",
        what="`pyvenv.cfg`, `.lock`, `.project`, `.gitignore`, `CACHEDIR.TAG` of the prefix",
        reason="What the tool that made the environment keeps for itself",
    ),
    Allowed(
        pattern=r"files: src/.+ is missing",
        what="Clones of git repositories in `src` of the prefix",
        reason="poetry keeps them; what is installed of them is compared",
    ),
    Allowed(
        pattern=rf"(files: site/|modules: )_virtualenv(\.py|\.pth)?{_CHANGE}"
        rf"|files: site/[^/]+\.virtualenv{_CHANGE}|files: bin/(pip|wheel)-?3?[.\d]*{_CHANGE}",
        what="`_virtualenv.*`, `*.virtualenv`, and pip under more names than its metadata has",
        reason="What virtualenv and uv add to the environments that they make",
    ),
    Allowed(
        pattern=r"files: lib/envboot/layer\.txt is new",
        what="`lib/envboot/layer.txt`",
        reason="Which files your own code brought: `envboot sync` replaces these",
    ),
)
BYTE_CODE = Allowed(
    pattern="",
    what="Byte code, `conda-meta`, the place of the prefix inside files, `#!` lines",
    reason="Compiled and written for the machine's prefix; not compared",
)
SCRIPTS = Allowed(
    pattern="",
    what="The few lines of a script that an entry point names",
    reason="Every installer has its own; that the script is there is compared",
)


def compare(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """Return every difference that is not allowed: `there` is the original, `here` the copy."""
    found = []
    if there["python"] != here["python"]:
        found.append(f"python: {there['python']} became {here['python']}")
    for kind in ("modules", "versions", "files"):
        one, other = there[kind], here[kind]
        found += [f"{kind}: {name} is missing" for name in sorted(one.keys() - other.keys())]
        found += [f"{kind}: {name} is new" for name in sorted(other.keys() - one.keys())]
        both = sorted(one.keys() & other.keys())
        found += [f"{kind}: {name} differs" for name in both if one[name] != other[name]]
    points = [{tuple(point) for point in each["entry_points"]} for each in (there, here)]
    found += [f"entry point: {'/'.join(point)} is missing" for point in points[0] - points[1]]
    found += [f"entry point: {'/'.join(point)} is new" for point in points[1] - points[0]]
    scripts = {f"files: bin/{point[1]} differs" for point in points[0] if "scripts" in point[0]}
    patterns = [each.pattern for each in ALLOWED]
    return sorted(
        line
        for line in set(found) - scripts
        if not any(re.fullmatch(pattern, line) for pattern in patterns)
    )
