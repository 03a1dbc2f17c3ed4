"""Conda channels, asked for another platform: what they have, and what fits together."""

from __future__ import annotations

import asyncio
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from envboot.errors import LISTED, LockError, name_some
from envboot.lock.conda_packages import list_causes, virtual_records
from envboot.lock.fit import NoSolution
from envboot.redaction import redact, strip_channel

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence

    from rattler import Gateway, MatchSpec, RepoDataRecord

    from envboot.lock.target import Target
    from envboot.session import Session

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenChannels:
    """Channels in their order, for one target; every answer comes from the same look at them."""

    urls: tuple[str, ...] = field(repr=False)
    target: Target
    gateway: Gateway
    pool: ThreadPoolExecutor

    def find_versions(self, names: Sequence[str]) -> dict[str, set[str]]:
        """Return the versions that there are of each package; raises LockError."""

        async def ask() -> list[RepoDataRecord]:
            lists = await self.gateway.query(self.urls, self._subdirs, list(names), recursive=False)
            return [record for records in lists for record in records]

        found: dict[str, set[str]] = {}
        for record in self._run(ask()):
            found.setdefault(record.name.normalized, set()).add(str(record.version))
        return found

    def solve(
        self, specs: Sequence[str | MatchSpec], constraints: Sequence[str] = ()
    ) -> list[RepoDataRecord] | NoSolution:
        """Solve for specs; constraints hold for what comes along. Raises LockError."""
        from rattler import solve
        from rattler.exceptions import SolverError

        async def ask() -> list[RepoDataRecord] | NoSolution:
            try:
                return await solve(
                    list(self.urls),
                    list(specs),
                    gateway=self.gateway,
                    platforms=self._subdirs,
                    virtual_packages=virtual_records(self.target),
                    constraints=list(constraints),
                )
            except SolverError as error:
                return NoSolution(words=_say(redact(str(error))))

        return self._run(ask())

    @property
    def _subdirs(self) -> Any:
        return cast("Any", [self.target.platform, "noarch"])

    def _run(self, question: Coroutine[Any, Any, T]) -> T:
        try:
            return self.pool.submit(asyncio.run, question).result()
        except Exception as error:
            # rattler's text may hold whole URLs.
            shown = name_some([strip_channel(url) for url in self.urls])
            raise LockError(
                f"Failed to look packages up for `{self.target.platform}` in {shown}",
                causes=tuple(list_causes(redact(str(error))))[:LISTED],
                hint="Check the network and the channels",
            ) from error


@contextmanager
def open_channels(urls: Sequence[str], target: Target, session: Session) -> Iterator[OpenChannels]:
    """Have channels ready to be asked, with their logins."""
    from rattler import Client, Gateway

    from envboot.indexes.channels import read_channels

    # An index of its own each time: see `conda_packages.solve_python`. And a thread of its own,
    # since in a notebook this one runs a loop.
    session.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=session.cache) as folder, ThreadPoolExecutor(1) as pool:
        configured = read_channels(session.environment)
        yield OpenChannels(
            urls=configured.open_all(urls),
            target=target,
            gateway=Gateway(cache_dir=Path(folder), client=Client.default_client()),
            pool=pool,
        )


def read_spec(text: str) -> MatchSpec:
    """Read a spec as conda does: `name=version=build` and `=1.26.*` too, which rattler deprecates.

    Raises:
        ValueError: it is none, in rattler's words.
    """
    from rattler import MatchSpec
    from rattler.exceptions import InvalidMatchSpecError

    try:
        return MatchSpec(text, strict=False)
    except InvalidMatchSpecError as error:
        raise ValueError(str(error).partition("\n")[0]) from error


def _say(text: str) -> str:
    """Make one line of rattler's tree."""
    lines = [line.strip(" │├└─\t") for line in text.splitlines()]
    first = lines[0].removeprefix("Cannot solve the request because of: ")
    return ", ".join(line.rstrip(".,:") for line in [first, *lines[1:]] if line)
