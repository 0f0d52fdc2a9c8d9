"""The client libraries whose requests to backends are captured: what there is to know of them without importing one."""

from __future__ import annotations

import sys
from typing import Literal, NamedTuple


class ClientLibrary(NamedTuple):
    """A library, and what captures it.

    Attributes:
        name: of its distribution, and of its module.
        since: the first version that is captured, major and minor.
        hook: the module of ``otel_wirecap.instrumentation`` that hooks it.
        protocol: what it asks backends by.
    """

    name: str
    since: tuple[int, int]
    hook: str
    protocol: Literal["http", "websocket"] = "http"


CLIENT_LIBRARIES = (
    ClientLibrary("httpx", (0, 25), "httpx"),
    ClientLibrary("httpx2", (2, 0), "httpx"),
    ClientLibrary("aiohttp", (3, 9), "aiohttp"),
    ClientLibrary("websockets", (15, 0), "websockets", "websocket"),
)

_UNHOOKED = ("requests", "urllib3", "pycurl", "curl_cffi", "niquests", "grpc", "tornado.httpclient", "treq")
"""Modules of other libraries that people send requests with."""


def unhooked_libraries() -> list[str]:
    """The libraries that this process may have sent requests by, and whose requests are not captured."""
    found = [name for name in _UNHOOKED if name in sys.modules]
    urllib = sys.modules.get("urllib.request")
    if getattr(urllib, "_opener", None) is not None:  # much imports it, and few open something by it
        found.append("urllib.request")
    return found
