"""The optional parts of envboot: which packages each extra brings, and what lacks one says."""

from __future__ import annotations

from importlib.util import find_spec

from envboot.errors import MissingExtraError

EXTRAS = {
    "aws": ("boto3",),
    "gcp": ("google.cloud.compute_v1", "google.cloud.storage"),
    "dask": ("cryptography", "distributed"),
}
"""The modules that envboot imports of each extra; what they import themselves comes with them."""


def require(extra: str, user: str) -> None:
    """Refuse to go on without an extra; `user` is what needs it, as an error begins.

    It imports none of the extra's packages, so that a fault inside of one stays its own error.

    Raises:
        MissingExtraError: a package of the extra is not installed.
    """
    missing = [name for name in EXTRAS[extra] if not _is_installed(name)]
    if missing:
        names = " and ".join(f"`{name}`" for name in missing)
        raise MissingExtraError(
            f"{user} needs the extra `{extra}` of envboot",
            causes=(f"{names} {'is' if len(missing) == 1 else 'are'} not installed",),
            # zsh expands square brackets without quotes.
            hint=f"Install it with `pip install 'envboot[{extra}]'`",
        )


def has(extra: str) -> bool:
    """Whether the packages of an extra are installed."""
    return all(map(_is_installed, EXTRAS[extra]))


def _is_installed(name: str) -> bool:
    try:
        # Of a dotted name it imports what is above, which in `google.cloud` is empty.
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False
