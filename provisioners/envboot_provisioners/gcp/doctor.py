"""What stands in the way of a launch on Compute Engine, found by asking; nothing is started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from google.auth.exceptions import GoogleAuthError

from envboot.doctor.check import Check, to_check
from envboot.errors import ProvisionError, name_some
from envboot_provisioners.gcp.clients import RETRY, TIMEOUT
from envboot_provisioners.gcp.errors import FAULTS, explain, find_status, tell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from envboot_provisioners import Options
    from envboot_provisioners.gcp.clients import GcpClients
    from envboot_provisioners.gcp.request import GcpPlan

NEEDED = (
    "compute.disks.create",
    "compute.disks.setLabels",
    "compute.instances.create",
    "compute.instances.delete",
    "compute.instances.getSerialPortOutput",
    "compute.instances.list",
    "compute.instances.setLabels",
    "compute.instances.setMetadata",
    "compute.machineTypes.get",
    "compute.machineTypes.list",
    "compute.networks.get",
    "compute.regions.get",
    "compute.subnetworks.get",
    "compute.subnetworks.use",
    "compute.zoneOperations.get",
    "compute.zoneOperations.list",
    "compute.zones.list",
)


class GcpPlanner(Protocol):
    """What finds the services, and what a launch asks of them."""

    def find_clients(self, place: str | None = None, /) -> GcpClients:
        """Return the services of a place, by default the configured one."""

    def find_plan(self, options: Options, *, by_role: bool = False) -> GcpPlan:
        """Look up what the options ask for."""


def find_needed(plan: GcpPlan) -> list[str]:
    """Return the permissions in the project that a launch of this plan, and its end, needs.

    `iam.serviceAccounts.actAs` is one on the service account; images are mostly another
    project's, and looked up before this is asked.
    """
    spec, needed = plan.spec, set(NEEDED)
    if spec.public_ip is not False:
        needed.add("compute.subnetworks.useExternalIp")
    if spec.tags:
        needed.add("compute.instances.setTags")
    if spec.service_account:
        needed.add("compute.instances.setServiceAccount")
    return sorted(needed)


def check_gcp(
    provisioner: GcpPlanner, options: Options, *, by_role: bool = False, count: int = 1
) -> Iterator[Check]:
    """Check everything that a launch with these options asks of Google, in its order."""
    from envboot_provisioners.gcp.options import read_spec

    spec, _ = read_spec(options)
    try:
        clients = provisioner.find_clients(spec.project)
    except ProvisionError as error:
        yield to_check("gcp project", error)
        return
    yield Check(name="gcp project", status="ok", detail=f"`{clients.project}`")
    try:
        plan = provisioner.find_plan(options, by_role=by_role)
    except ProvisionError as error:
        yield to_check("gcp options", error)
        return
    kind, zones = plan.spec.machine_type, name_some(list(plan.zones))
    detail = f"`{kind}` ({plan.platform}) with `{plan.image.path}` in {zones}"
    yield Check(name="gcp options", status="ok", detail=detail)
    yield _check_permissions(clients, plan)
    yield _check_quota(clients, plan, count)


def _check_permissions(clients: GcpClients, plan: GcpPlan) -> Check:
    """Ask which permissions this identity has in the project."""
    name, needed = "gcp permissions", find_needed(plan)
    try:
        allowed = set(clients.find_allowed(needed))
    except FAULTS as error:
        told = explain(error, "Nobody tells", clients.credentials)
        if find_status(error) == 401 or isinstance(error, GoogleAuthError):
            return to_check(name, told)
        hint = told.hint
        if find_status(error) == 403:
            enable = "gcloud services enable cloudresourcemanager.googleapis.com"
            hint = f"`{enable}` lets them be asked"
        detail = f"Nobody tells: {told.causes[0]}"
        return Check(name=name, status="skipped", detail=detail, hint=hint)
    denied = [permission for permission in needed if permission not in allowed]
    # A shared VPC's subnet, and the right to use it, are another project's.
    if plan.subnet and not plan.subnet.startswith(f"projects/{plan.project}/"):
        denied = [each for each in denied if not each.startswith("compute.subnetworks.")]
    if denied:
        return Check(
            name=name,
            status="failed",
            detail=f"May not {name_some(denied, most=len(denied))}",
            hint="Grant them to this identity; docs/gcp.md has a whole role",
        )
    return Check(name=name, status="ok", detail=f"Has all {len(needed)} that a launch needs")


def _check_quota(clients: GcpClients, plan: GcpPlan, count: int) -> Check:
    """Compare the region's quota of processors with what so many instances take of it.

    Newer families have quotas of their own, which this list does not show.
    """
    name = "gcp quota"
    metric = "PREEMPTIBLE_CPUS" if plan.spec.spot else "CPUS"
    try:
        found = clients.regions.get(
            request={"project": plan.project, "region": plan.region}, retry=RETRY, timeout=TIMEOUT
        )
        types = clients.machine_types.get(
            request={
                "project": plan.project,
                "zone": plan.zones[0],
                "machine_type": plan.spec.machine_type,
            },
            retry=RETRY,
            timeout=TIMEOUT,
        )
    except FAULTS as error:
        return Check(name=name, status="skipped", detail=f"It is not told: {tell(error)}")
    quota = next((quota for quota in found.quotas if quota.metric == metric), None)
    if quota is None or (metric != "CPUS" and not quota.limit):
        # Without a limit of their own Spot instances count against the common one.
        quota = next((quota for quota in found.quotas if quota.metric == "CPUS"), None)
    if quota is None:
        return Check(name=name, status="skipped", detail=f"`{metric}` is not told")
    left, each = int(quota.limit - quota.usage), max(types.guest_cpus, 1)
    detail = f"`{quota.metric}` in `{plan.region}` has {left} left, for {left // each} instances"
    if left < each * count:
        return Check(
            name=name,
            status="failed",
            detail=detail,
            hint="Ask for more at `https://console.cloud.google.com/iam-admin/quotas`",
        )
    return Check(name=name, status="ok", detail=detail)
