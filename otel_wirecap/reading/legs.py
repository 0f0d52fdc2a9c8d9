"""One flow in full: each exchange with its request, its response, and every chunk of it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from otel_wirecap.capture.record import (
    REQUESTS,
    RESPONSES,
    STREAM_CHUNKS,
    STREAM_ENDS,
    STREAM_STARTS,
    WEBSOCKET_END,
    WEBSOCKET_MESSAGE,
    WEBSOCKET_START,
)
from otel_wirecap.reading.lines import body_of, typed
from otel_wirecap.reading.messages import Chunk

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_wirecap.frames.lexer import Frame
    from otel_wirecap.reading.captures import Captures
    from otel_wirecap.reading.flows import Exchange, Flow
    from otel_wirecap.reading.lines import RawRecord

_MAX_MESSAGE_BYTES = 256 * 1024 * 1024


@dataclasses.dataclass(slots=True)
class Leg:
    """One exchange in full.

    Attributes:
        exchange: its summary.
        request: the request's record; a websocket's start.
        request_body: its bytes.
        response: the response's record; of a stream its start.
        response_body: the bytes of the response; those of a stream's chunks, joined.
        chunks: of a stream, in the order of their numbers.
        end: the record of a stream's or a websocket's end.
        assembled: the record of the message that the stream adds up to.
    """

    exchange: Exchange
    request: RawRecord | None = None
    request_body: bytes = b""
    response: RawRecord | None = None
    response_body: bytes = b""
    chunks: list[Chunk] = dataclasses.field(default_factory=list)
    end: RawRecord | None = None
    assembled: RawRecord | None = None

    @property
    def question(self) -> Any:
        """The request's body, parsed; a string where it is no JSON; None where it is not there."""
        return None if self.request is None else self.request.get("payload")

    @property
    def answer(self) -> Any:
        """The response's body, parsed, a stream's as the message it adds up to; None where there is none."""
        if self.assembled is not None:
            return self.assembled.get("payload")
        if self.chunks:
            return message_of(self)
        return None if self.response is None else self.response.get("payload")

    def metadata(self, of: str) -> dict[str, Any]:
        """The metadata of the ``request`` or the ``response``; empty where that has no record."""
        record = self.request if of == "request" else self.response
        return {} if record is None else record["metadata"]

    def header(self, of: str, name: str) -> str | None:
        """The first header of this name, in lower case, of the ``request`` or the ``response``; None without one."""
        return next((value for known, value in self.headers(of) if known.lower() == name), None)

    def headers(self, of: str) -> list[tuple[str, str]]:
        """The headers of the ``request`` or the ``response``, in wire order, masked."""
        named = self.metadata(of).get("headers")
        if of == "request" and self.response is not None:
            named = self.response["metadata"].get("request_headers") or named
        pairs = (pair for pair in typed(named, list) or () if isinstance(pair, list) and len(pair) == 2)
        return [(str(name), str(value)) for name, value in pairs]


def message_of(leg: Leg) -> Any:
    """What the events of a leg's stream add up to; None where no form is known."""
    from otel_wirecap.reading.dialects import assemble  # much to import for what is seldom wanted

    return assemble(leg.header("response", "content-type"), [leg.response_body], max_bytes=_MAX_MESSAGE_BYTES)


def events_of(leg: Leg) -> list[Frame]:
    """The events of a leg's stream."""
    from otel_wirecap.frames.framing import FrameReader  # as above

    frames = FrameReader(leg.header("response", "content-type"), max_frame_bytes=_MAX_MESSAGE_BYTES)
    return [*frames.feed(leg.response_body), *frames.close()]


def legs_of(captures: Captures, flow: Flow) -> list[Leg]:
    """The exchanges of a flow in full, the client's first."""
    return legs_from(flow, captures.lines_of(flow))


def legs_from(flow: Flow, lines: Iterable[tuple[RawRecord, bytes]]) -> list[Leg]:
    """The exchanges of a flow in full, the client's first, from its records, each with its line."""
    legs = {exchange.exchange_id: Leg(exchange) for exchange in flow.exchanges}
    for record, line in lines:
        leg = legs.get(str(record["metadata"].get("exchange_id")))
        if leg is not None:
            _take(leg, record, line)
    for leg in legs.values():
        if leg.chunks:
            leg.chunks.sort(key=lambda chunk: chunk.number)
            leg.response_body = b"".join(chunk.data for chunk in leg.chunks if chunk.sender is None)
    return list(legs.values())


def _take(leg: Leg, record: RawRecord, line: bytes) -> None:
    direction, metadata = record["direction"], record["metadata"]
    if direction in REQUESTS or direction == WEBSOCKET_START:
        leg.request, leg.request_body = record, body_of(record, line)
        if direction == WEBSOCKET_START:
            leg.response = record
    elif metadata.get("assembled"):
        leg.assembled = record
    elif direction in RESPONSES:
        leg.response, leg.response_body = record, body_of(record, line)
    elif direction in STREAM_STARTS:
        leg.response = record
    elif direction in STREAM_CHUNKS or direction == WEBSOCKET_MESSAGE:
        number = typed(metadata.get("chunk_number", metadata.get("message_number")), int) or 0
        sender = typed((typed(metadata.get("websocket"), dict) or {}).get("from"), str)
        leg.chunks.append(Chunk(number, record["timestamp_unix"], body_of(record, line), sender))
    elif direction in STREAM_ENDS or direction == WEBSOCKET_END:
        leg.end = record
