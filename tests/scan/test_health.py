"""RECORDs against the disk, in one process and in two."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from envboot.scan.probe import health

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.subprocess


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Five RECORDs of three files; of each but the middle one a file is not as it should be."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(health, "_FEW", 0)
    found = []
    for number in range(5):
        rows = []
        for name in ("a b.py", "ü.py", "data.txt"):
            (tmp_path / f"{number}{name}").write_text("pass")
            rows.append(f"{number}{name},sha256=x,4\n")
        found.append("".join(rows).encode())
    for number, name in ((0, "a b.py"), (1, "ü.py"), (3, "ü.py"), (4, "a b.py"), (4, "ü.py")):
        (tmp_path / f"{number}{name}").write_text("patched")
    return found


WRONG = [[b"0a b.py"], ["1ü.py".encode()], [], ["3ü.py".encode()], [b"4a b.py", "4ü.py".encode()]]


@pytest.mark.parametrize("processors", [1, 2])
def test_the_answer_is_the_same_from_one_process_and_from_two(
    records: list[bytes], processors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    assert health.check(records)() == WRONG
    assert health.check([])() == []


def test_what_a_killed_process_did_not_say_is_looked_at_again(
    records: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    ours = os.getpid()
    look = health.drifted

    def die_elsewhere(rows: list[tuple[bytes, int]]) -> list[bytes]:
        if os.getpid() != ours:
            os.kill(os.getpid(), signal.SIGKILL)
        return look(rows)

    monkeypatch.setattr(health, "drifted", die_elsewhere)
    assert health.check(records)() == WRONG
