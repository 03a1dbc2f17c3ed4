"""What an index has of a package: the simple API (PEP 503, PEP 691), and pages of links."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import unquote, urldefrag, urljoin, urlsplit
from urllib.request import url2pathname

from packaging.utils import (
    InvalidWheelFilename,
    canonicalize_name,
    parse_wheel_filename,
)

from envboot.errors import LockError
from envboot.indexes.web import UNREACHABLE
from envboot.redaction import strip_channel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from packaging.version import Version

    from envboot.indexes.configuration import Index
    from envboot.indexes.web import Web

_JSON = "application/vnd.pypi.simple.v1+json"
_ACCEPT = f"{_JSON}, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
# PyPI's largest pages have less than 20 MB.
_MOST = 64 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedWheel:
    """A wheel on an index; `sha256` and `size` are None where its page does not state them."""

    file: str
    version: Version
    url: str = field(repr=False)
    sha256: str | None = None
    size: int | None = None


def list_wheels(index: Index, name: str, web: Web) -> tuple[ListedWheel, ...]:
    """List the wheels that an index has of a package, by its normalised name.

    Raises:
        LockError: it cannot be read; that it does not know the package is no error.
    """
    parts = urlsplit(index.url)
    if parts.scheme not in ("http", "https"):
        return tuple(_list_folder(index, name))
    url = index.url if index.flat else f"{index.url.rstrip('/')}/{name}/"
    login = index.login.header if index.login else None
    try:
        with web.open(url, login, {"Accept": _ACCEPT}) as answer:
            data = answer.read(_MOST)
            at = answer.geturl()  # type: ignore[attr-defined]  # what urlopen returns
            kind = answer.headers.get_content_type()  # type: ignore[attr-defined]
    except HTTPError as error:
        error.close()
        if error.code in (401, 403, 404, 410):
            return ()
        raise _failure(index, name, f"HTTP {error.code}") from None
    except UNREACHABLE as error:
        raise _failure(index, name, type(error).__name__) from None
    found = _read_json(data, at) if kind == _JSON else _read_html(data, at)
    return tuple(wheel for wheel in found if _is_of(wheel, name))


def _failure(index: Index, name: str, seen: str) -> LockError:
    return LockError(
        f"Failed to list the files of `{name}` on `{strip_channel(index.url)}`",
        causes=(seen,),
        hint="Check the network, and try again",
    )


def _list_folder(index: Index, name: str) -> Iterator[ListedWheel]:
    parts = urlsplit(index.url)
    folder = Path(url2pathname(parts.path) if parts.scheme == "file" else index.url)
    if not index.flat:
        page = folder / name / "index.html"
        if page.is_file():
            wheels = _read_html(page.read_bytes(), page.as_uri())
            yield from (wheel for wheel in wheels if _is_of(wheel, name))
        return
    for file in sorted(folder.glob("*.whl")):
        wheel = _list(file.name, file.as_uri())
        if wheel and _is_of(wheel, name):
            yield wheel


def _is_of(wheel: ListedWheel, name: str) -> bool:
    return canonicalize_name(wheel.file.partition("-")[0]) == name


def _list(
    file: str, url: str, sha256: str | None = None, size: int | None = None
) -> ListedWheel | None:
    try:
        version = parse_wheel_filename(file)[1]
    except InvalidWheelFilename:
        return None
    return ListedWheel(file=file, version=version, url=url, sha256=sha256, size=size)


def _read_json(data: bytes, at: str) -> Iterator[ListedWheel]:
    try:
        files: list[dict[str, Any]] = json.loads(data)["files"]
        for each in files:
            sha256, size = each.get("hashes", {}).get("sha256"), each.get("size")
            size = size if isinstance(size, int) else None
            found = _list(str(each["filename"]), urljoin(at, str(each["url"])), sha256, size)
            if found:
                yield found
    except (ValueError, KeyError, TypeError, AttributeError):
        return


def _read_html(data: bytes, at: str) -> Iterator[ListedWheel]:
    page = _Page()
    page.feed(data.decode("utf-8", "replace"))
    base = urljoin(at, page.base)
    for link in page.links:
        try:
            url, fragment = urldefrag(urljoin(base, link))
            file = unquote(urlsplit(url).path.rpartition("/")[2])
        except ValueError:
            continue
        algorithm, _, value = fragment.partition("=")
        found = _list(file, url, value if algorithm == "sha256" and value else None)
        if found:
            yield found


class _Page(HTMLParser):
    """Collects links."""

    def __init__(self) -> None:
        super().__init__()
        self.base = ""
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take the page's base and the target of every link."""
        target = dict(attrs).get("href")
        if target and tag == "a":
            self.links.append(target)
        elif target and tag == "base" and not self.base:
            self.base = target
