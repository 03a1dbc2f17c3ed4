"""An interrupt while instances are being started: none is left that nobody knows of."""

from __future__ import annotations

import signal
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import pytest

from envboot_provisioners import StartRequest
from envboot_provisioners.interrupts import defer_interrupts
from envboot_provisioners.local import LocalProvisioner
from tests.sessions import make_session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = [signal.getsignal(number) for number in NUMBERS]
    for number in NUMBERS:
        signal.signal(number, signal.default_int_handler)
    yield
    for number, action in zip(NUMBERS, before, strict=True):
        signal.signal(number, action)


@pytest.mark.parametrize("number", NUMBERS)
def test_an_interrupt_waits_for_the_end_of_the_block(number: signal.Signals) -> None:
    done = []

    def work() -> None:
        with defer_interrupts():
            signal.raise_signal(number)
            signal.raise_signal(number)
            done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["all of it"]
    assert signal.getsignal(number) is signal.default_int_handler


def test_what_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with defer_interrupts():
        signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_elsewhere_than_in_the_main_thread_nothing_is_changed() -> None:
    seen = []

    def look() -> None:
        with defer_interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


@pytest.mark.subprocess
def test_an_interrupt_between_two_starts_leaves_neither_process_nor_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENVBOOT_STATE_DIR", str(tmp_path))
    started: list[subprocess.Popen[bytes]] = []

    class Interrupting(subprocess.Popen[bytes]):
        def __init__(self, *words: Any, **options: Any) -> None:
            super().__init__(*words, **options)
            started.append(self)
            if len(started) == 2:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupting)
    request = StartRequest(
        launch="20260101-000000-abcd", count=3, user_data=b"sleep 600\n", fixed_prefix=False
    )
    with pytest.raises(KeyboardInterrupt):
        LocalProvisioner(make_session()).start(request)
    assert [process.wait(0) for process in started] == [-signal.SIGTERM] * 3
    assert not list(tmp_path.glob("local/*"))
