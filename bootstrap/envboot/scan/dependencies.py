"""What needs what in an environment, as seen from the machines that it goes to. Pure."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from envboot.errors import UsageError, name_some
from envboot.platforms import MACHINES
from envboot.redaction import redact
from envboot.scan.schema import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from packaging.markers import Marker

    from envboot.scan.schema import CondaRecord, Distribution, Scan

_OLD = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)\s*(?P<extras>\[[^\]]*\])?\s*"
    r"(?P<versions>(?:\(?\s*['\"]?[<>=!~][^;@]*)?)\s*(?:;(?P<marker>.*))?"
)
# PEP 508's os_name, sys_platform and platform_system, by conda's name of the platform.
_SYSTEMS = {
    "linux": ("posix", "linux", "Linux"),
    "osx": ("posix", "darwin", "Darwin"),
    "win": ("nt", "win32", "Windows"),
}


def markers_of(platform: str, version: str) -> dict[str, str]:
    """Return PEP 508's variables for CPython of that version; what nobody knows is empty."""
    system, _, machine = platform.partition("-")
    os_name, sys_platform, platform_system = _SYSTEMS[system]
    return {
        "implementation_name": "cpython",
        "implementation_version": version,
        "os_name": os_name,
        "platform_machine": MACHINES.get(platform, machine),
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": platform_system,
        "platform_version": "",
        "python_full_version": version,
        "python_version": ".".join(version.split(".")[:2]),
        "sys_platform": sys_platform,
        "extra": "",
    }


def parse_added(texts: Iterable[str]) -> Mapping[str, Requirement]:
    """Read requirements of `--add` by normalised name; of one name the last counts.

    Raises:
        UsageError: naming everything that is no requirement, or that machines could not fetch.
    """
    texts = tuple(texts)
    wrong = [text for text in texts if not _can_fetch(_parse_strictly(text))]
    if wrong:
        raise UsageError(
            "Expected requirements to add, such as `cupy-cuda12x>=13`, "
            f"found {name_some(list(map(redact, wrong)))}",
            hint="A folder, a file or a git project is installed into the environment instead",
        )
    found = (item for item in map(_parse_strictly, texts) if item)
    return {canonicalize_name(item.name): item for item in found}


@cache
def _parse(text: str) -> Requirement | None:
    """Read a requirement of a distribution, of before PEP 508 too; None where it has no name."""
    return _parse_strictly(text) or _parse_old(text)


def _parse_strictly(text: str) -> Requirement | None:
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def _parse_old(text: str) -> Requirement | None:
    """Read what setuptools once took: `PyYAML (>=5.1.*)`, `six>=1<2`, `x (==1.0-final)`.

    Versions that still cannot be read allow any, and so does a marker: what such a requirement
    names is installed here, and is better sent for nothing than missing.
    """
    found = _OLD.fullmatch(text.strip())
    if not found:
        return None
    versions = _mend_versions(found["versions"])
    start = f"{found['name']}{found['extras'] or ''}"
    marker = f"; {found['marker']}" if found["marker"] else ""
    candidates = (f"{start}{versions}{marker}", f"{start}{marker}", start)
    return next((read for each in candidates if (read := _parse_strictly(each))), None)


def _mend_versions(text: str) -> str:
    """Return a list of versions as PEP 440 has it: no `.*` behind an order, commas between."""
    clauses = re.findall(r"([<>=!~]{1,3})\s*([^\s<>=!~,()'\"]+)", text)
    return ",".join(
        operator + (version if operator in ("==", "!=") else version.removesuffix(".*"))
        for operator, version in clauses
    )


def list_unreadable(item: Distribution) -> list[str]:
    """Return the requirements of a distribution that name no package."""
    return [text for text in item.requires if _parse(text) is None]


def _can_fetch(item: Requirement | None) -> bool:
    """Say whether there is a requirement, of what an index has or stands at a web address."""
    return item is not None and (item.url is None or item.url.startswith(("http://", "https://")))


def read_marker(text: str) -> Marker | None:
    """Read a marker; None for an empty one, and one that cannot be read, which allow all."""
    from packaging.markers import InvalidMarker, Marker

    try:
        return Marker(text) if text else None
    except InvalidMarker:
        return None


def is_active(marker: Marker | None, markers: Mapping[str, str]) -> bool:
    """Say whether a requirement counts where these are the variables."""
    return marker is None or marker.evaluate(dict(markers))


def requirements_of(
    item: Distribution, *environments: Mapping[str, str]
) -> Iterator[tuple[str, Requirement]]:
    """Return normalised name and requirement of what counts in all of these environments."""
    for text in item.requires:
        found = _parse(text)
        if found and all(is_active(found.marker, markers) for markers in environments):
            yield canonicalize_name(found.name), found


def depends_of(record: CondaRecord) -> Iterator[tuple[str, str]]:
    """Return normalised name and whole text of what a conda record depends on.

    Virtual packages (`__glibc`) are the machine's.
    """
    for text in record.depends:
        name = re.split(r"[\s=<>!~\[]", text.strip(), maxsplit=1)[0].rpartition("::")[2]
        if not name.startswith("__"):
            yield canonicalize_name(name), text


def find_needed(scan: Scan, names: Iterable[str], markers: Mapping[str, str]) -> set[str]:
    """Return these packages, the interpreter, and all that they need, directly or not."""
    records = {str(canonicalize_name(record.name)): record for record in scan.conda}
    distributions: dict[str, list[Distribution]] = {}
    of_conda: dict[str, list[str]] = {}
    for item in scan.distributions:
        distributions.setdefault(item.name, []).append(item)
        if item.conda:
            of_conda.setdefault(canonicalize_name(item.conda), []).append(item.name)
    found: set[str] = set()
    waiting = ["python", *names]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        for item in distributions.get(name, ()):
            waiting += [needed for needed, _ in requirements_of(item, markers)]
            waiting += [canonicalize_name(item.conda)] if item.conda else []
        if name in records:
            waiting += [needed for needed, _ in depends_of(records[name])]
            waiting += of_conda.get(name, ())
    return found


def find_extras(scan: Scan, markers: Mapping[str, str]) -> dict[str, list[str]]:
    """Return who needs a package with an extra, by `name[extra]`.

    What an extra brings is not in the scan: metadata lists it for every extra there is.
    """
    found: dict[str, list[str]] = {}
    for item in scan.distributions:
        for name, requirement in requirements_of(item, markers):
            if requirement.extras and not item.conda:
                text = f"{name}[{','.join(sorted(requirement.extras))}]"
                found.setdefault(text, []).append(item.name)
    return found


def find_conflicts(
    scan: Scan,
    *,
    dropped: Mapping[str, str],
    added: Iterable[str],
    here: Mapping[str, str],
    there: Mapping[str, str],
) -> Iterator[Problem]:
    """Say which packages lack something that they need, or have another version than they need.

    `dropped` says by normalised name why a package of the environment stays behind; an empty
    reason is not worth a word. `here` and `there` are the variables of both platforms: what is
    needed on the other one only comes with the lock. The files of a distribution of conda's are
    judged by conda's record, and by its own requirements where pip changed what it needs.
    """
    # Of two with one name Python finds the first.
    versions = {item.name: item for item in reversed(scan.distributions)}
    known = {*versions, *(canonicalize_name(record.name) for record in scan.conda)}
    coming = set(added)
    for item in scan.distributions:
        pythons = _read_specifiers(item.requires_python or "")
        if not _contains(pythons, there["python_full_version"]):
            message = f"Needs Python `{pythons}`, found {there['python_full_version']}"
            yield Problem(subject=item.name, message=message)
        for name, requirement in requirements_of(item, here, there):
            other = versions.get(name)
            if name in coming or (item.conda and (other is None or other.conda)):
                continue
            if other is None and name not in known:
                yield from _report_missing(item.name, name, describe(requirement), dropped)
            elif other and not _contains(requirement.specifier, other.version):
                message = f"Needs `{describe(requirement)}`, found {other.version}"
                yield Problem(subject=item.name, message=message)
    for record in scan.conda:
        for name, text in depends_of(record):
            if name not in known and name not in coming:
                yield from _report_missing(record.name, name, text, dropped)


def describe(requirement: Requirement) -> str:
    """Return name and versions, without marker and extras."""
    return f"{requirement.name}{requirement.specifier}"


def _report_missing(by: str, name: str, text: str, dropped: Mapping[str, str]) -> Iterator[Problem]:
    reason = dropped.get(name)
    if reason is None:
        yield Problem(subject=by, message=f"Needs `{text}`, which is not installed")
    elif reason:
        yield Problem(subject=by, message=f"Needs `{name}`, which stays here ({reason})")


@cache
def _read_specifiers(text: str) -> SpecifierSet:
    """Read which versions are wanted; what cannot be read wants any."""
    try:
        return SpecifierSet(text)
    except InvalidSpecifier:
        return SpecifierSet()


def _contains(wanted: SpecifierSet, version: str) -> bool:
    """Say whether a version is among those wanted; one that cannot be read is believed."""
    try:
        return wanted.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return True
