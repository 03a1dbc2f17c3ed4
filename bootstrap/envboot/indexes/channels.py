"""Conda channels as conda and mamba are configured to find them, and who may read them."""

from __future__ import annotations

import string
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from envboot.documents import find_table
from envboot.folders import config_folder, home_folder
from envboot.indexes.channel_logins import list_keys, read_hosts, read_tokens
from envboot.indexes.logins import Login, find_netrc, join_login, split_login
from envboot.redaction import strip_channel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEFAULTS = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")
"""What `defaults` means to conda where nothing else is configured."""

_FOLDERS = ("/etc/conda", "/var/lib/conda", "C:/ProgramData/conda")
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
    """What is configured: channels by name, and those with a secret by their URL without it.

    `names` are the channels that conda looks into, `custom` the places that names are below,
    `several` what stands for several channels, as `defaults` does. `unread` are the files that
    cannot be read, and why.
    """

    names: tuple[str, ...] = field(default=(), repr=False)
    alias: str | None = field(default=None, repr=False)
    custom: dict[str, str] = field(default_factory=dict, repr=False)
    several: dict[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    private: dict[str, str] = field(default_factory=dict, repr=False)
    tokens: dict[str, str] = field(default_factory=dict, repr=False)
    hosts: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    unread: dict[str, str] = field(default_factory=dict)

    def open_all(self, channels: Sequence[str]) -> tuple[str, ...]:
        """Return the URLs of channels as `open` does, each once; one name may stand for several."""
        found: dict[str, None] = {}
        for channel in channels:
            for one in self.several.get(channel, (channel,)):
                found[self.open(one)] = None
        return tuple(found)

    def open(self, channel: str) -> str:
        """Return the URL of a channel, given by name, path or URL, with its login if it has one.

        A name that no configuration knows stays a name: it is one of conda.anaconda.org.
        """
        url = self._place(channel)
        found = self.find(f"{url}/") if "://" in url else None
        if found is None:
            return url
        # A token of rattler's own file is put in by rattler itself.
        opened = found.url.rstrip("/")
        return join_login(opened, found.login) if found.login else opened

    def _place(self, channel: str) -> str:
        if "://" in channel:
            return channel
        if channel.startswith(("/", "~")):
            home = str(home_folder(self.environment))
            return "file://" + quote(channel.replace("~", home, 1))
        # Of a name with slashes a part at its front may be configured: `mine` for `mine/label/x`.
        name = channel
        while name:
            if name in self.custom:
                return f"{self.custom[name]}/{channel}"
            name = name.rpartition("/")[0]
        return f"{self.alias.rstrip('/')}/{channel}" if self.alias else channel

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
        """Look into the files of rattler and micromamba, and into netrc."""
        entry = next((self.hosts[key] for key in list_keys(url) if key in self.hosts), {})
        if "CondaToken" in entry:
            return Access(url=_with_token(url, entry["CondaToken"]))
        if "BearerToken" in entry:
            return Access(url=url, bearer=entry["BearerToken"])
        if "BasicHTTP" in entry:
            return Access(url=url, login=Login(**entry["BasicHTTP"]))
        login = find_netrc(url, self.environment)
        return Access(url=url, login=login) if login else None


def find_condarc_files(environment: Mapping[str, str]) -> list[Path]:
    """Return the files that conda and mamba read, in conda's order: the last one wins.

    The order is conda's `SEARCH_PATH` ("Searching for .condarc" in its manual).
    """
    home = home_folder(environment)
    places = [Path(folder, name) for folder in _FOLDERS for name in _NAMES]
    for root in _find_roots(environment):
        places += [root / name for name in (*_NAMES, ".mambarc")]
    settings = (config_folder(environment) / "conda", home / ".config" / "conda", home / ".conda")
    places += [folder / name for folder in settings for name in _NAMES]
    places += [home / ".condarc", home / ".mambarc"]
    if environment.get("CONDA_PREFIX"):
        places += [Path(environment["CONDA_PREFIX"], name) for name in (*_NAMES, ".mambarc")]
    places += [Path(environment[name]) for name in ("CONDARC", "MAMBARC") if environment.get(name)]
    files: list[Path] = []
    for place in dict.fromkeys(places):
        if place.is_dir():
            files += [file for file in sorted(place.iterdir()) if file.suffix in (".yml", ".yaml")]
        elif place.is_file():
            files.append(place)
    return files


def read_channels(environment: Mapping[str, str]) -> Channels:
    """Read every place that knows a channel or its login; what cannot be read is `unread`."""
    unread: dict[str, str] = {}
    found = [_read_condarc(file, environment, unread) for file in find_condarc_files(environment)]
    alias = environment.get("CONDA_CHANNEL_ALIAS")
    custom: dict[str, str] = {}
    several: dict[str, tuple[str, ...]] = {}
    for document in found:
        if not environment.get("CONDA_CHANNEL_ALIAS"):
            alias = document.get("channel_alias") or alias
        for name, base in find_table(document, "custom_channels").items():
            custom[name] = str(base).rstrip("/")
        for name, urls in find_table(document, "custom_multichannels").items():
            several[name] = tuple(_strings(urls))
    names = _join(_split(environment.get("CONDA_CHANNELS")), found, "channels")
    defaults = _join(_split(environment.get("CONDA_DEFAULT_CHANNELS")), found, "default_channels")
    several = {"defaults": defaults or DEFAULTS, "local": _find_built(environment), **several}
    urls = [*names, *(url for every in several.values() for url in every), *_strings(alias)]
    urls += [f"{base}/{name}" for name, base in custom.items()]
    for document in found:
        mirrors = find_table(document, "mirrored_channels").values()
        urls += [url for every in mirrors for url in _strings(every)]
    private = {strip_channel(url).rstrip("/"): url.rstrip("/") for url in urls if "://" in url}
    return Channels(
        names=names,
        alias=alias,
        custom=custom,
        several={name: every for name, every in several.items() if every},
        private={clean: url for clean, url in private.items() if clean != url},
        tokens=dict(read_tokens(environment)),
        hosts=read_hosts(environment),
        environment=environment,
        unread=unread,
    )


def _read_condarc(
    file: Path, environment: Mapping[str, str], unread: dict[str, str]
) -> dict[str, Any]:
    """Return what a file says; why it cannot be read is noted in `unread`."""
    import yaml

    try:
        document = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        why = getattr(error, "problem", None) or getattr(error, "strerror", None) or str(error)
        unread[str(file)] = f"{why} at line {mark.line + 1}" if mark else why
        return {}
    # conda expands variables; tokens mostly stand in one.
    return _expand(document, environment) if isinstance(document, dict) else {}


def _find_roots(environment: Mapping[str, str]) -> list[Path]:
    """Return where conda and mamba themselves are installed: `$CONDA_ROOT` in conda's manual."""
    roots = [Path(environment["CONDA_ROOT"])] if environment.get("CONDA_ROOT") else []
    if environment.get("CONDA_EXE"):
        roots.append(Path(environment["CONDA_EXE"]).parent.parent)
    if environment.get("MAMBA_ROOT_PREFIX"):
        roots.append(Path(environment["MAMBA_ROOT_PREFIX"]))
    return roots


def _find_built(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the channels that conda-build writes to, which conda calls `local`."""
    chosen = environment.get("CONDA_BLD_PATH")
    folders = [Path(chosen)] if chosen else []
    folders += [root / "conda-bld" for root in _find_roots(environment)]
    folders.append(home_folder(environment) / "conda-bld")
    return tuple(f"file://{quote(str(folder))}" for folder in folders if folder.is_dir())


def _join(first: list[str], documents: Sequence[dict[str, Any]], key: str) -> tuple[str, ...]:
    """Join a list of several files as conda does: of the one that wins comes first."""
    every = [first, *(_strings(document.get(key)) for document in reversed(documents))]
    return tuple(dict.fromkeys(item for items in every for item in items))


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
