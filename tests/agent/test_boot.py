"""Boots of a guest that go well: miss, publish, hit, layer, present, rollback, reports."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from envboot.agent import wire
from tests.agent.guests import SITE, Guest, Launch, Parts, make_launch, make_layer, make_manifest
from tests.agent.trees import snapshot, write
from tests.reports import read_documents

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from envboot.store.local.store import LocalStore

    NewGuest = Callable[[str, Launch], Guest]

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]
LAYER = {f"{SITE}/mine.py": b"NAME = 'mine'\n", "bin/mine": b"#!/bin/sh\necho mine\n"}


def stages(guest: Guest) -> list[str]:
    return [stage["stage"] for stage in guest.result["stages"]]


def test_the_first_machine_installs_and_publishes_and_the_next_only_unpacks(
    launch: Launch, store: LocalStore, new_guest: NewGuest
) -> None:
    first = new_guest("first", launch)
    assert first.boot() == wire.READY
    assert first.result["outcome"] == "ready"
    assert first.result["source"] == "install"
    assert stages(first) == ["probe", "fetch", "install", "verify", "activate"]
    assert first.publish() == wire.READY
    assert not [path for path in first.opt.iterdir() if path.name.startswith("publish-")]
    assert [e["MESSAGE_ID"] for e in first.events][-1] == wire.MESSAGE_IDS["published"]

    second = new_guest("second", launch)
    assert second.boot() == wire.READY
    assert second.result["source"] == "archive"
    assert stages(second) == ["probe", "fetch", "verify", "activate"]
    archive = store.find(f"{launch.base_key}/env.tar.zst")
    assert archive
    assert second.result["stages"][1]["bytes"] == archive.size
    assert snapshot(second.env.resolve()) == snapshot(first.env.resolve())
    assert first.says() == second.says() == "alpha beta"
    assert first.leftovers() == second.leftovers() == []
    assert second.publish() == wire.READY
    assert "published" not in second.events[-1]["MESSAGE"]


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_modes_do_not_depend_on_the_umask_of_who_starts_the_agent(
    hit: Launch, published: Guest, new_guest: NewGuest, umask: int
) -> None:
    guest = new_guest("guest", hit)
    assert guest.boot(umask=umask) == wire.READY
    assert snapshot(guest.env.resolve()) == snapshot(published.env.resolve())
    assert guest.env.resolve().stat().st_mode & 0o7777 == 0o755


def test_byte_code_is_used_although_every_time_stamp_is_another(
    hit: Launch, new_guest: NewGuest
) -> None:
    guest = new_guest("guest", hit)
    guest.boot()
    before = guest.code()
    os.utime(guest.env / SITE / "alpha.py", (1, 1))
    assert guest.says("import alpha; print(alpha.__cached__.endswith('.pyc'))") == "True"
    assert guest.code() == before


def test_a_layer_lies_on_top_and_is_never_published(
    parts: Parts, store: LocalStore, new_guest: NewGuest, tmp_path: Path
) -> None:
    plain = make_manifest(parts)
    shared = f"{SITE}/alpha-1.0.dist-info/METADATA"
    replaced = {**LAYER, shared: b"short"}
    manifest, layer = make_layer(plain, tmp_path, replaced)
    launch = make_launch(parts, store, tmp_path / "cache", manifest=manifest, layer=layer)
    first, second = new_guest("first", launch), new_guest("second", launch)
    for guest, source in ((first, "install"), (second, "archive")):
        assert guest.boot() == wire.READY
        assert guest.result["source"] == source
        assert "layer" in stages(guest)
        assert guest.says("import mine, alpha; print(mine.NAME, alpha.NAME)") == "mine alpha"
        assert (guest.env / shared).read_text() == "short"
        assert guest.publish() == wire.READY
    assert first.code() == second.code()

    bare = new_guest("bare", make_launch(parts, store, tmp_path / "cache", manifest=plain))
    assert bare.boot() == wire.READY
    assert bare.result["source"] == "archive"
    assert (bare.env / shared).read_text().endswith("Version: 1.0\n")
    assert not (bare.env / "bin/mine").exists()


def test_another_boot_finds_the_environment_present(hit: Launch, new_guest: NewGuest) -> None:
    guest = new_guest("guest", hit)
    assert guest.boot() == wire.READY
    first = guest.env.resolve()
    for _ in range(2):
        assert guest.boot() == wire.READY
        assert guest.result["source"] == "present"
        assert stages(guest) == ["probe"]
    assert guest.env.resolve() == first
    assert not (guest.opt / "previous").exists()
    (guest.env).unlink()
    assert guest.boot() == wire.READY
    assert stages(guest) == ["probe", "activate"]
    assert guest.env.resolve() == first


def test_another_environment_keeps_the_one_before_for_rollback(
    hit: Launch, parts: Parts, store: LocalStore, new_guest: NewGuest, tmp_path: Path
) -> None:
    guest = new_guest("guest", hit)
    assert guest.boot() == wire.READY
    old = guest.env.resolve()
    manifest = make_manifest(parts, wheels=parts.wheels[:2])
    other = make_launch(parts, store, tmp_path / "cache", manifest=manifest)
    guest.give(other)
    assert guest.boot() == wire.READY
    new = guest.env.resolve()
    assert new != old
    assert (guest.opt / "previous").resolve() == old
    assert guest.says("import importlib.util as u; print(u.find_spec('gamma'))") == "None"
    for active, previous in ((old, new), (new, old)):
        assert guest.agent("rollback") == 0
        assert guest.env.resolve() == active
        assert (guest.opt / "previous").resolve() == previous
    guest.give(hit)
    assert guest.boot() == wire.READY
    assert stages(guest) == ["probe", "activate"]
    assert guest.env.resolve() == old


@pytest.mark.parametrize("note", ['"another-boot"', "", "torn {", None])
def test_what_may_not_have_reached_the_disk_is_never_trusted(
    hit: Launch, published: Guest, new_guest: NewGuest, note: str | None
) -> None:
    guest = new_guest("guest", hit)
    assert guest.boot() == wire.READY
    assert (guest.state / "unsynced.json").read_text() == '""'
    first = guest.env.resolve()
    (first / SITE / "alpha.py").write_text("")
    if note is None:
        (guest.state / "unsynced.json").unlink()
    else:
        (guest.state / "unsynced.json").write_text(note)
    assert guest.boot() == wire.READY
    assert guest.result["source"] == "archive"
    assert guest.env.resolve() != first
    assert guest.code() == published.code()
    assert guest.boot() == wire.READY
    assert guest.result["source"] == "present"
    assert guest.code() == published.code()


def test_what_an_earlier_boot_kept_for_publishing_is_not_published(
    launch: Launch, published: Guest, new_guest: NewGuest
) -> None:
    guest = new_guest("guest", launch)
    assert guest.boot() == wire.READY
    kept = guest.opt / f"publish-{guest.result['base'][7:]}"
    (kept / SITE / "alpha.py").write_text("")
    (guest.state / "unsynced.json").write_text('"another-boot"')
    assert guest.boot() == wire.READY
    assert guest.result["source"] == "install"
    assert guest.publish() == wire.READY
    other = new_guest("other", launch)
    assert other.boot() == wire.READY
    assert other.result["source"] == "archive"
    assert other.code() == published.code()


def test_a_link_that_was_left_half_way_does_not_stop_the_next_boot(
    hit: Launch, new_guest: NewGuest
) -> None:
    guest = new_guest("guest", hit)
    for name in ("env.new", "previous.new"):
        (guest.opt / name).symlink_to("nowhere")
    assert guest.boot() == wire.READY
    assert guest.boot() == wire.READY
    assert guest.says() == "alpha beta"
    assert not (guest.opt / "env.new").is_symlink()


def test_rests_of_a_killed_agent_are_removed(hit: Launch, new_guest: NewGuest) -> None:
    guest = new_guest("guest", hit)
    write(guest.envs, ".123.456/env/bin/python", b"half")
    write(guest.envs, ".published.123/bin/python", b"half")
    assert guest.boot() == wire.READY
    assert guest.leftovers() == []
    assert len(list(guest.envs.iterdir())) == 1


@pytest.mark.skipif(os.getuid() != 0, reason="needs root: it mounts a small disk")
def test_rests_of_a_killed_agent_give_their_space_to_the_next_attempt(
    hit: Launch, new_guest: NewGuest
) -> None:
    guest = new_guest("guest", hit)
    assert guest.boot() == wire.READY
    usage = subprocess.run(["du", "-sm", guest.envs], capture_output=True, text=True, check=True)
    size = int(usage.stdout.split()[0]) + 2
    small = new_guest("small", hit)
    small.envs.mkdir(parents=True, exist_ok=True)
    options = f"size={size + size // 2}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "small", small.envs], check=True)
    try:
        write(small.envs, ".123.456/env/half", bytes(size << 20))
        assert small.boot() == wire.READY, small.reasons
        assert (small.result["source"], small.leftovers()) == ("archive", [])
    finally:
        subprocess.run(["umount", "-l", small.envs], check=True)


def test_reports_arrive_in_the_bucket(
    launch: Launch, store: LocalStore, new_guest: NewGuest
) -> None:
    guest = new_guest("guest", launch)
    assert guest.boot() == wire.READY
    assert guest.publish() == wire.READY
    reports = read_documents(store, "launch")
    assert reports.keys() == {"guest"}
    assert reports["guest"].keys() == {"started", "result", "publish"}
    assert reports["guest"]["started"] == {"environment": launch.manifest.environment_digest}
    assert reports["guest"]["result"] == guest.result
    assert reports["guest"]["publish"]["bytes"] > 0
    assert guest.result["instance"] == "guest"


def test_without_any_grant_a_machine_installs_and_reports_nowhere(
    launch: Launch, new_guest: NewGuest
) -> None:
    guest = new_guest("guest", replace(launch, grants={}))
    assert guest.boot() == wire.READY
    assert guest.result["source"] == "install"
    assert guest.says() == "alpha beta"
    assert guest.publish() == wire.READY
    assert not [path for path in guest.opt.iterdir() if path.name.startswith("publish-")]


def test_the_manifest_can_come_from_the_bucket(
    hit: Launch, store: LocalStore, new_guest: NewGuest
) -> None:
    digest = hit.manifest.environment_digest
    url = store.sign_get(f"environments/{digest[7:]}.json", 600)
    guest = new_guest("guest", replace(hit, grants={**hit.grants, "manifest": {"get": url}}))
    (guest.state / "manifest.json").unlink()
    assert guest.boot() == wire.READY
    assert json.loads((guest.state / "manifest.json").read_text()) == hit.manifest.to_dict()
    hit.grants["manifest"] = {"get": url + "x"}
    guest.state.joinpath("grants.json").write_text(json.dumps(hit.grants))
    assert guest.boot() == wire.READY, "the manifest that is here needs no fetching"


def test_the_command_runs_in_the_environment_and_is_reported(
    hit: Launch, store: LocalStore, new_guest: NewGuest
) -> None:
    hit.config["command"] = ["python", "-c", "import alpha, os; print(alpha.NAME, os.environ['A'])"]
    hit.config["environment"] = {"A": "b c"}
    guest = new_guest("guest", hit)
    assert guest.boot() == wire.READY
    assert guest.agent("run") == 0
    report = read_documents(store, "launch")["guest"]["command"]
    assert report["exit_code"] == 0
    assert report["output"] == "alpha b c\n"
    hit.config["command"] = ["sh", "-c", "kill -9 $$"]
    guest.give(hit)
    assert guest.agent("run") == 128 + 9
    assert json.loads((guest.state / "command.json").read_text())["exit_code"] == -9
