"""Fixtures that pytest finds by the entry point ``pytest11``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ._client import Client
    from .testing import AuthServer


@pytest.fixture
def evertoken_server() -> Iterator[AuthServer]:
    """An authorization server and an API in a box, fresh for each test."""
    from .testing import AuthServer

    with AuthServer() as server:
        yield server


@pytest.fixture
def evertoken_client(evertoken_server: AuthServer) -> Iterator[Client]:
    """A client for ``evertoken_server``, with its API as ``base_url``."""
    with evertoken_server.client() as client:
        yield client
