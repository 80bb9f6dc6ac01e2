"""What error reporters see of this package: they collect the local variables of all frames of a traceback, and those of ours hold
secrets wherever an option is a secret.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")


def frameless(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Has errors of the function carry no frames below its caller's. Their text says what is wrong."""

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        handled = sys.exc_info()[1]
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            failed = error
        _strip(failed, handled)
        # This frame is in the traceback again.
        del args, kwargs, handled
        try:
            raise failed
        finally:
            del failed

    return call


def _strip(error: BaseException | None, handled: BaseException | None) -> None:
    """Takes the frames of the error and of all that led to it, but not of what the caller was handling."""
    seen: set[int] = set()
    left = [error]
    while left:
        one = left.pop()
        if one is None or one is handled or id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = None
        left += [one.__cause__, one.__context__]
