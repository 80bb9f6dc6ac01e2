"""The token endpoint of all who are measured, in a process of its own: whatever is asked, a token is given.

    python server.py LIFETIME LATENCY

It says its URL in one line. ``/count`` tells how many token requests came, and ends the count.
"""

from __future__ import annotations

import asyncio
import json
import sys

# Microsoft's, of which their libraries read the metadata.
TENANT = "https://login.microsoftonline.com/tenant"
METADATA = {
    "issuer": f"{TENANT}/v2.0",
    "authorization_endpoint": f"{TENANT}/authorize",
    "token_endpoint": f"{TENANT}/token",
}


async def main(lifetime: int, latency: float) -> None:
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                for line in head.split("\r\n"):
                    if line.startswith("content-length:"):
                        await reader.readexactly(int(line.split(":")[1]))
                if " /count" in head:
                    answer: object = count
                    count = 0
                elif head.startswith("post"):
                    count += 1
                    number = count
                    await asyncio.sleep(latency)
                    answer = {
                        "access_token": f"{number:06}" + "t0ken." * 140,
                        "token_type": "Bearer",
                        "expires_in": lifetime,
                    }
                else:
                    answer = METADATA
                text = json.dumps(answer).encode()
                length = f"content-length: {len(text)}\r\n".encode()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n" + length + b"\r\n" + text)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
