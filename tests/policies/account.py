"""An account of AWS whose policies count: moto with IAM authentication on, behind a gate.

moto checks every signature and asks the caller's policies about its action; for S3 about the
resource too. It knows neither conditions nor what a request needs beside its own action (the
role that is passed, the tags, a copy's source, a key of KMS), neither signed URLs nor forms. The
gate in front of it asks the same policy about all of that, and answers in AWS's words.
"""

from __future__ import annotations

import contextlib
import json
import re
import urllib.request
from dataclasses import dataclass, field, replace
from email.utils import formatdate, parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import boto3
from botocore.credentials import Credentials

from tests.agent.proxy import Handler, Proxy, running
from tests.ec2 import run_ec2_server
from tests.policies.documents import VALUES, Document, Need, find_allowing, widen
from tests.policies.needs import Call, read_late, read_query, read_s3
from tests.policies.wire import Reply, Wire, decode, refuse, send, sign, take_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.ec2 import Ec2

REGION = VALUES["REGION"]
EVERYTHING = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
}
ANSWERED = ("GetParameter", "GetServiceQuota", "DescribePlacementGroups")
"""What the proxy of `tests/ec2.py` knows and moto does not."""


@dataclass(kw_only=True, slots=True)
class Identity:
    """A user or the session of a role: its keys and what it may do.

    `context` is what every request of it carries, beside what the request itself tells.
    """

    name: str
    arn: str
    credentials: Credentials
    document: Document
    context: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True, slots=True)
class Account:
    """What tests use: identities, and what each of them needed and was refused.

    `age` is by how many seconds objects look older than they are; `differences` are requests
    that moto and our own evaluation do not agree about.
    """

    moto: str
    ec2: Ec2
    admin: Credentials
    identities: dict[str, Identity] = field(default_factory=dict)
    used: dict[str, list[Need]] = field(default_factory=dict)
    refused: dict[str, list[str]] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    age: float = 0.0
    _clients: dict[tuple[str, str], Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        """Return a client past the gate that may do everything."""
        known = service, self.admin.access_key
        if known not in self._clients:
            self._clients[known] = boto3.client(
                service,  # type: ignore[call-overload]
                region_name=REGION,
                endpoint_url=self.moto,
                aws_access_key_id=self.admin.access_key,
                aws_secret_access_key=self.admin.secret_key,
            )
        return self._clients[known]

    def add_user(self, name: str, document: Document) -> Identity:
        """Make a user who may do what the document says."""
        iam = self.client("iam")
        arn = iam.create_user(UserName=name)["User"]["Arn"]
        iam.put_user_policy(
            UserName=name, PolicyName="policy", PolicyDocument=json.dumps(widen(document))
        )
        keys = iam.create_access_key(UserName=name)["AccessKey"]
        credentials = Credentials(keys["AccessKeyId"], keys["SecretAccessKey"])
        return self._keep(name, arn, credentials, document)

    def add_session(self, name: str, trust: str, document: Document) -> Identity:
        """Make a role of EC2's and take it, as EC2 does for a machine."""
        iam = self.client("iam")
        arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
        text = json.dumps(widen(document))
        iam.put_role_policy(RoleName=name, PolicyName="policy", PolicyDocument=text)
        # moto knows no service that takes a role.
        with self.open():
            taken = self.client("sts").assume_role(RoleArn=arn, RoleSessionName="i-0")
        keys = taken["Credentials"]
        credentials = Credentials(
            keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"]
        )
        return self._keep(name, arn, credentials, document)

    def _keep(self, name: str, arn: str, credentials: Credentials, document: Document) -> Identity:
        found = Identity(name=name, arn=arn, credentials=credentials, document=document)
        self.identities[credentials.access_key] = found
        self.used[name], self.refused[name] = [], []
        return found

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Let everybody do everything."""
        switch_authentication(self.moto, on=False)
        try:
            yield
        finally:
            switch_authentication(self.moto, on=True)

    def find_tags(self, instance: str) -> dict[str, str]:
        """Return an instance's tags."""
        filters = [{"Name": "instance-id", "Values": [instance]}]
        found = self.client("ec2").describe_instances(Filters=filters)["Reservations"]
        tags = found[0]["Instances"][0].get("Tags", []) if found else []
        return {tag["Key"]: tag["Value"] for tag in tags}


def switch_authentication(moto: str, *, on: bool) -> None:
    """Let moto ask policies, or not."""
    data = b"0" if on else b"inf"
    plain = {"Content-Type": "text/plain"}
    request = urllib.request.Request(f"{moto}/moto-api/reset-auth", data, plain)
    with urllib.request.urlopen(request, timeout=30):
        pass


class Gate(Proxy):
    """Stands before moto and asks the policies what it cannot."""

    def __init__(self, account: Account) -> None:
        super().__init__(urlsplit(account.moto).port or 80, GateHandler, keeps_host=True)
        self.account = account

    @property
    def endpoint(self) -> str:
        """Where every service of the account is."""
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def run_account(folder: Path) -> Iterator[Gate]:
    """Run moto, an administrator who may do everything, and the gate."""
    with run_ec2_server(folder) as front:
        account = Account(moto=front.ec2.upstream, ec2=front.ec2, admin=Credentials("any", "any"))
        account.admin = account.add_user("admin", EVERYTHING).credentials
        switch_authentication(account.moto, on=True)
        with running(Gate(account)) as gate:
            yield gate


class GateHandler(Handler):
    """Judges one request."""

    server: Gate

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kept = {name: text for name, text in self.headers.items() if name.lower() != "expect"}
        request = Wire(method=self.command, path=self.path, headers=kept, body=body)
        with self.server.lock:
            answer = self._judge(request)
        headers = dict(answer.headers)
        for name in [name for name in headers if name.lower() == "last-modified"]:
            modified = parsedate_to_datetime(headers[name]).timestamp()
            headers[name] = formatdate(modified - self.server.account.age, usegmt=True)
        self._answer(answer.status, answer.body, headers=headers)

    def _judge(self, request: Wire) -> Reply:
        """Ask our evaluation and moto's, which must say the same."""
        account = self.server.account
        taken = take_in(request, account.identities)
        if taken is None:
            body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
            return Reply(status=403, headers={}, body=body)
        request, who = taken
        call = self._read(request)
        if call.operation == "HeadBucket":
            # That there is no such bucket is told to everybody.
            found = send(self.server.upstream, sign(request, account.admin))
            if found.status == 404:
                return found
        missing = self._ask(who, call, call.needs)
        asked = call.asked_by_moto
        if missing and (asked is None or find_allowing(widen(who.document), asked)):
            # moto would do it.
            return refuse(call.service, who.arn, missing[0], request)
        if call.is_misnamed:
            request = sign(request, account.admin)
        answer = send(self.server.upstream, request)
        if (answer.status == 403) != bool(missing):
            told = f"{answer.status} {answer.body[:300]!r}"
            account.differences.append(f"{who.name}: {call.operation} {request.path}: {told}")
        if missing:
            return refuse(call.service, who.arn, missing[0], request)
        late = self._ask(who, call, read_late(call, answer.status, answer.headers))
        if late:
            return refuse(call.service, who.arn, late[0], request)
        if call.operation in ANSWERED:
            return send(urlsplit(account.ec2.endpoint).port or 80, request)
        if call.operation == "DecodeAuthorizationMessage":
            return Reply(status=200, headers={}, body=decode(request.body))
        return answer

    def _read(self, request: Wire) -> Call:
        """Return what a request is and needs."""
        scope = re.search(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/", request.headers["Authorization"])
        service = scope[1] if scope else ""
        if service == "s3":
            return read_s3(request.method, request.path, request.headers)
        target = request.headers.get("X-Amz-Target", "")
        text = request.body.decode()
        found = json.loads(text) if target else dict(parse_qsl(text, keep_blank_values=True))
        operation = target.rpartition(".")[2] or found["Action"]
        needs = read_query(service, operation, found, self.server.account.find_tags)
        return Call(service=service, operation=operation, needs=needs)

    def _ask(self, who: Identity, call: Call, needs: tuple[Need, ...]) -> list[Need]:
        """Return what a policy does not allow, and note what it does."""
        account = self.server.account
        needs = tuple(replace(need, context={**need.context, **who.context}) for need in needs)
        missing = [need for need in needs if not find_allowing(who.document, need)]
        account.refused[who.name] += [f"{call.operation}: {need.action}" for need in missing]
        if not missing:
            account.used[who.name] += needs
        return missing
