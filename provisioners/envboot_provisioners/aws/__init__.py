"""Instances on Amazon EC2. boto3 is imported when AWS is first asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envboot.errors import ProvisionError, UnseenError
from envboot.extras import require
from envboot_provisioners import State
from envboot_provisioners.aws.fresh import FreshInstances
from envboot_provisioners.aws.options import OPTIONS, PLATFORM, read_spec
from envboot_provisioners.cloud_records import FRESH, CloudRecords
from envboot_provisioners.clouds import (
    end_in_each,
    find_plan,
    group_instances,
    group_records,
    undo_start,
)
from envboot_provisioners.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

    from envboot.doctor.check import Check
    from envboot.session import Session
    from envboot.userdata import LaunchPath
    from envboot_provisioners import Instance, Option, Options, StartRequest
    from envboot_provisioners.aws.clients import AwsClients
    from envboot_provisioners.aws.request import AwsPlan
    from envboot_provisioners.aws.starting import AwsStart
    from envboot_provisioners.cloud_records import CloudRecord

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
    ends_instances = False
    role: str | None = "aws"
    options: tuple[Option, ...] = OPTIONS

    def __init__(self, session: Session) -> None:
        self._session = session
        self._records = CloudRecords(session.state / "aws", "region")
        self._clients: dict[str | None, AwsClients] = {}
        self._plans: dict[Hashable, AwsPlan] = {}
        self._starts: dict[str, list[AwsStart]] = {}
        self._fresh = FreshInstances()

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

        def look(clients: AwsClients, known: Sequence[Fault]) -> AwsPlan:
            from envboot_provisioners.aws.lookup import look_up

            return look_up(clients, spec, known=known)

        return find_plan(
            self._plans,
            (spec, by_role),
            faults,
            connect=lambda: self.find_clients(spec.region),
            look_up=look,
            platform=PLATFORM,
        )

    def find_clients(self, region: str | None = None) -> AwsClients:
        """Return the services of a region, by default the configured one."""
        if region not in self._clients:
            require("aws", "Provisioner `aws`")
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

    def place(self, options: Options) -> dict[str, str]:
        """Return the account, the region and the zones of such instances."""
        plan = self.find_plan(options)
        account = self._find_account(self.find_clients(plan.spec.region))
        zones = dict.fromkeys(place.zone for place in plan.places)
        return {
            **({"account": account} if account else {}),
            "region": plan.region,
            "zones": ", ".join(zones),
        }

    def _find_account(self, clients: AwsClients) -> str | None:
        """Return whose credentials these are, None where AWS does not say."""
        from envboot_provisioners.aws.errors import FAULTS

        try:
            return clients.sts.get_caller_identity()["Account"]
        except FAULTS:
            return None

    def start(self, request: StartRequest) -> list[Instance]:
        """Start every instance, or none.

        Raises:
            ProvisionError: EC2 refused; or what it started could not be ended again, by id.
        """
        from envboot_provisioners.aws.machines import to_instance
        from envboot_provisioners.aws.request import find_root_size
        from envboot_provisioners.aws.settling import await_unknown, end_settled
        from envboot_provisioners.aws.starting import AwsStart

        plan = self.find_plan(request.options)
        find_root_size(plan, request.room)
        clients = self.find_clients(plan.spec.region)
        # Before the first call: whatever ends this process, what it started can be found.
        self._records.write(request.launch, plan.region)
        # Of earlier calls for the same launch: not ours to end, whatever becomes of this one.
        others = self._find_names(clients, request.launch) if request.first else set()
        start = AwsStart(clients, plan, request, self._fresh)
        self._starts.setdefault(request.launch, []).append(start)

        def end_unknown() -> None:
            if start.unknown:
                found = await_unknown(clients, start, request.launch, others, self._fresh)
                end_settled(clients, found, self._fresh)

        def undo() -> None:
            end_settled(clients, start.started, self._fresh)
            end_unknown()
            start.started.clear()

        try:
            start.run()
            end_unknown()
            self._records.write(request.launch, plan.region, start.account)
        except BaseException as error:
            undo_start(error, undo, request=request, records=self._records)
            raise
        return [
            to_instance(found, launch=request.launch, region=plan.region)
            for found in start.started.values()
        ]

    def _find_names(self, clients: AwsClients, launch: str) -> set[str]:
        """Return the ids of a launch's instances."""
        return {instance.name for instance in self._look(clients, [launch])[launch]}

    def states(self, instances: Sequence[Instance]) -> dict[str, State]:
        """Return how each instance is, in EC2's own words.

        Raises:
            ProvisionError: AWS refuses to tell.
        """
        from envboot_provisioners.aws.errors import FAULTS
        from envboot_provisioners.aws.machines import find_by_id, to_state

        states = {}
        for region, ours in group_instances(instances, self._records).items():
            names = [instance.name for instance in ours]
            clients = self.find_clients(region)
            try:
                found = find_by_id(clients.ec2, names)
            except FAULTS as error:
                message = f"Failed to ask EC2 for {len(names)} instances"
                raise clients.explain(error, message) from error
            for name in names:
                if name in found:
                    states[name] = to_state(found[name])
                elif self._fresh.has(name):
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

    def instances(
        self, launch: str | None = None, place: Mapping[str, str] | None = None
    ) -> list[Instance]:
        """Return the instances of a launch, or of all that were made from this machine.

        Raises:
            ProvisionError: AWS refuses to tell; `UnseenError` where a launch with a place is
                another account's, or it is not known where it is.
        """
        if launch and place is not None:
            return self._seek(launch, place)
        if launch is None:
            records = self._records.all()
        elif record := self._records.find(launch):
            records = [record]
        else:
            return self._find_elsewhere(launch)
        found = []
        for region, launches in group_records(records).items():
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
            shown = {name: item for name, item in fresh.items() if self._fresh.has(name)} | known
            seen[launch] = [
                to_instance(item, launch=launch, region=clients.region) for item in shown.values()
            ]
        return seen

    def _seek(self, launch: str, place: Mapping[str, str]) -> list[Instance]:
        """Return the instances of a launch, none only where this account has none of it left."""
        record = self._records.find(launch)
        region = record.place if record else place.get("region")
        account = (record.account if record else None) or place.get("account")
        try:
            clients = self.find_clients(region)
            found = self._look(clients, [launch])[launch]
        except ProvisionError as error:
            where = f" in account {account}" if account else ""
            raise UnseenError(
                launch,
                ": ".join([error.message, *error.causes[:1]]),
                hint=error.hint
                or f"Set `AWS_PROFILE` to one that may call `ec2:DescribeInstances`{where}",
            ) from error
        if found:
            self._records.note(launch, clients.region, account)
            return found
        if not region or not account:
            seen = f"None is in `{clients.region}`, but its record does not say where it is"
            raise UnseenError(launch, seen, hint="Set `AWS_PROFILE` and `AWS_REGION` as there")
        if (own := self._find_account(clients)) != account:
            raise UnseenError(
                launch,
                f"They are in account {account}, `{region}`; this is account {own or 'unknown'}",
                hint=f"Set `AWS_PROFILE` to one of account {account}",
            )
        self._records.note(launch, region, account)
        return []

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
        old = [record for record in records if record.age > FRESH]
        if not old or not (account := self._find_account(clients)):
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
        from envboot_provisioners.aws.settling import end_settled

        del keep

        def end(region: str | None, ours: Sequence[Instance]) -> None:
            clients, names = self.find_clients(region), {instance.name for instance in ours}
            end_settled(clients, [instance.name for instance in ours], self._fresh)
            self._drop_ended(clients, {instance.launch for instance in ours}, names)

        end_in_each(
            group_instances(instances, self._records),
            end,
            message=lambda many: f"Failed to end instances in {many} regions",
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
        require("aws", "Provisioner `aws`")
        from envboot_provisioners.aws.doctor import check_aws

        return check_aws(self, options, by_role=by_role, count=count)
