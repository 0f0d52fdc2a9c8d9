"""The parts of a URL as a client sent it, however malformed: a recorder must not fail over it."""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

_URL = re.compile(  # RFC 3986, appendix B: it matches any string
    r"(?:(?P<scheme>[^:/?#]+):)?(?://(?P<authority>[^/?#]*))?(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?(?:#.*)?", re.DOTALL
)
_PORT = re.compile(r"(?P<host>.*?)(?::(?P<port>[0-9]{0,5}))?", re.DOTALL)


class URL(NamedTuple):
    """A URL in parts.

    Attributes:
        scheme: in lower case.
        host: in lower case, without brackets, user information and port; "" where there is none.
        port: None where none is given.
        path: as it was sent.
        query: without the question mark.
    """

    scheme: str
    host: str
    port: int | None
    path: str
    query: str


@functools.lru_cache(maxsize=256)
def url_parts(url: str) -> URL:
    """Takes a URL apart."""
    found = _URL.fullmatch(url)
    assert found is not None  # noqa: S101  # every part is optional
    address = (found["authority"] or "").rpartition("@")[2]
    named = _PORT.fullmatch(address)
    assert named is not None  # noqa: S101  # every part is optional
    host = named["host"].lower()
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return URL(
        (found["scheme"] or "").lower(), host, int(named["port"]) if named["port"] else None, found["path"],
        found["query"] or "",
    )  # fmt: skip
