"""How long launches live: `--max-life`, `envboot extend`, and what is said of it."""

from __future__ import annotations

import json
import signal
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest

from envboot.errors import Exit, UsageError
from envboot.fleet.life import (
    LAST_WORDS,
    Lifetime,
    check_urls,
    find_new_end,
    parse_lifetime,
    show_end,
)
from envboot.store.protocol import Expiry
from tests.launch.workspace import ENVBOOT, Workspace, wait_for

if TYPE_CHECKING:
    from envboot.store.protocol import Store

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

NOW = datetime(2026, 11, 30, tzinfo=timezone.utc)


def read_status(workspace: Workspace, launch: str) -> dict[str, Any]:
    done = workspace.run(ENVBOOT, "status", launch, "--json")
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_a_command_that_outlives_its_launch_is_ended_with_all_that_it_started(
    warm: Workspace,
) -> None:
    script = "sleep 600 & echo begun; trap '' TERM; sleep 600"
    start = time.monotonic()
    done = warm.launch("--max-life", "5s", "--", "sh", "-c", script)
    assert 4 < time.monotonic() - start < 40
    assert done.returncode != 0
    assert "ended before the command did: its time was over" in done.stderr
    assert warm.survivors() == warm.leftovers() == []


def test_the_end_of_a_launch_is_moved_and_its_machine_obeys(warm: Workspace) -> None:
    client = warm.start(*warm.command("--max-life", "8s", "--", "sh", "-c", "echo a; sleep 600"))
    try:
        wait_for(lambda: "a" in warm.run(ENVBOOT, "logs").stdout)
        [row] = json.loads(warm.run(ENVBOOT, "ls", "--json").stdout)
        before = read_status(warm, row["launch"])["ends"]
        done = warm.run(ENVBOOT, "extend", row["launch"], "1h")
        assert done.returncode == 0, done.stderr
        assert f"{row['launch']}: 1 instance until 20" in done.stdout
        after = read_status(warm, row["launch"])["ends"]
        moved = datetime.fromisoformat(after[:-1]) - datetime.fromisoformat(before[:-1])
        assert moved.total_seconds() == 3600
        time.sleep(8)
        assert client.poll() is None
        (state,) = (each["state"] for each in read_status(warm, row["launch"])["instances"])
        assert state == "running"
    finally:
        client.send_signal(signal.SIGTERM)
        client.communicate()


def test_what_never_ends_cannot_be_extended(warm: Workspace) -> None:
    launch = warm.launch_json("--max-life", "never")["launch"]
    assert read_status(warm, launch)["ends"] == "never"
    done = warm.run(ENVBOOT, "extend", launch, "1h")
    assert done.returncode == Exit.USAGE
    assert "Cannot extend a launch that never ends" in done.stderr


def test_without_a_word_a_launch_lives_a_week_with_a_command_and_a_day_without() -> None:
    assert parse_lifetime(None, None, has_command=True) == Lifetime(max_life=7 * 86400)
    assert parse_lifetime(None, "10m", has_command=False) == Lifetime(max_life=86400, idle=600)
    never = parse_lifetime("never", None, has_command=True)
    assert (never.max_life, never.seconds) == (None, 7 * 86400)
    assert parse_lifetime("30d", None, has_command=True).seconds == 7 * 86400
    assert parse_lifetime("2h", None, has_command=True).seconds == 7200 + LAST_WORDS
    with pytest.raises(UsageError, match="at most `120d`, such as `24h`, found `1y`"):
        parse_lifetime("1y", None, has_command=True)


class Signer:
    """A bucket whose URLs end when it says."""

    def __init__(self, expiry: Expiry) -> None:
        self._expiry = expiry

    def limits(self, seconds: int) -> Expiry:
        return self._expiry


def check(expiry: Expiry, life: Lifetime) -> str:
    store: Store = Signer(expiry)  # type: ignore[assignment]
    problem = check_urls(store, life.seconds, life)
    return problem.message if problem else ""


def test_credentials_that_end_before_the_machines_are_told_before_anything_starts() -> None:
    soon = datetime.now(timezone.utc).replace(microsecond=0)
    week = datetime.fromtimestamp(soon.timestamp() + 7 * 86400, timezone.utc)
    life = Lifetime(max_life=7 * 86400)
    told = check(Expiry(end=soon, limited_by="credentials"), life)
    assert "when the credentials that signed them end" in told
    assert "machines report nothing after that" in told
    assert check(Expiry(end=week, limited_by="request"), life) == ""
    assert check(Expiry(end=week, limited_by="request", known=False), life)
    assert check(Expiry(end=soon, limited_by="twelve hours"), life)
    # As asked for.
    assert check(Expiry(end=soon, limited_by="request"), life) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(7 * 86400, "7 d"), (86400, "24 h"), (3600, "60 m"), (119, "119 s"), (0, "over")],
)
def test_how_long_is_left_is_told_in_one_unit(seconds: int, text: str) -> None:
    end = datetime.fromtimestamp(NOW.timestamp() + seconds, timezone.utc)
    assert show_end(end, NOW) == text
    assert show_end(None, NOW) == "never"


def test_an_end_that_has_come_is_not_moved() -> None:
    with pytest.raises(UsageError, match="whose end has come, at 2026-11-30T00:00:00Z"):
        find_new_end(NOW, 60, NOW)
