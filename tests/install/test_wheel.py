"""What `pip install .` puts into an environment, and that it works there."""

from __future__ import annotations

import re
import sys
import zipfile
from importlib.metadata import PathDistribution
from typing import TYPE_CHECKING

import pytest

from tests.docs.pages import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from pathlib import Path

    from tests.install.conftest import Installed

PLACES = {
    "bootstrap/envboot": "envboot",
    "templates": "envboot/templates",
    "provisioners/envboot_provisioners": "envboot_provisioners",
}
"""Where what is in a directory of the sources is in the wheel."""

network = [pytest.mark.subprocess, pytest.mark.network]


def find_files() -> dict[str, str]:
    """Return every file that is ours, as the wheel has it and in the sources."""
    return {
        f"{place}/{path.relative_to(ROOT / source).as_posix()}": str(path.relative_to(ROOT))
        for source, place in PLACES.items()
        for path in (ROOT / source).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def test_the_list_of_packages_is_that_of_the_directories() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    modules = {name for name in find_files() if name.endswith(".py")}
    found = {module.rpartition("/")[0].replace("/", ".") for module in modules}
    assert sorted(listed["packages"]) == sorted(found)


class TestInstalled:
    """What is compared with a real installation."""

    pytestmark = network

    def test_the_wheel_has_every_module_and_every_template(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            names = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert names == set(find_files())

    def test_site_packages_gain_two_packages_and_nothing_else_of_ours(
        self, installed: Installed
    ) -> None:
        (info,) = installed.site.glob("envboot-*.dist-info")
        files = PathDistribution(info).files or []
        ours = {file.parts[0] for file in files if file.parts[0] != ".."}
        assert ours == {"envboot", "envboot_provisioners", info.name}
        assert ours <= installed.added
        commands = {file.name for file in files if file.parts[0] == ".."}
        assert commands == {"envboot", "render-userdata"}
        # Whoever brings the names that were ours, it is not us.
        assert not installed.added & {"bootstrap", "provisioners", "templates", "tests"}

    def test_it_works_without_any_extra(self, installed: Installed) -> None:
        absent = "boto3", "botocore", "dask", "distributed", "cryptography", "google", "requests"
        code = "import importlib.util as u, sys; print([n for n in sys.argv[1:] if u.find_spec(n)])"
        done = installed.run("python", "-c", code, *absent)
        assert done.stdout == "[]\n"
        scanned = installed.run("envboot", "scan")
        assert scanned.returncode == 0, scanned.stderr
        assert re.search(r"^environment +.*/venv \(venv, uv\)$", scanned.stdout, re.MULTILINE)
        for name in ("envboot", "render-userdata"):
            done = installed.run(name, "--help")
            assert (done.returncode, done.stderr) == (0, "")
            assert done.stdout.startswith(f"Usage: {name} [OPTIONS]")

    def test_a_launch_runs_a_command(self, installed: Installed) -> None:
        place = installed.folder / "other"
        assert installed.run("uv", "venv", "-q", str(place)).returncode == 0
        show = "import sys; print('prefix', sys.prefix)"
        words = ["launch", "local", "--python", str(place), "--no-loose"]
        done = installed.run("envboot", *words, "--", "python", "-c", show)
        assert done.returncode == 0, done.stderr
        assert re.search(r"^prefix .*/state/local/", done.stdout, re.MULTILINE)

    def test_scripts_and_notebooks_have_the_api(self, installed: Installed) -> None:
        code = "import envboot; print(envboot.scan_here().kind, envboot.__version__)"
        assert re.fullmatch(r"venv \d+\.\d+\.\d+\n", installed.python(code))
