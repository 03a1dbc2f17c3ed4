"""RECORDs against the disk, in one process and in two."""

from __future__ import annotations

import base64
import hashlib
import os
import signal
from typing import TYPE_CHECKING

import pytest

from envboot.scan.probe import health

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.subprocess


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, float]]:
    """Five RECORDs of three files; of each but the middle one a file is not as it should be."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(health, "_FEW", 0)
    found = []
    for number in range(5):
        rows = []
        for name in ("a b.py", "ü.py", "data.txt"):
            (tmp_path / f"{number}{name}").write_text("pass")
            rows.append(f"{number}{name},sha256=x,4\n")
        found.append(("".join(rows).encode(), float("inf")))
    for number, name in ((0, "a b.py"), (1, "ü.py"), (3, "ü.py"), (4, "a b.py"), (4, "ü.py")):
        (tmp_path / f"{number}{name}").write_text("patched")
    return found


WRONG = [[b"0a b.py"], ["1ü.py".encode()], [], ["3ü.py".encode()], [b"4a b.py", "4ü.py".encode()]]


@pytest.mark.parametrize("processors", [1, 2])
def test_the_answer_is_the_same_from_one_process_and_from_two(
    records: list[tuple[bytes, float]], processors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    assert health.check(records)() == WRONG
    assert health.check([])() == []


def test_what_a_killed_process_did_not_say_is_looked_at_again(
    records: list[tuple[bytes, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    ours = os.getpid()
    look = health.drifted

    def die_elsewhere(rows: list[tuple[bytes, int, bytes]], written: float) -> list[bytes]:
        if os.getpid() != ours:
            os.kill(os.getpid(), signal.SIGKILL)
        return look(rows, written)

    monkeypatch.setattr(health, "drifted", die_elsewhere)
    assert health.check(records)() == WRONG


def row(path: Path, data: bytes) -> bytes:
    """Write a file an hour ago, and return its row of a RECORD."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (WRITTEN - 3600, WRITTEN - 3600))
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
    return b"%s,sha256=%s,%d\n" % (os.fsencode(path.name), digest, len(data))


WRITTEN = 1_700_000_000.0


@pytest.mark.parametrize("name", ["mod.py", "config.yaml", "cacert.pem"])
def test_an_edit_that_keeps_the_size_is_found_by_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    record = row(tmp_path / name, b"retries = 3\n")
    assert health.check([(record, WRITTEN)])() == [[]]
    # A copy of the environment is newer than its RECORD, and has the same content.
    os.utime(tmp_path / name)
    assert health.check([(record, WRITTEN)])() == [[]]
    (tmp_path / name).write_bytes(b"retries = 9\n")
    assert health.check([(record, WRITTEN)])() == [[name.encode()]]


def test_data_that_grew_is_found_and_what_tools_rewrite_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    record = row(tmp_path / "cacert.pem", b"one")
    (tmp_path / "cacert.pem").write_bytes(b"one and ours")
    # The script of another prefix, a note of an installer, a stub, and a test of the package.
    record += b"../../../bin/tool,sha256=x,9\np-1.0.dist-info/REQUESTED,sha256=x,9\n"
    record += b"p/mod.pyi,sha256=x,9\np/tests/data.json,sha256=x,9\n"
    assert health.check([(record, WRITTEN)])() == [[b"cacert.pem"]]
