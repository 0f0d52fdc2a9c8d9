"""Hosts and origins as clients spell them, read into one spelling. Pure.

Sources: RFC 9110, section 7.2 (``Host``); RFC 6454, section 7 (``Origin``).
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")
DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_PORT = 65535

_AUTHORITY = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]{1,254})(?::(?P<port>[0-9]{1,5}))?")
_ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<authority>.+)")


class Authority(NamedTuple):
    """A host and a port, spelt in one way: lower case, no dot at the end, IPv6 shortened and without brackets."""

    host: str
    port: int | None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


class Origin(NamedTuple):
    """Where a page comes from or a connection goes to, spelt in one way; the port of HTTP and HTTPS is always named."""

    scheme: str
    host: str
    port: int | None

    @classmethod
    def of(cls, scheme: str, host: str, port: int | None) -> Origin:
        """The origin of a URL's parts; ``port`` is None where the URL names none."""
        return cls(scheme, host.lower(), DEFAULT_PORTS.get(scheme) if port is None else port)

    def __str__(self) -> str:
        """The origin as browsers send it."""
        port = None if self.port == DEFAULT_PORTS.get(self.scheme) else self.port
        return f"{self.scheme}://{Authority(self.host, port)}"


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
    return Origin.of(found["scheme"], *authority)


def is_address(host: str) -> bool:
    """Whether a host is an IP address and no name."""
    try:
        _ip(host)
    except ValueError:
        return False
    return True


def is_loopback(address: str) -> bool:
    """Whether an IP address can be reached from its own machine only; False for what is no IP address."""
    return is_address(address) and _ip(address).is_loopback


def is_any_address(address: str) -> bool:
    """Whether who listens on an IP address listens on all that the machine has."""
    return is_address(address) and _ip(address).is_unspecified


def own_authorities(address: str, port: int) -> list[Authority]:
    """What a request for the address that is listened on may name as its host."""
    names = set(LOOPBACK_HOSTS) if is_loopback(address) else set()
    names.add(str(_ip(address)) if is_address(address) else address.lower())
    return [Authority(name, port) for name in sorted(names)]


def _ip(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    parsed = ipaddress.ip_address(address)
    # A socket for both versions gives IPv4 addresses in IPv6 ones.
    return getattr(parsed, "ipv4_mapped", None) or parsed
