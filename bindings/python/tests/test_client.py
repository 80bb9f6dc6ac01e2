from __future__ import annotations

import asyncio
import copy
import json
import logging
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import evertoken
import pytest
from evertoken import Client, Preset
from evertoken.testing import APP_ID, APP_SECRET, AuthServer
from house import until, until_it_failed


def test_a_token_is_fetched_once_and_then_read(server: AuthServer) -> None:
    with server.client() as api:
        assert server.token_requests == 0
        token = api.token()
        assert server.accepts(token)
        assert api.token() is token, "the same object, made once"
        assert api.authorization() == f"Bearer {token}"
        assert api.headers("GET", server.api_url) == {"Authorization": f"Bearer {token}"}
        status = api.status()
        assert status.is_ready and status.state == "fresh" and status.last_error is None
        assert server.token_requests == 1


def test_two_hundred_threads_make_one_request(server: AuthServer) -> None:
    server.set_latency(0.2)
    with server.client() as api, ThreadPoolExecutor(200) as pool:
        start = threading.Barrier(200)

        def call() -> str:
            start.wait()
            return api.token()

        tokens = {future.result() for future in [pool.submit(call) for _ in range(200)]}
        assert len(tokens) == 1
    assert server.token_requests == 1


def test_an_outage_costs_nothing_while_a_token_is_held(server: AuthServer) -> None:
    server.set_lifetime(4)
    with server.client() as api:
        events = api.events()
        token = api.token()
        server.fail("status", always=True)
        assert next(event for event in events if event.kind == "renewal_failed").error is not None
        assert api.token() == token and api.status().is_ready
        server.heal()
        until("it is renewed", lambda: api.current_token() not in (None, token))


def test_errors_say_what_and_where(server: AuthServer) -> None:
    with Client(APP_ID, "wr0ng-s3cret", issuer=server.issuer) as api:
        with pytest.raises(evertoken.CredentialsRejectedError) as caught:
            api.token()
        error = caught.value
        assert error.oauth_error == "invalid_client" and error.server == server.token_url and not error.retryable
        assert "wr0ng-s3cret" not in f"{error!r} {error} {api!r} {api.status()}"
    with pytest.raises(evertoken.ClosedError):
        api.token()
    with pytest.raises(evertoken.ConfigurationError, match="issuer"):
        Client("app", "secret")
    with pytest.raises(TypeError, match="isuer"):
        Client("app", "secret", isuer="https://as.example")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="audience"):
        Client("app", "secret", audience=7)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="token_timeout"):
        Client("app", "secret", issuer=server.issuer, token_timeout=-1)


def test_a_wait_has_its_limit(server: AuthServer) -> None:
    server.fail("hang", always=True)
    with server.client(token_timeout=0.3) as api, pytest.raises(TimeoutError):
        api.token()


def test_a_refused_token_is_renewed(server: AuthServer) -> None:
    with server.client() as api:
        token = api.token()
        server.revoke(token)
        api.invalidate(token)
        until("there is another", lambda: api.current_token() not in (None, token))
        api.invalidate(token)
        assert server.token_requests == 2


@pytest.mark.parametrize("bound", [False, True], ids=["bearer", "dpop"])
def test_headers_wait_for_the_token_after_a_refused_one(server: AuthServer, bound: bool) -> None:
    with server.client(dpop=evertoken.Dpop() if bound else None) as api:
        token = api.token()
        server.set_latency(0.3)
        api.invalidate(token)
        assert token not in api.headers("GET", server.api_url)["Authorization"]


def test_a_rotated_secret(server: AuthServer) -> None:
    with server.client() as api:
        api.token()
        server.rotate(APP_ID, "new")
        api.set_credentials(APP_ID, "new")
        api.invalidate(api.token())
        until("it is renewed", lambda: server.token_requests >= 2 and api.current_token() is not None)
        assert api.status().last_error is None


@pytest.mark.parametrize("kind", ["sync", "async", "pair"])
def test_a_function_gives_the_credentials(server: AuthServer, kind: str) -> None:
    threads = set()

    def give() -> dict[str, str]:
        threads.add(threading.current_thread().name)
        return {"app_id": APP_ID, "app_secret": APP_SECRET}

    async def give_async() -> dict[str, str]:
        await asyncio.sleep(0)
        return give()

    function: Any = {"sync": give, "async": give_async, "pair": lambda: tuple(give().values())}[kind]
    with Client(credentials=function, issuer=server.issuer) as api:
        assert server.accepts(api.token())
    assert threads == {"evertoken-python"}


def test_a_function_that_fails_is_told_without_its_words(server: AuthServer) -> None:
    def give() -> dict[str, str]:
        raise LookupError("the vault said s3cret-c4nary")

    with Client(credentials=give, issuer=server.issuer, token_timeout=0.5) as api:
        until_it_failed(api)
        with pytest.raises(evertoken.CredentialsUnavailableError, match="LookupError") as caught:
            api.token()
        assert "c4nary" not in f"{caught.value!r} {caught.value.__cause__!r}"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_function_that_fails_is_told_with_the_lines(server: AuthServer, kind: str) -> None:
    def read(depth: int) -> dict[str, str]:
        if depth == 0:
            raise LookupError("the vault said s3cret-c4nary")
        return read(depth - 1)

    def give() -> dict[str, str]:
        return read(5)

    async def give_async() -> dict[str, str]:
        await asyncio.sleep(0)
        return read(5)

    function: Any = {"sync": give, "async": give_async}[kind]
    entry, deeper = function.__code__.co_firstlineno + (1 if kind == "sync" else 2), read.__code__.co_firstlineno + 3
    lines = ", ".join(f"test_client.py:{line}" for line in (entry, deeper, deeper, deeper - 1))
    with Client(credentials=function, issuer=server.issuer, token_timeout=0.5) as api:
        until_it_failed(api)
        with pytest.raises(evertoken.CredentialsUnavailableError, match="LookupError") as caught:
            api.token()
        assert f"LookupError in the function for credentials ({lines})" in str(caught.value)


def test_a_function_that_gives_what_is_none_is_told(server: AuthServer) -> None:
    with Client(credentials=lambda: {"app_id": APP_ID}, issuer=server.issuer, token_timeout=0.5) as api:
        until_it_failed(api)
        with pytest.raises(evertoken.CredentialsUnavailableError, match="KeyError in what the function for cred"):
            api.token()


def test_the_environment(server: AuthServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"APP_ID": APP_ID, "APP_SECRET": APP_SECRET, "ISSUER": server.issuer}.items():
        monkeypatch.setenv(f"ACME_{name}", value)
    with Client.from_env("ACME") as api, Preset(env_prefix="ACME").from_env() as other:
        assert server.accepts(api.token()) and server.accepts(other.token())


def test_a_preset_goes_after_the_customer(server: AuthServer) -> None:
    preset = Preset(issuer="https://unreachable.invalid/", key_prefix="acme_live")
    with preset.client(APP_ID, APP_SECRET, token_url=server.token_url) as api:
        assert server.accepts(api.token())
    with pytest.raises(evertoken.ConfigurationError, match="acme_live"):
        preset.from_api_key("acme_test_x")


def test_the_environment_goes_before_a_preset_and_after_the_customer(server: AuthServer, monkeypatch: pytest.MonkeyPatch) -> None:
    preset = Preset(
        token_url="https://unreachable.invalid/token",
        audience="https://preset.example",
        base_url="https://preset.example/",
        scope="read",
        env_prefix="ACME",
    )
    told = {"APP_ID": APP_ID, "APP_SECRET": APP_SECRET, "ISSUER": server.issuer, "AUDIENCE": server.audience}
    for name, value in {**told, "BASE_URL": server.api_url}.items():
        monkeypatch.setenv(f"ACME_{name}", value)
    with preset.from_env() as api:
        assert server.accepts(api.token()) and api.headers("GET", server.api_url)
        assert api.status().scope == "read"
        with pytest.raises(evertoken.UntrustedOriginError):
            api.headers("GET", "https://preset.example/")
    with preset.from_env(audience="https://other.example", base_url="https://other.example/") as api:
        assert not server.accepts(api.token())
        assert api.headers("GET", "https://other.example/")
    monkeypatch.setenv("ACME_ISSUER", "https://unreachable.invalid/")
    with preset.from_env(token_url=server.token_url) as api:
        assert server.accepts(api.token())


@pytest.mark.parametrize("place", ["API_KEY", "CREDENTIALS_FILE"])
def test_a_preset_takes_keys_of_its_own_prefix_only(
    server: AuthServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    # Both are of APP_ID and APP_SECRET.
    own, other = "acme_live_004MCkrcfDv0VSKa_3E5rZZ", "acme_test_004MCkrcfDv0VSKa_4RCCvj"
    preset = Preset(issuer=server.issuer, key_prefix="acme_live", env_prefix="ACME")

    def put(key: str) -> None:
        file = tmp_path / "credentials.json"
        file.write_text(json.dumps({"api_key": key}))
        file.chmod(0o600)
        monkeypatch.setenv(f"ACME_{place}", key if place == "API_KEY" else str(file))

    put(other)
    # A file may yet be replaced, and is waited for.
    kind = evertoken.ConfigurationError if place == "API_KEY" else evertoken.CredentialsUnavailableError
    with pytest.raises(kind, match="acme_live") as caught, preset.from_env(token_timeout=0.1) as api:
        api.token()
    assert other not in str(caught.value)
    put(own)
    with preset.from_env() as api:
        assert server.accepts(api.token())


def test_other_audiences_have_tokens_of_their_own(server: AuthServer) -> None:
    with server.client() as api:
        other = api.with_(audience="https://other.example", scope="read")
        assert other.token() != api.token()
        assert server.token_requests == 2


def test_what_clings_to_pasted_values_does_not_count(server: AuthServer, caplog: pytest.LogCaptureFixture) -> None:
    issuer, base_url = f' "{server.issuer}"\r\n', f"'{server.api_url}'\n"
    for app_id, app_secret in [(f"{APP_ID}\n", f"{APP_SECRET}\r\n"), (f"\ufeff{APP_ID}", f"{APP_SECRET}\x00")]:
        caplog.clear()
        with caplog.at_level(logging.WARNING, "evertoken"), Client(app_id, app_secret, issuer=issuer, base_url=base_url) as api:
            assert server.accepts(api.token())
            with evertoken.httpx_client(api) as calls:
                assert calls.get("orders").status_code == 200
            api.set_credentials(app_id, app_secret)
            until("it warns", lambda: "control character" in caplog.text)
        assert "it is removed" in caplog.text
        assert "Bearer" not in caplog.text
    with Client(credentials=lambda: (f"{APP_ID}\r\n", f"{APP_SECRET}\n"), issuer=issuer, base_url=base_url) as api:
        assert server.accepts(api.token())


def test_logs_reach_the_logger(server: AuthServer, caplog: pytest.LogCaptureFixture) -> None:
    server.fail("status", always=True)
    with caplog.at_level(logging.DEBUG, "evertoken"), server.client(token_timeout=1, name="billing") as api:
        until_it_failed(api)
        with pytest.raises(evertoken.AuthServerUnavailableError):
            api.token()
        until("there is a record", lambda: any(record.levelno >= logging.WARNING for record in caplog.records))
    assert "billing" in caplog.text
    assert APP_SECRET not in " ".join(record.getMessage().replace("client_secret", "") for record in caplog.records)


def test_it_is_neither_copied_nor_pickled(server: AuthServer) -> None:
    with server.client() as api:
        for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="in each process"):
                attempt(api)


async def test_a_running_loop_is_warned_of(server: AuthServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evertoken._loop._warned", False)
    with server.client() as api, pytest.warns(RuntimeWarning, match="token_async"):
        api.token()


def test_a_subclass(server: AuthServer) -> None:
    class Acme(Client):
        def __init__(self, app_id: str, app_secret: str) -> None:
            super().__init__(app_id, app_secret, issuer=server.issuer, base_url=server.api_url)

        def greeting(self) -> str:
            return self.authorization()

    class Forgetful(Client):
        def __init__(self) -> None:
            pass

    with Acme(APP_ID, APP_SECRET) as api:
        assert server.accepts(api.greeting().removeprefix("Bearer "))
        assert repr(api).startswith("<Acme of http://127.0.0.1:")
    with pytest.raises(TypeError, match="__init__"):
        Forgetful().token()
    assert repr(Forgetful()) == "<Forgetful not initialized>"


def test_threads_that_wait_are_told_of_no_loop(server: AuthServer) -> None:
    """A warning is for those who hold one up; `filterwarnings` makes an error of it."""
    with server.client() as api:
        api.token()


def test_errors_can_be_pickled(server: AuthServer) -> None:
    with Client(APP_ID, "wr0ng", issuer=server.issuer) as api, pytest.raises(evertoken.CredentialsRejectedError) as caught:
        api.token()
    copied = pickle.loads(pickle.dumps(caught.value))
    assert type(copied) is type(caught.value) and str(copied) == str(caught.value)
    assert (copied.oauth_error, copied.server, copied.retryable) == ("invalid_client", server.token_url, False)
    assert (copied.status, copied.description) == (401, caught.value.description)


def test_a_repr_has_the_state(server: AuthServer) -> None:
    with server.client() as api:
        address = server.issuer
        assert repr(api) == f"<Client of {address}: starting>"
        api.token()
        assert repr(api).startswith(f"<Client of {address}: fresh, expires in 3")
        server.fail("status", always=True)
        api.invalidate(api.token())
        until("it failed", lambda: api.status().last_error is not None)
        assert "last error AuthServerUnavailableError" in repr(api)
    assert repr(api).startswith(f"<Client of {address}: closed")


def test_a_stalled_log_handler_stops_no_renewal(server: AuthServer) -> None:
    """Records that find the queue full are dropped; functions have room of their own in it."""
    gate, reached = threading.Event(), threading.Event()

    class Stalled(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            reached.set()
            gate.wait(60)

    handler = Stalled()
    logger = logging.getLogger("evertoken")
    logger.addHandler(handler)
    try:
        server.fail("status")
        with server.client() as api:
            with ThreadPoolExecutor(400) as pool:
                assert len(set(pool.map(lambda _: api.token(), range(400)))) == 1
            assert reached.wait(60)
            with server.client() as other:
                assert server.accepts(other.token())
    finally:
        gate.set()
        logger.removeHandler(handler)
