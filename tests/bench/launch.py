"""How fast a machine gets its environment, beside what people do today.

Every run has a file system of its own, and what is read is in the page cache.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from envboot import userdata
from envboot.config import read_settings
from envboot.prepare import prepare
from envboot.publish import publish
from envboot.publish.grants import Terms
from envboot.selection import Selection
from envboot.store import open_store
from tests.bench.disk import fresh_disk
from tests.bench.figures import judge, print_table, timed
from tests.sessions import make_session

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from envboot.manifest import Manifest
    from envboot.store.protocol import Store

PACKAGES = {
    "small": ["dask", "distributed", "numpy", "pandas"],
    "large": [
        *["dask[complete]", "distributed", "jupyterlab", "matplotlib", "numpy", "pandas"],
        *["plotly", "polars", "pyarrow", "scikit-learn", "scipy", "seaborn", "statsmodels"],
        *["sympy", "xarray", "fastapi", "sqlalchemy", "boto3", "pytest", "requests"],
    ],
}
RATIO, OVERHEAD = 0.8, 0.5
"""What a warm launch may cost against `cp -a`, and what the agent may add (s)."""


def bench(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """Measure and print; returns every figure, and whether the promises are kept."""
    with tempfile.TemporaryDirectory(prefix="envboot-bench-") as scratch:
        figures = Bench(Path(scratch), PACKAGES[options.size]).run(options.runs or 5)
    return figures, report(figures)


class Bench:
    """One sample environment, one store, and the ways to bring it onto a disk."""

    def __init__(self, scratch: Path, packages: list[str]) -> None:
        self.scratch = scratch
        self.uv = [shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"]
        self.sample = scratch / "sample"
        self.cache = scratch / "uv"
        self.environ = dict(os.environ, UV_CACHE_DIR=str(self.cache))
        print(f"installing {' '.join(packages)}", file=sys.stderr)
        self._run([*self.uv, "venv", "-q", "--python", sys.executable, str(self.sample)])
        python = str(self.sample / "bin/python")
        self._run([*self.uv, "pip", "install", "-q", "--python", python, *packages])
        self.pins = self._run([*self.uv, "pip", "freeze", "-q", "--python", python])
        self.manifest: Manifest = prepare(
            Selection(python=python, loose=False),
            make_session(cache=scratch / "cache", settings=read_settings(scratch)),
            host_python=True,
        ).manifest

    def _run(self, command: list[str]) -> str:
        done = subprocess.run(
            command, check=True, env=self.environ, stdout=subprocess.PIPE, text=True
        )
        return done.stdout

    def run(self, runs: int) -> dict[str, Any]:
        """Return seconds by way, and what the environment is."""
        figures: dict[str, Any] = {name: [] for name in ("hit", "boot", "agent", "cp -a")}
        figures |= {"uv": [], "uv, byte code": [], "tar --zstd": []}
        with open_store(f"file://{self.scratch}/store", make_session()) as store:
            with fresh_disk() as disk:
                cold = self.agent(disk, store)
                figures["cold"] = [cold["ready"]]
                figures["publish"] = [self.publish(disk)]
            with tempfile.TemporaryDirectory(prefix="envboot-bench-") as kept:
                whole = Path(kept) / "env"
                with fresh_disk() as disk:
                    self.agent(disk, store)
                    shutil.copytree(env_of(disk), whole, symlinks=True)
                figures["files"] = sum(len(names) for _, _, names in os.walk(whole))
                figures["bytes"] = sum(
                    path.lstat().st_size for path in whole.rglob("*") if not path.is_dir()
                )
                archive = next(Path(self.scratch, "store").rglob("env.tar.zst"))
                figures["packed"] = archive.stat().st_size
                ways: dict[str, Callable[[Path], float]] = {
                    "cp -a": lambda disk: timed(["cp", "-a", str(whole), str(disk / "env")]),
                    "tar --zstd": lambda disk: timed(
                        ["tar", "--zstd", "-xf", str(archive), "-C", str(disk)]
                    ),
                    "uv": lambda disk: self.uv_install(disk, []),
                    "uv, byte code": lambda disk: self.uv_install(disk, ["--compile-bytecode"]),
                }
                for number in range(runs):
                    print(f"run {number + 1} of {runs}", file=sys.stderr)
                    with fresh_disk() as disk:
                        warm = self.agent(disk, store)
                        figures["hit"].append(warm["fetch"] + warm["activate"])
                        figures["boot"].append(warm["ready"])
                        figures["agent"].append(warm["wall"] - warm["fetch"] - warm["activate"])
                    for name, way in ways.items():
                        with fresh_disk() as disk:
                            figures[name].append(way(disk))
        return figures

    def agent(self, disk: Path, store: Store) -> dict[str, float]:
        """Run the rendered document's agent below `disk`; returns seconds by stage.

        `wall` is from the start of the script to the moment at which the environment is ready.
        """
        grants = publish(
            self.manifest,
            None,
            store,
            make_session(cache=self.scratch / "cache", environment={}),
            Terms(launch="bench", seconds=3600),
        )
        document = userdata.render(
            self.manifest, launch_path=userdata.LaunchPath.LOCAL, grants=grants
        )
        root = disk / "root"
        root.mkdir()
        script = disk / "user-data"
        # `boot` alone: what `local` does after it, publishing say, is not to be waited for.
        script.write_bytes(document.payload.replace(b'envboot/lib" local', b'envboot/lib" boot'))
        environ = dict(self.environ, ENVBOOT_ROOT=str(root), ENVBOOT_INSTANCE="bench")
        start = time.time()
        done = subprocess.run(["sh", str(script)], env=environ, capture_output=True, check=False)
        if done.returncode:
            raise SystemExit(
                done.stderr.decode() + (root / "var/lib/envboot/result.json").read_text()
            )
        ready = (root / "var/lib/envboot/result.json").stat().st_mtime
        result = json.loads((root / "var/lib/envboot/result.json").read_text())
        stages = {stage["stage"]: stage["ms"] / 1000 for stage in result["stages"]}
        return stages | {"ready": sum(stages.values()), "wall": ready - start}

    def publish(self, disk: Path) -> float:
        """Pack and publish what a cold machine installed; returns seconds."""
        root = disk / "root"
        environ = dict(self.environ, ENVBOOT_ROOT=str(root), ENVBOOT_INSTANCE="bench")
        return timed([sys.executable, "-I", str(root / "opt/envboot/lib"), "publish"], environ)

    def uv_install(self, disk: Path, options: list[str]) -> float:
        """Install the same packages with uv from its warm cache; returns seconds."""
        pins = self.scratch / "pins.txt"
        pins.write_text(self.pins)
        self._run([*self.uv, "venv", "-q", "--python", sys.executable, str(disk / "env")])
        command = [*self.uv, "pip", "install", "-q", "--no-deps", "--offline", *options]
        command += ["--python", str(disk / "env/bin/python"), "-r", str(pins)]
        return timed(command, self.environ)


def env_of(disk: Path) -> Path:
    """Return the environment that the agent made below `disk`."""
    return (disk / "root/opt/envboot/env").resolve()


def report(figures: dict[str, Any]) -> bool:
    """Print medians and ratios; returns whether the promises are kept."""
    print(
        f"\n{figures['files']:,} files, {figures['bytes'] / 1e6:,.0f} MB, packed "
        f"{figures['packed'] / 1e6:,.0f} MB"
    )
    labels = {
        "hit": "warm launch: fetch, verify, unpack, activate",
        "cp -a": "cp -a of the same environment",
        "tar --zstd": "tar --zstd -xf of the same archive (nothing fetched or verified)",
        "uv": "uv pip install, warm cache, no byte code",
        "uv, byte code": "uv pip install, warm cache, byte code",
        "cold": "cold launch: install, byte code, activate (once)",
        "publish": "publishing after it (once)",
        "agent": "the agent's own overhead of a warm launch",
    }
    print_table({label: figures[name] for name, label in labels.items()}, against=labels["cp -a"])
    ratio = median(figures["hit"]) / median(figures["cp -a"])
    return all(
        [
            judge("a warm launch, of `cp -a`", ratio, RATIO),
            judge("the agent's overhead (s)", median(figures["agent"]), OVERHEAD),
        ]
    )
