"""Bodies after a 401: one that can be sent again is, byte for byte; one that cannot leaves the 401 to the caller."""

from __future__ import annotations

import asyncio
import inspect
import io
import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import evertoken
import httpx
import httpx2
import pytest
import requests
from evertoken import AiohttpMiddleware, Client, Httpx2Auth, HttpxAuth, RequestsAuth
from evertoken.testing import AuthServer
from house import AtOnce

CONTENT = b"zyxwvutsrq" * 20_000
"""Longer than what libraries read from a file at once."""


class Refusing:
    """An API that answers the first request with 401, and remembers the bodies."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.tokens: list[str] = []
        this = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                if self.headers.get("Transfer-Encoding") == "chunked":
                    body = b""
                    while size := int(self.rfile.readline(), 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                else:
                    body = self.rfile.read(int(self.headers["Content-Length"]))
                this.bodies.append(body)
                this.tokens.append(self.headers["Authorization"])
                self.send_response(401 if len(this.bodies) == 1 else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Pipe:
    """A file that cannot seek."""

    def __init__(self) -> None:
        self.content = io.BytesIO(b"onetwo")

    def read(self, size: int = -1) -> bytes:
        return self.content.read(size)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.content)


def pipe(files: Files) -> Any:
    reading, writing = os.pipe()
    with open(writing, "wb") as end:
        end.write(b"onetwo")
    return files.enter_context(open(reading, "rb"))


class Once:
    """It can be iterated over once, and does not show it."""

    def __init__(self) -> None:
        self.parts = [b"one", b"two"]

    def __iter__(self) -> Iterator[bytes]:
        while self.parts:
            yield self.parts.pop(0)


def generator() -> Iterator[bytes]:
    yield b"one"
    yield b"two"


async def async_generator() -> AsyncIterator[bytes]:
    yield b"one"
    yield b"two"


def from_the_tenth(file: Any) -> Any:
    file.seek(10)
    return file


def file(files: Files) -> Any:
    return files.enter_context(files.path.open("rb"))


def text_file(files: Files) -> Any:
    return files.enter_context(files.path.open())


class Files(ExitStack):
    """Closes the files of a run at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.path = Path(self.enter_context(TemporaryDirectory())) / "content"
        self.path.write_bytes(CONTENT)


Body = Callable[[Files], dict[str, Any]]

SYNC_HTTPX: dict[str, tuple[Body, bool]] = {
    "nothing": (lambda _: {}, True),
    "bytes": (lambda _: {"content": CONTENT}, True),
    "str": (lambda _: {"content": "text"}, True),
    "json": (lambda _: {"json": {"a": 1}}, True),
    "form": (lambda _: {"data": {"a": "1"}}, True),
    "list": (lambda _: {"content": [b"one", b"two"]}, True),
    "deque": (lambda _: {"content": deque([b"one", b"two"])}, True),
    "file": (lambda files: {"content": file(files)}, True),
    "BytesIO": (lambda _: {"content": io.BytesIO(CONTENT)}, True),
    "files= bytes": (lambda _: {"files": {"f": ("a.txt", CONTENT)}, "data": {"a": ["1", "2"]}}, True),
    "files= bytes bare": (lambda _: {"files": {"f": CONTENT}}, True),
    "files= str": (lambda _: {"files": [("f", ("a.txt", "text", "text/plain"))]}, True),
    "files= BytesIO": (lambda _: {"files": {"f": io.BytesIO(CONTENT)}}, True),
    "files= file": (lambda files: {"files": {"f": file(files), "g": b"2"}}, True),
    "generator": (lambda _: {"content": generator()}, False),
    "iterator": (lambda _: {"content": iter([b"one", b"two"])}, False),
    "once": (lambda _: {"content": Once()}, False),
    "unseekable": (lambda _: {"content": Pipe()}, False),
}
# An asynchronous client takes no synchronous stream but for forms.
ASYNC_NAMES = ("nothing", "bytes", "str", "json", "form", *(name for name in SYNC_HTTPX if name.startswith("files=")))
ASYNC_HTTPX = {name: SYNC_HTTPX[name] for name in ASYNC_NAMES}
ASYNC_HTTPX["async generator"] = (lambda _: {"content": async_generator()}, False)

REQUESTS: dict[str, tuple[Body, bool]] = {
    "nothing": (lambda _: {}, True),
    "bytes": (lambda _: {"data": CONTENT}, True),
    "bytearray": (lambda _: {"data": bytearray(CONTENT)}, True),
    "str": (lambda _: {"data": "text"}, True),
    "json": (lambda _: {"json": {"a": 1}}, True),
    "form": (lambda _: {"data": {"a": "1"}}, True),
    "pairs": (lambda _: {"data": [("a", "1"), ("a", "2")]}, True),
    "file": (lambda files: {"data": file(files)}, True),
    "file from the tenth byte": (lambda files: {"data": from_the_tenth(file(files))}, True),
    "BytesIO from the tenth byte": (lambda _: {"data": from_the_tenth(io.BytesIO(CONTENT))}, True),
    "files= bytes": (lambda _: {"files": {"f": ("a.txt", CONTENT)}, "data": {"a": "1"}}, True),
    "files= file": (lambda files: {"files": {"f": file(files)}}, True),
    "generator": (lambda _: {"data": generator()}, False),
    "iterator": (lambda _: {"data": iter([b"one", b"two"])}, False),
    "once": (lambda _: {"data": Once()}, False),
    "unseekable": (lambda files: {"data": pipe(files)}, False),
}


def form(*fields: tuple[str, Any]) -> aiohttp.FormData:
    made = aiohttp.FormData()
    for name, value in fields:
        made.add_field(name, value)
    return made


def multipart(*parts: Any) -> aiohttp.MultipartWriter:
    made = aiohttp.MultipartWriter()
    for part in parts:
        made.append(part)
    return made


AIOHTTP: dict[str, tuple[Body, bool]] = {
    "nothing": (lambda _: {}, True),
    "bytes": (lambda _: {"data": CONTENT}, True),
    "bytearray": (lambda _: {"data": bytearray(CONTENT)}, True),
    "str": (lambda _: {"data": "text"}, True),
    "StringIO": (lambda _: {"data": io.StringIO("text")}, True),
    "json": (lambda _: {"json": {"a": 1}}, True),
    "form": (lambda _: {"data": {"a": "1"}}, True),
    "form with bytes": (lambda _: {"data": form(("f", io.BytesIO(CONTENT)), ("a", "1"))}, True),
    "form with file": (lambda files: {"data": form(("f", file(files)), ("a", "1"))}, True),
    "multipart": (lambda _: {"data": multipart(CONTENT, "text", multipart(b"inner"))}, True),
    "file": (lambda files: {"data": file(files)}, True),
    "text file": (lambda files: {"data": text_file(files)}, True),
    "BytesIO from the tenth byte": (lambda _: {"data": from_the_tenth(io.BytesIO(CONTENT))}, True),
    "async generator": (lambda _: {"data": async_generator()}, False),
    "unseekable": (lambda files: {"data": pipe(files)}, False),
    "form with unseekable": (lambda files: {"data": form(("f", pipe(files)))}, False),
}


HTTPX2 = {
    **SYNC_HTTPX,
    # httpx counts the bytes before the file's position into its length, and fails by itself.
    "file from the tenth byte": (lambda files: {"content": from_the_tenth(file(files))}, True),
}


def over_httpx(api: Client, url: str, body: dict[str, Any]) -> int:
    with httpx.Client(auth=HttpxAuth(api)) as http:
        return http.post(url, **body).status_code


def over_httpx2(api: Client, url: str, body: dict[str, Any]) -> int:
    with httpx2.Client(auth=Httpx2Auth(api)) as http:
        return int(http.post(url, **body).status_code)


async def over_async_httpx(api: Client, url: str, body: dict[str, Any]) -> int:
    async with httpx.AsyncClient(auth=HttpxAuth(api)) as http:
        return (await http.post(url, **body)).status_code


async def over_async_httpx2(api: Client, url: str, body: dict[str, Any]) -> int:
    async with httpx2.AsyncClient(auth=Httpx2Auth(api)) as http:
        return int((await http.post(url, **body)).status_code)


def over_requests(api: Client, url: str, body: dict[str, Any]) -> int:
    with requests.Session() as http:
        return http.post(url, auth=RequestsAuth(api), **body).status_code


async def over_aiohttp(api: Client, url: str, body: dict[str, Any]) -> int:
    session = aiohttp.ClientSession(middlewares=(AiohttpMiddleware(api),))
    async with session as http, http.post(url, **body) as answer:
        return answer.status


LIBRARIES: list[tuple[Callable[[Client, str, dict[str, Any]], Any], dict[str, tuple[Body, bool]]]] = [
    (over_httpx, SYNC_HTTPX),
    (over_httpx2, HTTPX2),
    (over_async_httpx, ASYNC_HTTPX),
    (over_async_httpx2, ASYNC_HTTPX),
    (over_requests, REQUESTS),
    (over_aiohttp, AIOHTTP),
]


def run(post: Callable[[Client, str, dict[str, Any]], Any], make: Body, repeatable: bool, bound: bool) -> None:
    refusing = Refusing()
    try:
        dpop = evertoken.Dpop() if bound else None
        with AuthServer() as server, Files() as files, server.client(base_url=refusing.url, dpop=dpop) as api:
            if inspect.iscoroutinefunction(post):

                async def posted() -> int:
                    status: int = await post(api, refusing.url, make(files))
                    return status

                status = asyncio.run(posted())
            else:
                status = post(api, refusing.url, make(files))
    finally:
        refusing.stop()
    assert status == (200 if repeatable else 401)
    assert len(refusing.bodies) == len(set(refusing.tokens)) == (2 if repeatable else 1)
    [body] = set(refusing.bodies)
    whole = CONTENT[10:] if len(body) == len(CONTENT) - 10 else CONTENT
    assert body == b"" or any(part in body for part in (b"onetwo", b"text", b"inner", b"a=1", b'{"a"', whole))


RUNS: dict[str, Callable[[], None]] = {
    f"{post.__name__}-{name}-{'dpop' if bound else 'bearer'}": partial(run, post, *case, bound)
    for post, cases in LIBRARIES
    for name, case in cases.items()
    for bound in (False, True)
}
at_once = AtOnce(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_body_is_sent_again_if_it_can_be(name: str) -> None:
    at_once.outcome(name)


async def test_a_file_that_is_still_being_sent_is_not_sent_again(server: AuthServer, tmp_path: Path) -> None:
    """The API may refuse a call before it has read its body; aiohttp goes on reading the file then."""
    calls = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        await reader.read()
        writer.close()

    path = tmp_path / "large"
    path.write_bytes(bytes(50_000_000))
    site = await asyncio.start_server(refuse, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{site.sockets[0].getsockname()[1]}/"
    async with site, server.client(base_url=url) as api:
        session = aiohttp.ClientSession(middlewares=(AiohttpMiddleware(api),))
        with path.open("rb") as large:
            async with session as http, http.post(url, data=large) as answer:
                assert answer.status == 401
    assert calls == 1
