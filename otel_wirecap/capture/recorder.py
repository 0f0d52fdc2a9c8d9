"""Payload events in, records out: the pure heart of the writer.

Invariants:

- Events of one exchange come in the order in which they happened; those of an exchange that never began here (of a
  writer that is no more, say) are ignored, but for its end, which is answered where an answer is wanted.
- What is known of a flow is forgotten when the host says that it is gone.
- Every exchange that began gets its request's record before any other and its end record last.
- A client's request is held back until the next event of its flow, or at most ``hold_ns``, so that what the
  application annotates first thing stands on it too; it never overtakes or follows another record of its flow.
- An error in recording one exchange ends that exchange's capture, is told to ``Answers``, and touches no other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from otel_wirecap.capture.context import RecordingContext
from otel_wirecap.capture.events import (
    End,
    Event,
    EventKind,
    ExchangeHead,
    RequestHead,
    ResponseHead,
    WebsocketMessage,
)
from otel_wirecap.capture.facts import ExchangeFacts
from otel_wirecap.capture.flow import IDENTITY_ANNOTATIONS, FlowRecording
from otel_wirecap.capture.http import HTTPRecording
from otel_wirecap.capture.identity import introduce_client
from otel_wirecap.capture.imported import record_of
from otel_wirecap.capture.record import METADATA_KEYS
from otel_wirecap.capture.recording import ExchangeRecording
from otel_wirecap.capture.websocket import WebsocketRecording

if TYPE_CHECKING:
    from otel_wirecap.capture.record import CaptureRecord

_BEGIN, _END = EventKind.BEGIN, EventKind.END
MAX_IMPORTED_WAIT_NS = 5_000_000_000
"""How long a record from elsewhere waits for what its stream says next."""


class Recorder:
    """Makes records of payload events.

    Args:
        shared: what all recordings share, the function that takes finished records among it.
        hold_ns: how long a client's request may wait for the next event of its flow, and the chunks of streams for
            others, to be recorded together: a few at a time take three times as long.
        max_chunks: of one stream that are recorded together.
        max_unredacted_bytes: of the chunks of all streams that wait.
        max_imported_bytes: of the records from elsewhere that wait for what their streams say next.
        on_end: takes the id of an exchange, the moment of its end and what was learned of it, where that is wanted.
        on_failure: takes an error inside the recording, and the id of the exchange it belonged to.
    """

    def __init__(
        self,
        shared: RecordingContext,
        *,
        hold_ns: int,
        max_chunks: int,
        max_unredacted_bytes: int,
        max_imported_bytes: int,
        on_end: Callable[[str, int, ExchangeFacts], None],
        on_failure: Callable[[str, Exception], None],
    ) -> None:
        self._shared = shared
        self._hold_ns = hold_ns
        self._on_end = on_end
        self._on_failure = on_failure
        self._flows: dict[str, FlowRecording] = {}
        self._open: dict[str, ExchangeRecording] = {}
        self._failed: dict[str, None] = {}  # their recording is over, and they have not ended yet
        self._held: dict[str, int] = {}
        self._with_chunks: set[str] = set()
        self._unredacted_bytes = 0
        self._chunks_due_ns = 0
        self._imported = shared.gate.records(max_imported_bytes, by_flow=True)
        self._max_chunks = max_chunks
        self._max_unredacted_bytes = max_unredacted_bytes
        self._handlers: dict[int, Callable[[ExchangeRecording, int, Any], None]] = {
            EventKind.REQUEST_CHUNK: lambda recording, _now, data: recording.request_chunk(data),
            EventKind.REQUEST_RESTART: lambda recording, _now, _none: recording.request_restart(),
            EventKind.REQUEST_END: self._request_end,
            EventKind.RESPONSE: self._response,
            EventKind.CHUNK: self._chunk,
            EventKind.MESSAGE: self._message,
            EventKind.REST: lambda recording, _now, rest: recording.leave_out(rest[1], of_request=rest[0]),
        }

    @property
    def open_exchanges(self) -> int:
        """Exchanges that have begun and not ended."""
        return len(self._open)

    def held(self) -> tuple[int, int]:
        """What is being collected: bytes, and chunks, messages and records from elsewhere that are not recorded yet."""
        size, number = self._imported.held_bytes, self._imported.held_records
        for recording in self._open.values():
            size += recording.held_bytes
            number += recording.held_chunks
        return size, number

    def feed(self, event: Event) -> None:
        """Takes one event; writes the records that it completes."""
        kind, subject_id, now_ns, value, _ = event
        handler = self._handlers.get(kind)
        if handler is None:
            self._feed_other(event)
            return
        recording = self._open.get(subject_id)  # type: ignore[arg-type]  # None is no key of it
        if recording is None:
            return
        if recording.flow.held is not None:
            self._release(recording.flow)
        try:
            handler(recording, now_ns, value)
        except Exception as error:  # noqa: BLE001  # one exchange's trouble is its own
            self._fail(recording, error)

    def _feed_other(self, event: Event) -> None:
        """Takes what is not about an open exchange alone: beginnings, ends, what stands beside exchanges."""
        kind, subject_id, now_ns, value, _ = event
        if kind == EventKind.DOCUMENT and isinstance(value, str):
            self._write_all(self._imported.feed(record_of(value), len(value), now_ns))
        elif subject_id is None:
            return
        elif kind == _BEGIN and isinstance(value, tuple):
            about, asked, client, body = value
            self._begin(subject_id, now_ns, ExchangeHead(*about), RequestHead.of(asked, body), client)
        elif kind == _END and isinstance(value, tuple):
            self._end(subject_id, now_ns, End.of(value))
        elif kind == EventKind.ANNOTATE and isinstance(value, bytes):
            self._annotate(subject_id, value)
        elif kind == EventKind.FLOW_GONE:
            self._flows.pop(subject_id, None)

    def tick(self, now_ns: int, *, everything: bool = False) -> None:
        """Releases the requests, and writes the chunks, that have waited long enough, or ``everything``.

        What ``everything`` leaves waiting is what may hold a part of a secret, in ``held``; records from elsewhere are
        withheld where they may: nobody could say when, or whether, their streams go on.
        """
        due = [key for key, since in self._held.items() if everything or now_ns - since >= self._hold_ns]
        for key in due:
            recording = self._open.get(key)
            if recording is not None:
                self._release(recording.flow)
            self._held.pop(key, None)
        if self._imported.held_records:
            self._write_all(self._imported.let_go(None if everything else now_ns - MAX_IMPORTED_WAIT_NS))
        if everything or now_ns >= self._chunks_due_ns:
            self._write_chunks(now_ns, since_ns=now_ns if everything else now_ns - self._hold_ns)

    def _write_chunks(self, now_ns: int, *, since_ns: int = 0) -> None:
        with_chunks, self._with_chunks, self._unredacted_bytes = self._with_chunks, set(), 0
        self._chunks_due_ns = now_ns + self._hold_ns
        for key in with_chunks:
            recording = self._open.get(key)
            if recording is not None:
                try:
                    recording.write_chunks(now_ns=now_ns, since_ns=since_ns)
                except Exception as error:  # noqa: BLE001  # one exchange's trouble is its own
                    self._fail(recording, error)
                if recording.has_waiting:
                    self._with_chunks.add(key)
                self._shared.pause()

    def close(self, now_ns: int) -> None:
        """Ends every exchange that is still open: the process ends."""
        for exchange_id, recording in list(self._open.items()):
            self._end(exchange_id, now_ns, End("abandoned", wants_end=recording.wants_end))
        self._write_all(self._imported.close())
        while self._failed:
            self._on_end(self._failed.popitem()[0], now_ns, ExchangeFacts(outcome="abandoned"))

    def _write_all(self, records: Iterable[CaptureRecord]) -> None:
        for record in records:
            self._shared.write(record)

    # -- events --------------------------------------------------------------------------------------------------

    def _begin(
        self, exchange_id: str, now_ns: int, about: ExchangeHead, head: RequestHead, client: bytes | None
    ) -> None:  # fmt: skip
        flow = self._flow(about.flow_id)
        if flow.held is not None:
            self._release(flow)
        kind: type[ExchangeRecording] = WebsocketRecording if head.websocket else HTTPRecording
        try:
            if client is not None and flow.client is None and about.leg != "client":
                introduce_client(self._shared, flow, RequestHead.of(client, None))
            recording = kind(self._shared, exchange_id, about, flow, head)
        except Exception as error:  # noqa: BLE001  # one exchange's trouble is its own
            if about.wants_end:
                self._failed[exchange_id] = None
            self._on_failure(exchange_id, error)
            return
        self._open[exchange_id] = recording
        if recording.request_complete:
            try:
                self._complete_request(recording, now_ns)
            except Exception as error:  # noqa: BLE001  # as above
                self._fail(recording, error)

    def _request_end(self, recording: ExchangeRecording, now_ns: int, incomplete: Any) -> None:
        if recording.request_recorded:
            return
        recording.request_complete = True
        recording.request_incomplete = incomplete
        self._complete_request(recording, now_ns)

    def _complete_request(self, recording: ExchangeRecording, now_ns: int) -> None:
        if recording.is_client:
            recording.flow.held = recording.exchange_id
            self._held[recording.exchange_id] = now_ns
        else:
            recording.record_request()

    def _release(self, flow: FlowRecording) -> None:
        exchange_id, flow.held = flow.held, None
        if exchange_id is not None:
            self._held.pop(exchange_id, None)
            recording = self._open.get(exchange_id)
            if recording is not None:
                try:
                    recording.record_request()
                except Exception as error:  # noqa: BLE001  # one exchange's trouble is its own
                    self._fail(recording, error)

    def _chunk(self, recording: ExchangeRecording, now_ns: int, data: bytes) -> None:
        recording.chunk(now_ns, data)
        self._came(recording, now_ns, len(data))

    def _message(self, recording: ExchangeRecording, now_ns: int, value: tuple[Any, ...]) -> None:
        message = WebsocketMessage(*value)
        recording.message(now_ns, message)
        self._came(recording, now_ns, len(message.data))

    def _came(self, recording: ExchangeRecording, now_ns: int, size: int) -> None:
        """Redacts the chunks when there are enough of them."""
        self._with_chunks.add(recording.exchange_id)
        self._unredacted_bytes += size
        if self._unredacted_bytes > self._max_unredacted_bytes:
            self._write_chunks(now_ns)
        elif recording.unredacted_chunks >= self._max_chunks:
            recording.write_chunks(now_ns=now_ns)

    def _response(self, recording: ExchangeRecording, now_ns: int, packed: bytes) -> None:
        recording.record_request()
        recording.response(now_ns, ResponseHead.of(packed))

    def _end(self, exchange_id: str, now_ns: int, end: End) -> None:
        facts = ExchangeFacts(outcome=end.outcome)
        recording = self._open.get(exchange_id)
        if recording is not None and recording.flow.held is not None:
            self._release(recording.flow)
        if self._open.pop(exchange_id, None) is not None and recording is not None:
            if recording.flow.client_identity is recording.identity:
                recording.flow.client_identity = None
            try:
                recording.record_request()
                facts = recording.end(now_ns, end)
            except Exception as error:  # noqa: BLE001  # one exchange's trouble is its own
                with contextlib.suppress(Exception):
                    recording.record_failure()
                self._on_failure(exchange_id, error)
        self._failed.pop(exchange_id, None)
        if end.wants_end:
            self._on_end(exchange_id, now_ns, facts)

    def _annotate(self, flow_id: str, document: bytes) -> None:
        flow = self._flow(flow_id)
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

    def _flow(self, flow_id: str) -> FlowRecording:
        flow = self._flows.get(flow_id)
        if flow is None:
            flow = self._flows[flow_id] = FlowRecording(flow_id)
        return flow

    def _fail(self, recording: ExchangeRecording, error: Exception) -> None:
        """Ends the capture of an exchange whose recording failed; its end is told as far as that works."""
        if self._open.pop(recording.exchange_id, None) is not None:
            with contextlib.suppress(Exception):
                recording.record_failure()
        if recording.wants_end:
            self._failed[recording.exchange_id] = None
        self._on_failure(recording.exchange_id, error)
