"""The whole document."""

from __future__ import annotations

import json
import os
import sys
import sysconfig

from .conda import drop_uninstalled, scan_activation, scan_conda
from .conda_health import check_modules
from .distributions import scan_folder
from .found import Environment
from .interpreter import describe_interpreter, describe_platform, find_glibc
from .placed import report_placed


def search_path(found: Environment) -> list[str]:
    """Return the folders of `sys.path` that are not the standard library, each once."""
    paths = sysconfig.get_paths()
    standard = {os.path.realpath(paths["stdlib"]), os.path.realpath(paths["platstdlib"])}
    standard |= {os.path.realpath(os.path.dirname(os.__file__))}
    standard |= {os.path.join(folder, "lib-dynload") for folder in standard}
    seen: set[str] = set(standard)
    folders = []
    for folder in sys.path:
        real = os.path.realpath(folder)
        if not folder or real in seen:
            continue
        seen.add(real)
        if os.path.isdir(folder):
            folders.append(os.path.abspath(folder))
        elif os.path.isfile(folder) and not real.startswith(os.path.realpath(sys.base_prefix)):
            found.report(folder, "Is an archive on the path: unpack it, or install it with pip")
    return folders


def sees_base(folders: list[str]) -> bool:
    """Return whether a venv was made with the packages of the interpreter that it is made from."""
    base = {"base": sys.base_prefix, "platbase": sys.base_prefix}
    site = os.path.realpath(sysconfig.get_path("purelib", vars=base))
    return any(os.path.realpath(folder) == site for folder in folders)


def main() -> None:
    """Print the scan document on one line, in ASCII."""
    found = Environment()
    folders = search_path(found)
    if sys.prefix == sys.base_prefix or sees_base(folders):
        scan_conda(found, sys.base_prefix)
    if sys.prefix == sys.base_prefix:
        scan_activation(found, sys.prefix)
    for folder in folders:
        scan_folder(found, folder)
    check_modules(found, sys.base_prefix)
    drop_uninstalled(found, sys.base_prefix)
    if found.conda or sys.prefix != sys.base_prefix:
        is_conda = sys.prefix == sys.base_prefix
        report_placed(found, os.path.realpath(sys.prefix), is_conda=is_conda)
    kind = "system" if sys.prefix == sys.base_prefix else "venv"
    document = {
        "scan_version": 1,
        "kind": "conda" if found.conda else kind,
        "platform": describe_platform(),
        "interpreter": describe_interpreter(),
        "conda": sorted(found.conda, key=lambda record: str(record["name"])),
        "distributions": [found.distributions[name] for name in sorted(found.distributions)],
        "problems": found.problems,
        # For `envboot.scan.loose`, which takes them out of the document.
        "folders": found.folders,
        "provided": found.provided,
        "sizes": found.sizes,
    }
    if found.variables:
        document["variables"] = found.variables
    if found.activation:
        document["activation"] = found.activation
    glibc = find_glibc()
    if glibc:
        document["glibc"] = glibc
    sys.stdout.write(json.dumps(document) + "\n")
