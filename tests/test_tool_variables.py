"""What the launching shell says to uv, pip, git, conda's tools and Python does not reach them."""

from __future__ import annotations

from pathlib import Path

import pytest

from envboot.toml import tomllib
from envboot.tool_variables import HANDED_DOWN, clean_environment, is_handed_down, without_settings
from envboot_provisioners.local import _environment
from tests.sessions import make_session

DOCUMENTED = {
    tool: table["names"].split()
    for tool, table in tomllib.loads(
        Path(__file__).with_name("data").joinpath("variables.toml").read_text()
    ).items()
}


@pytest.mark.parametrize("tool", DOCUMENTED)
@pytest.mark.parametrize("program", ["uv", "/usr/bin/git", "bin/python3.12", "micromamba", "pip3"])
def test_each_documented_variable_is_stated_or_not_handed_down(program: str, tool: str) -> None:
    assert len(DOCUMENTED[tool]) > 50
    found = clean_environment(program, dict.fromkeys(DOCUMENTED[tool], "1"))
    assert [name for name in found if not is_handed_down(name)] == []


def test_what_is_stated_is_documented_somewhere() -> None:
    """So that the list keeps no name that a tool once had."""
    every = {name for names in DOCUMENTED.values() for name in names}
    for kind, pattern in HANDED_DOWN.items():
        assert any(pattern.fullmatch(name) for name in every), kind


@pytest.mark.parametrize(
    "name",
    [
        "UV_PROJECT", "UV_OVERRIDE", "UV_CONSTRAINT", "UV_EXCLUDE_NEWER", "UV_PYTHON", "UV_FROZEN",
        "UV_VENV_SEED", "UV_SYSTEM_PYTHON", "UV_WORKING_DIR", "UV_NO_SUCH_THING_YET",
        "PIP_CONSTRAINT", "PIP_TARGET", "PIP_USER", "PIP_PRE", "PIP_NO_BINARY",
        "PYTHONPATH", "PYTHONHOME", "PYTHONOPTIMIZE", "PYTHONDONTWRITEBYTECODE", "PYTHONSAFEPATH",
        "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_ICASE_PATHSPECS", "GIT_TEMPLATE_DIR",
        "CONDA_PKGS_DIRS", "CONDA_SUBDIR", "MAMBA_DRY_RUN", "MAMBA_ALWAYS_SOFTLINK", "MAMBARC",
        "RUST_LOG", "FORCE_COLOR", "PYC_INVALIDATION_MODE",
    ],
)  # fmt: skip
def test_a_variable_that_steers_a_tool_does_not_reach_it(name: str) -> None:
    for program in ("uv", "uv.exe", "git", "pip", "python3"):
        assert clean_environment(program, {name: "1", "PATH": "p"}) == {"PATH": "p"}


@pytest.mark.parametrize(
    "name",
    [
        "UV_INDEX", "UV_INDEX_TEAM_PASSWORD", "UV_DEFAULT_INDEX", "UV_CACHE_DIR", "UV_HTTP_TIMEOUT",
        "PIP_INDEX_URL", "PIP_CERT", "PIP_CONFIG_FILE", "HTTPS_PROXY", "no_proxy", "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE", "NETRC", "GIT_SSH_COMMAND", "GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_12",
        "GIT_CONFIG_VALUE_12", "GIT_SSL_CAINFO", "AWS_PROFILE", "CC", "CFLAGS", "SSH_AUTH_SOCK",
        "LD_LIBRARY_PATH", "CONDA_BUILD_SYSROOT",
    ],
)  # fmt: skip
def test_indexes_logins_proxies_certificates_caches_and_compilers_still_count(name: str) -> None:
    for program in ("uv", "git", "python3"):
        assert clean_environment(program, {name: "1"}) == {name: "1"}


def test_other_programs_get_what_they_are_given() -> None:
    given = {"PYTHONPATH": "1", "GIT_DIR": "1", "UV_PROJECT": "1"}
    assert clean_environment("/bin/sh", given) == given


def test_a_local_instance_has_the_commands_variables_and_no_installers(tmp_path: Path) -> None:
    every = [name for tool in ("uv", "pip", "micromamba") for name in DOCUMENTED[tool]]
    given = dict.fromkeys([*every, "GIT_AUTHOR_NAME", "MODEL"], "1")
    session = make_session(environment=given, cache=tmp_path / "cache")
    found = _environment("i-0", tmp_path / "root", session)
    own = {"ENVBOOT_ROOT", "ENVBOOT_INSTANCE", "PYTHONUNBUFFERED", "UV_CACHE_DIR", "PATH"}
    known = without_settings(given)
    assert {"GIT_AUTHOR_NAME", "MODEL", "UV_INDEX", "PIP_CERT"} < set(known)
    assert set(found) - own <= set(known)
    unstated = [name for name in found if name not in own and not is_handed_down(name)]
    steering = ("UV_", "PIP_", "MAMBA", "CONDA", "_CONDA", "PYC_")
    assert not [name for name in unstated if name.startswith(steering)]
