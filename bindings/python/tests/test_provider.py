"""Against an authorization server that this project did not write: npm's `oidc-provider`, as in Rust's tests/conformance."""

from __future__ import annotations

import base64
import fcntl
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import evertoken
import httpx
import pytest
from evertoken import Client, Dpop, PrivateKeyJwt
from house import PATIENCE, until

FOLDER = Path(__file__).parents[3] / "tests" / "conformance"


class Provider:
    """The server, in a process that ends with its standard input."""

    before = 0

    def __init__(self) -> None:
        # Now and then node hangs before it has run a line of ours; another one then does better.
        for _ in range(4):
            self._process = subprocess.Popen(
                ["node", "server.mjs"], cwd=FOLDER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            assert self._process.stdout is not None
            timer = subprocess.Popen(["sh", "-c", f"sleep 30; kill {self._process.pid}"])
            line = self._process.stdout.readline()
            timer.kill()
            timer.wait()
            if line:
                self.said: dict[str, Any] = json.loads(line)
                return
            self.stop()
        raise AssertionError("the authorization server did not start")

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def issuer(self) -> str:
        return str(self.said["issuer"])

    def client(self, which: str, **options: Any) -> Client:
        known = self.said[which]
        return Client(known["client_id"], known["client_secret"], issuer=self.issuer, **options)

    def requests(self) -> list[dict[str, Any]]:
        """Those since the test began."""
        found: list[dict[str, Any]] = httpx.get(f"{self.issuer}/control/requests").json()
        return found[self.before :]

    def about(self, endpoint: str, token: str) -> httpx.Response:
        return httpx.post(f"{self.issuer}/token/{endpoint}", data={**self.said["basic"], "token": token}).raise_for_status()

    def rotate(self, client_id: str, client_secret: str) -> None:
        order = {"client_id": client_id, "client_secret": client_secret}
        httpx.post(f"{self.issuer}/control/secret", json=order).raise_for_status()


@pytest.fixture(scope="module")
def installed() -> None:
    """The packages of package-lock.json, once for all tests, Rust's too."""
    wanted, mark = FOLDER / "package-lock.json", FOLDER / "node_modules" / ".installed-package-lock.json"
    with wanted.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not mark.exists() or mark.read_bytes() != wanted.read_bytes():
            subprocess.run(["npm", "ci", "--ignore-scripts"], cwd=FOLDER, check=True, capture_output=True)
            mark.write_bytes(wanted.read_bytes())


@pytest.fixture(scope="module")
def started(installed: None) -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.stop()


@pytest.fixture
def provider(started: Provider) -> Provider:
    started.before = 0
    started.before = len(started.requests())
    return started


def claims(token: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    return found


def test_secrets_that_need_encoding(provider: Provider) -> None:
    with provider.client("basic") as basic, provider.client("post", client_auth="client_secret_post") as post:
        for which, api in (("basic", basic), ("post", post)):
            known = provider.about("introspection", api.token()).json()
            assert (known["active"], known["client_id"]) == (True, provider.said[which]["client_id"])
    assert [request["auth"] for request in provider.requests()] == ["basic", "post"]


def test_assertions_by_secret_and_by_key(provider: Provider) -> None:
    with provider.client("mac", client_auth="client_secret_jwt") as api:
        assert api.token()
    for known in provider.said["keys"]:
        # An RSA key signs by RS256 where it is not told otherwise.
        method = PrivateKeyJwt(known["key"], algorithm="PS256" if known["alg"] == "PS256" else None)
        with Client(known["client_id"], issuer=provider.issuer, client_auth=method) as api:
            assert api.token(), known["alg"]
    assert {(request["auth"], request["status"]) for request in provider.requests()} == {("assertion", 200)}


def test_dpop_with_the_nonce_that_it_wants(provider: Provider) -> None:
    with provider.client("bound", dpop=Dpop()) as api:
        known = provider.about("introspection", api.token()).json()
        assert known["token_type"] == "DPoP" and known["cnf"]["jkt"]


def test_calls_through_several_lifetimes_all_get_a_live_token(provider: Provider) -> None:
    resource = str(provider.said["resource"])
    with provider.client("basic", resource=resource, scope="orders:read orders:write") as api:
        token = api.token()
        assert (claims(token)["aud"], claims(token)["scope"]) == (resource, "orders:read orders:write")
        assert api.status().scope == "orders:read orders:write"
        seen = {token}
        end = time.monotonic() + PATIENCE
        while len(seen) < 4:
            # Looked at beforehand: a machine may stand still between the read and the next line.
            now = time.time()
            token = api.token()
            assert now < claims(token)["exp"], "an expired token was served"
            assert time.monotonic() < end
            seen.add(token)
            time.sleep(0.01)
    # A machine that stood still may have missed one.
    statuses = [request["status"] for request in provider.requests()]
    assert set(statuses) == {200} and len(statuses) >= len(seen)


def test_what_is_refused_is_told_by_name(provider: Provider) -> None:
    wrong = Client(provider.said["basic"]["client_id"], "wrong", issuer=provider.issuer)
    with wrong as api, pytest.raises(evertoken.CredentialsRejectedError) as caught:
        api.token()
    error = caught.value
    assert (error.oauth_error, error.description, error.status) == ("invalid_client", "client authentication failed", 401)
    elsewhere = provider.client("basic", resource="https://unknown.example.com")
    with elsewhere as api, pytest.raises(evertoken.RequestRefusedError, match="invalid_target"):
        api.token()
    too_much = provider.client("post", client_auth="client_secret_post", scope="orders:write")
    with too_much as api, pytest.raises(evertoken.RequestRefusedError, match="invalid_scope"):
        api.token()


def test_a_rotated_secret_and_a_revoked_token(provider: Provider) -> None:
    with provider.client("basic") as api:
        held = api.token()
        provider.rotate(provider.said["basic"]["client_id"], "fresh: 1%+")
        api.invalidate(held)
        assert api.token() == held
        until("the old secret was refused", lambda: provider.requests()[-1]["status"] == 401)
        api.set_credentials(provider.said["basic"]["client_id"], "fresh: 1%+")
        until("there is another", lambda: api.current_token() not in (None, held))
    provider.rotate(provider.said["basic"]["client_id"], provider.said["basic"]["client_secret"])
    with provider.client("basic", revoke_on_shutdown=True) as api:
        token = api.token()
    assert provider.about("introspection", token).json() == {"active": False}
