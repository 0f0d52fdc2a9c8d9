"""The search for secrets by their shape: a fixed part, and a run of characters after it.

Automata find the literals, and a regular expression confirms each at its place (``shapes.py`` has the forms).

Invariants, each held by a test:

- At most ``MAX_LITERALS`` literals in an automaton, none shorter than three bytes: beyond either its search is several
  times slower. Those of three bytes have an automaton of their own: the others are found faster without them. No
  automaton has literals that all have a quote in them: it would stop at every quote.
- An automaton's hits do not overlap: what may begin inside a literal of its own is looked for at each of its hits.
- ``open_place`` may name a place too early, never one too late: what stands before it stays what it is, whatever
  follows the data.
"""

import re
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

from ahocorasick_rs import BytesAhoCorasick, Implementation, MatchKind

from otel_wirecap.capture.redaction.fields import NAME_PARTS, find_fields
from otel_wirecap.capture.redaction.shapes import SHAPES
from otel_wirecap.capture.redaction.spans import Span

MAX_LITERALS: Final = 63
_MANY_LITERALS: Final = 1500

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


class Confirmation(NamedTuple):
    """How a shape is told at the place of its literal.

    Attributes:
        expression: To be matched ``lead`` bytes before the literal.
        lead: Bytes of the secret that stand before its literal.
        rule: The shape's rule.
        bounded: Whether no word may run on into the secret.
        in_base64: Whether the shape is looked for within base64, too.
    """

    expression: re.Pattern[bytes]
    lead: int
    rule: str
    bounded: bool
    in_base64: bool


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
        expression = re.compile((shape.lead + re.escape(prefix) + _NO_EXAMPLE + shape.body).encode())
        lead = shape.lead_length + len(prefix) - len(literal)
        confirmation = Confirmation(expression, lead, shape.rule, shape.bounded, shape.in_base64)
        found.setdefault(literal, []).append(confirmation)
    return found


_CONFIRMATIONS: Final = _confirmations()

# Longer literals first: of those that begin at one place the longest is tried first, and within an automaton the first
# one in the list is the one that is found.
LITERALS: Final = sorted(_CONFIRMATIONS, key=lambda text: (-len(text), text))
CONFIRM: Final = tuple(tuple(_CONFIRMATIONS[literal]) for literal in LITERALS)
_ESCAPED_ASCII: Final = re.compile(rb"\\u00(?:2[0-57-9A-Fa-f]|3[0-9ABDFabdf]|[4-7][0-9A-Fa-f])")
"""ASCII that nobody needs to escape: not & < > (2, 3c, 3e), which some serialisers write so."""

_RUN: Final = re.compile(rb"[A-Za-z0-9_./+=-]*+")
_MAX_FAILED: Final = 10_000
"""Beginnings of secrets in one text that turn out to be none. No text has so many but one that is made to take long:
what looks like a secret in the rest of it is taken for one."""

_FIRST_END: Final = len(LITERALS) + 1
_ALL: Final = (*(literal.encode() for literal in LITERALS), rb"\u00", *NAME_PARTS)
"""What is searched for; its number is its place here. The shapes come first, then what begins an escape."""


Hit: TypeAlias = tuple[int, int, int]
"""What was found: which of the literals, where it begins, where it ends."""

Find: TypeAlias = Callable[[bytes], list[Hit]]


def tables(literals: Sequence[bytes], numbers: Sequence[int]) -> list[tuple[Find, Sequence[int]]]:
    """The searches that find literals, each with the numbers of those that it finds."""
    count = -(-len(numbers) // MAX_LITERALS) if len(numbers) <= _MANY_LITERALS else 1
    parts = [numbers[part * len(numbers) // count : (part + 1) * len(numbers) // count] for part in range(count)]
    return [
        (
            BytesAhoCorasick(
                [literals[number] for number in part], matchkind=MatchKind.LeftmostFirst
            ).find_matches_as_indexes,
            part,
        )
        for part in map(_in_buckets, parts)
    ]


def _in_buckets(numbers: Sequence[int]) -> Sequence[int]:
    """Orders them so that neighbours share a bucket of the vectorised search.

    It deals literals to 8 or 16 buckets in turn, and looks closely wherever each byte is one that any literal of a
    bucket has at that place: the more alike a bucket's literals are, the fewer places those are.
    """
    count = 16 if len(numbers) > 32 else 8
    buckets = [numbers[part * len(numbers) // count : (part + 1) * len(numbers) // count] for part in range(count)]
    return [bucket[turn] for turn in range(max(map(len, buckets))) for bucket in buckets if turn < len(bucket)]


def any_of(literals: Iterable[bytes]) -> Find:
    """One search for all of them, for small texts: it tells whether one is there, not which ones are all there.

    It takes longer for each byte than the searches of ``tables``, and less for a text of a few hundred. Each search
    lets go of the interpreter, which another thread that is busy gives back only milliseconds later: one is better than
    seven.
    """
    longest_first = sorted(set(literals), key=lambda literal: (-len(literal), literal))
    # The fastest implementation takes 100 KB for a known value, and a second for a thousand of them.
    fastest = Implementation.DFA if len(longest_first) <= _MANY_LITERALS else None
    return BytesAhoCorasick(
        longest_first, matchkind=MatchKind.LeftmostFirst, implementation=fastest
    ).find_matches_as_indexes


# Neighbours in a table share a bucket of the search. Which are searched for together was measured
# (benchmarks/redaction.py): short ones apart from the others, and others with their neighbours of the alphabet.
_SHORT: Final = [number for number, literal in enumerate(_ALL) if len(literal) == 3]
_LONG: Final = set(range(len(_ALL))) - set(_SHORT)
_TABLES: Final = [
    *tables(_ALL, sorted(_SHORT, key=_ALL.__getitem__)),
    *tables(_ALL, sorted(_LONG, key=_ALL.__getitem__)),
]
FIND: Final = [find for find, _ in _TABLES]


def _may_follow(before: bytes, literal: str) -> bool:
    """Whether a secret of one of the literal's shapes may have that byte right before the literal."""
    for shape in SHAPES:
        for prefix in shape.prefixes:
            if prefix.endswith(literal):
                lead = shape.lead + re.escape(prefix.removesuffix(literal))
                fills = (fill * (shape.lead_length - 1) for fill in ("a", "1", "-"))
                if not lead or prefix[: -len(literal)].encode().endswith(before or b"?"):
                    return True
                if prefix == literal and any(re.fullmatch(lead, fill + before.decode()) for fill in fills):
                    return True
    return False


def _overlapping(numbers: Sequence[int]) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """For literals of a table: at which of their bytes which of its shapes' may begin."""
    for outer in numbers:
        ends = [(place, _ALL[outer][place:]) for place in range(1, len(_ALL[outer]))]
        inside = [
            (place, inner)
            for inner in numbers
            for place, end in ends
            if _ALL[inner].startswith(end) or end.startswith(_ALL[inner])
            if inner < len(LITERALS) and _may_follow(_ALL[outer][place - 1 : place], LITERALS[inner])
        ]
        if inside:
            yield outer, inside


_HIDDEN: Final = dict(pair for _, numbers in _TABLES for pair in _overlapping(numbers))
ALL: Final = _ALL
"""All that ``FIND`` finds."""

_ANY: Final = any_of(_ALL)

# What the expressions can consume, private keys aside; and how many bytes they need to fail.
_TOKEN_BYTES: Final = bytes({*string.ascii_letters.encode(), *string.digits.encode(), *b"_-./+=%\\:;@~"})
MAX_TO_DECIDE: Final = {"eyJ": 3400}
USUALLY_TO_DECIDE: Final = 200
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

SMALL: Final = 4096
"""Bytes of a text up to which ``any_of`` is asked first."""

_SLACK: Final = {"pem": 64, "field": 8}
"""Bytes that must follow a secret before it is known to be over; two for every other shape."""


def open_place(data: bytes, begin: int) -> int:
    """Where a secret may begin, at ``begin`` or later, that is decided only by what follows the data; else their end.

    Letters and digits at the end always may: there are keys whose signature stands in their middle.
    """
    length = len(data)
    last = max(begin, length - _MAX_PEM_BEGINNING)
    if begin == length or data[-1] == ord('"') or (data[-1] == ord("\n") and data.find(b"-----", last) < 0):
        return length
    run = max(len(data.rstrip(_TOKEN_BYTES)), begin)
    place = max(len(data.rstrip(_LEAD_BYTES)), begin, length - _MAX_LEAD)
    if run < place:
        place = min(place, _open_literal(data, run), _open_beginning(data, begin))
    if data.find(b"-", last) >= 0:
        for beginning in (_PEM_BEGINNING, _PEM_WAITS):
            if (dashes := beginning.search(data, last)) is not None:
                place = min(place, dashes.start())
    return place


def _open_literal(data: bytes, begin: int) -> int:
    """Where the first literal stands whose fate is open, what of its secret stands before it included."""
    length = len(data)
    tail = data[begin:]
    if len(tail) <= SMALL and not _ANY(tail):
        return length
    hits = [(start, numbers[place]) for find, numbers in _TABLES for place, start, _ in find(tail)]
    hits += [hit for start, number in hits if number in _HIDDEN for hit in _hidden(tail, start, number)]
    places = [length]
    for start, index in hits:
        if index < len(LITERALS) and len(tail) - start < MAX_TO_DECIDE.get(LITERALS[index], USUALLY_TO_DECIDE):
            for shape in CONFIRM[index]:
                place = begin + start - shape.lead
                if _may_begin(data, place, bounded=shape.bounded):
                    places.append(max(begin, place))
    return min(places)


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


def _hidden(data: bytes, start: int, number: int) -> list[tuple[int, int]]:
    """The literals that begin inside one that was found, each with its place and number."""
    return [(start + place, other) for place, other in _HIDDEN[number] if data.startswith(_ALL[other], start + place)]


def _may_begin(data: bytes, start: int, *, bounded: bool) -> bool:
    """Whether no word runs on into a secret that begins there; before the data's beginning, none does."""
    return not bounded or start < 0 or _LEFT.match(data, start) is not None


def is_open(span: Span, length: int) -> bool:
    """Whether what follows the data, ``length`` bytes of it, may make a secret that was found in it longer."""
    return length - span.end < _SLACK.get(span.rule, 2)


def find_secrets(data: bytes, found: Iterable[list[Hit]], begin: int = 0) -> tuple[list[Span], bool, int]:
    """The secrets at ``begin`` or later that have a shape, each with its whole run, and those known by their position.

    Also whether ASCII characters are written as JSON escapes, and where the first value begins that what follows the
    data may make a secret by its position. ``found`` is what ``FIND`` found in the data.
    """
    escaped, shapes = False, len(LITERALS)
    hits: list[tuple[int, int]] = []
    names: list[tuple[int, int]] = []
    for (_, numbers), table in zip(_TABLES, found, strict=True):
        for place, start, end in table:
            number = numbers[place]
            if number < shapes:
                hits.append((start, number))
            elif number >= _FIRST_END:
                names.append((start, end))
            elif not escaped:
                escaped = _ESCAPED_ASCII.match(data, start) is not None
            if number in _HIDDEN:
                hits += _hidden(data, start, number)
    spans, open_at = find_fields(data, names) if names else ([], len(data))
    return [*_confirmed(data, sorted(hits), begin), *spans] if hits else spans, escaped, open_at


def _confirmed(data: bytes, hits: list[tuple[int, int]], begin: int) -> list[Span]:
    """Keeps the hits that are secrets, each with its whole run; hits inside a secret belong to it."""
    spans: list[Span] = []
    done, failed = begin, 0
    for start, index in hits:
        if start < done:
            continue
        is_left = _LEFT.match(data, start) is not None
        if is_left and failed >= _MAX_FAILED:
            span: Span | None = _unread(data, start, index)
        else:
            span = _read(data, start, index, begin, is_left=is_left)
            failed += is_left and span is None
        if span is not None:
            done = span.end
            spans.append(span)
    return spans


def _read(data: bytes, start: int, index: int, begin: int, *, is_left: bool) -> Span | None:
    """The secret that has its literal there; ``is_left``: no word runs on into that."""
    for expression, lead, rule, bounded, _ in CONFIRM[index]:
        place = start - lead
        if place < begin or (bounded and not (_LEFT.match(data, place) if lead else is_left)):
            continue
        if match := expression.match(data, place):
            return Span(place, match.end(), rule)
    return None


def _unread(data: bytes, start: int, index: int) -> Span:
    """What a literal begins, whether it is a secret or not."""
    end = start + len(LITERALS[index])
    run = _RUN.match(data, end)
    return Span(start, run.end() if run else end, CONFIRM[index][0].rule)
