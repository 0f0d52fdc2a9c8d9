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

from otel_wirecap.capture.redaction import encoded, patterns
from otel_wirecap.capture.redaction.encoded import find_encoded, open_encoded
from otel_wirecap.capture.redaction.escapes import cut_escape, read_escapes
from otel_wirecap.capture.redaction.known import KnownValues, tells_apart
from otel_wirecap.capture.redaction.patterns import SMALL, Find, Hit, any_of, find_secrets, is_open, open_place, tables
from otel_wirecap.capture.redaction.rules import MAX_PATTERN_BYTES, FieldSearch, Place, Rules
from otel_wirecap.capture.redaction.spans import Span, merged
from otel_wirecap.capture.secret_values import reads_like_a_credential

# Which findings are of which search: see SecretSearch._changed.
_SHAPES: Final = slice(len(patterns.FIND))
_ENCODED: Final = slice(len(patterns.FIND), len(patterns.FIND) + len(encoded.FIND))
_CLUES: Final = slice(len(patterns.FIND) + len(encoded.FIND), None)

_MAX_PASSES_FOR_SEEN: Final = 4
"""Some 40 credentials: each pass costs as much as the search for all shapes."""

_MAX_ESCAPES: Final = 4
"""How deep within JSON's strings JSON may stand that is spelled in a strange way."""

_MAX_HARMLESS: Final = 2048
"""Short texts that held nothing: names, URLs and headers are the same again and again."""

MAX_FINDINGS: Final = 5_000
"""Secrets in one body. No body has so many but one that is made to cost much: the rest of it is withheld."""

_LARGE: Final = 1 << 17
"""Bytes of a text whose searches take a tenth of a millisecond or so together."""


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
        with_slash: whether any value of all has a slash in it.
        non_ascii: whether any is not all ASCII.
    """

    credentials: tuple[str, ...]
    values: KnownValues | None
    with_slash: bool
    non_ascii: bool


class SecretSearch:
    """Finds secrets.

    Args:
        known_values: secret values that are found wherever they stand.
        rules: what else is secret, and what is not.
        min_length: known values and credentials shorter than this many characters are not searched for: they
            would mangle harmless text.
        pause: is called between the searches of a large text, each of which keeps the interpreter for itself.

    In every method, ``credentials`` are the values that the request at hand was sent with.

    Attributes:
        rules, min_length: as given.
        has_rules: whether the user says what is secret: then a text's name, or what stands around it, may make it one.
        harmless: keys of short texts in which nothing was found; empty again whenever other values are searched for.
        generation: is another number whenever other values are searched for.
    """

    __slots__ = (
        "_any",
        "_clues",
        "_fields",
        "_find",
        "_known",
        "_none",
        "_pause",
        "_place",
        "_seen",
        "_set",
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
        self._find: list[Find] = []
        self._any: Find | None = None
        self._clues: list[bytes] = []
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

        For large data there is ``online.find_all``, which takes less room.

        ``escapes``: how often escapes are read that hide secrets: those of JSON, of JSON within JSON, and so on.
        """
        if self.rules.mode != "on":
            return []
        own = self._own(credentials)
        found = self._found(data)
        hides = self._hides(data, own)
        if not any(found) and own.values is None and not self.has_rules and not hides:
            return []
        shapes, escaped, _ = find_secrets(data, found[_SHAPES])
        spans = [*self._values(data, found[_CLUES], own), *shapes, *find_encoded(data, found[_ENCODED])]
        if self.has_rules:
            spans = self._by_rules(data, spans)
        if (escaped or hides) and escapes:
            read, places = read_escapes(data)
            more = self.spans(read, credentials, escapes - 1)
            spans += [Span(places[start], places[end], rule) for start, end, rule in more]
        return bounded(spans)

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
        spans, place, escaped = self._decided(data, begin, credentials, is_end=is_end)
        cut = None if is_end else cut_escape(data, begin)
        if escaped and escapes:
            read, places = read_escapes(data[:cut])
            more, read_place = self._stream(read, bisect_left(places, begin), credentials, escapes - 1, is_end=is_end)
            spans += [Span(places[start], places[end], rule) for start, end, rule in more]
            place = min(place, places[read_place])
        if cut is not None:
            place = min(place, cut)
        # A secret that reaches beyond the place is not told either, so its beginning is the place: those that end last
        # first, for each makes fewer end before the place. One that ends where an escape is cut may go on with that.
        for span in sorted(spans, key=lambda span: span.end, reverse=True):
            if span.end > place > span.start or span.end == cut:
                place = min(place, max(begin, span.start))
        return [Span(max(span.start, begin), span.end, span.rule) for span in spans if begin < span.end <= place], place

    def _decided(
        self, data: bytes, begin: int, credentials: Sequence[str], *, is_end: bool
    ) -> tuple[list[Span], int, bool]:
        """The secrets as the data are spelled, the place that all is decided up to; whether escapes may hide others."""
        length = len(data)
        own = self._own(credentials)
        known = [self._seen, self._known, *([own.values] if own.values is not None else [])]
        found = self._found(data)
        has_hits = any(found)
        spans, escaped, open_at = find_secrets(data, found[_SHAPES], begin) if has_hits else ([], False, length)
        if is_end:
            place = length
            for values in known:
                open_at = values.open_place(data, begin, length)
                if tells_apart(data[open_at:]):
                    spans.append(Span(open_at, length, values.rule))
        else:
            place = min(max(begin, open_at), self._open_place(data, begin, known, spans))
        if has_hits or own.values is not None:
            spans += find_encoded(data, found[_ENCODED], begin)
            spans += self._values(data, found[_CLUES], own)
        return self._by_rules(data, spans) if self.has_rules else spans, place, escaped or self._hides(data, own)

    def _open_place(self, data: bytes, begin: int, known: Iterable[KnownValues], shapes: Iterable[Span]) -> int:
        """Where a secret may begin, at ``begin`` or later, that what follows the data decides; else their length."""
        length = len(data)
        place = min(open_place(data, begin), open_encoded(data, begin))
        for values in known:
            place = values.open_place(data, begin, place)
        for span in shapes:
            if begin <= span.start < place and is_open(span, length):
                place = span.start
        if self._fields is not None:
            place = min(place, self._fields.open_place(data, begin))
        if self.rules.patterns:
            place = min(place, max(begin, length - MAX_PATTERN_BYTES))
        return place

    def _found(self, data: bytes) -> list[list[Hit]]:
        """What each of the searches finds."""
        if len(data) <= SMALL:
            if self._any is None:
                self._any = any_of([*patterns.ALL, *encoded.SPELLED, *self._clues])
            return [find(data) for find in self._find] if self._any(data) else self._none
        if len(data) < _LARGE:
            return [find(data) for find in self._find]
        found = []
        for find in self._find:
            self._pause()
            found.append(find(data))
        return found

    def _values(self, data: bytes, clues: Iterable[list[Hit]], own: _Own) -> list[Span]:
        """The places of the values that are known; ``clues`` are the parts of them that were found."""
        own_spans = own.values.spans(data) if own.values is not None else []
        if not any(clues):
            return own_spans
        return [*self._seen.spans(data), *own_spans, *self._known.spans(data)]

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
        clues = sorted(self._seen.clues | self._known.clues)
        self._find = [*patterns.FIND, *encoded.FIND, *(find for find, _ in tables(clues, range(len(clues))))]
        self._any = None
        self._clues = clues
        self._none: list[list[Hit]] = [[] for _ in self._find]
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
        return _Own(credentials, values, any(one.with_slash for one in known), any(one.non_ascii for one in known))

    @staticmethod
    def _hides(data: bytes, own: _Own) -> bool:
        r"""Whether the data may spell a known value so that only reading their escapes tells.

        Slashes may have an escape or none, and characters beyond ASCII too, one by one.
        """
        return (own.with_slash and b"\\/" in data) or (own.non_ascii and b"\\u" in data)

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


@lru_cache(maxsize=256)
def _credential_search(credentials: tuple[str, ...]) -> KnownValues:
    return KnownValues("credential", credentials)
