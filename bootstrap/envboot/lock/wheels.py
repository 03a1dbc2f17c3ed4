"""PyPI distributions as exact wheels for the target, found by one call of uv."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from envboot.errors import LISTED, LockError, name_some
from envboot.indexes.configuration import PYPI_FILES
from envboot.lock.agreement import Disputed, agree
from envboot.lock.fit import NoSolution
from envboot.lock.tags import choose_wheel
from envboot.manifest import Wheel
from envboot.redaction import redact, strip_url
from envboot.scan.installed import find_recorded_hash, note_replaced
from envboot.scan.projects import names_commit
from envboot.scan.schema import Problem, Source
from envboot.text import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from envboot.indexes import PrivateWheel
    from envboot.lock.index_lookup import Lookup, Packages
    from envboot.lock.target import Target
    from envboot.scan.installed import Replaced
    from envboot.scan.schema import Distribution

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wheels:
    """The wheels of the base, and wheel files of this machine that go into the layer.

    `replaced` are those that differ from what is installed.
    """

    wheels: tuple[Wheel, ...] = ()
    sources: tuple[Source, ...] = ()
    notes: tuple[Problem, ...] = ()
    replaced: tuple[Replaced, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Offence:
    """A distribution that has no wheel for the target, and what was seen."""

    pin: str
    seen: str
    sdist: bool = False
    disputed: bool = False

    @property
    def is_absent(self) -> bool:
        """Whether uv says that no index has the package, or that version of it."""
        return "was not found in" in self.seen or "there is no version of" in self.seen


def lock_wheels(distributions: Sequence[Distribution], *, lookup: Lookup, cache: Path) -> Wheels:
    """Find URL and sha256 of the wheel of every distribution, none of them solved for.

    Wheels that guests have no login for are fetched into `cache`, and returned as sources. So
    are sdists, of what has no wheel for the target: they are built here.

    Raises:
        LockError: naming every distribution that is neither, or uv's failure.
    """
    from envboot.indexes import note_private

    recorded = {item.name: archive for item in distributions if (archive := _find_recorded(item))}
    pins = [_pin(item) for item in distributions if item.name not in recorded]
    archives = [pin for pin in pins if " @ " in pin and not pin.endswith(".whl")]
    packages, offences = _find_wheels([pin for pin in pins if pin not in archives], lookup)
    blamed = {offence.pin: offence for offence in offences if not offence.sdist}
    wanting = [offence.pin for offence in offences if offence.sdist]
    found, built = _find_sdists([*wanting, *archives], lookup)
    packages |= found
    blamed |= built
    sources: list[Source] = []
    chosen: list[tuple[Distribution, PrivateWheel]] = []
    for item in distributions:
        pin = _pin(item)
        found_file = (
            recorded.get(item.name)
            or blamed.get(pin)
            or _choose(item, packages.get(item.name), lookup)
        )
        if isinstance(found_file, _Offence):
            blamed[pin] = found_file
        else:
            chosen.append((item, found_file))
    replaced: list[Replaced] = []
    files: list[PrivateWheel] = []
    for verdict in agree(chosen, lookup, cache):
        if isinstance(verdict, Disputed):
            blamed[verdict.name] = _Offence(pin=verdict.name, seen=verdict.message, disputed=True)
            continue
        files.append(verdict[0])
        replaced += [verdict[1]] if verdict[1] else []
    if blamed:
        raise _refuse(list(blamed.values()), lookup.target)
    wheels, private, sdists = [], [], []
    for file in files:
        if urlsplit(file.url).scheme == "file":
            sources.append(_find_local(file))
        elif not file.file.endswith(".whl"):
            sdists.append(file)
        elif lookup.indexes.is_private(file.url):
            private.append(file)
        else:
            wheels.append(_make_wheel(file))
    return Wheels(
        wheels=tuple(wheels),
        sources=(*sources, *lookup.indexes.bring([*private, *sdists], cache)),
        notes=(
            *note_hosts(wheels),
            *note_private(private),
            *note_sdists(sdists),
            *note_replaced(replaced),
        ),
        replaced=tuple(replaced),
    )


def _find_recorded(item: Distribution) -> PrivateWheel | None:
    """Return an archive of the web whose sha256 its installer recorded (PEP 610), else None.

    The archive of a branch has other content tomorrow: then it is refused, by its hash.
    """
    from envboot.indexes import PrivateWheel

    direct = item.direct_url or {}
    url = direct.get("url", "")
    if urlsplit(url).path.endswith(".whl") or not url.startswith(("http://", "https://")):
        return None
    sha256 = find_recorded_hash(item)
    if sha256 is None or not _SHA256.fullmatch(sha256):
        return None
    return PrivateWheel(
        name=item.name,
        version=item.version,
        # It may have no name of its own: `…/zip/refs/heads/main`. The build looks into it.
        file=f"{item.name}-{item.version}.archive",
        url=url,
        sha256=sha256,
        subdirectory=direct.get("subdirectory"),
    )


def _find_local(file: PrivateWheel) -> Source:
    # It brings all of HTTP along, and every command imports this module.
    from urllib.request import url2pathname

    return Source(name=file.name, version=file.version, path=url2pathname(urlsplit(file.url).path))


def _make_wheel(file: PrivateWheel) -> Wheel:
    is_pypis = urlsplit(file.url).hostname == PYPI_FILES
    url = None if is_pypis else strip_url(file.url)
    return Wheel(name=file.name, version=file.version, sha256=file.sha256, url=url)


def _pin(item: Distribution) -> str:
    """Return the requirement of exactly this distribution."""
    direct = item.direct_url or {}
    url = direct.get("url", "")
    if urlsplit(url).scheme in ("http", "https"):
        below = f"#subdirectory={direct['subdirectory']}" if direct.get("subdirectory") else ""
        return f"{item.name} @ {url}{below}"
    return f"{item.name}=={item.version}"


def _find_wheels(pins: list[str], lookup: Lookup) -> tuple[Packages, list[_Offence]]:
    """Look pins up, all in one call; a failing set is halved until every offender is known.

    uv stops at the first one that it cannot find, and users want to hear of all.
    """
    if not pins:
        return {}, []
    found = lookup.find_exact(pins)
    if not isinstance(found, NoSolution):
        return found, []
    if len(pins) == 1:
        wanted = any(words in found.words for words in ("no usable wheels", "no wheels"))
        return {}, [_Offence(pin=pins[0], seen=found.words, sdist=wanted)]
    middle = len(pins) // 2
    left, left_offences = _find_wheels(pins[:middle], lookup)
    right, right_offences = _find_wheels(pins[middle:], lookup)
    return {**left, **right}, left_offences + right_offences


def _find_sdists(pins: list[str], lookup: Lookup) -> tuple[Packages, dict[str, _Offence]]:
    """Look for the sdists of what has no wheel; uv may have to run a build to see their names."""
    packages: Packages = {}
    offences = {}
    for pin in pins:
        try:
            found = lookup.find_exact([pin], sdists=True)
        except LockError as error:
            found = NoSolution(words="no usable wheels, and " + " ".join(error.causes[:2]))
        if isinstance(found, NoSolution):
            offences[pin] = _Offence(pin=pin, seen=found.words, sdist=True)
        else:
            packages |= found
    return packages, offences


def _choose(
    item: Distribution, package: dict[str, Any] | None, lookup: Lookup
) -> PrivateWheel | _Offence:
    """Choose one of the wheels that the index has, else the sdist."""
    from envboot.indexes import PrivateWheel

    files = [] if package is None else list(package.get("wheels", ()))
    if package and "archive" in package:
        files.append(package["archive"])
    by_name: dict[str, dict[str, Any]] = {}
    for file in files:
        by_name.setdefault(_file_name(file), file)
    name = choose_wheel(by_name, lookup.ranks, item.tags)
    # An sdist behind a URL of its own is an archive, and so is a wheel.
    sdist = (package or {}).get("sdist") or (package or {}).get("archive")
    if name is None and sdist and not _file_name(sdist).endswith(".whl"):
        by_name[name := _file_name(sdist)] = sdist
    if name is None:
        seen = f"Found {name_some(sorted(by_name))}" if by_name else "Found no wheel at all"
        return _Offence(pin=_pin(item), seen=seen, sdist=True)
    file = by_name[name]
    location = file.get("url") or Path(file.get("path", "")).absolute().as_uri()
    parts = urlsplit(location)
    sha256 = file.get("hashes", {}).get("sha256", "")
    if not sha256 and parts.scheme != "file":
        seen = f"`{parts.hostname}` gives no sha256 of `{name}`"
        return _Offence(pin=_pin(item), seen=seen)
    return PrivateWheel(
        name=item.name,
        version=item.version,
        file=name,
        url=location,
        sha256=sha256,
        subdirectory=file.get("subdirectory"),
        size=file.get("size"),
    )


def _file_name(file: dict[str, Any]) -> str:
    """Return a pylock file entry's name: stated, or the last part of where it is."""
    if "name" in file:
        return str(file["name"])
    location = file.get("url") or file.get("path", "")
    return unquote(urlsplit(location).path.rpartition("/")[2])


def note_hosts(wheels: Sequence[Wheel]) -> tuple[Problem, ...]:
    """Say which machines besides PyPI's the guest will have to reach, and that it has no login."""
    by_host: dict[str, list[str]] = {}
    for wheel in wheels:
        if wheel.url:
            by_host.setdefault(urlsplit(wheel.url).netloc, []).append(wheel.name)
    return tuple(
        Problem(subject=host, message=f"Guests fetch {name_some(names)} here, without credentials")
        for host, names in sorted(by_host.items())
    )


def note_sdists(sdists: Sequence[PrivateWheel]) -> tuple[Problem, ...]:
    """Say what is built here, by name."""
    message = "Has no wheel for the target: it is built here from its sdist, and is in the layer"
    return tuple(Problem(subject=sdist.name, message=message) for sdist in sdists)


def _describe(offence: _Offence) -> str:
    version = offence.pin.partition("==")[2]
    if offence.is_absent and names_commit(version):
        return f"{offence.seen} Its version is that of a git commit, and nothing records of which"
    return offence.seen


def _refuse(offences: list[_Offence], target: Target) -> LockError:
    """Make one error of every offence."""
    disputed = [redact(offence.pin) for offence in offences if offence.disputed]
    absent = [redact(offence.pin) for offence in offences if offence.is_absent]
    unfit = [
        redact(offence.pin) for offence in offences if not (offence.is_absent or offence.disputed)
    ]
    causes = [f"`{redact(offence.pin)}`: {_describe(offence)}" for offence in offences[:LISTED]]
    if len(offences) > LISTED:
        causes.append(f"{len(offences) - LISTED} more")
    messages = []
    if disputed:
        messages.append(
            f"Cannot tell which file of {count(len(disputed), 'package')} is the installed one: "
            f"{name_some(disputed)}"
        )
    if absent:
        messages.append(
            f"Cannot find {count(len(absent), 'package')} on the configured indexes: "
            f"{name_some(absent)}"
        )
    if unfit:
        messages.append(
            f"{count(len(unfit), 'package has', 'packages have')} no wheel for "
            f"`{target.platform}` with glibc {target.glibc}: {name_some(unfit)}"
        )
    if not (absent or unfit):
        return LockError(
            messages[0],
            causes=tuple(causes),
            hint="Install it again from the index that is meant, with `pip install "
            "--force-reinstall --no-deps --index-url URL NAME==VERSION`; or go without, with "
            "`--ignore NAME`",
        )
    hints = [
        "Build a wheel with `pip wheel --no-deps NAME==VERSION` and install that file: "
        "it then travels in the layer"
        if any(offence.sdist for offence in offences)
        else "Indexes are read from uv's settings (`UV_INDEX`, `uv.toml`, `[tool.uv]`) and, "
        "for what pip installed, from pip's (`PIP_EXTRA_INDEX_URL`, `pip.conf`)"
    ]
    if absent:
        hints.append(
            "what came from a folder of wheels (`--find-links`), which nothing records, is found "
            "after installing its file by path, or with `UV_FIND_LINKS` or `PIP_FIND_LINKS`"
        )
    return LockError(
        "; ".join(messages),
        causes=tuple(causes),
        hint="; ".join([*hints, "or go without, with `--ignore NAME`"]),
    )
