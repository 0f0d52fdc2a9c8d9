"""The search for many literals at once.

Invariants:

- Every place of every literal is found, also where it begins within another one.
- At most ``MAX_LITERALS`` in an automaton, none shorter than three bytes: beyond either its search is several times
  slower.
- Found at once is what stands in ``WINDOW`` bytes: places take many times the room of short literals.

The automata look for the first bytes of their literals with vector instructions (the algorithm Teddy of Hyperscan, see
the documentation of the crate aho-corasick): four bytes of each, or three if a literal has no more, which is a third
faster. Literals are dealt to 16 buckets in turn, or to 8 if they are 32 at most, and the search stops wherever each
byte shares its upper and its lower half with any literals of one bucket. So literals whose first three bytes are rare
are searched for by three bytes, and each bucket has literals that let few others pass (``_dealt``). What is faster was
measured, with ``benchmarks/redaction.py`` and on texts of other kinds.
"""

import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, cached_property
from typing import Final, NamedTuple, TypeAlias

from ahocorasick_rs import BytesAhoCorasick, Implementation, MatchKind

MAX_LITERALS: Final = 63

_MANY_LITERALS: Final = 1500
"""More are searched for in one automaton of little memory: the fast ones take 100 KB for each, or are too many."""

WINDOW: Final = 1 << 17
"""Bytes that are searched at once: a tenth of a millisecond."""

MAX_LITERAL: Final = 64
"""Bytes of a literal: an automaton takes time with the square of them where a literal repeats itself."""

SMALL: Final = 4096
"""Bytes of a text up to which ``SmallSearch`` is faster."""

Hit: TypeAlias = tuple[int, int]
"""Where a literal begins, and its number in its set."""

_Find: TypeAlias = Callable[[bytes | memoryview], list[tuple[int, int, int]]]

_MAX_RARE: Final = 1e-6
"""How often the first three bytes of a literal may come that is searched for by these."""

_NO_LITERAL: Final = b"\x00\xff\x00"
"""Makes an automaton search by three bytes."""

_FREQUENT: Final = b' etaoinsrhldcu"_mfpgy,.wbv:-/k0123\\'
_FREQUENCIES: Final = [
    0.12 / (1 + 0.6 * _FREQUENT.index(byte)) if byte in _FREQUENT
    else 0.005 if byte in string.ascii_lowercase.encode() + string.digits.encode()
    else 0.002 if byte in string.ascii_uppercase.encode()
    else 0.0003
    for byte in range(256)
]  # fmt: skip
"""Of bytes in JSON, prose and code, about."""


class Progress:
    """How far the places that were found in a text have been looked at.

    Attributes:
        begin: nothing is looked at that begins before.
        done: where what was found last ends.
        failed: how many places turned out to be none of a secret.
    """

    __slots__ = ("begin", "done", "failed")

    def __init__(self, begin: int) -> None:
        self.begin = self.done = begin
        self.failed = 0


class SmallSearch:
    """Finds the literals of several sets in small texts.

    It takes longer for each byte than ``LiteralSearch``, and less for a text of a few hundred. Each search lets go of
    the interpreter, which another thread that is busy gives back only milliseconds later: one is better than many.

    Args:
        sets: the literals of each kind.
    """

    def __init__(self, *sets: Sequence[bytes]) -> None:
        owners = _owners(sets)
        self._kinds = len(sets)
        self._owners = list(owners.values())
        fastest = Implementation.DFA if len(owners) <= _MANY_LITERALS else None
        self._find = BytesAhoCorasick(list(owners), implementation=fastest).find_matches_as_indexes

    def hits(self, data: bytes) -> list[list[Hit]] | None:
        """The places of each kind of literals, in order; None where there are none."""
        places = self._find(data, overlapping=True)
        if not places:
            return None
        found: list[list[Hit]] = [[] for _ in range(self._kinds)]
        for literal, start, _ in places:
            for kind, number in self._owners[literal]:
                found[kind].append((start, number))
        if len(places) > 1:
            for hits in found:
                hits.sort()
        return found


class _Inside(NamedTuple):
    """The literals that may begin ``at`` bytes after the beginning of another one, each with its kind and number."""

    at: int
    literals: tuple[bytes, ...]
    owners: list[tuple[bytes, int, int]]


class _Table:
    """An automaton.

    Attributes:
        find: returns the place of each literal that was found in the table, its beginning and its end.
        owners: the kinds and numbers of each of the literals.
        inside: what may begin within each of them.
    """

    __slots__ = ("find", "inside", "owners")

    def __init__(self, literals: Sequence[bytes], owners: dict[bytes, list[tuple[int, int]]]) -> None:
        self.find: _Find = BytesAhoCorasick(literals, matchkind=MatchKind.LeftmostFirst).find_matches_as_indexes
        self.owners = [owners.get(literal, []) for literal in literals]
        by_first: dict[int, list[bytes]] = {}
        for literal in literals:
            by_first.setdefault(literal[0], []).append(literal)
        self.inside: list[list[_Inside]] = []
        for outer in literals:
            self.inside.append([])
            for at, first in enumerate(outer):
                inner = [
                    literal
                    for literal in by_first.get(first, ())
                    if (at or literal is not outer)
                    and (outer.startswith(literal, at) or literal.startswith(outer[at:]))
                ]
                if inner:
                    of_whom = [(one, *owner) for one in inner for owner in owners.get(one, ())]
                    self.inside[-1].append(_Inside(at, tuple(inner), of_whom))


class LiteralSearch:
    """Finds the literals of several sets. What it needs for that is made when it first searches.

    Args:
        sets: the literals of each kind.
    """

    def __init__(self, *sets: Sequence[bytes]) -> None:
        self._owners = _owners(sets)
        self._kinds = len(sets)

    @cached_property
    def _tables(self) -> list[_Table]:
        return [_Table(table, self._owners) for table in tables(self._owners)]

    def hits(self, data: bytes, part: bytes | memoryview, begin: int) -> list[list[Hit]] | None:
        """The places of each kind of literals that begin in a window of the data, in order; None if there are none."""
        end = begin + WINDOW
        found: list[list[Hit]] | None = None
        for table in self._tables:
            places = table.find(part)
            if not places:
                continue
            if found is None:
                found = [[] for _ in range(self._kinds)]
            owners, inside = table.owners, table.inside
            for literal, place, _ in places:
                start = begin + place
                if start >= end:
                    break
                for kind, number in owners[literal]:
                    found[kind].append((start, number))
                for at, inner, of_whom in inside[literal]:
                    if data.startswith(inner, start + at) and start + at < end:
                        found_here = [one for one in of_whom if data.startswith(one[0], start + at)]
                        for _, kind, number in found_here:
                            found[kind].append((start + at, number))
        for hits in found or ():
            hits.sort()
        return found


class AnyLiteral:
    """Whether any of many literals is in a text: they change often, so that less is made of them.

    Args:
        literals: those of secrets, so that hardly any text has one.
    """

    def __init__(self, literals: Iterable[bytes]) -> None:
        self.literals = sorted(literals)

    @cached_property
    def _tables(self) -> list[_Find]:
        count = -(-len(self.literals) // MAX_LITERALS) if len(self.literals) <= _MANY_LITERALS else 1
        return [
            BytesAhoCorasick(part, matchkind=MatchKind.LeftmostFirst).find_matches_as_indexes
            for part in map(_neighbours, _parts(self.literals, count))
        ]

    def is_in(self, part: bytes | memoryview) -> bool:
        """Whether one of them is in a window."""
        return any(find(part) for find in self._tables)


def windows(data: bytes) -> Iterable[tuple[bytes | memoryview, int]]:
    """The windows of a text, each with what may belong to a literal that begins in it, and where they begin."""
    if len(data) <= WINDOW:
        return ((data, 0),)
    return ((memoryview(data)[begin : begin + WINDOW + MAX_LITERAL], begin) for begin in range(0, len(data), WINDOW))


def _owners(sets: Sequence[Sequence[bytes]]) -> dict[bytes, list[tuple[int, int]]]:
    """The kinds and numbers of each literal."""
    found: dict[bytes, list[tuple[int, int]]] = {}
    for kind, literals in enumerate(sets):
        for number, literal in enumerate(literals):
            found.setdefault(literal, []).append((kind, number))
    return found


def tables(literals: Iterable[bytes]) -> Iterator[list[bytes]]:
    """The literals of each automaton: those with rare beginnings, which are searched for by three bytes, and others."""
    by_rarity = sorted(literals, key=lambda literal: (len(literal) > 3, _frequency(literal, 3), literal))
    count = -(-len(by_rarity) // (MAX_LITERALS - 1))  # with _NO_LITERAL at most MAX_LITERALS
    rare = sum(len(literal) == 3 or _frequency(literal, 3) < _MAX_RARE for literal in by_rarity)
    rare_tables = -(-rare * count // len(by_rarity)) if by_rarity else 0
    limit = rare_tables * len(by_rarity) // count if count else 0
    for part in _parts(sorted(by_rarity[:limit]), rare_tables):
        table = _dealt(part, 3)
        yield table if any(len(literal) == 3 for literal in table) else [*table, _NO_LITERAL]
    for part in _parts(sorted(by_rarity[limit:]), count - rare_tables):
        yield _dealt(part, 4)


def _parts(literals: Sequence[bytes], count: int) -> Iterator[Sequence[bytes]]:
    for part in range(count):
        yield literals[part * len(literals) // count : (part + 1) * len(literals) // count]


def _dealt(literals: Sequence[bytes], size: int) -> list[bytes]:
    """An automaton's literals in an order that puts alike ones into a bucket, by their first ``size`` bytes.

    Each in turn, the frequent ones first, goes where it lets the fewest others pass.
    """
    count = 16 if len(literals) > 32 else 8
    least, more = divmod(len(literals), count)
    buckets: list[list[bytes]] = [[] for _ in range(count)]
    halves = [((0, 0),) * size] * count
    passing = [0.0] * count
    for literal in sorted(literals, key=lambda one: (-_frequency(one, size), one)):
        is_full = sum(len(bucket) > least for bucket in buckets) == more
        own, options = _halves(literal[:size]), []
        for number, bucket in enumerate(buckets):
            if len(bucket) < least + (not is_full):
                wider = tuple((low | a, high | b) for (low, high), (a, b) in zip(halves[number], own, strict=True))
                options.append((_passing(wider) - passing[number], number, wider))
        grows, number, halves[number] = min(options)
        passing[number] += grows
        buckets[number].append(literal)
    buckets.sort(key=len, reverse=True)
    return [bucket[turn] for turn in range(least + 1) for bucket in buckets if turn < len(bucket)]


def _neighbours(literals: Sequence[bytes]) -> list[bytes]:
    """An automaton's literals in an order that puts neighbours into a bucket."""
    count = 16 if len(literals) > 32 else 8
    buckets = list(_parts(literals, count))
    return [bucket[turn] for turn in range(max(map(len, buckets))) for bucket in buckets if turn < len(bucket)]


def _halves(literal: bytes) -> list[tuple[int, int]]:
    """The lower and the upper half of each byte, as a bit of 16."""
    return [(1 << (byte & 15), 1 << (byte >> 4)) for byte in literal]


def _frequency(literal: bytes, size: int) -> float:
    return _passing(_halves(literal[:size]))


def _passing(halves: Iterable[tuple[int, int]]) -> float:
    """How often bytes come that have these halves."""
    product = 1.0
    for low, high in halves:
        product *= _share(low, high)
    return product


@cache
def _share(low: int, high: int) -> float:
    lows = [half for half in range(16) if low >> half & 1]
    return sum(_FREQUENCIES[upper << 4 | half] for upper in range(16) if high >> upper & 1 for half in lows)
