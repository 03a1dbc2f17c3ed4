"""One workshop a session: the index and the channel on loopback, and a user's folder."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.channel import ensure_channel
from tests.conformance.kit import make_kit
from tests.conformance.managers import Workshop, plain_variables
from tests.index import serve_folder
from tests.launch.workspace import write_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conformance.page import Rows


@pytest.fixture(scope="session")
def rows() -> Rows:
    """What arrived in this run, for docs/compatibility.md."""
    return {"managers": {}, "pythons": {}, "clients": {}}


@pytest.fixture(scope="session")
def shop() -> Iterator[Workshop]:
    """Everything that environments are made of."""
    channel = ensure_channel()
    # A conda environment's instance looks into it from a mount name space.
    with tempfile.TemporaryDirectory(prefix="envboot-") as made:
        folder = Path(made)
        folder.chmod(0o755)
        (folder / "kit/index").mkdir(parents=True)
        home = folder / "home"
        home.mkdir()
        with serve_folder(folder / "kit/index") as url, serve_folder(channel.folder) as conda:
            kit = make_kit(folder / "kit", url)
            uv = (f"{url}/uv", folder / "kit/index/uv")
            micromamba = (f"{conda}/micromamba", channel.micromamba)
            write_settings(home, uv=uv, micromamba=micromamba)
            yield Workshop(
                folder=folder,
                kit=kit,
                channel=channel,
                channel_url=conda,
                variables=plain_variables(home, kit.url),
            )
