"""Which variables of the launching shell reach uv, pip, git, conda's tools and Python. Pure.

What these tools are told by variables would change what is locked, built and published for
everybody. `HANDED_DOWN` is what the user configures there on purpose: where packages are, how they
are reached and with whose login, and where caches are. `tests/data/variables.toml` has every
variable that the tools document; a test goes over all of them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

UV_PLACES = frozenset(
    {
        "UV_CONFIG_FILE",
        "UV_DEFAULT_INDEX",
        "UV_EXTRA_INDEX_URL",
        "UV_FIND_LINKS",
        "UV_INDEX",
        "UV_INDEX_STRATEGY",
        "UV_INDEX_URL",
        "UV_KEYRING_PROVIDER",
        "UV_NO_CONFIG",
    }
)
"""The variables that tell uv which indexes and configuration files it reads."""

_STEERING = re.compile(
    r"_?(CONDA|GIT|MAMBA|PIP|UV)_\w+|UV|PYTHON\w*|__PYVENV_LAUNCHER__|MAMBARC|CONDARC"
    r"|PYC_INVALIDATION_MODE|TRACING_DURATIONS_\w+|RUST_(BACKTRACE|LOG)|(CLI|FORCE_)COLOR(_FORCE)?"
)
"""The tools' own variables, and those of others that change what the tools do or print."""
_OF_INSTALLERS = re.compile(
    r"_?(CONDA|MAMBA|PIP|UV)_\w+|UV|MAMBARC|CONDARC|PYC_INVALIDATION_MODE|RUST_(BACKTRACE|LOG)"
)

HANDED_DOWN: Mapping[str, re.Pattern[str]] = {
    kind: re.compile("|".join(patterns))
    for kind, patterns in {
        "packages": (
            *UV_PLACES,
            "UV_INDEX_[A-Z0-9_]+_(USERNAME|PASSWORD)",
            "UV_(NO_INDEX|CREDENTIALS_DIR|S3_ENDPOINT_URL|GCS_ENDPOINT_URL|PYTHON_INSTALL_MIRROR)",
            "PIP_(CONFIG_FILE|INDEX_URL|EXTRA_INDEX_URL|FIND_LINKS|NO_INDEX|KEYRING_PROVIDER)",
            "PYX_[A-Z_]+|HF_TOKEN|NETRC",
            # CI systems put logins into these (git-config(1), "ENVIRONMENT").
            r"GIT_CONFIG_(GLOBAL|SYSTEM|NOSYSTEM|COUNT|PARAMETERS|KEY_\d+|VALUE_\d+)",
            "GIT_(ASKPASS|SSH|SSH_COMMAND|SSH_VARIANT|PROXY_COMMAND)",
            "AWS_[A-Z_]+|GOOGLE_APPLICATION_CREDENTIALS",
        ),
        "network": (
            "(?i:(all|http|https|no)_proxy)",
            "SSL_(CERT_FILE|CERT_DIR|CLIENT_CERT)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE",
            "UV_(HTTP_[A-Z_]+|REQUEST_TIMEOUT|INSECURE_HOST|NATIVE_TLS|SYSTEM_CERTS|OFFLINE)",
            "UV_CONCURRENT_[A-Z]+|UV_LOCK_TIMEOUT|HTTP_TIMEOUT",
            "PIP_(TRUSTED_HOST|CERT|CLIENT_CERT|PROXY|TIMEOUT|DEFAULT_TIMEOUT|RETRIES|NO_INPUT)",
            "PIP_DISABLE_(PIP_VERSION_CHECK)",
            "GIT_(SSL|PROXY_SSL|HTTP)_[A-Z_]+",
        ),
        "places": (
            "HOME|PATH|SHELL|PWD|TMPDIR|XDG_[A-Z_]+|APPDATA|LOCALAPPDATA|SYSTEMDRIVE|USERPROFILE",
            "UV_(CACHE_DIR|PYTHON_CACHE_DIR|PYTHON_INSTALL_DIR|LINK_MODE)|PIP_CACHE_DIR",
            "GIT_EXEC_PATH|UV_GIT_LFS|ZDOTDIR",
        ),
        # The active environment. Builds and instances do not get it.
        "environment": ("VIRTUAL_ENV|VIRTUAL_ENV_DISABLE_PROMPT|CONDA_PREFIX",),
        # What compilers of a build need.
        "builds": (
            "CONDA_BUILD_[A-Z_]+|MACOSX_DEPLOYMENT_TARGET|IPHONEOS_DEPLOYMENT_TARGET",
            "ANDROID_API_LEVEL|CARGO_[A-Z_]+|OUT_DIR|TARGET|RUST_MIN_STACK",
        ),
        # What only changes words for people, or says where we run.
        "terminal": (
            "COLUMNS|NO_COLOR|PAGER|EDITOR|EMAIL|LANG|LC_[A-Z]+|PROMPT|PSModulePath",
            "(BASH|FISH|KSH|ZSH|NU)_VERSION|JPY_SESSION_NAME",
            "CI|GITHUB_ACTIONS|GITLAB_CI|BUILD_BUILDID|BUILD_ID|DEPENDABOT|(TEST)?PYPI_ID_TOKEN",
        ),
    }.items()
}
"""By what they are for: the documented variables that reach the tools."""

_TOOLS = re.compile(r"git|uv|uvx|pip[\d.]*|conda|mamba|micromamba|(python|pypy)[\d.]*")


def clean_environment(program: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for a program: for a tool, without those that would steer it.

    Variables that none of the tools knows reach all of them, since builds may read any.
    """
    if not _TOOLS.fullmatch(Path(program).name.removesuffix(".exe")):
        return dict(environment)
    return {
        name: value
        for name, value in environment.items()
        if not _STEERING.fullmatch(name) or is_handed_down(name)
    }


def without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for an instance on this computer: a command there may use git.

    What is dropped is what a machine elsewhere would not have either.
    """
    return {
        name: value
        for name, value in environment.items()
        if not _OF_INSTALLERS.fullmatch(name) or is_handed_down(name)
    }


def is_handed_down(name: str) -> bool:
    """Whether a variable is one of `HANDED_DOWN`."""
    return any(pattern.fullmatch(name) for pattern in HANDED_DOWN.values())
