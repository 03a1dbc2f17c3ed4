"""What scan and lock cost, beside what people read an environment with today."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from uv import find_uv_bin

from envboot.scan.running import PROBE
from tests.bench.figures import Figures, judge, print_table, take_turns, timed
from tests.bench.samples import PINS, RECORDS, make_conda, make_venv

if TYPE_CHECKING:
    import argparse

PROBE_MS, COMMAND_MS, FURTHER_MS, CONDA_MS, LOCK_MS = 60, 150, 0.3, 250, 300

# Inside: from the first line to the last, the interpreter's own start not included.
_INSIDE = """
import sys, time
start = time.perf_counter()
sys.argv = sys.argv[1:]
with open(sys.argv[0]) as file: source = file.read()
scope = {"__name__": "__main__", "__file__": sys.argv[0]}
try: exec(compile(source, sys.argv[0], "exec"), scope)
finally: print(time.perf_counter() - start, file=sys.stderr)
"""
# As much of what the probe finds as importlib.metadata has.
_METADATA = """
import importlib.metadata
for item in importlib.metadata.distributions():
    item.metadata["Name"], item.version, item.read_text("direct_url.json"), item.files
"""
_RATTLER = """
import pathlib, rattler, sys
for path in pathlib.Path(sys.argv[1], "conda-meta").glob("*.json"):
    record = rattler.PrefixRecord.from_path(path)
    record.name, record.version, record.url, record.sha256, record.files
"""


def bench(options: argparse.Namespace) -> tuple[dict[str, Figures], bool]:
    """Measure and print; returns every figure, and whether the promises are kept."""
    runs = options.runs or 15
    with tempfile.TemporaryDirectory(prefix="envboot-bench-") as scratch:
        os.environ["ENVBOOT_CACHE_DIR"] = f"{scratch}/cache"
        whole = make_venv(Path(scratch, "whole"), PINS)
        half = make_venv(Path(scratch, "half"), PINS[::2])
        conda = make_conda(Path(scratch, "conda"))
        figures = {
            "venv": measure_venv(whole, half, runs),
            "conda": measure_conda(conda, max(runs // 3, 1)),
        }
    return figures, report(figures)


def inside(python: Path, script: Path = PROBE) -> float:
    """Run the probe; returns the seconds within."""
    command = [str(python), "-X", "utf8", "-c", _INSIDE, str(script)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd="/")
    return float(done.stderr.splitlines()[-1])


def measure_venv(whole: Path, half: Path, runs: int) -> Figures:
    """Time every way to read 142 distributions, and the lock of them."""
    envboot = str(Path(sys.executable).with_name("envboot"))
    lock = [envboot, "lock", "--host-python", "-o", os.devnull, "--python", str(whole)]
    # A folder without code: what belongs to no package is another matter.
    folder = whole.parent
    return take_turns(
        {
            "pip list": lambda: timed([str(whole), "-m", "pip", "list"]),
            "pip inspect": lambda: timed([str(whole), "-m", "pip", "inspect"]),
            "uv pip freeze": lambda: timed([find_uv_bin(), "pip", "freeze", "-p", str(whole)]),
            "importlib.metadata, in a loop": lambda: timed([str(whole), "-c", _METADATA]),
            "envboot scan": lambda: timed([envboot, "scan", "--python", str(whole)], folder=folder),
            "envboot scan, in the probe": lambda: inside(whole),
            "the same, every other distribution": lambda: inside(half),
            "envboot lock, warm": lambda: timed(lock, folder=folder),
        },
        runs,
    )


def measure_conda(python: Path, runs: int) -> Figures:
    """Time the probe on 700 conda records, beside py-rattler reading the same."""
    prefix = str(python.parent.parent)
    return take_turns(
        {
            "py-rattler, every PrefixRecord": lambda: timed(
                [sys.executable, "-c", _RATTLER, prefix]
            ),
            "envboot scan, in the probe": lambda: inside(python),
        },
        runs,
    )


def report(figures: dict[str, Figures]) -> bool:
    """Print medians and ratios; returns whether the promises are kept."""
    print(f"\n{len(PINS)} distributions in a venv")
    print_table(figures["venv"], against="pip list", unit="ms")
    print(f"\n{RECORDS} conda records")
    print_table(figures["conda"], against="py-rattler, every PrefixRecord", unit="ms")
    middle = {name: 1000 * median(seconds) for name, seconds in figures["venv"].items()}
    probe = middle["envboot scan, in the probe"]
    further = len(PINS) - len(PINS[::2])
    slope = (probe - middle["the same, every other distribution"]) / further
    conda = 1000 * median(figures["conda"]["envboot scan, in the probe"])
    print()
    return all(
        [
            judge("the probe (ms)", probe, PROBE_MS),
            judge("`envboot scan` (ms)", middle["envboot scan"], COMMAND_MS),
            judge("a further distribution (ms)", slope, FURTHER_MS),
            judge(f"{RECORDS} conda records in the probe (ms)", conda, CONDA_MS),
            judge("`envboot lock`, warm (ms)", middle["envboot lock, warm"], LOCK_MS),
        ]
    )
