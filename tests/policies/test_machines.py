"""Machines need what `docs/aws/guest.json` and `builder.json` say, and nothing more.

The agent is the one that machines run; its role's credentials come from an emulated IMDSv2.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from envboot.config import S3Settings
from envboot.fleet.peers import Seat, write_seats
from envboot.publish.grants import Auth, Terms
from envboot_provisioners import Instance
from tests.agent.guests import Guest
from tests.boot.metadata import PROFILE, PROFILE_PATH, identify, serve_metadata
from tests.policies import steps
from tests.policies.documents import VALUES, find_actions, list_grants, read_policy, without
from tests.policies.world import list_unused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.agent.guests import Launch
    from tests.policies.account import Identity
    from tests.policies.world import World

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

KEY = f"arn:aws:kms:{VALUES['REGION']}:{VALUES['ACCOUNT']}:key/{VALUES['KEY']}"
GRANTS = [*list_grants(read_policy("builder"))]


@pytest.fixture
def launch(world: World) -> Launch:
    """A launch by role, whose objects a key of KMS encrypts; its machines have seats."""
    settings = S3Settings(kms_key=KEY)
    made = steps.publish(world, world.helper, Auth.ROLE, settings=settings, seats=0)
    instances = [
        Instance(name=name, launch="launch", identity=identify(name))
        for name in (f"machine-{number}" for number in range(9))
    ]
    seats = [Seat(number, secret={"KEY": "a secret"}) for number in range(9)]
    with world.open_store(settings) as store:
        write_seats(
            store,
            Terms(launch="launch", auth=Auth.ROLE, seconds=60, seats=0),
            instances,
            seats=seats,
        )
    made.config["command"] = ["sh", "-c", 'test "$KEY" = "a secret"']
    return made


@contextmanager
def machine(world: World, launch: Launch, who: Identity) -> Iterator[Guest]:
    """Have a fresh machine that has a role."""
    keys = who.credentials
    document = {
        "Code": "Success",
        "AccessKeyId": keys.access_key,
        "SecretAccessKey": keys.secret_key,
        "Token": keys.token,
        "Expiration": "2099-01-01T00:00:00Z",
    }
    with serve_metadata() as (metadata, endpoint):
        path = f"meta-data/iam/security-credentials/{who.name}"
        metadata.tree[path] = json.dumps(document)
        metadata.tree[PROFILE_PATH] = json.dumps(PROFILE)
        number = len(list(world.folder.glob("machine-*")))
        guest = Guest(world.folder / f"machine-{number}", launch)
        # What AWS puts into the requests of a machine's role.
        who.context["ec2:SourceInstanceARN"] = identify(guest.root.name)
        guest.environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = endpoint
        yield guest


def live(world: World, launch: Launch, who: Identity, *, runs: bool = True) -> Guest:
    """Let a machine boot, run its command and publish.

    The command must end well with `runs`, and only then.
    """
    with machine(world, launch, who) as guest:
        guest.boot()
        assert (guest.agent("run") == 0) is runs
        guest.publish()
    return guest


def tell(guest: Guest) -> str:
    """Return all that a machine's journal has."""
    return "\n".join(event["MESSAGE"] for event in guest.events)


def test_a_guest_needs_every_action_and_every_resource(world: World, launch: Launch) -> None:
    who = world.add_session(world.read("guest"))
    first = live(world, launch, who)
    assert (first.result["source"], first.result["outcome"]) == ("install", "ready")
    assert f"publish: forbidden: the role {who.name} may not PUT " in tell(first)
    live(world, launch, world.add_session(world.read("builder")))
    second = live(world, launch, who)
    assert (second.result["source"], second.result["outcome"]) == ("archive", "ready")
    assert_needs_all(world, who)
    assert set(world.account.refused[who.name]) == {
        # A missing index: the manifest beside it can be read, so it is no denial.
        "GetObject: s3:ListBucket",
        # What builders may.
        "PutObject: s3:PutObject",
    }


def test_a_builder_needs_every_action_and_every_resource(world: World, launch: Launch) -> None:
    who = world.add_session(world.read("builder"))
    first, second = live(world, launch, who), live(world, launch, who)
    assert [first.result["source"], second.result["source"]] == ["install", "archive"]
    assert "publish: done" in tell(first)
    assert "forbidden" not in tell(first) + tell(second)
    assert_needs_all(world, who)
    assert set(world.account.refused[who.name]) == {"GetObject: s3:ListBucket"}


def assert_needs_all(world: World, who: Identity) -> None:
    """Check that nothing of a policy is too much."""
    found = world.account.used[who.name]
    assert {need.action for need in found} == find_actions(who.document)
    bucket = f"arn:aws:s3:::{world.values['BUCKET']}/{VALUES['PREFIX']}"
    # Conda packages behind a login: tests/private has such channels. Changes to a machine that
    # runs: tests/agent/test_sync.py.
    assert list_unused(who.document, found) == {
        ("ReadTheEnvironment", f"{bucket}/packages/*"),
        ("ReadTheEnvironment", f"{bucket}/launches/*/wanted-*.json"),
    }


def test_a_builder_is_a_guest_that_may_do_more() -> None:
    guest, builder = (read_policy(name)["Statement"] for name in ("guest", "builder"))
    assert [each for each in builder if each in guest] == guest


@pytest.mark.parametrize(("sid", "action"), GRANTS)
def test_without_an_action_a_machine_names_it(
    world: World, launch: Launch, sid: str, action: str
) -> None:
    """Those of guests are among the builder's."""
    who = world.add_session(without(world.read("builder"), sid, action))
    reads = action in ("s3:GetObject", "kms:Decrypt")
    guest = live(world, launch, who, runs=not reads)
    told = [event["MESSAGE"] for event in guest.events if f"({action})" in event["MESSAGE"]]
    assert told, tell(guest)
    assert all(f"forbidden: the role {who.name} may not " in text for text in told)
    # A secret is for the command alone.
    assert (guest.result["outcome"] == "ready") == (not reads or sid == "ReadItsOwnSecret")
