"""The canary: a secret, a key and tokens are planted, and everything that is put out is searched for them."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import aiohttp
import evertoken
import httpx
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from evertoken import Client, Dpop, EvertokenError, HttpxAuth, PrivateKeyJwt, RenewalPolicy, RequestsAuth, SecretJwt
from evertoken.testing import APP_ID, AuthServer, fixed_client
from house import until

CANARY = "C4n4ryInTheCoalMine"
"""It stays itself when its surroundings are encoded."""
SECRET = f"""p w:%+/"{CANARY}'\\&="""
KEY = ec.generate_private_key(ec.SECP256R1())
PEM = KEY.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


def forbidden() -> list[str]:
    """What must be found nowhere, in any form that somebody could turn back."""
    forms = [CANARY, CANARY.encode().hex(), ", ".join(str(byte) for byte in CANARY.encode()), quote(SECRET), quote_plus(SECRET)]
    for place in range(3):
        encoded = base64.b64encode(b"x" * place + CANARY.encode()).decode()
        forms.append(encoded[4:-4])
    forms += PEM.splitlines()[1:-1]
    # Every JWT begins so, and so does the part with its claims.
    return [*forms, "eyJ"]


class Output:
    """All that was put out, by whomever."""

    def __init__(self) -> None:
        self.text = StringIO()

    def see(self, *things: object) -> None:
        for thing in things:
            self.text.write(f"{thing!r}\n{thing}\n")
            if isinstance(thing, BaseException):
                self.text.write("".join(traceback.format_exception(thing)))
                self.text.write("".join(traceback.TracebackException.from_exception(thing, capture_locals=True).format()))
            if hasattr(thing, "__dict__"):
                self.text.write(f"{vars(thing)!r}\n")

    def check(self) -> None:
        text = self.text.getvalue().replace("PrivateKeyJwt", "").replace("SecretKeyJwt", "")
        found = [form for form in forbidden() if form in text]
        assert not found, [text[max(0, text.index(form) - 300) : text.index(form) + 60] for form in found]


@pytest.fixture
def output(caplog: pytest.LogCaptureFixture) -> Output:
    caplog.set_level(1)
    return Output()


def see_errors(output: Output, api: Client, server: AuthServer) -> None:
    """Each kind of failure, and what is told of it."""
    events = api.events()
    for fault in (
        {"name": "oauth", "status": 401, "error": "invalid_client", "description": f"the secret {SECRET} is wrong"},
        {"name": "oauth", "status": 400, "error": "invalid_scope", "description": SECRET},
        {"name": "status", "status": 500, "body": f"<h1>{SECRET}</h1>"},
        {"name": "status", "status": 200, "body": f'{{"access_token": "{CANARY}\\n", "token_type": "Bearer"}}'},
        {"name": "garbage"},
        {"name": "reset"},
    ):
        given: dict[str, Any] = fault
        server.fail(**given)
        before = api.status().consecutive_failures

        def tried(before: int = before) -> bool:
            return api.status().consecutive_failures > before or api.status().is_ready

        token = api.current_token()
        if token is None:
            api.prefetch()
        else:
            api.invalidate(token)
        until("it was tried", tried)
        output.see(api, api.status(), api.status().last_error)
        api.set_credentials(APP_ID, SECRET + "x")
        api.set_credentials(APP_ID, SECRET)
    api.close()
    output.see(*events, events, api)


def test_nothing_is_shown_of_secrets_and_tokens(
    server: AuthServer, output: Output, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    server.rotate(APP_ID, SECRET)
    policy = RenewalPolicy(backoff_base=0.01, backoff_cap=0.05)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for method in ("client_secret_basic", "client_secret_post"):
            api = Client(
                APP_ID,
                SECRET,
                issuer=server.issuer,
                base_url=server.api_url,
                client_auth=method,
                renewal=policy,
                next_app_secret=f"next {CANARY}",
            )
            output.see(api, api._described())
            see_errors(output, api, server)
        output.see(*warned, *(str(warning.message) for warning in warned))
    output.see(*(record.getMessage() for record in caplog.records if record.name.startswith("evertoken")))
    assert any(record.name == "evertoken" for record in caplog.records)
    output.check()


def test_nothing_is_shown_by_mistakes(server: AuthServer, output: Output, tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    file.write_text(f'{{"app_id": "app", "app_secret": "{CANARY}"')
    file.chmod(0o600)

    def give() -> dict[str, str]:
        raise ValueError(f"{SECRET} in the vault")

    def sign(message: bytes) -> bytes:
        raise ValueError(f"{SECRET} in the KMS")

    base: dict[str, Any] = {"issuer": server.issuer, "token_timeout": 0.3}
    mistakes: list[dict[str, Any]] = [
        {"app_id": "app", "app_secret": SECRET, "isuer": "https://as.example"},
        {"app_id": "app", "app_secret": SECRET, "audience": 7},
        {"app_id": 7, "app_secret": SECRET},
        {"app_id": "app", "app_secret": SECRET, "client_auth": "nonsense"},
        {"app_id": "app", "app_secret": SECRET, "token_url": f"https://u:{CANARY}@as.example"},
        {"app_id": "app", "app_secret": SECRET, "proxy": f"nonsense://{CANARY}"},
        {"app_id": "app", "app_secret": SECRET, "cert": PEM},
        {"app_id": "app", "app_secret": SECRET, "cert": f"-----BEGIN {CANARY}"},
        {"app_id": "app", "app_secret": SECRET, "token_params": {"client_secret": SECRET}},
        {"app_id": "app", "app_secret": SECRET, "api_key": SECRET},
        {"app_id": "app", "app_secret": SECRET},
        {"api_key": f"acme_live_{CANARY}"},
        {"credentials_file": file},
        {"credentials": give},
        {"credentials": lambda: {"app_id": SECRET}},
        {"credentials": lambda: (SECRET, SECRET, SECRET, SECRET)},
        {"app_id": "app", "client_auth": PrivateKeyJwt(signer=sign, algorithm="ES256")},
        {"app_id": "app", "client_auth": PrivateKeyJwt(PEM)},
        {"app_id": "app", "app_secret": SECRET, "client_auth": SecretJwt()},
        {"app_id": "app", "app_secret": SECRET, "dpop": Dpop(KEY)},
    ]
    for mistake in mistakes:
        output.see(mistake.get("client_auth"), mistake.get("dpop"))
        try:
            api = Client(**{**base, **mistake})
        except (TypeError, ValueError) as error:
            see_without_frames(output, error)
            continue
        with api, pytest.raises(EvertokenError) as caught:
            api.token()
        see_without_frames(output, caught.value)
        output.see(api, api.status())
    for wrong in (f"-----BEGIN {CANARY}", CANARY, CANARY.encode(), f'{{"kty": "{CANARY}"'):
        with pytest.raises(ValueError) as told:
            PrivateKeyJwt(wrong)
        see_without_frames(output, told.value)
    output.check()


def see_without_frames(output: Output, error: BaseException) -> None:
    """As a log shows it; the lines of this file quote what they plant."""
    cause: BaseException | None = error
    while cause is not None:
        output.see(str(cause), repr(cause), vars(cause), cause.args)
        cause = cause.__cause__


def test_nothing_is_shown_by_the_adapters(server: AuthServer, output: Output, caplog: pytest.LogCaptureFixture) -> None:
    with server.client() as api, fixed_client(CANARY, server.api_url) as fixed:
        for client in (api, fixed):
            output.see(HttpxAuth(client), RequestsAuth(client), client._pass(), client)
            for call in (
                lambda client=client: httpx.get(f"{server.api_url}x", auth=HttpxAuth(client)),
                lambda client=client: requests.get(f"{server.api_url}x", auth=RequestsAuth(client)),
                lambda client=client: httpx.get("https://foreign.example/x", auth=HttpxAuth(client)),
                lambda client=client: client.headers("GET", "https://foreign.example"),
                lambda client=client: client.headers("GET", "no URL"),
                lambda client=client: client.with_(scope='a"b'),
                lambda client=client: client.__reduce__(),
            ):
                try:
                    output.see(call())
                except (EvertokenError, ValueError, TypeError) as error:
                    see_without_frames(output, error)
    output.see(*(record.getMessage() for record in caplog.records))
    output.check()


def frames(error: BaseException) -> list[str]:
    """The local variables of this package's frames, of the error and of all that led to it, as error reporters collect them."""
    found: list[str] = []
    left: list[BaseException | None] = [error]
    seen: set[int] = set()
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        left += [one.__cause__, one.__context__]
        for frame, _ in traceback.walk_tb(one.__traceback__):
            if str(Path(evertoken.__file__).parent) in frame.f_code.co_filename:
                found.append(f"{frame.f_code.co_qualname if sys.version_info >= (3, 11) else frame.f_code.co_name}")
                found += [f"{name}={value!r}" for name, value in frame.f_locals.items()]
    return found


def test_nothing_is_shown_by_frames_of_what_takes_secrets(
    server: AuthServer, output: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer = server.issuer
    monkeypatch.setenv("EVERTOKEN_APP_ID", "app")
    monkeypatch.setenv("EVERTOKEN_APP_SECRET", SECRET)
    preset = evertoken.Preset(issuer=issuer)
    wrong: dict[str, Any] = {"issuer": "no URL"}
    calls: dict[str, Callable[[], object]] = {
        "a secret": lambda: Client("app", SECRET, **wrong),
        "a next secret": lambda: Client("app", "s", next_app_secret=SECRET, **wrong),
        "a type": lambda: Client("app", SECRET, issuer=issuer, token_params=7),  # type: ignore[arg-type]
        "an option": lambda: Client("app", SECRET, isuer=issuer),  # type: ignore[call-arg]
        "parameters": lambda: Client("app", "s", token_params={"other": SECRET}, **wrong),
        "a proxy": lambda: Client("app", "s", issuer=issuer, proxy=f"nonsense://u:{CANARY}@h"),
        "a certificate": lambda: Client("app", cert=PEM, **wrong),
        "a certificate's path": lambda: Client("app", cert=f"{CANARY}.pem", issuer=issuer),
        "a function's secret": lambda: Client("app", SECRET, credentials=7, issuer=issuer),  # type: ignore[arg-type]
        "a key": lambda: Client.from_api_key(f"acme_live_{CANARY}", issuer=issuer),
        "the environment": lambda: Client.from_env(**wrong),
        "a preset": lambda: preset.client("app", SECRET, **wrong),
        "a preset's key": lambda: preset.from_api_key(f"acme_live_{CANARY}"),
        "a preset's prefix": lambda: evertoken.Preset(key_prefix="x").from_api_key(f"acme_live_{CANARY}"),
        "a preset's environment": lambda: preset.from_env(next_app_secret=SECRET),
        "a preset's options": lambda: evertoken.Preset(next_app_secret=SECRET, nonsense=1),  # type: ignore[call-arg]
        "a private key": lambda: PrivateKeyJwt(f"-----BEGIN {CANARY}"),
        "a private key's path": lambda: PrivateKeyJwt(CANARY),
        "a private key's type": lambda: PrivateKeyJwt([PEM]),  # type: ignore[arg-type]
        "a fixed token": lambda: fixed_client(CANARY, "no URL"),
        "a box": lambda: server.client(next_app_secret=SECRET, **wrong),
    }
    for name, call in calls.items():
        try:
            raise LookupError(SECRET)
        except LookupError as handled:
            try:
                call()
            except (EvertokenError, TypeError, ValueError) as error:
                output.see(name, *frames(error))
            # That is its owner's, with all its frames.
            assert handled.__traceback__ is not None
    output.check()


def test_nothing_is_shown_by_frames_of_the_adapters(server: AuthServer, output: Output) -> None:
    """Each is left by an error once without a token and once with one, at the first sending and at the second."""
    down = "http://127.0.0.1:9/"

    class Broken(requests.adapters.HTTPAdapter):
        calls = 0

        def send(self, *args: Any, **kwargs: Any) -> requests.Response:
            self.calls += 1
            if self.calls > 1:
                raise requests.ConnectionError("the second time")
            return super().send(*args, **kwargs)

    def left(call: Callable[[], object], *classes: type[BaseException]) -> None:
        with pytest.raises(classes) as caught:
            call()
        output.see(*frames(caught.value))

    def with_requests(api: Client) -> None:
        session = requests.Session()
        session.mount("http://", Broken())
        session.get(f"{server.api_url}x", auth=RequestsAuth(api))

    async def with_httpx(api: Client) -> None:
        # Cancelled while it waits for another token after the 401.
        server.fail("hang", always=True)
        async with httpx.AsyncClient(auth=HttpxAuth(api)) as http:
            call = asyncio.ensure_future(http.get(f"{server.api_url}x"))
            asked = server.token_requests
            while server.token_requests == asked:
                await asyncio.sleep(0.01)
            call.cancel()
            await call

    async def with_aiohttp(api: Client, url: str) -> None:
        async with aiohttp.ClientSession(middlewares=(evertoken.AiohttpMiddleware(api),)) as session:
            await session.get(url)

    for dpop in (None, Dpop()):
        for call, classes in (
            (with_requests, (requests.ConnectionError,)),
            (lambda api: asyncio.run(with_httpx(api)), (asyncio.CancelledError,)),
            (lambda api: asyncio.run(with_aiohttp(api, down)), (aiohttp.ClientError,)),
        ):
            with server.client(trusted_origins=[down], dpop=dpop) as api:
                api.token()
                server.revoke_all()
                left(partial(call, api), *classes)
                server.heal()
    for seen in ("_again", "async_auth_flow", "__call__"):
        assert seen in output.text.getvalue()
    output.check()


def test_nothing_is_shown_in_a_loop(server: AuthServer, output: Output, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        asyncio.get_running_loop().set_debug(True)
        async with Client(APP_ID, SECRET, issuer=server.issuer) as api:
            task = asyncio.ensure_future(api.token_async())
            await asyncio.sleep(0)
            output.see(task)
            with pytest.raises(evertoken.CredentialsRejectedError) as caught:
                await task
            see_without_frames(output, caught.value)

    asyncio.run(run())
    output.see(*(record.getMessage() for record in caplog.records))
    output.check()


def test_nothing_is_shown_on_the_command_line(server: AuthServer, output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERTOKEN_APP_ID", APP_ID)
    monkeypatch.setenv("EVERTOKEN_ISSUER", server.issuer)
    for secret in (SECRET, "secret"):
        monkeypatch.setenv("EVERTOKEN_APP_SECRET", secret)
        done = subprocess.run([sys.executable, "-m", "evertoken", "check"], capture_output=True, text=True, timeout=60)
        assert done.returncode == (secret == SECRET)
        output.see(done.stdout, done.stderr)
    output.check()
