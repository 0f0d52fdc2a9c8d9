"""The records of one HTTP request with its response.

Invariants: a stream has one start and one end around its numbered chunks; every other response is one record, and so
is none at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from otel_wirecap.capture.body import BodyCollector, RecordedBody
from otel_wirecap.capture.context import RecordingContext
from otel_wirecap.capture.decoding import NOT_JSON, form_fields
from otel_wirecap.capture.endings import closed_by, ended_stream
from otel_wirecap.capture.flow import KeptBody
from otel_wirecap.capture.identity import header
from otel_wirecap.capture.record import Payload, RawJSON
from otel_wirecap.capture.recording import FIRST_ERROR, ExchangeRecording
from otel_wirecap.capture.redaction.gate import Passed, add_counts, withheld
from otel_wirecap.capture.response_stream import ResponseStream
from otel_wirecap.capture.streams import MAX_UNDECIDED, StreamBeginning, StreamReader
from otel_wirecap.frames.framing import STREAM_TYPES
from otel_wirecap.llm.answers import answer_error, answered_model
from otel_wirecap.llm.errors import may_hold_error

if TYPE_CHECKING:
    from otel_wirecap.capture.events import End, ExchangeHead, RequestHead, ResponseHead
    from otel_wirecap.capture.flow import FlowRecording
    from otel_wirecap.capture.redaction.gate import Released
    from otel_wirecap.capture.response_stream import WaitingChunk

SUCCESS = range(200, 300)

_MAX_KEPT_BODY = 1 << 20
"""Bytes of a body that is kept until it comes on the other leg."""

_MIN_RUN = 3
"""Chunks: what is done once for all of them costs as much as one or two."""


class Directions(NamedTuple):
    """The directions of one leg's records."""

    request: str
    response: str
    stream_start: str
    stream_chunk: str
    stream_end: str


_DIRECTIONS = {
    "client": Directions(
        "inbound_request",
        "outbound_response",
        "outbound_stream_start",
        "outbound_stream_chunk",
        "outbound_stream_end",
    ),
    "backend": Directions("outbound_request", "inbound_response", "stream_start", "stream_chunk", "stream_end"),
}


class HTTPRecording(ExchangeRecording):
    """One HTTP request with its response, on its way into the capture."""

    __slots__ = (
        "_beginning",
        "_body",
        "_chunk_number",
        "_directions",
        "_left_out",
        "_message",
        "_request_body",
        "_request_encoding",
        "_response_encoding",
        "_response_ns",
        "_response_type",
        "_stream",
    )

    def __init__(
        self, shared: RecordingContext, exchange_id: str, about: ExchangeHead, flow: FlowRecording, head: RequestHead
    ) -> None:
        super().__init__(shared, exchange_id, about, flow, head)
        self._directions = _DIRECTIONS[about.leg]
        self._request_encoding = "" if head.decoded else header(self.identity.headers, "content-encoding")
        self._request_body = BodyCollector(shared.settings.max_payload_bytes, self._request_encoding)
        if head.body:
            self._request_body.add(head.body)
            self._request_body.chunks = 0  # it came with the exchange's beginning
        self._response_type = ""
        self._response_encoding = ""
        self._response_ns = 0
        self._body: BodyCollector | None = None
        self._beginning: StreamBeginning | None = None  # of a body that may be a stream
        self._stream: ResponseStream | None = None
        self._chunk_number = 0
        self._left_out = 0  # bytes of a stream
        self._message: dict[str, Any] | None = None  # of the stream, when it is over

    @property
    def held_bytes(self) -> int:
        """Bytes of bodies that are being collected, and of chunks in which a secret may begin."""
        held = self._request_body.kept + (self._body.kept if self._body is not None else 0)
        if self.is_client and self.flow.body is not None:
            held += self.flow.body.recorded.length
        return held + (self._stream.held_bytes if self._stream is not None else 0)

    @property
    def unredacted_chunks(self) -> int:
        """Chunks that are kept to be redacted together."""
        return self._stream.came if self._stream is not None else 0

    @property
    def held_chunks(self) -> int:
        """Chunks, of either body, of which there is no record yet."""
        held = 0 if self.request_recorded else self._request_body.chunks
        if self._body is not None:
            held += self._body.chunks
        return held if self._stream is None else held + self._stream.came + len(self._stream.waiting)

    # -- the request ---------------------------------------------------------------------------------------------

    def request_chunk(self, data: bytes) -> None:
        """Bytes of the request's body."""
        if not self.request_recorded:
            self._request_body.add(data)

    def leave_out(self, size: int, *, of_request: bool) -> None:
        """So many bytes of a body passed that the queue left out: more than a record holds."""
        if of_request:
            if not self.request_recorded:
                self._request_body.leave_out(size)
        elif self._stream is not None:
            self._left_out += size
        elif self._body is not None:
            self._body.leave_out(size)

    def request_restart(self) -> None:
        """The body comes anew."""
        if not self.request_recorded:
            self._request_body.clear()

    def record_request(self) -> None:
        """Writes the request's record with the body as it is now; once."""
        if self.request_recorded:
            return
        incomplete = self.request_incomplete
        if not self.request_complete and (self._request_body.wire_length or self._expects_body()):
            incomplete = incomplete or "not_read"
        counts: dict[str, int] = {}
        content_type = header(self.identity.headers, "content-type")
        body = self._passed(
            self._request_body, content_type, self._request_encoding, incomplete, counts, is_first=self.is_client
        )
        value = form_fields(self._request_body.content(), content_type) if body.value is NOT_JSON else body.value
        self.identity.identify(value)
        metadata = self.identity.base | self._request_metadata(counts) | body.metadata
        self.request_recorded = True
        self._write(
            self._directions.request, self._about.began_ns, body.length, body.payload, metadata, counts, asking=True
        )  # fmt: skip
        self._request_body.clear()

    def _expects_body(self) -> bool:
        length = header(self.identity.headers, "content-length")
        return bool(header(self.identity.headers, "transfer-encoding")) or length not in ("", "0")

    # -- the response --------------------------------------------------------------------------------------------

    def response(self, now_ns: int, head: ResponseHead) -> None:
        """The response begins: a stream's start is written, a body's collection begins."""
        super().response(now_ns, head)
        self._response_type = header(self._response_headers, "content-type").partition(";")[0].strip().lower()
        self._response_encoding = "" if head.decoded else header(self._response_headers, "content-encoding")
        self._response_ns = now_ns
        is_stream = self._response_type in STREAM_TYPES or (
            self.identity.wants_stream and head.status_code in SUCCESS and self._head.method != "HEAD"
        )
        if is_stream:
            self._begin_stream()
        else:
            self._body = BodyCollector(self._shared.settings.max_payload_bytes, self._response_encoding)
            self._beginning = StreamBeginning()

    def _begin_stream(self) -> ResponseStream:
        settings = self._shared.settings
        stream = self._stream = ResponseStream(
            self._response_type,
            self._response_encoding,
            self._shared.gate.stream(self._response_type, settings.max_held_bytes),
            StreamReader(
                self._response_type,
                assemble=settings.assemble_streams and not self.is_client,
                max_bytes=settings.max_payload_bytes,
            ),
        )
        if not self.is_client:
            self.flow.stream = stream
        else:
            self.flow.body = None  # none will come
            if self.flow.stream is not None:
                stream.follow(self.flow.stream)
        counts: dict[str, int] = {}
        metadata = {**self.identity.base, **self._response_metadata(counts), "ttfb_ms": self._ttfb_ms}
        if stream.decoder.compressed:
            metadata["content_encoding"] = self._response_encoding
        self._write(self._directions.stream_start, self._response_ns, 0, None, metadata, counts)
        return stream

    def chunk(self, now_ns: int, data: bytes) -> None:
        """Bytes of the response's body: a chunk of the stream, or a part of the body."""
        if self._stream is not None:
            # It is kept until it is redacted: together with others that, and all the rest, costs a fraction.
            self._stream.chunk(now_ns, data)
        elif self._body is not None:
            self._body.add(data)
            if self._beginning is not None and data:
                self._beginning.chunks.append((now_ns, data))
                if len(self._beginning.chunks) > 1:
                    self._look_at_beginning(self._body, self._beginning)

    def _look_at_beginning(self, body: BodyCollector, beginning: StreamBeginning) -> None:
        """Takes a body that passes in several chunks for the stream that it is, whatever its label says."""
        is_stream = beginning.is_stream(body.content())
        if is_stream is None and max(body.wire_length, body.length) <= MAX_UNDECIDED:
            return
        self._beginning = None
        if is_stream:
            self._body = None
            stream = self._begin_stream()
            for now_ns, data in beginning.chunks:
                stream.chunk(now_ns, data)

    def write_chunks(self, *, now_ns: int = 0, since_ns: int = 0) -> None:
        """Writes the chunks that came, but for those in which a secret may begin whose rest is still to come."""
        if self._stream is not None:
            self._stream.take_up(self.flow.credentials, since_ns)
            self._write_taken_up(self._stream)

    def _write_taken_up(self, stream: ResponseStream) -> None:
        if self.identity.answered_model is None:
            self.identity.learn_model(stream.reader.assembly.model)
        if self._first_chunk_ns is None and stream.first_chunk_ns is not None:
            self._first_chunk_ns = stream.first_chunk_ns - self._about.began_ns
        for released in stream.released():
            self._write_released(stream, released)

    def _write_released(self, stream: ResponseStream, released: Released) -> None:
        times: list[int] = []
        payloads: list[str] = []
        lengths: list[int] = []
        take, masked = stream.waiting.popleft, released.counts
        for number, data in enumerate(released.pieces):
            chunk = now_ns, kind, length, facts = take()
            if facts is None and number not in masked:
                times.append(now_ns)
                payloads.append(data.decode("utf-8", "replace"))
                lengths.append(length)
                continue
            self._write_plain(stream, times, payloads, lengths)
            times, payloads, lengths = [], [], []
            payload = data.decode("utf-8", "replace") if kind is str else data if kind is bytes else None
            self._write_chunk(stream, chunk, payload, {}, masked.get(number, {}))
        self._write_plain(stream, times, payloads, lengths)
        if released.withheld:
            self._write_withheld(stream, released.withheld)

    def _write_withheld(self, stream: ResponseStream, count: int) -> None:
        for _ in range(count):
            chunk = stream.waiting.popleft()
            passed = withheld() if chunk[2] else Passed(None, {})  # no byte of an empty one is missing
            self._write_chunk(stream, chunk, None, passed.facts, passed.counts)

    def _write_plain(self, stream: ResponseStream, times: list[int], payloads: list[str], lengths: list[int]) -> None:
        """Writes chunks that are text of which there is nothing special to tell."""
        if len(times) < _MIN_RUN or self._about.wants_records:
            for now_ns, payload, length in zip(times, payloads, lengths, strict=True):
                self._write_chunk(stream, (now_ns, str, length, None), payload, {}, {})
            return
        stream.held_bytes -= sum(lengths)
        first, self._chunk_number = self._chunk_number + 1, self._chunk_number + len(times)
        self._write_run(self._directions.stream_chunk, times, payloads, lengths, first)

    def _write_chunk(
        self,
        stream: ResponseStream,
        chunk: WaitingChunk,
        payload: Payload,
        facts: dict[str, Any],
        counts: dict[str, int],
    ) -> None:
        now_ns, _, length, told = chunk
        stream.held_bytes -= length
        self._chunk_number += 1
        told = {"chunk_bytes": length} if told is None else told
        metadata = {**self.identity.base, **told, "chunk_number": self._chunk_number, **facts}
        self._write(self._directions.stream_chunk, now_ns, length, payload, metadata, counts)

    def _settle_end(self, now_ns: int, end: End) -> tuple[End, str | None]:
        stream, response = self._stream, self._response
        if stream is None or response is None:
            return end, None
        stream.end(now_ns, self.flow.credentials)
        self._write_taken_up(stream)
        self._message = stream.reader.close()
        identity = self.identity if response.status_code in SUCCESS and self._response_type in STREAM_TYPES else None
        return ended_stream(end, stream, identity), closed_by(end, is_client=self.is_client)

    def _record_end(self, now_ns: int, end: End, metadata: dict[str, Any], counts: dict[str, int]) -> None:
        if self._stream is None:
            self._end_response(now_ns, end, metadata, counts)
        else:
            self._end_stream(now_ns, self._stream, metadata, counts)
            if self.flow.stream is self._stream:
                self.flow.stream = None
        if self.is_client:
            self.flow.body = None

    def _record_failure(self, metadata: dict[str, Any]) -> None:
        moment, directions = self._about.began_ns, self._directions
        if self._stream is not None:
            self._stream.leave()
        if not self.request_recorded:
            self.request_recorded = True
            self._write(directions.request, moment, 0, None, dict(metadata), {}, asking=True)
        self._write(
            directions.response if self._stream is None else directions.stream_end, moment, 0, None, metadata, {}
        )

    def _end_response(self, now_ns: int, end: End, facts: dict[str, Any], counts: dict[str, int]) -> None:
        body = RecordedBody(None, 0, {})
        metadata = dict(self.identity.base)
        if self._response is not None and self._body is not None:
            metadata |= self._response_metadata(counts)
            body = self._passed(
                self._body, self._response_type, self._response_encoding, self._missing(end), counts,
                is_first=not self.is_client,
            )  # fmt: skip
            if body.value is not NOT_JSON:
                self.identity.learn_model(answered_model(body.value))
                self.identity.learn_answer(body.value)
                if self._response.status_code < FIRST_ERROR and may_hold_error(self._body.content()):
                    self._gate.add_provider_error(facts, answer_error(body.value), counts)
        metadata |= body.metadata | facts
        self._write(self._directions.response, now_ns, body.length, body.payload, metadata, counts)
        self._body = None

    def _end_stream(self, now_ns: int, stream: ResponseStream, facts: dict[str, Any], counts: dict[str, int]) -> None:
        reader, decoder, message = stream.reader, stream.decoder, self._message
        self.identity.learn_model(reader.assembly.model)
        if message is not None:
            self.identity.learn_answer(message)
        self._gate.add_provider_error(facts, reader.assembly.error, counts)
        if decoder.compressed:
            facts["content_encoding"] = self._response_encoding
            facts["wire_length"] = decoder.wire_length
        if decoder.undecodable:
            facts["incomplete"] = "undecodable"
        if self._left_out:
            facts["incomplete"] = "dropped"
            facts["wire_length"] = decoder.wire_length + self._left_out
        total = orjson.dumps({"total_bytes": decoder.total_bytes, "total_chunks": self._chunk_number})
        metadata = {**self.identity.base, **facts}
        self._write(self._directions.stream_end, now_ns, len(total), RawJSON(total), metadata, counts)
        if message is not None:
            self._record_assembled(now_ns, message, facts | reader.lacks)

    def _record_assembled(self, now_ns: int, message: dict[str, Any], facts: dict[str, Any]) -> None:
        try:
            content = orjson.dumps(message)
        except orjson.JSONEncodeError:  # it nests deeper than can be written; the chunks have it
            return
        status_code = self._response.status_code if self._response is not None else None
        passed = self._shared.gate.body(content, "application/json", self.flow.credentials, is_json=True)
        metadata = {**self.identity.base, "status_code": status_code, **facts, "assembled": True, **passed.facts}
        self._write("inbound_response", now_ns, len(content), passed.payload, metadata, passed.counts)

    def _missing(self, end: End) -> str | None:
        """Why the collected response body is not all there; None when it is."""
        response, body = self._response, self._body
        if response is None or body is None or end.outcome == "complete":
            return "dropped" if end.lost_chunks else None
        if header(self._response_headers, "content-length") == str(body.wire_length) or self._head.method == "HEAD":
            return None  # everything was there, only the reader did not ask for the end
        return "not_read" if end.outcome in {"closed", "abandoned"} else "cut"

    # -- what both are made with -----------------------------------------------------------------------------------

    def _passed(
        self,
        body: BodyCollector,
        content_type: str,
        content_encoding: str,
        incomplete: str | None,
        counts: dict[str, int],
        *,
        is_first: bool,
    ) -> RecordedBody:
        """As ``_recorded``, once for what a proxy hands on as it came; ``is_first``: it comes on this leg first."""
        flow = self.flow
        kept, flow.body = flow.body, None
        made_of = content_type, flow.credentials, self._shared.gate.generation, body.content()
        is_plain = incomplete is None and body.is_as_it_came
        if kept is None or is_first or not is_plain or kept.made_of != made_of:
            kept = KeptBody(made_of, self._gate.body(body, content_type, content_encoding, incomplete))
            if is_first and is_plain and flow.client_identity is not None and body.length <= _MAX_KEPT_BODY:
                flow.body = kept
        if kept.recorded.counts:
            add_counts(counts, kept.recorded.counts)
        return kept.recorded
