"""What recorded environments of other machines become on Linux."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envboot.config import Settings
from envboot.errors import LockError
from envboot.lock import Locked, lock
from envboot.lock.comparison import render_plan
from envboot.lock.conda_solve import find_channels
from envboot.lock.target import Target
from envboot.manifest import Manifest
from envboot.scan.schema import parse_scan
from envboot.selection import Selection
from envboot.selection.apply import select
from tests.crossplatform.places import CONDA_FORGE, make_channel, make_index
from tests.index import serve_folder
from tests.lock.documents import make_record
from tests.sessions import make_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from envboot.lock.comparison import Row
    from envboot.scan.schema import Scan

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]
SCANS = Path(__file__).parent / "scans"
ENVIRONMENTS = sorted(file.stem for file in SCANS.glob("*.json"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Where the channel and the index are served, and what uv keeps of the index."""

    channel: str
    index: str
    cache: Path


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    folder = tmp_path_factory.mktemp("crossplatform")
    make_channel(folder / "channel")
    make_index(folder / "index")
    with serve_folder(folder / "channel") as channel, serve_folder(folder / "index") as index:
        yield Places(channel=channel, index=index, cache=folder / "uv")


@pytest.fixture(autouse=True)
def own_settings(places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_CACHE_DIR", str(places.cache))
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"{places.index}/simple")


def read(environment: str, places: Places) -> Scan:
    text = (SCANS / f"{environment}.json").read_text("utf-8")
    return parse_scan(text.replace(CONDA_FORGE, places.channel))


def plan(
    scan: Scan,
    places: Places,
    *,
    platform: str = "linux-64",
    cuda: str | None = None,
    selection: Selection = Selection(),  # noqa: B008
    dask: bool = False,
) -> tuple[Locked, tuple[Row, ...]]:
    """Select and lock, as every command does."""
    settings = Settings(channels=(places.channel,), torch_index=f"{places.index}/whl")
    target = Target(platform=platform, glibc="2.28", cuda=cuda, host_python=False)
    selected = select(scan, selection, settings=settings, target=target, dask=dask)
    locked = lock(
        selected.scan,
        make_session(cache=Path("cache").absolute(), settings=settings),
        target=target,
        fresh=True,
        add=selected.add,
        exact=selected.exact,
    )
    return locked, (*locked.rows, *selected.rows)


def versions(locked: Locked) -> dict[str, str]:
    """Everything that is there, by name."""
    names = [package.named for package in locked.base.conda]
    found = {each.name: each.version for each in names}
    found |= {wheel.name: wheel.version for wheel in locked.base.wheels}
    return found | {source.name: source.version for source in locked.sources}


def render(locked: Locked, rows: tuple[Row, ...]) -> str:
    """The table, and what the manifest has."""
    base = locked.base
    lines = [f"conda  {package.url.rpartition('/')[2]}" for package in base.conda]
    lines += [f"wheel  {wheel.name} {wheel.version}" for wheel in base.wheels]
    lines += [f"layer  {source.name} {source.version}" for source in locked.sources]
    return "\n".join([render_plan(rows, show_all=True), "", *lines]) + "\n"


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_each_package_is_accounted_for(
    places: Places, environment: str, golden: Callable[[str, str | bytes], None]
) -> None:
    scan = read(environment, places)
    locked, rows = plan(scan, places)
    golden(f"plan-{environment}.txt", render(locked, rows))
    here = {record.name for record in scan.conda}
    here |= {item.name for item in scan.distributions if not item.conda}
    assert here <= {row.name for row in rows}
    for row in rows:
        assert (row.status == "same") == (row.reason is None), row


def test_another_architecture_gets_its_own_builds(places: Places) -> None:
    locked, _ = plan(read("macos-arm64-conda", places), places, platform="linux-aarch64")
    assert locked.base.virtual_packages["__archspec"] == "aarch64"
    assert any("/linux-aarch64/numpy-" in package.url for package in locked.base.conda)
    assert [wheel.url for wheel in locked.base.wheels if wheel.name == "xgboost"] == [
        f"{places.index}/xgboost-2.0.3-cp311-cp311-manylinux_2_17_aarch64.whl"
    ]


def test_what_dask_needs_stays_exact(places: Places) -> None:
    scan = read("macos-arm64-conda", places)
    there = versions(plan(scan, places, dask=True)[0])
    assert (there["dask-core"], there["cloudpickle"], there["tornado"]) == (
        "2024.5.0",
        "3.0.0",
        "6.4.1",
    )
    moved = tuple(
        replace(record, version="6.4.0") if record.name == "tornado" else record
        for record in scan.conda
    )
    with pytest.raises(LockError, match=r"`tornado ==6\.4\.0`"):
        plan(replace(scan, conda=moved), places, dask=True)
    assert versions(plan(replace(scan, conda=moved), places)[0])["tornado"] == "6.4.2"


def test_the_same_request_gives_the_same_lock(places: Places) -> None:
    for environment in ("macos-arm64-conda", "windows-venv"):
        scan = read(environment, places)
        one, two = (plan(scan, places)[0] for _ in range(2))
        assert Manifest(base=one.base).to_bytes() == Manifest(base=two.base).to_bytes()


def test_every_conda_package_without_a_counterpart_is_named_at_once(places: Places) -> None:
    scan = read("windows-conda", places)
    more = (
        make_record("only-there", "1.2.3", url=f"{places.channel}/win-64/only-there-1.2.3-0.conda"),
        make_record("pandas-old", "0.9.1", url=f"{places.channel}/win-64/pandas-old-0.9.1-0.conda"),
    )
    wrong = replace(scan, conda=(*scan.conda, *more))
    with pytest.raises(LockError, match="2 conda packages") as caught:
        plan(wrong, places)
    assert "`only-there 1.2.*`, `pandas-old 0.9.*`" in caught.value.message
    assert "--ignore only-there" in (caught.value.hint or "")
    ignored = Selection(ignore=("only-there", "pandas-old"))
    assert "pandas" in versions(plan(wrong, places, selection=ignored)[0])


def test_every_package_of_an_index_without_a_counterpart_is_named_at_once(places: Places) -> None:
    scan = read("windows-venv", places)
    click, *_ = scan.distributions
    more = tuple(replace(click, name=name, requires=()) for name in ("mss-tools", "win-gui"))
    wrong = replace(scan, distributions=(*scan.distributions, *more))
    with pytest.raises(LockError, match="2 packages") as caught:
        plan(wrong, places)
    assert "`mss-tools==8.1.*`, `win-gui==8.1.*`" in caught.value.message
    assert "--ignore mss-tools" in (caught.value.hint or "")


def test_what_only_came_along_does_not_block(places: Places) -> None:
    scan = read("windows-venv", places)
    click, *_ = scan.distributions
    parent = replace(click, requires=("win-gui",))
    along = replace(click, name="win-gui", requires=())
    changed = replace(scan, distributions=(parent, along, *scan.distributions[1:]))
    _, rows = plan(changed, places)
    (row,) = [row for row in rows if row.name == "win-gui"]
    assert (row.status, row.there) == ("dropped", None)
    assert row.reason


def test_a_gpu_decides_what_there_is(places: Places) -> None:
    scan = read("macos-arm64-conda", places)
    url = f"{places.channel}/linux-64/gpu-solver-1.0.0-0.conda"
    wants = replace(scan, conda=(*scan.conda, make_record("gpu-solver", "1.0.0", url=url)))
    with pytest.raises(LockError, match="gpu-solver"):
        plan(wants, places)
    locked, _ = plan(wants, places, cuda="12.4")
    assert "gpu-solver" in versions(locked)
    assert locked.base.virtual_packages["__cuda"] == "12.4"


@pytest.mark.parametrize(("cuda", "build"), [(None, "cpu"), ("12.3", "cu121")])
def test_pytorchs_build_is_the_targets(places: Places, cuda: str | None, build: str) -> None:
    locked, _ = plan(read("macos-x86-64-venv", places), places, cuda=cuda)
    assert versions(locked)["torch"] == f"2.2.2+{build}"


def test_what_is_added_comes_along(places: Places) -> None:
    selection = Selection(add=("keyring>=25",))
    locked, rows = plan(read("macos-x86-64-venv", places), places, selection=selection)
    there = versions(locked)
    assert (there["keyring"], there["secretstorage"]) == ("25.2.1", "3.3.3")
    added = {row.name for row in rows if row.source == "added"}
    assert added == {"keyring"}


def test_no_channel_is_asked_that_the_user_did_not_use() -> None:
    main = "https://repo.anaconda.com/pkgs/main"
    records = (
        make_record("a", url=f"{CONDA_FORGE}/noarch/a-1.0-0.conda"),
        make_record("b", url=f"{CONDA_FORGE}/osx-64/b-1.0-0.conda"),
    )
    assert find_channels(records) == (CONDA_FORGE,)
    mixed = (*records, make_record("c", url=f"{main}/osx-64/c-1.0-0.conda"))
    assert find_channels(mixed) == (CONDA_FORGE, main)
