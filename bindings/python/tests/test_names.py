"""The names of the package, with whichever HTTP libraries are installed: looking at one never fails, using one without its
library says what to install.
"""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import combinations
from typing import Any

import pytest

LIBRARIES = {"AiohttpMiddleware": "aiohttp", "Httpx2Auth": "httpx2", "HttpxAuth": "httpx", "RequestsAuth": "requests"}
NAMES = {*LIBRARIES, "httpx_client"}

PROGRAM = """
import inspect, json, pydoc, sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in MISSING:
            raise ERROR(f"No module named {name!r}", name=name)

MISSING, ERROR = sys.argv[1].split(","), ModuleNotFoundError if sys.argv[2] == "missing" else ImportError
sys.meta_path.insert(0, Missing())

import evertoken
all_of_it = {}
exec("from evertoken import *", all_of_it)
from evertoken import AiohttpMiddleware, Httpx2Auth, HttpxAuth, RequestsAuth, httpx_client
from evertoken.testing import fixed_client

api = fixed_client("t0ken", "https://api.example/")
said = {}
for name in ("AiohttpMiddleware", "Httpx2Auth", "HttpxAuth", "RequestsAuth", "httpx_client"):
    assert hasattr(evertoken, name) and hasattr(evertoken._adapters, name)
    assert isinstance(getattr(evertoken, name), type) or name == "httpx_client"
    try:
        made = getattr(evertoken, name)(api)
        assert name == "httpx_client" or isinstance(made, getattr(evertoken, name))
        said[name] = None
    except ImportError as error:
        said[name] = str(error)
        assert error.__cause__ is not None
assert not hasattr(evertoken, "NoSuchThing")
members = dict(inspect.getmembers(evertoken))
pydoc.render_doc(evertoken)
print(json.dumps({
    "star": sorted(all_of_it), "dir": dir(evertoken), "adapters": dir(evertoken._adapters), "all": evertoken.__all__,
    "members": sorted(members), "said": said,
}))
"""


def seen(missing: tuple[str, ...], how: str = "missing") -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, ",".join(missing), how], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("missing", [each for size in range(5) for each in combinations(LIBRARIES.values(), size)], ids=",".join)
def test_names_are_there_with_any_libraries(missing: tuple[str, ...]) -> None:
    told = seen(missing)
    assert set(told["all"]) <= set(told["star"]) and set(told["all"]) <= set(told["dir"])
    for place in ("star", "dir", "adapters", "members"):
        assert set(told[place]) >= NAMES, place
    for name, said in told["said"].items():
        library = LIBRARIES.get(name, "httpx")
        if library in missing:
            assert f"evertoken.{name} needs {library}" in said and f"pip install evertoken[{library}]" in said
        else:
            assert said is None


def test_a_library_that_cannot_be_imported_is_named() -> None:
    """One that is broken, or too old for the adapter."""
    for name, said in seen(tuple(LIBRARIES.values()), "broken")["said"].items():
        assert f"evertoken.{name} needs {LIBRARIES.get(name, 'httpx')} (No module named" in said


def test_a_library_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import aiohttp
    import evertoken

    monkeypatch.delitem(sys.modules, "evertoken._aiohttp", raising=False)
    monkeypatch.delattr("evertoken._aiohttp", raising=False)
    monkeypatch.delattr("evertoken._adapters.AiohttpMiddleware", raising=False)
    monkeypatch.delattr(aiohttp, "ClientHandlerType")
    made: Any = evertoken.AiohttpMiddleware
    with pytest.raises(
        ImportError, match=r"needs aiohttp \(cannot import name 'ClientHandlerType'.*pip install evertoken\[aiohttp\]"
    ):
        made(None)


def test_a_stand_in_can_be_named_in_types_and_subclassed(monkeypatch: pytest.MonkeyPatch) -> None:
    import evertoken

    monkeypatch.setitem(sys.modules, "httpx", None)
    monkeypatch.delattr("evertoken._adapters.HttpxAuth", raising=False)
    stand_in: Any = evertoken.HttpxAuth
    assert not isinstance(5, stand_in) and stand_in.__name__ == "HttpxAuth"

    class Mine(stand_in):  # type: ignore[misc]
        pass

    with pytest.raises(ImportError, match=r"pip install evertoken\[httpx\]"):
        Mine(None)
