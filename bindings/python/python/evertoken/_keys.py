"""Keys and certificates, in whatever form people have them."""

from __future__ import annotations

import os
from typing import Any, cast

from ._errors import ConfigurationError, wrong_type
from ._frames import frameless


@frameless
def private_key(given: Any) -> str | bytes:
    """PEM, DER or a JWK: as it is, from a file, or from a key of the library ``cryptography``."""
    if isinstance(given, os.PathLike):
        return _read("private_key", os.fspath(cast("os.PathLike[str]", given)), shown=True)
    if isinstance(given, (bytes, bytearray)):
        return bytes(given)
    if isinstance(given, str):
        return given if "-----BEGIN" in given or given.lstrip().startswith("{") else _read("private_key", given)
    if hasattr(given, "private_bytes"):
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        text: bytes = given.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return text
    raise wrong_type("private_key", "PEM, DER, a JWK, a path or a private key of cryptography", given)


def pem(name: str, given: Any) -> bytes:
    """PEM as it is, or the file at a path."""
    if isinstance(given, (bytes, bytearray)):
        return bytes(given)
    if not isinstance(given, (str, os.PathLike)):
        raise wrong_type(name, "PEM or a path", given)
    if isinstance(given, str) and "-----BEGIN" in given:
        return given.encode()
    path = given if isinstance(given, str) else os.fspath(cast("os.PathLike[str]", given))
    return _read(name, path, shown=not isinstance(given, str))


def bundles(variables: tuple[str, ...]) -> list[bytes]:
    """The authorities that the first of these environment variables names: a file, or a folder of files."""
    for variable in variables:
        path = os.environ.get(variable)
        if not path:
            continue
        if not os.path.isdir(path):
            return [_read(variable, path, shown=True)]
        files = [os.path.join(path, name) for name in sorted(os.listdir(path))]
        found = [_read(variable, file, shown=True) for file in files if os.path.isfile(file)]
        return [text for text in found if b"-----BEGIN CERTIFICATE-----" in text]
    return []


def _read(name: str, path: str, *, shown: bool = False) -> bytes:
    # A key that was given as a wrong text must not be quoted as a path.
    where = f" {path!r}" if shown else ""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        reason = error.strerror or type(error).__name__
    except ValueError:
        reason = "it is no path"
    # Not from within `except`: the cause would quote the path.
    raise ConfigurationError(f"{name} is neither what it should be nor a file that can be read{where}: {reason}")
