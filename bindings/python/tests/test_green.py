"""Green threads: gevent and eventlet as their users have them, each in a process of its own, and gunicorn's gevent worker."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from evertoken.testing import AuthServer
from house import PATIENCE, until

PATCHES = {
    "gevent": "from gevent import monkey; monkey.patch_all()\nimport gevent\nspawn, sleep = gevent.spawn, gevent.sleep",
    "eventlet": "import eventlet; eventlet.monkey_patch()\nspawn, sleep = eventlet.spawn, eventlet.sleep",
}
PATCHES["eventlet's hub on asyncio"] = f"import os; os.environ['EVENTLET_HUB'] = 'asyncio'\n{PATCHES['eventlet']}"

PROGRAMS = {
    # Nothing but the hub's going on lets the wait end: the server answers only then.
    "a wait lets the hub go on": """
from evertoken import Client
from evertoken.testing import AuthServer
server = AuthServer()
server.fail("hang", always=True)
ticks = 0
def tick():
    global ticks
    while ticks < 20:
        sleep(0.01)
        ticks += 1
    server.heal()
spawn(tick)
api = Client("app", "secret", token_url=server.token_url, renewal=evertoken.RenewalPolicy(request_timeout=1, backoff_base=0.01))
assert server.accepts(api.token()) and ticks == 20
""",
    "a thousand green threads make one request": """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
from evertoken.testing import AuthServer
server = AuthServer()
server.set_latency(0.3)
api = server.client()
tokens, left = [], [1000]
def ask():
    tokens.append(api.token())
    left[0] -= 1
for _ in range(1000):
    spawn(ask)
while left[0]:
    sleep(0.01)
assert len(set(tokens)) == 1 and server.token_requests == 1
""",
    "functions for credentials are called": """
from evertoken.testing import AuthServer
server = AuthServer(lifetime=2)
asked = []
def give():
    sleep(0.01)
    asked.append(1)
    return "app", "secret"
async def give_async():
    import asyncio
    await asyncio.sleep(0.01)
    asked.append(1)
    return "app", "secret"
for function in (give, give_async):
    asked.clear()
    api = evertoken.Client(credentials=function, issuer=server.issuer)
    token = api.token()
    while api.current_token() in (None, token):
        sleep(0.01)
    assert len(asked) > 1
    api.close()
""",
    "log records come": """
import logging
from evertoken.testing import AuthServer
seen = []
class Handler(logging.Handler):
    def emit(self, record):
        sleep(0)
        seen.append(record.getMessage())
logging.getLogger("evertoken").addHandler(Handler())
server = AuthServer()
server.outage()
api = server.client(token_timeout=0.3)
try:
    api.token()
except evertoken.EvertokenError:
    pass
while not seen:
    sleep(0.01)
""",
    "a wait can be given up": """
from evertoken.testing import AuthServer
server = AuthServer()
server.fail("hang", always=True)
api = server.client(token_url=server.token_url, token_timeout=600)
if LIBRARY == "gevent":
    waiting = spawn(api.token)
    sleep(0.1)
    waiting.kill(timeout=60)
    assert waiting.dead
    try:
        with gevent.Timeout(0.1):
            api.token()
    except gevent.Timeout:
        pass
else:
    waiting = spawn(api.token)
    sleep(0.1)
    waiting.kill()
    try:
        with eventlet.Timeout(0.1):
            api.token()
    except eventlet.Timeout:
        pass
events = spawn(lambda: [event.kind for event in api.events()])
sleep(0.1)
api.close()
events = events.get(timeout=60) if LIBRARY == "gevent" else events.wait()
assert events == ["closed"], events
""",
    "a 401 is recovered": """
import requests
from evertoken.testing import AuthServer
server = AuthServer()
api = server.client()
auth = evertoken.RequestsAuth(api)
assert requests.get(server.api_url, auth=auth).status_code == 200
server.revoke_all()
assert requests.get(server.api_url, auth=auth).status_code == 200
assert server.token_requests == 2
""",
    "a child goes on": """
import os
from evertoken.testing import AuthServer
server = AuthServer(lifetime=3)
asked = []
def give():
    asked.append(os.getpid())
    return "app", "secret"
api = evertoken.Client(credentials=give, issuer=server.issuer)
token, audience = api.token(), server.audience
child = os.fork()
if child == 0:
    if LIBRARY == "eventlet":
        eventlet.hubs.use_hub()
    assert api.token() == token
    while api.current_token() in (None, token):
        sleep(0.01)
    assert os.getpid() in asked
    api.with_(audience=audience, scope="read").token()
    os._exit(0)
while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
    sleep(0.01)
assert done[1] == 0
assert api.token()
""",
}


def run(library: str, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = "\n".join(["import sys", PATCHES[library], f"LIBRARY = {library!r}", "import evertoken", program])
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    return subprocess.run(command, timeout=PATIENCE, capture_output=True, text=True)


@pytest.mark.parametrize("library", PATCHES)
@pytest.mark.parametrize("program", PROGRAMS)
def test_after_the_monkey_patch(library: str, program: str) -> None:
    done = run(library, PROGRAMS[program])
    assert (done.returncode, done.stderr) == (0, "")


INTERRUPTED = """
import signal
from evertoken import Client
# A shell has its background jobs ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
api = Client("app", "secret", token_url=sys.argv[1], token_timeout=600)
spawn(api.token)
print("waiting", flush=True)
try:
    api.token()
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("library", PATCHES)
def test_ctrl_c_ends_a_wait(server: AuthServer, library: str) -> None:
    server.fail("hang", always=True)
    code = "\n".join(["import sys", PATCHES[library], INTERRUPTED])
    command = [sys.executable, "-W", "ignore", "-c", code, server.token_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "waiting\n"
            until("it asks", lambda: server.token_requests > 0)
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 0
            assert process.stdout.readline() == "interrupted\n"
        finally:
            process.kill()


UNPATCHED = """
import gevent
from evertoken import Client
from evertoken.testing import AuthServer
server = AuthServer()
server.fail("hang", always=True)
api = Client("app", "secret", token_url=server.token_url, token_timeout=600)
waiting = gevent.spawn(api.token)
while not server.token_requests:
    gevent.sleep(0.01)
waiting.kill(timeout=60)
assert waiting.dead
"""


def test_a_greenlet_of_a_program_that_is_not_patched_lets_the_hub_go_on() -> None:
    done = subprocess.run([sys.executable, "-c", UNPATCHED], timeout=PATIENCE, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_neither_is_imported() -> None:
    code = "import sys, evertoken; print({'gevent', 'eventlet', 'greenlet', 'trio', 'anyio', 'sniffio'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], timeout=PATIENCE, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "set()\n"), done.stderr


SERVICE = """
import logging, os, threading
import evertoken
logging.basicConfig(level="WARNING")
asked = []
def give():
    asked.append(os.getpid())
    return "app", "secret"
api = evertoken.Client(credentials=give, issuer=os.environ["ISSUER"])
def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/token":
        body = api.token()
    elif path == "/current":
        body = api.current_token() or ""
    elif path == "/asked":
        body = str(os.getpid() in asked)
    else:
        body = str(os.getpid())
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body.encode()]
if os.environ.get("WARM"):
    api.token()
"""


@pytest.mark.parametrize("options", [["-k", "gevent"], ["-k", "gevent", "--preload"], ["-k", "sync", "--preload"]], ids=" ".join)
def test_gunicorn(server: AuthServer, tmp_path: Path, options: list[str]) -> None:
    """A worker whose master may be warm: it gives tokens, renews them by its own function, and is not killed for being stuck."""
    server.set_lifetime(2)
    (tmp_path / "app_of_the_test.py").write_text(SERVICE)
    log = tmp_path / "log"
    environment = {**os.environ, "ISSUER": server.issuer, "WARM": "1" if "--preload" in options else ""}
    command = [sys.executable, "-W", "ignore", "-m", "gunicorn", *options, "--timeout", "15", "--bind", "127.0.0.1:0"]
    with log.open("w") as output:
        command.append("app_of_the_test:app")
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=output, stderr=output)
    try:
        until("it listens", lambda: "Booting worker" in log.read_text())
        found = re.search(r"Listening at: (http://\S+)", log.read_text())
        assert found is not None
        with httpx.Client(base_url=found[1], timeout=PATIENCE) as http:
            worker = http.get("/").text
            token = http.get("/token").text
            assert token in server.issued_tokens
            # Nobody waits for it: the read does not.
            until("it renews", lambda: http.get("/current").text not in ("", token))
            until("its own function was called", lambda: http.get("/asked").text == "True")
            end = time.monotonic() + 3
            while time.monotonic() < end:
                assert http.get("/token").text in server.issued_tokens
            assert http.get("/").text == worker
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
    assert "WORKER TIMEOUT" not in log.read_text() and "Traceback" not in log.read_text(), log.read_text()
