"""The distributions of each folder on the path, and which of several is on the disk."""

from __future__ import annotations

import os
import re
import sysconfig

from .added import find_added
from .found import SITES, Environment, Owner, find, is_name, normalise, read
from .health import check, disagreement, find_time, judge
from .origins import editable_url, find_project, link_target, parse_direct_url, read_lines
from .strays import (
    declared_names,
    explain,
    find_strays,
    guess_names,
    report_pth_files,
    report_start_up,
    top_names,
)

TYPE_CHECKING = False  # `typing` takes 3 ms to import.
if TYPE_CHECKING:
    from typing import Any

_HEADERS = frozenset(("name", "version", "requires-dist", "requires-python"))
_BLANK = re.compile(rb"\n\r?\n")
_TAG = re.compile(rb"^tag:[ \t]*(\S+)", re.I | re.M)
_EXTRA = re.compile(r";(?!.*\bor\b).*\bextra\s*[=!]=")  # With an `or` it may hold without.


class Candidate:
    """One metadata folder or file that says that a distribution is installed."""

    __slots__ = ("entry", "headers", "name", "owner", "record", "version")

    def __init__(self, entry: str, headers: dict[str, list[str]], record: bytes | None) -> None:
        self.owner: Owner | None = None
        self.entry = entry
        self.headers = headers
        self.name = normalise(headers["name"][0])
        self.version = headers["version"][0]
        self.record = record


def scan_folder(found: Environment, folder: str) -> None:
    """Add the distributions of one folder of `sys.path`, unless an earlier one has them.

    What else lies in a site-packages is kept too: it may be somebody's own code.
    """
    try:
        entries = sorted(os.listdir(folder))
        os.chdir(folder)  # Short paths: RECORD's rows are relative to here.
    except OSError as error:
        found.report(folder, "Cannot be listed: %s" % error.strerror)
        return
    real = os.path.realpath(folder)
    installed = os.path.basename(folder) in SITES
    # Only installers write to site-packages; elsewhere an `.egg-info` is left by a build.
    endings: tuple[str, ...] = (".dist-info",)
    if installed:
        endings += (".egg-info", ".egg-link")
    candidates: dict[str, list[Candidate]] = {}
    for entry in entries:
        if not entry.endswith(endings) or entry.startswith("~"):  # `~`: half removed by pip
            continue
        try:
            candidate = read_candidate(entry)
            candidate.owner = found.owners.get(os.path.join(real, entry))
            candidates.setdefault(candidate.name, []).append(candidate)
        except Exception as error:
            found.report(os.path.join(folder, entry), "Cannot be read: %s" % error)
    new = [name for name in sorted(candidates) if name not in found.distributions]
    checked = [
        each for name in new for each in candidates[name] if is_checked(each.owner, each.record)
    ]
    collect = check([(each.record or b"", find_time(each.entry + "/RECORD")) for each in checked])
    chosen: dict[Candidate, dict[str, Any]] = {}
    for name in new:
        try:
            candidate = choose(found, candidates[name])
            found.distributions[name] = describe(found, folder, candidate)
            chosen[candidate] = found.distributions[name]
        except Exception as error:
            found.report(name, "Cannot be read: %s" % error)
    for number, wrong in enumerate(collect()):
        document = chosen.get(checked[number])
        if wrong and document and not document.get("system"):
            judge(found, document, wrong)
    gone = set(found.owners) - {os.path.join(real, entry) for entry in entries}
    for path in sorted(path for path in gone if os.path.dirname(path) == real):
        message = "Its `%s` has been removed or replaced since conda installed it"
        found.report(found.owners[path].package, message % os.path.basename(path))
    strays: list[str] = []
    if installed and not is_distros(folder):
        every = [each for several in candidates.values() for each in several]
        explained: set[str] = set()
        explained.update(*(explain(each.entry, each.name, each.record) for each in every))
        records = [each.record for each in every if each.record]
        found.records += [(real, record) for record in records]
        report_pth_files(found, folder, entries)
        strays = find_strays(found, entries, explained, records)
        strays = report_start_up(found, folder, strays)
        unlisted = [each for each in every if each.record is None]
        added = find_added(
            found,
            [(each.name, each.record) for each in every if each.record is not None],
            {name for each in unlisted for name in explain(each.entry, each.name, None)},
            is_purelib=real == os.path.realpath(sysconfig.get_paths()["purelib"]),
        )
        strays += added.pop("", [])
        for name, paths in added.items():
            if name in found.distributions:
                found.distributions[name]["added"] = sorted(paths)
    found.folders.append({"folder": folder, "installed": installed, "strays": strays})


def is_checked(owner: Owner | None, record: bytes | None) -> bool:
    """Return whether the files of a distribution should be as its RECORD says.

    conda writes the prefix into the files that it owns.
    """
    return record is not None and (owner is None or is_overwritten(owner, record))


def is_overwritten(owner: Owner, record: bytes | None) -> bool:
    """Return whether something else has installed over a conda package."""
    return owner.size not in (None, None if record is None else len(record))


def is_distros(folder: str) -> bool:
    """Return whether only the operating system's package manager writes to a folder."""
    return folder.startswith("/usr/lib") and folder.endswith(SITES)


def read_candidate(entry: str) -> Candidate:
    """Read a distribution's name and version from the headers of its metadata."""
    path = entry
    record: bytes | None = None
    if entry.endswith(".egg-link"):
        project = link_target(entry)
        if not os.path.isdir(project):
            raise ValueError("its project `%s` is gone" % project)
        wanted = normalise(entry[: -len(".egg-link")])
        built = {
            normalise(name[:-9]): name for name in os.listdir(project) if name[-9:] == ".egg-info"
        }
        path = os.path.join(project, built.get(wanted, wanted + ".egg-info"))
    if entry.endswith(".dist-info"):
        path += "/METADATA"
        record = find(entry + "/RECORD")
    elif os.path.isdir(path):
        path += "/PKG-INFO"
    headers = read_headers(read(path))
    if not ("name" in headers and "version" in headers):
        raise ValueError("its metadata has no name or no version")
    if not is_name(normalise(headers["name"][0])):
        raise ValueError("PEP 508 does not allow the name `%s`" % headers["name"][0])
    return Candidate(entry, headers, record)


def read_headers(data: bytes) -> dict[str, list[str]]:
    """Return the headers that matter, by their names in lower case; the body is not read."""
    found: dict[str, list[str]] = {}
    blank = _BLANK.search(data)
    headers = data[: blank.start() if blank else None].decode("utf-8", "replace")
    for line in headers.split("\n"):
        name, _, value = line.partition(":")
        name = name.lower()
        if name in _HEADERS and value.strip():
            found.setdefault(name, []).append(value.strip())
    return found


def choose(found: Environment, candidates: list[Candidate]) -> Candidate:
    """Return the one whose RECORD agrees best with the disk; ties go to the latest."""
    if len(candidates) == 1:
        return candidates[0]
    ranked = sorted(
        candidates,
        key=lambda each: (*disagreement(each.record), -os.stat(each.entry).st_mtime),
    )
    if len({candidate.version for candidate in candidates}) > 1:
        names = ", ".join("`%s`" % candidate.entry for candidate in candidates)
        message = "Installed more than once: %s; `%s` agrees with the disk best"
        found.report(candidates[0].name, message % (names, ranked[0].entry))
    return ranked[0]


def describe(found: Environment, folder: str, candidate: Candidate) -> dict[str, Any]:
    """Return the members of `Distribution`, its RECORD being taken for right if there is one."""
    entry, name, record = candidate.entry, candidate.name, candidate.record
    document: dict[str, Any] = {"name": name, "version": candidate.version, "location": folder}
    needs = find_requirements(candidate)
    if needs:
        document["requires"] = needs
    if "requires-python" in candidate.headers:
        document["requires_python"] = candidate.headers["requires-python"][0]
    if entry.endswith(".egg-link"):
        document.update(editable=True, record="missing")
        document["direct_url"] = editable_url(link_target(entry))
        found.provided[name] = guess_names(name)
        return document
    installer = find(entry + "/INSTALLER")
    if installer and installer.strip():
        document["installer"] = installer.decode("utf-8", "replace").split()[0]
    tags = _TAG.findall(find(entry + "/WHEEL") or b"")
    document["tags"] = [tag.decode("utf-8", "replace") for tag in tags]
    owner = candidate.owner
    if owner and is_overwritten(owner, record):
        message = "Its files have been overwritten by `%s`"
        found.report(owner.package, message % document.get("installer", "another installer"))
        owner = None
    if not owner and record:
        disk = sum_sizes(record)
        found.sizes.append({"name": name, "source": "pypi", "disk": disk})
    if owner:
        # What conda's builder recorded (a folder of its own) is not where the user got it from,
        # and the files differ from RECORD where conda put the prefix in.
        document["conda"] = owner.package
        return document
    if is_systems(folder, document.get("installer")):
        document.update(system=True, record="missing" if record is None else "ok")
        return document
    document["record"] = "missing" if record is None else "ok"
    if record is None:
        found.report(name, "Has no RECORD: whether its files are intact cannot be told")
    direct = find(entry + "/direct_url.json")
    if direct:
        try:
            document["direct_url"] = parse_direct_url(direct)
        except ValueError as error:
            found.report(name, "Its `direct_url.json` cannot be read: %s" % error)
    elif record:
        project = find_project(record)
        if project:
            document["direct_url"] = editable_url(project)
    local = document.get("direct_url", {}).get("dir_info")
    if local is not None:
        document["editable"] = local.get("editable") is True
        names = declared_names(entry)
        if not document["editable"] and record:
            names = sorted(top_names(record))
        found.provided[name] = names or guess_names(name)
    return document


def sum_sizes(record: bytes) -> int:
    """Return the bytes of the files that a RECORD lists; installers leave byte code out."""
    rows = (row.rpartition(b",")[2] for row in record.splitlines())
    return sum(int(row) for row in rows if row.isdigit())


def is_systems(folder: str, installer: str | None) -> bool:
    """Return whether the operating system's package manager owns a distribution.

    Debian's folder is its alone. Others share theirs with pip, which always leaves its name:
    rpm's macros write `rpm`, apk and pacman nothing.
    """
    return is_distros(folder) and (
        folder.endswith("/dist-packages") or installer in (None, "rpm", "debian")
    )


def find_requirements(candidate: Candidate) -> list[str]:
    """Return the requirements as they stand, without those that only an extra brings."""
    needs = candidate.headers.get("requires-dist", [])
    if not needs and candidate.entry.endswith(".egg-info"):
        return read_requires(candidate.entry + "/requires.txt")
    return [need for need in needs if not ("extra" in need and _EXTRA.search(need))]


def read_requires(path: str) -> list[str]:
    """Read setuptools' old list: sections are `[extra]`, `[:marker]` or `[extra:marker]`."""
    needs: list[str] = []
    extra = marker = ""
    for line in read_lines(path):
        if line.startswith("["):
            extra, _, marker = line.strip("[]").partition(":")
        elif line and not extra:
            needs.append("%s; %s" % (line, marker) if marker else line)
    return needs
