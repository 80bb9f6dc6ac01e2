"""Checks options for their names, types and ranges. What a value means, such as whether a URL is one, is checked by the native
half. Nothing here reads a file or asks a server.
"""

from __future__ import annotations

import inspect
import operator
import os
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import wraps
from typing import Any, TypeVar, cast

from . import _native
from ._errors import ConfigurationError, ConfigurationTypeError, wrong_type

Function = TypeVar("Function", bound=Callable[..., Any])

LONGEST = timedelta.max.total_seconds()
SHORTEST = 1e-9

CLIENT_AUTHS = (
    "client_secret_basic",
    "client_secret_post",
    "client_secret_jwt",
    "tls_client_auth",
    "self_signed_tls_client_auth",
    "client_secret_basic_raw",
)

_ALIASES = {
    "aud": "audience",
    "audiences": "audience",
    "auth_method": "client_auth",
    "auth_url": "issuer",
    "ca_bundle": "ca",
    "ca_certs": "ca",
    "cafile": "ca",
    "client_id": "app_id",
    "client_secret": "app_secret",
    "domain": "issuer",
    "extra_params": "token_params",
    "headers": "token_params",
    "id": "app_id",
    "key": "api_key",
    "params": "token_params",
    "proxies": "proxy",
    "resources": "resource",
    "scopes": "scope",
    "secret": "app_secret",
    "ssl": "ca",
    "timeout": "token_timeout",
    "token_endpoint": "token_url",
    "token_endpoint_auth_method": "client_auth",
    "token_uri": "token_url",
    "verify": "ca",
}
"""Names that the standards and other libraries use, and what they are called here."""

_CLIENT_AUTH_ALIASES = {
    "basic": "'client_secret_basic'",
    "jwt": "'client_secret_jwt'",
    "mtls": "'tls_client_auth'",
    "post": "'client_secret_post'",
    "private_key_jwt": "PrivateKeyJwt(key)",
    "tls": "'tls_client_auth'",
}


def _close(name: str, known: Iterable[str]) -> str | None:
    import difflib

    found = difflib.get_close_matches(name, list(known), 1, 0.6)
    return found[0] if found else None


def _plain(name: str) -> str:
    """The name as it would be spelled here: ``tokenUrl``, ``token-url`` and ``TOKEN_URL`` are ``token_url``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("-", "_").strip("_ ").lower()


def unknown_option(owner: str, name: str, known: Iterable[str]) -> ConfigurationTypeError:
    """Names the option that does not exist, and the one that was probably meant."""
    known, plain = frozenset(known), _plain(name)
    meant = plain if plain in known else _ALIASES.get(plain)
    if meant not in known:
        meant = _close(plain, known)
    if meant is None or plain in RENEWAL:
        policy = plain if plain in RENEWAL else _close(plain, RENEWAL)
        if policy is not None and "renewal" in known:
            meant = f"renewal=RenewalPolicy({policy}=…)"
    shown = name if len(name) <= 60 else f"{name[:60]}…"
    return ConfigurationTypeError(f"{owner} has no option {shown!r}" + (f": did you mean {meant}?" if meant else ""))


def check_names(owner: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raises for the first option that does not exist."""
    for name in given:
        if name not in known:
            raise unknown_option(owner, name, known)


def named(function: Function) -> Function:
    """Has a function name an option that it does not know, and show the options of ``Client`` in its signature if it passes them
    on.
    """
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    named_ones = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    known = {parameter.name for parameter in parameters if parameter.kind in named_ones} - {"self", "cls"}
    if parameters[-1].kind is inspect.Parameter.VAR_KEYWORD:
        parameters[-1:] = [option for option in _signature() if option.name not in signature.parameters]
        known |= OPTIONS.keys()
    owner = function.__qualname__.removesuffix(".__init__")

    @wraps(function)
    def checked(*args: Any, **given: Any) -> Any:
        check_names(owner, given, known)
        return function(*args, **given)

    cast("Any", checked).__signature__ = signature.replace(parameters=parameters)
    return cast("Function", checked)


def _signature() -> list[inspect.Parameter]:
    from ._options import Options

    def annotation(given: object) -> object:
        return getattr(given, "__forward_arg__", given)

    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=False if annotation(kind) == "bool" else None,
            annotation=annotation(kind),
        )
        for name, kind in Options.__annotations__.items()
    ]


def text(name: str, given: object) -> str:
    """A ``str`` that can be sent."""
    if not isinstance(given, str):
        raise wrong_type(name, "a str", given)
    if not given.isascii():
        # Not from within `except`: the cause would quote what may be a secret.
        encoded = given.encode(errors="replace")
        if encoded.decode() != given:
            raise ConfigurationError(f"{name} holds half of a surrogate pair, which is not a character")
    return given


def _flag(name: str, given: object) -> bool:
    if not isinstance(given, bool):
        raise wrong_type(name, "True or False", given)
    return given


def _number(name: str, wanted: str, given: Any) -> float:
    # Numpy's truth values are numbers to Python as well.
    if not hasattr(given, "__float__") or isinstance(given, type) or type(given).__name__.startswith("bool"):
        raise wrong_type(name, wanted, given)
    try:
        return float(given)
    except OverflowError:
        return float("inf")
    except (TypeError, ValueError):
        pass
    raise wrong_type(name, wanted, given)


def _fraction(name: str, given: object) -> float:
    return _number(name, "a number", given)


def _seconds(name: str, given: object, least: float = 0.0) -> float:
    wanted = "a number of seconds or a timedelta"
    number = given.total_seconds() if isinstance(given, timedelta) else _number(name, wanted, given)
    if not least <= number <= LONGEST:
        bound = "0 or more" if least == 0 else "above 0"
        raise ConfigurationError(f"{name} must be {wanted}, {bound} and at most {LONGEST:.0f} s, not {number:g} s")
    return number


def _seconds_above_zero(name: str, given: object) -> float:
    return _seconds(name, given, SHORTEST)


def _count(name: str, given: Any) -> int:
    if type(given).__name__.startswith("bool") or isinstance(given, type) or not hasattr(given, "__index__"):
        raise wrong_type(name, "an int", given)
    number = operator.index(given)
    if not 1 <= number < 2**32:
        raise ConfigurationError(f"{name} must be 1 or more, and less than 2**32")
    return number


def several(name: str, given: object, one: tuple[type, ...], wanted: str) -> list[Any]:
    """One value, or several in any iterable but a mapping."""
    if isinstance(given, one):
        return [given]
    if isinstance(given, (str, bytes, bytearray, Mapping)) or not isinstance(given, Iterable):
        raise wrong_type(name, f"{wanted} or a list of them", given)  # pyright: ignore[reportUnknownArgumentType]
    values = list(cast("Iterable[object]", given))
    for index, value in enumerate(values):
        if not isinstance(value, one):
            raise wrong_type(f"{name}[{index}]", wanted, value)
    return values


def texts(name: str, given: object) -> list[str]:
    """One ``str`` or several."""
    return [text(name, value) for value in several(name, given, (str,), "a str")]


def words(name: str, given: object) -> list[str]:
    """Scopes in one string, or one by one."""
    return [word for value in texts(name, given) for word in value.split()]


def _params(name: str, given: object) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise wrong_type(name, "a mapping of str to str", given)
    params = dict(cast("Mapping[object, object]", given))
    for key in params:
        if not isinstance(key, str):
            raise wrong_type(f"a name in {name}", "a str", key)
    return {text(f"a name in {name}", key): text(f"{name}[{key!r}]", value) for key, value in params.items()}


def _path(name: str, given: object) -> str:
    path = os.fspath(cast("os.PathLike[str]", given)) if isinstance(given, os.PathLike) else given
    if not isinstance(path, str):
        raise wrong_type(name, "a path", given)  # pyright: ignore[reportUnknownArgumentType]
    return path


def _pem(name: str, given: object) -> object:
    if not isinstance(given, (str, bytes, bytearray, os.PathLike)):
        raise wrong_type(name, "PEM or a path", given)
    return cast("object", given)


def _pems(name: str, given: object) -> list[Any]:
    return several(name, given, (str, bytes, bytearray, os.PathLike), "PEM or a path")


def _client_auth(name: str, given: object) -> object:
    if isinstance(given, (_native.PrivateKeyJwt, _native.SecretJwt)):
        return given
    methods = f"one of {', '.join(map(repr, CLIENT_AUTHS))}, a PrivateKeyJwt or a SecretJwt"
    if not isinstance(given, str):
        raise wrong_type(name, methods, given)
    if given in CLIENT_AUTHS:
        return given
    # The value is not quoted: it may be a secret in the wrong place.
    plain = _plain(given)
    near = _close(plain, CLIENT_AUTHS)
    meant = _CLIENT_AUTH_ALIASES.get(plain) or (near and repr(near))
    raise ConfigurationError(f"{name} must be {methods}" + (f": did you mean {meant}?" if meant else ""))


def _dpop(name: str, given: object) -> object:
    if not isinstance(given, _native.Dpop):
        raise wrong_type(name, "a Dpop, such as Dpop()", given)
    return given


def _function(name: str, given: object) -> object:
    if not callable(given):
        raise wrong_type(name, "a function that returns app id and app secret", given)
    return given


def _renewal(name: str, given: object) -> object:
    from ._options import RenewalPolicy

    if not isinstance(given, RenewalPolicy):
        raise wrong_type(name, "a RenewalPolicy", given)
    for field, check in RENEWAL.items():
        value = getattr(given, field)
        if value is not None:
            check(field, value)
    return given


RENEWAL: dict[str, Callable[[str, Any], Any]] = {
    "renew_at": _fraction,
    "jitter": _fraction,
    "leeway": _seconds,
    "backoff_base": _seconds_above_zero,
    "backoff_cap": _seconds_above_zero,
    "request_timeout": _seconds_above_zero,
    "stop_after_unused": _count,
    "settle": _seconds,
}
"""The fields of a ``RenewalPolicy``."""

OPTIONS: dict[str, Callable[[str, Any], Any]] = {
    "next_app_secret": text,
    "api_key": text,
    "credentials": _function,
    "credentials_env": text,
    "credentials_file": _path,
    "credentials_directory": _path,
    "app_id_file": _path,
    "app_secret_file": _path,
    "next_app_secret_file": _path,
    "file_readable_by_others": _flag,
    "issuer": text,
    "token_url": text,
    "audience": text,
    "resource": texts,
    "scope": words,
    "token_params": _params,
    "client_auth": _client_auth,
    "dpop": _dpop,
    "base_url": text,
    "trusted_origins": texts,
    "allow_insecure_http": _flag,
    "renewal": _renewal,
    "name": text,
    "token_timeout": _seconds,
    "connect_timeout": _seconds_above_zero,
    "user_agent": text,
    "proxy": text,
    "ca": _pems,
    "cert": _pem,
    "revoke_on_shutdown": _flag,
    "revocation_url": text,
}
"""The options of a ``Client``."""


def checked(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options in one form: times as seconds, lists as lists. ``None`` stays, since it takes back what a preset sets."""
    return {name: None if value is None else OPTIONS[name](name, value) for name, value in given.items()}
