"""Distributions from an index, looked up by the real uv on an index of our own."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envboot.config import Settings
from envboot.errors import LockError
from tests.index import make_sdist, make_wheel, serve_folder, write_simple
from tests.lock.documents import look_up, make_distribution
from tests.sessions import make_session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envboot.lock.wheels import Wheels
    from envboot.scan.schema import Distribution

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave uv nothing of this machine's settings, and no way to PyPI."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    for name in ("UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose wheels uv finds once `write_simple` was called."""
    folder = tmp_path / "index"
    folder.mkdir()
    with serve_folder(folder) as url:
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"{url}/simple")
        yield folder


def find(*distributions: Distribution, settings: Settings | None = None) -> Wheels:
    session = make_session(settings=settings)
    return look_up(distributions, session)


def test_a_wheel_of_another_index_is_written_with_its_url(index: Path) -> None:
    made = make_wheel(index, "demo")
    write_simple(index)
    found = find(make_distribution("demo"))
    (wheel,) = found.wheels
    assert wheel.sha256 == made.sha256
    assert wheel.url
    assert wheel.url.startswith("http://127.0.0.1:")
    assert wheel.url.endswith("/demo-1.0-py3-none-any.whl")
    assert "without credentials" in found.notes[0].message


def test_exactly_the_installed_version_is_found_not_the_newest(index: Path) -> None:
    old = make_wheel(index, "demo", "1.0")
    page = index / "simple" / "demo"
    page.mkdir(parents=True)
    new = make_wheel(index, "demo", "2.0")
    links = [
        f'<a href="../../{wheel.path.name}#sha256={wheel.sha256}">{wheel.path.name}</a>'
        for wheel in (old, new)
    ]
    (page / "index.html").write_text("".join(links))
    assert [wheel.sha256 for wheel in find(make_distribution("demo")).wheels] == [old.sha256]


def test_every_offender_is_named_at_once(index: Path) -> None:
    make_wheel(index, "demo")
    write_simple(index)
    missing = [make_distribution(f"missing-{number}") for number in range(12)]
    with pytest.raises(LockError) as caught:
        find(*missing[:6], make_distribution("demo"), *missing[6:], make_distribution("demo", "7"))
    error = caught.value
    assert error.message.startswith("Cannot find 13 packages on the configured indexes: ")
    assert "`missing-9==1.0` and 3 more" in error.message
    assert "`demo==1.0`" not in error.message
    assert "was not found in the package registry" in error.causes[0]
    assert error.causes[-1] == "3 more"
    for way in ("UV_INDEX", "PIP_FIND_LINKS", "--find-links", "--ignore NAME"):
        assert way in (error.hint or "")


def test_what_has_no_wheel_and_what_is_nowhere_are_told_apart(index: Path) -> None:
    make_wheel(index, "only-windows", tag="cp312-cp312-win_amd64")
    write_simple(index)
    with pytest.raises(LockError) as caught:
        find(make_distribution("only-windows"), make_distribution("missing"))
    assert caught.value.message == (
        "Cannot find 1 package on the configured indexes: `missing==1.0`; "
        "1 package has no wheel for `linux-64` with glibc 2.28: `only-windows==1.0`"
    )
    for way in ("PIP_FIND_LINKS", "pip wheel", "--ignore NAME"):
        assert way in (caught.value.hint or "")


def test_a_package_that_has_only_an_sdist_is_fetched_to_be_built_here(index: Path) -> None:
    page = index / "simple" / "source-only"
    page.mkdir(parents=True)
    made = make_sdist(index, "source-only")
    (page / "index.html").write_text(f'<a href="../../{made.path.name}#sha256={made.sha256}">x</a>')
    found = find(make_distribution("source-only"))
    assert not found.wheels
    (source,) = found.sources
    assert source.path
    assert Path(source.path).read_bytes() == made.path.read_bytes()
    assert "built here from its sdist" in found.notes[0].message


def test_what_was_installed_from_the_url_of_an_sdist_is_built_here_too(index: Path) -> None:
    made = make_sdist(index, "source-only")
    base = os.environ["UV_DEFAULT_INDEX"].removesuffix("/simple")
    url = f"{base}/{made.path.name}"
    found = find(make_distribution("source-only", direct_url={"url": url, "archive_info": {}}))
    (source,) = found.sources
    assert Path(source.path or "").read_bytes() == made.path.read_bytes()


def test_an_sdist_that_cannot_be_read_is_refused_with_the_way_out(index: Path) -> None:
    page = index / "simple" / "broken"
    page.mkdir(parents=True)
    (page / "index.html").write_text('<a href="../../broken-1.0.tar.gz">x</a>')
    with pytest.raises(LockError, match=r"`broken==1\.0`") as caught:
        find(make_distribution("broken"))
    assert "no usable wheels" in caught.value.causes[0]
    assert "--ignore NAME" in (caught.value.hint or "")


def test_a_build_for_a_gpu_is_found_where_the_table_says(index: Path, tmp_path: Path) -> None:
    folder = tmp_path / "torch" / "cu124"
    folder.mkdir(parents=True)
    made = make_wheel(folder, "torch", "2.5.1+cu124")
    make_wheel(index, "demo")
    write_simple(index)
    page = folder / "torch"
    page.mkdir()
    name = made.path.name.replace("+", "%2B")
    (page / "index.html").write_text(f'<a href="../{name}#sha256={made.sha256}">x</a>')
    with serve_folder(tmp_path / "torch") as url:
        found = find(
            make_distribution("torch", "2.5.1+cu124"),
            make_distribution("demo"),
            settings=Settings(torch_index=url),
        )
    wheels = {wheel.name: wheel for wheel in found.wheels}
    assert sorted(wheels) == ["demo", "torch"]
    assert wheels["torch"].sha256 == made.sha256
    assert wheels["torch"].url == f"{url}/cu124/{name}"


def test_a_wheel_is_hashed_where_its_index_gives_no_hash(index: Path) -> None:
    made = make_wheel(index, "demo")
    page = index / "simple" / "demo"
    page.mkdir(parents=True)
    name = "demo-1.0-py3-none-any.whl"
    (page / "index.html").write_text(f'<a href="../../{name}">{name}</a>')
    (wheel,) = find(make_distribution("demo")).wheels
    assert wheel.sha256 == made.sha256


def test_a_wheel_that_lies_on_this_machine_goes_into_the_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "odd näme & co"
    folder.mkdir()
    made = make_wheel(folder, "demo")
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", folder.as_uri())
    found = find(make_distribution("demo"))
    assert not found.wheels
    assert [source.path for source in found.sources] == [str(made.path)]


def test_a_wheel_from_a_url_keeps_that_url(index: Path) -> None:
    made = make_wheel(index, "demo")
    base = os.environ["UV_DEFAULT_INDEX"].removesuffix("/simple")
    url = f"{base}/{made.path.name}"
    direct: dict[str, object] = {"url": url, "archive_info": {}}
    (wheel,) = find(make_distribution("demo", direct_url=direct)).wheels
    assert (wheel.url, wheel.sha256) == (url, made.sha256)


def test_an_index_that_does_not_answer_is_said_so_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://user:hunter2@127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(LockError, match="Failed to look up packages with uv") as caught:
        find(make_distribution("one"), make_distribution("two"))
    assert caught.value.causes
    assert "hunter2" not in repr(vars(caught.value))


@pytest.mark.network
def test_a_wheel_of_pypi_is_written_with_neither_url_nor_index() -> None:
    (wheel,) = find(make_distribution("six", "1.17.0")).wheels
    assert wheel.url is None
    assert wheel.index is None
    assert wheel.sha256 == "4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274"


@pytest.mark.parametrize("recorded", ["hashes", "hash"])
def test_an_archive_of_a_repository_is_fetched_by_the_hash_that_pip_recorded(
    recorded: str, index: Path
) -> None:
    """Its URL may say nothing of what it is, and uv, which would not take it, is not asked."""
    data = b"any archive"
    (index / "main").write_bytes(data)
    value = hashlib.sha256(data).hexdigest()
    info = {"hashes": {"sha256": value}} if recorded == "hashes" else {"hash": f"sha256={value}"}
    base = os.environ["UV_DEFAULT_INDEX"].removesuffix("/simple")
    direct = {"url": f"{base}/main", "archive_info": info, "subdirectory": "python"}
    item = make_distribution("demo", direct_url=direct)
    (source,) = find(item).sources
    assert (source.name, source.version, source.subdirectory) == ("demo", "1.0", "python")
    assert Path(source.path or "").read_bytes() == data
    Path(source.path or "").unlink()
    (index / "main").write_bytes(b"pushed since")
    with pytest.raises(LockError) as error:
        find(item)
    assert value in error.value.message
    assert "install it again" in (error.value.hint or "")


def test_an_sdist_that_needs_the_environment_to_be_looked_at_is_taken_if_it_is_named(
    index: Path,
) -> None:
    """As flash-attn: its metadata comes from a build that imports what is installed here."""
    backend = (
        "import os, packaging\n"
        "def prepare_metadata_for_build_wheel(folder, config_settings=None):\n"
        "    info = 'needy-1.0.dist-info'\n"
        "    os.mkdir(f'{folder}/{info}')\n"
        "    text = 'Metadata-Version: 2.1\\nName: needy\\nVersion: 1.0\\n'\n"
        "    open(f'{folder}/{info}/METADATA', 'w').write(text)\n"
        "    open(f'{folder}/{info}/WHEEL', 'w').write('Wheel-Version: 1.0\\n')\n"
        "    return info\n"
        "build_wheel = None\n"
    )
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    texts = {
        "PKG-INFO": "Metadata-Version: 1.0\nName: needy\nVersion: 1.0\n",
        "pyproject.toml": project,
        "backend.py": backend,
    }
    archive = index / "needy-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as opened:
        for name, text in texts.items():
            info = tarfile.TarInfo(f"needy-1.0/{name}")
            info.size = len(text)
            opened.addfile(info, io.BytesIO(text.encode()))
    base = os.environ["UV_DEFAULT_INDEX"].removesuffix("/simple")
    direct = {"url": f"{base}/{archive.name}", "archive_info": {}}
    item = make_distribution("needy", direct_url=direct)
    with pytest.raises(LockError):
        find(item)
    (source,) = find(item, settings=Settings(no_build_isolation=("needy",))).sources
    assert Path(source.path or "").read_bytes() == archive.read_bytes()
