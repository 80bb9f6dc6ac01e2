"""An authorization server and an API in a box, for the tests of whoever uses this package."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from . import _native
from ._client import Client

APP_ID = "app"
"""A client that the server knows."""
APP_SECRET = "secret"
"""Its secret."""


def fixed_client(token: str, base_url: str) -> Client:
    """A client that holds this token for a year and asks no authorization server, for unit tests: libraries that replace HTTP
    do not see token requests, which are not made by Python.
    """
    return Client(_fixed=(token, base_url))


class AuthServer(_native.AuthServer):
    """An authorization server on loopback, with an API behind it, and faults on command. A context manager.

    Its tokens live ``lifetime`` seconds, 1 h by default.
    """

    APP_ID = APP_ID
    APP_SECRET = APP_SECRET

    def client(self, **options: Any) -> Client:
        """A client for it, with its API as ``base_url``."""
        made: dict[str, Any] = {"issuer": self.issuer, "base_url": self.api_url, **options}
        return Client(APP_ID, APP_SECRET, **made)

    def __enter__(self) -> AuthServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
