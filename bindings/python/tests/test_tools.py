from __future__ import annotations

import pytest
from evertoken import HttpxAuth
from evertoken.__main__ import main
from evertoken.testing import APP_ID, APP_SECRET, AuthServer, fixed_client
from httpx import Client as HttpClient


@pytest.fixture
def environment(server: AuthServer, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in {"APP_ID": APP_ID, "APP_SECRET": APP_SECRET, "ISSUER": server.issuer}.items():
        monkeypatch.setenv(f"EVERTOKEN_{name}", value)
    return monkeypatch


def test_check_tells_that_all_is_well(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 0
    assert "all is well" in capsys.readouterr().out


def test_check_tells_what_is_wrong(environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    environment.setenv("EVERTOKEN_APP_SECRET", "wr0ng-c4nary")
    assert main(["check"]) == 1
    said = capsys.readouterr().out
    assert "invalid_client" in said and "wr0ng-c4nary" not in said
    environment.delenv("EVERTOKEN_APP_ID")
    assert main(["check"]) == 1
    assert "EVERTOKEN_APP_ID" in capsys.readouterr().out


def test_a_fixed_client_asks_nobody(server: AuthServer) -> None:
    with fixed_client("t0ken", server.api_url) as api, HttpClient(auth=HttpxAuth(api)) as http:
        assert api.token() == "t0ken"
        assert http.get(f"{server.api_url}orders").status_code == 401
        assert api.token() == "t0ken"
    assert server.token_requests == 0
