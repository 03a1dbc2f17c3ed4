"""`pylock.toml` and `uv.lock`, as pip and uv wrote them."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from packaging.specifiers import SpecifierSet

from envboot.errors import LockError
from envboot.lockfiles.interpreters import choose_python, find_builder
from envboot.manifest import Python
from tests.lock.documents import MINOR, VERSION
from tests.lockfiles.reading import DATA, SHA, make_request, names, pins, read
from tests.sessions import make_session

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://files.pythonhosted.org/packages"


def write(folder: Path, *packages: str, head: str = "") -> Path:
    """Write a PEP 751 document of these entries."""
    file = folder / "pylock.toml"
    entries = "".join(f"\n[[packages]]\n{package}\n" for package in packages)
    file.write_text(f'lock-version = "1.0"\ncreated-by = "tests"\n{head}\n{entries}')
    return file


def entry(name: str, *tags: str, more: str = "", host: str = URL) -> str:
    """An entry of version 1.0 with a wheel for each tag."""
    module = name.replace("-", "_")
    wheels = ", ".join(
        f'{{ url = "{host}/{module}-1.0-{tag}.whl", hashes = {{ sha256 = "{SHA}" }} }}'
        for tag in tags
    )
    return f'name = "{name}"\nversion = "1.0"\nwheels = [{wheels}]\n{more}'


def test_what_pip_locked_is_taken_as_it_is() -> None:
    locked = read("pylock.pip.toml")
    assert pins(locked) == ["colorama==0.4.6", "idna==3.10", "tornado==6.4.2"]
    # Of PyPI's files the hash is enough.
    assert {wheel.url for wheel in locked.base.wheels} == {None}
    assert locked.base.wheels[1].sha256.startswith("946d195a0d259cbba61165e88e65941f")


def test_what_uv_exported_has_the_wheel_of_the_target(tmp_path: Path) -> None:
    for file in ("pylock.uv.toml", "project"):
        source = DATA / file
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        copy(source, tmp_path / file)
    (tmp_path / "pylock.uv.toml").rename(tmp_path / "pylock.toml")
    arm = read(tmp_path / "pylock.toml", platform="linux-aarch64")
    assert pins(arm) == ["idna==3.10", "iniconfig==2.0.0", "tabulate==0.9.0", "tornado==6.4.2"]
    intel = read(tmp_path / "pylock.toml")
    assert intel.base.wheels[3].sha256.startswith("bca9eb02196e789c9cb5c3c7c0f04fb4")
    assert arm.base.wheels[3].sha256 != intel.base.wheels[3].sha256
    assert [source.path for source in intel.sources] == [
        str(tmp_path / "project" / "member"),
        str(tmp_path / "project"),
    ]
    assert all(source.editable for source in intel.sources)


def test_markers_are_those_of_the_target(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        entry("mac", "py3-none-any", more="marker = \"sys_platform == 'darwin'\""),
        entry("arm", "py3-none-any", more="marker = \"platform_machine == 'aarch64'\""),
        entry("old", "py3-none-any", more="marker = \"python_version < '3.11'\""),
        entry("linux", "py3-none-any", more="marker = \"platform_system == 'Linux'\""),
    )
    assert pins(read(file)) == ["linux==1.0"]
    assert pins(read(file, platform="linux-aarch64")) == ["arm==1.0", "linux==1.0"]
    assert pins(read(file, version="3.10.4")) == ["linux==1.0", "old==1.0"]


def test_groups_and_extras_are_named_behind_the_file(tmp_path: Path) -> None:
    head = 'extras = ["fast"]\ndependency-groups = ["dev", "docs"]\ndefault-groups = ["dev"]'
    file = write(
        tmp_path,
        entry("base", "py3-none-any"),
        entry("fast", "py3-none-any", more="marker = \"'fast' in extras\""),
        entry("dev", "py3-none-any", more="marker = \"'dev' in dependency_groups\""),
        entry("docs", "py3-none-any", more="marker = \"'docs' in dependency_groups\""),
        head=head,
    )
    assert pins(read(file)) == ["base==1.0", "dev==1.0"]
    assert pins(read(f"{file}#docs,fast")) == ["base==1.0", "dev==1.0", "docs==1.0", "fast==1.0"]
    with pytest.raises(LockError) as error:
        read(f"{file}#dosc")
    assert error.value.message == f"Cannot find `dosc` in `{file}`"
    assert error.value.causes == ("It has `dev`, `docs`, `fast`",)


def test_the_platform_must_be_in_the_lock(tmp_path: Path) -> None:
    head = "environments = [\"sys_platform == 'win32'\"]"
    with pytest.raises(LockError, match="is not locked for `linux-64`") as error:
        read(write(tmp_path, entry("demo", "py3-none-any"), head=head))
    assert error.value.causes == ('Its platforms are `sys_platform == "win32"`',)


def test_every_package_without_a_file_for_the_target_is_named(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        entry("mac-only", "cp311-cp311-macosx_11_0_arm64"),
        entry("fine", "py3-none-any"),
        entry("too-new", "cp311-cp311-manylinux_2_39_x86_64"),
        'name = "weak"\nversion = "1.0"\nwheels = [{ url = "https://x.test/weak-1.0-py3-none-any'
        '.whl", hashes = { md5 = "aa" } }]',
        'name = "hg"\nvcs = { type = "hg", url = "https://x.test/hg", commit-id = "1" }',
        'name = "gone"\ndirectory = { path = "nowhere" }',
    )
    with pytest.raises(LockError) as error:
        read(file)
    assert error.value.message.startswith(f"Cannot bring 5 packages of `{file}` to `linux-64`")
    assert error.value.causes == (
        "`mac-only`: the target can run none of `mac_only-1.0-cp311-cp311-macosx_11_0_arm64.whl`",
        "`too-new`: the target can run none of `too_new-1.0-cp311-cp311-manylinux_2_39_x86_64.whl`",
        "`weak`: `weak-1.0-py3-none-any.whl` has no sha256",
        "`hg`: is in `hg`, and only git is known",
        f"`gone`: `{tmp_path}/nowhere` was not found",
    )


def test_git_and_other_hosts_keep_no_credentials(tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    file = write(
        tmp_path,
        entry("here", "py3-none-any", host="https://files.test/w"),
        'name = "ours"\nvcs = { type = "git", url = "https://user:hunter2@git.test/ours.git", '
        f'commit-id = "{commit}", subdirectory = "python" }}',
    )
    locked = read(file)
    assert locked.base.wheels[0].url == "https://files.test/w/here-1.0-py3-none-any.whl"
    (ours,) = locked.sources
    assert (ours.git, ours.commit) == ("https://git.test/ours.git", commit)
    assert ours.subdirectory == "python"
    assert "hunter2" not in repr(locked)


def test_a_wheel_beside_the_lock_goes_into_the_layer_if_its_hash_is_right(
    tmp_path: Path,
) -> None:
    wheel = tmp_path / "wheels" / "mine-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    text = 'name = "mine"\nversion = "1.0"\nwheels = [{ path = "wheels/mine-1.0-py3-none-any.whl"'
    locked = read(write(tmp_path, f'{text}, hashes = {{ sha256 = "{empty}" }} }}]'))
    assert (names(locked), pins(locked)) == (["mine"], [])
    with pytest.raises(LockError) as error:
        read(write(tmp_path, f'{text}, hashes = {{ sha256 = "{SHA}" }} }}]'))
    assert error.value.causes == (f"`mine`: `{wheel}` has sha256 `{empty}`, and `{SHA}` is locked",)


def test_two_packages_of_one_name_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path, entry("demo", "py3-none-any"), entry("demo", "py3-none-any"))
    with pytest.raises(LockError) as error:
        read(file)
    assert error.value.causes == ("`demo` is there as 1.0 and 1.0 for the same machine",)


class TestPython:
    """Which Python a lock is for."""

    def test_it_is_the_active_one_where_the_lock_takes_it(self, tmp_path: Path) -> None:
        file = write(tmp_path, entry("demo", "py3-none-any"), head='requires-python = ">=3.10"')
        assert read(file, version="3.12.3").base.python.version == "3.12.3"

    @pytest.mark.subprocess
    def test_it_is_refused_where_none_here_fits(self, tmp_path: Path) -> None:
        file = write(tmp_path, entry("demo", "py3-none-any"), head='requires-python = ">=3.97"')
        with pytest.raises(LockError) as error:
            read(file)
        assert error.value.message == f"`{file}` wants Python `>=3.97`, found CPython 3.11.7"
        assert "--python" in (error.value.hint or "")

    def test_an_exact_one_counts_whatever_is_here(self) -> None:
        request = make_request(host_python=False)
        exact = choose_python(request, SpecifierSet("==3.12.4"))
        assert exact == Python(version="3.12.4", source="conda")

    @pytest.mark.subprocess
    def test_one_that_is_no_cpython_does_not_count(self) -> None:
        request = make_request(implementation="PyPy")
        with pytest.raises(LockError, match=r"wants Python `>=3\.97`, found PyPy 3\.11\.7"):
            choose_python(request, SpecifierSet(">=3.97"))
        python = Python(version="3.97.7", source="conda")
        with pytest.raises(LockError, match=r"for Python 3\.97: found PyPy 3\.11\.7"):
            find_builder(python, request.interpreter, request.session)

    @pytest.mark.subprocess
    @pytest.mark.parametrize("quiet", [{}, {"UV_PYTHON_DOWNLOADS": "never"}])
    def test_another_one_of_this_machine_is_found(
        self, quiet: dict[str, str], tmp_path: Path
    ) -> None:
        """uv itself looks, on a PATH that has nothing but that interpreter."""
        real = os.path.realpath(sys.executable)
        program = tmp_path / "bin" / f"python{MINOR}"
        program.parent.mkdir()
        program.symlink_to(real)
        variables = {"PATH": str(program.parent), "HOME": str(tmp_path), **quiet}
        session = make_session(cache=tmp_path, folder=tmp_path, environment=variables)
        request = replace(make_request(implementation="PyPy"), session=session)
        found = choose_python(request, SpecifierSet(f"=={MINOR}.*"))
        assert (found.version, found.executable) == (VERSION, real)
        python = Python(version=VERSION, source="conda")
        builder = find_builder(python, request.interpreter, session)
        assert os.path.realpath(builder) == real


@pytest.mark.subprocess
class TestUvLock:
    """uv's own lock, through uv itself."""

    def test_the_default_groups_and_the_workspace_come(self) -> None:
        locked = read("project/uv.lock")
        assert pins(locked) == ["idna==3.10", "iniconfig==2.0.0"]
        assert names(locked) == ["member", "rootp"]
        # Its version is in its code: the build says it.
        assert locked.sources[0].version == ""

    def test_extras_and_groups_are_named_behind_the_file(self) -> None:
        more = pins(read("project/uv.lock#fast, docs"))[2:]
        assert more == ["tabulate==0.9.0", "tornado==6.4.2"]
        with pytest.raises(LockError) as error:
            read("project/uv.lock#slow")
        assert error.value.causes == ("It has `dev`, `docs`, `fast`",)

    def test_it_needs_its_project(self, tmp_path: Path) -> None:
        shutil.copyfile(DATA / "project" / "uv.lock", tmp_path / "uv.lock")
        with pytest.raises(LockError) as error:
            read(tmp_path / "uv.lock")
        assert "uv export" in (error.value.hint or "")
