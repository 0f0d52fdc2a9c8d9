"""What passes between the application's process and its writer's: frames over a socket.

Events go as tuples of plain values in frames of ``marshal``, which makes them in C and keeps what two of them share
shared; large bodies stand behind them as they are. Both ends are the same interpreter on the same machine, and the
socket has no name that anybody else could open. Everything else goes in frames of ``pickle``.

Invariants:

- Frames are taken apart in the order in which they were made.
- What is unpacked is equal to what was packed, in values of the very types that ``capture.events`` declares.
"""

from __future__ import annotations

import marshal
import pickle
import struct
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from otel_wirecap.capture.events import (
    End,
    ErrorInfo,
    Event,
    EventKind,
    RequestHead,
    ResponseHead,
    SystemTold,
    WebsocketClose,
    WebsocketMessage,
)
from otel_wirecap.capture.exchange import Exchange, Flow

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Sequence

    from otel_wirecap.capture.facts import ExchangeFacts
    from otel_wirecap.capture.record import Record

READ_BYTES = 1 << 18
_LARGE = 1 << 15
"""Bytes of a body from which it follows the frame, which has its number among those that do: it is not copied first."""

_HEADER = struct.Struct("<BIII")
_EVENTS, _MESSAGE = 0, 1
_BEGIN, _END = EventKind.BEGIN, EventKind.END
_CHUNK, _REQUEST_CHUNK = EventKind.CHUNK, EventKind.REQUEST_CHUNK
_KINDS = tuple(EventKind)


class Frame(NamedTuple):
    """What was received: events, still packed, or a message.

    Attributes:
        is_events: which of the two.
        data: the events' tuples, or the pickled message.
        bodies: large bodies of the events, one after the other.
        events: how many there are.
    """

    is_events: bool
    data: bytes
    bodies: bytes
    events: int


class Frames:
    """Takes what was received apart."""

    def __init__(self) -> None:
        self._received = bytearray()

    @property
    def torn_events(self) -> int:
        """Events of the frame of which only the beginning has come."""
        return _HEADER.unpack_from(self._received)[3] if len(self._received) >= _HEADER.size else 0

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Takes the next bytes; gives the frames that are complete with them."""
        received = self._received
        received += data
        while len(received) >= _HEADER.size:
            kind, size, bodies_size, count = _HEADER.unpack_from(received)
            end = _HEADER.size + size
            if len(received) < end + bodies_size:
                return
            frame = Frame(
                kind == _EVENTS, bytes(received[_HEADER.size : end]), bytes(received[end : end + bodies_size]), count
            )
            del received[: end + bodies_size]
            yield frame


def send_message(to: socket.socket, message: object) -> None:
    """Sends a message as a frame of its own.

    Raises:
        OSError: the other side is gone.
    """
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    to.sendall(_HEADER.pack(_MESSAGE, len(data), 0, 0) + data)


def message_of(frame: Frame) -> Any:
    """The message of a frame that is no events'."""
    return pickle.loads(frame.data)  # noqa: S301  # from the process that we started, or that started us


class _FlowReference(weakref.ref[Flow]):
    __slots__ = ("flow_id",)
    flow_id: str


class Sender:
    """Packs events and sends them.

    What the other side remembers of a flow is forgotten there when the flow is gone here.

    Attributes:
        events, weight: of all that was sent, or was to be sent when that failed.
        exchanges: those that are over there, and of which something is to be told.
        ends: of those among them whose end is over there, too: the moment and the manner of it.
    """

    def __init__(self, to: socket.socket) -> None:
        self._to = to
        self._flows: dict[str, _FlowReference] = {}
        self._gone_flows: deque[str] = deque()
        self.events = 0
        self.weight = 0
        self.exchanges: dict[str, Exchange] = {}
        self.ends: dict[str, tuple[int, End]] = {}

    def send(self, taken: Sequence[tuple[Event, int]]) -> None:
        """Sends events of the queue.

        Raises:
            OSError: the other side is gone.
        """
        bodies: list[bytes] = []
        packed: list[tuple[object, ...]] = []
        append, before = packed.append, self.weight
        self.events += len(taken)
        for (kind, subject, now_ns, value), weight in taken:
            self.weight += weight
            if kind is _CHUNK or kind is _REQUEST_CHUNK:  # nearly all of them: no call for each
                body = _put_behind(cast("bytes", value), bodies) if weight >= _LARGE else value
                append((kind.value, cast("Exchange", subject).id, now_ns, body))
            else:
                append(self._packed(kind, subject, now_ns, value, bodies))
        gone = [self._gone_flows.popleft() for _ in range(len(self._gone_flows))]
        frame = (self.weight - before, packed, gone, tuple(map(len, bodies)))
        try:
            data = marshal.dumps(frame)
        except ValueError:  # some string or bytes of a class of their own
            data = marshal.dumps(_plain(frame))
        self._to.sendall(_HEADER.pack(_EVENTS, len(data), sum(frame[3]), len(packed)) + data)
        for body in bodies:
            self._to.sendall(body)

    def take_end(self, exchange_id: str) -> Exchange:
        """The exchange of which the other side told all there is to be told."""
        self.ends.pop(exchange_id, None)
        return self.exchanges.pop(exchange_id)

    def _packed(
        self, kind: EventKind, subject: Exchange | Flow | None, now_ns: int, value: object, bodies: list[bytes]
    ) -> tuple[object, ...]:
        if kind is _BEGIN:
            return self._packed_beginning(cast("Exchange", subject), now_ns, cast("RequestHead", value), bodies)
        if subject is None:
            return kind.value, None, now_ns, (*value,) if isinstance(value, tuple) else value
        if kind is EventKind.ANNOTATE:
            self._remember(cast("Flow", subject))
        if isinstance(value, End):
            if subject.id in self.exchanges:
                self.ends[subject.id] = now_ns, value
            error, close = value.error, value.close
            value = (value.outcome, error and (*error,), value.lost_chunks, close and (*close,))
        return kind.value, subject.id, now_ns, (*value,) if isinstance(value, tuple) else value

    def _packed_beginning(
        self, exchange: Exchange, now_ns: int, head: RequestHead, bodies: list[bytes]
    ) -> tuple[object, ...]:
        body: object = head.body
        if head.body is not None and len(head.body) >= _LARGE:
            body = _put_behind(head.body, bodies)
        self._remember(exchange.flow)
        if exchange.on_end is not None or exchange.on_record is not None:
            self.exchanges[exchange.id] = exchange
        about = (
            exchange.leg, exchange.flow.id, exchange.attempt, exchange.trace_id, exchange.span_id,
            exchange.began_unix_ns, exchange.began_ns, exchange.on_end is not None, exchange.on_record is not None,
        )  # fmt: skip
        return _BEGIN.value, exchange.id, now_ns, (*head[:5], body, *head[6:]), about

    def _remember(self, flow: Flow) -> None:
        if flow.id not in self._flows:
            reference = self._flows[flow.id] = _FlowReference(flow, self._flow_is_gone)
            reference.flow_id = flow.id

    def _flow_is_gone(self, reference: weakref.ref[Flow]) -> None:
        """Called by the garbage collector, anywhere."""
        flow_id = cast("_FlowReference", reference).flow_id
        self._flows.pop(flow_id, None)
        self._gone_flows.append(flow_id)


def _put_behind(body: bytes, bodies: list[bytes]) -> int:
    """The body's number among those that follow the frame; one that a proxy hands on as it is follows it once."""
    if not bodies or bodies[-1] is not body:
        bodies.append(body)
    return len(bodies) - 1


def _plain(value: Any) -> Any:
    """The same in values of built-in classes."""
    if isinstance(value, (tuple, list)):
        return tuple(map(_plain, value))
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, int):
        return int(value) if not isinstance(value, bool) else value
    return value if value is None or type(value) is float else str(value)


class Unpacker:
    """Makes events of frames again, of exchanges of its own that stand for those of the other side.

    Args:
        on_end: is called as ``Exchange.on_end`` with the exchange's id before, ``on_record`` likewise.
    """

    def __init__(
        self, *, on_end: Callable[[str, int, ExchangeFacts], None], on_record: Callable[[str, Record], None]
    ) -> None:
        self._on_end = on_end
        self._on_record = on_record
        self._exchanges: dict[str, Exchange] = {}
        self._flows: dict[str, Flow] = {}

    def unpack(self, frame: Frame) -> tuple[list[Event], int]:
        """The events of a frame, and what they weigh. Those of exchanges that did not begin are left out."""
        weight, packed, gone, sizes = marshal.loads(frame.data)  # noqa: S302  # as above
        bodies = list(_cut(frame.bodies, sizes))
        events = [event for one in packed if (event := self._event(one, bodies)) is not None]
        for flow_id in gone:
            self._flows.pop(flow_id, None)
        return events, weight

    def _event(self, packed: tuple[Any, ...], bodies: Sequence[bytes]) -> Event | None:
        kind, subject_id, now_ns, value = packed[:4]
        if type(value) is int:
            value = bodies[value]
        kind = _KINDS[kind]
        if kind is _CHUNK or kind is _REQUEST_CHUNK:
            exchange = self._exchanges.get(subject_id)
            return None if exchange is None else (kind, exchange, now_ns, value)
        if kind is _BEGIN:
            return self._beginning(subject_id, now_ns, value, packed[4], bodies)
        subject: Exchange | Flow | None = None
        if kind is EventKind.ANNOTATE:
            subject = self._flow(subject_id)
        elif subject_id is not None:
            subject = self._exchanges.pop(subject_id, None) if kind is _END else self._exchanges.get(subject_id)
            if subject is None:
                return None
        return kind, subject, now_ns, _value(kind, value)

    def _beginning(
        self, exchange_id: str, now_ns: int, value: tuple[Any, ...], about: tuple[Any, ...], bodies: Sequence[bytes]
    ) -> Event:
        if type(value[5]) is int:
            value = (*value[:5], bodies[value[5]], *value[6:])
        leg, flow_id, attempt, trace_id, span_id, began_unix_ns, began_ns, wants_end, wants_records = about
        exchange = self._exchanges[exchange_id] = Exchange(
            exchange_id,
            leg,
            self._flow(flow_id),
            attempt=attempt,
            trace_id=trace_id,
            span_id=span_id,
            began_unix_ns=began_unix_ns,
            began_ns=began_ns,
            emit=_emit_nothing,
            on_failure=_tell_nobody,
            on_end=(lambda moment, facts: self._on_end(exchange_id, moment, facts)) if wants_end else None,
            on_record=(lambda record: self._on_record(exchange_id, record)) if wants_records else None,
        )
        return _BEGIN, exchange, now_ns, RequestHead(*value)

    def _flow(self, flow_id: str) -> Flow:
        flow = self._flows.get(flow_id)
        if flow is None:
            flow = self._flows[flow_id] = Flow(flow_id)
        return flow


def _cut(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size


def _value(kind: EventKind, value: Any) -> Any:
    if kind is _END:
        outcome, error, lost_chunks, close = value
        return End(outcome, error and ErrorInfo(*error), lost_chunks, close and WebsocketClose(*close))
    if kind is EventKind.RESPONSE:
        return ResponseHead(*value)
    if kind is EventKind.MESSAGE:
        return WebsocketMessage(*value)
    if kind is EventKind.SYSTEM:
        return SystemTold(*value)
    return value


def _emit_nothing(*_event: object) -> bool:
    return False


def _tell_nobody(_error: Exception) -> None:
    pass
