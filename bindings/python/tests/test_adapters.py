"""The same for each HTTP library: a token, a 401 that is met, and no token for foreign origins."""

from __future__ import annotations

from collections.abc import Callable

import aiohttp
import evertoken
import httpx
import httpx2
import pytest
import requests
from evertoken import AiohttpMiddleware, Client, Httpx2Auth, HttpxAuth, RequestsAuth
from evertoken.testing import AuthServer

Get = Callable[[Client, str, dict[str, str]], int]


def over_httpx(api: Client, url: str, headers: dict[str, str]) -> int:
    with httpx.Client(auth=HttpxAuth(api)) as http:
        return http.get(url, headers=headers).status_code


def over_httpx2(api: Client, url: str, headers: dict[str, str]) -> int:
    with httpx2.Client(auth=Httpx2Auth(api)) as http:
        return int(http.get(url, headers=headers).status_code)


def over_requests(api: Client, url: str, headers: dict[str, str]) -> int:
    with requests.Session() as http:
        return http.get(url, headers=headers, auth=RequestsAuth(api)).status_code


SYNC = pytest.mark.parametrize("get", [over_httpx, over_httpx2, over_requests])


@SYNC
def test_calls_carry_the_token(server: AuthServer, get: Get) -> None:
    with server.client() as api:
        assert [get(api, f"{server.api_url}orders", {}) for _ in range(3)] == [200] * 3
    assert server.token_requests == 1


@SYNC
def test_a_401_is_met_with_a_newer_token(server: AuthServer, get: Get) -> None:
    with server.client() as api:
        server.revoke(api.token())
        assert get(api, f"{server.api_url}orders", {}) == 200
        assert (server.token_requests, server.api_calls) == (2, 2)


@SYNC
def test_other_answers_are_handed_on(server: AuthServer, get: Get) -> None:
    with server.client() as api:
        server.fail("status", at="api", status=403)
        assert get(api, f"{server.api_url}orders", {}) == 403
        assert (server.token_requests, server.api_calls) == (1, 1)


@SYNC
def test_no_token_goes_to_a_foreign_origin(server: AuthServer, get: Get) -> None:
    with server.client() as api, AuthServer() as foreign:
        with pytest.raises(evertoken.UntrustedOriginError):
            get(api, f"{foreign.api_url}orders", {})
        assert foreign.api_calls == 0
    with Client("app", "secret", issuer=server.issuer) as api, pytest.raises(evertoken.ConfigurationError):
        get(api, server.api_url, {})


@SYNC
def test_an_authorization_of_ones_own_stands(server: AuthServer, get: Get) -> None:
    with server.client() as api:
        own = {"Authorization": "Bearer nonsense"}
        assert get(api, f"{server.api_url}orders", own) == 401
        assert server.token_requests == 0


@SYNC
def test_a_nonce_is_given_under_dpop(server: AuthServer, get: Get) -> None:
    server.set_api_nonce("nonce-1")
    with server.client(dpop=evertoken.Dpop()) as api:
        assert get(api, f"{server.api_url}orders", {}) == 200
    assert server.token_requests == 1


@pytest.mark.parametrize("library", ["httpx", "httpx2", "aiohttp"])
async def test_the_same_for_asyncio(server: AuthServer, library: str) -> None:
    url = f"{server.api_url}orders"
    async with server.client() as api:

        async def get() -> int:
            if library == "aiohttp":
                session = aiohttp.ClientSession(middlewares=(AiohttpMiddleware(api),))
                async with session as http, http.get(url) as answer:
                    return answer.status
            module, auth = (httpx, HttpxAuth) if library == "httpx" else (httpx2, Httpx2Auth)
            async with module.AsyncClient(auth=auth(api)) as http:
                return int((await http.get(url)).status_code)

        assert await get() == 200
        server.revoke(await api.token_async())
        assert await get() == 200
        assert (server.token_requests, server.api_calls) == (2, 3)


def test_a_ready_client(server: AuthServer) -> None:
    with server.client() as api, evertoken.httpx_client(api) as http:
        assert http.get("orders").status_code == 200


def test_a_body_is_sent_again_and_a_stream_is_not(server: AuthServer) -> None:
    url = f"{server.api_url}orders"
    with server.client() as api, httpx.Client(auth=HttpxAuth(api)) as http:
        server.revoke(api.token())
        assert http.post(url, json={"n": 1}).status_code == 200
        server.revoke(api.token())
        assert http.post(url, content=iter([b"{}"])).status_code == 401
