"""TLS for one cluster: a key and a certificate that nobody else has, made here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed.security import Security

_TLS = "DASK_DISTRIBUTED__COMM__TLS__"


def make_security() -> Security:
    """Return what all members of a new cluster prove themselves with.

    Raises:
        ImportError: `cryptography` is not installed.
    """
    from distributed.security import Security

    made: Security = Security.temporary()
    return made


def compose_secret(
    security: Security, *, scheduler: str | None = None, name: object = None
) -> dict[str, str]:
    """Return the variables that make a process of Dask a member: configuration, keys included.

    Dask takes the text of a certificate for a file's name, and its variables for configuration
    (Dask documentation, "Configuration" and "TLS/SSL").
    """
    # Its attributes come from a table of Dask's, which type checkers do not know.
    keys: Any = security
    found = {
        "DASK_DISTRIBUTED__COMM__TLS__CA_FILE": str(keys.tls_ca_file),
        "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True",
    }
    for role in ("scheduler", "worker", "client"):
        found[f"{_TLS}{role.upper()}__CERT"] = str(getattr(keys, f"tls_{role}_cert"))
        found[f"{_TLS}{role.upper()}__KEY"] = str(getattr(keys, f"tls_{role}_key"))
    if scheduler is not None:
        found["DASK_SCHEDULER_ADDRESS"] = scheduler
    if name is not None:
        found["ENVBOOT_DASK_NAME"] = str(name)
    return found
