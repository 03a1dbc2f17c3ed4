"""Whoever launches, looks and ends needs what `docs/aws/client.json` says, and nothing more."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from envboot.cli import cli, run
from envboot.errors import EnvbootError
from envboot.fleet.history import Record, write_record
from envboot.folders import state_folder
from envboot.publish.grants import Auth
from envboot_provisioners.aws import AwsProvisioner
from tests.agent.guests import Guest
from tests.policies import steps
from tests.policies.documents import VALUES, find_actions, list_grants, merge, read_policy, without
from tests.policies.world import list_unused
from tests.reports import read_documents
from tests.sessions import make_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.policies.account import Identity
    from tests.policies.world import World

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

STEPS: dict[str, Callable[[World, Identity], object]] = {
    "LookUpMachinesImagesAndPlaces ec2:DescribeInstances": steps.see_states,
    "LookUpMachinesImagesAndPlaces": steps.look_up,
    "LookUpWhatOptionsName": steps.look_up,
    "FindTheNewestPublicImage": steps.look_up,
    "LaunchTaggedMachinesWithoutMetadataV1": steps.start,
    "LaunchWithTaggedParts": steps.start,
    "LaunchFromImagesIntoSubnets": steps.start,
    "TagWhileLaunchingOnly": steps.start,
    "SeeAndEndWhatWasLaunched ec2:GetConsoleOutput": steps.see_console,
    "SeeAndEndWhatWasLaunched": steps.end,
    "GiveMachinesTheirRole": steps.start,
    "ListBelowThePrefix": steps.read_what_machines_report,
    "ReadBelowThePrefix": steps.publish,
    "CreateObjectsAndReplaceNone": steps.publish,
    "RenewObjectsByCopyingThem": steps.publish_again,
    "WriteReports": steps.report_by_form,
    "RemoveSecretsOfMachines": steps.give_seats,
    "RemoveArchivesThatNobodyCanUse": steps.publish_over_what_nobody_can_use,
    "OptionalUseOfOneKmsKey": steps.write_and_read_with_a_key,
    "FindTemplatesAndTheirVersions": steps.write_templates,
    "MakeTemplatesAndTheirVersions": steps.write_templates,
}
"""Where it shows that an action, or any of a statement, is missing."""
POLICIES = {name: read_policy(name) for name in ("client", "launch-template")}
NEEDED = [
    pytest.param(name, sid, action, id=f"{sid}-{action}")
    for name, document in POLICIES.items()
    for sid, action in list_grants(document)
    if sid in STEPS
]


def tell(error: EnvbootError) -> str:
    """Return all that a user is told."""
    return "\n".join([error.message, *error.causes, error.hint or ""])


@pytest.mark.parametrize(("name", "sid", "action"), NEEDED)
def test_without_an_action_what_needs_it_fails_and_names_it(
    world: World, name: str, sid: str, action: str
) -> None:
    documents = {each: world.read(each) for each in POLICIES}
    documents[name] = without(documents[name], sid, action)
    who = world.add_user(merge(*documents.values()))
    step = STEPS.get(f"{sid} {action}") or STEPS[sid]
    with pytest.raises(EnvbootError) as caught:
        step(world, who)
    # A form is refused as a machine's own request is: nobody is signed in who could be told more.
    wanted = "A signed URL may do" if step is steps.report_by_form else rf"\b{action}\b"
    assert re.search(wanted, tell(caught.value)), tell(caught.value)


def test_the_whole_scenario_needs_every_action_and_every_resource(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    who = world.add_user(world.read("client"))
    steps.expire(world)
    checks = {**steps.ask_doctor(world, who), **steps.ask_doctor_aws(world, who)}
    assert {name for name, check in checks.items() if check.status == "failed"} == set()
    steps.look_up(world, who)
    for auth in Auth:
        steps.publish(world, who, auth)
    launch = steps.publish(world, who)
    guest = Guest(world.folder / "guest", launch)
    assert (guest.boot(), guest.publish()) == (0, 0), guest.reasons
    with world.open_store() as store:
        assert read_documents(store, "launch")["guest"].keys() == {"started", "result", "publish"}
    world.account.age = 2.0 * steps.DAY
    for auth in Auth:
        steps.publish(world, who, auth)
    world.account.age = 0.0
    steps.publish_over_what_nobody_can_use(world, who)
    steps.give_seats(world, who)
    steps.write_and_read_with_a_key(world, who)

    steps.start(world, who)
    request = world.request()
    (instance,) = AwsProvisioner(make_session()).start(request)
    # What policies call it, where a machine has a role.
    arn = f"arn:aws:ec2:{VALUES['REGION']}:{VALUES['ACCOUNT']}:instance/{instance.name}"
    assert instance.identity == arn
    record = Record(launch=request.launch, provisioner="aws", store=world.url)
    write_record(state_folder(os.environ), record)
    for words in (["ls"], ["status", request.launch], ["terminate", request.launch]):
        assert run(cli, words, "envboot") == 0
        shown = capsys.readouterr()
        assert instance.name in shown.out + shown.err
    steps.see_console(world, who)
    with pytest.raises(EnvbootError, match="Failed to start"):
        steps.ask_for_another_role(world, who)

    found = world.account.used[who.name]
    assert {need.action for need in found} == find_actions(who.document)
    assert list_unused(who.document, found) == set()
    assert set(world.account.refused[who.name]) == {
        # It names no prefix; launches take the region from the refusal.
        "HeadBucket: s3:ListBucket",
        # Of an instance that is nobody's, by `doctor`; and of a role that is not theirs.
        "TerminateInstances: ec2:TerminateInstances",
        "GetConsoleOutput: ec2:GetConsoleOutput",
        "RunInstances: iam:PassRole",
        "GetInstanceProfile: iam:GetInstanceProfile",
    }
