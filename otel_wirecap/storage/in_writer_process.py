"""The writer's process: events from the application's process in, records into the files, what comes of it back.

Invariants:

- One thread reads, records and writes. Beside it are the finisher's, and one that only sees to it that a process whose
  application is gone does not wait for a file for ever.
- Whatever has been received is taken off the socket at every turn, also while no file can be written, so that the
  sender over there waits only while a call on the file hangs; what that may hold is bounded over there.
- It outlives the application's process by what is left to do: what has arrived is written. Where the application had
  said that it may be gone, put nothing after that, and no exchange is open, it ended well, and ``system_stop`` says so.
  Otherwise a gap says that it is gone, and open exchanges are told as abandoned.
- It is no child of the application's process: servers wait for any child, or until none is left.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import os
import select
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, cast

from otel_wirecap.dialect_plugins import use_plugins
from otel_wirecap.storage.channel import (
    READ_BYTES,
    Close,
    FlushRequest,
    MessageReader,
    PackedMessage,
    ends_with_note,
    send,
)
from otel_wirecap.storage.ledger import Held, Loss, merged
from otel_wirecap.storage.record_writer import RecordWriter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_wirecap.storage.channel import Message

NICENESS = 5
MAX_ORPHAN_SECONDS = 60.0
"""How long it goes on after the application's process: a file may be locked by somebody else, a disk may hang."""

GONE_SECONDS = 1.0
"""The system closes the socket of a process that ends before it says that it has ended."""

UNSENT = "the process ended without a word; what it had not sent yet, of its last 50 ms, is not known"

READ_EVERY_NS = 2_000_000
SEND_EVERY_SECONDS = 0.02

IGNORED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""They are meant for the application, whose end is ours."""


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


class SocketAnswers:
    """Answers that go over a socket, several in one frame. Implements ``channel.Answers``.

    Args:
        connection: to the application's process.
        max_queue_bytes: what may wait there and here together.
    """

    def __init__(self, connection: socket.socket, max_queue_bytes: int) -> None:
        self._connection = connection
        self._host_stopped_reading = False
        self._unsent: list[tuple[object, ...]] = []
        self._settled: tuple[int, int, Held] | None = None
        self._lost: list[Loss] = []
        self._max_settled_bytes = max_queue_bytes // 8
        self._next_send = 0.0
        self.told = functools.partial(self._answer, "told")
        self.stats = functools.partial(self._answer, "stats")
        self.ended = functools.partial(self._answer, "ended")
        self.record = functools.partial(self._answer, "record")
        self.wrote = functools.partial(self._answer, "wrote")
        self.ready = functools.partial(self._answer_at_once, "ready")
        self.system_record = functools.partial(self._answer_at_once, "system_record")
        self.log_once = functools.partial(self._answer_at_once, "log_once")
        self.flushed = functools.partial(self._answer_at_once, "flushed")
        self.closed = functools.partial(self._answer_at_once, "closed")

    def settled(self, events: int, weight: int, held: Held) -> None:
        """See ``Answers``, as for all that follow."""
        before = self._settled or (0, 0, held)
        self._settled = before[0] + events, before[1] + weight, held
        if time.monotonic() >= self._next_send or self._settled[1] >= self._max_settled_bytes:
            self.send()

    def lost(self, loss: Loss) -> None:  # noqa: D102
        self._lost.append(loss)  # each of many records that one file misses, say

    def log(self, message: str, *arguments: object) -> bool:  # noqa: D102
        self._answer_at_once("log", message, *arguments)
        return True  # what the log does with it is not known here

    def send(self) -> None:
        """Sends what is to be answered; an application that is no more is answered nothing."""
        self._next_send = time.monotonic() + SEND_EVERY_SECONDS
        if self._lost:
            lost, self._lost = self._lost, []
            self._unsent += [("lost", loss) for loss in merged(lost)]
        if self._settled is not None:
            self._unsent.append(("settled", *self._settled))
            self._settled = None
        unsent, self._unsent = self._unsent, []
        if unsent and not self._host_stopped_reading:
            try:
                send(self._connection, unsent)
            except OSError:  # what it sent before it was gone is still to be read
                self._host_stopped_reading = True

    def _answer(self, *answer: object) -> None:
        self._unsent.append(answer)

    def _answer_at_once(self, *answer: object) -> None:
        self._unsent.append(answer)
        self.send()


class SocketChannel:
    """The writer's end where the application is another process.

    Args:
        connection: to it.
        frames: what was received from it and not looked at yet.
        process: of it.
        answers: are sent before anything is waited for.
    """

    def __init__(
        self, connection: socket.socket, frames: MessageReader, process: HostProcess, answers: SocketAnswers
    ) -> None:
        self._connection = connection
        self._frames = frames
        self._process = process
        self._answers = answers
        self._packed: collections.deque[PackedMessage] = collections.deque()
        self._next_read_ns = 0
        self._is_gone = False
        self._is_over = False
        self._is_expected = False  # the application has said that it may be gone, and put nothing after that
        self._packed += self._frames.feed(b"")

    def receive(self, seconds: float) -> Iterator[Message]:
        """See ``Channel``."""
        self._read()
        self._answers.send()
        if not self._packed and not self._is_gone:
            awaited: list[socket.socket | int] = [self._connection, *self._process.descriptors]
            if self._connection in select.select(awaited, [], [], seconds)[0]:
                self._read()
            elif self._process.is_gone():  # somebody else has the other end of the socket, and cannot be meant
                self._is_gone = True
        while self._packed and not self._is_over:
            frame = self._packed.popleft()
            message = frame.message()
            if frame.events:
                self._is_expected = ends_with_note(message)
            if isinstance(message, dict):
                os.environ.clear()
                os.environ.update(message)
                continue
            if isinstance(message, FlushRequest):  # this writer sees how the application ends
                message = message._replace(stop=False)
            self._is_over = isinstance(message, Close)  # the first sign of the end says what kind it is
            yield cast("Message", message)
        if self._is_gone and not self._is_over:
            self._is_over = True
            torn = self._frames.torn_events
            # One that lives has given us up, and tells itself what is lost by that.
            loss = Loss("application_gone", torn or None, error=UNSENT) if self._process.is_gone(GONE_SECONDS) else None
            yield Close(0.0, killed=True, expected=self._is_expected and not torn, loss=loss)

    def rest(self) -> None:
        """Takes what has arrived meanwhile, so that the application's sender need not wait."""
        if time.monotonic_ns() >= self._next_read_ns:
            self._read()

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
            self._packed += self._frames.feed(data)


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
    data, frames = b"", MessageReader()
    first = None
    while first is None:
        data = connection.recv(READ_BYTES)
        if not data:
            return
        first = next(frames.feed(data), None)
    config, path, process, pid = first.message()
    host_process = HostProcess(pid)
    threading.Thread(target=end_in_time, args=(connection, host_process, MAX_ORPHAN_SECONDS), daemon=True).start()
    answers = SocketAnswers(connection, config.capture_max_queue_bytes)
    channel = SocketChannel(connection, frames, host_process, answers)
    use_plugins(answers.log_once)
    try:
        writer = RecordWriter(config, path, channel, answers, process=process, pid=pid)
        answers.ready(os.getpid())
        writer.run()
    except BaseException as error:  # noqa: BLE001  # told by what is not told: that all went well
        answers.log("the writer's process ended: %s", type(error).__name__)
