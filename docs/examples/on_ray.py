"""Runs a function on Ray, on all machines of a launch: `envboot launch … -- python on_ray.py`.

The machine of rank 0 is Ray's head and runs `main`; the others work for it until it is done.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import ray

if TYPE_CHECKING:
    from collections.abc import Callable

RANK, COUNT = int(os.environ["ENVBOOT_RANK"]), int(os.environ["ENVBOOT_COUNT"])
HEAD, OWN = os.environ["ENVBOOT_PEERS"].split(",")[0], os.environ["ENVBOOT_ADDRESS"]
PORT = 6379
PATIENCE = 300


def main() -> None:
    """Do the work: four tasks, one at a time on each machine."""
    machine = ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(where)
    places = ray.get([machine.remote() for _ in range(4 * COUNT)])
    print(f"{len(places)} tasks ran on {len(set(places))} machines")


def where() -> str:
    """Return the address of the machine that this runs on."""
    time.sleep(0.5)
    return str(ray.util.get_node_ip_address())


def is_up() -> bool:
    """Whether Ray's head is there."""
    with socket.socket() as link:
        link.settimeout(2)
        return link.connect_ex((HEAD, PORT)) == 0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is true."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"{what} did not come within {PATIENCE} s")
        time.sleep(0.2)


def count_machines() -> int:
    """Return how many machines Ray has."""
    return sum(node["Alive"] for node in ray.nodes())


def run() -> None:
    """Start Ray, do the work on rank 0, and end Ray again."""
    folder = tempfile.mkdtemp(prefix="ray-")
    place = [f"--address={HEAD}:{PORT}"]
    if RANK == 0:
        place = ["--head", f"--port={PORT}", "--include-dashboard=false"]
    else:
        wait_until(is_up, f"Ray's head on {HEAD}")
    command = [str(Path(sys.executable).with_name("ray")), "start", "--block", *place]
    command += [f"--node-ip-address={OWN}", f"--temp-dir={folder}", "--num-cpus=1"]
    # It would ask a head that has gone for thirty seconds whether it may end.
    environment = {**os.environ, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}
    command += ["--disable-usage-stats"]
    node = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        if RANK == 0:
            wait_until(is_up, "Ray")
            ray.init(address=f"{HEAD}:{PORT}", _node_ip_address=OWN, log_to_driver=False)
            wait_until(lambda: count_machines() == COUNT, f"{COUNT} machines")
            main()
            ray.shutdown()
        else:
            while is_up() and node.poll() is None:
                time.sleep(0.5)
    finally:
        # With `--block` this ends all that it has started.
        node.terminate()
        node.wait()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    run()
