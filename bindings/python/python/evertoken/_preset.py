"""What an API's provider knows and its customers need not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._checks import checked, named, text
from ._client import Client
from ._errors import ConfigurationError
from ._frames import frameless
from ._options import behind_environment, merged, settings

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._options import Options


class Preset:
    """All that is the same for every customer of one API, from which their clients are made. ::

        ACME = Preset(issuer="https://acme.eu.auth0.com/", base_url="https://api.acme.com/v1/", key_prefix="acme_live",
                      env_prefix="ACME", user_agent="acme-sdk/1.2")
        api = ACME.client("app-7", "s3cr3t")  # all that a customer writes

    ``key_prefix`` is that of the API keys that are taken, ``env_prefix`` the word with which environment variables begin
    (``EVERTOKEN`` by default); all else are options of :class:`Client`. What a customer sets by hand goes before them, and with
    :meth:`from_env` what the environment sets.
    """

    @frameless
    @named
    def __init__(self, *, key_prefix: str | None = None, env_prefix: str = "EVERTOKEN", **options: Unpack[Options]) -> None:
        self._key_prefix = None if key_prefix is None else text("key_prefix", key_prefix)
        self._env_prefix = text("env_prefix", env_prefix)
        self._options: dict[str, Any] = checked(options)

    @frameless
    @named
    def client(self, app_id: str, app_secret: str = "", **options: Unpack[Options]) -> Client:
        """A client for these credentials. Nothing is sent yet."""
        return Client(app_id, app_secret, **merged(self._options, options))

    @frameless
    @named
    def from_api_key(self, api_key: str, /, **options: Unpack[Options]) -> Client:
        """A client for an API key; one of another prefix is a ``ConfigurationError``."""
        if self._key_prefix is not None and not text("api_key", api_key).startswith(f"{self._key_prefix}_"):
            raise ConfigurationError(
                f"the API key does not begin with {self._key_prefix!r}: it is for another service, or for another "
                "environment of this one"
            )
        return Client.from_api_key(api_key, **merged(self._options, options))

    @frameless
    @named
    def from_env(self, **options: Unpack[Options]) -> Client:
        """A client by the environment, with variables such as ``ACME_APP_ID`` where ``env_prefix`` is ``ACME``. An API key there,
        or in the file that is named there, must have the ``key_prefix``.
        """
        preset = behind_environment(self._env_prefix, self._options)
        told = merged(preset, options, {"credentials_env": self._env_prefix})
        made = Client.__new__(Client)
        native, made._kept = settings(None, None, told, env_key_prefix=self._key_prefix)
        made._open(native)
        return made
