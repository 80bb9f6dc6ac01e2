"""What can go wrong, as exceptions."""

from __future__ import annotations

import sys


class EvertokenError(Exception):
    """The base of all errors of this package.

    Its text is one line: what failed, against which server, with which OAuth code, whether it mends itself, and what to do. It
    never holds a secret or a token.
    """

    oauth_error: str | None = None
    """The OAuth error code, such as ``invalid_client`` (RFC 6749 5.2)."""
    description: str | None = None
    """The server's ``error_description``, shortened, without what is secret."""
    retry_after: float | None = None
    """Seconds to the next attempt, where one is planned."""
    server: str | None = None
    """The URL of the server that it is about."""
    status: int | None = None
    """The HTTP status of the server's answer."""
    retryable: bool = False
    """Whether it mends by itself."""


class CredentialsRejectedError(EvertokenError):
    """The authorization server refuses the credential (``invalid_client``)."""


class CredentialsUnavailableError(EvertokenError):
    """The source of the credentials has given none yet, or its key could not be used."""


class AuthServerUnavailableError(EvertokenError):
    """The authorization server could not be reached, broke off, or answered with a 5xx."""


class ThrottledError(EvertokenError):
    """The authorization server asks for fewer requests (429)."""


class RequestRefusedError(EvertokenError):
    """The authorization server takes the credential, but not what is asked for: a scope, an audience, a grant."""


class InvalidResponseError(EvertokenError):
    """The authorization server answered, but not with a token that can be used."""


class TokenTimeoutError(EvertokenError, TimeoutError):
    """No token came in time, and no attempt had failed by then."""


class UntrustedOriginError(EvertokenError):
    """The call would have carried the token to an origin that is not trusted. Nothing was sent."""


class ConfigurationError(EvertokenError, ValueError):
    """The client was set up wrongly."""


class ConfigurationTypeError(ConfigurationError, TypeError):
    """An option has the wrong type, or a name that no option has: a ``ConfigurationError`` that is a ``TypeError`` as well."""


class ClosedError(EvertokenError):
    """The client was closed."""


def wrong_type(name: str, wanted: str, given: object) -> ConfigurationTypeError:
    """Names the option and the type that was given, never the value, which may be a secret."""
    kind = f"the class {given.__name__}" if isinstance(given, type) else "None" if given is None else type(given).__name__
    return ConfigurationTypeError(f"{name} must be {wanted}, not {kind}")


def _make(  # pyright: ignore[reportUnusedFunction] (the native half calls it)
    name: str,
    text: str,
    oauth_error: str | None,
    description: str | None,
    retry_after: float | None,
    server: str | None,
    status: int | None,
    retryable: bool,
) -> EvertokenError:
    error: EvertokenError = getattr(sys.modules[__name__], name)(text)
    error.oauth_error = oauth_error
    error.description = description
    error.retry_after = retry_after
    error.server = server
    error.status = status
    error.retryable = retryable
    return error
