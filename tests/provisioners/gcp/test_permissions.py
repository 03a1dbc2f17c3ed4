"""The roles in the documentation: each permission is needed, and nothing more is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from envboot_provisioners.gcp.doctor import find_needed
from envboot_provisioners.gcp.request import compose_properties
from envboot_provisioners.gcp.templates import put_template
from tests.gce import ACCOUNT
from tests.provisioners.gcp.test_starting import make_request

if TYPE_CHECKING:
    from envboot_provisioners.gcp import GcpProvisioner
    from tests.gce import Gce

pytestmark = [pytest.mark.sockets]
DOCS = Path(__file__).parents[3] / "docs/gcp"
ON_THE_ACCOUNT = {"iam.serviceAccounts.actAs"}
OPTIONS: dict[str, Any] = {"service_account": ACCOUNT, "tag": ("inside",), "spot": "true"}


def read_role(name: str) -> set[str]:
    return set(yaml.safe_load((DOCS / f"{name}.yaml").read_text())["includedPermissions"])


def test_a_launch_and_its_end_need_all_that_the_role_has(gce: Gce, gcp: GcpProvisioner) -> None:
    request = make_request(subnet="inside", **OPTIONS)
    list(gcp.doctor(request.options))
    (instance,) = gcp.start(request)
    gcp.check({})
    gcp.console(instance)
    gcp.terminate([instance])
    gcp.states([instance])
    assert gce.used - ON_THE_ACCOUNT == read_role("client")
    assert set(find_needed(gcp.find_plan(request.options))) == read_role("client")


def test_a_template_needs_all_that_the_role_has(gce: Gce, gcp: GcpProvisioner) -> None:
    gcp.check({})
    plan = gcp.find_plan(make_request(subnet="inside", **OPTIONS).options)
    clients = gcp.find_clients()
    properties = compose_properties(
        plan, "forecast-0a1b2c3d", metadata={"user-data": "x"}, room=0, market="spot"
    )
    gce.slow = 1
    made = put_template(clients, "forecast", properties)
    assert made.made
    assert list(gce.templates) == [made.name]
    assert gce.used - ON_THE_ACCOUNT == read_role("builder")
    # The same again is the same one; a change is another.
    again = put_template(clients, "forecast", properties)
    assert (again.made, again.id, again.name) == (False, made.id, made.name)
    other = put_template(clients, "forecast", {**properties, "labels": {"a": "b"}})
    assert other.name != made.name
