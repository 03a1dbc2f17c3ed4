"""Results of a launch come home: each instance's files into a directory here."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from envboot.errors import LISTED, StoreError, UsageError, name_some
from envboot.fleet.fetching import Destination, Fetched, Fetcher, choose
from envboot.fleet.known_files import read_known, write_fetched

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from envboot.fleet.results import ResultFile, ResultIndex
    from envboot.session import Session
    from envboot.store.protocol import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class Home:
    """Where the results of a launch go.

    With `is_single` they go right into `into`, by default the session's directory; with several
    instances each has a directory of its own, by its rank. `made_in` is where the launch was made,
    None where it was made elsewhere: what was sent from there may be replaced there.
    """

    launch: str
    session: Session
    is_single: bool
    into: Path | None = None
    made_in: Path | None = None

    def find_folder(self, index: ResultIndex) -> Path:
        """Return the directory for an instance's files."""
        here = self.session.folder
        if self.is_single:
            return here / self.into if self.into else here
        top = here / self.into if self.into else here / "results" / self.launch
        return top / (str(index.rank) if index.rank is not None else index.instance)


def select(index: ResultIndex, paths: Sequence[str]) -> list[ResultFile]:
    """Return the files at or below these paths, or that match them as patterns; all without any."""
    wanted = [path.rstrip("/").removeprefix("./") for path in paths]
    if not wanted:
        return list(index.files)
    return [file for file in index.files if any(_is_meant(file.path, path) for path in wanted)]


def _is_meant(path: str, wanted: str) -> bool:
    return f"{path}/".startswith(f"{wanted}/") or fnmatchcase(path, wanted)


def refuse_unknown(indexes: Sequence[ResultIndex], paths: Sequence[str]) -> None:
    """Raise UsageError for paths that no instance has."""
    unknown = [path for path in paths if not any(select(index, [path]) for index in indexes)]
    if unknown:
        raise UsageError(
            f"Unknown results: {name_some(unknown)}",
            hint="`envboot ls LAUNCH` lists the files that there are",
        )


def bring_home(
    store: Store,
    home: Home,
    index: ResultIndex,
    paths: Sequence[str] = (),
    progress: Callable[[int, int | None], None] = lambda *_: None,
) -> Fetched:
    """Fetch the files of one instance; what could not be fetched is in `failed`.

    A file here that was neither sent by this launch nor fetched before, or that has changed since,
    stays as it is.

    Raises:
        StoreError: nothing can be written here.
    """
    folder = home.find_folder(index)
    state = home.session.state
    is_theirs = home.made_in is not None and folder.resolve() == home.made_in.resolve()
    there = Destination(
        folder=folder,
        mark=home.launch,
        known=read_known(state, folder, home.launch if is_theirs else None),
    )
    try:
        found = choose(index, select(index, paths), there)
    except OSError as error:
        raise StoreError(
            f"Cannot read `{error.filename or folder}`, where results go",
            causes=(error.strerror or str(error),),
            hint="Name another directory with `--into`",
        ) from error
    Fetcher(store, found, progress).fetch()
    if found.written:
        written = [
            (task.place.relative_to(folder).as_posix(), task.file.sha256) for task in found.written
        ]
        write_fetched(state, folder, written)
    return found


def raise_failed(found: Sequence[Fetched]) -> None:
    """Raise StoreError for all files that could not be fetched."""
    failed = [(each, path, why) for each in found for path, why in each.failed]
    if failed:
        raise StoreError(
            f"Failed to fetch {len(failed)} files of results",
            causes=tuple(
                f"`{path}` of `{each.index.instance}`: {why}" for each, path, why in failed[:LISTED]
            ),
            hint="`envboot fetch LAUNCH` tries again, and keeps what has arrived",
        )
