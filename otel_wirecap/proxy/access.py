"""Who may use the keys that the proxy takes from its environment. Pure: a request's head in, a decision out.

Invariants:

- A key is added to a request only where ``Passage.adds_key`` says so: never to one that brings a credential of its
  own, and never to a browser's preflight.
- With a client token, the token alone decides. Nothing that holds it is sent on; it is never searched for in a time
  that tells how much of a guess is right.
- Without one, the request must be meant for the proxy (``Host``) and must not come from another site's page
  (``Origin``, ``Sec-Fetch-Site``): a page in the user's browser reaches loopback addresses too, and can have any name
  resolve to one (DNS rebinding), but it cannot choose these headers.

Sources: RFC 9110, section 7.2 (``Host``) and 11.6.1 (``WWW-Authenticate``); RFC 6750, section 2.1 (what a bearer token
is made of); RFC 6454, section 7 (``Origin``); Fetch Metadata Request Headers (``Sec-Fetch-Site``); the Fetch standard
(preflights).
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hmac
import ipaddress
import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes

from otel_wirecap.errors import ConfigurationError
from otel_wirecap.proxy.headers import sent_credentials

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MIN_TOKEN_LENGTH = 16
"""A shorter one could be guessed, and one of less than 8 characters would not be masked in a capture."""

MAX_TOKEN_LENGTH = 256
"""The search for a token takes time in proportion to its length."""

LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")
DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_PORT = 65535
MAX_QUOTED = 100

_TOKEN = re.compile(rb"[A-Za-z0-9._~+/-]+=*")
_AUTHORITY = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]{1,254})(?::(?P<port>[0-9]{1,5}))?")
_ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<authority>.+)")
_BASIC = re.compile(rb"(?i:basic)[ \t]+([A-Za-z0-9+/_-]+)")
_HARMLESS_SITES = frozenset({b"same-origin", b"none"})


class Authority(NamedTuple):
    """A host and a port, spelt in one way: lower case, no dot at the end, IPv6 shortened and without brackets."""

    host: str
    port: int | None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


class Origin(NamedTuple):
    """Where a page comes from; the port of HTTP and HTTPS is always named."""

    scheme: str
    host: str
    port: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Arrival:
    """The head of a request as it arrived.

    Attributes:
        server: the address and port at which the connection arrived; None where the server does not know.
        method: as received.
        path: percent-encoded, as received.
        query: without the question mark, as received.
        headers: in the client's order and spelling.
    """

    server: tuple[str, int | None] | None
    method: str
    path: bytes
    query: bytes
    headers: Sequence[tuple[bytes, bytes]]


@dataclasses.dataclass(frozen=True, slots=True)
class Passage:
    """The request may pass.

    Attributes:
        headers: those of the client that may be sent on; hop-by-hop ones are still among them.
        query: what may be sent on of it.
        adds_key: whether the backend's key is to be added.
    """

    headers: Sequence[tuple[bytes, bytes]]
    query: bytes
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
        client_token: what a client shows to use the environment's keys; None: ``Host`` and ``Origin`` decide.
        allowed_hosts: what ``Host`` may be beside the address that is listened on; without a port: with any.
        allowed_origins: the origins of pages that may use the keys beside the proxy's own.
    """

    client_token: bytes | None = dataclasses.field(default=None, repr=False)
    allowed_hosts: frozenset[Authority] = frozenset()
    allowed_origins: frozenset[Origin] = frozenset()

    def decide(self, arrival: Arrival, credential_header: str, *, has_key: bool) -> Passage | Refusal:
        """Whether a request may pass, with what of it, and whether it gets the backend's key.

        Args:
            arrival: the request.
            credential_header: the lower-case header in which the backend expects a key.
            has_key: whether the environment has a key for the backend.
        """
        if self.client_token is not None:
            return self._by_token(self.client_token, arrival, credential_header, has_key=has_key)
        passage = Passage(arrival.headers, arrival.query, adds_key=False)
        if not has_key or _is_preflight(arrival) or sent_credentials(arrival.headers, arrival.query, credential_header):
            return passage
        named = _values(arrival.headers, b"host")
        host = parsed_authority(named[0].decode("latin-1")) if len(named) == 1 else None
        if host is None or not self._allows(host, arrival.server):
            return self._host_refusal(named, host, arrival.server)
        return self._page_refusal(arrival, host) or dataclasses.replace(passage, adds_key=True)

    def _by_token(self, token: bytes, arrival: Arrival, credential_header: str, *, has_key: bool) -> Passage | Refusal:
        if _holds(token, arrival.path):
            return Refusal(
                400, "client_token_in_path",
                "the client token is part of the path, which is sent on as it is; expected it in place of a key, such "
                "as Authorization: Bearer TOKEN",
            )  # fmt: skip
        headers = [header for header in arrival.headers if not _header_holds(token, *header)]
        query = b"&".join(pair for pair in arrival.query.split(b"&") if not _holds(token, pair))
        if _is_preflight(arrival) or sent_credentials(headers, query, credential_header):
            return Passage(headers, query, adds_key=False)
        sent = sent_credentials(arrival.headers, arrival.query, credential_header)
        # All are compared, so that neither their order nor their number tells anything.
        if not sum([hmac.compare_digest(_bare(value), token) for value in sent]):
            return Refusal(
                401, "client_token_missing",
                "this proxy wants its client token, or a key of the provider's, where the provider's key belongs, such "
                "as Authorization: Bearer TOKEN; clients' libraries send what they are given as their API key",
            )  # fmt: skip
        return Passage(headers, query, adds_key=has_key)

    def _allows(self, host: Authority, server: tuple[str, int | None] | None) -> bool:
        full = host if host.port is not None else Authority(host.host, DEFAULT_PORTS["http"])
        return full in _own_hosts(server) or not self.allowed_hosts.isdisjoint({full, Authority(host.host, None)})

    def _host_refusal(
        self, named: list[bytes], host: Authority | None, server: tuple[str, int | None] | None
    ) -> Refusal:
        expected = " or ".join(map(str, [*_own_hosts(server), *sorted(self.allowed_hosts, key=str)]))
        hint = ""
        if host is not None:
            came, hint = f"for the host {host}", f"; --allow-host {host} would allow it"
        elif len(named) == 1:
            came = f"for the host {_quoted(named[0])}"
        else:
            came = f"with {len(named)} Host headers"
        return Refusal(
            403, "host_not_allowed",
            f"the proxy adds no key to a request {came}; expected Host to be {expected or 'one that is allowed'}, or a "
            f"key of your own{hint}",
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
                hint = "" if origin is None else f"; --allow-origin {origin_text(origin)} would allow it"
                return _page_refused(f"Origin is {_quoted(value)}{hint}")
            all_allowed = False  # it is the proxy's own
        for site in _values(arrival.headers, b"sec-fetch-site"):
            if site.lower() not in _HARMLESS_SITES and not all_allowed:
                return _page_refused(
                    f"Sec-Fetch-Site is {_quoted(site)}; --allow-origin ORIGIN would allow a page that says where it is from"
                )
        return None


def parsed_authority(text: str) -> Authority | None:
    """Reads ``HOST[:PORT]``, IPv6 in brackets; None when it is none."""
    found = _AUTHORITY.fullmatch(text.lower())
    if found is None:
        return None
    host, port = found["host"], None if found["port"] is None else int(found["port"])
    if port is not None and port > MAX_PORT:
        return None
    if host.startswith("["):
        try:
            host = str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            return None
    host = host.removesuffix(".")
    return Authority(host, port) if host else None


def parsed_origin(text: str) -> Origin | None:
    """Reads ``SCHEME://HOST[:PORT]``; None when it is none (``null`` is none)."""
    found = _ORIGIN.fullmatch(text.lower())
    authority = parsed_authority(found["authority"]) if found is not None else None
    if found is None or authority is None:
        return None
    port = authority.port if authority.port is not None else DEFAULT_PORTS.get(found["scheme"])
    return Origin(found["scheme"], authority.host, port)


def origin_text(origin: Origin) -> str:
    """An origin as browsers send it."""
    port = None if origin.port == DEFAULT_PORTS.get(origin.scheme) else origin.port
    return f"{origin.scheme}://{Authority(origin.host, port)}"


def checked_token(content: bytes, place: str) -> bytes:
    """The client token that a file or a variable holds.

    Args:
        content: what it holds; blanks and line ends around the token do not count.
        place: where it stands, for the message.

    Raises:
        ConfigurationError: it is no token; the message does not quote it.
    """
    token = content.strip()
    if not token:
        wrong = "is empty"
    elif b"\n" in token or b"\r" in token:
        wrong = "has several lines"
    elif not MIN_TOKEN_LENGTH <= len(token) <= MAX_TOKEN_LENGTH:
        wrong = f"has {len(token)} characters"
    elif not _TOKEN.fullmatch(token):
        wrong = "has characters that a token cannot have"
    else:
        return token
    raise ConfigurationError(
        f"{place} {wrong}; expected one line, a token of {MIN_TOKEN_LENGTH} to {MAX_TOKEN_LENGTH} letters, digits and "
        "-._~+/ with = at its end at most, such as the output of: openssl rand -hex 32"
    )


def is_loopback(address: str) -> bool:
    """Whether an IP address can be reached from its own machine only; False for what is no IP address."""
    try:
        return _ip(address).is_loopback
    except ValueError:
        return False


def _ip(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    parsed = ipaddress.ip_address(address)
    return getattr(parsed, "ipv4_mapped", None) or parsed


def _own_hosts(server: tuple[str, int | None] | None) -> list[Authority]:
    """What a request for the address that is listened on may name as its host."""
    if server is None or server[1] is None:
        return []
    address, port = server
    names = set(LOOPBACK_HOSTS) if is_loopback(address) else set()
    try:
        names.add(str(_ip(address)))
    except ValueError:
        names.add(address.lower())
    return [Authority(name, port) for name in sorted(names)]


def _is_same(origin: Origin, host: Authority) -> bool:
    """Whether a page comes from the very host that is asked; a server in front of the proxy may speak HTTPS."""
    port = host.port if host.port is not None else DEFAULT_PORTS.get(origin.scheme)
    return origin.scheme in DEFAULT_PORTS and (origin.host, origin.port) == (host.host, port)


def _page_refused(came: str) -> Refusal:
    return Refusal(403, "origin_not_allowed", f"the proxy adds no key to a request of another site's page: {came}")


def _is_preflight(arrival: Arrival) -> bool:
    return arrival.method == "OPTIONS" and bool(_values(arrival.headers, b"access-control-request-method"))


def _values(headers: Sequence[tuple[bytes, bytes]], wanted: bytes) -> list[bytes]:
    return [value.strip() for name, value in headers if name.lower() == wanted]


def _bare(value: bytes) -> bytes:
    """A header's or parameter's value without ``Bearer``.

    ``Basic`` is no way to bring the token: browsers remember its passwords, and send them for other sites' pages, too.
    """
    scheme, _, rest = value.strip().partition(b" ")
    return rest.strip() if scheme.lower() == b"bearer" else value.strip()


def _header_holds(token: bytes, name: bytes, value: bytes) -> bool:
    return any(_holds(token, part) for part in (name, value, *_decoded_basic(value)))


def _decoded_basic(value: bytes) -> Iterator[bytes]:
    for found in _BASIC.finditer(value):
        text = found[1].translate(bytes.maketrans(b"-_", b"+/"))
        try:
            yield base64.b64decode(text + b"=" * (-len(text) % 4))
        except binascii.Error:  # a length that no base64 has
            continue


def _holds(token: bytes, data: bytes) -> bool:
    """Whether the token stands in the data, as it is or percent-encoded.

    Every place is compared in full: a search that stops at the first wrong byte would tell by its time how much of a
    guess is right.
    """
    size = len(token)
    forms = (data, unquote_to_bytes(data)) if b"%" in data else (data,)
    return any(
        hmac.compare_digest(form[start : start + size], token)
        for form in forms
        for start in range(len(form) - size + 1)
    )


def _quoted(value: bytes) -> str:
    return repr(value[:MAX_QUOTED].decode("latin-1"))
