"""For requests."""

from __future__ import annotations

from typing import Any

import requests
from requests import cookies
from requests.auth import AuthBase
from requests.structures import CaseInsensitiveDict

from . import _native
from ._bodies import BYTES, can_seek
from ._client import Client
from ._recovery import Guard

_cookies: Any = cookies

# Whether the headers of a request are what they have been since requests 1.0: a dictionary by lower-case name. To look there
# whether a name is missing, and to put one in, takes a tenth of the time that it takes by way of the mapping.
_PLAIN = getattr(CaseInsensitiveDict({"A-B": "c"}), "_store", None) == {"a-b": ("A-B", "c")}


class RequestsAuth(AuthBase):
    """``auth=`` for sessions and calls.

    Each request gets a valid token; one that the API answers with 401 is sent once more with a newer one, where its body can
    be sent twice. A token goes to the origins of ``base_url`` and ``trusted_origins`` only, and a request with an
    ``Authorization`` of its own keeps it. A redirect to another origin, and under DPoP any redirect, is followed without the
    token.
    """

    def __init__(self, client: Client) -> None:
        Guard(client)
        self._client = client
        self._dpop = client._is_dpop()
        # Looked up once.
        self._authorization = client.authorization
        self._hook = self._met
        self._trusted: tuple[str, ...] = ()
        """Origins that have been asked about, each with the ``/`` behind it at which its paths begin."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        url = request.url or ""
        if not url.startswith(self._trusted):
            self._check(url)
        if self._dpop:
            return self._prove(request)
        if _PLAIN:
            fields: Any = request.headers._store  # type: ignore[attr-defined]
            if "authorization" in fields:
                return request
            fields["authorization"] = "Authorization", self._authorization()
        elif "Authorization" in request.headers:
            return request
        else:
            request.headers["Authorization"] = self._authorization()
        hooks = request.hooks.setdefault("response", [])
        if self._hook not in hooks:
            hooks.append(self._hook)
        return request

    def _check(self, url: str) -> None:
        self._client._check_origin(url)
        path = url.find("/", 8)
        if path > 0 and len(self._trusted) < 64:
            self._trusted += (url[: path + 1],)

    def _prove(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if "Authorization" in request.headers:
            return request
        sending = self._client._pass()
        request.headers.update(sending.headers(request.method or "GET", request.url or ""))
        first = iter((sending,))
        signed = request.method, request.url

        def meet(response: requests.Response, **kwargs: Any) -> requests.Response:
            request = response.request
            if "DPoP" not in request.headers and (request.method, request.url) != signed:
                return response  # where a redirect led
            return self._meet(response, next(first, None), kwargs)

        request.register_hook("response", meet)  # type: ignore[no-untyped-call]
        return request

    def _met(self, response: requests.Response, **kwargs: Any) -> requests.Response:
        # The hook comes along when a redirect is followed, the header only to the same origin.
        # No local variable holds the token: error reporters collect them.
        if response.status_code != 401 or "Authorization" not in response.request.headers:
            return response
        sending = self._client._pass_sent(_text(response.request.headers["Authorization"]))
        return self._again(response, sending, kwargs) if _repeats(response, sending) else response

    def _meet(self, response: requests.Response, sending: _native.Pass | None, kwargs: dict[str, Any]) -> requests.Response:
        if response.is_redirect:
            _strip_next_copy(response.request)
            return response
        if sending is None:
            # A prepared request was sent once more, with the proof of the first time, or a copy of it, which has none.
            if response.status_code != 401 or not _is_repeatable(response.request):
                return response
            sending = self._client._pass()
            response = self._again(response, sending, kwargs)
        while _repeats(response, sending):
            response = self._again(response, sending, kwargs)
        return response

    def _again(self, response: requests.Response, sending: _native.Pass, kwargs: dict[str, Any]) -> requests.Response:
        response.content  # noqa: B018 (read to the end, so that the connection can be used again)
        response.close()
        request = response.request.copy()
        jar: Any = request._cookies  # type: ignore[attr-defined]
        _cookies.extract_cookies_to_jar(jar, response.request, response.raw)
        request.prepare_cookies(jar)  # pyright: ignore[reportUnknownMemberType]
        _rewind(request)
        if self._dpop:
            request.headers.update(sending.headers(request.method or "GET", request.url or ""))
        else:
            request.headers["Authorization"] = sending.header
        again: requests.Response = response.connection.send(request, **kwargs)
        again.history.append(response)
        again.request = request
        return again


def _strip_next_copy(request: Any) -> None:
    """Has the copy that requests makes next, to follow a redirect, carry neither token nor proof, which is good for one URL. The
    request itself is the caller's, and keeps both.
    """

    def copy() -> requests.PreparedRequest:
        del request.copy
        stripped: requests.PreparedRequest = request.copy()
        for name in ("Authorization", "DPoP"):
            stripped.headers.pop(name, None)
        return stripped

    request.copy = copy


def _is_repeatable(request: requests.PreparedRequest) -> bool:
    body: Any = request.body
    if body is None or isinstance(body, BYTES):
        return True
    return hasattr(body, "read") and isinstance(_start(request), int) and can_seek(body)


def _start(request: requests.PreparedRequest) -> Any:
    """Where the file that is the body stood when the request was made."""
    return getattr(request, "_body_position", None)


def _rewind(request: requests.PreparedRequest) -> None:
    body: Any = request.body
    if hasattr(body, "read"):
        body.seek(_start(request))


def _repeats(response: requests.Response, sending: _native.Pass) -> bool:
    request, headers = response.request, list(response.headers.items())
    return sending.repeats(request.url or "", response.status_code, headers, _is_repeatable(request))


def _text(header: Any) -> str:
    return header.decode("latin-1") if isinstance(header, bytes) else str(header)
