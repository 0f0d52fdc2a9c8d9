"""What is to stand in a text or a stream instead of parts of it, and the pieces of a stream with that done.

Invariant: what stands instead goes into the piece in which the edit begins, and the rest of the edit is taken out of
the pieces that it runs through.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple


class Released(NamedTuple):
    """Redacted pieces.

    Attributes:
        pieces: in order.
        counts: rule to number of markers, by the number of the piece, for those that markers were put into.
        withheld: so many pieces follow that could not be redacted.
    """

    pieces: list[bytes]
    counts: dict[int, dict[str, int]]
    withheld: int = 0


class Edit(NamedTuple):
    """Other bytes for a part of a text or stream; ``rules`` has one for each marker that they put in."""

    start: int
    end: int
    replacement: bytes
    rules: tuple[str, ...] = ()


def merged(edits: list[Edit]) -> list[Edit]:
    """The edits in order, those that overlap as one."""
    found: list[Edit] = []
    for edit in sorted(edits, key=lambda edit: (edit.start, -edit.end)):
        if found and edit.start < found[-1].end:
            last = found[-1]
            found[-1] = Edit(
                last.start, max(last.end, edit.end), last.replacement or edit.replacement, last.rules or edit.rules
            )
        else:
            found.append(edit)
    return found


def applied(content: bytes, edits: Iterable[Edit]) -> bytes:
    """A text with edits made that are in order and do not overlap; each is taken when those before it are made."""
    made = bytearray()
    done = 0
    for start, end, replacement, _ in edits:
        made += content[done:start]
        made += replacement
        done = end
    made += content[done:]
    return bytes(made)


def counted(edits: Iterable[Edit], counts: dict[str, int]) -> Iterator[Edit]:
    """The edits, with their markers counted as they are taken."""
    for edit in edits:
        add_rules(counts, (edit,))
        yield edit


def add_rules(counts: dict[str, int], edits: Sequence[Edit]) -> None:
    """Counts the markers of edits."""
    for edit in edits:
        for rule in edit.rules:
            counts[rule] = counts.get(rule, 0) + 1


class Pieces:
    """The pieces of a stream that have not come out.

    Attributes:
        edits: what is to be changed in them, by places in the stream.
    """

    def __init__(self) -> None:
        self.edits: list[Edit] = []
        self._pieces: list[bytes] = []
        self._ends: list[int] = []  # of the pieces that were held before the last ones came
        self._begin = 0
        self._end = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of the pieces."""
        return self._end - self._begin

    def add(self, pieces: Sequence[bytes]) -> bytes:
        """Takes the next pieces; returns what they say together."""
        self._pieces += pieces
        joined = b"".join(pieces)
        self._end += len(joined)
        return joined

    def release(self, limit: int) -> Released:
        """The pieces that end at a place of the stream or before, with the edits made."""
        # From the end: few pieces of those that came last are held as a rule.
        count, end = len(self._pieces), self._end
        held: list[int] = []
        while end > limit and count > len(self._ends):
            held.append(end)
            count -= 1
            end -= len(self._pieces[count])
        if end > limit:
            count = bisect_right(self._ends, limit)
            end = self._ends[count - 1] if count else self._begin
        self._ends = [*self._ends[count:], *reversed(held)]
        pieces, self._pieces = self._pieces[:count], self._pieces[count:]
        counts: dict[int, dict[str, int]] = {}
        begin, self._begin = self._begin, end
        if self.edits and count:
            edits = deque(merged(self.edits))
            for number, piece in enumerate(pieces):
                if edits and edits[0].start < begin + len(piece):
                    pieces[number], counts[number] = _edited(piece, begin, edits)
                begin += len(piece)
            self.edits = list(edits)
        return Released(pieces, {number: rules for number, rules in counts.items() if rules})


def _edited(piece: bytes, begin: int, edits: deque[Edit]) -> tuple[bytes, dict[str, int]]:
    """A piece with the edits made that begin in it, and what was masked; what reaches into the next piece stays."""
    parts: list[bytes] = []
    made: list[Edit] = []
    done, end = begin, begin + len(piece)
    while edits and edits[0].start < end:
        edit = edits.popleft()
        parts += (piece[done - begin : edit.start - begin], edit.replacement)
        made.append(edit)
        done = edit.end
        if done > end:
            edits.appendleft(Edit(end, done, b""))
            break
    parts.append(piece[done - begin :])
    counts: dict[str, int] = {}
    add_rules(counts, made)
    return b"".join(parts), counts
