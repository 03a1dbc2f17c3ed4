"""Launch templates: a new version only where something has changed, and that one the default."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from envboot.errors import ProvisionError
from envboot_provisioners.aws.errors import FAULTS, find_code

if TYPE_CHECKING:
    from envboot_provisioners.aws.clients import AwsClients

_NAME = re.compile(r"[a-zA-Z0-9().\-/_]{3,128}")


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchTemplate:
    """A launch template: its id, its default version, and whether that was made just now."""

    id: str
    name: str
    version: int
    made: bool


def check_name(name: str) -> None:
    """Refuse what EC2 takes as no name (API Reference, CreateLaunchTemplate).

    Raises:
        ProvisionError: it is none.
    """
    if not _NAME.fullmatch(name):
        raise ProvisionError(
            f"Expected a template's name of 3 to 128 letters, digits and `( ) . - / _`, "
            f"found `{name}`"
        )


def put_template(clients: AwsClients, name: str, data: dict[str, Any]) -> LaunchTemplate:
    """Have a template whose default version has this data.

    A version says in its description what it was made of, and is made once.

    Raises:
        ProvisionError: AWS refuses.
    """
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
    description = f"envboot {digest}"
    try:
        found = _find(clients, name)
        if found is None:
            made = clients.ec2.create_launch_template(
                LaunchTemplateName=name,
                VersionDescription=description,
                LaunchTemplateData=data,  # type: ignore[arg-type]
                ClientToken=hashlib.sha256(f"{name}/{digest}".encode()).hexdigest(),
            )["LaunchTemplate"]
            return LaunchTemplate(id=made["LaunchTemplateId"], name=name, version=1, made=True)
        known, newest = found["LaunchTemplateId"], found["LatestVersionNumber"]
        changed = _describe(clients, known, newest) != description
        if changed:
            newest = clients.ec2.create_launch_template_version(
                LaunchTemplateId=known,
                VersionDescription=description,
                LaunchTemplateData=data,  # type: ignore[arg-type]
                ClientToken=hashlib.sha256(f"{known}/{newest}/{digest}".encode()).hexdigest(),
            )["LaunchTemplateVersion"]["VersionNumber"]
        if found["DefaultVersionNumber"] != newest:
            clients.ec2.modify_launch_template(LaunchTemplateId=known, DefaultVersion=str(newest))
        return LaunchTemplate(id=known, name=name, version=newest, made=changed)
    except FAULTS as error:
        raise clients.explain(error, f"Failed to write launch template `{name}`") from error


def _find(clients: AwsClients, name: str) -> dict[str, Any] | None:
    try:
        found = clients.ec2.describe_launch_templates(LaunchTemplateNames=[name])
    except ClientError as error:
        if find_code(error).startswith("InvalidLaunchTemplateName.NotFound"):
            return None
        raise
    templates = found["LaunchTemplates"]
    return dict(templates[0]) if templates else None


def _describe(clients: AwsClients, known: str, version: int) -> str:
    found = clients.ec2.describe_launch_template_versions(
        LaunchTemplateId=known, Versions=[str(version)]
    )["LaunchTemplateVersions"]
    return found[0].get("VersionDescription", "") if found else ""
