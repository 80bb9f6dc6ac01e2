"""The canary: a secret, a key and tokens are planted, and everything that is put out is searched for them."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import sys
import traceback
import warnings
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

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
