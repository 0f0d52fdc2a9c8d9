"""The search for secrets by their shape: a fixed part, and a run of characters after it.

A regular expression confirms each literal that was found (``literals.py``) at its place; ``shapes.py`` has the forms.

Invariants, each held by a test:

- ``open_place`` may name a place too early, never one too late: what stands before it stays what it is, whatever
  follows the data.
"""

import re
import string
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

from otel_wirecap.capture.redaction.literals import Hit, Progress
from otel_wirecap.capture.redaction.shapes import SHAPES
from otel_wirecap.capture.redaction.spans import Span

# Documentation shows what a token looks like.
_NO_EXAMPLE: Final = "(?!x{8}|X{8})"

_LEFT: Final = re.compile(
    rb"(?<![A-Za-z0-9])|(?<=\\[abefnrtv0])"
    rb"|(?<=\\u[0-9A-Fa-f]{4})|(?<=\\x[0-9A-Fa-f]{2})|(?<=\\[0-3][0-7]{2})|(?<=[%=][0-9A-Fa-f]{2})"
    + b"".join(rb"|(?<=\[[0-9;]{%d}[A-HJKSTfmhl])" % count for count in range(9))
)
"""Where a token begins: no word runs on into it.

A letter or digit that ends an escape is of no word: in JSON and programs (\\n, \\u000a, \\x22, \\042), in URLs and mail
(%3D, =3D), for terminals (ESC [32m, however the ESC is printed).
"""


@dataclass(frozen=True)
class Confirmation:
    """How a shape is told at the place of its literal.

    Attributes:
        pattern: To be matched ``lead`` bytes before the literal.
        lead: Bytes of the secret that stand before its literal.
        rule: The shape's rule.
        bounded: Whether no word may run on into the secret.
        in_base64: Whether the shape is looked for within base64, too.
    """

    pattern: bytes
    lead: int
    rule: str
    bounded: bool
    in_base64: bool

    @cached_property
    def expression(self) -> re.Pattern[bytes]:
        """The pattern, compiled when it is first asked for: all of them take longer than a command."""
        return re.compile(self.pattern)


def _anchors(prefixes: Iterable[str]) -> list[str]:
    """Ends of prefixes that are searched for in place of the whole.

    Prose is full of what looks like the beginning of ``glrt-`` to the vectorised search, and has little like ``lrt-``;
    and one end serves several prefixes.
    """
    ends = {"Key=", "Key%3D", ".slack.com", "eyJ"}
    ends |= {prefix[-4:] for prefix in prefixes if _LOWER.match(prefix) and prefix not in _WHOLE}
    return sorted(ends)


_LOWER: Final = re.compile("[a-z]{4}.*[_-]$")
_WHOLE: Final = ("api_org_", "glagent-", "napi_", "nvapi-", "rubygems_", "xapp-")
"""Prefixes whose ends (``api-``, ``ent-``) are more frequent than they are."""


def _confirmations() -> dict[str, list[Confirmation]]:
    """The shapes by the literal that is searched for: their prefix, or an anchor at its end."""
    found: dict[str, list[Confirmation]] = {}
    prefixes = [(prefix, shape) for shape in SHAPES for prefix in shape.prefixes]
    anchors = _anchors(prefix for prefix, _ in prefixes)
    for prefix, shape in sorted(prefixes, key=lambda pair: -len(pair[0])):
        literal = next((anchor for anchor in anchors if prefix.endswith(anchor)), prefix)
        pattern = (shape.lead + re.escape(prefix) + _NO_EXAMPLE + shape.body).encode()
        lead = shape.lead_length + len(prefix) - len(literal)
        confirmation = Confirmation(pattern, lead, shape.rule, shape.bounded, shape.in_base64)
        found.setdefault(literal, []).append(confirmation)
    return found


_CONFIRMATIONS: Final = _confirmations()

# Longer literals first: of those that begin at one place the longest is tried first.
LITERALS: Final = sorted(_CONFIRMATIONS, key=lambda text: (-len(text), text))
CONFIRM: Final = tuple(tuple(_CONFIRMATIONS[literal]) for literal in LITERALS)
ESCAPE: Final = rb"\u00"
"""What begins an escape of ASCII."""

_ESCAPED_ASCII: Final = re.compile(rb"\\u00(?:2[0-57-9A-Fa-f]|3[0-9ABDFabdf]|[4-7][0-9A-Fa-f])")
"""ASCII that nobody needs to escape: not & < > (2, 3c, 3e), which some serialisers write so."""

_RUN: Final = re.compile(rb"[A-Za-z0-9_./+=-]*+")
_MAX_FAILED: Final = 10_000
"""Beginnings of secrets in one text that turn out to be none. No text has so many but one that is made to take long:
what looks like a secret in the rest of it is taken for one."""

# What the expressions can consume, private keys aside; and how many bytes they need to fail.
_TOKEN_BYTES: Final = bytes({*string.ascii_letters.encode(), *string.digits.encode(), *b"_-./+=%\\:;@~"})
_TO_DECIDE: Final = {"eyJ": 3400}
_USUALLY_TO_DECIDE: Final = 200
MAX_UNDECIDED: Final = max(_TO_DECIDE.values())
_LEAD_BYTES: Final = bytes({*string.ascii_letters.encode(), *string.digits.encode(), *b"+/_~-"})
_MAX_LEAD: Final = 84
"""Bytes at the end that may stand before a prefix, and the prefix but for its last byte."""


class _Beginning(NamedTuple):
    """What stands before a prefix of which only the beginning is there, and how it counts."""

    lead: re.Pattern[bytes]
    lead_length: int
    bounded: bool


def _beginnings() -> dict[bytes, set[_Beginning]]:
    """Every proper beginning of a prefix."""
    found: dict[bytes, set[_Beginning]] = {}
    for shape in SHAPES:
        for prefix in shape.prefixes:
            for length in range(1, len(prefix)):
                beginning = _Beginning(re.compile(shape.lead.encode()), shape.lead_length, shape.bounded)
                found.setdefault(prefix[:length].encode(), set()).add(beginning)
    return found


_BEGINNINGS: Final = _beginnings()
_MAX_BEGINNING: Final = max(map(len, _BEGINNINGS))
_PEM_BEGINNING: Final = re.compile(
    rb"-{1,5}(?:B(?:E(?:G(?:I(?:N(?:[ %](?:[A-Z0-9 %]{1,64}-{0,5})?)?)?)?)?)?)?\Z",
)
_PEM_WAITS: Final = re.compile(rb"-----BEGIN[ %][A-Z0-9 %]{1,64}-----[A-Za-z0-9+/=\\%\s:-]{0,48}\Z")
_MAX_PEM_BEGINNING: Final = 84 + 48

_SLACK: Final = {"pem": 64, "field": 8}
"""Bytes that must follow a secret before it is known to be over; two for every other shape."""


def open_place(data: bytes, begin: int, hits: Iterable[Hit]) -> int:
    """Where a secret may begin, at ``begin`` or later, that is decided only by what follows the data; else their end.

    Letters and digits at the end always may: there are keys whose signature stands in their middle. ``hits`` are the
    places of ``LITERALS`` among the last ``MAX_UNDECIDED`` bytes.
    """
    length = len(data)
    last = max(begin, length - _MAX_PEM_BEGINNING)
    if begin == length or data[-1] == ord('"') or (data[-1] == ord("\n") and data.find(b"-----", last) < 0):
        return length
    run = max(len(data.rstrip(_TOKEN_BYTES)), begin)
    place = max(len(data.rstrip(_LEAD_BYTES)), begin, length - _MAX_LEAD)
    if run < place:
        place = min(place, _open_literal(data, run, hits), _open_beginning(data, begin))
    if data.find(b"-", last) >= 0:
        for beginning in (_PEM_BEGINNING, _PEM_WAITS):
            if (dashes := beginning.search(data, last)) is not None:
                place = min(place, dashes.start())
    return place


def _open_literal(data: bytes, begin: int, hits: Iterable[Hit]) -> int:
    """Where the first literal stands whose fate is open, what of its secret stands before it included."""
    length = len(data)
    places = [length]
    for start, index in hits:
        if start >= begin and length - start < to_decide(index):
            for shape in CONFIRM[index]:
                place = start - shape.lead
                if _may_begin(data, place, bounded=shape.bounded):
                    places.append(max(begin, place))
    return min(places)


def to_decide(index: int) -> int:
    """So many bytes from its literal's beginning on decide whether there is a secret."""
    return _TO_DECIDE.get(LITERALS[index], _USUALLY_TO_DECIDE)


def _open_beginning(data: bytes, begin: int) -> int:
    """Where a secret may begin of whose prefix the beginning stands at the end."""
    length = len(data)
    places = [length]
    for start in range(max(begin, length - _MAX_BEGINNING), length):
        for lead, lead_length, bounded in _BEGINNINGS.get(data[start:], ()):
            place = start - lead_length
            if place >= begin and lead.match(data, place) and (not bounded or _LEFT.match(data, place)):
                places.append(place)
    return min(places)


def _may_begin(data: bytes, start: int, *, bounded: bool) -> bool:
    """Whether no word runs on into a secret that begins there; before the data's beginning, none does."""
    return not bounded or start < 0 or _LEFT.match(data, start) is not None


def is_open(span: Span, length: int) -> bool:
    """Whether what follows the data, ``length`` bytes of it, may make a secret that was found in it longer."""
    return length - span.end < _SLACK.get(span.rule, 2)


def escapes_ascii(data: bytes, hits: Iterable[Hit]) -> bool:
    """Whether ASCII characters are written as JSON escapes; ``hits`` are the places of ``ESCAPE``."""
    return any(_ESCAPED_ASCII.match(data, start) for start, _ in hits)


def find_secrets(data: bytes, hits: Iterable[Hit], progress: Progress) -> list[Span]:
    """The secrets that have a shape, each with its whole run.

    Args:
        data: what is searched.
        hits: the places of ``LITERALS``, in order. Those inside a secret belong to it.
        progress: how far hits were looked at before these; is brought forward.
    """
    spans: list[Span] = []
    for start, index in hits:
        if start < progress.done:
            continue
        is_left = _LEFT.match(data, start) is not None
        if is_left and progress.failed >= _MAX_FAILED:
            span: Span | None = _unread(data, start, index)
        else:
            span = _read(data, start, index, progress.begin, is_left=is_left)
            progress.failed += is_left and span is None
        if span is not None:
            progress.done = span.end
            spans.append(span)
    return spans


def _read(data: bytes, start: int, index: int, begin: int, *, is_left: bool) -> Span | None:
    """The secret that has its literal there; ``is_left``: no word runs on into that."""
    for shape in CONFIRM[index]:
        place = start - shape.lead
        if place < begin or (shape.bounded and not (_LEFT.match(data, place) if shape.lead else is_left)):
            continue
        if match := shape.expression.match(data, place):
            return Span(place, match.end(), shape.rule)
    return None


def _unread(data: bytes, start: int, index: int) -> Span:
    """What a literal begins, whether it is a secret or not."""
    end = start + len(LITERALS[index])
    run = _RUN.match(data, end)
    return Span(start, run.end() if run else end, CONFIRM[index][0].rule)
