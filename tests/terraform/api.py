"""AWS's API, by moto, with what it lacks or gets wrong for our modules.

Run as `python -m tests.terraform.api -H 127.0.0.1 -p PORT`.
"""

from __future__ import annotations

import sys
import uuid
from typing import TYPE_CHECKING, Any

from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult
from moto.ec2.models import EC2Backend
from moto.server import main

if TYPE_CHECKING:
    from moto.ec2.models.launch_templates import LaunchTemplate


def start_instance_refresh(self: AutoScalingResponse) -> ActionResult:
    """Replace every instance of the group by one of its present launch template, at once."""
    backend = self.autoscaling_backend
    (group,) = backend.describe_auto_scaling_groups([self._get_param("AutoScalingGroupName")])
    for state in list(group.instance_states):
        backend.terminate_instance(state.instance.id, should_decrement=False)
    return ActionResult({"InstanceRefreshId": str(uuid.uuid4())})


def describe_instance_refreshes(self: AutoScalingResponse) -> ActionResult:
    """Say that no refresh goes on: they end at once."""
    del self
    return ActionResult({"InstanceRefreshes": []})


def create_launch_template(self: EC2Backend, *args: Any, **kwargs: Any) -> LaunchTemplate:
    """Make a template whose data has not its own tags: EC2 does not return them there."""
    template = _create_launch_template(self, *args, **kwargs)
    data = template.versions[0].data
    tags = data.get("TagSpecifications", [])
    data["TagSpecifications"] = [each for each in tags if each["ResourceType"] != "launch-template"]
    return template


_create_launch_template = EC2Backend.create_launch_template

if __name__ == "__main__":
    AutoScalingResponse.start_instance_refresh = start_instance_refresh  # type: ignore[attr-defined]
    AutoScalingResponse.describe_instance_refreshes = describe_instance_refreshes  # type: ignore[attr-defined]
    EC2Backend.create_launch_template = create_launch_template  # type: ignore[method-assign]
    main(sys.argv[1:])
