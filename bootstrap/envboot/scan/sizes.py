"""How large an environment is: on disk, packed, and its largest packages. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from envboot.scan.schema import Scan

PACKED = 0.25
"""What is packed, as a part of what is on disk: 333 of 1,364 MB in `make bench`."""
LARGEST = 10


def measure(scan: Scan) -> dict[str, Any]:
    """Return bytes on `disk` and `packed`, and the `largest` packages, as JSON takes them.

    Loose code and byte code are not counted. A conda package is packed as its channel has it;
    what came from an index is estimated.
    """
    names = {("conda", record.name) for record in scan.conda}
    names |= {("pypi", item.name) for item in scan.distributions if not item.conda}
    sizes = [size for size in scan.sizes if (size.source, size.name) in names]
    sizes.sort(key=lambda size: (-size.disk, size.name))
    packed = (int(size.disk * PACKED) if size.packed is None else size.packed for size in sizes)
    return {
        "disk": sum(size.disk for size in sizes),
        "packed": sum(packed),
        "largest": [{"name": size.name, "disk": size.disk} for size in sizes[:LARGEST]],
    }


def describe_sizes(found: dict[str, Any]) -> tuple[str, str]:
    """Return what people read: `1,364.2 MB on disk, about 333.0 MB packed`, and the largest."""
    largest = (f"{each['name']} {_amount(each['disk'])}" for each in found["largest"])
    text = f"{_amount(found['disk'])} on disk, about {_amount(found['packed'])} packed"
    return text, ", ".join(largest)


def _amount(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
