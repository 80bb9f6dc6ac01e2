"""Measures Evertoken beside its peers, each as it is published, and writes tables and a picture into the README.

make bench-python
"""

from __future__ import annotations

import contextlib
import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from peers import ALL, OURS, PEERS
from picture import bars

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
START, END = "<!-- written by `make bench-python` -->\n", "<!-- until here -->"


@contextlib.contextmanager
def endpoint(lifetime: int, latency: float) -> Iterator[str]:
    command = [sys.executable, str(HERE / "server.py"), str(lifetime), str(latency)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


def measured(part: str, peer: str = "", lifetime: int = 3600, latency: float = 0.0) -> Any:
    with endpoint(lifetime, latency) as url:
        command = [sys.executable, str(HERE / "measure.py"), part, peer, url]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=600)
    if done.returncode != 0:
        raise SystemExit(f"{part} of {peer} failed")
    found = json.loads(done.stdout.splitlines()[-1])
    print(part, peer, found, flush=True)
    return found


def table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def main() -> None:
    hot = measured("hot")
    attached = {name: measured("attach", name) for name in ALL}
    calls = measured("over_httpx")
    cold = {peer.name: measured("cold", peer.name, latency=0.05) for peer in [OURS[0], *PEERS]}
    # They do little but wait, and so may do that at the same time.
    short = [peer.name for peer in [OURS[0], *PEERS] if peer.short]
    with ThreadPoolExecutor(len(short)) as pool:
        spikes = dict(zip(short, pool.map(lambda name: measured("spikes", name, 6, 0.2), short), strict=True))
    interrupt = measured("interrupt")

    # Of those that work with the same kind of request; a dict of headers is what everybody can have.
    kinds = {peer.name: peer.request for peer in [*OURS, *PEERS]}

    def beside(name: str) -> str:
        best = min((peer.name for peer in PEERS), key=lambda peer: attached[peer])
        alike = [peer.name for peer in PEERS if kinds[peer.name] is kinds[name]]
        near = min(alike, key=lambda peer: attached[peer])
        if not name.startswith("evertoken"):
            return ""
        best_of_all, best_alike = attached[best] / attached[name], attached[near] / attached[name]
        return f"{best_of_all:.1f} times ({best}); {best_alike:.1f} times ({near})"

    names = {"nothing": "limit: an empty method", "held": "limit: a string that is held"}
    names |= {name: f"evertoken `{name}()`" for name in ("token", "authorization", "current_token")}
    peers = ", ".join(f"{peer.name} {version(peer.name)}" for peer in PEERS)
    text = f"On {cpu()}, {platform.python_implementation()} {platform.python_version()}, {date.today()}. Peers: {peers}.\n\n"
    text += "![To put a held token onto a request, in nanoseconds.](benches/attach.svg)\n\n"
    text += table(
        ["A held token", "ns", "of an empty method"],
        [[names[name], f"{value:.1f}", f"{value / hot['nothing']:.2f}"] for name, value in hot.items()],
    )
    text += "\n" + table(
        ["A held token put onto a request", "ns", "the best peer takes; the best for the same kind of request"],
        [[name, f"{value:.0f}", beside(name)] for name, value in sorted(attached.items(), key=lambda item: item[1])],
    )
    text += "\n" + table(
        ["200 threads, no token yet, endpoint 50 ms", "token requests", "ms to the last", "failed"],
        [[name, str(found["requests"]), f"{found['seconds'] * 1e3:.0f}", str(found["failed"])] for name, found in cold.items()],
    )
    text += "\n" + table(
        ["Ten lives of 6 s, endpoint 200 ms", "longest call, ms", "median, ms", "calls that waited"],
        [[name, f"{found['longest']:.1f}", f"{found['median']:.4f}", str(found["waited"])] for name, found in spikes.items()],
    )
    more = (calls["ours"] / calls["static"] - 1) * 100
    text += "\n" + table(
        ["Beside", ""],
        [
            ["an httpx call on loopback with a static header", f"{calls['static']:.0f} µs"],
            ["the same with `HttpxAuth`", f"{calls['ours']:.0f} µs, {more:+.1f} %"],
            ["from Ctrl-C to `KeyboardInterrupt` in a waiting `token()`", f"{interrupt:.0f} ms at most"],
        ],
    )
    before, rest = README.read_text().split(START)
    README.write_text(before + START + "\n" + text + "\n" + END + rest.split(END, 1)[1])
    picture = bars("To put a held token onto a request: nanoseconds", attached, "ns, logarithmic")
    (HERE / "attach.svg").write_text(picture)


def cpu() -> str:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith("model name")).split(": ")[1]
    return platform.processor()


if __name__ == "__main__":
    main()
