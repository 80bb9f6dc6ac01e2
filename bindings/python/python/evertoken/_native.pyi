"""The native half. What is for use stands in `evertoken`."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from os import PathLike
from typing import Any, Literal, final

from typing_extensions import Self, TypedDict, disjoint_base

from . import _client

__version__: str

class _Status(TypedDict):
    state: str
    expires_in: float | None
    age: float | None
    scope: str | None
    last_renewal: datetime | None
    next_attempt: float | None
    consecutive_failures: int
    last_error: Any

@disjoint_base
class Client:
    def __new__(
        cls,
        app_id: str | None = None,
        app_secret: str | None = None,
        *,
        next_app_secret: str | None = None,
        api_key: str | None = None,
        credentials_env: str | None = None,
        credentials_file: str | PathLike[str] | None = None,
        file_readable_by_others: bool = False,
        credentials: _client.Credentials | None = None,
        issuer: str | None = None,
        token_url: str | None = None,
        audience: str | None = None,
        resource: Sequence[str] | None = None,
        scope: Sequence[str] | None = None,
        token_params: Sequence[tuple[str, str]] | None = None,
        client_auth: str | PrivateKeyJwt | SecretJwt | None = None,
        dpop: Dpop | None = None,
        base_url: str | None = None,
        trusted_origins: Sequence[str] | None = None,
        allow_insecure_http: bool = False,
        renew_at: float | None = None,
        jitter: float | None = None,
        leeway: float | None = None,
        backoff_base: float | None = None,
        backoff_cap: float | None = None,
        request_timeout: float | None = None,
        stop_after_unused: int | None = None,
        token_timeout: float | None = None,
        connect_timeout: float | None = None,
        user_agent: str | None = None,
        proxy: str | None = None,
        ca: Sequence[bytes] | None = None,
        cert: bytes | None = None,
        revoke_on_shutdown: bool = False,
        revocation_url: str | None = None,
        _like: Client | None = None,
        _fixed: tuple[str, str] | None = None,
    ) -> Self: ...
    def token(self) -> str: ...
    def current_token(self) -> str | None: ...
    def authorization(self) -> str: ...
    def headers(self, method: str, url: str) -> dict[str, str]: ...
    def invalidate(self, token: str) -> None: ...
    def set_credentials(self, app_id: str, app_secret: str) -> None: ...
    def prefetch(self, *, wait: bool = False) -> None: ...
    def close(self) -> None: ...
    def _pass(self) -> Pass: ...
    def _status(self) -> _Status: ...
    def _events(self) -> Events: ...
    def _check(self) -> tuple[bool, str]: ...
    def _base_url(self) -> str | None: ...
    def _is_dpop(self) -> bool: ...
    def _has_origins(self) -> bool: ...
    def _check_origin(self, url: str) -> None: ...

@final
class Pass:
    @property
    def header(self) -> str: ...
    def headers(self, method: str, url: str) -> dict[str, str]: ...
    def repeats(self, url: str, status: int, headers: Sequence[tuple[str, str]], repeatable: bool) -> bool: ...

@final
class Events:
    def next(self) -> dict[str, Any] | None: ...

@final
class PrivateKeyJwt:
    def __new__(
        cls,
        private_key: str | bytes,
        *,
        key_id: str | None = None,
        audience: Literal["issuer", "token_endpoint"] = "issuer",
    ) -> Self: ...

@final
class SecretJwt:
    def __new__(
        cls,
        *,
        algorithm: Literal["HS256", "HS384", "HS512"] | None = None,
        audience: Literal["issuer", "token_endpoint"] = "issuer",
    ) -> Self: ...

@final
class Dpop:
    def __new__(cls, private_key: str | bytes | None = None) -> Self: ...

@final
class Job:
    def function(self) -> Callable[[], Mapping[str, str] | Sequence[str] | Awaitable[object]] | None: ...
    def record(self) -> tuple[int, str] | None: ...
    def give(self, app_id: str, app_secret: str, next_app_secret: str | None = None) -> None: ...
    def fail(self, reason: str) -> None: ...

def next_job() -> Job | None: ...
def stop_jobs() -> None: ...

@disjoint_base
class AuthServer:
    def __new__(cls, *, lifetime: float | None = None) -> Self: ...
    @property
    def issuer(self) -> str: ...
    @property
    def token_url(self) -> str: ...
    @property
    def api_url(self) -> str: ...
    @property
    def token_requests(self) -> int: ...
    @property
    def max_in_flight(self) -> int: ...
    @property
    def api_calls(self) -> int: ...
    @property
    def issued_tokens(self) -> list[str]: ...
    def accepts(self, token: str) -> bool: ...
    def revoke(self, token: str) -> None: ...
    def rotate(self, app_id: str, new_secret: str) -> None: ...
    def set_lifetime(self, lifetime: float) -> None: ...
    def set_latency(self, latency: float) -> None: ...
    def set_api_nonce(self, nonce: str | None) -> None: ...
    def fail(
        self,
        name: str,
        *,
        at: str = "token",
        always: bool = False,
        status: int = 503,
        error: str | None = None,
        description: str | None = None,
        after: float | None = None,
        body: str | None = None,
    ) -> None: ...
    def heal(self) -> None: ...
    def outage(self) -> None: ...
    def recover(self) -> None: ...
    def stop(self) -> None: ...
