"""An instance metadata service as EC2's, for one machine: IMDSv1 and v2.

It answers what cloud-init's EC2 datasource and an SDK's credential chain ask for. `requests`
keeps every request's method and path, so a test can tell who asked for what, and how.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

from tests.boot.vpc import find_mac

if TYPE_CHECKING:
    from collections.abc import Iterator

ADDRESS = "169.254.169.254"
REGION = "eu-central-1"
MAC = "02:00:00:00:00:01"
ACCOUNT = "123456789012"
PROFILE = {
    "Code": "Success",
    "LastUpdated": "2026-01-01T00:00:00Z",
    "InstanceProfileArn": f"arn:aws:iam::{ACCOUNT}:instance-profile/machine",
    "InstanceProfileId": "AIPA0123456789ABCDEFG",
}
PROFILE_PATH = "meta-data/iam/info"
"""What the service has of the instance profile, as EC2's documentation shows it."""


class MetadataServer:
    """Serves one instance's tree on a listening socket (which it closes at its end).

    Args:
        listener: the socket, usually 169.254.169.254:80 inside a namespace.
        instance: the instance id, `i-…`.
        user_data: the bytes as given to the API, after base64.
        role: name and credentials document of the instance's role, None for no role.
        require_token: answer 401 to IMDSv1, as `HttpTokens=required` does. (cloud-init
            inside a container asks by IMDSv1 only.)
        address: the instance's private address, which its link has; None where it has no link.

    `tree` may be changed while it serves: a role, a notice. `refusal` is a status to answer
    everything with, 403 as `HttpEndpoint=disabled` does.
    """

    def __init__(
        self,
        listener: socket.socket,
        *,
        instance: str,
        user_data: bytes,
        role: tuple[str, dict[str, str]] | None = None,
        require_token: bool = False,
        address: str | None = None,
    ) -> None:
        self.tree = _leaves(instance, role, address)
        self.user_data = user_data
        self.require_token = require_token
        self.refusal: int | None = None
        self.tokens: set[str] = set()
        self.requests: list[tuple[str, str]] = []
        handler = type("Handler", (_Handler,), {"service": self})
        self._server = ThreadingHTTPServer((ADDRESS, 80), handler, bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = listener
        self._server.daemon_threads = True
        arguments = {"poll_interval": 0.05}
        self._thread = Thread(target=self._server.serve_forever, kwargs=arguments, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def find(self, path: str) -> bytes | None:
        """Return what a GET of `/<any version>/…` answers; a folder answers its entries."""
        _, _, rest = path.lstrip("/").partition("/")
        if rest == "user-data":
            return self.user_data or None
        if rest.rstrip("/") in self.tree:
            return self.tree[rest.rstrip("/")].encode()
        folder = rest.rstrip("/") + "/" if rest else ""
        below = [leaf.removeprefix(folder) for leaf in self.tree if leaf.startswith(folder)]
        entries = {name.partition("/")[0] + ("/" if "/" in name else "") for name in below}
        return "\n".join(sorted(entries)).encode() if entries else None


@contextlib.contextmanager
def serve_metadata() -> Iterator[tuple[MetadataServer, str]]:
    """Run the service of a machine without a role on loopback, IMDSv2 only; its endpoint too."""
    listener = socket.create_server(("127.0.0.1", 0))
    endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = MetadataServer(listener, instance="i-0", user_data=b"", require_token=True)
    try:
        yield server, endpoint
    finally:
        server.close()


def identify(instance: str) -> str:
    """Return what IAM calls an instance of this service: `ec2:SourceInstanceARN`."""
    return f"arn:aws:ec2:{REGION}:{ACCOUNT}:instance/{instance}"


def _leaves(
    instance: str, role: tuple[str, dict[str, str]] | None, address: str | None
) -> dict[str, str]:
    identity = {"instanceId": instance, "region": REGION, "availabilityZone": REGION + "a"}
    address, mac = (address, find_mac(address)) if address else ("127.0.0.1", MAC)
    leaves = {
        "meta-data/ami-id": "ami-0123456789abcdef0",
        "meta-data/hostname": f"{instance}.internal",
        "meta-data/instance-id": instance,
        "meta-data/instance-type": "m6i.large",
        "meta-data/local-hostname": f"{instance}.internal",
        "meta-data/local-ipv4": address,
        f"meta-data/network/interfaces/macs/{mac}/device-number": "0",
        f"meta-data/network/interfaces/macs/{mac}/local-ipv4s": address,
        f"meta-data/network/interfaces/macs/{mac}/mac": mac,
        "meta-data/placement/availability-zone": REGION + "a",
        "meta-data/placement/region": REGION,
        "meta-data/services/domain": "amazonaws.com",
        "dynamic/instance-identity/document": json.dumps(identity),
    }
    if role:
        leaves[f"meta-data/iam/security-credentials/{role[0]}"] = json.dumps(role[1])
        leaves[PROFILE_PATH] = json.dumps(PROFILE)
    return leaves


class _Handler(BaseHTTPRequestHandler):
    service: MetadataServer
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        self.service.requests.append(("PUT", self.path))
        if self.service.refusal:
            self._answer(self.service.refusal, b"")
            return
        seconds = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
        if not seconds.isdigit() or not 1 <= int(seconds) <= 21600:
            self._answer(400, b"")
            return
        token = secrets.token_urlsafe(32)
        self.service.tokens.add(token)
        self._answer(200, token.encode(), {"X-aws-ec2-metadata-token-ttl-seconds": seconds})

    def do_GET(self) -> None:
        self.service.requests.append(("GET", self.path))
        if self.service.refusal:
            self._answer(self.service.refusal, b"")
            return
        token = self.headers.get("X-aws-ec2-metadata-token")
        wrong = token is not None and token not in self.service.tokens
        if wrong or (token is None and self.service.require_token):
            self._answer(401, b"")
            return
        found = self.service.find(self.path)
        self._answer(404 if found is None else 200, found or b"")

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""
