"""What a client may be told: each option has its effect on the wire, and what is wrong with one is told by its name."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import evertoken
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from evertoken import Client, ConfigurationError, Dpop, PrivateKeyJwt, RenewalPolicy, SecretJwt
from evertoken.testing import APP_ID, APP_SECRET, AuthServer
from house import until, until_it_failed


class TokenServer:
    """A token endpoint that remembers what it was asked, and answers with ``answer``."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[tuple[dict[str, list[str]], dict[str, str]]] = []
        self.certificates: list[object] = []
        self.answer: dict[str, object] = {"access_token": "t0ken", "token_type": "Bearer", "expires_in": 600}
        this = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                fields = {name.lower(): value for name, value in self.headers.items()}
                if isinstance(self.connection, ssl.SSLSocket):
                    this.certificates.append(self.connection.getpeercert(binary_form=True))
                this.asked.append((parse_qs(body), {**fields, ":path": self.path}))
                text = json.dumps(this.answer).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that does not trust us

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self._server.server_port
        self.url = f"http{'s' if tls else ''}://localhost:{self.port}/token"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def endpoint() -> Iterator[TokenServer]:
    server = TokenServer()
    yield server
    server.stop()


def asked(endpoint: TokenServer, *credentials: str, **options: Any) -> tuple[dict[str, list[str]], dict[str, str]]:
    with Client(*(credentials or ("app", "s3cret")), token_url=endpoint.url, **options) as api:
        assert api.token() == "t0ken"
    return endpoint.asked[-1]


def test_what_is_asked_for(endpoint: TokenServer) -> None:
    form, _ = asked(
        endpoint,
        audience="https://api.acme.com",
        resource=["https://one.example", "https://two.example"],
        scope=["read", "write all"],
        token_params={"tenant": "seven"},
    )
    assert form == {
        "grant_type": ["client_credentials"],
        "audience": ["https://api.acme.com"],
        "resource": ["https://one.example", "https://two.example"],
        "scope": ["read write all"],
        "tenant": ["seven"],
    }
    form, fields = asked(endpoint, resource="https://one.example", scope="read", user_agent="acme-sdk/1.2")
    assert (form["resource"], form["scope"]) == (["https://one.example"], ["read"])
    assert fields["user-agent"].startswith("acme-sdk/1.2 evertoken/")


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def test_secrets_by_each_method(endpoint: TokenServer) -> None:
    _, fields = asked(endpoint, "a p", "s:s", client_auth="client_secret_basic")
    assert fields["authorization"] == basic("a%20p:s%3As")
    _, fields = asked(endpoint, "a p", "s:s", client_auth="client_secret_basic_raw")
    assert fields["authorization"] == basic("a p:s:s")
    form, fields = asked(endpoint, "a p", "s:s", client_auth="client_secret_post")
    assert (form["client_id"], form["client_secret"], "authorization" in fields) == (["a p"], ["s:s"], False)
    for method, algorithm in (("client_secret_jwt", "HS256"), (SecretJwt(algorithm="HS512"), "HS512")):
        form, _ = asked(endpoint, "app", "s" * 64, client_auth=method)
        head, claims, _ = parts(form)
        assert (head["alg"], claims["aud"], claims["sub"]) == (algorithm, endpoint.url, "app")


def parts(form: dict[str, list[str]]) -> tuple[dict[str, Any], dict[str, Any], tuple[bytes, bytes]]:
    """Head and claims of the assertion, and what is signed with its signature."""
    assert form["client_assertion_type"] == ["urn:ietf:params:oauth:client-assertion-type:jwt-bearer"]
    [assertion] = form["client_assertion"]
    raw = [base64.urlsafe_b64decode(part + "==") for part in assertion.split(".")]
    return json.loads(raw[0]), json.loads(raw[1]), (assertion.rpartition(".")[0].encode(), raw[2])


PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER
PKCS8, BARE = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
EC = ec.generate_private_key(ec.SECP256R1())


def test_private_keys_in_every_form(endpoint: TokenServer, tmp_path: Path) -> None:
    pem = EC.private_bytes(PEM, PKCS8, BARE)
    file = tmp_path / "key.pem"
    file.write_bytes(pem)
    numbers = EC.private_numbers()
    coordinates = {"x": numbers.public_numbers.x, "y": numbers.public_numbers.y, "d": numbers.private_value}
    encoded = {
        name: base64.urlsafe_b64encode(value.to_bytes(32, "big")).decode().rstrip("=") for name, value in coordinates.items()
    }
    jwk = json.dumps({"kty": "EC", "crv": "P-256", **encoded})
    for given in (EC, pem, pem.decode(), file, str(file), EC.private_bytes(DER, PKCS8, BARE), jwk):
        form, fields = asked(endpoint, "app", client_auth=PrivateKeyJwt(given, key_id="kid-1"))
        head, claims, (signed, signature) = parts(form)
        assert (head["alg"], head["kid"]) == ("ES256", "kid-1")
        assert (claims["iss"], claims["sub"], claims["aud"]) == ("app", "app", endpoint.url)
        assert "authorization" not in fields and "client_secret" not in form
        r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        EC.public_key().verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))


def test_keys_of_cryptography_of_other_kinds(endpoint: TokenServer) -> None:
    ed = ed25519.Ed25519PrivateKey.generate()
    head, _, (signed, signature) = parts(asked(endpoint, "app", client_auth=PrivateKeyJwt(ed))[0])
    assert head["alg"] == "EdDSA"
    ed.public_key().verify(signature, signed)
    key = rsa.generate_private_key(65537, 2048)
    head, _, (signed, signature) = parts(asked(endpoint, "app", client_auth=PrivateKeyJwt(key))[0])
    assert head["alg"] == "RS256"
    key.public_key().verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_function_that_signs(endpoint: TokenServer, kind: str) -> None:
    threads: set[str] = set()

    def sign(message: bytes) -> bytes:
        threads.add(threading.current_thread().name)
        r, s = decode_dss_signature(EC.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    async def sign_async(message: bytes) -> bytes:
        return sign(message)

    signer: Any = sign if kind == "sync" else sign_async
    form, _ = asked(endpoint, "app", client_auth=PrivateKeyJwt(signer=signer, algorithm="ES256", key_id="kms-1"))
    head, _, (signed, signature) = parts(form)
    assert (head["alg"], head["kid"]) == ("ES256", "kms-1")
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    EC.public_key().verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
    assert threads == {"evertoken-python"}


def test_a_function_that_does_not_sign(endpoint: TokenServer) -> None:
    def sign(message: bytes) -> bytes:
        raise ConnectionError("the KMS said s3cret-c4nary")

    auth = PrivateKeyJwt(signer=sign, algorithm="ES256")
    with Client("app", client_auth=auth, token_url=endpoint.url, token_timeout=0.5) as api:
        until_it_failed(api)
        with pytest.raises(evertoken.CredentialsUnavailableError, match="ConnectionError") as caught:
            api.token()
        assert "c4nary" not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_dpop_with_a_key_of_ones_own(endpoint: TokenServer) -> None:
    endpoint.answer["token_type"] = "DPoP"
    _, fields = asked(endpoint, dpop=Dpop(EC))
    jwk = json.loads(base64.urlsafe_b64decode(fields["dpop"].split(".")[0] + "=="))["jwk"]
    assert int.from_bytes(base64.urlsafe_b64decode(jwk["x"] + "="), "big") == EC.public_key().public_numbers().x
    with Client("app", "s", token_url=endpoint.url, dpop=Dpop()) as api:
        assert api.token() == "t0ken"
        with pytest.raises(evertoken.ConfigurationError, match="headers"):
            api.authorization()
        with pytest.raises(evertoken.UntrustedOriginError):
            api.headers("GET", "https://api.acme.com/")


def authority(*, usage: x509.Certificate | None = None) -> tuple[bytes, bytes, x509.Certificate]:
    """A certificate for localhost that is its own authority, and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
    builder = builder.not_valid_after(now + timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    return certificate.public_bytes(PEM), key.private_bytes(PEM, PKCS8, BARE), certificate


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[TokenServer, Path]]:
    """An endpoint over TLS that asks for client certificates, and the file of its authority."""
    certificate, key, _ = authority()
    (tmp_path / "ca.crt").write_bytes(certificate)
    (tmp_path / "server.pem").write_bytes(certificate + key)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "server.pem")
    tls.load_verify_locations(tmp_path / "ca.crt")
    tls.verify_mode = ssl.CERT_OPTIONAL
    server = TokenServer(tls)
    yield server, tmp_path
    server.stop()


def test_authorities_of_ones_own(secure: tuple[TokenServer, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    server, folder = secure
    ca = folder / "ca.crt"
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(variable, raising=False)
    with Client("app", "s", token_url=server.url, token_timeout=2) as stranger:
        until_it_failed(stranger)
        with pytest.raises(evertoken.AuthServerUnavailableError):
            stranger.token()
    for given in (ca, str(ca), ca.read_bytes(), ca.read_text(), [ca, ca.read_bytes()]):
        asked(server, ca=given)
    folder_of_authorities = folder / "authorities"
    folder_of_authorities.mkdir()
    (folder_of_authorities / "one.crt").write_bytes(ca.read_bytes())
    (folder_of_authorities / "README").write_text("no certificate")
    for variable, path in (("REQUESTS_CA_BUNDLE", ca), ("CURL_CA_BUNDLE", ca), ("CURL_CA_BUNDLE", folder_of_authorities)):
        monkeypatch.setenv(variable, str(path))
        asked(server)
        monkeypatch.delenv(variable)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    with pytest.raises(evertoken.ConfigurationError, match=r"REQUESTS_CA_BUNDLE.*nowhere"):
        Client("app", "s", token_url=server.url)


def test_a_certificate_in_the_place_of_the_secret(secure: tuple[TokenServer, Path]) -> None:
    server, folder = secure
    pair = folder / "server.pem"
    for given in (pair, pair.read_bytes(), pair.read_text()):
        form, fields = asked(server, "app", ca=folder / "ca.crt", cert=given, client_auth="tls_client_auth")
        assert form["client_id"] == ["app"] and "authorization" not in fields and server.certificates[-1] is not None
    asked(server, "app", ca=folder / "ca.crt", cert=pair, client_auth="self_signed_tls_client_auth")
    asked(server, ca=folder / "ca.crt")
    assert server.certificates[-1] is None


def test_a_proxy(endpoint: TokenServer) -> None:
    url, proxy = "http://as.example/token", f"http://localhost:{endpoint.port}"
    with Client("app", "s", token_url=url, allow_insecure_http=True, proxy=proxy) as api:
        assert api.token() == "t0ken"
    assert endpoint.asked[-1][1][":path"] == url


def test_plain_http_on_loopback_bypasses_the_proxy(endpoint: TokenServer) -> None:
    with Client("app", "s", token_url=endpoint.url, proxy="http://127.0.0.1:9") as api:
        assert api.token() == "t0ken"


def test_credentials_from_a_file_that_changes(server: AuthServer, tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    file.write_text(json.dumps({"app_id": APP_ID, "app_secret": APP_SECRET}))
    file.chmod(0o644)
    with pytest.raises(evertoken.ConfigurationError, match="chmod 600"):
        Client(credentials_file=file, issuer=server.issuer)
    Client(credentials_file=file, file_readable_by_others=True, issuer=server.issuer).close()
    file.chmod(0o600)
    with Client(credentials_file=file, issuer=server.issuer) as api:
        events = api.events()
        api.token()
        server.rotate(APP_ID, "new")
        file.write_text(json.dumps({"app_id": APP_ID, "app_secret": "new"}))
        assert next(event.kind for event in events if event.kind == "credentials_rotated")
        api.invalidate(api.token())
        until("it is renewed", lambda: server.token_requests >= 2 and api.current_token() is not None)


def test_the_next_secret_of_a_rotation(server: AuthServer) -> None:
    with server.client(next_app_secret="n3xt") as api:
        server.rotate(APP_ID, "n3xt")
        assert server.accepts(api.token())


def test_plain_http_needs_a_word(server: AuthServer) -> None:
    with pytest.raises(evertoken.ConfigurationError, match="https"):
        Client("app", "s", token_url="http://as.example/token")
    Client("app", "s", token_url="http://as.example/token", allow_insecure_http=True).close()


def test_further_origins(server: AuthServer) -> None:
    with server.client(trusted_origins="https://files.acme.com") as api:
        assert api.headers("GET", "https://files.acme.com/x")["Authorization"] == api.authorization()
        with pytest.raises(evertoken.UntrustedOriginError):
            api.headers("GET", "https://files.acme.com:8443/x")


def test_a_policy(server: AuthServer) -> None:
    policy = RenewalPolicy(
        renew_at=0.5,
        jitter=0.0,
        leeway=timedelta(seconds=60),
        backoff_base=0.1,
        backoff_cap=timedelta(seconds=5),
        request_timeout=2,
        stop_after_unused=3,
    )
    with server.client(renewal=policy, connect_timeout=timedelta(seconds=3)) as api:
        api.token()
        status = api.status()
        assert status.next_attempt is not None and status.expires_in is not None
        assert 1795 < status.next_attempt.total_seconds() <= 1800
        assert 3535 < status.expires_in.total_seconds() <= 3540


def test_a_quota_is_told(server: AuthServer) -> None:
    server.set_quota(10, 3600)
    with server.client() as api:
        api.token()
        quota = api.status().quota
        assert quota is not None and (quota.limit, quota.remaining, quota.is_low) == (10, 9, False)
        assert quota.resets_at is not None and quota.resets_at > datetime.now(timezone.utc)
    server.set_quota(1, 3600)
    with server.client() as api:
        events = api.events()
        api.token()
        low = next(event.quota for event in events if event.kind == "quota_low")
        assert low is not None and (low.limit, low.remaining, low.is_low) == (1, 0, True)
        assert low == api.status().quota


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("next_app_secret", 1),
        ("issuer", 1),
        ("token_url", b"https://as.example"),
        ("audience", 7),
        ("resource", 7),
        ("resource", [7]),
        ("scope", 7),
        ("scope", [7]),
        ("token_params", 7),
        ("token_params", {"a": 7}),
        ("client_auth", 7),
        ("dpop", True),
        ("base_url", 7),
        ("trusted_origins", 7),
        ("allow_insecure_http", "yes"),
        ("renewal", {"renew_at": 0.5}),
        ("token_timeout", "10"),
        ("connect_timeout", "10"),
        ("user_agent", 7),
        ("proxy", 7),
        ("ca", 7),
        ("cert", 7),
        ("revoke_on_shutdown", "no"),
        ("revocation_url", 7),
        ("isuer", "https://as.example"),
    ],
)
def test_a_wrong_type_is_told_by_the_options_name(name: str, value: object) -> None:
    options: dict[str, Any] = {"token_url": "https://as.example/token", name: value}
    with pytest.raises(TypeError, match=name):
        Client("app", "s", **options)


@pytest.mark.parametrize(
    "name", ["app_id", "app_secret", "api_key", "credentials_env", "credentials_file", "app_id_file", "credentials"]
)
def test_so_is_that_of_a_credential(name: str) -> None:
    options: dict[str, Any] = {"token_url": "https://as.example/token", name: 7}
    with pytest.raises(TypeError, match=name):
        Client(**options)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"issuer": "as.example"}, "issuer"),
        ({"base_url": "http://api.example"}, "base_url"),
        ({"trusted_origins": ["https://u:p4ss@api.example"]}, "trusted_origin"),
        ({"scope": 'a"b'}, "scope"),
        ({"token_params": {"client_secret": "x"}}, "client_secret"),
        ({"renewal": RenewalPolicy(renew_at=2)}, "renew_at"),
        ({"ca": b"-----BEGIN nothing"}, "`ca`"),
        ({"cert": b"-----BEGIN nothing"}, "certificate"),
        ({"cert": "no such file s3cr3t"}, "cert"),
        ({"proxy": "p4ss"}, "proxy"),
        ({"client_auth": "private_key_jwt"}, "PrivateKeyJwt"),
        ({"client_auth": "tls_client_auth"}, "certificate"),
        ({"token_timeout": -1}, "token_timeout"),
        ({"connect_timeout": timedelta(seconds=-1)}, "connect_timeout"),
        ({"renewal": RenewalPolicy(leeway=float("nan"))}, "leeway"),
    ],
)
def test_a_wrong_value_is_told_by_the_options_name(option: dict[str, Any], said: str) -> None:
    options: dict[str, Any] = {"issuer": "https://as.example", **option}
    with pytest.raises(ValueError, match=said) as caught:
        Client("app", "s", **options)
    assert "p4ss" not in str(caught.value) and "s3cr3t" not in str(caught.value)


def test_wrong_keys_are_told_without_quoting_them() -> None:
    for given, error in ((7, TypeError), ("s3cr3t", ValueError), (b"s3cr3t", ValueError), (Path("/nowhere/k.pem"), ValueError)):
        key: Any = given
        with pytest.raises(error) as caught:
            PrivateKeyJwt(key)
        assert "s3cr3t" not in str(caught.value)
    with pytest.raises(TypeError, match="signer"):
        PrivateKeyJwt()
    with pytest.raises(TypeError, match="algorithm"):
        PrivateKeyJwt(signer=lambda message: message)
    with pytest.raises(ValueError, match="EdDSA"):
        PrivateKeyJwt(signer=lambda message: message, algorithm="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="token_endpoint"):
        PrivateKeyJwt(EC, audience="mine")  # type: ignore[arg-type]


def test_either_credentials_or_a_source_of_them() -> None:
    for options in ({}, {"api_key": "k", "credentials_env": "ACME"}):
        given: dict[str, Any] = options
        with pytest.raises(TypeError, match="app_id and app_secret"):
            Client(issuer="https://as.example", **given)


def test_an_api_key_with_a_typo_is_told_offline() -> None:
    with pytest.raises(evertoken.ConfigurationError, match="API key"):
        Client.from_api_key("acme_live_nonsense", issuer="https://as.example")


def test_a_client_that_is_part_of_what_its_function_belongs_to_can_go(server: AuthServer) -> None:
    """Its function is a method of an object that holds it: a circle, which the garbage collector must see."""
    code = """
import gc, sys, weakref
from evertoken import Client

class Service:
    def __init__(self):
        self.api = Client(credentials=self.read, issuer=sys.argv[1])

    def read(self):
        return {"app_id": "app", "app_secret": "secret"}

service = Service()
service.api.token()
gone = weakref.ref(service)
del service
gc.collect()
print(gone())
"""
    done = subprocess.run([sys.executable, "-c", code, server.issuer], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("None\n", "")


def put(folder: Path, **values: str) -> dict[str, Path]:
    files = {name: folder / name for name in values}
    for name, file in files.items():
        file.write_text(values[name])
        file.chmod(0o600)
    return files


def test_credentials_in_a_file_each(server: AuthServer, tmp_path: Path) -> None:
    files = put(tmp_path, client_id=f"{APP_ID}\n", client_secret="stale\n", next=f"{APP_SECRET}\n")
    named: dict[str, Any] = {"app_id_file": files["client_id"], "app_secret_file": files["client_secret"]}
    with Client(**named, next_app_secret_file=str(files["next"]), issuer=server.issuer) as api:
        assert server.accepts(api.token())
    with Client(**named, issuer=server.issuer) as api:
        with pytest.raises(evertoken.CredentialsRejectedError):
            api.token()
        put(tmp_path, client_secret=APP_SECRET)
        until("the file is read again", lambda: api.current_token() is not None)
    with Client(credentials_directory=tmp_path, issuer=server.issuer) as api:
        assert server.accepts(api.token())
    files["client_secret"].chmod(0o644)
    with pytest.raises(ConfigurationError, match="file_readable_by_others"):
        Client(**named, issuer=server.issuer)
    Client(**named, issuer=server.issuer, file_readable_by_others=True).close()


def test_a_file_that_comes_late_is_waited_for(server: AuthServer, tmp_path: Path) -> None:
    with Client(credentials_directory=tmp_path / "late", issuer=server.issuer) as api:
        with pytest.raises(evertoken.CredentialsUnavailableError, match="late"):
            api.token()
        (tmp_path / "late").mkdir()
        put(tmp_path / "late", app_id=APP_ID, app_secret=APP_SECRET)
        until("the files are found", lambda: api.current_token() is not None)


def test_sources_in_files_are_not_mixed(tmp_path: Path) -> None:
    file = tmp_path / "x"
    for options, said in (
        ({"app_id_file": file}, "app_id_file needs app_secret_file"),
        ({"app_secret_file": file}, "none is given"),
        ({"credentials_file": file, "credentials_directory": file}, "credentials_file, credentials_directory are given"),
        ({"credentials_file": file, "next_app_secret_file": file}, "next_app_secret_file is given beside credentials_file"),
        ({"app_id_file": file, "app_secret_file": file, "next_app_secret": "x"}, "next_app_secret is given beside app_id_file"),
    ):
        wrong: dict[str, Any] = options
        with pytest.raises(ConfigurationError, match=said):
            Client(token_url="https://as.example/token", **wrong)


def test_the_environment_says_all_that_a_deployment_needs(
    server: AuthServer, endpoint: TokenServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = put(tmp_path, client_id=APP_ID, client_secret=APP_SECRET)
    monkeypatch.setenv("ACME_APP_ID_FILE", str(files["client_id"]))
    monkeypatch.setenv("ACME_APP_SECRET_FILE", str(files["client_secret"]))
    monkeypatch.setenv("ACME_ISSUER", server.issuer)
    monkeypatch.setenv("ACME_BASE_URL", server.api_url)
    with Client.from_env("ACME") as api, evertoken.httpx_client(api) as calls:
        assert calls.get("orders").status_code == 200
    monkeypatch.delenv("ACME_ISSUER")
    monkeypatch.setenv("ACME_TOKEN_URL", endpoint.url)
    monkeypatch.setenv("ACME_RESOURCE", "https://one.example https://two.example")
    monkeypatch.setenv("ACME_CLIENT_AUTH", "client_secret_post")
    with Client.from_env("ACME") as api:
        api.token()
    form, _ = endpoint.asked[-1]
    assert form["client_secret"] == [APP_SECRET] and len(form["resource"]) == 2
    # The environment goes before a preset, and code before both.
    preset = evertoken.Preset(env_prefix="ACME", issuer=server.issuer, resource="https://preset.example", scope="preset")
    with preset.from_env(client_auth="client_secret_basic") as api:
        api.token()
    form, _ = endpoint.asked[-1]
    assert "client_secret" not in form and "https://preset.example" not in form["resource"] and form["scope"] == ["preset"]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("CLIENT_AUTH", "h1dden", "ACME_CLIENT_AUTH is not known"),
        ("CLIENT_AUTH", "private_key_jwt", "ACME_CLIENT_AUTH is private_key_jwt.*PrivateKeyJwt"),
        ("PROXY", "h1dden", "ACME_PROXY is not a URL"),
        ("ROOT_CERTIFICATE", "/h1dden", "ACME_ROOT_CERTIFICATE names a file that cannot be read"),
        ("BASE_URL", "h1dden", "ACME_BASE_URL"),
        ("APP_SECRET", "", "did you mean that by ACME_SECRET"),
    ],
)
def test_mistakes_of_the_environment_are_named_by_variables(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    for variable, right in (("APP_ID", "app"), ("APP_SECRET", "s"), ("SECRET", "h1dden"), ("TOKEN_URL", "https://as.example/t")):
        monkeypatch.setenv(f"ACME_{variable}", right)
    monkeypatch.setenv(f"ACME_{name}", value)
    with pytest.raises(ConfigurationError, match=said) as caught:
        Client.from_env("ACME")
    assert "h1dden" not in str(caught.value)
