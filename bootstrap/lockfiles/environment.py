"""`environment.yml`: solved for the target here, once a day."""

from __future__ import annotations

import asyncio
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bootstrap.documents import Node
from bootstrap.errors import DocumentError, LockError, name_some
from bootstrap.lock.kept import keep_for_a_day
from bootstrap.lockfiles.conda import assemble, parse_yaml
from bootstrap.lockfiles.content import Content, Request, refuse, refuse_names
from bootstrap.lockfiles.pylock import parse_pylock
from bootstrap.lockfiles.uv import compile_kept
from bootstrap.scan.urls import redact, strip_channel

if TYPE_CHECKING:
    from collections.abc import Sequence

# What this name stands for in conda's own configuration.
_DEFAULTS = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")


def read_environment(request: Request) -> Content:
    """Solve the conda part with py-rattler, then the `pip:` part with uv.

    The `pip:` part takes conda's packages as they are, as pip in that environment would.

    Raises:
        LockError: the file is malformed, or a part has no solution.
    """
    if request.names:
        refuse_names(request, request.names, [])
    try:
        channels, specs, pip = _parse(request, Node(parse_yaml(request), ""))
    except DocumentError as error:
        refuse(request, error.message)
    target = request.target
    records = keep_for_a_day(
        request.cache / "environments",
        {
            "channels": channels,
            "specs": specs,
            "platform": target.platform,
            "glibc": target.glibc,
            "cuda": target.cuda,
        },
        lambda: _solve(request, channels, specs),
        fresh=request.fresh,
    )
    content = assemble(request, [(record["url"], record["hashes"]) for record in records])
    if not pip:
        return content
    of_conda = {record["name"]: record["version"] for record in records if record["python"]}
    text = compile_kept(
        pip,
        file=request.file,
        target=target,
        version=content.python.version,
        prefix=Path(request.interpreter.prefix),
        cache=request.cache,
        fresh=request.fresh,
        constraints=[f"{name}=={version}" for name, version in sorted(of_conda.items())],
    )
    packages = [
        package for package in parse_pylock(request, text).packages if package.name not in of_conda
    ]
    return replace(content, packages=packages)


def _parse(request: Request, document: Node) -> tuple[list[str], list[str], list[str]]:
    """Return channels, conda's specs and pip's requirements."""
    channels: list[str] = []
    for channel in document.strings("channels") or request.settings.channels:
        if channel != "nodefaults":
            channels += _DEFAULTS if channel == "defaults" else [channel]
    specs: list[str] = []
    pip: list[str] = []
    for i, entry in enumerate(document.take("dependencies", list)):
        if isinstance(entry, str):
            specs.append(entry)
        elif isinstance(entry, dict) and list(entry) == ["pip"]:
            pip += Node(entry, f"dependencies[{i}]").strings("pip")
        else:
            found = f"{entry!r:.60}"
            raise DocumentError(
                f"Expected `dependencies[{i}]` a str or `pip:` with a list, found `{found}`"
            )
    return channels, specs, pip


def _solve(request: Request, channels: Sequence[str], specs: Sequence[str]) -> list[dict[str, Any]]:
    request.cache.mkdir(parents=True, exist_ok=True)
    # As `solve_python` does: an index of its own each time, and a thread of its own.
    with (
        tempfile.TemporaryDirectory(dir=request.cache) as folder,
        ThreadPoolExecutor(1) as pool,
    ):
        return pool.submit(
            lambda: asyncio.run(_ask(request, channels, specs, Path(folder)))
        ).result()


async def _ask(
    request: Request, channels: Sequence[str], specs: Sequence[str], folder: Path
) -> list[dict[str, Any]]:
    from rattler import Gateway, solve

    from bootstrap.lock.conda import virtual_records

    target = request.target
    try:
        records = await solve(
            list(channels),
            list(specs),
            gateway=Gateway(cache_dir=folder),
            platforms=cast("Any", [target.platform, "noarch"]),
            virtual_packages=virtual_records(target),
        )
    except Exception as error:
        # rattler raises bare exceptions whose text may hold whole URLs.
        shown = name_some([strip_channel(channel) for channel in channels])
        lines = [line.removeprefix("Caused by:").strip() for line in str(error).splitlines()]
        raise LockError(
            f"Failed to solve `{request.file}` for `{target.platform}` in {shown}",
            causes=tuple(redact(line) for line in lines if line)[:10],
            hint="Name channels that can be reached in `channels`, and loosen what conflicts",
        ) from error
    return [
        {
            "name": record.name.normalized,
            "version": str(record.version),
            "url": record.url,
            "hashes": {
                kind: value.hex()
                for kind, value in (("sha256", record.sha256), ("md5", record.md5))
                if value
            },
            "python": any(need.split()[0] == "python" for need in record.depends),
        }
        for record in records
    ]
