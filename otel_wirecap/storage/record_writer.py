"""The writer proper: takes messages from a channel, has the events recorded, and brings the records to their files.

It runs in a thread of the application's process or in a process of its own, and knows of neither.

Invariants:

- Only the thread running ``run`` touches the recorder, the pending lines and the file.
- A record gets its number when it is finished, and records reach the files in this order, so that a process's
  numbers have no holes. What was lost takes a number too, as a ``system_gap``.
- As long as no file takes a batch that waits, no more events are worked off. They stay under way in the host's ledger,
  so that memory stays within ``capture_max_queue_bytes`` and what finds no room is counted where it was put. While one
  of two files can be written, it is; the other one's records wait up to half of that, and what it then misses is told
  in both.
- Every loss has a gap in the capture and is in the totals of ``system_stop``; those that the host does not know of yet
  are told to it. One of the host's is told as soon as any file has its gap.
- The host is answered what has changed, and nothing else.
"""

from __future__ import annotations

import collections
import time
from typing import TYPE_CHECKING

from otel_wirecap import native
from otel_wirecap.capture.events import EventKind
from otel_wirecap.dialect_plugins import use_plugins
from otel_wirecap.errors import place_of
from otel_wirecap.storage.channel import Close, FlushRequest
from otel_wirecap.storage.ledger import Held, Loss, LossTotals, merged
from otel_wirecap.storage.output import make_outputs
from otel_wirecap.storage.recording import ProcessRecording
from otel_wirecap.storage.stats import WriterStats
from otel_wirecap.storage.system_records import system_record

if TYPE_CHECKING:
    from otel_wirecap.capture.events import Event
    from otel_wirecap.capture.record import CaptureRecord, ChunkRun
    from otel_wirecap.config import CaptureConfig
    from otel_wirecap.storage.channel import Answers, Channel, Message
    from otel_wirecap.storage.output import CaptureOutput

_SYSTEM = EventKind.SYSTEM

FAILING_PAUSE_SECONDS = 0.05
STATS_EVERY_SECONDS = 0.1
_MAX_UNSETTLED, _MAX_UNSETTLED_BYTES = 256, 1 << 16
"""How often the held bytes are recounted, in events and their bytes; this asks every open exchange."""

_EVENTS_PER_CHECK = 8
"""Check for a full batch or a due pause every this many events."""


class RecordWriter:
    """Writes the events of one process into a capture.

    Args:
        config: the settings in force.
        path: the capture file's absolute path.
        channel: where the messages come from.
        answers: is told what comes of them.
        process: the random id of the process's part of the capture.
        pid: the process whose events they are.
    """

    def __init__(
        self, config: CaptureConfig, path: str, channel: Channel, answers: Answers, *, process: str, pid: int
    ) -> None:
        self._config = config
        self._path = path
        self._channel = channel
        self._answers = answers
        self._process = process
        # The process stands last: the format cbor ends its records with it.
        self._identity = {"pid": pid, "process": process}
        use_plugins()
        self.outputs = make_outputs(config, path, log=answers.log, on_loss=self._count, on_gap=self._record_gap)
        for output in self.outputs:
            output.begin(self._identity)
            output.on_write = answers.wrote
        self._recording = ProcessRecording(
            config,
            path,
            write=self._take_record,
            write_run=self._take_run,
            on_end=answers.ended,
            send_back=answers.record,
            on_failure=self._recording_failed,
            pause=self._rest,
        )
        self._events: collections.deque[list[Event]] = collections.deque()
        self._next = 0  # of the first batch
        self._host_losses: list[Loss] = []  # of the host's, that have no gap yet
        self._host_losses_came = 0  # before those of one kind became one
        self._gaps: collections.deque[tuple[int, list[CaptureOutput], int]] = collections.deque()
        self._requests: list[FlushRequest] = []
        self._close: Close | None = None
        self._close_by = 0.0
        self._hurry = False
        self._unsettled_events = 0
        self._unsettled_weight = 0
        self._sequence = 0
        self._sequence_at_stop = 0
        self._totals = LossTotals()
        self._at_stop: dict[str, object] = {}  # what the application wants said then
        self._is_refusing = False
        self._refused_before = 0  # the log has said so
        self._refusals_over = 0.0
        self._next_tick = 0.0
        self._next_stats = 0.0
        self._held_known = Held()  # by the host, as the next one
        self._stats_known: WriterStats | None = None

    def run(self) -> None:
        """Writes until nothing follows, and then what is left."""
        try:
            self._take_system_record(system_record("system_start", self._recording.system_start(self._process)))
        except Exception as error:  # noqa: BLE001  # records are worth more than the one that announces them
            self._recording_failed(None, error)
        self._sequence_at_stop = -1
        seconds = 0.0
        while self._close is None:
            for message in self._channel.receive(seconds):
                self._take(message)
            if self._close is not None:
                break
            self._round()
            seconds = self._recording.hold_ns / 1e9
            if self._is_failing():
                # No waiting for events: there are some over and over while they cannot be worked off.
                native.sleep(min(self._config.capture_flush_interval, FAILING_PAUSE_SECONDS))
                seconds = 0.0
        self._round(last=True)
        for output in self.outputs:
            left = len(output) + sum(map(len, self._events)) - self._next
            if left:
                told = "%s: %d records or events are lost at the end: %s"
                self._answers.log(told, output.path, left, output.failing or "")
            output.close()
        for output in self.outputs:
            output.finish(max(0.0, self._close_by - time.monotonic()))
        self._answer_stats()
        self._answers.closed(not any(self.outputs))

    def forget(self) -> None:
        """In a forked child: what is open is the parent's."""
        for output in self.outputs:
            output.forget()

    def _take(self, message: Message) -> None:
        if isinstance(message, list):
            self._events.append(message)
        elif isinstance(message, Loss):
            self._host_losses.append(message)
            self._host_losses_came += 1
        elif isinstance(message, FlushRequest):
            self._requests.append(message)
        else:
            self._close, self._close_by = message, time.monotonic() + message.seconds

    def _round(self, *, last: bool = False) -> None:
        """Works off what has come: as much as the file takes."""
        requests, self._requests = self._requests, []
        is_hurry = last or bool(requests)
        try:
            self._tick()
            self._tell_losses(last=last)
            self._work_off(hurry=is_hurry)
            self._recording.recorder.tick(time.monotonic_ns(), everything=bool(requests))
            stops = any(request.stop for request in requests) and not self._recording.recorder.open_exchanges
            if self._close is not None:
                stops = self._end_recording(self._close)
            if stops:
                self._record_stop()
            for output in (*self.outputs, *self.outputs[:-1]):  # a gap that the last one tells goes into all
                output.write(force=is_hurry)
            for output in self.outputs:
                output.tend(last=last)
        except Exception as error:  # noqa: BLE001  # the writer goes on, whatever happened
            self._recording_failed(None, error)
        self._settle()
        now = time.monotonic()
        if is_hurry or now >= self._next_stats:
            self._next_stats = now + STATS_EVERY_SECONDS
            self._answer_stats()
        for request in requests:
            self._answers.flushed(request.number, not any(output.failing for output in self.outputs))

    def _end_recording(self, close: Close) -> bool:
        """Ends what is open; returns whether the application has ended well."""
        ended_well = not close.killed or (close.expected and not self._recording.recorder.open_exchanges)
        if close.loss is not None and not ended_well:
            self._totals.add(close.loss)
            self._record_gap(close.loss)
        self._recording.recorder.close(time.monotonic_ns())
        for output in self.outputs:
            output.tell_left_out()
        return ended_well

    def _answer_stats(self) -> None:
        stats = WriterStats.of([output.stats() for output in self.outputs], self._recording.recorder.open_exchanges)
        if stats != self._stats_known:  # each answer wakes the host
            self._stats_known = stats
            self._answers.stats(stats)

    def _is_failing(self) -> bool:
        """Whether no file can be written."""
        return all(output.failing for output in self.outputs)

    def _settle(self) -> None:
        """Tells what is taken up by now, what is held of it, and what has been told."""
        recorder = self._recording.recorder
        waiting = [(output.waiting_bytes, len(output)) for output in self.outputs]
        records = max([number for _, number in waiting])
        held_bytes, held_events = recorder.held()
        left_out = tuple([output.left_out for output in self.outputs if output.left_out is not None])
        held = Held(sum([size for size, _ in waiting]) + held_bytes, held_events, records, left_out)
        if self._unsettled_events or self._unsettled_weight or held != self._held_known:
            self._held_known = held
            self._answers.settled(self._unsettled_events, self._unsettled_weight, held)
            self._unsettled_events = self._unsettled_weight = 0
        while self._gaps and any(output.last_written >= self._gaps[0][2] for output in self._gaps[0][1]):
            self._answers.told(self._gaps.popleft()[0])

    def _tick(self) -> None:
        now = time.monotonic()
        if now >= self._next_tick:
            self._next_tick = now + self._config.capture_flush_interval
            self._recording.refresh_secrets(self._answers.log_once)

    def _work_off(self, *, hurry: bool) -> None:
        self._hurry = hurry
        # What waits as records takes more room than what waited as events.
        batch = min(self._config.capture_buffer_size, self._config.capture_max_queue_bytes // 4)
        while self._events:
            blocked = 0
            for output in self.outputs:
                if output.waiting_bytes >= batch:
                    blocked += not output.write(force=hurry)
            if blocked == len(self.outputs):
                return
            events, first = self._events[0], self._next
            self._next = first + _EVENTS_PER_CHECK
            self._feed(events[first : self._next])
            if self._next >= len(events):
                self._next = 0
                self._events.popleft()
            if self._unsettled_weight >= _MAX_UNSETTLED_BYTES or self._unsettled_events >= _MAX_UNSETTLED:
                self._settle()
            self._rest()

    def _feed(self, events: list[Event]) -> None:
        feed = self._recording.recorder.feed
        for event in events:
            weight = event[4]
            if weight:
                self._unsettled_events += 1
                self._unsettled_weight += weight
            try:
                if event[0] == _SYSTEM:
                    self._record_told(event)
                else:
                    feed(event)
            except Exception as error:  # noqa: BLE001  # one event's trouble is its own
                self._recording_failed(None, error, events=1)

    def _rest(self) -> None:
        if not self._hurry:
            self._channel.rest()

    def _take_record(self, record: CaptureRecord) -> None:
        self._sequence += 1
        record.metadata["seq"] = self._sequence
        record.metadata |= self._identity
        failures = [output.take(record) for output in self.outputs]
        if any(failures):
            self._count(Loss("unserialisable", records=1))

    def _take_run(self, run: ChunkRun) -> None:
        first, self._sequence = self._sequence + 1, self._sequence + len(run)
        run.common.metadata["seq"] = first
        run.common.metadata |= self._identity
        lost = max([output.take_run(run, first) for output in self.outputs])
        if lost:
            self._count(Loss("unserialisable", records=lost))

    def _take_system_record(self, record: CaptureRecord) -> None:
        self._take_record(record)
        self._answers.system_record(record)

    def _record_told(self, event: Event) -> None:
        """What the application tells of its capture."""
        _, _, now_ns, told, _ = event
        if isinstance(told, dict):
            self._at_stop |= told
        elif isinstance(told, tuple):
            record = system_record(*told)
            record.time_ns -= time.monotonic_ns() - now_ns  # it was told a while ago
            self._take_system_record(record)

    def _record_stop(self) -> None:
        if self._sequence == self._sequence_at_stop:
            return
        totals = {
            "records": self._sequence + 1,
            "bytes": self.outputs[0].bytes + self.outputs[0].waiting_bytes,
            "lost_events": sum(self._totals.by_reason("events").values()),
        }
        for unit in ("records", "bytes", "exchanges"):
            if lost := self._totals.by_reason(unit):
                totals[f"lost_{unit}"] = sum(lost.values())
        self._take_system_record(system_record("system_stop", totals | self._at_stop))
        self._sequence_at_stop = self._sequence

    # -- what is lost --------------------------------------------------------------------------------------------

    def _count(self, loss: Loss) -> None:
        """Something is lost here: the host counts it, too."""
        self._totals.add(loss)
        self._answers.lost(loss)

    def _record_gap(self, loss: Loss) -> None:
        self._take_system_record(system_record("system_gap", loss.gap(time.monotonic_ns())))

    def _tell_losses(self, *, last: bool) -> None:
        """What the host lost has its gap when that can be written; the log says when refusals begin and end."""
        now = time.monotonic()
        if self._is_refusing and not self._host_losses and now >= self._refusals_over:
            self._is_refusing = False
            refused = self._totals.by_reason("events").get("queue_full", 0)
            self._answers.log("%s: %d events were left out", self._path, refused - self._refused_before)
            self._refused_before = refused
        elif not self._is_refusing and any(loss.reason == "queue_full" for loss in self._host_losses):
            self._is_refusing = True
            self._answers.log(
                "%s: events are left out: capture_max_queue_bytes (%d) is reached",
                self._path,
                self._config.capture_max_queue_bytes,
            )
        if not self._host_losses or (self._is_failing() and not last):
            return
        self._host_losses = merged(self._host_losses)
        while self._host_losses:
            loss = self._host_losses.pop(0)
            self._totals.add(loss)
            self._record_gap(loss)
            if loss.reason == "queue_full":
                self._refusals_over = now + self._config.capture_flush_interval
        number = self._sequence
        # A file that cannot be written may have left it out.
        self._gaps.append((self._host_losses_came, [one for one in self.outputs if one.last_taken == number], number))
        self._host_losses_came = 0

    def _recording_failed(self, exchange_id: str | None, error: Exception, *, events: int | None = None) -> None:
        """An error in our own code: told by a gap, and once for each kind in the log, without its text.

        The text is left out because it may quote what has not been redacted.
        """
        exchanges = None if exchange_id is None else 1
        name = type(error).__name__
        loss = Loss("capture_failure", events, exchanges=exchanges, error=name, exchange_id=exchange_id)
        self._count(loss)
        self._record_gap(loss)
        self._answers.log_once("an exchange could not be recorded: %s in %s", name, place_of(error))
