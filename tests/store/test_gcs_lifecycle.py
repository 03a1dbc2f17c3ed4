"""Which rules a Cloud Storage bucket gets, and which objects rules delete."""

from __future__ import annotations

from typing import Any

import pytest

from envboot.store.gcs.lifecycle import (
    find_differences,
    find_expiry,
    has_ours,
    make_rules,
    merge_rules,
)

LIVES: dict[str, int | None] = {"layers": 1, "base": 90}
DELETE = {"type": "Delete"}


def rule(action: dict[str, Any] | None = None, **condition: Any) -> dict[str, Any]:
    return {"action": action or DELETE, "condition": condition}


def test_what_is_deleted_goes_with_its_older_versions() -> None:
    assert make_rules("team/", {"layers": 2, "base": None}) == [
        rule(age=2, matchesPrefix=["team/layers/"]),
        rule(daysSinceNoncurrentTime=1, matchesPrefix=["team/layers/"]),
    ]


def test_merging_twice_is_merging_once() -> None:
    others = [rule(age=1), rule({"type": "AbortIncompleteMultipartUpload"}, age=1)]
    wanted = make_rules("team/", LIVES)
    once = merge_rules(others, wanted, "team/")
    assert once == [*others, *wanted]
    assert merge_rules(once, wanted, "team/") == once
    assert find_differences(once, wanted, "team/") == []


@pytest.mark.parametrize(
    "theirs",
    [
        rule(age=1, matchesPrefix=["team/layers/", "other/"]),
        rule(age=1, matchesPrefix=["team/layers/"], matchesSuffix=[".tmp"]),
        rule(age=1, matchesPrefix=["other/layers/"]),
        rule({"type": "SetStorageClass", "storageClass": "COLDLINE"}, age=1),
        rule(numNewerVersions=3, matchesPrefix=["team/base/"]),
    ],
)
def test_a_rule_that_is_not_ours_is_kept(theirs: dict[str, Any]) -> None:
    assert not has_ours([theirs], "team/")
    assert merge_rules([theirs], [], "team/") == [theirs]


def test_a_changed_rule_is_told_by_its_prefix() -> None:
    wanted = make_rules("team/", LIVES)
    present = make_rules("team/", {**LIVES, "base": 30, "reports": 1})
    assert find_differences(present, wanted, "team/") == ["team/base/", "team/reports/"]


@pytest.mark.parametrize(
    ("found", "days"),
    [
        (rule(age=3, matchesPrefix=["a/base/"]), 3),
        (rule(age=3, matchesPrefix=["b/", "a/"]), 3),
        (rule(age=3), 3),
        (rule(age=3, isLive=True), 3),
        (rule(age=3, matchesPrefix=["b/"]), None),
        (rule(age=3, matchesStorageClass=["ARCHIVE"]), None),
        (rule({"type": "SetStorageClass", "storageClass": "NEARLINE"}, age=3), None),
        (rule(daysSinceNoncurrentTime=1), None),
    ],
)
def test_an_object_ends_by_the_rules_that_match_it(found: dict[str, Any], days: int | None) -> None:
    assert find_expiry([rule(age=90), found], "a/base/key") == (days or 90)
    assert find_expiry([found], "a/base/key") == days
