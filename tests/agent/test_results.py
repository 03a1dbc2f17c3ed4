"""What a command makes: into the bucket while it runs and when it ends, whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from envboot.agent import made
from envboot.fleet import results
from envboot.fleet.results import ResultIndex, parse_index, read_results
from envboot.store import open_store
from envboot.userdata.result_rules import ResultRules
from tests.agent.guests import Guest, make_launch
from tests.agent.trees import write
from tests.launch.workspace import wait_for
from tests.reports import read_documents
from tests.servers import (  # noqa: F401 - fixtures
    gcs_bucket,
    gcs_server,
    gcs_session,
    s3_bucket,
    s3_server,
)
from tests.sessions import make_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from envboot.store.local.store import LocalStore
    from envboot.store.protocol import Store
    from tests.agent.guests import Launch, Parts
    from tests.agent.proxy import Proxy

    Run = Callable[..., Guest]

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets]
KILLS = 40
MANY = """
import os, random
r = random.Random(1)
for i in range(10000):
    folder = f"many/{i % 100:02d}"
    os.makedirs(folder, exist_ok=True)
    open(f"{folder}/{i}.txt", "wb").write(r.randbytes(r.randrange(3000)))
with open("large.bin", "wb") as stream:
    for at in range(0, SIZE, 50 << 20):
        stream.seek(at)
        stream.write(r.randbytes(5 << 20))
    stream.truncate(SIZE)
"""
WAIT = """
import os, time
def wait(name):
    while not os.path.exists(name):
        time.sleep(0.02)
"""


def prepare(guest: Guest, program: str, output: ResultRules | None = None) -> None:
    """Give a machine that is booted a command that is a Python program."""
    guest.launch.config["command"] = ["python", "-u", "-c", WAIT + program]
    guest.launch.config["output"] = (output or ResultRules()).to_dict()
    guest.give(guest.launch)


@pytest.fixture
def run(hit: Launch, new_guest: Callable[[str, Launch], Guest]) -> Run:
    """Return what makes a machine whose command is a Python program."""

    def make(program: str, output: ResultRules | None = None, *, pause: float = 0.02) -> Guest:
        guest = new_guest("guest", hit)
        assert guest.boot() == 0
        prepare(guest, program, output)
        guest.edit(
            "agent/results.py", r"(?m)^(\w+,\w+,\w+,\w+)=2\.,", rf"\1={pause},{pause},{pause},0#"
        )
        return guest

    return make


def work(guest: Guest) -> Path:
    return guest.root / "home/envboot/work"


def read_index(store: Store) -> ResultIndex:
    (index,) = read_results(store, "launch").indexes
    return index


def read_files(store: Store, index: ResultIndex) -> dict[str, bytes]:
    """Put every file together from its blobs, which must be there and be what they are named."""
    blobs: dict[str, bytes] = {}
    found = {}
    for file in index.files:
        data = b""
        for extent in file.extents:
            if extent.blob not in blobs:
                blob = store.read(f"{index.folder}blobs/{extent.blob}")
                assert blob is not None, f"{file.path} names a missing blob"
                assert hashlib.sha256(blob).hexdigest() == extent.blob
                blobs[extent.blob] = blob
            data += blobs[extent.blob][extent.offset : extent.offset + extent.length]
        assert hashlib.sha256(data).hexdigest() == file.sha256
        assert len(data) == file.size
        found[file.path] = data
    return found


def read_report(store: Store) -> dict[str, Any]:
    found: dict[str, Any] = read_documents(store, "launch")["guest"]["results"]
    return found


def list_disk(guest: Guest) -> dict[str, bytes]:
    top = work(guest)
    return {
        path.relative_to(top).as_posix(): path.read_bytes()
        for path in top.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("kind", ["file", "s3", "gs"])
def test_10000_small_files_and_a_large_one_arrive_byte_for_byte(
    request: pytest.FixtureRequest, parts: Parts, tmp_path: Path, kind: str
) -> None:
    urls = {
        "file": lambda: f"file://{tmp_path}/bucket",
        "s3": lambda: f"s3://{request.getfixturevalue('s3_bucket')}/team",
        "gs": lambda: f"gs://{request.getfixturevalue('gcs_bucket')}/team",
    }
    with open_store(urls[kind](), make_session()) as store:
        guest = Guest(tmp_path / "guest", make_launch(parts, store, tmp_path / "cache"))
        assert guest.boot() == 0, guest.reasons
        prepare(guest, MANY.replace("SIZE", str(121 << 20)))
        assert guest.agent("results") == 0
        index = read_index(store)
        assert read_files(store, index) == list_disk(guest)
        assert len(index.files) == 10_001
        report = read_report(store)
        assert (report["number"], report["files"]) == (index.number, 10_001)
        assert (report["bytes"], report["left"]) == (index.size, {})
        blobs = list(store.list(f"{index.folder}blobs/"))
        assert len(blobs) < 45, "small files share blobs, and holes are one"


def test_a_sparse_file_of_1_gib_costs_one_blob_for_its_holes(run: Run, store: LocalStore) -> None:
    guest = run("open('large', 'wb').truncate(1 << 30)", pause=60.0)
    assert guest.agent("results") == 0
    index = read_index(store)
    (file,) = index.files
    assert (file.path, file.size) == ("large", 1 << 30)
    assert [stat.size for stat in store.list(f"{index.folder}blobs/")] == [4 << 20]


def test_results_go_up_while_the_command_runs_and_only_what_is_new(
    run: Run, store: LocalStore
) -> None:
    guest = run(
        "open('first', 'wb').write(bytes(5_000_000) + b'1'); wait('go')\n"
        "open('first', 'ab').write(b'23'); open('second', 'w').write('2'); os.remove('go')"
    )
    process = guest.start("results")
    wait_for(lambda: read_results(store, "launch").indexes)
    before = read_index(store)
    assert [file.path for file in before.files] == ["first"]
    blobs = {stat.key for stat in store.list(before.folder + "blobs/")}
    (work(guest) / "go").touch()
    assert process.wait(60) == 0
    after = read_index(store)
    assert after.number > before.number
    found = read_files(store, after)
    assert found == {"first": bytes(5_000_000) + b"123", "second": b"2"}
    new = {stat.key for stat in store.list(after.folder + "blobs/")} - blobs
    # The end of the first, and the second; perhaps one with `go`, which was there for a moment.
    assert 2 <= len(new) <= 3


def test_what_was_sent_is_not_sent_back_unless_it_has_changed(run: Run, store: LocalStore) -> None:
    guest = run("open('state.db', 'a').write('more'); open('new', 'w').write('1')")
    sent = {"train.py": b"code", "state.db": b"first"}
    for path, data in sent.items():
        write(guest.env.resolve() / "lib/envboot/work", path, data)
    assert guest.agent("results") == 0
    assert read_files(store, read_index(store)) == {"state.db": b"firstmore", "new": b"1"}


def test_without_any_file_there_is_no_index_and_a_report_says_so(
    run: Run, store: LocalStore
) -> None:
    assert run("pass").agent("results") == 0
    assert read_results(store, "launch").indexes == []
    assert read_report(store) == {"number": 0, "files": 0, "bytes": 0, "left": {}}


def test_the_exit_code_is_the_commands(run: Run, store: LocalStore) -> None:
    assert run("open('made', 'w').write('1'); raise SystemExit(7)").agent("results") == 7
    assert read_files(store, read_index(store)) == {"made": b"1"}


def test_what_is_left_out_is_named(run: Run, store: LocalStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    write(outside, "data/in.txt", b"in")
    write(outside, "secret.txt", b"secret")
    guest = run(
        f"""
import socket, pathlib
outside = {str(outside)!r}
for name in ("keep.tmp", "drop.tmp", "cache/x", "__pycache__/a.pyc", ".git/config", "b/ok"):
    pathlib.Path(name).parent.mkdir(exist_ok=True)
    pathlib.Path(name).write_text(name)
os.symlink("b/ok", "latest")
os.symlink(outside + "/secret.txt", "stolen")
os.symlink(outside, "folder")
os.mkfifo("pipe")
socket.socket(socket.AF_UNIX).bind("socket")
open("huge", "wb").truncate(10_000)
""",
        ResultRules(
            paths=(str(outside / "data"), "/not/there", "b"),
            ignore=("*.tmp", "!keep.tmp", "/cache/"),
            limit=9_000,
        ),
    )
    assert guest.agent("results") == 0
    found = read_files(store, read_index(store))
    assert found == {
        "keep.tmp": b"keep.tmp",
        "b/ok": b"b/ok",
        "latest": b"b/ok",
        "data/in.txt": b"in",
    }
    assert read_report(store)["left"] == {
        "limit": [1, ["huge"]],
        "link": [2, ["folder", "stolen"]],
        "special": [2, ["pipe", "socket"]],
        "missing": [1, ["/not/there"]],
    }


def test_a_file_that_cannot_be_read_is_named_and_the_others_arrive(
    run: Run, store: LocalStore
) -> None:
    guest = run("open('good', 'w').write('1'); os.symlink('loop', 'loop')")
    assert guest.agent("results") == 0
    assert read_files(store, read_index(store)) == {"good": b"1"}
    assert read_report(store)["left"] == {"link": [1, ["loop"]]}


def test_names_may_have_any_bytes(run: Run, store: LocalStore) -> None:
    guest = run(r"open(b'\xff\n\x1b[31m', 'w').write('odd')")
    assert guest.agent("results") == 0
    assert read_files(store, read_index(store)) == {os.fsdecode(b"\xff\n\x1b[31m"): b"odd"}


def send_signal(session: int, number: int) -> None:
    """Signal every process of a session."""
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if folder.name.isdecimal() and os.getsid(int(folder.name)) == session:
                os.kill(int(folder.name), number)


def check_indexes(store: LocalStore) -> int:
    """Check that each index in the bucket names what is there; returns how many there are."""
    keys = [stat.key for stat in store.list("reports/launch/results/") if "/blobs/" not in stat.key]
    blobs = {stat.key: stat.size for stat in store.list("reports/launch/results/guest/blobs/")}
    for key in keys:
        folder, name = key.rsplit("/", 1)
        data = store.read(key)
        assert data
        index = parse_index(data, instance="guest", folder=f"{folder}/", number=int(name[:9]))
        for file in index.files:
            for extent in file.extents:
                size = blobs[f"{index.folder}blobs/{extent.blob}"]
                assert extent.offset + extent.length <= size
    return len(keys)


def test_killed_at_random_moments_no_index_names_what_is_missing(
    run: Run, store: LocalStore
) -> None:
    """The command goes on writing; the next agent goes on with the same numbers and files."""
    program = """
import random
open("large", "wb").write(bytes(6_000_000))
for i in range(100000):
    open(f"f{i % 20}", "wb").write(random.randbytes(random.randrange(30_000)))
    open("large", "ab").write(random.randbytes(10_000))
    time.sleep(0.01)
"""
    guest = run(program)
    # Blobs are on their way for long: an index that did not wait for them would be seen.
    guest.edit("agent/results.py", r"'blobs/'", "(time.sleep(.15),'blobs/')[1]")
    dice = random.Random(7)
    numbers = []
    for _ in range(KILLS):
        process = guest.start("results")
        time.sleep(0.3 + dice.random() * 0.7)
        os.killpg(process.pid, signal.SIGKILL)
        # The command is in a group of its own.
        send_signal(process.pid, signal.SIGKILL)
        process.communicate()
        check_indexes(store)
        indexes = read_results(store, "launch").indexes
        numbers += [index.number for index in indexes]
    assert numbers == sorted(numbers)
    assert numbers[-1] > KILLS / 4
    prepare(guest, "open('last', 'w').write('1')")
    assert guest.agent("results") == 0
    assert read_files(store, read_index(store)) == list_disk(guest)


def test_told_to_stop_it_takes_a_last_look(run: Run, store: LocalStore) -> None:
    program = (
        "import signal\n"
        "def stop(*_): open('saved', 'w').write('state'); os._exit(0)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "open('.ready', 'w'); wait('never')"
    )
    guest = run(program, pause=60.0)
    process = guest.start("results")
    wait_for((work(guest) / ".ready").exists)
    send_signal(process.pid, signal.SIGTERM)
    process.communicate(timeout=30)
    wait_for(lambda: "results" in read_documents(store, "launch")["guest"])
    assert read_files(store, read_index(store))["saved"] == b"state"


def test_a_bucket_that_is_away_for_a_while_loses_nothing(
    run: Run, hit: Launch, store: LocalStore, proxy: Proxy
) -> None:
    guest = run("open('made', 'wb').write(bytes(9_000_000)); wait('go')")
    guest.edit("agent/results.py", r"sleep\(5\)", "sleep(.1)")
    hit.grants = proxy.redirect(hit.grants)
    guest.give(hit)
    proxy.strike("POST", 12, "hang up")
    process = guest.start("results")
    wait_for(lambda: len(proxy.requests) > 4)
    (work(guest) / "go").touch()
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert read_files(store, read_index(store))["made"] == bytes(9_000_000)
    assert "error" not in read_report(store)


def test_a_bucket_that_refuses_results_is_named_in_the_report(
    run: Run, hit: Launch, store: LocalStore
) -> None:
    guest = run("open('made', 'w').write('1')")
    # Anything but results may be written.
    guest.edit("agent/results.py", r'"results/%s/%s"|\'results/%s/%s\'', "'../results/%s/%s'")
    assert guest.agent("results") == 0
    assert read_report(store)["error"].startswith("forbidden: http://127.0.0.1:")


def test_a_killed_uploader_is_reported(run: Run, store: LocalStore) -> None:
    guest = run("wait('go')")
    process = guest.start("results")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_for(lambda: len(children.read_text().split()) == 2)
    uploader = min(map(int, children.read_text().split()))
    os.kill(uploader, signal.SIGKILL)
    (work(guest) / "go").touch()
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert read_report(store) == {"error": "the process that uploads results was killed"}


def test_what_agent_and_client_both_know_is_the_same() -> None:
    assert made.BLOB == results.MOST_BLOB
    assert made.MOST_FILES == results.MOST_FILES
    assert made.DEEPEST + 2 < results.DEEPEST
    assert results.CONTROL <= made.JUNK


@pytest.mark.parametrize(
    "lines",
    [
        ("*.tmp", "!keep.tmp"),
        ("/cache/", "logs/*.txt"),
        ("**/deep/x", "a/**/b"),
        ("*", "!*.csv", "!*/"),
        ("# no pattern", "", r"\#file", "[ab].txt", "?.md", "[!a-y]"),
        ("a/**", "logs/*/c.txt", "logs/tmp/", "!/logs/", "sp ace ", r"\!x"),
        ("cache", "*.[tc][xs][tv]", "!a.txt"),
    ],
)
def test_patterns_leave_out_what_git_would(lines: tuple[str, ...], tmp_path: Path) -> None:
    """Git itself says what these patterns ignore."""
    names = ["x.tmp", "keep.tmp", "cache/f", "sub/cache/f", "logs/a.txt", "logs/b/c.txt", "deep/x"]
    names += ["s/deep/x", "a/b", "a/q/r/b", "t.csv", "u/v.csv", "#file", "a.txt", "c.txt", "z.md"]
    names += ["z", "logs/tmp/d", "sp ace", "!x", "s/sp ace/e", "new\nline.txt"]
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    for name in names:
        write(tmp_path, name, b"")
    (tmp_path / ".git/info/exclude").write_text("\n".join(lines))
    words = ["git", "-C", str(tmp_path), "ls-files", "-z", "--others", "--exclude-standard"]
    listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    order = ResultRules(ignore=lines).to_dict()
    reader, writer = os.pipe()
    seen = made.Reader(FakeResults(order), final=True, out=writer)
    seen.top = str(tmp_path)
    seen._walk(str(tmp_path), "")
    os.close(reader)
    os.close(writer)
    assert set(seen.files) == set(filter(None, listed.split("\0")))


class FakeResults:
    """What a reader needs to know of the process that uploads."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order
        self.host, self.limit, self.blobs = None, 0, set[str]()
        self.known: dict[str, Any] = {}
        self.same: dict[str, Any] = {}
