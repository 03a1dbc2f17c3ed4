"""Capture a Python environment and make it appear, exactly, on fresh Linux machines.

`docs/api.md` describes what is here. Every name is imported when it is first used, so that
`import envboot` costs nothing.
"""

from __future__ import annotations

# Type checkers know this name; `typing` itself is most of what `import envboot` would take.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from envboot.api import fetch_environment, publish_here
    from envboot.cluster import Cluster
    from envboot.errors import (
        CommandError,
        DocumentError,
        EnvbootError,
        GuestError,
        LateError,
        LayerError,
        LockError,
        MissingExtraError,
        ProvisionError,
        RenderError,
        ScanError,
        StoreError,
        UnseenError,
        UsageError,
    )
    from envboot.manifest import Manifest
    from envboot.scan.schema import Scan
    from envboot.this_interpreter import scan_here

__version__ = "0.1.0"

__all__ = [
    "Cluster",
    "CommandError",
    "DocumentError",
    "EnvbootError",
    "GuestError",
    "LateError",
    "LayerError",
    "LockError",
    "Manifest",
    "MissingExtraError",
    "ProvisionError",
    "RenderError",
    "Scan",
    "ScanError",
    "StoreError",
    "UnseenError",
    "UsageError",
    "fetch_environment",
    "publish_here",
    "scan_here",
]

_MODULES = {
    "Cluster": "envboot.cluster",
    "Manifest": "envboot.manifest",
    "Scan": "envboot.scan.schema",
    "fetch_environment": "envboot.api",
    "publish_here": "envboot.api",
    "scan_here": "envboot.this_interpreter",
}
"""Where each name is; all others are errors."""

# Type checkers read the imports above; here they would take any name for one that exists.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used.

        Raises:
            AttributeError: there is no such name.
            MissingExtraError: `Cluster` is used and Dask is not installed.
        """
        if name not in __all__:
            raise AttributeError(f"module `envboot` has no attribute `{name}`")
        import importlib

        if name == "Cluster":
            from envboot.extras import require

            require("dask", "`envboot.Cluster`")
        found = getattr(importlib.import_module(_MODULES.get(name, "envboot.errors")), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    """Return what is here; `Cluster` only with Dask, since `help(envboot)` reads all of it."""
    from envboot.extras import has

    names = {*globals(), *__all__}
    return sorted(names if has("dask") else names - {"Cluster"})
