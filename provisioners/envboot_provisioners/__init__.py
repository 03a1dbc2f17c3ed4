"""Platforms that instances run on, found through the entry-point group `envboot.provisioners`.

The group is open: a distribution that has an entry point there, naming a class that is made with
a session and fulfils `Provisioner`, adds a subcommand of `envboot launch`, a table below
`[tool.envboot]` and a value of `Cluster(provisioner=…)`. The protocol may change from one version
of envboot to the next while versions begin with 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from envboot.errors import ProvisionError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from envboot.doctor.check import Check
    from envboot.session import Session
    from envboot.userdata import LaunchPath

GROUP = "envboot.provisioners"


Options: TypeAlias = "Mapping[str, str | tuple[str, ...]]"
"""What the user set: by an option's name, without `--`; an option of kind `list` has a tuple."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """One option of a provisioner's launches, and key of its table of settings.

    A `flag` that is set has the value `true`, a `number` its digits. A `list` may be repeated.
    With `spot` it concerns only instances that the platform may take back.
    """

    name: str
    help: str
    kind: Literal["text", "number", "flag", "list"] = "text"
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    spot: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Instance:
    """One machine of a launch. `name` is unique for ever, and what the machine reports under.

    `folder` is its place on this machine, `root` its file system where that can be read.
    `details` are words about it for people, by what they are (`type`, `zone`, …). `address` is
    where the launch's other instances reach it, `public_address` where others do, if it has one
    and the platform tells it by then (`State.public_address` tells it later). `identity` is what
    policies of its role call it, where they can name a single instance.
    """

    name: str
    launch: str
    folder: Path | None = None
    root: Path | None = None
    pid: int | None = None
    details: Mapping[str, str] = field(default_factory=dict)
    address: str | None = None
    public_address: str | None = None
    identity: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class State:
    """How an instance is, in its platform's own word.

    `alive` says that it runs, or is about to; `reason` is why it does not, where that is told.
    `public_address` is where others than the launch's instances reach it, once that is known.
    """

    alive: bool
    word: str
    reason: str | None = None
    public_address: str | None = None

    @classmethod
    def of_process(cls, *, alive: bool) -> State:
        """Return the state of an instance that is a process of this machine."""
        return cls(alive=alive, word="running" if alive else "idle")


@dataclass(frozen=True, kw_only=True, slots=True)
class StartRequest:
    """What to start: the same rendered user-data for every instance.

    `encoding` is `base64` where the user-data is such text. `fixed_prefix` says that the
    environment works at its prefix only (a conda one does). `room` is how many bytes of disk the
    environment may need, beside the image's own. `first` is how many instances of the launch
    were asked for before, in calls that failed too: names and what makes a call known are given
    once, in whatever number of calls a launch is started. `end` (seconds since 1970) is when
    instances end by themselves, for platforms that can see to that as well.
    """

    launch: str
    count: int
    user_data: bytes
    fixed_prefix: bool
    encoding: str | None = None
    room: int = 0
    shared: bool = False
    options: Options = field(default_factory=dict)
    first: int = 0
    end: int | None = None


class Provisioner(Protocol):
    """Makes and ends instances on one platform.

    Instances report through the bucket, so a provisioner only starts them, says whether they
    still run, shows their console and ends them. Errors are `ProvisionError`. It reads variables
    and paths from the session that it is made with, never from the process.
    """

    name: str
    is_remote: bool
    """Whether instances run elsewhere: there every question is a request that counts."""
    guest_loopback: str | None
    """The name by which an instance reaches the loopback of the machine that launches, if it can.

    None says that no instance can use a `file://` bucket, and goes with `is_remote`.
    """
    host_python: bool
    """Whether a non-conda environment may use this machine's own interpreter."""
    role: str | None
    """Whose credentials an instance can have by its role (`RoleAccess.kind`), None for no role."""
    ends_instances: bool
    """Whether the platform itself ends instances at their time, which then cannot be moved."""
    options: tuple[Option, ...]
    """What `launch` takes for it, beside what it takes for all."""

    def check(self, options: Options, *, by_role: bool = False) -> str | None:
        """Refuse, before anything is scanned or built, what could never start.

        With `by_role` the instances must have a role. Returns the one platform that such
        instances can be, None where the user has the choice.
        """

    def render_for(self, options: Options) -> LaunchPath:
        """Return how such instances get their user-data, without asking anyone.

        The limit, encoding and parts of the user-data obey it. A platform that has no member of
        its own takes one whose document it can deliver: with cloud-init `NOCLOUD` where no limit
        matters, else `EC2` (16,384 bytes, raw) or `GCE` (262,144 bytes, text); without cloud-init
        `GCE_STARTUP_SCRIPT`, or `LOCAL` for a script that is run as `ENVBOOT_ROOT` says.
        """

    def is_interruptible(self, options: Options) -> bool:
        """Whether the platform may take such an instance back, and tells it shortly before."""

    def place(self, options: Options) -> dict[str, str]:
        """Return where such instances will be, by what it is: `account`, `region`, `host`, …

        The launch is recorded with it, and `instances` is given it later, from anywhere.
        """

    def start(self, request: StartRequest) -> list[Instance]:
        """Start every instance, or none: what was started is ended again before raising."""

    def states(self, instances: Sequence[Instance]) -> dict[str, State]:
        """Return how each instance is, by its name; one that nobody knows any more has ended."""

    def console(self, instance: Instance) -> str:
        """Return what the instance printed so far on its console."""

    def instances(
        self, launch: str | None = None, place: Mapping[str, str] | None = None
    ) -> list[Instance]:
        """Return every instance that was started from this machine and not ended yet.

        With `launch` the instances of that one, wherever it was started from. With `place`, which
        may be empty and is not to be trusted, they are looked for there, and none is returned only
        where none is left.

        Raises:
            UnseenError: nobody here can see what is at that place.
        """

    def forget(self, launch: str) -> None:
        """Look no more for instances of a launch that is over, as when it was ended elsewhere."""

    def terminate(self, instances: Sequence[Instance], *, keep: bool = False) -> None:
        """End the instances; with `keep`, leave their folders or disks behind.

        Raises:
            ProvisionError: some could not be ended; it names every one of them.
        """

    def doctor(self, options: Options, *, by_role: bool = False, count: int = 1) -> Iterator[Check]:
        """Check, by trying, everything that a launch of `count` such instances needs.

        Starts nothing, and raises nothing: what fails is a check's outcome.
        """


def provisioner_names() -> list[str]:
    """Return the names of the installed provisioners, sorted."""
    return sorted(point.name for point in entry_points(group=GROUP))


def load_provisioner(name: str, session: Session) -> Provisioner:
    """Return a provisioner by its name, for one session.

    Raises:
        UsageError: none of that name is installed.
        ProvisionError: the distribution that has it cannot be imported.
    """
    for point in entry_points(group=GROUP, name=name):
        try:
            make = point.load()
        except (ImportError, AttributeError) as error:
            owner = point.dist.name if point.dist else point.value
            raise ProvisionError(
                f"Failed to load provisioner `{name}` of `{owner}`",
                causes=(str(error),),
                hint=f"Install `{owner}` again, or remove it",
            ) from error
        made: Provisioner = make(session)
        return made
    names = ", ".join(f"`{known}`" for known in provisioner_names())
    raise UsageError(f"Unknown provisioner `{name}`", hint=f"Installed are {names}")
