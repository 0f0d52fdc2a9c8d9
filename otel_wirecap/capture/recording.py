"""The records of one exchange, made from its payload events.

Invariants: the request's record comes before every other; a stream has one start and one end around its numbered
chunks, everything else one response; nothing goes into a record that has not been through the redactor.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import orjson

from otel_wirecap.capture.body import (
    NOT_JSON,
    BodyCollector,
    RecordedBody,
    record_body,
    redact_json,
    redact_text,
)
from otel_wirecap.capture.identity import KeyNames, credentials, session_of
from otel_wirecap.capture.record import Payload, RawJSON, Record
from otel_wirecap.capture.redaction.spans import MARKER
from otel_wirecap.capture.streams import BINARY_TYPES, STREAM_TYPES, StreamDecoder, StreamReader
from otel_wirecap.llm.providers import answered_model, asks_for_stream, backend_name, requested_model

if TYPE_CHECKING:
    from otel_wirecap.capture.events import End, ErrorInfo, RequestHead, ResponseHead, WebsocketMessage
    from otel_wirecap.capture.exchange import Exchange
    from otel_wirecap.capture.flow import FlowRecording
    from otel_wirecap.capture.redaction.redactor import Redactor
    from otel_wirecap.llm.assembly import ProviderError

PROXY = "proxy"
UNKNOWN_BACKEND = "client"
"""What the schema calls the backend on the client leg as long as none is known."""

MAX_ERROR_TEXT = 2000
MAX_IDENTITY_TEXT = 256
SUCCESS = range(200, 300)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RecordingSettings:
    """What the recording of exchanges is told once."""

    max_payload_bytes: int
    assemble_streams: bool
    session_headers: tuple[str, ...]
    backends: dict[str, str]


@dataclasses.dataclass(slots=True)
class Recording:
    """What all recordings of a process share."""

    settings: RecordingSettings
    redactor: Redactor
    key_names: KeyNames
    salt: bytes
    write: Callable[[Record], None]


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


class ExchangeRecording:
    """One exchange on its way into the capture. Owned by the recorder."""

    __slots__ = (
        "_asked",
        "_asker",
        "_base",
        "_body",
        "_chunk_number",
        "_credential",
        "_directions",
        "_exchange",
        "_fingerprint",
        "_head",
        "_headers",
        "_reader",
        "_request_body",
        "_request_encoding",
        "_requested_model",
        "_response",
        "_response_encoding",
        "_response_type",
        "_shared",
        "_stream",
        "_ttfb_ms",
        "_url",
        "_wants_stream",
        "answered_model",
        "backend",
        "flow",
        "key_name",
        "request_complete",
        "request_incomplete",
        "request_recorded",
    )

    def __init__(self, shared: Recording, exchange: Exchange, flow: FlowRecording, head: RequestHead) -> None:
        self._shared = shared
        self._exchange = exchange
        self.flow = flow
        self._head = head
        self._headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers]
        self._request_encoding = "" if head.decoded else header(self._headers, "content-encoding")
        self._request_body = BodyCollector(shared.settings.max_payload_bytes, self._request_encoding)
        if head.body:
            self._request_body.add(head.body)
        self.request_complete = head.body is not None
        self.request_incomplete: str | None = None
        self.request_recorded = False
        self._directions = _DIRECTIONS[exchange.leg]
        self._asker, self._asked = PROXY, PROXY
        self._base: dict[str, Any] = {}
        self._url = urlsplit(head.url)
        sent = credentials(self._headers, self._url.query)
        self._credential = sent[0].value if sent else None
        self._fingerprint = shared.key_names.fingerprint(self._credential) if self._credential else ""
        flow.add_credentials([credential.value for credential in sent])
        self.backend = UNKNOWN_BACKEND
        self.key_name: str | None = None
        self._requested_model: str | None = None
        self._wants_stream = False
        self.answered_model: str | None = None
        self._response: ResponseHead | None = None
        self._response_type = ""
        self._response_encoding = ""
        self._ttfb_ms: float | None = None
        self._body: BodyCollector | None = None
        self._stream: StreamDecoder | None = None
        self._reader: StreamReader | None = None
        self._chunk_number = 0
        if exchange.leg == "client":
            flow.client_recording = self
            self._meet_client()

    @property
    def held_bytes(self) -> int:
        """Bytes of bodies that are being collected."""
        return self._request_body.kept + (self._body.kept if self._body is not None else 0)

    @property
    def exchange_id(self) -> str:
        """The exchange's id."""
        return self._exchange.id

    @property
    def is_client(self) -> bool:
        """Whether this is the exchange between client and proxy."""
        return self._exchange.leg == "client"

    # -- the request ---------------------------------------------------------------------------------------------

    def request_chunk(self, data: bytes) -> None:
        """Bytes of the request's body."""
        if not self.request_recorded:
            self._request_body.add(data)

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
        body = self._recorded(
            self._request_body,
            counts,
            incomplete,
            header(self._headers, "content-type"),
            self._request_encoding,
        )
        self._identify(None if body.value is NOT_JSON else body.value)
        metadata = self._base | self._request_metadata(counts) | body.metadata
        self.request_recorded = True
        self._write(
            self._directions.request, self._exchange.began_ns, self._requested_model, body.length, body.payload,
            metadata, counts,
        )  # fmt: skip
        self._request_body.clear()

    def _request_metadata(self, counts: dict[str, int]) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "method": self._head.method,
            "url": self._shared.redactor.url(self._head.url, counts, self.flow.credentials),
        }
        if self._head.http_version is not None:
            facts["http_version"] = self._head.http_version
        facts["headers"] = self._shared.redactor.headers(self._headers, counts, self.flow.credentials)
        if self._head.decoded:
            facts["content_encoding"] = header(self._headers, "content-encoding")
        if self._head.redirect_of is not None:
            facts["redirect_of"] = self._head.redirect_of
        if self._credential and self.key_name is None:
            facts["credential"] = self._fingerprint
        return facts

    def find_session(self, body: object) -> None:
        """Finds the flow's session, once, by the schema's rules; ``body`` is the parsed JSON body, or None."""
        flow = self.flow
        if flow.session_id is not None:
            return
        session_id, flow.session_source = session_of(
            self._headers,
            body,
            session_headers=self._shared.settings.session_headers,
            client_host=self._head.client_host,
            user_agent=header(self._headers, "user-agent"),
            credential_fingerprint=self._fingerprint,
            flow_id=flow.id,
            salt=self._shared.salt,
        )
        flow.session_id = self._clean(session_id)

    def _identify(self, body: object) -> None:
        """Finds out session, backend, model and key name, now that the request is known."""
        flow = self.flow
        annotated = flow.identity
        client = flow.client_recording
        if client is not None and client is not self:
            client.find_session(None)  # only where its body is still on the way
        self.find_session(body)
        self.key_name = annotated.get("key_name")
        if self.key_name is None and self._credential:
            self.key_name = self._shared.key_names.name_of(self._credential)
        self._requested_model = annotated.get("model") or self._clean(requested_model(self._url.path, body))
        self._wants_stream = asks_for_stream(self._url.path, self._url.query, body)
        if self.is_client:
            self.backend = annotated.get("backend") or UNKNOWN_BACKEND
        else:
            port = self._url.port or (443 if self._url.scheme == "https" else 80)
            known = self._shared.settings.backends
            self.backend = annotated.get("backend") or backend_name(self._url.hostname or "", port, known)
            flow.backend = self.backend
        self._asker = flow.client or PROXY
        self._asked = PROXY if self.is_client else self.backend
        self._base = self._base_metadata()

    def _meet_client(self) -> None:
        """Takes from the client's request what every record of the flow says of the client."""
        host = self._head.client_host or ""
        agent = self._clean(header(self._headers, "user-agent")) or ""
        self.flow.client = f"{host}({agent})" if agent else host or "unknown"
        facts: dict[str, Any] = {}
        if host:
            facts["client_host"] = host
        if agent:
            facts["user_agent"] = agent
        self.flow.client_metadata = facts

    def _base_metadata(self) -> dict[str, Any]:
        exchange = self._exchange
        base: dict[str, Any] = {
            "leg": exchange.leg,
            "request_id": self.flow.id,
            "exchange_id": exchange.id,
        }
        if exchange.attempt is not None:
            base["attempt"] = exchange.attempt
        base["trace_id"] = exchange.trace_id
        base["span_id"] = exchange.span_id
        base |= self.flow.client_metadata
        if self.is_client:
            client_request_id = self._clean(header(self._headers, "x-request-id"))
            if client_request_id:
                base["client_request_id"] = client_request_id
        return base

    def _expects_body(self) -> bool:
        length = header(self._headers, "content-length")
        return bool(header(self._headers, "transfer-encoding")) or length not in ("", "0")

    # -- the response --------------------------------------------------------------------------------------------

    def response(self, now_ns: int, head: ResponseHead) -> None:
        """The response begins: a stream's start is written, a body's collection begins."""
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers]
        self._response = head
        self._ttfb_ms = self._milliseconds(now_ns)
        self._response_type = header(headers, "content-type").partition(";")[0].strip().lower()
        self._response_encoding = "" if head.decoded else header(headers, "content-encoding")
        settings = self._shared.settings
        is_stream = self._response_type in STREAM_TYPES or (
            self._wants_stream and head.status_code in SUCCESS and self._head.method != "HEAD"
        )
        if not is_stream:
            self._body = BodyCollector(settings.max_payload_bytes, self._response_encoding)
            return
        self._stream = StreamDecoder(
            binary=self._response_type in BINARY_TYPES, content_encoding=self._response_encoding
        )
        if self._response_type == "text/event-stream":
            self._reader = StreamReader(
                assemble=settings.assemble_streams and not self.is_client,
                max_bytes=settings.max_payload_bytes,
            )
        counts: dict[str, int] = {}
        metadata = {**self._base, **self._response_metadata(counts), "ttfb_ms": self._ttfb_ms}
        if self._stream.compressed:
            metadata["content_encoding"] = self._response_encoding
        self._write(self._directions.stream_start, now_ns, self._model(), 0, None, metadata, counts)

    def chunk(self, now_ns: int, data: bytes) -> None:
        """Bytes of the response's body: a chunk of the stream, or a part of the body."""
        if self._stream is None:
            if self._body is not None:
                self._body.add(data)
            return
        decoded = self._stream.decode(data)
        counts: dict[str, int] = {}
        self._chunk_number += 1
        metadata = {**self._base, "chunk_number": self._chunk_number}
        payload: Payload
        if decoded is None:
            metadata |= {"chunk_bytes": 0, "wire_length": len(data), "incomplete": "undecodable"}
            payload, length = None, 0
        else:
            metadata["chunk_bytes"] = len(decoded)
            if self._stream.compressed:
                metadata["wire_length"] = len(data)
            if self._reader is not None:
                self._reader.feed(decoded)
                self._learn_model(self._reader.model)
            content = self._stream.payload(decoded)
            length = len(content) if isinstance(content, bytes) else len(content.encode())
            payload = self._redacted_chunk(content, counts, metadata)
        self._write(self._directions.stream_chunk, now_ns, self._model(), length, payload, metadata, counts)

    def message(self, now_ns: int, message: WebsocketMessage) -> None:
        """A message passes; only on a websocket."""
        raise NotImplementedError

    def end(self, now_ns: int, end: End) -> dict[str, object]:
        """The exchange is over: writes its last record or records.

        Returns:
            What was learned of the exchange, as OpenTelemetry attribute values by metadata name.
        """
        metadata: dict[str, Any] = {}
        if self._ttfb_ms is not None:
            metadata["ttfb_ms"] = self._ttfb_ms
        metadata["duration_ms"] = self._milliseconds(now_ns)
        metadata["outcome"] = end.outcome
        counts: dict[str, int] = {}
        if end.error is not None:
            metadata["error"] = self._error(end.error, counts)
        if end.lost_chunks:
            metadata["incomplete"] = "dropped"
            metadata["lost_chunks"] = end.lost_chunks
        self._record_end(now_ns, end, metadata, counts)
        facts: dict[str, object] = {"outcome": end.outcome, "backend": self.backend}
        if self.flow.session_id:
            facts["session_id"] = self.flow.session_id
        if self._requested_model:
            facts["requested_model"] = self._requested_model
        if self.answered_model:
            facts["answered_model"] = self.answered_model
        if "error" in metadata:
            facts["error"] = metadata["error"]["message"]
            facts["error_type"] = metadata["error"]["type"]
        if self._response is not None:
            facts["status_code"] = self._response.status_code
        return facts

    def _record_end(self, now_ns: int, end: End, metadata: dict[str, Any], counts: dict[str, int]) -> None:
        if self._stream is None:
            self._end_response(now_ns, end, metadata, counts)
        else:
            self._end_stream(now_ns, self._stream, metadata, counts)

    def record_failure(self) -> None:
        """The capture of this exchange failed: its end is told, nothing of its content."""
        if not self._base:
            self._base = self._base_metadata()
        self.flow.session_id = self.flow.session_id or self.flow.id
        failure = {
            "type": "CaptureFailure",
            "message": "the capture of this exchange failed and was turned off",
        }
        metadata = {**self._base, "outcome": "error", "error": failure, "incomplete": "withheld"}
        directions = self._directions
        if not self.request_recorded:
            self.request_recorded = True
            self._write(directions.request, self._exchange.began_ns, None, 0, None, dict(metadata), {})
        direction = directions.response if self._stream is None else directions.stream_end
        self._write(direction, self._exchange.began_ns, None, 0, None, metadata, {})

    def _end_response(self, now_ns: int, end: End, facts: dict[str, Any], counts: dict[str, int]) -> None:
        body: RecordedBody | None = None
        metadata = dict(self._base)
        if self._response is not None and self._body is not None:
            metadata |= self._response_metadata(counts)
            body = self._recorded(self._body, counts, self._missing(end), self._response_type, self._response_encoding)
            if body.value is not NOT_JSON:
                self._learn_model(answered_model(body.value))
            metadata |= body.metadata
        payload, length = (None, 0) if body is None else (body.payload, body.length)
        model = self._model()
        self._write(self._directions.response, now_ns, model, length, payload, metadata | facts, counts)
        self._body = None

    def _end_stream(self, now_ns: int, stream: StreamDecoder, facts: dict[str, Any], counts: dict[str, int]) -> None:
        rest = stream.rest()
        if rest:
            self._chunk_number += 1
            extra = {**self._base, "chunk_number": self._chunk_number, "chunk_bytes": 0}
            rest_counts: dict[str, int] = {}
            payload = self._redacted_chunk(rest, rest_counts, extra)
            self._write(self._directions.stream_chunk, now_ns, self._model(), len(rest), payload, extra, rest_counts)
        message: dict[str, Any] | None = None
        if self._reader is not None:
            message = self._reader.close()
            self._learn_model(self._reader.model)
            if self._reader.error is not None and "error" not in facts:
                facts["error"] = self._provider_error(self._reader.error, counts)
        if stream.compressed:
            facts["content_encoding"] = self._response_encoding
            facts["wire_length"] = stream.wire_length
        if stream.undecodable:
            facts["incomplete"] = "undecodable"
        total = orjson.dumps({"total_bytes": stream.total_bytes, "total_chunks": self._chunk_number})
        self._write(
            self._directions.stream_end, now_ns, self._model(), len(total), RawJSON(total),
            {**self._base, **facts}, counts,
        )  # fmt: skip
        if message is not None:
            self._record_assembled(now_ns, message, facts)

    def _record_assembled(self, now_ns: int, message: dict[str, Any], facts: dict[str, Any]) -> None:
        content = orjson.dumps(message)
        counts: dict[str, int] = {}
        metadata = {**self._base, "status_code": self._status(), **facts, "assembled": True}
        payload: Payload
        try:
            payload = redact_json(content, self._shared.redactor, counts, self.flow.credentials)
        except Exception:  # noqa: BLE001  # fail closed
            payload, counts = None, {"withheld": 1}
            metadata["incomplete"] = "withheld"
        self._write("inbound_response", now_ns, self._model(), len(content), payload, metadata, counts)

    def _status(self) -> int | None:
        return self._response.status_code if self._response is not None else None

    def _response_metadata(self, counts: dict[str, int]) -> dict[str, Any]:
        response = self._response
        if response is None:
            return {}
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers]
        facts: dict[str, Any] = {"status_code": response.status_code}
        if response.reason:
            facts["reason"] = self._clean(response.reason)
        if response.http_version is not None and not self.is_client:
            facts["http_version"] = response.http_version
        facts["headers"] = self._shared.redactor.headers(headers, counts, self.flow.credentials)
        if response.decoded:
            facts["content_encoding"] = header(headers, "content-encoding")
        if response.request_headers is not None:
            sent = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.request_headers]
            facts["request_headers"] = self._shared.redactor.headers(sent, counts, self.flow.credentials)
        return facts

    def _missing(self, end: End) -> str | None:
        """Why the collected response body is not all there; None when it is."""
        response, body = self._response, self._body
        if response is None or body is None or end.outcome == "complete":
            return "dropped" if end.lost_chunks else None
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers]
        if header(headers, "content-length") == str(body.wire_length) or self._head.method == "HEAD":
            return None  # everything was there, only the reader did not ask for the end
        return "not_read" if end.outcome in {"closed", "abandoned"} else "cut"

    # -- shared --------------------------------------------------------------------------------------------------

    def _model(self) -> str | None:
        return self.answered_model or self._requested_model

    def _learn_model(self, model: str | None) -> None:
        if model is not None and self.answered_model is None:
            self.answered_model = self._clean(model)

    def _milliseconds(self, now_ns: int) -> float:
        return round((now_ns - self._exchange.began_ns) / 1e6, 3)

    def _clean(self, text: str | None) -> str | None:
        """A short text that a client or a provider gave, fit to stand in an envelope; the marker where that fails."""
        if text is None:
            return None
        try:
            return self._shared.redactor.text(text, {}, self.flow.credentials)[:MAX_IDENTITY_TEXT]
        except Exception:  # noqa: BLE001  # fail closed
            return MARKER

    def _error(self, error: ErrorInfo, counts: dict[str, int]) -> dict[str, str]:
        text = error.message.encode("utf-8", "replace").decode()
        return {
            "type": error.type,
            "message": self._shared.redactor.text(text, counts, self.flow.credentials)[:MAX_ERROR_TEXT],
        }

    def _provider_error(self, error: ProviderError, counts: dict[str, int]) -> dict[str, str]:
        redact = self._shared.redactor.text
        told = {
            "type": "provider",
            "message": redact(error.message or "", counts, self.flow.credentials)[:MAX_ERROR_TEXT],
        }
        for name, value in (("provider_type", error.type), ("provider_code", error.code)):
            if value is not None:
                told[name] = redact(value, counts, self.flow.credentials)[:MAX_ERROR_TEXT]
        return told

    def _recorded(
        self,
        body: BodyCollector,
        counts: dict[str, int],
        incomplete: str | None,
        content_type: str,
        content_encoding: str,
    ) -> RecordedBody:
        return record_body(
            body,
            content_type=content_type,
            content_encoding=content_encoding,
            incomplete=incomplete,
            redactor=self._shared.redactor,
            counts=counts,
            credentials=self.flow.credentials,
        )

    def _redacted_chunk(self, content: str | bytes, counts: dict[str, int], metadata: dict[str, Any]) -> Payload:
        try:
            return redact_text(content, self._shared.redactor, counts, self.flow.credentials)
        except Exception:  # noqa: BLE001  # fail closed: what could not be redacted is not written
            counts["withheld"] = 1
            metadata["incomplete"] = "withheld"
            return None

    def _write(
        self,
        direction: str,
        now_ns: int,
        model: str | None,
        length: int,
        payload: Payload,
        metadata: dict[str, Any],
        counts: dict[str, int],
        *,
        asking: bool = False,
    ) -> None:
        flow = self.flow
        metadata["session_source"] = flow.session_source
        if flow.annotations:
            metadata = {**flow.annotations, **metadata}
        if counts:
            metadata["redactions"] = counts
        exchange = self._exchange
        source, destination, backend = self._asker, self._asked, self.backend
        if direction is not self._directions.request:
            if not asking:
                source, destination = destination, source
            if exchange.leg == "client" and flow.backend is not None:
                backend = flow.backend
        self._shared.write(
            Record(
                time_ns=exchange.began_unix_ns + now_ns - exchange.began_ns,
                direction=direction,
                source=source,
                destination=destination,
                session_id=flow.session_id,
                backend=backend,
                model=model,
                key_name=self.key_name,
                content_length=length,
                payload=payload,
                metadata=metadata,
            )
        )


def header(headers: list[tuple[str, str]], name: str) -> str:
    """The first value of a header, "" where it is not there. ``name`` in lower case."""
    return next((value for key, value in headers if key.lower() == name), "")
