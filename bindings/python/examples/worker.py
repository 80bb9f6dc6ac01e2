"""Workers in the manner of Celery: a parent that forks processes, each of which takes jobs from a queue.

    EVERTOKEN_APP_ID=… EVERTOKEN_APP_SECRET=… EVERTOKEN_ISSUER=… EVERTOKEN_BASE_URL=… python worker.py

With Celery itself the client stands at the module's top level, as here, next to the tasks.
"""

from __future__ import annotations

import multiprocessing
import os
from typing import Any

from evertoken import Client, httpx_client

api = Client.from_env()
http = httpx_client(api)


def task(number: int) -> tuple[int, int, int]:
    """One job: it has a valid token, in whichever process it runs."""
    return number, http.get(f"orders/{number}").status_code, os.getpid()


def work(jobs: Any, results: Any) -> None:
    for number in iter(jobs.get, None):
        results.put(task(number))


def main() -> None:
    context = multiprocessing.get_context("fork")
    jobs, results = context.Queue(), context.Queue()
    api.prefetch(wait=True)  # the workers inherit it
    workers = [context.Process(target=work, args=(jobs, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for number in range(30):
        jobs.put(number)
    for _ in workers:
        jobs.put(None)
    done = [results.get(timeout=60) for _ in range(30)]
    for worker in workers:
        worker.join()
    processes = {process for _, _, process in done}
    print(f"{len(done)} jobs, statuses {sorted({status for _, status, _ in done})}, done by {len(processes)} processes")


if __name__ == "__main__":
    main()
