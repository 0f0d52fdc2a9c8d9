"""Headers and query parameters that are secret by their name, whatever they hold.

A name is cut into segments (``X-Goog-Api-Key`` → x, goog, api, key; ``apiKey`` → api, key), and whole
segments are compared, never parts of words: ``x-ratelimit-limit-tokens``, ``author`` and ``monkey`` are no
secrets.
"""

import re
from functools import lru_cache
from typing import Final

_SEGMENT: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

# fmt: off
_SECRET: Final = frozenset({
    "token", "secret", "password", "passwd", "pwd", "passphrase", "credential", "credentials", "apikey",
    "auth", "authorization", "bearer", "jwt", "signature", "accesskey", "secretkey", "privatekey",
    "clientsecret", "accesstoken", "authtoken", "refreshtoken", "sessiontoken",
})
_KEY_OF: Final = frozenset({
    "api", "access", "secret", "private", "subscription", "master", "admin", "auth", "service",
    "functions", "virtual", "account", "shared", "signing", "encryption", "litellm", "client",
})
# What follows tells that the name is about the secret, not the secret: token-limit, auth-type, token_count.
_ABOUT: Final = frozenset({
    "limit", "remaining", "reset", "count", "usage", "budget", "type", "scheme", "method", "name",
    "status", "length", "expiry", "expires", "ttl", "version", "algorithm", "url", "uri",
})
# A paging token is a place in a list.
_PLACE: Final = frozenset({
    "page", "next", "continuation", "sync", "cursor", "pagination",
})
# fmt: on
_NEVER: Final = frozenset({"idempotency-key", "sec-websocket-key", "access-control-allow-credentials"})
_COOKIES: Final = frozenset({"cookie", "set-cookie", "cookie2", "set-cookie2"})
_KEYS: Final = frozenset({"key", "x-key"})
_QUERY_NAMES: Final = frozenset({"key", "sig", "code", "hmac", "x-amz-credential"})


@lru_cache(maxsize=1024)
def header_rule(name: str) -> str | None:
    """The rule that masks a header's whole value, ``header`` or ``cookie``; None for harmless names."""
    lower = name.lower()
    if lower in _COOKIES:
        return "cookie"
    if lower in _NEVER:
        return None
    segments = _SEGMENT.findall(lower)
    if "cookie" in segments:
        return "cookie"
    return "header" if lower in _KEYS or _secret(segments) else None


@lru_cache(maxsize=1024)
def query_is_secret(name: str) -> bool:
    """Whether a query parameter of this (decoded) name is secret."""
    return name.lower() in _QUERY_NAMES or _secret([segment.lower() for segment in _SEGMENT.findall(name)])


def _secret(segments: list[str]) -> bool:
    for place, segment in enumerate(segments):
        before = segments[place - 1] if place else ""
        if segment in _SECRET or (segment == "key" and before in _KEY_OF):
            after = segments[place + 1] if place + 1 < len(segments) else ""
            if after not in _ABOUT and not (segment == "token" and before in _PLACE):
                return True
    return False
