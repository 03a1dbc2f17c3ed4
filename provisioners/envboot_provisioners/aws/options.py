"""What the user may set for EC2, and everything that can be told wrong without asking AWS. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from envboot_provisioners import Option
from envboot_provisioners.faults import Fault, find_list, find_text, read_size, read_yes_no

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from envboot_provisioners import Options

PLATFORM = "EC2"
INSTANCE_TYPE = "m6i.large"
IMAGES = ("ubuntu", "ubuntu-22.04", "debian", "amazon-linux")
LARGEST_ROOT = 16_384
"""GiB that every region takes for a gp3 volume (EBS User Guide, "General Purpose SSD")."""
MOST_TAGS = 50
"""Tags that a resource takes (EC2 User Guide, "Tag restrictions")."""
OURS = ("Name", "envboot:launch")
"""The tags that each instance gets, whatever the user's are."""

OPTIONS = (
    Option(
        name="instance-type",
        metavar="TYPE",
        help=f"The machines, such as `c7g.4xlarge`.  [default: {INSTANCE_TYPE}]",
    ),
    Option(
        name="image",
        metavar="IMAGE",
        help="`ubuntu` (24.04), `ubuntu-22.04`, `debian` (12), `amazon-linux` (2023), an `ami-…`, "
        "or a parameter of Systems Manager that holds one.  [default: ubuntu]",
    ),
    Option(name="region", metavar="REGION", help="The region.  [default: as the AWS CLI's]"),
    Option(
        name="zone",
        kind="list",
        metavar="ZONE",
        help="Only in this availability zone; repeat it for more.  [default: any]",
    ),
    Option(
        name="subnet",
        kind="list",
        metavar="ID",
        help="In this subnet; repeat it for more, mostly in other zones."
        "  [default: those of the default VPC]",
    ),
    Option(
        name="security-group",
        kind="list",
        metavar="GROUP",
        help="In this group, by id or name; repeat it for more.  [default: the VPC's default]",
    ),
    Option(
        name="public-ip",
        choices=("yes", "no"),
        help="Whether instances get a public address.  [default: as the subnet says]",
    ),
    Option(name="instance-profile", metavar="NAME", help="The instances' role, by name or ARN."),
    Option(name="key", metavar="NAME", help="An EC2 key pair, for SSH. envboot needs none."),
    Option(
        name="root-size",
        kind="number",
        metavar="GIB",
        help="The disk.  [default: the image's, and what the environment needs]",
    ),
    Option(
        name="spot",
        kind="flag",
        help="Spot instances; on-demand where there are none.",
        spot=True,
    ),
    Option(name="spot-only", kind="flag", help="Spot instances or none.", spot=True),
    Option(
        name="max-price",
        metavar="USD",
        help="The most that a spot instance may cost an hour.  [default: as on-demand]",
        spot=True,
    ),
    Option(name="placement", metavar="GROUP", help="A placement group."),
    Option(
        name="tag",
        kind="list",
        metavar="K=V",
        help="A tag of instances, disks and interfaces; repeat it for more.",
    ),
)

_IDS = {
    "subnet": (re.compile(r"subnet-[0-9a-f]{8,}"), "subnet-0123456789abcdef0"),
    "zone": (re.compile(r"[a-z0-9-]+\d[a-z]"), "us-east-1a"),
}
_TYPE = re.compile(r"[a-z0-9-]+\.[a-z0-9-]+")
_PRICE = re.compile(r"\d+(\.\d+)?")
_PROFILE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:instance-profile/\S+|[\w+=,.@-]{1,128}")


@dataclass(frozen=True, kw_only=True, slots=True)
class AwsSpec:
    """What the user wants of EC2, as read from the options.

    `malformed` names the options that there is no use in looking up.
    """

    instance_type: str = INSTANCE_TYPE
    image: str = IMAGES[0]
    region: str | None = None
    zones: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    public_ip: bool | None = None
    profile: str | None = None
    key: str | None = None
    root_size: int | None = None
    spot: bool = False
    on_demand: bool = True
    max_price: str | None = None
    placement: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    malformed: frozenset[str] = frozenset()


def read_spec(options: Options) -> tuple[AwsSpec, list[Fault]]:
    """Read the options; faults are all that is wrong with them."""
    faults: list[Fault] = []
    spot_only = find_text(options, "spot-only") == "true"
    spot = find_text(options, "spot") == "true"
    spec = AwsSpec(
        instance_type=find_text(options, "instance-type") or INSTANCE_TYPE,
        image=find_text(options, "image") or IMAGES[0],
        region=find_text(options, "region"),
        zones=find_list(options, "zone"),
        subnets=find_list(options, "subnet"),
        groups=find_list(options, "security-group"),
        public_ip=read_yes_no(options, "public-ip", faults),
        profile=find_text(options, "instance-profile"),
        key=find_text(options, "key"),
        root_size=read_size(find_text(options, "root-size"), LARGEST_ROOT, faults),
        spot=spot or spot_only,
        on_demand=not spot_only,
        max_price=find_text(options, "max-price"),
        placement=find_text(options, "placement"),
        tags=_read_tags(find_list(options, "tag"), faults),
    )
    malformed = frozenset(_check_words(spec, faults))
    return replace(spec, malformed=malformed), faults


def _check_words(spec: AwsSpec, faults: list[Fault]) -> Iterator[str]:
    """Add what is wrong with single words; yields the options that cannot be looked up."""
    if not _TYPE.fullmatch(spec.instance_type):
        yield "instance-type"
        faults.append(
            Fault(
                message=f"Expected an instance type, such as `m6i.large`, found "
                f"`{spec.instance_type}`"
            )
        )
    if spec.image not in IMAGES and not spec.image.startswith(("ami-", "/")):
        known = ", ".join(f"`{name}`" for name in IMAGES)
        faults.append(
            Fault(
                message=f"Unknown image `{spec.image}`",
                hint=f"Images are {known}, an `ami-…`, or a parameter `/…` that holds one",
            )
        )
    for name, values in (("subnet", spec.subnets), ("zone", spec.zones)):
        pattern, example = _IDS[name]
        for value in values:
            if not pattern.fullmatch(value):
                yield name
                text = f"Expected a {name}, such as `{example}`, found `{value}`"
                faults.append(Fault(message=text))
    if spec.profile and not _PROFILE.fullmatch(spec.profile):
        yield "instance-profile"
        faults.append(
            Fault(
                message=f"Expected an instance profile's name or ARN, found `{spec.profile}`",
                hint="`aws iam list-instance-profiles` lists them; a role's ARN is another thing",
            )
        )
    if spec.max_price and not (_PRICE.fullmatch(spec.max_price) and float(spec.max_price) > 0):
        faults.append(
            Fault(
                message=f"Expected `max-price` in USD an hour, such as `0.25`, found "
                f"`{spec.max_price}`"
            )
        )
    if spec.max_price and not spec.spot:
        faults.append(Fault(message="Cannot take `max-price` without `spot`", hint="Add `--spot`"))


def _read_tags(texts: Sequence[str], faults: list[Fault]) -> tuple[tuple[str, str], ...]:
    """Read tags by the rules of the EC2 User Guide, "Tag restrictions"."""
    tags: dict[str, str] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not 0 < len(key) <= 128 or len(value) > 256:
            faults.append(
                Fault(
                    message=f"Expected a tag as `KEY=VALUE`, found `{text}`",
                    hint="A key has at most 128 characters, a value 256",
                )
            )
        elif key.lower().startswith(("aws:", "envboot:")):
            faults.append(Fault(message=f"Cannot set the tag `{key}`, which is reserved"))
        elif key in tags:
            faults.append(Fault(message=f"Cannot set the tag `{key}` twice"))
        else:
            tags[key] = value
    if len(tags.keys() | set(OURS)) > MOST_TAGS:
        faults.append(
            Fault(message=f"Expected at most {MOST_TAGS - len(OURS)} tags, found {len(tags)}")
        )
    return tuple(tags.items())
