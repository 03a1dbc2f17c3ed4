"""Secrets of a command: they reach it, and nothing that stays has them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pytest

from envboot.publish.launch_record import write_end
from envboot.publish.layout import key_permit, key_secret
from envboot.store.local.store import LocalStore

if TYPE_CHECKING:
    from pathlib import Path

    from tests.launch.workspace import Workspace

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

VALUE, FILED, OTHER = "s3cr3t-of-the-shell", "s3cr3t-of-a-file", "s3cr3t-of-an-env-file"
PROGRAM = """
import glob, hashlib, json, os
names = ("TOKEN", "KEY", "DOT")
digest = lambda name: hashlib.sha256(os.environ[name].encode()).hexdigest()
print(json.dumps([digest(name) for name in names]), os.environ["TOKEN"])
for path in glob.glob("/proc/[0-9]*/cmdline"):
    try:
        assert os.environ["KEY"].encode() not in open(path, "rb").read(), path
    except OSError:
        pass
"""


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_secrets_reach_every_instance_and_nothing_that_stays(
    warm: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text(f"{FILED}\n")
    (tmp_path / "dot").write_text(f"DOT='{OTHER}'\n")
    document = warm.launch_json(
        *("--count", "2", "--secret", "TOKEN", "--secret", f"KEY=@{tmp_path}/key"),
        *("--env-file", str(tmp_path / "dot"), "--keep", "--", "python", "-c", PROGRAM),
        TOKEN=VALUE,
    )
    for instance in document["instances"]:
        found, shown = instance["output"].rsplit(maxsplit=1)
        assert json.loads(found) == [digest(VALUE), digest(FILED), digest(OTHER)]
        assert shown == "***"
    assert VALUE not in json.dumps(document)
    launch = warm.state / "store" / "launches" / document["launch"]
    assert not list(launch.glob("secrets/*"))
    values = [text.encode() for text in (VALUE, FILED, OTHER)]
    for path in warm.folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            assert not any(value in data for value in values), path


def test_a_secret_that_is_not_set_is_refused_before_anything(warm: Workspace) -> None:
    done = warm.launch("--secret", "ABSENT", "--", "true")
    assert done.returncode == 118
    assert done.stderr.splitlines()[0] == (
        "error: Cannot pass `ABSENT` as a secret: not set in this environment"
    )


def test_a_secret_of_a_cloud_is_refused_on_machines_of_none(warm: Workspace) -> None:
    place = "projects/p/secrets/s/versions/latest"
    done = warm.launch("--secret", f"DB={place}", "--", "true")
    assert done.returncode == 118
    assert done.stderr.splitlines()[0] == (
        f"error: Cannot read `{place}` on machines of `local`: they have no role there"
    )


def test_a_secret_that_was_never_read_goes_with_the_launch(
    tmp_path: Path,
) -> None:
    with LocalStore(f"file://{tmp_path}/bucket") as store:
        store.create(key_secret("a", "a-0"), b"{}")
        store.create(key_permit("a", 0), b"{}")
        store.create(key_secret("b", "b-0"), b"{}")
        write_end(store, "a", "done")
        assert [stat.key for stat in store.list("launches/")] == [key_secret("b", "b-0")]
