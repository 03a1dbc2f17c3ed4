"""What AWS asks a policy about a request: actions, resources and context. Pure.

Source: Service Authorization Reference, "Actions, resources, and condition keys" of each service;
for S3 also "Required permissions for Amazon S3 API operations".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from tests.policies.documents import VALUES, Need

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REGION, ACCOUNT = VALUES["REGION"], VALUES["ACCOUNT"]
SETTINGS = {
    "publicAccessBlock": "BucketPublicAccessBlock",
    "ownershipControls": "BucketOwnershipControls",
    "encryption": "EncryptionConfiguration",
    "lifecycle": "LifecycleConfiguration",
    "policy": "BucketPolicy",
}
_OTHERWISE = ("publicAccessBlock", "ownershipControls", "encryption")
MISNAMED = (
    "HeadBucket",
    *(f"{verb}{SETTINGS[name]}" for verb in ("Get", "Put") for name in _OTHERWISE),
)
"""What moto asks a policy about under another name than S3."""
_ARN = {
    "image": "ec2:{region}::image/{name}",
    "role": "iam::{account}:role/{name}",
    "instance-profile": "iam::{account}:instance-profile/{name}",
}
_OURS = "ec2:{region}:{account}:{kind}/{name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One request: to which service, its operation, and what it needs."""

    service: str
    operation: str
    needs: tuple[Need, ...]
    bucket: str = ""
    key: str = ""

    @property
    def is_misnamed(self) -> bool:
        """Whether moto asks about something else."""
        return self.operation in MISNAMED

    @property
    def asked_by_moto(self) -> Need | None:
        """What moto asks a policy about: one action, on a resource only where that is of S3."""
        if self.is_misnamed or not self.needs:
            return None
        if self.service != "s3":
            return Need(action=f"{self.service}:{self.operation}")
        own = "s3:PutObject" if self.operation == "CopyObject" else f"s3:{self.operation}"
        own = {"s3:ListObjectsV2": "s3:ListBucket"}.get(own, own)
        return next(need for need in self.needs if need.action == own)


def arn(kind: str, name: str) -> str:
    """Return the ARN of something of EC2 or IAM."""
    place = {"region": REGION, "account": ACCOUNT, "kind": kind, "name": name}
    return "arn:aws:" + _ARN.get(kind, _OURS).format(**place)


def read_query(
    service: str,
    operation: str,
    found: Mapping[str, str],
    tags: Callable[[str], Mapping[str, str]],
) -> tuple[Need, ...]:
    """Return what a request of EC2, IAM, SSM, STS or Service Quotas needs.

    `tags` returns those of an instance.
    """
    action = f"{service}:{operation}"
    if operation == "GetCallerIdentity":
        return ()
    if operation == "RunInstances":
        return tuple(_launch(found))
    if operation in ("TerminateInstances", "GetConsoleOutput"):
        names = [value for name, value in found.items() if name.startswith("InstanceId")]
        return tuple(
            Need(
                action=action,
                resource=arn("instance", name),
                context={f"aws:ResourceTag/{key}": value for key, value in tags(name).items()},
            )
            for name in names
        )
    if operation in ("CreateLaunchTemplateVersion", "ModifyLaunchTemplate"):
        return (Need(action=action, resource=arn("launch-template", found["LaunchTemplateId"])),)
    if operation == "CreateLaunchTemplate":
        return (Need(action=action, resource=arn("launch-template", "*")),)
    if operation == "GetInstanceProfile":
        name = found["InstanceProfileName"]
        return (Need(action=action, resource=arn("instance-profile", name)),)
    if operation == "GetParameter":
        # Public parameters belong to no account.
        name = found["Name"]
        owner = "" if name.startswith("/aws/") else ACCOUNT
        return (Need(action=action, resource=f"arn:aws:ssm:{REGION}:{owner}:parameter{name}"),)
    return (Need(action=action),)


def _launch(found: Mapping[str, str]) -> list[Need]:
    """Return what RunInstances needs: itself on all that is used and made, tags, and the role."""
    tagged: dict[str, dict[str, str]] = {}
    for member, kind in found.items():
        if match := re.fullmatch(r"TagSpecification\.(\d+)\.ResourceType", member):
            start = f"TagSpecification.{match[1]}.Tag."
            keys = {name: value for name, value in found.items() if name.startswith(start)}
            tagged[kind] = {
                value: keys[name.removesuffix("Key") + "Value"]
                for name, value in keys.items()
                if name.endswith(".Key")
            }
    used = [arn("image", found["ImageId"]), arn("subnet", _subnet(found))]
    groups = [value for name, value in found.items() if "SecurityGroup" in name]
    used += [arn("security-group", name) for name in groups or ["sg-default"]]
    used += [arn("key-pair", found["KeyName"])] if "KeyName" in found else []
    group = found.get("Placement.GroupName")
    used += [arn("placement-group", group)] if group else []
    made = ["instance", "volume", "network-interface"]
    made += ["spot-instances-request"] if "InstanceMarketOptions.MarketType" in found else []
    needs = [Need(action="ec2:RunInstances", resource=each) for each in used]
    for kind in made:
        tags = {f"aws:RequestTag/{key}": value for key, value in tagged.get(kind, {}).items()}
        tokens = found.get("MetadataOptions.HttpTokens", "optional")
        extra = {"ec2:MetadataHttpTokens": tokens} if kind == "instance" else {}
        needs.append(
            Need(action="ec2:RunInstances", resource=arn(kind, "*"), context={**tags, **extra})
        )
        if tags:
            context = {**tags, "ec2:CreateAction": "RunInstances"}
            needs.append(Need(action="ec2:CreateTags", resource=arn(kind, "*"), context=context))
    profile = found.get("IamInstanceProfile.Name")
    if profile:
        context = {"iam:PassedToService": "ec2.amazonaws.com"}
        # A profile has its role's name here, as the console makes them.
        needs.append(Need(action="iam:PassRole", resource=arn("role", profile), context=context))
    return needs


def _subnet(found: Mapping[str, str]) -> str:
    return found.get("SubnetId") or found.get("NetworkInterface.1.SubnetId") or "subnet-default"


def read_s3(method: str, url: str, headers: Mapping[str, str]) -> Call:
    """Return a request of S3 and what it needs, as far as it tells before it is answered."""
    parts = urlsplit(url)
    query = parse_qs(parts.query, keep_blank_values=True)
    bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
    if key:
        low = {name.lower(): value for name, value in headers.items()}
        operation, needs = _object(method, bucket, key, low)
    else:
        operation, needs = _bucket(method, bucket, query)
    return Call(service="s3", operation=operation, needs=tuple(needs), bucket=bucket, key=key)


def _bucket(method: str, bucket: str, query: Mapping[str, list[str]]) -> tuple[str, list[Need]]:
    resource = f"arn:aws:s3:::{bucket}"
    for setting, name in SETTINGS.items():
        if setting in query:
            operation = f"{method.capitalize()}{name}"
            return operation, [Need(action=f"s3:{operation}", resource=resource)]
    if method == "HEAD":
        return "HeadBucket", [Need(action="s3:ListBucket", resource=resource)]
    if method == "PUT":
        return "CreateBucket", [Need(action="s3:CreateBucket", resource=resource)]
    context = {"s3:prefix": query["prefix"][0]} if "prefix" in query else {}
    return "ListObjectsV2", [Need(action="s3:ListBucket", resource=resource, context=context)]


def _object(
    method: str, bucket: str, key: str, headers: Mapping[str, str]
) -> tuple[str, list[Need]]:
    resource = f"arn:aws:s3:::{bucket}/{key}"
    if method == "DELETE":
        return "DeleteObject", [Need(action="s3:DeleteObject", resource=resource)]
    if method != "PUT":
        return "GetObject", [Need(action="s3:GetObject", resource=resource)]
    context = {}
    if "if-none-match" in headers:
        context["s3:if-none-match"] = headers["if-none-match"]
    needs = []
    source = unquote(headers.get("x-amz-copy-source", "")).lstrip("/")
    if source:
        context["s3:x-amz-copy-source"] = source
        needs.append(Need(action="s3:GetObject", resource=f"arn:aws:s3:::{source}"))
    needs.append(Need(action="s3:PutObject", resource=resource, context=context))
    used = headers.get("x-amz-server-side-encryption-aws-kms-key-id")
    if used:
        needs.append(need_key("GenerateDataKey", used))
    return "CopyObject" if source else "PutObject", needs


def need_key(operation: str, used: str) -> Need:
    """Return what a key of KMS wants to be allowed for S3."""
    context = {"kms:ViaService": f"s3.{REGION}.amazonaws.com"}
    return Need(action=f"kms:{operation}", resource=used, context=context)


def read_late(call: Call, status: int, answer: Mapping[str, str]) -> tuple[Need, ...]:
    """Return what S3 asks a policy about once it has looked for the object.

    That one is missing is told to who may list it: the key stands for the prefix then.
    """
    if call.operation not in ("GetObject", "CopyObject") or not call.key:
        return ()
    if status == 404:
        resource, context = f"arn:aws:s3:::{call.bucket}", {"s3:prefix": call.key}
        return (Need(action="s3:ListBucket", resource=resource, context=context),)
    low = {name.lower(): value for name, value in answer.items()}
    used = low.get("x-amz-server-side-encryption-aws-kms-key-id")
    return (need_key("Decrypt", used),) if used else ()
