"""The tests' own channel is a real one: what is installed from it runs."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.channel import MINOR, NUMPY, Channel, ensure_channel, explicit_list
from tests.index import make_wheel, serve_folder, write_simple
from tests.package import Member, write_package

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]
ALL = ("python", "numpy", "native-tool", "tabulate")


@pytest.fixture(scope="module")
def channel() -> Channel:
    return ensure_channel()


@pytest.fixture(scope="module")
def url(channel: Channel) -> Iterator[str]:
    with serve_folder(channel.folder) as address:
        yield address


def create(
    micromamba: Path, folder: Path, explicit: str, *options: str
) -> subprocess.CompletedProcess[str]:
    """Run the stand-in as the agent runs micromamba, into `folder/prefix`."""
    listing = folder / "explicit.txt"
    listing.write_text(explicit)
    environment = {"HOME": str(folder), "MAMBA_ROOT_PREFIX": str(folder / "root")}
    environment["PATH"] = "/usr/bin:/bin"
    command = [sys.executable, str(micromamba), "create", "--no-rc", "--no-pyc", "-y", *options]
    command += ["-p", str(folder / "prefix"), "-f", str(listing)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def make_packages(folder: Path, **packages: list[Member]) -> dict[str, str]:
    """Write packages into a channel in a directory; returns each one's line of a list."""
    subdir = folder / "linux-64"
    subdir.mkdir(parents=True)
    lines = {}
    for name, members in packages.items():
        write_package(subdir, name, "1.0", "0", members)
        path = subdir / f"{name}-1.0-0.conda"
        lines[name] = f"{path.as_uri()}#{hashlib.md5(path.read_bytes()).hexdigest()}"
    return lines


def script_of(name: str, text: str) -> Member:
    """Return a package's post-link script."""
    return Member(path=f"bin/.{name}-post-link.sh", data=text.encode(), mode=0o755)


def run(prefix: Path, *command: str) -> str:
    """Run a program of the prefix with nothing else on the path."""
    path = {"PATH": f"{prefix}/bin:/usr/bin:/bin"}
    found = subprocess.run(
        [str(prefix / "bin" / command[0]), *command[1:]],
        env=path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


def test_an_installed_prefix_runs_its_interpreter_packages_and_scripts(
    channel: Channel, url: str, tmp_path: Path
) -> None:
    made = create(channel.micromamba, tmp_path, explicit_list(channel, url, ALL))
    assert made.returncode == 0, made.stderr
    prefix = tmp_path / "prefix"
    code = "import numpy, ssl, sqlite3, sys, tabulate; print(sys.prefix, numpy.__version__)"
    assert run(prefix, "python", "-c", code) == f"{prefix} {NUMPY}"
    assert run(prefix, "f2py", "-v") == NUMPY
    assert "tabulate" in run(prefix, "tabulate", "--help")
    assert run(prefix, "native-tool", "echo", "hello") == "hello"


def test_placeholders_are_replaced_in_text_and_in_the_binary(
    channel: Channel, url: str, tmp_path: Path
) -> None:
    create(channel.micromamba, tmp_path, explicit_list(channel, url, ALL))
    prefix = tmp_path / "prefix"
    script = (prefix / "etc/conda/activate.d/native-tool.sh").read_text()
    assert f'"{prefix}/share/native-tool"' in script
    binary = (prefix / "bin/native-tool").read_bytes()
    assert f"{prefix}/lib\0".encode() in binary
    assert b"placehold_" not in binary


def test_an_md5_and_a_file_url_are_accepted(channel: Channel, tmp_path: Path) -> None:
    package = channel.packages["native-tool"]
    line = f"file://{channel.folder}/conda/{package.path}#{package.md5}"
    assert create(channel.micromamba, tmp_path, f"@EXPLICIT\n{line}\n").returncode == 0


@pytest.mark.parametrize("change", ["hash", "missing"])
def test_a_wrong_hash_or_a_missing_package_fails_and_leaves_conda_meta(
    channel: Channel, url: str, tmp_path: Path, change: str
) -> None:
    package = channel.packages["native-tool"]
    line = f"{url}/conda/{package.path}#sha256:{package.sha256}"
    wrong = line[:-4] + "0000" if change == "hash" else line.replace("native-tool-1", "no-tool-1")
    made = create(channel.micromamba, tmp_path, f"@EXPLICIT\n{wrong}\n")
    assert made.returncode == 1
    assert (tmp_path / "prefix" / "conda-meta").is_dir()


def test_a_url_with_a_query_and_a_folder_that_is_no_environment_are_refused(
    channel: Channel, url: str, tmp_path: Path
) -> None:
    package = channel.packages["native-tool"]
    signed = f"@EXPLICIT\n{url}/conda/{package.path}?sig=1#sha256:{package.sha256}\n"
    assert "Invalid package URL" in create(channel.micromamba, tmp_path, signed).stderr
    (tmp_path / "prefix").mkdir(exist_ok=True)
    made = create(channel.micromamba, tmp_path, explicit_list(channel, url, ("native-tool",)))
    assert made.returncode == 1
    assert "Non-conda folder exists at prefix" in made.stderr


def test_packages_are_linked_in_order_and_scripts_see_only_what_came_before(
    channel: Channel, tmp_path: Path
) -> None:
    reads = 'cat "$PREFIX/needed" >"$PREFIX/seen" && echo fine >&2\n'
    lines = make_packages(
        tmp_path / "channel",
        first=[script_of("first", reads), Member(path="first", data=b"1")],
        needed=[Member(path="needed", data=b"here")],
    )
    early = f"@EXPLICIT\n{lines['first']}\n{lines['needed']}\n"
    done = create(channel.micromamba, tmp_path, early)
    assert done.returncode == 0  # The real one ignores what its scripts exit with.
    assert "needed: No such file" in done.stderr
    late = f"@EXPLICIT\n{lines['needed']}\n{lines['first']}\n"
    assert create(channel.micromamba, tmp_path, late).stderr == "fine\n"
    assert (tmp_path / "prefix" / "seen").read_text() == "here"
    assert create(channel.micromamba, tmp_path, early, "-q").stderr == ""


def test_of_two_packages_with_one_file_the_later_one_wins(channel: Channel, tmp_path: Path) -> None:
    lines = make_packages(
        tmp_path / "channel",
        alpha=[Member(path="shared", data=b"alpha")],
        beta=[Member(path="shared", data=b"beta")],
    )
    for order in (("alpha", "beta"), ("beta", "alpha")):
        explicit = "\n".join(["@EXPLICIT", *(lines[name] for name in order)])
        create(channel.micromamba, tmp_path, explicit)
        assert (tmp_path / "prefix" / "shared").read_text() == order[1]
        assert [path.name for path in (tmp_path / "prefix").glob("shared*")] == ["shared"]


def test_only_under_its_own_name_are_scripts_activated(channel: Channel, tmp_path: Path) -> None:
    variable = Member(path="etc/conda/activate.d/a.sh", data=b"export FOUND=yes\n")
    says = script_of("says", 'echo "found $FOUND" >&2\n')
    lines = make_packages(tmp_path / "channel", says=[variable, says])
    explicit = f"@EXPLICIT\n{lines['says']}\n"
    renamed = tmp_path / "micromamba-1a2b3c"
    renamed.write_bytes(channel.micromamba.read_bytes())
    assert create(channel.micromamba, tmp_path, explicit).stderr == "found yes\n"
    done = create(renamed, tmp_path, explicit)
    assert done.returncode == 0
    assert "critical libmamba" in done.stderr
    assert "found yes" not in done.stderr


def test_its_history_has_the_command_and_file_urls_are_decoded(
    channel: Channel, tmp_path: Path
) -> None:
    [line] = make_packages(tmp_path / "a+b", one=[Member(path="one")]).values()
    done = create(channel.micromamba, tmp_path, f"@EXPLICIT\n{line.replace('+', '%2B')}\n")
    assert done.returncode == 0, done.stderr
    history = (tmp_path / "prefix/conda-meta/history").read_text()
    assert history.startswith("==> 2")
    assert str(tmp_path) in history


def test_uv_installs_from_the_simple_index_with_hashes(url: str, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "tiny-one")
    write_simple(tmp_path)
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"tiny-one==1.0 --hash=sha256:{wheel.sha256}\n")
    with serve_folder(tmp_path) as address:
        command = ["uv", "pip", "install", "--quiet", "--require-hashes", "--no-config"]
        command += ["--target", str(tmp_path / "site"), "--index-url", f"{address}/simple"]
        command += ["--no-cache", "--python", sys.executable, "-r", str(requirements)]
        scripts = os.path.dirname(sys.executable)  # noqa: PTH120
        environment = {"PATH": f"{scripts}:/usr/bin:/bin", "HOME": str(tmp_path)}
        subprocess.run(command, check=True, env=environment)
    assert (tmp_path / "site" / "tiny_one.py").read_text() == "NAME = 'tiny-one'\n"


def test_a_hand_made_wheel_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    first = make_wheel(tmp_path, "tiny-one").path.read_bytes()
    assert make_wheel(tmp_path, "tiny-one").path.read_bytes() == first


def test_the_repacked_python_is_the_one_that_runs_here(channel: Channel) -> None:
    assert channel.python_version.startswith(MINOR)
