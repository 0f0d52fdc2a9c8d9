"""The messages between the host and its writer, and the channel that brings them: a socket, or memory.

To the writer go ``Message``s, in this order at any time: what was lost, what was put, who waits for it, the end. Back
come the calls of ``Answers``. What is written does not know whether they come from the same process.

Over a socket they go in frames. Events go as ``marshal`` writes them, in C, which keeps what two of them share shared;
large bodies stand behind the frame as they are. Both ends are the same interpreter on the same machine, and the socket
has no name that anybody else could open. Everything else goes in frames of ``pickle``.

Invariant: messages come in the order in which they went, equal to what they were.
"""

from __future__ import annotations

import marshal
import pickle
import struct
from collections.abc import Hashable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from otel_wirecap.capture.events import Event, EventKind
from otel_wirecap.storage.ledger import Held, Loss

if TYPE_CHECKING:
    import socket

    from otel_wirecap.capture.facts import ExchangeFacts
    from otel_wirecap.capture.record import CaptureRecord
    from otel_wirecap.storage.stats import WriterStats

READ_BYTES = 1 << 18
_LARGE = 1 << 15
"""Bytes of an event from which its body follows the frame, which has its number: it is not copied first."""

_HEADER = struct.Struct("<BIII")
_EVENTS, _MESSAGE = 0, 1


class FlushRequest(NamedTuple):
    """Somebody waits for the files to hold everything that was put before.

    Attributes:
        number: of the request, for its answer.
        stop: the process may be gone after this. A writer that does not outlive it writes a ``system_stop`` now.
        sent: it is enough if everything is with a writer that outlives this process.
    """

    number: int
    stop: bool = False
    sent: bool = False


class Close(NamedTuple):
    """Nothing follows.

    Attributes:
        seconds: how long the application waits for the end.
        killed: whether the application did not say so: its process is no more, or has given this writer up.
        expected: whether nothing came after the application had said that it may be gone from then on.
        loss: what is lost by that, unless it was expected and no exchange is open.
    """

    seconds: float
    killed: bool = False
    expected: bool = False
    loss: Loss | None = None


Message: TypeAlias = "list[Event] | Loss | FlushRequest | Close"


def ends_with_note(events: list[Event]) -> bool:
    """Whether the last event that counts says that the process may be gone after it (``EventKind.SYSTEM``)."""
    last = next((event for event in reversed(events) if event[4]), None)
    return last is not None and last[0] == EventKind.SYSTEM and last[3] is None


class Channel(Protocol):
    """The writer's end."""

    def receive(self, seconds: float) -> Iterable[Message]:
        """What has come; where nothing has, what comes within so many seconds."""

    def rest(self) -> None:
        """Is called after each piece of work, unless there is a hurry."""


class Observer(Protocol):
    """Who is told what comes of the exchanges."""

    def ended(self, exchange_id: str, now_ns: int, facts: ExchangeFacts) -> None:
        """An exchange that wants to be answered is over, and recorded as far as it could be; ``now_ns`` as in END."""

    def record(self, exchange_id: str, record: CaptureRecord) -> None:
        """A record of an exchange whose records are wanted has its number."""


class Owner(Protocol):
    """Who is told of the capture itself; none of it raises."""

    def system_record(self, record: CaptureRecord) -> None:
        """A ``system_*`` record has its number."""

    def wrote(self, seconds: float) -> None:
        """An attempt to write took so long."""

    def log(self, message: str, *arguments: object) -> bool:
        """A warning for the application's log; returns whether that took it, as far as is known."""

    def log_once(self, message: str, *arguments: Hashable) -> None:
        """A warning that is to be in the application's log once."""


class Answers(Observer, Owner, Protocol):
    """What a writer tells the host. None of it raises."""

    def ready(self, pid: int) -> None:
        """The writer's process is there."""

    def settled(self, events: int, weight: int, held: Held) -> None:
        """So many more events are taken up; ``held`` is what is held of all that were."""

    def told(self, losses: int) -> None:
        """The gaps of so many losses that came are in the files."""

    def lost(self, loss: Loss) -> None:
        """The writer has lost something, and has written a gap for it."""

    def stats(self, stats: WriterStats) -> None:
        """The counters as they are now."""

    def flushed(self, number: int, written: bool, /) -> None:  # noqa: FBT001  # a message's last part
        """What was put before a ``FlushRequest`` is worked off; whether it is in the files."""

    def closed(self, written: bool, /) -> None:  # noqa: FBT001  # as above
        """The writer ends; whether everything is in the files."""


class PackedMessage(NamedTuple):
    """What was received, still packed.

    Attributes:
        is_events: whether it is events, or another message.
        data: the events, or the message.
        bodies: large bodies of the events, one after the other.
        events: how many events there are that count.
    """

    is_events: bool
    data: bytes
    bodies: bytes
    events: int

    def message(self) -> Any:
        """What it holds."""
        if not self.is_events:
            return pickle.loads(self.data)  # noqa: S301  # from the process that we started, or that started us
        events, sizes = marshal.loads(self.data)  # noqa: S302  # as above
        if not sizes:
            return events
        bodies, at = [], 0
        for size in sizes:
            bodies.append(self.bodies[at : at + size])
            at += size
        return [_whole(event, bodies) for event in events]


class MessageReader:
    """Takes what was received apart."""

    def __init__(self) -> None:
        self._received = bytearray()

    @property
    def torn_events(self) -> int:
        """Events of the frame of which only the beginning has come."""
        return _HEADER.unpack_from(self._received)[3] if len(self._received) >= _HEADER.size else 0

    def feed(self, data: bytes) -> Iterator[PackedMessage]:
        """Takes the next bytes; gives the frames that are complete with them."""
        received = self._received
        received += data
        while len(received) >= _HEADER.size:
            kind, size, bodies_size, count = _HEADER.unpack_from(received)
            end = _HEADER.size + size
            if len(received) < end + bodies_size:
                return
            frame = PackedMessage(
                kind == _EVENTS, bytes(received[_HEADER.size : end]), bytes(received[end : end + bodies_size]), count
            )
            del received[: end + bodies_size]
            yield frame


def send(to: socket.socket, message: object) -> None:
    """Sends what is no events.

    Raises:
        OSError: the other side is gone.
    """
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    to.sendall(_HEADER.pack(_MESSAGE, len(data), 0, 0) + data)


def send_events(to: socket.socket, events: list[Event]) -> None:
    """Sends events.

    Raises:
        OSError: the other side is gone.
    """
    weights = [event[4] for event in events]
    bodies: list[bytes] = []
    if max(weights, default=0) >= _LARGE:
        events = [_without_body(event, bodies) if event[4] >= _LARGE else event for event in events]
    data = marshal.dumps((events, tuple(map(len, bodies))))
    header = _HEADER.pack(_EVENTS, len(data), sum(map(len, bodies)), len(weights) - weights.count(0))
    to.sendall(header + data)
    for body in bodies:
        to.sendall(body)


def _without_body(event: Event, bodies: list[bytes]) -> Event:
    """The event with its body's number in the place of the body, which goes behind the frame."""
    kind, subject_id, now_ns, value, weight = event
    if kind == EventKind.CHUNK or kind == EventKind.REQUEST_CHUNK:
        return kind, subject_id, now_ns, _put_behind(value, bodies), weight
    if kind == EventKind.BEGIN and isinstance(value, tuple) and value[-1]:
        return kind, subject_id, now_ns, (*value[:-1], _put_behind(value[-1], bodies)), weight
    return event


def _put_behind(body: Any, bodies: list[bytes]) -> Any:
    """The body's number among those that follow the frame; one that a proxy hands on as it is follows it once."""
    if not bodies or bodies[-1] is not body:
        bodies.append(body)
    return len(bodies) - 1


def _whole(event: Event, bodies: list[bytes]) -> Event:
    kind, subject_id, now_ns, value, weight = event
    if isinstance(value, int):
        return kind, subject_id, now_ns, bodies[value], weight
    if kind == EventKind.BEGIN and isinstance(value, tuple) and type(value[-1]) is int:
        return kind, subject_id, now_ns, (*value[:-1], bodies[value[-1]]), weight
    return event
