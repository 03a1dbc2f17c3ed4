"""Guests for tests: a folder each, the shrunk agent, a real bucket, an environment of three wheels.

Everything is real but small: uv installs from an index on loopback, a miss takes under a second.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envboot import agent_payload as payload
from envboot.agent import wire
from envboot.agent.pack import LAYER_LIST, write_layer
from envboot.fleet.launch_key import ensure_key, sign
from envboot.manifest import Base, Layer, Manifest, Project, Python, Tool, Wheel
from envboot.publish import publish, upload
from envboot.publish.grants import Auth, Terms
from envboot.publish.layout import Keys, key_wanted
from tests.agent import trees
from tests.index import make_wheel, write_simple, write_uv
from tests.sessions import make_session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from envboot.session import Session
    from envboot.store.protocol import Store

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
SITE = f"lib/python{MINOR}/site-packages"
HOST_PYTHON = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
PLATFORM = {"x86_64": "linux-64"}.get(platform.machine(), f"linux-{platform.machine()}")
MODULES = ("alpha", "beta", "gamma")
PAUSES = (
    ("agent/aws.py", r"\.3\*2\*\*", ".03*2**"),
    ("agent/fetch.py", r"\.3\*2\*\*", ".03*2**"),
    ("agent/gcp.py", r"\.3\*2\*\*", ".03*2**"),
    ("agent/sync.py", r"(?m)^(\w+,\w+)=2\.,", r"\1=.4,"),
    ("agent/watch.py", r"(?m)^(\w+)=5$", r"\1=.4"),
    # It waits for all that anybody on this machine is writing: other tests make images of disks.
    ("agent/boot.py", r"os\.sync\(\)", "0"),
    ("agent/sync.py", r"os\.sync\(\)", "0"),
)
"""Where a guest of tests waits less: module, a pattern of what is shipped, and what stands in."""
WRITTEN = 1_000_000_000
"""When the modules were written: byte code counts for sources of the same time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What environments are made of: the URL of an index with the wheels, and uv as a tool."""

    folder: Path
    url: str
    wheels: tuple[Wheel, ...]
    uv: Tool

    @property
    def index(self) -> str:
        """The URL of the simple index."""
        return f"{self.url}/simple/"


def make_parts(folder: Path, url: str) -> Parts:
    """Fill `folder`, which is served at `url`: a wheel of the default index, of another, by URL."""
    # With its byte code each one fills a frame of its own, and does not compress well.
    texts = {name: random.Random(name).randbytes(550_000).hex() for name in MODULES}
    made = {
        name: make_wheel(folder, name, text=f"NAME = {name!r}\nTEXT = {text!r}\n")
        for name, text in texts.items()
    }
    write_simple(folder)
    where = {
        "beta": {"index": f"{url}/simple/"},
        "gamma": {"url": f"{url}/{made['gamma'].path.name}"},
    }
    wheels = tuple(
        Wheel(name=wheel.name, version=wheel.version, sha256=wheel.sha256, **where.get(name, {}))
        for name, wheel in made.items()
    )
    sha256 = hashlib.sha256(write_uv(folder).read_bytes()).hexdigest()
    uv = Tool(version="1.0", url=f"{url}/uv", sha256=sha256)
    return Parts(folder=folder, url=url, wheels=wheels, uv=uv)


def make_manifest(parts: Parts, **changes: Any) -> Manifest:
    """Return the manifest of an environment with the machine's own interpreter."""
    base = Base(
        platform=PLATFORM,
        python=Python(version=platform.python_version(), source="host", executable=HOST_PYTHON),
        virtual_packages={},
        wheels=parts.wheels,
        tools={"uv": parts.uv},
    )
    return Manifest(base=replace(base, **changes))


def make_layer(
    manifest: Manifest, folder: Path, files: dict[str, bytes], *, listed: bool = True
) -> tuple[Manifest, Path]:
    """Return the manifest with a layer of these files, and the layer's file in `folder`."""
    tree, packed = folder / "layer", folder / "layer.tar.zst"
    if listed:
        names = sorted([*files, LAYER_LIST])
        files = {**files, LAYER_LIST: "".join(f"{name}\n" for name in names).encode()}
    for path, data in files.items():
        trees.write(tree, path, data)
    sha256, _, _ = write_layer(str(tree), str(packed))
    projects = (Project(name="mine", version="1.0"),)
    return replace(manifest, layer=Layer(digest=f"sha256:{sha256}", projects=projects)), packed


@dataclass(kw_only=True, slots=True)
class Launch:
    """A launch: what its guests are given. `grants` may be damaged by a test at will."""

    parts: Parts
    manifest: Manifest
    grants: dict[str, Any]
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def base_key(self) -> str:
        """The bucket's folder for the base."""
        return f"base/{self.manifest.base_digest.removeprefix('sha256:')}"


def make_launch(
    parts: Parts,
    store: Store,
    cache: Path,
    *,
    manifest: Manifest | None = None,
    layer: Path | None = None,
    seconds: int = 600,
    auth: Auth = Auth.URLS,
    seats: int | None = None,
    state: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Launch:
    """Publish as the client does; the manifest travels in user-data.

    `state` and `environment` are of the session that launches.
    """
    manifest = manifest or make_manifest(parts)
    grants = publish(
        manifest,
        layer,
        store,
        make_session(cache=cache, state=state, environment=environment or {}),
        Terms(launch="launch", auth=auth, seconds=seconds, seats=seats),
    )
    document = grants.to_dict()
    del document["manifest"]
    return Launch(
        parts=parts,
        manifest=manifest,
        grants=document,
        config={"digest": manifest.environment_digest},
    )


def want(
    store: Store, cache: Path, number: int, manifest: Manifest, layer: Path | None, **other: Any
) -> None:
    """Send a change to the launch, as the client does; `other` members come before its own."""
    upload(manifest, layer, store, make_session(cache=cache, environment={}), lasting=False)
    keys = Keys(manifest)

    def grant(key: str) -> dict[str, str]:
        return {"get": store.sign_get(key, 600)}

    document = {
        "number": number,
        "digest": manifest.environment_digest,
        "manifest": grant(keys.environment),
        "restart": False,
        "next": grant(key_wanted("launch", number + 1)),
        **({"layer": grant(keys.layer)} if keys.layer else {}),
        **other,
    }
    session = sign_for("launch", cache)
    document["signature"] = sign(session, "launch", wire.canonical(document))
    assert store.create(key_wanted("launch", number), wire.canonical(document))


def sign_for(launch: str, cache: Path) -> Session:
    """Return a session whose state, beside the cache, has a launch's key."""
    variables = {"PATH": os.environ["PATH"]}
    session = make_session(state=cache.parent / "state", environment=variables)
    assert ensure_key(session, launch)
    return session


def find_signer(launch: str, cache: Path) -> str:
    """Return the public key that `want` signs with."""
    found = ensure_key(sign_for(launch, cache), launch)
    assert found
    return found


def _edit(lib: Path, module: str, old: str, new: str) -> None:
    text = (lib / module).read_text("ascii")
    text, count = re.subn(old, new, text)
    assert count == 1, f"{module} has {count} of {old}"
    (lib / module).write_text(text, "ascii")


@cache
def _make_lib() -> tempfile.TemporaryDirectory[str]:
    """Make the agent once, with its byte code: compiling it costs as much as a boot."""
    folder = tempfile.TemporaryDirectory(prefix="envboot-agent-")
    lib = Path(folder.name, "lib")
    for path, text in payload.agent_files().items():
        trees.write(lib, path, text.encode())
    for pause in PAUSES:
        _edit(lib, *pause)
    for file in lib.rglob("*.py"):
        os.utime(file, (WRITTEN, WRITTEN))
    subprocess.run([HOST_PYTHON, "-I", "-m", "compileall", "-q", lib], check=True)
    return folder


class Guest:
    """One machine: a folder. `boot` runs the agent as a unit would and returns its exit code."""

    def __init__(self, root: Path, launch: Launch, *, python: str = HOST_PYTHON) -> None:
        self.root = root
        self.launch = launch
        self.python = [python, "-I", "-S"]
        self.opt = root / "opt/envboot"
        self.state = root / "var/lib/envboot"
        self.envs = self.opt / "envs"
        self.env = self.opt / "env"
        self.wrap: list[str] = []
        self.environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "ENVBOOT_ROOT": str(root),
            "ENVBOOT_INSTANCE": root.name,
            "UV_DEFAULT_INDEX": launch.parts.index,
            "UV_PYTHON_DOWNLOADS": "never",
        }
        self.lib = self.opt / "lib"
        shutil.copytree(Path(_make_lib().name, "lib"), self.lib)
        self.give(launch)

    def edit(self, module: str, old: str, new: str) -> None:
        """Change what a module of the agent says once, a pause or a grace period."""
        _edit(self.lib, module, old, new)

    def give(self, launch: Launch) -> None:
        """Write a launch's documents, as the bootstrap script does."""
        self.launch = launch
        self.state.mkdir(parents=True, exist_ok=True)
        documents = {
            "manifest": launch.manifest.to_dict(),
            "grants": launch.grants,
            "config": launch.config,
        }
        for name, document in documents.items():
            (self.state / f"{name}.json").write_text(json.dumps(document))

    def start(
        self, *words: str, stdout: int = subprocess.PIPE, **options: Any
    ) -> subprocess.Popen[str]:
        """Start the agent in a session of its own."""
        return subprocess.Popen(
            [*self.wrap, *self.python, str(self.lib), *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            **options,
        )

    def agent(self, *words: str, **options: Any) -> int:
        """Run the agent and return its exit code; it never prints a traceback."""
        process = self.start(*words, **options)
        printed, _ = process.communicate(timeout=300)
        assert "Traceback" not in printed, printed
        return process.returncode

    def boot(self, **options: Any) -> int:
        """Run one boot."""
        return self.agent("boot", **options)

    def publish(self) -> int:
        """Publish what the boot had to install."""
        return self.agent("publish")

    @property
    def result(self) -> dict[str, Any]:
        """The last result."""
        found: dict[str, Any] = json.loads((self.state / "result.json").read_text())
        return found

    @property
    def reasons(self) -> str:
        """Every error of the last result."""
        return "\n".join(f"{e['stage']}: {e['error']}" for e in self.result["errors"])

    @property
    def events(self) -> list[dict[str, Any]]:
        """Every record so far."""
        lines = (self.state / "events.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def code(self) -> trees.Snapshot:
        """What is in site-packages, through the prefix."""
        return trees.snapshot((self.env / SITE).resolve())

    def says(self, program: str = "import alpha, beta, gamma; print(alpha.NAME, beta.NAME)") -> str:
        """Run a program in the active environment."""
        # Byte code that it would write has the time in it.
        command = [str(self.env / "bin/python"), "-B", "-c", program]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def leftovers(self) -> list[str]:
        """What lies in the folder of environments beside whole environments."""
        return sorted(path.name for path in self.envs.iterdir() if path.name.startswith("."))
