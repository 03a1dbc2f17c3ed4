"""docs/compatibility.md: what the suite saw arrive, and statements that name their tests."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conformance.compare import ALLOWED, BYTE_CODE, SCRIPTS
from tests.conformance.managers import MANAGERS

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs/compatibility.md"
Rows = dict[str, dict[str, tuple[str, ...]]]
OWN = "`tests/conformance/test_managers.py::test_an_environment_arrives_as_it_is`"
SECTIONS = ("managers", "pythons", "clients")

_CLIENTS = (
    ("macOS on Apple silicon, macOS on Intel, Windows",
     "Solved for, from recorded environments; never run there",
     "tests/crossplatform/test_plans.py::test_each_package_is_accounted_for"),
)  # fmt: skip
_GUESTS = (
    ("linux-64, systemd and cloud-init (Debian 12)", "Booted",
     "tests/boot/test_boot.py::test_the_first_machine_installs_and_publishes_and_the_next_fetches"),
    ("linux-64, a real kernel in QEMU", "Booted",
     "tests/boot/test_qemu.py::test_a_launch_on_qemu_installs_runs_publishes_and_ends"),
    ("linux-64, a folder of the client (`local`)", "Run",
     "tests/conformance/test_managers.py::test_an_environment_arrives_as_it_is"),
    ("linux-aarch64", "Written for, not booted here",
     "tests/crossplatform/test_plans.py::test_another_architecture_gets_its_own_builds"),
)  # fmt: skip
TESTS = [row[2] for row in (*_CLIENTS, *_GUESTS)]


def render(rows: Rows) -> str:
    """Write the page; a row stands there only because its test passed."""
    managers = "".join(
        f"| {name} | {found[0]} | {found[1]} |\n" for name, found in rows["managers"].items()
    )
    pythons = "".join(
        f"| {name} | {rows['pythons'][name][0]} |\n" for name in _by_number(rows["pythons"])
    )
    clients = "".join(f"| {name} | Run | {OWN} |\n" for name in rows["clients"])
    clients += "".join(f"| {a} | {b} | `{c}` |\n" for a, b, c in _CLIENTS)
    guests = "".join(f"| {a} | {b} | `{c}` |\n" for a, b, c in _GUESTS)
    allowed = "".join(
        f"| {each.what} | {each.reason} |\n" for each in (*ALLOWED, SCRIPTS, BYTE_CODE)
    )
    return f"""# What works with what

Written by `tests/conformance`, never by hand: a row is here because its test passed. Each test has
the real tool make an environment of plain and compiled wheels, a namespace package in two parts,
scripts, entry points and data files, an editable flat and an editable `src/` project, a project
installed from its folder, one from a subdirectory of a git repository, and a wheel that no index
has. The environment is scanned, locked and launched, and all that can be seen of it is compared
with what arrived: every module imports or fails as it did, and versions, entry points, scripts and
the bytes of all files are the same.

## What made the environment
| made with | `envboot scan` says | version when this was written |
|---|---|---|
{managers}
The conda and pixi environments are installed by py-rattler from a channel of real packages: the
programs `conda` and `pixi` themselves were not run. pip, or uv, installs the rest on top. Of the
operating system's Python what its user has installed is compared; its own packages stay behind.
Debian's `python3 -m venv` puts a pip and a setuptools into the environment that Debian has patched:
the machines get those of PyPI in the same versions.

## Python versions of the environment
| Python | arrived from an environment made with |
|---|---|
{pythons}
`envboot` itself runs on Python 3.10 and later, and `envboot scan` reads environments of Python 3.8
and later.

## Client platforms
| platform | how far | test |
|---|---|---|
{clients}
## Guest platforms
| platform | how far | test |
|---|---|---|
{guests}
## What may differ on the machine, and why
| what | why |
|---|---|
{allowed}"""


def read_rows(text: str) -> Rows:
    """Read the rows that earlier runs of the suite wrote into the page."""
    parts = text.split("\n## ")
    rows: Rows = {name: {} for name in SECTIONS}
    for name, part in zip(SECTIONS, parts[1:], strict=False):
        for line in part.splitlines():
            cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
            if line.startswith("| ") and _is_own(name, cells):
                rows[name][cells[0]] = tuple(cells[1:])
    return rows


def _is_own(name: str, cells: list[str]) -> bool:
    return {
        "managers": cells[0] in MANAGERS,
        "pythons": bool(re.fullmatch(r"3\.\d+", cells[0])),
        "clients": cells[-1] == OWN,
    }[name]


def _by_number(names: dict[str, tuple[str, ...]]) -> list[str]:
    return sorted(names, key=lambda name: int(name.partition(".")[2]))
