"""The lock as a whole: what it keeps exact, what it refuses, and when it asks again."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from envboot.config import Settings
from envboot.errors import LockError
from envboot.lock import Locked, lock
from envboot.lock.cache import DAY
from envboot.lock.target import Target
from envboot.manifest import Manifest
from tests.index import make_wheel, serve_folder, write_simple
from tests.lock.documents import VERSION, make_distribution, make_record, make_scan, names
from tests.sessions import make_session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from envboot.scan.schema import CondaRecord, Scan

HOST = Target(platform="linux-64", glibc="2.28", host_python=True)
GUEST = Target(platform="linux-64", glibc="2.28", host_python=False)


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("UV_")]:
        monkeypatch.delenv(name)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_NO_CONFIG", "1")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "index"
    folder.mkdir()
    for name in ("demo", "other"):
        make_wheel(folder, name)
    write_simple(folder)
    with serve_folder(folder) as url:
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"{url}/simple")
        yield folder


def make_lock(
    scan: Scan,
    cache: Path,
    *,
    target: Target = HOST,
    fresh: bool = False,
    add: tuple[str, ...] = (),
    **settings: Any,
) -> Locked:
    session = make_session(cache=cache / "envboot", settings=Settings(**settings))
    return lock(scan, session, target=target, fresh=fresh, add=add)


def conda_records(*more: CondaRecord) -> tuple[CondaRecord, ...]:
    return (make_record("python", "3.11.7"), *more)


def test_a_conda_environment_keeps_its_packages_and_its_python(tmp_path: Path) -> None:
    scan = make_scan(make_distribution("numpy", conda="numpy"), conda=conda_records())
    base = make_lock(scan, tmp_path).base
    assert base.python.version == "3.11.7"
    assert base.python.source == "conda"
    assert base.python.executable is None
    assert list(base.tools) == ["micromamba"]
    assert not base.wheels


def test_the_target_is_written_as_virtual_packages(tmp_path: Path) -> None:
    base = make_lock(make_scan(conda=conda_records()), tmp_path).base
    assert base.virtual_packages["__glibc"] == "2.28"
    assert base.virtual_packages["__archspec"] == "x86_64"


def test_an_unknown_target_is_refused(tmp_path: Path) -> None:
    windows = Target(platform="win-64", glibc="2.28", host_python=False)
    with pytest.raises(LockError, match="`win-64`"):
        make_lock(make_scan(platform="win-64"), tmp_path, target=windows)


def test_another_interpreter_than_cpython_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LockError, match="PyPy"):
        make_lock(make_scan(implementation="PyPy"), tmp_path)


def test_the_interpreter_of_the_host_is_named_without_links(tmp_path: Path) -> None:
    base = make_lock(make_scan(), tmp_path).base
    assert base.python.source == "host"
    assert base.python.executable == os.path.realpath(sys.executable)
    assert list(base.tools) == ["uv"]


def test_what_was_built_from_something_that_is_gone_is_never_looked_up(tmp_path: Path) -> None:
    gone = {"url": (tmp_path / "gone").as_uri(), "dir_info": {}}
    with pytest.raises(LockError, match="Cannot bring 1 package: `secret-tool`") as caught:
        make_lock(make_scan(make_distribution("secret-tool", direct_url=gone)), tmp_path)
    assert "gone" in caught.value.causes[0]
    assert "--ignore NAME" in (caught.value.hint or "")


def test_projects_of_this_machine_are_left_to_the_layer(tmp_path: Path) -> None:
    project = {"url": tmp_path.as_uri(), "dir_info": {"editable": True}}
    locked = make_lock(make_scan(make_distribution("mine", direct_url=project)), tmp_path)
    assert names(locked.sources) == ["mine"]
    assert not locked.base.wheels


def test_an_edit_of_a_project_leaves_the_base_digest(tmp_path: Path) -> None:
    direct = {"url": tmp_path.as_uri(), "dir_info": {"editable": True}}
    one = make_lock(make_scan(make_distribution("mine", "1.0", direct_url=direct)), tmp_path)
    two = make_lock(make_scan(make_distribution("mine", "2.0", direct_url=direct)), tmp_path)
    assert one.sources != two.sources
    assert Manifest(base=one.base).base_digest == Manifest(base=two.base).base_digest


@pytest.mark.subprocess
@pytest.mark.sockets
def test_a_wheel_brings_uv_and_nothing_else(index: Path, tmp_path: Path) -> None:
    base = make_lock(make_scan(make_distribution("demo")), tmp_path).base
    assert [wheel.name for wheel in base.wheels] == ["demo"]
    assert list(base.tools) == ["uv"]


@pytest.mark.subprocess
@pytest.mark.sockets
def test_a_plan_says_that_what_was_edited_in_place_is_replaced(index: Path, tmp_path: Path) -> None:
    project = {"url": tmp_path.as_uri(), "dir_info": {}}
    edited = make_distribution("demo"), make_distribution("mine", direct_url=project)
    found = [replace(item, record="drifted") for item in edited]
    locked = make_lock(make_scan(*found, make_distribution("other")), tmp_path)
    rows = {row.name: (row.here, row.there, row.status, row.reason) for row in locked.rows}
    said = "edited here since its installation: "
    assert rows["demo"] == ("1.0", "1.0", "replaced", f"{said}the index's files go")
    assert rows["mine"] == ("1.0", "1.0", "replaced", f"{said}what it was installed from goes")
    assert rows["other"] == ("1.0", "1.0", "same", None)


@pytest.mark.subprocess
@pytest.mark.sockets
def test_a_package_that_is_listed_twice_is_locked_once(index: Path, tmp_path: Path) -> None:
    shadowed = make_distribution("demo", "0.1")
    base = make_lock(make_scan(make_distribution("demo"), shadowed), tmp_path).base
    assert [wheel.version for wheel in base.wheels] == ["1.0"]


@pytest.mark.subprocess
@pytest.mark.sockets
def test_what_pip_wrote_over_conda_is_reported(index: Path, tmp_path: Path) -> None:
    scan = make_scan(make_distribution("demo"), conda=conda_records(make_record("demo", "0.9")))
    locked = make_lock(scan, tmp_path)
    assert "conda's 0.9 is overwritten by 1.0" in locked.notes[0].message
    assert sorted(locked.base.tools) == ["micromamba", "uv"]


@pytest.mark.subprocess
@pytest.mark.sockets
def test_the_order_in_the_scan_does_not_matter(index: Path, tmp_path: Path) -> None:
    one, two = make_distribution("demo"), make_distribution("other")
    first = make_lock(make_scan(one, two), tmp_path).base
    second = make_lock(make_scan(two, one), tmp_path).base
    assert Manifest(base=first).to_bytes() == Manifest(base=second).to_bytes()


@pytest.mark.subprocess
@pytest.mark.sockets
def test_the_same_request_is_answered_without_uv(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = make_scan(make_distribution("demo"))
    first = make_lock(scan, tmp_path)
    for file in index.glob("**/*.*"):
        file.unlink()
    # Whatever starts a process now has to say so.
    monkeypatch.setattr("envboot.process.run", None)
    assert make_lock(scan, tmp_path) == first
    with pytest.raises(TypeError):
        make_lock(scan, tmp_path, fresh=True)


@pytest.mark.subprocess
@pytest.mark.sockets
def test_an_answer_is_kept_for_a_day_only(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = make_scan(make_distribution("demo"))
    make_lock(scan, tmp_path)
    (kept,) = (tmp_path / "envboot" / "locks").glob("*.json")
    yesterday = time.time() - DAY - 1
    os.utime(kept, (yesterday, yesterday))
    monkeypatch.setattr("envboot.process.run", None)
    with pytest.raises(TypeError):
        make_lock(scan, tmp_path)


@pytest.mark.subprocess
@pytest.mark.sockets
@pytest.mark.parametrize(
    "change", ["target", "settings", "variable", "uv.toml", "pyproject.toml", "scan"]
)
def test_whatever_decides_the_answer_asks_again(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    scan, target = make_scan(make_distribution("demo")), HOST
    settings: dict[str, Any] = {}
    monkeypatch.delenv("UV_NO_CONFIG")
    make_lock(scan, tmp_path)
    work = tmp_path / "work"
    if change == "target":
        target = Target(platform="linux-64", glibc="2.17", host_python=True)
    elif change == "settings":
        settings = {"channels": ("other",)}
    elif change == "variable":
        monkeypatch.setenv("UV_EXTRA_INDEX_URL", os.environ["UV_DEFAULT_INDEX"])
    elif change == "uv.toml":
        (work / "uv.toml").write_text('index-strategy = "unsafe-best-match"\n')
    elif change == "pyproject.toml":
        (work / "pyproject.toml").write_text('[tool.uv]\nindex-strategy = "first-index"\n')
    else:
        scan = make_scan(make_distribution("demo"), make_distribution("other"))
    make_lock(scan, tmp_path, target=target, **settings)
    assert len(list((tmp_path / "envboot" / "locks").glob("*.json"))) == 2


@pytest.mark.subprocess
@pytest.mark.sockets
def test_a_kept_answer_that_is_torn_is_asked_again(index: Path, tmp_path: Path) -> None:
    scan = make_scan(make_distribution("demo"))
    first = make_lock(scan, tmp_path)
    (kept,) = (tmp_path / "envboot" / "locks").glob("*.json")
    kept.write_text('{"manifest": {')
    assert make_lock(scan, tmp_path) == first


@pytest.mark.sockets
def test_an_environment_that_is_not_condas_gets_its_python_from_a_channel(tmp_path: Path) -> None:
    import asyncio

    from rattler.index import index_fs

    from tests.package import write_package

    folder = tmp_path / "channel" / "linux-64"
    folder.mkdir(parents=True)
    (tmp_path / "channel" / "noarch").mkdir()
    write_package(folder, "python", VERSION, "0", [])
    asyncio.run(index_fs(tmp_path / "channel"))
    with serve_folder(tmp_path / "channel") as url:
        locked = make_lock(make_scan(), tmp_path, target=GUEST, channels=(url,))
    assert locked.base.python.version == VERSION
    assert locked.base.python.source == "conda"
    assert [package.url for package in locked.base.conda] == [
        f"{url}/linux-64/python-{VERSION}-0.conda"
    ]
    assert list(locked.base.tools) == ["micromamba"]
    # The channel is gone; another package must not ask for another interpreter.
    other = make_scan(make_distribution("mine", direct_url={"url": tmp_path.as_uri()}))
    again = make_lock(other, tmp_path, target=GUEST, channels=(url,))
    assert again.base == locked.base


@pytest.mark.subprocess
@pytest.mark.sockets
def test_what_is_added_fits_what_is_here(index: Path, tmp_path: Path) -> None:
    for version in ("1.0", "2.0"):
        make_wheel(index, "low", version, requires=(f"demo=={version}",))
    make_wheel(index, "demo", "2.0")
    make_wheel(index, "helper")
    make_wheel(index, "high", requires=("helper",))
    write_simple(index)
    scan = make_scan(make_distribution("demo"))
    locked = make_lock(scan, tmp_path, add=("low", "high"))
    assert {wheel.name: wheel.version for wheel in locked.base.wheels} == {
        "demo": "1.0",
        "helper": "1.0",
        "high": "1.0",
        "low": "1.0",
    }
    assert {row.name: (row.source, row.status) for row in locked.rows} == {
        "demo": ("pypi", "same"),
        "helper": ("pypi", "added"),
        "high": ("added", "added"),
        "low": ("added", "added"),
    }
    with pytest.raises(LockError, match="`low==2`") as caught:
        make_lock(scan, tmp_path, add=("low==2", "high"))
    assert "`high`" not in caught.value.message
    assert "beside what is here" in caught.value.message


@pytest.mark.subprocess
@pytest.mark.sockets
def test_a_machine_with_a_gpu_has_another_base(index: Path, tmp_path: Path) -> None:
    gpu = Target(platform="linux-64", glibc="2.28", cuda="12.4", host_python=True)
    scan = make_scan(make_distribution("demo"))
    base = make_lock(scan, tmp_path, target=gpu).base
    assert base.virtual_packages["__cuda"] == "12.4"
    assert "__cuda" not in make_lock(scan, tmp_path).base.virtual_packages
