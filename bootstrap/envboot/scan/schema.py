"""The scan document: facts about one environment, as `envboot scan --json` prints them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from envboot.documents import Node, parse_json, plain
from envboot.errors import DocumentError

SCAN_VERSION = 1

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")  # PEP 503
_KIND = re.compile("conda|venv|system")
_RECORD = re.compile("ok|missing|drifted")
_SOURCE = re.compile("conda|pypi")
_ORIGIN = re.compile("current|pythonpath|pth|site")


@dataclass(frozen=True, kw_only=True, slots=True)
class Interpreter:
    """The scanned interpreter.

    `executable` is the path inside the environment, `base_executable` what a venv's links end
    at, `tag` the byte code tag (`cpython-311`), `purelib`/`platlib` the site-packages folders.
    """

    version: str
    implementation: str
    executable: str
    base_executable: str
    prefix: str
    base_prefix: str
    tag: str
    purelib: str
    platlib: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CondaRecord:
    """One file of `conda-meta`; `url` is without credentials.

    `after` names the packages that own a file of this one's as well, and whose copy is not the
    one on disk: this package was installed later.
    """

    name: str
    version: str
    build: str
    channel: str
    subdir: str
    url: str
    sha256: str | None = None
    md5: str | None = None
    noarch: str | None = None
    depends: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Distribution:
    """One installed Python distribution, name normalised after PEP 503.

    `location` is the folder that holds its metadata folder; `tags` are the wheel's tags as its
    WHEEL file has them. `record` is `missing` where there is no RECORD, `drifted` where code
    or data that it lists is gone or has other content; so of conda's own. `direct_url` is
    PEP 610's document without credentials; legacy editables, which have none, get the one that
    pip would write today. `conda` names the conda package whose files these are, `system` says
    that the operating system's package manager owns them. `requires` are the requirements of its
    metadata as they stand, those of extras left out, and `requires_python` the versions it takes.
    `added` are files and directories, below `location`, among its own, that nothing has installed
    there.
    """

    name: str
    version: str
    location: str
    installer: str | None = None
    tags: tuple[str, ...] = ()
    record: Literal["ok", "missing", "drifted"] = "ok"
    direct_url: dict[str, Any] | None = None
    editable: bool = False
    conda: str | None = None
    system: bool = False
    requires: tuple[str, ...] = ()
    requires_python: str | None = None
    added: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Loose:
    """Code in one folder of the path that belongs to no distribution.

    `folder` is absolute; `origin` says why it is on the path: `current` (the working folder),
    `pythonpath`, `pth` (a `.pth` file names it) or `site` (site-packages itself). `names` are
    the top-level files and folders in it that can be imported. Folders stand in the order in
    which Python looks into them.
    """

    folder: str
    origin: Literal["current", "pythonpath", "pth", "site"]
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """The bytes of one package: its files on `disk`, and `packed` as its channel has it."""

    name: str
    source: Literal["conda", "pypi"]
    disk: int
    packed: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Something in the environment that will not arrive as it is, and why."""

    subject: str
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Scan:
    """Everything that was found. `kind` is `conda`, `venv` (uv and virtualenv too) or `system`.

    `manager` is the program that made the environment, where that can be told: `uv`, `virtualenv`,
    `venv`, `poetry`, `pipenv`, `pdm`, `pixi`, `conda`, … `cuda` is the version that this machine's
    driver runs. `variables` are what activation sets, without the values of secrets, and
    `activation` the scripts below the prefix that it sources and no package has brought.
    """

    kind: Literal["conda", "venv", "system"]
    manager: str | None = None
    platform: str
    glibc: str | None
    cuda: str | None = None
    interpreter: Interpreter
    conda: tuple[CondaRecord, ...] = ()
    distributions: tuple[Distribution, ...] = ()
    sizes: tuple[Size, ...] = ()
    loose: tuple[Loose, ...] = ()
    variables: dict[str, str] = field(default_factory=dict, repr=False)
    activation: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON document, `scan_version` first, absent members left out."""
        return {"scan_version": SCAN_VERSION, **plain(self)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A project that the client itself turns into a wheel, derived from PEP 610.

    `path` (a folder, or a wheel or sdist file) or `git` is set; `subdirectory` is below either.
    `commit` is the exact commit of a git install.
    """

    name: str
    version: str
    path: str | None = None
    git: str | None = None
    commit: str | None = None
    subdirectory: str | None = None
    editable: bool = False


def parse_scan(text: str | bytes) -> Scan:
    """Read a saved scan.

    Raises:
        DocumentError: it is not JSON, not of a version known here, or a value is missing,
            unknown or malformed; the message has the dotted path.
    """
    return read_scan(parse_json(text, "scan"))


def read_scan(document: Any) -> Scan:
    """Read a scan that is decoded already, as strictly as `parse_scan`."""
    node = Node(document, "")
    found = node.take("scan_version", int)
    if found != SCAN_VERSION:
        raise DocumentError(
            f"Expected `scan_version` {SCAN_VERSION}, found `{found}`",
            hint="Scan the environment again with this envboot",
        )
    scan = Scan(
        kind=cast("Literal['conda', 'venv', 'system']", node.take("kind", str, _KIND)),
        manager=node.find("manager"),
        platform=node.take("platform", str),
        glibc=node.find("glibc"),
        cuda=node.find("cuda"),
        interpreter=_read_interpreter(node.child("interpreter")),
        conda=tuple(_read_conda(child) for child in node.children("conda")),
        distributions=tuple(_read_distribution(child) for child in node.children("distributions")),
        sizes=tuple(_read_size(child) for child in node.children("sizes")),
        loose=tuple(_read_loose(child) for child in node.children("loose")),
        variables=node.texts("variables"),
        activation=node.strings("activation"),
        problems=tuple(_read_problem(child) for child in node.children("problems")),
    )
    node.end()
    return scan


def _read_interpreter(node: Node) -> Interpreter:
    interpreter = Interpreter(**{name: node.take(name, str) for name in Interpreter.__slots__})
    node.end()
    return interpreter


def _read_conda(node: Node) -> CondaRecord:
    record = CondaRecord(
        name=node.take("name", str),
        version=node.take("version", str),
        build=node.take("build", str),
        channel=node.take("channel", str),
        subdir=node.take("subdir", str),
        url=node.take("url", str),
        sha256=node.find("sha256"),
        md5=node.find("md5"),
        noarch=node.find("noarch"),
        depends=node.strings("depends"),
        after=node.strings("after"),
    )
    node.end()
    return record


def _read_distribution(node: Node) -> Distribution:
    record = node.find("record", _RECORD) or "ok"
    distribution = Distribution(
        name=node.take("name", str, _NAME),
        version=node.take("version", str),
        location=node.take("location", str),
        installer=node.find("installer"),
        tags=node.strings("tags"),
        record=cast("Literal['ok', 'missing', 'drifted']", record),
        direct_url=node.take("direct_url", dict) if node.has("direct_url") else None,
        editable=node.take("editable", bool) if node.has("editable") else False,
        conda=node.find("conda"),
        system=node.take("system", bool) if node.has("system") else False,
        requires=node.strings("requires"),
        requires_python=node.find("requires_python"),
        added=node.strings("added"),
    )
    node.end()
    return distribution


def _read_size(node: Node) -> Size:
    size = Size(
        name=node.take("name", str),
        source=cast("Literal['conda', 'pypi']", node.take("source", str, _SOURCE)),
        disk=node.take("disk", int),
        packed=node.take("packed", int) if node.has("packed") else None,
    )
    node.end()
    return size


def _read_loose(node: Node) -> Loose:
    loose = Loose(
        folder=node.take("folder", str),
        origin=cast(
            "Literal['current', 'pythonpath', 'pth', 'site']",
            node.take("origin", str, _ORIGIN),
        ),
        names=node.strings("names"),
    )
    node.end()
    return loose


def _read_problem(node: Node) -> Problem:
    problem = Problem(subject=node.take("subject", str), message=node.take("message", str))
    node.end()
    return problem
