"""A manifest's packages in the formats of other tools."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from envboot.errors import LockError, name_some
from envboot.platforms import MACHINES
from envboot.redaction import strip_url
from envboot.toml import tomllib

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envboot.manifest import Base, Wheel
    from envboot.session import Session

PYPI = "https://pypi.org/simple"


class Export(Enum):
    """The formats that are written, as `--format` takes them."""

    PYLOCK = "pylock"
    CONDA_EXPLICIT = "conda-explicit"
    REQUIREMENTS = "requirements"
    PIXI = "pixi"

    @property
    def wants_urls(self) -> bool:
        """Whether every wheel needs the URL of its file."""
        return self in (Export.PYLOCK, Export.PIXI)


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """The text of the file, and what it could not hold."""

    text: str
    warnings: tuple[str, ...]


def export(
    base: Base, projects: tuple[str, ...], kind: Export, urls: Mapping[str, str]
) -> Exported:
    """Write a base; `urls` are those of wheels by sha256, where the format wants them.

    Raises:
        LockError: nothing of the environment would be in the file, or it has no Python.
    """
    conda, wheels = [package.file for package in base.conda], base.wheels
    name = f"`{kind.value}`"
    warnings = []
    if kind in (Export.PYLOCK, Export.REQUIREMENTS):
        if not wheels:
            raise LockError(
                f"Cannot export as {name}: the environment has no package from an index",
                hint="Conda packages fit `--format conda-explicit` or `--format pixi`",
            )
        if conda:
            warnings.append(f"{name} holds no conda packages: {name_some(conda)} left out")
    elif not conda:
        raise LockError(
            f"Cannot export as {name}: the environment has no conda packages",
            hint="Wheels fit `--format pylock` or `--format requirements`",
        )
    elif kind is Export.CONDA_EXPLICIT and wheels:
        names = [wheel.name for wheel in wheels]
        warnings.append(f"{name} holds no wheels: {name_some(names)} left out")
    if projects:
        warnings.append(
            f"{name} holds nothing of this machine itself: {name_some(list(projects))} left out"
        )
    render = {
        Export.PYLOCK: _render_pylock,
        Export.CONDA_EXPLICIT: _render_explicit,
        Export.REQUIREMENTS: _render_requirements,
        Export.PIXI: _render_pixi,
    }[kind]
    return Exported(text=render(base, urls), warnings=tuple(warnings))


def find_urls(base: Base, session: Session, *, fresh: bool = False) -> dict[str, str]:
    """Look up where the wheels are that a base names by hash alone; URLs by sha256.

    Raises:
        LockError: naming every wheel that no index has any more.
    """
    from envboot.lock.target import Target
    from envboot.lockfiles.compile import Requirements, compile_kept

    wanted = [wheel for wheel in base.wheels if not wheel.url]
    if not wanted:
        return {}
    target = Target(
        platform=base.platform, glibc=base.virtual_packages["__glibc"], host_python=False
    )
    text = compile_kept(
        Requirements(
            lines=[f"{wheel.name}=={wheel.version}" for wheel in wanted],
            file=session.folder / "the manifest",
            alone=True,
        ),
        session,
        target=target,
        version=base.python.version,
        prefix=Path(sys.prefix),
        fresh=fresh,
    )
    urls = {
        file["hashes"].get("sha256", ""): strip_url(file["url"])
        for package in tomllib.loads(text).get("packages", ())
        for file in package.get("wheels", ())
        if urlsplit(file.get("url", "")).scheme in ("http", "https")
    }
    lost = [f"{wheel.name}=={wheel.version}" for wheel in wanted if wheel.sha256 not in urls]
    if lost:
        raise LockError(
            f"Cannot find the wheels of {name_some(lost)}",
            causes=("No index that has a URL has a file with that sha256",),
        )
    return urls


def _render_pylock(base: Base, urls: Mapping[str, str]) -> str:
    machine = f"sys_platform == 'linux' and platform_machine == '{MACHINES[base.platform]}'"
    lines = [
        'lock-version = "1.0"',
        f"environments = [{_quote(machine)}]",
        f"requires-python = {_quote(f'=={base.python.version}')}",
        'created-by = "envboot"',
    ]
    for wheel in base.wheels:
        url, sha256 = _quote(_url(wheel, urls)), _quote(wheel.sha256)
        lines += [
            "",
            "[[packages]]",
            f"name = {_quote(wheel.name)}",
            f"version = {_quote(wheel.version)}",
            f"wheels = [{{ url = {url}, hashes = {{ sha256 = {sha256} }} }}]",
        ]
    return "\n".join(lines) + "\n"


def _render_explicit(base: Base, urls: Mapping[str, str]) -> str:
    del urls
    lines = [f"# platform: {base.platform}", "@EXPLICIT"]
    for package in base.conda:
        found = f"sha256:{package.sha256}" if package.sha256 else package.md5
        lines.append(f"{package.url}#{found}")
    return "\n".join(lines) + "\n"


def _render_requirements(base: Base, urls: Mapping[str, str]) -> str:
    del urls
    lines = [f"# Python {base.python.version} on {base.platform}"]
    indexes = sorted({wheel.index for wheel in base.wheels if wheel.index})
    lines += [f"--extra-index-url {index}" for index in indexes]
    for wheel in base.wheels:
        pin = f"{wheel.name} @ {wheel.url}" if wheel.url else f"{wheel.name}=={wheel.version}"
        lines += [f"{pin} \\", f"    --hash=sha256:{wheel.sha256}"]
    return "\n".join(lines) + "\n"


def _render_pixi(base: Base, urls: Mapping[str, str]) -> str:
    """Write version 6, the oldest that every pixi since 0.40 reads, with one environment."""
    import yaml

    channels = dict.fromkeys(f"{package.channel}/" for package in base.conda)
    packages: list[dict[str, Any]] = [
        {"conda": package.url, **_hashes(package.sha256, package.md5)} for package in base.conda
    ]
    packages += [
        {
            "pypi": _url(wheel, urls),
            "name": wheel.name,
            "version": wheel.version,
            "sha256": wheel.sha256,
        }
        for wheel in base.wheels
    ]
    here = [
        {kind: entry[kind]} for entry in packages for kind in ("conda", "pypi") if kind in entry
    ]
    environment: dict[str, Any] = {
        "channels": [{"url": channel} for channel in channels],
        "packages": {base.platform: here},
    }
    if base.wheels:
        environment["indexes"] = [PYPI]
    document = {"version": 6, "environments": {"default": environment}, "packages": packages}
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1000)


def _hashes(sha256: str | None, md5: str | None) -> dict[str, str]:
    return {"sha256": sha256} if sha256 else {"md5": md5 or ""}


def _url(wheel: Wheel, urls: Mapping[str, str]) -> str:
    return wheel.url or urls[wheel.sha256]


def _quote(text: str) -> str:
    """Quote a TOML string, which JSON's is too."""
    return json.dumps(text, ensure_ascii=False)
