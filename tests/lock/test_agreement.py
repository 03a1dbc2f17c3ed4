"""Of several files of one version the installed one goes, whatever index has it."""

from __future__ import annotations

import zipfile
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from envboot.errors import LockError
from envboot.indexes.records import RemoteFile, read_record
from envboot.indexes.web import Web
from tests.index import make_wheel, serve_folder, write_simple
from tests.lock.documents import look_up, make_distribution
from tests.sessions import make_session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from envboot.lock.wheels import Wheels
    from envboot.scan.schema import Distribution
    from tests.index import WheelFile

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]


class World:
    """Indexes by name, an environment with their wheels, and the variables of a user."""

    def __init__(self, folder: Path, servers: ExitStack) -> None:
        self.folder = folder
        self.servers = servers
        self.site = folder / "site"
        self.site.mkdir()
        self.urls: dict[str, str] = {}
        self.environment = {
            "HOME": str(folder),
            "UV_CACHE_DIR": str(folder / "uv"),
            "UV_NO_CONFIG": "1",
            "PIP_CONFIG_FILE": "/dev/null",
        }

    def publish(
        self, index: str, text: str, *, name: str = "corp-lib", version: str = "1.0"
    ) -> WheelFile:
        """Put a wheel of one module on an index, which begins to be served."""
        place = self.folder / index
        place.mkdir(exist_ok=True)
        made = make_wheel(place, name, version, text=text)
        write_simple(place)
        if index not in self.urls:
            url = self.servers.enter_context(serve_folder(place))
            self.urls[index] = f"{url}/simple"
        return made

    def install(self, wheel: WheelFile, installer: str = "pip") -> Distribution:
        """Unpack a wheel, as it is installed."""
        with zipfile.ZipFile(wheel.path) as archive:
            archive.extractall(self.site)
        item = make_distribution(wheel.name, wheel.version)
        return replace(item, location=str(self.site), installer=installer)

    def lock(self, *items: Distribution, **environment: str) -> Wheels:
        """Look them up with these variables."""
        session = make_session(
            folder=self.folder,
            environment={**self.environment, **environment},
            cache=self.folder / "cache",
        )
        return look_up(items, session)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as servers:
        yield World(tmp_path, servers)


@pytest.mark.parametrize("installed", ["private", "public"])
@pytest.mark.parametrize(
    "order",
    [
        ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"),
        ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"),
        ("UV_DEFAULT_INDEX", "UV_INDEX"),
        ("UV_INDEX", "UV_DEFAULT_INDEX"),
    ],
)
def test_the_file_that_is_installed_goes_whichever_index_has_it(
    world: World, installed: str, order: tuple[str, str]
) -> None:
    made = {index: world.publish(index, f"WHO = {index!r}\n") for index in ("private", "public")}
    variables = {
        order[0]: world.urls["private"],
        order[1]: world.urls["public"],
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }
    item = world.install(made[installed], "uv" if "UV_INDEX" in order else "pip")
    found = world.lock(item, **variables)
    assert [wheel.sha256 for wheel in found.wheels] == [made[installed].sha256]
    assert not found.replaced


@pytest.mark.parametrize("has_record", [True, False])
def test_what_no_index_has_as_it_is_installed_is_refused_by_name(
    world: World, has_record: bool
) -> None:
    other = make_wheel(world.folder, "corp-lib", text="WHO = 'nobody'\n")
    for index in ("private", "public"):
        world.publish(index, f"WHO = {index!r}\n")
    item = world.install(other)
    if not has_record:
        (world.site / "corp_lib-1.0.dist-info" / "RECORD").unlink()
    with pytest.raises(LockError) as caught:
        world.lock(
            item, PIP_INDEX_URL=world.urls["private"], PIP_EXTRA_INDEX_URL=world.urls["public"]
        )
    error = caught.value
    assert error.message == (
        "Cannot tell which file of 1 package is the installed one: `corp-lib==1.0`"
    )
    said = "none of it is the installed one" if has_record else "nothing tells which is installed"
    assert said in error.causes[0]
    for index in ("private", "public"):
        assert world.urls[index].removesuffix("/simple") in error.causes[0]


def test_one_file_on_two_indexes_is_in_no_doubt_though_no_record_tells(world: World) -> None:
    made = [world.publish(index, "WHO = 'both'\n") for index in ("private", "public")]
    item = world.install(made[0])
    (world.site / "corp_lib-1.0.dist-info" / "RECORD").unlink()
    found = world.lock(item, UV_INDEX=world.urls["private"], UV_DEFAULT_INDEX=world.urls["public"])
    assert [wheel.sha256 for wheel in found.wheels] == [made[0].sha256]


def test_a_file_that_was_replaced_on_its_index_is_named(world: World) -> None:
    item = world.install(world.publish("private", "WHO = 'first'\n"))
    made = world.publish("private", "WHO = 'again'\n")
    found = world.lock(item, UV_DEFAULT_INDEX=world.urls["private"])
    assert [wheel.sha256 for wheel in found.wheels] == [made.sha256]
    (replaced,) = found.replaced
    assert replaced.reason == "`corp_lib.py` differs from what is installed"
    assert any(replaced.reason in note.message for note in found.notes)


def test_an_index_without_hashes_is_read_too(world: World) -> None:
    public = world.publish("public", "WHO = 'public'\n")
    private = world.publish("private", "WHO = 'private'\n")
    page = world.folder / "private" / "simple" / "corp-lib" / "index.html"
    page.write_text(page.read_text().replace(f"#sha256={private.sha256}", ""))
    variables = {
        "UV_INDEX": world.urls["public"],
        "UV_DEFAULT_INDEX": world.urls["private"],
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }
    for made in (private, public):
        found = world.lock(world.install(made), **variables)
        assert [wheel.sha256 for wheel in found.wheels] == [made.sha256]


def test_a_wheel_in_a_directory_of_this_machine_wins_if_it_is_the_installed_one(
    world: World,
) -> None:
    world.publish("public", "WHO = 'public'\n")
    wheels = world.folder / "wheels"
    wheels.mkdir()
    made = make_wheel(wheels, "corp-lib", text="WHO = 'here'\n")
    found = world.lock(
        world.install(made), PIP_INDEX_URL=world.urls["public"], PIP_FIND_LINKS=str(wheels)
    )
    assert [source.path for source in found.sources] == [str(made.path)]
    assert not found.wheels


def test_a_nightly_version_is_looked_for_before_it_is_taken_for_a_commit(world: World) -> None:
    version = "2.2.0.dev0+925.gac170fdc35"
    made = world.publish("nightly", "V = 1\n", name="nightly", version=version)
    item = world.install(made, "uv")
    found = world.lock(item, UV_INDEX=world.urls["nightly"])
    assert [wheel.sha256 for wheel in found.wheels] == [made.sha256]
    missing = make_distribution("elsewhere", version)
    with pytest.raises(LockError) as caught:
        world.lock(missing, UV_DEFAULT_INDEX=world.urls["nightly"])
    assert "Its version is that of a git commit" in caught.value.causes[0]


@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_a_build_of_torch_comes_from_the_configured_index_that_has_it(
    world: World, tool: str
) -> None:
    version = "2.5.1+cu121"
    made = world.publish("private", "V = 1\n", name="torch", version=version)
    name = made.path.name
    page = world.folder / "private" / "simple" / "torch" / "index.html"
    page.write_text(page.read_text().replace(f"/{name}#", f"/{name.replace('+', '%2B')}#"))
    item = world.install(made, tool)
    variable = {"pip": "PIP_EXTRA_INDEX_URL", "uv": "UV_INDEX"}[tool]
    world.publish("public", "")
    found = world.lock(
        item, **{variable: world.urls["private"]}, UV_DEFAULT_INDEX=world.urls["public"]
    )
    assert [wheel.sha256 for wheel in found.wheels] == [made.sha256]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_record_is_read_in_pieces_where_a_server_can_and_once_ever(
    tmp_path: Path, ranges: bool
) -> None:
    made = make_wheel(tmp_path, "large", files={"large/data.py": "#" * 4_000_000})
    sent: list[int] = []
    cache = tmp_path / "cache"
    with serve_folder(tmp_path, sent=sent if ranges else None) as url:
        file = RemoteFile(url=f"{url}/{made.path.name}", sha256=made.sha256)
        record = read_record(file, Web(), cache)
    assert record.rows["large/data.py"].startswith("sha256=")
    if ranges:
        assert sum(sent) < 200_000
        assert len(sent) == 2
    # The server is gone.
    assert read_record(file, Web(), cache) == record


def test_a_whole_file_that_is_not_the_promised_one_is_refused(tmp_path: Path) -> None:
    made = make_wheel(tmp_path, "demo")
    with serve_folder(tmp_path) as url:
        file = RemoteFile(url=f"{url}/{made.path.name}", sha256="0" * 64)
        with pytest.raises(LockError, match=made.sha256):
            read_record(file, Web(), tmp_path / "cache")
