"""The environments that are measured: 142 real distributions, and 700 conda records."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from uv import find_uv_bin

PINS = Path(__file__).with_name("packages.txt").read_text("utf-8").split()
"""What `dask[complete]`, jupyterlab, scikit-learn and others need, pip included."""

RECORDS = 700
# Files a package: few large ones hold most. The mean is 222, as in an environment of 255
# packages with 54,754 files.
_FILES = (8, 12, 20, 30, 40, 60, 90, 150, 310, 1500)


def make_venv(folder: Path, pins: list[str]) -> Path:
    """Make a venv with exactly these distributions and return its interpreter."""
    python = folder / "bin" / "python"
    uv = find_uv_bin()
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, folder], check=True)
    subprocess.run([uv, "pip", "install", "-q", "--no-deps", "--python", python, *pins], check=True)
    return python


def make_conda(folder: Path) -> Path:
    """Make a conda prefix whose `conda-meta` is all there is, and return its interpreter.

    A link to another interpreter has that one's prefix: a copy of the program finds its standard
    library beside itself, through links.
    """
    real = Path(sys.executable).resolve()
    stdlib = Path("lib", f"python{sys.version_info.major}.{sys.version_info.minor}")
    (folder / "bin").mkdir(parents=True)
    (folder / "lib").mkdir()
    python = folder / "bin" / "python"
    python.write_bytes(real.read_bytes())
    python.chmod(0o755)
    own = folder / stdlib
    own.mkdir()
    for entry in (Path(sys.base_prefix) / stdlib).iterdir():
        if entry.name != "site-packages":
            (own / entry.name).symlink_to(entry)
    for library in (Path(sys.base_prefix) / "lib").glob("libpython*"):
        (folder / "lib" / library.name).symlink_to(library)
    (own / "site-packages").mkdir()
    meta = folder / "conda-meta"
    meta.mkdir()
    for number in range(RECORDS):
        record = make_record(f"package{number}", _FILES[number % len(_FILES)])
        # As conda writes it.
        text = json.dumps(record, indent=2, sort_keys=True)
        (meta / f"package{number}-1.2.3-h0_0.json").write_text(text)
    return python


def make_record(name: str, count: int) -> dict[str, Any]:
    """Return one record with all that conda writes; `count` files."""
    file = f"{name}-1.2.3-h0_0.conda"
    hashes = [hashlib.sha256(f"{name} {number}".encode()).hexdigest() for number in range(count)]
    paths = [
        f"lib/python3.11/site-packages/{name}/part{n // 20}/module{n}.py" for n in range(count)
    ]
    return {
        "arch": "x86_64",
        "build": "h0_0",
        "build_number": 0,
        "channel": "https://conda.anaconda.org/conda-forge/linux-64",
        "constrains": [],
        "depends": ["python >=3.11,<3.12.0a0", "libgcc >=13", f"package{len(name)} >=1.0"],
        "extracted_package_dir": f"/opt/conda/pkgs/{name}-1.2.3-h0_0",
        "files": paths,
        "fn": file,
        "license": "BSD-3-Clause",
        "link": {"source": f"/opt/conda/pkgs/{name}-1.2.3-h0_0", "type": 1},
        "md5": hashes[0][:32],
        "name": name,
        "package_tarball_full_path": f"/opt/conda/pkgs/{file}",
        "paths_data": {
            "paths": [
                {
                    "_path": path,
                    "path_type": "hardlink",
                    "sha256": sha256,
                    "sha256_in_prefix": sha256,
                    "size_in_bytes": len(path) * 97,
                }
                for path, sha256 in zip(paths, hashes, strict=True)
            ],
            "paths_version": 1,
        },
        "platform": "linux",
        "requested_spec": "None",
        "sha256": hashes[0],
        "size": 123456,
        "subdir": "linux-64",
        "timestamp": 1700000000000,
        "track_features": "",
        "url": f"https://conda.anaconda.org/conda-forge/linux-64/{file}",
        "version": "1.2.3",
    }
