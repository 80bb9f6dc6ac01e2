"""A valid access token, always at hand.

::

    from evertoken import Client, HttpxAuth

    api = Client("app_id", "app_secret", issuer="https://acme.eu.auth0.com/", audience="https://api.acme.com",
                 base_url="https://api.acme.com/v1/")
    orders = httpx.Client(auth=HttpxAuth(api)).get("https://api.acme.com/v1/orders")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    from ._native import Dpop, PrivateKeyJwt, SecretJwt, __version__
except ImportError as error:
    if "interpreter" not in str(error):
        raise
    raise ImportError(
        "evertoken cannot be used in a subinterpreter: its renewals are those of the whole process. Import it in the main "
        "interpreter, or run this code in a process of its own"
    ) from error

from ._client import Client
from ._errors import (
    AuthServerUnavailableError,
    ClosedError,
    ConfigurationError,
    CredentialsRejectedError,
    CredentialsUnavailableError,
    EvertokenError,
    InvalidResponseError,
    RequestRefusedError,
    ThrottledError,
    TokenTimeoutError,
    UntrustedOriginError,
)
from ._options import RenewalPolicy
from ._preset import Preset
from ._status import Event, Events, Quota, Status

if TYPE_CHECKING:
    from ._adapters import AiohttpMiddleware as AiohttpMiddleware
    from ._adapters import Httpx2Auth as Httpx2Auth
    from ._adapters import HttpxAuth as HttpxAuth
    from ._adapters import RequestsAuth as RequestsAuth
    from ._adapters import httpx_client as httpx_client

__all__ = [
    "AiohttpMiddleware",
    "AuthServerUnavailableError",
    "Client",
    "ClosedError",
    "ConfigurationError",
    "CredentialsRejectedError",
    "CredentialsUnavailableError",
    "Dpop",
    "Event",
    "Events",
    "EvertokenError",
    "Httpx2Auth",
    "HttpxAuth",
    "InvalidResponseError",
    "Preset",
    "PrivateKeyJwt",
    "Quota",
    "RenewalPolicy",
    "RequestRefusedError",
    "RequestsAuth",
    "SecretJwt",
    "Status",
    "ThrottledError",
    "TokenTimeoutError",
    "UntrustedOriginError",
    "__version__",
    "httpx_client",
]

_ADAPTERS = ("AiohttpMiddleware", "Httpx2Auth", "HttpxAuth", "RequestsAuth", "httpx_client")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ADAPTERS})


def __getattr__(name: str) -> Any:
    # Each needs a library that the others do not. It is there without the library too, and says what is missing when it is used.
    if name in _ADAPTERS:
        from . import _adapters

        return getattr(_adapters, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
