"""What an optional statement brings, and that nothing fails without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from envboot.errors import EnvbootError
from tests.policies import steps
from tests.policies.documents import NAMES, list_grants, read_policy, without
from tests.policies.test_client import STEPS, tell

if TYPE_CHECKING:
    from tests.policies.account import Identity
    from tests.policies.world import World

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

CHECKS = {
    ("OptionalLookAtQuotas", "servicequotas:GetServiceQuota"): ("aws quota", "skipped"),
    ("OptionalLookAtTheBucketsSettings", "s3:GetBucketPolicy"): ("TLS only", "skipped"),
    (
        "OptionalLookAtTheBucketsSettings",
        "s3:GetBucketPublicAccessBlock",
    ): ("public access", "skipped"),
    ("OptionalLookAtTheBucketsSettings", "s3:GetLifecycleConfiguration"): ("lifecycle", "skipped"),
    ("OptionalRemovalOfProbes", "s3:DeleteObject"): ("delete", "warning"),
}
"""Which of `doctor`'s checks says so."""


@pytest.mark.parametrize("left_out", CHECKS, ids="-".join)
def test_doctor_goes_on_without_and_names_the_action(
    world: World, left_out: tuple[str, str]
) -> None:
    document = without(world.read("client"), *left_out)
    name, status = CHECKS[left_out]
    ask = steps.ask_doctor_aws if name.startswith("aws ") else steps.ask_doctor
    checks = ask(world, world.add_user(document))
    assert checks[name].status == status
    assert f"`{left_out[1]}`" in f"{checks[name].detail} {checks[name].hint}" or (
        f"perform: {left_out[1]} " in checks[name].detail
    )
    assert "failed" not in {check.status for check in checks.values()}


def test_without_decoding_a_refusal_names_the_request_alone(world: World) -> None:
    left_out = ("OptionalDecodingOfRefusals", "sts:DecodeAuthorizationMessage")
    told = []
    for document in (world.read("client"), without(world.read("client"), *left_out)):
        with pytest.raises(EnvbootError) as caught:
            steps.ask_for_another_role(world, world.add_user(document))
        told.append(tell(caught.value))
    assert (
        f"may not `iam:PassRole` on `arn:aws:iam::123456789012:role/other-{world.number}`"
        in (told[0])
    )
    assert "PassRole" not in told[1]
    assert "Allow this identity `ec2:RunInstances`" in told[1]


def test_without_a_look_at_the_profile_a_wrong_one_shows_at_the_start(world: World) -> None:
    left_out = ("OptionalLookAtTheProfile", "iam:GetInstanceProfile")
    with pytest.raises(EnvbootError, match="holds no role"):
        steps.look_at_an_empty_profile(world, world.add_user(world.read("client")))
    less = world.add_user(without(world.read("client"), *left_out))
    steps.look_at_an_empty_profile(world, less)


def test_every_optional_statement_is_seen_to_here_or_with_the_others() -> None:
    told = {sid for sid, _ in CHECKS} | {"OptionalDecodingOfRefusals", "OptionalLookAtTheProfile"}
    for name in NAMES:
        optional = {sid for sid, _ in list_grants(read_policy(name)) if sid[:8] == "Optional"}
        assert optional <= told | STEPS.keys()


def test_where_rules_cannot_be_seen_what_is_used_is_renewed_all_the_same(world: World) -> None:
    who = world.add_user(
        without(
            world.read("client"), "OptionalLookAtTheBucketsSettings", "s3:GetLifecycleConfiguration"
        )
    )
    steps.publish_again(world, who)
    assert count_copies(world, who) > 0


def count_copies(world: World, who: Identity) -> int:
    """Return how often somebody has copied an object."""
    return sum("s3:x-amz-copy-source" in need.context for need in world.account.used[who.name])
