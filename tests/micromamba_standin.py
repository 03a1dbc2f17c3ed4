"""A stand-in for micromamba: the one command line that the agent uses, on py-rattler.

`micromamba create --no-rc -y -q -p PREFIX -f FILE`, where FILE is an explicit list. It refuses
what the real program (2.8) refuses: a URL with a query string, an environment without HOME or
MAMBA_ROOT_PREFIX, a PREFIX that exists and is no conda environment. A wrong hash or a missing
package ends with exit code 1 and leaves `PREFIX/conda-meta` behind.

`tests.channel` packs this file and py-rattler into one executable zip file, so that it runs on
any Linux with Python 3.10 or newer, as one pinned file.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from rattler import RepoDataRecord


def fail(message: str) -> NoReturn:
    """End with exit code 1 and the real program's way of saying why."""
    print(f"critical libmamba {message}", file=sys.stderr)
    sys.exit(1)


def read_explicit(text: str) -> list[tuple[str, str]]:
    """Return each package's URL and hash from an explicit list."""
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines or lines[0] != "@EXPLICIT":
        fail("Expected an explicit list that starts with `@EXPLICIT`")
    packages = []
    for line in lines[1:]:
        url, _, digest = line.partition("#")
        if "?" in url or not url.endswith((".conda", ".tar.bz2")):
            fail(f"Invalid package URL: {url.partition('?')[0]}")
        packages.append((url, digest))
    return packages


def to_record(url: str, digest: str) -> RepoDataRecord:
    """Make the record that a URL and a hash alone can tell."""
    from rattler import PackageRecord, RepoDataRecord
    from rattler.package.build_string import BuildString

    base, _, file = url.rpartition("/")
    channel, _, subdir = base.rpartition("/")
    stem = file.removesuffix(".conda").removesuffix(".tar.bz2")
    name, version, build = stem.rsplit("-", 2)
    sha256 = digest.removeprefix("sha256:") if digest.startswith("sha256:") else None
    record = PackageRecord(
        name=name,
        version=version,
        build=BuildString(build),
        build_number=0,
        subdir=subdir,
        noarch="python" if subdir == "noarch" else None,
        sha256=bytes.fromhex(sha256) if sha256 else None,
        md5=bytes.fromhex(digest) if digest and not sha256 else None,
    )
    return RepoDataRecord(record, file_name=file, url=url, channel=channel)


def create(prefix: Path, explicit: Path) -> None:
    """Install an explicit list into a prefix that must not exist as something else."""
    for name in ("HOME", "MAMBA_ROOT_PREFIX"):
        if not os.environ.get(name):
            fail(f"{name} is not set")
    packages = read_explicit(explicit.read_text())
    if prefix.exists() and not (prefix / "conda-meta").is_dir():
        fail(f"Non-conda folder exists at prefix: {prefix}")
    if prefix.exists():
        shutil.rmtree(prefix)
    (prefix / "conda-meta").mkdir(parents=True)
    (prefix / "conda-meta" / "history").write_text("")

    from rattler import install

    cache = Path(os.environ["MAMBA_ROOT_PREFIX"]) / "pkgs"
    records = [to_record(url, digest) for url, digest in packages]
    try:
        asyncio.run(install(records, prefix, cache_dir=cache, show_progress=False))
    except Exception as error:  # whatever rattler raises, the real program exits 1
        fail(str(error))


def main() -> None:
    """Unpack py-rattler beside the zip file where it is not importable, then create."""
    parser = argparse.ArgumentParser(prog="micromamba", allow_abbrev=False)
    parser.add_argument("--version", action="version", version="2.8.1")
    command = parser.add_subparsers(required=True).add_parser("create", allow_abbrev=False)
    command.add_argument("--no-rc", action="store_true", required=True)
    command.add_argument("-y", action="store_true", required=True)
    command.add_argument("-q", action="store_true")
    command.add_argument("-p", type=Path, required=True)
    command.add_argument("-f", type=Path, required=True)
    options = parser.parse_args()
    archive = Path(sys.path[0])
    if not zipfile.is_zipfile(archive):
        create(options.p, options.f)
        return
    with tempfile.TemporaryDirectory(prefix="micromamba-") as folder:
        with zipfile.ZipFile(archive) as bundle:
            names = [name for name in bundle.namelist() if name.startswith("rattler/")]
            bundle.extractall(folder, names)
        sys.path.insert(0, folder)
        create(options.p, options.f)


if __name__ == "__main__":
    main()
    # Without the interpreter's own end: rattler's threads may still run, and have crashed in it.
    sys.stdout.flush()
    os._exit(0)
