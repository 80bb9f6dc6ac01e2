"""The client, as people use it."""

from __future__ import annotations

import asyncio
import os
import warnings
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import _native
from ._errors import EvertokenError

if TYPE_CHECKING:
    from typing_extensions import TypedDict, Unpack

    Pem = str | bytes | os.PathLike[str]
    """PEM itself, or the path of a file that has it."""

    class Options(TypedDict, total=False):
        """What a client may be told. Seconds are floats."""

        next_app_secret: str
        api_key: str
        credentials_env: str
        credentials_file: str | os.PathLike[str]
        file_readable_by_others: bool
        credentials: Credentials
        issuer: str
        token_url: str
        audience: str | None
        resource: str | list[str]
        scope: str | Iterable[str]
        token_params: Mapping[str, str]
        client_auth: str | _native.PrivateKeyJwt | _native.SecretJwt
        dpop: _native.Dpop
        base_url: str
        trusted_origins: list[str]
        allow_insecure_http: bool
        renew_at: float
        jitter: float
        leeway: float
        backoff_base: float
        backoff_cap: float
        request_timeout: float
        stop_after_unused: int
        token_timeout: float
        connect_timeout: float
        user_agent: str
        proxy: str
        ca: Pem | list[Pem]
        cert: Pem
        revoke_on_shutdown: bool
        revocation_url: str
        _like: _native.Client
        _fixed: tuple[str, str]


Given = Mapping[str, str] | tuple[str, str] | tuple[str, str, str]
"""App id and app secret, and the next secret of a rotation: what a function for credentials gives."""

Credentials = Callable[[], Given] | Callable[[], Awaitable[Given]]


@dataclass(frozen=True)
class Status:
    """A picture of a client at one moment. It holds no token."""

    state: str
    """``starting fresh renewing degraded rejected idle closed``."""
    expires_in: timedelta | None
    """For how much longer the held token is handed out; ``None`` without a valid token."""
    age: timedelta | None
    """How long ago the held token was asked for."""
    scope: str | None
    """The scope that was granted."""
    last_renewal: datetime | None
    """When a token was last received."""
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
    """``renewed renewal_failed credentials_rejected credentials_rotated quota_low invalidated closed missed``."""
    lifetime: timedelta | None = None
    missing_scopes: tuple[str, ...] = ()
    error: EvertokenError | None = None
    next_attempt: timedelta | None = None
    missed: int = 0


class Events:
    """Events from the moment it was asked for; an iterator and an async iterator, which ends when the client is closed.

    A reader who falls more than 64 behind gets one of the kind ``missed``.
    """

    def __init__(self, native: _native.Events) -> None:
        self._native = native

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        fields = self._native.next()
        if fields is None:
            raise StopIteration
        return _event(fields)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        fields = await asyncio.to_thread(self._native.next)
        if fields is None:
            raise StopAsyncIteration
        return _event(fields)


def _seconds(value: float | None) -> timedelta | None:
    return None if value is None else timedelta(seconds=value)


def _event(fields: dict[str, Any]) -> Event:
    return Event(
        kind=fields["kind"],
        lifetime=_seconds(fields.get("lifetime")),
        missing_scopes=tuple(fields.get("missing_scopes", ())),
        error=fields.get("error"),
        next_attempt=_seconds(fields.get("next_attempt")),
        missed=fields.get("missed", 0),
    )


def _words(scope: str | Iterable[str] | None) -> list[str] | None:
    return None if scope is None else scope.split() if isinstance(scope, str) else list(scope)


def _pem(name: str, value: str | bytes | os.PathLike[str]) -> bytes:
    """PEM as it is, or the file at a path."""
    if isinstance(value, bytes):
        return value
    text = os.fspath(value)
    if "-----BEGIN" in text:
        return text.encode()
    try:
        with open(text, "rb") as file:
            return file.read()
    except OSError as error:
        raise type(error)(error.errno, f"{name}: {error.strerror}", text) from None


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """From what people write to what the native half takes."""
    options = dict(given)
    if isinstance(options.get("resource"), str):
        options["resource"] = [options["resource"]]
    if "scope" in options:
        options["scope"] = _words(options["scope"])
    if isinstance(options.get("token_params"), Mapping):
        options["token_params"] = list(options["token_params"].items())
    ca = options.get("ca")
    if ca is None and "REQUESTS_CA_BUNDLE" in os.environ and "SSL_CERT_FILE" not in os.environ:
        ca = os.environ["REQUESTS_CA_BUNDLE"]
        options["ca"] = [_pem("REQUESTS_CA_BUNDLE", ca)] if os.path.isfile(ca) else None
    elif ca is not None:
        options["ca"] = [_pem("ca", one) for one in (ca if isinstance(ca, (list, tuple)) else [ca])]
    if options.get("cert") is not None:
        options["cert"] = _pem("cert", options["cert"])
    return options


class Client(_native.Client):
    """A valid access token, always at hand.

    ``app_id`` and ``app_secret`` are OAuth's ``client_id`` and ``client_secret`` (RFC 6749). Nothing is asked of a server before
    the first ``token()`` or ``prefetch()``; from then on the token is renewed in the background until ``close()``. It may be
    shared by threads, event loops and, across a fork, by processes.
    """

    def __new__(cls, app_id: str | None = None, app_secret: str | None = None, **options: Unpack[Options]) -> Client:
        return super().__new__(cls, app_id, app_secret, **_options(options))

    def __init__(self, app_id: str | None = None, app_secret: str | None = None, **options: Unpack[Options]) -> None:
        self._waiting: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[str]] = weakref.WeakKeyDictionary()

    @classmethod
    def from_env(cls, prefix: str = "EVERTOKEN", **options: Unpack[Options]) -> Client:
        """By ``EVERTOKEN_APP_ID`` and ``EVERTOKEN_APP_SECRET``, ``EVERTOKEN_API_KEY`` or ``EVERTOKEN_CREDENTIALS_FILE``;
        ``EVERTOKEN_ISSUER`` or ``EVERTOKEN_TOKEN_URL``, ``EVERTOKEN_AUDIENCE``, ``EVERTOKEN_SCOPE`` and
        ``EVERTOKEN_BASE_URL`` where they are set and not given here.
        """
        made: dict[str, Any] = dict(options)
        servers = made.keys() & {"issuer", "token_url"}
        for name in ("issuer", "token_url", "audience", "scope", "base_url"):
            value = os.environ.get(f"{prefix}_{name.upper()}")
            if value and name not in made and not (servers and name in ("issuer", "token_url")):
                made[name] = value
        return cls(**{**made, "credentials_env": prefix})

    @classmethod
    def from_api_key(cls, api_key: str, /, **options: Unpack[Options]) -> Client:
        """By a one-string API key. A typo in it is told here, offline."""
        made: dict[str, Any] = {**options, "api_key": api_key}
        return cls(**made)

    async def token_async(self) -> str:
        """The same for asyncio, whose loop goes on meanwhile. A waiter that is cancelled cancels nothing else."""
        token = self.current_token()
        if token is not None:
            return token
        loop = asyncio.get_running_loop()
        waiting = self._waiting.get(loop)
        if waiting is None or waiting.done():
            waiting = loop.create_task(asyncio.to_thread(self.token))
            waiting.add_done_callback(_seen)
            self._waiting[loop] = waiting
        return await asyncio.shield(waiting)

    async def headers_async(self, method: str, url: str) -> dict[str, str]:
        """``headers`` for asyncio."""
        await self.token_async()
        return self.headers(method, url)

    def with_(self, *, audience: str | None = None, scope: str | Iterable[str] | None = None) -> Client:
        """The same client for another audience and other scopes, for the same credentials and with the same settings."""
        return Client(audience=audience, scope=scope or [], _like=self)

    def status(self) -> Status:
        """How it stands."""
        fields = self._status()
        renewed = fields["last_renewal"]
        return Status(
            state=fields["state"],
            expires_in=_seconds(fields["expires_in"]),
            age=_seconds(fields["age"]),
            scope=fields["scope"],
            last_renewal=renewed,
            next_attempt=_seconds(fields["next_attempt"]),
            consecutive_failures=fields["consecutive_failures"],
            last_error=fields["last_error"],
        )

    def events(self) -> Events:
        """What happens from now on."""
        return Events(self._events())

    async def aclose(self) -> None:
        """``close`` for asyncio."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()


def _seen(task: asyncio.Task[str]) -> None:
    # Those who wait get the error; where nobody does any more, nobody misses it.
    if not task.cancelled():
        task.exception()


_warned = False


def _warn_of_loop() -> None:
    global _warned
    if _warned:
        return
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    _warned = True
    warnings.warn("token() waits and holds up the running event loop: use `await token_async()`", RuntimeWarning, stacklevel=2)
