"""What envboot costs, beside what people do today: `make bench`, or `python -m tests.bench PART`.

The ways take turns. Medians and ratios of one run of this program are what may be quoted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

from tests.bench import cluster, launch, scan

PARTS = {"scan": scan.bench, "launch": launch.bench, "cluster": cluster.bench}


def main() -> int:
    """Measure and print; 1 where a promise is not kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--runs", type=int, help="how often; each part has its own default")
    parser.add_argument("--size", choices=launch.PACKAGES, default="large", help="of `launch`")
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {', '.join(sorted(unknown))}")
    print(f"Python {platform.python_version()}, {os.cpu_count()} processors, {platform.machine()}")
    kept, figures = True, {}
    for name, bench in PARTS.items():
        if name in (options.parts or PARTS):
            figures[name], is_kept = bench(options)
            kept = kept and is_kept
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
