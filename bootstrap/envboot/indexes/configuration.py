"""What a configuration says about indexes, whoever wrote it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from envboot.indexes.logins import Login, split_login

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PYPI_HOST = "pypi.org"
PYPI = f"https://{PYPI_HOST}/simple"
PYPI_FILES = "files.pythonhosted.org"
"""Where PyPI's files are: one that is there never changes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Index:
    """One index; `url` is without user info.

    `explicit` ones serve only the packages that `sources` send there; `flat` is a page of links.
    """

    url: str
    login: Login | None = None
    name: str | None = None
    default: bool = False
    explicit: bool = False
    flat: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """Indexes in the order in which they are asked, and how.

    `sources` are uv's `[tool.uv.sources]` that name an index; `network` are uv's own settings
    for the network, which are passed on as they are.
    """

    indexes: tuple[Index, ...] = ()
    find_links: tuple[str, ...] = ()
    no_index: bool = False
    insecure: tuple[str, ...] = ()
    certificates: str | None = None
    keyring: bool = False
    strategy: str | None = None
    sources: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    network: dict[str, Any] = field(default_factory=dict)


def read_index(url: str, *, default: bool = False) -> Index:
    """Return the index at a URL that may carry a login."""
    clean, login = split_login(url)
    return Index(url=clean, login=login, default=default)


def absolute(place: str, folder: Path) -> str:
    """Return a URL as it is, and a path as seen from `folder`."""
    return place if urlsplit(place).scheme else str(folder / place)


def put_local_last(indexes: Sequence[Index]) -> list[Index]:
    """Order indexes so that folders of this machine come after what guests can reach themselves.

    Of one version in several places the first one's file counts, and pip knows no order. uv asks
    its default index last.
    """
    local = [index for index in indexes if not index.explicit and not _is_remote(index)]
    if not local:
        return [*indexes]
    remote = [index for index in indexes if index not in local]
    if not any(index.default for index in indexes):
        remote.append(Index(url=PYPI, default=True))
    remote = [replace(index, default=False) for index in sorted(remote, key=lambda i: i.default)]
    local = [replace(index, default=False) for index in local]
    return [*remote, *local[:-1], replace(local[-1], default=True)]


def _is_remote(index: Index) -> bool:
    return urlsplit(index.url).scheme in ("http", "https")


def override(given: Configuration, configured: Configuration) -> Configuration:
    """Put what a file of requirements says before what is configured, as pip does.

    With an `--index-url` or `--no-index` of its own no other index is asked.
    """
    joined = merge(given, configured)
    if given.no_index or any(index.default for index in given.indexes):
        own = {index.url for index in given.indexes}
        kept = tuple(index for index in joined.indexes if index.url in own)
        return replace(joined, indexes=kept, sources={})
    return joined


def merge(first: Configuration, second: Configuration) -> Configuration:
    """Join two configurations: the first one's indexes before the second's, and its choices.

    There is one default, the first one's; the second's is asked as any other index then.
    """
    has_default = any(index.default for index in first.indexes)
    joined: dict[str, Index] = {}
    for index in (*first.indexes, *second.indexes):
        known = joined.get(index.url)
        if known is None:
            demoted = index.default and has_default and index not in first.indexes
            joined[index.url] = replace(index, default=False) if demoted else index
        elif known.login is None:
            joined[index.url] = replace(known, login=index.login)
    return Configuration(
        indexes=tuple(joined.values()),
        find_links=tuple(dict.fromkeys((*first.find_links, *second.find_links))),
        no_index=first.no_index or second.no_index,
        insecure=(*first.insecure, *second.insecure),
        certificates=first.certificates or second.certificates,
        keyring=first.keyring or second.keyring,
        strategy=first.strategy or second.strategy,
        sources={**second.sources, **first.sources},
        network={**second.network, **first.network},
    )
