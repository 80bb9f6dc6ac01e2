"""For aiohttp."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from ._client import Client
from ._recovery import Guard


class AiohttpMiddleware:
    """A client middleware: ``aiohttp.ClientSession(middlewares=(AiohttpMiddleware(client),))``.

    Each request gets a valid token; one that the API answers with 401 is sent once more with a newer one, where its body can
    be sent twice. A token goes to the origins of ``base_url`` and ``trusted_origins`` only, and a request with an
    ``Authorization`` of its own keeps it.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._guard = Guard(client)
        self._dpop = client._is_dpop()

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        url = request.url
        self._guard.check((url.scheme, url.host, url.port), str(url))
        if "Authorization" in request.headers:
            return await handler(request)
        await self._client.token_async()
        sending: Any = self._client._pass()
        while True:
            if self._dpop:
                request.headers.update(sending.headers(request.method, str(request.url)))
            else:
                request.headers["Authorization"] = sending.header
            response = await handler(request)
            if response.status != 401 and not self._dpop:
                return response
            repeatable = isinstance(getattr(request.body, "_value", request.body), (bytes, bytearray, str, type(None)))
            answer: tuple[Any, ...] = (str(request.url), response.status, list(response.headers.items()), repeatable)
            if not await asyncio.to_thread(_repeats, sending, answer):
                return response
            response.release()


def _repeats(sending: Any, answer: tuple[Any, ...]) -> bool:
    return bool(sending.repeats(*answer))
