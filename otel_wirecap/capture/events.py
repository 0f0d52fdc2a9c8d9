"""What crosses from the host to the writer: one tuple for each thing that happened on the wire.

A payload event is ``(kind, subject, time_ns, value)``; ``subject`` is the Exchange (for ANNOTATE the Flow) it
belongs to and ``time_ns`` a moment of the host's monotonic clock. Tuples and immutable values only: the host may
change its own objects right after the call.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from otel_wirecap.capture.exchange import Exchange, Flow

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
Leg: TypeAlias = Literal["client", "backend"]
Outcome: TypeAlias = Literal["complete", "closed", "client_disconnect", "cancelled", "error", "abandoned"]
IncompleteReason: TypeAlias = Literal["withheld", "undecodable", "not_read", "cut", "dropped"]


class EventKind(enum.IntEnum):
    """What happened. The value type that goes with it stands beside."""

    BEGIN = 0  # RequestHead
    REQUEST_CHUNK = 1  # bytes of the request body
    REQUEST_RESTART = 2  # None: the body is being sent anew, from its beginning
    REQUEST_END = 3  # IncompleteReason, or None when the body is whole
    RESPONSE = 4  # ResponseHead
    CHUNK = 5  # bytes of the response body, as one hook call delivered them
    END = 6  # End
    ANNOTATE = 7  # a JSON object as bytes
    DOCUMENT = 8  # a record as a JSON object, from elsewhere; the subject is None
    MESSAGE = 9  # WebsocketMessage
    SYSTEM = 10  # SystemTold; the subject is None


class RequestHead(NamedTuple):
    """A request as it begins. ``body`` is the whole body where it is already in memory, else None.

    ``decoded``: the body passes the hook content-decoded, whatever its headers say. ``websocket``: it asks for a
    websocket, and what follows its response are messages.
    """

    method: str
    url: str
    headers: Headers
    http_version: str | None = None
    client_host: str | None = None
    body: bytes | None = None
    redirect_of: str | None = None
    decoded: bool = False
    websocket: bool = False


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


class ErrorInfo(NamedTuple):
    """What went wrong: the exception's type name and text (not yet redacted)."""

    type: str
    message: str


CAPTURE_FAILURE = ErrorInfo("CaptureFailure", "the capture of this exchange failed and was turned off")
"""What is said of an exchange in whose capture something of ours went wrong."""


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


class SystemTold(NamedTuple):
    """What the capture tells of itself: a ``system_*`` direction and a payload for JSON."""

    direction: str
    payload: dict[str, object]


class End(NamedTuple):
    """How an exchange ended.

    ``lost_chunks`` counts chunks of the response, or messages, that found no room in the queue.
    """

    outcome: Outcome
    error: ErrorInfo | None = None
    lost_chunks: int = 0
    close: WebsocketClose | None = None


TEXT, BINARY = 1, 2
"""The opcodes of websocket messages, RFC 6455."""

Value: TypeAlias = RequestHead | ResponseHead | WebsocketMessage | SystemTold | End | bytes | str | None
Event: TypeAlias = "tuple[EventKind, Exchange | Flow | None, int, Value]"
