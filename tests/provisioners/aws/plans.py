"""Plans and requests that tests of EC2 share."""

from __future__ import annotations

from typing import Any

from envboot_provisioners import StartRequest
from envboot_provisioners.aws.options import read_spec
from envboot_provisioners.aws.request import AwsAttempt, AwsImage, AwsPlace, AwsPlan

LAUNCH = "20260101-000000-abcd"
IMAGE = AwsImage(id="ami-0000000000002404a", root_device="/dev/xvda", size=15)
PLACES = (
    AwsPlace(subnet="subnet-00000001", zone="us-east-1a"),
    AwsPlace(subnet="subnet-00000002", zone="us-east-1b"),
)
# What no text can be, and what base64 would change if it were done twice.
USER_DATA = b"\x1f\x8b\x08\x00" + bytes(range(256)) + b"Content-Type: multipart/mixed\n"


def make_plan(*, groups: tuple[str, ...] = (), places: Any = PLACES, **options: Any) -> AwsPlan:
    """Return a plan for options, as if AWS had been asked."""
    spec, faults = read_spec({name.replace("_", "-"): value for name, value in options.items()})
    assert not faults
    return AwsPlan(
        spec=spec,
        region="us-east-1",
        platform="linux-64",
        image=IMAGE,
        places=places,
        groups=groups,
    )


def make_attempt(market: str = "on-demand", *, number: int = 1) -> AwsAttempt:
    """Return an attempt in the first place."""
    return AwsAttempt(place=PLACES[0], market=market, least=3, most=3, number=number)


def make_request(
    launch: str = LAUNCH, *, count: int = 1, room: int = 0, first: int = 0, **options: Any
) -> StartRequest:
    """Return what a launch would ask for."""
    return StartRequest(
        launch=launch,
        count=count,
        user_data=USER_DATA,
        fixed_prefix=True,
        room=room,
        options={name.replace("_", "-"): value for name, value in options.items()},
        first=first,
    )
