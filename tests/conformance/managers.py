"""Environments, made as people make them: each by the real tool, with the whole kit in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from envboot.indexes.program import find_uv
from tests.cache import make_cache
from tests.channel import CACHE, MINOR, Channel, explicit_list
from tests.conformance.kit import INDEXED, VERSIONS, Kit

if TYPE_CHECKING:
    from collections.abc import Callable

# It says itself which versions of what it needs are known to work.
_REQUIREMENTS = {"pdm": "pdm[locked]"}
# As it is without settings.
PIP_INSTALL = ("install", "-q", "--compile")
# `tests/boot/test_boot.py` has a machine install numpy from a conda channel.
CONDA = ("python", "native-tool", "tabulate")


@dataclass(frozen=True, kw_only=True, slots=True)
class Made:
    """One environment: its interpreter, the folder of its files, and the tool's version."""

    python: Path
    root: Path
    tool: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Workshop:
    """Where environments are made, and with what; `variables` know the kit's index only."""

    folder: Path
    kit: Kit
    channel: Channel
    channel_url: str
    variables: dict[str, str]

    def run(self, *words: str | Path, folder: Path | None = None, **variables: str) -> str:
        """Run a tool that must succeed; returns what it printed."""
        done = subprocess.run(
            [str(word) for word in words],
            cwd=folder or self.folder,
            env={**self.variables, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def find_version(self, program: str | Path) -> str:
        """Return the version that a program says of itself."""
        words = self.run(program, "--version").replace(",", " ").replace(")", " ").split()
        return next(word for word in words if word[0].isdigit())

    def project(self, name: str, text: str, file: str = "pyproject.toml") -> Path:
        """Write a user's project; returns its folder."""
        folder = self.folder / name
        folder.mkdir(parents=True)
        (folder / file).write_text(text)
        return folder


def ensure_tool(name: str) -> Path:
    """Install a tool into an environment of its own, once; returns its program."""
    folder = CACHE / "tools" / name
    program = folder / "bin" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not program.exists():
            for words in (
                ["venv", "-q", "--clear", "--python", sys.executable, folder],
                ["pip", "install", "-q", "--python", folder, _REQUIREMENTS.get(name, name)],
            ):
                subprocess.run([find_uv(), *map(str, words)], check=True)
    return program


def make_venv(shop: Workshop, python: str) -> Made:
    """`python -m venv`, then its own pip, brought up from the index.

    Debian patches the pip and setuptools that its Python puts there; no index has those.
    """
    folder = shop.folder / "venv"
    shop.run(python, "-m", "venv", folder)
    pip = [str(folder / "bin/python"), "-m", "pip"]
    seeds = json.loads(shop.run(*pip, "list", "--format", "json"))
    versions = {seed["name"]: seed["version"] for seed in seeds}
    shop.kit.add_seeds(versions)
    pins = [f"{name}=={version}" for name, version in versions.items()]
    shop.run(*pip, *PIP_INSTALL, "--force-reinstall", *pins)
    shop.run(folder / "bin/pip", *PIP_INSTALL, *shop.kit.requirements())
    return Made(python=folder, root=folder, tool=f"pip {shop.find_version(folder / 'bin/pip')}")


def make_virtualenv(shop: Workshop, python: str) -> Made:
    """`virtualenv`, then its own pip."""
    folder, tool = shop.folder / "virtualenv", ensure_tool("virtualenv")
    shop.run(tool, "-q", "--python", python, folder)
    shop.run(folder / "bin/pip", *PIP_INSTALL, *shop.kit.requirements())
    return Made(python=folder, root=folder, tool=shop.find_version(tool))


def make_uv(shop: Workshop, python: str) -> Made:
    """`uv venv` and `uv pip install`."""
    folder = shop.folder / "uv-venv"
    shop.run(find_uv(), "venv", "-q", "--clear", "--python", python, folder)
    shop.run(find_uv(), "pip", "install", "-q", "-p", folder, *shop.kit.requirements())
    return Made(python=folder, root=folder, tool=shop.find_version(find_uv()))


def make_uv_project(shop: Workshop, python: str) -> Made:
    """`uv sync` of a project with sources of every kind."""
    kit = shop.kit
    names = ", ".join(f'"{name}=={VERSIONS[name]}"' for name in VERSIONS)
    folder = shop.project(
        "uv project",
        f'[project]\nname = "app"\nversion = "0"\nrequires-python = "=={MINOR}.*"\n'
        f"dependencies = [{names}]\n\n[tool.uv]\npackage = false\n\n[tool.uv.sources]\n"
        f'flat = {{ path = "{kit.flat}", editable = true }}\n'
        f'odd-src = {{ path = "{kit.src}", editable = true }}\n'
        f'by-path = {{ path = "{kit.path}" }}\n'
        f'by-git = {{ git = "{kit.git}", rev = "{kit.commit}", '
        f'subdirectory = "packages/by-git" }}\n'
        f'handmade = {{ path = "{kit.wheel}" }}\n',
    )
    shop.run(find_uv(), "sync", "-q", "--python", python, folder=folder)
    venv = folder / ".venv"
    return Made(python=venv, root=venv, tool=shop.find_version(find_uv()))


def make_poetry(shop: Workshop, python: str) -> Made:
    """`poetry install`."""
    kit, tool = shop.kit, ensure_tool("poetry")
    pins = "".join(f'{name} = "{VERSIONS[name]}"\n' for name in INDEXED)
    folder = shop.project(
        "poetry project",
        f'[tool.poetry]\npackage-mode = false\n\n[[tool.poetry.source]]\nname = "local"\n'
        f'url = "{kit.url}"\npriority = "primary"\n\n'
        f'[tool.poetry.dependencies]\npython = "{MINOR}.*"\n{pins}'
        f'flat = {{ path = "{kit.flat}", develop = true }}\n'
        f'odd-src = {{ path = "{kit.src}", develop = true }}\n'
        f'by-path = {{ path = "{kit.path}" }}\n'
        f'by-git = {{ git = "{kit.git}", rev = "{kit.commit}", '
        f'subdirectory = "packages/by-git" }}\n'
        f'handmade = {{ path = "{kit.wheel}" }}\n',
    )
    own = {"POETRY_VIRTUALENVS_IN_PROJECT": "true", "POETRY_CACHE_DIR": str(shop.folder / "poetry")}
    shop.run(tool, "env", "use", "-q", python, folder=folder, **own)
    shop.run(tool, "install", "-q", "--no-interaction", folder=folder, **own)
    return Made(python=folder / ".venv", root=folder / ".venv", tool=shop.find_version(tool))


def make_pdm(shop: Workshop, python: str) -> Made:
    """`pdm install`."""
    kit, tool = shop.kit, ensure_tool("pdm")
    pins = ", ".join(f'"{name}=={VERSIONS[name]}"' for name in INDEXED)
    folder = shop.project(
        "pdm-project",
        f'[project]\nname = "app"\nversion = "0"\nrequires-python = "=={MINOR}.*"\n'
        f'dependencies = [{pins}, "by-path @ {kit.path.as_uri()}", '
        f'"by-git @ git+{kit.git}@{kit.commit}#subdirectory=packages/by-git", '
        f'"handmade @ {kit.wheel.as_uri()}"]\n\n'
        f'[dependency-groups]\ndev = ["-e {kit.flat.as_uri()}#egg=flat", '
        f'"-e {kit.src.as_uri()}#egg=Odd.SRC"]\n\n'
        f'[tool.pdm]\ndistribution = false\n\n[[tool.pdm.source]]\nname = "pypi"\n'
        f'url = "{kit.url}"\nverify_ssl = false\n',
    )
    own = {"PDM_CHECK_UPDATE": "false", "PDM_CACHE_DIR": str(shop.folder / "pdm")}
    # Whatever environment the tests run in is none of its business.
    own["PDM_IGNORE_ACTIVE_VENV"] = "1"
    shop.run(tool, "venv", "create", "--with", "venv", python, folder=folder, **own)
    shop.run(tool, "use", "-q", "-f", ".venv/bin/python", folder=folder, **own)
    shop.run(tool, "install", "-q", folder=folder, **own)
    return Made(python=folder / ".venv", root=folder / ".venv", tool=shop.find_version(tool))


def make_pipenv(shop: Workshop, python: str) -> Made:
    """`pipenv install`."""
    kit, tool = shop.kit, ensure_tool("pipenv")
    pins = "".join(f'{name} = "=={VERSIONS[name]}"\n' for name in INDEXED)
    folder = shop.project(
        "pipenv-project",
        f'[[source]]\nname = "local"\nurl = "{kit.url}"\nverify_ssl = false\n\n[packages]\n{pins}'
        f'flat = {{ path = "{kit.flat}", editable = true }}\n'
        f'"Odd.SRC" = {{ path = "{kit.src}", editable = true }}\n'
        f'by-path = {{ path = "{kit.path}" }}\n'
        f'by-git = {{ git = "{kit.git}", ref = "{kit.commit}", '
        f'subdirectory = "packages/by-git" }}\n'
        f'handmade = {{ path = "{kit.wheel}" }}\n',
        file="Pipfile",
    )
    own = {"PIPENV_VENV_IN_PROJECT": "1", "PIPENV_NOSPIN": "1", "PIPENV_YES": "1"}
    own["PIP_COMPILE"] = "1"
    shop.run(tool, "install", "-q", "--python", python, folder=folder, **own)
    return Made(python=folder / ".venv", root=folder / ".venv", tool=shop.find_version(tool))


def make_conda(shop: Workshop, python: str) -> Made:
    """Conda packages from a channel, and pip on top."""
    folder = shop.folder / "conda"
    _install_conda(shop, folder)
    _install_on_top(shop, folder)
    return Made(python=folder, root=folder, tool="py-rattler")


def make_pixi(shop: Workshop, python: str) -> Made:
    """An environment in the place and with the file that pixi gives it, uv's packages on top."""
    folder = shop.folder / "pixi-project/.pixi/envs/default"
    _install_conda(shop, folder)
    note = {
        "manifest_path": str(shop.folder / "pixi-project/pixi.toml"),
        "environment_name": "default",
        "pixi_version": "0.40.0",
        "environment_lock_file_hash": "0" * 16,
    }
    (folder / "conda-meta/pixi").write_text(json.dumps(note))
    words = ["-q", "--break-system-packages", "-p", str(folder), *shop.kit.requirements()]
    shop.run(find_uv(), "pip", "install", *words)
    for path in folder.glob("lib/python*/site-packages/*.dist-info/INSTALLER"):
        if path.read_text() == "uv":
            path.write_text("uv-pixi")
    return Made(python=folder, root=folder, tool="py-rattler")


def make_system(shop: Workshop, python: str) -> Made:
    """The operating system's Python, with packages of the user's."""
    system, base = Path("/usr/bin/python3"), shop.folder / "user"
    words = [*PIP_INSTALL, "--user", "--break-system-packages", *shop.kit.requirements()]
    pip = [sys.executable, "-m", "pip", "--python", str(system)]
    shop.run(*pip, *words, PYTHONUSERBASE=str(base))
    return Made(python=system, root=base, tool="pip")


def _install_conda(shop: Workshop, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    explicit = folder.with_name("explicit.txt")
    explicit.write_text(explicit_list(shop.channel, shop.channel_url, CONDA))
    options = ["--no-rc", "-y", "-q", "-p", str(folder), "-f", str(explicit)]
    root = str(shop.folder / "mamba")
    shop.run(shop.channel.micromamba, "create", *options, MAMBA_ROOT_PREFIX=root)


def _install_on_top(shop: Workshop, folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python")]
    shop.run(*pip, *PIP_INSTALL, "--break-system-packages", *shop.kit.requirements())


MANAGERS: dict[str, Callable[[Workshop, str], Made]] = {
    "venv": make_venv,
    "virtualenv": make_virtualenv,
    "uv": make_uv,
    "uv sync": make_uv_project,
    "poetry": make_poetry,
    "pdm": make_pdm,
    "pipenv": make_pipenv,
    "conda": make_conda,
    "pixi": make_pixi,
    "system": make_system,
}


def plain_variables(folder: Path, url: str) -> dict[str, str]:
    """Return an environment in which pip and uv know one index and no settings of this machine."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        # Not for what is built and thrown away: setuptools, for two projects in each environment.
        "PIP_COMPILE": "0",
        "PIP_INDEX_URL": url,
        "UV_CACHE_DIR": str(folder / "uv"),
        "UV_DEFAULT_INDEX": url,
        "UV_PYTHON_DOWNLOADS": "never",
        "ENVBOOT_CACHE_DIR": make_cache(folder / "cache"),
        "ENVBOOT_STATE_DIR": str(folder / "state"),
    }
