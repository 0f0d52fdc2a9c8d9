"""The search for secrets in a text that comes in parts.

Invariants:

- What is told does not depend on where the parts begin and end: a place is decided only when nothing that may follow
  can change it.
- Held at any time: what is not decided, at most ``MAX_OPEN`` bytes and the last part, and ``CONTEXT`` bytes before.
"""

import re
from collections.abc import Sequence
from typing import Final

from otel_wirecap.capture.redaction.search import SecretSearch
from otel_wirecap.capture.redaction.spans import Span, merged

CONTEXT: Final = 256
"""Bytes before the undecided ones that tell whether a word runs on, and the name of a field."""

MAX_OPEN: Final = 1 << 16
"""Bytes of one secret that are waited for; what is longer is masked as far as it goes on."""

_REST: Final = re.compile(rb"[A-Za-z0-9_./+=~-]*+")
_RESTS: Final = {
    "pem": re.compile(rb"[A-Za-z0-9+/=\s\\:,]*+(?:-----END [A-Z0-9 ]{0,40}(?:-----)?)?"),
    "field": re.compile(rb'[^"]*+'),
    "copilot": re.compile(rb"[A-Za-z0-9_.;:=/+@-]*+"),
}
CONTINUED: Final = ""
"""The rule of what belongs to a secret that was told before."""


class OnlineSearch:
    """Finds the secrets of one text.

    Attributes:
        decided: everything before this place of the text is decided.
    """

    __slots__ = ("_buffer", "_context", "_rest", "_search", "decided")

    def __init__(self, search: SecretSearch) -> None:
        self._search = search
        self._context = b""
        self._buffer = b""
        self._rest: re.Pattern[bytes] | None = None
        self.decided = 0

    @property
    def open_bytes(self) -> int:
        """Bytes that are not decided."""
        return len(self._buffer)

    def feed(self, part: bytes, credentials: Sequence[str], *, is_end: bool = False) -> list[Span]:
        """Takes the next part.

        Returns:
            Places in the whole text, in order, that do not overlap. One without a rule goes on with the one before.
        """
        spans: list[Span] = []
        buffer = self._buffer + part if self._buffer else part
        begin = len(self._context)
        data = self._context + buffer
        origin = self.decided - begin
        if self._rest is not None:
            found = self._rest.match(data, begin)
            end = found.end() if found else begin
            if end > begin:
                spans.append(Span(begin, end, CONTINUED))
            if end == len(data) and not is_end:
                self._keep(data, end, origin)
                return [Span(span.start + origin, span.end + origin, span.rule) for span in spans]
            self._rest, begin = None, end
        found_here, place = self._search.stream(data, begin, credentials, is_end=is_end)
        if len(data) - place > MAX_OPEN:
            found_here, place = self._cut(data, begin, credentials)
        spans += merged(found_here)
        self._keep(data, place, origin)
        return [Span(span.start + origin, span.end + origin, span.rule) for span in spans]

    def skip(self, part: bytes) -> None:
        """Takes a part that needs no search; only where nothing is open."""
        self._context = (self._context + part[-CONTEXT:])[-CONTEXT:]
        self.decided += len(part)

    def _cut(self, data: bytes, begin: int, credentials: Sequence[str]) -> tuple[list[Span], int]:
        """Decides what has been open for too long: a secret that has not ended yet is one as far as it goes."""
        found, _ = self._search.stream(data, begin, credentials, is_end=True)
        last = max(found, key=lambda span: span.end, default=None)
        if last is not None and last.end == len(data):
            self._rest = _RESTS.get(last.rule, _REST)
        return found, len(data)

    def _keep(self, data: bytes, place: int, origin: int) -> None:
        self._context = data[max(0, place - CONTEXT) : place]
        self._buffer = data[place:]
        self.decided = origin + place
