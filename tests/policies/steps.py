"""What a client does, in steps: each prepares as a helper, and then acts as somebody.

A step raises what users would see. It returns what it found, where that tells more than that it
went well.
"""

from __future__ import annotations

import contextlib
import secrets
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from envboot.config import S3Settings, Settings
from envboot.doctor import check_store
from envboot.errors import StoreError
from envboot.fleet.peers import Seat, clear_secrets, write_seats
from envboot.publish.grants import Auth, Terms
from envboot.publish.layout import key_secret
from envboot.store.s3.lifecycle import make_rules
from envboot_provisioners import Instance
from envboot_provisioners.aws.request import compose_template
from envboot_provisioners.aws.templates import put_template
from tests.agent.guests import SITE, make_launch, make_layer, make_manifest
from tests.bases import make_index
from tests.policies.documents import VALUES
from tests.reports import read_documents
from tests.sessions import make_session

if TYPE_CHECKING:
    from envboot.doctor.check import Check
    from tests.agent.guests import Launch
    from tests.policies.account import Identity
    from tests.policies.world import World

KEY_PAIR, GROUP = "somebody", "close"
DAY = 86_400


def look_up(world: World, who: Identity) -> None:
    """Check a launch with every option that is looked up."""
    pairs = world.account.client("ec2")
    if not pairs.describe_key_pairs(Filters=[{"Name": "key-name", "Values": [KEY_PAIR]}])[
        "KeyPairs"
    ]:
        pairs.create_key_pair(KeyName=KEY_PAIR)
    world.account.ec2.placement_groups[GROUP] = "cluster"
    world.sign_in(who)
    options = world.request(key=KEY_PAIR, placement=GROUP, security_group=["default"]).options
    for image in ("ubuntu", "debian", "amazon-linux"):
        world.make_aws().check({**options, "image": image}, by_role=True)


def start(world: World, who: Identity) -> None:
    """Launch a spot instance with everything that an instance can have, and end it."""
    world.account.ec2.placement_groups[GROUP] = "cluster"
    world.sign_in(who)
    aws = world.make_aws()
    request = world.request(key=KEY_PAIR, placement=GROUP, spot_only="true", tag=["team=one"])
    aws.terminate(aws.start(request))


def ask_for_another_role(world: World, who: Identity) -> None:
    """Launch with a role that no policy lets pass."""
    world.sign_in(who)
    iam, name = world.account.client("iam"), f"other-{world.number}"
    with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_instance_profile(InstanceProfileName=name)
    world.make_aws().start(world.request(instance_profile=name))


def see_states(world: World, who: Identity) -> None:
    """Ask for the state of an instance that somebody has launched."""
    with world.launched() as instance:
        world.sign_in(who)
        world.make_aws().states([instance])


def see_console(world: World, who: Identity) -> None:
    """Read the console of an instance that somebody has launched."""
    with world.launched() as instance:
        world.sign_in(who)
        world.make_aws().console(instance)


def end(world: World, who: Identity) -> None:
    """End an instance that somebody has launched."""
    with world.launched() as instance:
        world.sign_in(who)
        world.make_aws().terminate([instance])


def publish(
    world: World,
    who: Identity,
    auth: Auth = Auth.URLS,
    *,
    wheels: int | None = None,
    settings: S3Settings | None = None,
    seats: int | None = None,
) -> Launch:
    """Put what machines need into the bucket, a layer too; `wheels` are how many, else all."""
    folder = world.folder / f"layer-{secrets.token_hex(4)}"
    manifest = make_manifest(world.parts, wheels=world.parts.wheels[:wheels])
    manifest, path = make_layer(manifest, folder, {f"{SITE}/mine.py": b"NAME = 'mine'\n"})
    world.sign_in(who)
    with world.open_store(settings) as store:
        return make_launch(
            world.parts,
            store,
            world.folder / "cache",
            manifest=manifest,
            layer=path,
            auth=auth,
            seats=seats,
        )


def report_by_form(world: World, who: Identity) -> None:
    """Report as a machine does, by a form that was signed here, as the doctor tries it."""
    failed = [c for c in ask_doctor(world, who).values() if c.status == "failed"]
    if failed:
        raise StoreError(failed[0].detail, hint=failed[0].hint)


def give_seats(world: World, who: Identity) -> None:
    """Give a machine a seat with a secret, and remove that."""
    name = f"machine-{secrets.token_hex(4)}"
    instances = [Instance(name=name, launch="launch")]
    seats = [Seat(0, secret={"KEY": "x"})]
    world.sign_in(who)
    with world.open_store() as store:
        write_seats(
            store, Terms(launch=name, auth=Auth.URLS, seconds=60, seats=0), instances, seats=seats
        )
        clear_secrets(store, name, instances)
        assert store.find(key_secret(name, name)) is None


def publish_again(world: World, who: Identity) -> None:
    """Do it for a base that was published two days ago, in a bucket that expires what is old."""
    expire(world)
    launch = publish(world, world.helper)
    publish(world, world.helper, Auth.ROLE)
    with world.open_store() as store:
        store.create(f"{launch.base_key}/env.tar.zst", b"whole")
        store.create(f"{launch.base_key}/index.json", make_index(launch.manifest, b"whole"))
    world.account.age = 2.0 * DAY
    for auth in Auth:
        publish(world, who, auth)
    world.account.age = 0.0


def publish_over_what_nobody_can_use(world: World, who: Identity) -> None:
    """Do it for an archive that has had no index for two hours, and for one with a bad index."""
    launch = publish(world, world.helper, wheels=1)
    archive, index = (f"{launch.base_key}/{name}" for name in ("env.tar.zst", "index.json"))
    with world.open_store() as store:
        store.create(archive, b"half")
        world.account.age = 7200.0
        publish(world, who, wheels=1)
        world.account.age = 0.0
        assert store.find(archive) is None
        store.create(archive, b"whole")
        store.create(index, b"{}")
        publish(world, who, wheels=1)
        assert (store.find(archive), store.find(index)) == (None, None)


def expire(world: World) -> None:
    """Have the bucket remove what is old."""
    rules = make_rules(VALUES["PREFIX"] + "/", {"base": 90, "layers": 8, "environments": 90})
    world.account.client("s3").put_bucket_lifecycle_configuration(
        Bucket=world.values["BUCKET"], LifecycleConfiguration={"Rules": rules}
    )


def read_what_machines_report(world: World, who: Identity) -> None:
    """Read a report that is in the bucket."""
    with world.open_store() as store:
        store.create("reports/launch/events/i-0/0000000000000-result.json", b"{}")
    world.sign_in(who)
    with world.open_store() as store:
        assert read_documents(store, "launch") == {"i-0": {"result": {}}}


def write_and_read_with_a_key(world: World, who: Identity) -> None:
    """Write and read an object that a key of KMS encrypts."""
    key = f"arn:aws:kms:{VALUES['REGION']}:{VALUES['ACCOUNT']}:key/{VALUES['KEY']}"
    world.sign_in(who)
    with world.open_store(S3Settings(kms_key=key)) as store:
        store.create("environments/encrypted.json", b"secret")
        assert store.read("environments/encrypted.json") == b"secret"


def ask_doctor(world: World, who: Identity) -> dict[str, Check]:
    """Run `envboot doctor`; returns the checks by name."""
    world.sign_in(who)
    now = datetime.now(timezone.utc)
    return {
        check.name: check
        for check in check_store(world.url, make_session(settings=Settings()), lambda: now)
    }


def ask_doctor_aws(world: World, who: Identity) -> dict[str, Check]:
    """Run `envboot doctor aws`."""
    world.account.ec2.quotas["L-1216C47A"] = 64.0
    world.sign_in(who)
    options = world.request(security_group=["default"]).options
    return {check.name: check for check in world.make_aws().doctor(options)}


def look_at_an_empty_profile(world: World, who: Identity) -> None:
    """Check a launch whose profile holds no role."""
    name = {"InstanceProfileName": world.values["ROLE"]}
    iam = world.account.client("iam")
    for role in iam.get_instance_profile(**name)["InstanceProfile"]["Roles"]:
        iam.remove_role_from_instance_profile(**name, RoleName=role["RoleName"])
    world.sign_in(who)
    world.make_aws().check(world.request().options)


def write_templates(world: World, who: Identity) -> None:
    """Make a launch template, and a second version of it."""
    world.sign_in(who)
    aws = world.make_aws()
    plan = aws.find_plan(world.request().options, by_role=True)
    clients: Any = aws.find_clients()
    for text in ("eA==", "eQ=="):
        name = f"template-{world.number}"
        data = compose_template(plan, name=name, user_data=text, room=0)
        put_template(clients, name, data)
