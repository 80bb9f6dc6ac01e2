"""In an event loop: no thread is kept busy, a waiter can be cancelled, and a loop ends when it is to end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Coroutine
from typing import Any

import evertoken
import pytest
from evertoken.testing import AuthServer
from house import PATIENCE, until


def left() -> tuple[int, int]:
    """File descriptors and threads."""
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


async def test_two_hundred_tasks_make_one_request_and_keep_no_thread(server: AuthServer) -> None:
    server.set_latency(0.3)
    async with server.client() as api:
        api.prefetch()
        threads = threading.active_count()
        tasks = [asyncio.create_task(api.token_async()) for _ in range(200)]
        await asyncio.sleep(0.1)
        assert threading.active_count() == threads
        tokens = set(await asyncio.gather(*tasks))
        assert len(tokens) == 1
        assert await api.token_async() in tokens
    assert server.token_requests == 1


async def test_a_token_that_is_held_is_given_without_the_loop(server: AuthServer) -> None:
    async with server.client() as api:
        token = await api.token_async()
        coroutine = api.token_async()
        with pytest.raises(StopIteration) as ended:
            coroutine.send(None)
        assert ended.value.value == token
        assert await api.authorization_async() == f"Bearer {token}"
        assert await api.headers_async("GET", server.api_url) == {"Authorization": f"Bearer {token}"}
        with pytest.raises(evertoken.UntrustedOriginError):
            await api.headers_async("GET", "https://foreign.example")


async def test_a_cancelled_waiter_cancels_nobody_else(server: AuthServer) -> None:
    server.set_latency(0.3)
    async with server.client() as api:
        first, second = (asyncio.create_task(api.token_async()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert server.accepts(await second)
        with pytest.raises(asyncio.CancelledError):
            await first
    assert server.token_requests == 1


async def test_a_wait_has_the_limit_of_asyncio_too(server: AuthServer) -> None:
    server.fail("hang", always=True)
    async with server.client() as api:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(api.token_async(), 0.1)
        with pytest.raises(evertoken.TokenTimeoutError):
            await server.client(token_url=server.token_url, token_timeout=0.1).token_async()


async def test_what_goes_wrong_is_raised(server: AuthServer) -> None:
    server.fail("oauth", status=401, error="invalid_client", always=True)
    async with server.client() as api:
        for wait in (api.token_async, api.prefetch_async, api.authorization_async):
            with pytest.raises(evertoken.CredentialsRejectedError):
                await wait()
    with pytest.raises(evertoken.ClosedError):
        await api.token_async()


async def test_prefetch_can_be_awaited(server: AuthServer) -> None:
    async with server.client() as api:
        await api.prefetch_async()
        assert api.current_token() is not None


async def test_events_come_to_a_loop(server: AuthServer) -> None:
    api = server.client()
    events = api.events()
    listener = asyncio.create_task(collect(events))
    token = await api.token_async()
    api.invalidate(token)
    while server.token_requests < 2 or api.current_token() in (None, token):
        await asyncio.sleep(0.01)
    await api.aclose()
    kinds = await asyncio.wait_for(listener, PATIENCE)
    assert kinds == ["renewed", "invalidated", "renewed", "closed"]
    assert [event async for event in events] == []


async def collect(events: evertoken.Events) -> list[str]:
    return [event.kind async for event in events]


async def test_a_listener_that_goes_away_loses_nothing(server: AuthServer) -> None:
    async with server.client() as api:
        events = api.events()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(events.__anext__(), 0.05)
        await api.token_async()
        assert (await asyncio.wait_for(events.__anext__(), PATIENCE)).kind == "renewed"


def test_waits_leave_no_descriptor_and_no_thread(server: AuthServer) -> None:
    async def run() -> None:
        async with server.client() as api:
            events = asyncio.create_task(collect(api.events()))
            await asyncio.gather(*(api.token_async() for _ in range(20)))
        await events

    asyncio.run(run())
    before = left()
    for _ in range(20):
        asyncio.run(run())
    # Connections are closed behind our back, those of before as well.
    until("files are closed", lambda: left()[0] <= before[0] and left()[1] <= before[1])


class Blind(asyncio.SelectorEventLoop):
    """A loop that cannot watch sockets of others, as that of Windows."""

    def add_reader(self, *args: object) -> None:
        if args and args[0] is not getattr(self, "_ssock", None):
            raise NotImplementedError

    def _add_reader(self, *args: object) -> object:
        return asyncio.SelectorEventLoop._add_reader(self, *args)  # type: ignore[attr-defined]


def run_blind(main: Coroutine[Any, Any, Any]) -> Any:
    """As ``asyncio.run`` does, to the very end."""
    loop = Blind()
    try:
        return loop.run_until_complete(main)
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                loop.run_until_complete(task)
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def test_a_loop_that_cannot_watch_sockets(server: AuthServer) -> None:
    server.set_latency(0.1)

    async def main() -> None:
        async with server.client() as api:
            assert len(await gathered(api)) == 1
            events = api.events()
            # More than the threads of a default executor.
            listeners = [asyncio.create_task(collect(api.events())) for _ in range(80)]
            await asyncio.sleep(0)
            api.invalidate(await api.token_async())
            assert (await anext(events)).kind == "invalidated"
            assert await api.with_(audience=server.audience).token_async()
            threads = [thread.name for thread in threading.enumerate()]
            assert threads.count("evertoken-bell") == 1 and not any("asyncio" in name for name in threads)
        await asyncio.wait_for(asyncio.gather(*listeners), PATIENCE)

    run_blind(main())
    until("the thread has ended", lambda: "evertoken-bell" not in [thread.name for thread in threading.enumerate()])


def test_a_cancelled_wait_does_not_hold_up_a_loop_that_cannot_watch_sockets(server: AuthServer) -> None:
    server.fail("hang", always=True)
    api = server.client(token_url=server.token_url, token_timeout=600)

    async def main() -> None:
        for wait in (api.token_async, api.prefetch_async, api.events().__anext__):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(wait(), 0.05)
        waits = [asyncio.create_task(api.token_async()), asyncio.create_task(collect(api.events()))]
        await asyncio.sleep(0.05)
        assert not any(wait.done() for wait in waits)

    run_blind(main())
    until("the thread has ended", lambda: "evertoken-bell" not in [thread.name for thread in threading.enumerate()])
    api.close()


async def gathered(api: evertoken.Client) -> set[str]:
    return set(await asyncio.gather(*(api.token_async() for _ in range(5))))


def test_loops_in_several_threads(server: AuthServer) -> None:
    server.set_latency(0.2)
    tokens: set[str] = set()
    with server.client() as api:

        def run() -> None:
            tokens.update(asyncio.run(gathered(api)))

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert len(tokens) == 1 and server.token_requests == 1


ENDS = """
import asyncio, sys
from evertoken import Client

async def main():
    api = Client("app", "secret", token_url=sys.argv[1], token_timeout=600)
    waits = [asyncio.create_task(api.token_async()), asyncio.create_task(anext(aiter(api.events())))]
    await asyncio.sleep(0.2)
    print("ends", flush=True)

asyncio.run(main())
"""


def test_a_loop_ends_though_something_still_waits(server: AuthServer) -> None:
    server.fail("hang", always=True)
    command = [sys.executable, "-c", ENDS, server.token_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ends\n", "")
