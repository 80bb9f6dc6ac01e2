"""Errors as a program meets them: the cause is the useful one, the proxy is named, and nothing gets in the way of an exception of
the program's own.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import evertoken
import httpx
import pytest
import requests
from evertoken import Client, ClosedError, EvertokenError, HttpxAuth, RequestsAuth
from evertoken.testing import AuthServer, fixed_client
from house import PATIENCE, until
from test_options import TokenServer, authority


def failure(**options: Any) -> EvertokenError:
    with Client("app", "secret", token_timeout=2, **options) as api, pytest.raises(EvertokenError) as caught:
        api.token()
    return caught.value


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def only_cause(error: BaseException) -> BaseException:
    cause = error.__cause__
    assert cause is not None and cause.__cause__ is None and type(cause) is not Exception
    return cause


def test_cause_is_the_operating_systems(nobody: int) -> None:
    cause = only_cause(failure(token_url=f"http://127.0.0.1:{nobody}/token"))
    assert isinstance(cause, ConnectionRefusedError) and cause.errno and cause.strerror == "Connection refused"


def test_cause_is_the_name_that_is_not_found() -> None:
    cause = only_cause(failure(token_url="https://as.invalid/token"))
    assert isinstance(cause, socket.gaierror) and "lookup" in str(cause)


def test_cause_is_the_certificate(tmp_path: Path) -> None:
    certificate, key, _ = authority()
    (tmp_path / "server.pem").write_bytes(certificate + key)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "server.pem")
    server = TokenServer(tls)
    try:
        cause = only_cause(failure(token_url=server.url))
    finally:
        server.stop()
    assert isinstance(cause, ssl.SSLCertVerificationError) and "certificate" in str(cause)


def test_cause_is_the_connection_that_was_closed(server: AuthServer) -> None:
    for fault in ("close", "reset", "torn_body"):
        server.fail(fault, always=True)
        cause = only_cause(failure(token_url=server.token_url))
        assert isinstance(cause, ConnectionError), fault
    server.heal()


def test_cause_is_the_file_that_cannot_be_read(tmp_path: Path) -> None:
    with (
        pytest.raises(EvertokenError) as caught,
        Client(credentials_file=tmp_path / "missing.json", token_url="https://as.example/token", token_timeout=0.1) as api,
    ):
        api.token()
    assert isinstance(only_cause(caught.value), FileNotFoundError)


def test_cause_of_a_status_and_of_events_is_the_same(nobody: int) -> None:
    with Client("app", "secret", token_url=f"http://127.0.0.1:{nobody}/token") as api:
        events = api.events()
        api.prefetch()
        event = next(event for event in events if event.kind == "renewal_failed")
        assert event.error is not None and isinstance(only_cause(event.error), ConnectionRefusedError)
        until("it failed", lambda: api.status().last_error)
        last = api.status().last_error
        assert last is not None and isinstance(only_cause(last), ConnectionRefusedError)


class ProxyServer:
    """A proxy that answers everything with 407."""

    def __init__(self) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.send_response(407)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_CONNECT = do_GET = do_POST

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def refusing() -> Iterator[ProxyServer]:
    proxy = ProxyServer()
    yield proxy
    proxy.stop()


@pytest.mark.parametrize("target", ["token_url", "issuer"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_in_between_is_named(nobody: int, refusing: ProxyServer, scheme: str, target: str) -> None:
    for port in (nobody, refusing.port):
        options: Any = {target: f"{scheme}://as.invalid/token", "allow_insecure_http": True}
        error = failure(proxy=f"http://user:s3cret-c4nary@127.0.0.1:{port}", **options)
        assert f"through the proxy http://127.0.0.1:{port}" in str(error)
        assert "c4nary" not in f"{error} {error!r} {error.__cause__!r}"


PROXIED = """
import sys
from evertoken import Client, EvertokenError
try:
    Client("app", "secret", token_url=sys.argv[1], token_timeout=2).token()
except EvertokenError as error:
    print(error)
"""


def test_a_proxy_of_the_environment_is_named_if_it_is_used(nobody: int) -> None:
    def said(url: str, **environment: str) -> str:
        command = [sys.executable, "-c", PROXIED, url]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout

    proxy = f"http://127.0.0.1:{nobody}"
    for variable in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        text = said("https://as.invalid/token", **{variable: f"http://user:c4nary@127.0.0.1:{nobody}"})
        assert f"through the proxy {proxy} " in text and "c4nary" not in text
    for url, environment in (
        ("https://as.invalid/token", {}),
        ("https://as.invalid/token", {"HTTPS_PROXY": proxy, "NO_PROXY": "as.invalid"}),
        ("https://as.invalid/token", {"HTTP_PROXY": proxy}),
        (f"http://127.0.0.1:{nobody}/token", {"HTTPS_PROXY": proxy}),
        (f"http://127.0.0.1:{nobody}/token", {"HTTP_PROXY": "http://user:c4nary@127.0.0.1:9", "ALL_PROXY": proxy}),
    ):
        text = said(url, **environment)
        assert "could not connect" in text and "proxy" not in text


def calls_that_fail(server: AuthServer, folder: Path) -> dict[str, Callable[[], object]]:
    closed = server.client()
    closed.close()
    other = fixed_client("t0ken", server.api_url)
    rejected = Client("app", "wr0ng", issuer=server.issuer, base_url=server.api_url)
    bound = server.client(dpop=evertoken.Dpop())

    def of_the_loop(client: Client) -> Callable[[], object]:
        async def run() -> None:
            try:
                raise LookupError("mine")
            except LookupError:
                await client.token_async()

        return lambda: asyncio.run(run())

    return {
        "token": rejected.token,
        "token of a closed one": closed.token,
        "authorization": rejected.authorization,
        "authorization of a bound one": bound.authorization,
        "headers": lambda: other.headers("GET", "https://foreign.example/"),
        "headers, wrong URL": lambda: other.headers("GET", "/x"),
        "headers, wrong type": lambda: other.headers("GET", 5),  # type: ignore[arg-type]
        "prefetch": lambda: rejected.prefetch(wait=True),
        "set_credentials": lambda: rejected.set_credentials("", "s"),
        "with_": lambda: rejected.with_(scope='a"b'),
        "Client": lambda: Client("app", "secret"),
        "Client, wrong type": lambda: Client("app", "secret", audience=5),  # type: ignore[arg-type]
        "Client, no such file": lambda: Client("app", cert=str(folder / "none"), token_url="https://as.example"),
        "PrivateKeyJwt": lambda: evertoken.PrivateKeyJwt("no key"),
        "HttpxAuth": lambda: httpx.get(f"{server.api_url}x", auth=HttpxAuth(rejected)),
        "RequestsAuth": lambda: requests.get(f"{server.api_url}x", auth=RequestsAuth(rejected)),
        "token_async": of_the_loop(rejected),
        "token_async of a closed one": of_the_loop(closed),
    }


def test_errors_keep_the_exception_that_was_being_handled(server: AuthServer, tmp_path: Path) -> None:
    for name, call in calls_that_fail(server, tmp_path).items():
        mine = LookupError("mine")
        with pytest.raises(EvertokenError) as caught:
            try:
                raise mine
            except LookupError:
                call()
        seen: list[str] = []
        error: BaseException | None = caught.value
        while error is not None:
            seen.append(repr(error))
            error = error.__context__
        assert repr(mine) in seen, name
        # A traceback shows it, too.
        assert "LookupError: mine" in "".join(traceback.format_exception(caught.value)), name


def test_errors_outside_of_a_handler_have_no_context(server: AuthServer) -> None:
    with Client("app", "wr0ng", issuer=server.issuer) as api, pytest.raises(EvertokenError) as caught:
        api.token()
    assert caught.value.__context__ is None


@pytest.fixture
def unrevocable(server: AuthServer) -> Iterator[Client]:
    """A client whose token cannot be revoked."""
    api = server.client(revoke_on_shutdown=True)
    api.token()
    server.fail("status", at="revocation", status=500)
    yield api


def warned(caplog: pytest.LogCaptureFixture, server: AuthServer) -> None:
    [record] = [record for record in caplog.records if "revoked" in record.getMessage()]
    assert (record.name, record.levelno) == ("evertoken", logging.WARNING)
    text = record.getMessage()
    assert "1 of 1 tokens could not be revoked and last until they expire" in text and server.issuer in text


def test_with_keeps_the_exception_of_its_body(server: AuthServer, unrevocable: Client, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(LookupError, match="mine"), unrevocable:
        raise LookupError("mine")
    warned(caplog, server)
    with pytest.raises(ClosedError):
        unrevocable.token()


async def test_async_with_keeps_the_exception_of_its_body(
    server: AuthServer, unrevocable: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(LookupError, match="mine"):
        async with unrevocable:
            raise LookupError("mine")
    warned(caplog, server)


async def test_async_with_keeps_a_cancellation(server: AuthServer, unrevocable: Client, caplog: pytest.LogCaptureFixture) -> None:
    entered = asyncio.Event()

    async def run() -> None:
        async with unrevocable:
            entered.set()
            await asyncio.sleep(PATIENCE)

    task = asyncio.create_task(run())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    warned(caplog, server)


@pytest.mark.parametrize("way", ["close", "aclose", "with", "async with"])
def test_a_failed_revocation_is_a_warning(
    server: AuthServer, unrevocable: Client, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    async def entered() -> None:
        async with unrevocable:
            pass

    if way == "close":
        unrevocable.close()
    elif way == "aclose":
        asyncio.run(unrevocable.aclose())
    elif way == "async with":
        asyncio.run(entered())
    else:
        with unrevocable:
            pass
    warned(caplog, server)
    unrevocable.close()  # once more
    assert server.revocations == 1


def test_a_log_that_fails_is_not_in_the_way_either(unrevocable: Client) -> None:
    def broken(record: logging.LogRecord) -> bool:
        raise RuntimeError("the filter")

    logger = logging.getLogger("evertoken")
    logger.addFilter(broken)
    try:
        with pytest.raises(LookupError, match="mine"), unrevocable:
            raise LookupError("mine")
    finally:
        logger.removeFilter(broken)
