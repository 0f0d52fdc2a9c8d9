"""What an exchange carried: its request, its response, the chunks of a stream."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_wirecap.llm.text import json_value
from otel_wirecap.reading.lines import moment_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from otel_wirecap.reading.records import Record


class Chunk(NamedTuple):
    """A chunk of a stream, or a message of a websocket.

    Attributes:
        number: as the capture numbers it; 0 where it does not.
        timestamp_unix: when it came, seconds since the epoch.
        data: its bytes, as captured.
        sender: of a websocket's message: ``client``, ``proxy`` or ``backend``.
    """

    number: int
    timestamp_unix: float
    data: bytes
    sender: str | None = None

    @property
    def timestamp(self) -> datetime | None:
        """When it came, in UTC."""
        return moment_of(self.timestamp_unix)


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """A request or a response, as captured: decoded and redacted.

    Attributes:
        record: the record that it was read from; of a stream the one of its start.
        body: its bytes; those of a stream's chunks, joined.
        headers: in wire order, redacted.
    """

    record: Record
    body: bytes
    headers: tuple[tuple[str, str], ...]

    def header(self, name: str) -> str | None:
        """The value of the first header of this name, in whatever case; None where there is none."""
        return next((value for known, value in self.headers if known.lower() == name.lower()), None)

    def text(self) -> str:
        """The body as text; bytes that are no UTF-8 become U+FFFD."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body, parsed.

        Raises:
            ValueError: it is no JSON; that of a stream is none: see ``Exchange.answer``.
        """
        return json_value(self.body)

    @property
    def incomplete(self) -> str | None:
        """Why the body is not all there: ``truncated``, ``withheld``, ``undecodable``, ``not_read``, …; else None."""
        if self.record.metadata.get("truncated"):
            return "truncated"
        reason = self.record.metadata.get("incomplete")
        return str(reason) if reason else None


class Contents(NamedTuple):
    """All that the records of one exchange carried.

    Attributes:
        request: its request; None where the capture has none.
        response: its response, the same.
        chunks: of a stream, or the messages of a websocket, by number.
        answer: returns the response's body, parsed; of a stream the message that it adds up to.
    """

    request: Message | None
    response: Message | None
    chunks: tuple[Chunk, ...]
    answer: Callable[[], Any]
