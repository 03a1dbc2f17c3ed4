"""What two bases differ in, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envboot.errors import EnvbootError, name_some
from envboot.manifest import parse_manifest

if TYPE_CHECKING:
    from envboot.manifest import Base, Manifest
    from envboot.store.protocol import Store


def explain_base(store: Store, environment: str, manifest: Manifest) -> tuple[str, ...]:
    """Say in what a base differs from that of an environment in the bucket, a line each kind."""
    data = store.read(f"environments/{environment.removeprefix('sha256:')}.json")
    try:
        old = parse_manifest(data).base if data else None
    except EnvbootError:
        # Another version's, which the digests have told apart.
        old = None
    if old is None:
        return (f"What it was made with (`{environment}`) cannot be read any more",)
    return compare_bases(old, manifest.base)


def compare_bases(old: Base, new: Base) -> tuple[str, ...]:
    """Return lines on packages that were added, removed and changed, and on everything else."""
    before, after = _list_packages(old), _list_packages(new)
    both = before.keys() & after.keys()
    kinds = {
        "added": [f"{name} {after[name]}" for name in after.keys() - both],
        "removed": [f"{name} {before[name]}" for name in before.keys() - both],
        "changed": [
            f"{name} {before[name]} → {after[name]}" for name in both if before[name] != after[name]
        ],
    }
    rest = {
        "Python": (old.python.version, new.python.version),
        "Interpreter": (old.python.source, new.python.source),
        "Platform": (old.platform, new.platform),
        "Prefix": (old.prefix, new.prefix),
        "Virtual packages": (old.virtual_packages, new.virtual_packages),
        "Tools": (
            {name: tool.version for name, tool in old.tools.items()},
            {name: tool.version for name, tool in new.tools.items()},
        ),
    }
    lines = [f"Packages {kind}: {name_some(sorted(each))}" for kind, each in kinds.items() if each]
    lines += [f"{name}: `{was}` → `{now}`" for name, (was, now) in rest.items() if was != now]
    return tuple(lines) or ("The same versions, of other files",)


def _list_packages(base: Base) -> dict[str, str]:
    """Return name to version, of conda's with the build."""
    names = [package.named for package in base.conda]
    found = {f"conda:{each.name}": f"{each.version} {each.build}" for each in names}
    return found | {wheel.name: wheel.version for wheel in base.wheels}
