"""Which objects a Cloud Storage bucket deletes by their age, below one prefix. Pure.

Rules have no names there: ours are known by what they match.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envboot.store.lifetimes import SHORT_LIVED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Rule = dict[str, Any]


def make_rules(root: str, lives: Mapping[str, int | None]) -> list[Rule]:
    """Return our rules: `lives` has the days for each folder below `root`, None for ever.

    In a bucket with versions a deleted object stays as a noncurrent one, which is removed a day
    later, whatever its age is. What an upload in parts left needs no rule: resumable uploads end
    after a week by themselves.
    """
    rules = []
    for folder, days in lives.items():
        if days is not None:
            place = {"matchesPrefix": [f"{root}{folder}/"]}
            rules.append(_delete({"age": days, **place}))
            rules.append(_delete({"daysSinceNoncurrentTime": 1, **place}))
    return rules


def merge_rules(present: Sequence[Rule], wanted: Sequence[Rule], root: str) -> list[Rule]:
    """Return a bucket's rules with ours for `root` as wanted, and those of all others kept."""
    return [*(dict(rule) for rule in present if not _is_ours(rule, root)), *map(dict, wanted)]


def find_differences(present: Sequence[Rule], wanted: Sequence[Rule], root: str) -> list[str]:
    """Return the prefixes whose rules of ours are missing, other than wanted, or too many."""
    ours = [_comparable(rule) for rule in present if _is_ours(rule, root)]
    should = [_comparable(rule) for rule in wanted]
    other = [rule for rule in ours if rule not in should]
    return sorted({rule[0] for rule in [*other, *(r for r in should if r not in ours)]})


def has_ours(present: Sequence[Rule], root: str) -> bool:
    """Tell whether any rule is ours for `root`."""
    return any(_is_ours(rule, root) for rule in present)


def find_expiry(rules: Sequence[Mapping[str, Any]], key: str) -> int | None:
    """Return after how many days the rules delete the object `key`, None if they never do.

    Rules that ask for more than age and prefix are not ours and not meant for ours.
    """
    days = [
        rule["condition"]["age"]
        for rule in rules
        if rule.get("action", {}).get("type") == "Delete"
        and "age" in rule.get("condition", {})
        and rule["condition"].keys() <= {"age", "matchesPrefix", "isLive"}
        and any(key.startswith(prefix) for prefix in rule["condition"].get("matchesPrefix", [""]))
    ]
    return min(days, default=None)


def _delete(condition: Rule) -> Rule:
    return {"action": {"type": "Delete"}, "condition": condition}


def _is_ours(rule: Mapping[str, Any], root: str) -> bool:
    """Tell whether a rule is one that `make_rules` could have made for `root`."""
    condition = rule.get("condition", {})
    prefixes = [f"{root}{folder}/" for folder in (*SHORT_LIVED, "base")]
    return (
        rule.get("action") == {"type": "Delete"}
        and len(condition.get("matchesPrefix", ())) == 1
        and condition["matchesPrefix"][0] in prefixes
        and condition.keys() - {"matchesPrefix"} in ({"age"}, {"daysSinceNoncurrentTime"})
    )


def _comparable(rule: Mapping[str, Any]) -> tuple[str, int | None, int | None]:
    condition = rule["condition"]
    return (
        condition["matchesPrefix"][0],
        condition.get("age"),
        condition.get("daysSinceNoncurrentTime"),
    )
