"""What is exported says what is in the manifest, and `--from` reads the same again."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envboot.errors import LockError
from envboot.lockfiles.writers import Export, export
from envboot.manifest import Base, CondaPackage, Python, Wheel
from tests.lockfiles.reading import read

if TYPE_CHECKING:
    from collections.abc import Callable

CONDA = "https://conda.anaconda.org/conda-forge"
FILES = "https://files.pythonhosted.org/packages/aa/bb"
NAMES = st.lists(st.from_regex(r"[a-z]{1,5}(-[a-z0-9]{1,4})?", fullmatch=True), unique=True)
PYTHON = CondaPackage(url=f"{CONDA}/linux-64/python-3.11.7-hab00c5b_0_cpython.conda", md5="0" * 32)


def make_base(wheels: tuple[Wheel, ...] = (), conda: tuple[CondaPackage, ...] = (PYTHON,)) -> Base:
    """A base with just these; tools and virtual packages are not exported."""
    return Base(
        platform="linux-64",
        python=Python(version="3.11.7", source="conda"),
        virtual_packages={"__glibc": "2.28"},
        conda=tuple(sorted(conda, key=lambda package: package.url.rpartition("/")[2])),
        wheels=wheels,
        tools={},
    )


def find_urls(base: Base) -> dict[str, str]:
    """Where PyPI would have the wheels."""
    return {
        wheel.sha256: f"{FILES}/{wheel.name.replace('-', '_')}-{wheel.version}-py3-none-any.whl"
        for wheel in base.wheels
    }


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()


@st.composite
def bases(draw: st.DrawFn) -> Base:
    """Any base that comes from conda: packages with either hash, wheels of PyPI and elsewhere."""
    wheels = []
    for name in sorted(draw(NAMES)):
        version = draw(st.sampled_from(["1.0", "2024.1.post1", "3.0rc1", "1.0+local.1"]))
        file = f"{name.replace('-', '_')}-{version.replace('+', '%2B')}-py3-none-any.whl"
        url = draw(st.sampled_from([None, f"https://wheels.test/w/{file}"]))
        wheels.append(Wheel(name=name, version=version, sha256=_hash(f"{name} wheel"), url=url))
    conda = [PYTHON]
    for name in draw(NAMES):
        subdir = draw(st.sampled_from(["linux-64", "noarch"]))
        hashes = {"sha256": _hash(name)} if draw(st.booleans()) else {"md5": _hash(name)[:32]}
        url = f"{CONDA}/{subdir}/{name}-1.2-h0_0.{draw(st.sampled_from(['conda', 'tar.bz2']))}"
        conda.append(CondaPackage(url=url, **hashes))
    return make_base(tuple(wheels), tuple(conda))


@settings(deadline=None, max_examples=30)
@given(base=bases())
def test_an_exported_pixi_lock_reads_as_the_same_packages(
    base: Base, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "pixi.lock"
    file.write_text(export(base, (), Export.PIXI, find_urls(base)).text)
    again = read(file).base
    assert {package.url: package for package in again.conda} == {
        package.url: package for package in base.conda
    }
    assert again.wheels == base.wheels
    assert again.python == base.python


@settings(deadline=None, max_examples=30)
@given(base=bases())
def test_an_exported_explicit_list_reads_as_the_same_conda_packages(
    base: Base, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "explicit.txt"
    file.write_text(export(base, (), Export.CONDA_EXPLICIT, {}).text)
    assert set(read(file).base.conda) == set(base.conda)


@settings(deadline=None, max_examples=30)
@given(base=bases().filter(lambda base: base.wheels))
def test_an_exported_pylock_reads_as_the_same_wheels(
    base: Base, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "pylock.toml"
    file.write_text(export(base, (), Export.PYLOCK, find_urls(base)).text)
    assert read(file).base.wheels == base.wheels


def test_the_formats_look_so(golden: Callable[[str, str], None]) -> None:
    wheels = (
        Wheel(name="demo", version="1.0", sha256="a" * 64),
        Wheel(name="ours", version="2.0", sha256="b" * 64, url="https://w.test/ours-2.0.whl"),
    )
    base = make_base(wheels)
    for kind in Export:
        golden(f"export-{kind.value}.txt", export(base, (), kind, find_urls(base)).text)


def test_what_a_format_cannot_hold_is_told() -> None:
    base = make_base((Wheel(name="demo", version="1.0", sha256="a" * 64),))
    file = PYTHON.url.rpartition("/")[2]
    for kind in (Export.PYLOCK, Export.REQUIREMENTS):
        assert export(base, ("mine",), kind, find_urls(base)).warnings == (
            f"`{kind.value}` holds no conda packages: `{file}` left out",
            f"`{kind.value}` holds nothing of this machine itself: `mine` left out",
        )
    (warning,) = export(base, (), Export.CONDA_EXPLICIT, {}).warnings
    assert warning == "`conda-explicit` holds no wheels: `demo` left out"
    assert export(base, (), Export.PIXI, find_urls(base)).warnings == ()


@pytest.mark.parametrize("kind", Export)
def test_a_file_that_would_hold_nothing_is_refused(kind: Export) -> None:
    wheels = (Wheel(name="demo", version="1.0", sha256="a" * 64),)
    only_conda, only_wheels = make_base(), replace(make_base(wheels), conda=())
    for_wheels = kind in (Export.PYLOCK, Export.REQUIREMENTS)
    with pytest.raises(LockError, match=f"Cannot export as `{kind.value}`"):
        export(only_conda if for_wheels else only_wheels, (), kind, find_urls(only_wheels))
