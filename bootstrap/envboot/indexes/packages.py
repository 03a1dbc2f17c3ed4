"""Conda packages that guests cannot fetch themselves: fetched here, and sent in one tar."""

from __future__ import annotations

import tarfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envboot.errors import LockError
from envboot.indexes.channels import Access, read_channels
from envboot.indexes.web import Web
from envboot.scan.schema import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from envboot.manifest import CondaPackage


@dataclass(frozen=True, kw_only=True, slots=True)
class PrivatePackage:
    """A package of the manifest, and how this machine fetches it."""

    package: CondaPackage
    access: Access

    @property
    def path(self) -> str:
        """Where the agent looks for it: host and path of its URL."""
        return self.package.url.partition("://")[2].lstrip("/")


def find_private(
    packages: Sequence[CondaPackage], environment: Mapping[str, str]
) -> tuple[PrivatePackage, ...]:
    """Return the packages that guests cannot fetch: those of this machine's disk, or with a login.

    Where a login belongs to a whole host, one package of each channel is asked for without it:
    much of such a host, conda-forge say, may be public.
    """
    channels, web = read_channels(environment), open_web(environment)
    public: dict[str, bool] = {}
    found = []
    for package in packages:
        if package.url.startswith("file://"):
            found.append(PrivatePackage(package=package, access=Access(url=package.url)))
            continue
        access = channels.find(package.url) if package.url.startswith("http") else None
        if access is None:
            continue
        channel = package.channel
        if not access.configured and channel not in public:
            public[channel] = web.status(package.url) == 200
        if not public.get(channel):
            found.append(PrivatePackage(package=package, access=access))
    return tuple(found)


def open_web(environment: Mapping[str, str]) -> Web:
    """Return the way to channels, with conda's certificates where they are named."""
    names = ("CONDA_SSL_VERIFY", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
    files = [environment[name] for name in names if "/" in environment.get(name, "")]
    return Web(certificates=files[0] if files else None)


def note_channels(packages: Sequence[PrivatePackage]) -> tuple[Problem, ...]:
    """Say which channels no guest can read, so that their packages travel in the bucket."""
    counts: dict[str, int] = {}
    for private in packages:
        channel = private.package.channel
        counts[channel] = counts.get(channel, 0) + 1
    return tuple(
        Problem(subject=channel, message=_explain(channel, count))
        for channel, count in sorted(counts.items())
    )


def _explain(channel: str, count: int) -> str:
    if channel.startswith("file:"):
        return f"Is on this machine only: {count} of its packages travel in the bucket"
    return f"Guests have no login here: {count} of its packages travel in the bucket"


def pack_private(
    packages: Sequence[PrivatePackage], environment: Mapping[str, str], cache: Path, output: Path
) -> None:
    """Fetch private packages, each once ever, and write them into one tar.

    It is not compressed: packages are. The agent reads it whole.

    Raises:
        LockError: naming each package that cannot be had, or is not what was locked.
    """
    web = open_web(environment)

    def fetch(private: PrivatePackage) -> Path | LockError:
        digest = private.package.sha256 or private.package.md5 or ""
        algorithm = "sha256" if private.package.sha256 else "md5"
        file = cache / "private" / digest / private.package.file
        access = private.access
        try:
            return web.fetch(access.url, access.authorization, file, f"{algorithm}:{digest}")
        except LockError as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        files = list(pool.map(fetch, packages))
    errors = [file for file in files if isinstance(file, LockError)]
    if errors:
        raise LockError(
            errors[0].message if len(errors) == 1 else f"Failed to fetch {len(errors)} packages",
            causes=tuple(cause for error in errors[:10] for cause in error.causes),
            hint=errors[0].hint,
        )
    with tarfile.open(output, "w", format=tarfile.GNU_FORMAT) as archive:
        for private, file in zip(packages, files, strict=True):
            if isinstance(file, LockError):
                continue
            info = tarfile.TarInfo(private.path)
            info.size = file.stat().st_size
            with file.open("rb") as stream:
                archive.addfile(info, stream)
