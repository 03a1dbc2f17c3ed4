"""Plans and requests that tests of EC2 share."""

from __future__ import annotations

from typing import Any

from envboot_provisioners import Request
from envboot_provisioners.aws.options import read_wish
from envboot_provisioners.aws.request import Attempt, Image, Place, Plan

LAUNCH = "20260101-000000-abcd"
IMAGE = Image(id="ami-0000000000002404a", root_device="/dev/xvda", size=15)
PLACES = (
    Place(subnet="subnet-00000001", zone="us-east-1a"),
    Place(subnet="subnet-00000002", zone="us-east-1b"),
)
# What no text can be, and what base64 would change if it were done twice.
USER_DATA = b"\x1f\x8b\x08\x00" + bytes(range(256)) + b"Content-Type: multipart/mixed\n"


def make_plan(*, groups: tuple[str, ...] = (), places: Any = PLACES, **options: Any) -> Plan:
    """Return a plan for options, as if AWS had been asked."""
    wish, faults = read_wish({name.replace("_", "-"): value for name, value in options.items()})
    assert not faults
    return Plan(
        wish=wish,
        region="us-east-1",
        platform="linux-64",
        image=IMAGE,
        places=places,
        groups=groups,
    )


def make_attempt(market: str = "on-demand", *, number: int = 1) -> Attempt:
    """Return an attempt in the first place."""
    return Attempt(place=PLACES[0], market=market, least=3, most=3, number=number)


def make_request(
    launch: str = LAUNCH, *, count: int = 1, room: int = 0, first: int = 0, **options: Any
) -> Request:
    """Return what a launch would ask for."""
    return Request(
        launch=launch,
        count=count,
        user_data=USER_DATA,
        fixed_prefix=True,
        room=room,
        options={name.replace("_", "-"): value for name, value in options.items()},
        first=first,
    )
