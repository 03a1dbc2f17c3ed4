"""Instances of Compute Engine after they were started: found, seen, shown and ended."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from envboot.errors import ProvisionError
from envboot_provisioners import Instance
from envboot_provisioners.cloud_records import FRESH
from envboot_provisioners.gcp import GcpProvisioner
from tests.gce import PROJECT, ZONES
from tests.provisioners.gcp.test_starting import LAUNCH, make_request
from tests.sessions import make_session

if TYPE_CHECKING:
    from pathlib import Path

    from tests.gce import Gce

pytestmark = [pytest.mark.sockets]


def test_instances_are_found_from_here_and_from_elsewhere(
    gce: Gce, gcp: GcpProvisioner, tmp_path: Path
) -> None:
    started = gcp.start(make_request(2))
    other = gcp.start(make_request(launch="20261124-130000-cd34"))
    assert gcp.instances() == [*started, *other]
    assert gcp.instances(LAUNCH) == started
    elsewhere = GcpProvisioner(make_session(state=tmp_path / "elsewhere"))
    assert elsewhere.instances() == []
    assert elsewhere.instances(LAUNCH) == started


def test_states_are_in_the_words_of_compute_engine(gce: Gce, gcp: GcpProvisioner) -> None:
    runs, stopped, taken, gone = gcp.start(make_request(4))
    by_id = {item["id"]: item for item in gce.instances.values()}
    by_id[stopped.name]["status"] = "TERMINATED"
    gce.preempt(taken.name)
    gcp.terminate([gone])
    # What reports alone have told of an instance is its launch and its id.
    bare = [Instance(name=each.name, launch=each.launch) for each in (runs, stopped)]
    states = gcp.states([*bare, taken, gone])
    assert [states[each.name].alive for each in (runs, stopped, taken, gone)] == [True] + 3 * [
        False
    ]
    assert [state.word for state in states.values()][:3] == ["RUNNING", "TERMINATED", "deleted"]
    assert states[taken.name].reason == "Compute Engine wanted the Spot instance back"


def test_what_is_ended_is_gone_from_the_list_at_once(
    gce: Gce, gcp: GcpProvisioner, tmp_path: Path
) -> None:
    gce.linger = 60
    first, second = gcp.start(make_request(2))
    gcp.terminate([first])
    assert gcp.instances() == [second]
    gcp.terminate([Instance(name=second.name, launch=second.launch)])
    assert gcp.instances() == []
    assert not gcp.states([second])[second.name].alive
    assert list((tmp_path / "state/gcp").iterdir()) == []
    # Again is no error.
    gcp.terminate([first, second])


def test_each_that_cannot_be_ended_is_named(gce: Gce, gcp: GcpProvisioner) -> None:
    started = gcp.start(make_request(3))
    hosts = [instance.details["host"] for instance in started]
    gce.protected |= set(hosts[:2])
    with pytest.raises(ProvisionError, match="Failed to end 2 of 3 instances") as caught:
        gcp.terminate(started)
    (cause,) = caught.value.causes
    assert "it's protected against deletion" in cause
    assert all(f"`{host}` in `{ZONES[0]}`" in cause for host in hosts[:2])
    wanted = f"instances delete {' '.join(hosts[:2])} --zone {ZONES[0]} --project {PROJECT}"
    assert wanted in str(caught.value.hint)
    assert [item["name"] for item in gce.alive()] == hosts[:2]


def test_a_record_is_forgotten_once_nothing_is_left_of_its_launch(
    gce: Gce, gcp: GcpProvisioner, tmp_path: Path
) -> None:
    (instance,) = gcp.start(make_request())
    record = tmp_path / f"state/gcp/{LAUNCH}.json"
    gce.preempt(instance.name)
    assert gcp.instances() == []
    assert record.exists()
    age = record.stat().st_mtime - FRESH - 5
    os.utime(record, (age, age))
    assert gcp.instances() == []
    assert not record.exists()


def test_the_console_is_the_first_serial_port(gce: Gce, gcp: GcpProvisioner) -> None:
    (instance,) = gcp.start(make_request())
    gce.consoles[instance.name] = "Debian GNU/Linux 12\n"
    assert gcp.console(instance) == "Debian GNU/Linux 12\n"
    assert gcp.console(Instance(name=instance.name, launch=LAUNCH)) == "Debian GNU/Linux 12\n"
    gcp.terminate([instance])
    gone = Instance(name=instance.name, launch=LAUNCH)
    assert "is not there any more" in gcp.console(gone)


def test_an_answer_that_is_none_is_explained(gce: Gce, gcp: GcpProvisioner) -> None:
    (instance,) = gcp.start(make_request())
    gce.strike("instances.aggregatedList", 403, "accessNotConfigured", "API has not been used")
    with pytest.raises(ProvisionError, match="Failed to ask Compute Engine in") as caught:
        gcp.states([instance])
    assert "gcloud services enable compute.googleapis.com" in str(caught.value.hint)
    gce.strike("instances.aggregatedList")
    assert gcp.states([instance])[instance.name].alive


def test_the_doctor_names_every_permission_that_lacks(gce: Gce, gcp: GcpProvisioner) -> None:
    gce.denied |= {"compute.instances.create", "compute.subnetworks.useExternalIp"}
    checks = {check.name: check for check in gcp.doctor({})}
    assert {name: check.status for name, check in checks.items()} == {
        "gcp project": "ok",
        "gcp options": "ok",
        "gcp permissions": "failed",
        "gcp quota": "ok",
    }
    assert checks["gcp permissions"].detail == (
        "May not `compute.instances.create`, `compute.subnetworks.useExternalIp`"
    )
    assert checks["gcp quota"].detail == "`CPUS` in `europe-west4` has 20 left, for 5 instances"
    many = {check.name: check for check in gcp.doctor({}, count=6)}
    assert many["gcp quota"].status == "failed"
    gce.denied.clear()
    assert {check.status for check in gcp.doctor({}, count=5)} == {"ok"}
    assert {check.status for check in gcp.doctor({})} == {"ok"}
    assert gce.alive() == []


def test_a_token_that_is_refused_is_a_matter_of_credentials(gce: Gce, gcp: GcpProvisioner) -> None:
    gce.tokens = ()
    check = next(check for check in gcp.doctor({}) if check.name == "gcp permissions")
    assert (check.status, check.detail) == (
        "failed",
        "Nobody tells: authError: Invalid Credentials",
    )
    assert "gcloud auth application-default login" in str(check.hint)


def test_a_token_server_that_is_out_of_reach_is_told_with_whose_credentials_they_are(
    gce: Gce, gcp: GcpProvisioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = {"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r"}
    gce.key.write_text(json.dumps(user))
    monkeypatch.setattr(
        "google.oauth2.credentials._GOOGLE_OAUTH2_TOKEN_ENDPOINT", "http://127.0.0.1:1/token"
    )
    with pytest.raises(ProvisionError, match="Failed to look up what Compute Engine has") as caught:
        gcp.check({})
    (cause,) = caught.value.causes
    assert cause.startswith("Google's token server `127.0.0.1:1` cannot be reached: Connection ref")
    assert "a user's own (`gcloud auth application-default login`)" in cause
    assert str(caught.value.hint).startswith("Check this machine's network")
