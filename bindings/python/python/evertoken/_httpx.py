"""For httpx, and for httpx2, its successor: the same class for both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING, Any

from ._client import Client
from ._recovery import Guard

if TYPE_CHECKING:
    import httpx


def auth_class(module: Any) -> type[Any]:
    """The class for ``httpx`` or ``httpx2``."""

    class TokenAuth(module.Auth):  # type: ignore[misc]
        """``auth=`` for clients and calls, sync and async.

        Each request gets a valid token; one that the API answers with 401 is sent once more with a newer one, where its body can
        be sent twice. A token goes to the origins of ``base_url`` and ``trusted_origins`` only, and a request with an
        ``Authorization`` of its own keeps it.
        """

        def __init__(self, client: Client) -> None:
            self._client = client
            self._guard = Guard(client)
            self._dpop = client._is_dpop()

        def _sign(self, request: httpx.Request, sending: Any) -> None:
            if self._dpop:
                request.headers.update(sending.headers(request.method, str(request.url)))
            else:
                request.headers["Authorization"] = sending.header

        def _enter(self, request: httpx.Request) -> bool:
            url = request.url
            self._guard.check((url.scheme, url.host, url.port), str(url))
            return "Authorization" not in request.headers

        def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
            if not self._enter(request):
                yield request
                return
            sending = self._client._pass()
            while True:
                self._sign(request, sending)
                response = yield request
                if response.status_code != 401 and not self._dpop:
                    return
                if not sending.repeats(*_answer(request, response)):
                    return

        async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
            if not self._enter(request):
                yield request
                return
            await self._client.token_async()
            sending = self._client._pass()
            while True:
                self._sign(request, sending)
                response = yield request
                if response.status_code != 401 and not self._dpop:
                    return
                if not await asyncio.to_thread(sending.repeats, *_answer(request, response)):
                    return

    return TokenAuth


def _answer(request: httpx.Request, response: httpx.Response) -> tuple[str, int, list[tuple[str, str]], bool]:
    # A body that was read into memory can be sent again; a stream cannot.
    repeatable = hasattr(request, "_content") or type(request.stream).__name__ == "ByteStream"
    headers = [(name, value) for name, value in response.headers.multi_items()]
    return str(request.url), response.status_code, headers, repeatable
