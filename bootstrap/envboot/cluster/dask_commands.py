"""What scheduler and workers are started with: options of Dask's own programs, as words. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from envboot.errors import UsageError, name_some

PORT, DASHBOARD = 8786, 8787
"""Where the scheduler of a cluster listens, for Dask and for browsers: Dask's own defaults."""

SCHEDULER, WORKER = "distributed.cli.dask_scheduler", "distributed.cli.dask_worker"
# Dask's own HTTP lets everybody read what runs, and offers no way to ask for a certificate.
HTTP = """\
from distributed.node import ServerNode
def listen(self, *args, **kwargs):
    context = self.security.get_listen_args("worker")["ssl_context"]
    return ServerNode.envboot_listen(self, *args, **{**kwargs, "ssl_options": context})
if not hasattr(ServerNode, "envboot_listen"):
    ServerNode.envboot_listen = ServerNode.start_http_server
    ServerNode.start_http_server = listen
"""
"""Loaded first by scheduler and workers, whose HTTP then is for members of the cluster only. Dask
takes what is no module's name for the text of one."""
_OURS = {
    "address", "contact-address", "dashboard-address", "dashboard-prefix", "help", "host",
    "interface", "listen-address", "name", "nworkers", "pid-file", "port", "protocol", "scheduler",
    "scheduler-file", "scheduler-sni", "show", "tls-ca-file", "tls-cert", "tls-key", "version",
}  # fmt: skip
"""What the cluster says itself, or what would lead a process away from it."""


def compose(module: str, options: Mapping[str, Any], *, keyword: str) -> tuple[str, ...]:
    """Return the command that starts a process of Dask, with options such as `nthreads=2`.

    Every option of the program (`dask worker --help`) may be given, by its Python name; mappings
    become `A=1 B=2`, sequences are repeated. `keyword` is the argument that they came by.

    Raises:
        UsageError: the program of the installed Dask has no such option, or the cluster sets it.
    """
    known = _read_options(module)
    words = ["python", "-m", module, "--preload", HTTP]
    for name, value in options.items():
        option = name.replace("_", "-")
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1)
            near_name = near[0].replace("-", "_") if near else None
            raise UsageError(
                f"Unknown option `{name}` in `{keyword}`",
                hint=f"Did you mean `{near_name}`?"
                if near_name
                else f"Known are {name_some(sorted(n.replace('-', '_') for n in known), most=99)}",
            )
        words += _to_words(option, value, is_flag=known[option])
    return tuple(words)


def _to_words(option: str, value: Any, *, is_flag: bool) -> list[str]:
    if value is None:
        return []
    if is_flag:
        return [f"--{option}" if value else f"--no-{option}"]
    if isinstance(value, Mapping):
        return [f"--{option}", " ".join(f"{key}={number}" for key, number in value.items())]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [word for item in value for word in (f"--{option}", str(item))]
    return [f"--{option}", str(value)]


def _read_options(module: str) -> dict[str, bool]:
    """Return the options of one of Dask's programs, and which of them are flags."""
    import importlib

    import click

    program = importlib.import_module(module).main
    return {
        name: bool(parameter.is_flag)
        for parameter in program.params
        if isinstance(parameter, click.Option)
        for name in (parameter.opts[-1].removeprefix("--"),)
        if name not in _OURS
    }


def place_scheduler(address: str) -> tuple[str, ...]:
    """Return what only the instance with that address adds: where its scheduler listens."""
    dashboard = ("--dashboard-address", f"{address}:{DASHBOARD}")
    return ("--protocol", "tls", "--host", address, "--port", str(PORT), *dashboard)


def place_worker(scheduler: str, name: object, address: str) -> tuple[str, ...]:
    """Return what only one worker adds: its scheduler, its name, where it listens."""
    # Without an address it would listen on all of them, at a random port.
    http = ("--dashboard-address", f"{address}:0")
    return (scheduler, "--name", str(name), "--host", address, *http)


RETIRE = (
    '[ "$ENVBOOT_NOTICE" != spot-interruption ] || '
    "python -c 'import os; from distributed import Client; "
    'name = os.environ["ENVBOOT_DASK_NAME"]; '
    "Client(timeout=20).retire_workers("
    "names=[int(name) if name.isdigit() else name], close_workers=True)'"
)
"""Run on a worker at a notice that its platform takes it back: its results go to the others first.

Of a notice that it may be, or is moved, nothing comes.
"""
