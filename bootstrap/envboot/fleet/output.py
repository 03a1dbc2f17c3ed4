"""What commands printed on their instances, as far as it can be read from here, each byte once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envboot.fleet.outcomes import Outcome
    from envboot.fleet.reports import Reports


class Output:
    """Remembers how far each instance's output was read.

    An instance on this machine has it in a file. Any other one reports pieces of it (`output`)
    while the command runs, and the last 256 KiB when it has ended (`command`).
    """

    def __init__(self) -> None:
        self._at: dict[str, int] = {}
        self._held: dict[str, bytes] = {}

    def read_new(self, outcome: Outcome, *, whole_lines: bool) -> bytes:
        """Return what came since the last call; of a command that runs only whole lines."""
        instance = outcome.instance
        name, at = instance.name, self._at.get(instance.name, 0)
        if instance.root and instance.folder:
            try:
                with (instance.folder / "output").open("rb") as stream:
                    stream.seek(at)
                    data = stream.read()
            except FileNotFoundError:
                return b""
            at += len(data)
        else:
            data, at = join_pieces(outcome.reports, at)
        data, self._at[name] = self._held.pop(name, b"") + data, at
        if whole_lines and not outcome.gone and outcome.reports.command is None:
            # Lines of several instances must not mix: what is not a whole line waits.
            whole = data.rfind(b"\n") + 1
            data, self._held[name] = data[:whole], data[whole:]
        return data


def join_pieces(reports: Reports, at: int) -> tuple[bytes, int]:
    """Return the reported output from byte `at` on, and the byte behind it. Pure.

    Where the instance printed faster than it reported, a line says how much is missing.
    """
    data = b""
    for piece in (*reports.output, *([reports.command.output] if reports.command else ())):
        start, end = piece.offset, piece.end
        if end <= at:
            continue
        if start > at:
            data += f"\n… {start - at:,} bytes are only in the instance's journal …\n".encode()
        # What is no UTF-8 was replaced there, so that the text may be longer than its bytes.
        new = piece.text.encode(errors="backslashreplace")
        data += new[max(at - start, 0) :] if start < at else new
        at = end
    return data, at
