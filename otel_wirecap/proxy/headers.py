"""Which headers pass through a proxy, and which belong to one connection only.

Source: RFC 9110, sections 7.6.1 (hop-by-hop fields, what ``Connection`` names) and 7.2 (``Host``); RFC 9112,
section 6.3 (``Transfer-Encoding`` outranks ``Content-Length``; both together are an attempt at smuggling).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias
from urllib.parse import parse_qsl

HeaderList: TypeAlias = list[tuple[bytes, bytes]]

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

CREDENTIAL_HEADERS = frozenset({b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key"})
"""A client that sends one of these brings its own credential; so does one with ``key`` in the query."""

_NEVER_NAMED = frozenset({b"content-length", b"host"})
"""A ``Connection`` header that names these would change where the message goes or ends: it is not obeyed."""


class RequestHeaders(NamedTuple):
    """What is sent to a backend.

    Attributes:
        headers: in the client's order and spelling.
        has_body: whether the request has a body.
    """

    headers: HeaderList
    has_body: bool


def request_headers(received: Sequence[tuple[bytes, bytes]], host: bytes, *, http_version: str) -> RequestHeaders:
    """The headers that a backend gets for a client's request.

    Args:
        received: the client's headers.
        host: the backend's ``host[:port]``, put in the place of the client's.
        http_version: of the client's request: ``"1.1"``, ``"2"``, …; from 2 on a body needs no header.
    """
    dropped = _connection_bound(received)
    names = {name.lower() for name, _ in received}
    chunked = b"transfer-encoding" in names or (
        b"content-length" not in names and http_version >= "2" and b"content-type" in names
    )
    headers: HeaderList = []
    for name, value in received:
        lower = name.lower()
        if lower == b"host":
            headers.append((name, host))
        elif lower not in dropped and not (chunked and lower == b"content-length"):
            headers.append((name, value))
    if b"host" not in names:
        headers.insert(0, (b"Host", host))
    if chunked:
        headers.append((b"Transfer-Encoding", b"chunked"))
    return RequestHeaders(headers, chunked or b"content-length" in names)


def response_headers(received: Sequence[tuple[bytes, bytes]]) -> HeaderList:
    """The headers that a client gets for a backend's response, in the backend's order and spelling.

    With ``Transfer-Encoding``, which ends a message whatever ``Content-Length`` says, the latter does not pass.
    """
    dropped = _connection_bound(received)
    if any(name.lower() == b"transfer-encoding" for name, _ in received):
        dropped |= {b"content-length"}
    return [(name, value) for name, value in received if name.lower() not in dropped]


def sent_credentials(headers: Iterable[tuple[bytes, bytes]], query: bytes, header: str) -> list[bytes]:
    """The credentials of the client's own that a request carries, an empty one included; none: an empty list.

    Args:
        headers: the client's headers.
        query: the URL's query, without the question mark.
        header: the header in which the backend expects a key; it counts, too.

    Returns:
        The values of headers as they came, and of ``key`` in the query decoded.
    """
    known = CREDENTIAL_HEADERS | {header.encode("ascii")}
    found = [value for name, value in headers if name.lower() in known]
    # As latin-1: clients send bytes that are no ASCII, and parse_qsl refuses them.
    parameters = parse_qsl(query.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
    return found + [value.encode("latin-1") for name, value in parameters if name == "key"]


def _connection_bound(headers: Sequence[tuple[bytes, bytes]]) -> frozenset[bytes]:
    """The lower-case names of the headers that belong to this connection only."""
    named = {
        option.strip().lower()
        for name, value in headers
        if name.lower() == b"connection"
        for option in value.split(b",")
    }
    return HOP_BY_HOP | (named - _NEVER_NAMED)
