"""How a running event loop waits for what the native half does: by a socket that it watches, so that no thread is kept busy."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable
from typing import Any

from . import _native


class _Waiting:
    """All that one loop waits for. The socket is there only while there is something."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.bell = _native.Bell()
        self.socket = self.bell.fileno()
        self.futures: dict[int, asyncio.Future[None]] = {}
        self._last = 0
        loop.add_reader(self.socket, self._heard)

    def number(self) -> int:
        self._last += 1
        return self._last

    def _heard(self) -> None:
        for number in self.bell.heard():
            future = self.futures.get(number)
            if future is not None and not future.done():
                future.set_result(None)

    def left(self, number: int) -> None:
        del self.futures[number]
        if not self.futures:
            if not self.loop.is_closed():
                self.loop.remove_reader(self.socket)
            if getattr(_here, "waiting", None) is self:
                _here.waiting = None


# A loop runs in one thread at a time.
_here = threading.local()


def _waiting(loop: asyncio.AbstractEventLoop) -> _Waiting | None:
    waiting: _Waiting | None = getattr(_here, "waiting", None)
    if waiting is None or waiting.loop is not loop:
        try:
            waiting = _here.waiting = _Waiting(loop)
        except NotImplementedError:  # Windows, and loops that cannot watch sockets
            return None
    return waiting


async def waited(start: Callable[[_native.Bell | None, int], _native.Wait]) -> Any:
    """What it comes to that ``start`` has begun. A caller who is cancelled ends nothing but its own wait."""
    loop = asyncio.get_running_loop()
    waiting = _waiting(loop)
    if waiting is None:
        return await asyncio.to_thread(start(None, 0).result)
    number = waiting.number()
    future = waiting.futures[number] = loop.create_future()
    try:
        wait = start(waiting.bell, number)
        await future
    finally:
        waiting.left(number)
    return wait.result()


_warned = False


def warn_of_waiting() -> None:
    """Once in a process, where a running loop is being held up."""
    global _warned
    if _warned:
        return
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    _warned = True
    warnings.warn("token() waits and holds up the running event loop: use `await token_async()`", RuntimeWarning, stacklevel=2)
