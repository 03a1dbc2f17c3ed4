"""Instances on Google's Compute Engine. Its client is imported when Google is first asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envboot.errors import EnvbootError, ProvisionError
from envboot_provisioners import State
from envboot_provisioners.cloud_records import FRESH, CloudRecords
from envboot_provisioners.faults import Fault, raise_faults
from envboot_provisioners.gcp.options import OPTIONS, PLATFORM, check_role, read_spec
from envboot_provisioners.interrupts import defer_interrupts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from envboot.doctor import Check
    from envboot.session import Session
    from envboot.userdata import LaunchPath
    from envboot_provisioners import Instance, Option, Options, StartRequest
    from envboot_provisioners.gcp.clients import GcpClients
    from envboot_provisioners.gcp.machines import GcpHost
    from envboot_provisioners.gcp.request import GcpPlan
    from envboot_provisioners.gcp.starting import GcpStart


class GcpProvisioner:
    """Machines of Compute Engine, with the credentials that Google's libraries find.

    An instance's name is its id, a number. Each has the label `envboot-launch`, by which it is
    found from anywhere; the launches of this machine are recorded in `<state folder>/gcp/`.
    """

    name = "gcp"
    is_remote = True
    guest_loopback: str | None = None
    host_python = False
    role: str | None = "gcp"
    options: tuple[Option, ...] = OPTIONS

    def __init__(self, session: Session) -> None:
        self._session = session
        self._records = CloudRecords(session.state / "gcp", "project")
        self._clients: dict[str | None, GcpClients] = {}
        self._plans: dict[object, GcpPlan] = {}
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
        key = (spec, by_role)
        if key not in self._plans or faults:
            from envboot_provisioners.gcp.lookup import look_up

            try:
                clients = self.find_clients(spec.project)
            except ProvisionError as error:
                if faults:
                    told = Fault(message=": ".join((error.message, *error.causes)), hint=error.hint)
                    raise_faults([*faults, told], PLATFORM)
                raise
            self._plans[key] = look_up(clients, spec, known=faults)
        return self._plans[key]

    def find_clients(self, project: str | None = None) -> GcpClients:
        """Return the services of a project, by default the configured one."""
        if project not in self._clients:
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
            with defer_interrupts():
                self._undo(start, request, error)
            raise
        return [
            to_instance(found, launch=request.launch, project=plan.project)
            for found in start.started.values()
        ]

    def _undo(self, start: GcpStart, request: StartRequest, why: BaseException) -> None:
        """End all that a start has started."""
        told: tuple[str, ...] = (f"Ended because of: {why!r}",)
        if isinstance(why, EnvbootError):
            told = (f"Ended because of: {why.message}", *why.causes)
        try:
            start.undo()
        except ProvisionError as error:
            causes = (*error.causes, *told)
            raise ProvisionError(error.message, causes=causes, hint=error.hint) from why
        if not request.first:
            self._records.remove(request.launch)

    def states(self, instances: Sequence[Instance]) -> dict[str, State]:
        """Return how each instance is, in Compute Engine's own words.

        Raises:
            ProvisionError: Google refuses to tell.
        """
        from envboot_provisioners.gcp.machines import find_preempted, to_state

        states = {}
        for project, ours in self._by_project(instances).items():
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

        (target,), clients = self._find_targets([instance])
        if target is None:
            return f"`{instance.name}` is not there any more, and its console went with it"
        try:
            return read_console(clients, target.zone, target.host)
        except FAULTS as error:
            message = f"Failed to read the console of `{target.host}` ({instance.name})"
            raise explain(error, message, clients.credentials) from error

    def instances(self, launch: str | None = None) -> list[Instance]:
        """Return the instances of a launch, or of all that were made from this machine.

        Raises:
            ProvisionError: Google refuses to tell.
        """
        if launch is None:
            records = self._records.all()
            if not records:
                # The SDK takes seconds to import, and most machines have none.
                return []
        elif record := self._records.find(launch):
            records = [record]
        else:
            return self._find_elsewhere(launch)
        from envboot_provisioners.gcp.machines import ENDING, to_instance

        by_project: dict[str, list[str]] = {}
        for record in records:
            by_project.setdefault(record.place, []).append(record.launch)
        old = {record.launch for record in records if record.age > FRESH}
        found = []
        for project, launches in by_project.items():
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

    def _find_elsewhere(self, launch: str) -> list[Instance]:
        """Return the instances of a launch that another machine made, where Google is set up."""
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
        from envboot_provisioners.gcp.machines import end, refuse_end

        del keep
        failures: list[ProvisionError] = []
        for project, ours in self._by_project(instances).items():
            try:
                found, clients = self._find_targets(ours)
                targets = [target for target in found if target]
                failed = end(clients, targets)
                if failed:
                    raise refuse_end(clients.project, failed, len(targets))
            except ProvisionError as error:
                failures.append(error)
                continue
            self._drop_ended(project, ours)
        if len(failures) == 1:
            raise failures[0]
        if failures:
            raise ProvisionError(
                f"Failed to end instances in {len(failures)} projects",
                causes=tuple(cause for error in failures for cause in error.causes),
                hint="; ".join(error.hint for error in failures if error.hint),
            )

    def _find_targets(
        self, instances: Sequence[Instance]
    ) -> tuple[list[GcpHost | None], GcpClients]:
        """Return how to name each instance of one project; None where it is not there."""
        from envboot_provisioners.gcp.machines import GcpHost, to_host

        ((project, _),) = self._by_project(instances).items()
        clients = self.find_clients(project)
        unknown = {item.launch for item in instances if not item.details.keys() >= {"host", "zone"}}
        seen = self._look(clients, sorted(unknown)) if unknown else {}
        by_id = {str(item.id): to_host(item) for items in seen.values() for item in items}
        targets: list[GcpHost | None] = []
        for item in instances:
            known = None
            if item.launch not in unknown:
                host, zone = item.details["host"], item.details["zone"]
                known = GcpHost(name=item.name, host=host, zone=zone)
            targets.append(known or by_id.get(item.name))
        return targets, clients

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
        from envboot_provisioners.gcp.doctor import check_gcp

        return check_gcp(self, options, by_role=by_role, count=count)

    def _by_project(self, instances: Iterable[Instance]) -> dict[str | None, list[Instance]]:
        found: dict[str | None, list[Instance]] = {}
        for instance in instances:
            project = instance.details.get("project")
            if project is None and (record := self._records.find(instance.launch)):
                project = record.place
            found.setdefault(project, []).append(instance)
        return found
