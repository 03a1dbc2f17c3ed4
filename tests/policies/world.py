"""One user's corner of the account: a prefix, a role, and identities that sign in by turns."""

from __future__ import annotations

import contextlib
import itertools
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3

from envboot.store.s3.store import S3Store
from envboot_provisioners import StartRequest
from envboot_provisioners.aws import AwsProvisioner
from tests.policies.documents import (
    VALUES,
    Document,
    find_allowing,
    list_grants,
    many,
    merge,
    read_policy,
    read_text,
)
from tests.sessions import make_session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

    from envboot.config import S3Settings
    from envboot_provisioners import Instance
    from tests.agent.guests import Parts
    from tests.policies.account import Account, Gate, Identity
    from tests.policies.documents import Need

_numbers = itertools.count(1)


@dataclass(kw_only=True, slots=True)
class World:
    """What a test works with; `values` fill the policies in."""

    gate: Gate
    parts: Parts
    folder: Path
    patch: pytest.MonkeyPatch
    number: int = field(default_factory=lambda: next(_numbers))
    values: dict[str, str] = field(init=False)
    helper: Identity = field(init=False)

    def __post_init__(self) -> None:
        """Make bucket, role and profile, and a helper who may do what clients may."""
        name = f"-{self.number}"
        self.values = {
            **VALUES,
            "BUCKET": VALUES["BUCKET"] + name,
            "ROLE": VALUES["ROLE"] + name,
        }
        self.account.client("s3").create_bucket(Bucket=self.values["BUCKET"])
        iam = self.account.client("iam")
        role = self.values["ROLE"]
        iam.create_role(RoleName=role, AssumeRolePolicyDocument=read_text("trust"))
        iam.create_instance_profile(InstanceProfileName=role)
        iam.add_role_to_instance_profile(InstanceProfileName=role, RoleName=role)
        self.helper = self.add_user(merge(self.read("client"), self.read("launch-template")))
        self.sign_in(self.helper)

    @property
    def account(self) -> Account:
        """The account."""
        return self.gate.account

    @property
    def url(self) -> str:
        """The bucket with its prefix."""
        return f"s3://{self.values['BUCKET']}/{self.values['PREFIX']}"

    def read(self, name: str) -> Document:
        """Return a policy for this corner."""
        return read_policy(name, self.values)

    def add_user(self, document: Document) -> Identity:
        """Make a user of a name of its own."""
        return self.account.add_user(f"user-{next(_numbers)}", document)

    def add_session(self, document: Document) -> Identity:
        """Make a role and a session of it, trusted as the file says."""
        return self.account.add_session(f"role-{next(_numbers)}", read_text("trust"), document)

    def sign_in(self, who: Identity) -> None:
        """Let boto3 find the credentials of somebody, and the gate, and nothing else."""
        keys = who.credentials
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
            self.patch.delenv(name, raising=False)
        for name, value in {
            "AWS_ACCESS_KEY_ID": keys.access_key,
            "AWS_SECRET_ACCESS_KEY": keys.secret_key,
            "AWS_ENDPOINT_URL": self.gate.endpoint,
            "AWS_REGION": VALUES["REGION"],
            "AWS_DEFAULT_REGION": VALUES["REGION"],
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            self.patch.setenv(name, value)
        boto3.setup_default_session()

    def open_store(self, settings: S3Settings | None = None) -> S3Store:
        """Open the bucket as whoever is signed in."""
        return S3Store(self.url, settings=settings, environment=os.environ)

    def make_aws(self) -> AwsProvisioner:
        """Return a provisioner of whoever is signed in, who has launched nothing yet."""
        return AwsProvisioner(make_session(state=self.folder / f"state-{next(_numbers)}"))

    def request(self, **options: Any) -> StartRequest:
        """Return what a launch asks for: one machine with the role."""
        named = {name.replace("_", "-"): value for name, value in options.items()}
        return StartRequest(
            launch=f"launch-{next(_numbers)}",
            count=1,
            user_data=b"#!/bin/sh\n",
            fixed_prefix=True,
            options={"instance-profile": self.values["ROLE"], **named},
        )

    @contextlib.contextmanager
    def launched(self) -> Iterator[Instance]:
        """Have a machine that somebody else has launched, and end it."""
        aws = self.make_aws()
        (instance,) = aws.start(self.request())
        yield instance
        self.account.client("ec2").terminate_instances(InstanceIds=[instance.name])


def list_unused(document: Document, used: list[Need]) -> set[tuple[str, str]]:
    """Return what of a policy no request has needed: by Sid, its actions and its resources."""
    unused = set(list_grants(document))
    unused |= {
        (statement["Sid"], resource)
        for statement in document["Statement"]
        for resource in many(statement["Resource"])
    }
    for need in used:
        for statement in document["Statement"]:
            for resource in many(statement["Resource"]):
                single = {**statement, "Resource": resource}
                if find_allowing({"Statement": [single]}, need):
                    unused -= {(statement["Sid"], need.action), (statement["Sid"], resource)}
    return unused
