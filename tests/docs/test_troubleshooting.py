"""What people on call read is what the code says, and what it tells them to do works."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from envboot.store.s3.errors import CODES, REFUSED
from tests.docs import sources
from tests.docs.conftest import PROGRAM
from tests.docs.pages import ROOT, TROUBLESHOOTING, read_rows

if TYPE_CHECKING:
    from typing import Any

    from tests.docs.conftest import Machines, Project

TEXT = TROUBLESHOOTING.read_text("utf-8")


def tables(kind: str) -> list[str]:
    """Return what stands in the first column of the tables whose head begins with that word."""
    found = re.findall(rf"^\| {kind} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    assert found
    return [code for table in found for code in read_rows(table)]


MESSAGES = sorted(set(tables("message")))


@pytest.fixture(scope="module")
def texts() -> set[str]:
    """Every text in the code."""
    return sources.find_messages()


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_is_one_that_the_code_has(message: str, texts: set[str]) -> None:
    wanted = message.removesuffix(sources.GAP).rstrip(" :")
    assert any(wanted in text for text in texts)


@pytest.mark.parametrize(
    ("names", "below"),
    [
        (("AgentError", "OSError"), "bootstrap/envboot/agent"),
        (("ProvisionError",), "provisioners"),
        (("RenderError",), "bootstrap"),
        (("GuestError", "CommandError"), "bootstrap"),
    ],
    ids=["agent", "provisioners", "rendering", "launch"],
)
def test_every_message_of_these_errors_is_explained(names: tuple[str, ...], below: str) -> None:
    # What has no words of its own, as in `…: …`, passes on those of others.
    wanted = {text for text in sources.find_raised(*names, below=below) if re.search("[a-z]", text)}
    assert wanted
    assert wanted - {message.strip() for message in MESSAGES} == set()


def test_every_code_of_s3_that_has_a_hint_is_explained() -> None:
    assert set(tables("code")) == CODES.keys() | REFUSED - {"AllAccessDisabled"}


def test_every_refusal_of_the_start_script_is_explained() -> None:
    script = (ROOT / "templates/bootstrap.sh.j2").read_text("utf-8").replace("\\`", "`")
    found = re.findall(r"""(?:fail|print\() ?["']([A-Z][^"'%]*)""", script)
    assert len(found) == 4
    for words in found:
        assert any(message.startswith(words.strip(" :")) for message in MESSAGES)


def test_every_reason_of_a_refused_transfer_is_explained() -> None:
    reasons = sources.find_assigned("bootstrap/envboot/agent/fetch.py", "reason")
    assert set(tables("reason")) == reasons


def test_how_often_systemd_tries_is_what_the_unit_says() -> None:
    unit = (ROOT / "templates/envboot.service").read_text("ascii").splitlines()
    assert {"StartLimitBurst=5", "StartLimitIntervalSec=3h", "RestartSec=20s"} <= set(unit)
    assert "five attempts, 20 s apart" in TEXT
    assert "refuses a sixth for three hours" in TEXT


@pytest.mark.subprocess
@pytest.mark.sockets
def test_the_expiry_is_where_people_are_told_to_look(machines: Machines) -> None:
    found = re.search(r"`grep -o '(.+)' (/\S+)`", TEXT)
    assert found
    grants = machines.folder / "first" / found[2][1:]
    assert re.search(found[1], grants.read_text())


@pytest.mark.subprocess
@pytest.mark.sockets
def test_a_damaged_archive_is_replaced_and_may_be_removed_by_hand(
    project: Project, launches: list[dict[str, Any]]
) -> None:
    errors = [error["error"] for error in launches[1]["instances"][0]["errors"]]
    assert [error.split(" at ")[0] for error in errors] == ["corrupt: the frame"]
    base = f"base/{launches[0]['base'].removeprefix('sha256:')}"
    names = [f"{base}/{name}" for name in ("index.json", "env.tar.zst")]
    words = ["launch", "local", "--python", "venv", "--json", "--", "python", "-c", PROGRAM]
    seen = [project.json(*words)["instances"][0] for _ in range(2)]
    done = project.run("store", "rm", "--yes", f"file://{project.folder}/bucket", *names)
    assert done.returncode == 0
    seen.append(project.json(*words)["instances"][0])
    assert [(s["outcome"], s["source"]) for s in seen] == [
        ("ready", "install"),
        ("ready", "archive"),
        ("ready", "install"),
    ]
