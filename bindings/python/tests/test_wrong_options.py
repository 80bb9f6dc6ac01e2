"""Wrong options: each is an error of a documented class that names the option, and the one that was probably meant."""

from __future__ import annotations

import inspect
import math
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from evertoken import Client, ConfigurationError, Dpop, EvertokenError, Preset, PrivateKeyJwt, RenewalPolicy, SecretJwt
from evertoken._options import Options
from evertoken.testing import AuthServer, fixed_client
from house import until

URL = "https://as.example/token"
SECRET = "s3cret-c4nary"

TEXTS = ("issuer", "token_url", "audience", "base_url", "user_agent", "proxy", "revocation_url")
LISTS = ("resource", "scope", "trusted_origins")
FLAGS = ("file_readable_by_others", "allow_insecure_http", "revoke_on_shutdown")
TIMES = ("token_timeout", "connect_timeout")
POLICY_TIMES = ("leeway", "backoff_base", "backoff_cap", "request_timeout")


class Unfloatable:
    def __float__(self) -> float:
        raise TypeError(SECRET)


def of(*values: Any) -> tuple[Any, ...]:
    return values


def wrong_types() -> list[tuple[str, Any]]:
    """Values of a wrong type for each option."""
    cases: list[tuple[str, Any]] = []
    for name in (*TEXTS, "next_app_secret"):
        cases += [(name, value) for value in of(5, 5.0, True, b"bytes", bytearray(b"x"), ["https://as.example"], ("a",), {}, str)]
    for name in LISTS:
        cases += [(name, value) for value in of(5, True, b"bytes", [b"bytes"], ["a", 5], [None], {"a": "b"}, Path("/a"), [["a"]])]
    for name in FLAGS:
        cases += [(name, value) for value in of(0, 1, "yes", "false", 1.0, [], b"1")]
    for name in TIMES:
        cases += [(name, value) for value in of("10", b"10", True, False, [10], {}, 1j, Unfloatable())]
    cases += [
        ("token_params", value) for value in of(5, "a=b", [("a", "b")], {"a": 5}, {5: "b"}, {"a": None}, {"a": ["b"]}, True)
    ]
    cases += [("client_auth", value) for value in of(5, True, b"client_secret_basic", ("app", SECRET), PrivateKeyJwt, SecretJwt)]
    cases += [("dpop", value) for value in of(True, "ES256", Dpop, 5, SecretJwt())]
    cases += [("renewal", value) for value in of(0.5, {"renew_at": 0.5}, RenewalPolicy, "default", True)]
    cases += [("ca", value) for value in of(5, True, [5], {"a": "b"}, ["/a.pem", None], True)]
    cases += [("cert", value) for value in of(5, True, ("cert.pem", "key.pem"), ["cert.pem"])]
    return cases


def wrong_policies() -> list[tuple[str, Any]]:
    """Values of a wrong type for each field of a policy."""
    cases: list[tuple[str, Any]] = [(name, value) for name in POLICY_TIMES for value in of("10", True, b"10", [1])]
    cases += [(name, value) for name in ("renew_at", "jitter") for value in of("0.5", True, timedelta(1), [0.5])]
    return cases + [("stop_after_unused", value) for value in of(1.0, "1", True, timedelta(1))]


def wrong_values() -> list[tuple[str, Any]]:
    """Values of the right type that cannot be meant."""
    numbers = (
        -1,
        -0.001,
        math.nan,
        math.inf,
        -math.inf,
        1e300,
        10**400,
        -(10**400),
        sys.maxsize,
        Decimal("NaN"),
        Fraction(-1, 2),
    )
    cases: list[tuple[str, Any]] = [(name, value) for name in (*TIMES, *POLICY_TIMES) for value in numbers]
    cases += [(name, timedelta(seconds=-1)) for name in (*TIMES, *POLICY_TIMES)]
    cases += [(name, 0) for name in ("connect_timeout", "backoff_base", "request_timeout")]
    cases += [("renew_at", value) for value in of(0, -1, 1.1, math.nan, math.inf, 10**400)]
    cases += [("jitter", value) for value in of(-0.1, 1, math.nan, math.inf, -(10**400))]
    cases += [("stop_after_unused", value) for value in of(0, -1, 2**32, 10**30)]
    cases += [(name, f"\ud800{SECRET}") for name in (*TEXTS, "next_app_secret")]
    cases += [(name, ["a", f"\udfff{SECRET}"]) for name in LISTS]
    return cases


def made(name: str, value: object, **more: Any) -> None:
    policy = name in (*POLICY_TIMES, "renew_at", "jitter", "stop_after_unused")
    given: dict[str, Any] = {name: value}
    option: Any = {"renewal": RenewalPolicy(**given)} if policy else given
    base = {} if name in ("issuer", "token_url") else {"token_url": URL}
    Client("app", SECRET, **{**base, **more, **option}).close()


@pytest.mark.parametrize(("name", "value"), [*wrong_types(), *wrong_policies()], ids=repr)
def test_wrong_type_is_both_a_type_error_and_a_configuration_error(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=rf"^(a name in )?{name}\b") as caught:
        made(name, value)
    assert isinstance(caught.value, TypeError)
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"


@pytest.mark.parametrize(("name", "value"), wrong_values(), ids=lambda value: repr(value)[:40])
def test_wrong_value_is_a_configuration_error(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=rf"\b{name}\b") as caught:
        made(name, value)
    assert isinstance(caught.value, ValueError)
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"


@pytest.mark.parametrize("value", [5, 0.5, Decimal("0.5"), Fraction(1, 2), timedelta(seconds=5), timedelta.max, 86_400])
def test_any_real_number_of_seconds_will_do(value: object) -> None:
    for name in (*TIMES, "leeway", "request_timeout"):
        made(name, value)


def test_the_longest_times_work(server: AuthServer) -> None:
    longest = timedelta.max
    policy = RenewalPolicy(
        leeway=longest, backoff_base=longest, backoff_cap=longest, request_timeout=longest, stop_after_unused=2**32 - 1
    )
    with server.client(token_timeout=longest, connect_timeout=longest, renewal=policy) as api:
        server.fail("status", always=True)
        api.prefetch()
        until("it failed", lambda: api.status().last_error is not None)
        server.heal()
    with server.client(token_timeout=longest, connect_timeout=longest, renewal=policy) as api:
        assert server.accepts(api.token()) and api.status().is_ready


@pytest.mark.parametrize("name", LISTS)
def test_any_iterable_of_str_will_do(name: str) -> None:
    urls = ["https://a.example", "https://b.example"]
    for value in of(urls[0], urls, tuple(urls), set(urls), iter(urls), dict.fromkeys(urls).keys()):
        made(name, value)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("isuer", "issuer"),
        ("Issuer", "issuer"),
        ("issuer_", "issuer"),
        ("audence", "audience"),
        ("client_id", "app_id"),
        ("clientId", "app_id"),
        ("client_secret", "app_secret"),
        ("scopes", "scope"),
        ("tokenUrl", "token_url"),
        ("token-url", "token_url"),
        ("token_endpoint", "token_url"),
        ("timeout", "token_timeout"),
        ("token_timout", "token_timeout"),
        ("verify", "ca"),
        ("proxies", "proxy"),
        ("trusted_origin", "trusted_origins"),
        ("leeway", r"renewal=RenewalPolicy\(leeway=…\)"),
        ("renewAt", r"renewal=RenewalPolicy\(renew_at=…\)"),
    ],
)
def test_unknown_name_points_at_the_one_that_was_meant(given: str, meant: str) -> None:
    api = fixed_client("t0ken", "https://api.example/")
    makers: list[Callable[..., Any]] = [
        lambda **options: Client("app", SECRET, token_url=URL, **options),
        lambda **options: Client.from_api_key("acme_live_004MCkrcfDv0VSKa_3E5rZZ", token_url=URL, **options),
        lambda **options: Client.from_env("ACME", **options),
        lambda **options: Preset(**options),
        lambda **options: Preset(token_url=URL).client("app", SECRET, **options),
        lambda **options: Preset(token_url=URL).from_api_key("acme_live_x", **options),
        lambda **options: Preset(token_url=URL).from_env(**options),
        lambda **options: AuthServer().client(**options),
    ]
    for index, make in enumerate(makers):
        with pytest.raises(ConfigurationError) as caught:
            make(**{given: "x"})
        assert isinstance(caught.value, TypeError) and f"no option {given!r}" in str(caught.value)
        # A preset has no credentials, and a key or the environment has both.
        if meant not in ("app_id", "app_secret") or index in (0, 4):
            assert caught.match(f"did you mean {meant}\\?")
    with pytest.raises(ConfigurationError, match="no option"):
        api.with_(**{given: "x"})
    api.close()


def test_unknown_names_of_other_callables() -> None:
    wrong: dict[str, Any] = {"scopes": "read"}
    with pytest.raises(ConfigurationError, match="'scopes': did you mean scope"):
        fixed_client("t0ken", "https://api.example/").with_(**wrong)
    wrong = {"renew_ta": 0.5}
    with pytest.raises(ConfigurationError, match="'renew_ta': did you mean renew_at"):
        RenewalPolicy(**wrong)
    wrong = {"zzzzzzzz": 1}
    with pytest.raises(ConfigurationError, match=r"no option 'zzzzzzzz'$"):
        Client("app", SECRET, token_url=URL, **wrong)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("basic", "'client_secret_basic'"),
        ("post", "'client_secret_post'"),
        ("client-secret-post", "'client_secret_post'"),
        ("CLIENT_SECRET_BASIC", "'client_secret_basic'"),
        ("client_secret_basik", "'client_secret_basic'"),
        ("private_key_jwt", r"PrivateKeyJwt\(key\)"),
        ("mtls", "'tls_client_auth'"),
    ],
)
def test_unknown_client_auth_points_at_the_one_that_was_meant(given: str, meant: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^client_auth must be .*did you mean {meant}"):
        Client("app", "s", token_url=URL, client_auth=given)


def test_unknown_client_auth_is_not_quoted() -> None:
    with pytest.raises(ConfigurationError, match="client_auth") as caught:
        Client("app", "s", token_url=URL, client_auth=SECRET)
    assert SECRET not in str(caught.value)


def test_wrong_keys_and_algorithms_are_configuration_errors() -> None:
    def sign(message: bytes) -> bytes:
        return message

    wrong: dict[str, Callable[[], object]] = {
        "algorithm": lambda: PrivateKeyJwt(signer=sign, algorithm="HS256"),  # type: ignore[arg-type]
        "audience": lambda: PrivateKeyJwt(signer=sign, algorithm="ES256", audience="mine"),  # type: ignore[arg-type]
        "HS256": lambda: SecretJwt(algorithm="RS256"),  # type: ignore[arg-type]
        "private_key": lambda: PrivateKeyJwt(7),  # type: ignore[arg-type]
    }
    for name, make in wrong.items():
        with pytest.raises(ConfigurationError, match=name):
            make()


@pytest.mark.parametrize("value", [5, b"app", True, ["app"], object(), "\ud800"], ids=repr)
def test_wrong_credentials_are_named(value: Any, tmp_path: Path) -> None:
    calls: dict[str, Callable[[], Any]] = {
        "app_id": lambda: Client(value, SECRET, token_url=URL),
        "app_secret": lambda: Client("app", value, token_url=URL),
        "api_key": lambda: Client.from_api_key(value, token_url=URL),
        "credentials_env": lambda: Client(credentials_env=value, token_url=URL),
        "prefix": lambda: Client.from_env(value, token_url=URL),
        "env_prefix": lambda: Preset(env_prefix=value),
        "key_prefix": lambda: Preset(key_prefix=value),
    }
    if value != "\ud800":
        calls["credentials_file"] = lambda: Client(credentials_file=value, token_url=URL)
        calls["credentials"] = lambda: Client(credentials=value, token_url=URL)
    preset = Preset(token_url=URL, key_prefix="acme_live")
    for name, call in calls.items():
        with pytest.raises(ConfigurationError, match=rf"^{name}\b"):
            call()
    for name, call in {
        "app_id": lambda: preset.client(value, SECRET),
        "app_secret": lambda: preset.client("app", value),
        "api_key": lambda: preset.from_api_key(value),
    }.items():
        with pytest.raises(ConfigurationError, match=rf"^{name}\b"):
            call()


def test_a_source_of_credentials_is_needed_and_one_only() -> None:
    def give() -> tuple[str, str]:
        return "app", SECRET

    for named, options in (
        ("none is given", {}),
        ("none is given", {"app_secret": SECRET}),
        ("api_key, credentials_env are given", {"api_key": SECRET, "credentials_env": "ACME"}),
        ("app_id, credentials are given", {"app_id": "app", "credentials": give}),
        ("app_secret is given beside api_key", {"api_key": SECRET, "app_secret": SECRET}),
        ("next_app_secret is given beside credentials", {"credentials": give, "next_app_secret": SECRET}),
    ):
        wrong: dict[str, Any] = options
        with pytest.raises(ConfigurationError, match=f"app_id and app_secret.*{named}") as caught:
            Client(token_url=URL, **wrong)
        assert isinstance(caught.value, TypeError) and SECRET not in str(caught.value)


def test_a_preset_says_at_once_what_is_wrong_with_it() -> None:
    for name, value in (("audience", 5), ("token_timeout", "10"), ("scope", [5]), ("renewal", RenewalPolicy(leeway=-1))):
        wrong: dict[str, Any] = {name: value}
        with pytest.raises(ConfigurationError, match="leeway" if name == "renewal" else name):
            Preset(token_url=URL, **wrong)


def test_a_preset_keeps_what_it_was_given(server: AuthServer) -> None:
    """Neither a generator that is used up by the first client, nor a list that is changed later."""
    scopes = ["read"]
    once: Any = (scope for scope in ("read",))
    presets = [Preset(issuer=server.issuer, scope=given) for given in (once, scopes)]
    scopes[0] = "write"
    for preset in presets:
        for _ in range(2):
            with preset.client("app", "secret") as api:
                api.token()
                assert api.status().scope == "read"


@pytest.mark.parametrize("value", [5, b"GET", None, ["GET"], "\ud800"], ids=repr)
def test_wrong_arguments_of_methods_are_named(value: Any) -> None:
    api = fixed_client("t0ken", "https://api.example/")
    calls: dict[str, Callable[[], object]] = {
        "method": lambda: api.headers(value, "https://api.example/"),
        "url": lambda: api.headers("GET", value),
        "token": lambda: api.invalidate(value),
        "app_id": lambda: api.set_credentials(value, SECRET),
        "app_secret": lambda: api.set_credentials("app", value),
    }
    if value is not None:
        calls["audience"] = lambda: api.with_(audience=value)
    if value is not None and value != ["GET"]:
        calls["scope"] = lambda: api.with_(scope=value)
    for name, call in calls.items():
        with pytest.raises(ConfigurationError, match=rf"^{name}\b") as caught:
            call()
        assert isinstance(caught.value, TypeError) or value == "\ud800"
    for name, method, url in (("method", "no method", "https://api.example/"), ("url", "GET", "/orders")):
        with pytest.raises(ConfigurationError, match=rf"^{name}\b"):
            api.headers(method, url)
    api.close()


def test_signatures_show_the_options() -> None:
    options = list(Options.__annotations__)
    for function, leading in (
        (Client, ["app_id", "app_secret"]),
        (Client.__init__, ["self", "app_id", "app_secret"]),
        (Client.from_env, ["prefix"]),
        (Preset, ["key_prefix", "env_prefix"]),
        (Preset.client, ["self", "app_id", "app_secret"]),
        (Preset.from_env, ["self"]),
    ):
        parameters = inspect.signature(function).parameters
        assert list(parameters) == [*leading, *options]
        for name in options:
            assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
            assert parameters[name].annotation == getattr(Options.__annotations__[name], "__forward_arg__", "")
            assert parameters[name].default in (None, False)
    assert list(inspect.signature(Client.from_api_key).parameters) == [
        "api_key",
        *(name for name in options if name != "api_key"),
    ]
    assert list(inspect.signature(Client.with_).parameters) == ["self", "audience", "scope"]
    assert "leeway" in inspect.signature(RenewalPolicy).parameters


def test_a_subclass_has_the_signature_that_it_gives_itself() -> None:
    class Acme(Client):
        def __init__(self, key: str) -> None:
            super().__init__(api_key=key, token_url=URL)

    class Same(Client):
        pass

    assert list(inspect.signature(Acme).parameters) == ["key"]
    assert inspect.signature(Same) == inspect.signature(Client)


def test_each_option_is_checked_and_described() -> None:
    from evertoken._checks import OPTIONS

    assert list(OPTIONS) == list(Options.__annotations__)
    for name in OPTIONS:
        assert f"``{name}``" in str(Client.__doc__), name


def test_errors_of_wrong_options_keep_no_frame_that_holds_the_secret() -> None:
    wrong: dict[str, Any] = {"audience": 5}
    makers: list[Callable[[], object]] = [
        lambda: Client("app", SECRET, token_url=URL, **wrong),
        lambda: Client("app", SECRET, isuer=URL),  # type: ignore[call-arg]
        lambda: Client("app", SECRET, token_url="http://as.example"),
        lambda: Preset(token_url=URL).client("app", SECRET, **wrong),
    ]
    for make in makers:
        with pytest.raises(EvertokenError) as caught:
            make()
        inside = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
        ours = [frame for frame in inside if "evertoken" in frame.f_code.co_filename and "tests" not in frame.f_code.co_filename]
        assert ours and all(SECRET not in repr(frame.f_locals) for frame in ours)
