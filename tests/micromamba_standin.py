"""A stand-in for micromamba: the one command line that the agent uses, on py-rattler.

`micromamba create --no-rc --no-pyc -y -p PREFIX -f FILE`, where FILE is an explicit list. It does
what the real program (2.8.1, and its `link.cpp`) does with one:

- It refuses a URL with a query string, an environment without HOME or MAMBA_ROOT_PREFIX, and a
  PREFIX that exists and is no conda environment. A wrong hash or a missing package ends with exit
  code 1 and leaves `PREFIX/conda-meta` behind. `file://` URLs are percent-decoded.
- Reasons go to stderr, `-q` silences them all; what it did goes to stdout.
- Packages are linked in the order of the list. Where two own a file, the later one wins. A
  post-link script runs when its own package has been linked and those further down have not, and
  its exit code counts for nothing.
- The hook that activates the environment for such a script works only under the file names
  `micromamba` and `mamba`.
- `conda-meta/history` has the time and the whole command line.
- Without `--no-pyc` it compiles the code.

`tests.channel` packs this file and py-rattler into one executable zip file, so that it runs on
any Linux with Python 3.10 or newer, as one pinned file.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

    from rattler import RepoDataRecord


def fail(message: str) -> NoReturn:
    """Exit with code 1, saying why as the real program does."""
    print(f"error    libmamba {message}", file=sys.stderr)
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


def create(prefix: Path, explicit: Path, program: Path, *, compile_code: bool) -> None:
    """Install an explicit list into a prefix that must not exist as something else."""
    for name in ("HOME", "MAMBA_ROOT_PREFIX"):
        if not os.environ.get(name):
            fail(f"{name} is not set")
    packages = read_explicit(explicit.read_text())
    if prefix.exists() and not (prefix / "conda-meta").is_dir():
        fail(f"Non-conda folder exists at prefix: {prefix}")
    records = [to_record(url, digest) for url, digest in packages]
    install_all(prefix, [records])
    # In one go is much faster, and the same where nothing depends on the order.
    if any(prefix.glob("bin/.*-post-link.sh")) or (prefix / "__clobbers__").is_dir():
        steps = [records[:count] for count in range(1, len(records) + 1)]
        install_all(prefix, steps, after=lambda record: finish(prefix, record, program))
    complete_records(prefix)
    with (prefix / "conda-meta" / "history").open("a") as history:
        history.write(f"==> {time.strftime('%Y-%m-%d %H:%M:%S')} <==\n# cmd: {sys.argv}\n")
    if compile_code:
        command = [str(prefix / "bin/python"), "-m", "compileall", "-q", str(prefix / "lib")]
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    print(f"\nTransaction finished\n\nTo activate this environment, use: {prefix}")


def complete_records(prefix: Path) -> None:
    """Write into the records what packages need: their own `info/index.json` says that."""
    cache = Path(os.environ["MAMBA_ROOT_PREFIX"]) / "pkgs"
    for path in (prefix / "conda-meta").glob("*.json"):
        document = json.loads(path.read_text())
        [index, *_] = cache.glob(f"{glob.escape(path.stem)}*/info/index.json")
        document["depends"] = json.loads(index.read_text())["depends"]
        path.write_text(json.dumps(document))


def install_all(
    prefix: Path,
    steps: list[list[RepoDataRecord]],
    after: Callable[[RepoDataRecord], None] = lambda record: None,
) -> None:
    """Bring a new prefix to each list in turn; `after` each, its last package is handed on."""
    from rattler import install

    shutil.rmtree(prefix, ignore_errors=True)
    (prefix / "conda-meta").mkdir(parents=True)
    (prefix / "conda-meta" / "history").touch()
    cache = Path(os.environ["MAMBA_ROOT_PREFIX"]) / "pkgs"
    for records in steps:
        try:
            asyncio.run(install(records, prefix, cache_dir=cache, show_progress=False))
        except Exception as error:  # whatever rattler raises, the real program exits 1
            fail(str(error))
        after(records[-1])


def finish(prefix: Path, record: RepoDataRecord, program: Path) -> None:
    """Let the package that was linked last win its files, and run its post-link script."""
    name = record.name.normalized
    # rattler puts the files of the package that came second aside.
    aside = prefix / "__clobbers__"
    for file in (aside / name).rglob("*"):
        if not file.is_dir():
            file.replace(prefix / file.relative_to(aside / name))
    shutil.rmtree(aside, ignore_errors=True)
    script = prefix / "bin" / f".{name}-post-link.sh"
    if not script.exists():
        return
    if program.name in ("micromamba", "mamba"):
        hook = f"export CONDA_PREFIX='{prefix}' PATH='{prefix}/bin':$PATH\n"
        hook += "".join(f". '{path}'\n" for path in sorted(prefix.glob("etc/conda/activate.d/*")))
    else:
        hook = f"echo 'critical libmamba Cannot make a hook for {program.name}' >&2\n"
    environment = {
        **os.environ,
        "PREFIX": str(prefix),
        "PKG_NAME": name,
        "PKG_VERSION": str(record.version),
        "PATH": f"{prefix}/bin:{os.environ['PATH']}",
    }
    command = ["bash", "-c", f"{hook}. '{script}'"]
    subprocess.run(command, env=environment, cwd=prefix / "bin", check=False)


def main() -> None:
    """Unpack py-rattler beside the zip file where it is not importable, then create."""
    parser = argparse.ArgumentParser(prog="micromamba", allow_abbrev=False)
    parser.add_argument("--version", action="version", version="2.8.1")
    command = parser.add_subparsers(required=True).add_parser("create", allow_abbrev=False)
    command.add_argument("--no-rc", action="store_true", required=True)
    command.add_argument("-y", action="store_true", required=True)
    command.add_argument("-q", action="store_true")
    command.add_argument("--no-pyc", action="store_true")
    command.add_argument("-p", type=Path, required=True)
    command.add_argument("-f", type=Path, required=True)
    options = parser.parse_args()
    if options.q:
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    archive = Path(sys.path[0])
    with contextlib.ExitStack() as stack:
        if zipfile.is_zipfile(archive):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="micromamba-"))
            with zipfile.ZipFile(archive) as bundle:
                names = [name for name in bundle.namelist() if name.startswith("rattler/")]
                bundle.extractall(folder, names)
            sys.path.insert(0, folder)
        create(options.p, options.f, archive.resolve(), compile_code=not options.no_pyc)


if __name__ == "__main__":
    main()
    # Without the interpreter's own end: rattler's threads may still run, and have crashed in it.
    sys.stdout.flush()
    os._exit(0)
