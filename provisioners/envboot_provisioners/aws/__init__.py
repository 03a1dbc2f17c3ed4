"""Instances on Amazon EC2. boto3 is imported when AWS is first asked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from envboot.errors import EnvbootError, ProvisionError
from envboot_provisioners import State
from envboot_provisioners.aws.options import OPTIONS, PLATFORM, read_spec
from envboot_provisioners.cloud_records import FRESH, CloudRecords
from envboot_provisioners.faults import Fault, raise_faults
from envboot_provisioners.interrupts import defer_interrupts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from envboot.doctor import Check
    from envboot.session import Session
    from envboot.userdata import LaunchPath
    from envboot_provisioners import Instance, Option, Options, StartRequest
    from envboot_provisioners.aws.clients import AwsClients
    from envboot_provisioners.aws.request import AwsPlan
    from envboot_provisioners.aws.starting import AwsStart
    from envboot_provisioners.cloud_records import CloudRecord

SETTLE = 12.0
"""Seconds within which EC2 shows what it has started, and knows its id ("Eventual consistency")."""
NEW = 120.0
"""Seconds for which an instance that EC2 does not show counts as one about to run."""
UNANSWERED = 86_400.0
"""Seconds for which the record of a launch is kept whose account is not known."""


class AwsProvisioner:
    """Machines of EC2 in the region, and with the credentials, that boto3 finds.

    An instance's name is its id. Each is tagged `envboot:launch`, by which it is found from
    anywhere; the launches of this machine are recorded in `<state folder>/aws/`.
    """

    name = "aws"
    is_remote = True
    guest_loopback: str | None = None
    host_python = False
    role: str | None = "aws"
    options: tuple[Option, ...] = OPTIONS

    def __init__(self, session: Session) -> None:
        self._session = session
        self._records = CloudRecords(session.state / "aws", "region")
        self._clients: dict[str | None, AwsClients] = {}
        self._plans: dict[object, AwsPlan] = {}
        self._starts: dict[str, list[AwsStart]] = {}
        self._started: dict[str, float] = {}

    def check(self, options: Options, *, by_role: bool = False) -> str | None:
        """Refuse what could never start; returns the platform of the instance type.

        Raises:
            ProvisionError: everything that is wrong, at once; or AWS refuses to tell.
        """
        return self.find_plan(options, by_role=by_role).platform

    def find_plan(self, options: Options, *, by_role: bool = False) -> AwsPlan:
        """Look up what the options ask for; asks AWS once.

        Raises:
            ProvisionError: as `check` does.
        """
        spec, faults = read_spec(options)
        if by_role and not spec.profile:
            faults.append(
                Fault(
                    message="Expected an instance profile, whose role the machines sign with, "
                    "found none",
                    hint="Name one with `--instance-profile`",
                )
            )
        key = (spec, by_role)
        if key not in self._plans or faults:
            from envboot_provisioners.aws.lookup import look_up

            try:
                clients = self.find_clients(spec.region)
            except ProvisionError as error:
                if faults:
                    told = Fault(message=error.message, hint=error.hint)
                    raise_faults([*faults, told], PLATFORM)
                raise
            self._plans[key] = look_up(clients, spec, known=faults)
        return self._plans[key]

    def find_clients(self, region: str | None = None) -> AwsClients:
        """Return the services of a region, by default the configured one."""
        if region not in self._clients:
            from envboot_provisioners.aws.clients import AwsClients

            self._clients[region] = AwsClients(region, self._session.environment)
        return self._clients[region]

    def render_for(self, options: Options) -> LaunchPath:
        """Return EC2's launch path: every image has cloud-init."""
        from envboot.userdata import LaunchPath

        del options
        return LaunchPath.EC2

    def is_interruptible(self, options: Options) -> bool:
        """Whether these are spot instances, which EC2 takes back with two minutes' notice."""
        spec, _ = read_spec(options)
        return spec.spot

    def start(self, request: StartRequest) -> list[Instance]:
        """Start every instance, or none.

        Raises:
            ProvisionError: EC2 refused; or what it started could not be ended again, by id.
        """
        from envboot_provisioners.aws.machines import to_instance
        from envboot_provisioners.aws.request import find_root_size
        from envboot_provisioners.aws.starting import AwsStart

        plan = self.find_plan(request.options)
        find_root_size(plan, request.room)
        clients = self.find_clients(plan.spec.region)
        # Before the first call: whatever ends this process, what it started can be found.
        self._records.write(request.launch, plan.region)
        # Of earlier calls for the same launch: not ours to end, whatever becomes of this one.
        others = self._find_names(clients, request.launch) if request.first else set()
        start = AwsStart(clients, plan, request, self._started)
        self._starts.setdefault(request.launch, []).append(start)
        try:
            start.run()
            if start.unknown:
                self._end(clients, self._await_unknown(start, clients, request.launch, others))
            self._records.write(request.launch, plan.region, start.account)
        except BaseException as error:
            with defer_interrupts():
                self._undo(start, clients, request, others, error)
            raise
        return [
            to_instance(found, launch=request.launch, region=plan.region)
            for found in start.started.values()
        ]

    def _undo(
        self,
        start: AwsStart,
        clients: AwsClients,
        request: StartRequest,
        others: set[str],
        why: BaseException,
    ) -> None:
        """End all that a call has started, and what it may have started unanswered."""
        told: tuple[str, ...] = (f"Ended because of: {why!r}",)
        if isinstance(why, EnvbootError):
            told = (f"Ended because of: {why.message}", *why.causes)
        try:
            self._end(clients, start.started)
            if start.unknown:
                self._end(clients, self._await_unknown(start, clients, request.launch, others))
        except ProvisionError as error:
            causes = (*error.causes, *told)
            raise ProvisionError(error.message, causes=causes, hint=error.hint) from why
        start.started.clear()
        if not request.first:
            self._records.remove(request.launch)

    def _find_names(self, clients: AwsClients, launch: str) -> set[str]:
        """Return the ids of a launch's instances."""
        return {instance.name for instance in self._look(clients, [launch])[launch]}

    def _await_unknown(
        self, start: AwsStart, clients: AwsClients, launch: str, others: set[str]
    ) -> set[str]:
        """Return the ids of what a call has started whose answer did not arrive."""
        from envboot_provisioners.aws.errors import FAULTS
        from envboot_provisioners.aws.machines import find_tagged

        end = time.monotonic() + SETTLE
        while True:
            try:
                found = find_tagged(clients.ec2, [launch]).get(launch, [])
            except FAULTS as error:
                told = clients.explain(
                    error, f"Cannot tell what launch `{launch}` has started: EC2 does not answer"
                )
                hint = f"End it when it does: `envboot terminate {launch}`"
                raise ProvisionError(told.message, causes=told.causes, hint=hint) from error
            new = {item["InstanceId"] for item in found} - start.started.keys() - others
            if len(new) >= start.unknown or time.monotonic() > end:
                self._started.update(dict.fromkeys(new, time.monotonic()))
                return new
            time.sleep(1)

    def states(self, instances: Sequence[Instance]) -> dict[str, State]:
        """Return how each instance is, in EC2's own words.

        Raises:
            ProvisionError: AWS refuses to tell.
        """
        from envboot_provisioners.aws.errors import FAULTS
        from envboot_provisioners.aws.machines import find_by_id, to_state

        states = {}
        for region, names in self._by_region(instances).items():
            clients = self.find_clients(region)
            try:
                found = find_by_id(clients.ec2, names)
            except FAULTS as error:
                message = f"Failed to ask EC2 for {len(names)} instances"
                raise clients.explain(error, message) from error
            for name in names:
                if name in found:
                    states[name] = to_state(found[name])
                elif self._is_new(name):
                    states[name] = State(alive=True, word="pending")
                else:
                    states[name] = State(alive=False, word="terminated")
        return states

    def console(self, instance: Instance) -> str:
        """Return what the instance printed so far; EC2 has it some seconds late.

        Raises:
            ProvisionError: AWS refuses to tell.
        """
        from envboot_provisioners.aws.errors import FAULTS
        from envboot_provisioners.aws.machines import read_console

        clients = self.find_clients(instance.details.get("region"))
        try:
            return read_console(clients.ec2, instance.name)
        except FAULTS as error:
            message = f"Failed to read the console of `{instance.name}`"
            raise clients.explain(error, message) from error

    def instances(self, launch: str | None = None) -> list[Instance]:
        """Return the instances of a launch, or of all that were made from this machine.

        Raises:
            ProvisionError: AWS refuses to tell.
        """
        if launch is None:
            records = self._records.all()
        elif record := self._records.find(launch):
            records = [record]
        else:
            return self._find_elsewhere(launch)
        by_region: dict[str, list[CloudRecord]] = {}
        for record in records:
            by_region.setdefault(record.place, []).append(record)
        found = []
        for region, launches in by_region.items():
            clients = self.find_clients(region)
            names = [record.launch for record in launches]
            seen = self._look(clients, names)
            found += [instance for name in names for instance in seen[name]]
            self._forget(clients, [record for record in launches if not seen[record.launch]])
        return found

    def _look(self, clients: AwsClients, launches: Sequence[str]) -> dict[str, list[Instance]]:
        """Return what EC2 shows of launches, and what it does not show yet."""
        from envboot_provisioners.aws.errors import FAULTS
        from envboot_provisioners.aws.machines import find_tagged, to_instance

        try:
            found = find_tagged(clients.ec2, launches)
        except FAULTS as error:
            message = f"Failed to ask EC2 in `{clients.region}` for instances"
            raise clients.explain(error, message) from error
        seen = {}
        for launch in launches:
            known = {item["InstanceId"]: item for item in found.get(launch, ())}
            starts = self._starts.get(launch, ())
            fresh = {name: item for start in starts for name, item in start.started.items()}
            shown = {name: item for name, item in fresh.items() if self._is_new(name)} | known
            seen[launch] = [
                to_instance(item, launch=launch, region=clients.region) for item in shown.values()
            ]
        return seen

    def _find_elsewhere(self, launch: str) -> list[Instance]:
        """Return the instances of a launch that another machine made, where AWS is set up."""
        try:
            return self._look(self.find_clients(), [launch])[launch]
        except ProvisionError as error:
            from botocore.exceptions import NoCredentialsError

            if error.__cause__ is None or isinstance(error.__cause__, NoCredentialsError):
                return []
            raise

    def _forget(self, clients: AwsClients, records: Iterable[CloudRecord]) -> None:
        """Remove the records of launches that have ended, as far as this account can tell."""
        from envboot_provisioners.aws.errors import FAULTS

        old = [record for record in records if record.age > FRESH]
        if not old:
            return
        try:
            account = clients.sts.get_caller_identity()["Account"]
        except FAULTS:
            return
        for record in old:
            if record.account == account or (not record.account and record.age > UNANSWERED):
                self._records.remove(record.launch)

    def forget(self, launch: str) -> None:
        """Remove the record of a launch that is over."""
        self._records.remove(launch)

    def terminate(self, instances: Sequence[Instance], *, keep: bool = False) -> None:
        """End the instances, whose disks go with them.

        `keep` changes nothing: a disk without its machine would only cost.

        Raises:
            ProvisionError: some could not be ended; it names every one of them.
        """
        del keep
        failures: list[ProvisionError] = []
        for region, names in self._by_region(instances).items():
            clients = self.find_clients(region)
            try:
                self._end(clients, names)
            except ProvisionError as error:
                failures.append(error)
                continue
            launches = {item.launch for item in instances if item.name in set(names)}
            self._drop_ended(clients, launches, set(names))
        if len(failures) == 1:
            raise failures[0]
        if failures:
            raise ProvisionError(
                f"Failed to end instances in {len(failures)} regions",
                causes=tuple(cause for error in failures for cause in error.causes),
                hint="; ".join(error.hint for error in failures if error.hint),
            )

    def _end(self, clients: AwsClients, names: Iterable[str]) -> None:
        """End instances of one region.

        Raises:
            ProvisionError: some could not be; it names them, and the command to do it by hand.
        """
        from envboot_provisioners.aws.errors import DENIED
        from envboot_provisioners.aws.machines import end

        wanted = list(dict.fromkeys(names))
        done = end(clients.ec2, wanted)
        deadline = time.monotonic() + SETTLE
        # EC2 may not know yet what it has just started.
        while (late := sorted(filter(self._is_new, done.unknown))) and (
            time.monotonic() < deadline
        ):
            time.sleep(1)
            again = end(clients.ec2, late)
            done.failed |= again.failed
            done.unknown = again.unknown
        failed = done.failed | dict.fromkeys(late, "EC2 does not know it yet")
        for name in wanted:
            if name not in failed:
                self._started.pop(name, None)
        if not failed:
            return
        reasons: dict[str, list[str]] = {}
        for name, reason in failed.items():
            reasons.setdefault(reason, []).append(f"`{name}`")
        region, ids = clients.region, " ".join(failed)
        denied = any(reason.partition(":")[0] in DENIED for reason in reasons)
        allow = "; allow this identity `ec2:TerminateInstances`" if denied else ""
        raise ProvisionError(
            f"Failed to end {len(failed)} of {len(wanted)} instances on EC2, which cost on",
            causes=tuple(f"{', '.join(ids)}: {reason}" for reason, ids in reasons.items()),
            hint="End them by hand: "
            f"`aws ec2 terminate-instances --region {region} --instance-ids {ids}`{allow}",
        )

    def _drop_ended(self, clients: AwsClients, launches: set[str], ended: set[str]) -> None:
        """Remove the records of launches that have no other instances left."""
        for launch in launches:
            for start in self._starts.get(launch, ()):
                for name in ended & start.started.keys():
                    del start.started[name]
            try:
                rest = {item.name for item in self._look(clients, [launch])[launch]}
            except ProvisionError:
                continue
            if not rest - ended:
                self._records.remove(launch)

    def doctor(self, options: Options, *, by_role: bool = False, count: int = 1) -> Iterator[Check]:
        """Check everything that such a launch of `count` asks of AWS; starts nothing."""
        from envboot_provisioners.aws.doctor import check_aws

        return check_aws(self, options, by_role=by_role, count=count)

    def _by_region(self, instances: Sequence[Instance]) -> dict[str | None, list[str]]:
        found: dict[str | None, list[str]] = {}
        for instance in instances:
            region = instance.details.get("region")
            if region is None and (record := self._records.find(instance.launch)):
                region = record.place
            found.setdefault(region, []).append(instance.name)
        return found

    def _is_new(self, name: str) -> bool:
        """Whether an instance was started a moment ago, so that EC2 may not show it yet."""
        started = self._started.get(name)
        return started is not None and time.monotonic() - started < NEW
