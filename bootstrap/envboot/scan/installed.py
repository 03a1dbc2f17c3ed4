"""The files of an installed distribution, compared with those of a wheel.

RECORD is PyPA's "Recording installed projects"; where a wheel's files go is PEP 427's.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from envboot.errors import name_some
from envboot.scan.schema import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from envboot.scan.schema import Distribution

# Installers write these themselves: they are in no wheel, or another each time.
_WRITTEN = frozenset(
    {
        "RECORD", "RECORD.jws", "RECORD.p7s", "INSTALLER", "REQUESTED", "direct_url.json",
        "uv_build.json", "uv_cache.json",
    }
)  # fmt: skip
_INFO = re.compile(r"^[^/]+\.dist-info/")
_DATA = re.compile(r"^[^/]+\.data/(purelib|platlib|data)/(.+)$")
_OTHER_DATA = re.compile(r"^[^/]+\.data/")
# How installed scripts and data are named in RECORD, as seen from site-packages.
_PREFIX = "../../../"
_LISTED = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordDifference:
    """Paths below site-packages: with another content, not installed, and not in the wheel."""

    changed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()

    @property
    def paths(self) -> list[str]:
        """Every path that differs."""
        return sorted({*self.changed, *self.added, *self.lacking})

    def describe(self, paths: list[str]) -> str:
        """Say which of these paths differ."""
        names = [path.removeprefix(".dist-info/").removeprefix(_PREFIX) for path in paths]
        verb = "differs" if len(names) == 1 else "differ"
        return f"{name_some(names, most=_LISTED)} {verb} from what is installed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Installed:
    """A distribution in site-packages: its RECORD, by path, with the hash (`sha256=…`) or "".

    Paths of its metadata begin with `.dist-info/`, whatever the folder's whole name is.
    """

    site: Path
    info: str
    rows: Mapping[str, str]

    def compare_record(self, rows: Mapping[str, str]) -> RecordDifference:
        """Compare with the RECORD of a wheel, path by path, metadata included.

        A file that either RECORD has no hash of is hashed on the disk, or passed over.
        """
        return self._compare(place_rows(rows), self.rows)

    def compare_build(self, rows: Mapping[str, str], *, editable: bool = False) -> RecordDifference:
        """Compare the files on the disk with those of a wheel that was built here.

        Of metadata only entry points count: the rest has the version of the build's tools in it.
        Nothing but entry points of an editable distribution is in site-packages.
        """
        wheel = {path: row for path, row in place_rows(rows).items() if _counts(path)}
        here = {path: "" for path in self.rows if _counts(path)}
        if editable:
            wheel = {path: row for path, row in wheel.items() if _INFO.match("x" + path)}
            here = {path: row for path, row in here.items() if _INFO.match("x" + path)}
        return self._compare(wheel, here)

    def _compare(self, wheel: Mapping[str, str], here: Mapping[str, str]) -> RecordDifference:
        here = {path: row for path, row in here.items() if not _is_written(path)}
        changed = [
            path
            for path, row in wheel.items()
            if path in here and row and not self._agrees(path, here[path], row)
        ]
        # Where a script or a data file is recorded differs between installers.
        added = [path for path in wheel.keys() - here.keys() if not path.startswith("../")]
        lacking = [path for path in here.keys() - wheel.keys() if not path.startswith("../")]
        return RecordDifference(
            changed=tuple(sorted(changed)),
            added=tuple(sorted(added)),
            lacking=tuple(sorted(lacking)),
        )

    def _agrees(self, path: str, known: str, wanted: str) -> bool:
        algorithm = wanted.partition("=")[0]
        if known.partition("=")[0] != algorithm:
            known = self._hash(path, algorithm)
        return known == wanted

    def _hash(self, path: str, algorithm: str) -> str:
        """Hash a file on the disk; "" where it cannot be read, or nobody knows the algorithm."""
        file = self.site / (self.info + path[len(".dist-info") :] if _is_info(path) else path)
        try:
            with open(file, "rb") as stream:
                return hash_row(iter(lambda: stream.read(1 << 20), b""), algorithm)
        except (OSError, ValueError):
            return ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Replaced:
    """A package that machines get in another form than is installed: its version there, and how."""

    name: str
    version: str
    reason: str


def note_replaced(replaced: Iterable[Replaced]) -> tuple[Problem, ...]:
    """Say what machines get in another form."""
    return tuple(
        Problem(subject=each.name, message=f"Differs from what is installed: {each.reason}")
        for each in replaced
    )


def find_recorded_hash(item: Distribution) -> str | None:
    """Return the sha256 of the archive that a distribution came from (PEP 610), if it is known."""
    archive: dict[str, Any] = (item.direct_url or {}).get("archive_info") or {}
    hashes = archive.get("hashes")
    found = hashes.get("sha256") if isinstance(hashes, dict) else None
    # `hash` is older, and installers still write it.
    name, _, value = str(archive.get("hash", "")).partition("=")
    found = found or (value if name == "sha256" else None)
    return found.lower() if isinstance(found, str) else None


def find_installed(item: Distribution) -> Installed | None:
    """Read the RECORD of a distribution; None where it has none."""
    site = Path(item.location)
    named = [
        (version != item.version, entry)
        for entry in site.glob("*.dist-info")
        for name, _, version in [entry.name.removesuffix(".dist-info").partition("-")]
        if canonicalize_name(name) == item.name
    ]
    for _, entry in sorted(named):
        try:
            text = (entry / "RECORD").read_text("utf-8", "surrogateescape")
        except OSError:
            continue
        return Installed(site=site, info=entry.name, rows=_shorten(read_rows(text)))
    return None


def read_rows(text: str) -> dict[str, str]:
    """Read a RECORD: paths with their hashes, "" where it states none."""
    try:
        rows = [row for row in csv.reader(text.splitlines()) if row and row[0]]
    except csv.Error:
        return {}
    return {row[0]: row[1] if len(row) > 1 else "" for row in rows}


def hash_row(chunks: Iterable[bytes], algorithm: str = "sha256") -> str:
    """Return a hash as RECORD writes it; raises ValueError for an unknown algorithm."""
    total = hashlib.new(algorithm, usedforsecurity=False)
    for chunk in chunks:
        total.update(chunk)
    return f"{algorithm}=" + base64.urlsafe_b64encode(total.digest()).decode().rstrip("=")


def place_rows(rows: Mapping[str, str]) -> dict[str, str]:
    """Return the rows of a wheel's RECORD by where its files are installed.

    Scripts are left out, since installers rewrite them, and headers, which pip puts elsewhere.
    """
    placed = {}
    for path, row in rows.items():
        data = _DATA.match(path)
        if data:
            placed[(_PREFIX if data[1] == "data" else "") + data[2]] = row
        elif not _OTHER_DATA.match(path):
            placed[path] = row
    return {path: row for path, row in _shorten(placed).items() if not _is_written(path)}


def _shorten(rows: Mapping[str, str]) -> dict[str, str]:
    return {_INFO.sub(".dist-info/", path): row for path, row in rows.items()}


def _is_info(path: str) -> bool:
    return path.startswith(".dist-info/")


def _is_written(path: str) -> bool:
    """Whether an installer wrote a file, or Python did."""
    if path.endswith(".pyc") or path.startswith("/"):
        return True
    return _is_info(path) and path.partition("/")[2] in _WRITTEN


def _counts(path: str) -> bool:
    return not _is_info(path) or path == ".dist-info/entry_points.txt"
