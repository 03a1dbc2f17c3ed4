"""How the agent runs programs: what it takes for their reason, and for their version."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from envboot.agent.host import Host
from envboot.agent.install import check_python, run_tool
from envboot.agent.wire import AgentError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.subprocess


def test_the_reason_is_the_last_critical_line_of_micromamba(tmp_path: Path) -> None:
    lines = [
        "warning  libmamba 'repo.anaconda.com', a commercial channel, is used",
        "critical libmamba Could not open lockfile",
        "critical libmamba Write failed",
    ]
    script = "".join(f"echo '{line.replace(chr(39), '')}' >&2; " for line in lines) + "exit 1"
    with pytest.raises(AgentError) as caught:
        run_tool("micromamba", ["sh", "-c", script], str(tmp_path))
    assert str(caught.value) == "micromamba failed (1): Write failed"


@pytest.mark.parametrize("running", ["3.15.0rc1 (main)", "3.15.0rc1+ (heads/3.15)"])
def test_an_interpreter_of_a_release_to_come_is_the_one_that_was_locked(
    running: str, tmp_path: Path
) -> None:
    python = tmp_path / "python3.15"
    code = f"import sys; sys.version = '{running}'; exec(sys.argv[1])"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$2"\n')
    python.chmod(0o755)
    (tmp_path / "env/bin").mkdir(parents=True)
    (tmp_path / "env/bin/python").symlink_to(python)
    host = Host(str(tmp_path / "root"))
    host.manifest = {"base": {"python": {"version": "3.15.0rc1", "executable": str(python)}}}
    check_python(host, str(tmp_path / "env"))
    host.manifest["base"]["python"]["version"] = "3.15.0"
    with pytest.raises(AgentError, match=r"its interpreter is 3\.15\.0rc1, not 3\.15\.0"):
        check_python(host, str(tmp_path / "env"))
