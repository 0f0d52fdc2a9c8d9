"""The writer's process: events from the application's process in, records into the files, what comes of it back.

Invariants:

- One thread reads, records and writes. Beside it are the finisher's, and one that only sees to it that a process whose
  application is gone does not wait for a file for ever.
- Whatever has been received is taken off the socket at every turn, also while no file can be written, so that the
  sender over there waits only while a call on the file hangs; what that may hold is bounded over there.
- It outlives the application's process by what is left to do: what has arrived is written, a gap says that the
  application is gone, open exchanges are told as abandoned, and no ``system_stop`` says that all went well.
- It is no child of the application's process: servers wait for any child, or until none is left.
"""

from __future__ import annotations

import collections
import contextlib
import os
import select
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING

from otel_wirecap.capture.events import EventKind, SystemTold
from otel_wirecap.storage.channel import READ_BYTES, Frame, Frames, Unpacker, message_of, send_message
from otel_wirecap.storage.queue import Refused, Request
from otel_wirecap.storage.record_writer import RecordWriter

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from otel_wirecap.capture.events import Event
    from otel_wirecap.capture.record import Record

NICENESS = 5
MOST_ORPHAN_SECONDS = 60.0
"""How long it goes on after the application's process: a file may be locked by somebody else, a disk may hang."""

GONE_SECONDS = 1.0
"""The system closes the socket of a process that ends before it says that it has ended."""

READ_EVERY_NS = 2_000_000
SEND_EVERY_SECONDS = 0.02
STATS_EVERY_SECONDS = 0.1
_NOTHING = 0, 0, 0
"""Events, their weight, and what is held."""

IGNORED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""They are meant for the application, whose end is ours."""


class _Request(Request):
    """Somebody over there waits."""

    def __init__(self, host: Host, number: int, *, stop: bool) -> None:
        super().__init__(stop=stop)
        self._host = host
        self._number = number

    def finish(self, *, written: bool) -> None:
        """Tells them that it is done."""
        self._host.tell_stats()
        self._host.tell("finished", self._number, written)
        self._host.send()


class HostProcess:
    """Whether the application's process is there, by its id.

    Attributes:
        descriptors: what can be read from when it is gone; none where the system has no such thing.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.descriptors: list[int] = []
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                self.descriptors = [os.pidfd_open(pid)]

    def is_gone(self, seconds: float = 0.0) -> bool:
        """Whether it has ended, or does so within so many seconds."""
        if self.descriptors:
            return bool(select.select(self.descriptors, [], [], seconds)[0])
        with contextlib.suppress(PermissionError):  # it has another user now
            try:
                os.kill(self._pid, 0)
            except ProcessLookupError:
                return True
        return False


class Host:
    """The application's process, as its writer sees it: where events come from, and who is told what comes of them.

    Args:
        connection: to it.
        frames: what was received from it and not looked at yet.
        process: of it.
        max_queue_bytes: what may wait there and here together.

    Attributes:
        closed, killed: see ``EventSource``.
        close_seconds: how long it waits for the end.
    """

    def __init__(self, connection: socket.socket, frames: Frames, process: HostProcess, max_queue_bytes: int) -> None:
        self._connection = connection
        self._process = process
        self._frames = frames
        self._packed: collections.deque[Frame] = collections.deque()
        self._packed_events = 0
        self._unpacker = Unpacker(
            on_end=lambda *ended: self.tell("end", *ended), on_record=lambda *recorded: self.tell("record", *recorded)
        )
        self._events: Iterator[Event] = iter(())
        self._last: Event | None = None
        self._weight = self._left_out = 0
        self._requests: collections.deque[Request] = collections.deque()
        self._refused: Refused | None = None
        self._untold: list[tuple[object, ...]] = []
        self._next_read_ns = 0
        self._is_gone = self._is_deaf = False
        self._most_uncounted = max_queue_bytes // 8
        self._counted = _NOTHING
        self._write_seconds: list[float] = []
        self._next_send = 0.0
        self._next_stats = 0.0
        self.writer: RecordWriter | None = None
        self.close_seconds = 0.0
        self.closed = False
        self.killed = False
        self._last_words: SystemTold | None = None
        self._all_is_here = True  # nothing has come since the application got ready for its end
        self._take_frames(b"")

    # -- a source of events --------------------------------------------------------------------------------------

    @property
    def requests(self) -> collections.deque[Request]:
        """Those who wait, as far as they have arrived."""
        self._read()
        return self._requests

    @property
    def refused_events(self) -> int:
        """Events that found no room over there."""
        return self._refused.events if self._refused is not None else 0

    def take_refused(self) -> Refused | None:
        """What found no room over there since the last call."""
        refused, self._refused = self._refused, None
        if refused is not None:
            self.tell("refused", refused.events)
            self._next_stats = 0.0  # they stand in the next ones
        return refused

    def __len__(self) -> int:
        return self._packed_events

    def get(self) -> tuple[Event, int] | None:
        """The oldest event. A frame weighs nothing until its last event is taken."""
        event, self._last = self._last, next(self._events, None)
        while event is None:
            if not self._packed:
                self._read()
            if not self._packed:
                return self._last_event()
            frame = self._packed.popleft()
            self._packed_events -= frame.events
            events, weight = self._unpacker.unpack(frame)
            self._weight += weight
            self._left_out += frame.events - len(events)
            self._events = iter(events)
            event, self._last = next(self._events, None), next(self._events, None)
        weight = 0
        if self._last is None:
            weight, self._weight = self._weight, 0
        return event, weight

    def _last_event(self) -> tuple[Event, int] | None:
        told, self._last_words = self._last_words, None
        return None if told is None else ((EventKind.SYSTEM, None, time.monotonic_ns(), told), 0)

    def count(self, events: int, weight: int, held_bytes: int) -> None:
        """Has the other side count, what the unpacker left out included."""
        events, self._left_out = events + self._left_out, 0
        if self._last is None:
            weight, self._weight = weight + self._weight, 0
        before = self._counted
        self._counted = before[0] + events, before[1] + weight, held_bytes
        now = time.monotonic()
        if now >= self._next_stats:
            self._next_stats = now + STATS_EVERY_SECONDS
            self.tell_stats()
        if now >= self._next_send or self._counted[1] >= self._most_uncounted:
            self.send()

    def wait(self, seconds: float) -> None:
        """Waits for more, so long at most."""
        self.send()
        awaited: list[socket.socket | int] = [self._connection, *self._process.descriptors]
        if self._connection in select.select(awaited, [], [], seconds)[0]:
            self._read()
        elif self._process.is_gone():  # somebody else has the other end of the socket, and cannot be meant
            self._end(killed=True)

    # -- what is told --------------------------------------------------------------------------------------------

    def log(self, message: str, *arguments: object) -> bool:
        """Has the application log a warning; True: what its log does with it is not known here."""
        self.tell("log", message, arguments)
        self.send()
        return True

    def log_once(self, message: str, *arguments: Hashable) -> None:
        """Has the application log a warning where it has not logged the same."""
        self.tell("log_once", message, arguments)
        self.send()

    def system_record(self, record: Record) -> None:
        """Has the application told of a record about the capture."""
        self.tell("system_record", record)
        self.send()

    def wrote(self, seconds: float) -> None:
        """Has the application told how long a write took."""
        self._write_seconds.append(seconds)

    def rest(self) -> None:
        """Takes what has arrived meanwhile."""
        if time.monotonic_ns() >= self._next_read_ns:
            self._read()

    def tell(self, *message: object) -> None:
        """Sends something with the next count."""
        self._untold.append(message)

    def send(self) -> None:
        """Sends what is to be told; an application that is no more is told nothing."""
        self._next_send = time.monotonic() + SEND_EVERY_SECONDS
        if self._write_seconds:
            self.tell("wrote", self._write_seconds)
            self._write_seconds = []
        if self._counted is not _NOTHING:
            records = max(map(len, self.writer.outputs)) if self.writer is not None else 0
            self.tell("count", *self._counted, records)
            self._counted = _NOTHING
        untold, self._untold = self._untold, []
        if untold and not self._is_deaf:
            try:
                send_message(self._connection, untold)
            except OSError:  # what it sent before it was gone is still to be read
                self._is_deaf = True

    def tell_stats(self) -> None:
        """Tells the counters as they are now, with the next count."""
        if self.writer is not None:
            self.tell("stats", self.writer.stats())

    # -- what is received ----------------------------------------------------------------------------------------

    def _read(self) -> None:
        self._next_read_ns = time.monotonic_ns() + READ_EVERY_NS
        while not self._is_gone:
            try:
                data = self._connection.recv(READ_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._is_gone = True
                self._end(killed=True)
            self._take_frames(data)

    def _take_frames(self, data: bytes) -> None:
        for frame in self._frames.feed(data):
            if frame.is_events:
                self._all_is_here = False
                self._packed.append(frame)
                self._packed_events += frame.events
            else:
                self._take(*message_of(frame))

    def _take(self, kind: str, *values: object) -> None:
        match kind, values:
            case "request", (int(number), bool(stop)):
                self._requests.append(_Request(self, number, stop=stop))
                self._all_is_here |= stop
            case "refused", (Refused() as refused,):
                self._refused = refused if self._refused is None else self._refused.and_later(refused)
            case "environment", (dict(environ),):
                os.environ.clear()
                os.environ.update(environ)
            case "close", (float(seconds),):
                self.close_seconds = seconds
                self._end(killed=False)

    def _end(self, *, killed: bool) -> None:
        if self.closed:  # the first sign of the end says what kind it is
            return
        self.closed, self.killed = True, killed
        torn = self._frames.torn_events
        # One that lives has given us up, and tells itself what is lost by that.
        if killed and (torn or not self._all_is_here) and self._process.is_gone(GONE_SECONDS):
            gap: dict[str, object] = {"lost_events": torn, "reason": "application_gone"}
            self._last_words = SystemTold("system_gap", gap)


def end_in_time(connection: socket.socket, process: HostProcess, seconds: float) -> None:
    """Ends this process so long after the application's, whatever it does then."""
    poll = select.poll()
    poll.register(connection, 0)  # only when the other end is closed
    for descriptor in process.descriptors:
        poll.register(descriptor, select.POLLIN)
    poll.poll()
    time.sleep(seconds)
    os._exit(0)


def run(descriptor: int) -> None:
    """Writes what comes over the socket ``descriptor``, until that is closed."""
    for number in IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    connection = socket.socket(fileno=descriptor)
    data, frames = b"", Frames()
    first = None
    while first is None:
        data = connection.recv(READ_BYTES)
        if not data:
            return
        first = next(frames.feed(data), None)
    config, path, process, pid = message_of(first)
    host_process = HostProcess(pid)
    threading.Thread(target=end_in_time, args=(connection, host_process, MOST_ORPHAN_SECONDS), daemon=True).start()
    host = Host(connection, frames, host_process, config.capture_max_queue_bytes)
    try:
        writer = host.writer = RecordWriter(config, path, host, host, rest=host.rest, process=process, pid=pid)
        host.tell("ready", os.getpid())
        host.send()
        writer.run()
        written = writer.finish(host.close_seconds)
        host.tell("stats", writer.stats())
        host.tell("closed", written)
    except BaseException as error:  # noqa: BLE001  # told by what is not told: that all went well
        host.log("the writer's process ended: %s", type(error).__name__)
    host.send()
