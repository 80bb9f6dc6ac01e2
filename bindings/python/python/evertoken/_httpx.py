"""For httpx, and for httpx2, its successor: the same class for both."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from typing import TYPE_CHECKING, Any

from ._bodies import can_seek, is_sized, position
from ._client import Client
from ._loop import waited
from ._recovery import Guard

if TYPE_CHECKING:
    import httpx

    from . import _native


# The extension by which a request that is sent again is known to have its header from here. It is a hash, for extensions may be
# logged.
_OURS = "evertoken"


def auth_class(module: Any) -> type[Any]:
    """The class for ``httpx`` or ``httpx2``."""

    # Whether the headers of a request are what they have been since httpx 0.18: a list of names as sent and in lower case, with
    # their values. To look there takes a fifth of the time that it takes by way of the mapping, which decodes all of them.
    plain = getattr(module.Headers({"A-B": "c"}), "_list", None) == [(b"A-B", b"a-b", b"c")]

    class TokenAuth(module.Auth):  # type: ignore[misc]
        """``auth=`` for clients and calls, sync and async.

        Each request gets a valid token; one that the API answers with 401 is sent once more with a newer one, where its body can
        be sent twice. A token goes to the origins of ``base_url`` and ``trusted_origins`` only, and a request with an
        ``Authorization`` of its own keeps it. Under DPoP follow no redirects, as is httpx's default.
        """

        def __init__(self, client: Client) -> None:
            self._client = client
            self._guard = Guard(client)
            self._dpop = client._is_dpop()

        def _enter(self, request: httpx.Request) -> bool:
            """Whether the request is to get a token. What it got when it was sent before is taken away."""
            url = request.url
            origin = url.raw_scheme, url.raw_host, url.port
            if origin not in self._guard.trusted:
                self._guard.check(origin, url)
            if plain:
                fields: Any = request.headers._list
                for field in fields:
                    if field[1] == b"authorization":
                        return _taken_back(request)
                return True
            return "Authorization" not in request.headers or _taken_back(request)

        def _sign(self, request: httpx.Request, header: str) -> None:
            if plain:
                fields: Any = request.headers._list
                fields.append((b"Authorization", b"authorization", header.encode()))
                _mark(request, header)
            else:
                _put(request, {"Authorization": header})

        def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
            if not self._enter(request):
                yield request
                return
            rewind = _nothing if hasattr(request, "_content") else _rewinder(request.stream)
            if self._dpop:
                sending = self._client._pass()
                _prove(request, sending)
                while sending.repeats(*_answer(request, (yield request), rewind)):
                    if rewind is not None:
                        rewind()
                    _prove(request, sending)
            else:
                # No local variable holds the token: error reporters collect them.
                self._sign(request, self._client.authorization())
                response = yield request
                if response.status_code == 401:
                    sending = self._client._pass_sent(request.headers.get("Authorization", ""))
                    if sending.repeats(*_answer(request, response, rewind)):
                        if rewind is not None:
                            rewind()
                        _put(request, {"Authorization": sending.header})
                        yield request

        async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
            if not self._enter(request):
                yield request
                return
            rewind = _nothing if hasattr(request, "_content") else _rewinder(request.stream)
            if self._dpop:
                sending = self._client._pass_sent(await self._client.token_async())
                _prove(request, sending)
                while await _repeats(sending, request, (yield request), rewind):
                    if rewind is not None:
                        rewind()
                    _prove(request, sending)
            else:
                # Not `authorization()`, which would hold up the loop where the token has ended by now.
                self._sign(request, f"Bearer {self._client.current_token() or await self._client.token_async()}")
                response = yield request
                if response.status_code == 401:
                    sending = self._client._pass_sent(request.headers.get("Authorization", ""))
                    if await _repeats(sending, request, response, rewind):
                        if rewind is not None:
                            rewind()
                        _put(request, {"Authorization": sending.header})
                        yield request

    return TokenAuth


def _put(request: httpx.Request, headers: dict[str, str]) -> None:
    request.headers.update(headers)
    _mark(request, headers["Authorization"])


def _mark(request: httpx.Request, header: str) -> None:
    # Not into the mapping that is there: before httpx 0.28 it is the caller's own.
    request.extensions = {**request.extensions, _OURS: hash(header)}


def _taken_back(request: httpx.Request) -> bool:
    if request.extensions.get(_OURS) != hash(request.headers["Authorization"]):
        return False
    del request.headers["Authorization"]
    return True


def _prove(request: httpx.Request, sending: _native.Pass) -> None:
    _put(request, sending.headers(request.method, str(request.url)))


async def _repeats(sending: _native.Pass, request: httpx.Request, response: httpx.Response, rewind: Rewind | None) -> bool:
    answer = _answer(request, response, rewind)
    if response.status_code != 401:
        sending.note(*answer[:3])
        return False
    repeats: bool = await waited(lambda bell, number: sending.wait_repeats(bell, number, *answer))
    return repeats


def _answer(
    request: httpx.Request, response: httpx.Response, rewind: Rewind | None
) -> tuple[str, int, list[tuple[str, str]], bool]:
    repeatable = rewind is not None or hasattr(request, "_content")
    # A redirect may have led elsewhere, and what is said there says nothing about the token.
    url = str(response.request.url)
    return url, response.status_code, list(response.headers.multi_items()), repeatable


Rewind = Callable[[], object]
"""Makes a body ready to be sent again."""


def _nothing() -> None:
    """For a body that is ready as it is."""


def _rewinder(stream: Any) -> Rewind | None:
    """For the body of a request that has not been sent yet; ``None`` if it can be sent only once."""
    kind = type(stream).__name__
    if not type(stream).__module__.startswith(("httpx.", "httpx2.")):
        return None
    if kind == "ByteStream":
        return _nothing
    if kind == "MultipartStream":
        # httpx takes files back to their beginning by itself.
        files = [getattr(field, "file", b"") for field in stream.fields]
        return _nothing if all(isinstance(file, (str, bytes)) or can_seek(file) for file in files) else None
    if kind != "IteratorByteStream":
        return None
    body: Any = stream._stream
    if is_sized(body):
        return _nothing
    start = position(body) if hasattr(body, "read") else None
    return None if start is None else lambda: body.seek(start)
