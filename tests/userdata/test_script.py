"""The rendered script runs for real, below a folder of its own, under several shells."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from envboot.agent import wire
from envboot.agent_payload import agent_files, pack_zip
from envboot.publish.grants import ReadGrant
from envboot.userdata import Job, LaunchPath, render
from tests.userdata.conftest import find_python, make_grants, make_manifest, serve_bytes, sha

pytestmark = pytest.mark.subprocess

# Says how it was started; what it prints is the end of the script's output.
STUB = {
    "__main__.py": "import os, sys\nprint('agent', sys.argv[1:], os.environ['ENVBOOT_ROOT'])\n",
    "agent/__init__.py": "",
    "agent/wire.py": "END\nEND_\n$(touch /pwned) `touch /pwned` $HOME \\ '\n",
}
SHELLS = [
    pytest.param([shell, *words], marks=[] if shutil.which(shell) else [pytest.mark.skip("absent")])
    for shell, *words in (["dash"], ["bash"], ["bash", "--posix"], ["busybox", "sh"])
]
COMMAND = ["python", "-c", "print('it''s', \"$HOME\", `x`)\nEND\n", "Grüße"]


def make_script(folder: Path, **options: object) -> Path:
    manifest = make_manifest(3)
    arguments: dict[str, object] = {
        "launch_path": LaunchPath.LOCAL,
        "grants": make_grants(manifest),
        "job": Job(command=COMMAND, environment={"NAME": "a 'b' \"c\" $d"}),
        "agent": STUB,
        **options,
    }
    script = folder / "envboot.sh"
    script.write_bytes(render(manifest, **arguments).payload)  # type: ignore[arg-type]
    return script


def run(
    words: list[str], script: Path, root: Path, *, path: str | None = None, umask: int = 0o022
) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "ENVBOOT_ROOT": str(root)}
    if path:
        environ["PATH"] = path
    return subprocess.run(
        [*words, str(script)], env=environ, text=True, capture_output=True, umask=umask, check=False
    )


def read_tree(root: Path) -> dict[str, tuple[str, int, int, int]]:
    """Text, mode, inode and time of every file, by path."""
    found = {}
    for file in sorted(root.rglob("*")):
        if file.is_file() and file.suffix != ".pyc":
            facts = file.stat()
            mode = stat.S_IMODE(facts.st_mode)
            row = (file.read_text(), mode, facts.st_ino, facts.st_mtime_ns)
            found[str(file.relative_to(root))] = row
    return found


@pytest.mark.parametrize("words", SHELLS)
def test_a_run_writes_every_file_and_hands_over_to_the_agent(
    words: list[str], tmp_path: Path
) -> None:
    root = tmp_path / "root"
    done = run(words, make_script(tmp_path), root)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"agent ['local'] {root}\n"
    tree = read_tree(root)
    assert tree["opt/envboot/lib/agent/wire.py"][0] == STUB["agent/wire.py"]
    config = json.loads(tree["var/lib/envboot/config.json"][0])
    assert config == {
        "digest": make_manifest(3).environment_digest,
        "command": COMMAND,
        "environment": {"NAME": "a 'b' \"c\" $d"},
    }
    document = json.loads(tree["var/lib/envboot/manifest.json"][0])
    assert wire.environment_digest(document) == config["digest"]
    assert tree["var/lib/envboot/manifest.json"][0].encode() == make_manifest(3).to_bytes() + b"\n"
    assert {path: row[1] for path, row in tree.items() if row[1] != 0o644} == {
        "usr/local/bin/envboot-agent": 0o755,
        "var/lib/envboot/config.json": 0o600,
        "var/lib/envboot/grants.json": 0o600,
    }
    assert not Path("/pwned").exists()


def test_the_grants_hold_no_url_of_what_the_document_carries(tmp_path: Path) -> None:
    run(["sh"], make_script(tmp_path), tmp_path)
    grants = json.loads((tmp_path / "var/lib/envboot/grants.json").read_text())
    wanted = make_grants(make_manifest(3)).to_dict()
    del wanted["agent"], wanted["manifest"]
    assert grants == wanted


@pytest.mark.parametrize("words", SHELLS)
def test_a_second_run_rewrites_nothing(words: list[str], tmp_path: Path) -> None:
    script, root = make_script(tmp_path), tmp_path / "root"
    run(words, script, root)
    before = read_tree(root)
    assert run(words, script, root).returncode == 0
    assert read_tree(root) == before


def test_a_run_mends_a_damaged_file_and_a_loose_mode(tmp_path: Path) -> None:
    script, root = make_script(tmp_path), tmp_path / "root"
    run(["sh"], script, root)
    wire_py, grants = root / "opt/envboot/lib/agent/wire.py", root / "var/lib/envboot/grants.json"
    wire_py.write_text("cut of")
    grants.chmod(0o644)
    run(["sh"], script, root)
    assert wire_py.read_text() == STUB["agent/wire.py"]
    assert stat.S_IMODE(grants.stat().st_mode) == 0o600


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_callers_umask_changes_no_mode(tmp_path: Path, umask: int) -> None:
    root = tmp_path / "root"
    run(["sh"], make_script(tmp_path), root, umask=umask)
    folders = {stat.S_IMODE(f.stat().st_mode) for f in [root, *root.rglob("*")] if f.is_dir()}
    files = {stat.S_IMODE(f.stat().st_mode) for f in root.rglob("*") if f.is_file()}
    assert folders == {0o755}
    assert files == {0o644, 0o755, 0o600}


@pytest.mark.parametrize("call", ["open", "chmod", "replace"])
@pytest.mark.parametrize("calls", [1, 4, 8])
def test_a_run_killed_anywhere_leaves_whole_files_and_is_made_good(
    tmp_path: Path, call: str, calls: int
) -> None:
    whole, root = tmp_path / "whole", tmp_path / "root"
    script = make_script(tmp_path)
    run(["sh"], script, whole)
    wanted = {path: row[:2] for path, row in read_tree(whole).items()}
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    # The interpreter takes the whole process group along at one of the writer's system calls.
    (stubs / "deadly.py").write_text(
        f"import os\nleft, real = [{calls}], os.{call}\n"
        "def deadly(*words, **named):\n    left[0] -= 1\n"
        "    left[0] or os.killpg(0, 9)\n    return real(*words, **named)\n"
        f"os.{call} = deadly\n"
    )
    (stubs / "python3").write_text(
        f'#!/bin/sh\n[ "$3" = -c ] || exec {sys.executable} "$@"\ncode=$4; shift 4\n'
        f'exec {sys.executable} -I -S -c "$(cat {stubs}/deadly.py)\n$code" "$@"\n'
    )
    (stubs / "python3").chmod(0o755)
    environ = {**os.environ, "ENVBOOT_ROOT": str(root), "PATH": f"{stubs}:{os.environ['PATH']}"}
    killed = subprocess.run(
        ["sh", str(script)], env=environ, start_new_session=True, capture_output=True, check=False
    )
    assert killed.returncode == -9
    for path, row in read_tree(root).items():
        if not path.endswith(".new"):
            assert row[:2] == wanted[path]
    assert run(["sh"], script, root).returncode == 0
    assert {path: row[:2] for path, row in read_tree(root).items()} == wanted


def test_documents_of_an_earlier_launch_do_not_linger(tmp_path: Path) -> None:
    root = tmp_path / "root"
    run(["sh"], make_script(tmp_path), root)
    done = run(["sh"], make_script(tmp_path, grants=None, job=Job(command=())), root)
    assert done.returncode == 0
    assert not (root / "var/lib/envboot/grants.json").exists()
    assert not (root / "etc/systemd/system/envboot-run.service").exists()


@pytest.mark.parametrize(
    ("stub", "found"),
    [
        (None, "none"),
        (
            "#!/bin/sh\necho 'Expected Python 3.9 or later as `python3`, found 3.8.10'\nexit 1\n",
            "3.8.10",
        ),
    ],
)
def test_an_old_or_absent_python_is_said_clearly(
    tmp_path: Path, stub: str | None, found: str
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("sh", "cat", "mkdir", "chmod", "mv", "rm", "cmp"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    if stub:
        (tools / "python3").write_text(stub)
        (tools / "python3").chmod(0o755)
    done = run(["/bin/sh"], make_script(tmp_path), tmp_path / "root", path=str(tools))
    assert done.returncode == 1
    assert done.stderr.startswith("envboot: Expected Python 3.9 or later as `python3`, found")
    assert found in done.stderr
    assert not (tmp_path / "root").exists()


def test_a_folder_that_cannot_be_written_is_said_clearly(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("a file in the way")
    done = run(["sh"], make_script(tmp_path), tmp_path / "root")
    assert done.returncode != 0
    assert "envboot: Failed to write the agent and its documents" in done.stderr


@pytest.mark.parametrize("words", SHELLS)
def test_the_real_agent_starts_from_where_the_script_put_it(
    words: list[str], tmp_path: Path
) -> None:
    root = tmp_path / "root"
    main = "import sys\nfrom agent.main import main\nsys.exit(main(['--help']))\n"
    script = make_script(tmp_path, agent={**agent_files(), "__main__.py": main})
    done = run(words, script, root)
    assert done.returncode == 0, done.stderr
    assert "usage: envboot-agent" in done.stdout + done.stderr
    wrapper = subprocess.run(
        [str(root / "usr/local/bin/envboot-agent"), "--help"],
        env={**os.environ, "ENVBOOT_ROOT": str(root)},
        capture_output=True,
        check=False,
    )
    assert wrapper.returncode == 0


def agent_by_url(tmp_path: Path, url: str, sha256: str) -> Path:
    manifest = make_manifest(400)
    noise = {"__main__.py": "".join(f"# {sha(i)}\n" for i in range(9000))}
    grants = replace(make_grants(manifest), agent=ReadGrant(get=url, sha256=sha256))
    document = render(
        manifest, launch_path=LaunchPath.GCE_STARTUP_SCRIPT, grants=grants, agent=noise
    )
    script = tmp_path / "envboot.sh"
    text = document.payload.decode()
    # The waits between attempts are real seconds; this test has none of them.
    assert "for wait in 1, 2, 4, 8, 16, 0:" in text
    script.write_text(text.replace("for wait in 1, 2, 4, 8, 16, 0:", "for wait in 0.01, 0:"))
    return script


@pytest.mark.sockets
def test_an_agent_by_url_is_fetched_once_and_verified(tmp_path: Path) -> None:
    sha256, data = pack_zip(STUB)
    root = tmp_path / "root"
    with serve_bytes(data) as url:
        first = run(["sh"], agent_by_url(tmp_path, url, sha256), root)
    second = run(["sh"], tmp_path / "envboot.sh", root)
    for done in (first, second):
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"agent ['local'] {root}\n"
    for path, text in STUB.items():
        assert (root / "opt/envboot/lib" / path).read_text() == text


@pytest.mark.sockets
def test_an_agent_by_url_replaces_another_one(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for text in ("print('one')\n", "print('two')\n"):
        sha256, data = pack_zip({"__main__.py": text})
        with serve_bytes(data) as url:
            run(["sh"], agent_by_url(tmp_path, url, sha256), root)
        assert (root / "opt/envboot/lib/__main__.py").read_text() == text


@pytest.mark.sockets
def test_an_agent_that_is_not_the_promised_one_is_refused(tmp_path: Path) -> None:
    _, data = pack_zip(STUB)
    root = tmp_path / "root"
    with serve_bytes(data) as url:
        done = run(["sh"], agent_by_url(tmp_path, url + "?X-Sig=secret", sha("other")), root)
    assert done.returncode == 1
    assert f"Expected sha256 {sha('other')}, found " in done.stderr
    assert "envboot: Failed to fetch the agent" in done.stderr
    assert "secret" not in done.stderr
    assert not (root / "opt/envboot/lib").exists()


@pytest.mark.parametrize("grants", [True, False])
@pytest.mark.parametrize("command", [(), ("python", "train.py")])
def test_shellcheck_finds_nothing(tmp_path: Path, grants: bool, command: tuple[str, ...]) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    given = make_grants(make_manifest(3)) if grants else None
    scripts = [make_script(tmp_path, grants=given, job=Job(command=command))]
    if grants:
        (tmp_path / "url").mkdir()
        scripts.append(agent_by_url(tmp_path / "url", "https://bucket.test/x", sha("agent")))
    for script in scripts:
        done = subprocess.run([shellcheck, script], text=True, capture_output=True, check=False)
        assert done.stdout == ""


def test_python_3_9_can_run_the_agent(tmp_path: Path) -> None:
    python = find_python("3.9")
    for path, text in agent_files().items():
        file = tmp_path / "lib" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    done = subprocess.run(
        [python, "-I", str(tmp_path / "lib"), "--help"], text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    imports = "".join(f"import agent.{Path(p).stem}\n" for p in agent_files() if "agent/" in p)
    code = f"import sys\nsys.path.insert(0, {str(tmp_path / 'lib')!r})\n{imports}"
    subprocess.run([python, "-I", "-c", code], check=True)
