"""Which environment is read: the one that is named, the project's, the active one, envboot's own.

The order is that of the tools: uv, Poetry and pixi work in the project's environment whatever is
active. Where another environment is active, a note names both.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from envboot import process
from envboot.errors import ScanError
from envboot.folders import home_folder
from envboot.scan.schema import Problem
from envboot.text import count
from envboot.toml import tomllib

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from envboot.scan.schema import Scan

POETRY_SECONDS = 30
"""How long Poetry may take to answer; it starts in about one second."""

_PROGRAMS = ("bin/python", "bin/python3", "python.exe", "Scripts/python.exe")
# What `uv tool install` and pipx leave in the environments that they make for one program.
_RECEIPTS = ("uv-receipt.toml", "pipx_metadata.json")
# `uvx` runs programs from uv's cache.
_CACHED = re.compile(r"(archive|environments)-v\d+")
_MAKERS = (("uv.lock", "uv sync"), ("poetry.lock", "poetry install"), ("pdm.lock", "pdm install"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Runner:
    """The Python that runs envboot; `is_users` says that the user's command names it.

    That is `python -m envboot`; of the `envboot` program nobody can tell which Python it has.
    """

    executable: str
    prefix: Path
    is_users: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """The interpreter to scan, by its absolute path, and what else could have been meant."""

    executable: str
    notes: tuple[Problem, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Candidate:
    """The directory of an environment, and what names it, as in "`VIRTUAL_ENV`"."""

    place: Path
    source: str
    folder: Path | None = None
    """The project's directory, where it is a project's."""


def this_runner() -> Runner:
    """Return the Python that runs envboot now."""
    main = getattr(sys.modules.get("__main__"), "__spec__", None)
    is_users = main is not None and main.name == "envboot.__main__"
    return Runner(executable=sys.executable, prefix=Path(sys.prefix), is_users=is_users)


def find_python(
    python: str | None,
    environment: Mapping[str, str],
    folder: Path,
    *,
    runner: Runner | None = None,
    own: bool = False,
) -> Choice:
    """Return the interpreter that `scan` runs; links are not followed.

    In this order: `python`; that of `python -m envboot`; the project's environment (see
    `_list_project`); `VIRTUAL_ENV`; `CONDA_PREFIX`; the Python that runs envboot. The environment
    that uv or pipx made for envboot alone is the user's only with `own`, where no package of it
    is sent. Relative paths are seen from `folder`.

    Raises:
        ScanError: the environment was not found, has no interpreter, or is envboot's own.
    """
    if python is not None:
        return Choice(executable=_find_named(python, environment, folder))
    runner = runner or this_runner()
    project = list(_list_project(environment, folder))
    active = [
        _Candidate(place=folder / value, source=f"`{variable}`")
        for variable in ("VIRTUAL_ENV", "CONDA_PREFIX")
        if (value := environment.get(variable)) and not _is_tools(folder / value)
    ]
    found = [*project, *active]
    if runner.is_users:
        mine = _Candidate(place=runner.prefix, source="the Python that runs envboot")
        return Choice(executable=runner.executable, notes=_note_others(mine, found))
    if not found:
        if _is_tools(runner.prefix) and not own:
            raise ScanError(
                f"No environment was found for `{folder}`",
                causes=(f"`{runner.prefix}` was made for envboot alone, and is not sent",),
                hint="Activate the environment, go to its project, or name it with `--python`",
            )
        return Choice(executable=runner.executable)
    taken = found[0]
    if taken.folder:
        executable = _find_in(taken.place, f" ({taken.source})", folder, _advise(taken.folder))
    else:
        # As the variable has it: relative paths are shown as they were given.
        given = environment[taken.source.strip("`")]
        executable = _find_in(given, f" ({taken.source})", folder)
    return Choice(executable=executable, notes=_note_others(taken, found[1:]))


def describe_environment(found: Scan, environment: Mapping[str, str]) -> str:
    """Return what people recognise an environment by: `~/forecast/.venv (uv), 31 packages`."""
    prefix, home = found.interpreter.prefix, str(home_folder(environment))
    if home != "/" and prefix.startswith(f"{home}/"):
        prefix = f"~{prefix[len(home) :]}"
    number = len(found.conda) + sum(not item.conda for item in found.distributions)
    return f"{prefix} ({found.manager or found.kind}), {count(number, 'package')}"


def _find_named(python: str, environment: Mapping[str, str], folder: Path) -> str:
    given = Path(python).expanduser()
    path = folder / given
    if path.is_dir():
        return _find_in(given, "", folder)
    if Path(python).name == python and not path.exists():
        on_path = process.find_program(python, environment, folder)
        if on_path is None:
            raise ScanError(f"Python `{python}` was not found on PATH")
        return on_path
    if not path.exists():
        raise ScanError(f"Python `{python}` was not found")
    return str(path)


def _find_in(given: str | Path, origin: str, folder: Path, hint: str | None = None) -> str:
    """Return the interpreter of an environment; errors show its directory as it was given."""
    place, shown = folder / given, Path(given)
    for program in _PROGRAMS:
        if os.path.lexists(place / program):
            return str(place / program)
    seen = "has no `bin/python`" if place.is_dir() else "was not found"
    hint = hint or "Activate another environment, or name one with `--python`"
    if (place / ".venv").is_dir():
        hint = f"Its own environment is `{shown / '.venv'}`"
    raise ScanError(f"Environment `{shown}`{origin} {seen}", hint=hint)


def _advise(folder: Path) -> str:
    """Say how the environment of a project is made."""
    known = (f"`{command}`" for name, command in _MAKERS if (folder / name).is_file())
    made = next(known, "`python3 -m venv .venv`")
    return f"Make it with {made} in `{folder}`, or name another with `--python DIRECTORY`"


def _list_project(environment: Mapping[str, str], folder: Path) -> Iterator[_Candidate]:
    """Yield the environments of the project that `folder` is in, the one that counts first.

    `UV_PROJECT_ENVIRONMENT`, as uv reads it; then of each directory, from `folder` up to the
    project's or workspace's top, `.venv`, what Poetry keeps elsewhere, and pixi's.
    """
    folders = list_project_directories(folder, home_folder(environment))
    chosen, top = environment.get("UV_PROJECT_ENVIRONMENT"), _find_uv_top(folders)
    if chosen and top:
        yield _Candidate(place=top / chosen, source="`UV_PROJECT_ENVIRONMENT`", folder=top)
    is_found = bool(chosen and top)
    for each in folders:
        place = each / ".venv"
        # A link that leads nowhere was an environment too.
        if (place.is_dir() or place.is_symlink()) and _is_trusted(place, folder):
            is_found = True
            yield _Candidate(place=place, source="the project's `.venv`", folder=each)
        elif not is_found and _is_poetrys(each) and (kept := _ask_poetry(each, environment)):
            is_found = True
            yield _Candidate(place=kept, source="`poetry env info --path`", folder=each)
        pixi = each / ".pixi" / "envs"
        active = Path(environment.get("CONDA_PREFIX") or "/")
        if active.parent == pixi:
            # `pixi shell --environment NAME`.
            yield _Candidate(place=active, source="`CONDA_PREFIX`", folder=each)
        elif (pixi / "default").is_dir() and _is_trusted(pixi / "default", folder):
            yield _Candidate(place=pixi / "default", source="pixi's `default`", folder=each)


def list_project_directories(folder: Path, home: Path) -> list[Path]:
    """Return `folder` and those above, up to the topmost with a `pyproject.toml` or `.git`.

    A home directory, and what is above it, is nobody's project; nor is the root of the machine.
    """
    real = home.resolve()
    above = []
    for each in folder.parents:
        if each == Path(each.anchor) or each.resolve() == real:
            break
        above.append(each)
    tops = [at for at, each in enumerate(above) if _is_top(each)]
    return [folder, *above[: tops[-1] + 1 if tops and folder.resolve() != real else 0]]


def _is_top(folder: Path) -> bool:
    return (folder / "pyproject.toml").is_file() or (folder / ".git").exists()


def _is_trusted(place: Path, folder: Path) -> bool:
    """Whether an environment is as much ours as the current directory: its Python is run.

    In `/tmp` anybody can put one above our directory.
    """
    if place.parent == folder or os.name == "nt":
        return True
    try:
        return place.lstat().st_uid in (0, os.geteuid(), folder.stat().st_uid)
    except OSError:
        return False


def _find_uv_top(folders: list[Path]) -> Path | None:
    """Return the root of the uv workspace, or the project; uv looks for `pyproject.toml` alone."""
    project = None
    for each in folders:
        table = _read_project(each)
        if table is None:
            continue
        project = project or each
        workspace = table.get("tool", {}).get("uv", {}).get("workspace")
        if not isinstance(workspace, dict):
            continue
        if each == project or _has_member(workspace, each, project):
            return each
    return project


def _has_member(workspace: dict[str, Any], top: Path, project: Path) -> bool:
    def matches(key: str) -> bool:
        patterns = (str(each) for each in workspace.get(key, ()))
        return any(project in top.glob(each.strip("/")) for each in patterns if each.strip("/."))

    return matches("members") and not matches("exclude")


def _read_project(folder: Path) -> dict[str, Any] | None:
    try:
        return tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _is_poetrys(folder: Path) -> bool:
    if (folder / "poetry.lock").is_file():
        return True
    tables = (_read_project(folder) or {}).get("tool", {})
    return isinstance(tables, dict) and "poetry" in tables


def _ask_poetry(folder: Path, environment: Mapping[str, str]) -> Path | None:
    """Return the environment that Poetry keeps for a project; None where it has made none."""
    program = process.find_program("poetry", environment, folder)
    if program is None:
        return None
    # Poetry takes an active environment for the project's own.
    left = {k: v for k, v in environment.items() if k not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    command = [program, "--no-ansi", "env", "info", "--path"]
    try:
        done = process.run(command, environment=left, folder=folder, timeout=POETRY_SECONDS)
    except (OSError, TimeoutError):
        return None
    printed = done.text.strip().rpartition("\n")[2]
    return Path(printed) if done.code == 0 and os.path.isabs(printed) else None  # noqa: PTH117


def _is_tools(prefix: Path) -> bool:
    """Whether uv or pipx made this environment for one program."""
    return any((prefix / name).is_file() for name in _RECEIPTS) or any(
        _CACHED.fullmatch(part) for part in prefix.parts
    )


def _note_others(taken: _Candidate, others: list[_Candidate]) -> tuple[Problem, ...]:
    """Return a note that names what else could have been meant, and how to take it."""
    seen, named = {taken.place.resolve()}, []
    for other in others:
        real = other.place.resolve()
        is_new = real not in seen and _has_python(other.place)
        if is_new:
            seen.add(real)
            option = f"--python {shlex.quote(str(other.place))}"
            named.append(f"{other.source} is `{other.place}`: to take that one, add `{option}`")
        if other.source == "`VIRTUAL_ENV`" and (is_new or real in seen):
            # A virtual environment that is active stands on top of conda's.
            break
    if not named or taken.source == "`VIRTUAL_ENV`":
        return ()
    message = f"Is used because it is {taken.source}; {'; '.join(named)}"
    return (Problem(subject=str(taken.place), message=message),)


def _has_python(place: Path) -> bool:
    return any(os.path.lexists(place / program) for program in _PROGRAMS)
