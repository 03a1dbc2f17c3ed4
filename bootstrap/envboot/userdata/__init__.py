"""The user-data document: parts, byte budget, and the encoding that each launch path takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from envboot import agent_payload
from envboot.errors import RenderError
from envboot.userdata.contents import COMMAND_UNITS, Draft, Job, Life, compose
from envboot.userdata.encoding import Cost, encode, join, measure
from envboot.userdata.launch_path import LaunchPath
from envboot.userdata.rung import Rung

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from envboot.manifest import Manifest
    from envboot.publish.grants import Grants
    from envboot.userdata.parts import Part

__all__ = ["Document", "Job", "LaunchPath", "Life", "Rung", "render"]


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
    draft = Draft(
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
        pieces = compose(draft, rung)
        packed = rules.gzip and rung is not Rung.PLAIN
        found = encode(join(pieces), rules, packed=packed)
        fits = rules.limit is None or found.size <= rules.limit
        attempts.append(Attempt(rung=rung, size=found.size, note="fits" if fits else "too large"))
        if fits:
            return Document(
                payload=found.body,
                rung=rung,
                encoding=found.encoding,
                size=found.size,
                limit=rules.limit,
                costs=measure(pieces, found.size, packed=packed),
                attempts=tuple(attempts),
            )
        if not smallest or found.size < smallest[0]:
            smallest = found.size, measure(pieces, found.size, packed=packed)
    assert smallest
    raise _overflow(launch_path, attempts, *smallest, parts)


def _find_fault(rung: Rung, draft: Draft) -> str | None:
    """Return why a rung cannot be taken, whatever its size."""
    missing = sorted(rung.needs - draft.granted)
    if missing:
        return f"no signed URL of the {' and the '.join(missing)}"
    if "auth" in draft.granted and "agent" in rung.moves:
        return "only the agent itself can ask as the machine's role"
    return None


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
