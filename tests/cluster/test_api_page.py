"""The examples of the page on the Python API, run as one script from top to bottom."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from envboot import EnvbootError
from tests.docs.pages import ROOT, find_blocks

if TYPE_CHECKING:
    from tests.cluster.project import Project

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets, pytest.mark.network]


def test_the_examples_run_and_show_what_the_page_says(project: Project) -> None:
    blocks = find_blocks((ROOT / "docs/api.md").read_text("utf-8"), "python")
    done = project.run("\n".join(blocks), timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    scan, *rest = done.stdout.splitlines()
    assert re.fullmatch(r"venv 3\.\d+\.\d+ \d+", scan)
    assert [line for line in rest if re.fullmatch(r"forecast@1 sha256:[0-9a-f]{64}", line)]
    assert "6" in rest
    (refused,) = [line for line in rest if "no-such-environment" in line]
    assert "envboot env publish" in refused
    codes = {line.partition(" ")[2]: line.partition(" ")[0] for line in rest[-10:]}
    kinds = {kind.__name__: kind for kind in find_kinds(EnvbootError)}
    assert codes == {name: str(int(kinds[name].exit_code)) for name in codes}
    assert codes["MissingExtraError"] == "2"
    assert project.machines() == []


def find_kinds(kind: type[EnvbootError]) -> list[type[EnvbootError]]:
    """Return a class of errors and all below it."""
    return [kind, *(found for below in kind.__subclasses__() for found in find_kinds(below))]


def test_the_same_environment_gets_no_second_version_and_a_slip_is_told(project: Project) -> None:
    first, second, told = project.ask(
        """
import json
from envboot import UsageError, publish_here
names = [publish_here("twice", host_python=True) for _ in range(2)]
try:
    publish_here("twice", package_sync_ignored=["numpy"])
except UsageError as error:
    print(json.dumps([*names, str(error)]))
"""
    )
    assert (first, second) == ("twice@1", "twice@1")
    assert told == (
        "Unknown argument `package_sync_ignored`\n\nhint: Did you mean `package_sync_ignore`?"
    )
