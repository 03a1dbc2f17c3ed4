"""`python -m tests.fuzz [TARGET …] [--seconds N] [--seed N]`: tries readers until time is over.

What fails is printed with its input, in hex.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

from tests.fuzz.mutation import mutate
from tests.fuzz.targets import Sandbox, make_targets

if TYPE_CHECKING:
    from tests.fuzz.targets import Target


def run(name: str, target: Target, end: float, dice: random.Random) -> tuple[int, int]:
    """Try one reader until `end`; returns how often, and how often it returned."""
    tried = read = 0
    pool = list(target.seeds)
    while time.monotonic() < end:
        for _ in range(100):
            data = mutate(dice.choice(pool), target.seeds, dice)
            tried += 1
            try:
                target.run(data)
            except target.error:
                continue
            except BaseException:
                print(f"{name}: {data.hex()}", file=sys.stderr, flush=True)
                raise
            read += 1
            # What is good in another way is where the next ones begin.
            pool[dice.randrange(len(target.seeds), 200) :] = [data]
    return tried, read


def main() -> int:
    """Run the targets that are named, or all, one after another, in turns."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=time.time_ns())
    arguments = parser.parse_args()
    dice = random.Random(arguments.seed)
    print(f"--seed {arguments.seed}", flush=True)
    with closing(Sandbox()) as sandbox:
        targets = make_targets(sandbox)
        names = arguments.targets or list(targets)
        counts = {name: [0, 0] for name in names}
        end = time.monotonic() + arguments.seconds
        share = min(5.0, arguments.seconds / len(names))
        while time.monotonic() < end:
            for name in names:
                until = min(end, time.monotonic() + share)
                for place, count in enumerate(run(name, targets[name], until, dice)):
                    counts[name][place] += count
    for name, (tried, read) in counts.items():
        print(f"{name}: {tried} tried, {read} read")
    print(f"{sum(tried for tried, _ in counts.values())} executions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
