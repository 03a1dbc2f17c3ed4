"""What the user may set for Compute Engine, and all that can be told wrong without asking. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from envboot.toml import read_data
from envboot_provisioners import Option
from envboot_provisioners.faults import Fault, find_list, find_text, read_size, read_yes_no

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from envboot_provisioners import Options

PLATFORM = "Compute Engine"
MACHINE_TYPE = "e2-standard-4"
IMAGES = ("ubuntu", "ubuntu-22.04", "debian", "rocky")
_SCOPES = "https://www.googleapis.com/auth/"
SCOPE = f"{_SCOPES}cloud-platform"
WRITING = (SCOPE, f"{_SCOPES}devstorage.read_write", f"{_SCOPES}devstorage.full_control")
"""Scopes of which machines need one to write into a bucket (Cloud Storage, "OAuth 2.0 scopes")."""
_GCLOUD_SCOPES = {
    "storage-full": "devstorage.full_control",
    "storage-ro": "devstorage.read_only",
    "storage-rw": "devstorage.read_write",
}
"""gcloud's own words for some (`gcloud compute instances create --help`)."""
LARGEST_ROOT = 65_536
"""GiB of the largest disk (Compute Engine, "Persistent Disk", "Size limits")."""
MOST_LABELS = 64
"""Labels that a resource takes (Compute Engine, "Organize resources using labels")."""
LABEL = "envboot-launch"
"""The label that each instance gets; its value is the launch."""

OPTIONS = (
    Option(
        name="machine-type",
        metavar="TYPE",
        help=f"The machines, such as `c4a-standard-8`.  [default: {MACHINE_TYPE}]",
    ),
    Option(
        name="image",
        metavar="IMAGE",
        help="`ubuntu` (24.04), `ubuntu-22.04`, `debian` (12), `rocky` (9), or a path "
        "`projects/…/global/images/…`, also of a family.  [default: ubuntu]",
    ),
    Option(
        name="cloud-init",
        choices=("yes", "no"),
        help="Whether the image has cloud-init; without, it boots by a start-up script."
        "  [default: yes for Ubuntu, no for others]",
    ),
    Option(name="project", metavar="ID", help="The project.  [default: as gcloud's]"),
    Option(name="region", metavar="REGION", help="The region.  [default: as gcloud's]"),
    Option(
        name="zone",
        kind="list",
        metavar="ZONE",
        help="Only in this zone; repeat it for more.  [default: any of the region]",
    ),
    Option(name="network", metavar="NAME", help="The VPC network.  [default: default]"),
    Option(
        name="subnet",
        metavar="NAME",
        help="The subnet, by name or path.  [default: the network's in the region]",
    ),
    Option(
        name="public-ip",
        choices=("yes", "no"),
        help="Whether instances get a public address.  [default: yes]",
    ),
    Option(
        name="service-account",
        metavar="EMAIL",
        help="The instances' service account; `default` is the project's.  [default: none]",
    ),
    Option(
        name="scope",
        kind="list",
        metavar="SCOPE",
        help="What its token may be used for; repeat it for more.  [default: cloud-platform]",
    ),
    Option(
        name="root-size",
        kind="number",
        metavar="GIB",
        help="The disk.  [default: the image's, and what the environment needs]",
    ),
    Option(
        name="disk-type",
        metavar="TYPE",
        help="The disk's kind.  [default: `pd-balanced`, or `hyperdisk-balanced` where the "
        "machines take no other]",
    ),
    Option(
        name="spot",
        kind="flag",
        help="Spot instances; standard ones where there are none.",
        spot=True,
    ),
    Option(name="spot-only", kind="flag", help="Spot instances or none.", spot=True),
    Option(
        name="shielded",
        choices=("yes", "no"),
        help="Whether instances are Shielded VMs.  [default: yes, where the image can be]",
    ),
    Option(
        name="tag",
        kind="list",
        metavar="TAG",
        help="A network tag, which firewall rules name; repeat it for more.",
    ),
    Option(
        name="label",
        kind="list",
        metavar="K=V",
        help="A label of instances and disks; repeat it for more.",
    ),
)

_NAME = r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?"
_WORDS = {
    "machine-type": (re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)+"), "e2-standard-4"),
    "project": (re.compile(r"([a-z][a-z0-9.-]*:)?[a-z][a-z0-9-]{4,28}[a-z0-9]"), "my-project-42"),
    "region": (re.compile(r"[a-z]+-[a-z]+\d+"), "europe-west4"),
    "zone": (re.compile(r"[a-z]+-[a-z]+\d+-[a-z]"), "europe-west4-a"),
    "network": (re.compile(rf"(projects/[^/]+/global/networks/)?{_NAME}"), "default"),
    "subnet": (re.compile(rf"(projects/[^/]+/regions/[^/]+/subnetworks/)?{_NAME}"), "default"),
    "disk-type": (re.compile(r"(pd|hyperdisk)-[a-z-]+"), "pd-balanced"),
    "service-account": (re.compile(r"default|[^\s@]+@[^\s@]+\.[^\s@]+"), "a@b.iam"),
    "tag": (re.compile(_NAME), "no-inbound"),
}
"""Sources: RFC 1035, which Compute Engine's names obey; "Creating and managing projects"."""
_EXAMPLES = {"service-account": "machine@my-project-42.iam.gserviceaccount.com"}
_LISTS = {
    "machine-type": "compute machine-types list",
    "project": "projects list",
    "region": "compute regions list",
    "zone": "compute zones list",
    "network": "compute networks list",
    "subnet": "compute networks subnets list",
    "disk-type": "compute disk-types list",
    "service-account": "iam service-accounts list",
}
"""What of gcloud's lists those that there are."""
_IMAGE = re.compile(
    r"(https://[^/]+/compute/v1/)?projects/(?P<project>[^/]+)/global/images/"
    rf"(?P<family>family/)?(?P<name>{_NAME})"
)
_KEY, _VALUE = re.compile(r"[a-z][a-z0-9_-]{0,62}"), re.compile(r"[a-z0-9_-]{0,63}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagePath:
    """Where an image is; with `is_family` the newest of that family."""

    project: str
    name: str
    is_family: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class GcpSpec:
    """What the user wants of Compute Engine, as read from the options.

    `malformed` names the options that there is no use in looking up.
    """

    machine_type: str = MACHINE_TYPE
    image: str = IMAGES[0]
    cloud_init: bool | None = None
    project: str | None = None
    region: str | None = None
    zones: tuple[str, ...] = ()
    network: str | None = None
    subnet: str | None = None
    public_ip: bool | None = None
    service_account: str | None = None
    scopes: tuple[str, ...] = ()
    root_size: int | None = None
    disk_type: str | None = None
    spot: bool = False
    standard: bool = True
    shielded: bool | None = None
    tags: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    malformed: frozenset[str] = frozenset()

    @property
    def has_cloud_init(self) -> bool:
        """Whether its images have cloud-init, as far as we know or the user says."""
        if self.cloud_init is not None:
            return self.cloud_init
        if self.image in IMAGES:
            return bool(read_images()[self.image]["cloud-init"])
        path = parse_image(self.image)
        owners = {row["project"] for row in read_images().values() if row["cloud-init"]}
        return path is not None and path.project in owners


@cache
def read_images() -> dict[str, Any]:
    """Return the table of images, whose sources are in `templates/gcp-images.toml`."""
    return read_data("gcp-images.toml")


def parse_image(text: str) -> ImagePath | None:
    """Read the path of an image or a family, None where it is none."""
    found = _IMAGE.fullmatch(text)
    if not found:
        return None
    family = bool(found["family"])
    return ImagePath(project=found["project"], name=found["name"], is_family=family)


def find_image(spec: GcpSpec, platform: str) -> ImagePath | None:
    """Return where the image for a platform is; None where the spec names none."""
    if spec.image not in IMAGES:
        return parse_image(spec.image)
    row = read_images()[spec.image]
    return ImagePath(project=row["project"], name=row["families"][platform], is_family=True)


def read_spec(options: Options) -> tuple[GcpSpec, list[Fault]]:
    """Read the options; faults are all that is wrong with them."""
    faults: list[Fault] = []
    spot_only = find_text(options, "spot-only") == "true"
    spec = GcpSpec(
        machine_type=find_text(options, "machine-type") or MACHINE_TYPE,
        image=find_text(options, "image") or IMAGES[0],
        cloud_init=read_yes_no(options, "cloud-init", faults),
        project=find_text(options, "project"),
        region=find_text(options, "region"),
        zones=find_list(options, "zone"),
        network=find_text(options, "network"),
        subnet=find_text(options, "subnet"),
        public_ip=read_yes_no(options, "public-ip", faults),
        service_account=find_text(options, "service-account"),
        scopes=tuple(map(_to_scope, find_list(options, "scope"))),
        root_size=read_size(find_text(options, "root-size"), LARGEST_ROOT, faults),
        disk_type=find_text(options, "disk-type"),
        spot=find_text(options, "spot") == "true" or spot_only,
        standard=not spot_only,
        shielded=read_yes_no(options, "shielded", faults),
        tags=find_list(options, "tag"),
        labels=_read_labels(find_list(options, "label"), faults),
    )
    malformed = set(_check_words(options, faults))
    malformed |= set(_check_image(spec, faults))
    if spec.scopes and not spec.service_account:
        faults.append(
            Fault(
                message="Cannot take `scope` without `service-account`",
                hint="Name whose token it is with `--service-account`",
            )
        )
    return replace(spec, malformed=frozenset(malformed)), faults


def _to_scope(text: str) -> str:
    return text if "/" in text else _SCOPES + _GCLOUD_SCOPES.get(text, text)


def check_role(spec: GcpSpec) -> Iterator[Fault]:
    """Yield why machines could not ask a bucket as their service account: none, or too little."""
    if not spec.service_account:
        yield Fault(
            message="Expected a service account, whose token the machines ask with, found none",
            hint="Name one with `--service-account`",
        )
    if spec.scopes and not set(spec.scopes) & set(WRITING):
        given = ", ".join(f"`{scope.removeprefix(_SCOPES)}`" for scope in spec.scopes)
        yield Fault(
            message=f"Expected a scope that writes into the bucket, found {given}: machines could "
            "not even report",
            hint="Leave `--scope` out, or add `--scope devstorage.read_write`",
        )


def _check_words(options: Options, faults: list[Fault]) -> Iterator[str]:
    """Add what is wrong with single words; yields the options that cannot be looked up."""
    for name, (pattern, example) in _WORDS.items():
        for value in find_list(options, name):
            if not pattern.fullmatch(value):
                yield name
                words = name.replace("-", " ")
                article = "an" if words[0] in "aeiou" else "a"
                example = _EXAMPLES.get(name, example)
                text = f"Expected {article} {words}, such as `{example}`, found `{value}`"
                lists = f"`gcloud {_LISTS[name]}` lists them" if name in _LISTS else None
                faults.append(Fault(message=text, hint=lists))


def _check_image(spec: GcpSpec, faults: list[Fault]) -> Iterator[str]:
    """Add what is wrong with the image as it is named.

    Source: "Container-Optimized OS overview", "Limitations".
    """
    path = parse_image(spec.image)
    name = path.name if path else spec.image
    if name == "cos" or name.startswith("cos-") or (path and path.project == "cos-cloud"):
        yield "image"
        faults.append(
            Fault(
                message=f"Cannot use `{spec.image}`: Container-Optimized OS has no Python and no "
                "package manager, its root is read-only, and `/var` and `/home` run no programs",
                hint="Take another `--image`, such as `ubuntu` or `debian`",
            )
        )
    elif spec.image not in IMAGES and path is None:
        yield "image"
        faults.append(Fault(message=f"Unknown image `{spec.image}`", hint=_suggest(spec.image)))


def _suggest(image: str) -> str:
    """Return what may be meant by an image that is no word of ours and no path."""
    owner, _, name = image.rpartition("/")
    projects = {row["project"] for row in read_images().values()}
    if not owner:
        # `ubuntu-2404-lts-amd64` is of `ubuntu-os-cloud`, and so are its like.
        starts = {
            project: project.removesuffix("-cloud").removesuffix("-os") for project in projects
        }
        owner = next((p for p, start in starts.items() if name.startswith(f"{start}-")), "")
    if owner in projects and re.fullmatch(_NAME, name):
        return f"Name a family by its path: `--image projects/{owner}/global/images/family/{name}`"
    known = ", ".join(f"`{known}`" for known in IMAGES)
    return (
        f"Images are {known}, `projects/P/global/images/NAME` or "
        "`projects/P/global/images/family/NAME`"
    )


def _read_labels(texts: Sequence[str], faults: list[Fault]) -> tuple[tuple[str, str], ...]:
    labels: dict[str, str] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator:
            faults.append(Fault(message=f"Expected a label as `KEY=VALUE`, found `{text}`"))
        elif not _KEY.fullmatch(key) or not _VALUE.fullmatch(value):
            faults.append(
                Fault(
                    message="Expected a label of small letters, digits, `-` and `_`, found "
                    f"`{text}`",
                    hint="Key and value have at most 63 of them, and a key begins with a letter",
                )
            )
        elif key.startswith("envboot-"):
            faults.append(Fault(message=f"Cannot set the label `{key}`, which is reserved"))
        elif key in labels:
            faults.append(Fault(message=f"Cannot set the label `{key}` twice"))
        else:
            labels[key] = value
    if len(labels) >= MOST_LABELS:
        faults.append(
            Fault(message=f"Expected at most {MOST_LABELS - 1} labels, found {len(labels)}")
        )
    return tuple(labels.items())
