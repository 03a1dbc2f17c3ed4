"""What `--from` and `environment=` may be, and which manifests fit which machines."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from platform import python_version
from typing import Any

import pytest

from envboot.config import Settings
from envboot.errors import DocumentError, LockError, StoreError, UsageError
from envboot.layer.cached import add_archive
from envboot.manifest import Base, Layer, Manifest, Project, Python, Wheel
from envboot.prepare import Prepared, prepare_manifest, prepare_source
from envboot.publish.environments import (
    Reference,
    check_name,
    parse_reference,
    publish_environment,
)
from envboot.selection import Selection
from envboot.source import resolve_source
from envboot.store.local.store import LocalStore
from tests.sessions import make_session

NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)
CONDA = Manifest(
    base=Base(
        platform="linux-64",
        python=Python(version="3.11.7", source="conda"),
        virtual_packages={},
        wheels=(Wheel(name="demo", version="1", sha256="0" * 64),),
        tools={},
    )
)
HERE = Python(version=python_version(), source="host", executable=sys.executable)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalStore:
    """A bucket with `demo@1`; the current folder is another one."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    made = LocalStore(f"file://{tmp_path}/bucket")
    session = make_session(cache=tmp_path, environment={})
    publish_environment("demo", CONDA, None, made, session, now=NOW)
    return made


def prepare(manifest: Manifest, tmp_path: Path, **given: Any) -> Prepared:
    settings = given.pop("settings", None)
    session = make_session(cache=tmp_path, environment={}, settings=settings)
    wanted: dict[str, Any] = {"host_python": False, "platform": None}
    return prepare_manifest(manifest, session, **wanted | given)


@pytest.mark.parametrize("name", ["a", "0", "team-gpu", "a.b_c-d", "latest", "a" * 100])
def test_names_of_environments(name: str) -> None:
    assert check_name(name) == name
    assert parse_reference(name) == parse_reference(f"{name}@latest") == Reference(name=name)
    assert parse_reference(f"{name}@12") == Reference(name=name, version=12)


@pytest.mark.parametrize("name", ["", "A", ".a", "-a", "a/b", "ä", "a b", "a" * 101, "a\n"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="Expected a name of lower-case letters"):
        check_name(name)


@pytest.mark.parametrize("version", ["", "0", "-1", "1.0", "newest", "01", "1@2", "123456789"])
def test_what_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(UsageError, match="Expected a version of `demo` as in `demo@3`"):
        parse_reference(f"demo@{version}")


class TestResolving:
    def test_a_manifest_is_itself_and_its_file_is_read(
        self, store: LocalStore, tmp_path: Path
    ) -> None:
        assert resolve_source(CONDA, make_session(), store) is CONDA
        file = tmp_path / "env.json"
        file.write_text(json.dumps(CONDA.to_dict(), indent=2))
        assert resolve_source(file, make_session(), None) == CONDA
        assert resolve_source(str(file), make_session(), None) == CONDA
        file.write_text('{"manifest_version": 1}')
        with pytest.raises(DocumentError, match=r"Cannot read manifest `.*env\.json`"):
            resolve_source(file, make_session(), None)

    def test_any_other_file_is_a_lock_file(self, store: LocalStore) -> None:
        for name in ("requirements.txt", "pylock.toml", "conda-lock.yml#main", "work@home/uv.lock"):
            assert resolve_source(name, make_session(), store) == Selection(lock_file=Path(name))

    def test_names_are_looked_for_in_the_bucket(self, store: LocalStore) -> None:
        for name in ("demo", "demo@latest", "demo@1", Path("demo@1")):
            assert resolve_source(name, make_session(), store) == CONDA
        with pytest.raises(StoreError, match="Environment `demo@2` was not found"):
            resolve_source("demo@2", make_session(), store)
        with pytest.raises(UsageError, match="Expected a name of lower-case letters"):
            resolve_source("Demo@1", make_session(), store)
        with pytest.raises(UsageError, match="Cannot look for the environment `demo@latest` with"):
            resolve_source("demo", make_session(), None)

    def test_a_file_comes_before_a_bare_name_only(self, store: LocalStore) -> None:
        for name in ("demo", "demo@1"):
            Path(name).write_text("a==1 --hash=sha256:00")
        assert resolve_source("demo", make_session(), store) == Selection(lock_file=Path("demo"))
        assert resolve_source("demo@1", make_session(), store) == CONDA


class TestManifests:
    def test_one_that_fits_is_taken_as_it_is(self, tmp_path: Path) -> None:
        layer = Layer(digest=f"sha256:{'1' * 64}", projects=(Project(name="Mine", version="1"),))
        manifest = replace(CONDA, layer=layer)
        settings = Settings(require=("demo", "mine"))
        found = prepare(manifest, tmp_path, platform="linux-64", settings=settings)
        assert (found.manifest, found.scan, found.layer_path) == (manifest, None, None)
        kept = tmp_path / "layers" / f"{'1' * 64}.tar.zst"
        kept.parent.mkdir()
        packed = tmp_path / "packed"
        packed.write_bytes(b"layer")
        add_archive(packed, kept.parent, layer.digest)
        assert prepare(manifest, tmp_path).layer_path == kept

    def test_the_platform_must_be_the_machines(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="Cannot make an environment of `linux-64` on mach"):
            prepare(CONDA, tmp_path, platform="linux-aarch64")

    def test_other_machines_lack_the_interpreter_of_this_one(self, tmp_path: Path) -> None:
        host = replace(CONDA, base=replace(CONDA.base, python=HERE))
        with pytest.raises(UsageError, match="names a host's own interpreter") as caught:
            prepare(host, tmp_path)
        assert caught.value.causes == (f"`{sys.executable}`",)

    @pytest.mark.subprocess
    def test_on_this_machine_the_interpreter_must_be_there_in_the_same_version(
        self, tmp_path: Path
    ) -> None:
        host = replace(CONDA, base=replace(CONDA.base, python=HERE))
        assert prepare(host, tmp_path, host_python=True).manifest == host
        assert prepare(CONDA, tmp_path, host_python=True).manifest == CONDA
        for python, seen in (
            (replace(HERE, version="3.9.1"), f"3.9.1 at `{sys.executable}`, found {HERE.version}"),
            (replace(HERE, executable="/nowhere/python"), "at `/nowhere/python`, found none"),
            (replace(HERE, executable="/bin/true"), "at `/bin/true`, found none"),
        ):
            other = replace(CONDA, base=replace(CONDA.base, python=python))
            with pytest.raises(UsageError) as caught:
                prepare(other, tmp_path, host_python=True)
            assert caught.value.message.endswith(seen)

    def test_what_is_required_must_be_in_it(self, tmp_path: Path) -> None:
        with pytest.raises(LockError, match="Cannot go without 5 packages: `cloudpickle`"):
            prepare(CONDA, tmp_path, dask=True)

    def test_a_file_that_the_command_names_does_not_travel(
        self, store: LocalStore, tmp_path: Path
    ) -> None:
        del store
        Path("train.py").write_text("")
        found = prepare(CONDA, tmp_path, command=("cat", "train.py"))
        assert found.command == ("cat", "train.py")
        assert [note.subject for note in found.notes] == ["train.py"]
        with pytest.raises(UsageError, match="Cannot run"):
            prepare(CONDA, tmp_path, command=("python", "train.py"))

    @pytest.mark.parametrize(
        ("choice", "named"),
        [
            ({"python": "/usr"}, "`--python`"),
            ({"cuda": "12.4", "loose": False}, "`--no-loose`, `--cuda`"),
        ],
    )
    def test_choices_that_make_no_sense_with_one_are_refused(
        self, store: LocalStore, tmp_path: Path, choice: dict[str, Any], named: str
    ) -> None:
        with pytest.raises(UsageError) as caught:
            prepare_source(
                Selection(lock_file=Path("demo@1"), **choice),
                make_session(cache=tmp_path, environment={}),
                store,
                host_python=False,
            )
        assert caught.value.message == f"Cannot take the manifest `demo@1` together with {named}"
