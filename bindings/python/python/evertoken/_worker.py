"""The one thread of Python's that calls functions for credentials and signatures, and writes log records, for renewals that
nobody waits for."""

from __future__ import annotations

import asyncio
import atexit
import inspect
import itertools
import logging
import os
import threading
import traceback
import weakref
from collections.abc import Callable, Mapping
from typing import Any, cast

from . import _native

_log = logging.getLogger("evertoken")
_log.addHandler(logging.NullHandler())
_thread: tuple[int, threading.Thread] | None = None
_lock = threading.Lock()

_numbers = itertools.count(1)
_functions: weakref.WeakValueDictionary[int, Function] = weakref.WeakValueDictionary()

EXIT_PATIENCE = 2.0
"""For so many seconds at most an interpreter that ends waits for a function of its program's."""


class Function:
    """A function that the native half knows by its number. It lives for as long as somebody keeps this."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.number = next(_numbers)
        _functions[self.number] = self


def keep(name: str, function: Any) -> Function:
    """Takes a function in; whoever needs it must keep what this gives."""
    if not callable(function):
        raise TypeError(f"{name} must be a function, not {type(function).__name__}")
    return Function(function)


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def ensure() -> None:
    """Starts the thread where it does not run in this process."""
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


def _stop() -> None:
    # One that hangs in a function of the program's does not hold up its end: it is a daemon.
    if _thread is not None and _thread[0] == os.getpid() and _native.stop_jobs():
        _thread[1].join(EXIT_PATIENCE)


def _work() -> None:
    while (job := _native.next_job()) is not None:
        record = job.record()
        if record is not None:
            try:
                _log.log(record[0], "%s", record[1])
            except Exception:  # a filter of the program's; handlers look after themselves
                continue
        else:
            _call(job)


def _call(job: _native.Job) -> None:
    number, message = job.function() or (0, None)
    kept = _functions.get(number)
    if kept is None:
        job.fail("the client whose function it was is gone")
        return
    what = "the function for credentials" if message is None else "the function that signs"
    try:
        given = kept.function() if message is None else kept.function(message)
        if inspect.isawaitable(given):
            given = asyncio.run(_awaited(given))
        what = f"what {what} gave"
        if message is not None:
            job.sign(given)
        elif isinstance(given, Mapping):
            given = cast("Mapping[str, str]", given)
            job.give(given["app_id"], given["app_secret"], given.get("next_app_secret"))
        else:
            job.give(*given)
    except BaseException as error:
        # The text may quote what it failed on, and that may be a secret.
        job.fail(f"{type(error).__name__} in {what}{_lines(error)}")


def _lines(error: BaseException) -> str:
    """The line of the function where it went wrong, and the innermost ones, by number only."""
    found: list[str] = []
    for frame, line in traceback.walk_tb(error.__traceback__):
        if frame.f_globals is globals():
            found.clear()
        else:
            found.append(f"{os.path.basename(frame.f_code.co_filename)}:{line}")
    return f" ({', '.join(found[:1] + found[1:][-3:])})" if found else ""


async def _awaited(awaitable: Any) -> Any:
    return await awaitable
