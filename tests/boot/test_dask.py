"""A Dask cluster on three real boots: scheduler and workers, each in a network of its own."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.boot.account import BY_ROLE, STORE
from tests.boot.dask_environment import write_shop

if TYPE_CHECKING:
    from tests.boot.account import Account

pytestmark = [
    pytest.mark.boot,
    pytest.mark.subprocess,
    pytest.mark.sockets,
    pytest.mark.network,
    # py-rattler, in the stand-in for micromamba, has been seen to crash in a booted machine.
    pytest.mark.flaky(reruns=1, only_rerun=[r"micromamba failed \(-11\)"]),
]

CODE = f"""
import json, os, pathlib, sys, time
from envboot import Cluster
from dask.distributed import Client
import shop

def total(name):
    import shop
    return shop.total(name)

def place():
    import os, shop, sys
    units = pathlib.Path("/proc/self/cgroup").read_text().strip().rpartition("/")[2]
    return [sys.prefix, os.getuid() == 0, units, os.uname().nodename]

def secrets():
    import pathlib
    return [path for path in ("/var/lib/envboot/seat.json",) if os.access(path, os.R_OK)]

with Cluster(
    n_workers=2, provisioner="aws", store="{STORE}", timeout=500,
    worker_options={{"nthreads": 1}}, **json.loads(sys.argv[1]),
) as cluster:
    client = Client(cluster)
    client.wait_for_workers(2, timeout=300)
    client.get_versions(check=True)
    first = client.gather(client.map(total, ["apple", "pear"]))
    workers, readable = client.run(place), client.run(secrets)
    scheduler = client.run_on_scheduler(place)
    path = pathlib.Path(shop.__file__)
    path.write_text(path.read_text().replace("PRICE = 2", "PRICE = 7"))
    start = time.monotonic()
    cluster.sync()
    took = time.monotonic() - start
    client.wait_for_workers(2, timeout=300)
    second = client.submit(total, "apple", pure=False).result()
    addresses = [cluster.scheduler_address, *cluster.scheduler_info["workers"]]
    launch = cluster.launch
    client.close()
print(json.dumps([first, second, workers, scheduler, readable, addresses, took, launch]))
"""


def run(account: Account, options: dict[str, Any]) -> Any:
    write_shop(account.folder / "projects/shop")
    script = account.folder / "work.py"
    script.write_text(CODE)
    variables = {name: text for name, text in account.variables.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [account.prefix / "bin/python", script, json.dumps(options)],
        cwd=account.folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=1000,
        check=False,
    )
    assert account.cloud.failures == []
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_scheduler_and_workers_are_units_of_machines_with_this_environment(
    dask_account: Account,
) -> None:
    account = dask_account
    first, second, workers, scheduler, readable, addresses, _, launch = run(account, {})
    assert (first, second) == ([6, 8], 21)
    assert len(workers) == 2
    for prefix, is_root, unit, _ in workers.values():
        assert (prefix, is_root) == ("/opt/envboot/env", False)
        assert unit == "envboot-dask-worker.service"
    assert scheduler[:3] == ["/opt/envboot/env", False, "envboot-dask-scheduler.service"]
    assert list(readable.values()) == [[], []]
    assert len({address.rpartition(":")[0] for address in addresses}) == 3
    assert all(address.startswith("tls://172.31.") for address in addresses)
    assert set(account.cloud.states().values()) == {"terminated"}
    # The keys are in no document.
    for document in account.cloud.user_data.values():
        assert b"PRIVATE KEY" not in document
    assert launch in account.run("ls", "--past").stdout


def test_by_their_role_too(dask_account: Account) -> None:
    account = dask_account
    account.use_session()
    options = {"auth": "role", "instance_profile": BY_ROLE[-1]}
    first, second, workers, *_ = run(account, options)
    assert (first, second) == ([6, 8], 21)
    assert len(workers) == 2
    assert set(account.cloud.states().values()) == {"terminated"}
