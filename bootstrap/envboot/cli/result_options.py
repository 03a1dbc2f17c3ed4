"""What commands have made, on the command line: which of it comes home, and what became of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import wraps
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import click

from envboot.cli import console
from envboot.errors import StoreError, UsageError, name_some
from envboot.text import SIZE, parse_size, show_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from envboot.fleet.fetching import Fetched
    from envboot.fleet.homecoming import Home
    from envboot.fleet.outcomes import Outcome
    from envboot.fleet.results import LeftOut, ResultIndex
    from envboot.fleet.watch import Fleet
    from envboot.session import Session
    from envboot.store.protocol import Store
    from envboot.userdata.result_rules import ResultRules

REASONS = {
    "limit": "all files together would be larger than `--output-limit`",
    "count": "more than 100,000 files",
    "link": "links to directories, or out of the command's directory",
    "special": "sockets, pipes or devices",
    "unreadable": "the command's user may not read them",
    "missing": "not found on the machine",
    "twice": "another file comes home under that name",
    "deep": "too many directories inside each other",
}
AFTER_INTERRUPT = 20_000_000
"""Bytes that are fetched though the user has interrupted the launch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputOptions:
    """What the command line says of results."""

    paths: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    limit: str | None = None
    off: bool = False
    into: Path | None = None


INTO = click.option(
    "--into",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where results go.  [default: the current directory; `results/LAUNCH/RANK` if there are"
    " several instances]",
)
_OPTIONS = (
    click.option(
        "--output",
        "output_paths",
        multiple=True,
        metavar="PATH",
        help="Bring home what the command writes there, beside what it writes into its own"
        " directory; repeat it for more.",
    ),
    click.option("--no-output", "output_off", is_flag=True, help="Bring no files home."),
    click.option(
        "--output-ignore",
        "output_ignore",
        multiple=True,
        metavar="PATTERN",
        help="Leave out files that match, as in `.gitignore`; repeat it for more.",
    ),
    click.option(
        "--output-limit",
        "output_limit",
        metavar="SIZE",
        help="Bring home at most that much of each instance: `500MB`, `2TB`, `none`."
        "  [default: 50GB]",
    ),
    INTO,
)


def takes_output(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options for results, as one `output`."""

    @wraps(function)
    def wrapped(**given: Any) -> None:
        output = OutputOptions(
            paths=given.pop("output_paths"),
            off=given.pop("output_off"),
            ignore=given.pop("output_ignore"),
            limit=given.pop("output_limit"),
            into=given.pop("into"),
        )
        function(output=output, **given)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def read_output(given: OutputOptions, session: Session) -> ResultRules | None:
    """Return which files come home, by the options and the project's settings.

    Raises:
        UsageError: a size or a pattern is none, or two paths would share a name here.
    """
    from envboot.userdata.result_rules import LIMIT, ResultRules

    if given.off:
        if given.paths:
            raise UsageError("Cannot take `--output` together with `--no-output`")
        return None
    settings = session.settings
    paths = [place_path(path, session.folder) for path in (*settings.output, *given.paths)]
    names = [PurePosixPath(path).name for path in paths if path.startswith(("/", "../"))]
    if twice := sorted({name for name in names if names.count(name) > 1 or not name}):
        raise UsageError(
            f"Cannot bring home several directories as {name_some(twice)}",
            hint="Each `--output` outside of the command's directory comes home under its last"
            " name: give them different ones",
        )
    limit: int | None = LIMIT
    if text := given.limit or settings.output_limit:
        if not SIZE.fullmatch(text):
            raise UsageError(f"Expected `--output-limit` such as `500MB` or `none`, found `{text}`")
        limit = parse_size(text)
    ignore = (*settings.output_ignore, *given.ignore)
    try:
        found = ResultRules(paths=tuple(paths), ignore=ignore, limit=limit)
        found.to_dict()
    except ValueError as error:
        raise UsageError(
            "Expected `--output-ignore` with patterns as in `.gitignore`", causes=(str(error),)
        ) from error
    return found


def place_path(path: str, folder: Path, *, is_windows: bool = os.name == "nt") -> str:
    """Return a path as the machine reads it, where the launch directory has another place."""
    from envboot.layer.command_files import is_outside, relate

    if is_windows and path.startswith("/"):
        # There it is no path of this system.
        return path
    below = relate(folder / path, folder).replace(os.sep, "/")
    return path.replace(os.sep, "/") if is_outside(below) else below


def fetch_all(
    store: Store, home: Home, indexes: Sequence[ResultIndex], paths: Sequence[str] = ()
) -> list[Fetched]:
    """Fetch the files of several instances, with a bar where a person watches.

    Raises:
        StoreError: nothing can be written here.
    """
    from envboot.fleet.homecoming import bring_home

    found = []
    for index in indexes:
        if console.is_terminal(err=True):
            name = f"results of {index.instance}" if len(indexes) > 1 else "results"
            with console.task(f"Fetching {name}") as progress:
                found.append(bring_home(store, home, index, paths, progress))
        else:
            found.append(bring_home(store, home, index, paths))
    return found


def print_fetched(found: Sequence[Fetched], session: Session, *, err: bool) -> None:
    """Say what was fetched, and which files here were left as they are."""
    for each in found:
        sizes = [task.file.size for task in each.written]
        place = show_folder(each.folder, session)
        if sizes:
            console.say(f"fetched {console.count_files(sizes)} into {place}", err=err)
        elif each.equal:
            count = console.count(len(each.equal), "file")
            console.say(f"nothing new to fetch into {place}: {count} as on the machine", err=err)
        if each.beside:
            first = [task.file.path for task in each.beside]
            second = [show_folder(task.place, session) for task in each.beside]
            console.print_warning(
                f"{name_some(first)}: not replaced, because the content here is neither what was "
                f"sent nor what was fetched before; fetched as {name_some(second)}"
            )


def show_folder(place: Path, session: Session) -> str:
    """Return a path as seen from the current directory, where it is below that."""
    try:
        return str(place.relative_to(session.folder))
    except ValueError:
        return str(place)


def print_left(instance: str, left: Sequence[LeftOut]) -> None:
    """Warn of files that did not go to the bucket."""
    for each in left:
        names = list(each.names)
        more = each.count - len(names[:10])
        shown = name_some(names[:10]) + (f" and {more:,} more" if more > 0 else "")
        reason = REASONS.get(each.reason, f"`{each.reason}`")
        console.print_warning(f"Not brought home from `{instance}`: {shown}: {reason}")


def to_document(found: Sequence[Fetched]) -> list[dict[str, Any]]:
    """Return what `--json` prints of what was fetched, an object for each instance."""
    return [
        {
            "instance": each.index.instance,
            "rank": each.index.rank,
            "folder": str(each.folder),
            "files": len(each.written),
            "bytes": sum(task.file.size for task in each.written),
            "equal": len(each.equal),
            "beside": [{"path": task.file.path, "place": str(task.place)} for task in each.beside],
            "failed": [{"path": path, "error": why} for path, why in each.failed],
            "left": [
                {"reason": left.reason, "count": left.count, "names": list(left.names)}
                for left in each.index.left
            ],
        }
        for each in found
    ]


def finish_launch(
    fleet: Fleet,
    outcomes: Sequence[Outcome],
    session: Session,
    into: Path | None,
    *,
    made_in: Path | None,
    quiet: bool,
) -> list[Fetched]:
    """Bring home what the commands of a launch have made, and say so.

    `made_in` is where the launch was made, None where it was made elsewhere.

    Raises:
        StoreError: the bucket cannot be read, or nothing can be written here.
    """
    if not fleet.output:
        return []
    from envboot.fleet.homecoming import Home
    from envboot.fleet.results import read_results

    names = [instance.name for instance in fleet.instances]
    results = read_results(fleet.store, fleet.launch, known=names, only_known=True)
    home = Home(
        launch=fleet.launch,
        session=session,
        is_single=fleet.count == 1,
        into=into,
        made_in=made_in,
    )
    found = fetch_all(fleet.store, home, results.indexes)
    if not quiet:
        print_fetched(found, session, err=True)
        for outcome in outcomes:
            if report := outcome.reports.results:
                print_left(outcome.instance.name, report.left)
        console.print_malformed(results.malformed)
    return found


def raise_unsent(outcomes: Sequence[Outcome]) -> None:
    """Raise StoreError where instances could not bring all results into the bucket."""
    failed = [
        f"`{outcome.instance.name}`: {report.error}"
        for outcome in outcomes
        if (report := outcome.reports.results) and report.error is not None
    ]
    if failed:
        raise StoreError(
            f"Failed to bring home the results of {console.count(len(failed), 'instance')}",
            causes=tuple(failed[:10]),
            hint="What had arrived before is fetched",
        )


def rescue(fleet: Fleet, session: Session, into: Path | None, *, interrupted: bool) -> None:
    """Bring home what there is of a launch that has failed; after an interrupt only a little.

    Whatever goes wrong here is a warning: the launch has an error of its own.
    """
    from envboot.fleet.results import read_results

    try:
        if interrupted:
            results = read_results(fleet.store, fleet.launch)
            size = sum(index.size for index in results.indexes)
            if size > AFTER_INTERRUPT:
                console.say(
                    f"{show_size(size)} of results are in the bucket: `envboot fetch "
                    f"{fleet.launch}`",
                    err=True,
                )
                return
        finish_launch(fleet, fleet.look(), session, into, made_in=session.folder, quiet=False)
    except (StoreError, OSError) as error:
        console.print_warning(f"Results were not fetched: {error}")
