"""AWS's API, by moto, with what it lacks or gets wrong for our modules.

Run as `python -m tests.terraform.api -H 127.0.0.1 -p PORT`.
"""

from __future__ import annotations

import sys
import uuid
from typing import Any

from moto.autoscaling.responses import AutoScalingResponse
from moto.core.responses import ActionResult
from moto.ec2.models.launch_templates import LaunchTemplate, LaunchTemplateVersion
from moto.ec2.utils import parse_user_data
from moto.server import main


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


def create_version(
    self: LaunchTemplate, data: dict[str, Any], description: str
) -> LaunchTemplateVersion:
    """Keep a version as EC2 does: without the template's own tags, and ready to be launched."""
    tags = data.get("TagSpecifications", [])
    data["TagSpecifications"] = [each for each in tags if each["ResourceType"] != "launch-template"]
    if isinstance(data.get("UserData"), str):
        data["UserData"] = parse_user_data(data["UserData"])
    return _create_version(self, data, description)


_create_version = LaunchTemplate.create_version

if __name__ == "__main__":
    AutoScalingResponse.start_instance_refresh = start_instance_refresh  # type: ignore[attr-defined]
    AutoScalingResponse.describe_instance_refreshes = describe_instance_refreshes  # type: ignore[attr-defined]
    LaunchTemplate.create_version = create_version  # type: ignore[method-assign]
    main(sys.argv[1:])
