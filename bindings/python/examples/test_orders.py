"""How to test code of your own that calls an API with Evertoken. Run it with pytest."""

from __future__ import annotations

import evertoken
import httpx
import pytest
from evertoken import Client, HttpxAuth, httpx_client
from evertoken.testing import AuthServer, fixed_client


class Shop:
    """The code that is tested."""

    def __init__(self, api: Client, transport: httpx.BaseTransport | None = None) -> None:
        self.http = httpx_client(api, transport=transport)

    def has_order(self, number: int) -> bool:
        answer = self.http.get(f"orders/{number}")
        return answer.status_code != 404 and answer.raise_for_status().is_success


# 1. A unit test: the token does not matter, and the API is replaced.


def test_an_order_that_is_not_there() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["Authorization"] == "Bearer t0ken"
        return httpx.Response(404 if request.url.path == "/v1/orders/7" else 200)

    shop = Shop(fixed_client("t0ken", "https://api.acme.com/v1/"), httpx.MockTransport(answer))
    assert shop.has_order(6) and not shop.has_order(7)


# 2. With an authorization server and an API in a box, by the fixtures that come with the package.


def test_it_survives_a_revoked_token(evertoken_server: AuthServer, evertoken_client: Client) -> None:
    shop = Shop(evertoken_client)
    assert shop.has_order(1)
    evertoken_server.revoke_all()
    assert shop.has_order(1)
    assert evertoken_server.token_requests == 2


def test_it_survives_an_authorization_server_that_is_down(evertoken_server: AuthServer, evertoken_client: Client) -> None:
    shop = Shop(evertoken_client)
    assert shop.has_order(1)
    evertoken_server.outage()
    assert shop.has_order(1)


def test_it_says_what_is_wrong(evertoken_server: AuthServer) -> None:
    shop = Shop(evertoken_server.client(token_url=evertoken_server.token_url))
    evertoken_server.rotate("app", "another secret")
    with pytest.raises(evertoken.CredentialsRejectedError, match="invalid_client"):
        shop.has_order(1)


@pytest.mark.parametrize("status", [429, 503])
def test_it_waits_where_the_server_says_so(evertoken_server: AuthServer, evertoken_client: Client, status: int) -> None:
    evertoken_server.fail("retry_after", status=status, after=1)
    http = httpx.Client(auth=HttpxAuth(evertoken_client), base_url=evertoken_server.api_url)
    assert http.get("orders").status_code == 200
    assert evertoken_server.token_requests == 2
