"""Ways that take turns, and their medians beside each other."""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

Figures = dict[str, list[float]]
"""Seconds of every run, by way."""


def take_turns(ways: Mapping[str, Callable[[], float]], runs: int) -> Figures:
    """Run every way `runs` times, A B A B, after one run each that does not count."""
    figures: Figures = {name: [] for name in ways}
    for number in range(runs + 1):
        print(f"run {number} of {runs}", end="\r", file=sys.stderr)
        for name, way in ways.items():
            seconds = way()
            if number:
                figures[name].append(seconds)
    return figures


def timed(
    command: list[str], environ: dict[str, str] | None = None, folder: Path | None = None
) -> float:
    """Run a command and return its wall time in seconds."""
    start = time.monotonic()
    subprocess.run(command, check=True, env=environ, cwd=folder, stdout=subprocess.DEVNULL)
    return time.monotonic() - start


def print_table(figures: Figures, *, against: str, unit: str = "s") -> None:
    """Print median, minimum, maximum and the ratio to the way `against`; `unit` is `s` or `ms`."""
    scale, places = (1, 2) if unit == "s" else (1000, 1)
    width = max(map(len, figures))
    print(f"{'':{width}}{'median':>12}{'min':>9}{'max':>9}{'ratio':>9}")
    for name, seconds in figures.items():
        low, middle, high = (
            f"{scale * figure:.{places}f}"
            for figure in (min(seconds), median(seconds), max(seconds))
        )
        ratio = median(seconds) / median(figures[against])
        print(f"{name:{width}}{middle:>9} {unit:2}{low:>9}{high:>9}{ratio:9.2f}")


def judge(promise: str, seen: float, most: float) -> bool:
    """Print whether a promise is kept, and return it."""
    kept = seen <= most
    print(f"promise: {promise}: {seen:.2f} of {most} {'kept' if kept else 'BROKEN'}")
    return kept
