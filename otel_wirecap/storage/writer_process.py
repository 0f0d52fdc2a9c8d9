"""A writer in a process of its own, as the application's process sees it.

Invariants:

- Events are sent by one thread and answers taken by another; neither makes the application wait.
- What was sent counts as waiting in this process's queue until the other one has counted it as written or told that it
  holds it, so that the two together keep to ``capture_max_queue_bytes``.
- However the other process ends, ``on_death`` is called once, unless it was told to end and did all it was to do.
"""

from __future__ import annotations

import contextlib
import itertools
import marshal
import os
import re
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from otel_wirecap import native
from otel_wirecap.environment import environment
from otel_wirecap.storage import adopted_writers, writer_process_start
from otel_wirecap.storage.channel import READ_BYTES, Frames, Sender, message_of, send_message
from otel_wirecap.storage.child_process import kill_process, start_process, wait_for_process
from otel_wirecap.storage.own_socket import OwnSocket
from otel_wirecap.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from otel_wirecap.capture.events import End, Event
    from otel_wirecap.capture.exchange import Exchange
    from otel_wirecap.capture.facts import ExchangeFacts
    from otel_wirecap.capture.record import Record
    from otel_wirecap.config import CaptureConfig
    from otel_wirecap.storage.queue import EventQueue, Refused, Request
    from otel_wirecap.storage.record_writer import Owner
    from otel_wirecap.storage.stats import CaptureStats

MAX_REAP_SECONDS = 1.0
MOST_START_SECONDS = 10.0
MOST_FORK_WAIT_SECONDS = 1.0
MOST_FRAME_EVENTS = 512
WAKE_WEIGHT, WAKE_EVENTS = 1 << 20, 2000
"""Of what waits, at which it is sent before its time."""

SEND_BUFFER = 1 << 20
"""Bytes that may be on their way, as far as the kernel allows: they are written even if the application is killed."""

MOST_SEND_SECONDS = 0.05
"""What is put waits so long at most for more to be sent with it: a part of the flush interval, which is the promise."""


_starting = native.Lock()
"""Held while a process is started: a child that is forked meanwhile would keep descriptors that nobody else closes, and
neither side would learn of the other's end."""


_INTERPRETER = re.compile(r"(python|pypy)[\d.]*[dmtuw]{0,2}(-dbg|-debug|-intel64)?(\.exe)?", re.IGNORECASE)
"""Names of interpreters, and not of programs that are called after one."""


class Death(NamedTuple):
    """A writer's process that ended before its time.

    Attributes:
        reason: what is known of it.
        had_begun: whether it had taken anything.
        events, bytes, exchanges: what was lost with it.
        records: finished ones that were in no file yet.
        open: exchanges whose spans nobody will end.
        ended: those that were over, with the moment and the manner of their end.
    """

    reason: str
    had_begun: bool
    events: int = 0
    bytes: int = 0
    exchanges: int = 0
    records: int = 0
    open: tuple[Exchange, ...] = ()
    ended: tuple[tuple[Exchange, int, End], ...] = ()


class WriterProcess:
    """Starts a writer's process, sends it what is put into the queue, and takes what it tells.

    Args:
        config: the settings in force.
        path: the capture file's absolute path.
        queue: where the events are taken from.
        owner: is told what comes of it.
        interpreter: the program that it is to run in; see ``interpreter``.
        process: the random id of this process's part of the capture.
        on_death: is called, in a thread of ours, when the process ends before its time.
    """

    def __init__(
        self,
        config: CaptureConfig,
        path: str,
        queue: EventQueue,
        owner: Owner,
        *,
        interpreter: str,
        process: str,
        on_death: Callable[[Death], None],
    ) -> None:
        self._config = config
        self._path = path
        self._queue = queue
        self._owner = owner
        self._interpreter = interpreter
        self._process = process
        self._on_death = on_death
        self._starter: int | None = None  # its id, as long as it is to be waited for
        self._writer_pid: int | None = None
        self._connection: socket.socket | None = None
        self._environment: dict[str, str] = {}
        self._sender: Sender | None = None
        self._requests: dict[int, Request] = {}
        self._untold_refusals: list[Refused] = []
        self._counted_events = 0
        self._counted_weight = 0
        self._held_bytes = self._held_records = 0
        self._stats: CaptureStats | None = None
        self._is_ready = native.Event()
        self._kept: list[list[tuple[Event, int]]] = []  # sent to one that may not come up; given back then
        self._events_on_their_way = 0  # taken from the queue, and not sent as a whole yet
        self._is_dead = False
        self._close_seconds = 0.0
        self._over = native.Event()
        self._written = False
        self._is_closed = False
        self._sending: native.Thread | None = None
        self._receiving: native.Thread | None = None

    def start(self) -> None:
        """Begins to take events.

        Raises:
            RuntimeError: the limit of threads is reached.
        """
        self._queue.wake_at(min(WAKE_WEIGHT, self._config.capture_max_queue_bytes // 8), WAKE_EVENTS)
        self._sending = native.start_thread("otel-wirecap-sender", self._run)

    def is_alive(self) -> bool:
        """Whether it takes events, or writes those it took."""
        return self._sending is not None and not self._over.is_set

    def is_current_thread(self) -> bool:
        """Whether this is a thread that would be waited for."""
        current = native.current_thread()
        return current is not None and current in {self._sending, self._receiving}

    def join(self, seconds: float) -> bool:
        """Waits for the end, after the queue's; whether everything is in the files."""
        if self._sending is None:
            return True
        self._close_seconds = seconds
        self._queue.wake()
        if not self._over.wait(seconds):
            left, pid = len(self._queue) + self._events_on_their_way, self._writer_pid
            if left:
                reason = "the writer still waits for the file"
                self._owner.log("%s: %d records or events are lost at the end: %s", self._path, left, reason)
            elif pid is not None:
                self._owner.log("%s: process %d still writes what it was sent", self._path, pid)
            else:
                self._owner.log("%s: the writer's process is not there yet, and may be so no more", self._path)
            return False
        return self._written

    def stats(self) -> CaptureStats | None:
        """The counters as they were told last."""
        return self._stats

    @property
    def unwritten_events(self) -> int:
        """Events that were sent, and of which nothing was heard yet."""
        return 0 if self._sender is None else self._sender.events - self._counted_events

    @property
    def untold_refusals(self) -> int:
        """Events that found no room, which was sent, and that do not stand in its counters yet."""
        return sum([refused.events for refused in self._untold_refusals])

    def forget(self) -> None:
        """In a forked child: leaves the process to the parent."""
        if self._connection is not None:
            self._connection.close()
        self._starter = None  # it is no child of this process, who is not to ask for it

    # -- the thread that sends -----------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            connection = self._spawn()
            self._receiving = native.start_thread("otel-wirecap-receiver", self._receive, connection)
            adopted_writers.watch_where_adopted()
        except Exception as error:  # noqa: BLE001  # no process, no thread, no interpreter: it goes on here
            self._stop_starter()
            if self._connection is not None:
                self._connection.close()
            self._die(Death(_described(error), had_begun=False))
            return
        try:
            self._send_until_closed(connection)
        except OSError:  # it is dead; who receives will notice
            pass
        except Exception as error:  # noqa: BLE001  # no memory, say: it goes on here
            self._owner.log("%s: nothing can be sent to the writer's process: %s", self._path, type(error).__name__)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # who receives takes it for dead

    def _send_until_closed(self, connection: socket.socket) -> None:
        sender = self._sender = Sender(connection)
        seconds = min(MOST_SEND_SECONDS, self._config.capture_flush_interval / 4)
        next_tick = 0.0
        while not self._is_dead:
            self._queue.wait_for_first()
            if not (self._queue.closed or self._queue.requests):
                self._queue.wait(seconds)
            closed = self._queue.closed
            now = time.monotonic()
            if closed or now >= next_tick:
                next_tick = now + self._config.capture_flush_interval
                self._send_environment(connection)
            self._send_what_waits(connection, sender)
            if closed:
                send_message(connection, ("close", self._close_seconds))
                return

    def _send_what_waits(self, connection: socket.socket, sender: Sender) -> None:
        requests = [self._queue.requests.popleft() for _ in range(len(self._queue.requests))]
        for request in requests:
            self._requests[id(request)] = request
        while not self._is_dead and (taken := self._queue.take(MOST_FRAME_EVENTS)):
            if not self._is_ready.is_set:
                self._kept.append(taken)
            elif self._kept:
                self._kept.clear()
            self._events_on_their_way = len(taken)
            sender.send(taken)
            self._events_on_their_way = 0
        refused = self._queue.take_refused()
        if refused is not None:
            self._untold_refusals.append(refused)
            send_message(connection, ("refused", refused))
        for request in requests:
            send_message(connection, ("request", id(request), request.stop))

    def _send_environment(self, connection: socket.socket) -> None:
        """The environment as it is now, so that secrets that come into it are known over there."""
        current = _copied(environment())
        if current != self._environment:
            self._environment = current
            send_message(connection, ("environment", current))

    def _spawn(self) -> socket.socket:
        with _starting:
            ours, theirs = map(OwnSocket, native.socketpair())
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            self._connection = ours
            self._environment = _copied(environment())
            # Whatever the locale in the environment says by now: names of files are to mean the same on both sides.
            utf8 = f"utf8={int(sys.getfilesystemencoding() == 'utf-8')}"
            options = ["-I", "-S", "-X", utf8, *(["-B"] if sys.dont_write_bytecode else [])]
            with theirs:
                # Our own module, with the interpreter that runs this one; the process's id is for lists of processes.
                command = [self._interpreter, *options, writer_process_start.__file__, str(os.getpid())]
                self._starter = start_process(command, stdin=theirs.fileno(), environ=self._environment)
        path = marshal.dumps((__version__, _import_path()))
        ours.sendall(len(path).to_bytes(4, "little") + path)
        send_message(ours, (self._config, self._path, self._process, os.getpid()))
        return ours

    # -- the thread that receives --------------------------------------------------------------------------------

    def _receive(self, connection: socket.socket) -> None:
        frames = Frames()
        take: dict[str, Callable[..., None]] = {
            "closed": self._closed,
            "count": self._count,
            "end": self._end,
            "finished": self._finished,
            "log": self._log,
            "log_once": self._log_once,
            "ready": self._ready,
            "record": self._record,
            "refused": self._told_refused,
            "stats": self._take_stats,
            "system_record": self._owner.system_record,
            "wrote": self._wrote,
        }
        failure = self._failure_of_the_start()
        with contextlib.suppress(Exception):  # it is dead, or there is no memory for what it tells
            while not failure and (data := connection.recv(READ_BYTES)):
                for frame in frames.feed(data):
                    for kind, *values in message_of(frame):
                        with contextlib.suppress(Exception):  # a user's span processor, or meter
                            take[kind](*values)
        self._is_dead = True
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)  # whoever still sends stops
        was_ready = self._is_ready.is_set
        self._queue.wake()
        if self._sending is not None:
            self._sending.join()
        connection.close()
        if self._writer_pid is not None:
            wait_for_process(self._writer_pid, MAX_REAP_SECONDS)  # where the system has made it our child
        if self._is_closed:
            self._over.set()
        else:
            self._die(self._death(failure or "it ended", had_begun=was_ready))

    def _ready(self, pid: int) -> None:
        self._writer_pid = pid
        self._is_ready.set()
        adopted_writers.watch_where_adopted(pid)

    def _count(self, events: int, weight: int, held_bytes: int, held_records: int) -> None:
        self._held_bytes, self._held_records = held_bytes, held_records
        self._counted_events += events
        self._counted_weight += weight
        self._queue.count(events, weight, held_bytes)

    def _end(self, exchange_id: str, moment_ns: int, facts: ExchangeFacts) -> None:
        if self._sender is not None:
            on_end = self._sender.take_end(exchange_id).on_end
            if on_end is not None:
                on_end(moment_ns, facts)

    def _record(self, exchange_id: str, record: Record) -> None:
        if self._sender is not None:
            on_record = self._sender.exchanges[exchange_id].on_record
            if on_record is not None:
                on_record(record)

    def _wrote(self, times: list[float]) -> None:
        for seconds in times:
            self._owner.wrote(seconds)

    def _log(self, message: str, arguments: tuple[object, ...]) -> None:
        self._owner.log(message, *arguments)

    def _log_once(self, message: str, arguments: tuple[Hashable, ...]) -> None:
        self._owner.log_once(message, *arguments)

    def _finished(self, number: int, written: bool) -> None:  # noqa: FBT001  # a message's last part
        self._requests.pop(number).finish(written=written)

    def _told_refused(self, events: int) -> None:
        while events > 0 and self._untold_refusals:  # it tells several as one
            events -= self._untold_refusals.pop(0).events

    def _take_stats(self, stats: CaptureStats) -> None:
        self._stats = stats

    def _closed(self, written: bool) -> None:  # noqa: FBT001  # as above
        self._written, self._is_closed = written, True

    def _death(self, reason: str, *, had_begun: bool) -> Death:
        sender = self._sender
        if sender is None or not had_begun:
            return Death(reason, had_begun)
        ended = [(sender.exchanges.pop(exchange_id), *end) for exchange_id, end in sender.ends.items()]
        return Death(
            reason,
            had_begun,
            events=sender.events - self._counted_events,
            bytes=sender.weight - self._counted_weight + self._held_bytes,
            exchanges=self._stats.open_exchanges if self._stats is not None else 0,
            records=self._held_records,
            open=tuple(sender.exchanges.values()),
            ended=tuple(ended),
        )

    def _die(self, death: Death) -> None:
        if death.had_begun and self._sender is not None:
            self._queue.count(death.events, self._sender.weight - self._counted_weight, 0)
        else:
            self._queue.put_back(list(itertools.chain.from_iterable(self._kept)))
        while self._untold_refusals:
            self._queue.put_back_refused(self._untold_refusals.pop())
        self._queue.requests.extend(self._requests.values())
        self._requests.clear()
        try:
            self._on_death(death)
        finally:
            self._over.set()

    def _failure_of_the_start(self) -> str:
        """Waits until what was started has become a process of nobody's; what is wrong, where that did not happen."""
        if self._starter is None:
            return "unknown"
        status = wait_for_process(self._starter, MOST_START_SECONDS)
        if status is None:
            self._stop_starter()
            return "it does not start"
        self._starter = None
        return f"it ended, exit status {status}" if status else ""

    def _stop_starter(self) -> None:
        starter, self._starter = self._starter, None
        if starter is not None:
            kill_process(starter, MOST_START_SECONDS)


def interpreter() -> str | None:
    """The interpreter that runs this process.

    Returns:
        None where it is part of a program, or unknown: to start it again would start the program again.
    """
    executable = sys.executable or ""
    is_one = not getattr(sys, "frozen", False) and _INTERPRETER.fullmatch(Path(executable).name)
    return executable if is_one else None


def _import_path() -> list[str]:
    """Where this process imports from, as far as it names folders that are there."""
    folders = []
    for folder in sys.path:
        if isinstance(folder, str):
            with contextlib.suppress(OSError):  # the working directory was removed
                folders.append(str(Path(folder).absolute()))
    return folders


def _copied(environ: Mapping[str, str]) -> dict[str, str]:
    """A copy of an environment that other threads may change meanwhile."""
    return {name: value for name in list(environ) if (value := environ.get(name)) is not None}


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


_forking = native.local()


def _before_fork() -> None:
    _forking.holds = _starting.acquire(timeout=MOST_FORK_WAIT_SECONDS)


def _after_fork() -> None:
    if _forking.holds:
        _starting.release()


def _begin_child() -> None:
    global _starting
    _starting = native.Lock()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_begin_child)
