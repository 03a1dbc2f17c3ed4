"""`envboot store`, as its user sees it."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from envboot.cli import cli, run
from envboot.cli.commands.store import render_listing
from envboot.errors import Exit
from envboot.store.local.store import LocalStore
from envboot.store.protocol import Stat
from tests.store.guest import ask

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(f"file://{tmp_path}")
    for key, data in (("a/one", b"1"), ("b", bytes(1500)), ("c", b"")):
        store.create(key, data)
    return store


def keys(store: LocalStore) -> list[str]:
    return [each.key for each in store.list("")]


def envboot(*arguments: str) -> int:
    return run(cli, list(arguments), "envboot")


def test_ls_prints_a_line_an_object(store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert envboot("store", "ls", store.url) == Exit.OK
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    assert [line[-1] for line in lines] == ["a/one", "b", "c"]
    assert "1.5 kB" in " ".join(lines[1])


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_ls_of_what_is_empty_or_was_never_made_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    url = f"file://{tmp_path}/missing"
    assert envboot("store", "ls", url, *options) == Exit.OK
    assert capsys.readouterr().err == (
        f"warning: `{url}` holds nothing: no launch has used it yet, or its name is another\n"
    )


def test_ls_prints_json(store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert envboot("store", "ls", store.url, "--json") == Exit.OK
    rows = json.loads(capsys.readouterr().out)
    assert [(row["key"], row["size"]) for row in rows] == [("a/one", 1), ("b", 1500), ("c", 0)]
    assert all(set(row) == {"key", "size", "modified"} for row in rows)
    assert datetime.fromisoformat(rows[0]["modified"]).utcoffset() == timedelta(0)


def test_a_listing_shows_age_and_size_in_short() -> None:
    now = datetime(2026, 1, 31, tzinfo=timezone.utc)
    found = [
        Stat(key="new", size=999, modified=now + timedelta(seconds=3)),
        Stat(key="minutes", size=1000, modified=now - timedelta(seconds=61)),
        Stat(key="hours", size=425_000_000, modified=now - timedelta(hours=23.9)),
        Stat(key="days", size=5_400_000_000, modified=now - timedelta(days=30)),
    ]
    assert render_listing(found, now) == [
        "  0 s      999 B  new",
        "  1 m     1.0 kB  minutes",
        " 23 h   425.0 MB  hours",
        " 30 d     5.4 GB  days",
    ]


def test_rm_asks_and_takes_no_for_an_answer(
    store: LocalStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert envboot("store", "rm", store.url, "a/one", "b") == Exit.INTERRUPTED
    assert "Remove `a/one`, `b` from" in capsys.readouterr().err
    assert keys(store) == ["a/one", "b", "c"]


def test_rm_removes_what_it_was_told(store: LocalStore) -> None:
    assert envboot("store", "rm", store.url, "a/one", "c", "absent", "--yes") == Exit.OK
    assert keys(store) == ["b"]


def test_a_key_that_leads_outside_is_an_error(
    store: LocalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert envboot("store", "rm", store.url, "../x", "--yes") == Exit.STORE
    assert capsys.readouterr().err.startswith("error: Cannot use the key `'../x'` in `file://")


@pytest.mark.parametrize("subcommand", ["ls", "serve"])
def test_an_unknown_kind_of_bucket_is_a_usage_error(
    subcommand: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert envboot("store", subcommand, "ftp://host/folder") == Exit.USAGE
    assert "`ftp://host/folder`" in capsys.readouterr().err


@pytest.mark.sockets
@pytest.mark.subprocess
def test_serve_honours_urls_until_it_is_interrupted(store: LocalStore) -> None:
    with store:
        url = urlsplit(store.sign_get("a/one", 60))
    command = "from envboot.cli import main; main()"
    server = subprocess.Popen(
        [sys.executable, "-c", command, "store", "serve", store.url, "--port", str(url.port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout
        assert server.stdout.readline() == f"http://127.0.0.1:{url.port}\n"
        assert ask("GET", url.geturl()).body == b"1"
        server.send_signal(signal.SIGINT)
        _, error = server.communicate(timeout=20)
    finally:
        server.kill()
    assert (server.returncode, error) == (0, "Stopped\n")


@pytest.mark.sockets
@pytest.mark.subprocess
@pytest.mark.parametrize(("cloud", "scheme", "server"), [("aws", "s3", "s3"), ("gcp", "gs", "gcs")])
def test_a_launch_says_that_its_bucket_is_not_there_before_it_scans(
    cloud: str,
    scheme: str,
    server: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bucket = f"{request.getfixturevalue(f'{server}_bucket')}-none"
    words = ["launch", cloud, "--store", f"{scheme}://{bucket}/x"]
    # It could not be scanned either, which would be told first.
    words += ["--python", str(tmp_path / "missing")]
    assert run(cli, words, "envboot") == Exit.STORE
    printed = capsys.readouterr().err
    assert f"caused by: Bucket `{bucket}` was not found" in printed
    assert f"`envboot store init {scheme}://{bucket}/x`" in printed
