"""One launch on a real kernel, with the command that users type."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bootstrap.indexes.program import find_uv
from provisioners.image import ensure_debian_image
from provisioners.qemu import HOST
from tests.boot.network import Namespace
from tests.channel import CACHE, ensure_channel, explicit_list
from tests.index import serve_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.boot, pytest.mark.subprocess, pytest.mark.sockets]
ENVBOOT = [sys.executable, "-c", "from bootstrap.cli import main; main()"]
CODE = "import os, six, sys; print('ran in', sys.prefix, 'with', six.__version__, os.getuid() > 0)"


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """QEMU, the bucket and the channel live where there is no other network."""
    made = Namespace()
    yield made
    made.close()


def make_environment(folder: Path, url: str, run: Any) -> Path:
    """Make a conda prefix from the channel, with a local wheel on top that goes into the layer."""
    channel, prefix = ensure_channel(), folder / "conda"
    explicit = folder / "explicit.txt"
    explicit.write_text(explicit_list(channel, url, ("python", "native-tool")))
    options = ["--no-rc", "-y", "-q", "-p", str(prefix), "-f", str(explicit)]
    run([str(channel.micromamba), "create", *options])
    wheel = channel.wheels["six"].path
    install = [find_uv(), "pip", "install", "-q", "--break-system-packages", "--offline"]
    run([*install, "--python", str(prefix), str(wheel)])
    # What the guest calls this machine's loopback.
    for record in (prefix / "conda-meta").glob("*.json"):
        record.write_text(record.read_text().replace("127.0.0.1", HOST))
    micromamba = {"version": "2.8.1", "url": channel.micromamba.as_uri()}
    micromamba["sha256"] = channel.micromamba_sha256
    lines = [f"{name} = {json.dumps(value)}" for name, value in micromamba.items()]
    settings = "\n".join(["[tool.envboot.tools.micromamba]", *lines])
    (folder / "pyproject.toml").write_text(settings + "\n")
    return prefix


def test_a_launch_on_qemu_installs_runs_publishes_and_ends(
    root: Path, tmp_path: Path, namespace: Namespace
) -> None:
    image = ensure_debian_image(CACHE / "images")
    before = image.stat().st_mtime_ns
    own = {f"ENVBOOT_{name}_DIR": str(tmp_path / name.lower()) for name in ("CACHE", "STATE")}
    environ = {**os.environ, **own, "MAMBA_ROOT_PREFIX": str(tmp_path / "mamba")}
    environ["PYTHONPATH"] = str(Path(__file__).parents[2])

    def run(words: list[str]) -> str:
        done = namespace.run(
            lambda: subprocess.run(
                words, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False
            )
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    serving = serve_folder(ensure_channel().folder)
    url = namespace.run(serving.__enter__)
    try:
        prefix = make_environment(tmp_path, url, run)
        words = ["launch", "qemu", "--image", str(image), "--python", str(prefix), "--json"]
        words += ["--store", f"file://{tmp_path}/store", "--", "python", "-c", CODE]
        launched = json.loads(run([*ENVBOOT, *words]))
        left = json.loads(run([*ENVBOOT, "ls", "--json"]))
    finally:
        serving.__exit__(None, None, None)
    (instance,) = launched["instances"]
    assert (instance["outcome"], instance["source"]) == ("ready", "install")
    assert instance["errors"] == []
    assert instance["output"].startswith("ran in /opt/envboot/env with 1.")
    assert instance["output"].endswith("True\n")
    assert (tmp_path / "store/base" / launched["base"][7:] / "index.json").is_file()
    assert left == []
    assert image.stat().st_mtime_ns == before
