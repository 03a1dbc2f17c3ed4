"""All that is wrong with a launch, collected and told at once; and how options are read. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from envboot.errors import ProvisionError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from envboot_provisioners import Options


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One thing that is wrong with a spec, and the way out."""

    message: str
    hint: str | None = None


def raise_faults(faults: Sequence[Fault], platform: str) -> None:
    """Raise `ProvisionError` for all faults at once; one alone keeps its own words.

    `platform` is where the launch was to be, in words.
    """
    if not faults:
        return
    first, *rest = faults
    if not rest:
        raise ProvisionError(first.message, hint=first.hint)
    # Each way out beside its reason: in one line nobody could tell which is whose.
    raise ProvisionError(
        f"Cannot launch on {platform}, for {len(faults)} reasons",
        causes=tuple(
            f"{fault.message} (hint: {fault.hint})" if fault.hint else fault.message
            for fault in faults
        ),
    )


def find_text(options: Mapping[str, object], name: str) -> str | None:
    """Return an option's value, None where it is not set."""
    value = options.get(name)
    return str(value) if value else None


def find_list(options: Options, name: str) -> tuple[str, ...]:
    """Return the values of an option that may be repeated, each once."""
    value = options.get(name) or ()
    return tuple(dict.fromkeys((value,) if isinstance(value, str) else value))


def read_yes_no(options: Options, name: str, faults: list[Fault]) -> bool | None:
    """Return whether an option says `yes`, None where it is not set."""
    value = find_text(options, name)
    if value not in (None, "yes", "no"):
        faults.append(Fault(message=f"Expected `{name}` as `yes` or `no`, found `{value}`"))
    return {"yes": True, "no": False}.get(value or "")


def read_size(text: str | None, largest: int, faults: list[Fault]) -> int | None:
    """Return the GiB of `root-size`, None where it is not set or wrong."""
    if text is None:
        return None
    if text.isascii() and text.isdigit() and 0 < int(text) <= largest:
        return int(text)
    faults.append(
        Fault(message=f"Expected `root-size` as GiB from 1 to {largest:,}, found `{text}`")
    )
    return None
