"""What a client may be told, and how it is handed to the native half."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypedDict

from . import _native
from ._checks import RENEWAL, checked, named, text
from ._errors import ConfigurationTypeError
from ._keys import bundles, pem
from ._worker import Function, keep

Seconds = float | timedelta
Pem = str | bytes | os.PathLike[str]


class Options(TypedDict, total=False):
    """The keyword arguments of :class:`Client`, which describes them."""

    next_app_secret: str | None
    api_key: str | None
    credentials: Credentials | None
    credentials_env: str | None
    credentials_file: str | os.PathLike[str] | None
    credentials_directory: str | os.PathLike[str] | None
    app_id_file: str | os.PathLike[str] | None
    app_secret_file: str | os.PathLike[str] | None
    next_app_secret_file: str | os.PathLike[str] | None
    file_readable_by_others: bool
    issuer: str | None
    token_url: str | None
    audience: str | None
    resource: str | Iterable[str] | None
    scope: str | Iterable[str] | None
    token_params: Mapping[str, str] | None
    client_auth: str | _native.PrivateKeyJwt | _native.SecretJwt | None
    dpop: _native.Dpop | None
    base_url: str | None
    trusted_origins: str | Iterable[str] | None
    allow_insecure_http: bool
    renewal: RenewalPolicy | None
    name: str | None
    token_timeout: Seconds | None
    connect_timeout: Seconds | None
    user_agent: str | None
    proxy: str | None
    ca: Pem | Iterable[Pem] | None
    cert: Pem | None
    revoke_on_shutdown: bool
    revocation_url: str | None


Given = Mapping[str, str] | tuple[str, str] | tuple[str, str, str]
"""App id and app secret, and the next secret of a rotation: what a function for credentials gives."""

Credentials = Callable[[], Given] | Callable[[], Awaitable[Given]]
"""A function for credentials, sync or async."""


@dataclass(frozen=True)
class RenewalPolicy:
    """How a token is kept fresh. The defaults are right for nearly everyone.

    Times are seconds, or ``timedelta``.
    """

    renew_at: float | None = None
    """The fraction of a token's life after which it is renewed at the latest; 0.9 by default. Lower means more room for an
    outage of the authorization server, and more tokens to pay for."""
    jitter: float | None = None
    """By how much of the life the renewal may come earlier, drawn once per token; 0.23 by default, so that a fleet started
    together spreads out."""
    leeway: float | timedelta | None = None
    """How long before its expiry a token is no longer handed out; by default 5 % of the life, but 1.01 s to 30 s, and at most
    35 % of the life, which is served while renewals fail. One that is set holds then, too."""
    backoff_base: float | timedelta | None = None
    """The first step of the exponential backoff after a failure; 0.8 s by default."""
    backoff_cap: float | timedelta | None = None
    """The last step of it while no token is held, 30 s by default; ten times that while one is held."""
    request_timeout: float | timedelta | None = None
    """How long one token request may take; 10 s by default, the first without a token 4 s at most."""
    stop_after_unused: int | None = None
    """Stops renewing after so many lifetimes in which nobody read the token; the next read starts again. Off by default."""
    settle: Seconds | None = None
    """For how long a new token is held back while the previous one serves, for an API that does not know new tokens at once."""


# Not checked before it is given to a client, but for the names.
RenewalPolicy.__init__ = named(RenewalPolicy.__init__)  # type: ignore[method-assign]

_SERVER = frozenset(("issuer", "token_url"))
_SOURCES = ("api_key", "credentials_env", "credentials_file", "credentials_directory", "app_id_file", "credentials")
_BESIDE = {
    "app_secret": "app_id",
    "next_app_secret": "app_id",
    "app_secret_file": "app_id_file",
    "next_app_secret_file": "app_id_file",
}
"""What goes with one source alone."""

_VARIABLES = {
    "issuer": "ISSUER",
    "token_url": "TOKEN_URL",
    "client_auth": "CLIENT_AUTH",
    "audience": "AUDIENCE",
    "resource": "RESOURCE",
    "scope": "SCOPE",
    "base_url": "BASE_URL",
    "ca": "ROOT_CERTIFICATE",
    "proxy": "PROXY",
}
"""The options that the environment may set, which the native half reads there."""


def behind_environment(prefix: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves out the options that environment variables which begin with ``prefix`` set."""
    found = {name for name, variable in _VARIABLES.items() if os.environ.get(f"{prefix}_{variable}")}
    if found & _SERVER:
        found |= _SERVER
    return {name: value for name, value in options.items() if name not in found}


def merged(*told: Mapping[str, Any]) -> dict[str, Any]:
    """What is told last counts. An ``issuer`` or ``token_url`` takes the place of both, since one says where."""
    made: dict[str, Any] = {}
    for options in told:
        if options.keys() & _SERVER:
            made = {name: value for name, value in made.items() if name not in _SERVER}
        made.update(options)
    return made


def _check_source(app_id: str | None, app_secret: str | None, options: Mapping[str, Any]) -> None:
    """Raises unless exactly one option says where the credentials come from."""
    given = [name for name in _SOURCES if name in options]
    if app_id is not None:
        given.insert(0, "app_id")
    needed = "give either app_id and app_secret, or one other source of credentials"
    if len(given) != 1:
        what = f"{', '.join(given)} are given" if given else "none is given"
        raise ConfigurationTypeError(f"{needed} ({', '.join(_SOURCES)}); {what}")
    for name, source in _BESIDE.items():
        is_given = name in options or (name == "app_secret" and app_secret is not None)
        if is_given and given[0] != source:
            raise ConfigurationTypeError(f"{needed}; {name} is given beside {given[0]}, which would ignore it")
    if given[0] == "app_id_file" and "app_secret_file" not in options:
        raise ConfigurationTypeError("app_id_file needs app_secret_file as well")


def settings(
    app_id: str | None, app_secret: str | None, given: Mapping[str, Any], *, env_key_prefix: str | None = None
) -> tuple[_native.Settings, tuple[object, ...]]:
    """The settings, and what must be kept for them."""
    for name, value in (("app_id", app_id), ("app_secret", app_secret)):
        if value is not None:
            text(name, value)
    options = {name: value for name, value in checked(given).items() if value is not None}
    _check_source(app_id, app_secret, options)
    kept: list[object] = []
    if "token_params" in options:
        options["token_params"] = list(options["token_params"].items())
    if "renewal" in options:
        renewal = options.pop("renewal")
        told = {field: (getattr(renewal, field), check) for field, check in RENEWAL.items()}
        options.update((field, check(field, value)) for field, (value, check) in told.items() if value is not None)
    if "ca" in options:
        options["ca"] = [pem("ca", one) for one in options["ca"]]
    elif "SSL_CERT_FILE" not in os.environ and not os.environ.get(f"{options.get('credentials_env')}_ROOT_CERTIFICATE"):
        options["ca"] = bundles(("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))
    if "cert" in options:
        options["cert"] = pem("cert", options["cert"])
    if "credentials" in options:
        function: Function = keep("credentials", options["credentials"])
        options["credentials"] = function.number
        kept.append(function)
    if "client_auth" in options:
        kept.append(options["client_auth"])
    return _native.Settings(app_id, app_secret, env_key_prefix=env_key_prefix, **options), tuple(kept)
