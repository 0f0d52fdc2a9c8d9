"""What the records of every exchange have in common, whatever its protocol.

Invariants: the request's record comes before every other, and the end's last; nothing goes into a record that has not
been through the gate.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from otel_wirecap.capture.body import BodyCollector, RecordedBody, record_body
from otel_wirecap.capture.events import CAPTURE_FAILURE
from otel_wirecap.capture.facts import ExchangeFacts
from otel_wirecap.capture.identity import KeyNames, credentials, session_of
from otel_wirecap.capture.record import ChunkRun, Payload, Record
from otel_wirecap.capture.url import url_parts
from otel_wirecap.llm.answers import answer_of
from otel_wirecap.llm.dialects.interface import Answer, Parameters
from otel_wirecap.llm.providers import backend_name
from otel_wirecap.llm.requests import asks_for_stream, operation_of, parameters_of, requested_model

if TYPE_CHECKING:
    from otel_wirecap.capture.events import (
        End,
        ErrorInfo,
        ExchangeHead,
        RequestHead,
        ResponseHead,
        WebsocketMessage,
    )
    from otel_wirecap.capture.flow import FlowRecording
    from otel_wirecap.capture.redaction.gate import Gate

PROXY = "proxy"
UNKNOWN_BACKEND = "client"
"""What the schema calls the backend on the client leg as long as none is known."""

MAX_ERROR_TEXT = 2000
MAX_IDENTITY_TEXT = 256


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RecordingSettings:
    """What the recording of exchanges is told once."""

    max_payload_bytes: int
    max_held_bytes: int
    assemble_streams: bool
    session_headers: tuple[str, ...]
    backends: dict[str, str]


@dataclasses.dataclass(slots=True)
class Recording:
    """What all recordings of a process share.

    Attributes:
        gate: what everything that leaves goes through.
        write: takes finished records, ``write_run`` runs of chunks.
        send_back: takes an exchange's id and each of its records that has its number, where that is wanted.
    """

    settings: RecordingSettings
    gate: Gate
    key_names: KeyNames
    salt: bytes
    write: Callable[[Record], None]
    write_run: Callable[[ChunkRun], None]
    send_back: Callable[[str, Record], None]
    pause: Callable[[], None]


class ExchangeRecording(ABC):
    """One exchange on its way into the capture. Owned by the recorder."""

    LOST: ClassVar = "lost_chunks"

    __slots__ = (
        "_about",
        "_answer",
        "_asked",
        "_asker",
        "_base",
        "_credential",
        "_fingerprint",
        "_first_chunk_ns",
        "_head",
        "_headers",
        "_operation",
        "_parameters",
        "_requested_model",
        "_response",
        "_response_headers",
        "_shared",
        "_told_request",
        "_ttfb_ms",
        "_url",
        "_wants_stream",
        "answered_model",
        "backend",
        "exchange_id",
        "flow",
        "key_name",
        "request_complete",
        "request_incomplete",
        "request_recorded",
    )

    def __init__(
        self, shared: Recording, exchange_id: str, about: ExchangeHead, flow: FlowRecording, head: RequestHead
    ) -> None:
        self._shared = shared
        self.exchange_id = exchange_id
        self._about = about
        self.flow = flow
        self._head = head
        self._headers = text_headers(head.headers)
        self.request_complete = head.body is not None
        self.request_incomplete: str | None = None
        self.request_recorded = False
        self._asker, self._asked = PROXY, PROXY
        self._base: dict[str, Any] = {}
        self._url = url_parts(head.url)
        sent = credentials(self._headers, self._url.query)
        self._credential = sent[0] if sent else None
        self._fingerprint = shared.key_names.fingerprint(self._credential) if self._credential else ""
        shared.gate.learn(sent)
        flow.add_credentials(sent)
        flow.add_credentials(shared.gate.named_secrets(self._headers, self._url.query))
        self.backend = UNKNOWN_BACKEND
        self.key_name: str | None = None
        self._requested_model: str | None = None
        self._wants_stream = False
        self.answered_model: str | None = None
        self._response: ResponseHead | None = None
        self._response_headers: list[tuple[str, str]] = []
        self._ttfb_ms: float | None = None
        self._told_request: tuple[str, str] | None = None
        self._operation: str | None = None
        self._parameters: Parameters | None = None
        self._answer: Answer | None = None
        self._first_chunk_ns: int | None = None
        if about.leg == "client":
            flow.client_recording = self
            self._meet_client()

    @property
    def is_client(self) -> bool:
        """Whether this is the exchange between client and proxy."""
        return self._about.leg == "client"

    @property
    def wants_end(self) -> bool:
        """Whether somebody is to be answered when it has ended."""
        return self._about.wants_end

    # -- what happens, in the order in which it does --------------------------------------------------------------

    def request_chunk(self, data: bytes) -> None:
        """Bytes of the request's body; only over HTTP."""
        raise NotImplementedError

    def request_restart(self) -> None:
        """The request's body comes anew; only over HTTP."""
        raise NotImplementedError

    @abstractmethod
    def record_request(self) -> None:
        """Makes what is to be made of the request as it is now; once."""

    def response(self, now_ns: int, head: ResponseHead) -> None:
        """The response begins."""
        self._response = head
        self._response_headers = text_headers(head.headers)
        self._ttfb_ms = self._milliseconds(now_ns)

    @abstractmethod
    def chunk(self, now_ns: int, data: bytes) -> None:
        """Bytes of the response's body."""

    def message(self, now_ns: int, message: WebsocketMessage) -> None:
        """A message, or a part of one; only on a websocket."""
        raise NotImplementedError

    def end(self, now_ns: int, end: End) -> ExchangeFacts:
        """The exchange is over: writes its last record or records.

        Returns:
            What was learned of the exchange, its outcome alone where nobody waits for more.
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
            metadata[self.LOST] = end.lost_chunks
        self._record_end(now_ns, end, metadata, counts)
        if not end.wants_end:
            return ExchangeFacts(outcome=end.outcome)
        return self._facts(end, metadata.get("error"))

    def _facts(self, end: End, error: dict[str, str] | None) -> ExchangeFacts:
        head, response = self._head, self._response
        url, agent = self._told_request or (None, None)
        version = response.http_version if response is not None else None
        facts = ExchangeFacts(
            outcome=end.outcome,
            error_type=error["type"] if error else None,
            error=error["message"] if error else None,
            method=self._clean(head.method),
            url=url,
            http_version=self._clean(version or head.http_version),
            user_agent=agent or None,
            client_host=self._clean(head.client_host),
            websocket=head.websocket,
            status_code=response.status_code if response is not None else None,
            backend=None if self.is_client else self.backend,
            key_name=self.key_name,
            session_id=self.flow.session_id,
            session_source=self.flow.session_source,
            requested_model=self._requested_model,
            answered_model=self.answered_model,
            operation=self._operation,
            parameters=self._parameters,
            wants_stream=self._wants_stream,
            answer=self._answer,
            first_chunk_ns=self._first_chunk_ns,
        )
        return self._shared.gate.facts(facts, self.flow.credentials)

    def record_failure(self) -> None:
        """The capture of this exchange failed: its end is told, nothing of its content."""
        if not self._base:
            self._base = self._base_metadata()
        self.flow.session_id = self.flow.session_id or self.flow.id
        failure = CAPTURE_FAILURE._asdict()
        self._record_failure({**self._base, "outcome": "error", "error": failure, "incomplete": "withheld"})

    def write_chunks(self, *, now_ns: int = 0, since_ns: int = 0) -> None:  # noqa: B027  # most have none
        """Writes the chunks that were kept to be redacted together.

        ``now_ns`` tells how long others have waited; those that came until ``since_ns`` wait for nothing any more.
        """

    @property
    def unredacted_chunks(self) -> int:
        """Chunks that are kept to be redacted together."""
        return 0

    @property
    def held_chunks(self) -> int:
        """Chunks, or messages, of which there is no record yet."""
        return 0

    @property
    def has_waiting(self) -> bool:
        """Whether there is something that is written when enough time has passed."""
        return False

    @property
    @abstractmethod
    def held_bytes(self) -> int:
        """Bytes of bodies that are being collected."""

    @abstractmethod
    def _record_end(self, now_ns: int, end: End, metadata: dict[str, Any], counts: dict[str, int]) -> None:
        """Writes the last records; ``metadata`` is what every end tells."""

    @abstractmethod
    def _record_failure(self, metadata: dict[str, Any]) -> None:
        """Writes the records that are still owed, with ``metadata`` and no content."""

    # -- who asks whom, and with what ------------------------------------------------------------------------------

    def _request_metadata(self, counts: dict[str, int]) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "method": self._clean(self._head.method),
            "url": self._told_url(self._head.url, counts),
        }
        if self._head.http_version is not None:
            facts["http_version"] = self._head.http_version
        facts["headers"] = self._told_headers(self._headers, counts)
        if self._head.decoded:
            facts["content_encoding"] = header(self._headers, "content-encoding")
        if self._head.redirect_of is not None:
            facts["redirect_of"] = self._head.redirect_of
        if self._credential and self.key_name is None:
            facts["credential"] = self._fingerprint
        self._told_request = facts["url"], header(facts["headers"], "user-agent")
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
        self._requested_model = annotated.get("model") or self._told_identifier(requested_model(self._url.path, body))
        self._wants_stream = asks_for_stream(self._url.path, self._url.query, body)
        if self.is_client:
            self.backend = annotated.get("backend") or UNKNOWN_BACKEND
        else:
            port = self._url.port or (443 if self._url.scheme == "https" else 80)
            known = self._shared.settings.backends
            self.backend = annotated.get("backend") or backend_name(self._url.host, port, known)
            flow.backend = self.backend
            if self._head.method == "POST":
                self._operation = operation_of(self._url.path, body)
            if self._operation is not None:
                self._parameters = parameters_of(self._url.path, body)
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
        about = self._about
        base: dict[str, Any] = {
            "leg": about.leg,
            "request_id": self.flow.id,
            "exchange_id": self.exchange_id,
        }
        if about.attempt is not None:
            base["attempt"] = about.attempt
        base["trace_id"] = about.trace_id
        base["span_id"] = about.span_id
        base |= self.flow.client_metadata
        if self.is_client:
            client_request_id = self._clean(header(self._headers, "x-request-id"))
            if client_request_id:
                base["client_request_id"] = client_request_id
        return base

    def _response_metadata(self, counts: dict[str, int]) -> dict[str, Any]:
        response = self._response
        if response is None:
            return {}
        facts: dict[str, Any] = {"status_code": response.status_code}
        if response.reason:
            facts["reason"] = self._told_reason(response.status_code, response.reason, counts)
        if response.http_version is not None and not self.is_client:
            facts["http_version"] = response.http_version
        facts["headers"] = self._told_headers(self._response_headers, counts)
        if response.decoded:
            facts["content_encoding"] = header(self._response_headers, "content-encoding")
        if response.request_headers is not None:
            facts["request_headers"] = self._told_headers(text_headers(response.request_headers), counts)
        return facts

    # -- what records are made with --------------------------------------------------------------------------------

    def _learn_model(self, model: str | None) -> None:
        if model is not None and self.answered_model is None:
            self.answered_model = self._told_identifier(model)

    def _learn_answer(self, body: object) -> None:
        """What an answer, parsed, says of itself; only where a model was asked by us."""
        if self._operation is not None:
            answer = answer_of(body)
            reasons = tuple(self._told_identifier(reason) or "" for reason in answer.finish_reasons)
            self._answer = Answer(self._told_identifier(answer.id), reasons, answer.usage)

    def _milliseconds(self, now_ns: int) -> float:
        return round((now_ns - self._about.began_ns) / 1e6, 3)

    def _clean(self, text: str | None) -> str | None:
        """A short text that a client or a provider gave, fit to stand in an envelope."""
        if text is None:
            return None
        return self._shared.gate.label(text, {}, self.flow.credentials)[:MAX_IDENTITY_TEXT]

    def _error(self, error: ErrorInfo, counts: dict[str, int]) -> dict[str, str]:
        return {"type": error.type, "message": self._told_text(error.message, counts)}

    def _told_text(self, text: str, counts: dict[str, int]) -> str:
        text = text.encode("utf-8", "replace").decode()
        return self._shared.gate.error_text(text, counts, self.flow.credentials)[:MAX_ERROR_TEXT]

    def _told_close_reason(self, reason: str, counts: dict[str, int]) -> str:
        reason = reason.encode("utf-8", "replace").decode()
        return self._shared.gate.close_reason(reason, counts, self.flow.credentials)[:MAX_IDENTITY_TEXT]

    def _told_name(self, name: str, counts: dict[str, int]) -> str:
        return self._shared.gate.name(name, counts, self.flow.credentials)[:MAX_ERROR_TEXT]

    def _told_reason(self, status_code: int, reason: str, counts: dict[str, int]) -> str:
        return self._shared.gate.reason(status_code, reason, counts, self.flow.credentials)[:MAX_IDENTITY_TEXT]

    def _told_identifier(self, text: str | None) -> str | None:
        return self._shared.gate.name(text, {}, self.flow.credentials)[:MAX_IDENTITY_TEXT] if text else text

    def _told_url(self, url: str, counts: dict[str, int]) -> str:
        return self._shared.gate.url(url, counts, self.flow.credentials)

    def _told_headers(self, headers: list[tuple[str, str]], counts: dict[str, int]) -> list[list[str]]:
        return self._shared.gate.headers(headers, counts, self.flow.credentials)

    def _recorded(
        self, body: BodyCollector, content_type: str, content_encoding: str, incomplete: str | None, *,
        as_text: bool = False,
    ) -> RecordedBody:  # fmt: skip
        return record_body(
            body,
            self._shared.gate,
            self.flow.credentials,
            content_type=content_type,
            content_encoding=content_encoding,
            incomplete=incomplete,
            as_text=as_text,
            pause=self._shared.pause,
        )

    def _write(
        self,
        direction: str,
        now_ns: int,
        length: int,
        payload: Payload,
        metadata: dict[str, Any],
        counts: dict[str, int],
        *,
        asking: bool = False,
    ) -> None:
        """Writes a record: from who asks to who is asked if ``asking``, else the other way."""
        record = self._record(direction, now_ns, length, payload, metadata, counts, asking=asking)
        self._shared.write(record)
        if self._about.wants_records:
            self._shared.send_back(self.exchange_id, record)

    def _write_run(
        self, direction: str, times_ns: list[int], payloads: list[str], lengths: list[int], first_chunk_number: int
    ) -> None:
        """Writes chunks that follow each other and of which there is nothing special to tell."""
        metadata = {**self._base, "chunk_bytes": 0, "chunk_number": first_chunk_number}
        common = self._record(direction, 0, 0, "", metadata, {})
        run = ChunkRun(common, [common.time_ns + now_ns for now_ns in times_ns], payloads, lengths, first_chunk_number)
        self._shared.write_run(run)

    def _record(
        self,
        direction: str,
        now_ns: int,
        length: int,
        payload: Payload,
        metadata: dict[str, Any],
        counts: dict[str, int],
        *,
        asking: bool = False,
    ) -> Record:
        flow = self.flow
        metadata["session_source"] = flow.session_source
        if flow.annotations:
            metadata = {**flow.annotations, **metadata}
        if counts:
            metadata["redactions"] = counts
        about = self._about
        source, destination = (self._asker, self._asked) if asking else (self._asked, self._asker)
        return Record(
            time_ns=about.began_unix_ns + now_ns - about.began_ns,
            direction=direction,
            source=source,
            destination=destination,
            session_id=flow.session_id,
            backend=(flow.backend if self.is_client else None) or self.backend,
            model=self.answered_model or self._requested_model,
            key_name=self.key_name,
            content_length=length,
            payload=payload,
            metadata=metadata,
        )


def text_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Headers as text: each byte a character, so that none is lost."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def header(headers: Iterable[Sequence[str]], name: str) -> str:
    """The first value of a header, "" where it is not there. ``name`` in lower case."""
    return next((value for key, value in headers if key.lower() == name), "")
