"""The table of PyTorch's indexes."""

from __future__ import annotations

import pytest

from envboot.lock.torch import read_torch


@pytest.mark.parametrize(
    ("cuda", "folder"),
    [(None, "cpu"), ("11.2", "cpu"), ("12.4", "cu124"), ("12.5", "cu124"), ("99.0", "cu130")],
)
def test_the_newest_build_that_the_driver_runs_is_chosen(cuda: str | None, folder: str) -> None:
    assert read_torch().find_folder(cuda) == folder


def test_an_installed_build_stays_whatever_the_driver_runs() -> None:
    url = "https://download.pytorch.org/whl/cu118"
    assert read_torch().choose("torch", "cu118", "12.4") == url
    assert read_torch().choose("torch", "cu118", None) == url


def test_other_packages_and_other_peoples_builds_are_not_pytorchs() -> None:
    assert read_torch().choose("numpy", "cpu", None) is None
    assert read_torch().choose("torch", "ours.3", None) is None


def test_a_mirror_has_the_same_layout() -> None:
    mirror = read_torch("https://mirror.test/whl/")
    assert mirror.choose("torchvision", "", None) == "https://mirror.test/whl/cpu"
