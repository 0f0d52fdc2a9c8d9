"""Secrets known by the name of the JSON field that holds them: ``"api_key": "…"``, also within JSON within strings.

The ends of names are found in one pass with the shortest beginnings of keys; the name is cut into segments as those of
headers are, and only the string that follows is masked: never a number, an object, a list. A name that can be about
many things (``token``, ``sort_key``) counts only where its value looks random; prose, types and references to
variables never do.
"""

import itertools
import re
from functools import lru_cache
from typing import Final

from otel_wirecap.capture.redaction.names import is_secret_name, segments_of
from otel_wirecap.capture.redaction.spans import MARKER, Span

_ENDS: Final = (
    "key", "Key", "KEY", "ken", "KEN", "ret", "RET", "ord", "ORD", "ase", "ial", "als", "uth", "zation",
    "pwd", "Pwd", "PWD", "swd", "SWD", "jwt",
)  # fmt: skip
NAME_ENDS: Final = tuple((end + quote).encode() for end in _ENDS for quote in ('"', '\\"', 3 * "\\"))
"""How secret names end (key, token, secret, password, pwd, passphrase, credential, auth, authorization, jwt), up to the
quote, also that of JSON within strings: what is rare in prose, of four bytes or more with the quote, which are found at
twice the speed of three. Three backslashes come before a quote in JSON within JSON within JSON only; one alone would
find the last words of lines."""

_MAX_NAME: Final = 64
_MAX_COLON: Final = 64
_MAX_OPEN_VALUE: Final = 4096

_NAME: Final = re.compile(rb"[A-Za-z0-9_.-]+")
_COLON: Final = re.compile(rb'(?P<escape>\\*+)"\s*+:\s*+(?P=escape)"')
_BLANK: Final = re.compile(rb"\s")
_STRING: Final = re.compile(rb'(?:[^"\\]|\\.)*+', re.DOTALL)
_STRING_WITHIN_STRING: Final = re.compile(rb'[^"\\]*+(?:\\++[^"\\]++)*+')

_CERTAIN: Final = frozenset({
    "password", "passwd", "passphrase", "apikey", "secretkey", "privatekey", "clientsecret", "accesstoken",
    "authtoken", "refreshtoken", "sessiontoken", "apitoken", "idtoken", "bearertoken", "apisecret", "authorization",
})  # fmt: skip
_CERTAIN_PAIRS: Final = frozenset({
    ("api", "key"), ("secret", "key"), ("private", "key"), ("client", "secret"), ("api", "secret"), ("access", "token"),
    ("auth", "token"), ("refresh", "token"), ("session", "token"), ("api", "token"), ("id", "token"),
    ("bearer", "token"), ("master", "key"), ("account", "key"), ("shared", "secret"), ("signing", "secret"),
    ("webhook", "secret"), ("db", "pwd"), ("user", "pwd"),
})  # fmt: skip

# A word, a type, prose, or a reference to what holds the value: "string", "os.environ[…]", "${KEY}", "<your key>".
_SCHEME: Final = re.compile(rb"(?:Bearer|Basic|Token|ApiKey)[ ]++", re.IGNORECASE)
_REFERENCE: Final = re.compile(rb"[$<{%]|os\.|process\.env|env[.:\[]|(?:x{4,}|\*{3,}|\.{3})", re.IGNORECASE)
_ESCAPED: Final = re.compile(rb"\\(?:u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_PLAIN: Final = re.compile(rb"[^\s\"]{6,}")
_WORDS: Final = re.compile(rb"[A-Za-z][a-z]*(?:[_-][A-Za-z]?[a-z]*)*|[A-Z]{2,}(?:[_-][A-Z]{2,})+")
_RANDOM: Final = re.compile(rb"(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9_.+/=~-]{16,}")


def field_span(data: bytes, start: int, end: int) -> Span | None:
    """The value of a secret JSON field whose name ends with what was found at ``start`` to ``end``; else None."""
    quote = data.rfind(b'"', max(0, start - _MAX_NAME), start)
    certain = _certainty(data[quote + 1 : end]) if quote >= 0 else None
    if certain is None:
        return None
    colon = _COLON.match(data, start + len(data[start:end].rstrip(b'\\"')))
    if colon is None:
        return None
    string = _STRING_WITHIN_STRING if colon["escape"] else _STRING
    found = string.match(data, colon.end())
    if found is None or not _is_secret(found[0], certain=certain):
        return None
    return Span(found.start(), found.end(), "field")


def open_value(data: bytes, begin: int) -> int:
    """Where a secret field's value begins, at ``begin`` or later, that is not over where the data are; else their end.

    Such a value has no blank and no quote in it, so it begins at the last quote.
    """
    quote = data.rfind(b'"', max(0, len(data) - _MAX_OPEN_VALUE))
    if quote < 0:
        return len(data)
    value = data[quote + 1 :]
    scheme = _SCHEME.match(value)
    if _BLANK.search(value, scheme.end() if scheme else 0):
        return len(data)
    # From the end, step by step: an expression would try to begin at each byte.
    before = data[max(0, quote - _MAX_NAME - _MAX_COLON) : quote]
    unescaped = before.rstrip(b"\\")
    colon = unescaped.rstrip()
    end = colon[:-1].rstrip()
    if colon[-1:] != b":" or end[-1:] != b'"':
        return len(data)
    name = end[:-1].rstrip(b"\\")
    if len(end) - 1 - len(name) != len(before) - len(unescaped) or _certainty(name[name.rfind(b'"') + 1 :]) is None:
        return len(data)
    return max(begin, quote + 1)


def _is_secret(value: bytes, *, certain: bool) -> bool:
    if value == MARKER.encode():
        return False
    scheme = _SCHEME.match(value)
    bare = _ESCAPED.sub(b"_", value[scheme.end() :] if scheme else value)
    if not certain:
        return _RANDOM.fullmatch(bare) is not None
    return _PLAIN.fullmatch(bare) is not None and not _REFERENCE.match(bare) and not _WORDS.fullmatch(bare)


@lru_cache(maxsize=1024)
def _certainty(name: bytes) -> bool | None:
    """Whether the name is a secret's for certain; None where it is no secret's. Its quote may stand there."""
    name = name.rstrip(b'\\"')
    if not _NAME.fullmatch(name):
        return None
    segments = segments_of(name.decode())
    if not is_secret_name(segments) or segments in (["key"], ["signature"]) or segments[-1:] == ["signature"]:
        return None
    return not _CERTAIN.isdisjoint(segments) or not _CERTAIN_PAIRS.isdisjoint(itertools.pairwise(segments))
