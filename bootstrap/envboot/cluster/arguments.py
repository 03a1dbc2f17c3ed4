"""The keyword arguments of `Cluster`: their types, their defaults, and those of the clouds."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, TypedDict

from envboot.package_sync import DEFAULTS as PACKAGE_SYNC
from envboot.package_sync import PackageSyncOptions
from envboot_provisioners.aws.options import OPTIONS as AWS
from envboot_provisioners.gcp.options import OPTIONS as GCP
from envboot_provisioners.option_values import CLOUD_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Literal

    from envboot.manifest import Manifest
    from envboot_provisioners import Option


class MachineOptions(TypedDict, total=False):
    """What `aws` and `gcp` take, as their `--help` has it; a test holds it to their tables."""

    auth: Literal["urls", "role"] | None
    on_interruption: str | None
    imds: Literal["allow", "deny"] | None
    instance_type: str | None
    machine_type: str | None
    image: str | None
    cloud_init: Literal["yes", "no"] | None
    project: str | None
    region: str | None
    zone: str | Sequence[str] | None
    network: str | None
    subnet: str | Sequence[str] | None
    security_group: str | Sequence[str] | None
    public_ip: Literal["yes", "no"] | None
    instance_profile: str | None
    service_account: str | None
    scope: str | Sequence[str] | None
    key: str | None
    root_size: int | None
    disk_type: str | None
    spot: bool | None
    spot_only: bool | None
    max_price: str | None
    placement: str | None
    shielded: Literal["yes", "no"] | None
    tag: str | Sequence[str] | None
    label: str | Sequence[str] | None


class PlainOptions(TypedDict, total=False):
    """What every cluster takes, wherever its machines are."""

    provisioner: str
    store: str | None
    environment: str | Path | Manifest | None
    name: str | None
    worker_options: Mapping[str, Any] | None
    scheduler_options: Mapping[str, Any] | None
    environ: Mapping[str, str] | None
    secrets: Sequence[str] | Mapping[str, str] | None
    env_file: str | Path | None
    timeout: float
    expires: float | str
    max_life: str
    cuda: str | None
    asynchronous: bool
    loop: Any
    quiet: bool
    shutdown_on_close: bool


class OwnOptions(PlainOptions, PackageSyncOptions, total=False):
    """The same, and which packages the machines get."""


class ClusterOptions(OwnOptions, MachineOptions, total=False):
    """Every keyword argument of `Cluster`."""


DEFAULTS: OwnOptions = {
    "provisioner": "local",
    "store": None,
    "environment": None,
    "name": None,
    "worker_options": None,
    "scheduler_options": None,
    "environ": None,
    "secrets": None,
    "env_file": None,
    "timeout": 900,
    "expires": "24h",
    "max_life": "7d",
    "cuda": None,
    "asynchronous": False,
    "loop": None,
    "quiet": False,
    "shutdown_on_close": True,
    **PACKAGE_SYNC,
}


def split_options(options: Mapping[str, Any]) -> tuple[OwnOptions, dict[str, Any]]:
    """Return what every cluster takes, with its defaults, and what is left for the provisioner."""
    own: Any = {name: options.get(name, default) for name, default in DEFAULTS.items()}
    return own, {name: value for name, value in options.items() if name not in DEFAULTS}


def describe_machine_options() -> str:
    """Return a line for each option of the clouds, as a docstring has them."""
    groups = {"`aws` and `gcp`": CLOUD_OPTIONS, "`aws`": AWS, "`gcp`": GCP}
    return "".join(
        f"\nOptions of {clouds}:\n" + "".join(map(_describe, options))
        for clouds, options in groups.items()
    )


def _describe(option: Option) -> str:
    text = f"{option.name.replace('-', '_')}: {' '.join(option.help.split())}"
    return textwrap.fill(text, 94, initial_indent=" " * 4, subsequent_indent=" " * 8) + "\n"
