"""Cache and state directories: nobody else may enter them, whatever was there before."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from envboot.cli import cli, run
from envboot.errors import UsageError
from envboot.folders import ensure_private
from envboot.session import open_session
from envboot.store.local.store import LocalStore

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    found = tmp_path / "deep/cache", tmp_path / "state"
    for name, path in zip(("CACHE", "STATE"), found, strict=True):
        monkeypatch.setenv(f"ENVBOOT_{name}_DIR", str(path))
    monkeypatch.chdir(tmp_path)
    return found


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mask", [0, 0o022, 0o077])
def test_directories_are_made_closed_under_any_umask(places: tuple[Path, Path], mask: int) -> None:
    before = os.umask(mask)
    try:
        open_session()
    finally:
        os.umask(before)
    assert [mode(place) for place in places] == [0o700, 0o700]


def test_a_directory_of_ours_that_others_may_enter_is_closed(places: tuple[Path, Path]) -> None:
    for place in places:
        place.mkdir(parents=True)
        place.chmod(0o777)
    assert run(cli, ["ls"], "envboot") == 0
    assert [mode(place) for place in places] == [0o700, 0o700]


def test_a_link_to_a_directory_of_ours_is_followed(
    places: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "large-disk").mkdir(mode=0o755)
    places[1].symlink_to(tmp_path / "large-disk")
    open_session()
    assert mode(tmp_path / "large-disk") == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="wants root, to give a directory away")
def test_a_directory_of_somebody_else_is_refused(
    places: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    places[1].mkdir()
    os.chown(places[1], 65534, 65534)
    assert run(cli, ["ls"], "envboot") == 118
    assert f"Cannot use `{places[1]}`: it belongs to `nobody`" in capsys.readouterr().err
    assert mode(places[1]) == 0o755


def test_what_others_need_is_not_closed(places: tuple[Path, Path], tmp_path: Path) -> None:
    places[1].mkdir()
    places[1].chmod(0o1777)
    with pytest.raises(UsageError, match="Expected a directory for envboot alone"):
        open_session()
    assert mode(places[1]) == 0o1777
    with pytest.raises(UsageError, match="Expected a directory for envboot alone"):
        ensure_private(tmp_path, tmp_path)


def test_a_file_in_the_place_of_a_directory_is_named(places: tuple[Path, Path]) -> None:
    places[1].write_text("")
    with pytest.raises(UsageError, match=r"Expected a directory at .*, found a file"):
        open_session()


def test_a_signing_key_that_others_may_read_is_closed(tmp_path: Path) -> None:
    store = LocalStore(f"file://{tmp_path}/bucket")
    key = store._folder.secret()
    (tmp_path / "bucket/.envboot-key").chmod(0o644)
    assert store._folder.secret() == key
    assert mode(tmp_path / "bucket/.envboot-key") == 0o600
