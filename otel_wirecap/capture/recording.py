"""What the records of every exchange have in common, whatever its protocol.

Invariants: the request's record comes before every other, and the end's last; nothing goes into a record that has not
been through the gate.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from otel_wirecap.capture.context import RecordingContext
from otel_wirecap.capture.events import CAPTURE_FAILURE
from otel_wirecap.capture.facts import ExchangeFacts
from otel_wirecap.capture.flow_gate import FlowGate
from otel_wirecap.capture.identity import ExchangeIdentity, header, text_headers
from otel_wirecap.capture.record import CaptureRecord, ChunkRun, Payload

if TYPE_CHECKING:
    from otel_wirecap.capture.events import (
        End,
        ExchangeHead,
        RequestHead,
        ResponseHead,
        WebsocketMessage,
    )
    from otel_wirecap.capture.flow import FlowRecording

FIRST_ERROR = 400
"""The first status code that does not mean acceptance (RFC 9110, section 15)."""


class ExchangeRecording(ABC):
    """One exchange on its way into the capture. Owned by the recorder."""

    LOST: ClassVar = "lost_chunks"

    __slots__ = (
        "_about",
        "_first_chunk_ns",
        "_gate",
        "_head",
        "_response",
        "_response_headers",
        "_shared",
        "_told_request",
        "_ttfb_ms",
        "exchange_id",
        "flow",
        "identity",
        "request_complete",
        "request_incomplete",
        "request_recorded",
    )

    def __init__(
        self, shared: RecordingContext, exchange_id: str, about: ExchangeHead, flow: FlowRecording, head: RequestHead
    ) -> None:
        self._shared = shared
        self.exchange_id = exchange_id
        self._about = about
        self.flow = flow
        self._head = head
        self._gate = FlowGate(shared.gate, flow, shared.pause)
        self.identity = ExchangeIdentity(shared, exchange_id, about, flow, head, self._gate)
        self.request_complete = head.body is not None
        self.request_incomplete: str | None = None
        self.request_recorded = False
        self._response: ResponseHead | None = None
        self._response_headers: list[tuple[str, str]] = []
        self._ttfb_ms: float | None = None
        self._told_request: tuple[str, str] | None = None
        self._first_chunk_ns: int | None = None
        if self.is_client:
            flow.client_identity = self.identity

    @property
    def is_client(self) -> bool:
        """Whether this is the exchange between client and proxy."""
        return self.identity.is_client

    @property
    def wants_end(self) -> bool:
        """Whether somebody is to be answered when it has ended."""
        return self._about.wants_end

    # -- what happens, in the order in which it does --------------------------------------------------------------

    def request_chunk(self, data: bytes) -> None:
        """Bytes of the request's body; only over HTTP."""
        raise NotImplementedError

    def leave_out(self, size: int, *, of_request: bool) -> None:  # noqa: B027  # websockets have no such bodies
        """So many bytes of a body passed that the queue left out."""

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
        if head.status_code < FIRST_ERROR:
            self.identity.accepted()

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
        end, closed_by = self._settle_end(now_ns, end)
        if self._ttfb_ms is not None:
            metadata["ttfb_ms"] = self._ttfb_ms
        metadata["duration_ms"] = self._milliseconds(now_ns)
        metadata["outcome"] = end.outcome
        if closed_by is not None:
            metadata["closed_by"] = closed_by
        counts: dict[str, int] = {}
        if end.error is not None:
            metadata["error"] = self._gate.error(end.error, counts)
        if end.lost_chunks:
            metadata["incomplete"] = "dropped"
            metadata[self.LOST] = end.lost_chunks
        self._record_end(now_ns, end, metadata, counts)
        if not end.wants_end:
            return ExchangeFacts(outcome=end.outcome)
        return self._facts(end, metadata.get("error"))

    def _facts(self, end: End, error: dict[str, str] | None) -> ExchangeFacts:
        head, response, identity = self._head, self._response, self.identity
        url, agent = self._told_request or (None, None)
        version = response.http_version if response is not None else None
        facts = ExchangeFacts(
            outcome=end.outcome,
            error_type=error["type"] if error else None,
            error=error["message"] if error else None,
            method=self._gate.label(head.method),
            url=url,
            http_version=self._gate.label(version or head.http_version),
            user_agent=agent or None,
            client_host=self._gate.label(head.client_host),
            websocket=head.websocket,
            status_code=response.status_code if response is not None else None,
            backend=None if identity.is_client else identity.backend,
            key_name=identity.key_name,
            session_id=self.flow.session_id,
            session_source=self.flow.session_source,
            requested_model=identity.requested_model,
            answered_model=identity.answered_model,
            operation=identity.operation,
            parameters=identity.parameters,
            wants_stream=identity.wants_stream,
            answer=identity.answer,
            first_chunk_ns=self._first_chunk_ns,
        )
        return self._shared.gate.facts(facts, self.flow.credentials)

    def record_failure(self) -> None:
        """The capture of this exchange failed: its end is told, nothing of its content."""
        if not self.identity.base:
            self.identity.describe()
        self.flow.session_id = self.flow.session_id or self.flow.id
        failure = CAPTURE_FAILURE._asdict()
        self._record_failure({**self.identity.base, "outcome": "error", "error": failure, "incomplete": "withheld"})

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
    def _settle_end(self, now_ns: int, end: End) -> tuple[End, str | None]:
        """How the exchange ended, of how its connection did; and who closed that."""

    @abstractmethod
    def _record_end(self, now_ns: int, end: End, metadata: dict[str, Any], counts: dict[str, int]) -> None:
        """Writes the last records; ``metadata`` is what every end tells."""

    @abstractmethod
    def _record_failure(self, metadata: dict[str, Any]) -> None:
        """Writes the records that are still owed, with ``metadata`` and no content."""

    # -- who asks whom, and with what ------------------------------------------------------------------------------

    def _request_metadata(self, counts: dict[str, int]) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "method": self._gate.label(self._head.method),
            "url": self._gate.url(self._head.url, counts),
        }
        if self._head.http_version is not None:
            facts["http_version"] = self._head.http_version
        facts["headers"] = self._gate.headers(self.identity.headers, counts)
        if self._head.decoded:
            facts["content_encoding"] = header(self.identity.headers, "content-encoding")
        if self._head.redirect_of is not None:
            facts["redirect_of"] = self._head.redirect_of
        if self.identity.fingerprint:
            facts["credential"] = self.identity.fingerprint
        self._told_request = facts["url"], header(facts["headers"], "user-agent")
        return facts

    def _response_metadata(self, counts: dict[str, int]) -> dict[str, Any]:
        response = self._response
        if response is None:
            return {}
        facts: dict[str, Any] = {"status_code": response.status_code}
        if response.reason:
            facts["reason"] = self._gate.reason(response.status_code, response.reason, counts)
        if response.http_version is not None and not self.is_client:
            facts["http_version"] = response.http_version
        facts["headers"] = self._gate.headers(self._response_headers, counts)
        if response.decoded:
            facts["content_encoding"] = header(self._response_headers, "content-encoding")
        if response.request_headers is not None:
            facts["request_headers"] = self._gate.headers(text_headers(response.request_headers), counts)
        return facts

    # -- what records are made with --------------------------------------------------------------------------------

    def _milliseconds(self, now_ns: int) -> float:
        return round((now_ns - self._about.began_ns) / 1e6, 3)

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
        metadata = {**self.identity.base, "chunk_bytes": 0, "chunk_number": first_chunk_number}
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
    ) -> CaptureRecord:
        flow, identity = self.flow, self.identity
        metadata["session_source"] = flow.session_source
        if flow.annotations:
            metadata = {**flow.annotations, **metadata}
        if counts:
            metadata["redactions"] = counts
        about = self._about
        source, destination = (identity.asker, identity.asked) if asking else (identity.asked, identity.asker)
        return CaptureRecord(
            time_ns=about.began_unix_ns + now_ns - about.began_ns,
            direction=direction,
            source=source,
            destination=destination,
            session_id=flow.session_id,
            backend=(flow.backend if identity.is_client else None) or identity.backend,
            model=identity.model,
            key_name=identity.key_name,
            content_length=length,
            payload=payload,
            metadata=metadata,
        )
