"""A PEP 517 backend that needs no network, copied into the projects of tests.

What it ships stands in `tiny.json` (`tests.layer.projects.write_project`): everything below a
package, data files too.
"""

from __future__ import annotations

import json
import os
import time
import zipfile
from pathlib import Path
from typing import Any


def _meet(folder: Path, name: str) -> None:
    """Wait until another build is running at the same time."""
    folder.mkdir(exist_ok=True)
    (folder / name).touch()
    end = time.monotonic() + 60
    while len(list(folder.iterdir())) < 2:
        if time.monotonic() > end:
            raise SystemExit("nobody else is building")
        time.sleep(0.02)


def build_wheel(
    wheel_directory: str,
    config_settings: dict[str, str] | None = None,
    metadata_directory: str | None = None,
) -> str:
    tiny: dict[str, Any] = json.loads(Path("tiny.json").read_text())
    name, version, tag = tiny["name"], tiny["version"], tiny.get("tag", "py3-none-any")
    if "counter" in tiny:
        with open(tiny["counter"], "a") as counter:
            counter.write(f"{name}\n")
    if "meet" in tiny:
        _meet(Path(tiny["meet"]), name)
    if "fail" in tiny:
        print("compiling the thing from https://user:hunter2@files.test/x", flush=True)
        print(dict(os.environ), flush=True)
        raise SystemExit(tiny["fail"])
    stem = f"{name.replace('-', '_')}-{version}"
    info, purelib = f"{stem}.dist-info", "true" if tag.endswith("-any") else "false"
    files: dict[str, str | bytes] = {}
    for package in map(Path, tiny["packages"]):
        for path in sorted(package.rglob("*")):
            if path.is_file():
                files[str(path.relative_to(package.parent))] = path.read_bytes()
    files |= {f"{stem}.data/{path}": text for path, text in tiny.get("data", {}).items()}
    # The header up to e_machine, which is x86_64's unless it is said.
    elf = b"\x7fELF\2\1\1".ljust(18, b"\0") + bytes([tiny.get("machine", 62), 0])
    files |= {path: elf + text.encode() for path, text in tiny.get("elf", {}).items()}
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files[f"{info}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: tiny\nRoot-Is-Purelib: {purelib}\nTag: {tag}\n"
    )
    if tiny.get("scripts"):
        lines = [f"{script} = {target}\n" for script, target in tiny["scripts"].items()]
        files[f"{info}/entry_points.txt"] = "[console_scripts]\n" + "".join(lines)
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in files)
    file = f"{stem}-{tag}.whl"
    # With the time of the build in it, as many backends have it.
    with zipfile.ZipFile(Path(wheel_directory, file), "w") as wheel:
        for member, data in files.items():
            wheel.writestr(member, data)
    return file
