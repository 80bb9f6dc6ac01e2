"""The same for each HTTP library: a token, a 401 that is met, redirects, and no token for foreign origins."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import aiohttp
import evertoken
import httpx
import httpx2
import pytest
import requests
from evertoken import AiohttpMiddleware, Client, Httpx2Auth, HttpxAuth, RequestsAuth
from evertoken.testing import AuthServer, fixed_client
from multidict import CIMultiDict

Get = Callable[[Client, str, dict[str, str]], int]


AUTHS: weakref.WeakKeyDictionary[Client, dict[Any, Any]] = weakref.WeakKeyDictionary()


def of(kind: Any, api: Client) -> Any:
    """One adapter for all calls of a client, as it is used."""
    known = AUTHS.setdefault(api, {})
    if kind not in known:
        known[kind] = kind(api)
    return known[kind]


def over_httpx(api: Client, url: str, headers: dict[str, str]) -> int:
    with httpx.Client(auth=of(HttpxAuth, api), follow_redirects=True) as http:
        return http.get(url, headers=headers).status_code


def over_httpx2(api: Client, url: str, headers: dict[str, str]) -> int:
    with httpx2.Client(auth=of(Httpx2Auth, api), follow_redirects=True) as http:
        return int(http.get(url, headers=headers).status_code)


def over_async_httpx(api: Client, url: str, headers: dict[str, str]) -> int:
    async def get() -> int:
        async with httpx.AsyncClient(auth=of(HttpxAuth, api), follow_redirects=True) as http:
            return (await http.get(url, headers=headers)).status_code

    return asyncio.run(get())


def over_async_httpx2(api: Client, url: str, headers: dict[str, str]) -> int:
    async def get() -> int:
        async with httpx2.AsyncClient(auth=of(Httpx2Auth, api), follow_redirects=True) as http:
            return int((await http.get(url, headers=headers)).status_code)

    return asyncio.run(get())


def over_requests(api: Client, url: str, headers: dict[str, str]) -> int:
    with requests.Session() as http:
        return http.get(url, headers=headers, auth=of(RequestsAuth, api)).status_code


def over_aiohttp(api: Client, url: str, headers: dict[str, str]) -> int:
    async def get() -> int:
        session = aiohttp.ClientSession(middlewares=(of(AiohttpMiddleware, api),))
        async with session as http, http.get(url, headers=headers) as answer:
            return answer.status

    return asyncio.run(get())


LIBRARIES = [over_httpx, over_httpx2, over_async_httpx, over_async_httpx2, over_requests, over_aiohttp]
EACH = pytest.mark.parametrize("get", LIBRARIES)


class Site:
    """A plain server that redirects, or refuses, and remembers what it was sent."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.redirects: dict[str, str] = {}
        self.status = 200
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                site.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                location = site.redirects.get(self.path)
                self.send_response(302 if location else site.status)
                if location:
                    self.send_header("Location", location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def sites() -> Iterator[tuple[Site, Site]]:
    """The API's site, and a foreign one."""
    both = Site(), Site()
    yield both
    for site in both:
        site.stop()


@EACH
def test_calls_carry_the_token(server: AuthServer, get: Get) -> None:
    with server.client() as api:
        assert [get(api, f"{server.api_url}orders", {}) for _ in range(3)] == [200] * 3
    assert server.token_requests == 1


@EACH
def test_a_401_is_met_with_a_newer_token(server: AuthServer, get: Get) -> None:
    with server.client() as api:
        server.revoke(api.token())
        assert get(api, f"{server.api_url}orders", {}) == 200
        assert (server.token_requests, server.api_calls) == (2, 2)


@EACH
def test_a_route_that_always_refuses_gets_its_401_and_costs_one_token(server: AuthServer, get: Get) -> None:
    with server.client() as api:
        for _ in range(2):
            server.fail("oauth", at="api", status=401, error="invalid_token")
        assert get(api, f"{server.api_url}orders", {}) == 401
        assert (server.token_requests, server.api_calls) == (2, 2)
        assert api.current_token() is not None


@EACH
def test_other_answers_are_handed_on(server: AuthServer, get: Get) -> None:
    with server.client() as api:
        server.fail("status", at="api", status=403)
        assert get(api, f"{server.api_url}orders", {}) == 403
        assert (server.token_requests, server.api_calls) == (1, 1)


@EACH
def test_no_token_goes_to_a_foreign_origin(server: AuthServer, get: Get) -> None:
    with server.client() as api, AuthServer() as foreign:
        with pytest.raises(evertoken.UntrustedOriginError):
            get(api, f"{foreign.api_url}orders", {})
        assert (foreign.api_calls, server.token_requests) == (0, 0)
    with Client("app", "secret", issuer=server.issuer) as api, pytest.raises(evertoken.ConfigurationError):
        get(api, server.api_url, {})


@EACH
def test_no_disguise_makes_an_origin_a_trusted_one(sites: tuple[Site, Site], get: Get) -> None:
    home, foreign = sites
    with fixed_client("t0ken", home.url) as api:
        assert get(api, f"{home.url}/first", {}) == 200  # from now on the origin is known
        host, name = foreign.url.removeprefix("http://"), home.url.removeprefix("http://")
        for url in (
            f"http://{name}@{host}/",
            f"http://{name}:x@{host}/",
            f"http://{name}%2F@{host}/",
            f"{foreign.url}/{home.url}/",
            f"{foreign.url}?{home.url}/",
            f"{foreign.url}#{home.url}/",
        ):
            with pytest.raises(evertoken.UntrustedOriginError):
                get(api, url, {})
    assert foreign.seen == [] and len(home.seen) == 1


@EACH
def test_a_redirect_carries_the_token_to_no_other_origin(sites: tuple[Site, Site], get: Get) -> None:
    home, foreign = sites
    home.redirects = {"/here": "/there", "/away": f"{foreign.url}/trap"}
    foreign.redirects = {"/trap": f"{foreign.url}/again"}
    with fixed_client("t0ken", home.url) as api:
        assert get(api, f"{home.url}/here", {}) == 200
        assert [(path, headers["authorization"]) for path, headers in home.seen] == [
            ("/here", "Bearer t0ken"),
            ("/there", "Bearer t0ken"),
        ]
        if get is over_aiohttp:  # whose middlewares see each step
            with pytest.raises(evertoken.UntrustedOriginError):
                get(api, f"{home.url}/away", {})
        else:
            assert get(api, f"{home.url}/away", {}) == 200
            assert [path for path, _ in foreign.seen] == ["/trap", "/again"]
    assert all("authorization" not in headers and "t0ken" not in str(headers) for _, headers in foreign.seen)


@pytest.mark.parametrize("get", [each for each in LIBRARIES if each is not over_aiohttp])
def test_what_a_foreign_origin_says_after_a_redirect_is_nothing_to_the_token(
    server: AuthServer, sites: tuple[Site, Site], get: Get
) -> None:
    home, foreign = sites
    home.redirects = {"/away": f"{foreign.url}/trap"}
    foreign.status = 401
    with server.client(base_url=home.url) as api:
        assert get(api, f"{home.url}/away", {}) == 401
        assert len(foreign.seen) == 1 and "authorization" not in foreign.seen[0][1]
        assert api.status().state == "fresh"
    assert server.token_requests == 1


def test_no_proof_comes_along_with_a_redirect_of_requests(server: AuthServer, sites: tuple[Site, Site]) -> None:
    home, foreign = sites
    home.redirects = {"/away": f"{foreign.url}/trap", "/here": "/there"}
    with server.client(base_url=home.url, dpop=evertoken.Dpop()) as api:
        assert over_requests(api, f"{home.url}/away", {}) == 200
        assert over_requests(api, f"{home.url}/here", {}) == 200
    assert "dpop" in home.seen[0][1] and "dpop" in home.seen[1][1]
    for _, headers in (*foreign.seen, home.seen[2]):
        assert not headers.keys() & {"dpop", "authorization"}


@EACH
def test_an_authorization_of_ones_own_stands(server: AuthServer, get: Get) -> None:
    with server.client() as api:
        own = {"Authorization": "Bearer nonsense"}
        assert get(api, f"{server.api_url}orders", own) == 401
        assert server.token_requests == 0


@EACH
def test_a_nonce_is_given_under_dpop(server: AuthServer, get: Get) -> None:
    server.set_api_nonce("nonce-1")
    with server.client(dpop=evertoken.Dpop()) as api:
        assert get(api, f"{server.api_url}orders", {}) == 200
        server.revoke(api.token())
        assert get(api, f"{server.api_url}orders", {}) == 200
    assert server.token_requests == 2


@pytest.mark.parametrize("bound", [False, True], ids=["bearer", "dpop"])
@pytest.mark.parametrize("library", [httpx, httpx2])
def test_a_request_that_is_sent_again_is_signed_anew(server: AuthServer, library: Any, bound: bool) -> None:
    auth, dpop = HttpxAuth if library is httpx else Httpx2Auth, evertoken.Dpop() if bound else None
    with server.client(dpop=dpop) as api, library.Client(auth=of(auth, api)) as http:
        request = http.build_request("GET", f"{server.api_url}orders")
        assert http.send(request).status_code == 200
        first = request.headers.get_list("Authorization"), request.headers.get_list("DPoP")
        server.revoke(api.token())
        assert http.send(request).status_code == 200
        again = request.headers.get_list("Authorization"), request.headers.get_list("DPoP")
        assert len(again[0]) == 1 and again[0] != first[0]
        assert not bound or (len(again[1]) == 1 and again[1] != first[1])
        assert api.token() not in str(request.extensions)
        request.headers["Authorization"] = "Bearer nonsense"
        assert http.send(request).status_code == 401
    assert server.token_requests == 2


@pytest.mark.parametrize("bound", [False, True], ids=["bearer", "dpop"])
def test_a_request_that_another_middleware_sends_again_is_signed_anew(server: AuthServer, bound: bool) -> None:
    seen: list[tuple[str, str]] = []

    async def run(api: Client) -> int:
        async def twice(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
            (await handler(request)).release()
            server.revoke(api.token())
            return await handler(request)

        async def seeing(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
            [authorization] = request.headers.getall("Authorization")
            seen.append((authorization, request.headers.get("DPoP", "")))
            return await handler(request)

        session = aiohttp.ClientSession(middlewares=(twice, AiohttpMiddleware(api), seeing))
        async with session as http, http.get(f"{server.api_url}orders") as answer:
            return answer.status

    with server.client(dpop=evertoken.Dpop() if bound else None) as api:
        assert asyncio.run(run(api)) == 200
    assert server.token_requests == 2
    assert [header for header, _ in seen] == [seen[0][0]] * 2 + [seen[2][0]] and seen[0][0] != seen[2][0]
    assert not bound or len({proof for _, proof in seen}) == 3


@pytest.mark.parametrize("bound", [False, True], ids=["bearer", "dpop"])
def test_a_prepared_request_of_requests_is_met_each_time(server: AuthServer, bound: bool) -> None:
    with server.client(dpop=evertoken.Dpop() if bound else None) as api, requests.Session() as http:
        request = http.prepare_request(requests.Request("GET", f"{server.api_url}orders", auth=RequestsAuth(api)))
        for _ in range(2):
            assert http.send(request).status_code == 200
            server.revoke(api.token())
    assert server.token_requests == 2


@pytest.mark.parametrize("bound", [False, True], ids=["bearer", "dpop"])
def test_a_prepared_request_keeps_its_hooks_and_headers(server: AuthServer, bound: bool) -> None:
    """What is prepared by the caller is the caller's: a recovered 401 changes nothing about it."""
    seen: list[int] = []

    def hook(response: requests.Response, **kwargs: Any) -> None:
        seen.append(response.status_code)

    with server.client(dpop=evertoken.Dpop() if bound else None) as api, requests.Session() as http:
        asked = requests.Request("GET", f"{server.api_url}orders", auth=RequestsAuth(api), hooks={"response": hook})
        request = http.prepare_request(asked)
        hooks, headers = list(request.hooks["response"]), dict(request.headers)
        assert len(hooks) == 2
        server.revoke(api.token())
        for _ in range(3):
            # Each time with the token that was revoked.
            assert http.send(request).status_code == 200
            assert request.hooks["response"] == hooks and dict(request.headers) == headers
        assert http.send(request.copy()).status_code == 200
    assert seen == [200] * 4 and len(asked.hooks["response"]) == 1
    assert (server.token_requests, server.api_calls) == (2, 8)


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("bound", [False, True], ids=["bearer", "dpop"])
def test_a_prepared_request_that_is_redirected_keeps_its_headers(
    server: AuthServer, sites: tuple[Site, Site], bound: bool, follow: bool
) -> None:
    home, foreign = sites
    home.redirects = {"/away": f"{foreign.url}/trap"}
    with server.client(base_url=home.url, dpop=evertoken.Dpop() if bound else None) as api, requests.Session() as http:
        request = http.prepare_request(requests.Request("GET", f"{home.url}/away", auth=RequestsAuth(api)))
        before = dict(request.headers), list(request.hooks["response"]), set(vars(request))
        for _ in range(2):
            http.send(request, allow_redirects=follow)
            assert (dict(request.headers), list(request.hooks["response"]), set(vars(request))) == before
    assert all(headers["authorization"] == before[0]["Authorization"] for _, headers in home.seen) and len(home.seen) == 2
    assert len(foreign.seen) == 2 * follow
    assert not any(headers.keys() & {"dpop", "authorization"} for _, headers in foreign.seen)


def test_a_request_that_is_signed_again_has_one_hook(server: AuthServer) -> None:
    with server.client() as api, requests.Session() as http:
        request = http.prepare_request(requests.Request("GET", f"{server.api_url}orders", auth=RequestsAuth(api)))
        auth = RequestsAuth(api)
        for _ in range(3):
            del request.headers["Authorization"]
            request.prepare_auth(auth)
        assert len(request.hooks["response"]) == 2, "one of each adapter"


@pytest.mark.parametrize("bound", [False, True], ids=["bearer", "dpop"])
@pytest.mark.parametrize("library", [httpx, httpx2])
def test_what_is_given_to_httpx_stays_as_it_was(server: AuthServer, library: Any, bound: bool) -> None:
    auth = HttpxAuth if library is httpx else Httpx2Auth
    with server.client(dpop=evertoken.Dpop() if bound else None) as api, library.Client(auth=auth(api)) as http:
        url, headers, extensions = f"{server.api_url}orders", library.Headers({"X-A": "b"}), {"sni_hostname": "a"}
        request = library.Request("POST", url, headers=headers, extensions=extensions, content=b"x")
        # As before httpx 0.28, which took the mapping as it was given.
        request.extensions = extensions
        server.revoke(api.token())
        assert http.send(request).status_code == 200
        http.post(url, headers=headers, extensions=extensions)
        assert dict(headers) == {"x-a": "b"} and extensions == {"sni_hostname": "a"}


@pytest.mark.parametrize("bound", [False, True], ids=["bearer", "dpop"])
async def test_what_is_given_to_aiohttp_stays_as_it_was(server: AuthServer, bound: bool) -> None:
    headers, form = CIMultiDict({"X-A": "b"}), {"a": "1"}
    api = server.client(dpop=evertoken.Dpop() if bound else None)
    async with api, aiohttp.ClientSession(middlewares=(AiohttpMiddleware(api),), headers=headers) as http:
        server.revoke(await api.token_async())
        async with http.post(f"{server.api_url}orders", headers=headers, data=form) as answer:
            assert answer.status == 200
    assert dict(headers) == {"X-A": "b"} and form == {"a": "1"}


class Lapsing(Client):
    """Its token ends right after it has come, and no other follows."""

    server: AuthServer

    async def token_async(self) -> str:
        token = await super().token_async()
        self.server.fail("hang", always=True)
        self.invalidate(token)
        assert self.current_token() is None
        return token


@pytest.mark.parametrize("bound", [False, True], ids=["bearer", "dpop"])
@pytest.mark.parametrize("way", ["httpx", "httpx2", "aiohttp", "headers", "authorization"])
async def test_a_token_that_ends_at_once_holds_up_no_loop(
    server: AuthServer, monkeypatch: pytest.MonkeyPatch, way: str, bound: bool
) -> None:
    # A wait of the loop's would warn, which is an error here.
    monkeypatch.setattr("evertoken._loop._warned", False)
    dpop = evertoken.Dpop() if bound else None
    url = f"{server.api_url}orders"
    async with Lapsing("app", "secret", issuer=server.issuer, base_url=server.api_url, dpop=dpop, token_timeout=0.5) as api:
        api.server = server
        api.prefetch()
        while api.current_token() is None:
            await asyncio.sleep(0.01)
        if way == "aiohttp":
            async with aiohttp.ClientSession(middlewares=(AiohttpMiddleware(api),)) as http, http.get(url) as answer:
                assert answer.status == 200
        elif way == "headers":
            [token] = (await api.headers_async("GET", url))["Authorization"].split()[1:]
            assert server.accepts(token) or bound
        elif way == "authorization" and not bound:
            assert server.accepts((await api.authorization_async()).removeprefix("Bearer "))
        elif way == "authorization":
            with pytest.raises(evertoken.ConfigurationError):
                await api.authorization_async()
        else:
            library, auth = (httpx, HttpxAuth) if way == "httpx" else (httpx2, Httpx2Auth)
            async with library.AsyncClient(auth=auth(api)) as http:
                assert (await http.get(url)).status_code == 200


def test_a_ready_client(server: AuthServer) -> None:
    with server.client() as api, evertoken.httpx_client(api, timeout=5) as http:
        assert http.get("orders").status_code == 200
        assert http.timeout == httpx.Timeout(5)


@pytest.mark.parametrize("library", ["httpx", "requests", "aiohttp"])
def test_a_body_is_sent_again_and_a_stream_is_not(server: AuthServer, library: str) -> None:
    url = f"{server.api_url}orders"
    with server.client() as api:

        def post(stream: bool) -> int:
            if library == "httpx":
                with httpx.Client(auth=HttpxAuth(api)) as http:
                    return http.post(url, content=iter([b"{}"]) if stream else b"{}").status_code
            if library == "requests":
                return requests.post(url, data=iter([b"{}"]) if stream else b"{}", auth=RequestsAuth(api)).status_code
            return asyncio.run(post_async(stream))

        async def post_async(stream: bool) -> int:
            async def parts() -> object:
                yield b"{}"

            session = aiohttp.ClientSession(middlewares=(AiohttpMiddleware(api),))
            async with session as http, http.post(url, data=parts() if stream else b"{}") as answer:
                return answer.status

        server.revoke(api.token())
        assert post(stream=False) == 200
        server.revoke(api.token())
        calls = server.api_calls
        assert post(stream=True) == 401
        assert server.api_calls == calls + 1


def test_a_hundred_calls_that_are_refused_at_once_cost_one_token(server: AuthServer) -> None:
    async def run() -> list[int]:
        async with server.client() as api, httpx.AsyncClient(auth=HttpxAuth(api), base_url=server.api_url) as http:
            server.revoke(await api.token_async())
            answers = await asyncio.gather(*(http.get("orders") for _ in range(100)))
            return [answer.status_code for answer in answers]

    assert asyncio.run(run()) == [200] * 100
    assert server.token_requests == 2


@pytest.mark.parametrize("library", [httpx, httpx2, requests])
def test_headers_of_another_make(server: AuthServer, monkeypatch: pytest.MonkeyPatch, library: Any) -> None:
    """Where a library keeps them in another way than those that are known, they are met by their mapping."""
    from evertoken import _httpx, _requests

    url, own = f"{server.api_url}orders", {"authorization": "Bearer nonsense"}
    assert _requests._PLAIN, "the version that is tested here is as it has always been"
    with server.client() as api:
        if library is requests:
            monkeypatch.setattr(_requests, "_PLAIN", False)
            auth: Any = RequestsAuth(api)
        else:
            assert library.Headers({"A-B": "c"})._list == [(b"A-B", b"a-b", b"c")]
            # The shape is looked at when the class is made.
            headers = library.Headers
            monkeypatch.setattr(library, "Headers", lambda _: None)
            made = _httpx.auth_class(library)
            monkeypatch.setattr(library, "Headers", headers)
            auth = made(api)
        assert library.get(url, auth=auth).status_code == 200
        assert library.get(url, auth=auth, headers=own).status_code == 401
