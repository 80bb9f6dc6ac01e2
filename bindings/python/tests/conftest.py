from __future__ import annotations

from collections.abc import Iterator

import pytest
from evertoken.testing import AuthServer


@pytest.fixture
def server() -> Iterator[AuthServer]:
    with AuthServer() as server:
        yield server
