"""Headers and query parameters that are secret by their name, whatever they hold.

A name is cut into segments (``X-Goog-Api-Key`` → x, goog, api, key; ``apiKey`` → api, key), and whole
segments are compared, never parts of words: ``x-ratelimit-limit-tokens``, ``author`` and ``monkey`` are no
secrets. Every key is one, unless it is known to be of a harmless kind.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final
from urllib.parse import unquote, unquote_plus

_SEGMENT: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

# fmt: off
_SECRET: Final = frozenset({
    "token", "secret", "password", "passwd", "pwd", "passphrase", "credential", "credentials", "apikey",
    "auth", "authorization", "bearer", "jwt", "signature", "accesskey", "secretkey", "privatekey",
    "clientsecret", "accesstoken", "authtoken", "refreshtoken", "sessiontoken", "apitoken", "usertoken",
    "idtoken", "bearertoken", "pass", "apisecret", "openaikey",
})
_HARMLESS_KEYS: Final = frozenset({
    "idempotency", "cache", "partition", "routing", "surrogate", "sort", "public", "publishable", "primary",
    "foreign", "group", "hash", "object", "row", "shard", "dedup", "deduplication", "trace", "event", "ratelimit",
    "limit", "feature", "hot", "message",
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
_LIKE_A_SECRET: Final = re.compile(r"(?=.*[0-9]).{8,}|.{20,}")
_NEVER: Final = frozenset({"idempotency-key", "sec-websocket-key", "access-control-allow-credentials"})
_COOKIES: Final = frozenset({"cookie", "set-cookie", "cookie2", "set-cookie2"})
_QUERY_NAMES: Final = frozenset({"key", "sig", "code", "hmac", "x-amz-credential"})


@lru_cache(maxsize=1024)
def header_rule(name: str) -> str | None:
    """The rule that masks a header's whole value, ``header`` or ``cookie``; None for harmless names."""
    lower = name.lower()
    if lower in _COOKIES:
        return "cookie"
    if lower in _NEVER:
        return None
    # Header names come in any case: X-ApiToken is cut as it is written, X-API-TOKEN and x-api-token alike.
    segments = segments_of(name)
    if "cookie" in segments:
        return "cookie"
    return "header" if is_secret_name(segments) or is_secret_name(_SEGMENT.findall(lower)) else None


@lru_cache(maxsize=1024)
def query_is_secret(name: str) -> bool:
    """Whether a query parameter of this (decoded) name is secret."""
    return name.lower() in _QUERY_NAMES or is_secret_name(segments_of(name))


def named_secrets(headers: Iterable[tuple[str, str]], query: str) -> list[str]:
    """The values that a request's header names and parameter names say are secret, where they look like it.

    They are to be masked wherever they turn up again. What reads like a word ("required", "disabled") is left out:
    it would mangle harmless text.
    """
    found: list[str] = []
    for name, value in headers:
        rule = header_rule(name)
        if rule == "cookie":
            found += [pair.partition("=")[2].strip() for pair in value.split(";")]
        elif rule is not None:
            found += [value, *value.split()]
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if value and query_is_secret(unquote_plus(name)):
            found += [value, unquote(value)]
    return [value for value in dict.fromkeys(found) if reads_like_a_secret(value)]


def reads_like_a_secret(value: str) -> bool:
    """Whether a value is long, or has a digit: not a word that stands in harmless text too."""
    return _LIKE_A_SECRET.fullmatch(value) is not None


def segments_of(name: str) -> list[str]:
    """The words of a name, in lower case."""
    return [segment.lower() for segment in _SEGMENT.findall(name)]


def is_secret_name(segments: list[str]) -> bool:
    """Whether a name of these words is a secret's."""
    for place, segment in enumerate(segments):
        before = segments[place - 1] if place else ""
        if segment in _SECRET or (segment == "key" and before not in _HARMLESS_KEYS):
            after = segments[place + 1] if place + 1 < len(segments) else ""
            if after not in _ABOUT and not (segment == "token" and before in _PLACE):
                return True
    return False
