"""The writer proper: takes events from whoever has them, has them recorded, and brings the records to their files.

It runs in a thread of the application's process or in a process of its own, and knows of neither.

Invariants:

- Only who calls ``run`` touches the recorder, the pending lines and the file.
- A record gets its number when it is finished, and records reach the files in this order, so that a process's
  numbers have no holes. What was lost takes a number too, as a ``system_gap``.
- As long as no file takes a batch that waits, no more events are taken, so that memory stays within
  ``capture_max_queue_bytes`` and what finds no room is counted where it was put. While one of two files can be
  written, it is; the other one's records wait up to half of that, and what it then misses is told in both.
"""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, cast

from otel_wirecap import native
from otel_wirecap.capture.events import EventKind, SystemTold
from otel_wirecap.errors import place_of
from otel_wirecap.storage.output import make_outputs
from otel_wirecap.storage.recording import ProcessRecording
from otel_wirecap.storage.stats import CaptureStats
from otel_wirecap.storage.system_records import system_record

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from otel_wirecap.capture.events import Event
    from otel_wirecap.capture.exchange import Exchange
    from otel_wirecap.capture.record import ChunkRun, Record
    from otel_wirecap.config import CaptureConfig
    from otel_wirecap.storage.queue import Refused, Request

_SYSTEM = EventKind.SYSTEM

FAILING_PAUSE_SECONDS = 0.05
_MOST_UNCOUNTED, _MOST_UNCOUNTED_BYTES = 256, 1 << 16
"""Events, and their bytes, after which is counted anew how much is held: all open exchanges are asked for that."""

_EVENTS_A_LOOK = 8
"""Events after which is looked whether there is a batch to write and a pause to make."""


class EventSource(Protocol):
    """Where events come from; see ``queue.EventQueue``.

    Attributes:
        closed: whether nothing follows what is there.
        killed: whether that is so because the process whose events they are is no more.
        requests: of those who wait for what they have put.
    """

    closed: bool
    killed: bool

    @property
    def requests(self) -> collections.deque[Request]:
        """See above."""

    @property
    def refused_events(self) -> int:
        """Events that found no room since ``take_refused``."""

    def take_refused(self) -> Refused | None:
        """What found no room since the last call."""

    def get(self) -> tuple[Event, int] | None:
        """The oldest event and what it weighs; None when there is none. It counts as waiting until it is counted."""

    def count(self, events: int, weight: int, held_bytes: int) -> None:
        """Counts events that were taken no longer as waiting, but the bytes that are still held of all that was."""

    def wait(self, seconds: float) -> None:
        """Waits until there is something to do, for so many seconds at most."""

    def __len__(self) -> int:
        """Events that wait."""


class Owner(Protocol):
    """Who runs a writer, and is told what comes of it."""

    def log(self, message: str, *arguments: object) -> bool:
        """Takes a warning for the application's log; whether that took it, as far as is known. Never raises."""

    def log_once(self, message: str, *arguments: Hashable) -> None:
        """Takes a warning that is to be in the application's log once; never raises."""

    def system_record(self, record: Record) -> None:
        """Takes a ``system_*`` record that has its number; never raises."""

    def wrote(self, seconds: float) -> None:
        """Takes how long an attempt to write took."""


class RecordWriter:
    """Writes the events of one process into a capture.

    Args:
        config: the settings in force.
        path: the capture file's absolute path.
        source: where the events come from.
        owner: is told what comes of it.
        rest: is called after each piece of work, unless there is a hurry.
        process: the random id of the process's part of the capture.
        pid: the process whose events they are.
        disowned: exchanges that began with a writer that is no more, and whose spans are still to be ended.
        told_first: what is to be recorded after the beginning.
    """

    def __init__(
        self,
        config: CaptureConfig,
        path: str,
        source: EventSource,
        owner: Owner,
        *,
        rest: Callable[[], None],
        process: str,
        pid: int,
        disowned: Iterable[Exchange] = (),
        told_first: Sequence[SystemTold] = (),
    ) -> None:
        self._config = config
        self._path = path
        self._source = source
        self._owner = owner
        self._rest_a_while = rest
        self._process = process
        # The process stands last: the format cbor ends its records with it.
        self._identity = {"pid": pid, "process": process}
        self.outputs = make_outputs(config, path, log=owner.log, on_gap=self._record_gap)
        for output in self.outputs:
            output.begin(self._identity)
            output.on_write = owner.wrote
        self._recording = ProcessRecording(
            config,
            path,
            write=self._take_record,
            write_run=self._take_run,
            on_failure=self._recording_failed,
            pause=self._rest,
        )
        self._recording.recorder.disown(disowned)
        self._told_first = told_first
        self._hurry = False
        self._uncounted_events = 0
        self._uncounted_weight = 0
        self._sequence = 0
        self._sequence_at_stop = 0
        self._lost_events: collections.Counter[str] = collections.Counter()
        self._refusing = False
        self._refused_since_told = 0
        self._refusals_over = 0.0
        self._next_tick = 0.0

    def stats(self) -> CaptureStats:
        """The counters as they are now, those of the source apart; from any thread."""
        main, *beside = (output.stats() for output in self.outputs)
        return CaptureStats(
            **dataclasses.asdict(main),
            cbor=beside[0] if beside else None,
            process=self._process,
            lost_events=dict(self._lost_events),
            waiting_events=0,
            waiting_bytes=0,
            open_exchanges=self._recording.recorder.open_exchanges,
        )

    def run(self) -> None:
        """Writes until the source is closed, and then what is left."""
        try:
            self._take_system_record(system_record("system_start", self._recording.system_start(self._process)))
            for told in self._told_first:
                self._record_told(told, time.monotonic_ns())
        except Exception as error:  # noqa: BLE001  # records are worth more than the one that announces them
            self._recording_failed(None, error)
        self._sequence_at_stop = -1
        while not self._source.closed:
            self._round()
            if self._source.closed:
                break
            if not self._failing():
                self._source.wait(self._recording.hold_ns / 1e9)
            else:
                # No waiting for events: there are some over and over while they cannot be worked off.
                native.sleep(min(self._config.capture_flush_interval, FAILING_PAUSE_SECONDS))
        self._round(last=True)
        self.tell_left("")
        for output in self.outputs:
            output.close()

    def finish(self, seconds: float) -> bool:
        """After the end: waits for rotated files to be finished; whether everything is in the files."""
        for output in self.outputs:
            output.finish(seconds)
        return not any(self.outputs)

    def forget(self) -> None:
        """In a forked child: what is open is the parent's."""
        for output in self.outputs:
            output.forget()

    def tell_left(self, reason: str) -> None:
        """Tells the log how much is lost by ending now, if anything is."""
        for output in self.outputs:
            left = len(output) + len(self._source)
            if left:
                reason = output.failing or reason
                self._owner.log("%s: %d records or events are lost at the end: %s", output.path, left, reason)

    def _round(self, *, last: bool = False) -> None:
        """Works off the queue: as much as the file takes."""
        waiting = self._source.requests
        requests = [waiting.popleft() for _ in range(len(waiting))]
        try:
            self._tick()
            self._work_off(hurry=last or bool(requests))
            self._recording.recorder.tick(time.monotonic_ns(), everything=bool(requests))
            if last:
                self._recording.recorder.close(time.monotonic_ns())
            self._tell_refused(last=last)
            is_quiet = any(request.stop for request in requests) and not self._recording.recorder.open_exchanges
            if (last and not self._source.killed) or is_quiet:
                self._record_stop()
            for output in (*self.outputs, *self.outputs[:-1]):  # a gap that the last one tells goes into all
                output.write(force=last or bool(requests))
            for output in self.outputs:
                output.tend(last=last)
        except Exception as error:  # noqa: BLE001  # the writer goes on, whatever happened
            self._recording_failed(None, error)
        self._count_held_bytes()
        for request in requests:
            request.finish(written=not any(output.failing for output in self.outputs))

    def _failing(self) -> bool:
        """Whether no file can be written."""
        return all(output.failing for output in self.outputs)

    def _count_held_bytes(self) -> None:
        held = sum(output.waiting_bytes for output in self.outputs) + self._recording.recorder.held_bytes
        self._source.count(self._uncounted_events, self._uncounted_weight, held)
        self._uncounted_events = self._uncounted_weight = 0

    def _tick(self) -> None:
        now = time.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + self._config.capture_flush_interval
            self._recording.refresh_secrets()

    def _work_off(self, *, hurry: bool) -> None:
        self._hurry = hurry
        feed, get = self._recording.recorder.feed, self._source.get
        # What waits as records takes more room than what waited as events.
        batch = min(self._config.capture_buffer_size, self._config.capture_max_queue_bytes // 4)
        while True:
            blocked = 0
            for output in self.outputs:
                if output.waiting_bytes >= batch:
                    blocked += not output.write(force=hurry)
            if blocked == len(self.outputs):
                return
            for _ in range(_EVENTS_A_LOOK):
                got = get()
                if got is None:
                    return
                event, weight = got
                self._uncounted_events += 1
                self._uncounted_weight += weight
                try:
                    if event[0] is _SYSTEM:
                        self._record_told(cast("SystemTold", event[3]), event[2])
                    else:
                        feed(event)
                except Exception as error:  # noqa: BLE001  # one event's trouble is its own
                    self._recording_failed(None, error)
                if self._uncounted_weight >= _MOST_UNCOUNTED_BYTES or self._uncounted_events >= _MOST_UNCOUNTED:
                    self._count_held_bytes()
                    break
            self._rest()

    def _rest(self) -> None:
        if not self._hurry:
            self._rest_a_while()

    def _take_record(self, record: Record) -> None:
        self._sequence += 1
        record.metadata["seq"] = self._sequence
        record.metadata |= self._identity
        failures = [output.take(record) for output in self.outputs]
        if any(failures):
            self._lost_events["unserialisable"] += 1

    def _take_run(self, run: ChunkRun) -> None:
        first, self._sequence = self._sequence + 1, self._sequence + len(run)
        run.common.metadata["seq"] = first
        run.common.metadata |= self._identity
        lost = max([output.take_run(run, first) for output in self.outputs])
        if lost:
            self._lost_events["unserialisable"] += lost

    def _take_system_record(self, record: Record) -> None:
        self._take_record(record)
        self._owner.system_record(record)

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
            "bytes": self.outputs[0].bytes + self.outputs[0].waiting_bytes,
            "lost_events": self._lost_events.total(),
        }
        self._take_system_record(system_record("system_stop", totals))
        self._sequence_at_stop = self._sequence

    def _tell_refused(self, *, last: bool) -> None:
        """What found no room: in the log when it begins and ends, in the capture as soon as that can be written."""
        now = time.monotonic()
        if self._source.refused_events and not self._refusing:
            self._refusing = True
            self._owner.log(
                "%s: events are left out: capture_max_queue_bytes (%d) is reached",
                self._path,
                self._config.capture_max_queue_bytes,
            )
        elif self._refusing and not self._source.refused_events and now >= self._refusals_over:
            self._refusing = False
            self._owner.log("%s: %d events were left out", self._path, self._refused_since_told)
            self._refused_since_told = 0
        if self._failing() and not last:
            return
        refused = self._source.take_refused()
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
        self._owner.log_once("an exchange could not be recorded: %s in %s", type(error).__name__, place_of(error))
