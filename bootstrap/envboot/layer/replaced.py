"""Whether a wheel of the layer is what is installed here: what was built since may differ."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

from packaging.utils import parse_wheel_filename
from packaging.version import InvalidVersion, Version

from envboot.errors import name_some
from envboot.layer.binaries import is_native
from envboot.scan.installed import Replaced, find_installed, find_recorded_hash, hash_row

if TYPE_CHECKING:
    from pathlib import Path

    from envboot.scan.installed import RecordDifference
    from envboot.scan.schema import Distribution

_LISTED = 3


def find_replaced(
    wheel: Path, item: Distribution, *, sha256: str | None, native: bool
) -> Replaced | None:
    """Compare a wheel with the distribution that it stands for; None where they are the same.

    `sha256` is the wheel's own where it was installed as a file, None where it was built here.
    Without `native` compiled files do not count: they are another platform's.
    """
    _, version, *_ = parse_wheel_filename(wheel.name)
    reasons = []
    if not _is_same(item.version, version):
        reasons.append(f"{item.version} is installed, and its project builds {version}")
    recorded = find_recorded_hash(item)
    if sha256 and recorded and recorded != sha256:
        reasons.append(f"`{wheel.name}` has been replaced since its installation")
    installed = find_installed(item)
    if installed:
        found = installed.compare_build(hash_wheel(wheel), editable=item.editable)
        reasons += _describe(found, native=native)
    if not reasons:
        return None
    return Replaced(name=item.name, version=str(version), reason="; ".join(reasons))


def hash_wheel(wheel: Path) -> dict[str, str]:
    """Return a wheel's files with their hashes, as a RECORD that is right would have them."""
    with zipfile.ZipFile(wheel) as archive:
        rows = {}
        for member in archive.infolist():
            if not member.is_dir():
                with archive.open(member) as stream:
                    chunks = iter(lambda stream=stream: stream.read(1 << 20), b"")  # type: ignore[misc]
                    rows[member.filename] = hash_row(chunks)
    return rows


def _is_same(here: str, there: Version) -> bool:
    try:
        return Version(here) == there
    except InvalidVersion:
        return here == str(there)


def _describe(found: RecordDifference, *, native: bool) -> list[str]:
    """Say what differs. Compilers seldom write the same file twice, so that is told apart."""
    compiled = [path for path in found.paths if is_native(path)]
    rest = [path for path in found.paths if path not in compiled]
    reasons = []
    if rest:
        reasons.append(found.describe(rest))
    elif compiled and native:
        reasons.append(f"{name_some(compiled, most=_LISTED)} was compiled again")
    return reasons
