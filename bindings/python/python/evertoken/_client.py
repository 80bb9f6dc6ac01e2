"""The client, as people use it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from . import _native
from ._checks import named, text, words
from ._frames import frameless
from ._loop import waited
from ._options import settings
from ._status import Events, Status, status

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from ._options import Options


_log = logging.getLogger("evertoken")


class Client(_native.Client):
    """A valid access token, always at hand.

    ``app_id`` and ``app_secret`` are OAuth's ``client_id`` and ``client_secret`` (RFC 6749), and tokens come by the
    client-credentials grant (4.4). Nothing is asked of a server before the first ``token()`` or ``prefetch()``; from then on the
    token is renewed in the background until ``close()``, or until nobody has the client any more. It may be shared by threads,
    event loops and, across a fork, by processes. ::

        api = Client("app_id", "app_secret", issuer="https://acme.eu.auth0.com/", audience="https://api.acme.com",
                     base_url="https://api.acme.com/v1/")

    Options, of which ``issuer`` or ``token_url`` is needed. Times are seconds, or ``timedelta``. A wrong option is a
    ``ConfigurationError`` that names it; one of a wrong type or name is a ``TypeError`` as well. No server is asked.

    The server:
        ``issuer``: the authorization server's issuer identifier; its endpoints are found by discovery (RFC 8414, OpenID).
        ``token_url``: the token endpoint, for servers without discovery.
        ``revoke_on_shutdown``: has ``close()`` revoke the tokens (RFC 7009), at the ``revocation_url`` or what discovery names.

    What is asked for:
        ``audience``: the API, as Auth0 and others name it. ``resource``: the same by the standard (RFC 8707), one or several.
        ``scope``: scopes in one string, or one by one. ``token_params``: further parameters of the token request, a mapping.

    Who asks, in the place of ``app_id`` and ``app_secret``:
        ``api_key``: both in one string. ``credentials_env``: environment variables that begin with this word.
        ``credentials_file``: a file, watched while the program runs, or ``credentials_directory`` with a file for each value, or
        ``app_id_file`` and ``app_secret_file`` (and ``next_app_secret_file``); nobody but their owner may read them, except with
        ``file_readable_by_others``. ``credentials``: a function, sync or async, that gives ``{"app_id": …, "app_secret": …}``
        or a tuple of both. ``next_app_secret``: the next secret of a rotation, tried where the first is refused.
        ``client_auth``: ``"client_secret_basic"``, ``"client_secret_post"``, ``"client_secret_jwt"``, ``"tls_client_auth"``,
        ``"self_signed_tls_client_auth"``, ``"client_secret_basic_raw"``, a ``PrivateKeyJwt`` or a ``SecretJwt``; by default what
        discovery announces. ``dpop``: a ``Dpop``, to have tokens bound to a key (RFC 9449).

    Where the token may go:
        ``base_url``: the API's. ``trusted_origins``: further origins. ``allow_insecure_http``: plain http beyond loopback.

    How:
        ``renewal``: a ``RenewalPolicy``. ``name``: what log records call this client, by default the app id. ``token_timeout``:
        how long a caller waits for a token at most, 10 s.
        ``connect_timeout``: for a connection, 10 s. ``proxy``: a URL; by default the environment's ``HTTPS_PROXY`` and the like.
        ``ca``: PEM or paths of authorities to trust beside the system's; by default those of ``REQUESTS_CA_BUNDLE`` or
        ``CURL_CA_BUNDLE``. ``cert``: a client certificate with its key, PEM or a path. ``user_agent``: goes before ours. They
        hold for token requests; calls are your HTTP library's.
    """

    @frameless
    @named
    def __init__(  # pyright: ignore[reportInconsistentConstructor]
        self, app_id: str | None = None, app_secret: str | None = None, **options: Unpack[Options]
    ) -> None:
        told, self._kept = settings(app_id, app_secret, options)
        self._open(told)

    @classmethod
    @frameless
    @named
    def from_env(cls, prefix: str = "EVERTOKEN", **options: Unpack[Options]) -> Self:
        """By ``EVERTOKEN_APP_ID`` and ``EVERTOKEN_APP_SECRET`` (or the same with ``_FILE``), ``EVERTOKEN_API_KEY``,
        ``EVERTOKEN_CREDENTIALS_FILE`` or ``EVERTOKEN_CREDENTIALS_DIRECTORY``; and if they are set and not given here,
        ``EVERTOKEN_ISSUER`` or ``EVERTOKEN_TOKEN_URL``, ``EVERTOKEN_CLIENT_AUTH``, ``EVERTOKEN_AUDIENCE``,
        ``EVERTOKEN_RESOURCE``, ``EVERTOKEN_SCOPE``, ``EVERTOKEN_BASE_URL``, ``EVERTOKEN_ROOT_CERTIFICATE`` (the path of a PEM
        file, or PEM) and ``EVERTOKEN_PROXY``. ``prefix`` is the word before the ``_``.
        """
        made: dict[str, Any] = {**options, "credentials_env": text("prefix", prefix)}
        return cls(**made)

    @classmethod
    @frameless
    @named
    def from_api_key(cls, api_key: str, /, **options: Unpack[Options]) -> Self:
        """By a one-string API key. A typo in it is told here, offline."""
        made: dict[str, Any] = {**options, "api_key": text("api_key", api_key)}
        return cls(**made)

    async def token_async(self) -> str:
        """``token()`` for asyncio, whose loop goes on meanwhile. A waiter that is cancelled cancels nothing else."""
        token = self.current_token()
        if token is not None:
            return token
        made: str = await waited(self._wait_token)
        return made

    async def authorization_async(self) -> str:
        """``authorization()`` for asyncio."""
        if self._is_dpop():
            return self.authorization()  # refuses
        return f"Bearer {await self.token_async()}"

    async def headers_async(self, method: str, url: str) -> dict[str, str]:
        """``headers()`` for asyncio."""
        self._check_origin(url)
        return self._pass_sent(await self.token_async()).headers(method, url)

    async def prefetch_async(self) -> None:
        """``prefetch(wait=True)`` for asyncio."""
        await self.token_async()

    @frameless
    @named
    def with_(self, *, audience: str | None = None, scope: str | Iterable[str] | None = None) -> Client:
        """The same client for another audience and other scopes, with the same credentials and settings. What is not given is
        not asked for, whatever this one asks for. It has a token of its own, and is closed with this one. The 64 used last are
        kept up.
        """
        made = Client.__new__(Client)
        made._kept = self._kept
        audience = None if audience is None else text("audience", audience)
        made._open_like(self, audience, [] if scope is None else words("scope", scope))
        return made

    def status(self) -> Status:
        """How it stands: state, expiry, next attempt, last failure."""
        return status(self._status())

    def events(self) -> Events:
        """What happens from now on."""
        return Events(self._events())

    def close(self) -> None:
        """Ends the renewal, for all clients that ``with_()`` made of this one as well, and forgets the tokens: every read is a
        ``ClosedError`` from now on. With ``revoke_on_shutdown`` it revokes them too, which is tried for ``token_timeout`` at
        most. A revocation that fails is logged as a warning and raises nothing, since the client is closed all the same.

        In the child of a fork it closes no other client that was inherited, and revokes no token that was: that is its
        parent's.
        """
        _warn_of(self._close())

    async def aclose(self) -> None:
        """``close()`` for asyncio."""
        _warn_of(await waited(self._wait_close))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._described()}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} cannot be copied or pickled: it holds a secret and a renewal that runs; make one in each "
            "process (a forked child may go on with its parent's)"
        )


def _warn_of(failed_revocation: Exception | None) -> None:
    # Whatever a filter of the program's raises, it must not get in the way of a shutdown.
    with suppress(Exception):
        if failed_revocation is not None:
            _log.warning("%s", failed_revocation)
