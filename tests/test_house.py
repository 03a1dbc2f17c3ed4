"""Where things live: the map, the direction of imports, and what no module may do."""

from __future__ import annotations

import ast
import re
from collections import defaultdict

import pytest

from tests.house import (
    ROOT,
    SOURCES,
    find_circles,
    find_functions,
    find_imports,
    find_room,
    list_modules,
    parse,
)

MOST_LINES = 400
MOST_PARAMETERS = 8
# Where a run begins: they read the process, and hand down what they found.
EDGES = (
    "envboot",
    "envboot.this_interpreter",
    "envboot.session",
    "envboot.cli",
    "envboot.cluster.cluster",
)
# These run in other interpreters, and know neither sessions nor our way to start programs.
ELSEWHERE = ("envboot.agent", "envboot.scan.probe")
# Rooms that are twins, or the guest's side of a room of ours: the same names on purpose.
FAMILIES = (
    r"envboot\.agent\..*",
    r"envboot\.cli\.commands\..*",
    r"envboot\.store\.(s3|gcs|local)\..*",
    r"envboot\.doctor\.(s3|gcs)",
    r"envboot_provisioners\.(aws|gcp|qemu)\..*",
    # By the name that users know them by: a kind of bucket, a kind of machine.
    r"envboot\.store\.local|envboot_provisioners\.local",
    # What a package is for stands in the module of its name.
    r"envboot\.cluster|envboot\.cluster\.cluster",
    # What `python -m` and `python FOLDER` run.
    r".*\.__main__",
)


def read_map() -> list[str]:
    """Return the rooms of `docs/design.md` in their order: `fleet`, `store/s3`, `manifest`."""
    text = (ROOT / "docs/design.md").read_text("utf-8")
    block = text.partition("## Layout\n")[2].split("```")[1]
    found = (re.match(r"  ([\w/]+?)(/|\.py)? {2,}", line) for line in block.splitlines())
    return [match[1] for match in found if match]


def belongs(module: str, places: tuple[str, ...]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


def test_the_map_names_every_room() -> None:
    (client, provisioners) = (SOURCES[0] / "envboot", SOURCES[1] / "envboot_provisioners")
    wanted = {path.stem for path in client.glob("*.py")} - {"__init__"}
    for package in (client, provisioners):
        for path in package.rglob("__init__.py"):
            name = path.parent.relative_to(package).as_posix()
            if package is provisioners:
                name = f"envboot_provisioners/{name}".removesuffix("/.")
            wanted.add("envboot" if name == "." else name)
    assert set(read_map()) == wanted
    assert len(read_map()) == len(wanted)


def test_no_import_runs_up() -> None:
    rooms = [room for room in read_map() if "/" not in room]
    floor = {room: number for number, room in enumerate(rooms)}
    up = {
        f"{module} imports {other}"
        for module in list_modules()
        for other in find_imports(module)
        if floor[find_room(other)] < floor[find_room(module)]
    }
    assert up == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert find_circles({module: find_imports(module) for module in list_modules()}) == []


def test_a_circle_is_found() -> None:
    arrows = {"a": frozenset({"b"}), "b": frozenset({"c"}), "c": frozenset({"b"})}
    assert find_circles(arrows) == [["b", "c"]]


def test_no_module_is_too_long() -> None:
    long = {
        module: len(path.read_text("utf-8").splitlines()) for module, path in list_modules().items()
    }
    assert {module: lines for module, lines in long.items() if lines > MOST_LINES} == {}


def test_no_function_takes_too_many_parameters() -> None:
    many = {}
    for module, function in find_functions():
        given = function.args
        names = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
        names += [each.arg for each in (given.vararg, given.kwarg) if each]
        count = len(names) - (names[:1] in (["self"], ["cls"]))
        if count > MOST_PARAMETERS:
            many[f"{module}.{function.name}"] = count
    assert many == {}


def test_nothing_below_the_edges_reads_the_process() -> None:
    found = set()
    for module, path in list_modules().items():
        if belongs(module, ELSEWHERE) or module == EDGES[0] or belongs(module, EDGES[1:]):
            continue
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name = f"{node.value.id}.{node.attr}"
                if name in ("os.environ", "os.getenv", "os.getcwd", "os.chdir", "Path.cwd"):
                    found.add(f"{module}: {name}")
    assert found == set()


def test_no_two_modules_share_a_name() -> None:
    places = defaultdict(set)
    for module in list_modules():
        family = next((each for each in FAMILIES if re.fullmatch(each, module)), "")
        places[module.rpartition(".")[2]].add(family or module)
    shared = {name: sorted(found) for name, found in places.items() if len(found) > 1}
    allowed = {name for name, found in shared.items() if sum(f not in FAMILIES for f in found) < 2}
    assert {name: found for name, found in shared.items() if name not in allowed} == {}


def test_no_two_public_classes_share_a_name() -> None:
    places = defaultdict(list)
    for module, path in list_modules().items():
        # The guest's side has the words of ours, and is read by itself.
        for node in [] if belongs(module, ELSEWHERE) else parse(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(module)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


@pytest.mark.parametrize("name", ["util", "utils", "helpers", "common", "misc"])
def test_no_module_is_a_drawer(name: str) -> None:
    assert name not in {module.rpartition(".")[2] for module in list_modules()}
