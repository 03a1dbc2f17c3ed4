"""Which wheel a target gets."""

from __future__ import annotations

import platform
import sys

import pytest
from packaging.tags import sys_tags

from envboot.lock.tags import choose_wheel, rank_tags

RANKS = rank_tags("linux-64", "2.28", "3.11.7")


def test_the_wheel_that_is_installed_comes_before_a_better_one() -> None:
    files = [
        "a-1-cp311-cp311-manylinux_2_28_x86_64.whl",
        "a-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "a-1-py3-none-any.whl",
    ]
    old = ("cp311-cp311-manylinux_2_17_x86_64", "cp311-cp311-manylinux2014_x86_64")
    assert choose_wheel(files, RANKS, old) == files[1]
    assert choose_wheel(files, RANKS, ("py3-none-any",)) == files[2]
    assert choose_wheel(files, RANKS, ()) == files[0]


@pytest.mark.parametrize(
    "file",
    [
        "a-1-cp311-cp311-manylinux_2_34_x86_64.whl",
        "a-1-cp311-cp311-manylinux_2_17_aarch64.whl",
        "a-1-cp311-cp311-musllinux_1_2_x86_64.whl",
        "a-1-cp312-cp312-manylinux_2_17_x86_64.whl",
        "a-1-cp311-cp311-macosx_11_0_arm64.whl",
        "a-1.tar.gz",
    ],
)
def test_what_the_target_cannot_run_is_never_chosen(file: str) -> None:
    assert choose_wheel([file], RANKS, ("cp311-cp311-manylinux_2_34_x86_64",)) is None


def test_among_equals_the_highest_build_number_wins() -> None:
    files = ["a-1-2-py3-none-any.whl", "a-1-10-py3-none-any.whl", "a-1-py3-none-any.whl"]
    assert choose_wheel(files, RANKS, ()) == files[1]


def test_the_stable_abi_of_an_older_python_is_run() -> None:
    assert choose_wheel(["a-1-cp38-abi3-manylinux1_x86_64.whl"], RANKS, ())


def test_aarch64_knows_no_manylinux_older_than_2014() -> None:
    ranks = rank_tags("linux-aarch64", "2.28", "3.11.7")
    assert "cp311-cp311-manylinux2014_aarch64" in ranks
    assert not [tag for tag in ranks if "manylinux1_" in tag or "x86_64" in tag]


def test_the_tags_are_those_of_packaging_itself() -> None:
    version = ".".join(map(str, sys.version_info[:3]))
    glibc = platform.libc_ver()[1]
    machine = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}[platform.machine()]
    assert set(rank_tags(machine, glibc, version)) == {str(tag) for tag in sys_tags()}
