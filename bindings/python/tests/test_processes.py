"""Forks, exits and signals, with real processes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ctypes
import gc
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import evertoken
import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from evertoken import Client, PrivateKeyJwt
from evertoken.testing import APP_ID, APP_SECRET, AuthServer, fixed_client
from house import PATIENCE, THOROUGH, until
from test_options import TokenServer

PROCESSES = 200 if THOROUGH else 20
FORKS = 50 if THOROUGH else 15
CLIENTS = 1_000 if THOROUGH else 200

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


CHILDREN: list[int] = []


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    """Whatever a test that failed did not wait for."""
    yield
    while CHILDREN:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            pid = CHILDREN.pop()
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def child(work: object) -> int:
    """Runs it in a fork; a hang is killed after 60 s."""
    pid = os.fork()
    CHILDREN.append(pid)
    if pid == 0:
        code = 1
        try:
            work()  # type: ignore[operator]
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


def ended(pid: int) -> int:
    end = time.monotonic() + 2 * PATIENCE
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            CHILDREN.remove(pid)
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    raise AssertionError("the child hangs")


def live_token(api: Client) -> str:
    """By its own claims, since the server is in another process; by the time before, since a machine may stand still after."""
    before = time.time()
    token = api.token()
    claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    assert before < claims["exp"]
    return token


def test_children_serve_the_inherited_token_and_ask_for_none(server: AuthServer) -> None:
    with server.client() as api:
        token = api.token()

        def work() -> None:
            assert api.token() == token

        assert [ended(pid) for pid in [child(work) for _ in range(8)]] == [0] * 8
        assert api.token() == token
    assert server.token_requests == 1


def test_children_show_the_inherited_token_with_the_key_that_it_is_bound_to(server: AuthServer) -> None:
    with server.client(dpop=evertoken.Dpop()) as api:
        other = api.with_(audience=server.audience, scope="read")
        tokens, url = (api.token(), other.token()), server.api_url

        def work() -> None:
            for one in (api, other):
                assert httpx.get(url, auth=evertoken.HttpxAuth(one)).status_code == 200
            assert (api.token(), other.token()) == tokens

        assert ended(child(work)) == 0
    assert (server.token_requests, server.api_calls) == (2, 2)


def test_a_child_that_closes_leaves_its_parents_token_alone(server: AuthServer) -> None:
    with server.client(revoke_on_shutdown=True) as api:
        token = api.token()

        def work() -> None:
            assert api.token() == token
            api.close()

        assert ended(child(work)) == 0
        assert server.revocations == 0 and server.accepts(token)
    assert server.revocations == 1


def test_a_child_that_closes_revokes_its_own_token(server: AuthServer) -> None:
    with server.client(revoke_on_shutdown=True) as api:

        def work() -> None:
            api.token()
            api.close()

        assert ended(child(work)) == 0
        assert server.revocations == 1


def test_cold_children_ask_once_each(server: AuthServer) -> None:
    with server.client() as api:

        def work() -> None:
            threads = [threading.Thread(target=api.token) for _ in range(25)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert api.current_token() is not None

        assert [ended(pid) for pid in [child(work) for _ in range(8)]] == [0] * 8
    assert server.token_requests == 8


def test_children_renew_by_themselves(server: AuthServer) -> None:
    server.set_lifetime(3)
    with server.client() as api:
        token = api.token()

        def work() -> None:
            live_token(api)
            end = time.monotonic() + PATIENCE
            while api.current_token() in (None, token):
                assert time.monotonic() < end
                time.sleep(0.02)

        assert ended(child(work)) == 0


@pytest.mark.parametrize("kind", ["credentials", "signer"])
def test_children_of_a_warm_parent_renew_by_functions_of_their_own(server: AuthServer, kind: str) -> None:
    """Though none of their callers has to wait."""
    server.set_lifetime(3)
    called: list[int] = []
    key = ec.generate_private_key(ec.SECP256R1())

    def give() -> tuple[str, str]:
        called.append(os.getpid())
        return APP_ID, APP_SECRET

    def sign(message: bytes) -> bytes:
        called.append(os.getpid())
        r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    options: dict[str, Any] = {"credentials": give, "issuer": server.issuer}
    if kind == "signer":
        endpoint = TokenServer()
        endpoint.answer["expires_in"] = 3
        auth = PrivateKeyJwt(signer=sign, algorithm="ES256")
        options = {"app_id": APP_ID, "client_auth": auth, "token_url": endpoint.url}
    with Client(**options) as api:
        token = api.token()

        def work() -> None:
            assert api.current_token() == token
            until("its function is called", lambda: os.getpid() in called)
            if kind == "credentials":
                until("it renews", lambda: api.current_token() not in (None, token))

        assert ended(child(work)) == 0


def test_a_child_of_a_warm_parent_warns_of_renewals_that_fail(server: AuthServer, caplog: pytest.LogCaptureFixture) -> None:
    server.set_lifetime(3)

    def give() -> tuple[str, str]:
        if os.getpid() != parent:
            raise LookupError("no vault here")
        return APP_ID, APP_SECRET

    parent = os.getpid()
    with Client(credentials=give, issuer=server.issuer) as api:
        token = api.token()

        def work() -> None:
            caplog.clear()
            assert api.current_token() == token
            until("it warns", lambda: [record for record in caplog.records if record.levelname == "WARNING"])
            assert "LookupError" in caplog.text

        assert ended(child(work)) == 0


def test_a_process_that_can_start_no_thread_serves_itself(
    server: AuthServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The functions are called by who waits, and it warns once."""

    issuer, audience = server.issuer, server.audience

    def work() -> None:
        def refuse(*args: object) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading, "_start_new_thread", refuse, raising=False)
        monkeypatch.setattr(threading, "_start_joinable_thread", refuse, raising=False)
        for _ in range(2):
            with Client(credentials=lambda: (APP_ID, APP_SECRET), issuer=issuer) as api:
                assert api.token()
                assert asyncio.run(api.with_(audience=audience).token_async())
        assert caplog.text.count("could not start the thread that calls functions") == 1

    assert ended(child(work)) == 0


def test_what_was_closed_stays_closed_in_children(server: AuthServer) -> None:
    api, fixed, other = server.client(), fixed_client("t0ken", "https://api.example"), server.client()
    member = api.with_(scope="read")
    for client in (api, fixed, other):
        client.token()
    other_token = other.token()
    api.close()
    fixed.close()

    def work() -> None:
        for client in (api, member, fixed):
            assert client.current_token() is None
            for ask in (client.token, client.prefetch, lambda client=client: client.set_credentials("app", "other")):
                with pytest.raises(evertoken.ClosedError):
                    ask()
        assert other.token() == other_token
        other.close()
        # Its own child, in turn.
        assert ended(child(lambda: [other.current_token()].index(None))) == 0

    assert ended(child(work)) == 0
    assert other.token() == other_token
    other.close()


def test_forks_in_the_midst_of_renewals(server: AuthServer) -> None:
    server.set_lifetime(2)
    server.set_latency(0.2)
    with server.client() as api:
        api.token()
        for n in range(FORKS):

            def work() -> None:
                for _ in range(5):
                    live_token(api)

            time.sleep(0.013 * (n % 7))
            assert ended(child(work)) == 0


def test_forks_from_several_threads_at_once(server: AuthServer) -> None:
    server.set_lifetime(2)
    server.set_latency(0.1)
    with server.client() as api:
        api.token()

        def work() -> None:
            for _ in range(5):
                live_token(api)

        with ThreadPoolExecutor(4) as pool:
            pids = list(pool.map(lambda _: child(work), range(12)))
        assert [ended(pid) for pid in pids] == [0] * 12
        assert api.token()


def test_a_child_that_cannot_read_the_credentials_serves_what_it_inherited(server: AuthServer, tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    file.write_text(json.dumps({"app_id": APP_ID, "app_secret": APP_SECRET}))
    file.chmod(0o600)
    with Client(credentials_file=file, issuer=server.issuer) as api:
        token = api.token()
        file.unlink()

        def work() -> None:
            assert api.token() == token and api.current_token() == token
            assert api.authorization() == asyncio.run(api.authorization_async()) == f"Bearer {token}"

        assert ended(child(work)) == 0


UNKNOWN_FORK = """
import ctypes, os, time
from evertoken import Client
from evertoken.testing import APP_ID, APP_SECRET, AuthServer

called = []

def give():
    called.append(os.getpid())
    return APP_ID, APP_SECRET

server = AuthServer()
server.set_lifetime(3)
with server.client() as api, Client(credentials=give, issuer=server.issuer) as given:
    token = api.token()
    theirs = given.token()
    pid = ctypes.PyDLL(None).fork()
    if pid == 0:
        while api.current_token() in (None, token):
            api.token()
            time.sleep(0.02)
        while given.current_token() in (None, theirs) or os.getpid() not in called:
            time.sleep(0.02)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
"""


def test_a_fork_of_which_python_does_not_know() -> None:
    """As uWSGI makes them: nothing that Python registered is called in the child. In a process of its own: what other Python
    threads hold when C code forks, the child waits for without end, with or without us.
    """
    subprocess.run([sys.executable, "-c", UNKNOWN_FORK], timeout=2 * PATIENCE, check=True)


def test_events_of_the_parent_end_in_the_child(server: AuthServer) -> None:
    with server.client() as api:
        events = api.events()
        api.token()

        def work() -> None:
            assert list(events) == []
            assert repr(api).endswith(" s>") and api.status().is_ready

        assert ended(child(work)) == 0
        assert next(events).kind == "renewed"


def test_a_fixed_client_lives_on_in_children() -> None:
    with fixed_client("t0ken", "https://api.example") as api:

        def work() -> None:
            assert api.token() == "t0ken"

        assert ended(child(work)) == 0


def in_a_process_of_its_own(url: str, queue: multiprocessing.Queue[str]) -> None:
    with Client(APP_ID, APP_SECRET, issuer=url) as api:
        queue.put(api.token())


INHERITED: list[Client] = []


def with_what_it_inherited(queue: multiprocessing.Queue[str]) -> None:
    queue.put(INHERITED[0].token())


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(server: AuthServer, method: Literal["fork", "spawn", "forkserver"]) -> None:
    context: Any = multiprocessing.get_context(method)
    queue = context.Queue()
    with server.client() as api:
        token = api.token()
        processes = [context.Process(target=in_a_process_of_its_own, args=(server.issuer, queue)) for _ in range(2)]
        if method == "fork":
            INHERITED[:] = [api]
            processes.append(context.Process(target=with_what_it_inherited, args=(queue,)))
        for process in processes:
            process.start()
        tokens = {queue.get(timeout=PATIENCE) for _ in processes}
        for process in processes:
            process.join(PATIENCE)
            assert process.exitcode == 0
    assert (token in tokens) == (method == "fork")
    assert len(tokens) == len(processes) and server.token_requests == 3


def interpreters() -> list[str]:
    """The one that runs this; thoroughly all that are supported and can be found."""
    found = [sys.executable]
    if THOROUGH:
        roots = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
        own = f"{sys.version_info.major}.{sys.version_info.minor}."
        others = [path for path in sorted(roots.glob("3.1*/bin/python3")) if not path.parts[-3].startswith(own)]
        found += [str(path) for path in others]
    return found


def run(interpreter: str, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The wheel is one for all of them."""
    path = str(Path(evertoken.__file__).parent.parent)
    command = [interpreter, "-W", "error", "-c", code, *arguments]
    return subprocess.run(command, timeout=PATIENCE, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})


EXITS = {
    "a renewal in flight": """
import sys
from evertoken import Client
api = Client("app", "secret", issuer=sys.argv[1])
api.token()
api.prefetch()
""",
    "the first token on its way": """
import sys
from evertoken import Client
api = Client("app", "secret", issuer=sys.argv[1])
api.prefetch()
""",
    "daemons that wait": """
import sys, threading, time
from evertoken import Client
api = Client("app", "secret", token_url=sys.argv[2], token_timeout=600)
events = api.events()
for target in [api.token] * 3 + [lambda: next(events)]:
    threading.Thread(target=target, daemon=True).start()
time.sleep(0.1)
""",
    "a function that gives no credentials for long": """
import sys, threading, time
import evertoken._worker
evertoken._worker.EXIT_PATIENCE = 0.1
asked = threading.Event()
def give():
    asked.set()
    time.sleep(600)
api = evertoken.Client(credentials=give, issuer=sys.argv[1])
api.prefetch()
asked.wait()
""",
    "a forked child that ends as well": """
import os, sys, warnings
from evertoken import Client
warnings.simplefilter("ignore")
api = Client("app", "secret", issuer=sys.argv[1])
api.token()
child = os.fork()
api.prefetch()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
assert api.token()
""",
    "handlers that run late and ask": """
import atexit, sys
asked = []
@atexit.register
def late():
    # Ours ran before this one, which was registered earlier.
    asked.clear()
    for function in (give, give_async):
        assert evertoken.Client(credentials=function, issuer=sys.argv[1], token_timeout=600).token()
    import asyncio
    assert asyncio.run(evertoken.Client(credentials=give, issuer=sys.argv[1], token_timeout=600).token_async())
    assert api.with_(audience="https://other.example").token()
    assert len(asked) >= 3, asked
import evertoken
def give():
    asked.append(len(asked) + 1)
    return "app", "secret"
async def give_async():
    return give()
api = evertoken.Client(credentials=give, issuer=sys.argv[1], token_timeout=600)
api.token()
""",
    "a handler that is the first to ask": """
import atexit, logging, sys
logging.disable()
import evertoken
api = evertoken.Client(credentials=lambda: ("app", "secret"), issuer=sys.argv[1], token_timeout=600)
@atexit.register
def late():
    assert api.token()
""",
    "a client that is asked at the very end": """
import sys
from evertoken import Client
class Late:
    def __del__(self):
        self.api.current_token()
late = Late()
late.api = Client("app", "secret", issuer=sys.argv[1])
late.api.token()
""",
}


@pytest.mark.parametrize("interpreter", interpreters())
@pytest.mark.parametrize("way", EXITS)
def test_a_process_ends(server: AuthServer, interpreter: str, way: str) -> None:
    """Two at once, and with tokens that are renewed all the time."""
    with AuthServer() as silent:
        silent.fail("hang", always=True)
        server.set_lifetime(1)
        server.set_latency(0.05)

        def one(_: int) -> subprocess.CompletedProcess[str]:
            return run(interpreter, EXITS[way], server.issuer, silent.token_url)

        # The others are rarer in life, and rest on the same.
        times = PROCESSES if way == "a renewal in flight" else PROCESSES // 5
        with ThreadPoolExecutor(2) as pool:
            for done in pool.map(one, range(times)):
                assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


SUBINTERPRETER = """
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
import evertoken
code = "\\n".join([
    "import sys",
    f"sys.path[:] = {sys.path!r}",
    "try:",
    "    import evertoken",
    "except ImportError as error:",
    "    assert 'main interpreter' in str(error), error",
    "else:",
    "    raise SystemError('it let itself be imported')",
])
outcome = interpreters.run_string(interpreters.create(), code)
assert outcome is None, outcome
"""


@pytest.mark.parametrize("interpreter", interpreters())
def test_subinterpreters_are_refused_with_a_reason(interpreter: str) -> None:
    done = run(interpreter, SUBINTERPRETER)
    assert (done.returncode, done.stderr) == (0, "")


INTERRUPTED = """
import signal, sys
from evertoken import Client
# A shell has its background jobs ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
api = Client("app", "secret", token_url=sys.argv[1], token_timeout=60)
print("waiting", flush=True)
try:
    api.token()
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_ends_a_wait(server: AuthServer) -> None:
    server.fail("hang", always=True)
    with subprocess.Popen([sys.executable, "-c", INTERRUPTED, server.token_url], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        end = time.monotonic() + 30
        while server.token_requests == 0:
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        assert process.wait(30) == 0


class MallInfo2(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    ]


def bytes_in_use() -> int:
    """By the C library's own word, for all threads; what Python's small objects lie in comes from elsewhere."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = MallInfo2
    gc.collect()
    info = mallinfo2()
    return int(info.uordblks + info.hblkhd)


def test_clients_leave_nothing(server: AuthServer) -> None:
    def left() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    def some() -> None:
        for n in range(CLIENTS):
            with server.client() as api:
                api.token()
                if n % 10 == 0:
                    api.with_(audience="https://other.example").token()
                    assert api.events() and api.status()

    some()
    files, threads = left()
    bytes_before, objects = bytes_in_use(), len(gc.get_objects())
    some()
    # Connections are closed behind our back.
    until("files are closed", lambda: left()[0] <= files)
    assert left()[1] <= threads
    # The server remembers each token, some 900 bytes, and each request.
    assert (bytes_in_use() - bytes_before) / CLIENTS < 4_000
    assert len(gc.get_objects()) - objects < CLIENTS / 2
