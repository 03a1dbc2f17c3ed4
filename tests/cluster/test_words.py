"""What scheduler and workers are started with."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import cloudpickle  # type: ignore[import-untyped]
import pytest

from envboot.cluster.batch import Batch
from envboot.cluster.dask_commands import (
    HTTP,
    SCHEDULER,
    WORKER,
    compose,
    place_scheduler,
    place_worker,
)
from envboot.cluster.reload import forget_layer
from envboot.cluster.tls import Authority, compose_secret
from envboot.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def test_options_of_python_become_words_of_dasks_programs() -> None:
    options = {
        "nthreads": 2,
        "memory_limit": "4GiB",
        "resources": {"GPU": 1, "MEM": 2},
        "nanny": False,
        "dashboard": True,
        "preload": ["a.py", "b"],
        "death_timeout": None,
    }
    assert compose(WORKER, options, keyword="worker_options") == (
        "python", "-m", WORKER, "--preload", HTTP, "--nthreads", "2", "--memory-limit", "4GiB",
        "--resources", "GPU=1 MEM=2", "--no-nanny", "--dashboard",
        "--preload", "a.py", "--preload", "b",
    )  # fmt: skip


def test_dasks_own_program_takes_every_word() -> None:
    import click
    from distributed.cli import dask_scheduler, dask_worker

    worker = compose(WORKER, {"nthreads": 2, "resources": {"GPU": 1}}, keyword="worker_options")
    scheduler = compose(SCHEDULER, {"idle_timeout": "1 hour"}, keyword="scheduler_options")
    words = (*worker[3:], *place_worker("tls://127.1.2.3:8786", 7, "127.1.2.4"))
    read = dask_worker.main.make_context("worker", list(words)).params
    assert (read["scheduler"], read["name"], read["host"]) == (
        "tls://127.1.2.3:8786",
        "7",
        "127.1.2.4",
    )
    assert read["dashboard_address"] == "127.1.2.4:0"
    assert read["resources"] == "GPU=1"
    read = dask_scheduler.main.make_context(
        "scheduler", [*scheduler[3:], *place_scheduler("127.1.2.3")]
    ).params
    assert (read["host"], read["port"], read["protocol"]) == ("127.1.2.3", "8786", "tls")
    assert isinstance(dask_worker.main, click.Command)


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"nthread": 2}, "Did you mean `nthreads`?"),
        ({"qqqqqq": 2}, "Known are "),
        # The cluster's own: whoever could set them would lead the worker elsewhere.
        ({"name": "me"}, "Known are "),
        ({"tls_key": "key.pem"}, "Known are "),
    ],
)
def test_an_option_that_dask_does_not_have_is_refused(
    options: dict[str, object], hint: str
) -> None:
    with pytest.raises(UsageError, match=r"Unknown option `\w+` in `worker_options`") as told:
        compose(WORKER, options, keyword="worker_options")
    assert told.value.hint is not None
    assert hint in told.value.hint


def test_members_of_a_cluster_are_configured_by_variables_alone() -> None:
    from dask.config import collect_env, get

    authority = Authority()
    secret = compose_secret(authority, "worker", scheduler="tls://10.0.0.1:8786", name=3)
    config = collect_env(secret)
    assert get("distributed.comm.tls.ca-file", config=config) == authority.certificate
    own = get("distributed.comm.tls.worker", config=config)
    assert own["cert"].startswith("-----BEGIN CERTIFICATE-----\n")
    # As a client, too, it is itself and nobody else.
    assert get("distributed.comm.tls.client", config=config) == own
    assert get("distributed.comm.require-encryption", config=config) is True
    assert get("scheduler-address", config=config) == "tls://10.0.0.1:8786"
    assert secret["ENVBOOT_DASK_NAME"] == "3"


def test_no_two_clusters_have_the_same_key() -> None:
    first, second = (compose_secret(Authority(), "worker") for _ in range(2))
    assert first.keys() == second.keys()
    assert all(first[name] != second[name] for name in first if name.endswith("KEY"))


def test_what_is_asked_at_once_is_answered_by_one_call() -> None:
    calls: list[list[int]] = []

    def answer(keys: list[int]) -> dict[int, int]:
        assert threading.current_thread() is not threading.main_thread()
        calls.append(keys)
        return {key: key * key for key in keys}

    async def main() -> list[int]:
        batch: Batch[int, int] = Batch(answer)
        first = await asyncio.gather(*(batch.ask(key) for key in (1, 2, 3, 2)))
        return [*first, await batch.ask(9)]

    assert asyncio.run(main()) == [1, 4, 9, 4, 81]
    assert calls == [[1, 2, 3], [9]]


def test_everyone_who_waits_gets_the_error() -> None:
    def refuse(keys: list[int]) -> dict[int, int]:
        raise UsageError(f"no room for {len(keys)}")

    async def main() -> list[BaseException | int]:
        batch: Batch[int, int] = Batch(refuse)
        asked = [batch.ask(1), batch.ask(2)]
        return await asyncio.gather(*asked, return_exceptions=True)

    assert [str(error) for error in asyncio.run(main())] == ["no room for 2"] * 2


@pytest.mark.subprocess
def test_a_scheduler_without_envboot_forgets_the_layers_modules_and_those_that_are_gone(
    tmp_path: Path,
) -> None:
    code = """
import sys
sys.prefix = sys.argv[2]
sys.path.insert(0, sys.prefix + "/lib")
import mine, gone, stays
import os
os.unlink(gone.__file__)
import cloudpickle
assert "envboot" not in sys.modules
print(sorted(cloudpickle.loads(bytes.fromhex(sys.argv[1]))()))
assert "stays" in sys.modules and "mine" not in sys.modules
"""
    (tmp_path / "lib/envboot").mkdir(parents=True)
    (tmp_path / "lib/envboot/layer.txt").write_text("lib/mine.py\n")
    for name in ("mine", "gone", "stays"):
        (tmp_path / f"lib/{name}.py").write_text("")
    done = subprocess.run(
        [sys.executable, "-c", code, forget_layer().hex(), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert (done.stdout, done.returncode) == ("['gone', 'mine']\n", 0), done.stderr
    assert callable(cloudpickle.loads(forget_layer()))
