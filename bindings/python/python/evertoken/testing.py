"""An authorization server and an API in a box, for the tests of whoever uses this package.

With pytest, the fixtures ``evertoken_server`` (a fresh :class:`AuthServer`) and ``evertoken_client`` (a client for it) are there
once the package is installed.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from . import _native
from ._client import Client
from ._frames import frameless
from ._options import merged

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from ._options import Options

APP_ID = "app"
"""A client that the server knows."""
APP_SECRET = "secret"
"""Its secret."""


@frameless
def fixed_client(token: str, base_url: str) -> Client:
    """A client that holds this token for a year and asks no authorization server, for unit tests: libraries that replace HTTP
    do not see token requests, which are not made by Python.
    """
    made = Client.__new__(Client)
    made._kept = ()
    made._open_fixed(token, base_url)
    return made


class AuthServer(_native.AuthServer):
    """An authorization server on loopback, with an API behind it, and faults on command. A context manager. ::

        with AuthServer() as server, server.client() as api:
            server.fail("retry_after", status=429, after=1)
            assert server.accepts(api.token())
            assert server.token_requests == 2

    It is real HTTP: discovery, a token endpoint, revocation, introspection, signed JWTs, and an API that verifies them. Its
    tokens live ``lifetime`` seconds, 1 h by default, and are for ``audience``, ``https://api.example`` by default.
    """

    APP_ID = APP_ID
    APP_SECRET = APP_SECRET

    @frameless
    def client(self, **options: Unpack[Options]) -> Client:
        """A client for it, with its API as ``base_url``."""
        made = merged({"issuer": self.issuer, "base_url": self.api_url}, options)
        return Client(APP_ID, APP_SECRET, **made)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
