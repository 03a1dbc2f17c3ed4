"""What conda's own records say."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sysconfig

from .found import SITES, Environment, Owner, find, normalise, read

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
    records: dict[str, str] = {}
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
        other = records.setdefault(record["name"], name)
        if other != name:
            message = "Has two records in conda-meta, `%s` and `%s`: one of them is stale"
            found.report(record["name"], message % (other, name))
        for entry, size in owned.items():
            if entry.startswith("site-packages/"):  # noarch: linked into this Python's own
                entry = os.path.join(purelib, entry[14:])
            # A folder may be reached through a link: what is compared is the real path.
            metadata = os.path.join(real, entry)
            place = os.path.realpath(os.path.dirname(metadata))
            found.owners[os.path.join(place, os.path.basename(metadata))] = Owner(
                record["name"], size
            )
    order_shared_files(found, prefix)


def order_shared_files(found: Environment, prefix: str) -> None:
    """Write into `after` of a record which packages it won files from that both own.

    Two packages with one file are rare: a hundred thousand paths take 20 ms to compare.
    """
    lists = [set(files.split(b'"')[1::2]) for files in found.files]
    every = set().union(*lists)
    if sum(map(len, lists)) == len(every):
        return
    seen: set[bytes] = set()
    shared: set[bytes] = set()
    for paths in lists:
        shared |= seen & paths
        seen |= paths
    for path in sorted(shared):
        name = os.fsdecode(path)
        try:
            digest = hashlib.sha256(read(os.path.join(prefix, name))).hexdigest()
        except OSError:
            continue
        owners = [found.conda[number] for number, paths in enumerate(lists) if path in paths]
        winners = [record for record in owners if digest in hashes(prefix, record, name)]
        if len(winners) == 1 and len(owners) > 1:
            losers = {record["name"] for record in owners if record is not winners[0]}
            winners[0]["after"] = sorted(losers.union(winners[0].get("after", ())))


def hashes(prefix: str, record: dict[str, Any], path: str) -> list[str]:
    """Return the sha256 that a record has for one of its files, as packed and as installed."""
    file = "%s-%s-%s.json" % (record["name"], record["version"], record["build"])
    try:
        document = json.loads(read(os.path.join(prefix, "conda-meta", file)))
        rows = document["paths_data"]["paths"]
        row = next(row for row in rows if row["_path"] == path)
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return []
    return [row.get("sha256_in_prefix") or row.get("sha256") or ""]


def drop_uninstalled(found: Environment, prefix: str) -> None:
    """Leave out the packages that pip has uninstalled: their records stay behind."""
    owned: dict[str, list[str]] = {}
    for path, owner in found.owners.items():
        # Not what it vendors.
        if os.path.basename(os.path.dirname(path)) in SITES:
            owned.setdefault(owner.package, []).append(path)
    for number, record in enumerate(list(found.conda)):
        paths = owned.get(record["name"], [])
        names = {normalise(os.path.basename(path).split("-")[0]) for path in paths}
        if not paths or any(map(has_metadata, paths)) or names & set(found.distributions):
            continue
        found.conda.remove(record)
        message = "Was uninstalled by another tool than conda, so it is not sent"
        rest = [
            path
            for path in json.loads(found.files[number])
            if not path.endswith(".pyc") and os.path.exists(os.path.join(prefix, path))
        ]
        if rest:
            message += "; left of it here: `%s`" % rest[0]
            message += " and %d more" % (len(rest) - 1) if len(rest) > 1 else ""
        found.report(record["name"], message)


def has_metadata(path: str) -> bool:
    """Return whether the file that makes a distribution is there; its folder may outlive it."""
    return os.path.isfile(path) or any(
        os.path.isfile(os.path.join(path, name)) for name in ("METADATA", "PKG-INFO")
    )


def scan_activation(found: Environment, prefix: str) -> None:
    """Read what activation sets: variables in conda's order, and scripts that no package brings."""
    folder = os.path.join(prefix, "etc", "conda")
    places = [
        os.path.join(folder, "env_vars.d", name)
        for name in _list(os.path.join(folder, "env_vars.d"), ".json")
    ]
    for path in [*places, os.path.join(prefix, "conda-meta", "state")]:
        data = find(path)
        if data is None:
            continue
        try:
            document = json.loads(data)
            values = document if path in places else document.get("env_vars") or {}
            found.variables.update({str(name): str(value) for name, value in values.items()})
        except (AttributeError, ValueError) as error:
            found.report(path, "Cannot be read as variables of the environment: %s" % error)
    for name in _list(os.path.join(folder, "activate.d"), ".sh"):
        path = "etc/conda/activate.d/" + name
        quoted = json.dumps(path).encode()
        if not any(quoted in files for files in found.files):
            found.activation.append(path)


def _list(folder: str, ending: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith(ending))
    except OSError:
        return []


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
