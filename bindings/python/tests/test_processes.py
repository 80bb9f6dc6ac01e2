"""Forks, exits and signals, with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import traceback

import pytest
from evertoken.testing import AuthServer

THOROUGH = bool(os.environ.get("EVERTOKEN_THOROUGH"))
PROCESSES = 200 if THOROUGH else 20
FORKS = 50 if THOROUGH else 15

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def child(work: object) -> int:
    """Runs it in a fork; a hang is killed after 60 s."""
    pid = os.fork()
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
    end = time.monotonic() + 60
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError("the child hangs")


def test_children_serve_the_inherited_token_and_ask_for_none(server: AuthServer) -> None:
    with server.client() as api:
        token = api.token()

        def work() -> None:
            assert api.token() == token

        assert [ended(pid) for pid in [child(work) for _ in range(8)]] == [0] * 8
        assert api.token() == token
    assert server.token_requests == 1


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
            assert api.token() == token
            end = time.monotonic() + 20
            while api.current_token() in (None, token):
                assert time.monotonic() < end
                time.sleep(0.02)

        assert ended(child(work)) == 0


def test_forks_in_the_midst_of_renewals(server: AuthServer) -> None:
    server.set_lifetime(2)
    server.set_latency(0.2)
    with server.client() as api:
        api.token()
        for n in range(FORKS):

            def work() -> None:
                for _ in range(5):
                    assert api.token()

            time.sleep(0.013 * (n % 7))
            assert ended(child(work)) == 0


EXITS = """
import sys
from evertoken import Client
api = Client("app", "secret", issuer=sys.argv[1])
if sys.argv[2] == "held":
    api.token()
api.prefetch()
"""


@pytest.mark.parametrize("held", ["held", "cold"])
def test_a_process_ends_with_a_renewal_in_flight(server: AuthServer, held: str) -> None:
    server.set_lifetime(1)
    server.set_latency(0.05)
    command = [sys.executable, "-c", EXITS, server.issuer, held]
    for _ in range(PROCESSES):
        done = subprocess.run(command, timeout=60, capture_output=True, text=True)
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


def test_a_thousand_clients_leave_nothing(server: AuthServer) -> None:
    def left() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    def one() -> None:
        with server.client() as api:
            api.token()

    one()
    before = left()
    for _ in range(1_000 if THOROUGH else 100):
        one()
    end = time.monotonic() + 30
    while left() != before and time.monotonic() < end:
        time.sleep(0.05)  # connections are closed behind our back
    assert left() == before
