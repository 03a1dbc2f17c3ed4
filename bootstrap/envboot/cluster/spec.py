"""What a cluster is to be, checked before anything is scanned or started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from envboot.cluster.arguments import DEFAULTS, split_options
from envboot.cluster.dask_commands import SCHEDULER, WORKER, compose
from envboot.cluster.tls import OWN
from envboot.command_secrets import SecretOptions, Secrets, read_secrets, refuse_places
from envboot.errors import UsageError, name_some
from envboot.fleet.life import parse_lifetime
from envboot.package_sync import PackageSyncOptions, read_demands, selection_from
from envboot.publish.grants import Auth
from envboot.text import is_variable_name
from envboot_provisioners import load_provisioner
from envboot_provisioners.option_values import (
    add_settings,
    own_options,
    read_keywords,
    split_cloud,
)

if TYPE_CHECKING:
    from pathlib import Path

    from envboot.cluster.arguments import OwnOptions
    from envboot.fleet.life import Lifetime
    from envboot.manifest import Manifest
    from envboot.package_sync import FailOn
    from envboot.selection import Selection
    from envboot.session import Session
    from envboot.userdata.contents import Imds
    from envboot_provisioners import Options, Provisioner


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterSpec:
    """One cluster: on which machines, with which environment, and how its processes start.

    `source` is what is taken instead of the running interpreter's environment, `selection` what
    of it, and `strict` and `fail_on` which differences are refused. `environ` are variables of
    scheduler, workers and tasks; so are `secrets`, which user-data does not have. `seconds` is how
    long signed URLs live, `life` how long each machine may, `timeout` are those within which the
    scheduler must answer. `hook` is a shell command for when a platform is about to take a machine
    back. `imds` is as in `Job`.
    """

    provisioner: Provisioner
    options: Options
    store: str
    session: Session
    auth: Auth
    selection: Selection
    strict: bool
    fail_on: FailOn
    source: str | Path | Manifest | None
    scheduler: tuple[str, ...]
    worker: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=dict)
    secrets: Secrets = field(default_factory=Secrets)
    timeout: float
    seconds: int
    life: Lifetime
    hook: str | None = None
    imds: Imds | None = None

    @property
    def steady(self) -> Options:
        """The scheduler's options: a cluster whose scheduler is taken back is lost."""
        spot = {option.name for option in self.provisioner.options if option.spot}
        return {name: value for name, value in self.options.items() if name not in spot}


def make_spec(given: Mapping[str, Any], session: Session) -> ClusterSpec:
    """Read the keyword arguments of a cluster.

    Raises:
        UsageError: an option is unknown, or of another type; or machines could not reach the
            bucket.
    """
    options, rest = split_options(given)
    strict, cuda = options["package_sync_strict"], options["cuda"]
    fail_on = read_demands(strict=strict, fail_on=options["package_sync_fail_on"])
    every: Any = options
    chosen = {name: every[name] for name in PackageSyncOptions.__annotations__}
    selection = selection_from(**chosen, cuda=cuda)
    scheduler_options, worker_options, environ = _read_mappings(options)
    seconds: Any = options["timeout"]
    if not isinstance(seconds, (int, float)) or seconds <= 0:
        raise UsageError(f"Expected `timeout` in seconds above 0, found `{seconds!r:.40}`")
    provisioner, store = options["provisioner"], options["store"] or session.store
    maker = load_provisioner(provisioner, session)
    known = own_options(maker)
    owner = f"`provisioner={provisioner!r}`"
    keywords = read_keywords(known, rest, owner, ("n_workers", *DEFAULTS))
    cloud, own = split_cloud(add_settings(provisioner, known, keywords, session.settings))
    if maker.is_remote and store.startswith("file:"):
        raise UsageError(
            f"Cannot make a cluster on `{provisioner}` with the bucket `{store}`",
            causes=("Its machines cannot reach a folder of this one",),
            hint='Give a bucket that they can reach, as in `store="s3://bucket/prefix"`',
        )
    for name, value in environ.items():
        if not (isinstance(name, str) and is_variable_name(name) and isinstance(value, str)):
            seen = f"`{name!r:.40}: {value!r:.40}`"
            raise UsageError(
                f"Expected variables and strings in `environ`, found {seen}",
                hint='As in `environ={"OMP_NUM_THREADS": "1"}`',
            )
    return ClusterSpec(
        provisioner=maker,
        options=own,
        store=store,
        session=session,
        auth=Auth(cloud.auth),
        selection=selection,
        strict=strict,
        fail_on=fail_on,
        source=options["environment"],
        scheduler=compose(
            SCHEDULER,
            _add_preloads("scheduler", scheduler_options, environ),
            keyword="scheduler_options",
        ),
        worker=compose(
            WORKER, _add_preloads("worker", worker_options, environ), keyword="worker_options"
        ),
        environ=environ,
        secrets=_read_secrets(options, session, environ, maker),
        timeout=seconds,
        seconds=read_expiry(options["expires"]),
        life=parse_lifetime(options["max_life"], None, has_command=True),
        hook=cloud.hook,
        imds=cloud.imds,
    )


def _read_mappings(
    options: OwnOptions,
) -> tuple[Mapping[str, Any], Mapping[str, Any], Mapping[Any, Any]]:
    """Return options of the scheduler, of workers, and variables; each may be left out."""
    found: dict[str, Any] = {
        "worker_options": options["worker_options"] or {},
        "scheduler_options": options["scheduler_options"] or {},
        "environ": options["environ"] or {},
    }
    for name, mapping in found.items():
        if not isinstance(mapping, Mapping):
            raise UsageError(
                f"Expected a mapping as `{name}`, found `{mapping!r:.60}`",
                hint='As in `worker_options={"nthreads": 2}`',
            )
    return found["scheduler_options"], found["worker_options"], found["environ"]


def _read_secrets(
    options: OwnOptions, session: Session, environ: Mapping[str, str], provisioner: Provisioner
) -> Secrets:
    """Return the secrets of scheduler and workers; raises `UsageError`."""
    specs, file = options["secrets"] or (), options["env_file"]
    if isinstance(specs, str) or not isinstance(specs, (Mapping, Sequence)):
        raise UsageError(
            "Expected `secrets` as names of variables, or as a mapping with their values",
            hint='As in `secrets=["API_TOKEN"]`',
        )
    given = SecretOptions(specs=specs, files=(file,) if file else ())
    found = read_secrets(given, session, variables=environ)
    own = [name for name in (*found.values, *found.managed) if name.startswith(OWN)]
    if own:
        raise UsageError(f"Cannot pass {name_some(own)} as secrets: the cluster sets them itself")
    refuse_places(found, owner=f"`provisioner={provisioner.name!r}`", cloud=provisioner.role)
    return found


def _add_preloads(
    role: str, options: Mapping[str, Any], environ: Mapping[str, str]
) -> Mapping[str, Any]:
    """Return the options with modules that variables name: Dask heeds those or options alone."""
    import dask.config

    named = dask.config.get(
        f"distributed.{role}.preload", default=[], config=dask.config.collect_env(environ)
    )
    if not named or "preload" in options:
        return options
    return {**options, "preload": [named] if isinstance(named, str) else list(named)}


def read_expiry(expires: float | str) -> int:
    """Return for how many seconds URLs are signed: of `24h` and its like, or of a number.

    Raises:
        UsageError: it is neither, or longer than seven days.
    """
    from envboot.duration import parse_duration

    is_number = isinstance(expires, (int, float)) and not isinstance(expires, bool)
    return parse_duration(f"{int(expires)}s" if is_number else str(expires))
