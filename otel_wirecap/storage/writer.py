"""The capture of one file in this process, as those who put events into it see it.

Invariants:

- What is put waits in this process's queue. It is taken by a ``RecordWriter``: in a process of its own, or in a thread
  of this one where the settings say so, where there can be no such process, and from the moment on at which it died.
- After a fork the child starts anew: own identity, numbers from 1, empty queue, a writer on demand. The parent's
  waiting events stay the parent's.
- No failure ever reaches the host.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import secrets
import sys
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from otel_wirecap import native
from otel_wirecap.capture.events import EventKind
from otel_wirecap.errors import CaptureFileError, place_of
from otel_wirecap.log import WarnOnce, give_refused_again, warn
from otel_wirecap.storage.host_side import HostAnswers, Pump
from otel_wirecap.storage.ledger import Ledger
from otel_wirecap.storage.output import make_outputs
from otel_wirecap.storage.queue import EventQueue
from otel_wirecap.storage.stats import WriterStats
from otel_wirecap.storage.writer_process import WriterProcess, interpreter

if TYPE_CHECKING:
    from otel_wirecap.capture.record import CaptureRecord
    from otel_wirecap.config import CaptureConfig
    from otel_wirecap.storage.channel import Observer
    from otel_wirecap.storage.ledger import Loss
    from otel_wirecap.storage.stats import CaptureStats
    from otel_wirecap.storage.writer_thread import WriterThread

    _Home: TypeAlias = WriterProcess | WriterThread
    """Where the events are written from: both have the same methods."""

_MAX_UNTOLD = 8
"""Records about the capture that are kept for who asks for them later; the beginning is among them."""


class CaptureWriter:
    """Writes payload events into the capture that ``config.capture_file`` names.

    Attributes:
        config: the settings.
        log: logs a warning, and returns whether the log took it; never raises. ``log_once``: where it is a new one.
        put: takes one event; see ``EventQueue.put``. ``flow_gone``: see there, too.
        process: the random id of this process's part of the capture; another one after a fork, and after
            its writer died.
    """

    def __init__(self, config: CaptureConfig, path: str) -> None:
        self.config = config
        self.path = path
        self._ledger = Ledger()
        self._queue = EventQueue(
            self._ledger,
            max_bytes=config.capture_max_queue_bytes,
            max_body_bytes=config.capture_max_payload_bytes,
        )
        self.put = self._queue.put
        self.flow_gone = self._queue.flow_gone
        self._observer: Observer | None = None
        self._observe_write: Callable[[float], None] | None = None
        self._observe_system_record: Callable[[CaptureRecord], None] | None = None
        self.log = warn
        self.log_once = WarnOnce()
        self._outputs = make_outputs(config, path, log=self.log, on_loss=self._ledger.add_host_loss, on_gap=_nothing)
        self._interpreter = interpreter() if config.capture_writer == "process" else None
        self._begin_process()
        _writers.add(self)

    def _begin_process(self) -> None:
        self.process = secrets.token_hex(8)
        self._earlier_processes: list[str] = []
        self._started = False
        self._noted = -1  # the number of the event that last said that the process may be gone
        self._start_lock = native.RLock()  # a finaliser may put the first event of a forked child while it is held
        self._untold: list[CaptureRecord] = []
        self._pump = Pump(self._queue, self._ledger)
        self._answers = HostAnswers(self._ledger, self._pump, self)
        self._answers.observer = self._observer
        self._home: _Home = self._in_a_thread() if self._interpreter is None else self._in_a_process(self._interpreter)

    def _in_a_process(self, interpreter: str) -> _Home:
        if native.has_gevent():
            _import_record_writer()
        return WriterProcess(
            self.config,
            self.path,
            self._queue,
            self._pump,
            self._answers,
            interpreter=interpreter,
            process=self.process,
            on_death=self._take_over,
        )

    def _in_a_thread(self) -> _Home:
        # Not imported where the records are made in another process: it is most of what there is to import.
        from otel_wirecap.storage.writer_thread import WriterThread

        return WriterThread(
            self.config,
            self.path,
            self._queue,
            self._pump,
            self._answers,
            process=self.process,
            pid=os.getpid(),
            on_death=self._end_without_writer,
        )

    # -- for those who put events into it ------------------------------------------------------------------------

    def open(self) -> None:
        """Opens the file and starts what writes it, and says where that is not what was asked for.

        Raises:
            CaptureFileError: the file cannot be opened or written, or there can be no thread.
        """
        self.start()
        self.tell_start()

    def start(self) -> None:
        """As ``open``, without a word in the log."""
        for output in self._outputs:
            output.file.check()
            output.file.close()
        try:
            self._start()
        except RuntimeError as error:  # the limit of threads is reached
            raise CaptureFileError(f"cannot write the capture file {self.path}: {error}") from error

    def tell_start(self) -> None:
        """Says in the log that a thread writes where a process should."""
        if self.config.capture_writer == "process" and self._interpreter is None:
            reason = f"{sys.executable!r} is no Python interpreter"
            self.log("%s is written by a thread: no process for it could be started (%s)", self.path, reason)

    def put_document(self, document: str) -> bool:
        """Takes a record as a JSON object, from elsewhere; False where there is no room for it."""
        return self.put(EventKind.DOCUMENT, None, time.monotonic_ns(), document, len(document))

    def flush(self, timeout: float = 5.0) -> bool:
        """Waits until all that was put is in the file.

        Returns:
            False where that took longer than ``timeout`` seconds, or the file cannot be written.
        """
        return self._request(timeout)

    def note_end(self) -> None:
        """Notes that the process may be gone after this: if nothing is put after it, and it is, it has ended well.

        It waits for nothing. Whether the process is gone, only a writer in another process sees.
        """
        if self._started and self._ledger.accepted != self._noted:
            self._noted = self._ledger.accepted + 1
            self.put(EventKind.SYSTEM, None, time.monotonic_ns(), None, 0)

    def pause(self, timeout: float = 5.0) -> bool:
        """As ``flush``, for a process that is about to end by a signal: says in the log what would be lost by that.

        What comes later is captured all the same.
        """
        self.note_end()
        is_written = self._request(timeout, stop=True)
        if not is_written:
            left = self._ledger.waiting + self._ledger.under_way + self._ledger.held.records
            reason = self.stats().failing or "the writer still waits for the file"
            self.log("%s: %d records or events are lost if the process ends now: %s", self.path, left, reason)
        return is_written

    def hand_over(self, timeout: float) -> None:
        """As ``pause``, for a process that its parent may kill: waits only until all is safe from that."""
        if self._started and self._ledger.accepted != self._noted:
            self.note_end()
            self._request(timeout, stop=True, sent=True)

    def close(self, timeout: float = 5.0) -> bool:
        """Ends the capture: open exchanges are told as abandoned, ``system_stop`` is written, the file closed.

        Returns:
            False where the file did not take everything within ``timeout`` seconds; that is told in the log.
        """
        _writers.discard(self)
        give_refused_again()
        with self._start_lock:
            self._pump.end(timeout)
        deadline = time.monotonic() + timeout
        while True:
            home = self._home
            if not home.join(max(0.0, deadline - time.monotonic())):
                message, arguments = home.what_is_left(self._ledger)
                self.log(f"%s: {message}", self.path, *arguments)
                return False
            if self._home is home:  # else another one has taken over meanwhile
                return self._answers.is_written or not self._started

    def _request(self, timeout: float, *, stop: bool = False, sent: bool = False) -> bool:
        home = self._home
        if home.is_current_thread():
            return False
        if not home.is_alive():
            if self._home is not home:  # another one has taken over just now
                return self._request(timeout, stop=stop, sent=sent)
            return not self._started
        return self._pump.flush(timeout, stop=stop, sent=sent)

    def _start(self) -> None:
        with self._start_lock:
            if self._started or self._queue.closed:
                return
            multiprocessing_util = sys.modules.get("multiprocessing.util")
            if multiprocessing_util is not None:
                # Children of multiprocessing end in os._exit: functions registered with atexit do not run there.
                multiprocessing_util.Finalize(None, _close, args=(weakref.ref(self),), exitpriority=0)
            self._home.start()
            self._started = True

    def begin_child(self) -> None:
        """In a forked child: leaves everything of the parent alone and starts anew with the first event."""
        self._home.forget()
        for output in self._outputs:
            output.forget()
        self._queue.reset(on_first_put=self._start)
        self._begin_process()

    @property
    def processes(self) -> tuple[str, ...]:
        """The ids of this process's parts of the capture: several where a writer died."""
        return (*self._earlier_processes, self.process)

    def observe_writes(self, observe: Callable[[float], None] | None) -> None:
        """Has ``observe`` told the seconds that each attempt to write takes, in a thread of the writer's."""
        self._observe_write = observe

    def observe_exchanges(self, observer: Observer) -> None:
        """Has ``observer`` told of the ends and records of exchanges that want it, in a thread of ours."""
        self._observer = self._answers.observer = observer

    def observe_system_records(self, tell: Callable[[CaptureRecord], None]) -> None:
        """Has ``tell``, which must not raise, told each ``system_*`` record, those that are there at once."""
        with self._start_lock:
            self._observe_system_record = tell
            untold, self._untold = self._untold, []
        for record in untold:
            tell(record)

    def stats(self) -> CaptureStats:
        """The counters as they are now, those of the writer as they were told last; from any thread."""
        nothing_yet = WriterStats.of([output.stats() for output in self._outputs])
        return self._ledger.stats(self.process, self._ledger.waiting, self._queue.waiting_bytes, nothing_yet)

    def lose(self, loss: Loss) -> None:
        """Something of what was to be captured is lost: the next ``system_gap`` tells it."""
        self._ledger.add_host_loss(loss)
        self._queue.wake()

    # -- what the writer tells -----------------------------------------------------------------------------------

    def system_record(self, record: CaptureRecord) -> None:
        """Tells a record about the capture to who observes them, or keeps it for them."""
        with self._start_lock:
            tell = self._observe_system_record
            if tell is None:
                self._untold = [*self._untold[:_MAX_UNTOLD], record]
        if tell is not None:
            tell(record)

    def wrote(self, seconds: float) -> None:
        """Tells the duration of a write to who observes them."""
        if self._observe_write is not None:
            self._observe_write(seconds)

    def _take_over(self, reason: str, had_begun: bool) -> None:  # noqa: FBT001  # what is known of a death
        """Goes on in a thread of this process: the one that was to write, or wrote, is not there."""
        if had_begun:
            self.log("%s: the writer's process is gone (%s); its work goes on in a thread", self.path, reason)
            self._earlier_processes.append(self.process)
            self.process = secrets.token_hex(8)
        else:
            self.log("%s is written by a thread: no process for it could be started (%s)", self.path, reason)
        self._answers.writer_gone(reason if had_begun else None)
        try:
            home = self._in_a_thread()
            home.start()
            self._home = home  # only now: who closes waits for a thread that runs
        except Exception as error:  # noqa: BLE001  # no more threads, modules that can no longer be read
            self._end_without_writer(error)

    def _end_without_writer(self, error: BaseException) -> None:
        """The capture ends: nobody is there to go on."""
        self._queue.end()
        self._answers.no_writer_left(type(error).__name__)
        # Without the error's text, which may quote what is captured.
        self.log("%s: the capture ends: %s in %s", self.path, type(error).__name__, place_of(error))


def _nothing(_loss: Loss) -> None:
    """The ledger tells what it counts."""


_writers: weakref.WeakSet[CaptureWriter] = weakref.WeakSet()


def _close(reference: weakref.ref[CaptureWriter]) -> None:
    writer = reference()
    if writer is not None:
        writer.close()


def _begin_child() -> None:
    for writer in list(_writers):
        writer.begin_child()


def _import_record_writer() -> None:
    """Imports what is needed to go on in a thread, as long as this is not such a thread.

    The import machinery takes its locks from where gevent puts its own, which fail it in a thread beside the main one.
    """
    with contextlib.suppress(Exception):
        importlib.import_module("otel_wirecap.storage.writer_thread")


def _before_fork() -> None:
    """A child that gives up its privileges may no longer be able to read what it needs to go on in a thread."""
    if _writers:
        _import_record_writer()


os.register_at_fork(before=_before_fork, after_in_child=_begin_child)
