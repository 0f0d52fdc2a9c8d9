"""The search for secrets in bytes: by their value, by their shape, and by the user's rules.

Invariants:

- A secret is found by its value (known ones, and the credentials of the request at hand), by its shape, or by the
  name of the header, parameter or JSON field that holds it.
- All searching is done in bytes: texts in UTF-8, so that one search serves bodies, chunks and binary data alike.
- Time is linear in the length of the data (times the number of credentials).
- One thread uses it: the writer's.
"""

import contextlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from otel_wirecap.capture.redaction.encoded import MAX_UNDECIDED_ENCODED, SPELLED, find_encoded, open_encoded
from otel_wirecap.capture.redaction.escapes import Reading, Way, cut_escape, has_lines, hides, is_quoted
from otel_wirecap.capture.redaction.fields import NAME_PARTS, find_fields
from otel_wirecap.capture.redaction.known import KnownValues, tells_apart
from otel_wirecap.capture.redaction.literals import (
    SMALL,
    WINDOW,
    AnyLiteral,
    Hit,
    LiteralSearch,
    Progress,
    SmallSearch,
    windows,
)
from otel_wirecap.capture.redaction.patterns import (
    ESCAPE,
    LITERALS,
    MAX_UNDECIDED,
    escapes_ascii,
    find_secrets,
    is_open,
    open_place,
)
from otel_wirecap.capture.redaction.rules import MAX_PATTERN_BYTES, FieldSearch, Place, Rules
from otel_wirecap.capture.redaction.spans import Span, merged
from otel_wirecap.capture.secret_values import reads_like_a_credential

# The kinds of literals, in the order in which ``SecretSearch._found`` takes them.
_LITERALS: Final = ([literal.encode() for literal in LITERALS], [ESCAPE], NAME_PARTS, SPELLED)
_LARGE: Final = LiteralSearch(*_LITERALS)
_NO_HITS: Final[list[list[Hit]]] = [[], [], [], []]

_MAX_PASSES_FOR_SEEN: Final = 4
"""Some 40 credentials: each pass costs as much as the search for all shapes."""

_MAX_ESCAPES: Final = 4
"""How deep within JSON's strings JSON may stand that is spelled in a strange way."""

_LEFT: Final = {Way.QUOTED: 2, Way.ON_LINES: -1}
"""How often escapes are read in what other ways of reading say: those are tried once, at first. Below zero, only what
is in base64 and what is known is looked for: plain secrets seem to go on where lines are joined."""

_MAX_HARMLESS: Final = 2048
"""Short texts that held nothing: names, URLs and headers are the same again and again."""

MAX_FINDINGS: Final = 5_000
"""Secrets in one body. No body has so many but one that is made to cost much: the rest of it is withheld."""


class TooManyFindings(Exception):  # noqa: N818  # what is done then is no repair
    """There are more secrets than are masked one by one; before ``place``, ``MAX_FINDINGS`` at most begin."""

    def __init__(self, place: int) -> None:
        super().__init__()
        self.place = place


class _Own(NamedTuple):
    """What is to be known of the credentials of one request, beside the values that are masked anyway.

    Attributes:
        credentials: all of them.
        values: those that are not masked anyway.
        with_reserved: whether any value of all has characters in it that URLs or HTML write in another way.
        non_ascii: whether any is not all ASCII.
    """

    credentials: tuple[str, ...]
    values: KnownValues | None
    with_reserved: bool
    non_ascii: bool


class _Found:
    """What the literals in a text lead to, at ``begin`` or later.

    Attributes:
        end: so much of the text was searched.
        open_at: where the first value begins that what follows the text may make a secret by its position.
        spans: the secrets with a shape, and those known by their position.
        encoded: the secrets within base64.
        has_values: whether values that are known may be there.
        is_escaped: whether ASCII characters are written as JSON escapes.
        last, last_encoded: the places of literals near the text's end.
    """

    __slots__ = (
        "_data",
        "_of_encoded",
        "_of_fields",
        "_of_shapes",
        "encoded",
        "end",
        "has_values",
        "is_escaped",
        "last",
        "last_encoded",
        "open_at",
        "spans",
    )

    def __init__(self, data: bytes, begin: int, *, has_values: bool) -> None:
        self._data = data
        self._of_shapes, self._of_fields, self._of_encoded = Progress(begin), Progress(0), Progress(begin)
        self.end = self.open_at = len(data)
        self.spans: list[Span] = []
        self.encoded: list[Span] = []
        self.has_values = has_values
        self.is_escaped = False
        self.last: list[Hit] = []
        self.last_encoded: list[Hit] = []

    def add(self, shapes: list[Hit], escapes: list[Hit], names: list[Hit], encoded: list[Hit]) -> None:
        """Takes the next places of literals."""
        data = self._data
        if escapes and not self.is_escaped:
            self.is_escaped = escapes_ascii(data, escapes)
        if names:
            fields, open_at = find_fields(data, names, self._of_fields)
            self.spans += fields
            self.open_at = min(self.open_at, open_at)
        if shapes:
            self.spans += find_secrets(data, shapes, self._of_shapes)
            self.last += _last(shapes, len(data) - MAX_UNDECIDED)
        if encoded:
            self.encoded += find_encoded(data, encoded, self._of_encoded)
            self.last_encoded += _last(encoded, len(data) - MAX_UNDECIDED_ENCODED)

    def has_more_than(self, count: int) -> bool:
        """Whether there are more secrets than that."""
        if len(self.spans) + len(self.encoded) > count:
            self.spans, self.encoded = merged([*self.spans, *self.encoded]), []
        return len(self.spans) > count


class SecretSearch:
    """Finds secrets.

    Args:
        known_values: secret values that are found wherever they stand.
        rules: what else is secret, and what is not.
        min_length: known values and credentials shorter than this many characters are not searched for: they
            would mangle harmless text.
        pause: is called between the parts of a large text, the search of which keeps the interpreter for itself.

    In every method, ``credentials`` are the values that the request at hand was sent with.

    Attributes:
        rules, min_length: as given.
        has_rules: whether the user says what is secret: then a text's name, or what stands around it, may make it one.
        harmless: keys of short texts in which nothing was found; empty again whenever other values are searched for.
        generation: is another number whenever other values are searched for.
    """

    __slots__ = (
        "_clues",
        "_fields",
        "_known",
        "_pause",
        "_place",
        "_seen",
        "_set",
        "_small",
        "_these",
        "generation",
        "harmless",
        "has_rules",
        "min_length",
        "rules",
    )

    def __init__(
        self, *, known_values: Iterable[str], min_length: int, rules: Rules, pause: Callable[[], None]
    ) -> None:
        self.rules = rules
        self._fields = FieldSearch(rules.fields) if rules.fields else None
        self._place: Place = "bodies"
        self.min_length = min_length
        self._pause = pause
        self._set = self._usable(known_values)
        self._known = KnownValues("known", self._set)
        self._seen = KnownValues("credential", max_passes=_MAX_PASSES_FOR_SEEN)
        self.has_rules = bool(rules.fields or rules.patterns or rules.allowed)
        self._small: SmallSearch | None = None
        self._clues = AnyLiteral(())
        self.harmless: set[tuple[str, ...] | None] = set()
        self.generation = 0
        self._changed()

    def __deepcopy__(self, memo: object) -> "SecretSearch":
        """Itself: a copy of what uses it uses the same."""
        return self

    def replace_known_values(self, values: Iterable[str]) -> None:
        """Sets the known values; nothing is rebuilt when they are the same as before.

        Those that are known no longer are masked all the same, for conversations quote them, until many others came.
        """
        usable = self._usable(values)
        if usable != self._set:
            self._seen.add(sorted(self._set - usable))
            self._set = usable
            self._known = KnownValues("known", usable)
            self._changed()

    def learn(self, credentials: Iterable[str]) -> None:
        """Finds the credentials of a request in others, too, until many others came.

        Those that have not the look of a credential are not: they would mangle harmless text.
        """
        new = [value for value in credentials if value not in self._seen and len(value) >= self.min_length]
        new = [value for value in new if reads_like_a_credential(value)]
        if new:
            self._seen.add(new)
            self._changed()

    def spans(self, data: bytes, credentials: Sequence[str], escapes: int = _MAX_ESCAPES) -> list[Span]:
        """The secrets in the data. Those that stand earlier in the list name what several rules found.

        ``escapes``: how often escapes are read that hide secrets: those of JSON, of JSON within JSON, and so on.

        Raises:
            TooManyFindings: more than ``MAX_FINDINGS``.
        """
        if self.rules.mode != "on":
            return []
        own = self._own(credentials)
        others = _other_ways(data) if escapes == _MAX_ESCAPES else ()
        found = self._found(data, 0, MAX_FINDINGS)
        has_values = own.values is not None or (found is not None and found.has_values)
        is_spelled = self._is_spelled(data, own, has_values=has_values)
        if found is None:
            if own.values is None and not self.has_rules and not is_spelled and not others:
                return []
            found = _Found(data, 0, has_values=False)
        length, data = len(data), data[: found.end]
        if escapes < 0:
            found.spans.clear()
        spans = [*self._values(data, own, found), *found.spans, *found.encoded]
        if self.has_rules:
            spans = self._by_rules(data, spans)
        is_spelled = escapes > 0 and (is_spelled or found.is_escaped)
        for way in (Way.ESCAPED, *others) if is_spelled else others:
            read = Reading(data, way)
            if read.is_same:
                continue
            try:
                more = self.spans(read.data, credentials, _LEFT.get(way, escapes - 1))
            except TooManyFindings as too_many:
                raise TooManyFindings(read.place(too_many.place)) from None
            spans += (Span(read.place(start), read.end(end), rule) for start, end, rule in more)
        spans = bounded(spans)
        if len(data) < length:
            raise TooManyFindings(len(data))
        return spans

    def stream(
        self, data: bytes, begin: int, credentials: Sequence[str] = (), *, is_end: bool = False
    ) -> tuple[list[Span], int]:
        """The secrets in a part of a stream, as far as what follows cannot change them.

        Args:
            data: what is not decided yet, after some of what is.
            begin: where the undecided part begins.
            credentials: The values that the request was sent with.
            is_end: Nothing follows. The beginning of a known value at the very end is a secret too, from 8 bytes on.

        Returns:
            The secrets, and the place that all is decided up to.
        """
        if self.rules.mode != "on":
            return [], len(data)
        return self._stream(data, begin, credentials, _MAX_ESCAPES, is_end=is_end)

    def rule_of(self, value: str, credentials: Sequence[str]) -> str | None:
        """The rule by which a value is a secret as a whole; None where its value does not tell."""
        if len(value) < self.min_length:
            return None
        if value in credentials or value in self._seen:
            return "credential"
        return "known" if value in self._known else None

    def remembers(self, credentials: Sequence[str]) -> bool:
        """Whether what was harmless the last time is so now: it depends on nothing but the text."""
        return not self.has_rules and self._own(credentials).values is None

    def remember(self, harmless: tuple[str, ...]) -> None:
        """Remembers the key of a short text in which nothing was found."""
        if len(self.harmless) >= _MAX_HARMLESS:
            self.harmless.clear()
        self.harmless.add(harmless)

    @contextlib.contextmanager
    def at(self, place: Place) -> Iterator[None]:
        """Applies the rules for a place."""
        before, self._place = self._place, place
        try:
            yield
        finally:
            self._place = before

    def _stream(
        self, data: bytes, begin: int, credentials: Sequence[str], escapes: int, *, is_end: bool
    ) -> tuple[list[Span], int]:
        """The secrets as the data are spelled, and those that their escapes hide: see ``stream`` and ``_search``."""
        spans, place, is_spelled = self._decided(data, begin, credentials, escapes, is_end=is_end)
        cut = None if is_end else cut_escape(data, begin)
        others = _other_ways(data) if escapes == _MAX_ESCAPES else ()
        # What is cut may be a part of what is open before it.
        is_spelled = escapes > 0 and (is_spelled or cut is not None)
        for way in (Way.ESCAPED, *others) if is_spelled else others:
            read = Reading(data[:cut], way)
            if read.is_same and cut is None:
                continue
            left = _LEFT.get(way, escapes - 1)
            more, at = self._stream(read.data, read.at(begin), credentials, left, is_end=is_end)
            spans += (Span(read.place(start), read.end(end), rule) for start, end, rule in more)
            place = min(place, read.place(at))
        if cut is not None:
            place = min(place, cut)
        # A secret that reaches beyond the place is not told either, so its beginning is the place: those that end last
        # first, for each makes fewer end before the place. One that ends where an escape is cut may go on with that.
        for span in sorted(spans, key=lambda span: span.end, reverse=True):
            if span.end > place > span.start or span.end == cut:
                place = min(place, max(begin, span.start))
        return [Span(max(span.start, begin), span.end, span.rule) for span in spans if begin < span.end <= place], place

    def _decided(
        self, data: bytes, begin: int, credentials: Sequence[str], escapes: int, *, is_end: bool
    ) -> tuple[list[Span], int, bool]:
        """The secrets as the data are spelled, the place that all is decided up to; whether escapes may hide others."""
        length = len(data)
        own = self._own(credentials)
        known = [self._seen, self._known, *([own.values] if own.values is not None else [])]
        found = self._found(data, begin) or _Found(data, begin, has_values=False)
        if escapes < 0:
            found.spans.clear()
        spans = found.spans
        if is_end:
            place = length
            for values in known:
                open_at = values.open_place(data, begin, length)
                if tells_apart(data[open_at:]):
                    spans.append(Span(open_at, length, values.rule))
        else:
            place = min(max(begin, found.open_at), self._open_place(data, begin, known, found))
        spans += found.encoded
        spans += self._values(data, own, found)
        spans = self._by_rules(data, spans) if self.has_rules else spans
        return spans, place, found.is_escaped or self._is_spelled(data, own, has_values=found.has_values)

    def _open_place(self, data: bytes, begin: int, known: Iterable[KnownValues], found: _Found) -> int:
        """Where a secret may begin, at ``begin`` or later, that what follows the data decides; else their length."""
        length = len(data)
        place = min(open_place(data, begin, found.last), open_encoded(data, begin, found.last_encoded, found.encoded))
        for values in known:
            place = values.open_place(data, begin, place)
        for span in found.spans:
            if begin <= span.start < place and is_open(span, length):
                place = span.start
        if self._fields is not None:
            place = min(place, self._fields.open_place(data, begin))
        if self.rules.patterns:
            place = min(place, max(begin, length - MAX_PATTERN_BYTES))
        return place

    def _found(self, data: bytes, begin: int, max_findings: int | None = None) -> _Found | None:
        """What the literals in the data lead to, at ``begin`` or later, up to where there are too many findings.

        None where there are no literals.
        """
        if len(data) <= SMALL:
            if self._small is None:
                self._small = SmallSearch(*_LITERALS, self._clues.literals)
            hits = self._small.hits(data)
            if hits is None:
                return None
            found = _Found(data, begin, has_values=bool(hits.pop()))
            found.add(*hits)
            return found
        of_large: _Found | None = None
        for part, at in windows(data):
            if len(data) > WINDOW:
                self._pause()
            hits, has_values = _LARGE.hits(data, part, at), self._clues.is_in(part)
            if hits is None and not has_values:
                continue
            if of_large is None:
                of_large = _Found(data, begin, has_values=False)
            of_large.has_values = of_large.has_values or has_values
            of_large.add(*hits or _NO_HITS)
            if max_findings is not None and of_large.has_more_than(max_findings):
                of_large.end = min(at + WINDOW, len(data))
                break
        return of_large

    def _values(self, data: bytes, own: _Own, found: _Found) -> list[Span]:
        """The places of the values that are known."""
        own_spans = own.values.spans(data) if own.values is not None else []
        return [*self._seen.spans(data), *own_spans, *self._known.spans(data)] if found.has_values else own_spans

    def _by_rules(self, data: bytes, spans: list[Span]) -> list[Span]:
        """Adds what the user's rules find, and leaves out what they allow."""
        rules = self.rules
        if self._fields is not None:
            spans += self._fields.spans(data)
        for pattern in rules.patterns:
            if self._place in pattern.places:
                spans += [Span(*match.span(), pattern.name) for match in pattern.expression.finditer(data) if match[0]]
        if rules.allowed:
            spans = [span for span in spans if data[span.start : span.end] not in rules.allowed]
        return spans

    def _changed(self) -> None:
        """The values that are searched for are others now."""
        self._clues = AnyLiteral(self._seen.clues | self._known.clues)
        self._small = None
        self._these = self._find_own(())
        self.harmless.clear()
        self.generation += 1

    def _own(self, credentials: Sequence[str]) -> _Own:
        """What the credentials of a request need beyond the values that are masked anyway."""
        if credentials is not self._these.credentials:
            self._these = self._find_own(tuple(credentials))
        return self._these

    def _find_own(self, credentials: tuple[str, ...]) -> _Own:
        new = tuple(value for value in credentials if len(value) >= self.min_length and value not in self._seen)
        values = _credential_search(new) if new else None
        known = [known for known in (self._seen, self._known, values) if known is not None]
        return _Own(credentials, values, any(one.with_reserved for one in known), any(one.non_ascii for one in known))

    @staticmethod
    def _is_spelled(data: bytes, own: _Own, *, has_values: bool) -> bool:
        """Whether the data may spell a secret so that only reading them tells.

        What is no letter, digit, hyphen, period, underscore or tilde may be spelled in several ways, one by one.
        """
        if own.with_reserved and (b"\\/" in data or (has_values and (b"%" in data or b"&" in data))):
            return True
        return (own.non_ascii and b"\\u" in data) or hides(data)

    def _usable(self, values: Iterable[str]) -> frozenset[str]:
        return frozenset(value for value in map(str.strip, values) if len(value) >= self.min_length)


def bounded(spans: list[Span]) -> list[Span]:
    """The places, unless there are too many.

    Raises:
        TooManyFindings: there are.
    """
    if len(spans) > MAX_FINDINGS:
        spans = merged(spans)
        if len(spans) > MAX_FINDINGS:
            raise TooManyFindings(spans[MAX_FINDINGS].start)
    return spans


def _other_ways(data: bytes) -> list[Way]:
    """How data may have to be read besides."""
    return [way for way, may_be in ((Way.QUOTED, is_quoted), (Way.ON_LINES, has_lines)) if may_be(data)]


def _last(hits: list[Hit], begin: int) -> list[Hit]:
    return hits[bisect_left(hits, (begin, 0)) :]


@lru_cache(maxsize=256)
def _credential_search(credentials: tuple[str, ...]) -> KnownValues:
    return KnownValues("credential", credentials)
