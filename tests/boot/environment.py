"""An environment to boot: a manifest from the local channel, published into a `file://` bucket."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from envboot.indexes.program import find_uv
from envboot.manifest import Base, CondaPackage, Manifest, Python, Tool, Wheel
from envboot.publish import publish
from envboot.publish.grants import Grants, Terms
from envboot.store import open_store
from tests.channel import Channel, ensure_channel, explicit_list
from tests.index import WheelFile, make_wheel, serve_folder, write_simple
from tests.sessions import make_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from envboot.store.protocol import Store

CONDA = ("python", "numpy", "native-tool", "tabulate")


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """A served channel, a served index of wheels made by hand, and a bucket.

    The URLs are as the guest sees them but for `tools_url`, where this machine fetches the
    tools that it puts into the bucket.
    """

    channel: Channel
    tools_url: str
    channel_url: str
    index_url: str
    tiny: tuple[WheelFile, ...]
    store: Store
    cache: Path

    def manifest(self, *, conda: tuple[str, ...] = CONDA, tiny: int = 1) -> Manifest:
        """Return a manifest of conda packages, the channel's wheels and some hand-made ones."""
        packages = [self.channel.packages[name] for name in conda]
        urls = [f"{self.channel_url}/conda/{package.path}" for package in packages]
        return Manifest(
            base=Base(
                platform="linux-64",
                python=Python(version=self.channel.python_version, source="conda"),
                virtual_packages={"__glibc": "2.28"},
                conda=tuple(
                    CondaPackage(url=url, sha256=package.sha256)
                    for url, package in zip(urls, packages, strict=True)
                ),
                wheels=(
                    *(self._by_url(self.channel.wheels[name]) for name in ("markupsafe", "six")),
                    *(self._by_name(wheel) for wheel in self.tiny[:tiny]),
                ),
                tools=self._tools(),
            )
        )

    def _by_url(self, wheel: WheelFile) -> Wheel:
        url = f"{self.channel_url}/wheels/{wheel.path.name}"
        return Wheel(name=wheel.name, version=wheel.version, sha256=wheel.sha256, url=url)

    def _by_name(self, wheel: WheelFile) -> Wheel:
        return Wheel(name=wheel.name, version=wheel.version, sha256=wheel.sha256)

    @property
    def mirror(self) -> dict[str, bytes]:
        """A file by which a machine takes the hand-made wheels' index for PyPI."""
        text = f"[Service]\nEnvironment=UV_DEFAULT_INDEX={self.index_url}/simple\n"
        return {"/etc/systemd/system/envboot.service.d/mirror.conf": text.encode()}

    def _tools(self) -> dict[str, Tool]:
        uv = self.channel.wheels["uv"]
        return {
            "micromamba": Tool(
                version="2.8.1",
                url=f"{self.tools_url}/micromamba",
                sha256=self.channel.micromamba_sha256,
            ),
            "uv": Tool(
                version=uv.version,
                url=f"{self.tools_url}/wheels/{uv.path.name}",
                sha256=uv.sha256,
            ),
        }

    def publish(self, manifest: Manifest, launch: str, *, seats: int | None = None) -> Grants:
        """Put manifest and tools into the bucket and return the grants."""
        return publish(
            manifest,
            None,
            self.store,
            make_session(cache=self.cache, environment={}),
            Terms(launch=launch, seconds=3600, seats=seats),
        )

    def ports(self, grants: Grants) -> tuple[int, ...]:
        """Return the ports that a machine has to reach."""
        assert grants.manifest
        urls = (self.channel_url, self.index_url, grants.manifest.get)
        return tuple(urlsplit(url).port or 80 for url in urls)


@contextmanager
def open_bench(folder: Path, *, tiny: int = 1, loopback: str = "127.0.0.1") -> Iterator[Bench]:
    """Serve everything until the end; `loopback` is what a guest calls this machine's own."""
    channel = ensure_channel()
    wheels = folder / "tiny"
    wheels.mkdir(parents=True)
    made = tuple(make_wheel(wheels, f"tiny-{number:03}") for number in range(tiny))
    write_simple(wheels)
    with (
        serve_folder(channel.folder) as channel_url,
        serve_folder(wheels) as index_url,
        open_store(f"file://{folder}/bucket", make_session(), guest_loopback=loopback) as store,
    ):
        yield Bench(
            channel=channel,
            tools_url=channel_url,
            channel_url=channel_url.replace("127.0.0.1", loopback),
            index_url=index_url.replace("127.0.0.1", loopback),
            tiny=made,
            store=store,
            cache=folder / "cache",
        )


def make_environment(
    folder: Path,
    url: str,
    run: Callable[[list[str]], object],
    *,
    names: tuple[str, ...] = ("python", "native-tool"),
    loopback: str = "127.0.0.1",
) -> Path:
    """Make a conda prefix from the channel, with a local wheel on top that goes into the layer.

    `folder` becomes a user's project, with the pins of the tools; `loopback` is what guests call
    this machine's own.
    """
    channel, prefix = ensure_channel(), folder / "conda"
    explicit = folder / "explicit.txt"
    explicit.write_text(explicit_list(channel, url, names))
    options = ["--no-rc", "-y", "-q", "-p", str(prefix), "-f", str(explicit)]
    run([str(channel.micromamba), "create", *options])
    wheel = channel.wheels["six"].path
    install = [find_uv(), "pip", "install", "-q", "--break-system-packages", "--offline"]
    run([*install, "--python", str(prefix), str(wheel)])
    # What the guest calls this machine's loopback.
    for record in (prefix / "conda-meta").glob("*.json"):
        record.write_text(record.read_text().replace("127.0.0.1", loopback))
    uv = channel.wheels["uv"]
    (folder / "pyproject.toml").write_text(
        render_tool("micromamba", "2.8.1", channel.micromamba, channel.micromamba_sha256)
        + render_tool("uv", uv.version, uv.path, uv.sha256)
    )
    return prefix


def render_tool(name: str, version: str, path: Path, sha256: str) -> str:
    """Return a tool's pin, as settings have it, to a file of this machine."""
    pin = {"version": version, "url": path.as_uri(), "sha256": sha256}
    lines = [f"{key} = {json.dumps(value)}" for key, value in pin.items()]
    return "\n".join([f"[tool.envboot.tools.{name}]", *lines, ""])
