"""In what two bases differ, in words."""

from __future__ import annotations

from dataclasses import replace

from envboot.fleet.base_diff import compare_bases
from envboot.manifest import Base, CondaPackage, Python, Wheel


def wheel(name: str, version: str) -> Wheel:
    return Wheel(name=name, version=version, sha256="0" * 64)


OLD = Base(
    platform="linux-64",
    python=Python(version="3.11.7", source="conda"),
    virtual_packages={"__glibc": "2.28"},
    conda=(CondaPackage(url="https://c/linux-64/num-py-1.0-h1_0.conda", md5="0" * 32),),
    wheels=(wheel("a", "1"), wheel("b", "1"), wheel("c", "1")),
    tools={},
)


def test_packages_are_named_by_what_became_of_them() -> None:
    new = replace(
        OLD,
        conda=(CondaPackage(url="https://c/linux-64/num-py-1.0-h2_0.conda", md5="0" * 32),),
        wheels=(wheel("a", "1"), wheel("b", "2"), wheel("d", "1")),
        python=replace(OLD.python, version="3.11.8"),
    )
    assert compare_bases(OLD, new) == (
        "Packages added: `d 1`",
        "Packages removed: `c 1`",
        "Packages changed: `b 1 → 2`, `conda:num-py 1.0 h1_0 → 1.0 h2_0`",
        "Python: `3.11.7` → `3.11.8`",
    )


def test_ten_are_named_and_the_rest_is_counted() -> None:
    new = replace(OLD, wheels=(*OLD.wheels, *(wheel(f"p{i:02}", "1") for i in range(12))))
    [line] = compare_bases(OLD, new)
    assert line.endswith("`p09 1` and 2 more")


def test_the_same_versions_of_other_files_are_told_as_such() -> None:
    new = replace(OLD, wheels=tuple(replace(each, sha256="1" * 64) for each in OLD.wheels))
    assert compare_bases(OLD, new) == ("The same versions, of other files",)
