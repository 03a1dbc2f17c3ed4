"""Where an environment's objects are in the bucket. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from envboot.manifest import Manifest


IDENTITY = "(?:arn:[^/]+/)?"
"""Pattern of what precedes an instance's name in the keys that a role of AWS writes."""


class Keys:
    """The keys of one environment.

    A layer is kept for a day, as long as most signed URLs live. With `lasting` the document lives
    longer: then it is beside its environment, which the bucket keeps. `other_layer` is the place
    that is not meant here.
    """

    def __init__(self, manifest: Manifest, *, lasting: bool = False) -> None:
        self.base = f"base/{manifest.base_digest.removeprefix('sha256:')}"
        self.archive, self.index = f"{self.base}/env.tar.zst", f"{self.base}/index.json"
        self.manifest = f"{self.base}/manifest.json"
        self.packages = f"packages/{manifest.base_digest.removeprefix('sha256:')}.tar"
        stem = f"environments/{manifest.environment_digest.removeprefix('sha256:')}"
        self.environment = f"{stem}.json"
        layer = manifest.layer
        short = f"layers/{layer.digest.removeprefix('sha256:')}.tar.zst" if layer else None
        long = f"{stem}.tar.zst" if layer else None
        self.layer, self.other_layer = (long, short) if lasting else (short, long)


def events_prefix(launch: str) -> str:
    """Return below which prefix the instances of a launch report what happens."""
    return f"reports/{launch}/events/"


def output_prefix(launch: str) -> str:
    """Return below which prefix the output of a launch's commands is."""
    return f"reports/{launch}/output/"


def key_output(launch: str, instance: str, number: int) -> str:
    """Return where one piece of a command's output is, from 1 on.

    `instance` is what policies call it, where it uses the bucket as its role.
    """
    return f"{output_prefix(launch)}{instance}/{number:09d}.bin"


def key_input(launch: str, number: int) -> str:
    """Return where one piece of the standard input of a launch's commands is.

    It begins as seats do, so that policies which let machines read those let them read this.
    """
    return f"launches/{launch}/seats-input-{number}.json"


def key_seats(launch: str, first: int) -> str:
    """Return where the seats of the instances are that were started after `first` others."""
    return f"launches/{launch}/seats-{first}.json"


def secrets_prefix(launch: str) -> str:
    """Return below which prefix everything is that a launch must not leave behind."""
    return f"launches/{launch}/secrets/"


def key_secret(launch: str, instance: str) -> str:
    """Return where an instance's secret is until it has been read.

    `instance` is what policies call it, where they can: then no other instance reads it.
    """
    return f"{secrets_prefix(launch)}{instance}.json"


def key_permit(launch: str, first: int) -> str:
    """Return where those started after `first` others find the right to publish, until they do.

    It lies with the secrets, since it is removed as they are.
    """
    return f"{secrets_prefix(launch)}permit-{first}.json"


def key_wanted(launch: str, number: int) -> str:
    """Return where a launch's wanted document of that number is, from 1 on."""
    return f"launches/{launch}/wanted-{number}.json"


def results_prefix(launch: str) -> str:
    """Return below which prefix the instances of a launch put what their commands made."""
    return f"reports/{launch}/results/"
