"""Wheels to a tree as it will stand in the guest's prefix, byte for byte the same each time."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from installer import install
from installer.destinations import SchemeDictionaryDestination
from installer.records import RecordEntry
from installer.sources import WheelFile
from packaging.utils import canonicalize_name

from envboot import process
from envboot.agent import wire
from envboot.agent.pack import LAYER_LIST
from envboot.errors import LayerError
from envboot.redaction import strip_url
from envboot.tool_variables import clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from installer.utils import Scheme

    from envboot.layer.loose_files import Code
    from envboot.scan.schema import Source

# Stands for the interpreter until a script is written.
_INTERPRETER = "/envboot-interpreter"
_SHEBANG = f"#!{_INTERPRETER}\n".encode()

# What `uv venv --relocatable` writes: the interpreter is the one beside the script.
_RELOCATABLE = (
    b"#!/bin/sh\n"
    b'\'\'\'exec\' "$(dirname -- "$(realpath -- "$0")")"/\'python\' "$0" "$@"\n'
    b"' '''\n"
)


class Tree(SchemeDictionaryDestination):
    """A prefix being filled: fixed modes, scripts for the guest, records kept until the end."""

    def __init__(self, root: Path, minor: str, prefix: str | None, headers: str) -> None:
        """Fill `root` for Python `minor`; scripts name `prefix`, or none when it is not known.

        `headers` is the directory that has one for each distribution with headers.
        """
        site = f"{root}/lib/python{minor}/site-packages"
        super().__init__(
            scheme_dict={
                "purelib": site,
                "platlib": site,
                "headers": f"{root}/{headers}",
                "scripts": f"{root}/bin",
                "data": f"{root}",
            },
            interpreter=_INTERPRETER,
            script_kind="posix",
        )
        self.prefix = prefix
        self.distribution = ""
        self.pending: list[tuple[Scheme, str, list[tuple[Scheme, RecordEntry]]]] = []
        self.replaced: list[str] = []

    def write_to_fs(
        self, scheme: Scheme, path: str, stream: BinaryIO, is_executable: bool
    ) -> RecordEntry:
        """Write one file with mode 0755 or 0644, whatever the umask."""
        data = stream.read()
        if scheme == "headers":
            # Installers give every distribution a directory of its own there.
            path = f"{self.distribution}/{path}"
        if scheme == "scripts":
            data = self._rewrite_shebang(data)
        target = self._path_with_destdir(scheme, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and target.read_bytes() != data:
            self.replaced.append(os.path.relpath(target, self.scheme_dict["data"]))
        target.write_bytes(data)
        target.chmod(0o755 if is_executable or scheme == "scripts" else 0o644)
        return _record(path, data)

    def finalize_installation(
        self,
        scheme: Scheme,
        record_file_path: str,
        records: Iterable[tuple[Scheme, RecordEntry]],
    ) -> None:
        """Keep the records: byte code still has to join them."""
        self.pending.append((scheme, record_file_path, list(records)))

    def write_records(self, tag: str) -> None:
        """Write every RECORD, complete with byte code, in the order of its paths."""
        for scheme, path, records in self.pending:
            compiled = [
                (place, RecordEntry(byte_code, None, None))
                for place, record in records
                if (byte_code := self._find_byte_code(place, record.path, tag))
            ]
            ordered = sorted(records + compiled, key=lambda pair: (pair[0], pair[1].path))
            super().finalize_installation(scheme, path, ordered)

    def _find_byte_code(self, scheme: Scheme, path: str, tag: str) -> str | None:
        folder, slash, name = path.rpartition("/")
        byte_code = f"{folder}{slash}__pycache__/{name.removesuffix('.py')}.{tag}.pyc"
        is_there = path.endswith(".py") and self._path_with_destdir(scheme, byte_code).exists()
        return byte_code if is_there else None

    def _rewrite_shebang(self, data: bytes) -> bytes:
        if not data.startswith(_SHEBANG):
            return data
        named = _RELOCATABLE if self.prefix is None else f"#!{self.prefix}/bin/python\n".encode()
        return named + data.removeprefix(_SHEBANG)


def install_wheel(tree: Tree, wheel: Path, source: Source) -> None:
    """Install one wheel; raises `LayerError` where it is no sound wheel."""
    metadata = {"INSTALLER": b"envboot\n"}
    if source.git:
        document = {
            "url": strip_url(source.git),
            "vcs_info": {"vcs": "git", "commit_id": source.commit},
            "subdirectory": source.subdirectory,
        }
        metadata["direct_url.json"] = wire.canonical(document)
    # For a folder there is none: a path of this machine means nothing on another.
    try:
        with WheelFile.open(wheel) as opened:
            tree.distribution = canonicalize_name(opened.distribution)
            install(opened, tree, metadata)
    except Exception as error:
        # zipfile, installer and the disk each raise their own.
        raise LayerError(
            f"Failed to install `{wheel.name}` into the layer", causes=(str(error),)
        ) from error


def install_code(tree: Tree, code: Code) -> None:
    """Copy loose code to its places; what a wheel has brought already stays as it is."""
    root, site = Path(tree.scheme_dict["data"]), Path(tree.scheme_dict["purelib"])
    for folder in code.folders:
        for file in folder.files:
            target = (root / folder.place if folder.place else site) / file.path
            if target.exists():
                tree.replaced.append(os.path.relpath(target, root))
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.source, target)
            target.chmod(0o755 if file.executable else 0o644)
    if any(folder.place for folder in code.folders):
        site.mkdir(parents=True, exist_ok=True)
        (site / "envboot.pth").write_text(code.render_path(), "ascii")
        (site / "envboot.pth").chmod(0o644)


def write_file(path: Path, content: bytes) -> None:
    """Write one file that everybody may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o644)


def compile_tree(root: Path, python: str, prefix: str, environment: Mapping[str, str]) -> str:
    """Compile byte code as seen from `prefix`; returns the tag in its file names.

    Files that are no valid Python (templates, other versions) stay as they are. `PYTHONHASHSEED`
    fixes the order of sets among the constants.
    """
    program = (
        "import compileall, py_compile, sys; root, prefix = sys.argv[1:]; "
        # `stripdir` and `prependdir` exist since Python 3.9, and this means the same.
        "compileall.compile_dir(root, maxlevels=100, quiet=2, force=True, ddir=prefix, "
        "invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH); "
        "print(sys.implementation.cache_tag)"
    )
    done = process.run(
        [python, "-s", "-S", "-c", program, os.fspath(root), prefix],
        # Whatever the interpreter's file is called.
        environment=clean_environment("python", environment),
        folder=root,
        variables={"PYTHONHASHSEED": "0"},
    )
    if done.code:
        raise LayerError(f"Failed to compile byte code with `{python}`", causes=done.last_errors())
    return done.text.split()[-1]


def write_list(root: Path) -> None:
    """Write down every file of the layer, so that a running machine can put another in its place.

    The list names itself. What the layer replaces of the base is not known here.
    """
    target = root / LAYER_LIST
    target.parent.mkdir(parents=True, exist_ok=True)
    target.touch(mode=0o644)
    target.chmod(0o644)
    paths = (
        os.path.relpath(f"{folder}/{name}", root)
        for folder, _, names in os.walk(root)
        for name in names
    )
    target.write_bytes(b"".join(os.fsencode(path) + b"\n" for path in sorted(paths)))


def settle_modes(root: Path) -> None:
    """Give folders and byte code the modes that they have everywhere."""
    for folder, _, names in os.walk(root):
        Path(folder).chmod(0o755)
        for name in names:
            if name.endswith(".pyc"):
                Path(folder, name).chmod(0o644)


def _record(path: str, data: bytes) -> RecordEntry:
    from installer.records import Hash
    from installer.utils import copyfileobj_with_hashing

    value, size = copyfileobj_with_hashing(io.BytesIO(data), io.BytesIO(), "sha256")
    return RecordEntry(path, Hash("sha256", value), size)
