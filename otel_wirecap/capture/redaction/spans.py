"""What a finding is, and how findings become markers."""

from typing import Final, NamedTuple

MARKER: Final = "[REDACTED]"
"""What stands where a secret stood: the same whatever was there, however long it was."""


class Span(NamedTuple):
    """A secret's place in a text: characters ``start`` to ``end``, and the rule that found it."""

    start: int
    end: int
    rule: str


def masked(text: str, spans: list[Span], counts: dict[str, int]) -> str:
    """Puts one marker in place of each secret.

    Args:
        text: The text that the spans were found in.
        spans: At least one, in any order. Those that overlap become one marker, counted under the rule of the
            one that begins first; of those, of the longest; of those, of the one that stands first.
        counts: Rule to number of markers; added to.
    """
    spans = sorted(spans, key=lambda span: (span.start, -span.end))
    pieces: list[str] = []
    done = 0
    for start, end, rule in spans:
        if pieces and start < done:
            done = max(done, end)
            continue
        pieces += (text[done:start], MARKER)
        counts[rule] = counts.get(rule, 0) + 1
        done = end
    pieces.append(text[done:])
    return "".join(pieces)
