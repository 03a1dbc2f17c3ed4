"""Clusters on `local` machines: a scheduler and workers, each with the client's environment."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cluster.project import Project

pytestmark = [pytest.mark.subprocess, pytest.mark.sockets, pytest.mark.network]

# Dask's programs take SIGTERM for a wish that their event loop grants, which this one keeps from
# running: without its own answer it would have to be killed, after ten seconds.
HANG = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_DFL)
time.sleep(1000)
"""
HEAD = """
import json, os, sys, time
from envboot import Cluster
from dask.distributed import Client
import shop, taxes
# A second of CPU for each process that has one.
BARE = {"dashboard": False}
def show(document):
    print(json.dumps(document, default=str))
"""


def test_what_is_only_here_is_computed_there_and_an_edit_follows(project: Project) -> None:
    seen = project.ask(
        HEAD
        + """
import importlib, warnings
warnings.simplefilter("error")
def work(number):
    import shop, taxes
    return taxes.add_tax(shop.price(number))
def place():
    import shop
    return [sys.prefix, shop.__file__, os.environ["GREETING"], "ENVBOOT_ROOT" in os.environ]
with Cluster(n_workers=3, worker_options={"nthreads": 1}, environ={"GREETING": "hello"}) as cluster:
    client = Client(cluster)
    client.wait_for_workers(3, timeout=180)
    client.get_versions(check=True)
    first = client.gather(client.map(work, range(100)))
    places = client.run(place)
    machines = sorted(os.listdir(os.environ["ENVBOOT_STATE_DIR"] + "/local/" + cluster.launch))
    names = sorted(worker["name"] for worker in cluster.scheduler_info["workers"].values())
    addresses = [cluster.scheduler_address, *cluster.scheduler_info["workers"]]
    path = shop.__file__
    with open(path) as file:
        text = file.read()
    with open(path, "w") as file:
        text = text.replace("FACTOR = 1", "FACTOR = 5")
        file.write(text + "def double(x):\\n    return 2 * x\\n")
    cluster.sync()
    importlib.reload(shop)
    client.wait_for_workers(3, timeout=180)
    second = client.submit(shop.price, 4, pure=False).result()
    # The scheduler reads tasks by the names of their functions.
    third = client.submit(shop.double, 21).result()
    cluster.sync()
    logs = cluster.logs()
    show({
        "first": first, "second": second, "third": third, "places": places, "names": names,
        "addresses": addresses, "machines": machines, "logs": sorted(logs), "said": logs["Cluster"],
        "key": cluster.security.tls_client_key.splitlines()[2], "link": cluster.dashboard_link,
        "html": cluster._repr_html_(), "launch": cluster.launch,
    })
    client.close()
"""
    )
    assert seen["first"] == [number + 1 for number in range(100)]
    assert len(seen["machines"]) == 4
    assert seen["names"] == [0, 1, 2]
    assert all(address.startswith("tls://") for address in seen["addresses"])
    # Each is a machine of its own, with an address of its own.
    assert len({address.rpartition(":")[0] for address in seen["addresses"]}) == 4
    launch = seen["launch"]
    for prefix, file, greeting, on_machine in seen["places"].values():
        assert prefix.startswith(f"{project.state}/local/{launch}/")
        assert file.startswith(prefix)
        assert (greeting, on_machine) == ("hello", True)
    assert len({prefix for prefix, *_ in seen["places"].values()}) == 3
    assert (seen["second"], seen["third"]) == (20, 42)
    assert "4 machines synced in" in seen["said"]
    assert "nothing has changed" in seen["said"]
    assert {"Cluster", "Scheduler"} < set(seen["logs"])
    assert len(seen["logs"]) == 5
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/status\?token=[\w-]{32}", seen["link"])
    assert launch in seen["html"]
    assert project.machines() == []
    assert project.processes() == []
    # The keys were in the bucket for no longer than it took to read them.
    files = [path for path in project.bucket.rglob("*") if path.is_file()]
    assert not [path for path in files if "secrets" in path.parts]
    assert not [path for path in files if seen["key"].encode() in path.read_bytes()]
    assert launch in project.envboot("ls", "--past").stdout


def test_only_members_of_a_cluster_reach_what_its_processes_listen_on(project: Project) -> None:
    seen = project.ask(
        HEAD
        + """
import http.cookiejar, psutil, socket, ssl, urllib.error, urllib.request
def find():
    marks = ("dask_scheduler", "dask_worker", "multiprocessing")
    for process in psutil.process_iter(["cmdline", "environ"]):
        line, environ = " ".join(process.info["cmdline"] or ()), process.info["environ"] or {}
        ours = os.environ["ENVBOOT_STATE_DIR"] in environ.get("ENVBOOT_ROOT", "")
        if ours and any(mark in line for mark in marks):
            for each in process.net_connections("inet"):
                if each.status == "LISTEN":
                    yield each.laddr
def knock(address):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with context.wrap_socket(socket.create_connection(address, 5)) as stream:
            stream.settimeout(5)
            stream.sendall(b"GET /health HTTP/1.0\\r\\n\\r\\n")
            return "answered" if stream.recv(99) else "refused"
    except OSError:
        # With TLS 1.3 it shows at the first read; the alert may come, or the end alone.
        return "refused"
def fetch(opener, url):
    try:
        return opener.open(url, timeout=20).status
    except urllib.error.HTTPError as error:
        return error.code
cookies = http.cookiejar.CookieJar()
def browse(jar):
    return urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
def upgrade(url, jar):
    host, port = url.split("/")[2].split(":")
    (cookie,) = jar
    lines = ["GET /eventstream HTTP/1.1", f"Host: {host}:{port}", "Connection: Upgrade"]
    lines += ["Upgrade: websocket", "Sec-WebSocket-Version: 13"]
    lines += ["Sec-WebSocket-Key: " + "A" * 22 + "=="]
    lines += [f"Cookie: {cookie.name}={cookie.value}", "", ""]
    with socket.create_connection((host, int(port)), 20) as stream:
        stream.sendall("\\r\\n".join(lines).encode())
        return stream.recv(99).split()[1].decode()
with Cluster(n_workers=2, worker_options={"nthreads": 1}) as cluster:
    client = Client(cluster)
    client.wait_for_workers(2, timeout=180)
    addresses = sorted(set(find()))
    answers = {knock(address) for address in addresses}
    bare = cluster.dashboard_link.partition("?")[0]
    person, other = browse(cookies), browse(None)
    urls = [cluster.dashboard_link, bare, bare.replace("status", "health")]
    pages = [fetch(person, url) for url in urls]
    upgraded = upgrade(bare, cookies)
    refused = [fetch(other, url) for url in (bare, bare + "?token=" + 32 * "x")]
    # A task is a client of its own machine's right.
    from dask.distributed import get_client
    nested = client.submit(lambda: get_client().submit(lambda: 42).result()).result()
    security = client.security
    show([addresses, sorted(answers), pages, refused, upgraded, nested, security.tls_worker_key])
"""
    )
    addresses, answers, pages, refused, upgraded, nested, key = seen
    hosts = {host for host, _ in addresses}
    # Each process on its machine's own address; ports for Dask and HTTP, and a nanny's.
    assert len(addresses) == 2 + 3 * 2
    assert len(hosts) == 3
    assert all(host.startswith("127.") and host != "127.0.0.1" for host in hosts)
    assert answers == ["refused"]
    assert (pages, refused, upgraded) == ([200, 200, 200], [403, 403], "101")
    assert nested == 42
    assert key is None


def test_a_worker_whose_machine_is_killed_is_replaced_and_the_result_is_right(
    project: Project,
) -> None:
    seen = project.ask(
        HEAD
        + """
import pathlib, signal
def slow(number):
    import time
    time.sleep(0.2)
    return number * number
with Cluster(
    n_workers=2, worker_options={"nthreads": 2, **BARE}, scheduler_options=BARE
) as cluster:
    client = Client(cluster)
    client.wait_for_workers(2, timeout=180)
    futures = client.map(slow, range(60))
    while not any(future.done() for future in futures):
        time.sleep(0.05)
    before = {w["name"]: a for a, w in cluster.scheduler_info["workers"].items()}
    instance = cluster.workers[0].instance
    mark = f"ENVBOOT_ROOT={instance.root}".encode()
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)
        except OSError:
            pass
    total = sum(client.gather(futures))
    client.wait_for_workers(2, timeout=180)
    after = {w["name"]: a for a, w in cluster.scheduler_info["workers"].items()}
    show([total, before, after, cluster.workers[0].instance.name, instance.name])
    client.close()
"""
    )
    total, before, after, new, old = seen
    assert total == sum(number * number for number in range(60))
    assert set(before) == set(after) == {"0", "1"}
    assert before["1"] == after["1"]
    assert before["0"] != after["0"]
    assert new != old


def test_a_scheduler_that_never_comes_up_is_told_in_its_own_words_and_nothing_is_left(
    project: Project,
) -> None:
    done = project.run(
        HEAD
        + """
start = time.monotonic()
try:
    Cluster(n_workers=2, scheduler_options={"preload": "no_such_module", **BARE}, timeout=60)
except Exception as error:
    show([type(error).__name__, str(error), time.monotonic() - start])
"""
    )
    assert done.returncode == 0, done.stderr
    import json

    kind, text, took = json.loads(done.stdout.splitlines()[-1])
    assert kind == "GuestError"
    assert "Failed to start the scheduler on `" in text
    assert "No module named 'no_such_module'" in text
    assert took < 60
    assert project.machines() == []
    assert project.processes() == []


def test_a_scheduler_that_hangs_is_given_up_at_the_deadline(project: Project) -> None:
    (project.folder / "work").mkdir(exist_ok=True)
    (project.folder / "work/hang.py").write_text(HANG)
    kind, text, took = project.ask(
        HEAD
        + """
start = time.monotonic()
try:
    Cluster(n_workers=1, scheduler_options={"preload": "hang"}, timeout=30, quiet=True)
except Exception as error:
    show([type(error).__name__, str(error), time.monotonic() - start])
"""
    )
    assert kind == "GuestError"
    assert "Expected the scheduler to answer within 30 s" in text
    assert "is ready, and nothing answers at `127." in text
    assert 30 <= took < 90
    assert project.machines() == []
    assert project.processes() == []


def test_it_scales_adapts_and_is_asynchronous(project: Project) -> None:
    seen = project.ask(
        HEAD
        + """
import asyncio
def count(cluster):
    return len(cluster.scheduler_info["workers"])
async def until(cluster, number):
    deadline = time.monotonic() + 60
    while count(cluster) != number and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    return count(cluster)
async def main():
    seen = []
    options = {"nthreads": 1, "memory_limit": "1GiB", "resources": {"GPU": 2}, **BARE}
    async with Cluster(
        n_workers=0, worker_options=options, scheduler_options=BARE, name="mine",
        asynchronous=True, quiet=True, secrets={"TOKEN": "of-whoever-calls"},
    ) as cluster:
        seen.append([cluster.name, count(cluster)])
        cluster.scale(2)
        seen.append(await until(cluster, 2))
        (worker, *_) = cluster.scheduler_info["workers"].values()
        seen.append([worker["nthreads"], worker["memory_limit"], worker["resources"]])
        async with Client(cluster, asynchronous=True) as client:
            seen.append(await client.submit(shop.price, 7, resources={"GPU": 2}))
            cluster.scale(1)
            seen.append(await until(cluster, 1))
            state = os.environ["ENVBOOT_STATE_DIR"] + "/local/" + cluster.launch
            deadline = time.monotonic() + 60
            while len(os.listdir(state)) > 2 and time.monotonic() < deadline:
                await asyncio.sleep(0.1)
            seen.append(len(os.listdir(state)))
            cluster.adapt(minimum=0, maximum=2, interval="200ms", wait_count=2)
            seen.append(await until(cluster, 0))
            seen.append(await client.submit(shop.price, 8))
            seen.append(count(cluster) > 0)
            # A machine that came later has it too.
            seen.append(await client.submit(lambda: os.environ["TOKEN"]))
            launch = os.environ["ENVBOOT_STATE_DIR"] + "/store/launches/" + cluster.launch
            seen.append(os.listdir(launch + "/secrets"))
    return seen
show(asyncio.run(main()))
"""
    )
    assert seen == [
        ["mine", 0],
        2,
        [1, 1 << 30, {"GPU": 2.0}],
        7,
        1,
        2,
        0,
        8,
        True,
        "of-whoever-calls",
        [],
    ]


REFUSED = (
    ('provisioner="loca"', "Unknown provisioner `loca`"),
    ('provisioner="aws", instance_typ="m6i.large"', "Did you mean `instance_type`?"),
    ('instance_type="m6i.large"', "Unknown option `instance_type`"),
    ('worker_options={"nthread": 1}', "Did you mean `nthreads`?"),
    ('provisioner="aws"', "Its machines cannot reach a folder of this one"),
    ('environ={"A": 1}', "Expected variables and strings in `environ`"),
    ('environ={"A B": "1"}', "Expected variables and strings in `environ`"),
    ('secrets="TOKEN"', "Expected `secrets` as names of variables"),
    ('secrets=["ABSENT_HERE"]', "Cannot pass `ABSENT_HERE` as a secret: not set"),
    ('secrets={"A": "b"}, environ={"A": "b"}', "both in plain text and as a secret"),
    ('secrets={"DASK_SCHEDULER_ADDRESS": "x"}', "the cluster sets them itself"),
    ('env_file="absent"', "Cannot read `absent` for env file"),
    ("n_worker=1", "Did you mean `n_workers`?"),
    ('provisioner="aws", store="s3://bucket"', "needs the extra `aws` of envboot"),
    ('n_workers="2"', "Expected `n_workers` as a number"),
    ("timeout=-1", "Expected `timeout` in seconds above 0"),
    ('expires="1 hour"', "Expected a duration of at most `7d`"),
    ("worker_options=['--nthreads']", "Expected a mapping as `worker_options`"),
    ('environment="no-such"', "no-such"),
    ('package_sync_ignore=["distributed"]', "`distributed`: Dask needs it"),
)


@pytest.fixture(scope="module")
def refusals(_project: Project) -> dict[str, str]:
    """What each of these arguments is told, by one script: to import Dask takes two seconds."""
    lines = [HEAD, "seen = {}"]
    for arguments, _ in REFUSED:
        lines += ["try:", f"    Cluster({arguments})", "except Exception as error:"]
        lines.append(f"    seen[{arguments!r}] = str(error)")
    told: dict[str, str] = _project.ask("\n".join([*lines, "show(seen)"]))
    return told


@pytest.mark.parametrize(("arguments", "words"), REFUSED)
def test_what_cannot_work_is_refused_before_anything_starts(
    project: Project, refusals: dict[str, str], arguments: str, words: str
) -> None:
    assert words in refusals[arguments]
    assert project.machines() == []


def test_a_spot_worker_that_is_taken_back_hands_on_what_it_holds(project: Project) -> None:
    seen = project.ask(
        HEAD
        + """
import pathlib, subprocess
from envboot.cluster.dask_commands import RETIRE
with Cluster(
    n_workers=2, worker_options={"nthreads": 1, **BARE}, scheduler_options=BARE, quiet=True
) as cluster:
    client = Client(cluster)
    client.wait_for_workers(2, timeout=180)
    addresses = {w["name"]: a for a, w in cluster.scheduler_info["workers"].items()}
    future = client.submit(shop.price, 7, workers=[addresses[0]], allow_other_workers=True)
    future.result()
    instance = cluster.workers[0].instance
    # What the agent does at a notice: the hook, with the variables of the worker.
    environ = {}
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            pairs = (entry / "environ").read_bytes().decode().split("\\0")
        except OSError:
            continue
        found = dict(pair.partition("=")[::2] for pair in pairs)
        if found.get("ENVBOOT_ROOT") == str(instance.root) and "ENVBOOT_DASK_NAME" in found:
            environ = found
    for notice in ("maintenance", "spot-interruption"):
        # The first one asks for nothing.
        assert len(cluster.scheduler_info["workers"]) == 2
        told = {**environ, "ENVBOOT_NOTICE": notice}
        subprocess.run(["/bin/sh", "-c", RETIRE], env=told, check=True)
    result = future.result()
    client.wait_for_workers(2, timeout=180)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        after = {w["name"]: a for a, w in cluster.scheduler_info["workers"].items()}
        if set(after) == {0, 1} and after[0] != addresses[0]:
            break
        time.sleep(0.1)
    def count(dask_scheduler):
        log = [list(row) for row in dask_scheduler.transition_log]
        return sum(1 for row in log if str(row[0]).startswith("price") and row[2] == "processing")
    starts = client.run_on_scheduler(count)
    show([result, starts, after[0] != addresses[0], after[1] == addresses[1]])
    client.close()
"""
    )
    assert seen == [7, 1, True, True]


def test_a_published_environment_or_a_manifest_is_taken_instead_of_this_one(
    project: Project,
) -> None:
    words = ["--host-python", "--python", str(project.python), "--no-loose"]
    project.envboot("env", "publish", "mine", *words)
    manifest = project.folder / "mine.json"
    project.envboot("lock", *words, "-o", str(manifest))
    # Nobody reads what is here by now.
    project.write_shop(9)
    seen = project.ask(
        HEAD
        + f"""
def price(number):
    import shop
    return shop.price(number)
seen = []
for environment in ("mine@latest", {str(manifest)!r}):
    with Cluster(
        n_workers=1, worker_options=BARE, scheduler_options=BARE, environment=environment,
        quiet=True,
    ) as cluster:
        client = Client(cluster)
        seen.append(client.submit(price, 5, pure=False).result())
        client.close()
show([seen, shop.price(5)])
"""
    )
    assert seen == [[5, 5], 45]


def test_a_script_that_closes_nothing_leaves_nothing_and_ends_in_peace(project: Project) -> None:
    done = project.run(
        HEAD
        + """
cluster = Cluster(n_workers=1, worker_options=BARE, scheduler_options=BARE, quiet=True)
client = Client(cluster)
show(client.submit(shop.price, 3).result())
"""
    )
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert project.machines() == []
    assert project.processes() == []


def test_ctrl_c_while_a_cluster_starts_leaves_nothing(project: Project) -> None:
    (project.folder / "work").mkdir(exist_ok=True)
    (project.folder / "work/hang_here.py").write_text(HANG)
    for seconds in (1.0, 2.5, 4.0):
        done = project.run(
            HEAD
            + f"""
import signal, threading
# A real signal: Dask waits in pieces of ten seconds, which nothing else cuts short.
threading.Timer({seconds}, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    Cluster(n_workers=1, scheduler_options={{"preload": "hang_here"}}, quiet=True)
except KeyboardInterrupt:
    show("interrupted")
"""
        )
        assert done.stdout == '"interrupted"\n', done.stdout + done.stderr
        assert project.machines() == []
        assert project.processes() == []


def test_sigterm_of_the_client_ends_the_machines_too(project: Project) -> None:
    done = project.run(
        HEAD
        + """
import signal, threading
cluster = Cluster(n_workers=1, worker_options=BARE, scheduler_options=BARE, quiet=True)
threading.Timer(1, os.kill, (os.getpid(), signal.SIGTERM)).start()
time.sleep(60)
"""
    )
    assert done.returncode == 128 + 15, done.stderr
    assert project.machines() == []
    assert project.processes() == []


def test_a_cluster_whose_scheduler_has_ended_says_so_and_ends_in_peace(project: Project) -> None:
    text, status, refused, took = project.ask(
        HEAD
        + """
import pathlib, signal
cluster = Cluster(n_workers=1, worker_options=BARE, scheduler_options=BARE, quiet=True)
cluster.wait_for_workers(1, timeout=180)
mark = f"ENVBOOT_ROOT={cluster._machines.scheduler.root}".encode()
for entry in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        if mark in (entry / "environ").read_bytes():
            os.kill(int(entry.name), signal.SIGKILL)
    except OSError:
        pass
deadline = time.monotonic() + 60
while cluster.status.name != "failed" and time.monotonic() < deadline:
    time.sleep(0.1)
status = cluster.status.name
try:
    cluster.scale(2)
except Exception as error:
    refused = str(error)
said = cluster.logs()["Cluster"]
start = time.monotonic()
cluster.close()
show([said, status, refused, time.monotonic() - start])
"""
    )
    assert "The scheduler has ended" in text
    assert "AssertionError" not in text
    assert status == "failed"
    assert "The scheduler has ended" in refused
    # Nobody tries to reach it, which would take the project's timeout for connections: 60 s.
    assert took < 30
    assert project.machines() == []
    assert project.processes() == []
