"""Which objects a bucket expires by their age, below one prefix. Pure."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from envboot.store.lifetimes import SHORT_LIVED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OURS = "envboot-"
"""What the IDs of our rules begin with; the prefix and a name follow."""

_UPLOADS = "uploads"


def make_rules(root: str, lives: Mapping[str, int | None]) -> list[dict[str, Any]]:
    """Return our rules: `lives` has the days for each folder below `root`, None for ever.

    In a bucket with versions an expired object stays as an older version, which is removed a day
    later; so is what a renewal leaves behind. What an upload in parts left goes after a day.
    """
    rules = [
        {
            "ID": _name(root, folder),
            "Filter": {"Prefix": f"{root}{folder}/"},
            "Status": "Enabled",
            "Expiration": {"Days": days},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 1},
        }
        for folder, days in lives.items()
        if days is not None
    ]
    uploads = {
        "ID": _name(root, _UPLOADS),
        "Filter": {"Prefix": root},
        "Status": "Enabled",
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
    }
    return [*rules, uploads]


def merge_rules(
    present: Sequence[Mapping[str, Any]], wanted: Sequence[Mapping[str, Any]], root: str
) -> list[dict[str, Any]]:
    """Return a bucket's rules with ours for `root` as wanted, and those of all others kept.

    S3 refuses rules of the old form (`Prefix` beside `ID`) together with those of the new one, so
    that the former are written in the latter, which means the same.
    """
    names = _names(root)
    others = [dict(rule) for rule in present if rule.get("ID") not in names]
    for rule in others:
        if "Prefix" in rule:
            rule["Filter"] = {"Prefix": rule.pop("Prefix")}
    return [*others, *map(dict, wanted)]


def find_differences(
    present: Sequence[Mapping[str, Any]], wanted: Sequence[Mapping[str, Any]], root: str
) -> list[str]:
    """Return the IDs of our rules for `root` that are missing, other than wanted, or too many."""
    names = _names(root)
    ours = {rule["ID"]: _comparable(rule) for rule in present if rule.get("ID") in names}
    should = {rule["ID"]: _comparable(rule) for rule in wanted}
    return sorted(name for name in ours | should if ours.get(name) != should.get(name))


def has_ours(present: Sequence[Mapping[str, Any]], root: str) -> bool:
    """Tell whether any rule is ours for `root`."""
    return any(rule.get("ID") in _names(root) for rule in present)


def find_expiry(rules: Sequence[Mapping[str, Any]], key: str) -> int | None:
    """Return after how many days the rules remove the object `key`, None if they never do.

    Rules that ask for tags or sizes besides are not ours and not meant for ours.
    """
    days = [
        rule["Expiration"]["Days"]
        for rule in rules
        if rule.get("Status") == "Enabled"
        and "Days" in rule.get("Expiration", {})
        and (prefix := _prefix(rule)) is not None
        and key.startswith(prefix)
    ]
    return min(days, default=None)


def _prefix(rule: Mapping[str, Any]) -> str | None:
    """Return the prefix that is all that a rule asks for, None if it asks for more."""
    if "Prefix" in rule:
        prefix: str = rule["Prefix"]
        return prefix
    asked = rule.get("Filter") or {}
    if set(asked) <= {"Prefix"}:
        return str(asked.get("Prefix", ""))
    return None


def _comparable(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Cut what services add of their own, as `ExpiredObjectDeleteMarker: false`."""
    expiry = rule.get("Expiration", {})
    return {
        "prefix": _prefix(rule),
        "status": rule.get("Status"),
        "days": expiry.get("Days"),
        "date": expiry.get("Date"),
        "noncurrent": rule.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays"),
        "uploads": rule.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation"),
    }


def _names(root: str) -> set[str]:
    return {_name(root, folder) for folder in (*SHORT_LIVED, "base", _UPLOADS)}


def _name(root: str, folder: str) -> str:
    """Return a rule's ID: at most 255 characters, and no two alike."""
    name = f"{OURS}{root}{folder}"
    if len(name) <= 255:
        return name
    return f"{OURS}{hashlib.sha256(root.encode()).hexdigest()[:16]}/{folder}"
