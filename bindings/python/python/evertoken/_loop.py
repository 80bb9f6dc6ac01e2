"""How a running event loop waits for what the native half does, under asyncio and trio, and by either under anyio."""

from __future__ import annotations

import asyncio
import sys
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

from . import _native, _worker
from ._waiting import Threaded, Waiting, waiting


class _Reader(Waiting):
    """For asyncio's loops: no thread is kept busy."""

    place: asyncio.AbstractEventLoop

    def watch(self) -> None:
        self.place.add_reader(self.descriptor, self.heard)

    def unwatch(self) -> None:
        if not self.place.is_closed():
            self.place.remove_reader(self.descriptor)


def _of_asyncio(loop: asyncio.AbstractEventLoop) -> Waiting:
    def make() -> Waiting:
        try:
            return _Reader(loop)
        except NotImplementedError:  # Windows, and loops that cannot watch sockets
            return Threaded(loop, loop.call_soon_threadsafe)

    return waiting(loop, make)


def _trio() -> Any:
    """The module, if this runs in a task of trio's."""
    trio: Any = sys.modules.get("trio")
    if trio is None:
        return None
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return None
    # With trio-asyncio asyncio's coroutines run within trio's tasks.
    sniffio: Any = sys.modules.get("sniffio")
    return trio if sniffio is None or sniffio.current_async_library() == "trio" else None


def _place() -> tuple[Waiting, Callable[[], object], Callable[[], Awaitable[object]]]:
    """Where this runs, what wakes a new wait there, and that wait."""
    trio = _trio()
    if trio is not None:
        token = trio.lowlevel.current_trio_token()
        event = trio.Event()
        return waiting(token, lambda: Threaded(token, token.run_sync_soon)), event.set, event.wait
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not future.done():
            future.set_result(None)

    return _of_asyncio(loop), wake, lambda: future


async def waited(start: Callable[[_native.Bell | None, int], _native.Wait]) -> Any:
    """What it comes to that ``start`` has begun. A caller who is cancelled ends nothing but its own wait."""
    if _worker.is_unserved():
        # Functions for credentials would have to wait for a thread that there is none of.
        return start(None, 0).result()
    here, wake, over = _place()
    number = here.enter(wake)
    try:
        wait = start(here.bell, number)
        await over()
    finally:
        here.left(number)
    return wait.result()


_warned = False


def warn_of_waiting() -> None:
    """Once in a process, where a running loop is being held up."""
    global _warned
    if _warned:
        return
    if _trio() is None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
    _warned = True
    warnings.warn("token() waits and holds up the running event loop: use `await token_async()`", RuntimeWarning, stacklevel=2)
