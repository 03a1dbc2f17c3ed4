"""Conda packages: the installed ones as they are, and an interpreter solved for the target."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from envboot.config import Settings
from envboot.errors import LockError
from envboot.indexes.packages import find_private, note_channels
from envboot.lock.conda_packages import lock_records, note_files, solve_python
from tests.index import serve_folder
from tests.lock.documents import SHA, make_record
from tests.package import write_package
from tests.sessions import make_session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from envboot.manifest import CondaPackage


def test_records_become_urls_with_their_hash() -> None:
    found = lock_records((make_record("zlib"), make_record("abc", md5="b" * 32)))
    abc, zlib = sorted(found, key=lambda package: package.url)
    assert abc.url.endswith("/abc-1.0-0.conda")
    assert zlib.url.endswith("/zlib-1.0-0.conda")
    assert (abc.sha256, abc.md5) == (None, "b" * 32)
    assert (zlib.sha256, zlib.md5) == (SHA, None)


def test_a_record_that_has_both_hashes_keeps_the_better_one() -> None:
    (package,) = lock_records((make_record("a", sha256=SHA, md5="b" * 32),))
    assert (package.sha256, package.md5) == (SHA, None)


def test_no_password_of_a_channel_is_locked() -> None:
    url = "https://user:hunter2@channel.test/t/hunter2/x/linux-64/a-1.0-0.conda?sig=hunter2#abc"
    (package,) = lock_records((make_record("a", url=url),))
    assert package.url == "https://channel.test/x/linux-64/a-1.0-0.conda"


def test_every_record_of_unknown_origin_is_named() -> None:
    unknown = make_record("made-here", url="")
    unhashed = make_record("no-hash", sha256="")
    with pytest.raises(LockError, match="2 conda packages") as caught:
        lock_records((unknown, make_record("fine"), unhashed))
    assert sorted(caught.value.causes) == [
        "`made-here-1.0-0`: its record has no URL",
        "`no-hash-1.0-0`: its record has neither sha256 nor md5",
    ]


def test_packages_that_only_this_machine_has_are_pointed_out() -> None:
    near = lock_records((make_record("a", url="http://localhost:8000/c/noarch/a-1.0-0.conda"),))
    assert "`a-1.0-0.conda`" in note_files(near)[0].message
    # What is on its disk travels, and is said with what its channel keeps private.
    disk = lock_records((make_record("c", url="file:///opt/channel/noarch/c-1.0-0.conda"),))
    (note,) = note_channels(find_private(disk, {"HOME": "/nowhere"}))
    assert note.subject == "file:///opt/channel"
    assert "Is on this machine only: 1 of its packages" in note.message
    assert not note_files((*disk, *lock_records((make_record("b"),))))


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A channel of pythons for both platforms, one of which wants a newer glibc."""
    from rattler.index import index_fs

    folder = tmp_path_factory.mktemp("channel")
    for subdir in ("linux-64", "linux-aarch64", "noarch"):
        (folder / subdir).mkdir()
    for subdir in ("linux-64", "linux-aarch64"):
        place = folder / subdir
        write_package(place, "openssl", "3.0", "0", [], depends=("__glibc >=2.17",))
        for version in ("3.10.4", "3.11.5", "3.11.9"):
            write_package(place, "python", version, "0", [], depends=("openssl >=3",))
        write_package(place, "python", "3.12.1", "0", [], depends=("__glibc >=2.34",))
    asyncio.run(index_fs(folder))
    with serve_folder(folder) as url:
        yield url


def solve(
    version: str, channel: str, cache: Path, *, platform: str = "linux-64", glibc: str = "2.28"
) -> tuple[CondaPackage, ...]:
    session = make_session(cache=cache, settings=Settings(channels=(channel,)))
    return solve_python(version, session, platform=platform, glibc=glibc)


@pytest.mark.sockets
@pytest.mark.parametrize("platform", ["linux-64", "linux-aarch64"])
def test_an_interpreter_comes_with_what_it_needs(
    channel: str, tmp_path: Path, platform: str
) -> None:
    found = solve("3.11.5", channel, tmp_path, platform=platform)
    assert [package.url for package in found] == [
        f"{channel}/{platform}/openssl-3.0-0.conda",
        f"{channel}/{platform}/python-3.11.5-0.conda",
    ]
    assert all(package.sha256 and len(package.sha256) == 64 for package in found)


@pytest.mark.sockets
def test_a_patch_version_that_no_channel_has_is_refused_with_the_nearest(
    channel: str, tmp_path: Path
) -> None:
    with pytest.raises(LockError, match=r"Cannot find Python 3\.11\.7") as caught:
        solve("3.11.7", channel, tmp_path)
    assert caught.value.causes == ("The nearest are `3.11.5`, `3.11.9`",)
    assert "channels" in (caught.value.hint or "")


@pytest.mark.sockets
def test_the_glibc_of_the_target_decides_not_that_of_this_machine(
    channel: str, tmp_path: Path
) -> None:
    assert solve("3.12.1", channel, tmp_path, glibc="2.34")
    with pytest.raises(LockError) as caught:
        solve("3.12.1", channel, tmp_path, glibc="2.28")
    assert "__glibc" in " ".join(caught.value.causes)


@pytest.mark.sockets
def test_a_channel_that_does_not_answer_is_an_error_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(LockError, match="Failed to find Python") as caught:
        solve("3.11.5", "http://user:hunter2@127.0.0.1:9/channel", tmp_path)
    assert caught.value.causes
    assert "--host-python" in (caught.value.hint or "")
    assert "hunter2" not in repr(vars(caught.value))


@pytest.mark.sockets
def test_a_solve_works_inside_a_running_loop(channel: str, tmp_path: Path) -> None:
    async def notebook() -> int:
        return len(solve("3.11.9", channel, tmp_path))

    assert asyncio.run(notebook()) == 2
