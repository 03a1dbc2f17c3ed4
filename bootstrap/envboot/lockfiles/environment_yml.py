"""`environment.yml`: solved for the target here, once a day."""

from __future__ import annotations

import re
import string
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from envboot.conda_names import parse_name
from envboot.documents import Node, show_value
from envboot.errors import DocumentError, LockError, name_some
from envboot.indexes.channels import read_channels
from envboot.lock.cache import keep_for_a_day
from envboot.lock.conda_packages import sort_dependencies_first
from envboot.lock.fit import NoSolution
from envboot.lock.solver import open_channels, read_spec
from envboot.lockfiles.compile import Requirements, compile_kept
from envboot.lockfiles.conda_lock import assemble_conda, note_logins, parse_yaml
from envboot.lockfiles.content import Content, LockFileRequest, refuse, refuse_names
from envboot.lockfiles.pylock import parse_pylock
from envboot.lockfiles.requirements_grammar import read_lines
from envboot.lockfiles.requirements_txt import keep_hashed, note_settings, refuse_unhashed
from envboot.redaction import redact, strip_channel
from envboot.scan.schema import Problem

if TYPE_CHECKING:
    from rattler import MatchSpec

    from envboot.indexes.channels import Channels

# micromamba's selectors, as in `sel(linux): libgcc`.
_SELECTOR = re.compile(r"sel\((\w+)\)")
_SUBDIR = re.compile(r"/(noarch|(linux|osx|win|emscripten|wasi|freebsd|zos)-\w+)$")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wanted:
    """What a file asks for: channels as it names them, conda's specs, pip's lines."""

    channels: tuple[str, ...]
    specs: tuple[str, ...]
    pip: tuple[str, ...]


def read_environment(request: LockFileRequest) -> Content:
    """Solve the conda part with py-rattler, then the `pip:` part with uv.

    The `pip:` part takes conda's packages as they are, as pip in that environment would.

    Raises:
        LockError: the file is malformed, or a part has no solution.
    """
    if request.names:
        refuse_names(request, request.names, [])
    try:
        wanted = _parse(request, Node(parse_yaml(request), ""))
    except DocumentError as error:
        refuse(request, error.message)
    target, pip = request.target, wanted.pip
    configured = read_channels(request.session.environment)
    channels = configured.open_all(_join_channels(request, wanted.channels, configured))
    specs, more = _read_specs(request, wanted.specs, configured)
    channels = tuple(dict.fromkeys((*channels, *more)))
    records = keep_for_a_day(
        request.session.cache / "environments",
        {
            "channels": [strip_channel(channel) for channel in channels],
            "specs": list(wanted.specs),
            "platform": target.platform,
            "glibc": target.glibc,
            "cuda": target.cuda,
        },
        lambda: _solve(request, channels, specs),
        fresh=request.fresh,
    )
    content = replace(
        assemble_conda(request, [(record["url"], record["hashes"]) for record in records]),
        notes=(*note_logins(wanted.channels), *_note_unread(configured)),
    )
    if not pip:
        return content
    of_conda = {record["name"]: record["version"] for record in records if record["python"]}
    given = read_lines(request, "\n".join(pip))
    if any(line.sha256 for line in given.lines):
        # One hash makes pip require all of them.
        refuse_unhashed(request, given)
    requirements = Requirements(
        lines=[line.text for line in given.lines],
        file=request.file,
        constraints=[
            *(f"{name}=={version}" for name, version in sorted(of_conda.items())),
            *(line.text for line in given.constraints),
        ],
        configuration=given.configuration,
        options=given.options,
    )
    text = compile_kept(
        requirements,
        request.session,
        target=target,
        version=content.python.version,
        prefix=Path(request.interpreter.prefix),
        fresh=request.fresh,
    )
    packages = [
        package for package in parse_pylock(request, text).packages if package.name not in of_conda
    ]
    return replace(
        content,
        packages=keep_hashed(request, packages, given.sha256),
        notes=(*content.notes, *note_settings(given.lines)),
        configuration=given.configuration,
    )


def _parse(request: LockFileRequest, document: Node) -> _Wanted:
    """Read the members that conda reads; `name`, `prefix` and others say nothing about packages."""
    specs: list[str] = []
    pip: list[str] = []
    for i, entry in enumerate(document.take("dependencies", list)):
        path = f"dependencies[{i}]"
        if isinstance(entry, str):
            specs.append(entry)
        elif isinstance(entry, dict) and list(entry) == ["pip"]:
            pip += Node(entry, path).strings("pip") if entry["pip"] is not None else ()
        elif isinstance(entry, dict) and all(_SELECTOR.fullmatch(str(key)) for key in entry):
            specs += _select(request.target.platform, Node(entry, path))
        else:
            found = show_value(entry, 60)
            raise DocumentError(f"Expected `{path}` a str or `pip:` with a list, found `{found}`")
    given = document.strings("channels") if document.has("channels") else ()
    # conda expands variables here, as `https://${TOKEN}@…`, and nowhere else in the file.
    variables = request.session.environment
    channels = tuple(string.Template(text).safe_substitute(variables) for text in given)
    return _Wanted(channels=channels, specs=tuple(specs), pip=tuple(pip))


def _select(platform: str, node: Node) -> list[str]:
    system = platform.partition("-")[0]
    names = {system, *(["unix"] if system in ("linux", "osx") else [])}
    found = []
    for key in list(node.rest):
        text = node.take(key, str)
        selector = _SELECTOR.fullmatch(key)
        if selector and selector[1] in names:
            found.append(text)
    return found


def _join_channels(
    request: LockFileRequest, given: tuple[str, ...], configured: Channels
) -> tuple[str, ...]:
    """Return the file's channels and, as conda adds them, the configured ones behind.

    `nodefaults` keeps these out. Where conda has no configuration, its built-in `defaults` are
    not added: they have terms that their user must have accepted.
    """
    folder = request.session.folder
    own = tuple(
        str(folder / channel) if channel.startswith(".") else channel
        for channel in given
        if channel != "nodefaults"
    )
    if len(own) == len(given):
        own = tuple(dict.fromkeys((*own, *configured.names)))
    return own or request.session.settings.channels


def _note_unread(configured: Channels) -> tuple[Problem, ...]:
    """Say which of conda's settings are missing in the solve; conda itself would not start."""
    return tuple(
        Problem(subject=file, message=f"Not read, so its channels were not searched: {why}")
        for file, why in configured.unread.items()
    )


def _read_specs(
    request: LockFileRequest, texts: tuple[str, ...], configured: Channels
) -> tuple[list[MatchSpec], list[str]]:
    """Read specs as conda reads them, and the channels that they name (`channel::name`).

    conda looks a package up in the channel of its spec, whether the file lists that or not.
    """
    specs, channels, wrong = [], [], []
    for text in map(_name_package, texts):
        head, separator, rest = text.partition("::")
        if separator and "[" not in head:
            subdir = _SUBDIR.search(head)
            # Of several channels under one name, as `defaults`, the first has the packages.
            opened = configured.open_all([head.removesuffix(subdir[0]) if subdir else head])[0]
            channels.append(opened)
            text = f"{opened}{subdir[0] if subdir else ''}::{rest}"
        try:
            specs.append(read_spec(text))
        except ValueError as error:
            wrong.append(redact(f"`{text}`: {error}"))
    if wrong:
        refuse(request, *wrong, hint="Specs are written as for `conda install`: `numpy=1.26.*`")
    return specs, channels


def _name_package(text: str) -> str:
    """Return the spec of exactly one package for a package's URL: its channel knows the hash."""
    url = text.partition("#")[0]
    named = parse_name(url) if "://" in url and "::" not in url else None
    if named is None:
        return text
    return f"{url.rpartition('/')[0]}::{named.name}=={named.version}={named.build}"


def read_variables(file: Path) -> dict[str, str]:
    """Return the `variables:` of an `environment.yml`; none of any other file.

    Whatever is wrong with the file has been said by then.
    """
    if file.suffix not in (".yml", ".yaml", ".json"):
        return {}
    try:
        document = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    found = document.get("variables") if isinstance(document, dict) else None
    values = found.items() if isinstance(found, dict) and "dependencies" in document else ()
    return {str(name): str(value) for name, value in values if value is not None}


def _solve(
    request: LockFileRequest, channels: tuple[str, ...], specs: list[MatchSpec]
) -> list[dict[str, Any]]:
    with open_channels(channels, request.target, request.session) as found:
        records = found.solve(specs)
    if isinstance(records, NoSolution):
        raise LockError(
            f"Cannot solve `{request.file}` for `{request.target.platform}`",
            causes=(f"In {name_some([strip_channel(url) for url in channels])}: {records.words}",),
        )
    by_name = {record.name.normalized: record for record in records}
    ordered = sort_dependencies_first({name: each.depends for name, each in by_name.items()})
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
        for record in map(by_name.__getitem__, ordered)
    ]
