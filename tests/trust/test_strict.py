"""`strict` is about what is sent, `trust` about whose archive is used: both together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.keys import allow
from tests.launch.workspace import ENVBOOT, PROGRAM, open_workspace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.keys import Signer
    from tests.launch.workspace import Workspace

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]


@pytest.fixture
def warm(tmp_path: Path) -> Iterator[Workspace]:
    """A workspace whose environment a launch without either setting has published."""
    with open_workspace(tmp_path / "work") as made:
        made.launch_json("--", "true")
        yield made


def test_an_archive_that_is_not_trusted_is_no_difference_and_an_edit_is_refused_first(
    warm: Workspace, tmp_path: Path, ana: Signer
) -> None:
    variables = {
        "ENVBOOT_TRUST": "signed",
        "ENVBOOT_ALLOWED_SIGNERS": str(allow(tmp_path / "signers", [ana.line()])),
        "ENVBOOT_SIGNING_KEY": str(ana.key),
    }
    command = ("--strict", "--", "python", "-c", PROGRAM)
    # Machines install the same packages instead, so that nothing is refused.
    first = warm.launch_json(*command, **variables)
    [instance] = first["instances"]
    assert (instance["outcome"], instance["source"]) == ("ready", "install")
    assert any("no signer of" in note["message"] for note in first["notes"])
    signed = warm.run(ENVBOOT, "store", "verify", "--sign", first["environment"], **variables)
    assert signed.returncode == 0, signed.stderr
    [instance] = warm.launch_json(*command, **variables)["instances"]
    assert (instance["outcome"], instance["source"]) == ("ready", "archive")
    # That somebody signed the archive does not make it what is installed here now.
    module = next(warm.python.glob("lib/python3*/site-packages/tiny_one.py"))
    text = module.read_text()
    module.unlink()
    module.write_text(text + "EDITED = 1\n")
    refused = warm.launch(*command, **variables)
    assert refused.returncode != 0
    assert "Cannot bring 1 package exactly as installed: `tiny-one`" in refused.stderr
    assert warm.leftovers() == []
