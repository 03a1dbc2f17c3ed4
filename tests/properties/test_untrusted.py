"""Whatever a bucket holds, its readers return or raise an error of their own, and nothing else.

`python -m tests.fuzz` goes on where this ends.
"""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.mutation import mutate
from tests.fuzz.targets import Sandbox, make_targets

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

with closing(Sandbox()) as _unused:
    NAMES = list(make_targets(_unused))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """Where archives and layers are unpacked."""
    with closing(Sandbox()) as made:
        yield made


@pytest.mark.parametrize("name", NAMES)
def test_good_inputs_are_read_or_refused(sandbox: Sandbox, name: str) -> None:
    target = make_targets(sandbox)[name]
    read = 0
    for seed in target.seeds:
        with suppress(target.error):
            target.run(seed)
            read += 1
    assert read


@pytest.mark.parametrize("name", NAMES)
def test_changed_inputs_are_read_or_refused(sandbox: Sandbox, name: str) -> None:
    target = make_targets(sandbox)[name]

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.randoms(use_true_random=False), st.sampled_from(target.seeds))
    def try_changed(dice: random.Random, seed: bytes) -> None:
        for _ in range(3):
            seed = mutate(seed, target.seeds, dice)
        with suppress(target.error):
            target.run(seed)

    try_changed()


@pytest.mark.parametrize("name", NAMES)
def test_any_bytes_are_read_or_refused(sandbox: Sandbox, name: str) -> None:
    target = make_targets(sandbox)[name]

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(st.binary(max_size=2000))
    def try_any(data: bytes) -> None:
        with suppress(target.error):
            target.run(data)

    try_any()
