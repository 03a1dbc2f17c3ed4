"""Who may publish: the agent before a command runs, and never the command."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from envboot.agent import fetch, permit, wire
from envboot.agent.host import Host
from tests.agent.guests import Guest, Launch, Parts, make_launch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from envboot.store.local.store import LocalStore
    from tests.agent.proxy import Proxy

    NewGuest = Callable[[str, Launch], Guest]

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

PERMIT = "launches/launch/secrets/permit-0.json"
ATTACK = """
import json, sys, urllib.error, urllib.request
grants = json.loads(sys.argv[1])
def ask(method, url, **more):
    try:
        return urllib.request.urlopen(urllib.request.Request(url, method=method, **more)).status
    except urllib.error.HTTPError as error:
        return error.code
found = [ask("GET", grants["permit"]["get"])]
for name in ("archive", "index"):
    headers = {"If-None-Match": "*"}
    found.append(ask("PUT", grants[name]["get"], data=b"{}", headers=headers))
found.append(ask("PUT", grants["permit"]["get"], data=b"{}"))
found.append(ask("PUT", grants["permit"]["delete"], data=b"{}"))
print(found)
"""


def command(launch: Launch, *words: str) -> Launch:
    return replace(launch, config={**launch.config, "command": list(words)})


def test_what_a_command_can_read_puts_nothing_below_the_base(
    launch: Launch, new_guest: NewGuest, bucket: Path
) -> None:
    launch = command(launch, "python", "-c", ATTACK, json.dumps(launch.grants))
    guest = new_guest("one", launch)
    assert guest.boot() == wire.READY
    assert (bucket / PERMIT).exists()
    assert guest.agent("run") == 0
    assert not (bucket / PERMIT).exists()
    output = json.loads((guest.state / "command.json").read_text())
    assert output["exit_code"] == 0
    base = bucket / launch.base_key
    assert {path.name for path in base.iterdir()} == {"manifest.json"}
    assert guest.publish() == wire.READY
    assert (base / "index.json").exists()


def test_the_attack_is_denied_at_every_step(
    launch: Launch, new_guest: NewGuest, bucket: Path
) -> None:
    launch = command(launch, "python", "-c", ATTACK, json.dumps(launch.grants))
    guest = new_guest("one", launch)
    guest.boot()
    process = guest.start("run")
    printed, _ = process.communicate(timeout=60)
    assert json.loads(printed) == [404, 403, 403, 403, 403]


def test_the_permit_is_kept_for_root_alone(launch: Launch, new_guest: NewGuest) -> None:
    guest = new_guest("one", launch)
    assert guest.boot() == wire.READY
    assert (guest.state / "permit.json").stat().st_mode & 0o777 == 0o600


def test_whose_permit_is_gone_installs_and_publishes_nothing(
    launch: Launch, new_guest: NewGuest, bucket: Path
) -> None:
    (bucket / PERMIT).unlink()
    guest = new_guest("late", command(launch, "true"))
    assert guest.boot() == wire.READY
    assert guest.result["source"] == "install"
    assert guest.result["errors"] == []
    assert guest.agent("run") == 0
    assert guest.publish() == wire.READY
    assert not (bucket / launch.base_key / "env.tar.zst").exists()


def test_a_command_waits_until_the_bucket_has_removed_the_permit(
    launch: Launch, new_guest: NewGuest, proxy: Proxy, bucket: Path
) -> None:
    launch = replace(command(launch, "true"), grants=proxy.redirect(launch.grants))
    guest = new_guest("one", launch)
    assert guest.boot() == wire.READY
    proxy.strike("DELETE", 2, 503)
    assert guest.agent("run") == 0
    assert not (bucket / PERMIT).exists()
    asked = len(proxy.requests)
    # The next boot needs no bucket for that.
    assert guest.agent("run") == 0
    assert not [request for request in proxy.requests[asked:] if request.startswith("DELETE")]


def test_publisher_and_command_remove_the_permit_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(str(tmp_path))
    host.grants = {"launch": "one", "permit": {"delete": "https://bucket/permit"}}
    sent = []

    def send(method: str, *_: object) -> None:
        sent.append(method)
        # Long enough for the other thread to come as far as this.
        time.sleep(0.3)

    monkeypatch.setattr(fetch, "send", send)
    with ThreadPoolExecutor() as pool:
        list(pool.map(permit.remove, [host, host]))
    assert sent == ["DELETE"]


def test_a_command_does_not_start_where_the_permit_stays(
    launch: Launch, new_guest: NewGuest, proxy: Proxy
) -> None:
    launch = replace(command(launch, "true"), grants=proxy.redirect(launch.grants))
    guest = new_guest("one", launch)
    guest.boot()
    proxy.strike("DELETE", 99, "403 AccessDenied")
    assert guest.agent("run") == 1
    told = json.loads((guest.state / "command.json").read_text())["error"]
    assert told.startswith("the right to publish is still in the bucket: forbidden: ")
    assert "X-Envboot-Signature" not in told


def test_the_permit_of_another_launch_is_not_used(
    launch: Launch, new_guest: NewGuest, bucket: Path
) -> None:
    guest = new_guest("one", launch)
    assert guest.boot() == wire.READY
    other = {name: value for name, value in launch.grants.items() if name != "permit"}
    guest.give(replace(launch, grants={**other, "launch": "other"}))
    assert guest.publish() == wire.DEGRADED
    assert "this launch may not publish" in guest.events[-1]["MESSAGE"]
    assert not (bucket / launch.base_key / "env.tar.zst").exists()


def test_another_index_than_the_pinned_one_is_refused(
    hit: Launch, new_guest: NewGuest, bucket: Path
) -> None:
    assert hit.grants["index"]["sha256"]
    place = bucket / hit.base_key / "index.json"
    # As good as the one before, for whoever does not know that one.
    place.write_bytes(place.read_bytes() + b"\n")
    guest = new_guest("one", hit)
    assert guest.boot() == wire.DEGRADED
    assert guest.result["source"] == "install"
    assert "base/" in guest.reasons
    assert "is not what was pinned" in guest.reasons
    assert not list(guest.opt.glob("publish-*"))


def test_where_the_archive_has_ended_a_machine_installs_without_a_word(
    hit: Launch, new_guest: NewGuest, bucket: Path
) -> None:
    for name in ("index.json", "env.tar.zst"):
        (bucket / hit.base_key / name).unlink()
    guest = new_guest("one", hit)
    assert guest.boot() == wire.READY
    assert guest.result["source"] == "install"


def test_a_local_command_cannot_write_into_what_is_packed(
    parts: Parts, store: LocalStore, launch: Launch, new_guest: NewGuest, tmp_path: Path
) -> None:
    edit = (
        "import alpha, os\n"
        "with open(alpha.__file__, 'r+') as file: file.write('NAME = \"edited\" #')\n"
    )
    guest = new_guest("one", command(launch, "python", "-B", "-c", edit))
    process = guest.start("local")
    assert process.communicate(timeout=60)[0] == ""
    assert process.returncode == 0
    # Byte code is not compared with its source, which therefore is looked into.
    look = "import alpha; print('edited' in open(alpha.__file__).read())"
    assert guest.says(look) == "True"
    second = new_guest("two", make_launch(parts, store, tmp_path / "cache"))
    assert second.boot() == wire.READY
    assert second.result["source"] == "archive"
    assert second.says(look) == "False"
