"""What conda's own records say."""

from __future__ import annotations

import json
import os
import re
import sysconfig

from .found import Environment, Owner, read

TYPE_CHECKING = False  # `typing` takes 3 ms to import.
if TYPE_CHECKING:
    from typing import Any

_SIZE = re.compile(rb'"size_in_bytes": *([0-9]+)')
_MEMBERS = ("name", "version", "build", "subdir")
# Who lists these owns a distribution's metadata.
_METADATA = (b'.dist-info/METADATA"', b'.egg-info/PKG-INFO"', b'.egg-info"')


def scan_conda(found: Environment, prefix: str) -> None:
    """Read `conda-meta`: the records, and which metadata folders they own."""
    folder = os.path.join(prefix, "conda-meta")
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".json"))
    except OSError:
        return
    # In a venv, its own is not the one that conda's packages are in.
    purelib = sysconfig.get_path("purelib", vars={"base": prefix, "platbase": prefix})
    real = os.path.realpath(prefix)
    for name in names:
        path = os.path.join(folder, name)
        try:
            record, files, owned, amount = read_record(read(path))
        except Exception as error:
            found.report(path, "Cannot be read as a conda record: %s" % error)
            continue
        found.conda.append(record)
        found.files.append(files)
        found.sizes.append(dict(amount, name=record["name"], source="conda"))
        for entry, size in owned.items():
            if entry.startswith("site-packages/"):  # noarch: linked into this Python's own
                entry = os.path.join(purelib, entry[14:])
            # A folder may be reached through a link: what is compared is the real path.
            metadata = os.path.join(real, entry)
            place = os.path.realpath(os.path.dirname(metadata))
            found.owners[os.path.join(place, os.path.basename(metadata))] = Owner(
                record["name"], size
            )


def read_record(
    data: bytes,
) -> tuple[dict[str, Any], bytes, dict[str, int | None], dict[str, int]]:
    """Return one record, its files, its metadata folders with their RECORD's size, and its bytes.

    The two lists of files are 97 % of a record (a megabyte for a large package): they are cut
    out before the rest is decoded, and searched as they stand.
    """
    head, files = cut(data, b'"files":')
    head, paths = cut(head, b'"paths":')
    try:
        document = json.loads(head)
    except ValueError:  # A `]` in a file's name.
        document = json.loads(data)
        files = json.dumps(document.get("files") or []).encode()
        paths = json.dumps((document.get("paths_data") or {}).get("paths") or []).encode()
    if not (document.get("name") and document.get("version")):
        raise ValueError("it has no name or no version")
    record: dict[str, Any] = {name: text(document, name) for name in _MEMBERS}
    record["channel"] = text(document, "channel", "schannel")
    record["url"] = text(document, "url") or "/".join(
        (record["channel"], record["subdir"], text(document, "fn"))
    )
    for name in ("sha256", "md5"):
        if document.get(name):
            record[name] = text(document, name)
    if document.get("noarch"):
        record["noarch"] = "python" if document["noarch"] is True else text(document, "noarch")
    depends = [str(each) for each in document.get("depends") or ()]
    if depends:
        record["depends"] = depends
    owned = {entry: record_size(paths, entry) for entry in find_metadata(files)}
    size = {"disk": sum(map(int, _SIZE.findall(paths)))}
    if isinstance(document.get("size"), int):
        size["packed"] = document["size"]
    return record, files, owned, size


def cut(data: bytes, key: bytes) -> tuple[bytes, bytes]:
    """Return dict[str, Any] with the list of `key` emptied, and that list."""
    start = data.find(b"[", data.find(key)) if key in data else -1
    end = data.find(b"]", start)
    if start < 0 or end < 0:
        return data, b"[]"
    return data[: start + 1] + data[end:], data[start : end + 1]


def find_metadata(files: bytes) -> list[str]:
    """Return the metadata folders in a list of files, and the files that stand for one."""
    entries = []
    for ending in _METADATA:
        end = files.find(ending)
        while end >= 0:
            start = files.rfind(b'"', 0, end)
            path = json.loads(files[start : end + len(ending)])
            entries.append(path if path.endswith(".egg-info") else path.rpartition("/")[0])
            end = files.find(ending, end + len(ending))
    return entries


def record_size(paths: bytes, entry: str) -> int | None:
    """Return the size that RECORD had when it was packed; None where conda changes it."""
    place = paths.find(json.dumps(entry + "/RECORD").encode())
    if place < 0:
        return None
    member = json.loads(paths[paths.rfind(b"{", 0, place) : paths.find(b"}", place) + 1])
    size = None if "prefix_placeholder" in member else member.get("size_in_bytes")
    return size if isinstance(size, int) else None


def text(document: dict[str, Any], *names: str) -> str:
    """Return the first member that is there, as text."""
    for name in names:
        if document.get(name) is not None:
            return str(document[name])
    return ""


def lists_name(found: Environment, name: str) -> bool:
    """Return whether a package installed a top-level file or folder into site-packages."""
    place = b"site-packages/" + name.encode()
    return any(place + b"/" in files or place + b'"' in files for files in found.files)
