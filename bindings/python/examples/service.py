"""A Flask service that calls another API, with the health checks that an orchestrator asks for.

flask --app service run
gunicorn --config gunicorn_conf.py service:app     # prefork, preloaded: see there
"""

from __future__ import annotations

import os
from typing import Any

from evertoken import Client, EvertokenError, httpx_client
from flask import Flask, jsonify

app = Flask(__name__)

# Both may be made before a fork: a client lives on in the children, and this one opens no connection before it is used.
# A caller of ours waits no longer than this for a token that is not there.
api = Client.from_env(token_timeout=3)
http = httpx_client(api)


@app.get("/orders/<int:number>")
def order(number: int) -> Any:
    answer = http.get(f"orders/{number}")
    return jsonify(order=number, status=answer.status_code, process=os.getpid()), answer.status_code


@app.get("/ready")
def ready() -> Any:
    """Whether a valid token is at hand. Asking for it has one fetched."""
    api.current_token()
    status = api.status()
    return jsonify(state=status.state, ready=status.is_ready), 200 if status.is_ready else 503


@app.errorhandler(EvertokenError)
def no_token(error: EvertokenError) -> Any:
    """Ours to tell, the caller's to repeat: it says nothing of what only we need to know."""
    app.logger.error("no token: %s", error)
    headers = {"Retry-After": str(int(error.retry_after or 5) + 1)} if error.retryable else {}
    return jsonify(error="the service cannot reach what it depends on"), 503, headers
