"""One measurement of one peer, in a process of its own, so that none is in another's way.

    python measure.py PART PEER URL

It says what it found in one line of JSON.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
import time
import timeit
from statistics import median
from typing import Any

from peers import ALL, COLD, client


def best(statement: str, names: dict[str, Any], number: int = 20_000, rounds: int = 25) -> float:
    """Nanoseconds of this thread's for one, by the quickest round: on a busy machine the others tell of the machine."""
    return min(timeit.repeat(statement, globals=names, number=number, repeat=rounds, timer=time.thread_time)) / number * 1e9


def hot(peer: str, url: str) -> dict[str, float]:
    """A held token, beside what no native method can do without."""
    from empty import Empty

    api = client(url)
    empty = Empty(api.token())
    found: dict[str, list[float]] = {}
    # In turns, so that what else goes on meets all alike.
    for _ in range(40):
        for name, function in {
            "nothing": empty.nothing,
            "held": empty.held,
            "token": api.token,
            "authorization": api.authorization,
            "current_token": api.current_token,
        }.items():
            found.setdefault(name, []).append(best("f()", {"f": function}, rounds=3))
    return {name: min(values) for name, values in found.items()}


def attach(peer: str, url: str) -> float:
    """Nanoseconds of this thread's to put a held token onto a request, in the quickest round."""
    known = ALL[peer]
    put = known.make(url, False)
    put(known.request())
    rounds = []
    gc.disable()
    for _ in range(300):
        requests = [known.request() for _ in range(300)]
        start = time.thread_time()
        for request in requests:
            put(request)
        rounds.append((time.thread_time() - start) / len(requests) * 1e9)
    return min(rounds)


def cold(peer: str, url: str) -> dict[str, float]:
    """200 threads that find no token: the time to the last."""
    known = COLD[peer]
    put = known.make(url, False)
    import requests as library

    library.get(f"{url}/count")
    barrier = threading.Barrier(201)
    failed: list[BaseException] = []

    def call() -> None:
        request = known.request()
        barrier.wait()
        try:
            put(request)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=call) for _ in range(200)]
    for thread in threads:
        thread.start()
    barrier.wait()
    start = time.perf_counter()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - start
    return {"requests": library.get(f"{url}/count").json(), "seconds": took, "failed": len(failed)}


def spikes(peer: str, url: str) -> dict[str, float]:
    """Ten lifetimes of 6 s: the longest and the median call after the first."""
    known = ALL[peer]
    put = known.make(url, True)
    put(known.request())
    calls = []
    end = time.monotonic() + 60
    while time.monotonic() < end:
        request = known.request()
        start = time.perf_counter()
        put(request)
        calls.append(time.perf_counter() - start)
        time.sleep(0.002)
    return {"longest": max(calls) * 1e3, "median": median(calls) * 1e3, "waited": sum(call > 0.1 for call in calls)}


def over_httpx(peer: str, url: str) -> dict[str, float]:
    """An httpx call on loopback: with a static header, and with `HttpxAuth`, in turns."""
    import httpx
    from evertoken import HttpxAuth
    from evertoken.testing import AuthServer

    with AuthServer() as server, server.client() as api:
        static = httpx.Client(headers={"Authorization": api.authorization()}, base_url=url)
        ours = httpx.Client(auth=HttpxAuth(server.client(base_url=url)), base_url=url)
        took: dict[str, list[float]] = {"static": [], "ours": []}
        for _ in range(4_000):
            for name, http in (("static", static), ("ours", ours)):
                start = time.perf_counter()
                http.get("/orders")
                took[name].append(time.perf_counter() - start)
    return {name: median(times) * 1e6 for name, times in took.items()}


def interrupt(peer: str, url: str) -> float:
    """Milliseconds from Ctrl-C to KeyboardInterrupt, while `token()` waits: the longest of 20."""
    from evertoken import Client
    from evertoken.testing import AuthServer

    signal.signal(signal.SIGINT, signal.default_int_handler)
    found = []
    with AuthServer() as server:
        server.fail("hang", always=True)
        for n in range(20):
            api = Client("app", "secret", token_url=server.token_url, token_timeout=60)
            sent: list[float] = []

            def send(n: int = n, sent: list[float] = sent) -> None:
                time.sleep(0.3 + n / 300)
                sent.append(time.perf_counter())
                os.kill(os.getpid(), signal.SIGINT)

            sender = threading.Thread(target=send)
            sender.start()
            try:
                api.token()
            except KeyboardInterrupt:
                found.append((time.perf_counter() - sent[0]) * 1e3)
            sender.join()
            api.close()
    return max(found)


if __name__ == "__main__":
    part, peer, url = sys.argv[1:]
    print(json.dumps(globals()[part](peer, url)), flush=True)
    os._exit(0)  # some peers' sessions complain when they are left open
