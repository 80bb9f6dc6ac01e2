"""What a client tells of itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from . import _native
from ._errors import EvertokenError
from ._loop import waited


@dataclass(frozen=True)
class Quota:
    """What is left of the tokens that the authorization server grants in a period, where it says so."""

    limit: int | None
    """How many there are in a period."""
    remaining: int
    """How many of them are left."""
    resets_at: datetime | None
    """When all are there again."""

    @property
    def is_low(self) -> bool:
        """Whether no more than a tenth is left; where the limit is not known, whether nothing is."""
        return self.remaining <= (self.limit or 0) // 10


@dataclass(frozen=True)
class Status:
    """A picture of a client at one moment. It holds no token."""

    state: str
    """``starting``, ``fresh``, ``renewing``, ``degraded`` (the last attempt failed), ``rejected`` (the credential or the
    request is refused), ``idle`` (nobody reads), ``closed``."""
    expires_in: timedelta | None
    """For how much longer the held token is handed out; ``None`` without a valid token."""
    age: timedelta | None
    """How long ago the held token was asked for."""
    scope: str | None
    """The scope that was granted."""
    last_renewal: datetime | None
    """When a token was last received."""
    quota: Quota | None
    """What was left of the server's quota after the last renewal; ``None`` where it does not say."""
    next_attempt: timedelta | None
    """The time to the next attempt, where one is planned."""
    consecutive_failures: int
    """How many attempts in a row have failed."""
    last_error: EvertokenError | None
    """Why the last attempt failed; ``None`` after a success."""

    @property
    def is_ready(self) -> bool:
        """Whether a valid token is at hand: the readiness check of a service."""
        return self.expires_in is not None


@dataclass(frozen=True)
class Event:
    """Something that happened to a token; none carries a token or a secret."""

    kind: str
    """``renewed``, ``renewal_failed``, ``credentials_rejected``, ``credentials_rotated``, ``quota_low``, ``invalidated`` (the
    API refused the token), ``closed``, ``missed`` (the reader was too slow)."""
    lifetime: timedelta | None = None
    """``renewed``: the token's lifetime by the server's word."""
    missing_scopes: tuple[str, ...] = ()
    """``renewed``: what was asked for and not granted."""
    error: EvertokenError | None = None
    """``renewal_failed``, ``credentials_rejected``: why."""
    next_attempt: timedelta | None = None
    """``renewal_failed``: the time to the next attempt."""
    quota: Quota | None = None
    """``quota_low``: what is left."""
    missed: int = 0
    """``missed``: how many."""


class Events:
    """Events from the moment it was asked for: an iterator, and an async iterator. It ends when the client is closed, and in
    the child of a fork.

    A reader who falls more than 64 behind gets one of the kind ``missed``. A wait that is cancelled, or interrupted by Ctrl-C,
    loses no event: the next one returns it.
    """

    def __init__(self, native: _native.Events) -> None:
        self._native = native

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        while (told := self._native.take()) is None:
            if self._native.has_ended():
                raise StopIteration
            self._native.wait()
        return event(told)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        # The wait only tells that an event is there. It is taken with no `await` in between, where a cancellation would lose it;
        # by then another reader may have been quicker.
        while (told := self._native.take()) is None:
            if self._native.has_ended():
                raise StopAsyncIteration
            await waited(self._native.wait_async)
        return event(told)


def _seconds(value: float | None) -> timedelta | None:
    return None if value is None else timedelta(seconds=value)


def _quota(told: tuple[int | None, int, datetime | None] | None) -> Quota | None:
    return None if told is None else Quota(*told)


def event(told: dict[str, Any]) -> Event:
    """From the native half's words."""
    return Event(
        kind=told["kind"],
        lifetime=_seconds(told.get("lifetime")),
        missing_scopes=tuple(told.get("missing_scopes", ())),
        error=told.get("error"),
        next_attempt=_seconds(told.get("next_attempt")),
        quota=_quota(told.get("quota")),
        missed=told.get("missed", 0),
    )


def status(told: dict[str, Any]) -> Status:
    """From the native half's words."""
    return Status(
        state=told["state"],
        expires_in=_seconds(told["expires_in"]),
        age=_seconds(told["age"]),
        scope=told["scope"],
        last_renewal=told["last_renewal"],
        quota=_quota(told["quota"]),
        next_attempt=_seconds(told["next_attempt"]),
        consecutive_failures=told["consecutive_failures"],
        last_error=told["last_error"],
    )
