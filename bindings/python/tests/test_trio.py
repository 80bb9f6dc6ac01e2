"""Under trio, and under anyio with either backend, as httpx's users have them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import evertoken
import httpx
import pytest
import trio
from evertoken import HttpxAuth
from evertoken.testing import AuthServer
from house import PATIENCE, until

Run = Callable[[Callable[[], Awaitable[Any]]], Any]

RUNS: dict[str, Run] = {
    "trio": trio.run,
    "anyio, trio": lambda main: anyio.run(main, backend="trio"),
    "anyio, asyncio": lambda main: anyio.run(main, backend="asyncio"),
}


@pytest.fixture(params=RUNS)
def run(request: pytest.FixtureRequest) -> Run:
    return RUNS[request.param]


def bells() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "evertoken-bell"]


def test_a_cold_client_gives_tokens_and_headers(server: AuthServer, run: Run) -> None:
    server.set_latency(0.2)

    async def main() -> None:
        async with server.client() as api:
            await api.prefetch_async()
            token = await api.token_async()
            assert await api.authorization_async() == f"Bearer {token}"
        for ask in (api.token_async, api.authorization_async, lambda: api.headers_async("GET", server.api_url)):
            with pytest.raises(evertoken.ClosedError):
                await ask()
        for wait in ("token_async", "authorization_async"):
            async with server.client() as api:
                assert server.accepts((await getattr(api, wait)()).removeprefix("Bearer "))
        async with server.client() as api:
            assert set(await api.headers_async("GET", server.api_url)) == {"Authorization"}

    run(main)
    until("the threads have ended", lambda: not bells())


@pytest.mark.parametrize("dpop", [False, True])
def test_httpx_cold_and_after_a_401(server: AuthServer, run: Run, dpop: bool) -> None:
    async def main() -> None:
        api = server.client(dpop=evertoken.Dpop() if dpop else None)
        async with api, httpx.AsyncClient(auth=HttpxAuth(api), timeout=PATIENCE) as http:
            for _ in range(2):
                assert (await http.get(server.api_url)).status_code == 200
            server.revoke_all()
            assert (await http.post(server.api_url, content=b"again")).status_code == 200

    run(main)
    assert server.token_requests == 2


def test_five_hundred_tasks_make_one_request(server: AuthServer, run: Run) -> None:
    server.set_latency(0.3)
    tokens: set[str] = set()

    async def main() -> None:
        async with server.client() as api:

            async def ask() -> None:
                tokens.add(await api.token_async())

            async with anyio.create_task_group() as group:
                for _ in range(500):
                    group.start_soon(ask)

    run(main)
    assert len(tokens) == 1 and server.token_requests == 1


def test_a_wait_can_be_cancelled_and_cancels_nobody_else(server: AuthServer, run: Run) -> None:
    server.fail("hang", always=True)

    async def main() -> None:
        api = server.client(token_url=server.token_url, token_timeout=600)
        events = api.events()
        for wait in (api.token_async, events.__anext__):
            with anyio.move_on_after(0.05) as scope:
                await wait()
            assert scope.cancelled_caught
        with pytest.raises(evertoken.TokenTimeoutError):
            await server.client(token_url=server.token_url, token_timeout=0.1).token_async()
        # Trio cancels what is done in a cancelled scope, but what was asked for is done.
        with anyio.CancelScope() as scope:
            scope.cancel()
            await api.aclose()
        with anyio.fail_after(PATIENCE):
            assert [event.kind async for event in events] == ["closed"]

    run(main)
    until("the threads have ended", lambda: not bells())


def test_what_waits_at_the_end_does_not_hold_it_up(server: AuthServer, run: Run) -> None:
    server.fail("hang", always=True)

    async def main() -> None:
        api = server.client(token_url=server.token_url, token_timeout=600)
        async with anyio.create_task_group() as group:
            group.start_soon(api.token_async)
            await anyio.sleep(0.05)
            group.cancel_scope.cancel()

    run(main)
    until("the threads have ended", lambda: not bells())


def test_token_warns_in_a_task(server: AuthServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evertoken._loop._warned", False)

    async def main() -> str:
        with server.client() as api, pytest.warns(RuntimeWarning, match="await token_async"):
            return api.token()

    assert trio.run(main)


def test_asyncio_in_a_guest_run_of_trio(server: AuthServer) -> None:
    """Both in one thread: each waits by its own means."""

    async def in_trio() -> str:
        async with server.client() as api:
            return await api.token_async()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        trio.lowlevel.start_guest_run(in_trio, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=done.set_result)
        async with server.client() as api:
            assert server.accepts(await api.token_async())
        assert server.accepts((await done).unwrap())

    asyncio.run(main())
