from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from envboot.fleet.peers import Seat, write_seats
from envboot.indexes.program import find_uv
from envboot.publish import publish
from envboot.publish.environments import publish_environment
from envboot.publish.grants import Auth, Terms
from envboot.store.local.store import LocalStore
from envboot.userdata import Job, LaunchPath, render
from envboot.userdata.result_rules import ResultRules
from envboot_provisioners import Instance
from tests.agent.guests import (
    HOST_PYTHON,
    MODULES,
    Parts,
    find_signer,
    make_layer,
    make_manifest,
    make_parts,
    want,
)
from tests.agent.trees import write
from tests.boot.metadata import serve_metadata
from tests.cache import make_cache
from tests.index import serve_folder
from tests.layer.projects import write_project
from tests.servers import gcs_bucket, gcs_server, gcs_session, s3_bucket, s3_server
from tests.sessions import make_session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envboot.manifest import Manifest

__all__ = ["gcs_bucket", "gcs_server", "gcs_session", "s3_bucket", "s3_server"]

PROGRAM = """import alpha, mine, os; print(alpha.NAME, mine.NAME)
open("made.txt", "w").write("made"); os.mkfifo("pipe")"""


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    """Three wheels and uv, on an index on loopback."""
    folder = tmp_path_factory.mktemp("index")
    with serve_folder(folder) as url:
        yield make_parts(folder, url)


NAMES = ("first", "second", "third")


@dataclass(kw_only=True, slots=True)
class Machines:
    """What two machines left: the bucket, their files, and all that they said.

    The first one installed, published and then took an edited layer; the second one was given
    a damaged archive.
    """

    folder: Path
    records: list[dict[str, Any]] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)

    @property
    def bucket(self) -> Path:
        """The bucket's folder."""
        return self.folder / "bucket"

    def files(self, name: str) -> set[str]:
        """Return the files and links of a machine, from its root."""
        root = self.folder / name
        found = (path for path in root.rglob("*") if path.is_symlink() or path.is_file())
        return {f"/{path.relative_to(root).as_posix()}" for path in found}

    def keys(self) -> set[str]:
        """Return the keys of the bucket, its own files included."""
        found = (path for path in self.bucket.rglob("*") if path.is_file())
        return {path.relative_to(self.bucket).as_posix() for path in found}

    def tell(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `envboot-agent` on a machine."""
        root = self.folder / name
        return subprocess.run(
            [str(root / "usr/local/bin/envboot-agent"), *words],
            env={"PATH": os.environ["PATH"], "ENVBOOT_ROOT": str(root)},
            capture_output=True,
            text=True,
            check=False,
        )


def give_notice(root: Path) -> None:
    """Let a machine see that it is taken back, and wait until its hook has ended."""
    with serve_metadata() as (metadata, endpoint):
        notice = {"action": "terminate", "time": "2026-01-01T00:00:00Z"}
        metadata.tree["meta-data/spot/instance-action"] = json.dumps(notice)
        process = subprocess.Popen(
            [str(root / "usr/local/bin/envboot-agent"), "watch"],
            env={
                "PATH": os.environ["PATH"],
                "ENVBOOT_ROOT": str(root),
                "AWS_EC2_METADATA_SERVICE_ENDPOINT": endpoint,
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        for line in process.stdout:
            if "the hook ended" in line:
                break
        process.terminate()
        process.wait()


def follow(root: Path) -> None:
    """Let a machine make the change that is wanted."""
    words = [HOST_PYTHON, "-I", "-S", str(root / "opt/envboot/lib"), "sync"]
    variables = {
        "PATH": os.environ["PATH"],
        "ENVBOOT_ROOT": str(root),
        "ENVBOOT_INSTANCE": root.name,
    }
    process = subprocess.Popen(words, env=variables)
    try:
        end = time.monotonic() + 30
        while not (root / "var/lib/envboot/synced.json").exists():
            assert time.monotonic() < end
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def machines(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Machines:
    """Boot real machines, a folder each, from rendered user-data."""
    folder = tmp_path_factory.mktemp("machines")
    seen = Machines(folder=folder)
    manifest, layer = make_layer(make_manifest(parts), folder, {"mine.txt": b"1"})
    edited, other = make_layer(make_manifest(parts), folder / "edit", {"mine.txt": b"2"})
    with LocalStore(f"file://{seen.bucket}") as store:
        instances = [Instance(name=each, launch="launch") for each in (*NAMES, "never started")]
        seats = [Seat(rank, secret={"KEY": "value"}) for rank in range(len(instances))]
        write_seats(
            store,
            Terms(launch="launch", auth=Auth.URLS, seconds=600, seats=0),
            instances,
            seats=seats,
        )

        def boot(name: str, what: Manifest, packed: Path, unit: str = "envboot-run") -> None:
            grants = publish(
                what,
                packed,
                store,
                make_session(cache=folder / "cache", environment={}),
                Terms(
                    launch="launch",
                    seconds=600,
                    seats=0,
                    wanted=1,
                    signer=find_signer("launch", folder / "cache"),
                ),
            )
            document = render(
                what,
                launch_path=LaunchPath.LOCAL,
                grants=grants,
                job=Job(
                    command=["sh", "-c", "echo 1 >made"],
                    watch=True,
                    hook="true",
                    unit=unit,
                    output=ResultRules(),
                ),
            )
            root = folder / name
            write(folder, f"{name}.sh", document.payload)
            variables = {
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "ENVBOOT_ROOT": str(root),
                "ENVBOOT_INSTANCE": name,
                "UV_DEFAULT_INDEX": parts.index,
            }
            done = subprocess.run(
                ["sh", str(folder / f"{name}.sh")],
                env=variables,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            state = root / "var/lib/envboot"
            seen.results.append(json.loads((state / "result.json").read_text()))

        def note(name: str) -> None:
            lines = (folder / name / "var/lib/envboot/events.jsonl").read_text().splitlines()
            seen.records += [json.loads(line) for line in lines]

        boot("first", manifest, layer)
        boot("first", edited, other)
        boot("third", manifest, layer, unit="envboot-dask-scheduler")
        archive = next(seen.bucket.glob("base/*/env.tar.zst"))
        archive.write_bytes(archive.read_bytes()[::-1])
        boot("second", manifest, layer, unit="envboot-dask-worker")
        session = make_session(cache=folder / "cache", environment={})
        now = datetime.now(timezone.utc)
        publish_environment("team", manifest, layer, store, session, now=now)
        give_notice(folder / "second")
        want(store, folder / "cache", 1, edited, other)
        follow(folder / "second")
        for name in NAMES:
            note(name)
    sources = [result["source"] for result in seen.results]
    assert sources == ["install", "archive", "archive", "install"]
    return seen


@dataclass(frozen=True, kw_only=True, slots=True)
class Project:
    """A folder with an environment of three wheels and a project, and settings of ours."""

    folder: Path
    variables: dict[str, str]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `envboot` in the folder."""
        return subprocess.run(
            [str(Path(sys.executable).with_name("envboot")), *words],
            env=self.variables,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )

    def json(self, *words: str) -> Any:
        """Return the document that a command prints."""
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="session")
def project(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Make the environment as a person would."""
    folder = tmp_path_factory.mktemp("project")
    uv = parts.uv
    (folder / "pyproject.toml").write_text(
        f'[tool.envboot]\nstore = "file://{folder}/bucket"\n\n[tool.envboot.tools.uv]\n'
        f'version = "{uv.version}"\nurl = "{uv.url}"\nsha256 = "{uv.sha256}"\n'
    )
    write_project(folder / "mine", "mine")
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "ENVBOOT_CACHE_DIR": make_cache(folder / "cache"),
        "ENVBOOT_STATE_DIR": str(folder / "state"),
        "UV_CACHE_DIR": str(folder / "uv"),
        "UV_DEFAULT_INDEX": parts.index,
    }
    for command in (
        ["venv", "-q", "--python", sys.executable, "venv"],
        ["pip", "install", "-q", "-p", "venv", *MODULES, "./mine"],
    ):
        subprocess.run([find_uv(), *command], env=variables, cwd=folder, check=True)
    return Project(folder=folder, variables=variables)


@pytest.fixture(scope="session")
def launches(project: Project) -> Iterator[list[dict[str, Any]]]:
    """Return what `envboot launch local --json` prints: on a miss, then on a damaged archive."""
    words = ["launch", "local", "--python", "venv", "--keep", "--json", "--", "python", "-c"]
    first = project.json(*words, PROGRAM)
    archive = next(project.folder.glob("bucket/base/*/env.tar.zst"))
    archive.write_bytes(archive.read_bytes()[::-1])
    yield [first, project.json(*words, PROGRAM)]
    done = project.run("terminate", "--all")
    assert done.returncode == 0, done.stderr
