"""`environment.yml`: solved for the target here, once a day."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from envboot.documents import Node
from envboot.errors import DocumentError, LockError, name_some
from envboot.indexes.channels import read_channels
from envboot.lock.cache import keep_for_a_day
from envboot.lock.fit import NoSolution
from envboot.lock.solver import open_channels
from envboot.lockfiles.compile import Requirements, compile_kept
from envboot.lockfiles.conda_lock import assemble_conda, note_logins, parse_yaml
from envboot.lockfiles.content import Content, LockFileRequest, refuse, refuse_names
from envboot.lockfiles.pylock import parse_pylock
from envboot.redaction import strip_channel

if TYPE_CHECKING:
    from collections.abc import Sequence

# What this name stands for in conda's own configuration.
_DEFAULTS = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")


def read_environment(request: LockFileRequest) -> Content:
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
        request.session.cache / "environments",
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
    content = replace(
        assemble_conda(request, [(record["url"], record["hashes"]) for record in records]),
        notes=note_logins(channels),
    )
    if not pip:
        return content
    of_conda = {record["name"]: record["version"] for record in records if record["python"]}
    wanted = Requirements(
        lines=pip,
        file=request.file,
        constraints=[f"{name}=={version}" for name, version in sorted(of_conda.items())],
    )
    text = compile_kept(
        wanted,
        request.session,
        target=target,
        version=content.python.version,
        prefix=Path(request.interpreter.prefix),
        fresh=request.fresh,
    )
    packages = [
        package for package in parse_pylock(request, text).packages if package.name not in of_conda
    ]
    return replace(content, packages=packages)


def _parse(request: LockFileRequest, document: Node) -> tuple[list[str], list[str], list[str]]:
    """Return channels, conda's specs and pip's requirements."""
    channels: list[str] = []
    for channel in document.strings("channels") or request.session.settings.channels:
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


def read_variables(file: Path) -> dict[str, str]:
    """Return the `variables:` of an `environment.yml`; none of any other file.

    Whatever is wrong with the file has been said by then.
    """
    if file.suffix not in (".yml", ".yaml"):
        return {}
    try:
        document = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    found = document.get("variables") if isinstance(document, dict) else None
    values = found.items() if isinstance(found, dict) and "dependencies" in document else ()
    return {str(name): str(value) for name, value in values if value is not None}


def _solve(
    request: LockFileRequest, channels: Sequence[str], specs: Sequence[str]
) -> list[dict[str, Any]]:
    configured = read_channels(request.session.environment)
    urls = [configured.open(channel) for channel in channels]
    with open_channels(urls, request.target, request.session) as found:
        records = found.solve(specs)
    if isinstance(records, NoSolution):
        raise LockError(
            f"Cannot solve `{request.file}` for `{request.target.platform}`",
            causes=(f"In {name_some([strip_channel(url) for url in urls])}: {records.words}",),
        )
    return [
        {
            "name": record.name.normalized,
            "version": str(record.version),
            "url": strip_channel(record.url),
            "hashes": {
                kind: value.hex()
                for kind, value in (("sha256", record.sha256), ("md5", record.md5))
                if value
            },
            "python": any(need.split()[0] == "python" for need in record.depends),
        }
        for record in records
    ]
