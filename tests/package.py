"""Write one conda package from members held in memory."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from conda_package_streaming.create import conda_builder  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One file or symbolic link; `placeholder` is the prefix that installing replaces in it."""

    path: str
    data: bytes = b""
    mode: int = 0o644
    link: str | None = None
    placeholder: str | None = None
    binary: bool = False


def write_package(
    folder: Path,
    name: str,
    version: str,
    build: str,
    members: list[Member],
    *,
    depends: tuple[str, ...] = (),
    entry_points: list[str] | None = None,
) -> None:
    """Write `folder/<name>-<version>-<build>.conda`; `folder` is named as the subdir."""
    noarch = folder.name == "noarch"
    index: dict[str, Any] = {
        "name": name,
        "version": version,
        "build": build,
        "build_number": 0,
        "depends": list(depends),
        "subdir": folder.name,
        "license": "various",
        "timestamp": 1577836800000,
        **({"noarch": "python"} if noarch else {"arch": "x86_64", "platform": "linux"}),
    }
    documents = {
        "index": index,
        "paths": {"paths": [_path_entry(member) for member in members], "paths_version": 1},
        "about": {"summary": f"{name} repacked for tests"},
    }
    if noarch:
        entries = {"type": "python", "entry_points": entry_points or []}
        documents["link"] = {"noarch": entries, "package_metadata_version": 1}
    with conda_builder(f"{name}-{version}-{build}", folder, compression_level=3) as package:
        for title, document in documents.items():
            data = json.dumps(document, indent=1).encode()
            _add(package, Member(path=f"info/{title}.json", data=data))
        for member in members:
            _add(package, member)


def _path_entry(member: Member) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "_path": member.path,
        "path_type": "softlink" if member.link else "hardlink",
        "sha256": hashlib.sha256(member.data).hexdigest(),
        "size_in_bytes": len(member.data),
    }
    if member.placeholder:
        entry["prefix_placeholder"] = member.placeholder
        entry["file_mode"] = "binary" if member.binary else "text"
    return entry


def _add(package: tarfile.TarFile, member: Member) -> None:
    info = tarfile.TarInfo(member.path)
    info.mode = member.mode
    info.mtime = 1577836800
    if member.link:
        info.type, info.linkname = tarfile.SYMTYPE, member.link
    info.size = len(member.data)
    package.addfile(info, io.BytesIO(member.data))
