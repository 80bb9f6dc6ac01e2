"""How something waits for the native half while other things go on: a bell for each event loop or hub, which watches it by its
own means. What runs in a loop, and which loop that is, stands in ``_loop``; hubs of green threads stand in ``_green``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TypeVar

from . import _native

_all: dict[tuple[int, int], Waiting] = {}
"""Those in use, by process and place."""


class Waiting:
    """All that one loop or hub, its place, waits for. The bell is there only while there is something.

    A loop or hub runs in one thread at a time, and only that thread uses this.
    """

    def __init__(self, place: object) -> None:
        self.place = place
        self.process = os.getpid()
        self.bell = _native.Bell()
        self._wakes: dict[int, Callable[[], object]] = {}
        self._last = 0
        self.watch()

    def watch(self) -> None:
        """Has the place call ``heard`` when the bell rings."""
        raise NotImplementedError

    def unwatch(self) -> None:
        """Ends that."""
        raise NotImplementedError

    def enter(self, wake: Callable[[], object]) -> int:
        """The number of a new wait, at the end of which ``wake`` is called in the place."""
        self._last += 1
        self._wakes[self._last] = wake
        return self._last

    def heard(self, *_: object) -> None:
        """What the place calls."""
        if self.process == os.getpid():
            self.wake(self.bell.heard())

    def wake(self, numbers: list[int]) -> None:
        """Ends these waits."""
        for number in numbers:
            wake = self._wakes.get(number)
            if wake is not None:
                wake()

    def left(self, number: int) -> None:
        """Ends one wait, on whatever grounds."""
        del self._wakes[number]
        if not self._wakes and self.process == os.getpid():
            _all.pop((self.process, id(self.place)), None)
            self.unwatch()

    @property
    def descriptor(self) -> int:
        """What is watched."""
        descriptor = self.bell.fileno()
        if descriptor is None:
            raise NotImplementedError("no sockets to watch on this system")
        return descriptor


_W = TypeVar("_W", bound=Waiting)


def waiting(place: object, make: Callable[[], _W]) -> _W:
    """That of the place, in this process: a child of a fork shares its parent's socket, but must not read it."""
    key = os.getpid(), id(place)
    # A place has one kind.
    found: _W | None = _all.get(key)  # type: ignore[assignment]
    if found is None:
        found = _all[key] = make()
    return found


class Threaded(Waiting):
    """For places that cannot watch a socket: a thread listens to the bell for them. It ends with the last wait, so that nothing
    that was given up holds up the end of a loop.
    """

    def __init__(self, place: object, call: Callable[..., object]) -> None:
        self._call = call
        """Calls a function in the place, from another thread."""
        self._over = False
        super().__init__(place)

    def watch(self) -> None:
        threading.Thread(target=self._listen, name="evertoken-bell", daemon=True).start()

    def unwatch(self) -> None:
        self._over = True
        self.bell.ring(0)

    def _listen(self) -> None:
        while not self._over:
            numbers = self.bell.wait()
            try:
                self._call(self.wake, numbers)
            except RuntimeError:  # the loop has ended
                return
