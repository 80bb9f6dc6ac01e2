"""Events and waits that are broken off: whatever ends a wait, no event is lost, and none comes twice."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from evertoken import Event, Events
from evertoken.testing import AuthServer
from house import PATIENCE

Wait = Callable[[Events], Coroutine[Any, Any, Event | None]]


async def cancelled(events: Events) -> Event | None:
    """Cancels the task in the very turn of the loop in which its wait ends."""
    task = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    # The event's callback and the cancellation stand in the loop's queue one behind the other.
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return None


async def timed_out(events: Events) -> Event | None:
    try:
        return await asyncio.wait_for(anext(events), 0.0001)
    except asyncio.TimeoutError:
        return None


async def abandoned(events: Events) -> Event | None:
    """A loop over all events in a task that is cancelled, with a new one after it."""
    got: list[Event] = []

    async def listen() -> None:
        async for event in events:
            got.append(event)
            return

    task = asyncio.create_task(listen())
    await asyncio.wait([task], timeout=0.0001)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return got[0] if got else None


async def through_a_generator(events: Events) -> Event | None:
    async def inner() -> AsyncIterator[Event]:
        async for event in events:
            yield event

    generator = inner()
    try:
        return await asyncio.wait_for(generator.__anext__(), 0.0001)
    except asyncio.TimeoutError:
        return None
    finally:
        await generator.aclose()  # type: ignore[attr-defined]


async def with_a_timeout(events: Events) -> Event | None:
    timeout: Any = asyncio.timeout  # type: ignore[attr-defined, unused-ignore]
    try:
        async with timeout(0.0001):
            return await anext(events)
    except TimeoutError:
        return None


WAITS: list[Wait] = [cancelled, timed_out, abandoned, through_a_generator]
if sys.version_info >= (3, 11):
    WAITS.append(with_a_timeout)


@pytest.mark.parametrize("wait", WAITS, ids=lambda wait: wait.__name__)
async def test_no_event_is_lost_to_a_wait_that_is_broken_off(server: AuthServer, wait: Wait) -> None:
    async with server.client() as api:
        events = api.events()
        token = await api.token_async()
        kinds: list[str] = []
        api.invalidate(token)
        closing: asyncio.Task[None] | None = None
        end = time.monotonic() + PATIENCE
        while not kinds or kinds[-1] != "closed":
            assert time.monotonic() < end, kinds
            event = await wait(events)
            if event is not None:
                kinds.append(event.kind)
            if closing is None and kinds.count("renewed") == 2:
                closing = asyncio.create_task(api.aclose())
            await asyncio.sleep(0)
        assert kinds == ["renewed", "invalidated", "renewed", "closed"]
        assert await anext(events, None) is None


async def test_an_event_that_has_arrived_outlives_its_wait(server: AuthServer) -> None:
    """The loop stands still until the event is there, and its reader is cancelled before the loop hears of it."""
    async with server.client() as api:
        await api.token_async()
        events, other = api.events(), api.events()
        for number in range(200):
            reader = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            api.set_credentials("app", f"secret{number}")
            assert next(other).kind == "credentials_rotated"
            reader.cancel()
            [outcome] = await asyncio.gather(reader, return_exceptions=True)
            if isinstance(outcome, BaseException):
                assert (await asyncio.wait_for(anext(events), PATIENCE)).kind == "credentials_rotated"


async def test_readers_share_the_events(server: AuthServer) -> None:
    """Each event goes to one of them, though some are cancelled while they wait."""
    async with server.client() as api:
        await api.token_async()
        events = api.events()
        got: list[str] = []

        async def read() -> None:
            async for event in events:
                got.append(event.kind)

        readers = [asyncio.create_task(read()) for _ in range(8)]
        for number in range(50):
            await asyncio.sleep(0)
            api.set_credentials("app", f"secret{number}")
            if number % 10 == 0:
                readers.pop().cancel()
                readers.append(asyncio.create_task(read()))
        await api.aclose()
        await asyncio.wait_for(asyncio.gather(*readers), PATIENCE)
        assert sorted(got) == ["closed"] + ["credentials_rotated"] * 50


def test_threads_share_the_events(server: AuthServer) -> None:
    with server.client() as api:
        api.token()
        events = api.events()
        got: list[str] = []
        threads = [threading.Thread(target=lambda: got.extend(event.kind for event in events)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in range(20):
            api.set_credentials("app", f"secret{number}")
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(got) == ["closed"] + ["credentials_rotated"] * 20
    assert next(events, None) is None
