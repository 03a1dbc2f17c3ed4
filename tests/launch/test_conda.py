"""A conda environment on `local`: at its prefix, in a mount name space of each instance's own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sysconfig
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from envboot.indexes.program import find_uv
from tests.channel import ensure_channel, explicit_list
from tests.index import make_wheel, serve_folder
from tests.launch.conftest import clean
from tests.launch.workspace import ENVBOOT, Workspace, open_workspace, wait_for, write_settings
from tests.package import Member, write_package

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]

PREFIX = "/opt/envboot/env"
PACKAGES = ("python", "native-tool", "tabulate")
CONFIGURES = """\
"$PREFIX/bin/native-tool" echo configured >"$PREFIX/configured" && echo "a-config: done" >&2
"""
PROGRAM = """\
import json, os, sys, tabulate, tiny_one, mine
data = os.path.join(os.environ["NATIVE_TOOL_HOME"], "data.txt")
print(json.dumps({
    "prefix": sys.prefix,
    "conda": os.environ["CONDA_PREFIX"],
    "tool": os.environ["NATIVE_TOOL_HOME"],
    "data": open(data).read(),
    "tabulate": tabulate.__file__,
    "wheel": tiny_one.NAME,
    "mine": mine.VALUE,
    "activation": [os.environ.get(name) for name in ("MODEL", "PLACE", "OWN")],
    "opt": sorted(os.listdir("/opt")),
    "configured": open(sys.prefix + "/configured").read(),
    "history": open(sys.prefix + "/conda-meta/history").read(),
}))
"""
NOBODY = 65534
# Nobody reads this checkout, wherever it is, and may do nothing else.
AS_NOBODY = [
    *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
    *("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"),
]
# An /opt of its own: one folder with a file, a file, a link, and no envboot.
BARE_OPT = """
mount -t tmpfs none /opt
mkdir /opt/tool /opt/.hidden
echo theirs >/opt/tool/file; echo alone >/opt/file; ln -s tool /opt/link; ln -s lost /opt/nowhere
"$@"; code=$?
ls -A /opt >&2
exit $code
"""


@contextmanager
def open_conda_workspace(folder: Path) -> Iterator[Workspace]:
    """Make a conda environment with a wheel and a project on top."""
    channel = ensure_channel()
    with ExitStack() as stack:
        workspace = stack.enter_context(open_workspace(folder))
        url = stack.enter_context(serve_folder(channel.folder))
        index = workspace.variables["UV_DEFAULT_INDEX"].removesuffix("/simple")
        uv, micromamba = workspace.index / "uv", channel.micromamba
        write_settings(folder, uv=(f"{index}/uv", uv), micromamba=(f"{url}/micromamba", micromamba))
        prefix, explicit = folder / "conda", folder / "explicit.txt"
        subdir = folder / "channel" / "linux-64"
        subdir.mkdir(parents=True)
        script = Member(path="bin/.a-config-post-link.sh", data=CONFIGURES.encode(), mode=0o755)
        write_package(subdir, "a-config", "1.0", "0", [script], depends=("native-tool",))
        file = subdir / "a-config-1.0-0.conda"
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        own = stack.enter_context(serve_folder(subdir.parent))
        lines = explicit_list(channel, url, PACKAGES)
        explicit.write_text(f"{lines}{own}/linux-64/{file.name}#sha256:{digest}\n")
        options = ["--no-rc", "-y", "-q", "-p", str(prefix), "-f", str(explicit)]
        root = str(folder / "mamba")
        done = workspace.run(str(micromamba), "create", *options, MAMBA_ROOT_PREFIX=root)
        assert done.returncode == 0, done.stderr
        install = ["pip", "install", "-q", "-p", str(prefix), "--break-system-packages"]
        done = workspace.run(find_uv(), *install, "tiny-one", "-e", str(folder / "projét"))
        assert done.returncode == 0, done.stderr
        # As `conda env config vars set` and a user's own script leave them.
        variables = {"MODEL": "large", "PLACE": f"{prefix}/share", "A_TOKEN": "hunter2"}
        state = prefix / "conda-meta" / "state"
        state.write_text(json.dumps({"version": 1, "env_vars": variables}))
        (prefix / "etc/conda/activate.d/own.sh").write_text('export OWN="$MODEL, by hand"\n')
        yield replace(workspace, python=prefix)


@pytest.fixture(scope="module")
def _conda() -> Iterator[Workspace]:
    # Only its owner may look into pytest's own folder.
    with tempfile.TemporaryDirectory(prefix="envboot-") as folder:
        Path(folder).chmod(0o755)
        with open_conda_workspace(Path(folder) / "work") as made:
            yield made


@pytest.fixture
def conda(_conda: Workspace) -> Iterator[Workspace]:
    if not can_mount([]):
        pytest.skip("wants root, or user name spaces")
    yield _conda
    clean(_conda)


def can_mount(wrapper: list[str]) -> bool:
    user = [] if os.geteuid() == 0 and not wrapper else ["--map-root-user"]
    command = [*wrapper, "unshare", *user, "--mount", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def find_host() -> list[str]:
    """List what the host has below /opt/envboot."""
    return sorted(str(path) for path in Path("/opt/envboot").rglob("*"))


def check(done: subprocess.CompletedProcess[str], *sources: str) -> dict[str, Any]:
    """Check what PROGRAM says in an instance, and return it."""
    assert done.returncode == 0, done.stderr
    [instance] = json.loads(done.stdout)["instances"]
    assert instance["outcome"] == "ready"
    assert instance["source"] in (sources or ("install", "archive"))
    said: dict[str, Any] = json.loads(instance["output"])
    assert said["prefix"] == said["conda"] == PREFIX
    assert said["tool"] == f"{PREFIX}/share/native-tool"
    assert said["data"] == "native\n"
    assert said["tabulate"].startswith(f"{PREFIX}/lib/")
    assert (said["wheel"], said["mine"]) == ("tiny-one", 1)
    assert said["activation"] == ["large", f"{PREFIX}/share", "large, by hand"]
    assert "Not sent: looks like a secret; to set it" in done.stdout
    assert "hunter2" not in done.stdout + done.stderr
    assert "envboot" in said["opt"]
    # Its script needs a package that comes later by name, and says when it has worked.
    assert said["configured"] == "configured\n"
    assert instance["notes"] == (["a-config: done"] if instance["source"] == "install" else [])
    # The same on every machine, or no two of them would pack the same bytes.
    assert said["history"].strip() == ""
    return said


def test_cold_and_warm_at_its_prefix_and_nothing_on_the_host(conda: Workspace) -> None:
    shutil.rmtree(conda.state, ignore_errors=True)
    before, opt = find_host(), {path.name for path in Path("/opt").iterdir()}
    for source in ("install", "archive"):
        said = check(conda.launch("--json", "--", "python", "-c", PROGRAM), source)
        assert set(said["opt"]) == opt | {"envboot"}
    assert find_host() == before
    assert {path.name for path in Path("/opt").iterdir()} == opt
    assert conda.leftovers() == conda.survivors() == []


def test_an_archive_is_the_same_when_it_is_installed_again(conda: Workspace) -> None:
    check(conda.launch("--json", "--", "python", "-c", PROGRAM))
    done = conda.run(ENVBOOT, "store", "verify", "--json")
    assert done.returncode == 0, done.stderr
    [verified] = json.loads(done.stdout)
    assert (verified["outcome"], verified["differences"]) == ("same", [])
    assert conda.leftovers() == []


def test_two_at_once_have_a_prefix_each(conda: Workspace) -> None:
    script = f"echo $ENVBOOT_INSTANCE >{PREFIX}/whose; sleep 0.5; cat {PREFIX}/whose"
    done = conda.launch("--json", "--count", "2", "--", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    for instance in json.loads(done.stdout)["instances"]:
        assert instance["output"] == instance["name"] + "\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="wants root")
def test_on_a_host_without_the_folder_its_opt_is_still_shown(conda: Workspace) -> None:
    command = conda.command("--json", "--", "python", "-c", PROGRAM)
    wrapper = ["unshare", "--mount", "sh", "-c", BARE_OPT, "sh"]
    done = conda.run(*wrapper, *command)
    assert check(done)["opt"] == [".hidden", "envboot", "file", "link", "nowhere", "tool"]
    said, *listed = done.stderr.splitlines()
    assert said.startswith("environment  ")
    assert listed == [".hidden", "file", "link", "nowhere", "tool"]
    show = ["cat", "/opt/tool/file", "/opt/link/file", "/opt/file"]
    done = conda.run(*wrapper, *conda.command("--", *show))
    assert done.stdout == "theirs\ntheirs\nalone\n"
    assert conda.leftovers() == conda.survivors() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="wants root, to become nobody")
def test_an_unprivileged_user_has_it_too(conda: Workspace) -> None:
    if not can_mount(AS_NOBODY):
        pytest.skip("wants user name spaces for unprivileged users")
    before = find_host()
    home = conda.folder / "nobody"
    home.mkdir()
    shutil.copy(conda.folder / "pyproject.toml", home)
    os.chown(home, NOBODY, NOBODY)
    own = {f"ENVBOOT_{name}_DIR": str(home / name.lower()) for name in ("CACHE", "STATE")}
    own |= {"HOME": str(home), "UV_CACHE_DIR": str(home / "uv")}
    # In a name space its capability ends: the interpreter must be one that anybody may run.
    main = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    main += "from envboot.cli import main; main()"
    envboot = [str(conda.python / "bin/python"), "-c", main]
    script = 'cd "$HOME" && exec "$@"'
    for source in ("install", "archive"):
        words = conda.command("--json", "--", "python", "-c", PROGRAM)[1:]
        done = conda.run(*AS_NOBODY, "sh", "-c", script, "sh", *envboot, *words, **own)
        check(done, source)
    assert find_host() == before
    assert not list((home / "state" / "local").iterdir())


def test_ctrl_c_ends_what_runs_in_the_name_space(conda: Workspace) -> None:
    process = conda.start(*conda.command("--", "sleep", "61234"))
    wait_for(lambda: any(line.startswith("sleep 61234") for line in conda.survivors()))
    process.terminate()
    process.communicate(timeout=8)
    assert process.returncode == 130
    assert conda.survivors() == conda.leftovers() == []


def test_where_name_spaces_are_forbidden_that_is_said(conda: Workspace, tmp_path: Path) -> None:
    fake = tmp_path / "unshare"
    refusal = "unshare: unshare failed: Operation not permitted"
    fake.write_text(f"#!/bin/sh\necho '{refusal}' >&2\nexit 1\n")
    fake.chmod(0o755)
    done = conda.launch("--", "true", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 115
    assert "error: Cannot show a conda environment at `/opt/envboot/env` on `local`" in done.stderr
    assert f"caused by: {refusal}" in done.stderr
    assert "hint: Allow user name spaces" in done.stderr
    assert conda.leftovers() == []


def test_a_host_without_unshare_is_an_error_and_no_traceback(
    conda: Workspace, tmp_path: Path
) -> None:
    for name in ("sh", "python3", "env"):
        (tmp_path / name).symlink_to(shutil.which(name) or name)
    done = conda.launch("--", "true", PATH=str(tmp_path))
    assert done.returncode == 115
    assert "`unshare` was not found" in done.stderr
    assert "Failed unexpectedly" not in done.stderr


def test_a_kept_conda_instance_is_ended_by_name(conda: Workspace) -> None:
    assert conda.launch().returncode == 0
    shown = conda.run(ENVBOOT, "ls").stdout.splitlines()[1].split()
    assert shown[2:4] == ["local", "ready"]
    assert conda.run(ENVBOOT, "terminate", shown[0]).returncode == 0
    assert conda.leftovers() == []


# The last one: the environment is another one after it.
def test_a_wheel_over_a_conda_package_replaces_it_on_the_machine_as_it_did_here(
    conda: Workspace,
) -> None:
    folder = conda.folder / "own"
    folder.mkdir()
    made = make_wheel(folder, "tabulate", "9.9", files={"tabulate_mine.py": "VALUE = 1\n"})
    install = ["pip", "install", "-q", "-p", str(conda.python), "--break-system-packages"]
    done = conda.run(find_uv(), *install, str(made.path))
    assert done.returncode == 0, done.stderr
    program = (
        "import glob, importlib.util, json, site, tabulate_mine; "
        "old = importlib.util.find_spec('tabulate'); "
        "print(json.dumps([str(old), [path.split('/')[-2] for path in "
        "glob.glob(site.getsitepackages()[0] + '/tabulate-*/METADATA')]]))"
    )
    seen = ["None", ["tabulate-9.9.dist-info"]]
    here = conda.run(str(conda.python / "bin/python"), "-c", program)
    assert json.loads(here.stdout) == seen
    done = conda.launch("--json", "--", "python", "-c", program)
    assert done.returncode == 0, done.stderr
    [instance] = json.loads(done.stdout)["instances"]
    assert json.loads(instance["output"]) == seen
