"""What the adapters share: the token goes to trusted origins only, and a 401 is met once."""

from __future__ import annotations

from ._client import Client
from ._errors import ConfigurationError


class Guard:
    """Which origins the token may go to. Each is asked of the client once."""

    def __init__(self, client: Client) -> None:
        if not client._has_origins():
            raise ConfigurationError(
                "the client has neither base_url nor trusted_origins: the adapter would not know where its token may go"
            )
        self._client = client
        self.trusted: set[object] = set()
        """Those that have been asked about, in whatever form the adapter has them."""

    def check(self, key: object, url: object) -> None:
        """Raises ``UntrustedOriginError`` where the token may not go to ``url``; ``key`` stands for its origin."""
        self._client._check_origin(str(url))
        if len(self.trusted) < 64:
            self.trusted.add(key)
