"""What a machine or a bucket says is shown, never obeyed, and no document of theirs ends a command.

Each command runs as its user runs it, on a bucket in which a hostile machine has written.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from envboot.cli import cli, run
from envboot.fleet.output import HEAD
from envboot.publish.layout import key_output
from envboot.text import show_controls

if TYPE_CHECKING:
    from pathlib import Path

LAUNCH = "20261129-000000-aaaa"
EVIL = (
    "\x1b[2J\x1b]0;owned\x07\x1b]8;;http://evil.test\x1b\\click\x9b2J\x7f\x08\r\u202egpj.exe\u2066"
    "\udcff\nerror: forged"
)
RESULT = {
    "outcome": "failed",
    "source": EVIL,
    "environment": EVIL,
    "stages": [{"stage": EVIL, "ms": 1, "error": EVIL}],
    "errors": [{"stage": EVIL, "error": EVIL}],
}
COMMAND = {"exit_code": 1, "ms": 1, "pieces": 3, "output": EVIL, "error": EVIL}
RECORD = {
    "environment": EVIL,
    "base": EVIL,
    "provisioner": EVIL,
    "count": 2,
    "command": [EVIL],
    "auth": "urls",
}
VERSION: dict[str, Any] = {
    "name": "team",
    "version": 1,
    "environment": "sha256:" + "0" * 64,
    "base": EVIL,
    "platform": EVIL,
    "python": EVIL,
    "packages": 1,
    "projects": [{"name": EVIL, "version": EVIL, "commit": EVIL}],
    "created": EVIL,
}


class Bucket:
    """A folder that serves as the bucket, and the command line of a person who looks at it."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self.capsys = capsys

    def put(self, key: str, content: Any) -> str:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return key

    def report(self, event: str, content: Any, *, number: int = 2) -> str:
        return self.put(f"reports/{LAUNCH}/events/i-1/{number:013d}-{event}.json", content)

    def print(self, *texts: bytes, number: int = 1) -> None:
        """Write a piece of output."""
        data = b"".join(HEAD.pack(1 + at % 2, 1, len(text)) + text for at, text in enumerate(texts))
        self.put(key_output(LAUNCH, "i-1", number), data)

    def show(self, *words: str) -> tuple[int, str, str]:
        """Run a command; returns its exit code, stdout and stderr."""
        words = tuple(word.replace("URL", f"file://{self.root}") for word in words)
        code = run(cli, list(words), "envboot")
        shown = self.capsys.readouterr()
        assert "Failed unexpectedly" not in shown.err
        return code, shown.out, shown.err


@pytest.fixture
def bucket(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Bucket:
    for name in ("CACHE", "STATE"):
        monkeypatch.setenv(f"ENVBOOT_{name}_DIR", str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    made = Bucket(tmp_path / "bucket", capsys)
    made.put(f"reports/{LAUNCH}/launch.json", {**RECORD, "provisioner": "other"})
    made.report("started", {}, number=1)
    return made


@pytest.mark.parametrize(
    "words",
    [
        ("status", LAUNCH, "--store", "URL"),
        ("status", LAUNCH, "--store", "URL", "--json"),
        ("why", LAUNCH, "--store", "URL"),
        ("logs", LAUNCH, "--store", "URL"),
        ("logs", LAUNCH, "--json", "--timestamps", "--store", "URL"),
        ("logs", LAUNCH, "--console", "--store", "URL"),
        ("attach", LAUNCH, "--store", "URL"),
        ("wait", LAUNCH, "--store", "URL"),
        ("wait", LAUNCH, "--store", "URL", "--json"),
        ("ls", "--store", "URL"),
        ("ls", "--store", "URL", "--past", "--json"),
        ("terminate", LAUNCH, "--store", "URL"),
        ("env", "ls", "--store", "URL"),
        ("env", "ls", "--store", "URL", "--json"),
        ("env", "show", "team", "--store", "URL"),
        ("store", "ls", "URL"),
        ("store", "ls", "URL", "--json"),
    ],
    ids=" ".join,
)
def test_a_hostile_machine_writes_nothing_to_the_terminal(
    bucket: Bucket, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put(f"reports/{LAUNCH}/launch.json", RECORD)
    bucket.put(f"reports/{LAUNCH}/ended.json", {"why": EVIL, "time": EVIL})
    bucket.put("names/team/00000001.json", VERSION)
    bucket.report("notice", {"notice": EVIL, "time": EVIL, "action": EVIL})
    evil = EVIL.encode(errors="surrogateescape")
    bucket.print(evil, evil)
    bucket.put(key_output(LAUNCH, "i-1", 3), evil)
    bucket.report("result", RESULT, number=4)
    bucket.report("command", COMMAND, number=5)
    bucket.put(f"reports/{LAUNCH}/events/i\x1b[2J\u202e\n/0000000000002-result.json", RESULT)
    bucket.put("base/\u202eevil", b"")
    if words[0] in ("logs", "attach"):
        # A pipe would get the command's bytes as they are.
        monkeypatch.setattr("envboot.cli.console.is_terminal", lambda *, err=False: True)
        monkeypatch.setenv("TERM", "dumb")
    _, out, err = bucket.show(*words)
    for text in (out, err):
        assert show_controls(text) == text
        # Output is the machine's own; elsewhere no line of its looks like one of ours.
        if words[0] not in ("logs", "attach"):
            assert not re.search("^error: forged", text, re.MULTILINE)


def test_a_pipe_gets_output_as_it_was(bucket: Bucket) -> None:
    bucket.print(b"\x1b[31mred\x1b[0m 1 %\r2 %\r\n")
    _, out, _ = bucket.show("logs", LAUNCH, "--store", "URL")
    assert out == "\x1b[31mred\x1b[0m 1 %\r2 %\r\n"


@pytest.mark.parametrize("document", ["launch", "ended"])
@pytest.mark.parametrize(
    "content", [b"[]", b"\xff{", b"[" * 100_000, b'{"why": 1}', b" " * (3 << 20)], ids=range(5)
)
def test_what_a_launch_left_may_be_overwritten_by_its_machines(
    bucket: Bucket, document: str, content: bytes
) -> None:
    key = bucket.put(f"reports/{LAUNCH}/{document}.json", content)
    for command in ("status", "why", "logs"):
        code, _, err = bucket.show(command, LAUNCH, "--store", "URL")
        # Its provisioner is not installed here, which `status` does not pass over.
        assert code == (115 if command == "status" and document == "ended" else 0), err
        assert key in err
    assert bucket.show("ls", "--past", "--store", "URL")[0] == 0
    if document == "launch":
        # Never `nothing is left` of what may run and cost.
        code, _, err = bucket.show("terminate", LAUNCH, "--store", "URL")
        assert code == 113
        assert f"Cannot end `{LAUNCH}`" in err


def test_a_version_that_nobody_published_is_left_out_and_named(bucket: Bucket) -> None:
    bucket.put("names/good/00000001.json", {**VERSION, "name": "good", "projects": []})
    for number, wrong in enumerate(
        (b"[" * 100_000, VERSION | {"projects": [1]}, VERSION | {"packages": "x"}, b"", [])
    ):
        key = bucket.put(f"names/bad{number}/00000001.json", wrong)
        code, out, err = bucket.show("env", "ls", "--store", "URL")
        assert (code, len(out.splitlines())) == (0, 2)
        assert f"Expected a published environment at `{key}`" in err
