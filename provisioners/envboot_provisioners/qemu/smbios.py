"""What cloud-init finds NoCloud by: the machine's serial number, as a table that QEMU reads."""

from __future__ import annotations

import struct

_TYPE, _HANDLE, _WAKE = 1, 0x100, 6
"""System information; the handle that QEMU's own has; woken by the power switch."""


def render_system(serial: str) -> bytes:
    """Return the table of the machine's identity (SMBIOS 3.6, 7.2), for `-smbios file=…`. Pure.

    On QEMU's command line the number would be there for every user of the host to read.
    """
    strings = ["QEMU", "Standard PC (Q35 + ICH9, 2009)", "envboot", serial]
    # Strings are numbered from 1, and 0 is none: maker, product, version, serial number; then
    # the UUID, what woke the machine, stock number and family.
    formatted = struct.pack("<4B16s3B", 1, 2, 3, 4, bytes(16), _WAKE, 0, 0)
    head = struct.pack("<BBH", _TYPE, 4 + len(formatted), _HANDLE)
    return head + formatted + b"".join(each.encode() + b"\0" for each in strings) + b"\0"
