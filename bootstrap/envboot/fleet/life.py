"""How long machines live: until when at most, for how long their URLs are signed, and how to move
the end.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from envboot.documents import parse_json
from envboot.duration import parse_duration
from envboot.errors import DocumentError, UsageError
from envboot.publish.launch_record import MOST
from envboot.publish.layout import key_wanted
from envboot.scan.schema import Problem
from envboot.store.protocol import DAY, MalformedError
from envboot.userdata import Life

if TYPE_CHECKING:
    from collections.abc import Callable

    from envboot.store.protocol import Store

WEEK = 7 * DAY
"""The longest that a URL can be signed for, and that machines with a command live by default."""
LAST_WORDS = 900
"""Seconds that a machine has, after its time is over, to report that and what it made."""
_NUMBER = re.compile(r".*/wanted-(\d{1,9})\.json")
_LAST = 1 << 33
"""Seconds since 1970 at most: a time of some two centuries from now."""
LONGEST = 120 * DAY
"""Compute Engine's longest run time of an instance ("Limit the run time of a VM")."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lifetime:
    """How many seconds machines live at most, None for ever; and `idle` ones."""

    max_life: int | None = WEEK
    idle: int | None = None

    @property
    def seconds(self) -> int:
        """For how long URLs must be signed: as long as machines live and report their end."""
        return min((self.max_life or WEEK) + LAST_WORDS, WEEK)

    def begin(self, *, ends_when_done: bool, now: Callable[[], float] = time.time) -> Life:
        """Return what machines of a launch that begins now are told."""
        end = int(now()) + self.max_life if self.max_life else None
        return Life(end=end, idle=self.idle, done=ends_when_done)


def parse_lifetime(max_life: str | None, idle: str | None, *, has_command: bool) -> Lifetime:
    """Read `--max-life` and `--idle`.

    Raises:
        UsageError: one of them is no duration.
    """
    if max_life is None:
        most: int | None = WEEK if has_command else DAY
    else:
        most = None if max_life == "never" else parse_duration(max_life, longest=LONGEST)
    return Lifetime(max_life=most, idle=parse_duration(idle, longest=LONGEST) if idle else None)


def check_urls(store: Store, seconds: int, life: Lifetime) -> Problem | None:
    """Return a warning where signed URLs end before the machines may, and what that means."""
    expiry = store.limits(seconds)
    left = (expiry.end - datetime.now(timezone.utc)).total_seconds()
    if expiry.known and life.max_life and left >= life.max_life - 60:
        return None
    if expiry.known and expiry.limited_by in ("request", "seven days"):
        # As long as there is, or as somebody wanted it.
        return None
    return Problem(
        subject="signed URLs",
        message=f"live {expiry}: machines report nothing after that, and nothing is sent to them; "
        "what the command prints or writes later is lost. Sign with credentials that live longer, "
        "or let machines use their role (`--auth role`)",
    )


def show_end(end: datetime | None, now: datetime) -> str:
    """Say in how long something ends: `6 d`, `23 h`, `5 m`; `never`, `over`."""
    if end is None:
        return "never"
    left = (end - now).total_seconds()
    for unit, length in (("d", DAY), ("h", 3600), ("m", 60)):
        if left >= 2 * length:
            return f"{int(left // length)} {unit}"
    return f"{int(left)} s" if left > 0 else "over"


def format_time(seconds: int) -> str:
    """Return seconds since 1970 as documents have times: in UTC."""
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


def parse_time(text: str | None) -> datetime | None:
    """Read a time of a document; None where it is none."""
    try:
        found = datetime.strptime(text or "", "%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        return None
    return found.replace(tzinfo=timezone.utc)


def find_new_end(end: datetime | None, by: int, now: datetime) -> datetime:
    """Return the end of a launch that is to live `by` seconds longer than it would.

    Raises:
        UsageError: it has no end, or its end has come.
    """
    if end is None:
        raise UsageError(
            "Cannot extend a launch that never ends", hint="It was launched with `--max-life never`"
        )
    if end <= now:
        raise UsageError(
            f"Cannot extend a launch whose end has come, at {end:%Y-%m-%dT%H:%M:%SZ}",
            hint="Launch again, with a longer `--max-life`",
        )
    return datetime.fromtimestamp(end.timestamp() + by, timezone.utc)


def find_moved_end(store: Store, launch: str) -> int | None:
    """Return to when the newest wanted document has moved the end, as it says; None if nowhere.

    Machines check who signed it. This is for people to read, from anywhere.

    Raises:
        StoreError: the bucket cannot be read.
    """
    found = (_NUMBER.fullmatch(stat.key) for stat in store.list(f"launches/{launch}/wanted-"))
    number = max((int(match[1]) for match in found if match), default=0)
    try:
        data = store.read(key_wanted(launch, number), most=MOST) if number else None
        end = parse_json(data, "wanted document").get("end") if data else None
    except (DocumentError, MalformedError, AttributeError):
        return None
    return end if type(end) is int and 0 < end < _LAST else None
