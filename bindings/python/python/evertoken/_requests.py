"""For requests."""

from __future__ import annotations

from typing import Any

import requests
from requests.auth import AuthBase

from ._client import Client
from ._recovery import Guard, origin


class RequestsAuth(AuthBase):
    """``auth=`` for sessions and calls.

    Each request gets a valid token; one that the API answers with 401 is sent once more with a newer one, where its body can
    be sent twice. A token goes to the origins of ``base_url`` and ``trusted_origins`` only, and a request with an
    ``Authorization`` of its own keeps it.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._guard = Guard(client)
        self._dpop = client._is_dpop()

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        url = request.url or ""
        self._guard.check(origin(url), url)
        if "Authorization" in request.headers:
            return request
        sending = self._client._pass()
        self._sign(request, sending)

        def meet(response: requests.Response, **kwargs: Any) -> requests.Response:
            return self._meet(response, sending, kwargs)

        request.register_hook("response", meet)  # type: ignore[no-untyped-call]
        return request

    def _sign(self, request: requests.PreparedRequest, sending: Any) -> None:
        if self._dpop:
            request.headers.update(sending.headers(request.method or "GET", request.url or ""))
        else:
            request.headers["Authorization"] = sending.header

    def _meet(self, response: requests.Response, sending: Any, kwargs: dict[str, Any]) -> requests.Response:
        # The hook comes along when a redirect is followed.
        while response.status_code == 401 or self._dpop:
            body = response.request.body
            repeatable = body is None or isinstance(body, (bytes, str))
            headers = list(response.headers.items())
            if not sending.repeats(response.request.url, response.status_code, headers, repeatable):
                return response
            response.content  # noqa: B018 (read to the end, so that the connection can be used again)
            response.close()
            request = response.request.copy()
            request.hooks["response"] = []
            self._sign(request, sending)
            again = response.connection.send(request, **kwargs)
            again.history.append(response)
            again.request = request
            response = again
        return response
