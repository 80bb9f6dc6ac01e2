"""Every fault of the box, as in Rust's tests/faults.rs, and with the same outcome: at the token endpoint with a token held and
without one, at the API, and at the revocation endpoint."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import evertoken
import httpx
import pytest
from evertoken import Client, Events, EvertokenError, RenewalPolicy, httpx_client
from evertoken._options import Options
from evertoken.testing import APP_ID, APP_SECRET, AuthServer
from house import PATIENCE, AtOnce, until

Kind = type[EvertokenError]
UNAVAILABLE = evertoken.AuthServerUnavailableError
REJECTED = evertoken.CredentialsRejectedError
INVALID = evertoken.InvalidResponseError
REFUSED = evertoken.RequestRefusedError
THROTTLED = evertoken.ThrottledError


def status(status: int) -> dict[str, Any]:
    return {"name": "status", "status": status, "body": "<h1>oops</h1>"}


def oauth(status: int, error: str) -> dict[str, Any]:
    return {"name": "oauth", "status": status, "error": error}


AT_THE_TOKEN_ENDPOINT: dict[str, tuple[dict[str, Any], Kind | None]] = {
    "status_500": (status(500), UNAVAILABLE),
    "status_403": (status(403), REFUSED),
    "status_429": (status(429), THROTTLED),
    "retry_after_seconds": ({"name": "retry_after", "status": 429, "after": 2}, THROTTLED),
    "retry_after_date": ({"name": "retry_after_date", "status": 503, "after": 1}, UNAVAILABLE),
    "hang": ({"name": "hang"}, UNAVAILABLE),
    "reset": ({"name": "reset"}, UNAVAILABLE),
    "close": ({"name": "close"}, UNAVAILABLE),
    "torn_body": ({"name": "torn_body"}, UNAVAILABLE),
    "endless_body": ({"name": "endless_body"}, INVALID),
    "garbage": ({"name": "garbage"}, INVALID),
    "oauth_invalid_client": (oauth(401, "invalid_client"), REJECTED),
    "oauth_invalid_scope": (oauth(400, "invalid_scope"), REFUSED),
    "oauth_503": (oauth(503, "invalid_client"), UNAVAILABLE),
    "latency": ({"name": "latency", "after": 0.25}, None),
}


def failure(events: Events) -> EvertokenError:
    return next(event.error for event in events if event.kind == "renewal_failed" and event.error is not None)


def at_the_token_endpoint(fault: dict[str, Any], kind: Kind | None, held: bool) -> None:
    with AuthServer() as server:
        # Short if it is what ends the attempt, else so long that a busy machine keeps it.
        policy = RenewalPolicy(request_timeout=3 if fault["name"] == "hang" else PATIENCE)
        # If it is not set, a refused secret is sent once more in another way.
        options: Options = {
            "token_url": server.token_url,
            "client_auth": "client_secret_basic",
            "renewal": policy,
            "token_timeout": PATIENCE,
        }
        with (
            server.client(**options) as api,
            httpx_client(api, timeout=PATIENCE) as http,
        ):
            events = api.events()
            before = api.token() if held else None
            server.fail(**fault)
            if before is None:
                api.prefetch()
            else:
                api.invalidate(before)
            if kind is not None:
                error = failure(events)
                assert (type(error), error.server) == (kind, server.token_url), error
                if before is not None:
                    assert api.current_token() is not None, error
                    assert server.accepts(before)
                    assert http.get("orders").status_code == 200
                if not error.retryable:
                    assert type(api.status().last_error) is kind
                    if held:
                        assert api.token() == before
                    else:
                        with pytest.raises(kind):
                            api.token()
                    server.rotate(APP_ID, "new")
                    api.set_credentials(APP_ID, "new")
            until(
                "there is a new token",
                lambda: api.current_token() not in (None, before) and api.status().last_error is None,
            )
            assert http.get("orders").status_code == 200
            assert server.token_requests == 1 + held + (kind is not None)
            assert server.max_in_flight == 1


AT_THE_API: dict[str, tuple[dict[str, Any], int | str, int]] = {
    "status_500": (status(500), 500, 1),
    "status_403": (status(403), 403, 1),
    "retry_after_seconds": ({"name": "retry_after", "status": 429, "after": 1}, 429, 1),
    "retry_after_date": ({"name": "retry_after_date", "status": 503, "after": 1}, 503, 1),
    "hang": ({"name": "hang"}, "failed", 1),
    "reset": ({"name": "reset"}, "failed", 1),
    "close": ({"name": "close"}, "failed", 1),
    "torn_body": ({"name": "torn_body"}, "failed", 1),
    "garbage": ({"name": "garbage"}, "spoilt", 1),
    "oauth_invalid_token": (oauth(401, "invalid_token"), 200, 2),
    "latency": ({"name": "latency", "after": 0.25}, 200, 1),
}


def at_the_api(fault: dict[str, Any], expected: int | str, token_requests: int) -> None:
    """The API's faults are the caller's: they say nothing about the token. Only a 401 does."""
    with (
        AuthServer() as server,
        server.client() as api,
        httpx_client(api, timeout=3 if fault["name"] == "hang" else PATIENCE) as http,
    ):
        api.prefetch(wait=True)
        server.fail(**fault, at="api")
        if expected == "failed":
            with pytest.raises(httpx.TransportError):
                http.get("orders")
        elif expected == "spoilt":
            with pytest.raises(ValueError):
                http.get("orders").json()
        else:
            assert http.get("orders").status_code == expected
        assert http.get("orders").status_code == 200
        assert server.token_requests == token_requests
        assert api.status().last_error is None


AT_THE_REVOCATION_ENDPOINT: dict[str, tuple[dict[str, Any], Kind | None, int]] = {
    "status_500": (status(500), UNAVAILABLE, 1),
    "status_403": (status(403), REFUSED, 1),
    "retry_after_seconds": ({"name": "retry_after", "status": 503, "after": 1}, None, 2),
    "retry_after_date": ({"name": "retry_after_date", "status": 503, "after": 1}, None, 2),
    "hang": ({"name": "hang"}, UNAVAILABLE, 1),
    "reset": ({"name": "reset"}, UNAVAILABLE, 1),
    "close": ({"name": "close"}, UNAVAILABLE, 1),
    "torn_body": ({"name": "torn_body"}, UNAVAILABLE, 1),
    "endless_body": ({"name": "endless_body"}, INVALID, 1),
    "garbage": ({"name": "garbage"}, None, 1),
    "oauth_unsupported_token_type": (oauth(400, "unsupported_token_type"), REFUSED, 1),
    "latency": ({"name": "latency", "after": 0.25}, None, 1),
}


def at_the_revocation_endpoint(fault: dict[str, Any], kind: Kind | None, requests: int) -> None:
    """The token is revoked, as far as the server says, or the end of the client says why not."""
    with AuthServer() as server:
        api = Client(APP_ID, APP_SECRET, issuer=server.issuer, revoke_on_shutdown=True)
        token = api.token()
        server.fail(**fault, at="revocation")
        failed = api._close()  # what `close()` makes a warning of
        assert type(failed) is (type(None) if kind is None else kind)
        assert kind is None or server.issuer in str(failed)
        assert server.revocations == requests
        assert server.accepts(token) == (kind is not None or fault["name"] == "garbage")
        with pytest.raises(evertoken.ClosedError):
            api.token()


RUNS: dict[str, Callable[[], None]] = {
    **{
        f"token-{name}-{'held' if held else 'cold'}": partial(at_the_token_endpoint, *case, held)
        for name, case in AT_THE_TOKEN_ENDPOINT.items()
        for held in (True, False)
    },
    **{f"api-{name}": partial(at_the_api, *case) for name, case in AT_THE_API.items()},
    **{f"revocation-{name}": partial(at_the_revocation_endpoint, *case) for name, case in AT_THE_REVOCATION_ENDPOINT.items()},
}
at_once = AtOnce(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_fault(name: str) -> None:
    at_once.outcome(name)
