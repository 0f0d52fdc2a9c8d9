"""Who may use the keys that the proxy takes from its environment. Pure: a request's head in, a decision out.

Invariants:

- A key is added to a request only where ``Passage.adds_key`` says so: never to one that brings a credential of its
  own, and never to a browser's preflight.
- A request that a key is added to is meant for the proxy (``Host``) and does not come from another site's page
  (``Origin``, ``Sec-Fetch-Site``, without both ``Referer``): a page in the user's browser reaches loopback addresses
  too, and can have any name resolve to one (DNS rebinding), but it cannot choose these headers.
- With a client token, it also shows the token; and no header and no part of a query that holds the token is sent on.

Sources: RFC 9110, section 7.2 (``Host``); RFC 6454, section 7 (``Origin``); Fetch Metadata Request Headers
(``Sec-Fetch-Site``); the Fetch standard (preflights).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from otel_wirecap.proxy.authority import (
    DEFAULT_PORTS,
    Authority,
    Origin,
    own_authorities,
    parsed_authority,
    parsed_origin,
)
from otel_wirecap.proxy.client_token import header_holds, holds, is_among
from otel_wirecap.proxy.headers import sent_credentials
from otel_wirecap.proxy.quoting import quoted

_HARMLESS_SITES = frozenset({b"same-origin", b"none"})


@dataclasses.dataclass(frozen=True, slots=True)
class Arrival:
    """The head of a request as it arrived.

    Attributes:
        server: the address and port at which the connection arrived; None where the server does not know.
        method: as received.
        path: percent-encoded, as received.
        query: without the question mark, as received; None where there is no question mark.
        headers: in the client's order and spelling.
    """

    server: tuple[str, int | None] | None
    method: str
    path: bytes
    query: bytes | None
    headers: Sequence[tuple[bytes, bytes]]


@dataclasses.dataclass(frozen=True, slots=True)
class Passage:
    """The request may pass.

    Attributes:
        headers: those of the client that may be sent on; hop-by-hop ones are still among them.
        query: what may be sent on of it; None where nothing is, not even a question mark.
        adds_key: whether the backend's key is to be added.
    """

    headers: Sequence[tuple[bytes, bytes]]
    query: bytes | None
    adds_key: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """The request is answered by the proxy.

    Attributes:
        status: 400, 401 or 403.
        code: a word for programs.
        message: for people: what is wrong and what would be right.
    """

    status: int
    code: str
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Access:
    """The rules in force.

    Attributes:
        client_token: what a client must show to use the environment's keys; None: it need show nothing.
        allowed_hosts: what ``Host`` may be beside the address that is listened on; without a port: with any.
        allowed_origins: the origins of pages that may use the keys beside the proxy's own.
        any_host: whether ``Host`` may be anything: a proxy that listens on all addresses does not know its names.
    """

    client_token: bytes | None = dataclasses.field(default=None, repr=False)
    allowed_hosts: frozenset[Authority] = frozenset()
    allowed_origins: frozenset[Origin] = frozenset()
    any_host: bool = False

    def decide(self, arrival: Arrival, credential_header: str, *, has_key: bool) -> Passage | Refusal:
        """Whether a request may pass, with what of it, and whether it gets the backend's key.

        Args:
            arrival: the request.
            credential_header: the lower-case header in which the backend expects a key.
            has_key: whether the environment has a key for the backend.
        """
        if self.client_token is not None:
            decision = self._by_token(self.client_token, arrival, credential_header, has_key=has_key)
        else:
            brings_own = sent_credentials(arrival.headers, arrival.query or b"", credential_header)
            adds_key = has_key and not _is_preflight(arrival) and not brings_own
            decision = Passage(arrival.headers, arrival.query, adds_key)
        if isinstance(decision, Refusal) or not decision.adds_key:
            return decision
        return self._refusal(arrival) or decision

    def _by_token(self, token: bytes, arrival: Arrival, credential_header: str, *, has_key: bool) -> Passage | Refusal:
        """Whether the client may pass by its token, and with what: all that does not hold the token."""
        if holds(token, arrival.path) or holds(token, arrival.method.encode("latin-1", "replace")):
            return Refusal(
                400, "client_token_in_path",
                "the client token is part of the path or the method, which are sent on as they are; expected it in "
                "place of a key, such as Authorization: Bearer TOKEN",
            )  # fmt: skip
        headers = [header for header in arrival.headers if not header_holds(token, *header)]
        query = arrival.query
        if query is not None and holds(token, query):
            query = b"&".join(pair for pair in query.split(b"&") if not holds(token, pair)) or None
        if _is_preflight(arrival) or sent_credentials(headers, query or b"", credential_header):
            return Passage(headers, query, adds_key=False)
        sent = sent_credentials(arrival.headers, arrival.query or b"", credential_header)
        if not is_among(token, sent):
            return Refusal(
                401, "client_token_missing",
                "this proxy wants its client token, or a key of the provider's, where the provider's key belongs, such "
                "as Authorization: Bearer TOKEN; clients' libraries send what they are given as their API key",
            )  # fmt: skip
        return Passage(headers, query, adds_key=has_key)

    def _refusal(self, arrival: Arrival) -> Refusal | None:
        """What is wrong with a request that a key would be added to."""
        named = _values(arrival.headers, b"host")
        host = parsed_authority(named[0].decode("latin-1")) if len(named) == 1 else None
        if host is None or not self._allows(host, arrival):
            return self._host_refusal(named, host, arrival)
        return self._page_refusal(arrival, host)

    def _allows(self, host: Authority, arrival: Arrival) -> bool:
        if self.any_host:
            return True
        full = host if host.port is not None else Authority(host.host, DEFAULT_PORTS["http"])
        return full in _own_hosts(arrival) or not self.allowed_hosts.isdisjoint({full, Authority(host.host, None)})

    def _host_refusal(self, named: list[bytes], host: Authority | None, arrival: Arrival) -> Refusal:
        expected = " or ".join(map(str, [*_own_hosts(arrival), *sorted(self.allowed_hosts, key=str)]))
        hint = ""
        if host is not None:
            came, hint = f"for the host {host}", f"; --allow-host {host} would allow it"
        elif len(named) == 1:
            came = f"for the host {quoted(named[0])}"
        else:
            came = f"with {len(named)} Host headers"
        return Refusal(
            403, "host_not_allowed",
            f"the proxy adds no key to a request {came}; expected Host to be {expected or 'one that is allowed'}{hint}"
            "; a request with a key of its own passes",
        )  # fmt: skip

    def _page_refusal(self, arrival: Arrival, host: Authority) -> Refusal | None:
        """What is wrong with the page that asks, where a browser says which it is."""
        values = _values(arrival.headers, b"origin")
        all_allowed = bool(values)
        for value in values:
            origin = parsed_origin(value.decode("latin-1"))
            if origin in self.allowed_origins:
                continue
            if origin is None or not _is_same(origin, host):
                hint = "" if origin is None else f"; --allow-origin {origin} would allow it"
                return _page_refused(f"Origin is {quoted(value)}{hint}")
            all_allowed = False  # it is the proxy's own
        for site in _values(arrival.headers, b"sec-fetch-site"):
            if site.lower() not in _HARMLESS_SITES and not all_allowed:
                return _page_refused(
                    f"Sec-Fetch-Site is {quoted(site)}; --allow-origin ORIGIN would allow a page that sends its Origin"
                )
        if not values and not _values(arrival.headers, b"sec-fetch-site"):
            # Browsers send neither with some requests, such as an image's over plain HTTP.
            for value in _values(arrival.headers, b"referer"):
                origin = _origin_of_referer(value)
                if origin is None or not (_is_same(origin, host) or origin in self.allowed_origins):
                    return _page_refused(f"Referer is {quoted(value)}")
        return None


def _own_hosts(arrival: Arrival) -> list[Authority]:
    if arrival.server is None or arrival.server[1] is None:
        return []
    return own_authorities(arrival.server[0], arrival.server[1])


def _is_same(origin: Origin, host: Authority) -> bool:
    """Whether a page comes from the very host that is asked; a server in front of the proxy may speak HTTPS."""
    port = host.port if host.port is not None else DEFAULT_PORTS.get(origin.scheme)
    return origin.scheme in DEFAULT_PORTS and (origin.host, origin.port) == (host.host, port)


def _page_refused(came: str) -> Refusal:
    return Refusal(
        403, "origin_not_allowed",
        f"the proxy adds no key to a request of another site's page: {came}; a request with a key of its own passes",
    )  # fmt: skip


def _is_preflight(arrival: Arrival) -> bool:
    return arrival.method == "OPTIONS" and bool(_values(arrival.headers, b"access-control-request-method"))


def _values(headers: Sequence[tuple[bytes, bytes]], wanted: bytes) -> list[bytes]:
    return [value.strip() for name, value in headers if name.lower() == wanted]


def _origin_of_referer(value: bytes) -> Origin | None:
    scheme, separator, rest = value.decode("latin-1").partition("://")
    return parsed_origin(scheme + separator + re.split(r"[/?#]", rest, maxsplit=1)[0])
