"""What the certificates of a cluster allow: connections between members, each in its own role."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ssl
from typing import TYPE_CHECKING, Any

import pytest
from dask.config import collect_env
from dask.config import set as configure

from envboot.cluster.dashboard import Dashboard
from envboot.cluster.tls import Authority, compose_secret, make_security

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def make_member(authority: Authority, role: str) -> Any:
    """Return Dask's own reading of what a machine is given."""
    from distributed.security import Security

    make: Any = Security
    with configure(flatten(collect_env(compose_secret(authority, role)))):
        return make()


def flatten(found: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Return members by their dotted paths: Dask replaces what is set as a whole."""
    if not isinstance(found, dict):
        return {path: found}
    members: dict[str, Any] = {}
    for name, value in found.items():
        members |= flatten(value, f"{path}.{name}" if path else name)
    return members


def connect(client: ssl.SSLContext, server: ssl.SSLContext) -> str:
    """Shake hands in memory; returns what went wrong, empty if nothing did."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(down, up, server_side=False),
        server.wrap_bio(up, down, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                with contextlib.suppress(ssl.SSLWantReadError):
                    end.do_handshake()
            except ssl.SSLError as error:  # noqa: PERF203
                return error.reason or "failed"
    return ""


def context(security: Any, role: str, *, listens: bool = False) -> ssl.SSLContext:
    arguments = security.get_listen_args(role) if listens else security.get_connection_args(role)
    found: ssl.SSLContext = arguments["ssl_context"]
    return found


def test_members_reach_each_other_as_dask_needs() -> None:
    authority = Authority()
    client = context(make_security(authority), "client")
    scheduler, worker, other = (
        make_member(authority, role) for role in ("scheduler", "worker", "worker")
    )
    for listener, role in ((scheduler, "scheduler"), (worker, "worker")):
        assert connect(client, context(listener, role, listens=True)) == ""
        assert connect(context(other, "worker"), context(listener, role, listens=True)) == ""
        assert connect(context(other, "client"), context(listener, role, listens=True)) == ""
    assert connect(context(scheduler, "scheduler"), context(worker, "worker", listens=True)) == ""


def test_with_the_clients_key_nobody_is_a_scheduler_or_a_worker() -> None:
    authority = Authority()
    stolen: Any = make_security(authority)
    stolen.tls_worker_cert, stolen.tls_worker_key = stolen.tls_client_cert, stolen.tls_client_key
    server = context(stolen, "worker", listens=True)
    worker = context(make_member(authority, "worker"), "worker")
    assert connect(worker, server) == "CERTIFICATE_VERIFY_FAILED"
    assert connect(context(stolen, "client"), server) == "CERTIFICATE_VERIFY_FAILED"


def test_another_cluster_is_a_stranger() -> None:
    ours, theirs = Authority(), Authority()
    server = context(make_member(ours, "scheduler"), "scheduler", listens=True)
    assert connect(context(make_security(theirs), "client"), server) != ""
    stranger = context(make_member(theirs, "scheduler"), "scheduler", listens=True)
    assert connect(context(make_security(ours), "client"), stranger) != ""


def test_every_member_has_a_key_of_its_own_and_the_authoritys_stays_here() -> None:
    authority = Authority()
    security: Any = make_security(authority)
    assert security.tls_scheduler_key is security.tls_worker_key is None
    secrets = [compose_secret(authority, role) for role in ("scheduler", "worker", "worker")]
    keys = {value for secret in secrets for name, value in secret.items() if name.endswith("KEY")}
    assert len(keys | {security.tls_client_key}) == 4


def test_a_certificate_is_valid_on_a_machine_whose_clock_is_behind_and_ends() -> None:
    from cryptography import x509

    authority = Authority()
    for pem in (authority.certificate, authority.issue("worker").certificate):
        found = x509.load_pem_x509_certificate(pem.encode())
        now = datetime.datetime.now(datetime.timezone.utc)
        assert found.not_valid_before_utc < now - datetime.timedelta(hours=20)
        assert now < found.not_valid_after_utc <= now + datetime.timedelta(days=90)


def test_a_closed_cluster_has_no_new_members() -> None:
    authority = Authority()
    authority.close()
    with pytest.raises(RuntimeError, match="the cluster is closed"):
        authority.issue("worker")


HELLO = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"


def with_dashboard(visit: Callable[[Dashboard, list[bytes]], Awaitable[None]]) -> None:
    """Run a visit to a dashboard before a scheduler that says `hi`; both are real servers."""

    async def main() -> None:
        authority, heads = Authority(), list[bytes]()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(HELLO)
            await writer.drain()
            writer.close()

        scheduler = make_member(authority, "scheduler")
        server = await asyncio.start_server(
            answer, "127.0.0.1", 0, ssl=context(scheduler, "scheduler", listens=True)
        )
        port = server.sockets[0].getsockname()[1]
        client = context(make_security(authority), "client")
        dashboard = Dashboard(lambda: ("127.0.0.1", port), client)
        await dashboard.start()
        await visit(dashboard, heads)
        dashboard.close()
        server.close()

    asyncio.run(asyncio.wait_for(main(), 30))


async def ask(dashboard: Dashboard, head: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", dashboard.port)
    writer.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
    found = await reader.read()
    writer.close()
    return found.decode()


@pytest.mark.sockets
@pytest.mark.subprocess
def test_the_dashboard_is_for_those_who_have_its_link() -> None:
    async def visit(dashboard: Dashboard, heads: list[bytes]) -> None:
        path = dashboard.sign("/proxy/status?a=1")
        answer = await ask(dashboard, f"GET {path} HTTP/1.1\nHost: x")
        assert answer.startswith("HTTP/1.1 302 Found\r\nLocation: status?a=1\r\n")
        assert "HttpOnly; SameSite=Lax" in answer
        cookie = answer.partition("Set-Cookie: ")[2].partition(";")[0]
        assert heads == []
        line = "GET /status HTTP/1.1"
        assert (
            await ask(dashboard, f"{line}\nCookie: a=b; {cookie}\nConnection: keep-alive")
        ).endswith("hi")
        # The next request of a connection could be another site's: there is none.
        assert b"Connection: close" in heads[0]
        assert b"keep-alive" not in heads[0]
        for wrong in ("", f"\nCookie: {cookie[:-1]}", f"\nX: {cookie}", "\nCookie: \u00e9;;="):
            answer = await ask(dashboard, f"POST /api/v1/retire_workers HTTP/1.1{wrong}")
            assert answer.startswith("HTTP/1.1 403 ")
        for odd in ("GET", "GET /?token= HTTP/1.1", "GET //[ HTTP/1.1", "\x00\xff GET / /"):
            assert (await ask(dashboard, odd)).startswith(("HTTP/1.1 403 ", ""))
        assert len(heads) == 1
        evil = dashboard.sign("/a%0d%0aSet-Cookie:x/%0d%0ax")
        assert "\nx" not in await ask(dashboard, f"GET {evil} HTTP/1.1")

    with_dashboard(visit)
