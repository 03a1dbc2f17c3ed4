"""Conda channels and their logins: files of conda, mamba, rattler, anaconda-client; netrc."""

from __future__ import annotations

import json
import string
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus, urlsplit

from envboot.documents import find_table
from envboot.folders import config_folder, home_folder
from envboot.indexes.logins import Login, find_netrc, join_login, split_login
from envboot.redaction import strip_channel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_FOLDERS = ("/etc/conda", "/var/lib/conda")
_NAMES = (".condarc", "condarc", "condarc.d")


@dataclass(frozen=True, kw_only=True, slots=True)
class Access:
    """How a URL of a channel is fetched; `configured` says that its channel itself has a secret.

    Otherwise the login is one of its whole host, where much may be public.
    """

    url: str = field(repr=False)
    login: Login | None = None
    bearer: str | None = field(default=None, repr=False)
    configured: bool = False

    @property
    def authorization(self) -> str | None:
        """The value of the header, None where the URL itself has a token."""
        if self.bearer:
            return f"Bearer {self.bearer}"
        return self.login.header if self.login else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Channels:
    """What is configured: channels by name, and those with a secret by their URL without it."""

    alias: str | None = field(default=None, repr=False)
    custom: dict[str, str] = field(default_factory=dict, repr=False)
    private: dict[str, str] = field(default_factory=dict, repr=False)
    tokens: dict[str, str] = field(default_factory=dict, repr=False)
    hosts: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    def open(self, channel: str) -> str:
        """Return the URL of a channel, given by name or URL, with its login where it has one.

        A name that no configuration knows stays a name: it is one of conda.anaconda.org.
        """
        if "://" not in channel:
            channel = self.custom.get(channel) or (
                f"{self.alias.rstrip('/')}/{channel}" if self.alias else channel
            )
        found = self.find(f"{channel}/") if "://" in channel else None
        if found is None:
            return channel
        # A token of rattler's own file is put in by rattler itself.
        url = found.url.rstrip("/")
        return join_login(url, found.login) if found.login else url

    def find(self, url: str) -> Access | None:
        """Return how a URL without credentials is fetched, None where no login is known."""
        clean = strip_channel(url)
        for base in sorted(self.private, key=len, reverse=True):
            if clean.startswith(base + "/"):
                full, login = split_login(self.private[base] + clean[len(base) :])
                return Access(url=full, login=login, configured=True)
        for base, token in self.tokens.items():
            if clean.startswith(base):
                return Access(url=_with_token(clean, token))
        return self._find_host(clean)

    def _find_host(self, url: str) -> Access | None:
        """Look into rattler's file, by host and then by `*.domain`, and into netrc."""
        host = urlsplit(url).hostname or ""
        parts = host.split(".")
        names = [
            urlsplit(url).netloc,
            host,
            *("*." + ".".join(parts[n:]) for n in range(len(parts))),
        ]
        entry = next((self.hosts[name] for name in names if name in self.hosts), {})
        if "CondaToken" in entry:
            return Access(url=_with_token(url, entry["CondaToken"]))
        if "BearerToken" in entry:
            return Access(url=url, bearer=entry["BearerToken"])
        if "BasicHTTP" in entry:
            return Access(url=url, login=Login(**entry["BasicHTTP"]))
        login = find_netrc(url, self.environment)
        return Access(url=url, login=login) if login else None


def find_condarc_files(environment: Mapping[str, str]) -> list[Path]:
    """Return the files that conda and mamba read, in conda's order: the last one wins."""
    home, own = home_folder(environment), config_folder(environment)
    places = [Path(folder, name) for folder in _FOLDERS for name in _NAMES]
    for variable in ("CONDA_ROOT", "MAMBA_ROOT_PREFIX"):
        if environment.get(variable):
            places += [Path(environment[variable], name) for name in (*_NAMES, ".mambarc")]
    places += [folder / name for folder in (own / "conda", home / ".conda") for name in _NAMES]
    places += [home / ".condarc", home / ".mambarc"]
    if environment.get("CONDA_PREFIX"):
        places += [Path(environment["CONDA_PREFIX"], name) for name in (*_NAMES, ".mambarc")]
    places += [Path(environment[name]) for name in ("CONDARC", "MAMBARC") if environment.get(name)]
    files: list[Path] = []
    for place in places:
        if place.is_dir():
            files += [file for file in sorted(place.iterdir()) if file.suffix in (".yml", ".yaml")]
        elif place.is_file():
            files.append(place)
    return files


def read_channels(environment: Mapping[str, str]) -> Channels:
    """Read every place that knows a channel or its login; what cannot be read is passed over."""
    import yaml

    alias, custom = environment.get("CONDA_CHANNEL_ALIAS"), {}
    urls = _split(environment.get("CONDA_CHANNELS")) + _split(
        environment.get("CONDA_DEFAULT_CHANNELS")
    )
    for file in find_condarc_files(environment):
        try:
            document = yaml.safe_load(file.read_text("utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            continue
        if not isinstance(document, dict):
            continue
        # conda expands variables; tokens mostly stand in one.
        found = _expand(document, environment)
        if not environment.get("CONDA_CHANNEL_ALIAS"):
            alias = found.get("channel_alias") or alias
        for key in ("channels", "default_channels", "channel_alias"):
            urls += _strings(found.get(key))
        for key in ("custom_multichannels", "mirrored_channels"):
            urls += [url for value in find_table(found, key).values() for url in _strings(value)]
        for name, base in find_table(found, "custom_channels").items():
            custom[name] = f"{str(base).rstrip('/')}/{name}"
    urls += [*custom.values(), *_strings(alias)]
    private = {strip_channel(url).rstrip("/"): url.rstrip("/") for url in urls if "://" in url}
    return Channels(
        alias=alias,
        custom=custom,
        private={clean: url for clean, url in private.items() if clean != url},
        tokens=dict(_read_tokens(environment)),
        hosts=_read_hosts(environment),
        environment=environment,
    )


def _split(value: str | None) -> list[str]:
    return (value or "").replace(",", " ").split()


def _strings(value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [item for item in values if isinstance(item, str)]


def _expand(value: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _expand(member, environment) for key, member in value.items()}
    if isinstance(value, list):
        return [_expand(member, environment) for member in value]
    return string.Template(value).safe_substitute(environment) if isinstance(value, str) else value


def _with_token(url: str, token: str) -> str:
    parts = urlsplit(url)
    return parts._replace(path=f"/t/{token}{parts.path}").geturl()


def _read_tokens(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield URL and token of anaconda-client and conda-token, which name files by their URL."""
    home = home_folder(environment)
    own = Path(environment.get("XDG_DATA_HOME") or home / ".local" / "share")
    for folder in (home / ".continuum" / "anaconda-client" / "tokens", own / "binstar"):
        for file in sorted(folder.glob("*.token")):
            url = unquote_plus(file.name.removesuffix(".token")).rstrip("/")
            try:
                yield url.replace("://api.", "://conda.") + "/", file.read_text().strip()
            except OSError:
                continue


def _read_hosts(environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    own = home_folder(environment) / ".rattler" / "credentials.json"
    file = Path(environment.get("RATTLER_AUTH_FILE") or own)
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return {host: entry for host, entry in find_table(document).items() if isinstance(entry, dict)}
