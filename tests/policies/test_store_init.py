"""Whoever sets a bucket up needs what `docs/aws/store-init.json` says, and nothing more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from envboot.cli import cli, run
from envboot.errors import Exit
from tests.policies.documents import find_actions, list_grants, read_policy, without
from tests.policies.world import list_unused

if TYPE_CHECKING:
    from tests.policies.account import Identity
    from tests.policies.world import World

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]


def set_up(world: World, who: Identity, *, times: int = 1) -> int:
    """Make a bucket that is not there yet; returns the exit code."""
    world.sign_in(who)
    codes = {run(cli, ["store", "init", world.url], "envboot") for _ in range(times)}
    (code,) = codes
    return code


@pytest.mark.parametrize("left_out", [*list_grants(read_policy("store-init"))], ids="-".join)
def test_without_an_action_its_step_fails_and_names_it(
    world: World, left_out: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    world.values["BUCKET"] = f"new-{world.number}"
    who = world.add_user(without(world.read("store-init"), *left_out))
    assert set_up(world, who) == Exit.STORE
    assert f"`{left_out[1]}` on `arn:aws:s3:::new-{world.number}`" in capsys.readouterr().err


def test_setting_up_needs_every_action(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.values["BUCKET"] = f"new-{world.number}"
    who = world.add_user(world.read("store-init"))
    assert set_up(world, who) == Exit.OK, capsys.readouterr().err
    found = world.account.used[who.name]
    assert {need.action for need in found} == find_actions(who.document)
    assert list_unused(who.document, found) == set()
    # Its answer tells that the bucket is there all the same, and in which region.
    assert set(world.account.refused[who.name]) == {"HeadBucket: s3:ListBucket"}
