"""Which names are secrets': of headers, parameters, form fields, JSON members, assignments and environment variables.

There is one table for all of them. A name is cut into segments (``X-Goog-Api-Key`` → x, goog, api, key; ``apiKey`` →
api, key), and whole segments are compared, never parts of words: ``x-ratelimit-limit-tokens``, ``author`` and
``monkey`` are no secrets. Every key is one, unless it is known to be of a harmless kind.

Invariants: pure functions of names; no value is looked at here: that is ``secret_values``.
"""

import re
from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache
from itertools import pairwise
from typing import Final


class Certainty(IntEnum):
    """How sure a name is a secret's.

    Attributes:
        LIKELY: Headers, parameters, form fields and variables of this name are secret whatever they hold; in bodies
            and texts, where such names are about other things too (``token``), only a value that looks random is.
        CERTAIN: Every value is secret that is no word, placeholder, type or reference.
    """

    LIKELY = 1
    CERTAIN = 2


_SEGMENT: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

# fmt: off
_CERTAIN: Final = frozenset({
    "password", "passwd", "passphrase", "passcode", "apikey", "secretkey", "privatekey", "clientsecret", "accesstoken",
    "authtoken", "refreshtoken", "sessiontoken", "apitoken", "idtoken", "bearertoken", "apisecret", "authorization",
})
_CERTAIN_PAIRS: Final = frozenset({
    ("api", "key"), ("secret", "key"), ("private", "key"), ("client", "secret"), ("api", "secret"), ("access", "token"),
    ("auth", "token"), ("refresh", "token"), ("session", "token"), ("api", "token"), ("id", "token"),
    ("bearer", "token"), ("master", "key"), ("account", "key"), ("shared", "secret"), ("signing", "secret"),
    ("webhook", "secret"), ("db", "pwd"), ("user", "pwd"), ("db", "pass"), ("access", "key"), ("subscription", "key"),
    ("encryption", "key"), ("signing", "key"),
})
_LIKELY: Final = _CERTAIN | {
    "token", "secret", "pwd", "pass", "credential", "auth", "bearer", "jwt", "signature", "accesskey", "usertoken",
    "openaikey", "dsn", "dpop", "otp", "pat", "authkey", "passkey", "userkey", "mnemonic", "identitytoken", "bottoken",
    "oauthtoken", "devicetoken", "presharedkey", "psk",
}
_LIKELY_PAIRS: Final = frozenset({("connection", "string"), ("session", "key")})
_HARMLESS_BEFORE: Final = {
    "key": frozenset({
        "idempotency", "cache", "partition", "routing", "surrogate", "sort", "public", "publishable", "primary",
        "foreign", "group", "recv", "s3", "hash", "object", "row", "shard", "dedup", "deduplication", "trace", "event",
        "ratelimit", "limit", "feature", "hot", "message", "meta", "shortcut", "translation", "i18n", "registry",
        "dict",
    }),
    # A paging token is a place in a list.
    "token": frozenset({"page", "next", "continuation", "sync", "cursor", "pagination"}),
    "pass": frozenset({"boarding", "by", "first", "second", "one", "two", "single", "multi", "forward", "backward"}),
}
_COUNTED: Final = frozenset({
    "api", "access", "auth", "refresh", "bearer", "session", "secret", "user", "bot", "service", "personal", "x",
})
"""What comes before ``tokens`` that are secrets; all others are counted: ``max_tokens``."""
# What follows says that the name is about the secret, not the secret: token-limit, auth-type, token_count.
_ABOUT: Final = frozenset({
    "limit", "limits", "remaining", "reset", "count", "usage", "budget", "type", "types", "scheme", "method", "methods",
    "name", "names", "status", "length", "size", "expiry", "expires", "expiration", "ttl", "version", "algorithm",
    "alg", "url", "uri", "urls", "file", "files", "path", "paths", "dir", "header", "headers", "prefix", "suffix",
    "timeout",
    "enabled", "disabled", "required", "region", "user", "username", "endpoint", "host", "port", "sock", "socket",
    "provider", "backend", "id", "ids", "arn", "mode", "scope", "audience", "issuer", "domain", "location", "cache",
    "helper", "command", "cmd", "policy", "input", "hash", "hashes", "hint", "rules", "strength", "field", "label",
    "placeholder", "description", "changed", "encryption", "hasher", "challenge", "env", "store", "manager", "pattern",
    "parameters", "format",
})
_WHOLE: Final = frozenset({("access", "key", "id"), ("secret", "id")})
"""Ends of names that are secret although they look like what is about one."""
# fmt: on
_FUSED: Final = re.compile(r"[a-z]+?(?:password|passwd|passphrase|apikey)s?")

_NEVER: Final = frozenset({
    "idempotency-key", "sec-websocket-key", "access-control-allow-credentials", "google_application_credentials",
    "oldpwd",
})  # fmt: skip
_COOKIES: Final = frozenset({"cookie", "set-cookie", "cookie2", "set-cookie2"})
_PARAMETERS: Final = frozenset({
    "key", "sig", "code", "hmac", "sid", "ticket", "assertion", "samlresponse", "saml_response", "pw", "sas",
})  # fmt: skip
_PARAMETER_PAIRS: Final = frozenset({("client", "assertion"), ("code", "verifier"), ("device", "code")})

_WORDS: Final = _LIKELY | _PARAMETERS | {"key"} | {last for *_, last in _LIKELY_PAIRS | _PARAMETER_PAIRS}
PARTS_OF_SECRET_NAMES: Final = "|".join(
    sorted(word for word in _WORDS if not any(other in word for other in _WORDS - {word}))
)
"""An expression for what the name of every secret parameter has in it, in lower case."""


def segments_of(name: str) -> list[str]:
    """The words of a name, in lower case."""
    return [segment.lower() for segment in _SEGMENT.findall(name)]


def is_about_secret(name: str) -> bool:
    """Whether a name is that of what belongs to a secret, not of the secret: its id, its type, its URL."""
    segments = segments_of(name)
    return bool(segments) and _is_about(segments[-1])


def _is_about(segment: str) -> bool:
    return segment in _ABOUT or segment.removesuffix("s") in _ABOUT


def certainty_of(segments: Sequence[str]) -> Certainty | None:
    """How sure a name of these words is a secret's; None where it is no secret's."""
    if tuple(segments[-3:]) in _WHOLE or tuple(segments[-2:]) in _WHOLE:
        return Certainty.LIKELY
    if not segments or _is_about(segments[-1]):
        return None
    found: Certainty | None = None
    for place, segment in enumerate(segments):
        before = segments[place - 1] if place else ""
        if (place + 1 < len(segments) and _is_about(segments[place + 1])) or not _is_secret(segment, before):
            continue
        one = _singular(segment)
        if one in _CERTAIN or (before, one) in _CERTAIN_PAIRS or _FUSED.fullmatch(one):
            return Certainty.CERTAIN
        found = Certainty.LIKELY
    return found


def _singular(segment: str) -> str:
    return segment[:-1] if segment.endswith("s") and segment not in ("pass", "sas") else segment


def _is_secret(segment: str, before: str) -> bool:
    one = _singular(segment)
    if before in _HARMLESS_BEFORE.get(one, ()) or (segment == "tokens" and before not in _COUNTED):
        return False
    return one == "key" or one in _LIKELY or (before, one) in _LIKELY_PAIRS or _FUSED.fullmatch(one) is not None


def is_secret_name(name: str) -> bool:
    """Whether a header, a parameter, a field or a variable of this name holds a secret, whatever that looks like."""
    return name.lower() not in _NEVER and certainty_of(segments_of(name)) is not None


@lru_cache(maxsize=1024)
def header_rule(name: str) -> str | None:
    """The rule that masks a header's whole value, ``header`` or ``cookie``; None for harmless names."""
    lower = name.lower()
    if lower in _COOKIES or "cookie" in segments_of(name):
        return "cookie"
    # Header names come in any case: X-ApiToken is cut as it is written, X-API-TOKEN and x-api-token alike.
    return "header" if is_secret_name(name) or is_secret_name(lower) else None


@lru_cache(maxsize=1024)
def parameter_is_secret(name: str) -> bool:
    """Whether a parameter of a URL or a field of a form, of this (decoded) name, is secret."""
    if name.lower() in _PARAMETERS or is_secret_name(name):
        return True
    return not _PARAMETER_PAIRS.isdisjoint(pairwise(segments_of(name)))


@lru_cache(maxsize=1024)
def member_certainty(name: str) -> Certainty | None:
    """How sure a member of JSON, or what a text assigns to this name, is secret.

    Fewer names count here than in headers: a ``key`` alone is one of a mapping, signatures are those of messages, and
    one-time passwords and the like have no look of their own.
    """
    segments = segments_of(name)
    if segments in (["key"], ["keys"]) or segments[-1:] == ["signature"] or name.lower() in _NEVER:
        return None
    return certainty_of(segments)
