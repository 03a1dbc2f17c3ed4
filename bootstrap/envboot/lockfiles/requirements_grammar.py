"""The lines of a requirements file as pip reads them: "Requirements File Format" of its manual."""

from __future__ import annotations

import optparse
import re
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import parse_qs, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)

from envboot.files import read_document
from envboot.indexes.configuration import Configuration, Index, absolute, read_index
from envboot.indexes.logins import split_login
from envboot.lockfiles.content import LockFileRequest, refuse
from envboot.lockfiles.formats import decode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_COMMENT = re.compile(r"(^|\s+)#.*$")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_SHA256 = re.compile(r"sha256:([0-9a-fA-F]+)")
_IN_FRAGMENT = re.compile(r"(?:^|&)sha256=([0-9a-fA-F]{64})(?:&|$)")
# What pip takes from this machine or from a repository, where no hash says what it must be.
_LOCAL = re.compile(r"(?:[^\s@]*\s*@\s*)?(?:git\+|file:|\.{0,2}/|\.{1,2}$)")
_URL = re.compile(r"https?://\S+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One requirement without its options; `name` is None for a folder, a file or a repository.

    `sha256` are the hashes that its file may have, `where` says which line of which file it is.
    `settings` are its options for builds.
    """

    text: str
    where: str
    name: str | None = None
    sha256: frozenset[str] = frozenset()
    settings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class RequirementsFile:
    """Everything that a file and the files that it includes say.

    `configuration` has the indexes that they name, `options` what uv is told beside.
    """

    lines: tuple[Line, ...] = ()
    constraints: tuple[Line, ...] = ()
    configuration: Configuration = field(default_factory=Configuration)
    options: tuple[str, ...] = ()

    @property
    def sha256(self) -> dict[str, set[str]]:
        """The hashes by name, those of constraints too; of a name without hash an empty set."""
        found: dict[str, set[str]] = {}
        for line in self.lines:
            if line.name:
                found.setdefault(line.name, set()).update(line.sha256)
        for line in self.constraints:
            if line.name in found:
                found[line.name] |= line.sha256
        return found


class _Malformed(Exception):  # noqa: N818
    """What is wrong with a line."""


class _Parser(optparse.OptionParser):
    """pip's own kind of parser: it takes abbreviations, `-rFILE`, `--name=value`."""

    def error(self, msg: str) -> NoReturn:
        raise _Malformed(msg)


class _Reader:
    """Collects lines from files that include each other."""

    def __init__(self, request: LockFileRequest) -> None:
        self._request = request
        self.lines: list[Line] = []
        self.constraints: list[Line] = []
        self.default: Index | None = None
        self.indexes: list[Index] = []
        self.links: list[str] = []
        self.hosts: list[str] = []
        self.options: list[str] = []
        self.no_index = False

    def read(self, file: Path, text: str, above: tuple[Path, ...] = (), *, pins: bool) -> None:
        """Read a file; with `pins` its requirements are to be installed, else they constrain."""
        for number, line in split_lines(text, self._request.session.environment):
            where = f"Line {number} of `{file}`"
            try:
                self._read_line(line, where, file, above, pins=pins)
            except (_Malformed, ValueError) as error:
                refuse(self._request, f"{where}: {error}")

    def _read_line(
        self, line: str, where: str, file: Path, above: tuple[Path, ...], *, pins: bool
    ) -> None:
        text, options = _split_options(line)
        if text:
            given, _ = _requirement_parser().parse_args(options, optparse.Values())
            found = _read_requirement(text, where, given)
            (self.lines if pins else self.constraints).append(found)
            return
        given, rest = _file_parser().parse_args(options, optparse.Values())
        if rest:
            raise _Malformed(f"expected options, found `{' '.join(rest):.80}`")
        for path in getattr(given, "editables", ()):
            self.lines.append(Line(text=f"-e {path}", where=where))
        for name, installs in (("requirements", pins), ("constraints", False)):
            for path in getattr(given, name, ()):
                self._include(path, where, file, above, pins=installs)
        self._configure(given, file.parent)

    def _include(
        self, path: str, where: str, file: Path, above: tuple[Path, ...], *, pins: bool
    ) -> None:
        if urlsplit(path).scheme in ("http", "https"):
            raise _Malformed(f"cannot include `{path}`: download it, and include that file")
        other = file.parent / path.removeprefix("file://")
        if other in (*above, file):
            refuse(self._request, f"{where} includes `{other}` once more")
        try:
            inner = decode(read_document(other, regular=True))
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            refuse(self._request, f"{where} includes `{other}`: {why}")
        self.read(other, inner, (*above, file), pins=pins)

    def _configure(self, given: optparse.Values, folder: Path) -> None:
        if hasattr(given, "index_url"):
            self.default = read_index(absolute(given.index_url, folder), default=True)
        self.indexes += [
            read_index(absolute(url, folder)) for url in getattr(given, "extra_index_urls", ())
        ]
        for place in getattr(given, "find_links", ()):
            near = folder / place
            self.links.append(str(near) if near.exists() else absolute(place, folder))
        self.hosts += getattr(given, "trusted_hosts", ())
        self.no_index |= hasattr(given, "no_index")
        if hasattr(given, "pre"):
            self.options.append("--prerelease=allow")
        for name in ("no_binary", "only_binary"):
            for value in getattr(given, name, ()):
                self.options += [f"--{name.replace('_', '-')}={one}" for one in value.split(",")]


def read_lines(request: LockFileRequest, text: str) -> RequirementsFile:
    """Read a text as if it stood in the request's file; `-r` and `-c` are relative to it.

    Raises:
        LockError: pip would not take a line either; file and line are named.
    """
    reader = _Reader(request)
    reader.read(request.file, text, pins=True)
    return RequirementsFile(
        lines=tuple(reader.lines),
        constraints=tuple(reader.constraints),
        configuration=Configuration(
            indexes=(*reader.indexes, *([reader.default] if reader.default else [])),
            find_links=tuple(reader.links),
            no_index=reader.no_index,
            insecure=tuple(reader.hosts),
        ),
        options=tuple(dict.fromkeys(reader.options)),
    )


def split_lines(text: str, variables: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """Yield lines as pip joins them: comments gone, `${NAME}` replaced; numbers are the first's.

    A variable that is not set, or is empty, stays as it is written.
    """
    joined: list[str] = []
    start = 1
    for number, line in enumerate([*text.splitlines(), ""], 1):
        start = start if joined else number
        is_comment = _COMMENT.match(line) is not None
        if line.endswith("\\") and not is_comment:
            joined.append(line[:-1])
            continue
        # A comment ends what was continued into it.
        whole = "".join([*joined, " " + line if is_comment else line])
        joined = []
        found = _COMMENT.sub("", whole).strip()
        if found:
            yield start, _VARIABLE.sub(lambda one: variables.get(one[1]) or one[0], found)


def _split_options(line: str) -> tuple[str, list[str]]:
    """Split off everything from the first word on that begins with a dash."""
    words = line.split(" ")
    count = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    return " ".join(words[:count]).strip(), shlex.split(" ".join(words[count:]))


def _requirement_parser() -> _Parser:
    parser = _Parser(add_help_option=False)
    parser.add_option("--hash", action="append", dest="hashes")
    # They reach a package's build; the last two were removed in pip 23.1.
    for names in (("-C", "--config-settings", "--config-setting"), ("--global-option",),
                  ("--install-option",)):  # fmt: skip
        parser.add_option(*names, action="append", dest="settings")
    return parser


def _file_parser() -> _Parser:
    parser = _Parser(add_help_option=False)
    parser.add_option("-i", "--index-url", "--pypi-url", dest="index_url")
    for names, dest in (
        (("--extra-index-url",), "extra_index_urls"),
        (("-f", "--find-links"), "find_links"),
        (("-r", "--requirement"), "requirements"),
        (("-c", "--constraint"), "constraints"),
        (("-e", "--editable"), "editables"),
        (("--trusted-host",), "trusted_hosts"),
        (("--no-binary",), "no_binary"),
        (("--only-binary",), "only_binary"),
        (("--use-feature",), "features"),
    ):
        parser.add_option(*names, action="append", dest=dest)
    for name in ("--no-index", "--pre", "--prefer-binary", "--require-hashes"):
        parser.add_option(name, action="store_true")
    return parser


def _read_requirement(text: str, where: str, given: optparse.Values) -> Line:
    address = text.rpartition(" ")[2] if _URL.search(text) else ""
    parts = urlsplit(address)
    in_fragment = _IN_FRAGMENT.findall(parts.fragment)
    stated = [found[1] for hash_ in getattr(given, "hashes", ()) if (found := _SHA256.match(hash_))]
    return Line(
        text=text,
        where=where,
        name=None if _LOCAL.match(text) else _read_name(text, address),
        sha256=frozenset(value.lower() for value in (*stated, *in_fragment)),
        settings=tuple(getattr(given, "settings", ())),
    )


def _read_name(text: str, address: str) -> str:
    """Return the normalised name of a requirement; a bare URL has it in its fragment or file."""
    if text != address:
        try:
            return canonicalize_name(Requirement(text).name)
        except InvalidRequirement as error:
            reason = str(error).partition("\n")[0]
            raise _Malformed(f"expected a requirement, found `{text:.80}`: {reason}") from error
    parts = urlsplit(split_login(address)[0])
    egg = parse_qs(parts.fragment).get("egg", [""])[0].partition("[")[0]
    if egg:
        return canonicalize_name(egg)
    file = parts.path.rpartition("/")[2]
    try:
        is_wheel = file.endswith(".whl")
        return parse_wheel_filename(file)[0] if is_wheel else parse_sdist_filename(file)[0]
    except (InvalidWheelFilename, InvalidSdistFilename):
        raise _Malformed(f"expected the name of the package, as in `NAME @ {address}`") from None
