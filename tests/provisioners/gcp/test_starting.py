"""Starting instances on Compute Engine: all or none, wherever there is room, never one twice."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from envboot.errors import ProvisionError
from envboot.userdata import LaunchPath
from envboot_provisioners import StartRequest
from tests.gce import PROJECT, ZONES

if TYPE_CHECKING:
    from pathlib import Path

    from envboot_provisioners.gcp import GcpProvisioner
    from tests.gce import Gce

pytestmark = [pytest.mark.sockets]

LAUNCH = "20261124-120000-ab12"
GIB = 1 << 30


def make_request(
    count: int = 1, *, room: int = 0, launch: str = LAUNCH, first: int = 0, **options: Any
) -> StartRequest:
    return StartRequest(
        launch=launch,
        count=count,
        user_data=b"IyEvYmluL3No",
        encoding="base64",
        fixed_prefix=False,
        room=room,
        options={name.replace("_", "-"): value for name, value in options.items()},
        first=first,
    )


def test_what_is_asked_for_is_all_that_a_machine_needs(gce: Gce, gcp: GcpProvisioner) -> None:
    account = "machine@team-project-42.iam.gserviceaccount.com"
    (instance,) = gcp.start(
        make_request(
            room=3 * GIB + 1,
            service_account=account,
            tag=("inside",),
            label=("team=x",),
            public_ip="no",
        )
    )
    (body,) = gce.actions("instances.bulkInsert")
    labels = {"team": "x", "envboot-launch": LAUNCH}
    properties = body["instanceProperties"]
    assert body["perInstanceProperties"].keys() == {f"envboot-{LAUNCH}-0"}
    assert properties["machineType"] == "e2-standard-4"
    assert properties["labels"] == labels
    (disk,) = properties["disks"]
    assert (disk["boot"], disk["autoDelete"]) == (True, True)
    assert disk["initializeParams"] == {
        "sourceImage": "projects/ubuntu-os-cloud/global/images/ubuntu-2404-lts-amd64-v20261101",
        "diskSizeGb": "14",
        "diskType": "pd-balanced",
        "labels": labels,
    }
    assert properties["metadata"]["items"] == [
        {"key": "user-data", "value": "IyEvYmluL3No"},
        {"key": "user-data-encoding", "value": "base64"},
    ]
    assert properties["networkInterfaces"] == [
        {"network": f"projects/{PROJECT}/global/networks/default"}
    ]
    assert properties["serviceAccounts"] == [
        {"email": account, "scopes": ["https://www.googleapis.com/auth/cloud-platform"]}
    ]
    assert set(properties["shieldedInstanceConfig"].values()) == {True}
    assert properties["tags"] == {"items": ["inside"]}
    assert properties["scheduling"]["provisioningModel"] == "STANDARD"
    # The id is what cloud-init knows of the machine, a number.
    (made,) = gce.alive()
    assert instance.name == made["id"]
    assert instance.details == {
        "host": f"envboot-{LAUNCH}-0",
        "type": "e2-standard-4",
        "zone": ZONES[0],
        "market": "standard",
        "address": "10.0.0.2",
        "project": PROJECT,
    }


def test_the_platform_deletes_machines_before_they_would_end_themselves(
    gce: Gce, gcp: GcpProvisioner
) -> None:
    for end, least, most in ((3600, 3470, 3480), (10, 30, 30)):
        gcp.start(replace(make_request(), launch=f"{LAUNCH}{end}", end=int(time.time()) + end))
        scheduling = gce.actions("instances.bulkInsert")[-1]["instanceProperties"]["scheduling"]
        assert scheduling["instanceTerminationAction"] == "DELETE"
        assert least <= int(scheduling["maxRunDuration"]["seconds"]) <= most
    gcp.start(replace(make_request(), launch=f"{LAUNCH}x"))
    scheduling = gce.actions("instances.bulkInsert")[-1]["instanceProperties"]["scheduling"]
    assert "maxRunDuration" not in scheduling


def test_an_image_without_cloud_init_gets_a_start_up_script(gce: Gce, gcp: GcpProvisioner) -> None:
    options: dict[str, Any] = {"image": "debian"}
    assert gcp.render_for(options) is LaunchPath.GCE_STARTUP_SCRIPT
    assert gcp.render_for({}) is LaunchPath.GCE
    gcp.start(make_request(**options))
    (body,) = gce.actions("instances.bulkInsert")
    (item,) = body["instanceProperties"]["metadata"]["items"]
    assert item["key"] == "startup-script"


def test_what_is_not_moved_says_so_and_newer_machines_have_newer_disks(
    gce: Gce, gcp: GcpProvisioner
) -> None:
    gcp.start(make_request(machine_type="g2-standard-4"))
    gcp.start(make_request(machine_type="c4a-standard-8", launch="other"))
    first, second = (body["instanceProperties"] for body in gce.actions("instances.bulkInsert"))
    assert first["scheduling"]["onHostMaintenance"] == "TERMINATE"
    assert second["scheduling"]["onHostMaintenance"] == "MIGRATE"
    assert second["disks"][0]["initializeParams"]["diskType"] == "hyperdisk-balanced"
    assert "arm64" in second["disks"][0]["initializeParams"]["sourceImage"]


def test_an_operation_takes_its_time(gce: Gce, gcp: GcpProvisioner) -> None:
    gce.slow = 3
    assert len(gcp.start(make_request(3))) == 3
    assert len(gce.actions("zoneOperations.get")) == 4
    assert {item["status"] for item in gce.alive()} == {"RUNNING"}


def test_all_are_in_the_first_zone_that_has_room_for_all(gce: Gce, gcp: GcpProvisioner) -> None:
    gce.room[ZONES[0], "STANDARD"] = 2
    started = gcp.start(make_request(3))
    assert {instance.details["zone"] for instance in started} == {ZONES[1]}
    assert len(gce.alive()) == 3


def test_they_are_spread_where_no_zone_has_room_for_all(gce: Gce, gcp: GcpProvisioner) -> None:
    for zone, many in zip(ZONES, (2, 0, 1), strict=True):
        gce.room[zone, "STANDARD"] = many
    started = gcp.start(make_request(3))
    assert [instance.details["zone"] for instance in started] == [ZONES[0], ZONES[0], ZONES[2]]
    assert len({instance.details["host"] for instance in started}) == 3


def test_spot_is_preferred_and_standard_taken_for_the_rest(gce: Gce, gcp: GcpProvisioner) -> None:
    for zone in ZONES:
        gce.room[zone, "SPOT"] = 1 if zone == ZONES[1] else 0
    assert gcp.is_interruptible({"spot": "true"})
    started = gcp.start(make_request(2, spot="true"))
    assert sorted(item.details["market"] for item in started) == ["spot", "standard"]
    spot = next(
        body["instanceProperties"]["scheduling"]
        for body in gce.actions("instances.bulkInsert")
        if body["instanceProperties"]["scheduling"]["provisioningModel"] == "SPOT"
    )
    assert spot == {
        "provisioningModel": "SPOT",
        "instanceTerminationAction": "DELETE",
        "onHostMaintenance": "TERMINATE",
        "automaticRestart": False,
    }


def test_nothing_is_left_and_every_zone_is_named_where_there_is_no_room(
    gce: Gce, gcp: GcpProvisioner, tmp_path: Path
) -> None:
    for zone, many in zip(ZONES, (1, 0, 0), strict=True):
        gce.room[zone, "STANDARD"] = many
    with pytest.raises(ProvisionError, match="only 1 could be had") as caught:
        gcp.start(make_request(2))
    assert [cause.split(":")[0] for cause in caught.value.causes] == [
        f"`{zone}`, standard" for zone in ZONES
    ]
    assert "ZONE_RESOURCE_POOL_EXHAUSTED" in caught.value.causes[0]
    assert "--machine-type" in str(caught.value.hint)
    assert gce.alive() == []
    assert list((tmp_path / "state/gcp").iterdir()) == []


def test_a_quota_is_that_of_the_region_so_no_other_zone_is_asked(
    gce: Gce, gcp: GcpProvisioner
) -> None:
    gce.quota.add("STANDARD")
    with pytest.raises(ProvisionError) as caught:
        gcp.start(make_request(2))
    (cause,) = caught.value.causes
    assert "Quota 'CPUS' exceeded. Limit: 24.0" in cause
    assert "iam-admin/quotas" in str(caught.value.hint)
    assert len(gce.actions("instances.bulkInsert")) == 1


@pytest.mark.parametrize("lost", [True, False])
def test_a_call_without_an_answer_is_repeated_and_starts_nothing_twice(
    gce: Gce, gcp: GcpProvisioner, lost: bool
) -> None:
    gce.strike("instances.bulkInsert", lost=lost, times=2)
    assert len(gcp.start(make_request(2))) == 2
    assert len(gce.alive()) == 2
    identities = {
        query["requestId"][0] for action, query, _ in gce.calls if action == "instances.bulkInsert"
    }
    assert len(identities) == 1


def test_what_was_started_without_an_answer_is_found_and_ended(
    gce: Gce, gcp: GcpProvisioner
) -> None:
    gce.strike("instances.bulkInsert", lost=True, times=9)
    with pytest.raises(ProvisionError, match="Failed to start 2"):
        gcp.start(make_request(2))
    assert gce.alive() == []
    assert len(gce.actions("instances.delete")) == 2


def test_what_earlier_calls_for_the_launch_have_started_runs_on(
    gce: Gce, gcp: GcpProvisioner
) -> None:
    first = {instance.name for instance in gcp.start(make_request(2))}
    gce.strike("instances.bulkInsert", lost=True, times=9)
    with pytest.raises(ProvisionError, match="Failed to start 2"):
        gcp.start(make_request(2, first=2))
    assert len(gce.actions("instances.delete")) == 2
    assert {instance.name for instance in gcp.instances()} == first
    gcp.start(make_request(1, first=4))
    identities = {
        query["requestId"][0] for action, query, _ in gce.calls if action == "instances.bulkInsert"
    }
    assert len(identities) == 3


def test_an_interrupt_leaves_nothing_though_the_operation_goes_on(
    gce: Gce, gcp: GcpProvisioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    gce.slow = 5

    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("envboot_provisioners.gcp.starting.GcpStart._await", interrupt)
    with pytest.raises(KeyboardInterrupt):
        gcp.start(make_request(2))
    assert gce.alive() == []
    # It stays until nothing more can be started.
    assert len(gce.actions("zoneOperations.get")) == 6


def test_a_name_that_somebody_has_is_told(gce: Gce, gcp: GcpProvisioner) -> None:
    gcp.start(make_request())
    for item in gce.instances.values():
        item["labels"] = {"theirs": "yes"}
    gce._by_request.clear()
    with pytest.raises(ProvisionError) as caught:
        gcp.start(make_request())
    assert "alreadyExists" in caught.value.causes[0]
    assert len(gce.alive()) == 1


def test_what_cannot_be_ended_is_named_with_the_command_for_it(
    gce: Gce, gcp: GcpProvisioner, tmp_path: Path
) -> None:
    gce.room[ZONES[0], "STANDARD"] = 1
    gce.room[ZONES[1], "STANDARD"] = gce.room[ZONES[2], "STANDARD"] = 0
    host = f"envboot-{LAUNCH}-0"
    gce.protected.add(host)
    with pytest.raises(ProvisionError, match="which cost on") as caught:
        gcp.start(make_request(2))
    assert f"`{host}` in `{ZONES[0]}`" in caught.value.causes[0]
    assert any("Ended because of: Failed to start 2" in cause for cause in caught.value.causes)
    assert f"`gcloud compute instances delete {host} --zone {ZONES[0]} --project {PROJECT}`" in str(
        caught.value.hint
    )
    assert json.loads((tmp_path / f"state/gcp/{LAUNCH}.json").read_text()) == {"project": PROJECT}
