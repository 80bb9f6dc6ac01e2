"""The adapters by name, each imported with its library when it is first asked for."""

from __future__ import annotations

import importlib
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
    """An ``httpx.Client`` whose calls carry the token, below the client's ``base_url``; ``options`` are those of httpx, such as
    ``timeout``.
    """
    library = _library("httpx", "httpx_client")
    base_url = client._base_url()
    if base_url is not None:
        options.setdefault("base_url", base_url)
    made: httpx.Client = library.Client(auth=__getattr__("HttpxAuth")(client), **options)
    return made


def _library(library: str, name: str) -> Any:
    try:
        return importlib.import_module(library)
    except ModuleNotFoundError as error:
        raise ImportError(f"evertoken.{name} needs {library}: pip install evertoken[{library}]") from error


def __getattr__(name: str) -> Any:
    if name in ("HttpxAuth", "Httpx2Auth"):
        library = _library("httpx2" if name == "Httpx2Auth" else "httpx", name)
        from ._httpx import auth_class

        made = auth_class(library)
        made.__name__ = made.__qualname__ = name
    elif name == "RequestsAuth":
        _library("requests", name)
        from ._requests import RequestsAuth as made
    elif name == "AiohttpMiddleware":
        _library("aiohttp", name)
        from ._aiohttp import AiohttpMiddleware as made
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = made
    return made
