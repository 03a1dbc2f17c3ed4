"""A small channel and index for Linux: what recorded environments need there, and near misses."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.index import make_sdist, make_wheel, write_simple
from tests.package import write_package

if TYPE_CHECKING:
    from pathlib import Path

CONDA_FORGE = "https://conda.anaconda.org/conda-forge"
_PYTHON = "python >=3.11,<3.12.0a0"
_COMPILED = (
    ("ca-certificates", "2024.8.30", ()),
    ("gpu-solver", "1.0.0", ("__cuda >=12",)),
    ("libgcc", "14.2.0", ("__glibc >=2.17",)),
    ("libopenblas", "0.3.28", ("libgcc >=14",)),
    ("libopenblas", "0.3.29", ("libgcc >=14",)),
    ("libzlib", "1.3.1", ("libgcc >=13",)),
    ("llvm-openmp", "19.1.3", ()),
    ("msgpack-python", "1.1.0", ("libgcc >=13", _PYTHON)),
    ("numpy", "1.26.4", ("libopenblas >=0.3", _PYTHON)),
    ("numpy", "2.0.2", ("libopenblas >=0.3", _PYTHON)),
    ("openssl", "3.3.2", ("ca-certificates",)),
    ("pandas", "2.1.4", ("numpy >=1.23.5,<2.0a0", _PYTHON)),
    ("pandas", "2.2.3", ("numpy >=1.23.5", _PYTHON)),
    ("python", "3.11.8", ("libzlib >=1.3.1,<2.0a0", "openssl >=3.2,<4.0a0")),
    ("python", "3.11.9", ("libzlib >=1.3.1,<2.0a0", "openssl >=3.2,<4.0a0")),
    ("python", "3.12.7", ("libzlib >=1.3.1,<2.0a0", "openssl >=3.2,<4.0a0")),
    ("tornado", "6.4.1", (_PYTHON,)),
    ("tornado", "6.4.2", (_PYTHON,)),
)
_PURE = (
    ("click", "8.1.7", ("__unix", "python >=3.8")),
    ("cloudpickle", "3.0.0", ("python >=3.8",)),
    ("cloudpickle", "3.0.1", ("python >=3.8",)),
    ("colorama", "0.4.6", ("python >=3.9",)),
    ("dask-core", "2024.5.0", ("click >=8.1", "cloudpickle >=1.5.0", "python >=3.9")),
    ("dask-core", "2024.5.1", ("click >=8.1", "cloudpickle >=1.5.0", "python >=3.9")),
    (
        "distributed",
        "2024.5.0",
        ("dask-core 2024.5.0.*", "msgpack-python >=1.0.0", "python >=3.9", "tornado >=6.0.4"),
    ),
    ("pip", "24.3.1", ("python >=3.8",)),
)
_WHEELS = (
    ("certifi", "2024.2.2", ()),
    ("certifi", "2024.8.30", ()),
    ("click", "8.1.7", ('colorama; platform_system == "Windows"',)),
    ("click", "8.1.8", ('colorama; platform_system == "Windows"',)),
    ("colorama", "0.4.6", ()),
    (
        "ipython",
        "8.22.1",
        ('appnope; sys_platform == "darwin"', 'pexpect>4.3; sys_platform != "win32"'),
    ),
    (
        "keyring",
        "25.2.1",
        (
            'pywin32-ctypes>=0.2.0; sys_platform == "win32"',
            'SecretStorage>=3.2; sys_platform == "linux"',
        ),
    ),
    ("markdown-it-py", "3.0.0", ()),
    ("pexpect", "4.9.0", ()),
    ("pygments", "2.17.2", ()),
    ("pygments", "2.18.0", ()),
    ("requests", "2.31.0", ("certifi>=2017.4.17", "urllib3<3,>=1.21.1")),
    ("requests", "2.32.3", ("certifi>=2017.4.17", "urllib3<3,>=1.21.1")),
    ("rich", "13.7.1", ("markdown-it-py>=2.2.0", "pygments<3.0.0,>=2.13.0")),
    ("secretstorage", "3.3.3", ()),
    ("tzdata", "2023.3", ()),
    ("urllib3", "2.2.0", ()),
)
_BINARY = (
    ("numpy", "1.26.4", ()),
    ("numpy", "2.0.2", ()),
    ("pandas", "2.1.4", ("numpy<2,>=1.23.2", "tzdata>=2022.1")),
    ("scipy", "1.11.4", ("numpy<1.28.0,>=1.21.6",)),
    ("xgboost", "2.0.3", ("numpy",)),
)


def make_channel(folder: Path) -> None:
    """Write conda packages for Linux on both architectures, and index them."""
    from rattler.index import index_fs

    for subdir, packages in (
        ("linux-64", _COMPILED),
        ("linux-aarch64", _COMPILED),
        ("noarch", _PURE),
    ):
        (folder / subdir).mkdir(parents=True)
        for name, version, depends in packages:
            write_package(folder / subdir, name, version, "h0_0", [], depends=depends)
    asyncio.run(index_fs(folder))


def make_index(folder: Path) -> None:
    """Write wheels for Linux, one sdist, and PyTorch's indexes below `whl`."""
    folder.mkdir()
    for name, version, requires in _WHEELS:
        make_wheel(folder, name, version, requires=requires)
    for name, version, requires in _BINARY:
        for machine in ("x86_64", "aarch64"):
            tag = f"cp311-cp311-manylinux_2_17_{machine}"
            make_wheel(folder, name, version, requires=requires, tag=tag)
    write_simple(folder)
    page = folder / "simple" / "terminaltables"
    page.mkdir()
    made = make_sdist(folder, "terminaltables", "3.1.0")
    (page / "index.html").write_text(
        f'<a href="../../{made.path.name}#sha256={made.sha256}">{made.path.name}</a>'
    )
    for build in ("cpu", "cu121"):
        place = folder / "whl" / build
        (place / "torch").mkdir(parents=True)
        tag = "cp311-cp311-linux_x86_64"
        wheel = make_wheel(place, "torch", f"2.2.2+{build}", tag=tag)
        link = wheel.path.name.replace("+", "%2B")
        (place / "torch" / "index.html").write_text(
            f'<a href="../{link}#sha256={wheel.sha256}">{wheel.path.name}</a>'
        )
