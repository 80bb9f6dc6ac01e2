"""gunicorn with the application loaded once, before the workers are forked.

The first token is fetched by the parent. Each worker serves it at once, renews it by itself at a time of its own, and a worker
that is started in the place of a dead one costs no token while the parent's is valid: the parent keeps it fresh.
"""

from __future__ import annotations

from typing import Any

bind = "127.0.0.1:8000"
workers = 4
preload_app = True


def when_ready(server: Any) -> None:
    from service import api

    api.prefetch(wait=True)
