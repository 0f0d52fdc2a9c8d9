"""Secrets known by their value, in the spellings that they travel in."""

import base64
import json
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Final
from urllib.parse import quote, quote_plus

from ahocorasick_rs import BytesAhoCorasick, Implementation, MatchKind

from otel_wirecap.capture.redaction.escapes import without_invisible
from otel_wirecap.capture.redaction.literals import MAX_LITERAL, MAX_LITERALS
from otel_wirecap.capture.redaction.spans import Span

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_PLAIN: Final = re.compile(r"[A-Za-z0-9._~-]+")  # the same in JSON, in URLs and in bytes

_PLAIN_PART: Final = re.compile(rb"[A-Za-z0-9]+")
_URL_ALPHABET: Final = str.maketrans("+/", "-_")

_HEAD: Final = 4

MIN_CLUE: Final = 6
"""Bytes: a search for shorter ones would find harmless text too often."""

MIN_BEGINNING: Final = 8
"""Bytes of a value that are masked where a text ends with them, though the rest never came."""

_WORD: Final = re.compile(rb"[A-Za-z][a-z]{7,14}")

_END: Final = re.compile(rb'\\*"|\Z')
"""Where a text ends: a string of JSON, also of JSON within strings, or all of it."""


@lru_cache(maxsize=4096)
def spellings(value: str) -> tuple[bytes, ...]:
    r"""The ways to write a value, itself first.

    As it is; within JSON, with and without ``\u`` escapes and ``\/``, and within JSON within JSON, twice;
    percent-encoded, with capital and small digits, slashes and spaces either way; and, for texts that were decoded
    as latin-1 (headers are), its UTF-8 bytes taken for characters.
    """
    if _PLAIN.fullmatch(value):
        return (value.encode(),)
    try:
        own = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # not the escape of any byte: cannot be on the wire
        return ()
    found = [own.decode("latin-1")]
    inners = [value]
    for _ in range(3):
        # What is written with escapes within is quoted with them further out, whoever writes that.
        spelled = (json.dumps(inner, ensure_ascii=ascii_only)[1:-1] for inner in inners for ascii_only in (False, True))
        forms = list(dict.fromkeys(spelled))
        forms = list(dict.fromkeys([*forms, *(form.replace("/", "\\/") for form in forms)]))
        found += forms
        found += [re.sub("[&<>]", lambda letter: f"\\u{ord(letter[0]):04x}", form) for form in forms]  # Go does so
        inners = forms
    for safe in ("", "/"):
        for encode in (quote, quote_plus):
            encoded = encode(value, safe=safe, errors="surrogateescape")
            found += [encoded, _small_digits(encoded)]
    return (own, *dict.fromkeys(form.encode() for form in found if not _SURROGATE.search(form) and form != value))


@lru_cache(maxsize=4096)
def encodings(value: str) -> tuple[bytes, ...]:
    """A value within other data that is encoded as a whole: in hex, and in base64 at each of its three alignments.

    Of base64 the characters that the value alone decides, in the usual alphabet and in that of URLs, and as JSON
    and URLs write them. The one at each end that its neighbours decide too holds four bits of the value at most.
    """
    try:
        own = value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return ()
    found = [own.hex(), own.hex().upper()]
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + own).decode()
        core = encoded[-(-before * 8 // 6) : (before + len(own)) * 8 // 6]
        escaped = quote(core, safe="")
        found += [core, core.translate(_URL_ALPHABET), core.replace("/", "\\/"), escaped, _small_digits(escaped)]
    return tuple(dict.fromkeys(form.encode() for form in found))


def _small_digits(percent_encoded: str) -> str:
    return re.sub("%[0-9A-F]{2}", lambda digits: digits[0].lower(), percent_encoded)


def _clues(spelled: Sequence[bytes], encoded: Iterable[bytes]) -> set[bytes]:
    """Parts of the forms, so that every text with one of them, or with the beginning of one spelled, has such a part.

    Most forms of a value have one in common. Of those encoded it is long enough to be rare, where there is such a part.
    """
    found: set[bytes] = set()
    for form in spelled:
        if not any(form.startswith(known) for known in found):
            found.add(form[:MIN_BEGINNING])
    for form in encoded:
        longest = max(_PLAIN_PART.findall(form), key=len, default=b"")
        clue = (longest if len(longest) >= MIN_CLUE else form)[:MAX_LITERAL]
        if not any(known in form for known in found):
            found.add(clue)
    return found


def occurrences(data: bytes, forms: Iterable[bytes], rule: str) -> list[Span]:
    """Every place where one of the forms stands in the data; places of one form that overlap are one span."""
    spans: list[Span] = []
    for form in forms:
        start = place = data.find(form)
        while place >= 0:
            end = place + len(form)
            place = data.find(form, place + 1)
            if not 0 <= place < end:
                spans.append(Span(start, end, rule))
                start = place
    return spans


def tells_apart(beginning: bytes) -> bool:
    """Whether a text that ends like this ends within a value: not where it may as well end with a word."""
    return len(beginning) >= MIN_BEGINNING and not _WORD.fullmatch(beginning)


def beginnings(data: bytes, forms: Iterable[bytes], rule: str) -> list[Span]:
    """Every place where a text within the data ends with the beginning of one of the forms."""
    spans: list[Span] = []
    for form in forms:
        place = data.find(form[:MIN_BEGINNING]) if len(form) > MIN_BEGINNING else -1
        while place >= 0:
            # The first size of which more than that many bytes are not there.
            length = bisect_left(range(len(form)), 1, key=lambda size: not data.startswith(form[: size + 1], place))
            if length < len(form) and _END.match(data, place + length) and tells_apart(form[:length]):
                spans.append(Span(place, place + length, rule))
            place = data.find(form[:MIN_BEGINNING], place + 1)
    return spans


class _SearchPass:
    """Values that are searched for in one pass."""

    def __init__(self) -> None:
        self.values: set[str] = set()
        self.spelled: list[bytes] = []
        self.forms: list[bytes] = []
        self.clues: set[bytes] = set()
        self.search: Callable[[bytes], list[tuple[int, int, int]]] = lambda _data: []
        self._beginnings: _Beginnings | None = None

    def add(self, value: str, spelled: Sequence[bytes], encoded: Sequence[bytes], clues: set[bytes]) -> None:
        self.values.add(value)
        self.spelled += spelled
        self.forms += (*spelled, *encoded)
        self.clues |= clues

    def build(self) -> None:
        if self.clues:
            self.search = BytesAhoCorasick(
                sorted(self.clues), matchkind=MatchKind.LeftmostFirst, implementation=Implementation.ContiguousNFA
            ).find_matches_as_indexes
        self._beginnings = None

    def open_place(self, data: bytes, begin: int, place: int) -> int:
        if self._beginnings is None:
            self._beginnings = _Beginnings(self.forms)
        return self._beginnings.open_place(data, begin, place)


_start = itemgetter(1)


class _Beginnings:
    """Finds out whether data end with the beginning of one of the forms."""

    def __init__(self, forms: list[bytes]) -> None:
        self._longest = max(map(len, forms), default=0)
        self._bytes = bytes(set(b"".join(forms)))
        self._shortest = {form[:length] for form in forms for length in range(1, _HEAD)}
        heads: dict[bytes, list[bytes]] = {}
        for form in forms:
            heads.setdefault(form[:_HEAD], []).append(form)
        self._forms = list(heads.values())
        self._find = BytesAhoCorasick(list(heads)).find_matches_as_indexes

    def open_place(self, data: bytes, begin: int, place: int) -> int:
        length = len(data)
        first = max(begin, length - self._longest + 1)
        tail = data[first:]
        first += len(tail.rstrip(self._bytes))
        if first >= place:
            return place
        tail = data[first:]
        hits = self._find(tail, overlapping=True)
        for index, start, _ in sorted(hits, key=_start) if hits else ():
            rest = tail[start:]
            if any(form.startswith(rest) and form != rest for form in self._forms[index]):
                return min(place, first + start)
        for start in range(max(first, length - _HEAD + 1), place):
            if data[start:] in self._shortest:
                return start
        return place


class KnownValues:
    """Secret values, searched for in one pass per ten of them or so.

    Args:
        rule: what findings are counted under.
        values: the first ones.
        max_passes: how many passes a search may take: the values that were added first are forgotten beyond that.

    Attributes:
        rule: what findings are counted under.
        non_ascii: whether a value was ever added that is not all ASCII.
        with_reserved: whether a value was ever added with ASCII in it that JSON, URLs or HTML write in several ways.
    """

    __slots__ = ("_batches", "_max_passes", "_values", "non_ascii", "rule", "with_reserved")

    def __init__(self, rule: str, values: Iterable[str] = (), *, max_passes: int | None = None) -> None:
        self.rule = rule
        self._max_passes = max_passes
        self._batches: list[_SearchPass] = []
        self._values: set[str] = set()
        self.non_ascii = self.with_reserved = False
        self.add(values)

    def __contains__(self, value: object) -> bool:
        return value in self._values

    def add(self, values: Iterable[str]) -> None:
        """Adds values; the cost does not grow with the number of those that are there already."""
        changed: set[int] = set()
        for value in values:
            if value in self._values:
                continue
            self._values.add(value)
            self.non_ascii |= not value.isascii()
            self.with_reserved |= _PLAIN.fullmatch(value) is None
            spelled, encoded = spellings(value), encodings(value)
            seen = without_invisible(value)
            spelled = (*spelled, *spellings(seen)) if seen != value else spelled
            clues = _clues(spelled, encoded)
            if _PLAIN.fullmatch(value) is None:  # what may be spelled in several ways is beside this
                part = max(_PLAIN_PART.findall(spelled[0] if spelled else b""), key=len, default=b"")[:MAX_LITERAL]
                clues |= {part} if len(part) >= MIN_CLUE else set()
            if not self._batches or len(self._batches[-1].clues | clues) > MAX_LITERALS:
                self._batches.append(_SearchPass())
            self._batches[-1].add(value, spelled, encoded, clues)
            changed.add(len(self._batches) - 1)
        for place in sorted(changed):
            self._batches[place].build()
        while self._max_passes is not None and len(self._batches) > self._max_passes:
            self._values -= self._batches.pop(0).values

    @property
    def clues(self) -> set[bytes]:
        """Parts of all forms of the values; where none of them stands, no value does."""
        return {clue for batch in self._batches for clue in batch.clues}

    def open_place(self, data: bytes, begin: int, place: int) -> int:
        """Where a value may begin, at ``begin`` or later, whose rest follows the data; at most ``place``."""
        for batch in self._batches:
            place = batch.open_place(data, begin, place)
        return place

    def spans(self, data: bytes) -> list[Span]:
        """Every place where a value stands in the data, in any of its spellings, or where a text ends within one."""
        spans: list[Span] = []
        for batch in self._batches:
            # The automaton tells which clues are there at all; one that overlaps another may be missing from its
            # answer, so the rare data with a hit is searched for every form.
            if batch.search(data):
                spans += occurrences(data, batch.forms, self.rule)
                spans += beginnings(data, batch.spelled, self.rule)
        return spans
