"""Tells which request bodies can be sent again, and takes those that are read from a file back to where they began.

Only what surely gives the same bytes again counts: a body that is half gone must not be sent as if it were whole.
"""

from __future__ import annotations

import io
from collections.abc import Collection
from typing import Any

BYTES = (bytes, bytearray, memoryview, str)


def can_seek(file: Any) -> bool:
    """Whether a file can be read once more."""
    if getattr(file, "closed", False) or not hasattr(file, "seek"):
        return False
    seekable = getattr(file, "seekable", None)
    return seekable is None or bool(seekable())


def position(file: Any) -> int | None:
    """Where a file that can be read once more stands now; ``None`` if it cannot."""
    try:
        if can_seek(file):
            place: int = file.tell()
            return place
    except (OSError, AttributeError, ValueError, io.UnsupportedOperation):
        pass
    return None


def is_sized(body: Any) -> bool:
    """Whether a body is a list, a tuple or the like, which gives its parts as often as it is asked."""
    return not hasattr(body, "read") and not hasattr(body, "__next__") and isinstance(body, Collection)
