"""What a finding is, and how findings become markers."""

from collections.abc import Mapping
from typing import Final, NamedTuple

MARKER: Final = "[REDACTED]"
"""What stands where a secret stood: the same whatever was there, however long it was."""

_MARKER: Final = MARKER.encode()


class Span(NamedTuple):
    """A secret's place: bytes ``start`` to ``end``, and the rule that found it."""

    start: int
    end: int
    rule: str


def masked(data: bytes, spans: list[Span], counts: dict[str, int]) -> bytes:
    """Puts one marker in place of each secret.

    Args:
        data: What the spans were found in.
        spans: At least one, in any order. Those that overlap become one marker, counted under the rule of the
            one that begins first; of those, of the longest; of those, of the one that stands first.
        counts: Rule to number of markers; added to.
    """
    pieces: list[bytes] = []
    done = 0
    for start, end, rule in merged(spans):
        pieces += (data[done:start], _MARKER)
        counts[rule] = counts.get(rule, 0) + 1
        done = end
    pieces.append(data[done:])
    return b"".join(pieces)


def merged(spans: list[Span]) -> list[Span]:
    """The places in order, those that overlap as one, found by the rule that ``masked`` counts."""
    found: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if found and span.start < found[-1].end:
            if span.end > found[-1].end:
                found[-1] = found[-1]._replace(end=span.end)
        else:
            found.append(span)
    return found


def add_counts(counts: dict[str, int], more: Mapping[str, int]) -> None:
    """Adds rules' numbers of markers to others."""
    for rule, count in more.items():
        counts[rule] = counts.get(rule, 0) + count
