"""URLs without what would let their reader in. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# PEP 610 lets these stay: the variables are expanded on whichever machine uses the URL.
_HARMLESS_USER = re.compile(r"git|\$\{\w+\}(:\$\{\w+\})?")
_TOKEN = re.compile(r"/t/[^/]+(?=/|$)")
_SECRET = re.compile(r"(PASSWORD|SECRET|TOKEN|SECRET_ACCESS_KEY)$", re.IGNORECASE)
# Wider than what is hidden in a program's output, where common words would be cut out of text.
_SECRET_NAME = re.compile(
    r"(^|_)(PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|CREDENTIALS?|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY"
    r"|AUTH|PWD)(_|$)|(PASSWORD|SECRET|TOKEN|APIKEY)$",
    re.IGNORECASE,
)
_URL = re.compile(r"[a-z][a-z0-9+]*://[^\s`'\"<>)]+")


def strip_url(url: str) -> str:
    """Return a URL without user info, query and fragment.

    The user's name stays where it is no secret and needed to connect: `git@` and with ssh.
    The token in the path of Anaconda's hosts (`/t/<token>/`) goes.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    host, slash, path = re.split("[?#]", rest, maxsplit=1)[0].partition("/")
    user, at, host = host.rpartition("@")
    if "ssh" in scheme:
        user = user.partition(":")[0]
    elif not _HARMLESS_USER.fullmatch(user):
        user = at = ""
    path = slash + path
    return (
        scheme
        + separator
        + user
        + at
        + host
        + (_TOKEN.sub("", path) if "anaconda" in host else path)
    )


def strip_channel(url: str) -> str:
    """Return a conda URL or channel without user info, query and token, whatever its host."""
    return _TOKEN.sub("", strip_url(url))


def redact(text: str) -> str:
    """Return a text, another program's words mostly, with every URL in it stripped."""
    return _URL.sub(lambda found: strip_channel(found[0]), text)


HIDDEN = "***"
"""What stands in the place of a secret."""


def is_secret(name: str, value: str = "") -> bool:
    """Whether a variable's name says that it is a secret, or a URL in its value has a login."""
    return bool(_SECRET_NAME.search(name)) or value == HIDDEN or redact(value) != value


def hide_values(text: str, environment: Mapping[str, str]) -> str:
    """Return what a program printed without values of variables that are named as secrets.

    A build may print its whole environment. Shorter values than four characters stay: they are
    in other words too.
    """
    for name, value in environment.items():
        if _SECRET.search(name) and len(value) > 3:
            text = text.replace(value, "***")
    return text


def strip_document(document: Any) -> None:
    """Strip every URL of a scan document in place, before anything else sees it."""
    for record in document.get("conda", ()):
        record["url"] = strip_channel(record["url"])
        record["channel"] = strip_channel(record["channel"])
    for distribution in document.get("distributions", ()):
        if "direct_url" in distribution:
            distribution["direct_url"] = _strip_strings(distribution["direct_url"])


def _strip_strings(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strip_strings(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_strip_strings(member) for member in value]
    return strip_url(value) if isinstance(value, str) else value
