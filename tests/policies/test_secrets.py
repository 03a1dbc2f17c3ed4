"""The agent reads a command's secrets from its cloud, as far as the machine's role may."""

from __future__ import annotations

import base64
import json
import re
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.credentials import Credentials

from envboot.agent import secret_manager
from envboot.agent.wire import AgentError
from tests.boot.gce_metadata import serve_gce_metadata
from tests.boot.metadata import serve_metadata
from tests.policies.documents import Need, find_allowing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.policies.account import Gate
    from tests.policies.documents import Document

pytestmark = pytest.mark.sockets

VALUE = "correct horse battery staple"
REGION = "us-east-1"
DOCS = Path(__file__).parents[2] / "docs"


def read_statement() -> dict[str, Any]:
    """Return the policy that the documentation gives for secrets."""
    blocks = re.findall(r"```json\n(.+?)```", (DOCS / "aws.md").read_text(), re.DOTALL)
    [found] = [block for block in blocks if "secretsmanager:GetSecretValue" in block]
    document: dict[str, Any] = json.loads(found)
    return document


def read(place: str) -> str:
    return secret_manager.read({"KEY": place})["KEY"]


def refuse(place: str) -> str:
    with pytest.raises(AgentError) as caught:
        read(place)
    assert VALUE not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def places(gate: Gate) -> dict[str, str]:
    """The ARNs of a text, a JSON document, a binary secret, a parameter."""
    manager, systems = gate.account.client("secretsmanager"), gate.account.client("ssm")
    stamp = str(time.monotonic_ns())
    made: dict[str, Any] = {
        "text": {"SecretString": VALUE},
        "json": {"SecretString": json.dumps({"user": "u", "password": VALUE})},
        "binary": {"SecretBinary": b"\0\1"},
    }
    found = {
        name: manager.create_secret(Name=f"{name}/{stamp}", **content)["ARN"]
        for name, content in made.items()
    }
    systems.put_parameter(Name=f"/team/{stamp}", Value=VALUE, Type="SecureString")
    parameter = systems.get_parameter(Name=f"/team/{stamp}")["Parameter"]
    return {**found, "parameter": parameter["ARN"]}


@pytest.fixture
def assume(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Document], None]]:
    """Return what gives the machine a role with a policy; moto checks signatures and actions."""
    with serve_metadata() as (metadata, endpoint):
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint)
        for variable in ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_ENDPOINT_URL_SSM"):
            monkeypatch.setenv(variable, gate.account.moto)

        def take(document: Document) -> None:
            trust = (DOCS / "aws/trust.json").read_text()
            name = f"reader-{time.monotonic_ns()}"
            keys = gate.account.add_session(name, trust, document).credentials
            metadata.tree = {f"meta-data/iam/security-credentials/{name}": write_keys(keys)}

        yield take


def write_keys(keys: Credentials) -> str:
    """Return what the metadata service says of a role."""
    found = {"AccessKeyId": keys.access_key, "SecretAccessKey": keys.secret_key}
    return json.dumps({**found, "Token": keys.token, "Expiration": "2099-01-01T00:00:00Z"})


def test_a_role_reads_text_a_member_of_json_and_a_parameter(
    assume: Callable[[Document], None], places: dict[str, str]
) -> None:
    assume(read_statement())
    assert read(places["text"]) == VALUE
    assert read(f"{places['json']}:password") == VALUE
    assert read(f"{places['text']}::AWSCURRENT") == VALUE
    assert read(places["parameter"]) == VALUE


@pytest.mark.parametrize(
    ("kind", "action"),
    [("text", "secretsmanager:GetSecretValue"), ("parameter", "ssm:GetParameter")],
)
def test_what_a_role_may_not_read_is_refused(
    assume: Callable[[Document], None],
    places: dict[str, str],
    kind: str,
    action: str,
) -> None:
    document = read_statement()
    document["Statement"] = [each for each in document["Statement"] if each["Action"] != action]
    assume(document)
    # AWS says more: see below.
    assert refuse(places[kind]).startswith(f"KEY: cannot read {places[kind]}: HTTP 403")


def test_the_documented_policy_opens_the_secrets_that_it_names_alone() -> None:
    document = read_statement()
    manager, systems = (str(each["Resource"][0]) for each in document["Statement"])
    for action, resource, may in (
        ("secretsmanager:GetSecretValue", manager.replace("??????", "a1B2c3"), True),
        ("secretsmanager:GetSecretValue", manager.replace("??????", "more-a1B2c3"), False),
        ("secretsmanager:GetSecretValue", manager.replace("team/", "other/"), False),
        ("secretsmanager:PutSecretValue", manager.replace("??????", "a1B2c3"), False),
        ("ssm:GetParameter", systems, True),
        ("ssm:GetParameter", f"{systems}2", False),
    ):
        assert bool(find_allowing(document, Need(action=action, resource=resource))) is may


def test_what_is_missing_or_no_text_is_named(
    assume: Callable[[Document], None], places: dict[str, str]
) -> None:
    assume(read_statement())
    assert "it has no text: a variable cannot be binary" in refuse(places["binary"])
    assert "it has no text under absent" in refuse(f"{places['json']}:absent")
    assert "it has no text under password" in refuse(f"{places['text']}:password")
    assert "ResourceNotFoundException" in refuse(f"{places['text']}:::{'0' * 36}")


def test_a_machine_without_a_role_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envboot.agent.aws.TRIES", 1)
    with serve_metadata() as (_, endpoint):
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint)
        place = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:x-abcdef"
        assert "this machine has no role" in refuse(place)


class Answering(BaseHTTPRequestHandler):
    """Answers as `answer` says, which a test sets; keeps what was asked."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._reply(body)

    def do_GET(self) -> None:
        self._reply(b"")

    def _reply(self, body: bytes) -> None:
        server: Any = self.server
        server.asked.append((self.path.rstrip("?"), dict(self.headers), body))
        status, document = server.answer(self)
        data = json.dumps(document).encode() if not isinstance(document, bytes) else document
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A service of a cloud, and the metadata servers of a machine whose account it knows."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    server.asked = []
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr("envboot.agent.secret_manager.time.sleep", lambda _: None)
    with serve_gce_metadata() as (metadata, name), serve_metadata() as (aws, endpoint):
        metadata.give_account("guest@p", lambda: {"access_token": "t0ken", "expires_in": 3600})
        keys = write_keys(Credentials("AKIA", "k", "t"))
        aws.tree["meta-data/iam/security-credentials/r"] = keys
        monkeypatch.setenv("GCE_METADATA_HOST", name)
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", url)
        monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER", f"{url}/")
        yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_denial_of_aws_is_shown_in_its_own_words(service: Any) -> None:
    # AWS JSON 1.1; the text is that of the Secrets Manager User Guide, "Troubleshoot".
    text = (
        "User: arn:aws:sts::123456789012:assumed-role/r/i-0 is not authorized to perform: "
        "secretsmanager:GetSecretValue on resource: x because no identity-based policy allows "
        "the secretsmanager:GetSecretValue action"
    )
    service.answer = lambda _: (400, {"__type": "AccessDeniedException", "Message": text})
    place = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:x-abcdef"
    assert refuse(place) == (f"KEY: cannot read {place}: HTTP 400 AccessDeniedException {text}")
    assert len(service.asked) == 1


VERSION = "projects/team-1/secrets/db/versions/latest"


def accessed(data: bytes) -> dict[str, Any]:
    """Return the answer of Google's `projects.secrets.versions.access`.

    https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access
    """
    payload = {"data": base64.b64encode(data).decode(), "dataCrc32c": "1234567"}
    return {"name": "projects/1/secrets/db/versions/7", "payload": payload}


def test_a_service_account_reads_a_version_with_its_token(service: Any) -> None:
    service.answer = lambda _: (200, accessed(VALUE.encode()))
    assert read(VERSION) == VALUE
    [(path, headers, _)] = service.asked
    assert path == f"/v1/{VERSION}:access"
    assert headers["Authorization"] == "Bearer t0ken"


def test_a_regional_secret_is_asked_for_by_its_whole_name(service: Any) -> None:
    service.answer = lambda _: (200, accessed(VALUE.encode()))
    place = "projects/team-1/locations/europe-west3/secrets/db/versions/3"
    assert read(place) == VALUE
    assert service.asked[0][0] == f"/v1/{place}:access"


def test_a_denial_of_google_is_shown_in_its_own_words(service: Any) -> None:
    # As its REST API answers: https://cloud.google.com/apis/design/errors
    text = (
        "Permission 'secretmanager.versions.access' denied for resource "
        f"'{VERSION}' (or it may not exist)."
    )
    error = {"code": 403, "message": text, "status": "PERMISSION_DENIED"}
    service.answer = lambda _: (403, {"error": error})
    assert refuse(VERSION).endswith(f"HTTP 403 PERMISSION_DENIED {text}")
    assert len(service.asked) == 1


def test_a_service_that_is_busy_is_asked_again(service: Any) -> None:
    answers = iter([(503, b"<html>"), (429, {"error": {"status": "RESOURCE_EXHAUSTED"}})])
    service.answer = lambda _: next(answers, (200, accessed(VALUE.encode())))
    assert read(VERSION) == VALUE
    assert len(service.asked) == 3


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a\0b"])
def test_what_no_variable_can_hold_is_refused(service: Any, content: bytes) -> None:
    service.answer = lambda _: (200, accessed(content))
    assert "cannot be binary" in (text := refuse(VERSION)) or "NUL" in text


def test_an_answer_that_was_cut_is_not_shown(service: Any) -> None:
    service.answer = lambda _: (200, json.dumps({"SecretString": VALUE}).encode()[:-2])
    place = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:x-abcdef"
    assert "it has no text" in refuse(place)


def test_a_clock_that_is_off_takes_the_time_of_the_service(
    service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hour = time.strftime("%Y%m%dT%H", time.gmtime())

    def answer(request: BaseHTTPRequestHandler) -> tuple[int, Any]:
        if request.headers["X-Amz-Date"].startswith(hour):
            return 200, {"SecretString": VALUE}
        kind, text = "InvalidSignatureException", "Signature expired: … is now earlier than …"
        return 400, {"__type": kind, "message": text}

    service.answer = answer
    place = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:x-abcdef"
    # Of the agent alone: the service's own clock is right.
    clock = SimpleNamespace(time=lambda: time.time() - 7200, monotonic=time.monotonic)
    monkeypatch.setattr(secret_manager, "time", clock)
    assert read(place) == VALUE
    assert len(service.asked) == 2
