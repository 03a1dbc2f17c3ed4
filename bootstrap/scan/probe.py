"""Print one environment as a scan document, from inside its own interpreter.

Standard library only, Python 3.8 and later; run as a script by `bootstrap.scan`. Metadata is
read from the files themselves: `importlib.metadata` takes several times as long. One bad file
is a problem in the document, never the end of the scan. URLs are printed as they are found:
`bootstrap.scan` strips their credentials.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__" and sys.path[:1] == [os.path.dirname(os.path.abspath(__file__))]:
    del sys.path[0]  # Nothing of ours may be found in place of the environment's own modules.

import json
import re
import sysconfig
from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple, Union

JSON = Dict[str, Any]
SITES = ("site-packages", "dist-packages")

# Code only: it is what people patch in place, and a third of the `stat` calls of all files.
_ROW = re.compile(rb'\n([^,\n"]+\.(?:py|so|pth)),[^,\n]*,(\d+)')
_PTH = re.compile(rb'\n([^/,\n"]+\.pth),')
_NAME = re.compile(r"^name:[ \t]*(\S.*?)\s*$", re.I | re.M)
_VERSION = re.compile(r"^version:[ \t]*(\S.*?)\s*$", re.I | re.M)
_TAG = re.compile(rb"^tag:[ \t]*(\S+)", re.I | re.M)
_BLANK = re.compile(rb"\n\r?\n")
_MAPPED = re.compile(r"""['"](/[^'"]+)['"]""")


class Owner(NamedTuple):
    """The conda package that put a metadata folder there, and how large its RECORD was then."""

    package: str
    size: Optional[int]


class Candidate(NamedTuple):
    """One metadata folder or file that says that a distribution is installed."""

    entry: str
    name: str
    version: str


class Environment:
    """Everything found so far."""

    def __init__(self) -> None:
        self.conda: List[JSON] = []
        self.owners: Dict[str, Owner] = {}
        self.distributions: Dict[str, JSON] = {}
        self.problems: List[JSON] = []

    def report(self, subject: str, message: str) -> None:
        """Add a problem."""
        self.problems.append({"subject": subject, "message": message})


def read(path: str) -> bytes:
    """Return a file's bytes; `os.read` costs a third of `open`."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        data = chunk = os.read(descriptor, 1 << 20)
        while chunk:
            chunk = os.read(descriptor, 1 << 20)
            data += chunk
        return data
    finally:
        os.close(descriptor)


def find(path: str) -> Optional[bytes]:
    """Return a file's bytes, None where there is none."""
    try:
        return read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def normalise(name: str) -> str:
    """Return a distribution's name after PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def describe_interpreter() -> JSON:
    """Return the members of `Interpreter`."""
    paths = sysconfig.get_paths()
    base = os.path.realpath(sys.executable)
    if sys.prefix != sys.base_prefix and base.startswith(os.path.realpath(sys.prefix) + os.sep):
        # A venv made with copies: no link leads out of it.
        base = os.path.realpath(getattr(sys, "_base_executable", base))
    return {
        "version": "%d.%d.%d" % sys.version_info[:3] + release_suffix(),
        "implementation": sys.implementation.name,
        "executable": sys.executable,
        "base_executable": base,
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "tag": sys.implementation.cache_tag or sys.implementation.name,
        "purelib": paths["purelib"],
        "platlib": paths["platlib"],
    }


def release_suffix() -> str:
    """Return `rc1`, `b2` or nothing."""
    short = {"alpha": "a", "beta": "b", "candidate": "rc"}
    level = short.get(sys.version_info.releaselevel)
    return "%s%d" % (level, sys.version_info.serial) if level else ""


def describe_platform() -> str:
    """Return the platform as conda names its subdirs: `linux-64`, `osx-arm64`."""
    system = {"darwin": "osx", "win32": "win"}.get(sys.platform, sys.platform)
    machine = sysconfig.get_platform().replace("-", "_").rpartition("_")[2]
    if hasattr(os, "uname"):
        machine = os.uname().machine
    if machine in ("x86_64", "amd64", "64"):
        machine = "64" if sys.maxsize > 2**32 else "32"
    elif machine in ("i386", "i686", "win32"):
        machine = "32"
    return "%s-%s" % (system, machine)


def find_glibc() -> Optional[str]:
    """Return glibc's version, None where the C library is another."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (AttributeError, ValueError, OSError):
        return None
    return version if name == "glibc" else None


def scan_conda(found: Environment, prefix: str) -> None:
    """Read `conda-meta`: the records, and which metadata folders they own."""
    folder = os.path.join(prefix, "conda-meta")
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".json"))
    except OSError:
        return
    for name in names:
        path = os.path.join(folder, name)
        try:
            record, owned = read_record(read(path))
        except Exception as error:
            found.report(path, "Cannot be read as a conda record: %s" % error)
            continue
        found.conda.append(record)
        for entry, size in owned.items():
            if entry.startswith("site-packages/"):
                entry = os.path.join(sysconfig.get_paths()["purelib"], entry[14:])
            # A folder may be reached through a link: what is compared is the real path.
            metadata = os.path.join(os.path.realpath(prefix), entry)
            place = os.path.realpath(os.path.dirname(metadata))
            owner = Owner(record["name"], size)
            found.owners[os.path.join(place, os.path.basename(metadata))] = owner


def read_record(data: bytes) -> Tuple[JSON, Dict[str, Optional[int]]]:
    """Return one conda record, and its metadata folders with the size of RECORD in each."""
    document = json.loads(data)
    if not (document.get("name") and document.get("version")):
        raise ValueError("it has no name or no version")
    record: JSON = {name: text(document, name) for name in ("name", "version", "build", "subdir")}
    record["channel"] = text(document, "channel", "schannel")
    record["url"] = text(document, "url") or "/".join(
        (record["channel"], record["subdir"], text(document, "fn"))
    )
    for name in ("sha256", "md5"):
        if document.get(name):
            record[name] = text(document, name)
    if document.get("noarch"):
        record["noarch"] = "python" if document["noarch"] is True else text(document, "noarch")
    owned: Dict[str, Optional[int]] = {}
    for path in document.get("files") or ():
        if path.endswith((".dist-info/METADATA", ".egg-info/PKG-INFO")):
            owned[os.path.dirname(path)] = None
        elif path.endswith(".egg-info"):
            owned[path] = None
    if owned:
        for member in (document.get("paths_data") or {}).get("paths") or ():
            folder, _, name = member["_path"].rpartition("/")
            if name == "RECORD" and folder in owned and "prefix_placeholder" not in member:
                owned[folder] = member.get("size_in_bytes")
    return record, owned


def text(document: JSON, *names: str) -> str:
    """Return the first member that is there, as text."""
    for name in names:
        if document.get(name) is not None:
            return str(document[name])
    return ""


def scan_folder(found: Environment, folder: str) -> None:
    """Add the distributions of one folder of `sys.path`, unless an earlier one has them."""
    try:
        entries = sorted(os.listdir(folder))
        os.chdir(folder)  # Short paths: RECORD's rows are relative to here.
    except OSError as error:
        found.report(folder, "Cannot be listed: %s" % error.strerror)
        return
    # Only installers write to site-packages; elsewhere an `.egg-info` is left by a build.
    endings: Tuple[str, ...] = (".dist-info", ".egg-info", ".egg-link")
    if os.path.basename(folder) not in SITES:
        endings = endings[:1]
    candidates: Dict[str, List[Candidate]] = {}
    for entry in entries:
        if not entry.endswith(endings) or entry.startswith("~"):  # `~`: half removed by pip
            continue
        try:
            candidate = read_candidate(entry)
            candidates.setdefault(candidate.name, []).append(candidate)
        except Exception as error:
            found.report(os.path.join(folder, entry), "Cannot be read: %s" % error)
    for name in sorted(candidates):
        if name not in found.distributions:
            try:
                found.distributions[name] = choose(found, folder, candidates[name])
            except Exception as error:
                found.report(name, "Cannot be read: %s" % error)
    real = os.path.realpath(folder)
    gone = set(found.owners) - {os.path.join(real, entry) for entry in entries}
    for path in sorted(path for path in gone if os.path.dirname(path) == real):
        message = "Its `%s` has been removed or replaced since conda installed it"
        found.report(found.owners[path].package, message % os.path.basename(path))


def read_candidate(entry: str) -> Candidate:
    """Read a distribution's name and version from the headers of its metadata."""
    path = entry
    if entry.endswith(".egg-link"):
        project = link_target(entry)
        if not os.path.isdir(project):
            raise ValueError("its project `%s` is gone" % project)
        wanted = normalise(entry[: -len(".egg-link")])
        built = {
            normalise(name[:-9]): name for name in os.listdir(project) if name[-9:] == ".egg-info"
        }
        path = os.path.join(project, built.get(wanted, wanted + ".egg-info"))
    if entry.endswith(".dist-info"):
        path += "/METADATA"
    elif os.path.isdir(path):
        path += "/PKG-INFO"
    data = read(path)
    blank = _BLANK.search(data)
    headers = data[: blank.start() if blank else None].decode("utf-8", "replace")
    name, version = _NAME.search(headers), _VERSION.search(headers)
    if not (name and version):
        raise ValueError("its metadata has no name or no version")
    return Candidate(entry, normalise(name.group(1)), version.group(1))


def link_target(entry: str) -> str:
    """Return the folder that an `.egg-link` names."""
    return os.fsdecode(read(entry).split(b"\n")[0].strip())


def choose(found: Environment, folder: str, candidates: List[Candidate]) -> JSON:
    """Return the distribution whose RECORD agrees best with the disk; ties go to the latest."""
    if len(candidates) == 1:
        return describe(found, folder, candidates[0])
    ranked = sorted(
        candidates, key=lambda each: (*disagreement(each), -os.stat(each.entry).st_mtime)
    )
    if len({candidate.version for candidate in candidates}) > 1:
        names = ", ".join("`%s`" % candidate.entry for candidate in candidates)
        message = "Installed more than once: %s; `%s` agrees with the disk best"
        found.report(candidates[0].name, message % (names, ranked[0].entry))
    return describe(found, folder, ranked[0])


def disagreement(candidate: Candidate) -> Tuple[bool, float]:
    """Return whether RECORD is missing, and which part of its code is not as it says."""
    record = find(candidate.entry + "/RECORD")
    if record is None:
        return True, 1.0
    rows = _ROW.findall(b"\n" + record)
    return False, len(drifted(rows)) / len(rows) if rows else 0.0


def drifted(rows: List[Tuple[bytes, bytes]]) -> List[bytes]:
    """Return the files that are gone or have another size than RECORD's rows say."""
    return [path for path, size in rows if size_of(path) != int(size)]


def size_of(path: Union[str, bytes]) -> Optional[int]:
    """Return a file's size, None where there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def describe(found: Environment, folder: str, candidate: Candidate) -> JSON:
    """Return the members of `Distribution`."""
    entry, name = candidate.entry, candidate.name
    document: JSON = {"name": name, "version": candidate.version, "location": folder}
    if entry.endswith(".egg-link"):
        document.update(editable=True, record="missing")
        document["direct_url"] = editable_url(link_target(entry))
        return document
    installer = find(entry + "/INSTALLER")
    if installer and installer.strip():
        document["installer"] = installer.decode("utf-8", "replace").split()[0]
    tags = _TAG.findall(find(entry + "/WHEEL") or b"")
    document["tags"] = [tag.decode("utf-8", "replace") for tag in tags]
    owner = found.owners.get(os.path.join(os.path.realpath(folder), entry))
    if owner and owner.size not in (None, size_of(entry + "/RECORD")):
        message = "Its files have been overwritten by `%s`"
        found.report(owner.package, message % document.get("installer", "another installer"))
        owner = None
    if owner:
        # What conda's builder recorded (a folder of its own) is not where the user got it from,
        # and the files differ from RECORD where conda put the prefix in.
        document["conda"] = owner.package
        return document
    record = find(entry + "/RECORD")
    document["record"] = judge(found, name, record)
    direct = find(entry + "/direct_url.json")
    if direct:
        try:
            document["direct_url"] = parse_direct_url(direct)
        except ValueError as error:
            found.report(name, "Its `direct_url.json` cannot be read: %s" % error)
    elif record:
        project = find_project(record)
        if project:
            document["direct_url"] = editable_url(project)
    kind = document.get("direct_url", {}).get("dir_info", {})
    document["editable"] = kind.get("editable") is True
    return document


def parse_direct_url(data: bytes) -> JSON:
    """Return PEP 610's document, its members being of the kinds that everyone relies on."""
    document = json.loads(data)
    kinds = {"url": str, "subdirectory": str, "vcs_info": dict, "dir_info": dict}
    if not isinstance(document, dict) or not isinstance(document.get("url"), str):
        raise ValueError("it has no `url`")
    for name, kind in kinds.items():
        if name in document and not isinstance(document[name], kind):
            raise ValueError("its `%s` is not a %s" % (name, kind.__name__))
    return document


def judge(found: Environment, name: str, record: Optional[bytes]) -> str:
    """Return whether RECORD is `ok`, `missing` or `drifted`, and report the latter two."""
    if record is None:
        found.report(name, "Has no RECORD: whether its files are intact cannot be told")
        return "missing"
    wrong = drifted(_ROW.findall(b"\n" + record))
    if not wrong:
        return "ok"
    first = os.fsdecode(os.path.normpath(wrong[0]))
    others = " and %d more" % (len(wrong) - 1) if len(wrong) > 1 else ""
    found.report(name, "Changed since its installation: `%s`%s" % (first, others))
    return "drifted"


def editable_url(project: str) -> JSON:
    """Return the direct URL that pip writes for an editable install."""
    from urllib.parse import quote

    return {"url": "file://" + quote(project), "dir_info": {"editable": True}}


def find_project(record: bytes) -> Optional[str]:
    """Return the project behind a `.pth` file of RECORD that leads to a folder of its own."""
    for match in _PTH.findall(b"\n" + record):
        for line in (find(os.fsdecode(match)) or b"").decode("utf-8", "replace").splitlines():
            imported = re.match(r"import (__editable___\w+)", line)
            if imported:  # setuptools' finder: a module with a mapping of packages to folders
                finder = (find(imported.group(1) + ".py") or b"").decode("utf-8", "replace")
                target = next(iter(_MAPPED.findall(finder)), None)
            else:
                target = line.strip() if os.path.isabs(line) else None
            if target:
                return project_root(target)
    return None


def project_root(path: str) -> str:
    """Return the nearest folder above that is a project; the path itself where none is."""
    folder = path
    while folder != os.path.dirname(folder):
        for name in ("pyproject.toml", "setup.py", "setup.cfg"):
            if os.path.isfile(os.path.join(folder, name)):
                return folder
        folder = os.path.dirname(folder)
    return path


def report_loose(found: Environment, folders: List[str]) -> None:
    """Report folders on the path whose code belongs to no distribution."""
    projects = []
    for document in found.distributions.values():
        if document.get("editable"):
            from urllib.parse import unquote, urlsplit

            project = unquote(urlsplit(document["direct_url"]["url"]).path)
            projects.append(os.path.join(os.path.realpath(project), ""))
    for folder in folders:
        installed = os.path.basename(folder) in SITES
        if not installed and not os.path.join(os.path.realpath(folder), "").startswith(
            tuple(projects)
        ):
            found.report(folder, "Is on `sys.path` and belongs to no distribution")


def search_path() -> List[str]:
    """Return the folders of `sys.path` that are not the standard library, each once."""
    paths = sysconfig.get_paths()
    standard = {os.path.realpath(paths["stdlib"]), os.path.realpath(paths["platstdlib"])}
    standard |= {os.path.realpath(os.path.dirname(os.__file__))}
    standard |= {os.path.join(folder, "lib-dynload") for folder in standard}
    seen: Set[str] = set(standard)
    folders = []
    for folder in sys.path:
        real = os.path.realpath(folder)
        if folder and real not in seen and os.path.isdir(folder):
            seen.add(real)
            folders.append(os.path.abspath(folder))
    return folders


def main() -> None:
    """Print the scan document on one line, in ASCII."""
    if sys.version_info < (3, 8):
        sys.exit("Python 3.8 or later is needed")
    found = Environment()
    folders = search_path()
    if sys.prefix == sys.base_prefix:
        scan_conda(found, sys.prefix)
    for folder in folders:
        scan_folder(found, folder)
    report_loose(found, folders)
    kind = "system" if sys.prefix == sys.base_prefix else "venv"
    document = {
        "scan_version": 1,
        "kind": "conda" if found.conda else kind,
        "platform": describe_platform(),
        "interpreter": describe_interpreter(),
        "conda": sorted(found.conda, key=lambda record: str(record["name"])),
        "distributions": [found.distributions[name] for name in sorted(found.distributions)],
        "problems": found.problems,
    }
    glibc = find_glibc()
    if glibc:
        document["glibc"] = glibc
    sys.stdout.write(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
