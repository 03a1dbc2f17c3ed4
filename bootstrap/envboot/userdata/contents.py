"""The files that a document carries, and the script around them.

Our part is one shell script, which cloud-init runs as a boothook, GCE as a start-up script and
the `local` provisioner as it is. Pure but for the package's own templates.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from envboot import agent_payload
from envboot.userdata.launch_path import LaunchPath
from envboot.userdata.parts import Part, render_mime
from envboot.userdata.rung import Rung

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from envboot.manifest import Manifest
    from envboot.publish.grants import Grants
    from envboot.userdata.result_rules import ResultRules

LIB = "/opt/envboot/lib"
STATE = "/var/lib/envboot"
UNITS = "/etc/systemd/system"
CATALOG = "/usr/local/lib/systemd/catalog"
_WITH_SYSTEMD = (LaunchPath.EC2, LaunchPath.EC2_BASE64, LaunchPath.TERRAFORM)
Imds: TypeAlias = 'Literal["allow", "deny"]'
COMMAND_UNITS = ("envboot-run", "envboot-dask-scheduler", "envboot-dask-worker")
"""The units that run a command: a machine has one of them at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class File:
    """A file that the script writes; `part` is what its bytes count for."""

    part: str
    path: str
    text: str
    mode: str = "0644"


@dataclass(frozen=True, kw_only=True, slots=True)
class Life:
    """When machines end by themselves: at `end` (seconds since 1970), or `max` seconds after boot.

    With `idle` also after as many seconds in which nothing runs on them; with `done` when their
    command is over and nothing is left to publish.
    """

    end: int | None = None
    max: int | None = None
    idle: int | None = None
    done: bool = False

    def to_dict(self) -> dict[str, int]:
        """Return what config.json says of it."""
        found = {"end": self.end, "max": self.max, "idle": self.idle, "done": self.done or None}
        return {name: int(value) for name, value in found.items() if value is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What machines run in their environment.

    `environment` are variables of the command, and `secrets` say of others where the guest's cloud
    keeps their values. `life` says when machines end by themselves. With `watch` the guest looks
    for its cloud's notices, and runs the shell command `hook` at each. `unit` is which of
    `COMMAND_UNITS` runs the command. `imds` says whether command and hook may use the metadata
    service; with None they may if the machine's role signs. `output` says which files of the
    command go to the bucket, None for none.
    """

    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    life: Life | None = None
    watch: bool = False
    hook: str | None = None
    unit: str = "envboot-run"
    imds: Imds | None = None
    output: ResultRules | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """Everything that a document is made of, whatever rung it will be on."""

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
    def imds(self) -> Imds:
        """Whether the user's programs may use the metadata service: the role's are in there."""
        return self.job.imds or ("allow" if "auth" in self.granted else "deny")

    @property
    def takes_output(self) -> bool:
        """Whether what the command makes goes to the bucket."""
        return bool(self.job.command and self.grants and self.job.output is not None)

    @property
    def for_secrets(self) -> frozenset[str]:
        """The modules that read secrets of the command from the machine's cloud."""
        if not (self.job.command and self.job.secrets):
            return frozenset()
        assert self.path.cloud, "others are refused"
        return agent_payload.FOR_SECRETS | agent_payload.FOR_ROLES[self.path.cloud]

    @property
    def watch(self) -> dict[str, str] | None:
        """What config.json says of notices, None where nobody looks for any."""
        hook = {"hook": self.job.hook} if self.job.hook else {}
        return {**self.path.notices, **hook} if self.job.watch else None


def _dumps(document: Any) -> str:
    """Return canonical JSON, but in ASCII: no part of a boot minds how it is encoded."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def collect(draft: Draft, rung: Rung) -> list[File]:
    """Return the files that a document carries on that rung."""
    manifest, job = draft.manifest, draft.job
    grants = draft.grants.to_dict() if draft.grants else {}
    config: dict[str, Any] = {"digest": manifest.environment_digest}
    if job.command:
        config["command"] = list(job.command)
    if job.environment:
        config["environment"] = dict(job.environment)
        if manifest.base.conda and manifest.layer:
            # The environment's own variables give way to these: see `layer.activation`.
            config["environment"]["ENVBOOT_GIVEN"] = ",".join(sorted(job.environment))
    if draft.takes_output and job.output is not None:
        config["output"] = job.output.to_dict()
    if job.command and job.secrets:
        config["secrets"] = dict(job.secrets)
    if job.life:
        config["life"] = job.life.to_dict()
    if draft.watch is not None:
        config["watch"] = draft.watch
    if draft.imds == "allow" and (job.command or job.hook):
        # Closed where nothing is said: a document that lost this must not open it.
        config["imds"] = draft.imds
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
    if job.life:
        units.append("envboot-life.service")
    wrapper = agent_payload.template("envboot-agent")
    files = [
        File(part="config", path=f"{STATE}/config.json", text=_dumps(config), mode="0600"),
        File(part="manifest", path=f"{STATE}/manifest.json", text=_dumps(manifest.to_dict())),
        File(part="units", path="/usr/local/bin/envboot-agent", text=wrapper, mode="0755"),
        *(File(part="units", path=f"{UNITS}/{name}", text=_unit(name, draft)) for name in units),
        File(
            part="catalog",
            path=f"{CATALOG}/envboot.catalog",
            text=agent_payload.template("envboot.catalog"),
        ),
    ]
    if grants:
        text = _dumps(grants)
        files.insert(0, File(part="grants", path=f"{STATE}/grants.json", text=text, mode="0600"))
    for path, text in draft.agent.items():
        part = _find_part(path, draft, rung)
        if part:
            files.append(File(part=part, path=f"{LIB}/{path}", text=text))
    return [
        file if file.text.endswith("\n") else replace(file, text=file.text + "\n")
        for file in files
        if file.part not in rung.moves
    ]


def _find_part(path: str, draft: Draft, rung: Rung) -> str | None:
    """Return which part a module of the agent belongs to, None where nothing will need it."""
    role = draft.grants.auth if draft.grants else None
    kind = role.kind if role else ""
    if path in agent_payload.FOR_ROLES.get(kind, ()):
        return "agent"
    notices = (draft.watch or {}).get("kind", "aws")
    needed = agent_payload.FOR_NOTICES | agent_payload.FOR_ROLES[notices] if draft.job.watch else ()
    if path in draft.for_secrets:
        # As what runs the command: see below.
        return "extras" if rung is not Rung.EXTRAS or "seat" in draft.granted else "agent"
    if path in agent_payload.FOR_SECRETS:
        return None
    if path in agent_payload.OF_CLOUDS and path not in needed:
        return None
    if path in agent_payload.FOR_BUCKETS and not draft.grants:
        return None
    if path in agent_payload.FOR_RESULTS and not draft.takes_output:
        return None
    if path in agent_payload.FOR_SEATS and "seat" not in draft.granted:
        return None
    if path == agent_payload.FOR_PRIVATE and "packages" not in draft.granted:
        return None
    if path == agent_payload.FOR_KEYGEN and "signers" in draft.granted:
        return "agent"
    if path == agent_payload.FOR_CONDA:
        return "agent" if draft.manifest.base.conda else None
    if path == agent_payload.FOR_PROJECTS:
        # Another layer may be sent to machines that run.
        layer = draft.manifest.layer
        is_needed = "wanted" in draft.granted or (layer and layer.projects)
        return "agent" if draft.manifest.base.conda and is_needed else None
    if path == agent_payload.FOR_LOCAL and draft.path in _WITH_SYSTEMD:
        return None
    if path == agent_payload.FOR_LIFE:
        return ("extras" if draft.grants else "agent") if draft.job.life else None
    if path in agent_payload.FOR_SYNC and "wanted" not in draft.granted:
        return None
    if path == agent_payload.FOR_IMDS and draft.imds == "allow":
        return None
    is_for_commands = path in {agent_payload.FOR_IMDS, *agent_payload.FOR_COMMANDS}
    if is_for_commands and rung is Rung.EXTRAS and "seat" not in draft.granted:
        # A machine that can do without the bucket must not need it for the command; where it has
        # a seat, that is in the bucket anyway.
        return "agent" if draft.job.command else "extras"
    return "extras" if path in agent_payload.EXTRAS else "agent"


def _unit(name: str, draft: Draft) -> str:
    text = agent_payload.without_comments(agent_payload.template(name))
    if "wanted" not in draft.granted:
        # One that was left by an earlier document is not started then.
        text = text.replace(" envboot-sync.service", "")
    if not draft.job.life:
        text = text.replace(" envboot-life.service", "")
    if draft.takes_output:
        text = text.replace("/opt/envboot/lib run", "/opt/envboot/lib results")
    return text.replace("envboot-run.service", f"{draft.job.unit}.service")


def compose(draft: Draft, rung: Rung) -> list[tuple[str, str]]:
    """Return the document's text in pieces, each with the name of its part."""
    from jinja2 import Environment, StrictUndefined

    files = collect(draft, rung)
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


def _split(script: str, files: list[File]) -> list[tuple[str, str]]:
    pieces, at = [], 0
    for file in files:
        start = script.index(f"\n{file.text}", at) + 1
        pieces += [("script", script[at:start]), (file.part, file.text)]
        at = start + len(file.text)
    return [*pieces, ("script", script[at:])]
