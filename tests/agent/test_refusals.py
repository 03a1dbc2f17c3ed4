"""Boots on which something is wrong: a bad cache is reported and never blocks the fallback."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from envboot.agent import pack, wire
from envboot.manifest import Python
from envboot.platforms import TARGETS
from tests.agent.guests import (
    HOST_PYTHON,
    MINOR,
    PLATFORM,
    SITE,
    Guest,
    Launch,
    Parts,
    make_launch,
    make_layer,
    make_manifest,
)
from tests.agent.trees import snapshot, write
from tests.reports import read_documents

if TYPE_CHECKING:
    from collections.abc import Callable

    from envboot.store.local.store import LocalStore
    from tests.agent.proxy import Proxy

    NewGuest = Callable[[str, Launch], Guest]

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]


def assert_mended(guest: Guest, published: Guest, reason: str) -> None:
    """The environment is whole by installing, and why is on record, without any credential."""
    assert guest.boot() == wire.DEGRADED, guest.result
    assert guest.result["outcome"] == "degraded"
    assert guest.result["source"] == "install"
    assert [error["stage"] for error in guest.result["errors"]] == ["fetch"]
    assert reason in guest.reasons
    refused = [e for e in guest.events if e["MESSAGE_ID"] == wire.MESSAGE_IDS["archive-refused"]]
    assert [e["ENVBOOT_ERROR"] for e in refused] == [guest.result["errors"][0]["error"]]
    assert refused[0]["PRIORITY"] == 4
    assert guest.code() == published.code()
    assert guest.says() == "alpha beta"
    assert guest.leftovers() == []
    for name in ("result.json", "events.jsonl"):
        assert "X-Envboot-Signature" not in (guest.state / name).read_text()


def truncate(archive: Path) -> None:
    archive.write_bytes(archive.read_bytes()[:-10])


def flip_one_bit(archive: Path) -> None:
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 4
    archive.write_bytes(data)


def flip_the_last_bit(archive: Path) -> None:
    data = bytearray(archive.read_bytes())
    data[-1] ^= 128
    archive.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (truncate, "bytes, not "),
        (flip_one_bit, "corrupt: the frame at byte"),
        (flip_the_last_bit, "corrupt: the frame at byte"),
        (Path.unlink, "missing: http://127.0.0.1:"),
        (lambda archive: archive.write_bytes(b""), "416"),
    ],
    ids=["truncated", "bit flipped", "last bit flipped", "missing", "empty"],
)
def test_a_damaged_archive_is_refused(
    hit: Launch,
    published: Guest,
    new_guest: NewGuest,
    bucket: Path,
    damage: Callable[[Path], None],
    reason: str,
) -> None:
    damage(bucket / hit.base_key / "env.tar.zst")
    assert_mended(new_guest("guest", hit), published, reason)


DEEP = "[" * 100_000


def edit(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda index: {**index, **changes}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda index: "{", "not a document: b'{'"),
        (lambda index: DEEP, "not a document"),
        (lambda index: [], "not a document: b'[]'"),
        (lambda index: {}, "not one of this base"),
        (edit(base="sha256:" + "0" * 64), "not one of this base"),
        (edit(index_version=2), "not one of this base"),
        (edit(frames=[]), "not one of this base"),
        (lambda index: {**index, "frames": index["frames"][:-1]}, "not one of this base"),
        (edit(frames=7), "not one of this base"),
        (edit(frames=[[0]]), "not one of this base"),
        (edit(frames=[[0, -1, 1, "", ""]], size=-1, raw=1), "not one of this base"),
        (edit(frames=[[0, 1, 1 << 62, "", ""]], size=1, raw=1 << 62), "not one of this base"),
        (edit(frames=[[0, 1, 1, "", ""]], size=1, raw=1), "corrupt"),
        (edit(padding="x" * (32 << 20)), "is too large"),
    ],
    ids=lambda value: value if isinstance(value, str) else "change",
)
def test_a_damaged_index_is_refused(
    hit: Launch,
    published: Guest,
    new_guest: NewGuest,
    bucket: Path,
    change: Callable[[dict[str, Any]], Any],
    reason: str,
) -> None:
    file = bucket / hit.base_key / "index.json"
    changed = change(json.loads(file.read_text()))
    # As of a document that was rendered before there was an archive.
    del hit.grants["index"]["sha256"]
    file.write_text(changed if isinstance(changed, str) else json.dumps(changed))
    assert_mended(new_guest("guest", hit), published, reason)


@pytest.mark.parametrize("which", ["index", "archive"])
def test_a_forged_url_is_forbidden(
    hit: Launch, published: Guest, new_guest: NewGuest, which: str
) -> None:
    url = hit.grants[which]["get"]
    hit.grants[which]["get"] = url[:-1] + ("0" if url[-1] != "0" else "1")
    reason = "SignatureDoesNotMatch"
    guest = new_guest("guest", hit)
    assert_mended(guest, published, reason)
    assert "fetch: forbidden: http://127.0.0.1:" in guest.reasons


@pytest.mark.parametrize("which", ["index", "archive"])
def test_an_expired_url_is_told_from_a_forbidden_one(
    hit: Launch, published: Guest, store: LocalStore, new_guest: NewGuest, which: str
) -> None:
    name = {"index": "index.json", "archive": "env.tar.zst"}[which]
    hit.grants[which]["get"] = store.sign_get(f"{hit.base_key}/{name}", -1)
    guest = new_guest("guest", hit)
    assert_mended(guest, published, "expired: http://127.0.0.1:")


def test_an_archive_whose_interpreter_is_another_is_refused(
    hit: Launch, published: Guest, new_guest: NewGuest, bucket: Path, tmp_path: Path
) -> None:
    tree, folder = tmp_path / "tree", bucket / hit.base_key
    ran = tmp_path / "ran"
    version = hit.manifest.base.python.version
    write(tree, "bin/python", f"#!/bin/sh\ntouch {ran}\necho {version}\n".encode(), 0o755)
    base = hit.manifest.base_digest
    index = pack.write_archive(str(tree), str(folder / "env.tar.zst"), base)
    (folder / "index.json").write_text(json.dumps(index))
    del hit.grants["index"]["sha256"]
    assert_mended(new_guest("guest", hit), published, "its interpreter is /")
    assert not ran.exists()


def test_the_machines_own_interpreter_does_as_no_archive_says(
    hit: Launch, new_guest: NewGuest, bucket: Path, tmp_path: Path
) -> None:
    tree, folder, ran = tmp_path / "tree", bucket / hit.base_key, tmp_path / "ran"
    evil = f"open({str(ran)!r}, 'w')\n".encode()
    write(tree, f"home/lib/python{MINOR}/encodings/__init__.py", evil)
    write(tree, f"home/lib/python{MINOR}/os.py", evil)
    write(tree, f"{SITE}/evil.pth", b"import " + evil)
    write(tree, "pyvenv.cfg", b"home = " + bytes(tree / "home/bin") + b"\n")
    (tree / "bin").mkdir()
    (tree / "bin/python").symlink_to(HOST_PYTHON)
    base, output = hit.manifest.base_digest, str(folder / "env.tar.zst")
    index = pack.write_archive(str(tree), output, base, HOST_PYTHON)
    (folder / "index.json").write_text(json.dumps(index))
    del hit.grants["index"]["sha256"]
    assert new_guest("guest", hit).boot() == wire.READY
    assert not ran.exists()


@pytest.mark.parametrize("what", [500, 503, "cut", "hang up"])
def test_a_fault_that_passes_is_waited_out(
    hit: Launch, published: Guest, new_guest: NewGuest, proxy: Proxy, what: int | str
) -> None:
    proxy.strike(r"GET .*index\.json", 1, what)
    proxy.strike(r"GET .*env\.tar\.zst", 2, what)
    launch = replace(hit, grants=proxy.redirect(hit.grants))
    guest = new_guest("guest", launch)
    assert guest.boot() == wire.READY
    assert guest.result["source"] == "archive"
    assert guest.code() == published.code()
    assert len([r for r in proxy.requests if r.endswith("index.json")]) == 2


@pytest.mark.parametrize(
    ("what", "reason"), [(500, "HTTP 500 Trouble Bad day"), ("cut", "IncompleteRead")]
)
def test_a_fault_that_stays_ends_in_the_fallback(
    hit: Launch,
    published: Guest,
    new_guest: NewGuest,
    proxy: Proxy,
    what: int | str,
    reason: str,
) -> None:
    proxy.strike(r"GET .*env\.tar\.zst", 10_000, what)
    launch = replace(hit, grants=proxy.redirect(hit.grants))
    guest = new_guest("guest", launch)
    assert_mended(guest, published, reason)
    assert "fetch: unreachable: http://127.0.0.1:" in guest.reasons


def test_a_bucket_that_is_gone_ends_in_the_fallback(
    hit: Launch, published: Guest, store: LocalStore, new_guest: NewGuest
) -> None:
    store.serve().close()
    for grant in ("tools", "report"):
        del hit.grants[grant]
    assert_mended(new_guest("guest", hit), published, "ConnectionRefusedError")


def test_reports_that_cannot_be_sent_harm_nothing(
    hit: Launch, store: LocalStore, new_guest: NewGuest
) -> None:
    hit.grants["report"]["fields"] = dict.fromkeys(hit.grants["report"]["fields"], "forged")
    guest = new_guest("guest", hit)
    assert guest.boot() == wire.READY
    assert read_documents(store, "launch") == {}
    assert any("report: forbidden" in e["MESSAGE"] for e in guest.events)


def prepare_with_layer(
    parts: Parts, store: LocalStore, tmp_path: Path, new_guest: NewGuest
) -> tuple[Guest, Launch]:
    """Return a machine with an environment of its own, and a launch of one with a layer."""
    plain = make_launch(parts, store, tmp_path / "cache")
    guest = new_guest("guest", plain)
    assert guest.boot() == wire.READY
    assert guest.publish() == wire.READY
    manifest, layer = make_layer(plain.manifest, tmp_path, {f"{SITE}/mine.py": b"NAME = 1\n"})
    return guest, make_launch(parts, store, tmp_path / "cache", manifest=manifest, layer=layer)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (flip_one_bit, ""),
        (truncate, "zstd"),
        (Path.unlink, "missing: http://127.0.0.1:"),
        (lambda layer: layer.write_bytes(b""), "corrupt: the layer"),
    ],
    ids=["bit flipped", "truncated", "missing", "empty"],
)
def test_a_damaged_layer_fails_and_leaves_the_prefix_alone(
    parts: Parts,
    store: LocalStore,
    bucket: Path,
    tmp_path: Path,
    new_guest: NewGuest,
    damage: Callable[[Path], None],
    reason: str,
) -> None:
    guest, launch = prepare_with_layer(parts, store, tmp_path, new_guest)
    active, before = guest.env.resolve(), snapshot(guest.env.resolve())
    file = next((bucket / "layers").iterdir())
    whole = file.read_bytes()
    damage(file)
    guest.give(launch)
    assert guest.boot() == wire.FAILED
    assert guest.result["outcome"] == "failed"
    assert [error["stage"] for error in guest.result["errors"]] == ["layer"]
    assert reason in guest.reasons
    assert guest.events[-1]["MESSAGE_ID"] == wire.MESSAGE_IDS["failed"]
    assert guest.events[-1]["PRIORITY"] == 3
    assert guest.env.resolve() == active
    assert snapshot(active) == before
    assert not (guest.opt / "previous").exists()
    # A failed attempt does not keep the disk full.
    assert guest.leftovers() == []
    file.write_bytes(whole)
    assert guest.boot() == wire.READY
    assert guest.says("import mine; print(mine.NAME)") == "1"
    assert guest.leftovers() == []


def assert_failed(guest: Guest, stage: str, reason: str) -> None:
    assert guest.boot() == wire.FAILED
    assert guest.result["outcome"] == "failed"
    assert [error["stage"] for error in guest.result["errors"]] == [stage]
    assert reason in guest.reasons
    assert not guest.env.exists()


def test_another_manifest_than_the_promised_one_fails(
    hit: Launch, parts: Parts, store: LocalStore, tmp_path: Path, new_guest: NewGuest
) -> None:
    other = make_launch(
        parts, store, tmp_path / "cache", manifest=make_manifest(parts, wheels=parts.wheels[:1])
    )
    guest = new_guest("inline", replace(hit, manifest=other.manifest))
    wanted = hit.manifest.environment_digest
    found = other.manifest.environment_digest
    assert_failed(guest, "probe", f"the manifest is {found}, not {wanted}")
    url = store.sign_get(f"environments/{found[7:]}.json", 600)
    guest = new_guest("by-url", replace(hit, grants={**hit.grants, "manifest": {"get": url}}))
    (guest.state / "manifest.json").unlink()
    assert_failed(guest, "probe", f"the manifest is {found}, not {wanted}")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *((name, text) for name in ("manifest", "config") for text in ("{", "[]", "null", "7", "")),
        ("grants", "{"),
    ],
)
def test_a_damaged_document_fails_with_a_result(
    launch: Launch, new_guest: NewGuest, name: str, text: str
) -> None:
    guest = new_guest("guest", launch)
    (guest.state / f"{name}.json").write_text(text)
    assert_failed(guest, "probe", "")
    assert guest.reasons.strip() != "probe:"


def test_a_manifest_of_a_later_version_fails(launch: Launch, new_guest: NewGuest) -> None:
    guest = new_guest("guest", launch)
    document = {**launch.manifest.to_dict(), "manifest_version": 2}
    (guest.state / "manifest.json").write_text(json.dumps(document))
    assert_failed(guest, "probe", "the manifest is , not sha256:")


def test_another_platform_fails(
    parts: Parts, store: LocalStore, tmp_path: Path, new_guest: NewGuest
) -> None:
    (platform,) = set(TARGETS) - {PLATFORM}
    manifest = make_manifest(parts, platform=platform)
    launch = make_launch(parts, store, tmp_path / "cache", manifest=manifest)
    assert_failed(new_guest("guest", launch), "probe", f"the environment is for {platform}")


def test_another_interpreter_fails(
    parts: Parts, store: LocalStore, tmp_path: Path, new_guest: NewGuest
) -> None:
    python = Python(version="3.10.99", source="host", executable=HOST_PYTHON)
    manifest = make_manifest(parts, python=python)
    launch = make_launch(parts, store, tmp_path / "cache", manifest=manifest)
    assert_failed(new_guest("guest", launch), "verify", "not 3.10.99")


def test_a_wheel_of_other_bytes_fails_with_uvs_own_words(
    parts: Parts, store: LocalStore, tmp_path: Path, new_guest: NewGuest
) -> None:
    wheels = (replace(parts.wheels[0], sha256="0" * 64),)
    manifest = make_manifest(parts, wheels=wheels)
    launch = make_launch(parts, store, tmp_path / "cache", manifest=manifest)
    assert_failed(new_guest("guest", launch), "install", "Hash mismatch")


def test_a_tool_of_other_bytes_is_never_run(
    parts: Parts, store: LocalStore, tmp_path: Path, new_guest: NewGuest, bucket: Path
) -> None:
    launch = make_launch(parts, store, tmp_path / "cache")
    file = bucket / f"tools/{parts.uv.sha256}/uv"
    file.write_bytes(b"#!/bin/sh\ntouch " + bytes(tmp_path / "ran"))
    guest = new_guest("guest", launch)
    assert guest.boot() == wire.READY, "where it is published is a whole one"
    tool = replace(parts.uv, url=f"{parts.url}/simple/")
    launch = make_launch(
        parts, store, tmp_path / "cache", manifest=make_manifest(parts, tools={"uv": tool})
    )
    assert_failed(new_guest("other", launch), "install", "is not what was pinned")
    assert not (tmp_path / "ran").exists()
