"""The adapters by name, each imported with its library when it is first asked for.

Every name exists whether or not its library is installed: asking for it never fails, so that ``import *``, ``hasattr`` and tools
that look at all names work. Using it without the library is an ``ImportError`` that says what to install.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, NoReturn

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


_LIBRARIES = {"AiohttpMiddleware": "aiohttp", "Httpx2Auth": "httpx2", "HttpxAuth": "httpx", "RequestsAuth": "requests"}


def httpx_client(client: Client, **options: Any) -> httpx.Client:
    """An ``httpx.Client`` whose calls carry the token, below the client's ``base_url``; ``options`` are those of httpx, such as
    ``timeout``.
    """
    try:
        library = importlib.import_module("httpx")
    except Exception as error:
        raise _missing("httpx_client", "httpx", error) from error
    base_url = client._base_url()
    if base_url is not None:
        options.setdefault("base_url", base_url)
    made: httpx.Client = library.Client(auth=__getattr__("HttpxAuth")(client), **options)
    return made


def _missing(name: str, library: str, error: Exception) -> ImportError:
    return ImportError(f"evertoken.{name} needs {library} ({error}): pip install evertoken[{library}]", name=library)


def _placeholder(name: str, library: str, error: Exception) -> type[Any]:
    """Stands for an adapter whose library cannot be imported."""

    def refuse(cls: type[Any], *args: object, **options: object) -> NoReturn:
        raise _missing(name, library, error) from error

    return type(name, (), {"__new__": refuse, "__module__": "evertoken", "__doc__": f"Needs {library}, which is not installed."})


def _made(name: str, library: str) -> type[Any]:
    module = importlib.import_module(library)
    if library in ("httpx", "httpx2"):
        from ._httpx import auth_class

        made = auth_class(module)
        made.__name__ = made.__qualname__ = name
        return made
    if library == "requests":
        from ._requests import RequestsAuth

        return RequestsAuth
    from ._aiohttp import AiohttpMiddleware

    return AiohttpMiddleware


def __dir__() -> list[str]:
    return sorted({*globals(), *_LIBRARIES})


def __getattr__(name: str) -> Any:
    library = _LIBRARIES.get(name)
    if library is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        made = _made(name, library)
    except Exception as error:
        # Not kept: the library may be installed while the program runs. The error's frames would be.
        return _placeholder(name, library, error.with_traceback(None))
    globals()[name] = made
    return made
