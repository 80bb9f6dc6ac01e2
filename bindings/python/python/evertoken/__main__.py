"""``python -m evertoken check``: whether the credentials and settings in the environment work, and what is wrong if not."""

from __future__ import annotations

import argparse
import sys

from ._client import Client
from ._errors import EvertokenError


def main(arguments: list[str] | None = None) -> int:
    """0 where all is well, 1 where something is to be mended."""
    parser = argparse.ArgumentParser(prog="python -m evertoken", description=__doc__)
    parser.add_argument("command", choices=["check"])
    parser.add_argument("--env-prefix", default="EVERTOKEN", help="the word with which the variables begin")
    given = parser.parse_args(arguments)
    try:
        with Client.from_env(given.env_prefix) as client:
            well, text = client._check()
    except EvertokenError as error:
        well, text = False, str(error)
    print(text)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
