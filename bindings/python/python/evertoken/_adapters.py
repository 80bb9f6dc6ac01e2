"""The adapters by name, each imported with its library when it is first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._client import Client

if TYPE_CHECKING:
    import httpx
    import httpx2

    from ._aiohttp import AiohttpMiddleware as AiohttpMiddleware
    from ._requests import RequestsAuth as RequestsAuth

    class HttpxAuth(httpx.Auth):
        """``auth=`` for httpx; see the README."""

        def __init__(self, client: Client) -> None: ...

    class Httpx2Auth(httpx2.Auth):
        """``auth=`` for httpx2; see the README."""

        def __init__(self, client: Client) -> None: ...


def httpx_client(client: Client, **options: Any) -> httpx.Client:
    """An ``httpx.Client`` whose calls carry the token, below the client's ``base_url``; ``options`` are those of httpx."""
    import httpx

    base_url = client._base_url()
    if base_url is not None:
        options.setdefault("base_url", base_url)
    return httpx.Client(auth=__getattr__("HttpxAuth")(client), **options)


def __getattr__(name: str) -> Any:
    if name in ("HttpxAuth", "Httpx2Auth"):
        import importlib

        from ._httpx import auth_class

        made = auth_class(importlib.import_module("httpx2" if name == "Httpx2Auth" else "httpx"))
        made.__name__ = made.__qualname__ = name
    elif name == "RequestsAuth":
        from ._requests import RequestsAuth as made
    elif name == "AiohttpMiddleware":
        from ._aiohttp import AiohttpMiddleware as made
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = made
    return made
