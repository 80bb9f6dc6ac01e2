"""The README's code runs, and its recipes do what they say."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import evertoken
import google.auth.credentials
import pytest
from azure.core.credentials import TokenCredential
from azure.core.pipeline import Pipeline
from azure.core.pipeline.policies import BearerTokenCredentialPolicy
from azure.core.pipeline.transport import HttpRequest, RequestsTransport
from evertoken.testing import AuthServer
from google.auth.transport.requests import AuthorizedSession

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python ?(.*?)\n(.*?)```", README, re.S)


def recipe(name: str) -> dict[str, Any]:
    [code] = [code for info, code in BLOCKS if info == f"recipe={name}"]
    namespace: dict[str, Any] = {"__name__": name}
    exec(compile(code, "README.md", "exec"), namespace)
    return namespace


def test_the_first_code_runs(capsys: pytest.CaptureFixture[str]) -> None:
    [code] = [code for info, code in BLOCKS if info == ""]
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out == "200\n"


def test_the_code_in_the_crates_readme_runs(
    server: AuthServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [code] = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[3] / "README.md").read_text(), re.S)
    for name, value in {"APP_ID": "app", "APP_SECRET": "secret", "ISSUER": server.issuer, "BASE_URL": server.api_url}.items():
        monkeypatch.setenv(f"EVERTOKEN_{name}", value)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out == "200\n"


def test_what_is_not_run_is_code_at_least() -> None:
    for info, code in BLOCKS:
        compile(code, info, "exec")
    assert {info for info, _ in BLOCKS} == {"", "no-run", "recipe=azure", "recipe=google", "recipe=preset", "recipe=fixtures"}


def test_the_recipe_for_azure(server: AuthServer) -> None:
    with server.client() as api:
        credential = recipe("azure")["EvertokenCredential"](api)
        assert isinstance(credential, TokenCredential)
        given = credential.get_token()
        left = api.status().expires_in
        assert given.token == api.token() and left is not None
        assert abs(given.expires_on - time.time() - left.total_seconds()) < 60
        scoped = credential.get_token("https://other.example/.default").token
        assert scoped != given.token and credential.get_token("https://other.example/.default").token == scoped
        # Azure's own pipeline takes it; it insists on https.
        policy = BearerTokenCredentialPolicy(credential, "https://other.example/.default")
        with Pipeline(RequestsTransport(), [policy]) as pipeline:
            answer = pipeline.run(HttpRequest("GET", f"{server.api_url}orders"), enforce_https=False)
        assert answer.http_response.status_code == 200
    assert server.token_requests == 2


def test_the_recipe_for_azure_asks_for_the_audience_that_it_is_given(server: AuthServer) -> None:
    with server.client(audience="https://other.example") as api:
        other = recipe("azure")["EvertokenCredential"](api, audience="https://other.example")
        ours = recipe("azure")["EvertokenCredential"](api, audience=server.audience)
        assert not server.accepts(other.get_token("read").token)
        assert server.accepts(ours.get_token("read").token)


def test_the_recipe_for_google(server: AuthServer) -> None:
    with server.client() as api:
        credentials = recipe("google")["EvertokenCredentials"](api)
        assert isinstance(credentials, google.auth.credentials.Credentials)
        session: Any = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
        with session:
            assert session.get(f"{server.api_url}orders").status_code == 200
            server.revoke(api.token())
            assert session.get(f"{server.api_url}orders").status_code == 200
    assert server.token_requests == 2


def test_the_recipe_for_an_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe("preset")
    audience = "https://api.acme.com"
    with AuthServer(audience=audience) as server, made["ACME"].client("app", "secret", token_url=server.token_url) as api:
        assert server.accepts(api.token())
        assert api.headers("GET", "https://api.acme.com/v1/orders")
    with made["AcmeClient"]("app", "secret") as api:
        assert isinstance(api, evertoken.Client) and "acme.eu.auth0.com" in repr(api)
    with made["AcmeClient"].from_api_key("acme_live_006w3nw3huF3suq3Qy_0X7tmn") as api:
        assert "acme.eu.auth0.com" in repr(api) and api._base_url() == "https://api.acme.com/v1/"
    monkeypatch.setenv("ACME_APP_ID", "app")
    monkeypatch.setenv("ACME_APP_SECRET", "secret")
    with made["AcmeClient"].from_env("ACME", token_url="https://as.example/token") as api:
        assert "as.example" in repr(api)


def test_the_recipe_for_tests(tmp_path: Path) -> None:
    [code] = [code for info, code in BLOCKS if info == "recipe=fixtures"]
    (tmp_path / "test_it.py").write_text(code)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "1 passed" in done.stdout and done.returncode == 0, done.stdout


def test_links_lead_somewhere() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lower()).strip().replace(" ", "-") for line in re.findall(r"^#+ (.*)", README, re.M)
    }
    for link in re.findall(r"\]\((?!https?:)(.*?)\)", README):
        if link.startswith("#"):
            assert link[1:] in headings, link
        else:
            assert (Path(__file__).parent.parent / link).exists(), link


def test_every_name_is_told_of() -> None:
    for name in evertoken.__all__:
        assert name.startswith("__") or name in README or name in ("Event", "Events", "Quota", "Status"), name
    for name in vars(evertoken.Client):
        if not name.startswith("_"):
            assert f"{name}(" in README, name
