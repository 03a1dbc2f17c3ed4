"""Rules that a bucket removes old objects by, ours among those of others."""

from __future__ import annotations

from typing import Any

from envboot.store.s3.lifecycle import find_differences, find_expiry, make_rules, merge_rules

LIVES = {"layers": 1, "locks": 1, "reports": 1, "base": 90}
OTHER = {"ID": "theirs", "Filter": {"Prefix": "logs/"}, "Status": "Enabled"}
OURS = make_rules("team/one/", LIVES)


def test_rules_name_the_prefix_and_reach_nothing_else() -> None:
    assert [rule["ID"] for rule in OURS] == [
        "envboot-team/one/layers",
        "envboot-team/one/locks",
        "envboot-team/one/reports",
        "envboot-team/one/base",
        "envboot-team/one/uploads",
    ]
    assert find_expiry(OURS, "team/one/layers/x") == 1
    assert find_expiry(OURS, "team/one/base/x/env.tar.zst") == 90
    for key in ("layers/x", "team/two/layers/x", "team/one/environments/x", "team/one/tools/x"):
        assert find_expiry(OURS, key) is None
    for folder in ("names/team", "packages"):
        assert find_expiry(OURS, f"team/one/{folder}/x") is None


def test_a_base_that_lives_for_ever_has_no_rule() -> None:
    rules = make_rules("", LIVES | {"base": None})
    assert "envboot-base" not in [rule["ID"] for rule in rules]
    assert find_differences(make_rules("", LIVES), rules, "") == ["envboot-base"]
    assert merge_rules(make_rules("", LIVES), rules, "") == rules


def test_rules_of_others_and_of_other_prefixes_are_kept() -> None:
    elsewhere = make_rules("team/two/", LIVES)
    merged = merge_rules([OTHER, *elsewhere], OURS, "team/one/")
    assert merged == [OTHER, *elsewhere, *OURS]
    assert merge_rules(merged, OURS, "team/one/") == merged
    assert find_differences(merged, OURS, "team/one/") == []


def test_a_rule_of_the_old_form_is_written_in_the_new_one() -> None:
    # S3 refuses the two forms in one document.
    old = {"ID": "old", "Prefix": "tmp/", "Status": "Enabled", "Expiration": {"Days": 3}}
    merged = merge_rules([old], OURS, "team/one/")
    assert merged[0] == {
        "ID": "old",
        "Filter": {"Prefix": "tmp/"},
        "Status": "Enabled",
        "Expiration": {"Days": 3},
    }
    assert find_expiry([old], "tmp/x") == find_expiry(merged, "tmp/x") == 3


def test_what_services_add_is_no_difference_and_what_others_change_is() -> None:
    told: list[dict[str, Any]] = [dict(rule) for rule in OURS]
    told[0]["Expiration"] = {"Days": 1, "ExpiredObjectDeleteMarker": False}
    assert find_differences(told, OURS, "team/one/") == []
    told[1]["Status"] = "Disabled"
    del told[2]
    assert find_differences(told, OURS, "team/one/") == [
        "envboot-team/one/locks",
        "envboot-team/one/reports",
    ]


def test_a_rule_that_asks_for_more_or_is_off_expires_nothing_of_ours() -> None:
    expiry = {"Expiration": {"Days": 1}, "Status": "Enabled"}
    tagged = {**expiry, "Filter": {"And": {"Prefix": "", "Tags": [{"Key": "a", "Value": "b"}]}}}
    assert find_expiry([tagged], "layers/x") is None
    assert find_expiry([{**expiry, "Filter": {}, "Status": "Disabled"}], "layers/x") is None
    assert find_expiry([{**expiry, "Filter": {}}], "layers/x") == 1


def test_ids_of_long_prefixes_are_short_and_their_own() -> None:
    one, two = (make_rules(f"{'x' * 400}{end}/", LIVES) for end in "ab")
    assert max(len(rule["ID"]) for rule in one) <= 255
    assert not {rule["ID"] for rule in one} & {rule["ID"] for rule in two}
