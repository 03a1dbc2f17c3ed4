"""A user's folder whose packages come from private places, each with another way to log in."""

from __future__ import annotations

import base64
import gzip
import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from envboot.agent import zstd
from envboot.indexes.program import find_uv
from tests.cache import make_cache
from tests.channel import ensure_channel, explicit_list
from tests.index import make_wheel, serve_folder, write_simple, write_uv
from tests.launch.workspace import ENVBOOT, Workspace, write_settings
from tests.servers import s3_bucket, s3_server

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

__all__ = ["s3_bucket", "s3_server"]

NEEDLE = "hunter2"
"""Every secret has it in its text; in what is base64, it is looked for as such."""
KEYRING = """\
#!/bin/sh
# keyring get SERVICE USERNAME
[ "$1 $3" = "get keeper" ] && echo hunter2-keyring
"""
CONDA = ("python", "tabulate")


@dataclass(frozen=True, kw_only=True, slots=True)
class Private(Workspace):
    """A workspace with private indexes: by URL, netrc and keyring; and a private channel."""

    secrets: tuple[str, ...]

    def leaks(self) -> list[str]:
        """Return the files of our cache, state and documents that hold a secret."""
        folders = [self.folder / name for name in ("cache", "state", "out")]
        files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
        return [str(file) for file in files if has_secret(file.read_bytes(), self.secrets)]

    def envboot(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command, none of whose words may be a secret."""
        done = self.run(ENVBOOT, *words, **variables)
        assert not has_secret((done.stdout + done.stderr).encode(), self.secrets), done
        return done


def has_secret(data: bytes, secrets: tuple[str, ...]) -> bool:
    """Look for a secret as it is, and as it travels in a header; what is packed is unpacked."""
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    elif data[:4] == b"\x28\xb5\x2f\xfd":
        data = b"".join(map(bytes, zstd.decode_all(data)))
    pairs = [base64.b64encode(secret.encode()).rstrip(b"=") for secret in secrets]
    return NEEDLE.encode() in data or any(pair in data for pair in pairs)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Private]:
    """Make the folder once a session: pip installs from everywhere, as its user would have it."""
    base = tmp_path_factory.mktemp("private")
    folder, home = base / "work", base / "home"
    for each in (folder, home, folder / "out"):
        each.mkdir()
    secrets = ("user:hunter2-url", "netty:hunter2-netrc", "keeper:hunter2-keyring")
    with ExitStack() as stack:
        urls = []
        for number, name in enumerate(("shared", "by-url", "by-netrc", "by-keyring")):
            index = base / f"index-{number}"
            index.mkdir()
            make_wheel(index, name)
            write_simple(index)
            urls.append(
                stack.enter_context(serve_folder(index, *secrets[number - 1 :][: number and 1]))
            )
        write_uv(base / "index-0")
        channel = ensure_channel()
        tokens = stack.enter_context(serve_folder(channel.folder, "hunter2-token"))
        tools = stack.enter_context(serve_folder(channel.folder))
        write_settings(
            folder,
            uv=(f"{urls[0]}/uv", base / "index-0" / "uv"),
            micromamba=(f"{tools}/micromamba", channel.micromamba),
        )
        with (folder / "pyproject.toml").open("a") as settings:
            # Its token is in `.condarc` only.
            settings.write(f'[tool.envboot]\nchannels = ["{tokens}/conda"]\n')
        programs = base / "programs"
        programs.mkdir()
        (programs / "keyring").write_text(KEYRING)
        (programs / "keyring").chmod(0o755)
        (home / ".netrc").write_text("machine localhost login netty password hunter2-netrc\n")
        (home / ".netrc").chmod(0o600)
        (home / ".condarc").write_text(f"channels:\n  - {tokens}/t/hunter2-token/conda\n")
        places = [
            urls[1].replace("://", "://user:hunter2-url@"),
            urls[2].replace("127.0.0.1", "localhost"),
            urls[3].replace("://", "://keeper@"),
        ]
        config = home / ".config" / "pip"
        config.mkdir(parents=True)
        lines = "".join(f"\n    {place}/simple" for place in places[1:])
        (config / "pip.conf").write_text(
            f"[global]\nindex-url = {urls[0]}/simple\nkeyring-provider = subprocess\n"
            f"extra-index-url ={lines}\n  {places[0]}/simple\n"
        )
        workspace = Private(
            folder=folder,
            variables={
                "PATH": f"{programs}:{os.environ['PATH']}",
                "HOME": str(home),
                "ENVBOOT_CACHE_DIR": make_cache(folder / "cache"),
                "ENVBOOT_STATE_DIR": str(folder / "state"),
                "UV_CACHE_DIR": str(base / "uv"),
                "PIP_NO_CACHE_DIR": "1",
            },
            python=folder / "venv",
            secrets=secrets,
        )
        names = ["shared", "by-url", "by-netrc", "by-keyring"]
        pip = [sys.executable, "-m", "pip", "--python", "venv/bin/python", "install", "-q", *names]
        for words in ([find_uv(), "venv", "-q", "--python", sys.executable, "venv"], pip):
            done = workspace.run(*words)
            assert done.returncode == 0, done.stderr
        explicit = base / "explicit.txt"
        # One from a channel with a token, and one from this machine's disk.
        lists = (
            explicit_list(channel, f"{tokens}/t/hunter2-token", CONDA[:1]),
            explicit_list(channel, channel.folder.as_uri(), CONDA[1:]),
        )
        explicit.write_text("@EXPLICIT\n" + "".join(lists).replace("@EXPLICIT\n", ""))
        create = ["create", "--no-rc", "-y", "-q", "-p", str(folder / "conda"), "-f", str(explicit)]
        root = str(base / "mamba")
        done = workspace.run(str(channel.micromamba), *create, MAMBA_ROOT_PREFIX=root)
        assert done.returncode == 0, done.stderr
        yield workspace


@pytest.fixture
def private(made: Private) -> Private:
    """The venv's side of it."""
    return made


@pytest.fixture
def conda(made: Private) -> Private:
    """The conda environment's side."""
    return replace(made, python=made.folder / "conda")
