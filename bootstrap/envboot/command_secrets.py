"""Secrets of a command: which variables, and where their values come from.

A value that is known here reaches its machine by an object of the bucket that is removed once it
is read (`fleet.peers`). One that the machine's cloud keeps is named only, and read on the machine.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from envboot.errors import UsageError, name_some
from envboot.folders import home_folder
from envboot.text import is_variable_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from envboot.session import Session

MOST = 64 << 10
"""Bytes of one value: what AWS's and Google's secret managers take. Linux takes 128 KiB of a
variable with its name (MAX_ARG_STRLEN, execve(2))."""
TOGETHER = 512 << 10
"""Bytes of all values: arguments and variables share 2 MiB at the usual stack limit."""
RESERVED = ("CONDA_PREFIX", "HOME", "LOGNAME", "PATH", "SHELL", "USER", "VIRTUAL_ENV")
"""Variables by which machines activate the environment and run the command as their user."""

_SECRETS_MANAGER = (
    r"arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:\d{12}:secret:[A-Za-z0-9/_+=.@-]{1,519}"
    r"(:[^:\s]*){0,3}"
)
_PARAMETER = r"arn:aws[a-z-]*:ssm:[a-z0-9-]+:\d{12}:parameter/[A-Za-z0-9/_.-]+"
_VERSION = (
    r"projects/[a-z0-9:.-]+(/locations/[a-z0-9-]+)?/secrets/[A-Za-z0-9_-]{1,255}"
    r"/versions/(latest|\d+|[A-Za-z][A-Za-z0-9_-]*)"
)
_LITERAL = re.compile(r"[^=]*=\s*'")
_PLACES = {"aws": re.compile(f"{_SECRETS_MANAGER}|{_PARAMETER}"), "gcp": re.compile(_VERSION)}
_EXAMPLES = {
    "aws": "arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME",
    "gcp": "projects/PROJECT/secrets/NAME/versions/latest",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Secrets:
    """Variables of a command: `values` are known here, of `managed` only the places are."""

    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    managed: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.values or self.managed)


@dataclass(frozen=True, kw_only=True, slots=True)
class SecretOptions:
    """What a user says of secrets: `NAME`, `NAME=@FILE` or `NAME=PLACE` each, and `.env` files.

    With a mapping as `specs` the values themselves are given, by name.
    """

    specs: Sequence[str] | Mapping[str, str] = field(default=(), repr=False)
    files: Sequence[str | Path] = ()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.specs or self.files)


def read_secrets(
    given: SecretOptions, session: Session, *, variables: Iterable[str] = (), command: bool = True
) -> Secrets:
    """Return the secrets of a launch, beneath them what the project's settings name.

    `variables` are those that are set in plain text. Without a command nothing is read.

    Raises:
        UsageError: there is no command; a name is reserved, given twice, or has no value here; a
            value stands on the command line, is too large or is no text; a file cannot be read.
    """
    if not command:
        if given:
            raise UsageError(
                "Cannot pass secrets without a command: nothing would read them",
                hint="Add the command, as in `-- python train.py`",
            )
        return Secrets()
    found, missing = _Values(), []
    specs = _read_given(given, session, found)
    known = {*found.values, *(spec.partition("=")[0] for spec in specs)}
    managed = {}
    for spec in (*specs, *_read_settings(session, known)):
        name, separator, place = spec.partition("=")
        found.check(name)
        if _find_cloud(place):
            found.add(name, "", f"`{spec}`")
            managed[name] = place
        elif place.startswith("@"):
            found.add(name, _read_value(name, place[1:], session), f"`{spec}`")
        elif separator:
            raise _refuse_literal(name, place)
        elif session.environment.get(name):
            found.add(name, session.environment[name], f"`{name}`")
        else:
            missing.append(name)
    if missing:
        raise _refuse_missing(missing, session)
    found.finish(variables)
    values = {name: value for name, value in found.values.items() if name not in managed}
    return Secrets(values=values, managed=managed)


def _read_given(given: SecretOptions, session: Session, found: _Values) -> Sequence[str]:
    """Take in values that are given as such; returns what is still to be looked for."""
    for name, value in _read_files(given.files, session):
        found.add(name, value, "an env file")
    if not isinstance(given.specs, Mapping):
        return given.specs
    for name, value in given.specs.items():
        found.add(name, value, "`secrets`")
    return ()


def _read_settings(session: Session, known: Iterable[str]) -> list[str]:
    """Return what the project's settings name, but for what was given; raises `UsageError`."""
    pairs = [(spec, *spec.partition("=")) for spec in session.settings.secrets]
    wrong = [name for _, name, separator, place in pairs if separator and not _find_cloud(place)]
    if wrong:
        raise UsageError(
            f"Expected names and places at `tool.envboot.secrets`, found text for `{wrong[0]:.60}`",
            hint='As in `secrets = ["API_TOKEN", "DB=arn:aws:secretsmanager:…"]`',
        )
    return [spec for spec, name, *_ in pairs if name not in known]


def _refuse_missing(names: list[str], session: Session) -> UsageError:
    unset = [name for name in names if name not in session.environment]
    return UsageError(
        f"Cannot pass {name_some(names)} as {'a secret' if len(names) == 1 else 'secrets'}: "
        f"{'not set' if unset else 'empty'} in this environment",
        hint=f"Set it first, or read it from a file: `--secret {names[0]}=@FILE`",
    )


def refuse_values(secrets: Secrets, *, what: str, cloud: str | None) -> None:
    """Refuse values where machines start without this program, which would hand them over.

    Raises:
        UsageError: there are values. `what` is what would have to hold them.
    """
    if secrets.values:
        name = min(secrets.values)
        place = _EXAMPLES.get(cloud or "")
        hint = f"Name where the machine's cloud keeps it: `--secret {name}={place}`"
        raise UsageError(
            f"Cannot put {name_some(sorted(secrets.values))} into {what}, which is not secret",
            hint=hint if place else "Only machines of AWS and Google Cloud read their own secrets",
        )


def refuse_places(secrets: Secrets, *, owner: str, cloud: str | None) -> None:
    """Refuse secrets that another cloud than the machines' keeps.

    Raises:
        UsageError: `owner`, whose machines are in `cloud` if in any, cannot read them.
    """
    wrong = [name for name, place in secrets.managed.items() if _find_cloud(place) != cloud]
    if wrong:
        place = secrets.managed[wrong[0]]
        raise UsageError(
            f"Cannot read `{place}` on machines of {owner}: they have no role there",
            hint=f"Take the value from here: `--secret {wrong[0]}`, or `--secret {wrong[0]}=@FILE`"
            if cloud is None
            else f"Name one of their own cloud, as in `{_EXAMPLES[cloud]}`",
        )


class _Values:
    """The values so far; each name is checked as it comes."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self._sources: dict[str, str] = {}

    def check(self, name: object) -> None:
        """Refuse a name that cannot be a secret's; raises `UsageError`."""
        if not isinstance(name, str) or not is_variable_name(name):
            # It may be a value that was put in the wrong place: show no more than is needed.
            raise UsageError(
                f"Expected the name of a variable as a secret, found `{name!s:.20}`",
                hint="As in `--secret API_TOKEN`, `--secret API_TOKEN=@FILE`",
            )
        if name in RESERVED or name.startswith("ENVBOOT_"):
            raise UsageError(f"Cannot pass `{name}` as a secret: the machine itself sets it")

    def add(self, name: object, value: object, source: str) -> None:
        """Take in a value; raises `UsageError`."""
        self.check(name)
        assert isinstance(name, str)
        if name in self.values:
            where = " and ".join(sorted({self._sources[name], source}))
            raise UsageError(f"Expected one value for secret `{name}`, found two: {where}")
        if not isinstance(value, str) or "\0" in value or not _is_utf8(value):
            raise UsageError(f"Expected text as the value of secret `{name}`")
        if len(value.encode()) > MOST:
            raise UsageError(
                f"Expected at most {MOST:,} bytes as the value of secret `{name}`, "
                f"found {len(value.encode()):,}"
            )
        self.values[name], self._sources[name] = value, source

    def finish(self, variables: Iterable[str]) -> None:
        """Check all values together; raises `UsageError`."""
        both = sorted(self.values.keys() & set(variables))
        if both:
            raise UsageError(
                f"Cannot pass {name_some(both)} both in plain text and as a secret",
                hint=f"Drop it from `--env`: `--secret {both[0]}` is enough",
            )
        total = sum(len(value.encode()) for value in self.values.values())
        if total > TOGETHER:
            raise UsageError(
                f"Expected at most {TOGETHER:,} bytes of secrets altogether, found {total:,}"
            )


def _is_utf8(value: str) -> bool:
    """Whether a text has no bytes in it that were none (surrogates of `os.environ`)."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _find_cloud(place: str) -> str | None:
    return next((cloud for cloud, each in _PLACES.items() if each.fullmatch(place)), None)


def _refuse_literal(name: str, place: str) -> UsageError:
    """Return the error for what is no place: never with its text, which may be the value."""
    if place.startswith(("arn:", "projects/")):
        return UsageError(
            f"Expected a secret of a cloud at `--secret {name}=…`, found `{place}`",
            hint=" or ".join(f"`{name}={each}`" for each in _EXAMPLES.values())
            + f", or `{name}=arn:aws:ssm:REGION:ACCOUNT:parameter/NAME`",
        )
    return UsageError(
        f"Cannot take the value of secret `{name:.60}` from the command line",
        causes=("`ps` and the shell's history would show it",),
        hint=f"Set `{name:.60}` in this environment and pass `--secret {name:.60}`, or read a "
        f"file: `--secret {name:.60}=@FILE`",
    )


def _read_value(name: str, path: str, session: Session) -> str:
    """Return a file as a value; the line break of a single line belongs to the file, not to it."""
    text = _read_text(path, session, f"secret `{name}`", MOST + 2)
    line = text.removesuffix("\n").removesuffix("\r")
    value = text if "\n" in line else line
    if not value:
        raise UsageError(f"Cannot pass `{name}` as a secret: `{path}` is empty")
    return value


def _read_files(files: Iterable[str | Path], session: Session) -> Iterator[tuple[str, str]]:
    """Read `.env` files as python-dotenv does, but for what it would pass over or expand.

    Raises:
        UsageError: a line is none of `NAME=VALUE`, `export NAME=VALUE` and comments; or it has
            `${NAME}`, which other tools expand and we do not, outside of single quotes.
    """
    from dotenv.parser import parse_stream

    for path in files:
        text = _read_text(path, session, "env file", 2 * TOGETHER)
        for binding in parse_stream(io.StringIO(text.removeprefix("\ufeff"))):
            # A statement begins with the empty lines before it.
            written = binding.original.string
            blank = len(written) - len(written.lstrip())
            place = f"`{path}`, line {binding.original.line + written.count(chr(10), 0, blank)}"
            if binding.error or (binding.key is not None and binding.value is None):
                raise UsageError(
                    f"Expected `NAME=VALUE` in {place}",
                    hint="Quote values with spaces or line breaks; a comment begins with `#`",
                )
            if binding.key is None or binding.value is None:
                continue
            if "${" in binding.value and not _LITERAL.match(written):
                raise UsageError(
                    f"Cannot expand the `${{…}}` of `{binding.key}` in {place}",
                    hint="Write the value itself; in single quotes it is taken as it stands",
                )
            yield binding.key, binding.value


def _read_text(path: str | Path, session: Session, what: str, most: int) -> str:
    name = str(path)
    if name.startswith("~/"):
        # No shell expands it behind `NAME=@`.
        name = str(home_folder(session.environment)) + name[1:]
    try:
        with (session.folder / name).open("rb") as stream:
            data = stream.read(most + 1)
    except OSError as error:
        cause = error.strerror or str(error)
        raise UsageError(f"Cannot read `{path}` for {what}", causes=(cause,)) from error
    if len(data) > most:
        raise UsageError(f"Expected at most {most:,} bytes in `{path}` for {what}")
    with contextlib.suppress(UnicodeDecodeError):
        return data.decode()
    # Not as its consequence: what the decoder raises has the bytes in it.
    raise UsageError(f"Expected UTF-8 in `{path}` for {what}")
