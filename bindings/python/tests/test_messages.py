"""Messages speak the caller's language: what one names can be written as it stands. ``bindings/shared`` reads all of them in the
crate's source; here is what comes out, by every way that a text takes.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import evertoken
import pytest
from evertoken import Client, ConfigurationError, Dpop, PrivateKeyJwt, RenewalPolicy
from evertoken.testing import APP_ID, APP_SECRET, AuthServer
from house import until

ISSUER = "https://as.example"
TOKEN_URL = "https://as.example/token"
SECRET_JWK = json.dumps({"kty": "oct", "k": "c2VjcmV0"})

MISTAKES: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({}, ("`issuer` or `token_url`",)),
    ({"issuer": "as.example"}, ("`issuer` is not a URL",)),
    ({"token_url": "http://as.example/token"}, ("`token_url` is plain http", "opt out with `allow_insecure_http`")),
    ({"issuer": ISSUER, "base_url": "relative"}, ("`base_url`",)),
    ({"issuer": ISSUER, "trusted_origins": ["ftp://api.example/"]}, ("`trusted_origins` is not an http(s) URL",)),
    ({"issuer": ISSUER, "audience": ""}, ("`audience` is empty",)),
    ({"issuer": ISSUER, "scope": 'a"b'}, ("`scope`",)),
    ({"issuer": ISSUER, "resource": "https://a.example/#b"}, ("`resource`",)),
    ({"issuer": ISSUER, "token_params": {"scope": "x"}}, ("`token_params` cannot set", "set `scope` instead")),
    ({"issuer": ISSUER, "renewal": RenewalPolicy(renew_at=2)}, ("`renew_at` must lie above 0",)),
    ({"issuer": ISSUER, "renewal": RenewalPolicy(request_timeout=0)}, ("request_timeout must be a number of seconds",)),
    ({"issuer": ISSUER, "ca": b"c4nary"}, ("`ca` holds no certificate",)),
    ({"issuer": ISSUER, "cert": b"c4nary"}, ("`cert` holds no certificate",)),
    ({"issuer": ISSUER, "client_auth": "tls_client_auth"}, ("`client_auth` is mutual TLS", "give it one with `cert`")),
    ({"issuer": ISSUER, "proxy": "ftp://proxy:1"}, ("`proxy` is no URL of a proxy",)),
    ({"issuer": ISSUER, "user_agent": "a\nb"}, ("`user_agent` has a character",)),
    ({"token_url": TOKEN_URL, "revoke_on_shutdown": True}, ("needs a `revocation_url`",)),
    ({"issuer": ISSUER, "revocation_url": "relative"}, ("`revocation_url` is not a URL",)),
]

RUST_ONLY = re.compile(r"::|\b(root_certificate|client_certificate|trusted_origin|token_param|shutdown)\b|`[a-z]+[A-Z]\w*`")


def assert_spelled(text: str) -> None:
    """Fails where a text names what nobody can write in Python."""
    assert not RUST_ONLY.search(text), text


@pytest.mark.parametrize(("options", "named"), MISTAKES, ids=[str(options) for options, _ in MISTAKES])
def test_a_mistake_names_options_as_they_are_written_here(options: dict[str, Any], named: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Client("app", "secret", **options)
    for text in named:
        assert text in str(caught.value)
    assert_spelled(f"{caught.value} {caught.value.__cause__}")


def test_what_a_mistake_advises_can_be_done(server: AuthServer, tmp_path: Path) -> None:
    for api in (Client(APP_ID, APP_SECRET, issuer=server.issuer), Client(APP_ID, APP_SECRET, token_url=server.token_url)):
        with api:
            assert server.accepts(api.token())
    with pytest.raises(ConfigurationError, match="a `client_auth` that needs none, such as `PrivateKeyJwt`"):
        Client("app", "", issuer=ISSUER)
    assert inspect.isclass(evertoken.PrivateKeyJwt)
    with pytest.raises(ConfigurationError, match=re.escape('with `client_auth="client_secret_jwt"`')):
        Client("app", "", issuer=ISSUER, client_auth=PrivateKeyJwt(SECRET_JWK))
    Client("app", "s" * 32, issuer=ISSUER, client_auth="client_secret_jwt")
    with pytest.raises(ConfigurationError, match=re.escape("use `headers(method, url)`")):
        Client("app", "secret", issuer=ISSUER, dpop=Dpop()).authorization()
    file = tmp_path / "credentials.json"
    file.write_text('{"app_id": "app", "app_secret": "secret"}')
    file.chmod(0o644)
    with pytest.raises(ConfigurationError, match="or use `file_readable_by_others`"):
        Client(issuer=ISSUER, credentials_file=file)
    Client(issuer=ISSUER, credentials_file=file, file_readable_by_others=True)


class Endpoint:
    """A token endpoint that always answers the same."""

    def __init__(self) -> None:
        self.status, self.body = 404, b""
        self.asked = 0
        this = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                this.asked += 1
                self.send_response(this.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(this.body)))
                self.end_headers()
                self.wfile.write(this.body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/token"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def refuses(self, error: str, description: str = "") -> None:
        self.status, self.body = 400, json.dumps({"error": error, "error_description": description}).encode()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    yield made
    made.stop()


def test_so_do_errors_the_status_events_and_the_log(endpoint: Endpoint, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="evertoken")
    endpoint.refuses("invalid_request")
    with Client("app", "secret", token_url=endpoint.url, token_timeout=5) as api:
        events = api.events()
        with pytest.raises(evertoken.RequestRefusedError) as caught:
            api.token()
        said = api.status().last_error, next(events).error, caught.value
        for text in map(str, said):
            assert "see `audience`, `scope`, `token_params`" in text
            assert_spelled(text)
        until("it is logged", lambda: any("`token_params`" in record.getMessage() for record in caplog.records))
    for record in caplog.records:
        assert_spelled(record.getMessage())


def test_what_the_server_says_stays_as_it_says_it(endpoint: Endpoint) -> None:
    endpoint.refuses("invalid_request", "see `token_param`")
    with Client("app", "secret", token_url=endpoint.url) as api, pytest.raises(evertoken.RequestRefusedError) as caught:
        api.token()
    assert caught.value.description == "see `token_param`"
    assert "invalid_request (see `token_param`); " in str(caught.value)
    assert str(caught.value).endswith("see `audience`, `scope`, `token_params`")


def test_so_does_check(endpoint: Endpoint) -> None:
    with Client("app", "secret", token_url=endpoint.url) as api:
        well, text = api._check()
    assert not well
    assert "the token endpoint is given by `token_url`" in text
    assert "check `token_url` or `issuer`" in text
    assert_spelled(text)
    endpoint.refuses("invalid_request")
    with Client("app", "secret", token_url=endpoint.url) as api:
        _, text = api._check()
    assert "`token_params`" in text
    assert_spelled(text)
