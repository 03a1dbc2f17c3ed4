"""Jobs shared out over forked processes: several processes write files faster than threads."""

from __future__ import annotations

import ctypes
import json
import os
import signal
from typing import Any, Callable, List

from .wire import AgentError, line


def run(
    jobs: int, work: Callable[[int], Any], done: Callable[[int, Any], None], processes: int
) -> None:
    """Call `work(i)` for each i below `jobs`, each in one of some forked processes.

    `done(i, result)` is called here as results (small JSON values) arrive, in any order.
    Processes take jobs from a pipe, one at a time, so a slow one takes fewer. The pipe never holds
    more than two a process: one that is full would block us before anyone reads it.

    Raises:
        AgentError: one of the jobs raised; the other processes are ended first.
    """
    queue, feed = os.pipe()
    answers, results = os.pipe()
    waiting = iter(range(jobs))
    children: List[int] = []
    with open(answers, "rb") as stream, open(feed, "wb", 0) as feeder:

        def hand_out() -> None:
            for number in waiting:
                feeder.write(b"%8d" % number)
                return
            feeder.close()

        try:
            for _ in range(min(processes, jobs)):
                pid = os.fork()
                if not pid:
                    feeder.close()
                    _serve(queue, results, work)
                children.append(pid)
            os.close(results)
            for _ in range(2 * processes):
                hand_out()
            for answer in stream:
                number, result, error = json.loads(answer)
                if error:
                    raise AgentError(error)
                done(number, result)
                jobs -= 1
                hand_out()
            if jobs:
                raise AgentError("a worker process was killed")
        finally:
            # Until here: without a reader, handing out would fail.
            os.close(queue)
            for pid in children:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _serve(queue: int, results: int, work: Callable[[int], Any]) -> None:
    """Work on jobs until the queue is empty; never returns."""
    # Workers of a killed agent must not go on writing into its folders (PR_SET_PDEATHSIG).
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    number, result, error = -1, None, ""
    while True:
        job = os.read(queue, 8)
        if not job:
            os._exit(0)
        try:
            number = int(job)
            result = work(number)
        except Exception as caught:
            error = line(caught)[:300]
        # Less than PIPE_BUF (4,096 bytes), with 12 for each character at worst: lines of several
        # processes never mix.
        os.write(results, json.dumps([number, result, error]).encode() + b"\n")
