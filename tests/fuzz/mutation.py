"""Small changes to good inputs: bytes, and the values of JSON documents."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 7, 1 << 31, 1 << 63, -(1 << 63), 10**30, 0.5, 1e308),
    *("", "\0", "\n", "..", "../../x", "/etc/passwd", "a//b", "\ud800", "\u202e", "x" * 300),
    *("http://[::1", "sha256:", "sha256:" + "0" * 64, [], {}, [[]], {"": 0}, [0] * 9, {"get": 7}),
)
CHUNKS = (
    *(b"\0", b"-", b"/", b"..", b"../", b"//", b"\xff", b"\n", b"L", b"K", b"0", b"2", b"5", b"7"),
    *(b"-0000001000", b"77777777777\0", b"0004755\0", b"lib64", b"out/", b"\0" * 512, b"\xe0"),
    (3 << 30).to_bytes(8, "little"),
)


def mutate(data: bytes, seeds: Sequence[bytes], dice: random.Random) -> bytes:
    """Return an input that is a little, or a lot, other than a good one."""
    if data[:1] == b"{" and dice.random() < 0.8:
        try:
            document = json.loads(data)
        except ValueError:
            return _change_bytes(data, seeds, dice)
        for _ in range(dice.choice((1, 1, 1, 2, 5))):
            document = _change_value(document, dice)
        return json.dumps(document).encode()
    if b"\n{" in data[:40] and dice.random() < 0.9:
        name, _, text = data.partition(b"\n")
        return name + b"\n" + mutate(text, (text,), dice)
    return _change_bytes(data, seeds, dice)


def _change_value(value: Any, dice: random.Random) -> Any:
    """Change one value somewhere in a document."""
    if not isinstance(value, (dict, list)) or not value or dice.random() < 0.1:
        # A copy: a list of ours must not come to hold itself.
        return copy.deepcopy(dice.choice(VALUES))
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key, what = dice.choice(keys), dice.random()
    if what < 0.1:
        del value[key]
    elif what < 0.15 and isinstance(value, list):
        value.insert(key, copy.deepcopy(value[key]))
    elif what < 0.2 and isinstance(value, dict):
        value[str(dice.choice(VALUES))] = copy.deepcopy(dice.choice(VALUES))
    else:
        value[key] = _change_value(value[key], dice)
    return value


def _change_bytes(data: bytes, seeds: Sequence[bytes], dice: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 4, 16))):
        at, what = dice.randrange(len(found) + 1), dice.random()
        # A tar's fields are where they are: most changes keep the others' places.
        if what < 0.35:
            chunk = dice.choice(CHUNKS)
            found[at : at + len(chunk)] = chunk
        elif what < 0.6:
            found[at : at + 1] = dice.randbytes(1)
        elif what < 0.75:
            start = at - at % 512
            chunk = dice.choice(CHUNKS)
            field = start + dice.choice((0, 4, 100, 124, 156, 157))
            found[field : field + len(chunk)] = chunk
        elif what < 0.85:
            found[at:at] = dice.choice(seeds)
        elif what < 0.95:
            del found[at : at + dice.choice((1, 8, 512))]
        else:
            found[at:at] = dice.choice(CHUNKS)
    return bytes(found[:20_000])
