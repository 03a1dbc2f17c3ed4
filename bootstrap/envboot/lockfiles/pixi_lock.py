"""`pixi.lock`, read by py-rattler."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from envboot.lockfiles.conda_lock import assemble_conda, sort_entries
from envboot.lockfiles.content import (
    Content,
    LockFileRequest,
    refuse,
    refuse_names,
    refuse_platform,
)
from envboot.lockfiles.entries import make_entry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rattler import LockedPackage


def read_pixi(request: LockFileRequest) -> Content:
    """Read the environment `default`, or the one that is named."""
    from rattler import CondaLockedBinaryPackage, LockFile, PypiLockedPackage

    try:
        environments = dict(LockFile.from_path(Path(request.file)).environments())
    except Exception as error:
        # rattler's own exceptions have no common class.
        refuse(request, *(line.strip() for line in str(error).splitlines() if line.strip()))
    if len(request.names) > 1:
        refuse(request, f"Expected one environment behind `#`, found {len(request.names)}")
    name = request.names[0] if request.names else "default"
    if name not in environments:
        refuse_names(request, [name], list(environments))
    by_platform = environments[name].packages_by_platform()
    found = [(str(platform.subdir), packages) for platform, packages in by_platform.items()]
    here = [packages for subdir, packages in found if subdir == request.target.platform]
    if not here:
        refuse_platform(request, [subdir for subdir, _ in found])
    conda: list[tuple[str, Mapping[str, str]]] = []
    needs: dict[str, list[str]] = {}
    pypi, wrong = [], []
    for package in here[0]:
        if isinstance(package, CondaLockedBinaryPackage):
            conda.append((package.location, _read_hashes(package)))
            record = package.package_record
            needs[package.name] = record.depends if record else []
        elif isinstance(package, PypiLockedPackage):
            sha256 = _read_hashes(package).get("sha256")
            pypi.append(make_entry(package.name, package.version, package.location, sha256))
        else:
            wrong.append(f"`{package.name}` is built from source by pixi")
    if wrong:
        refuse(request, *wrong, hint="Publish it as a package, or make it a PyPI dependency")
    if any(needs.values()):
        conda = sort_entries(conda, needs)
    else:
        # envboot's own exports do not say what packages need. They are in order, and rattler's
        # answer is not.
        lines = enumerate(request.text.splitlines())
        ranks = {line.rpartition(" ")[2]: rank for rank, line in lines}
        conda.sort(key=lambda entry: ranks.get(entry[0], 0))
    return assemble_conda(request, conda, pypi)


def _read_hashes(package: LockedPackage) -> dict[str, str]:
    try:
        hashes = package.hashes
        found = {"sha256": hashes.sha256, "md5": hashes.md5} if hashes else {}
    except AttributeError:
        # py-rattler 0.28 wraps even what is not there.
        return {}
    return {kind: value.hex() for kind, value in found.items() if value}
