"""Publishing after a miss: create-only, by as many machines as like, each alone or at once."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from envboot.agent import wire
from tests.agent.guests import Guest, Launch, Parts, make_launch, make_manifest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from envboot.store.local.store import LocalStore
    from tests.agent.proxy import Proxy

    NewGuest = Callable[[str, Launch], Guest]

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]


def install(new_guest: NewGuest, launch: Launch, *names: str) -> list[Guest]:
    """Return machines that all had to install."""
    guests = [new_guest(name, launch) for name in names]
    for guest in guests:
        assert guest.boot() == wire.READY
        assert guest.result["source"] == "install"
    return guests


def assert_next_hits(new_guest: NewGuest, launch: Launch, like: Guest) -> None:
    guest = new_guest("next", launch)
    assert guest.boot() == wire.READY
    assert guest.result["source"] == "archive"
    assert guest.code() == like.code()


def kept(guest: Guest) -> list[str]:
    return [path.name for path in guest.opt.glob("publish-*")]


def test_of_two_publishers_at_once_both_are_content(
    launch: Launch, new_guest: NewGuest, bucket: Path
) -> None:
    guests = install(new_guest, launch, "one", "two", "three")
    processes = [guest.start("publish") for guest in guests]
    for guest, process in zip(guests, processes, strict=True):
        printed, _ = process.communicate(timeout=60)
        assert (process.returncode, printed) == (wire.READY, "")
        assert guest.events[-1]["MESSAGE_ID"] == wire.MESSAGE_IDS["published"]
        assert kept(guest) == []
    names = {path.name for path in (bucket / launch.base_key).iterdir()}
    assert names == {"manifest.json", "env.tar.zst", "index.json"}
    assert_next_hits(new_guest, launch, guests[0])


def test_two_publishers_on_one_machine_take_turns(
    launch: Launch, new_guest: NewGuest, store: LocalStore
) -> None:
    (guest,) = install(new_guest, launch, "one")
    processes = [guest.start("publish") for _ in range(3)]
    for process in processes:
        assert (process.communicate(timeout=60)[0], process.returncode) == ("", wire.READY)
    told = [e for e in guest.events if e["MESSAGE_ID"] == wire.MESSAGE_IDS["published"]]
    assert len(told) == 1
    assert_next_hits(new_guest, launch, guest)


def test_an_orphan_of_the_same_bytes_gets_its_index(
    launch: Launch, new_guest: NewGuest, bucket: Path
) -> None:
    one, two = install(new_guest, launch, "one", "two")
    assert one.publish() == wire.READY
    folder = bucket / launch.base_key
    index, archive = (folder / "index.json").read_bytes(), (folder / "env.tar.zst").read_bytes()
    (folder / "index.json").unlink()
    assert two.publish() == wire.READY
    assert (folder / "index.json").read_bytes() == index
    assert (folder / "env.tar.zst").read_bytes() == archive
    assert_next_hits(new_guest, launch, one)


def test_an_orphan_of_other_bytes_is_neither_replaced_nor_indexed(
    launch: Launch, new_guest: NewGuest, bucket: Path
) -> None:
    (guest,) = install(new_guest, launch, "one")
    folder = bucket / launch.base_key
    (folder / "env.tar.zst").write_bytes(b"of somebody else")
    assert guest.publish() == wire.DEGRADED
    assert (folder / "env.tar.zst").read_bytes() == b"of somebody else"
    assert not (folder / "index.json").exists()
    failed = guest.events[-1]
    assert failed["MESSAGE_ID"] == wire.MESSAGE_IDS["publish-failed"]
    assert "another machine has put a different archive" in failed["ENVBOOT_ERROR"]
    assert kept(guest), "for another try"
    assert not (guest.state / "env.tar.zst").exists()
    (folder / "env.tar.zst").unlink()
    assert guest.publish() == wire.READY
    assert_next_hits(new_guest, launch, guest)


def test_an_archive_that_was_lost_is_put_back_under_its_index(
    launch: Launch, new_guest: NewGuest, bucket: Path
) -> None:
    one, two = install(new_guest, launch, "one", "two")
    assert one.publish() == wire.READY
    (bucket / launch.base_key / "env.tar.zst").unlink()
    assert two.publish() == wire.READY
    assert_next_hits(new_guest, launch, one)


@pytest.mark.parametrize("what", [500, 503, "hang up"])
@pytest.mark.parametrize("name", ["env.tar.zst", "index.json"])
def test_a_fault_while_publishing_is_waited_out(
    launch: Launch, new_guest: NewGuest, proxy: Proxy, what: int | str, name: str
) -> None:
    launch = replace(launch, grants=proxy.redirect(launch.grants))
    (guest,) = install(new_guest, launch, "one")
    proxy.strike(f"PUT .*{name}", 2, what)
    assert guest.publish() == wire.READY
    assert_next_hits(new_guest, launch, guest)


def test_an_answer_that_was_lost_is_no_fault(
    launch: Launch, new_guest: NewGuest, proxy: Proxy
) -> None:
    launch = replace(launch, grants=proxy.redirect(launch.grants))
    (guest,) = install(new_guest, launch, "one")
    proxy.strike("PUT .*env.tar.zst", 1, "lose the answer")
    assert guest.publish() == wire.READY
    puts = [request for request in proxy.requests if request.startswith("PUT")]
    assert [put.rpartition("/")[2] for put in puts] == ["env.tar.zst"] * 2 + ["index.json"]
    assert_next_hits(new_guest, launch, guest)


def test_an_expired_grant_is_told_and_leaves_nothing(
    launch: Launch, new_guest: NewGuest, store: LocalStore, bucket: Path
) -> None:
    put = store.sign_put(f"{launch.base_key}/env.tar.zst", -1)
    permit = bucket / "launches/launch/secrets/permit-0.json"
    document = json.loads(permit.read_bytes())
    document["archive"] = {"url": put.url, "headers": put.headers}
    permit.write_text(json.dumps(document))
    (guest,) = install(new_guest, launch, "one")
    assert guest.publish() == wire.DEGRADED
    assert "publish: expired: http://127.0.0.1:" in guest.events[-1]["MESSAGE"]
    assert "X-Envboot-Signature" not in (guest.state / "events.jsonl").read_text()
    assert not store.find(f"{launch.base_key}/index.json")


def test_the_launch_of_a_local_folder_publishes_beside_the_command(
    launch: Launch, new_guest: NewGuest
) -> None:
    launch.config["command"] = [
        "python",
        "-c",
        "import alpha; print(alpha.NAME); raise SystemExit(7)",
    ]
    guest = new_guest("one", launch)
    process = guest.start("local")
    assert process.communicate(timeout=60)[0] == "alpha\n"
    assert process.returncode == 7
    assert kept(guest) == []
    assert_next_hits(new_guest, launch, guest)


def test_uv_comes_out_of_its_own_wheel(
    parts: Parts, store: LocalStore, new_guest: NewGuest, tmp_path: Path
) -> None:
    wheel = parts.folder / "uv-1.0-py3-none-any.whl.zip"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("uv/__init__.py", "")
        archive.write(parts.folder / "uv", "uv-1.0.data/scripts/uv")
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    tool = replace(parts.uv, url=f"{parts.url}/{wheel.name}", sha256=sha256)
    manifest = make_manifest(parts, tools={"uv": tool})
    launch = make_launch(parts, store, tmp_path / "cache", manifest=manifest)
    install(new_guest, launch, "one")


def test_a_tool_that_is_no_wheel_fails_with_a_result(
    parts: Parts, store: LocalStore, new_guest: NewGuest, tmp_path: Path
) -> None:
    (parts.folder / "broken").write_bytes(b"PK and nothing else")
    sha256 = hashlib.sha256(b"PK and nothing else").hexdigest()
    tool = replace(parts.uv, url=f"{parts.url}/broken", sha256=sha256)
    manifest = make_manifest(parts, tools={"uv": tool})
    launch = make_launch(parts, store, tmp_path / "cache", manifest=manifest)
    guest = new_guest("guest", launch)
    assert guest.boot() == wire.FAILED
    assert guest.reasons == "install: File is not a zip file"


def test_the_index_of_an_archive_says_what_is_in_it(published: Guest) -> None:
    folder = published.root.with_suffix(".bucket") / published.launch.base_key
    index = json.loads((folder / "index.json").read_text())
    assert index["base"] == published.launch.manifest.base_digest
    assert index["size"] == (folder / "env.tar.zst").stat().st_size
    assert {row[4] for row in index["frames"]} >= {"beta", "gamma"}


def test_an_idle_machine_keeps_the_active_environment_and_the_one_before(
    launch: Launch, new_guest: NewGuest
) -> None:
    (guest,) = install(new_guest, launch, "one")
    envs = guest.root / "opt/envboot/envs"
    active = next(path for path in envs.iterdir() if path.name[0] != ".")
    for name in ("before", "forgotten"):
        (envs / name).mkdir()
    (guest.root / "opt/envboot/previous").symlink_to("envs/before")
    assert guest.publish() == wire.READY
    assert {path.name for path in envs.iterdir()} == {active.name, "before"}


def test_damaged_byte_code_is_removed_and_never_published(
    launch: Launch, new_guest: NewGuest
) -> None:
    (guest,) = install(new_guest, launch, "one")
    files = sorted((guest.env.resolve() / "lib").rglob("*.pyc"))
    os.truncate(files[0], files[0].stat().st_size - 5)
    os.truncate(files[1], 0)
    assert guest.publish() == wire.READY
    assert any("removed 2 damaged files of byte code" in e["MESSAGE"] for e in guest.events)
    assert [path.exists() for path in files[:3]] == [False, False, True]
    machine = new_guest("next", launch)
    assert machine.boot() == wire.READY
    assert machine.result["source"] == "archive"
    names = {path.relative_to(guest.env.resolve()) for path in files[2:]}
    root = machine.env.resolve()
    assert {path.relative_to(root) for path in (root / "lib").rglob("*.pyc")} == names


@pytest.mark.parametrize("size", [None, 0, 3])
def test_a_short_file_is_never_published(
    launch: Launch, new_guest: NewGuest, bucket: Path, size: int | None
) -> None:
    (guest,) = install(new_guest, launch, "one")
    (tree,) = guest.opt.glob("publish-*")
    path = next(tree.rglob("tiny_one/__init__.py"), None) or next(
        each for each in tree.rglob("*.py") if each.stat().st_size > 3
    )
    if size is None:
        path.unlink()
    else:
        os.truncate(path, size)
    assert guest.publish() == wire.DEGRADED
    assert f"{path.name} has {size or 0} bytes, its RECORD says " in guest.events[-1]["MESSAGE"]
    assert not (bucket / launch.base_key / "env.tar.zst").exists()


@pytest.mark.parametrize("key", ["env.tar.zst", "index.json"])
def test_what_a_proxy_has_answered_for_the_bucket_is_not_published(
    launch: Launch, new_guest: NewGuest, proxy: Proxy, key: str
) -> None:
    launch = replace(launch, grants=proxy.redirect(launch.grants))
    guest = new_guest("one", launch)
    assert guest.boot() == wire.READY
    permit = guest.state / "permit.json"
    permit.write_text(json.dumps(proxy.redirect(json.loads(permit.read_text()))))
    proxy.strike(f"PUT .*/{key}", 1, 200)
    assert guest.publish() == wire.DEGRADED
    assert guest.events[-1]["MESSAGE_ID"] == wire.MESSAGE_IDS["publish-failed"]
