"""How long, as people write it: `90s`, `15m`, `24h`, `7d`. Pure."""

from __future__ import annotations

import re

from envboot.errors import UsageError

_LONGEST = 7 * 86400
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str, *, longest: int = _LONGEST) -> int:
    """Return seconds of `90s`, `15m`, `24h` or `7d`; by default signed URLs set the longest.

    Raises:
        UsageError: it is none of them, or longer.
    """
    found = re.fullmatch(r"(\d+)([smhd])", text)
    if not found or not 0 < (seconds := int(found[1]) * _UNITS[found[2]]) <= longest:
        most = f"{longest // 86400}d"
        raise UsageError(f"Expected a duration of at most `{most}`, such as `24h`, found `{text}`")
    return seconds
