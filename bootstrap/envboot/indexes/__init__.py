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
from envboot.indexes.configuration import Configuration, Index, merge, put_local_last
from envboot.indexes.logins import Login, find_keyring, find_netrc, split_login
from envboot.indexes.pip import read_pip
from envboot.indexes.render import render_config, render_project
from envboot.indexes.uv import read_uv
from envboot.redaction import strip_channel, strip_url
from envboot.scan.schema import Problem, Source
from envboot.text import count
from envboot.tool_variables import UV_PLACES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from envboot.indexes.web import Web

_PUBLIC = ("pypi.org", "files.pythonhosted.org")


@dataclass(frozen=True, kw_only=True, slots=True)
class PrivateWheel:
    """A wheel that guests have no login for; `url` may carry one."""

    name: str
    version: str
    file: str
    url: str = field(repr=False)
    sha256: str


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
            Source(name=wheel.name, version=wheel.version, path=str(file))
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
    environment: Mapping[str, str], folder: Path, *, prefix: Path, pip: bool, probe: str
) -> Indexes:
    """Read uv's settings, and with `pip` those of pip, and find the logins that they want.

    Settings are those that apply in `folder`, the session's or a lock file's.
    `prefix` is the scanned environment, which may have a `pip.conf`. Every index that may be
    private is asked once for the package `probe`: uv passes over one that refuses a login, and
    takes a package of that name from the next index.

    Raises:
        LockError: naming every index that refuses the login, or has none.
    """
    # 40 ms that a lock which is kept does not need.
    from envboot.indexes.web import RENEW, Web

    configuration = read_uv(environment, folder)
    if pip:
        configuration = merge(configuration, read_pip(environment, folder, prefix))
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
