"""One launch on a real kernel, with the command that users type."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envboot_provisioners.qemu import HOST
from envboot_provisioners.qemu.image import ensure_debian_image
from tests.boot.environment import make_environment
from tests.boot.network import Namespace
from tests.channel import CACHE, ensure_channel
from tests.index import serve_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.boot, pytest.mark.subprocess, pytest.mark.sockets]
ENVBOOT = [sys.executable, "-c", "from envboot.cli import main; main()"]
CODE = "import os, six, sys; print('ran in', sys.prefix, 'with', six.__version__, os.getuid() > 0)"


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """QEMU, the bucket and the channel live where there is no other network."""
    made = Namespace()
    yield made
    made.close()


def test_a_launch_on_qemu_installs_runs_publishes_and_ends(
    root: Path, tmp_path: Path, namespace: Namespace
) -> None:
    image = ensure_debian_image(CACHE / "images", os.environ)
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
        prefix = make_environment(tmp_path, url, run, loopback=HOST)
        words = ["launch", "qemu", "--image", str(image), "--python", str(prefix), "--json"]
        # Under emulation a second processor costs more than it does.
        words += ["--cpus", "1"]
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
