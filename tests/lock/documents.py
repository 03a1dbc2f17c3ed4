"""Scans for tests of the lock, each as small as what it shows."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from envboot.lock.index_lookup import open_lookup
from envboot.lock.request import LockRequest
from envboot.lock.target import Target
from envboot.lock.wheels import Wheels, lock_wheels
from envboot.scan.schema import CondaRecord, Distribution, Interpreter, Scan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envboot.scan.schema import Source
    from envboot.session import Session

VERSION = ".".join(map(str, sys.version_info[:3]))
MINOR = ".".join(map(str, sys.version_info[:2]))
SHA = "a" * 64


def make_scan(
    *distributions: Distribution,
    conda: tuple[CondaRecord, ...] = (),
    platform: str = "linux-64",
    implementation: str = "CPython",
) -> Scan:
    """A scan of the running interpreter with just these packages."""
    interpreter = Interpreter(
        version=VERSION,
        implementation=implementation,
        executable=sys.executable,
        base_executable=sys.executable,
        prefix=sys.prefix,
        base_prefix=sys.base_prefix,
        tag=f"cpython-{MINOR.replace('.', '')}",
        purelib="/site",
        platlib="/site",
    )
    return Scan(
        kind="conda" if conda else "venv",
        platform=platform,
        glibc="2.36",
        interpreter=interpreter,
        conda=conda,
        distributions=distributions,
    )


def make_distribution(
    name: str,
    version: str = "1.0",
    *,
    tags: tuple[str, ...] = ("py3-none-any",),
    direct_url: dict[str, Any] | None = None,
    conda: str | None = None,
    requires: tuple[str, ...] = (),
    requires_python: str | None = None,
    system: bool = False,
) -> Distribution:
    """An installed distribution."""
    return Distribution(
        name=name,
        version=version,
        location="/site",
        tags=tags,
        direct_url=direct_url,
        conda=conda,
        requires=requires,
        requires_python=requires_python,
        system=system,
    )


def make_record(
    name: str,
    version: str = "1.0",
    *,
    url: str | None = None,
    depends: tuple[str, ...] = (),
    **hashes: str,
) -> CondaRecord:
    """A conda record, with a sha256 unless told otherwise."""
    address = f"https://channel.test/linux-64/{name}-{version}-0.conda" if url is None else url
    return CondaRecord(
        name=name,
        version=version,
        build="0",
        channel="https://channel.test",
        subdir="linux-64",
        url=address,
        sha256=hashes.get("sha256", None if hashes else SHA),
        md5=hashes.get("md5"),
        depends=depends,
    )


def names(sources: tuple[Source, ...]) -> list[str]:
    """The names of some sources."""
    return [source.name for source in sources]


def look_up(items: Sequence[Distribution], session: Session) -> Wheels:
    """Look up the files of installed distributions, for this machine and its own interpreter."""
    request = LockRequest(
        scan=make_scan(*items),
        sources=(),
        target=Target(platform="linux-64", glibc="2.28", host_python=True),
        session=session,
        fresh=False,
        add=(),
        exact=frozenset(),
    )
    return lock_wheels(items, lookup=open_lookup(request, VERSION), cache=session.cache)
