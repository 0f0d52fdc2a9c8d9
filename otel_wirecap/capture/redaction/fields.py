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

NAME_ENDS: Final = tuple(
    f"{spelled}{close}".encode()
    for end in ("ey", "en", "et", "rd", "wd", "se", "al", "ls", "th", "on", "wt")
    for spelled in (end, end.upper())
    for close in ('"', "\\")
)
"""How secret names end (key, token, secret, password, pwd, passphrase, credential, auth, authorization, jwt), quote or
escape included: what is rare in prose, and short enough for the fast search."""

_MOST_NAME: Final = 64

_NAME: Final = re.compile(rb"[A-Za-z0-9_.-]+")
_COLON: Final = re.compile(rb'(?P<escape>\\*+)"\s*+:\s*+(?P=escape)"')
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
_PLAIN: Final = re.compile(rb"[^\s\"]{6,}")
_WORDS: Final = re.compile(rb"[A-Za-z][a-z]*(?:[_-][A-Za-z]?[a-z]*)*")
_RANDOM: Final = re.compile(rb"(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9_.+/=~-]{16,}")


def field_span(data: bytes, start: int, end: int) -> Span | None:
    """The value of a secret JSON field whose name ends with what was found at ``start`` to ``end``; else None."""
    colon = _COLON.match(data, end - 1)
    if colon is None:
        return None
    quote = data.rfind(b'"', max(0, start - _MOST_NAME), start)
    name = _NAME.fullmatch(data, quote + 1, end - 1)
    if quote < 0 or name is None:
        return None
    string = _STRING_WITHIN_STRING if colon["escape"] else _STRING
    found = string.match(data, colon.end())
    if found is None or not _is_secret(name[0].decode(), found[0]):
        return None
    return Span(found.start(), found.end(), "field")


def _is_secret(name: str, value: bytes) -> bool:
    certain = _certainty(name)
    if certain is None or value == MARKER.encode():
        return False
    scheme = _SCHEME.match(value)
    bare = value[scheme.end() :] if scheme else value
    if not certain:
        return _RANDOM.fullmatch(bare) is not None
    return _PLAIN.fullmatch(bare) is not None and not _REFERENCE.match(bare) and not _WORDS.fullmatch(bare)


@lru_cache(maxsize=1024)
def _certainty(name: str) -> bool | None:
    """Whether the name is a secret's for certain; None where it is no secret's."""
    segments = segments_of(name)
    if not is_secret_name(segments) or segments in (["key"], ["signature"]) or segments[-1:] == ["signature"]:
        return None
    return not _CERTAIN.isdisjoint(segments) or not _CERTAIN_PAIRS.isdisjoint(itertools.pairwise(segments))
