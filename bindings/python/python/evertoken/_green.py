"""Green threads, by gevent or eventlet: how one waits for the native half while its hub goes on, and what must stay a real
thread. Neither is imported here; what the program has imported is used.
"""

from __future__ import annotations

import _thread
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from os import getpid
from typing import Any

from ._waiting import Waiting, waiting


class _Gevent(Waiting):
    """A watcher of the hub's own loop."""

    place: Any

    def watch(self) -> None:
        self._watcher = self.place.loop.io(self.descriptor, 1)
        self._watcher.start(self.heard)

    def unwatch(self) -> None:
        self._watcher.stop()
        self._watcher.close()

    def heard(self, *_: object) -> None:
        if self.process == getpid():
            super().heard()
        else:
            # The child of a fork: the socket is its parent's.
            self.unwatch()


class _Eventlet(Waiting):
    """A listener of the hub's."""

    place: Any

    def watch(self) -> None:
        self._listener = self.place.add(self.place.READ, self.descriptor, self.heard, self.heard, lambda: None)

    def unwatch(self) -> None:
        self.place.remove(self._listener)


class Seat:
    """One wait of a green thread."""

    def __init__(self, here: Waiting, event: Any, wake: Callable[[], object]) -> None:
        self.bell = here.bell
        self.number = here.enter(wake)
        self._here = here
        self._event = event

    def wait(self) -> None:
        """Returns when the bell has rung for it; the hub goes on meanwhile."""
        try:
            self._event.wait()
        finally:
            self.left()

    def left(self) -> None:
        """Gives it up."""
        self._here.left(self.number)


def _gevent() -> Any:
    """The module, if this is a green thread of its."""
    gevent: Any = sys.modules.get("gevent")
    if gevent is None or not hasattr(gevent, "Greenlet"):
        return None
    monkey: Any = sys.modules.get("gevent.monkey")
    patched = monkey is not None and any(map(monkey.is_module_patched, ("socket", "select", "threading")))
    return gevent if patched or isinstance(gevent.getcurrent(), gevent.Greenlet) else None


def _eventlet(*modules: str) -> Any:
    """The module, if it has replaced one of these."""
    patcher: Any = sys.modules.get("eventlet.patcher")
    if patcher is None or not any(map(patcher.is_monkey_patched, modules)):
        return None
    return sys.modules.get("eventlet")


def seat() -> Seat | None:
    """A place to wait at; ``None`` if the whole thread is to wait."""
    try:
        gevent = _gevent()
        if gevent is not None:
            hub = gevent.get_hub()
            if gevent.getcurrent() is hub:
                return None
            event: Any = import_module("gevent.event").Event()
            return Seat(waiting(hub, lambda: _Gevent(hub)), event, event.set)
        eventlet = _eventlet("socket", "select", "thread")
        if eventlet is not None:
            hub = import_module("eventlet.hubs").get_hub()
            if eventlet.getcurrent() is hub.greenlet:
                return None
            event = import_module("eventlet.event").Event()
            return Seat(waiting(hub, lambda: _Eventlet(hub)), event, lambda: event.ready() or event.send())
    except NotImplementedError:  # no sockets to watch
        pass
    return None


def real(name: str) -> Any:
    """This function of ``_thread``, which makes real threads and real locks also if the program's are green."""
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        return monkey.get_original("_thread", name)
    eventlet = _eventlet("thread")
    return getattr(_thread if eventlet is None else eventlet.patcher.original("_thread"), name)


def start(work: Callable[[], None], name: str) -> None:
    """Runs it in a real thread."""
    make = real("start_new_thread")
    if make is _thread.start_new_thread:
        threading.Thread(target=work, name=name, daemon=True).start()
    else:
        make(work, ())


def wants_green() -> bool:
    """Whether what runs in the background must be a green thread. Eventlet's locks, ``logging``'s among them, do not work across
    threads.
    """
    if _eventlet("thread") is None:
        return False
    # After a fork eventlet keeps the parent's number.
    return threading.get_native_id() in (threading.main_thread().native_id, getpid())


def spawn(work: Callable[[], None]) -> None:
    """Runs it in eventlet's hub of this thread."""
    sys.modules["eventlet"].spawn(work)


def run(awaitable: Any) -> Any:
    """What the awaitable comes to."""
    import asyncio

    async def awaited() -> Any:
        return await awaitable

    eventlet = _eventlet("thread")
    if eventlet is not None:
        hub = import_module("eventlet.hubs").get_hub()
        if type(hub).__module__ == "eventlet.hubs.asyncio":
            # The thread's loop runs already.
            return import_module("eventlet.asyncio").spawn_for_awaitable(awaited()).wait()
    return asyncio.run(awaited())
