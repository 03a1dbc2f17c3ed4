"""Instances on Google's Compute Engine. Its client is imported when Google is first asked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from envboot.errors import ProvisionError, UnseenError
from envboot.extras import require
from envboot_provisioners import State
from envboot_provisioners.cloud_records import FRESH, CloudRecords
from envboot_provisioners.clouds import (
    end_in_each,
    find_plan,
    group_instances,
    group_records,
    undo_start,
)
from envboot_provisioners.gcp.options import OPTIONS, PLATFORM, check_role, read_spec

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

    from envboot.doctor.check import Check
    from envboot.session import Session
    from envboot.userdata import LaunchPath
    from envboot_provisioners import Instance, Option, Options, StartRequest
    from envboot_provisioners.faults import Fault
    from envboot_provisioners.gcp.clients import GcpClients
    from envboot_provisioners.gcp.machines import GcpHost
    from envboot_provisioners.gcp.request import GcpPlan

_PROJECT = re.compile(r"(?:[a-z][a-z0-9.-]*:)?[a-z][a-z0-9-]{4,62}")


class GcpProvisioner:
    """Machines of Compute Engine, with the credentials that Google's libraries find.

    An instance's name is its id, a number. Each has the label `envboot-launch`, by which it is
    found from anywhere; the launches of this machine are recorded in `<state folder>/gcp/`.
    """

    name = "gcp"
    is_remote = True
    guest_loopback: str | None = None
    host_python = False
    ends_instances = True
    role: str | None = "gcp"
    options: tuple[Option, ...] = OPTIONS

    def __init__(self, session: Session) -> None:
        self._session = session
        self._records = CloudRecords(session.state / "gcp", "project")
        self._clients: dict[str | None, GcpClients] = {}
        self._plans: dict[Hashable, GcpPlan] = {}
        self._ended: set[str] = set()

    def check(self, options: Options, *, by_role: bool = False) -> str | None:
        """Refuse what could never start; returns the platform of the machine type.

        Raises:
            ProvisionError: everything that is wrong, at once; or Google refuses to tell.
        """
        return self.find_plan(options, by_role=by_role).platform

    def find_plan(self, options: Options, *, by_role: bool = False) -> GcpPlan:
        """Look up what the options ask for; asks Google once.

        Raises:
            ProvisionError: as `check` does.
        """
        spec, faults = read_spec(options)
        if by_role:
            faults += check_role(spec)

        def look(clients: GcpClients, known: Sequence[Fault]) -> GcpPlan:
            from envboot_provisioners.gcp.lookup import look_up

            return look_up(clients, spec, known=known)

        return find_plan(
            self._plans,
            (spec, by_role),
            faults,
            connect=lambda: self.find_clients(spec.project),
            look_up=look,
            platform=PLATFORM,
        )

    def find_clients(self, project: str | None = None) -> GcpClients:
        """Return the services of a project, by default the configured one."""
        if project not in self._clients:
            require("gcp", "Provisioner `gcp`")
            from envboot_provisioners.gcp.clients import GcpClients

            self._clients[project] = GcpClients(project, self._session.environment)
        return self._clients[project]

    def render_for(self, options: Options) -> LaunchPath:
        """Return the launch path: by cloud-init where the image has it, else by start-up script."""
        from envboot.userdata import LaunchPath

        spec, _ = read_spec(options)
        return LaunchPath.GCE if spec.has_cloud_init else LaunchPath.GCE_STARTUP_SCRIPT

    def is_interruptible(self, options: Options) -> bool:
        """Whether these are Spot instances, which are taken back with 30 seconds' notice."""
        spec, _ = read_spec(options)
        return spec.spot

    def place(self, options: Options) -> dict[str, str]:
        """Return the project, the region and the zones of such instances."""
        plan = self.find_plan(options)
        return {"project": plan.project, "region": plan.region, "zones": ", ".join(plan.zones)}

    def start(self, request: StartRequest) -> list[Instance]:
        """Start every instance, or none.

        Raises:
            ProvisionError: Google refused; or what was started could not be ended again, by name.
        """
        from envboot_provisioners.gcp.machines import to_instance
        from envboot_provisioners.gcp.request import find_root_size
        from envboot_provisioners.gcp.starting import GcpStart

        plan = self.find_plan(request.options)
        find_root_size(plan, request.room)
        # Before the first call: whatever ends this process, what it started can be found.
        self._records.write(request.launch, plan.project)
        start = GcpStart(self.find_clients(plan.spec.project), plan, request)
        try:
            start.run()
        except BaseException as error:
            undo_start(error, start.undo, request=request, records=self._records)
            raise
        return [
            to_instance(found, launch=request.launch, project=plan.project)
            for found in start.started.values()
        ]

    def states(self, instances: Sequence[Instance]) -> dict[str, State]:
        """Return how each instance is, in Compute Engine's own words.

        Raises:
            ProvisionError: Google refuses to tell.
        """
        from envboot_provisioners.gcp.machines import find_preempted, to_state

        states = {}
        for project, ours in group_instances(instances, self._records).items():
            clients = self.find_clients(project)
            launches = list(dict.fromkeys(instance.launch for instance in ours))
            found = {
                str(item.id): item
                for items in self._look(clients, launches).values()
                for item in items
            }
            for instance in ours:
                name, zone = instance.name, instance.details.get("zone")
                if name in found:
                    states[name] = to_state(found[name])
                elif zone and find_preempted(clients, zone, name):
                    reason = "Compute Engine wanted the Spot instance back"
                    states[name] = State(alive=False, word="deleted", reason=reason)
                else:
                    states[name] = State(alive=False, word="deleted")
        return states

    def console(self, instance: Instance) -> str:
        """Return what the instance wrote on its first serial port: the last megabyte.

        Raises:
            ProvisionError: Google refuses to tell.
        """
        from envboot_provisioners.gcp.errors import FAULTS, explain
        from envboot_provisioners.gcp.machines import read_console

        (target,), clients = self._find_hosts([instance])
        if target is None:
            return f"`{instance.name}` is not there any more, and its console went with it"
        try:
            return read_console(clients, target.zone, target.host)
        except FAULTS as error:
            message = f"Failed to read the console of `{target.host}` ({instance.name})"
            raise explain(error, message, clients.credentials) from error

    def instances(
        self, launch: str | None = None, place: Mapping[str, str] | None = None
    ) -> list[Instance]:
        """Return the instances of a launch, or of all that were made from this machine.

        Raises:
            ProvisionError: Google refuses to tell; `UnseenError` where a launch with a place is
                in a project that cannot be read, or it is not known where it is.
        """
        if launch and place is not None:
            return self._seek(launch, place)
        if launch is None:
            records = self._records.all()
            if not records:
                # The SDK takes seconds to import, and most machines have none.
                return []
        elif record := self._records.find(launch):
            records = [record]
        else:
            return self._find_elsewhere(launch)
        require("gcp", "Provisioner `gcp`")
        from envboot_provisioners.gcp.machines import ENDING, to_instance

        old = {record.launch for record in records if record.age > FRESH}
        found = []
        for project, ours in group_records(records).items():
            launches = [record.launch for record in ours]
            seen = self._look(self.find_clients(project), launches)
            for name in launches:
                found += [
                    to_instance(item, launch=name, project=project)
                    for item in seen.get(name, ())
                    if item.status not in ENDING
                ]
                if name in old and not seen.get(name):
                    self._records.remove(name)
        return found

    def _seek(self, launch: str, place: Mapping[str, str]) -> list[Instance]:
        """Return the instances of a launch, none only where its project has none of it left."""
        require("gcp", "Provisioner `gcp`")
        from envboot_provisioners.gcp.machines import ENDING, to_instance

        record = self._records.find(launch)
        project = record.place if record else place.get("project")
        if project and not _PROJECT.fullmatch(project):
            raise UnseenError(
                launch,
                f"Expected a project of Google Cloud in its record, found `{project!r:.99}`",
                hint="Look where it was launched",
            )
        try:
            clients = self.find_clients(project)
            items = self._look(clients, [launch]).get(launch, ())
        except ProvisionError as error:
            where = f" in project `{project}`" if project else ""
            raise UnseenError(
                launch,
                ": ".join([error.message, *error.causes[:1]]),
                hint=error.hint
                or f"Sign in as one who may list instances{where}: "
                "`gcloud auth application-default login`",
            ) from error
        if not items and not project:
            seen = f"None is in project `{clients.project}`, but its record does not say where"
            raise UnseenError(launch, seen, hint="Set `GOOGLE_CLOUD_PROJECT` as there")
        self._records.note(launch, clients.project)
        return [
            to_instance(item, launch=launch, project=clients.project)
            for item in items
            if item.status not in ENDING
        ]

    def _find_elsewhere(self, launch: str) -> list[Instance]:
        """Return the instances of a launch that another machine made, where Google is set up."""
        require("gcp", "Provisioner `gcp`")
        from envboot_provisioners.gcp.machines import ENDING, to_instance

        try:
            clients = self.find_clients()
        except ProvisionError:
            return []
        return [
            to_instance(item, launch=launch, project=clients.project)
            for item in self._look(clients, [launch]).get(launch, ())
            if item.status not in ENDING
        ]

    def _look(self, clients: GcpClients, launches: Sequence[str]) -> dict[str, list[Any]]:
        from envboot_provisioners.gcp.errors import FAULTS, explain
        from envboot_provisioners.gcp.machines import find_labelled

        try:
            return find_labelled(clients, launches)
        except FAULTS as error:
            message = f"Failed to ask {PLATFORM} in `{clients.project}` for instances"
            raise explain(error, message, clients.credentials) from error

    def forget(self, launch: str) -> None:
        """Remove the record of a launch that is over."""
        self._records.remove(launch)

    def terminate(self, instances: Sequence[Instance], *, keep: bool = False) -> None:
        """End the instances, whose disks go with them.

        `keep` changes nothing: a disk without its machine would only cost.

        Raises:
            ProvisionError: some could not be ended; it names every one of them.
        """
        from envboot_provisioners.gcp import machines

        del keep

        def end(project: str | None, ours: Sequence[Instance]) -> None:
            found, clients = self._find_hosts(ours)
            hosts = [host for host in found if host]
            if failed := machines.end(clients, hosts):
                raise machines.refuse_hosts(clients.project, failed, len(hosts))
            self._drop_ended(project, ours)

        end_in_each(
            group_instances(instances, self._records),
            end,
            message=lambda many: f"Failed to end instances in {many} projects",
        )

    def _find_hosts(self, instances: Sequence[Instance]) -> tuple[list[GcpHost | None], GcpClients]:
        """Return how to name each instance of one project; None where it is not there."""
        from envboot_provisioners.gcp.machines import GcpHost, to_host

        ((project, _),) = group_instances(instances, self._records).items()
        clients = self.find_clients(project)
        unknown = {item.launch for item in instances if not item.details.keys() >= {"host", "zone"}}
        seen = self._look(clients, sorted(unknown)) if unknown else {}
        by_id = {str(item.id): to_host(item) for items in seen.values() for item in items}
        hosts: list[GcpHost | None] = []
        for item in instances:
            known = None
            if item.launch not in unknown:
                host, zone = item.details["host"], item.details["zone"]
                known = GcpHost(name=item.name, host=host, zone=zone)
            hosts.append(known or by_id.get(item.name))
        return hosts, clients

    def _drop_ended(self, project: str | None, ended: Sequence[Instance]) -> None:
        """Remove the records of launches that have no other instances left."""
        self._ended |= {item.name for item in ended}
        for launch in {item.launch for item in ended}:
            try:
                rest = self._look(self.find_clients(project), [launch]).get(launch, ())
            except ProvisionError:
                continue
            # One that is only stopping, ended by others or stopped by its user, is there yet.
            if not {str(item.id) for item in rest} - self._ended:
                self._records.remove(launch)

    def doctor(self, options: Options, *, by_role: bool = False, count: int = 1) -> Iterator[Check]:
        """Check everything that such a launch of `count` asks of Google; starts nothing."""
        require("gcp", "Provisioner `gcp`")
        from envboot_provisioners.gcp.doctor import check_gcp

        return check_gcp(self, options, by_role=by_role, count=count)
