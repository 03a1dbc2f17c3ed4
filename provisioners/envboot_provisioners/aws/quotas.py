"""Which quota of an account a type of instance counts against. Pure.

Source: EC2 User Guide, "Amazon EC2 service quotas"; the codes are those of Service Quotas.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_STANDARD = "Standard (A, C, D, H, I, M, R, T, Z)"
# By the letters before the first digit: name, code on-demand, code spot.
_FAMILIES = {
    "dl": ("DL", "L-6E869C2A", "L-85EED4F7"),
    "f": ("F", "L-74FC7D96", "L-88CF9481"),
    "g": ("G and VT", "L-DB2E81BA", "L-3819A6DF"),
    "gr": ("G and VT", "L-DB2E81BA", "L-3819A6DF"),
    "hpc": ("HPC", "L-F7808C92", ""),
    "inf": ("Inf", "L-1945791B", "L-B5D1601B"),
    "p": ("P", "L-417A185B", "L-7212CCBC"),
    "trn": ("Trn", "L-2C3B7624", "L-6B0D517C"),
    "u": ("High Memory", "L-43DA4232", ""),
    "vt": ("G and VT", "L-DB2E81BA", "L-3819A6DF"),
    "x": ("X", "L-7295265B", "L-E3A00192"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Quota:
    """A quota in vCPUs: its name as the console shows it, and its code where it has one."""

    name: str
    code: str | None


def find_quota(instance_type: str, market: str) -> Quota:
    """Return the quota that instances of a type in a market (`spot`, `on-demand`) count against."""
    found = re.match(r"[a-z]+", instance_type)
    family = found[0] if found else ""
    name, on_demand, spot = _FAMILIES.get(family, (_STANDARD, "L-1216C47A", "L-34B43A08"))
    if market == "spot":
        return Quota(name=f"All {name} Spot Instance Requests", code=spot or None)
    return Quota(name=f"Running On-Demand {name} instances", code=on_demand)
