"""Results of a machine with systemd: root uploads, and the command's user reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from envboot.fleet.results import read_results
from envboot.userdata import Job, LaunchPath, render
from envboot.userdata.result_rules import ResultRules
from tests.boot.environment import Bench, open_bench
from tests.boot.machine import Spec, boot
from tests.reports import read_documents

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.boot,
    pytest.mark.subprocess,
    pytest.mark.sockets,
    pytest.mark.flaky(reruns=1, only_rerun=[r"micromamba failed \(-11\)"]),
]
ATTACK = """
import contextlib, os, time
open("model.pkl", "wb").write(os.urandom(5_000_000))
os.symlink("/etc/shadow", "shadow")
os.symlink("/var/lib/envboot", "state")
with contextlib.suppress(OSError):
    os.link("/etc/shadow", "hard")
os.makedirs("/tmp/out/private")
open("/tmp/out/a.csv", "w").write("1")
os.chmod("/tmp/out/private", 0)
# Who reads results runs as this user, and has been root: its memory has what signs.
seen, read = 0, 0
end = time.monotonic() + 8
while time.monotonic() < end:
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and int(name) != os.getpid():
                status = open(f"/proc/{name}/status").read()
                if f"\\nUid:\\t{os.getuid()}\\t" in status and "python" in status[:30]:
                    seen += 1
                    open(f"/proc/{name}/mem", "rb")
                    read += 1
print("seen", seen > 0, "read", read)
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with open_bench(tmp_path_factory.mktemp("bench"), tiny=1) as made:
        yield made


def test_the_commands_user_reads_and_root_uploads(bench: Bench, root: Path, tmp_path: Path) -> None:
    manifest = bench.manifest(conda=("python",))
    grants = bench.publish(manifest, "results")
    document = render(
        manifest,
        launch_path=LaunchPath.NOCLOUD,
        grants=grants,
        job=Job(command=("python", "-c", ATTACK), output=ResultRules(paths=("/tmp/out",))),
    )
    spec = Spec(
        user_data=document.payload,
        ports=bench.ports(grants),
        files=bench.mirror,
        commands={"made": "sha256sum /home/envboot/work/model.pkl"},
    )
    with boot("results", spec, root=root, folder=tmp_path / "machine") as machine:
        report = machine.wait(120)
    assert "seen True read 0" in report.output("run-journal"), report.output("run-journal")
    (index,) = read_results(bench.store, "results").indexes
    files = {file.path: file for file in index.files}
    assert files.keys() == {"model.pkl", "out/a.csv"}
    assert report.output("made").split()[0] == files["model.pkl"].sha256
    ((_, events),) = read_documents(bench.store, "results").items()
    left = events["results"]["left"]
    assert left.pop("unreadable")[1][-1] == "out/private/"
    assert left == {"link": [2, ["shadow", "state"]]}
