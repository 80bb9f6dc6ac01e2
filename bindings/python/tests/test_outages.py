"""The authorization server fails in every way it can, as in Rust's tests/outages.rs; what is held serves to its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import evertoken
import pytest
from evertoken import EvertokenError, RenewalPolicy
from evertoken.testing import AuthServer
from house import AtOnce, until, until_it_failed

UNAVAILABLE = evertoken.AuthServerUnavailableError
INVALID = evertoken.InvalidResponseError
REFUSED = evertoken.RequestRefusedError


def status(status: int, content_type: str, body: str) -> dict[str, Any]:
    return {"name": "status", "status": status, "headers": [("Content-Type", content_type)], "body": body}


def oauth(status: int, error: str) -> dict[str, Any]:
    return {"name": "oauth", "status": status, "error": error, "description": "so it is"}


OUTAGES: dict[str, tuple[dict[str, Any] | None, type[EvertokenError]]] = {
    "refused": (None, UNAVAILABLE),
    "hang": ({"name": "hang"}, UNAVAILABLE),
    "reset": ({"name": "reset"}, UNAVAILABLE),
    "closed": ({"name": "close"}, UNAVAILABLE),
    "torn body": ({"name": "torn_body"}, UNAVAILABLE),
    "garbage JSON": ({"name": "garbage"}, INVALID),
    "endless body": ({"name": "endless_body"}, INVALID),
    "500 HTML": (status(500, "text/html", "<h1>oops</h1>"), UNAVAILABLE),
    "503 with an OAuth code": (oauth(503, "invalid_client"), UNAVAILABLE),
    "502 empty": (status(502, "text/plain", ""), UNAVAILABLE),
    "429": (status(429, "text/plain", "slow down"), evertoken.ThrottledError),
    "429 with Retry-After": ({"name": "retry_after", "status": 429, "after": 1}, evertoken.ThrottledError),
    "503 with a date": ({"name": "retry_after_date", "status": 503, "after": 1}, UNAVAILABLE),
    "wrong secret": (oauth(401, "invalid_client"), evertoken.CredentialsRejectedError),
    "bare 401": (status(401, "text/plain", ""), REFUSED),
    "bare 403": (status(403, "text/html", "<h1>firewall</h1>"), REFUSED),
    "unknown code": (oauth(400, "scope_invalid"), REFUSED),
    "200 with an OAuth error": (oauth(200, "temporarily_unavailable"), UNAVAILABLE),
    "200 HTML": (status(200, "text/html", "<h1>log in</h1>"), INVALID),
    "redirect": (status(302, "text/html", ""), INVALID),
    "a token that is none": (
        status(200, "application/json", '{"access_token":"a\\r\\nb","token_type":"Bearer"}'),
        INVALID,
    ),
    "another token type": (status(200, "application/json", '{"access_token":"abc","token_type":"mac"}'), INVALID),
}


def begin(server: AuthServer, fault: dict[str, Any] | None) -> None:
    if fault is None:
        server.outage()
    else:
        server.fail(**fault, always=True)


def while_a_token_is_held(name: str) -> None:
    """From before renew-at to shortly before the token's end every read has it without waiting."""
    with AuthServer(lifetime=4) as server, server.client() as api:
        held = api.token()
        left = api.status().expires_in
        assert left is not None
        end = time.monotonic() + left.total_seconds() - 0.3
        begin(server, OUTAGES[name][0])
        requests = 0
        while True:
            seen, token = server.token_requests, api.current_token()
            # Looked at afterwards: a machine that stood still for so long has reached the token's end.
            if time.monotonic() >= end:
                break
            assert token == held, f"{name}: {api.status()}"
            requests = seen
            time.sleep(0.02)
        assert requests <= 4 and server.max_in_flight == 1


def without_a_token(name: str) -> None:
    """A caller is told what kind of failure it is, within its deadline."""
    fault, kind = OUTAGES[name]
    with AuthServer() as server, server.client(token_url=server.token_url, token_timeout=2.5) as api:
        begin(server, fault)
        if name != "hang":
            until_it_failed(api)
        with pytest.raises(EvertokenError) as caught:
            api.token()
        error = caught.value
        assert type(error) is (evertoken.TokenTimeoutError if name == "hang" else kind), error
        assert error.server == server.token_url and server.token_url in str(error)
        assert "mend" in str(error) or "tried again in" in str(error)
        if not error.retryable:
            requests = server.token_requests
            with pytest.raises(kind) as again:
                api.token()
            assert (again.value.retry_after or 0) > 1
            assert server.token_requests == requests and api.status().consecutive_failures == 1


RUNS: dict[str, Callable[[], None]] = {
    f"{run.__name__}: {name}": partial(run, name) for name in OUTAGES for run in (while_a_token_is_held, without_a_token)
}
at_once = AtOnce(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_outage(name: str) -> None:
    at_once.outcome(name)


def test_down_past_the_end_calls_get_a_typed_error_and_work_again_once_it_is_back() -> None:
    with AuthServer(lifetime=3) as server, server.client(token_timeout=1) as api:
        api.token()
        server.outage()
        until("the token has ended", lambda: api.current_token() is None)
        until("a renewal has failed", lambda: api.status().consecutive_failures > 0)
        with pytest.raises(UNAVAILABLE) as caught:
            api.token()
        assert caught.value.retryable and caught.value.retry_after is not None
        assert isinstance(caught.value.__cause__, Exception)
        causes: list[BaseException] = []
        cause: BaseException | None = caught.value.__cause__
        while cause is not None:
            causes.append(cause)
            cause = cause.__cause__
        assert any(isinstance(cause, ConnectionRefusedError) for cause in causes), causes
        until("no attempt is under way", lambda: api.status().state == "degraded")
        server.recover()
        until("a call works again", lambda: api.current_token() is not None)
        assert api.status().consecutive_failures == 0


def test_an_attempt_beyond_the_deadline_is_not_waited_for(server: AuthServer) -> None:
    server.fail("retry_after", status=429, after=120, always=True)
    with server.client() as api:
        for _ in range(2):
            with pytest.raises(evertoken.ThrottledError) as caught:
                api.token()
            assert (caught.value.retry_after or 0) > 100
    assert server.token_requests == 1


def test_over_ten_lifetimes_no_read_waits() -> None:
    """With an endpoint that takes 200 ms there is always a token after the first; the longest call is measured by the bench."""
    # Renewed after 1.2 s, and of so long a life that a busy machine is in time.
    policy = RenewalPolicy(renew_at=0.01, jitter=0)
    with AuthServer(lifetime=120) as server, server.client(renewal=policy) as api:
        server.set_latency(0.2)
        tokens = {api.token()}
        while len(tokens) < 11:
            token = api.current_token()
            assert token is not None and server.accepts(token)
            tokens.add(token)
            time.sleep(0.01)
        assert server.max_in_flight == 1
