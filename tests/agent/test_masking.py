"""Secrets in a command's output: shown as `***`, however the output is cut."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from envboot.agent.run import SHORTEST, Output

SECRET = "aab-aab-aac"
LONGER = SECRET + "-and-more"
PIECES = st.sampled_from(["a", "b", "-", "aab", "aab-aab-", SECRET, LONGER, "\n", "aac"])


def show(secrets: list[str], *blocks: bytes) -> bytes:
    output = Output()
    output.hide(secrets)
    return b"".join(output._mask(1, block) for block in [*blocks, b""])


@given(pieces=st.lists(PIECES, max_size=12), cuts=st.lists(st.integers(0, 120), max_size=6))
def test_cuts_of_the_output_change_nothing(pieces: list[str], cuts: list[int]) -> None:
    data = "".join(pieces).encode()
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    # An empty block is the end of the output.
    blocks = [data[i:j] for i, j in itertools.pairwise(edges)]
    shown = show([SECRET, LONGER], *blocks)
    assert shown == data.replace(LONGER.encode(), b"***").replace(SECRET.encode(), b"***")
    assert SECRET.encode() not in shown


def test_what_follows_no_secret_is_shown_at_once() -> None:
    output = Output()
    output.hide([SECRET])
    assert output._mask(1, b"line\n") == b"line\n"
    assert output._mask(1, b"an aab") == b"an "
    assert output._mask(1, b"x\n") == b"aabx\n"


def test_the_line_break_of_a_file_is_not_part_of_what_is_hidden() -> None:
    assert show([f"{SECRET}\n"], f"<{SECRET}>".encode()) == b"<***>"


def test_a_short_secret_would_hide_other_words() -> None:
    short = "x" * (SHORTEST - 1)
    assert show([short, SECRET], f"{short} {SECRET}".encode()) == f"{short} ***".encode()


def test_what_one_stream_holds_back_is_not_shown_on_the_other() -> None:
    output = Output()
    output.hide([SECRET])
    assert output._mask(1, b"an aab") == b"an "
    assert output._mask(2, b"-aab-aac\n") == b"-aab-aac\n"
    assert output._mask(1, b"-aab-aac\n") == b"***\n"
