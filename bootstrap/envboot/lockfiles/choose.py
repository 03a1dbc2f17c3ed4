"""One file for each PyPI package of a lock file: a wheel, or a project that is built here."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from envboot.errors import LISTED, LockError, name_some
from envboot.indexes import PrivateWheel, note_private, open_indexes
from envboot.indexes.configuration import PYPI_FILES
from envboot.lock.tags import choose_wheel, rank_tags
from envboot.lock.wheels import Wheels, note_hosts, note_sdists
from envboot.manifest import Wheel
from envboot.redaction import strip_url
from envboot.scan.schema import Source
from envboot.text import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packaging.pylock import Package, PackageArchive, PackageSdist, PackageVcs, PackageWheel

    from envboot.indexes.configuration import Configuration
    from envboot.lockfiles.content import Content, LockFileRequest


class _Refused(Exception):  # noqa: N818
    """Why one package cannot be brought."""


def choose_files(content: Content, request: LockFileRequest) -> Wheels:
    """Choose the best wheel for the target, else what this machine builds a wheel from.

    Sdists are downloaded now and checked by their sha256; folders and files are relative to
    the lock file.

    Raises:
        LockError: naming every package that has no file for the target, or none with a sha256.
    """
    version = content.python.version
    ranks = rank_tags(request.target.platform, request.target.glibc, version)
    folder = request.file.parent
    outcomes = [(package.name, _try(package, folder, ranks)) for package in content.packages]
    wrong = [f"`{name}`: {found}" for name, found in outcomes if isinstance(found, _Refused)]
    if wrong:
        names = [str(name) for name, found in outcomes if isinstance(found, _Refused)]
        more = (f"{len(wrong) - LISTED} more",) if len(wrong) > LISTED else ()
        raise LockError(
            f"Cannot bring {count(len(wrong), 'package')} of `{request.file}` to "
            f"`{request.target.platform}` with Python {version} and glibc "
            f"{request.target.glibc}: {name_some(names)}",
            causes=(*wrong[:LISTED], *more),
        )
    remote = [found for _, found in outcomes if isinstance(found, PrivateWheel)]
    files = _settle(remote, request, content.configuration)
    local = tuple(found for _, found in outcomes if isinstance(found, Source))
    return replace(files, sources=(*local, *files.sources))


def _settle(
    remote: Sequence[PrivateWheel], request: LockFileRequest, given: Configuration
) -> Wheels:
    """Leave to the guests what they can fetch themselves; fetch the rest now."""
    if all(_is_public(file) for file in remote):
        return Wheels(wheels=tuple(_make_wheel(file) for file in remote))
    indexes = open_indexes(
        request.session.environment,
        request.file.parent,
        prefix=Path(request.interpreter.prefix),
        pip=True,
        probe=remote[0].name,
        given=given,
    )
    wheels, private, sdists = [], [], []
    for file in remote:
        if not _is_wheel(file):
            sdists.append(file)
        elif not _is_public(file) and indexes.is_private(file.url):
            private.append(file)
        else:
            wheels.append(_make_wheel(file))
    return Wheels(
        wheels=tuple(wheels),
        sources=indexes.bring([*private, *sdists], request.session.cache),
        notes=(
            *note_hosts(wheels),
            *note_private(private),
            *note_sdists(sdists),
        ),
    )


def _is_wheel(file: PrivateWheel) -> bool:
    return file.file.endswith(".whl")


def _is_public(file: PrivateWheel) -> bool:
    return _is_wheel(file) and urlsplit(file.url).hostname == PYPI_FILES


def _make_wheel(file: PrivateWheel) -> Wheel:
    url = None if _is_public(file) else strip_url(file.url)
    return Wheel(name=file.name, version=file.version, sha256=file.sha256, url=url)


def _try(package: Package, folder: Path, ranks: dict[str, int]) -> PrivateWheel | Source | _Refused:
    try:
        return _choose(package, folder, ranks)
    except _Refused as error:
        return error


def _choose(package: Package, folder: Path, ranks: dict[str, int]) -> PrivateWheel | Source:
    version = str(package.version or "")
    if package.vcs:
        return _read_vcs(package.vcs, package.name, version, folder)
    if package.directory:
        return Source(
            name=package.name,
            version=version,
            path=str(_place(folder, package.directory.path)),
            subdirectory=package.directory.subdirectory,
            editable=bool(package.directory.editable),
        )
    wheels: dict[str, PackageWheel | PackageArchive] = {}
    for wheel in package.wheels or ():
        wheels.setdefault(wheel.filename, wheel)
    archive = package.archive
    if archive and _file_name(archive).endswith(".whl"):
        wheels[_file_name(archive)] = archive
        archive = None
    name = choose_wheel(wheels, ranks, ())
    if name:
        return _read_wheel(wheels[name], name, package, folder)
    sdist = package.sdist or archive
    if sdist is None:
        raise _Refused(f"the target can run none of {name_some(sorted(wheels))}")
    return _read_sdist(sdist, package, folder)


def _read_wheel(
    file: PackageWheel | PackageArchive, name: str, package: Package, folder: Path
) -> PrivateWheel | Source:
    try:
        version = str(package.version or parse_wheel_filename(name)[1])
    except InvalidWheelFilename as error:
        raise _Refused(str(error)) from error
    sha256 = _sha256(file, name)
    place = _local(file, folder)
    if place:
        _check_local(place, sha256)
        return Source(name=package.name, version=version, path=str(place))
    return PrivateWheel(
        name=package.name, version=version, file=name, url=file.url or "", sha256=sha256
    )


def _read_sdist(
    file: PackageSdist | PackageArchive, package: Package, folder: Path
) -> PrivateWheel | Source:
    name = _file_name(file)
    sha256 = _sha256(file, name)
    place = _local(file, folder)
    version = str(package.version or "")
    subdirectory = getattr(file, "subdirectory", None)
    if place:
        _check_local(place, sha256)
        return Source(
            name=package.name, version=version, path=str(place), subdirectory=subdirectory
        )
    return PrivateWheel(
        name=package.name,
        version=version,
        file=name or "archive",
        url=file.url or "",
        sha256=sha256,
        subdirectory=subdirectory,
    )


def _read_vcs(vcs: PackageVcs, name: str, version: str, folder: Path) -> Source:
    if vcs.type != "git":
        raise _Refused(f"is in `{vcs.type}`, and only git is known")
    if not vcs.commit_id:
        raise _Refused("names no commit")
    return Source(
        name=name,
        version=version,
        git=strip_url(vcs.url) if vcs.url else str(_place(folder, vcs.path or "")),
        commit=vcs.commit_id,
        subdirectory=vcs.subdirectory,
    )


def _file_name(file: Any) -> str:
    """Return the last part of where a file is; sdists and wheels may state it."""
    name = getattr(file, "name", None) or file.path or urlsplit(file.url or "").path
    return str(name).replace("\\", "/").rpartition("/")[2]


def _sha256(file: Any, name: str) -> str:
    found = str(file.hashes.get("sha256", "")).lower()
    if len(found) != 64 or set(found) - set("0123456789abcdef"):
        raise _Refused(f"`{name}` has no sha256")
    return found


def _local(file: Any, folder: Path) -> Path | None:
    """Return where a file of this machine is; None for the web's."""
    if file.path:
        return _place(folder, file.path)
    parts = urlsplit(file.url or "")
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    if parts.scheme not in ("http", "https"):
        raise _Refused(f"cannot fetch `{strip_url(file.url or '')}`")
    return None


def _place(folder: Path, path: str) -> Path:
    place = folder / path
    if not place.exists():
        raise _Refused(f"`{place}` was not found")
    return place.resolve()


def _check_local(place: Path, sha256: str) -> None:
    if not place.is_file():
        raise _Refused(f"`{place}` was not found")
    found = hashlib.sha256(place.read_bytes()).hexdigest()
    if found != sha256:
        raise _Refused(f"`{place}` has sha256 `{found}`, and `{sha256}` is locked")
