"""One bucket as Google's client reaches it: whose credentials, which endpoint, whose signature."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import google.auth
import google.cloud.storage as storage
import requests
from google.api_core.exceptions import GoogleAPICallError, RetryError
from google.auth import compute_engine, credentials, iam, impersonated_credentials
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
from google.auth.transport.requests import AuthorizedSession, Request

from envboot.config import GcsSettings
from envboot.errors import StoreError, UsageError
from envboot.google_auth import name_kind
from envboot.store.gcs.errors import SIGN_IN, SIGNERS, GcsPlace, explain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ENDPOINT = "https://storage.googleapis.com"
SCOPES = (
    "https://www.googleapis.com/auth/cloud-platform",
    "https://www.googleapis.com/auth/devstorage.full_control",
)


class GcsConnection:
    """A client for `gs://bucket/prefix`; `root` is the prefix with its slash.

    The project's settings come before what Google's libraries find by themselves. These read
    `GOOGLE_APPLICATION_CREDENTIALS` and their files from the process, which nothing can change;
    all else comes from `environment`. Where an endpoint of one's own is asked, credentials are
    used if there are any: emulators take none.
    """

    def __init__(
        self, url: str, environment: Mapping[str, str], settings: GcsSettings | None = None
    ):
        parts = urlsplit(url)
        if parts.scheme != "gs" or not parts.netloc or parts.query or parts.fragment:
            raise UsageError(f"Expected a bucket such as `gs://bucket/prefix`, found `{url}`")
        self.url = url.rstrip("/")
        self.settings = settings or GcsSettings()
        self.name = parts.netloc
        self.root = parts.path.strip("/") + "/" if parts.path.strip("/") else ""
        chosen = self.settings.endpoint_url or environment.get("STORAGE_EMULATOR_HOST") or ENDPOINT
        self.endpoint = (chosen if "://" in chosen else f"http://{chosen}").rstrip("/")
        with self.explained("open"):
            self.credentials, project = self._find_credentials()
            named = self.settings.project or environment.get("GOOGLE_CLOUD_PROJECT")
            self.project = named or project
            self.session = AuthorizedSession(self.credentials)
            # As many at once as a launch has uploads.
            self.session.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=32))
            self.client: Any = storage.Client(
                project=self.project or "none",
                credentials=self.credentials,
                _http=self.session,
                client_options={"api_endpoint": self.endpoint},
            )
        self.bucket: Any = self.client.bucket(self.name)
        self._signer: credentials.Signing | None = None

    def _find_credentials(self) -> tuple[credentials.Credentials, str | None]:
        try:
            found, project = google.auth.default(scopes=SCOPES)
        except DefaultCredentialsError:
            if self.is_google:
                raise
            return credentials.AnonymousCredentials(), None
        return found, project

    @property
    def is_google(self) -> bool:
        """Whether the service is Google's own, and no emulator."""
        return (urlsplit(self.endpoint).hostname or "").endswith(".googleapis.com")

    @property
    def identity(self) -> str | None:
        """The service account that asks, None where the credentials do not tell."""
        if isinstance(self.credentials, impersonated_credentials.Credentials):
            return str(self.credentials.signer_email)
        email = getattr(self.credentials, "service_account_email", None)
        return str(email) if email and email != "default" else None

    @property
    def place(self) -> GcsPlace:
        """What errors are about."""
        # They are not there yet while their own finding fails.
        has_any = hasattr(self, "credentials")
        return GcsPlace(
            bucket=self.name,
            root=self.root,
            kms_key=self.settings.kms_key,
            identity=self.identity if has_any else None,
            credentials=self.credentials if has_any else None,
        )

    @property
    def signs_with_key(self) -> bool:
        """Whether URLs are signed with a key of the user's, and not by one that Google manages."""
        return isinstance(self.credentials, credentials.Signing) and not isinstance(
            self.credentials, impersonated_credentials.Credentials
        )

    @property
    def signer(self) -> credentials.Signing:
        """Whatever signs as a service account: a key, impersonation, or IAM for this machine's.

        Raises:
            StoreError: the credentials are a person's, whom nobody signs for.
        """
        if self._signer is None:
            self._signer = self._find_signer()
        return self._signer

    def _find_signer(self) -> credentials.Signing:
        found = self.credentials
        if isinstance(found, credentials.Signing):
            return found
        if isinstance(found, credentials.AnonymousCredentials):
            raise StoreError(
                f"Cannot sign URLs for `{self.url}`",
                causes=("No credentials were found",),
                hint=SIGN_IN,
            )
        if isinstance(found, compute_engine.Credentials):
            # The account's own name comes with its first token.
            found.refresh(Request())
        email = self.identity
        if not email:
            raise StoreError(
                f"Cannot sign URLs for `{self.url}`",
                causes=(
                    "A private key signs, and these credentials have none: they are "
                    + name_kind(found),
                ),
                hint=SIGNERS,
            )
        return IamSigner(found, email)

    @contextlib.contextmanager
    def explained(self, action: str, key: str = "") -> Iterator[None]:
        """Raise what Google's libraries and files raise as a `StoreError` that says what to do."""
        try:
            yield
        except (
            GoogleAPICallError, RetryError, GoogleAuthError, requests.RequestException, OSError
        ) as error:  # fmt: skip
            # What was tried again in vain ends as an error of its own around the last one.
            last = error.cause if isinstance(error, RetryError) else error
            target = f"{self.url}/{key}" if key else self.url
            raise explain(last, f"Failed to {action} `{target}`", self.place) from error

    def ensure_token(self) -> None:
        """Have a token, which is asked for once only: a request would try for half a minute.

        Raises:
            GoogleAuthError: none is given.
        """
        if not self.credentials.valid:
            self.credentials.refresh(Request())


class IamSigner(credentials.Signing):
    """Signs through IAM's signBlob, for credentials that have a token and no key."""

    def __init__(self, found: credentials.Credentials, email: str) -> None:
        self._email = email
        self._signer = iam.Signer(Request(), found, email)

    def sign_bytes(self, message: bytes) -> bytes:
        """Return the signature of a text."""
        signature: bytes = self._signer.sign(message)
        return signature

    @property
    def signer_email(self) -> str:
        """The service account that signs."""
        return self._email

    @property
    def signer(self) -> Any:
        """Google's own signer."""
        return self._signer
