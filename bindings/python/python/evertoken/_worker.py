"""The one thread of Python's that calls functions for credentials and signatures, and writes log records, for renewals that
nobody waits for."""

from __future__ import annotations

import atexit
import inspect
import itertools
import logging
import os
import traceback
import weakref
from collections.abc import Callable, Mapping
from typing import Any, cast

from . import _green, _native

_log = logging.getLogger("evertoken")
_log.addHandler(logging.NullHandler())

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


_ended: Any = None
"""A lock that the thread of this process holds while it runs; ``None`` if that is a green one."""
_stopped = False
_failed = False
_warned = False


def is_unserved() -> bool:
    """Whether there is no thread, and can be none: what there is to do is done by threads that wait for a token."""
    return _stopped or _failed


def ensure() -> None:
    """Starts the thread if none runs in this process."""
    global _ended, _failed, _warned
    if _stopped or not _native.claim_jobs():
        return
    try:
        if _green.wants_green():
            _ended = None
            _green.spawn(_work_green)
        else:
            _ended = _green.real("allocate_lock")()
            _ended.acquire()
            _green.start(_work, "evertoken-python")
        _failed = False
    except RuntimeError as error:  # there are too many, or the interpreter ends
        _native.release_jobs()
        _failed = True
        if not _warned:
            _warned = True
            _log.warning(
                "could not start the thread that calls functions for credentials and writes log records: %s; threads that wait "
                "for a token do it meanwhile, and renewals in the background may fail",
                error,
            )


def _stop() -> None:
    # Late handlers of the program's may still ask for a token.
    global _stopped
    _stopped = True
    # One that hangs in a function of the program's does not hold up its end: it is a daemon.
    if not _native.claim_jobs() and _ended is not None and _native.stop_jobs():
        _ended.acquire(timeout=EXIT_PATIENCE)
    _native.release_jobs()


# At the import, so that it runs after the handlers that were registered since.
atexit.register(_stop)


def _work() -> None:
    ended = _ended
    try:
        while (job := _native.next_job()) is not None:
            do(job)
    finally:
        _native.release_jobs()
        ended.release()


def _work_green() -> None:
    """The same for a green thread, which must not hold up its hub."""
    process = os.getpid()
    try:
        while not _stopped and (seat := _green.seat()) is not None and os.getpid() == process:
            _native.ring_for_jobs(seat.bell, seat.number)
            job = _native.poll_job()
            if job is None:
                seat.wait()
            else:
                seat.left()
                do(job)
    finally:
        if os.getpid() == process:
            _native.release_jobs()


def do(job: _native.Job) -> None:
    """Does one thing that the native half has for Python."""
    record = job.record()
    if record is None:
        _call(job)
        return
    try:
        _log.log(record[0], "%s", record[1])
    except (Exception, SystemExit):  # a filter of the program's; handlers look after themselves
        return


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
            given = _green.run(given)
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
        if frame.f_globals is globals() or frame.f_globals is _green.__dict__:
            found.clear()
        else:
            found.append(f"{os.path.basename(frame.f_code.co_filename)}:{line}")
    return f" ({', '.join(found[:1] + found[1:][-3:])})" if found else ""
