"""What a cluster's machines cost, beside the same processes of Dask started by hand."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from tests.bench.figures import Figures, judge, print_table, take_turns
from tests.cluster.project import make_project

if TYPE_CHECKING:
    import argparse

    from tests.cluster.project import Project

OVER = 1.5
"""Seconds that a cluster may take longer until its first result."""
WORKERS = 3

_CLUSTER = f"""
import json, time
start = time.monotonic()
from envboot import Cluster
from dask.distributed import Client
import shop
imported = time.monotonic()
with Cluster(n_workers={WORKERS}, worker_options={{"nthreads": 1}}, quiet=True) as cluster:
    client = Client(cluster)
    assert client.submit(shop.price, 4).result() == 4
    end = time.monotonic()
    client.close()
print(json.dumps([end - imported, end - start]))
"""
# With TLS, too. Whoever knocks too early waits longer and longer: so workers come when it is there.
_BY_HAND = f"""
import json, os, signal, socket, subprocess, sys, time
begin = time.monotonic()
from dask.distributed import Client, Security
import shop
imported = time.monotonic()
security = Security.temporary()
names = {{"ca_file": security.tls_ca_file}}
for role in ("scheduler", "worker", "client"):
    names[role + "__cert"] = getattr(security, f"tls_{{role}}_cert")
    names[role + "__key"] = getattr(security, f"tls_{{role}}_key")
own = {{f"DASK_DISTRIBUTED__COMM__TLS__{{name.upper()}}": text for name, text in names.items()}}
address = "tls://127.91.0.1:8786"
dask = [sys.executable, "-m"]
scheduler = [*dask, "distributed.cli.dask_scheduler", "--host", "127.91.0.1", "--protocol", "tls"]
workers = [
    [*dask, "distributed.cli.dask_worker", address, "--nthreads", "1", "--name", str(number)]
    + ["--host", f"127.91.0.{{number + 2}}"]
    for number in range({WORKERS})
]
quiet = {{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}}
def start(words):
    environ = {{**os.environ, **own}}
    return subprocess.Popen(words, env=environ, start_new_session=True, **quiet)
processes = [start([*scheduler, "--dashboard-address", "127.91.0.1:8787"])]
while True:
    try:
        socket.create_connection(("127.91.0.1", 8786)).close()
        break
    except OSError:
        time.sleep(0.02)
processes += map(start, workers)
client = Client(address, security=security)
assert client.submit(shop.price, 4).result() == 4
end = time.monotonic()
client.close()
for process in processes:
    # Their nannies' children, too.
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
print(json.dumps([end - imported, end - begin]))
"""


def bench(options: argparse.Namespace) -> tuple[dict[str, Figures], bool]:
    """Measure and print; returns every figure, and whether the promise is kept."""
    with tempfile.TemporaryDirectory(prefix="envboot-bench-") as scratch:
        project = make_project(Path(scratch, "project"))
        # The first machine publishes the environment.
        project.ask(_CLUSTER)
        figures = take_turns(
            {
                "Cluster": lambda: _time(project, _CLUSTER),
                "by hand": lambda: _time(project, _BY_HAND),
            },
            options.runs or 7,
        )
    return {"cluster": figures}, report(figures)


def _time(project: Project, code: str) -> float:
    """Return the seconds from the end of the imports to the first result."""
    seconds: float = project.ask(code)[0]
    return seconds


def report(figures: Figures) -> bool:
    """Print the table; returns whether the promise is kept."""
    print(f"\nUntil the first result, a scheduler and {WORKERS} workers on `local`, warm")
    print_table(figures, against="by hand")
    over = median(figures["Cluster"]) - median(figures["by hand"])
    return judge("a cluster's first result, over processes by hand, in s", over, OVER)
