"""Each library, set up as its documentation has it, for the same token endpoint.

A peer is two functions: one that gives what attaches the token to a request, and one that makes such a request. Where a library
knows servers of its own only (Microsoft's), its transport is replaced by one that asks ours.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import requests

API = "https://api.acme.com/v1/orders"

Attach = Callable[[Any], object]


@dataclass(frozen=True)
class Peer:
    name: str
    make: Callable[[str, bool], Attach]
    """By the endpoint's URL, and whether tokens are short-lived, what attaches a token."""
    request: Callable[[], Any]
    """A request without a token."""
    short: bool = True
    """Whether it can be had to keep a token that lives a few seconds only."""


def headers() -> dict[str, str]:
    return {}


def prepared() -> requests.PreparedRequest:
    return requests.Request("GET", API).prepare()


def of_httpx() -> httpx.Request:
    return httpx.Request("GET", API)


def client(url: str) -> Any:
    from evertoken import Client

    return Client("app", "secret", token_url=f"{url}/token", base_url="https://api.acme.com/v1/", token_timeout=120)


def evertoken(url: str, short: bool) -> Attach:
    api = client(url)

    def attach(headers: dict[str, str]) -> None:
        headers["Authorization"] = api.authorization()

    return attach


def evertoken_headers(url: str, short: bool) -> Attach:
    api = client(url)
    return lambda headers: headers.update(api.headers("GET", API))


def evertoken_requests(url: str, short: bool) -> Attach:
    from evertoken import RequestsAuth

    return RequestsAuth(client(url))


def evertoken_httpx(url: str, short: bool) -> Attach:
    from evertoken import HttpxAuth

    auth = HttpxAuth(client(url))
    return lambda request: next(auth.sync_auth_flow(request))


def authlib(url: str, short: bool) -> Attach:
    from authlib.integrations.requests_client import OAuth2Session

    more = {"leeway": 1} if short else {}
    session = OAuth2Session("app", "secret", token_endpoint=f"{url}/token", grant_type="client_credentials", **more)
    session.fetch_token()
    return lambda request: session.token_auth(request)


def authlib_cold(url: str, short: bool) -> Attach:
    """Its sessions want a first token by hand: each thread that finds none fetches one."""
    from authlib.integrations.requests_client import OAuth2Session

    session = OAuth2Session("app", "secret", token_endpoint=f"{url}/token", grant_type="client_credentials")

    def attach(request: Any) -> None:
        if not session.token:
            session.fetch_token()
        session.token_auth(request)

    return attach


def requests_oauthlib(url: str, short: bool) -> Attach:
    os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"
    from oauthlib.oauth2 import BackendApplicationClient, TokenExpiredError
    from requests_oauthlib import OAuth2Session

    session = OAuth2Session(client=BackendApplicationClient("app"))

    def attach(request: dict[str, str]) -> None:
        # It has no renewal for this grant: its documentation has the program fetch another one.
        try:
            if not session.token:
                raise TokenExpiredError
            request.update(session._client.add_token(API, http_method="GET", headers=request)[1])
        except TokenExpiredError:
            session.fetch_token(f"{url}/token", client_secret="secret")

    return attach


def requests_oauth2client(url: str, short: bool) -> Attach:
    from requests_oauth2client import OAuth2Client, OAuth2ClientCredentialsAuth

    made = OAuth2Client(token_endpoint=f"{url}/token", auth=("app", "secret"), testing=True)
    return OAuth2ClientCredentialsAuth(made, **({"leeway": 1} if short else {}))


def httpx_auth(url: str, short: bool) -> Attach:
    from httpx_auth import OAuth2ClientCredentials

    auth = OAuth2ClientCredentials(f"{url}/token", "app", "secret", early_expiry=1 if short else 30)
    return lambda request: next(auth.sync_auth_flow(request))


def google(url: str, short: bool) -> Attach:
    from google.auth import _helpers, credentials
    from google.auth.transport.requests import Request

    if short:
        _helpers.REFRESH_THRESHOLD = timedelta(seconds=1)

    class Credentials(credentials.Credentials):
        """Its own kinds are for Google's servers: this is the least that its documentation asks of another."""

        def refresh(self, request: Any) -> None:
            answer = request(f"{url}/token", method="POST", body=b"grant_type=client_credentials")
            told = json.loads(answer.data)
            self.token = told["access_token"]
            self.expiry = datetime.now(timezone.utc).replace(tzinfo=None) + timedelta(seconds=told["expires_in"])

    made, transport = Credentials(), Request()
    return lambda headers: made.before_request(transport, "GET", API, headers)


def msal(url: str, short: bool) -> Attach:
    from msal import ConfidentialClientApplication

    class Transport:
        def get(self, asked: str, **kwargs: Any) -> Any:
            return requests.get(f"{url}/metadata")

        def post(self, asked: str, **kwargs: Any) -> Any:
            return requests.post(f"{url}/token", data=kwargs.get("data"))

        def close(self) -> None:
            pass

    app = ConfidentialClientApplication(
        "app",
        client_credential="secret",
        authority="https://login.microsoftonline.com/tenant",
        instance_discovery=False,
        http_client=Transport(),
    )

    def attach(headers: dict[str, str]) -> None:
        token = app.acquire_token_for_client(["https://api.acme.com/.default"])["access_token"]
        headers["Authorization"] = f"Bearer {token}"

    return attach


def azure(url: str, short: bool) -> Attach:
    from azure.core.pipeline.transport import RequestsTransport
    from azure.identity import ClientSecretCredential

    class Transport(RequestsTransport):
        def send(self, request: Any, **kwargs: Any) -> Any:
            request.url = f"{url}/{'metadata' if 'openid-configuration' in request.url else 'token'}"
            return super().send(request, **kwargs)

    credential = ClientSecretCredential("tenant", "app", "secret", transport=Transport(), disable_instance_discovery=True)

    def attach(headers: dict[str, str]) -> None:
        headers["Authorization"] = f"Bearer {credential.get_token('https://api.acme.com/.default').token}"

    return attach


OURS = [
    Peer("evertoken", evertoken, headers),
    Peer("evertoken, headers()", evertoken_headers, headers),
    Peer("evertoken RequestsAuth", evertoken_requests, prepared),
    Peer("evertoken HttpxAuth", evertoken_httpx, of_httpx),
]
PEERS = [
    Peer("authlib", authlib, prepared),
    Peer("requests-oauthlib", requests_oauthlib, headers),
    Peer("requests-oauth2client", requests_oauth2client, prepared),
    Peer("httpx-auth", httpx_auth, of_httpx),
    Peer("google-auth", google, headers),
    Peer("msal", msal, headers, short=False),
    Peer("azure-identity", azure, headers, short=False),
]
ALL = {peer.name: peer for peer in OURS + PEERS}
COLD = {**ALL, "authlib": Peer("authlib", authlib_cold, prepared)}
