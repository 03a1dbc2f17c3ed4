"""What went wrong with a request to Cloud Storage, and what its user can do about it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import requests
from google.api_core import exceptions as api
from google.auth import exceptions as auth

from envboot.errors import StoreError
from envboot.google_auth import explain_silence, tell_unreachable
from envboot.redaction import redact

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

OBJECT_ADMIN = "roles/storage.objectAdmin"
BUCKET_ADMIN = "roles/storage.admin"
TOKEN_CREATOR = "roles/iam.serviceAccountTokenCreator"  # noqa: S105 - no password

ROLES = {
    "storage.objects.list": "roles/storage.legacyBucketReader",
    "storage.objects.get": "roles/storage.objectViewer",
    "storage.objects.create": "roles/storage.objectCreator",
    "storage.objects.delete": OBJECT_ADMIN,
    "storage.objects.update": OBJECT_ADMIN,
    "storage.buckets.get": "roles/storage.legacyBucketReader",
    "storage.buckets.create": BUCKET_ADMIN,
    "storage.buckets.update": BUCKET_ADMIN,
    "iam.serviceAccounts.signBlob": TOKEN_CREATOR,
    "iam.serviceAccounts.getAccessToken": TOKEN_CREATOR,
    "cloudkms.cryptoKeyVersions.useToEncrypt": "roles/cloudkms.cryptoKeyEncrypterDecrypter",
    "cloudkms.cryptoKeyVersions.useToDecrypt": "roles/cloudkms.cryptoKeyEncrypterDecrypter",
}
"""The smallest predefined role that has each permission
(https://docs.cloud.google.com/storage/docs/access-control/iam-roles).
"""

SIGN_IN = (
    "Sign in (`gcloud auth application-default login`), or set `GOOGLE_APPLICATION_CREDENTIALS`"
)
SIGNERS = (
    "Sign as a service account: `gcloud auth application-default login "
    "--impersonate-service-account=NAME@PROJECT.iam.gserviceaccount.com`; or let machines ask as "
    "their own: `--auth role`"
)
CLOCK = (
    "Set this machine's clock, as with `timedatectl set-ntp true`: Google takes a few minutes of "
    "difference"
)
_ENDPOINT = (
    "Check the network, and `STORAGE_EMULATOR_HOST` and `tool.envboot.gcs.endpoint-url` where "
    "these are set"
)
_BUSY = "Try again in a minute"
_SCOPES = (
    "These credentials were given for less: sign in anew, or give the machine the scope "
    "`cloud-platform`"
)

CODES = {
    "ExpiredToken": "The signed URL has ended, or this machine's clock is wrong: " + CLOCK,
    "SignatureDoesNotMatch": "The signing key is none of this account's: was it removed? Otherwise "
    + CLOCK[0].lower()
    + CLOCK[1:],
    "AccessDenied": f"Give whoever signs `{OBJECT_ADMIN}` on the bucket, below the prefix",
    "SlowDown": _BUSY,
    "ServiceUnavailable": _BUSY,
    "InternalError": _BUSY,
}
"""What to do, by the code of the XML API's answer to a signed URL."""

_PERMISSION = re.compile(
    r"(?:storage\.(?:objects|buckets)|cloudkms\.cryptoKeyVersions|iam\.serviceAccounts)\.[a-zA-Z]+"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class GcsPlace:
    """The bucket that errors are about, its KMS key, and who asks, where that is known.

    `root` is its prefix, empty or with a final slash.
    """

    bucket: str
    root: str = ""
    kms_key: str | None = None
    identity: str | None = None
    credentials: Credentials | None = None

    @property
    def url(self) -> str:
        """The bucket and its prefix."""
        return f"gs://{self.bucket}/{self.root}".rstrip("/")


def explain(error: Exception, message: str, place: GcsPlace) -> StoreError:
    """Return the error to show for one from Google's libraries, or from a local file."""
    hint: str | None
    if isinstance(error, api.GoogleAPICallError):
        cause, hint = _from_service(error, place)
    elif silence := explain_silence(error, place.credentials):
        cause, hint = silence
    else:
        cause = tell_unreachable(error) or _first_line(str(error) or repr(error))
        hint = _find_hint(error)
    return StoreError(message, causes=(cause,), hint=hint)


def is_missing_bucket(error: Exception) -> bool:
    """Tell the answer to a bucket that is not there from that to an object that is not."""
    return isinstance(error, api.NotFound) and "bucket does not exist" in str(error.message)


def describe(permission: str, place: GcsPlace) -> str:
    """Return what a permission is, which role has it, on this bucket, and on what condition."""
    role = f" (role `{ROLES[permission]}`)" if permission in ROLES else ""
    found = f"`{permission}`{role} on bucket `{place.bucket}`"
    # The permission to list is checked on the bucket, where no condition on objects holds.
    is_of_objects = permission.startswith("storage.objects.") and not permission.endswith(".list")
    return found + _limit(place) if is_of_objects else found


def _limit(place: GcsPlace) -> str:
    """Return the condition that keeps a role to the prefix, empty without a prefix."""
    if not place.root:
        return ""
    objects = f"projects/_/buckets/{place.bucket}/objects/{place.root}"
    return f', with the condition `resource.name.startsWith("{objects}")`'


def is_skewed(error: BaseException | None) -> bool:
    """Tell whether Google did not take a signed request because of its time."""
    return "short-lived token" in str(error)


def _from_service(error: api.GoogleAPICallError, place: GcsPlace) -> tuple[str, str | None]:
    words = _find_words(error)
    if is_missing_bucket(error):
        return (
            f"Bucket `{place.bucket}` was not found",
            f"Create it with `envboot store init {place.url}`, or check its name",
        )
    cause = f"{int(error.code or 0)}: {words}" if error.code else words
    if isinstance(error, api.Unauthorized):
        return cause, SIGN_IN
    if isinstance(error, api.Forbidden):
        return cause, _explain_denial(f"{error.message} {error.errors}", place)
    if isinstance(error, (api.TooManyRequests, api.ServerError)):
        return cause, _BUSY
    if place.kms_key and "kms" in words.lower():
        return cause, f"Check `{place.kms_key}`: it must be in the bucket's location"
    if isinstance(error, api.Conflict):
        return cause, "Somebody else has a bucket of this name: choose another"
    return cause, None


def _find_words(error: api.GoogleAPICallError) -> str:
    """Return what the service says, without the request that Google's client puts before it."""
    told = next((str(each["message"]) for each in error.errors if each.get("message")), None)
    # Of a download the client shows the whole answer.
    body = re.search(r'"message": *"((?:[^"\\]|\\.)*)"', str(error.message))
    words = told or (body[1] if body else str(error.message))
    return _first_line(re.sub(r"^[A-Z]+ https?://\S+: ", "", words))


def _explain_denial(words: str, place: GcsPlace) -> str:
    low = words.lower()
    if "insufficient" in low and "scope" in low:
        return _SCOPES
    if "billing" in low:
        return "Enable billing for the bucket's project"
    if "security-policy" in low or "vpc service controls" in low or "organization policy" in low:
        return "A policy of the organisation denies it, whatever this identity may do"
    if "kms" in low:
        return (
            f"Give the project's Cloud Storage service agent `{ROLES[_ENCRYPT]}` on "
            f"`{place.kms_key or 'the key'}` (`gcloud storage service-agent "
            "--authorize-cmek=KEY`)"
        )
    named = _PERMISSION.search(words)
    if not named:
        return f"Give this identity `{OBJECT_ADMIN}` on bucket `{place.bucket}`{_limit(place)}"
    allow = f"Give {f'`{place.identity}`' if place.identity else 'this identity'} "
    found = allow + describe(named[0], place)
    if named[0] == "storage.objects.get":
        lists = describe("storage.objects.list", place)
        found += f". A missing object is answered so too, unless it has {lists}"
    if named[0] == "storage.objects.delete":
        found += ". Writing over an object asks for it too"
    return found


_ENCRYPT = "cloudkms.cryptoKeyVersions.useToEncrypt"


def _find_hint(error: Exception) -> str | None:
    text = str(error)
    if is_skewed(error):
        return CLOCK
    if "signBlob" in text or "signBytes" in text:
        needed = describe_signing("iam.serviceAccounts.signBlob")
        return f"Give whoever asks {needed}, and enable the API `iamcredentials.googleapis.com`"
    if isinstance(error, auth.RefreshError) and "impersonated" in text:
        return f"Give whoever asks {describe_signing('iam.serviceAccounts.getAccessToken')}"
    if isinstance(error, (auth.TransportError, requests.RequestException)):
        return _ENDPOINT
    if isinstance(error, auth.GoogleAuthError):
        return SIGN_IN
    return None


def describe_signing(permission: str) -> str:
    """Return a permission on a service account, and the role that has it."""
    return f"`{permission}` (role `{ROLES[permission]}`) on the service account"


def _first_line(text: str) -> str:
    """Return what one line says: HTML pages and tokens' whole answers are cut."""
    line = redact(text).strip().partition("\n")[0]
    return line if len(line) <= 400 else line[:400] + "…"
