"""What crosses from the host to the writer: one tuple for each thing that happened on the wire.

An event is ``(kind, id, time_ns, value, weight)``: what happened, the id of the exchange (or flow) it happened to, a
moment of the host's monotonic clock, what came with it, and the bytes that it is counted with as long as it waits.

Invariants:

- An event is made of built-in values of exact types, so that ``marshal`` takes it as it is: no object crosses, and a
  writer in another process gets the same events as one in a thread. ``plain`` makes them of what a library gave.
- Its value does not change any more: the host may change its own objects right after the call. Heads are packed for
  that: as ``marshal`` writes them, in a microsecond, and are unpacked where they are read.
- Spans, flows and recordings are found by id, each side in its own books.
- A backend exchange brings the head of its client's request along: a writer that did not take the client's beginning
  (after one died, after a fork, or where the queue had no room) masks what the client sent all the same.

The NamedTuples here document the shapes; an event has the plain tuple, and whoever reads one makes them again.
"""

from __future__ import annotations

import marshal
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
Leg: TypeAlias = Literal["client", "backend"]
Outcome: TypeAlias = Literal["complete", "closed", "client_disconnect", "cancelled", "error", "abandoned"]
IncompleteReason: TypeAlias = Literal["withheld", "undecodable", "not_read", "cut", "dropped"]


class EventKind:
    """What happened, a plain integer. Beside each: what the id names, and the value that goes with it."""

    BEGIN: Final = 0  # exchange: (ExchangeHead, RequestHead but for its body, packed; the client's likewise; the body)
    REQUEST_CHUNK: Final = 1  # exchange: bytes of the request body
    REQUEST_RESTART: Final = 2  # exchange: None; the body is being sent anew, from its beginning
    REQUEST_END: Final = 3  # exchange: IncompleteReason, or None when the body is whole
    RESPONSE: Final = 4  # exchange: ResponseHead, packed
    CHUNK: Final = 5  # exchange: bytes of the response body, as one hook call delivered them
    END: Final = 6  # exchange: End
    ANNOTATE: Final = 7  # flow: a JSON object as bytes
    DOCUMENT: Final = 8  # None: a record as a JSON object, from elsewhere
    MESSAGE: Final = 9  # exchange: WebsocketMessage
    # None: a ``system_*`` direction and its payload for JSON, what the capture says of itself; or a part of the payload
    # of ``system_stop``; or None: the process may be gone after this, and all is well if nothing comes after it.
    SYSTEM: Final = 10
    FLOW_GONE: Final = 11  # flow: None; nothing of it follows. It weighs nothing, and is in no account
    REST: Final = 12  # exchange: (whether of the request's body, bytes): what the queue left out of the piece before


class ExchangeHead(NamedTuple):
    """What is known of an exchange from its beginning on.

    Attributes:
        leg: ``client`` or ``backend``.
        flow_id: the flow's ``request_id``.
        attempt: its number among the flow's backend exchanges; None on the client leg.
        trace_id: the OpenTelemetry trace, 32 hexadecimal digits.
        span_id: the OpenTelemetry span, 16 hexadecimal digits.
        began_unix_ns: wall-clock moment of the beginning, nanoseconds since the epoch.
        began_ns: the same moment on the monotonic clock of all events.
        wants_end: whether somebody is to be answered when it has ended.
        wants_records: whether its records are to be sent back.
    """

    leg: Leg
    flow_id: str
    attempt: int | None
    trace_id: str
    span_id: str
    began_unix_ns: int
    began_ns: int
    wants_end: bool = False
    wants_records: bool = False


class RequestHead(NamedTuple):
    """A request as it begins.

    ``decoded``: the body passes the hook content-decoded, whatever its headers say. ``websocket``: it asks for a
    websocket, and what follows its response are messages. ``body`` is the whole body where it is already in memory,
    else None.
    """

    method: str
    url: str
    headers: Headers
    http_version: str | None = None
    client_host: str | None = None
    redirect_of: str | None = None
    decoded: bool = False
    websocket: bool = False
    body: bytes | None = None

    @classmethod
    def of(cls, packed: bytes, body: bytes | None) -> RequestHead:
        """The head that an event's value is of."""
        fields = (*marshal.loads(packed), body)  # noqa: S302  # packed by our own exchange
        return cls(*fields)


class ResponseHead(NamedTuple):
    """A response's status line and headers.

    ``request_headers`` are the request's headers as they stand now, where they are no longer those of its head (a
    transport may add its own). ``decoded`` as in RequestHead.
    """

    status_code: int
    reason: str | None
    headers: Headers
    http_version: str | None = None
    request_headers: Headers | None = None
    decoded: bool = False

    @classmethod
    def of(cls, packed: bytes) -> ResponseHead:
        """The head that an event's value is of."""
        return cls(*marshal.loads(packed))  # noqa: S302  # as above


class ErrorInfo(NamedTuple):
    """What went wrong: the exception's type name and text (not yet redacted)."""

    type: str
    message: str


LOOK_AHEAD = 4096
"""Bytes of a body that are kept beyond the limit for the redactor: it must see a secret whole that the limit cuts."""

CAPTURE_FAILURE = ErrorInfo("CaptureFailure", "the capture of this exchange failed and was turned off")
"""What is said of an exchange in whose capture something of ours went wrong."""

TRUNCATED_STREAM = ErrorInfo("truncated_stream", "the stream ended without the end mark of its format")
"""What is said of a stream that the answering side ended before it had said all."""


class WebsocketMessage(NamedTuple):
    """A message of a websocket, or a part of one.

    Attributes:
        asker: whether it came from the side that asked for the websocket.
        opcode: ``TEXT`` or ``BINARY``.
        data: its bytes or text.
        part: its place among the parts of the message, from 1 on.
        final: whether the message ends with it.
    """

    asker: bool
    opcode: int
    data: bytes | str
    part: int = 1
    final: bool = True


class WebsocketClose(NamedTuple):
    """How a websocket was closed: code and reason of RFC 6455, 1006 where no close frame came.

    ``asker``: whether the side that asked for the websocket closed it; None where nobody did.
    """

    code: int
    reason: str
    asker: bool | None = None


class End(NamedTuple):
    """How an exchange ended.

    Attributes:
        outcome: in one word.
        error: what went wrong.
        lost_chunks: chunks of the response, or messages, that found no room in the queue.
        close: how a websocket was closed.
        wants_end: whether somebody is to be answered, also by a writer that did not see the beginning.
    """

    outcome: Outcome
    error: ErrorInfo | None = None
    lost_chunks: int = 0
    close: WebsocketClose | None = None
    wants_end: bool = False

    @classmethod
    def of(cls, value: tuple[Any, ...]) -> End:
        """The end that an event's value is of."""
        outcome, error, lost_chunks, close, wants_end = value
        return cls(outcome, error and ErrorInfo(*error), lost_chunks, close and WebsocketClose(*close), wants_end)


TEXT, BINARY = 1, 2
"""The opcodes of websocket messages, RFC 6455."""

Value: TypeAlias = "tuple[Any, ...] | dict[str, Any] | bytes | str | None"
Event: TypeAlias = tuple[int, "str | None", int, Value, int]


def plain(value: Any) -> Any:
    """The same in built-in values of exact types: a library may have given some of classes of its own."""
    if isinstance(value, (tuple, list)):
        return tuple(map(plain, value))
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, int):
        return value if isinstance(value, bool) else int(value)
    if isinstance(value, str):
        return str.__str__(value)
    return value if value is None or type(value) is float else str(value)
