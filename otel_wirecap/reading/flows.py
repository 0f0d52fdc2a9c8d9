"""Groups a capture's records into flows: one client exchange with the backend exchanges it caused.

Records are taken one at a time and let go again; what stays is a summary of each exchange, never a payload.
The order of records does not matter (several processes may write one capture), but for the gaps between a stream's
chunks; and any may be missing: what began in a file that has been rotated away, or has not ended yet, is told as far as
it is known.

Invariant: a collector of some records, merged with one of the records after them, is a collector of all of them. So
parts of a capture can be read by several processes, and remembered between two runs.
"""

from __future__ import annotations

import base64
import dataclasses
import re
from typing import TYPE_CHECKING, Any, TypeAlias

from otel_wirecap.capture.record import (
    REQUESTS,
    RESPONSES,
    STREAM_CHUNKS,
    STREAM_ENDS,
    STREAM_STARTS,
    WEBSOCKET_END,
    WEBSOCKET_MESSAGE,
    WEBSOCKET_START,
)
from otel_wirecap.capture.url import url_parts
from otel_wirecap.errors import CaptureFileError
from otel_wirecap.llm.errors import ProviderError
from otel_wirecap.llm.usage import Usage
from otel_wirecap.reading.chunk_gaps import ChunkGaps
from otel_wirecap.reading.lines import moment_of, typed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from otel_wirecap.reading.lines import RawRecord
    from otel_wirecap.reading.messages import Chunk, Contents, Message

ExchangeReader: TypeAlias = "Callable[[Exchange], Contents]"
"""Reads from the capture what an exchange carried."""

ENDS = RESPONSES | STREAM_ENDS | {WEBSOCKET_END}

CLIENT = "client"
FIRST_ERROR_STATUS = 400


class _Attached:
    """What an exchange knows of the open capture that it is from; no part of its summary."""

    __slots__ = ("_flow", "_read")

    _flow: Flow
    _read: ExchangeReader | None

    def attach(self, flow: Flow, read: ExchangeReader) -> None:
        """Says which flow it is of, and what reads the bodies."""
        self._flow, self._read = flow, read

    @property
    def flow(self) -> Flow:
        """The flow that it is part of."""
        return self._flow

    def _contents_of(self, exchange: Exchange) -> Contents:
        read: ExchangeReader | None = getattr(self, "_read", None)
        if read is None:
            reason = f"exchange {exchange.exchange_id!r} is of no open capture, so its bodies cannot be read"
            raise CaptureFileError(reason)
        return read(exchange)


@dataclasses.dataclass(slots=True)
class Exchange(_Attached):
    """One HTTP request with its response, on one leg; what is not known of it is None.

    ``request``, ``response``, ``chunks()`` and ``answer()`` are read from the capture when they are asked for.

    Attributes:
        exchange_id: its id.
        leg: ``client`` or ``backend``.
        attempt: on the backend leg 1, 2, … in the flow.
        backend: the backend's name.
        method: the request's method; empty where its record is not there.
        url: the request's URL, redacted.
        requested_model: the model that the request names.
        answered_model: the model that the response names.
        key_name: the name of the variable whose value is the credential.
        status_code: the response's status code.
        started_unix: the moment of the request, seconds since the epoch.
        ttfb_ms: milliseconds until the response's headers.
        duration_ms: milliseconds until the end.
        request_bytes: content-decoded bytes of the request's body.
        streamed: whether the response is a stream.
        has_messages: whether messages of a websocket were seen.
        outcome: how it ended; None as long as it has not.
        error: ``{"type", "message"}`` of a failure, as the capture tells it.
        provider_error: the type of the error that the response's body names.
        answer_id: the provider's id of the answer, where it reports usage.
        usage: the tokens that the response reports; None where it only reads an answer again that counts elsewhere.
        seen_chunks: records of chunks, or of a websocket's messages.
        seen_bytes: content-decoded bytes in them.
        first_chunk_unix: the moment of the first of them, seconds since the epoch; ``last_chunk_unix``: of the last.
        gaps: how long the chunks of a stream came after each other; None where there was none.
        total_chunks: chunks of the stream as its end tells; None before.
        total_bytes: bytes of the response's body as its end tells; None before.
    """

    exchange_id: str
    leg: str
    attempt: int | None = None
    backend: str = ""
    method: str = ""
    url: str = ""
    requested_model: str | None = None
    answered_model: str | None = None
    key_name: str | None = None
    status_code: int | None = None
    started_unix: float | None = None
    ttfb_ms: float | None = None
    duration_ms: float | None = None
    request_bytes: int = 0
    streamed: bool = False
    has_messages: bool = False
    outcome: str | None = None
    error: dict[str, Any] | None = None
    provider_error: str | None = None
    answer_id: str | None = None
    usage: Usage | None = None
    seen_chunks: int = 0
    seen_bytes: int = 0
    first_chunk_unix: float | None = None
    last_chunk_unix: float | None = None
    gaps: ChunkGaps | None = None
    total_chunks: int | None = None
    total_bytes: int | None = None

    @property
    def request(self) -> Message | None:
        """The request; None where the capture does not have it."""
        return self._contents_of(self).request

    @property
    def response(self) -> Message | None:
        """The response as far as the capture has it; None where there is none."""
        return self._contents_of(self).response

    def chunks(self) -> Sequence[Chunk]:
        """The chunks of a streamed response, or the messages of a websocket, in order."""
        return self._contents_of(self).chunks

    def answer(self) -> Any:
        """What was answered: the body parsed, text where it is no JSON; a stream's as the one message it adds up to.

        None where there is none, or where nothing is known of the stream's form. Bytes are as ``Record.payload`` has
        them.
        """
        return self._contents_of(self).answer()

    @property
    def started(self) -> datetime | None:
        """The moment of the request, in UTC."""
        return moment_of(self.started_unix)

    @property
    def path(self) -> str:
        """The URL's path."""
        return url_parts(self.url).path

    @property
    def model(self) -> str | None:
        """The model that answered, else the one that was asked for."""
        return self.answered_model or self.requested_model

    @property
    def chunk_count(self) -> int:
        """Of a stream, so far; 0 for other responses."""
        return self.seen_chunks if self.total_chunks is None else self.total_chunks

    @property
    def response_bytes(self) -> int:
        """Content-decoded bytes of the response's body, so far."""
        return self.seen_bytes if self.total_bytes is None else self.total_bytes

    @property
    def error_type(self) -> str | None:
        """What went wrong: the provider's own word, else the capture's, else ``HTTP 503``; None if nothing did."""
        if self.provider_error is not None:
            return self.provider_error
        if self.error is not None:
            return str(self.error.get("type") or "error")
        if self.status_code is not None and self.status_code >= FIRST_ERROR_STATUS:
            return f"HTTP {self.status_code}"
        return self.outcome if self.outcome in {"error", "abandoned"} else None

    @property
    def failed(self) -> bool:
        """Whether it went wrong. A client that leaves, or a cancelled task, is an outcome and no failure."""
        return self.error_type is not None

    def add(self, record: RawRecord) -> None:
        """Takes what one of the exchange's records tells."""
        direction, metadata = record["direction"], record["metadata"]
        if direction in REQUESTS:
            self._add_request(record, metadata)
            return
        ends = direction in ENDS
        self._add_names(record, ends=ends)
        if direction in RESPONSES or metadata.get("assembled"):
            self._add_answer(record.get("payload"))
        if metadata.get("assembled"):
            return  # what the stream's own records have told already
        if direction == WEBSOCKET_MESSAGE:
            self.has_messages = True
            self._add_usage_of_message(record.get("payload"))
        if direction in STREAM_CHUNKS or direction == WEBSOCKET_MESSAGE:
            moment = record["timestamp_unix"]
            length = metadata.get("chunk_bytes", record.get("content_length"))
            if direction in STREAM_CHUNKS:
                self._add_gaps([moment])
            self._count_chunks(1, typed(length, int) or 0, moment, moment)
            return
        self.status_code = typed(metadata.get("status_code"), int) or self.status_code
        ttfb_ms = _milliseconds(metadata.get("ttfb_ms"))
        self.ttfb_ms = self.ttfb_ms if ttfb_ms is None else ttfb_ms
        if direction in STREAM_STARTS:
            self.streamed = True
        elif direction == WEBSOCKET_START:
            self.streamed = True
            self._add_request(record, metadata)
        elif ends:
            self._add_end(record, metadata)

    def add_chunks(self, record: RawRecord, moments: Sequence[float], size: int) -> None:
        """Takes chunks of a stream: the record of one of them, the moment of each, their bytes."""
        self._add_names(record, ends=False)
        self._add_gaps(moments)
        self._count_chunks(len(moments), size, min(moments), max(moments))

    def _add_gaps(self, moments: Sequence[float]) -> None:
        if self.gaps is None:
            self.gaps = ChunkGaps(moments)
        else:
            self.gaps.add(moments)

    def _count_chunks(self, count: int, size: int, first: float, last: float) -> None:
        self.seen_chunks += count
        self.seen_bytes += size
        self.first_chunk_unix = first if self.first_chunk_unix is None else min(self.first_chunk_unix, first)
        self.last_chunk_unix = last if self.last_chunk_unix is None else max(self.last_chunk_unix, last)

    def merge(self, later: Exchange) -> None:
        """Takes what later records of the same exchange told."""
        if later.first_chunk_unix is not None and later.last_chunk_unix is not None:
            self._count_chunks(later.seen_chunks, later.seen_bytes, later.first_chunk_unix, later.last_chunk_unix)
        if later.gaps is not None:
            if self.gaps is None:
                self.gaps = later.gaps
            else:
                self.gaps.merge(later.gaps)
        if later.usage is not None:
            known = self.usage if later.has_messages else None
            self.usage = later.usage if known is None else known.with_call(later.usage)
        if later.answered_model and (later.outcome is not None or self.answered_model is None):
            self.answered_model = later.answered_model
        if later.method or self.started_unix is None:  # an end can only reckon when it began
            self.started_unix = later.started_unix or self.started_unix
        # The request's own counts, as in add().
        self.key_name = later.key_name or self.key_name if later.method else self.key_name or later.key_name
        for name in _MERGED:
            value = getattr(later, name)
            if value:
                setattr(self, name, value)
        for name in _MERGED_OPTIONS:
            value = getattr(later, name)
            if value is not None:
                setattr(self, name, value)

    def _add_names(self, record: RawRecord, *, ends: bool) -> None:
        model = typed(record.get("model"), str)
        if model and (ends or self.answered_model is None):
            # The end knows it; before, a record may name the model that was asked for.
            self.answered_model = model
        self.backend = typed(record.get("backend"), str) or self.backend
        self.key_name = self.key_name or typed(record.get("key_name"), str)

    def _add_request(self, record: RawRecord, metadata: dict[str, Any]) -> None:
        self.started_unix = record["timestamp_unix"]
        if record["direction"] == WEBSOCKET_START:
            self.started_unix -= (_milliseconds(metadata.get("ttfb_ms")) or 0.0) / 1000
        self.method = str(metadata.get("method", ""))
        self.url = str(metadata.get("url", ""))
        self.requested_model = typed(record.get("model"), str)
        self.key_name = typed(record.get("key_name"), str) or self.key_name
        self.request_bytes = typed(record.get("content_length"), int) or 0
        # On the client leg the backend is known for certain only when the response comes.
        self.backend = self.backend or typed(record.get("backend"), str) or ""

    def _add_answer(self, answer: object) -> None:
        # Not wanted where an index has all.
        from otel_wirecap.reading.dialects import answer_error, answer_id_of, usage_of

        usage, error = usage_of(answer), answer_error(answer)
        if usage is not None:
            self.usage, self.answer_id = usage, answer_id_of(answer)
        self.provider_error = self.provider_error if error is None else error.word

    def _add_usage_of_message(self, message: object) -> None:
        """Takes the usage of one answer of a websocket, on which there may be many."""
        if isinstance(message, dict):  # bytes, as all messages of Gemini's Live are
            try:
                message = base64.b64decode(message.get("data", "")).decode()
            except (ValueError, TypeError):
                return
        if not isinstance(message, str) or not _USAGE_IN_MESSAGE.search(message):
            return
        from otel_wirecap.reading.dialects import usage_of_message

        usage = usage_of_message(message)
        if usage is not None:
            self.usage = usage if self.usage is None else self.usage.with_call(usage)

    def _add_end(self, record: RawRecord, metadata: dict[str, Any]) -> None:
        self.duration_ms = _milliseconds(metadata.get("duration_ms"))
        self.outcome = typed(metadata.get("outcome"), str)
        self.error = typed(metadata.get("error"), dict)
        if self.error is not None and self.error.get("type") == "provider" and self.provider_error is None:
            words = (typed(self.error.get(name), str) for name in ("provider_type", "message", "provider_code"))
            self.provider_error = ProviderError(*words).word
        if record["direction"] in STREAM_ENDS:
            self.streamed = True
            totals = record.get("payload")
            if isinstance(totals, dict):
                self.total_bytes = typed(totals.get("total_bytes"), int) or 0
                self.total_chunks = typed(totals.get("total_chunks"), int) or 0
        elif record["direction"] in RESPONSES:
            self.total_bytes = typed(record.get("content_length"), int) or 0
            self.total_chunks = 0
        if self.started_unix is None and self.duration_ms is not None:
            self.started_unix = record["timestamp_unix"] - self.duration_ms / 1000


_USAGE_IN_MESSAGE = re.compile("usage", re.IGNORECASE)
_MERGED = ("backend", "method", "url", "request_bytes", "streamed", "has_messages", "requested_model")
# fmt: off
_MERGED_OPTIONS = (
    "attempt", "status_code", "ttfb_ms", "duration_ms", "outcome", "error", "provider_error", "answer_id",
    "total_chunks", "total_bytes",
)
# fmt: on


@dataclasses.dataclass(slots=True)
class Flow:
    """One client exchange with the backend exchanges it caused.

    Attributes:
        request_id: the flow's id.
        session_id: groups the flows of one conversation or agent run.
        client: the exchange with the client; None where a script calls a backend itself.
        attempts: the exchanges with backends, in the order they began.
        client_name: for whom it was, ``127.0.0.1(Cline/1.0)``.
        spans: where its records stand: file's key to the offsets of the first record and of the end of the last.
    """

    request_id: str
    session_id: str | None = None
    client: Exchange | None = None
    attempts: list[Exchange] = dataclasses.field(default_factory=list)
    client_name: str = ""
    spans: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)

    @property
    def exchanges(self) -> list[Exchange]:
        """All exchanges, the client's first."""
        return self.attempts if self.client is None else [self.client, *self.attempts]

    def is_named(self, prefix: str) -> bool:
        """Whether its id, or the id of one of its exchanges, begins so."""
        return self.request_id.startswith(prefix) or any(one.exchange_id.startswith(prefix) for one in self.exchanges)

    @property
    def outer(self) -> Exchange:
        """The exchange that tells how the flow went: the client's, else the last attempt.

        Raises:
            IndexError: the flow has no exchange at all.
        """
        return self.attempts[-1] if self.client is None else self.client

    @property
    def started(self) -> datetime | None:
        """The moment of the first request, in UTC; None where no record says."""
        return moment_of(self.started_unix or None)

    @property
    def duration_ms(self) -> float | None:
        """Milliseconds that whoever asked waited for the end: the client's, else the last attempt's."""
        return self.outer.duration_ms

    @property
    def status_code(self) -> int | None:
        """The status code that whoever asked got."""
        return self.outer.status_code

    @property
    def outcome(self) -> str | None:
        """How it ended for whoever asked; None as long as it has not."""
        return self.outer.outcome

    @property
    def started_unix(self) -> float:
        """The moment of the first request, seconds since the epoch; 0 where no record says."""
        return min((one.started_unix for one in self.exchanges if one.started_unix is not None), default=0.0)

    @property
    def ended_unix(self) -> float:
        """The moment of the last known end, seconds since the epoch."""
        ends = [
            one.started_unix + (one.duration_ms or one.ttfb_ms or 0.0) / 1000
            for one in self.exchanges
            if one.started_unix is not None
        ]
        return max(ends, default=self.started_unix)

    @property
    def model(self) -> str | None:
        """The model that answered last, else the one that was asked for."""
        models = [one.answered_model for one in reversed(self.exchanges)]
        models += [one.requested_model for one in self.exchanges]
        return next((model for model in models if model), None)

    @property
    def backend(self) -> str:
        """The backend that was asked last, else the one that the client's exchange names."""
        return self.attempts[-1].backend if self.attempts else self.outer.backend

    @property
    def key_name(self) -> str | None:
        """The variable whose key was used last."""
        return next((one.key_name for one in reversed(self.exchanges) if one.key_name), None)

    @property
    def counted(self) -> list[Exchange]:
        """The exchanges whose usage and cost count: all attempts; the client's where no attempt is there."""
        return self.attempts or self.exchanges

    @property
    def usage(self) -> Usage | None:
        """The tokens of all attempts; as the client was told where no attempt is there."""
        total: Usage | None = None
        for one in self.counted:
            if one.usage is not None:
                total = one.usage.plus(total)
        return total

    @property
    def error_type(self) -> str | None:
        """What went wrong for whoever asked; None where it came out well, be it at the last attempt.

        An error that the last attempt names is the reason for what the client got.
        """
        if not self.outer.failed:
            return None
        last = self.attempts[-1] if self.attempts else self.outer
        return last.error_type or self.outer.error_type

    @property
    def failed(self) -> bool:
        """Whether it went wrong for whoever asked."""
        return self.outer.failed


class CountedOnce:
    """Leaves the usage of an answer to one exchange, however often the answer is read again.

    An answer is read again by a request that is no POST, or that names the answer in its URL: GET of a response made in
    the background, of a run, a batch, a stored completion; POST to cancel it. All flows are expected, in any order,
    then counted in the order they began.
    """

    def __init__(self) -> None:
        self._most: dict[tuple[str, str], int] = {}  # tokens that a read of an answer reports, by leg and answer
        self._counted: set[tuple[str, str]] = set()

    def expect(self, flow: Flow) -> None:
        """Looks for what is read."""
        for one in flow.exchanges:
            if one.answer_id is not None and one.usage is not None and _reads(one, one.answer_id):
                answer = (one.leg, one.answer_id)
                self._most[answer] = max(self._most.get(answer, 0), one.usage.total)

    def count(self, flow: Flow) -> None:
        """Takes away the usage of what is only read again: a batch that has not ended reports a part of it."""
        for one in flow.exchanges:
            if one.answer_id is None or one.usage is None or (one.leg, one.answer_id) not in self._most:
                continue
            answer = (one.leg, one.answer_id)
            if _reads(one, one.answer_id) and (answer in self._counted or one.usage.total < self._most[answer]):
                one.usage = None
            else:
                self._counted.add(answer)


def _reads(exchange: Exchange, answer_id: str) -> bool:
    """Whether an exchange reads an answer that was made before; without a record of the request it may."""
    return exchange.method != "POST" or answer_id in exchange.path.split("/")


class FlowCollector:
    """Takes records in any order, and gives the flows they tell of.

    Attributes:
        records: how many have been taken, those about the capture itself included.
        gaps: how many ``system_gap`` records were taken.
        damaged: how many lines were no records.
    """

    def __init__(self) -> None:
        self.records = 0
        self.damaged = 0
        self.gaps = 0
        self._flows: dict[str, Flow] = {}
        self._exchanges: dict[str, tuple[Flow, Exchange]] = {}

    def add(self, record: RawRecord, span: tuple[str, int, int] | None = None) -> None:
        """Takes one record; one that is not of the schema's shape is counted and left alone.

        Args:
            record: one record; the payload is looked at in responses and ends only.
            span: where it stands: the file's key, the offset, the offset of its end.
        """
        self.records += 1
        direction, metadata = record.get("direction"), record.get("metadata")
        self.gaps += direction == "system_gap"
        if not isinstance(metadata, dict) or not isinstance(record.get("timestamp_unix"), int | float):
            return
        request_id, exchange_id = metadata.get("request_id"), metadata.get("exchange_id")
        if not isinstance(request_id, str) or not isinstance(exchange_id, str) or not isinstance(direction, str):
            return
        flow, exchange = self._exchange(
            request_id, exchange_id, str(metadata.get("leg", "")), typed(metadata.get("attempt"), int)
        )
        flow.session_id = typed(record.get("session_id"), str) or flow.session_id
        if direction in REQUESTS:
            flow.client_name = flow.client_name or str(record.get("source") or "")
        if span is not None:
            _widen(flow, *span)
        exchange.add(record)

    def add_chunks(self, record: RawRecord, moments: Sequence[float], size: int, span: tuple[str, int, int]) -> None:
        """Takes chunks of one stream at once.

        Args:
            record: of one of them; the payload is not looked at.
            moments: of each, seconds since the epoch.
            size: their bytes.
            span: from the first one's offset to the last one's end.
        """
        self.records += len(moments)
        metadata = record["metadata"]
        flow, exchange = self._exchange(
            str(metadata.get("request_id")),
            str(metadata.get("exchange_id")),
            str(metadata.get("leg", "")),
            typed(metadata.get("attempt"), int),
        )
        flow.session_id = typed(record.get("session_id"), str) or flow.session_id
        _widen(flow, *span)
        exchange.add_chunks(record, moments, size)

    def merge(self, later: FlowCollector) -> None:
        """Takes what another collector made of later records, and leaves it of no more use."""
        self.records += later.records
        self.damaged += later.damaged
        self.gaps += later.gaps
        for flow in later._flows.values():
            self.add_flow(flow)

    def add_flow(self, flow: Flow) -> None:
        """Takes what later records told of one flow."""
        mine = self._flows.get(flow.request_id)
        if mine is None:
            self._flows[flow.request_id] = flow
            for exchange in flow.exchanges:
                self._exchanges[exchange.exchange_id] = (flow, exchange)
            return
        mine.session_id = flow.session_id or mine.session_id
        mine.client_name = mine.client_name or flow.client_name
        for key, (start, end) in flow.spans.items():
            _widen(mine, key, start, end)
        for exchange in flow.exchanges:
            self._exchange(flow.request_id, exchange.exchange_id, exchange.leg, exchange.attempt)[1].merge(exchange)

    @property
    def flow_count(self) -> int:
        """How many flows there are."""
        return len(self._flows)

    @property
    def flows(self) -> list[Flow]:
        """The flows, in the order they began; their attempts as well."""
        for flow in self._flows.values():
            flow.attempts.sort(key=lambda one: (one.attempt or 0, one.started_unix or 0.0))
        flows = sorted(self._flows.values(), key=lambda flow: (flow.started_unix, flow.request_id))
        once = CountedOnce()
        for flow in flows:
            once.expect(flow)
        for flow in flows:
            once.count(flow)
        return flows

    def _exchange(self, request_id: str, exchange_id: str, leg: str, attempt: int | None) -> tuple[Flow, Exchange]:
        known = self._exchanges.get(exchange_id)
        if known is not None:
            return known
        flow = self._flows.get(request_id)
        if flow is None:
            flow = self._flows[request_id] = Flow(request_id)
        exchange = Exchange(exchange_id, leg, attempt)
        self._exchanges[exchange_id] = (flow, exchange)
        if leg == CLIENT:
            flow.client = exchange
        else:
            flow.attempts.append(exchange)
        return flow, exchange


def _widen(flow: Flow, key: str, start: int, end: int) -> None:
    known = flow.spans.get(key)
    flow.spans[key] = (start, end) if known is None else (min(known[0], start), max(known[1], end))


def _milliseconds(value: object) -> float | None:
    return value if isinstance(value, int | float) else None
