"""A launch whose process was killed, seen and ended from a machine that never knew of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from envboot.cli import cli, run
from envboot.errors import Exit
from envboot.fleet import launches as known
from envboot.fleet.history import Record, write_record
from envboot.store.local.store import LocalStore
from envboot_provisioners.gcp import GcpProvisioner
from tests.provisioners.gcp.test_starting import LAUNCH, make_request
from tests.sessions import make_session

if TYPE_CHECKING:
    from pathlib import Path

    from envboot_provisioners import Instance
    from tests.gce import Gce

pytestmark = [pytest.mark.sockets]


class Orphan:
    """Two instances and their bucket; the process that made them is no more."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.state = folder / "there"
        self.place = GcpProvisioner(make_session(state=self.state)).place(make_request(2).options)
        self.url = f"file://{folder}/bucket"
        self.instances: list[Instance] = GcpProvisioner(make_session(state=self.state)).start(
            make_request(2)
        )
        self._capsys = capsys
        with LocalStore(self.url) as store:
            write_record(self.state, Record(launch=LAUNCH, provisioner="gcp", store=self.url))
            digests = {"environment": "sha256:" + "1" * 64, "base": "sha256:" + "2" * 64}
            about = {"provisioner": "gcp", "count": 2, "command": ["true"], **digests}
            about["place"] = self.place
            store.create(f"reports/{LAUNCH}/launch.json", json.dumps(about).encode())
            for instance in self.instances:
                key = f"reports/{LAUNCH}/events/{instance.name}/1764000000000-started.json"
                store.create(key, b"{}")

    def run(self, *words: str, store: bool = True, code: int = Exit.OK) -> tuple[str, str]:
        """Run a command elsewhere; returns what it printed."""
        given = [*words, *(["--store", self.url] if store else [])]
        assert run(cli, given, "envboot") == code, self._capsys.readouterr()
        seen = self._capsys.readouterr()
        return seen.out, seen.err


@pytest.fixture
def orphan(gce: Gce, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Orphan:
    return Orphan(tmp_path, capsys)


def test_another_project_of_the_shell_hides_nothing(
    orphan: Orphan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "some-other-project")
    assert set(orphan.place) == {"project", "region", "zones"}
    document = json.loads(orphan.run("status", LAUNCH, "--json")[0])
    assert [each["platform_state"] for each in document["instances"]] == ["RUNNING"] * 2
    assert orphan.run("terminate", LAUNCH)[1].count("ended ") == 2
    assert orphan.run("terminate", LAUNCH)[1] == f"nothing of {LAUNCH} is left\n"


@pytest.mark.parametrize("place", [{}, {"project": "../x\x1b["}])
def test_a_launch_that_is_nowhere_is_not_said_to_be_gone(
    orphan: Orphan, place: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "some-other-project")
    with LocalStore(orphan.url) as store:
        key = f"reports/{LAUNCH}/launch.json"
        about = json.loads(store.read(key) or b"")
        store.delete(key)
        store.create(key, json.dumps({**about, "place": place}).encode())
    for word in ("status", "wait", "terminate"):
        err = orphan.run(word, LAUNCH, code=Exit.PROVISION)[1]
        assert f"Instances of `{LAUNCH}` cannot be seen from here" in err
        assert "\x1b" not in err


def test_a_bucket_tells_which_launches_are_not_over(orphan: Orphan) -> None:
    assert orphan.run("ls", store=False) == ("", "")
    out, err = orphan.run("ls")
    assert out.splitlines()[1].split()[:3] == [LAUNCH, "gcp", "2"]
    assert f"`envboot terminate LAUNCH --store={orphan.url}` ends it" in err
    _, err = orphan.run("status", "20200101-000000-abcd", code=Exit.USAGE)
    assert "`envboot ls --store URL` those of a bucket" in err
    out, _ = orphan.run("status", LAUNCH)
    assert out.startswith(f"launch {LAUNCH}: 2 instances of `gcp`")


def test_a_launch_that_is_over_is_only_listed_with_those_of_the_past(orphan: Orphan) -> None:
    assert orphan.run("terminate", LAUNCH)[1].count("ended ") == 2
    out, err = orphan.run("ls")
    assert (out, err) == ("", "no launch there that is not over\n")
    out, err = orphan.run("ls", "--past")
    assert "terminated, at 20" in out.splitlines()[1]
    assert err == ""
    (row,) = json.loads(orphan.run("ls", "--past", "--json")[0])
    assert row["end"]["why"] == "terminated"
    assert (row["launch"], row["provisioner"], row["count"], row["reported"]) == (
        LAUNCH, "gcp", 2, 2,
    )  # fmt: skip


def test_of_many_launches_the_newest_are_shown_and_the_rest_counted(
    orphan: Orphan, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LocalStore(orphan.url) as store:
        for number in range(3):
            # As what `envboot render-userdata` leaves, and what is none of ours.
            store.create(f"reports/env-{number}/launch.json", b"{}")
        store.create("reports/broken/launch.json", b"[")
        store.create("reports/doctor-1/written", b"x")
    assert len(orphan.run("ls")[0].splitlines()) == 6
    monkeypatch.setattr(known, "MOST", 2)
    out, err = orphan.run("ls")
    assert [line.split()[:3] for line in out.splitlines()[1:]] == [
        ["env-2", "-", "-"],
        ["broken", "-", "-"],
    ]
    assert "warning: 3 older launches are left out" in err


def test_single_instances_are_ended_from_elsewhere_by_name_or_host(
    orphan: Orphan, gce: Gce
) -> None:
    first, second = orphan.instances
    assert orphan.run("terminate", first.name)[1] == f"ended {first.name}\n"
    assert [item["id"] for item in gce.alive()] == [second.name]
    assert json.loads(orphan.run("ls", "--json")[0])[0]["end"] is None
    assert orphan.run("terminate", second.details["host"])[1] == f"ended {second.name}\n"
    assert gce.alive() == []
    assert json.loads(orphan.run("ls", "--json")[0]) == []


def test_a_type_of_machines_is_not_the_name_of_one(
    orphan: Orphan, gce: Gce, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENVBOOT_STATE_DIR", str(orphan.state))
    orphan.run("terminate", orphan.instances[0].details["host"], store=False)
    _, err = orphan.run("terminate", "e2-standard-4", code=Exit.USAGE)
    assert "Unknown launch `e2-standard-4`" in err
    assert len(gce.alive()) == 1


def test_who_launched_forgets_what_was_ended_elsewhere(
    orphan: Orphan, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = orphan.state / f"gcp/{LAUNCH}.json"
    orphan.run("terminate", LAUNCH)
    monkeypatch.setenv("ENVBOOT_STATE_DIR", str(orphan.state))
    assert record.exists()
    assert "it is over: terminated" in orphan.run("status", LAUNCH, store=False)[0]
    assert not record.exists()


def test_a_console_is_that_of_the_host_and_its_last_line_is_ended(orphan: Orphan, gce: Gce) -> None:
    first, second = orphan.instances
    gce.consoles[first.name] = "booting"
    words = ("logs", LAUNCH, "--console")
    assert orphan.run(*words, first.details["host"]) == ("booting\n", "")
    out, err = orphan.run(*words)
    assert out == f"==> {first.name} <==\nbooting\n==> {second.name} <==\n"
    assert err == f"the console of {second.name} is empty so far\n"
    assert "Unknown instance `spot`" in orphan.run(*words, "spot", code=Exit.USAGE)[1]
