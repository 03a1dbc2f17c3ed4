"""Conda packages as explicit URLs: the installed ones, or an interpreter solved for here."""

from __future__ import annotations

import asyncio
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from envboot.errors import LockError, name_some
from envboot.manifest import CondaPackage
from envboot.platforms import MACHINES
from envboot.redaction import redact, strip_channel
from envboot.scan.schema import Problem
from envboot.text import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rattler import Gateway, GenericVirtualPackage, RepoDataRecord

    from envboot.lock.target import Target
    from envboot.scan.schema import CondaRecord
    from envboot.session import Session

# The kernel of the distributions that brought glibc 2.28; pixi's default too.
KERNEL = "4.18"


def virtual_packages(platform: str, glibc: str, cuda: str | None = None) -> dict[str, str]:
    """Return the target's virtual packages: name to version, for `__archspec` the build."""
    return {
        "__archspec": MACHINES[platform],
        **({"__cuda": cuda} if cuda else {}),
        "__glibc": glibc,
        "__linux": KERNEL,
        "__unix": "0",
    }


def sort_dependencies_first(needs: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the names, each after those that it needs; the order of the input does not matter.

    micromamba installs an explicit list as it stands, and a post-link script runs right after its
    own package. `needs` maps a name to match specs; specs of names that are not there count for
    nothing. Python does not wait for pip, which channels make a dependency of it: pip needs Python
    more (conda's `PrefixGraph` removes that edge as well).

    Raises:
        LockError: one is not the name of a conda package.
    """
    from rattler import BuildString, PackageRecord

    try:
        records = [
            PackageRecord(
                name=name,
                version="0",
                build=BuildString("0"),
                build_number=0,
                subdir="noarch",
                depends=[spec for spec in specs if (name, spec) != ("python", "pip")],
            )
            for name, specs in sorted(needs.items())
        ]
        ordered = PackageRecord.sort_topologically(records)
    except Exception as error:
        # rattler raises bare exceptions.
        raise LockError(
            "Failed to sort conda packages by what they need", causes=(str(error),)
        ) from error
    return [record.name.source for record in ordered]


def check_records(records: Sequence[CondaRecord]) -> None:
    """Raise LockError, naming them, when a package has several records: which one is installed?"""
    several: dict[str, list[str]] = {}
    for record in records:
        several.setdefault(record.name, []).append(f"{record.version}-{record.build}")
    doubled = {name: found for name, found in several.items() if len(found) > 1}
    if doubled:
        raise LockError(
            f"Found several records of {name_some(list(doubled))} in conda-meta",
            causes=tuple(
                f"`{name}` is there as {name_some(found)}"
                for name, found in list(doubled.items())[:10]
            ),
            hint=f"Repair the environment: `conda install --force-reinstall {next(iter(doubled))}`",
        )


def lock_records(records: Sequence[CondaRecord]) -> tuple[CondaPackage, ...]:
    """Turn installed records into explicit packages, each after those that it needs.

    Raises:
        LockError: naming every record without a URL or without a hash, and every package that has
            several records.
    """
    check_records(records)
    by_name = {record.name: record for record in records}
    needs = {record.name: (*record.depends, *record.after) for record in records}
    packages, offenders = [], []
    for record in map(by_name.__getitem__, sort_dependencies_first(needs) if needs else ()):
        named = f"{record.name}-{record.version}-{record.build}"
        if urlsplit(record.url).scheme not in ("http", "https", "file", "s3"):
            offenders.append(f"`{named}`: its record has no URL")
        elif not (record.sha256 or record.md5):
            offenders.append(f"`{named}`: its record has neither sha256 nor md5")
        else:
            # One hash is enough, and sha256 is the better one.
            packages.append(
                CondaPackage(
                    url=strip_channel(record.url.partition("#")[0]),
                    sha256=record.sha256,
                    md5=None if record.sha256 else record.md5,
                )
            )
    if offenders:
        raise LockError(
            f"Cannot tell where {count(len(offenders), 'conda package')} came from",
            causes=tuple(offenders[:10]),
            hint="Install them again from a channel",
        )
    return tuple(packages)


def note_files(packages: Sequence[CondaPackage]) -> tuple[Problem, ...]:
    """Say which packages are behind this machine's loopback, where no guest looks."""
    near = [
        package.file
        for package in packages
        if urlsplit(package.url).hostname in ("localhost", "127.0.0.1", "::1")
    ]
    if not near:
        return ()
    message = f"Only this machine can fetch {name_some(near)}"
    return (Problem(subject="conda channel", message=message),)


def solve_python(
    version: str, session: Session, *, platform: str, glibc: str
) -> tuple[CondaPackage, ...]:
    """Solve for one exact interpreter and what it needs, here, for the target.

    The channels are those of the settings.

    Raises:
        LockError: no channel has that version (the nearest ones are named), or none answers.
    """
    # An index of its own each time: py-rattler 0.28 fails on a channel whose server answers a
    # second request with a bare 304, and solves are rare (`keep_for_a_day`).
    session.cache.mkdir(parents=True, exist_ok=True)
    # A thread of its own: in a notebook this one already runs a loop.
    with tempfile.TemporaryDirectory(dir=session.cache) as folder, ThreadPoolExecutor(1) as pool:
        return pool.submit(
            lambda: asyncio.run(_solve(version, platform, glibc, session, Path(folder)))
        ).result()


async def _solve(
    version: str, platform: str, glibc: str, session: Session, cache: Path
) -> tuple[CondaPackage, ...]:
    from rattler import Client, Gateway, solve

    from envboot.indexes.channels import read_channels

    gateway = Gateway(cache_dir=cache, client=Client.default_client())
    configured = read_channels(session.environment)
    channels = configured.open_all(session.settings.channels)
    subdirs = [platform, "noarch"]
    shown = name_some([strip_channel(channel) for channel in channels])
    try:
        versions = await _python_versions(gateway, channels, subdirs)
        if version not in versions:
            raise _missing(version, versions, shown, platform)
        records = await solve(
            list(channels),
            [f"python =={version}"],
            gateway=gateway,
            platforms=cast("Any", subdirs),
            virtual_packages=_virtual(platform, glibc),
        )
    except LockError:
        raise
    except Exception as error:
        # rattler raises bare exceptions whose text may hold whole URLs.
        text = redact(str(error))
        raise LockError(
            f"Failed to find Python {version} for `{platform}` in {shown}",
            causes=tuple(list_causes(text))[:10],
            hint="Set `channels` in `[tool.envboot]` to conda channels that can be reached; "
            "for instances on this machine (`local`), `--host-python` of `envboot lock`, "
            "`envboot plan` and `envboot env publish` needs none",
        ) from error
    return order_records(records)


async def _python_versions(
    gateway: Gateway, channels: tuple[str, ...], subdirs: list[str]
) -> set[str]:
    found = await gateway.query(channels, cast("Any", subdirs), ["python"], recursive=False)
    return {str(record.version) for records in found for record in records}


def order_records(records: Sequence[RepoDataRecord]) -> tuple[CondaPackage, ...]:
    """Return what a solve found as explicit packages, each after those that it needs."""
    by_name = {record.name.normalized: record for record in records}
    needs = {name: record.depends for name, record in by_name.items()}
    return tuple(package_of(by_name[name]) for name in sort_dependencies_first(needs))


def package_of(record: RepoDataRecord) -> CondaPackage:
    """Return what a solve found as an explicit package."""
    sha256, md5 = record.sha256, record.md5
    return CondaPackage(
        url=strip_channel(record.url),
        sha256=sha256.hex() if sha256 else None,
        md5=md5.hex() if md5 and not sha256 else None,
    )


def virtual_records(target: Target) -> list[GenericVirtualPackage]:
    """Return the target's virtual packages as py-rattler's solver wants them."""
    return _virtual(target.platform, target.glibc, target.cuda)


def _virtual(platform: str, glibc: str, cuda: str | None = None) -> list[GenericVirtualPackage]:
    from rattler import BuildString, GenericVirtualPackage, PackageName, Version

    packages = []
    for name, value in virtual_packages(platform, glibc, cuda).items():
        is_arch = name == "__archspec"
        packages.append(
            GenericVirtualPackage(
                PackageName(name),
                Version("1" if is_arch else value),
                BuildString(value if is_arch else "0"),
            )
        )
    return packages


def _missing(version: str, versions: set[str], shown: str, platform: str) -> LockError:
    """Say that a patch version is in no channel, and which ones lie nearest."""

    def numbers(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in re.findall(r"\d+", text)[:3])

    wanted = numbers(version)
    same = [other for other in versions if numbers(other)[:2] == wanted[:2]]
    by_distance = sorted(
        same or versions,
        key=lambda other: [abs(a - b) for a, b in zip(numbers(other), wanted, strict=False)],
    )
    nearest = sorted(by_distance[:3], key=numbers)
    cause = f"The nearest are {name_some(nearest)}" if nearest else "They have no Python at all"
    return LockError(
        f"Cannot find Python {version} for `{platform}` in {shown}",
        causes=(cause,),
        hint="Make the environment with one of those, or add a channel to `channels` "
        "in `[tool.envboot]`",
    )


def list_causes(text: str) -> Iterator[str]:
    """Yield what a message of rattler says, line by line, without its own `Caused by:`."""
    for line in text.splitlines():
        said = line.strip().removeprefix("Caused by:").strip()
        if said:
            yield said
