"""Google's credentials, for bucket and machines alike: whose they are, and who gives tokens."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests
from google.auth.exceptions import TransportError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

_PERSON = "a user's own (`gcloud auth application-default login`)"
_KINDS = {
    "google.oauth2.credentials": _PERSON,
    "google.auth.external_account_authorized_user": "a user's own, of a workforce pool",
    "google.oauth2.service_account": "a key of a service account",
    "google.auth.compute_engine.credentials": "those of this machine's service account",
    "google.auth.impersonated_credentials": "those of an impersonated service account",
}
"""What credentials are, by the module of their type: each kind has one of its own."""


def name_kind(found: Credentials) -> str:
    """Say what kind of credentials these are."""
    kind = type(found)
    return _KINDS.get(kind.__module__, f"`{kind.__module__}.{kind.__name__}`")


def is_person(found: Credentials) -> bool:
    """Whether these are a person's own, whom no key signs for."""
    return name_kind(found).startswith("a user's own")


def explain_silence(error: Exception, found: Credentials | None) -> tuple[str, str] | None:
    """Return cause and way out where the server that gives tokens cannot be reached.

    None for any other error. A request to a service itself fails with errors of `requests`, only
    one for a token with one of google.auth's (`google.auth.transport.requests`).
    """
    told = tell_unreachable(error.__cause__) if isinstance(error, TransportError) else None
    if told is None:
        return None
    kind = f"; the credentials are {name_kind(found)}" if found else ""
    return (
        f"Google's token server {told}{kind}",
        "Check this machine's network and proxy: nothing can be asked without a token",
    )


def tell_unreachable(error: BaseException | None) -> str | None:
    """Say in one line which host does not answer, and why; None where that is not the error."""
    if not isinstance(error, requests.ConnectionError | requests.Timeout) or not error.request:
        return None
    found = re.search(r"\[Errno -?\d+\] ([^\]\[()'\"]+)", str(error))
    late = isinstance(error, requests.Timeout)
    why = found[1].strip() if found else "no answer in time" if late else type(error).__name__
    return f"`{urlsplit(str(error.request.url)).netloc}` cannot be reached: {why}"
