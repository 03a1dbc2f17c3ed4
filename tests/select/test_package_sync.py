"""The arguments that Coiled's users know, and what they demand."""

from __future__ import annotations

from typing import Any

import pytest

from envboot.errors import LockError, UsageError
from envboot.lock.comparison import Row
from envboot.manifest import Base, Manifest, Python
from envboot.package_sync import FailOn, refuse_differences, selection_from
from envboot.prepare import Prepared
from envboot.scan.schema import Problem
from envboot.selection import Selection

MANIFEST = Manifest(
    base=Base(
        platform="linux-64",
        python=Python(version="3.11.7", source="conda"),
        virtual_packages={},
        tools={},
    )
)
ROWS = (
    Row(name="same", source="pypi", here="1", there="1", status="same"),
    Row(name="new", source="added", there="1", status="added"),
    Row(name="left", source="pypi", here="1", status="dropped", reason="ignored"),
    Row(name="unused", source="conda", here="1", status="dropped", reason="not needed"),
)
PATCH = Row(name="near", source="conda", here="1.2.3", there="1.2.4", status="patch")
OTHER = Row(name="far", source="conda", here="1.2", there="2.0", status="replaced", reason="why")
GONE = Row(name="Mac_Only", source="pypi", here="1", status="dropped", reason="of macOS")


def prepare(*rows: Row, notes: tuple[Problem, ...] = ()) -> Prepared:
    return Prepared(scan=None, manifest=MANIFEST, layer=None, notes=notes, rows=(*ROWS, *rows))


def test_without_arguments_the_whole_environment_goes() -> None:
    assert selection_from() == Selection()
    assert selection_from(package_sync=True) == Selection()


@pytest.mark.parametrize(
    "given",
    [["a", "b"], ("a", "b"), {"b", "a"}, frozenset("ba"), "a, b", "a,b"],
    ids=["list", "tuple", "set", "frozenset", "text", "text-without-space"],
)
def test_names_are_taken_however_they_are_given(given: Any) -> None:
    assert selection_from(package_sync_ignore=given) == Selection(ignore=("a", "b"))
    assert selection_from(package_sync_only=given) == Selection(only=("a", "b"))
    assert selection_from(package_sync=given) == Selection(only=("a", "b"))


def test_every_argument_has_its_place() -> None:
    assert selection_from(
        package_sync=["a"],
        package_sync_ignore="b",
        package_sync_only=["python", "c"],
        package_sync_conda_extras="cupy>=12,<13",
        package_sync_strict=True,
        package_sync_fail_on="any",
        package_sync_use_uv_installer=True,
        platform="linux-aarch64",
        cuda="12.4",
    ) == Selection(
        only=("a", "c"), ignore=("b",), add=("cupy>=12,<13",), platform="linux-aarch64", cuda="12.4"
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"package_sync": False}, "without an environment the machines have nothing"),
        ({"package_sync_use_uv_installer": False}, "machines install wheels with uv"),
        (
            {"package_sync_ignore": 3},
            "Expected `package_sync_ignore` as a list of names, found `3`",
        ),
        ({"package_sync_only": ["a", None]}, "Expected `package_sync_only` as a list of names"),
        ({"package_sync_conda_extras": ["git+https://x"]}, "Expected requirements to add"),
        ({"package_sync_strict": "no"}, "Expected `package_sync_strict` as True or False"),
        (
            {"package_sync_fail_on": "critical"},
            "one of `critical-only`, `warning-or-higher`, `any`, found `'critical'`",
        ),
    ],
)
def test_what_has_no_meaning_is_refused_with_the_reason(given: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        selection_from(**given)
    assert says in caught.value.message


def test_what_the_user_left_out_or_added_is_no_difference() -> None:
    notes = (Problem(subject="left", message="is needed"),)
    refuse_differences(prepare(notes=notes), strict=True, fail_on="any")


@pytest.mark.parametrize("row", [PATCH, OTHER, GONE], ids=["patch", "replaced", "dropped"])
def test_strict_wants_every_package_in_exactly_its_version(row: Row) -> None:
    refuse_differences(prepare(row))
    with pytest.raises(LockError) as caught:
        refuse_differences(prepare(row), strict=True)
    assert caught.value.message == (f"Cannot bring 1 package exactly as installed: `{row.name}`")


def test_strict_names_each_with_both_versions_and_the_reason() -> None:
    many = [
        Row(name=f"p{number:02}", source="pypi", here="1", there="2", status="replaced")
        for number in range(12)
    ]
    with pytest.raises(LockError) as caught:
        refuse_differences(prepare(OTHER, GONE, *many), strict=True)
    assert caught.value.message.startswith("Cannot bring 14 packages exactly as installed")
    assert caught.value.causes[:3] == (
        "`far`: 1.2 here, 2.0 there (why)",
        "`Mac_Only`: 1 here, stays here (of macOS)",
        "`p00`: 1 here, 2 there",
    )
    assert caught.value.causes[-1] == "and 4 more"
    assert "`package_sync_ignore`" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("rows", "subject", "fails"),
    [
        ((), None, set()),
        ((PATCH,), None, {FailOn.ANY}),
        ((OTHER,), None, {FailOn.ANY, FailOn.WARNING}),
        ((GONE,), None, {FailOn.ANY, FailOn.WARNING}),
        ((), "same", {FailOn.ANY, FailOn.WARNING}),
        ((), "/home/me/secret.py", {FailOn.ANY}),
    ],
    ids=["nothing", "patch", "replaced", "dropped", "a-note-on-a-package", "another-note"],
)
def test_each_level_refuses_what_it_says(
    rows: tuple[Row, ...], subject: str | None, fails: set[FailOn]
) -> None:
    notes = (Problem(subject=subject, message="Something"),) if subject else ()
    for level in FailOn:
        if level not in fails:
            refuse_differences(prepare(*rows, notes=notes), fail_on=level)
            continue
        with pytest.raises(LockError) as caught:
            refuse_differences(prepare(*rows, notes=notes), fail_on=level)
        assert caught.value.message == (
            f"Cannot bring everything as it is: `{subject or rows[0].name}`"
        )
        assert f'`package_sync_fail_on="{level.value}"`' in (caught.value.hint or "")
