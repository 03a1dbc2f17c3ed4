"""The order of conda packages: micromamba installs a list as it stands."""

from __future__ import annotations

from dataclasses import replace

import pytest

from envboot.errors import LockError
from envboot.lock.conda_packages import lock_records, sort_dependencies_first
from tests.lock.documents import make_record


def names(*records: tuple[str, tuple[str, ...], tuple[str, ...]]) -> list[str]:
    made = [
        replace(make_record(name, "1.0"), depends=depends, after=after)
        for name, depends, after in records
    ]
    locked = [package.named.name for package in lock_records(made)]
    assert locked == [package.named.name for package in lock_records(made[::-1])]
    return locked


def test_every_package_comes_after_those_that_it_needs() -> None:
    found = names(
        ("a-plugin", ("zlib >=1.2,<2", "python 3.11.*"), ()),
        ("python", ("zlib", "openssl >=3"), ()),
        ("zlib", ("libgcc", "__glibc >=2.17"), ()),
        ("openssl", ("ca-certificates",), ()),
        ("libgcc", (), ()),
        ("ca-certificates", (), ()),
    )
    for earlier, later in (
        *(("libgcc", "zlib"), ("zlib", "python"), ("openssl", "python")),
        *(("ca-certificates", "openssl"), ("python", "a-plugin")),
    ):
        assert found.index(earlier) < found.index(later)


def test_python_comes_before_pip_although_each_needs_the_other() -> None:
    assert names(("pip", ("python >=3.9",), ()), ("python", ("pip",), ())) == ["python", "pip"]


def test_who_won_a_shared_file_comes_after_who_lost_it() -> None:
    assert names(("alpha", (), ("beta",)), ("beta", (), ())) == ["beta", "alpha"]
    assert names(("alpha", (), ()), ("beta", (), ("alpha",))) == ["alpha", "beta"]


def test_a_package_with_two_records_is_refused_by_name() -> None:
    records = [make_record("one", "1.0"), make_record("one", "2.0"), make_record("two", "1.0")]
    with pytest.raises(LockError, match="Found several records of `one`") as caught:
        lock_records(records)
    assert "1.0" in caught.value.causes[0]
    assert "2.0" in caught.value.causes[0]


def test_what_is_no_name_of_a_package_is_an_error_of_ours() -> None:
    with pytest.raises(LockError, match="Failed to sort conda packages"):
        sort_dependencies_first({"not a name!": ()})
