"""The one thread of Python's that calls credential functions and writes log records, for renewals that nobody waits for."""

from __future__ import annotations

import asyncio
import atexit
import inspect
import logging
import os
import threading
from collections.abc import Mapping
from typing import Any

from . import _native

_log = logging.getLogger("evertoken")
_thread: tuple[int, threading.Thread] | None = None
_lock = threading.Lock()


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def ensure() -> int:
    """Starts the thread where it does not run in this process. Gives the level from which on records are wanted."""
    global _thread
    running = _thread
    if running is None or running[0] != os.getpid():
        with _lock:
            running = _thread
            if running is None or running[0] != os.getpid():
                thread = threading.Thread(target=_work, name="evertoken-python", daemon=True)
                thread.start()
                if running is None:
                    atexit.register(_stop)
                _thread = (os.getpid(), thread)
    return _log.getEffectiveLevel()


def _stop() -> None:
    if _thread is not None and _thread[0] == os.getpid():
        _native.stop_jobs()
        _thread[1].join()


def _work() -> None:
    while (job := _native.next_job()) is not None:
        record = job.record()
        if record is not None:
            _log.log(record[0], "%s", record[1])
            continue
        function: Any = job.function()
        try:
            given: Any = function()
            if inspect.isawaitable(given):
                given = asyncio.run(_awaited(given))
            if isinstance(given, Mapping):
                job.give(given["app_id"], given["app_secret"], given.get("next_app_secret"))
            else:
                job.give(*given)
        except Exception as error:
            # The text may quote what it failed on, and that may be a secret.
            job.fail(f"{type(error).__name__} in the function for credentials")


async def _awaited(awaitable: Any) -> Any:
    return await awaitable
