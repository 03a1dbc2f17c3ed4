"""The user-data document: parts, byte budget, and the encoding that each launch path wants.

Our part is one shell script, which cloud-init runs as a boothook, GCE as a start-up script and
the `local` provisioner as it is. Pure but for the package's own templates.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from envboot import agent_payload
from envboot.errors import RenderError
from envboot.userdata.encoding import Cost, Rules, count, encode, join, measure
from envboot.userdata.parts import Part, render_mime

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from envboot.manifest import Manifest
    from envboot.publish.grants import Grants

LIB = "/opt/envboot/lib"
STATE = "/var/lib/envboot"
UNITS = "/etc/systemd/system"
CATALOG = "/usr/local/lib/systemd/catalog"
COMMAND_UNITS = ("envboot-run", "envboot-dask-scheduler", "envboot-dask-worker")
"""The units that run a command: a machine has one of them at most."""


class LaunchPath(Enum):
    """How a document reaches the machine.

    Limits: EC2 User Guide, "Run commands at launch" (16 KB before base64); Compute Engine,
    "About VM metadata" (256 KB a value).
    """

    EC2 = "ec2"
    EC2_BASE64 = "ec2-base64"
    TERRAFORM = "terraform"
    GCE = "gce"
    GCE_STARTUP_SCRIPT = "gce-startup-script"
    NOCLOUD = "nocloud"
    QEMU = "qemu"
    LOCAL = "local"

    @property
    def rules(self) -> Rules:
        """What this path takes."""
        return _RULES[self]

    @property
    def is_google(self) -> bool:
        """Whether such machines have Google's metadata server."""
        return self in (LaunchPath.GCE, LaunchPath.GCE_STARTUP_SCRIPT)

    @property
    def notices(self) -> dict[str, str]:
        """Whose notices such machines look for, in `watch` of config.json; EC2's go unsaid."""
        return {"kind": "gcp"} if self.is_google else {}


_RULES = {
    LaunchPath.EC2: Rules(limit=16_384),
    LaunchPath.EC2_BASE64: Rules(limit=16_384, base64="always"),
    LaunchPath.TERRAFORM: Rules(limit=16_384, base64="always"),
    LaunchPath.GCE: Rules(limit=262_144, limit_encoded=True, base64="gzip"),
    LaunchPath.GCE_STARTUP_SCRIPT: Rules(limit=262_144, gzip=False, mime=False),
    LaunchPath.NOCLOUD: Rules(),
    LaunchPath.QEMU: Rules(),
    LaunchPath.LOCAL: Rules(gzip=False, mime=False),
}


class Rung(Enum):
    """One step of the ladder: what the guest fetches for itself, each by signed URL."""

    PLAIN = "plain"
    GZIP = "gzip"
    EXTRAS = "rare modules by signed URL"
    MANIFEST = "manifest by signed URL"
    AGENT = "agent by signed URL"
    BOTH = "manifest and agent by signed URL"

    @property
    def moves(self) -> frozenset[str]:
        """The parts that are not in the document."""
        return {
            Rung.EXTRAS: frozenset({"extras"}),
            Rung.MANIFEST: frozenset({"extras", "manifest"}),
            Rung.AGENT: frozenset({"extras", "agent"}),
            Rung.BOTH: frozenset({"extras", "manifest", "agent"}),
        }.get(self, frozenset())

    @property
    def needs(self) -> frozenset[str]:
        """The grants without which this rung cannot be taken."""
        return frozenset({"extras": "agent"}.get(part, part) for part in self.moves)


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One rung that was looked at: its size as it counts, or why it cannot be taken."""

    rung: Rung
    size: int | None
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A document ready for its launch path.

    `encoding` is `base64` where the payload is base64 text (GCE then needs the metadata key
    `user-data-encoding`). `size` is what counts against `limit`, both in bytes.
    """

    payload: bytes
    rung: Rung
    encoding: str | None
    size: int
    limit: int | None
    costs: tuple[Cost, ...]
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _File:
    part: str
    path: str
    text: str
    mode: str = "0644"


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What machines run in their environment.

    `environment` are variables of the command. With `watch` the guest looks for its cloud's
    notices, and runs the shell command `hook` at each. `unit` is which of `COMMAND_UNITS` runs
    the command.
    """

    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    watch: bool = False
    hook: str | None = None
    unit: str = "envboot-run"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Draft:
    manifest: Manifest
    grants: Grants | None
    job: Job
    parts: Sequence[Part]
    agent: Mapping[str, str]
    path: LaunchPath

    @property
    def granted(self) -> frozenset[str]:
        """The members of the grants."""
        return self.grants.granted if self.grants else frozenset()

    @property
    def watch(self) -> dict[str, str] | None:
        """What config.json says of notices, None where nobody looks for any."""
        hook = {"hook": self.job.hook} if self.job.hook else {}
        return {**self.path.notices, **hook} if self.job.watch else None


def render(
    manifest: Manifest,
    *,
    launch_path: LaunchPath,
    grants: Grants | None = None,
    job: Job | None = None,
    parts: Sequence[Part] = (),
    agent: Mapping[str, str] | None = None,
) -> Document:
    """Make the document: the first rung of the ladder that fits the launch path's limit.

    Manifest and agent travel by signed URL where the grants have one and they do not fit. `agent`
    is path below `lib/` to source, `agent_files()` when None. The same arguments give the same
    bytes.

    Raises:
        RenderError: no rung fits (the causes hold the sizes), or the path takes no parts.
    """
    job = job or Job()
    assert job.unit in COMMAND_UNITS
    rules = launch_path.rules
    if parts and not rules.mime:
        raise RenderError(
            f"Cannot add parts to launch path `{launch_path.value}`, which takes one script",
            causes=tuple(f"`{part.name}` is `{part.type}`" for part in parts),
            hint="Use a launch path with cloud-init, such as `--for gce`",
        )
    draft = _Draft(
        manifest=manifest,
        grants=grants,
        job=job,
        parts=parts,
        agent=agent_payload.agent_files() if agent is None else agent,
        path=launch_path,
    )
    attempts: list[Attempt] = []
    smallest: tuple[int, tuple[Cost, ...]] | None = None
    for rung in Rung:
        if rung is Rung.GZIP and not rules.gzip:
            continue
        note = _find_fault(rung, draft)
        if note:
            attempts.append(Attempt(rung=rung, size=None, note=note))
            continue
        pieces = _compose(draft, rung)
        packed = rules.gzip and rung is not Rung.PLAIN
        size = count(join(pieces), rules, packed=packed)
        fits = rules.limit is None or size <= rules.limit
        attempts.append(Attempt(rung=rung, size=size, note="fits" if fits else "too large"))
        if fits:
            body, encoding = encode(join(pieces), rules, packed=packed)
            return Document(
                payload=body,
                rung=rung,
                encoding=encoding,
                size=size,
                limit=rules.limit,
                costs=measure(pieces, rules, packed=packed),
                attempts=tuple(attempts),
            )
        if not smallest or size < smallest[0]:
            smallest = size, measure(pieces, rules, packed=packed)
    assert smallest
    raise _overflow(launch_path, attempts, *smallest, parts)


def _find_fault(rung: Rung, draft: _Draft) -> str | None:
    """Return why a rung cannot be taken, whatever its size."""
    missing = sorted(rung.needs - draft.granted)
    if missing:
        return f"no signed URL of the {' and the '.join(missing)}"
    if "auth" in draft.granted and "agent" in rung.moves:
        return "only the agent itself can ask as the machine's role"
    return None


def _dumps(document: Any) -> str:
    """Return canonical JSON, but in ASCII: no part of a boot minds how it is encoded."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def _collect(draft: _Draft, rung: Rung) -> list[_File]:
    """Return the files that a document carries on that rung."""
    manifest, job = draft.manifest, draft.job
    grants = draft.grants.to_dict() if draft.grants else {}
    config: dict[str, Any] = {"digest": manifest.environment_digest}
    if job.command:
        config["command"] = list(job.command)
    if job.environment:
        config["environment"] = dict(job.environment)
    if draft.watch is not None:
        config["watch"] = draft.watch
    if "manifest" not in rung.moves:
        grants.pop("manifest", None)
    if rung not in (Rung.EXTRAS, Rung.MANIFEST):
        grants.pop("agent", None)
    units = ["envboot.service", "envboot-publish.service", "envboot.target"]
    if job.command:
        units.append(f"{job.unit}.service")
    if job.watch:
        units.append("envboot-watch.service")
    if "wanted" in draft.granted:
        units.append("envboot-sync.service")
    wrapper = agent_payload.template("envboot-agent")
    files = [
        _File(part="config", path=f"{STATE}/config.json", text=_dumps(config), mode="0600"),
        _File(part="manifest", path=f"{STATE}/manifest.json", text=_dumps(manifest.to_dict())),
        _File(part="units", path="/usr/local/bin/envboot-agent", text=wrapper, mode="0755"),
        *(_File(part="units", path=f"{UNITS}/{name}", text=_unit(name, draft)) for name in units),
        _File(
            part="catalog",
            path=f"{CATALOG}/envboot.catalog",
            text=agent_payload.template("envboot.catalog"),
        ),
    ]
    if grants:
        text = _dumps(grants)
        files.insert(0, _File(part="grants", path=f"{STATE}/grants.json", text=text, mode="0600"))
    for path, text in draft.agent.items():
        part = _find_part(path, draft, rung)
        if part:
            files.append(_File(part=part, path=f"{LIB}/{path}", text=text))
    return [
        file if file.text.endswith("\n") else replace(file, text=file.text + "\n")
        for file in files
        if file.part not in rung.moves
    ]


def _find_part(path: str, draft: _Draft, rung: Rung) -> str | None:
    """Return which part a module of the agent belongs to, None where nothing will need it."""
    role = draft.grants.auth if draft.grants else None
    kind = role.kind if role else ""
    if path in agent_payload.FOR_ROLES.get(kind, ()):
        return "agent"
    if path in agent_payload.FOR_RENEWING.values() and path != agent_payload.FOR_RENEWING.get(
        kind or ""
    ):
        return None
    notices = (draft.watch or {}).get("kind", "aws")
    needed = agent_payload.FOR_NOTICES | agent_payload.FOR_ROLES[notices] if draft.job.watch else ()
    if path in agent_payload.OF_CLOUDS and path not in needed:
        return None
    if path in agent_payload.FOR_PUBLISHING and not draft.grants:
        return None
    if path in agent_payload.FOR_SEATS and "seat" not in draft.granted:
        return None
    if path == agent_payload.FOR_SHARING and draft.path is not LaunchPath.LOCAL:
        return None
    if path in agent_payload.FOR_SYNC and "wanted" not in draft.granted:
        return None
    if path in agent_payload.FOR_COMMANDS and rung is Rung.EXTRAS and "seat" not in draft.granted:
        # A machine that can do without the bucket must not need it for the command; where it has
        # a seat, that is in the bucket anyway.
        return "agent" if draft.job.command else "extras"
    return "extras" if path in agent_payload.EXTRAS else "agent"


def _unit(name: str, draft: _Draft) -> str:
    text = agent_payload.without_comments(agent_payload.template(name))
    if "wanted" not in draft.granted:
        # One that was left by an earlier document is not started then.
        text = text.replace(" envboot-sync.service", "")
    return text.replace("envboot-run.service", f"{draft.job.unit}.service")


def _compose(draft: _Draft, rung: Rung) -> list[tuple[str, str]]:
    """Return the document's text in pieces, each with the name of its part."""
    from jinja2 import Environment, StrictUndefined

    files = _collect(draft, rung)
    by_url = draft.grants.agent if draft.grants and "agent" in rung.moves else None
    kept = draft.job.unit if draft.job.command else None
    absent = [f"{UNITS}/{unit}.service" for unit in COMMAND_UNITS if unit != kept]
    absent += [] if draft.job.watch else [f"{UNITS}/envboot-watch.service"]
    absent += [] if draft.grants else [f"{STATE}/grants.json"]
    absent += [] if by_url else [f"{LIB}/.sha256"]
    # Of the machine that an image was made of, where that one had no cloud-init.
    absent += [f"{STATE}/instance"] if draft.path is LaunchPath.GCE else []
    end, mark = "END", "=== envboot"
    while any(f"\n{end}\n" in f"\n{file.text}" for file in files):
        end += "_"
    while any(mark in file.text for file in files):
        mark = f"={mark}"
    jinja = Environment(  # noqa: S701 - what is rendered is a shell script
        undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    script = jinja.from_string(agent_payload.template("bootstrap.sh.j2")).render(
        environment=draft.manifest.environment_digest,
        files=files,
        absent=absent,
        end=end,
        mark=mark,
        user=bool(draft.job.command or draft.watch),
        ask_id=draft.path is LaunchPath.GCE_STARTUP_SCRIPT,
        agent_url=repr(by_url.get) if by_url else None,
        agent_sha256=repr(by_url.sha256) if by_url else None,
    )
    if not draft.path.rules.mime:
        return _split(script, files)
    name = "envboot.sh"
    ours = Part(name=name, type="text/cloud-boothook", text=script)
    pieces = []
    for label, text in render_mime([ours, *draft.parts]):
        pieces += _split(text, files) if label == name else [(label or "frame", text)]
    return pieces


def _split(script: str, files: list[_File]) -> list[tuple[str, str]]:
    pieces, at = [], 0
    for file in files:
        start = script.index(f"\n{file.text}", at) + 1
        pieces += [("script", script[at:start]), (file.part, file.text)]
        at = start + len(file.text)
    return [*pieces, ("script", script[at:])]


def _overflow(
    path: LaunchPath,
    attempts: list[Attempt],
    size: int,
    costs: tuple[Cost, ...],
    parts: Sequence[Part],
) -> RenderError:
    limit = path.rules.limit
    causes = [
        f"{attempt.rung.value}: "
        + (attempt.note if attempt.size is None else f"{attempt.size:,} bytes")
        for attempt in attempts
    ]
    causes += [f"`{row.part}` costs {row.counted:,} bytes ({row.raw:,} raw)" for row in costs]
    if any(attempt.note.startswith("no signed URL") for attempt in attempts):
        hint = "Give a bucket with `--store`, so that manifest and agent travel by signed URL"
    elif parts:
        hint = "Put what is long in the parts into the bucket, and name it with `#include URL`"
    else:
        hint = "Use a launch path with more room, or shorten the command and its environment"
    return RenderError(
        f"Expected user-data of at most {limit:,} bytes for `{path.value}`, found {size:,}",
        causes=tuple(causes),
        hint=hint,
    )
