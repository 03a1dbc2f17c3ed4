"""What scripts and notebooks call beside `Cluster`; `envboot` itself exports all of it."""

from __future__ import annotations

import sys
import warnings
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from envboot.errors import UsageError
from envboot.manifest import Manifest
from envboot.package_sync import (
    DEFAULTS,
    PackageSyncOptions,
    read_demands,
    refuse_differences,
    selection_from,
)
from envboot.session import open_session
from envboot.signatures import lists_keywords

if TYPE_CHECKING:
    import os

    from typing_extensions import Unpack

    from envboot.scan.schema import Problem


@lists_keywords(PackageSyncOptions, DEFAULTS)
def publish_here(
    name: str,
    *,
    store: str | None = None,
    host_python: bool = False,
    platform: str | None = None,
    cuda: str | None = None,
    **options: Unpack[PackageSyncOptions],
) -> str:
    """Publish the running interpreter's environment, and return its name: `forecast@3`.

    It is locked and put into the bucket, own code included, to stay there. If the newest version
    of `name` is the same environment, that one is returned and nothing is made. What will not be
    on the machines as it is here is a warning (`warnings.warn`).

    Args:
        name: what it is called: lower-case letters, digits, `.`, `_` and `-`.
        store: the bucket's URL; else `tool.envboot.store`, else a directory of this user.
        host_python: keep this machine's interpreter: such an environment runs on `local` only.
        platform: what the machines are, `linux-64` or `linux-aarch64`; else as this one.
        cuda: the CUDA version that the machines' driver runs, such as `12.4`.
        package_sync: True as without it; or packages, as of `package_sync_only`.
        package_sync_ignore: packages that stay here.
        package_sync_only: only these packages, and what they need.
        package_sync_conda_extras: packages that machines get besides.
        package_sync_strict: refuse what will not arrive in exactly the same version.
        package_sync_fail_on: `critical-only`, `warning-or-higher` or `any`: which notes refuse.
        package_sync_use_uv_installer: True: machines install wheels with uv.

    Raises:
        UsageError: an argument is not what it must be.
        ScanError, LockError, LayerError: what cannot be read, locked or built, by name.
        StoreError: the bucket refuses, or cannot be reached.
    """
    from envboot.prepare import prepare
    from envboot.publish.environments import check_name, publish_environment
    from envboot.store import open_store
    from envboot.text import show_controls

    check_name(name)
    selection = selection_from(platform=platform, cuda=cuda, **options)
    strict = options.get("package_sync_strict", False)
    fail_on = read_demands(
        strict=strict, fail_on=options.get("package_sync_fail_on", DEFAULTS["package_sync_fail_on"])
    )
    session = open_session()
    with open_store(store or session.store, session) as bucket:
        prepared = prepare(selection, session, host_python=host_python, path=sys.path)
        refuse_differences(prepared, strict=strict, fail_on=fail_on)
        for note in prepared.notes:
            warnings.warn(show_controls(f"`{note.subject}`: {note.message}"), stacklevel=2)
        published = publish_environment(
            name,
            prepared.manifest,
            prepared.layer_path,
            bucket,
            session,
            now=datetime.now(timezone.utc),
        )
    return f"{name}@{published.document['version']}"


def fetch_environment(name: str | os.PathLike[str], *, store: str | None = None) -> Manifest:
    """Return the manifest of a published environment: which packages it has, exactly.

    `name` is `forecast@3`, `forecast@latest`, or `forecast` for the newest version too; or the
    file that `envboot lock -o FILE` wrote. `store` is the bucket's URL; else
    `tool.envboot.store`, else a directory of this user.

    Raises:
        UsageError: `name` is neither.
        DocumentError: the file is malformed.
        StoreError: the bucket has no such environment, refuses, or cannot be reached.
    """
    from envboot.source import resolve_source
    from envboot.store import open_store
    from envboot.text import show_controls

    session = open_session()
    with open_store(store or session.store, session) as bucket:
        passed_over: list[Problem] = []
        found = resolve_source(name, session, bucket, warn=passed_over.extend)
    for note in passed_over:
        warnings.warn(show_controls(f"`{note.subject}`: {note.message}"), stacklevel=2)
    if not isinstance(found, Manifest):
        raise UsageError(
            f"Expected a published environment or a manifest, found the lock file `{name}`",
            hint="Make a manifest of it: `envboot lock --from FILE -o env.json`",
        )
    return found
