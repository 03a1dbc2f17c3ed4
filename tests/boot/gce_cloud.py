"""A project of Google Cloud with a user in it: Compute Engine with real machines, and a bucket.

The API is a fake that checks every request; each instance that it makes becomes a Debian that
reads its own metadata, and is killed when the API ends it. The bucket verifies every signature.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.boot.account import ENVBOOT
from tests.boot.cloud import attend
from tests.boot.environment import make_environment
from tests.boot.machine import Spec, boot
from tests.cache import make_cache
from tests.channel import ensure_channel
from tests.gce import ACCOUNT, Gce, run_gce
from tests.index import serve_folder
from tests.servers import run_gcs_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.gcs import GcsFront

BUCKET = "team-envs"
STORE = f"gs://{BUCKET}/envboot"
BY_ROLE = ("--auth", "role", "--service-account", ACCOUNT)


@dataclass(kw_only=True, slots=True)
class Project:
    """A user's folder, and all that it reaches; `store` is where launches publish."""

    folder: Path
    root: Path
    prefix: Path
    variables: dict[str, str]
    gce: Gce
    gcs: GcsFront
    ports: tuple[int, ...]
    store: str = STORE
    failures: list[BaseException] = field(default_factory=list)
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)
    _threads: dict[str, tuple[Thread, Event]] = field(default_factory=dict)

    def run(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run `envboot …`; it must end with `code`."""
        done = subprocess.run(
            [*ENVBOOT, *words],
            env=self.variables,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert self.failures == []
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def launch(self, *words: str) -> dict[str, Any]:
        """Launch on Compute Engine and return the outcome."""
        options = ["--python", str(self.prefix), "--store", self.store, "--json"]
        document: dict[str, Any] = json.loads(self.run("launch", "gcp", *options, *words).stdout)
        return document

    def follow(self, stop: Event) -> None:
        """Boot what is new and end what has been ended, until `stop`."""
        while not stop.wait(0.3):
            here = {item["id"]: item for item in self.gce.alive()}
            for name, item in here.items():
                if name not in self._threads:
                    self._boot(name, item)
            for name in self._threads.keys() - here.keys():
                self._threads[name][1].set()

    def _boot(self, name: str, item: dict[str, Any]) -> None:
        attributes = {each["key"]: each["value"] for each in item["metadata"]["items"]}
        self.metadata[name] = attributes
        leaves: dict[str, str | Callable[[], str]] = {
            "instance/id": name,
            "instance/name": item["name"],
            "instance/hostname": f"{item['name']}.c.team.internal",
            **{f"instance/attributes/{key}": value for key, value in attributes.items()},
        }
        for account in item.get("serviceAccounts", ()):
            leaves |= self._give(account)
        by_script = "startup-script" in attributes
        spec = Spec(
            user_data=b"",
            datasource="gce-startup-script" if by_script else "gce",
            leaves=leaves,
            ports=self.ports,
        )
        ended, host = Event(), item["name"]

        def run() -> None:
            try:
                place = self.folder / "machines" / name
                with boot(host, spec, root=self.root, folder=place) as machine:
                    attend(host, machine.process, place / "console.txt", ended)
                    if machine.process.poll() is not None:
                        machine.wait(1)
            except BaseException as error:
                self.failures.append(error)

        thread = Thread(target=run, name=host)
        self._threads[name] = thread, ended
        thread.start()

    def _give(self, account: dict[str, Any]) -> dict[str, str | Callable[[], str]]:
        """Return what the metadata server has on a service account; its token is always new."""
        start = "instance/service-accounts/default"
        email, scopes = account["email"], account["scopes"]
        return {
            f"{start}/email": email,
            f"{start}/scopes": "\n".join(scopes),
            f"{start}/token": lambda: json.dumps(self.gcs.issue(email, 3600, *scopes)),
        }

    def close(self) -> None:
        """End every machine."""
        for thread, ended in self._threads.values():
            ended.set()
            thread.join()


@contextmanager
def open_project(root: Path, folder: Path) -> Iterator[Project]:
    """Make the project with everything in it, until the end."""
    with ExitStack() as stack:
        channel = stack.enter_context(serve_folder(ensure_channel().folder))
        for name in ("gcs", "gce"):
            (folder / name).mkdir(parents=True)
        gcs = stack.enter_context(run_gcs_server(folder / "gcs"))
        gcs.make_bucket(BUCKET)
        gce = stack.enter_context(run_gce(folder / "gce"))
        # One project: what the one service has given tokens for, the other takes.
        gce.tokens = gcs.sessions
        key = folder / "gcs/key.json"
        key.write_text(json.dumps(gcs.key_file()))
        variables = {
            **os.environ,
            **gce.environment(),
            "GOOGLE_APPLICATION_CREDENTIALS": str(key),
            "STORAGE_EMULATOR_HOST": gcs.endpoint,
            "ENVBOOT_CACHE_DIR": make_cache(folder / "cache"),
            "ENVBOOT_STATE_DIR": str(folder / "state"),
            "MAMBA_ROOT_PREFIX": str(folder / "mamba"),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }

        def run(words: list[str]) -> None:
            subprocess.run(words, env=variables, cwd=folder, check=True)

        made = Project(
            folder=folder,
            root=root,
            prefix=make_environment(folder, channel, run),
            variables=variables,
            gce=gce,
            gcs=gcs,
            ports=tuple(urlsplit(url).port or 80 for url in (channel, gcs.endpoint)),
        )
        stop = Event()
        thread = Thread(target=made.follow, args=(stop,))
        thread.start()
        with contextlib.closing(made):
            try:
                yield made
            finally:
                stop.set()
                thread.join()
