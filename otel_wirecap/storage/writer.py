"""The writer: the thread that owns all mutable state of a capture.

Invariants:

- Only the writer's thread touches the recorder, the pending lines and the file.
- A record gets its number when it is finished, and records reach the files in this order, so that a process's
  numbers have no holes. What was lost takes a number too, as a ``system_gap``.
- As long as no file takes a batch that waits, nothing more is taken from the queue, so that memory stays within
  ``capture_max_queue_bytes`` and what finds no room is counted there. While one of two files can be written, it is;
  the other one's records wait up to half of that, and what it then misses is told in both.
- After a fork the child starts anew: own identity, numbers from 1, empty queue, thread on demand. The parent's
  waiting events stay the parent's.
- No failure ever reaches the host.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
import os
import secrets
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from otel_wirecap.capture.events import EventKind, SystemTold
from otel_wirecap.capture.naming import rotated_name
from otel_wirecap.errors import CaptureFileError, ConfigurationError
from otel_wirecap.storage.output import CaptureOutput
from otel_wirecap.storage.queue import EventQueue
from otel_wirecap.storage.recording import ProcessRecording
from otel_wirecap.storage.stats import CaptureStats
from otel_wirecap.storage.system_records import system_record

if TYPE_CHECKING:
    from otel_wirecap.capture.exchange import Exchange
    from otel_wirecap.capture.record import ChunkRun, Record
    from otel_wirecap.config import CaptureConfig

logger = logging.getLogger("otel_wirecap")

_SYSTEM = EventKind.SYSTEM

WORK_SLICE_NS = 500_000
PAUSE_SECONDS = 0.0001
# After half a millisecond of work the thread lets go of the interpreter, or an event loop's timers come late.

FAILING_PAUSE_SECONDS = 0.05
_MOST_UNCOUNTED, _MOST_UNCOUNTED_BYTES = 256, 1 << 16
"""Events, and their bytes, after which is counted anew how much is held: all open exchanges are asked for that."""

_EVENTS_A_LOOK = 8
"""Events after which is looked whether there is a batch to write and a pause to make."""

_MOST_UNTOLD = 8
"""Records about the capture that are kept for who asks for them later; the beginning is among them."""


class _Request:
    """Somebody waits for the file to hold everything that was put; ``stop``: and for a ``system_stop``."""

    def __init__(self, *, stop: bool) -> None:
        self.stop = stop
        self.written = False
        self.done = threading.Event()


class CaptureWriter:
    """Writes payload events into the capture that ``config.capture_file`` names.

    Attributes:
        put: takes one event; see ``EventQueue.put``.
        process: the random id of this process's part of the capture; another one after a fork.
    """

    def __init__(self, config: CaptureConfig, path: str) -> None:
        self._config = config
        self.path = path
        self._outputs = self._make_outputs()
        self._queue = EventQueue(
            max_bytes=config.capture_max_queue_bytes,
            wake_bytes=config.capture_buffer_size,
            wake_events=config.capture_max_entries_per_flush,
            blocks=config.capture_overflow == "block",
        )
        self.put = self._queue.put
        self._tell_system_record: Callable[[Record], None] | None = None
        self._begin_process()
        _writers.add(self)

    @property
    def config(self) -> CaptureConfig:
        """The settings."""
        return self._config

    def _begin_process(self) -> None:
        self.process = secrets.token_hex(8)
        self._pid = os.getpid()
        # The process stands last: the format cbor ends its records with it.
        self._identity = {"pid": self._pid, "process": self.process}
        for output in self._outputs:
            output.begin(self._identity)
        self._recording = ProcessRecording(
            self._config,
            self.path,
            write=self._take_record,
            write_run=self._take_run,
            on_failure=self._recording_failed,
            pause=self._pause_if_due,
        )
        self._hurry = False
        self._slice_end = 0
        self._sequence = 0
        self._sequence_at_stop = 0
        self._lost_events: collections.Counter[str] = collections.Counter()
        self._refusing = False
        self._refused_since_told = 0
        self._refusals_over = 0.0
        self._recording_failures: set[str] = set()
        self._next_tick = 0.0
        self._closing = False
        self._requests: collections.deque[_Request] = collections.deque()
        self._start_lock = threading.Lock()
        self._untold: list[Record] = []
        self._thread: threading.Thread | None = None

    def _make_outputs(self) -> list[CaptureOutput]:
        config, beside = self._config, self._config.cbor_capture_file
        share = config.capture_max_queue_bytes // 2 if beside is not None else None
        files = [(self.path, config.capture_format)]
        if beside is not None:
            main = Path(self.path)
            if main.parent == beside.absolute().parent and (
                main.name == beside.name or rotated_name(main.name, beside.name) is not None
            ):
                raise ConfigurationError(
                    f"cbor_capture_file: {str(beside)!r} is a name of capture_file's files; expected another one"
                )
            files.append((os.fspath(beside.absolute()), "cbor"))
        return [
            CaptureOutput(config, path, form, tell=self._tell, on_gap=self._record_gap, max_waiting_bytes=share)
            for path, form in files
        ]

    # -- the host's side -----------------------------------------------------------------------------------------

    def open(self) -> None:
        """Opens the file and starts the thread.

        Raises:
            CaptureFileError: the file cannot be opened or written, or there can be no thread.
        """
        for output in self._outputs:
            output.file.check()
            output.file.close()
        try:
            self._start()
        except RuntimeError as error:  # the limit of threads is reached
            raise CaptureFileError(f"cannot write the capture file {self.path}: {error}") from error

    def put_document(self, document: str) -> bool:
        """Takes a record as a JSON object, from elsewhere; False where there is no room for it."""
        return self.put(EventKind.DOCUMENT, None, time.monotonic_ns(), document, len(document))

    def flush(self, timeout: float = 5.0) -> bool:
        """Waits until all that was put is in the file.

        Returns:
            False where that took longer than ``timeout`` seconds, or the file cannot be written.
        """
        return self._request(timeout, stop=False)

    def pause(self, timeout: float = 5.0) -> bool:
        """As ``flush``, with a ``system_stop`` at the end: the process may be killed after this.

        What comes later is captured all the same, and followed by another ``system_stop`` in its time.
        """
        return self._request(timeout, stop=True)

    def close(self, timeout: float = 5.0) -> bool:
        """Ends the capture: open exchanges are told as abandoned, ``system_stop`` is written, the file closed.

        Returns:
            False where the file did not take everything within ``timeout`` seconds; that is told in the log.
        """
        self._queue.closed = True
        self._closing = True
        _writers.discard(self)
        thread = self._thread
        if thread is None:
            return True
        self._queue.wake.set()
        deadline = time.monotonic() + timeout
        if thread is not threading.current_thread():
            thread.join(timeout)
        if thread.is_alive():
            self._tell_left("the writer still waits for the file")
            return False
        for output in self._outputs:
            output.finish(max(0.0, deadline - time.monotonic()))
        return not any(self._outputs)

    def _tell_left(self, reason: str) -> None:
        for output in self._outputs:
            left = len(output) + len(self._queue)
            if left:
                reason = output.failing or reason
                self._tell("%s: %d records or events are lost at the end: %s", output.path, left, reason)

    def _request(self, timeout: float, *, stop: bool) -> bool:
        thread = self._thread
        if thread is None or thread is threading.current_thread() or not thread.is_alive():
            return thread is None
        request = _Request(stop=stop)
        self._requests.append(request)
        self._queue.wake.set()
        return request.done.wait(timeout) and request.written

    def _start(self) -> None:
        with self._start_lock:
            if self._thread is not None or self._closing:
                return
            multiprocessing_util = sys.modules.get("multiprocessing.util")
            if multiprocessing_util is not None:
                # Children of multiprocessing end in os._exit: functions registered with atexit do not run there.
                multiprocessing_util.Finalize(None, _close, args=(weakref.ref(self),), exitpriority=0)
            thread = threading.Thread(target=self._run, name="otel-wirecap-writer", daemon=True)
            thread.start()
            self._thread = thread

    def begin_child(self) -> None:
        """In a forked child: leaves everything of the parent alone and starts anew with the first event."""
        for output in self._outputs:
            output.forget()
        self._begin_process()
        self._queue.reset(on_first_put=self._start)

    def observe_writes(self, observe: Callable[[float], None] | None) -> None:
        """Has ``observe`` told the seconds that each attempt to write takes, in the writer's thread."""
        for output in self._outputs:
            output.on_write = observe

    def observe_system_records(self, tell: Callable[[Record], None]) -> None:
        """Has ``tell``, which must not raise, told each ``system_*`` record, those that are there at once."""
        with self._start_lock:
            self._tell_system_record = tell
            untold, self._untold = self._untold, []
        for record in untold:
            tell(record)

    def stats(self) -> CaptureStats:
        """The counters as they are now; from any thread."""
        lost = dict(self._lost_events)
        refused = self._queue.refused_events
        if refused:
            lost["queue_full"] = lost.get("queue_full", 0) + refused
        main, *beside = (output.stats() for output in self._outputs)
        return CaptureStats(
            **dataclasses.asdict(main),
            cbor=beside[0] if beside else None,
            process=self.process,
            lost_events=lost,
            waiting_events=len(self._queue),
            waiting_bytes=self._queue.waiting_bytes,
            open_exchanges=self._recording.recorder.open_exchanges,
        )

    # -- the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._take_system_record(system_record("system_start", self._recording.system_start(self.process)))
        except Exception as error:  # noqa: BLE001  # records are worth more than the one that announces them
            self._recording_failed(None, error)
        self._sequence_at_stop = -1
        while not self._closing:
            self._round()
            if self._closing:
                break
            if not self._failing():
                self._queue.wake.wait(self._recording.hold_ns / 1e9)
                self._queue.wake.clear()
            else:
                # Not the queue's event: it is set over and over while the queue cannot be worked off.
                time.sleep(min(self._config.capture_flush_interval, FAILING_PAUSE_SECONDS))
        self._round(last=True)
        self._tell_left("")
        for output in self._outputs:
            output.close()

    def _round(self, *, last: bool = False) -> None:
        """Works off the queue: as much as the file takes."""
        requests = [self._requests.popleft() for _ in range(len(self._requests))]
        try:
            self._tick()
            self._work_off(hurry=last or bool(requests))
            self._recording.recorder.tick(time.monotonic_ns(), everything=bool(requests))
            if last:
                self._recording.recorder.close(time.monotonic_ns())
            self._tell_refused(last=last)
            if last or (any(request.stop for request in requests) and not self._recording.recorder.open_exchanges):
                self._record_stop()
            for output in (*self._outputs, *self._outputs[:-1]):  # a gap that the last one tells goes into all
                output.write(force=last or bool(requests))
            for output in self._outputs:
                output.tend(last=last)
        except Exception as error:  # noqa: BLE001  # the thread goes on, whatever happened
            self._recording_failed(None, error)
        self._count_held_bytes()
        for request in requests:
            request.written = not any(output.failing for output in self._outputs)
            request.done.set()

    def _failing(self) -> bool:
        """Whether no file can be written."""
        return all(output.failing for output in self._outputs)

    def _count_held_bytes(self) -> None:
        waiting = sum(output.waiting_bytes for output in self._outputs)
        self._queue.count(waiting + self._recording.recorder.held_bytes)

    def _tick(self) -> None:
        now = time.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + self._config.capture_flush_interval
            self._recording.refresh_secrets()

    def _work_off(self, *, hurry: bool) -> None:
        self._hurry = hurry
        feed, get = self._recording.recorder.feed, self._queue.get
        # What waits as records takes more room than what waited as events.
        batch = min(self._config.capture_buffer_size, self._config.capture_max_queue_bytes // 4)
        self._slice_end = time.monotonic_ns() + WORK_SLICE_NS
        queue = self._queue
        while True:
            blocked = 0
            for output in self._outputs:
                if output.waiting_bytes >= batch:
                    blocked += not output.write(force=hurry)
            if blocked == len(self._outputs):
                return
            for _ in range(_EVENTS_A_LOOK):
                event = get()
                if event is None:
                    return
                try:
                    if event[0] is _SYSTEM:
                        self._record_told(cast("SystemTold", event[3]), event[2])
                    else:
                        feed(event)
                except Exception as error:  # noqa: BLE001  # one event's trouble is its own
                    self._recording_failed(None, error)
                if queue.uncounted_bytes >= _MOST_UNCOUNTED_BYTES or queue.uncounted_events >= _MOST_UNCOUNTED:
                    self._count_held_bytes()
                    break
            self._pause_if_due()

    def _pause_if_due(self) -> None:
        if not self._hurry and time.monotonic_ns() >= self._slice_end:
            time.sleep(PAUSE_SECONDS)
            self._slice_end = time.monotonic_ns() + WORK_SLICE_NS

    def _take_record(self, record: Record) -> None:
        self._sequence += 1
        record.metadata["seq"] = self._sequence
        record.metadata |= self._identity
        failures = [output.take(record) for output in self._outputs]
        if any(failures):
            self._lost_events["unserialisable"] += 1

    def _take_run(self, run: ChunkRun) -> None:
        first, self._sequence = self._sequence + 1, self._sequence + len(run)
        run.common.metadata["seq"] = first
        run.common.metadata |= self._identity
        lost = max([output.take_run(run, first) for output in self._outputs])
        if lost:
            self._lost_events["unserialisable"] += lost

    def _take_system_record(self, record: Record) -> None:
        self._take_record(record)
        with self._start_lock:
            tell = self._tell_system_record
            if tell is None:
                self._untold = [*self._untold[:_MOST_UNTOLD], record]
        if tell is not None:
            tell(record)

    def _record_gap(self, gap: Mapping[str, object]) -> None:
        self._take_system_record(system_record("system_gap", gap))

    def _record_told(self, told: SystemTold, now_ns: int) -> None:
        record = system_record(told.direction, told.payload)
        record.time_ns -= time.monotonic_ns() - now_ns  # it was told a while ago
        lost = told.payload.get("lost_events")
        if isinstance(lost, int):
            self._lost_events[str(told.payload.get("reason"))] += lost
        self._take_system_record(record)

    def _record_stop(self) -> None:
        if self._sequence == self._sequence_at_stop:
            return
        totals = {
            "records": self._sequence + 1,
            "bytes": self._outputs[0].bytes + self._outputs[0].waiting_bytes,
            "lost_events": self._lost_events.total(),
        }
        self._take_system_record(system_record("system_stop", totals))
        self._sequence_at_stop = self._sequence

    def _tell_refused(self, *, last: bool) -> None:
        """What found no room: in the log when it begins and ends, in the capture as soon as that can be written."""
        now = time.monotonic()
        if self._queue.refused_events and not self._refusing:
            self._refusing = True
            self._tell(
                "%s: events are left out: capture_max_queue_bytes (%d) is reached",
                self.path,
                self._config.capture_max_queue_bytes,
            )
        elif self._refusing and not self._queue.refused_events and now >= self._refusals_over:
            self._refusing = False
            self._tell("%s: %d events were left out", self.path, self._refused_since_told)
            self._refused_since_told = 0
        if self._failing() and not last:
            return
        refused = self._queue.take_refused()
        if refused is None:
            return
        self._lost_events["queue_full"] += refused.events
        self._refused_since_told += refused.events
        self._refusals_over = now + self._config.capture_flush_interval
        self._record_gap(
            {
                "lost_events": refused.events,
                "lost_bytes": refused.bytes,
                "lost_exchanges": refused.exchanges,
                "seconds": round((time.monotonic_ns() - refused.since_ns) / 1e9, 3),
                "reason": "queue_full",
            }
        )

    def _recording_failed(self, exchange: Exchange | None, error: Exception) -> None:
        """An error in our own code: told by a gap, and once for each kind in the log, without its text.

        The text is left out because it may quote what has not been redacted.
        """
        self._lost_events["capture_failure"] += 1
        gap: dict[str, object] = {"lost_events": 1, "reason": "capture_failure", "error": type(error).__name__}
        if exchange is not None:
            gap["exchange_id"] = exchange.id
        self._record_gap(gap)
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}" if trace is not None else "?"
        if place not in self._recording_failures:
            self._recording_failures.add(place)
            self._tell("an exchange could not be recorded: %s in %s", type(error).__name__, place)

    def _tell(self, message: str, *arguments: object) -> None:
        with contextlib.suppress(Exception):  # a log handler's trouble must not end the writer
            logger.warning("otel-wirecap: " + message, *arguments)


_writers: weakref.WeakSet[CaptureWriter] = weakref.WeakSet()


def _close(reference: weakref.ref[CaptureWriter]) -> None:
    writer = reference()
    if writer is not None:
        writer.close()


def _begin_child() -> None:
    for writer in list(_writers):
        writer.begin_child()


os.register_at_fork(after_in_child=_begin_child)
