"""Programs and data of the prefix that no package has installed."""

from __future__ import annotations

import csv
import os
import re

from .found import Environment

TYPE_CHECKING = False  # `typing` takes 3 ms to import.
if TYPE_CHECKING:
    from collections.abc import Iterator

_SHOWN = 3
# Of every tool that makes environments, and what virtualenv adds to pip's own names.
_OF_TOOLS = re.compile(
    r"python[\w.-]*|pypy[\w.]*|(pip|wheel|easy_install)-?[\d.]*|activate.*|Activate\.ps1"
    r"|deactivate.*|pydoc\.bat|__pycache__|\..*"
)
# The rows of a RECORD that may be of other directories.
_MARKS = (b".", b"/", b'"')
_OUTSIDE = re.compile(rb'^["./].+', re.M)
# setuptools' `develop` writes one for each entry point, and lists it nowhere.
_REMADE = b"EASY-INSTALL"


def report_placed(found: Environment, prefix: str, *, is_conda: bool) -> None:
    """Report what lies in `bin`, `share` and `etc` of a prefix and belongs to no package.

    Of conda's prefixes only programs: its packages' scripts write caches below `share` and `etc`,
    and do that on the machines too.
    """
    listed = {path for folder, record in found.records for path in _list(folder, record, prefix)}
    kept = [name for name in _names(prefix + "/bin") if not _OF_TOOLS.fullmatch(name)]
    programs = [name for name in kept if not _is_known(found, listed, prefix, "bin/" + name)]
    _report(found, prefix + "/bin", programs)
    if not is_conda:
        folders = {path[:at] for path in listed for at in _slashes(path)}
        for top in ("share", "etc"):
            paths = [path[len(top) + 1 :] for path in _walk(prefix, top, listed, folders)]
            _report(found, prefix + "/" + top, sorted(paths))


def _report(found: Environment, folder: str, names: list[str]) -> None:
    if names:
        some = ", ".join("`%s`" % name for name in names[:_SHOWN])
        more = " and %d more" % (len(names) - _SHOWN) if names[_SHOWN:] else ""
        found.report(folder, "Not sent (no package installed it): %s%s" % (some, more))


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _list(folder: str, record: bytes, prefix: str) -> Iterator[str]:
    """Yield the paths of a RECORD outside of its site-packages, as seen from the prefix."""
    if not any(record.startswith(mark) or b"\n" + mark in record for mark in _MARKS):
        # To find a few bytes is a tenth of what the pattern costs.
        return
    for line in map(os.fsdecode, _OUTSIDE.findall(record)):
        # Only a name with a comma or a quote is quoted.
        path = line.partition(",")[0] if line[0] != '"' else _unquote(line)
        place = os.path.normpath(os.path.join(folder, path))
        if place.startswith(prefix + os.sep):
            yield place[len(prefix) + 1 :].replace(os.sep, "/")


def _unquote(line: str) -> str:
    try:
        return next(csv.reader([line]))[0]
    except (csv.Error, IndexError):
        return ""


def _is_known(found: Environment, listed: set[str], prefix: str, path: str) -> bool:
    quoted = b'"%s"' % os.fsencode(path)
    if path in listed or any(quoted in files for files in found.files):
        return True
    try:
        with open(prefix + "/" + path, "rb") as stream:
            return _REMADE in stream.read(512)
    except OSError:
        # A directory, or a link that leads nowhere: no program.
        return True


def _slashes(path: str) -> list[int]:
    return [at for at, letter in enumerate(path) if letter == "/"]


def _walk(prefix: str, folder: str, listed: set[str], folders: set[str]) -> Iterator[str]:
    """Yield files that nobody lists; a directory of which nobody lists anything is one."""
    for name in _names(prefix + "/" + folder):
        path = folder + "/" + name
        place = prefix + "/" + path
        if path in listed:
            continue
        if path in folders:
            yield from _walk(prefix, path, listed, folders)
        elif not os.path.isdir(place) or any(names for _, _, names in os.walk(place)):
            yield path
