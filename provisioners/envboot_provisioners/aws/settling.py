"""What EC2 has just started and may not show yet ("Eventual consistency"): waiting, and ending."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from envboot_provisioners.aws.errors import DENIED, FAULTS
from envboot_provisioners.aws.machines import end, find_tagged
from envboot_provisioners.clouds import refuse_end, refuse_unanswered

if TYPE_CHECKING:
    from collections.abc import Iterable

    from envboot_provisioners.aws.clients import AwsClients
    from envboot_provisioners.aws.fresh import FreshInstances
    from envboot_provisioners.aws.starting import AwsStart

SETTLE = 12.0
"""Seconds within which EC2 shows what it has started, and knows its id ("Eventual consistency")."""


def await_unknown(
    clients: AwsClients, start: AwsStart, launch: str, others: set[str], fresh: FreshInstances
) -> set[str]:
    """Return the ids of what a call has started whose answer did not arrive.

    `others` are the launch's instances of earlier calls.

    Raises:
        ProvisionError: EC2 does not answer.
    """
    deadline = time.monotonic() + SETTLE
    while True:
        try:
            found = find_tagged(clients.ec2, [launch]).get(launch, [])
        except FAULTS as error:
            message = f"Cannot tell what launch `{launch}` has started: EC2 does not answer"
            raise refuse_unanswered(launch, clients.explain(error, message)) from error
        new = {item["InstanceId"] for item in found} - start.started.keys() - others
        if len(new) >= start.unknown or time.monotonic() > deadline:
            fresh.add(new)
            return new
        time.sleep(1)


def end_settled(clients: AwsClients, names: Iterable[str], fresh: FreshInstances) -> None:
    """End instances of one region, those too that EC2 does not know yet.

    Raises:
        ProvisionError: some could not be; it names them, and the command to do it by hand.
    """
    wanted = list(dict.fromkeys(names))
    done = end(clients.ec2, wanted)
    deadline = time.monotonic() + SETTLE
    while (late := sorted(filter(fresh.has, done.unknown))) and time.monotonic() < deadline:
        time.sleep(1)
        again = end(clients.ec2, late)
        done.failed |= again.failed
        done.unknown = again.unknown
    failed = done.failed | dict.fromkeys(late, "EC2 does not know it yet")
    fresh.drop(name for name in wanted if name not in failed)
    if not failed:
        return
    denied = any(reason.partition(":")[0] in DENIED for reason in failed.values())
    allow = "; allow this identity `ec2:TerminateInstances`" if denied else ""
    command = f"aws ec2 terminate-instances --region {clients.region} --instance-ids"
    raise refuse_end(
        failed,
        len(wanted),
        platform="EC2",
        name=lambda name: f"`{name}`",
        hint=f"`{command} {' '.join(failed)}`{allow}",
    )
