"""A real conda channel, made from this machine's own CPython and a few wheels in seconds.

No public channel is needed: `ensure_channel` repacks the running interpreter as `python`, one
compiled and one pure wheel as conda packages, and a native package with an activation script
and a binary that carries the placeholder of its prefix. Beside it lie wheels for a simple
index, the real uv as a wheel, and the micromamba stand-in as one executable file.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from tests import index
from tests.package import Member, write_package

if TYPE_CHECKING:
    from tests.index import WheelFile

CACHE = Path(__file__).parent.parent / ".cache"
PLACEHOLDER = "/placeholder_" + "placehold_" * 24
NUMPY, TABULATE = "2.2.6", "0.9.0"
WHEELS = ("markupsafe==3.0.2", "six==1.17.0")
MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
LIBRARY = f"lib/python{MINOR}"
_UNWANTED = {
    "__pycache__", "config-" + MINOR, "dist-packages", "ensurepip", "idlelib", "lib2to3",
    "site-packages", "sitecustomize.py", "test", "tests", "tkinter", "turtledemo",
    "EXTERNALLY-MANAGED",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """One conda package of the channel; `path` is relative to the channel: `subdir/file`."""

    name: str
    version: str
    path: str
    sha256: str
    md5: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Channel:
    """What `ensure_channel` made. Serve `folder` with `tests.index.serve_folder`.

    Below it: `conda/<subdir>/`, `wheels/` with `wheels/simple/`, and `micromamba`.
    """

    folder: Path
    packages: dict[str, Package]
    wheels: dict[str, WheelFile]
    micromamba: Path
    micromamba_sha256: str

    @property
    def python_version(self) -> str:
        """The repacked interpreter's version, as `3.11.7`."""
        return self.packages["python"].version


def ensure_channel(cache: Path = CACHE) -> Channel:
    """Make the channel, or find the one that the same recipe made before."""
    sources = [Path(__file__), Path(__file__).with_name("package.py"), Path(index.__file__)]
    sources.append(Path(__file__).with_name("micromamba_standin.py"))
    recipe = hashlib.sha256(b"".join(path.read_bytes() for path in sources))
    recipe.update(f"{sys.version} {sys.base_prefix} {_versions()}".encode())
    folder = cache / f"channel-{recipe.hexdigest()[:12]}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / "channel.lock"):
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=cache) as work:
                made = Path(work) / "channel"
                _make(made)
                made.rename(folder)
    return _read(folder)


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("py-rattler", "uv")}


def _read(folder: Path) -> Channel:
    packages = {}
    for path in (folder / "conda").glob("*/*.conda"):
        name, version, _ = path.stem.rsplit("-", 2)
        data = path.read_bytes()
        packages[name] = Package(
            name=name,
            version=version,
            path=f"{path.parent.name}/{path.name}",
            sha256=hashlib.sha256(data).hexdigest(),
            md5=hashlib.md5(data).hexdigest(),
        )
    return Channel(
        folder=folder,
        packages=packages,
        wheels=index.read_wheels(folder / "wheels"),
        micromamba=folder / "micromamba",
        micromamba_sha256=hashlib.sha256((folder / "micromamba").read_bytes()).hexdigest(),
    )


def _make(folder: Path) -> None:
    from rattler.index import index_fs

    wheels, repacked = folder / "wheels", folder.parent / "repacked"
    for path in (folder / "conda" / "linux-64", folder / "conda" / "noarch", wheels, repacked):
        path.mkdir(parents=True)
    index.download_wheels((*WHEELS, f"uv=={_versions()['uv']}"), wheels)
    index.download_wheels((f"numpy=={NUMPY}", f"tabulate=={TABULATE}"), repacked)
    index.write_simple(wheels)
    found = index.read_wheels(repacked)
    compiled, pure = folder / "conda" / "linux-64", folder / "conda" / "noarch"
    version = ".".join(map(str, sys.version_info[:3]))
    needs = f"python >={MINOR},<{sys.version_info.major}.{sys.version_info.minor + 1}"
    write_package(compiled, "python", version, "0_tests", python_members())
    write_package(compiled, "native-tool", "1.0", "0_tests", native_members())
    numpy = wheel_members(found["numpy"].path, f"{LIBRARY}/site-packages")
    numpy += [_script(*entry) for entry in _entry_points(found["numpy"].path)]
    write_package(compiled, "numpy", NUMPY, "0_tests", numpy, depends=(needs,))
    entries = _entry_points(found["tabulate"].path)
    write_package(
        pure,
        "tabulate",
        TABULATE,
        "pyh_0",
        wheel_members(found["tabulate"].path, "site-packages"),
        depends=("python >=3.10",),
        entry_points=[f"{name} = {target}" for name, target in entries],
    )
    asyncio.run(index_fs(folder / "conda"))
    make_standin(folder / "micromamba")


def python_members() -> list[Member]:
    """Return the running CPython as members of a conda package.

    The interpreter may be Debian's own (static, its standard library patched to look for
    `dist-packages`), one built with a shared libpython (pyenv), or a static one.
    """
    executable = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    members = [
        Member(path=f"bin/python{MINOR}", data=_relocatable(executable), mode=0o755),
        Member(path="bin/python3", link=f"python{MINOR}"),
        Member(path="bin/python", link=f"python{MINOR}"),
        _script("pydoc", "pydoc:cli"),
    ]
    shared = str(sysconfig.get_config_var("INSTSONAME") or "")
    library = Path(str(sysconfig.get_config_var("LIBDIR"))) / shared
    if sysconfig.get_config_var("Py_ENABLE_SHARED") and "libpython" in _needed(executable):
        members.append(Member(path=f"lib/{shared}", data=library.read_bytes(), mode=0o755))
    stdlib = Path(sysconfig.get_path("stdlib"))
    for folder, folders, files in os.walk(stdlib):
        folders[:] = sorted(f for f in folders if not f.startswith(tuple(_UNWANTED)))
        wanted = sorted(name for name in set(files) - _UNWANTED if not name.endswith(".pyc"))
        members.extend(_standard(Path(folder, name), stdlib) for name in wanted)
    note = b"Packages are installed here.\n"
    members.append(Member(path=f"{LIBRARY}/site-packages/README.txt", data=note))
    if "dist-packages" in (stdlib / "site.py").read_text():
        # Debian's interpreter looks there, as its frozen `site` tells it: no patch helps.
        members.append(Member(path=f"{LIBRARY}/dist-packages", link="site-packages"))
    return members


def _standard(path: Path, stdlib: Path) -> Member:
    data = path.read_bytes()
    relative = path.relative_to(stdlib)
    # Debian's interpreter installs below `/usr/local`: undo that patch.
    if str(relative) == "sysconfig.py":
        data = data.replace(b"prefix_scheme = 'posix_local'", b"prefix_scheme = 'posix_prefix'")
    placeholder = None
    if relative.name.startswith("_sysconfigdata"):
        # `/usr` alone also stands for programs that are not part of the prefix.
        found, wanted = sys.base_prefix, PLACEHOLDER
        if found == "/usr":
            found, wanted = f"'{found}'", f"'{wanted}'"
        data = data.replace(found.encode(), wanted.encode())
        placeholder = PLACEHOLDER
    mode = 0o755 if os.access(path, os.X_OK) else 0o644
    return Member(path=f"{LIBRARY}/{relative}", data=data, mode=mode, placeholder=placeholder)


def _needed(path: Path) -> str:
    command = ["patchelf", "--print-needed", str(path)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _relocatable(path: Path, rpath: str = "$ORIGIN/../lib") -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        shutil.copyfile(path, copy)
        subprocess.run(["patchelf", "--set-rpath", rpath, str(copy)], check=True)
        return copy.read_bytes()


def native_members() -> list[Member]:
    """Return a real binary that carries its prefix, and an activation script that does too."""
    binary = _relocatable(Path("/usr/bin/env"), f"{PLACEHOLDER}/lib")
    script = f'export NATIVE_TOOL_HOME="{PLACEHOLDER}/share/native-tool"\n'
    return [
        Member(
            path="bin/native-tool", data=binary, mode=0o755, placeholder=PLACEHOLDER, binary=True
        ),
        Member(
            path="etc/conda/activate.d/native-tool.sh",
            data=script.encode(),
            placeholder=PLACEHOLDER,
        ),
        Member(path="share/native-tool/data.txt", data=b"native\n"),
    ]


def wheel_members(wheel: Path, folder: str) -> list[Member]:
    """Return a wheel's files as a conda package would hold them, but for their own tests.

    Those are a fifth of the code that every machine would compile.
    """
    members = []
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            if info.is_dir() or ".data/" in info.filename or "/tests/" in info.filename:
                continue
            mode = 0o755 if info.filename.endswith(".so") else 0o644
            data = archive.read(info)
            if info.filename.endswith(".dist-info/RECORD"):
                data = b"".join(line for line in data.splitlines(True) if b"/tests/" not in line)
            members.append(Member(path=f"{folder}/{info.filename}", data=data, mode=mode))
            if info.filename.endswith(".dist-info/WHEEL"):
                installer = info.filename.replace("WHEEL", "INSTALLER")
                members.append(Member(path=f"{folder}/{installer}", data=b"conda\n"))
    return members


def _entry_points(wheel: Path) -> list[tuple[str, str]]:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        parser = ConfigParser(delimiters=("=",))
        parser.read_string(archive.read(names[0]).decode() if names else "")
    return parser.items("console_scripts") if parser.has_section("console_scripts") else []


def _script(name: str, target: str) -> Member:
    module, _, function = target.partition(":")
    text = (
        f"#!{PLACEHOLDER}/bin/python{MINOR}\n"
        f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n"
    )
    return Member(path=f"bin/{name}", data=text.encode(), mode=0o755, placeholder=PLACEHOLDER)


def make_standin(path: Path) -> None:
    """Write the micromamba stand-in with py-rattler inside, as one executable zip file."""
    files = importlib.metadata.files("py-rattler") or []
    stamp = (2020, 1, 1, 0, 0, 0)
    with path.open("wb") as out:
        out.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bundle:
            source = Path(__file__).with_name("micromamba_standin.py").read_text()
            _add(bundle, zipfile.ZipInfo("__main__.py", stamp), source.encode())
            for file in sorted(files, key=str):
                if file.parts[0] == "rattler" and file.suffix in {".py", ".so"}:
                    _add(
                        bundle,
                        zipfile.ZipInfo(str(file), stamp),
                        Path(str(file.locate())).read_bytes(),
                    )
    path.chmod(0o755)


def _add(bundle: zipfile.ZipFile, info: zipfile.ZipInfo, data: bytes) -> None:
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o755 << 16
    bundle.writestr(info, data, compresslevel=1)


def explicit_list(channel: Channel, url: str, names: tuple[str, ...]) -> str:
    """Return the explicit list of some packages as served at `url`."""
    packages = [channel.packages[name] for name in names]
    lines = [f"{url}/conda/{package.path}#sha256:{package.sha256}" for package in packages]
    return "\n".join(["@EXPLICIT", *lines]) + "\n"


if __name__ == "__main__":
    print(json.dumps({"folder": str(ensure_channel().folder)}))
