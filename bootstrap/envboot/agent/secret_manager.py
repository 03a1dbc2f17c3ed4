"""Secrets that the machine's cloud keeps, read as its role right before the command starts."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import random
import time
from email.utils import mktime_tz, parsedate_tz
from typing import Any, Callable, Dict, Tuple

from . import fetch
from .role import Answer
from .wire import AgentError

TRIES = 5
# The variables that the clouds' own tools read.
SERVICES = {
    "secretsmanager": "AWS_ENDPOINT_URL_SECRETS_MANAGER",
    "ssm": "AWS_ENDPOINT_URL_SSM",
    "gcp": "CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER",
}


def read(places: Dict[str, str]) -> Dict[str, str]:
    """Return the values of variables by name, of the places where they are kept.

    Raises:
        AgentError: one cannot be read. The text has what the cloud says, and never a value.
    """
    found: Dict[str, str] = {}
    for name, place in sorted(places.items()):
        try:
            value = _read_aws(place) if place[:4] == "arn:" else _read_gcp(place)
            if "\0" in value:
                raise AgentError("it has a NUL, which no variable can have")
        except AgentError as error:
            raise AgentError("%s: cannot read %s: %s" % (name, place, error)) from error
        found[name] = value
    return found


def _read_aws(place: str) -> str:
    """Return a secret of Secrets Manager or a parameter of Systems Manager by its ARN.

    A secret's ARN may go on with `:json-key:version-stage:version-id`, as in task definitions of
    ECS. https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html
    https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameter.html
    """
    from . import aws

    parts = place.split(":")
    partition, service, region = parts[1:4]
    key, stage, version = (parts[7:] + [""] * 3)[:3]
    target, question = "AmazonSSM.GetParameter", {"Name": place, "WithDecryption": True}
    if service != "ssm":
        target, question = "secretsmanager.GetSecretValue", {"SecretId": ":".join(parts[:7])}
        question.update({"VersionStage": stage} if stage else {})
        question.update({"VersionId": version} if version else {})
    domain = "amazonaws.com" + ".cn" * (partition == "aws-cn")
    url = os.environ.get(SERVICES[service]) or "https://%s.%s.%s" % (service, region, domain)
    body, role, ahead = json.dumps(question).encode(), aws.Role(), 0.0

    def ask() -> Answer:
        nonlocal ahead
        now = time.time() + ahead
        headers = {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": target,
            "X-Amz-Content-Sha256": hashlib.sha256(body).hexdigest(),
        }
        keys, place = role.read(now), region + "/" + service
        signed = aws.sign("POST", url + "/", headers, keys, place, now)
        found = fetch.exchange("POST", url + "/", body, signed)
        date = parsedate_tz(found[2]["Date"] or "")
        if found[0] == 400 and b"InvalidSignature" in found[1] and date and not ahead:
            # This machine's clock is off.
            ahead = mktime_tz(date) - time.time()
            return ask()
        return found

    document = _send(ask)
    if service == "ssm":
        value = document.get("Parameter", {}).get("Value")
    else:
        value = document.get("SecretString")
        if key:
            try:
                value = json.loads(value or "").get(key)
            except (ValueError, AttributeError):
                value = None
            if not isinstance(value, str):
                raise AgentError("it has no text under %s" % key)
    if not isinstance(value, str):
        raise AgentError("it has no text: a variable cannot be binary")
    return value


def _read_gcp(place: str) -> str:
    """Return a version of a secret of Secret Manager by its resource name.

    https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access
    """
    from . import gcp

    parts, domain = place.split("/"), "secretmanager.googleapis.com"
    if parts[2] == "locations":
        domain = "secretmanager.%s.rep.googleapis.com" % parts[3]
    url = (os.environ.get(SERVICES["gcp"]) or "https://" + domain).rstrip("/")
    url, account = "%s/v1/%s:access" % (url, place), gcp.Account()

    def ask() -> Answer:
        token = "Bearer " + account.read(time.monotonic())
        return fetch.exchange("GET", url, None, {"Authorization": token})

    document = _send(ask)
    try:
        return base64.b64decode(document["payload"]["data"], validate=True).decode()
    except (ValueError, KeyError, TypeError) as error:
        raise AgentError("it has no text: a variable cannot be binary") from error


def _send(ask: Callable[[], Answer]) -> Dict[str, Any]:
    """Return the document that answers, asked for again after a fault of the network or the cloud.

    Raises:
        AgentError: the cloud refuses, in its own words, or does not answer.
    """
    text = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(0.3 * 2**attempt * (0.5 + random.random()))
        try:
            status, data, _ = ask()
        except (OSError, http.client.HTTPException) as error:
            text = repr(error)
            continue
        kind, text, document = _explain(data)
        if status == 200:
            return document
        text = " ".join(["HTTP", str(status), kind, text])
        if status < 500 and status != 429 and "Throttl" not in kind:
            break
    raise AgentError(text)


def _explain(data: bytes) -> Tuple[str, str, Dict[str, Any]]:
    """Return an error's kind and message as either cloud writes them, and the document."""
    try:
        document = json.loads(data)
        error = document.get("error", {})
        kind = document.get("__type") or error.get("status") or ""
        text = document.get("message") or document.get("Message") or error.get("message") or ""
        return str(kind), str(text)[:600], document
    except (ValueError, AttributeError):
        # Not shown: it may be a secret that was cut.
        return "", "no JSON", {}
