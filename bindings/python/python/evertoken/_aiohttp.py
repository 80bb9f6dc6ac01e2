"""For aiohttp."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, MultipartWriter, payload

from . import _native
from ._bodies import BYTES, can_seek
from ._client import Client
from ._loop import waited
from ._recovery import Guard


class AiohttpMiddleware:
    """A client middleware: ``aiohttp.ClientSession(middlewares=(AiohttpMiddleware(client),))``.

    Each request gets a valid token; one that the API answers with 401 is sent once more with a newer one, where its body can
    be sent twice. A token goes to the origins of ``base_url`` and ``trusted_origins`` only, and a request with an
    ``Authorization`` of its own keeps it. A redirect to an origin that is not trusted is an ``UntrustedOriginError``.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._guard = Guard(client)
        self._dpop = client._is_dpop()
        self._ours: WeakKeyDictionary[ClientRequest, str] = WeakKeyDictionary()
        """What was put into requests, which come again where a middleware ahead of this one sends them again."""

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        url = request.url
        origin = url.scheme, url.host, url.port
        if origin not in self._guard.trusted:
            self._guard.check(origin, url)
        # No local variable holds a token: error reporters collect them.
        if request.headers.get("Authorization") not in (None, self._ours.get(request)):
            return await handler(request)
        if self._dpop:
            sending = self._client._pass_sent(self._client.current_token() or await self._client.token_async())
            return await self._proven(request, handler, sending)
        # Not `authorization()`, which would hold up the loop where the token has ended by now.
        self._put(request, {"Authorization": f"Bearer {self._client.current_token() or await self._client.token_async()}"})
        response = await handler(request)
        if response.status == 401:
            sending = self._client._pass_sent(request.headers.get("Authorization", ""))
            if await _repeats(sending, request, response):
                response.release()
                self._put(request, {"Authorization": sending.header})
                response = await handler(request)
        return response

    async def _proven(self, request: ClientRequest, handler: ClientHandlerType, sending: _native.Pass) -> ClientResponse:
        while True:
            self._put(request, sending.headers(request.method, str(request.url)))
            response = await handler(request)
            if not await _repeats(sending, request, response):
                return response
            response.release()

    def _put(self, request: ClientRequest, headers: dict[str, str]) -> None:
        request.headers.update(headers)
        self._ours[request] = headers["Authorization"]


async def _repeats(sending: _native.Pass, request: ClientRequest, response: ClientResponse) -> bool:
    answer = str(request.url), response.status, list(response.headers.items())
    if response.status != 401:
        sending.note(*answer)
        return False
    repeatable = _is_repeatable(request.body, response)
    repeats: bool = await waited(lambda bell, number: sending.wait_repeats(bell, number, *answer, repeatable))
    return repeats


def _is_repeatable(body: Any, response: ClientResponse) -> bool:
    if body is None or isinstance(body, BYTES):
        return True
    if getattr(body, "consumed", False):
        return False
    if isinstance(body, MultipartWriter):
        return all(_is_repeatable(part, response) for part, *_ in body)
    value = getattr(body, "_value", None)
    if isinstance(body, payload.IOBasePayload):
        # aiohttp takes the file back by itself. A server may answer before it has read the body, which is still being sent then.
        return hasattr(body, "_start_position") and can_seek(value) and getattr(response, "_writer", None) is None
    return isinstance(body, payload.BytesPayload) and isinstance(value, BYTES)
