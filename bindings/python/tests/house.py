"""What the tests share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from evertoken import Client

THOROUGH = bool(os.environ.get("EVERTOKEN_THOROUGH"))
"""Runs the long ones to their whole length."""

PATIENCE = 60.0
"""Ends a wait for what will never come; nothing here is measured against it."""


def until(what: str, true: Callable[[], object]) -> None:
    """Waits for what is on its way."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def until_it_failed(api: Client) -> None:
    """Has a token asked for, and waits until that has failed: a caller is told of it then, however short its wait."""
    api.prefetch()
    until("it failed", lambda: api.status().consecutive_failures > 0)


class AtOnce:
    """Runs of which most do little but wait: all begin with the first whose outcome is asked for."""

    def __init__(self, runs: dict[str, Callable[[], None]]) -> None:
        self._runs = runs
        self._futures: dict[str, Future[Any]] = {}

    def outcome(self, name: str) -> None:
        if not self._futures:
            pool = ThreadPoolExecutor(len(self._runs))
            self._futures = {name: pool.submit(run) for name, run in self._runs.items()}
            pool.shutdown(wait=False)
        self._futures[name].result(4 * PATIENCE)
