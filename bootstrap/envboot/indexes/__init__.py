"""Where packages are looked up, and with which logins: pip's, uv's and conda's configuration."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from envboot import process
from envboot.errors import LISTED, LockError, name_some
from envboot.indexes.configuration import (
    PYPI,
    Configuration,
    Index,
    merge,
    override,
    put_local_last,
)
from envboot.indexes.logins import Login, find_keyring, find_netrc, join_login, split_login
from envboot.indexes.pip import read_pip
from envboot.indexes.render import render_config, render_project
from envboot.indexes.uv import read_uv
from envboot.redaction import strip_channel, strip_url
from envboot.scan.schema import Problem, Source
from envboot.text import count
from envboot.tool_variables import UV_PLACES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from envboot.indexes.records import WheelRecord
    from envboot.indexes.simple import ListedWheel
    from envboot.indexes.web import Web

_PUBLIC = ("pypi.org", "files.pythonhosted.org")


@dataclass(frozen=True, kw_only=True, slots=True)
class PrivateWheel:
    """A wheel that guests have no login for, or an archive to build; `url` may carry a login.

    `subdirectory` is where the project is in an archive.
    """

    name: str
    version: str
    file: str
    url: str = field(repr=False)
    sha256: str
    subdirectory: str | None = None
    size: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Indexes:
    """The indexes of one environment, ready to be asked."""

    configuration: Configuration
    environment: Mapping[str, str]
    folder: Path
    web: Web

    def run_uv(self, command: Sequence[str], requirements: Sequence[str]) -> process.Completed:
        """Run a `uv pip compile …` on requirements, with these indexes and no others.

        Logins are in its environment, where only this user's processes can read them, and
        neither on the command line nor in a file.
        """
        names = {f"i{number}": index for number, index in enumerate(self.configuration.indexes)}
        # What is read here must not be read again by uv, beside what is made of it.
        environment = {
            name: value for name, value in self.environment.items() if name not in UV_PLACES
        }
        variables: dict[str, str] = {}
        for name, index in names.items():
            if index.login:
                variables[f"UV_INDEX_{name.upper()}_USERNAME"] = index.login.username
                variables[f"UV_INDEX_{name.upper()}_PASSWORD"] = index.login.password
        if self.configuration.certificates:
            environment.setdefault("SSL_CERT_FILE", self.configuration.certificates)
        with tempfile.TemporaryDirectory(prefix="envboot-") as folder:
            config = Path(folder, "uv.toml")
            config.write_text(render_config(self.configuration, names))
            project = render_project(self.configuration, names, requirements)
            file = "-"
            if project:
                file = f"{folder}/pyproject.toml"
                Path(file).write_text(project)
            return process.run(
                [*command, "--config-file", str(config), file],
                environment=environment,
                folder=self.folder,
                variables=variables,
                input="\n".join(requirements).encode(),
            )

    def render_options(self) -> tuple[list[str], dict[str, str]]:
        """Return options and variables that add these indexes to what a `uv build` asks.

        Its project's own settings still count. Logins are in variables.
        """
        options: list[str] = []
        variables: dict[str, str] = {}
        links = []
        for number, index in enumerate(self.configuration.indexes):
            name = f"envboot-{number}"
            if index.flat:
                links.append(join_login(index.url, index.login) if index.login else index.url)
            elif not (index.explicit or self.configuration.no_index):
                option = "--default-index" if index.default else "--index"
                options += [option, f"{name}={index.url}"]
                if index.login:
                    start = f"UV_INDEX_ENVBOOT_{number}"
                    variables[f"{start}_USERNAME"] = index.login.username
                    variables[f"{start}_PASSWORD"] = index.login.password
        if links:
            variables["UV_FIND_LINKS"] = ",".join(links)
        if self.configuration.no_index:
            options.append("--no-index")
        if options and self.configuration.strategy:
            options += ["--index-strategy", self.configuration.strategy]
        for host in self.configuration.insecure:
            options += ["--allow-insecure-host", host]
        if self.configuration.certificates and "SSL_CERT_FILE" not in self.environment:
            variables["SSL_CERT_FILE"] = self.configuration.certificates
        return options, variables

    @property
    def ordinary(self) -> tuple[Index, ...]:
        """Every index that is asked for any package, PyPI too where nothing stands for it."""
        found = tuple(index for index in self.configuration.indexes if not index.explicit)
        if self.configuration.no_index or any(index.default for index in found):
            return found
        return (*found, Index(url=PYPI, default=True))

    def list_wheels(self, name: str, indexes: Sequence[Index]) -> list[ListedWheel]:
        """List what indexes have of a package; raises LockError where one cannot be read."""
        from envboot.indexes.simple import list_wheels

        return [wheel for index in indexes for wheel in list_wheels(index, name, self.web)]

    def read_record(self, wheel: ListedWheel | PrivateWheel, cache: Path) -> WheelRecord:
        """Read a wheel's RECORD where it lies; see `indexes.records`."""
        from envboot.indexes.records import RemoteFile, read_record

        clean, carried = split_login(wheel.url)
        login = carried or self.find_login(clean)
        file = RemoteFile(
            url=clean,
            authorization=login.header if login else None,
            sha256=wheel.sha256 or None,
            size=wheel.size,
        )
        return read_record(file, self.web, cache)

    def find_login(self, url: str) -> Login | None:
        """Return the login with which a file at `url` is fetched: its index's, or netrc's."""
        place = urlsplit(url)[:2]
        for index in self.configuration.indexes:
            if index.login and urlsplit(index.url)[:2] == place:
                return index.login
        return find_netrc(url, self.environment) if place[1] not in _PUBLIC else None

    def is_private(self, url: str) -> bool:
        """Tell whether a guest, which has no login, could not fetch `url`."""
        return strip_url(url) != url.partition("#")[0] or self.find_login(url) is not None

    def bring(self, wheels: Sequence[PrivateWheel], cache: Path) -> tuple[Source, ...]:
        """Fetch private wheels, each once ever, and return them as files for the layer.

        Raises:
            LockError: one cannot be had, or is not what its index promised.
        """
        with ThreadPoolExecutor(8) as pool:
            files = list(pool.map(lambda wheel: self._fetch(wheel, cache), wheels))
        return tuple(
            Source(
                name=wheel.name,
                version=wheel.version,
                path=str(file),
                subdirectory=wheel.subdirectory,
            )
            for wheel, file in zip(wheels, files, strict=True)
        )

    def _fetch(self, wheel: PrivateWheel, cache: Path) -> Path:
        clean, carried = split_login(wheel.url)
        login = carried or self.find_login(clean)
        file = cache / "private" / wheel.sha256 / wheel.file
        digest = f"sha256:{wheel.sha256}"
        return self.web.fetch(clean, login.header if login else None, file, digest)


def note_private(wheels: Sequence[PrivateWheel]) -> tuple[Problem, ...]:
    """Say which packages travel in the layer because their index wants a login, by host."""
    by_host: dict[str, list[str]] = {}
    for wheel in wheels:
        host = urlsplit(wheel.url).netloc.rpartition("@")[2]
        by_host.setdefault(host, []).append(wheel.name)
    return tuple(
        Problem(
            subject=host,
            message=f"Guests have no login here: {name_some(sorted(names))} "
            f"{'travel' if len(names) > 1 else 'travels'} in the layer",
        )
        for host, names in sorted(by_host.items())
    )


def open_indexes(
    environment: Mapping[str, str],
    folder: Path,
    *,
    prefix: Path,
    pip: bool,
    probe: str,
    given: Configuration | None = None,
    pip_first: bool = False,
) -> Indexes:
    """Read uv's settings, and with `pip` those of pip, and find the logins that they want.

    Settings are those that apply in `folder`, the session's or a lock file's.
    `prefix` is the scanned environment, which may have a `pip.conf`. With `pip_first` pip's come
    before uv's: pip has installed everything. `given` is what a file of requirements says itself.
    Every index that may be
    private is asked once for the package `probe`: uv passes over one that refuses a login, and
    takes a package of that name from the next index.

    Raises:
        LockError: naming every index that refuses the login, or has none.
    """
    # 40 ms that a lock which is kept does not need.
    from envboot.indexes.web import RENEW, Web

    configuration = read_uv(environment, folder)
    if pip:
        pips = read_pip(environment, folder, prefix)
        configuration = merge(pips, configuration) if pip_first else merge(configuration, pips)
    if given:
        configuration = override(given, configuration)
    web = Web(
        certificates=environment.get("SSL_CERT_FILE") or configuration.certificates,
        insecure=frozenset(configuration.insecure),
    )
    programs = prefix / "bin"
    named = {entry["index"] for entries in configuration.sources.values() for entry in entries}
    # Nothing is asked of an explicit index that no source names.
    indexes = [item for item in configuration.indexes if not item.explicit or item.name in named]
    indexes += map(_read_links, configuration.find_links)
    settled, refused = [], []
    for index in indexes:
        parts = urlsplit(index.url)
        if parts.scheme not in ("http", "https") or parts.netloc in _PUBLIC:
            settled.append(index)
            continue
        found, status = _settle(
            index, probe, configuration.keyring, environment, folder, programs, web
        )
        settled.append(found)
        if status:
            what = "refused the login" if found.login else "wants a login, and none was found"
            refused.append(f"`{strip_channel(index.url)}` {what} (HTTP {status})")
    if refused:
        raise LockError(
            "Cannot look packages up in " + count(len(refused), "private index", "private indexes"),
            causes=tuple(refused[:LISTED]),
            hint=RENEW,
        )
    if pip and not configuration.no_index:
        settled = put_local_last(settled)
    return Indexes(
        configuration=replace(configuration, indexes=tuple(settled), find_links=()),
        environment=environment,
        folder=folder,
        web=web,
    )


def _read_links(place: str) -> Index:
    """Return a page of links as the index that uv can have a login for."""
    url, login = split_login(place)
    return Index(url=url, login=login, flat=True)


def _settle(
    index: Index,
    name: str,
    keyring: bool,
    environment: Mapping[str, str],
    folder: Path,
    programs: Path,
    web: Web,
) -> tuple[Index, int | None]:
    """Find an index's login; the second value is the HTTP status of a refusal."""
    username = index.login.username if index.login else None
    login = index.login if index.login and index.login.password else None
    login = login or find_netrc(index.url, environment) or index.login
    url = index.url if index.flat else f"{index.url.rstrip('/')}/{name}/"
    status = web.status(url, login.header if login else None)
    if status == 401 and keyring and not (login and login.password):
        found = find_keyring(index.url, username, environment, folder=folder, programs=programs)
        login = found or login
        status = web.status(url, login.header if login else None)
    if status == 403 and login:
        # Of a package alone it says little: S3 answers so for what is missing.
        status = web.status(index.url, login.header)
    is_refused = status == 401 or (status == 403 and login is not None)
    return replace(index, login=login), status if is_refused else None
