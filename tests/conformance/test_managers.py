"""Environments made by the real tools arrive on a machine as they are, file by file."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from envboot.manifest import parse_manifest
from tests.conformance.compare import compare
from tests.conformance.kit import VERSIONS
from tests.conformance.managers import MANAGERS, make_uv
from tests.launch.workspace import ENVBOOT
from tests.scan.environments import find_pythons

if TYPE_CHECKING:
    from tests.conformance.managers import Made, Workshop
    from tests.conformance.page import Rows

pytestmark = pytest.mark.network

INVENTORY = Path(__file__).with_name("inventory.py").read_text()
# The one behind the environment that runs the tests: some tools would install into that.
PYTHON = os.path.realpath(sys.executable)
OTHERS = [each for each in find_pythons(*range(9, 15)) if os.path.realpath(each) != PYTHON]


@pytest.mark.parametrize("manager", MANAGERS)
def test_an_environment_arrives_as_it_is(manager: str, shop: Workshop, rows: Rows) -> None:
    made = MANAGERS[manager](shop, PYTHON)
    found = launch_and_compare(made, shop)
    rows["managers"][manager] = (found.get("manager", found["kind"]), made.tool)
    rows["pythons"][found["interpreter"]["version"].rpartition(".")[0]] = ("every tool above",)
    rows["clients"].setdefault(found["platform"], ())


@pytest.mark.parametrize("python", OTHERS, ids=lambda path: Path(path).name)
def test_any_python_arrives_as_it_is(python: str, shop: Workshop, rows: Rows) -> None:
    version = Path(python).name.removeprefix("python")
    shop.kit.add_python(version)
    launch_and_compare(make_uv(shop, python), shop)
    rows["pythons"].setdefault(version, ("uv",))


def launch_and_compare(made: Made, shop: Workshop) -> Any:
    """Scan, lock and launch; what is there must be what arrived. Returns the scan."""
    home = Path(shop.variables["HOME"])
    variables = {"PYTHONUSERBASE": str(made.root)}
    python = made.python if made.python.is_file() else made.python / "bin/python"
    empty = shop.folder / "empty"
    empty.mkdir(exist_ok=True)
    inventory = shop.run(python, "-c", INVENTORY, made.root, folder=empty, **variables)
    there = read_inventory(inventory)
    assert VERSIONS.items() <= there["versions"].items()
    shop.kit.add_seeds(there["versions"])

    def envboot(*words: str) -> str:
        return shop.run(ENVBOOT, *words, "--python", made.python, folder=home, **variables)

    found = json.loads(envboot("scan", "--json"))
    locked = parse_manifest(envboot("lock", "--host-python"))
    words = ["--", "python", "-c", INVENTORY]
    words = [ENVBOOT, "launch", "local", "--json", "--python", str(made.python), *words]
    said = json.loads(shop.run(*words, folder=home, **variables))
    assert said["environment"] == locked.environment_digest
    assert compare(there, read_inventory(said["instances"][0]["output"])) == []
    return found


def read_inventory(output: str) -> Any:
    """Read what the inventory printed last."""
    return json.loads(output.rpartition("inventory ")[2])
