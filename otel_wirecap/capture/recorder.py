"""Payload events in, records out: the pure heart of the writer.

Invariants:

- Events of one exchange come in the order in which they happened; those of an exchange that never began here (a
  parent process's, after a fork) are ignored.
- Every exchange that began gets its request's record before any other and its end record last.
- A client's request is held back until the next event of its flow, or at most ``hold_ns``, so that what the
  application annotates first thing stands on it too; it never overtakes or follows another record of its flow.
- An error in recording one exchange ends that exchange's capture, is told by ``on_failure``, and touches no other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from otel_wirecap.capture.events import End, Event, EventKind, RequestHead, ResponseHead, WebsocketMessage
from otel_wirecap.capture.exchange import end_span
from otel_wirecap.capture.facts import ExchangeFacts
from otel_wirecap.capture.flow import IDENTITY_ANNOTATIONS, FlowRecording
from otel_wirecap.capture.http import HTTPRecording
from otel_wirecap.capture.imported import record_of
from otel_wirecap.capture.record import METADATA_KEYS
from otel_wirecap.capture.recording import ExchangeRecording, Recording
from otel_wirecap.capture.websocket import WebsocketRecording

if TYPE_CHECKING:
    from otel_wirecap.capture.exchange import Exchange, Flow
    from otel_wirecap.capture.record import Record


_MOST_IMPORT_WAIT_NS = 5_000_000_000
"""Since the last record that came from elsewhere: a stream of theirs whose end is missing is taken for over."""


class Recorder:
    """Makes records of payload events.

    Args:
        shared: what all recordings share, the function that takes finished records among it.
        hold_ns: how long a client's request may wait for the next event of its flow, and the chunks of streams for
            others, to be recorded together: a few at a time take three times as long.
        most_chunks: of one stream that are recorded together.
        most_unredacted_bytes: of the chunks of all streams that wait.
        pause: is called after each piece of work, to let others have the interpreter.
        on_failure: is told of an error inside the recording, with the exchange it belonged to.
    """

    def __init__(
        self,
        shared: Recording,
        *,
        hold_ns: int,
        most_chunks: int,
        most_unredacted_bytes: int,
        pause: Callable[[], None],
        on_failure: Callable[[Exchange, Exception], None],
    ) -> None:
        self._shared = shared
        self._hold_ns = hold_ns
        self._on_failure = on_failure
        self._open: dict[str, tuple[Exchange, ExchangeRecording]] = {}
        self._failed: dict[str, Exchange] = {}  # whose capture is over, and whose span is not
        self._held: dict[str, int] = {}
        self._with_chunks: set[str] = set()
        self._unredacted_bytes = 0
        self._chunks_due_ns = 0
        self._imported = shared.gate.records()
        self._imported_ns = 0
        self._most_chunks = most_chunks
        self._most_unredacted_bytes = most_unredacted_bytes
        self._pause = pause
        self._handlers: dict[EventKind, Callable[[ExchangeRecording, int, Any], None]] = {
            EventKind.REQUEST_CHUNK: lambda recording, _now, data: recording.request_chunk(data),
            EventKind.REQUEST_RESTART: lambda recording, _now, _none: recording.request_restart(),
            EventKind.REQUEST_END: self._request_end,
            EventKind.RESPONSE: self._response,
            EventKind.CHUNK: self._chunk,
            EventKind.MESSAGE: self._message,
        }

    @property
    def open_exchanges(self) -> int:
        """Exchanges that have begun and not ended."""
        return len(self._open)

    @property
    def held_bytes(self) -> int:
        """Bytes of bodies that are being collected."""
        return sum(recording.held_bytes for _, recording in self._open.values())

    def disown(self, exchanges: Iterable[Exchange]) -> None:
        """Takes exchanges of which nothing is recorded any more, but whose spans are to be ended when they end."""
        self._failed |= {exchange.id: exchange for exchange in exchanges}

    def feed(self, event: Event) -> None:
        """Takes one event; writes the records that it completes."""
        kind, subject, now_ns, value = event
        handler = self._handlers.get(kind)
        if handler is None:
            self._feed_other(event)
            return
        entry = self._open.get(cast("Exchange", subject).id)
        if entry is None:
            return
        exchange, recording = entry
        if recording.flow.held is not None:
            self._release(recording.flow)
        try:
            handler(recording, now_ns, value)
        except Exception as error:  # noqa: BLE001  # one exchange's trouble is its own
            self._fail(exchange, error)

    def _feed_other(self, event: Event) -> None:
        """Takes what is not about an open exchange alone: beginnings, ends, what stands beside exchanges."""
        kind, subject, now_ns, value = event
        if kind is EventKind.ANNOTATE:
            self._annotate(cast("Flow", subject), cast("bytes", value))
            return
        if kind is EventKind.DOCUMENT:
            document = cast("str", value)
            self._imported_ns = now_ns
            self._write_all(self._imported.feed(record_of(document), len(document)))
            return
        exchange = cast("Exchange", subject)
        if kind is EventKind.BEGIN:
            self._guarded(exchange, self._begin, exchange, now_ns, cast("RequestHead", value))
            return
        entry = self._open.get(exchange.id)
        if entry is not None:
            if entry[1].flow.held is not None:
                self._release(entry[1].flow)
            self._end(exchange, entry[1], now_ns, cast("End", value))
        elif self._failed.pop(exchange.id, None) is not None:
            end_span(exchange, now_ns, ExchangeFacts(outcome=cast("End", value).outcome))

    def tick(self, now_ns: int, *, everything: bool = False) -> None:
        """Releases the requests, and writes the chunks, that have waited long enough, or ``everything``."""
        due = [key for key, since in self._held.items() if everything or now_ns - since >= self._hold_ns]
        for key in due:
            entry = self._open.get(key)
            if entry is not None:
                self._release(entry[1].flow)
            self._held.pop(key, None)
        if self._imported_ns and now_ns - self._imported_ns >= _MOST_IMPORT_WAIT_NS:
            self._imported_ns = 0
            self._write_all(self._imported.close())
        if everything or now_ns >= self._chunks_due_ns:
            self._write_chunks(now_ns, since_ns=now_ns if everything else now_ns - self._hold_ns)

    def _write_chunks(self, now_ns: int, *, since_ns: int = 0) -> None:
        with_chunks, self._with_chunks, self._unredacted_bytes = self._with_chunks, set(), 0
        self._chunks_due_ns = now_ns + self._hold_ns
        for key in with_chunks:
            exchange, recording = self._open.get(key, (None, None))
            if exchange is not None and recording is not None:
                self._guarded(
                    exchange, lambda recording=recording: recording.write_chunks(now_ns=now_ns, since_ns=since_ns)
                )
                if recording.has_waiting:
                    self._with_chunks.add(key)
                self._pause()

    def close(self, now_ns: int) -> None:
        """Ends every exchange that is still open: the process ends."""
        for exchange, recording in list(self._open.values()):
            if recording.flow.held is not None:
                self._release(recording.flow)
            self._end(exchange, recording, now_ns, End("abandoned"))
        self._write_all(self._imported.close())
        while self._failed:
            end_span(self._failed.popitem()[1], now_ns, ExchangeFacts(outcome="abandoned"))

    def _write_all(self, records: Iterable[Record]) -> None:
        for record in records:
            self._shared.write(record)

    # -- events --------------------------------------------------------------------------------------------------

    def _begin(self, exchange: Exchange, now_ns: int, head: RequestHead) -> None:
        flow = self._flow(exchange.flow)
        if flow.held is not None:
            self._release(flow)
        kind: type[ExchangeRecording] = WebsocketRecording if head.websocket else HTTPRecording
        recording = kind(self._shared, exchange, flow, head)
        self._open[exchange.id] = (exchange, recording)
        if recording.request_complete:
            self._complete_request(exchange.id, recording, now_ns)

    def _request_end(self, recording: ExchangeRecording, now_ns: int, incomplete: Any) -> None:
        if recording.request_recorded:
            return
        recording.request_complete = True
        recording.request_incomplete = incomplete
        self._complete_request(recording.exchange_id, recording, now_ns)

    def _complete_request(self, exchange_id: str, recording: ExchangeRecording, now_ns: int) -> None:
        if recording.is_client:
            recording.flow.held = recording
            self._held[exchange_id] = now_ns
        else:
            recording.record_request()

    def _release(self, flow: FlowRecording) -> None:
        recording, flow.held = flow.held, None
        if recording is not None:
            self._held.pop(recording.exchange_id, None)
            entry = self._open.get(recording.exchange_id)
            if entry is not None:
                self._guarded(entry[0], recording.record_request)

    def _chunk(self, recording: ExchangeRecording, now_ns: int, data: bytes) -> None:
        recording.chunk(now_ns, data)
        self._came(recording, now_ns, len(data))

    def _message(self, recording: ExchangeRecording, now_ns: int, message: WebsocketMessage) -> None:
        recording.message(now_ns, message)
        self._came(recording, now_ns, len(message.data))

    def _came(self, recording: ExchangeRecording, now_ns: int, size: int) -> None:
        """Has the chunks redacted when there are enough of them."""
        self._with_chunks.add(recording.exchange_id)
        self._unredacted_bytes += size
        if self._unredacted_bytes > self._most_unredacted_bytes:
            self._write_chunks(now_ns)
        elif recording.unredacted_chunks >= self._most_chunks:
            recording.write_chunks(now_ns=now_ns)

    def _response(self, recording: ExchangeRecording, now_ns: int, head: ResponseHead) -> None:
        recording.record_request()
        recording.response(now_ns, head)

    def _end(self, exchange: Exchange, recording: ExchangeRecording, now_ns: int, end: End) -> None:
        self._open.pop(exchange.id, None)
        self._failed.pop(exchange.id, None)
        if recording.flow.client_recording is recording:
            recording.flow.client_recording = None
        facts = ExchangeFacts(outcome=end.outcome)
        try:
            recording.record_request()
            facts = recording.end(now_ns, end)
        except Exception as error:  # noqa: BLE001  # one exchange's trouble is its own
            with contextlib.suppress(Exception):
                recording.record_failure()
            self._on_failure(exchange, error)
        end_span(exchange, now_ns, facts)

    def _annotate(self, subject: Flow, document: bytes) -> None:
        flow = self._flow(subject)
        annotations = self._shared.gate.annotations(document, flow.credentials)
        for name, value in annotations.items():
            if name in IDENTITY_ANNOTATIONS:
                flow.identity[name] = str(value)
            elif name not in METADATA_KEYS:
                flow.annotations[name] = value
        if "session_id" in flow.identity:
            flow.session_id, flow.session_source = flow.identity["session_id"], "annotation"
        if "backend" in flow.identity:
            flow.backend = flow.identity["backend"]

    def _flow(self, flow: Flow) -> FlowRecording:
        if not isinstance(flow.recording, FlowRecording):
            flow.recording = FlowRecording(flow.id)
        return flow.recording

    def _guarded(self, exchange: Exchange, action: Callable[..., None], *arguments: object) -> None:
        try:
            action(*arguments)
        except Exception as error:  # noqa: BLE001  # one exchange's trouble is its own
            self._fail(exchange, error)

    def _fail(self, exchange: Exchange, error: Exception) -> None:
        """Ends the capture of an exchange whose recording failed; its end is told as far as that works."""
        entry = self._open.pop(exchange.id, None)
        if entry is not None:
            with contextlib.suppress(Exception):
                entry[1].record_failure()
        self._failed[exchange.id] = exchange
        self._on_failure(exchange, error)
