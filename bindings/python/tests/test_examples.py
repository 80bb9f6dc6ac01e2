"""The examples, run as their readers would run them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from evertoken.testing import APP_ID, APP_SECRET, AuthServer
from house import PATIENCE, until

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def environment(server: AuthServer) -> dict[str, str]:
    ours = {"APP_ID": APP_ID, "APP_SECRET": APP_SECRET, "ISSUER": server.issuer, "BASE_URL": server.api_url}
    return {**os.environ, **{f"EVERTOKEN_{name}": value for name, value in ours.items()}, "PYTHONDONTWRITEBYTECODE": "1"}


def run(name: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, name]
    return subprocess.run(command, cwd=EXAMPLES, env=environment, capture_output=True, text=True, timeout=PATIENCE)


def test_the_script(server: AuthServer, environment: dict[str, str]) -> None:
    done = run("script.py", environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "order 0: 200\norder 1: 200\norder 2: 200\n", "")
    assert (server.token_requests, server.api_calls) == (1, 3)
    done = run("script.py", {**environment, "EVERTOKEN_APP_SECRET": "wr0ng"})
    assert done.returncode == 1 and "invalid_client" in done.stderr and "wr0ng" not in done.stderr


def test_the_worker(server: AuthServer, environment: dict[str, str]) -> None:
    done = run("worker.py", environment)
    assert done.returncode == 0 and done.stdout.startswith("30 jobs, statuses [200], done by "), done
    assert (server.token_requests, server.api_calls) == (1, 30)


def test_the_tests() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "filterwarnings=default", "test_orders.py"]
    done = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, timeout=4 * PATIENCE)
    assert done.returncode == 0 and "6 passed" in done.stdout, done.stdout


@pytest.fixture
def service(server: AuthServer, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.delitem(sys.modules, "service", raising=False)
    import service

    yield service
    service.http.close()
    service.api.close()
    del sys.modules["service"]


def test_the_service(server: AuthServer, service: object) -> None:
    client = service.app.test_client()  # type: ignore[attr-defined]
    server.outage()
    assert client.get("/ready").status_code == 503
    answer = client.get("/orders/7")
    assert answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0
    assert server.issuer not in answer.text
    server.recover()
    until("it is ready", lambda: client.get("/ready").status_code == 200)
    assert client.get("/orders/7").json["status"] == 200


def test_gunicorn_with_preload_and_four_workers(server: AuthServer, environment: dict[str, str], tmp_path: Path) -> None:
    """Through three lifetimes and one worker killed, every call is served, and nobody storms the token endpoint."""
    server.set_lifetime(4)
    log = tmp_path / "log"
    began = time.monotonic()
    command = [sys.executable, "-m", "gunicorn", "--config", "gunicorn_conf.py", "--bind", "127.0.0.1:0", "service:app"]
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=EXAMPLES, env=environment, stdout=output, stderr=output)
    try:
        until("it listens", lambda: "Booting worker" in log.read_text())
        found = re.search(r"Listening at: (http://\S+)", log.read_text())
        assert found is not None
        seen: set[int] = set()

        def call() -> None:
            # A connection for each call, so that it goes to whichever worker is free.
            answer = httpx.get(f"{found[1]}/orders/1", timeout=PATIENCE)
            assert answer.status_code == 200, (answer.text, log.read_text())
            seen.add(answer.json()["process"])

        call()
        assert server.token_requests == 1, "the workers inherit what the parent fetched"
        until("all have served", lambda: call() or len(seen) == 4)  # type: ignore[func-returns-value]
        os.kill(min(seen), signal.SIGKILL)
        end = time.monotonic() + 12
        while time.monotonic() < end:
            call()
            time.sleep(0.02)
        until("another takes the place of the dead", lambda: call() or len(seen) >= 5)  # type: ignore[func-returns-value]
        # Six processes at most, of which each renews at most once in 0.4 of a lifetime.
        assert server.token_requests <= 6 * ((time.monotonic() - began) / (4 * 0.4) + 2)
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0, log.read_text()
    assert "Traceback" not in log.read_text()
