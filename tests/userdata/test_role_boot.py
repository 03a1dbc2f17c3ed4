"""The whole way with a role: EC2's datasource, IMDSv2, an S3 server, the command's output."""

from __future__ import annotations

import gzip
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from envboot.fleet.output import parse_records
from envboot.publish import publish
from envboot.publish.grants import Auth, Grants, ReadGrant, Terms
from envboot.store.s3.store import S3Store
from envboot.userdata import Job, LaunchPath, Rung, render
from tests.agent.proxy import running
from tests.agent.role.gate import Gate
from tests.boot.conftest import root  # noqa: F401 - a fixture
from tests.boot.environment import open_bench
from tests.boot.machine import Spec, boot
from tests.reports import read_documents
from tests.servers import s3_bucket, s3_server  # noqa: F401 - fixtures
from tests.sessions import make_session

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import S3Server

pytestmark = [pytest.mark.boot, pytest.mark.subprocess, pytest.mark.sockets]
PROGRAM = """
import getpass, markupsafe, time
print(getpass.getuser(), markupsafe.escape("<"), flush=True)
time.sleep(4)
print("done")
"""


def test_a_booted_machine_asks_as_its_role_and_reports_while_it_works(
    root: Path,  # noqa: F811
    tmp_path: Path,
    s3_bucket: str,  # noqa: F811
    s3_server: S3Server,  # noqa: F811
) -> None:
    gate = Gate(s3_server.endpoint, s3_server.admin)
    with (
        open_bench(tmp_path / "bench") as bench,
        S3Store(f"s3://{s3_bucket}/team", environment=os.environ) as store,
        running(gate),
    ):
        manifest = bench.manifest(conda=("python",))
        grants = publish(
            manifest,
            None,
            store,
            make_session(cache=tmp_path / "cache", environment={}),
            Terms(launch="role", auth=Auth.ROLE, seconds=3600),
        )
        document = render(
            manifest,
            launch_path=LaunchPath.EC2,
            grants=Grants.from_dict(gate.redirect(grants.to_dict())),
            job=Job(command=["python", "-c", PROGRAM]),
        )
        assert document.rung in (Rung.EXTRAS, Rung.MANIFEST)
        text = gzip.decompress(document.payload).decode()
        assert not any(session.token in text for session in gate.sessions.values())
        channel, index, _ = bench.ports(replace(grants, manifest=ReadGrant(get="http://h")))
        # The next machine fetches: tests/boot/test_aws.py boots one by its role.
        spec = Spec(
            user_data=document.payload,
            datasource="ec2",
            ports=(channel, index, gate.server_address[1]),
            files=bench.mirror,
            role=("envboot-guest", gate.issue(3600)),
        )
        with boot("role", spec, root=root, folder=tmp_path / "role") as machine:
            report = machine.wait(150)
        reports = read_documents(store, "role")["i-role"]
        result = json.loads(report.text("/var/lib/envboot/result.json"))
        assert (result["outcome"], result["source"]) == ("ready", "install"), report.console
        assert reports["result"] == result
        assert reports["command"]["exit_code"] == 0
        printed = reports["command"]["output"]
        first, last = printed.splitlines()
        assert first.split()[0] == "envboot"
        assert last == "done"
        [piece, *_] = store.list("reports/role/output/")
        records, _ = parse_records(store.read(piece.key) or b"")
        assert b"".join(record.data for record in records).startswith(f"{first}\n".encode())
        assert "publish" in reports
        assert gate.refused == []
