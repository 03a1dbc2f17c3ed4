"""A bucket, a role that opens it, and a machine that has the role."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from envboot.agent import wire
from tests.boot.metadata import PROFILE, PROFILE_PATH

if TYPE_CHECKING:
    from pathlib import Path

    from envboot.store.s3.store import S3Store
    from tests.agent.guests import Guest, Launch
    from tests.agent.role.gate import Gate
    from tests.boot.metadata import MetadataServer

ROLE = "envboot-guest"
ROLE_PATH = f"meta-data/iam/security-credentials/{ROLE}"
# What the agent takes for the time; its folder comes behind it on the command line.
CLOCK = """
import runpy, sys, time
real = time.time
time.time = lambda: real() + {seconds}
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cloud:
    """A bucket behind a gate that roles pass, and the metadata service that gives them one."""

    store: S3Store
    gate: Gate
    metadata: MetadataServer
    endpoint: str

    def give_role(self, seconds: float) -> str:
        """Let the metadata service give new credentials; returns their access key."""
        credentials = self.gate.issue(seconds)
        self.metadata.tree[ROLE_PATH] = json.dumps(credentials)
        self.metadata.tree[PROFILE_PATH] = json.dumps(PROFILE)
        return credentials["AccessKeyId"]

    @property
    def asked_for_role(self) -> int:
        """How often credentials were fetched."""
        return sum(path == f"/latest/{ROLE_PATH}" for _, path in self.metadata.requests)


def by_role(cloud: Cloud, launch: Launch) -> Launch:
    """Lead the launch's guests through the gate."""
    return replace(launch, grants=cloud.gate.redirect(launch.grants))


def shift_clock(guest: Guest, folder: Path, seconds: int) -> None:
    """Let the agent's clock be off by that much."""
    script = folder / f"clock{seconds}.py"
    script.write_text(CLOCK.format(seconds=seconds))
    guest.python = [*guest.python, str(script)]


def assert_comes_from(guest: Guest, source: str, code: int = wire.READY) -> None:
    """Boot, and see where the environment came from."""
    assert guest.boot() == code, guest.reasons
    assert guest.result["source"] == source
    assert guest.says() == "alpha beta"
