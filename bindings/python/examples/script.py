"""A script that calls an API. It asks for one token, however many calls it makes.

EVERTOKEN_APP_ID=… EVERTOKEN_APP_SECRET=… EVERTOKEN_ISSUER=… EVERTOKEN_BASE_URL=… python script.py
"""

from __future__ import annotations

import sys

from evertoken import Client, EvertokenError, httpx_client


def main() -> int:
    try:
        with Client.from_env() as api, httpx_client(api) as http:
            for n in range(3):
                answer = http.get(f"orders/{n}").raise_for_status()
                print(f"order {n}: {answer.status_code}")
    except EvertokenError as error:
        print(f"no token: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
