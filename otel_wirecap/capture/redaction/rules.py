"""What the user wants masked beyond what is found anyway, and what not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from otel_wirecap.capture.redaction.spans import MARKER, Span

Mode = Literal["on", "headers-only", "off"]
Place = Literal["headers", "urls", "bodies"]

PLACES: Final[tuple[Place, ...]] = ("headers", "urls", "bodies")

MAX_PATTERN_BYTES: Final = 128
"""Bytes of a stream's text that wait where there are patterns of the user's: what they match may be split, too."""


class Pattern(NamedTuple):
    """A secret that the user describes.

    Attributes:
        name: what findings are counted under.
        expression: what it looks like.
        places: where it is looked for.
    """

    name: str
    expression: re.Pattern[bytes]
    places: frozenset[Place]


@dataclass(frozen=True, slots=True)
class Rules:
    """How to redact.

    Attributes:
        mode: ``headers-only`` masks headers, parameters and user information by name only; ``off`` masks nothing.
        headers: further names of secret headers, in lower case.
        fields: further names of secret fields of JSON and forms and of parameters, in lower case.
        patterns: further secrets.
        allowed: what is no secret although it looks like one.
        prompts: whether the text of messages and answers is masked, too, in whatever mode.
    """

    mode: Mode = "on"
    headers: frozenset[str] = frozenset()
    fields: frozenset[str] = frozenset()
    patterns: tuple[Pattern, ...] = ()
    allowed: frozenset[bytes] = frozenset()
    prompts: bool = False


class FieldSearch:
    """Finds the strings of JSON fields by the names that the user gave, whatever they hold.

    Args:
        names: in lower case; at least one.
    """

    def __init__(self, names: frozenset[str]) -> None:
        choice = "|".join(map(re.escape, sorted(names))).encode()
        beginning = rb'"(?:%s)(?P<escape>\\*+)"\s*+:\s*+(?P=escape)"' % choice
        self._beginning = re.compile(beginning, re.IGNORECASE)

    def spans(self, data: bytes) -> list[Span]:
        """The values, quotes not included."""
        found: list[Span] = []
        for field in self._beginning.finditer(data):
            end = _end_of_string(data, field.end(), field["escape"])
            if end > field.end() and data[field.end() : end] != MARKER.encode():
                found.append(Span(field.end(), end, "field"))
        return found

    def open_place(self, data: bytes, begin: int) -> int:
        """Where a value begins, at ``begin`` or later, that has not ended where the data do; else their length."""
        for field in self._beginning.finditer(data):
            if _end_of_string(data, field.end(), field["escape"]) == len(data):
                return max(begin, field.end())
        return len(data)


def _end_of_string(data: bytes, begin: int, escape: bytes) -> int:
    """Where a JSON string ends that begins there, whose quotes have that escape; else the end of the data."""
    place = begin
    while (place := data.find(b'"', place)) >= 0:
        backslashes = place - len(data[begin:place].rstrip(b"\\")) - begin
        if backslashes <= len(escape):
            return place - backslashes
        place += 1
    return len(data)
