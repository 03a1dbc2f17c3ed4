"""Digests of manifests and layers: what changes them, and what never does."""

from __future__ import annotations

import copy
import json
import os
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envboot.agent import wire
from envboot.agent.pack import write_layer
from envboot.lock.conda_packages import lock_records
from envboot.scan.schema import CondaRecord
from tests.properties.trees import TREES, File, variants, write
from tests.scan.environments import find_pythons, run
from tests.test_manifest import FULL, manifests, places

if TYPE_CHECKING:
    from envboot.manifest import Manifest

AGENT = Path(wire.__file__).parents[1]
# Every Python that the agent runs on; the documents come as JSON, the trees as folders.
PROGRAM = f"""
import hashlib, json, os, sys
sys.path.append({os.fspath(AGENT)!r})
from agent import pack, wire
documents, trees, scratch = sys.argv[1:]
with open(documents, "rb") as file:
    for document in json.loads(file.read()):
        print(hashlib.sha256(wire.canonical(document)).hexdigest())
        print(wire.base_digest(document), wire.environment_digest(document))
for name in sorted(os.listdir(trees)):
    print(pack.write_layer(os.path.join(trees, name), scratch)[0])
"""

any_manifest = st.one_of(st.just(FULL), manifests)


def digest(tree: list[File], *, umask: int = 0o022, stamp: float | None = None) -> str:
    """The layer's digest of a tree that is written at a place of its own."""
    before = os.umask(umask)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            root = Path(scratch, "tree")
            write(root, tree)
            if stamp is not None:
                for path in root.rglob("*"):
                    os.utime(path, (stamp, stamp))
            return write_layer(os.fspath(root), f"{scratch}/layer.tar.zst", level=1)[0]
    finally:
        os.umask(before)


@settings(deadline=None)
@given(manifest=any_manifest, data=st.data())
def test_every_changed_leaf_of_a_manifest_changes_its_digests(
    manifest: Manifest, data: st.DataObject
) -> None:
    document = manifest.to_dict()
    changed = copy.deepcopy(document)
    leaves = [
        (container, key)
        for part in ("base", "layer")
        for container, key in places(changed.get(part))
        if isinstance(container[key], str)
    ]
    container, key = data.draw(st.sampled_from(leaves))
    container[key] += data.draw(st.sampled_from(["x", " ", "\n", "é", "\u0301", "\u200b"]))
    assert wire.environment_digest(changed) != wire.environment_digest(document)
    is_of_the_base = changed["base"] != document["base"]
    assert (wire.base_digest(changed) != wire.base_digest(document)) is is_of_the_base


@settings(deadline=None)
@given(manifest=any_manifest, data=st.data())
def test_every_member_that_is_gone_changes_the_digest(
    manifest: Manifest, data: st.DataObject
) -> None:
    document = manifest.to_dict()
    changed = copy.deepcopy(document)
    inner = [place for part in ("base", "layer") for place in places(changed.get(part))]
    container, key = data.draw(st.sampled_from(inner))
    del container[key]
    assert wire.environment_digest(changed) != wire.environment_digest(document)


@settings(deadline=None)
@given(first=any_manifest, second=any_manifest)
def test_two_manifests_share_a_digest_only_when_they_are_equal(
    first: Manifest, second: Manifest
) -> None:
    assert (first.environment_digest == second.environment_digest) is (first == second)
    assert (first.base_digest == second.base_digest) is (first.base == second.base)


names = st.lists(st.from_regex(r"[a-z]{1,4}", fullmatch=True), min_size=2, max_size=6, unique=True)


@settings(deadline=None)
@given(found=names, seed=st.integers())
def test_conda_records_in_any_order_make_the_same_base(found: list[str], seed: int) -> None:
    records = [
        CondaRecord(
            name=name,
            version="1",
            build="0",
            channel="https://channel.test",
            subdir="noarch",
            url=f"https://channel.test/noarch/{name}-1-0.conda",
            sha256="a" * 64,
        )
        for name in found
    ]
    shuffled = random.Random(seed).sample(records, len(records))
    assert lock_records(shuffled) == lock_records(records)


@settings(max_examples=50, deadline=None)
@given(tree=TREES, seed=st.integers(), umask=st.sampled_from([0, 0o027, 0o077]), data=st.data())
def test_neither_order_nor_place_nor_time_nor_umask_changes_a_layer(
    tree: list[File], seed: int, umask: int, data: st.DataObject
) -> None:
    shuffled = random.Random(seed).sample(tree, len(tree))
    stamp = data.draw(st.floats(0, 4e9))
    assert digest(shuffled, umask=umask, stamp=stamp) == digest(tree)


@settings(max_examples=15, deadline=None)
@given(tree=TREES)
def test_every_bit_name_and_mode_of_a_file_changes_the_layer(tree: list[File]) -> None:
    first, *others = tree
    seen = [digest([variant, *others]) for variant in (first, *variants(first))]
    assert len(set(seen)) == len(seen)


# The first example that hypothesis makes is the smallest one: the second has something in it.
@pytest.mark.subprocess
@settings(max_examples=2, deadline=None, derandomize=True)
@given(
    found=st.lists(manifests, min_size=3, max_size=5),
    trees=st.lists(TREES, min_size=2, max_size=3),
)
def test_every_python_locale_time_zone_and_hash_seed_gives_the_same_digests(
    found: list[Manifest], trees: list[list[File]]
) -> None:
    variables = [
        {"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "UTC", "PYTHONUTF8": "0"},
        {"PYTHONHASHSEED": "77", "LC_ALL": "C.UTF-8", "TZ": "Pacific/Auckland"},
        {"PYTHONHASHSEED": "random", "LC_ALL": "POSIX", "PYTHONOPTIMIZE": "2"},
    ]
    with tempfile.TemporaryDirectory() as scratch:
        documents = Path(scratch, "documents.json")
        documents.write_text(json.dumps([manifest.to_dict() for manifest in [FULL, *found]]))
        for number, tree in enumerate(trees):
            write(Path(scratch, "trees", str(number)), tree)
        arguments = ["-c", PROGRAM, str(documents), f"{scratch}/trees", f"{scratch}/layer"]
        seen = {
            run("env", *(f"{name}={value}" for name, value in each.items()), python, *arguments)
            for python in find_pythons(*range(9, 15))
            for each in variables
        }
    assert len(seen) == 1
    assert FULL.environment_digest in seen.pop()
