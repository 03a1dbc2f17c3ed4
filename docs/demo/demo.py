"""`make demo`: a sample project of yours, brought up three times on a fresh `local` machine.

Cold: nothing is in the bucket, so the machine installs and publishes. Warm: the next machine
fetches what the first one published. Edit: one line of the editable package changes, and only
the layer moves. Everything happens in one temporary folder, which is removed at the end.
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
from typing import Any

PACKAGES = ["numpy", "pandas", "dask[dataframe]", "distributed"]

PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{name}"
version = "{version}"

[tool.setuptools.package-data]
"*" = ["*.csv"]
"""
TRADING = """\
from importlib.resources import files
from io import StringIO

import pandas

FACTOR = {factor}


def total():
    text = files("trading").joinpath("prices.csv").read_text()
    return int(FACTOR * pandas.read_csv(StringIO(text)).price.sum())
"""
GREETINGS = """\
def greet(name):
    return f"hello from git, {name}"
"""
PROGRAM = """\
import sys
import dask, distributed, numpy, pandas
import dask.array
import trading, greetings

print("python     ", sys.version.split()[0], "in", sys.prefix)
print("numpy      ", numpy.__version__, "pandas", pandas.__version__)
total = dask.array.arange(1000, chunks=100).sum().compute()
print("dask       ", dask.__version__, "sum", int(total))
print("distributed", distributed.__version__)
print("trading    ", f"FACTOR={trading.FACTOR} total={trading.total()}", "(editable, with data)")
print("greetings  ", greetings.greet(sys.argv[1]), "(installed from git)")
"""
IDENTITY = ["-c", "user.name=demo", "-c", "user.email=demo@localhost"]


def main() -> int:
    """Run the demo; returns an exit code."""
    with tempfile.TemporaryDirectory(prefix="envboot-demo-") as scratch:
        return Demo(Path(scratch)).run()


class Demo:
    """The sample project and its three launches, all below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.project = folder / "project"
        self.python = self.project / ".venv/bin/python"
        programs = Path(sys.executable).parent
        self.uv, self.envboot = str(programs / "uv"), str(programs / "envboot")
        # The launches must not profit from what earlier ones left on this machine.
        own = {f"ENVBOOT_{name}_DIR": str(folder / name.lower()) for name in ("CACHE", "STATE")}
        self.environ = dict(os.environ, **own)

    def run(self) -> int:
        """Make the project, launch it three times, print the three timings side by side."""
        say("A sample project: numpy, pandas, dask, distributed, an editable package, one from git")
        self.make()
        launches = {}
        say("Cold: the bucket is empty, so the machine installs, and publishes for the next one")
        launches["cold"] = self.launch("first")
        say("Warm: another fresh machine finds the archive in the bucket")
        launches["warm"] = self.launch("second")
        say("Edit: FACTOR = 2 becomes FACTOR = 3 in the editable package")
        self.write_trading(factor=3)
        launches["edit"] = self.launch("third")
        print_table(launches)
        bases = {launch["base"] for launch in launches.values()}
        environments = [launch["environment"] for launch in launches.values()]
        print(f"base digests: {len(bases)}, environment digests: {len(set(environments))}")
        right = len(bases) == 1 and environments[0] == environments[1] != environments[2]
        sources = [launch["instances"][0]["source"] for launch in launches.values()]
        outputs = [launch["instances"][0]["output"] for launch in launches.values()]
        right &= sources == ["install", "archive", "archive"]
        right &= ["FACTOR=2 total=12" in text for text in outputs] == [True, True, False]
        right &= "FACTOR=3 total=18" in outputs[2]
        print("as promised" if right else "NOT as promised")
        return 0 if right else 1

    def make(self) -> None:
        """Make the environment as a person would, with uv and git."""
        self.run_program(
            [self.uv, "venv", "-q", "--python", sys.executable, self.project / ".venv"]
        )
        greetings = self.folder / "greetings"
        write(greetings / "libs/greetings/pyproject.toml", project("greetings", "0.3"))
        write(greetings / "libs/greetings/greetings.py", GREETINGS)
        for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "greetings: say hello"]):
            self.run_program(["git", "-C", greetings, *IDENTITY, *words])
        write(self.project / "trading/pyproject.toml", project("trading", "1.0"))
        write(self.project / "trading/src/trading/prices.csv", "price\n1\n2\n3\n")
        self.write_trading(factor=2)
        install = [self.uv, "pip", "install", "-q", "--python", self.python]
        self.run_program([*install, *PACKAGES])
        self.run_program([*install, "-e", self.project / "trading"])
        self.run_program([*install, f"git+file://{greetings}#subdirectory=libs/greetings"])

    def write_trading(self, *, factor: int) -> None:
        """Write the module of the editable package."""
        write(self.project / "trading/src/trading/__init__.py", TRADING.format(factor=factor))

    def launch(self, name: str) -> dict[str, Any]:
        """Launch on `local` and return the launch's document."""
        program = self.project / "program.py"
        write(program, PROGRAM)
        # Kept, for creating files soon after deleting many is slow on some file systems.
        command = [self.envboot, "launch", "local", "--keep", "--json", "--python", self.python]
        start = time.monotonic()
        text = self.run_program([*command, "--", "python", program, name])
        document: dict[str, Any] = json.loads(text)
        document["wall"] = time.monotonic() - start
        print(document["instances"][0]["output"])
        return document

    def run_program(self, command: list[Any]) -> str:
        """Run a program in the project; its errors go to the terminal."""
        words = [str(word) for word in command]
        done = subprocess.run(
            words, env=self.environ, cwd=self.folder, stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            sys.stdout.write(done.stdout)
            raise SystemExit(f"{Path(words[0]).name} ended with {done.returncode}")
        return done.stdout


def project(name: str, version: str) -> str:
    """Return a pyproject.toml."""
    return PYPROJECT.format(name=name, version=version)


def write(path: Path, text: str) -> None:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def say(text: str) -> None:
    """Print a heading."""
    print(f"\n== {text}\n", flush=True)


def print_table(launches: dict[str, dict[str, Any]]) -> None:
    """Print what every step took, in seconds, one column a launch."""
    columns = {}
    for name, launch in launches.items():
        steps = {k: v for k, v in launch["steps"].items() if k != "wait"}
        stages = launch["instances"][0]["stages"]
        columns[name] = {**steps, **stages, "all in all": launch["wall"]}
    order = ["scan", "lock", "build", "upload", "render", "start"]
    rows = list(dict.fromkeys([*order, *(step for c in columns.values() for step in c)]))
    say("Seconds")
    print(f"{'':14}" + "".join(f"{name:>10}" for name in columns))
    for row in rows:
        cells = (f"{c[row]:10.2f}" if row in c else f"{'-':>10}" for c in columns.values())
        print(f"{row:14}" + "".join(cells))
    print()


if __name__ == "__main__":
    if not shutil.which("git"):
        raise SystemExit("make demo wants git")
    sys.exit(main())
