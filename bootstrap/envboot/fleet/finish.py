"""How a launch ends, whoever watches it: the client that made it, or one that attached later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from envboot.errors import GuestError, ProvisionError, name_some
from envboot.fleet.healing import heal, heal_layer
from envboot.fleet.outcomes import raise_failures
from envboot.fleet.watch import Goal, Looker, wait
from envboot.publish.launch_record import write_end

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from envboot.fleet.outcomes import Outcome
    from envboot.fleet.watch import Fleet
    from envboot.prepare import Prepared
    from envboot.publish.bases import PublishedBase
    from envboot.scan.schema import Problem
    from envboot_provisioners import Instance


class Finisher(Looker, Protocol):
    """Is told how a launch ends."""

    def step(self, name: str) -> None:
        """A step on this machine begins: `end`."""

    def ended(self, fleet: Fleet, instances: Sequence[Instance]) -> None:
        """The instances were ended, since the launch failed or was interrupted."""

    def notes(self, notes: Sequence[Problem]) -> None:
        """What was found wrong in the bucket."""


def finish(
    fleet: Fleet,
    outcomes: Sequence[Outcome],
    *,
    prepared: Prepared | None,
    keep: bool,
    watcher: Finisher,
    warn: Callable[[Sequence[Problem]], None],
    hint: str | None = None,
) -> PublishedBase | None:
    """Do what is due when the commands of a launch have ended; its machines go unless kept.

    `prepared` is the environment, where this client has it: then what machines met in the bucket
    is mended, and `warn` is given what that was. Returns what was wrong with the archive.

    Raises:
        GuestError: an instance did not become ready; `hint` is where to look.
        ProvisionError: the instances cannot be ended from here.
    """
    damage = None
    if prepared:
        manifest, layer = prepared.manifest, prepared.layer_path
        damage = heal(fleet.store, manifest, outcomes)
        found = heal_layer(fleet.store, manifest, layer, outcomes)
        warn([each for each in (damage and damage.problem, found) if each])
    raise_failures(fleet.provisioner, outcomes, hint=hint)
    if not keep:
        end(fleet, "done", watcher=watcher)
    return damage


def end(fleet: Fleet, why: str, *, watcher: Finisher) -> None:
    """End the instances of a launch that is over, and note in the bucket why.

    Raises:
        ProvisionError: they cannot be ended from here.
    """
    watcher.step("end")
    if fleet.provisioner is None:
        running = [outcome.instance.name for outcome in fleet.look() if not outcome.gone]
        if running:
            raise ProvisionError(
                f"Cannot terminate {name_some(running)} from here",
                causes=("Their provisioner is not available on this machine",),
                hint=f"`envboot terminate {fleet.launch}` where it was launched",
            )
    else:
        fleet.provisioner.terminate(fleet.instances)
    write_end(fleet.store, fleet.launch, why)


def attach(
    fleet: Fleet, *, timeout: float | None, keep: bool, watcher: Finisher
) -> tuple[Outcome, ...]:
    """Watch a launch that somebody has made to its end, and end it as that client would have.

    If the bucket or the platform does not answer, or this client is interrupted, the instances
    run on.

    Raises:
        GuestError: an instance did not become ready.
        LateError: the command still ran after `timeout` seconds.
    """
    is_kept = keep or not fleet.command
    try:
        outcomes = wait(
            fleet,
            Goal.DONE if fleet.command else Goal.READY,
            timeout=timeout,
            looker=watcher,
        )
        if fleet.end is None:
            finish(
                fleet,
                outcomes,
                prepared=None,
                keep=is_kept,
                watcher=watcher,
                warn=watcher.notes,
            )
    except GuestError:
        if not is_kept and fleet.end is None:
            end(fleet, "failed", watcher=watcher)
            watcher.ended(fleet, fleet.instances)
        raise
    return tuple(outcomes)
