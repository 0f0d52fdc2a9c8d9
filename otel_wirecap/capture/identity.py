"""Who asks whom in an exchange, with which key, for what, in which session; and what was answered.

Invariants: what is known of the request is found once, when it is recorded; every text here has been through the gate,
but for the headers and the URL, which are as they were sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_wirecap.capture.credentials import credentials
from otel_wirecap.capture.flow_gate import FlowGate
from otel_wirecap.capture.secret_values import can_be_masked, named_secrets
from otel_wirecap.capture.sessions import session_of
from otel_wirecap.capture.url import url_parts
from otel_wirecap.llm.answers import answer_of
from otel_wirecap.llm.dialects.interface import Answer, Parameters
from otel_wirecap.llm.dialects.registry import requested_dialect
from otel_wirecap.llm.providers import backend_name
from otel_wirecap.llm.requests import asks_for_stream, operation_of, parameters_of, requested_model

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from otel_wirecap.capture.context import RecordingContext
    from otel_wirecap.capture.events import ExchangeHead, RequestHead
    from otel_wirecap.capture.flow import FlowRecording
    from otel_wirecap.llm.dialects.interface import Dialect

PROXY = "proxy"
UNKNOWN_BACKEND = "client"
"""What the schema calls the backend on the client leg as long as none is known."""


class ExchangeIdentity:
    """What an exchange's records, and its span, say of who and what.

    Args:
        shared: what all recordings share.
        exchange_id: the exchange's.
        about: what is known of the exchange from its beginning on.
        flow: the flow it belongs to.
        head: the request's.
        gate: what its texts go through.

    Attributes:
        headers: of the request, as they were sent.
        is_client: whether this is the exchange between client and proxy.
        asker, asked: ``source`` and ``destination`` of what the asking side sends.
        base: the metadata that each of its records has; empty before ``identify``.
        backend, key_name: as in the schema.
        requested_model, answered_model: None as long as it is not known.
        wants_stream: whether the request asks for a stream.
        operation, parameters: what is asked of a model, and how; None where none is asked by us.
        answer: what the answer says of itself, None as long as there is none.
    """

    __slots__ = (
        "_about",
        "_credential",
        "_exchange_id",
        "_fingerprint",
        "_flow",
        "_gate",
        "_head",
        "_sent",
        "_shared",
        "_url",
        "answer",
        "answered_model",
        "asked",
        "asker",
        "backend",
        "base",
        "headers",
        "is_client",
        "key_name",
        "operation",
        "parameters",
        "requested_model",
        "wants_stream",
    )

    def __init__(
        self, shared: RecordingContext, exchange_id: str, about: ExchangeHead, flow: FlowRecording, head: RequestHead,
        gate: FlowGate,
    ) -> None:  # fmt: skip
        self._shared = shared
        self._exchange_id = exchange_id
        self._about = about
        self._flow = flow
        self._head = head
        self._gate = gate
        self.headers = text_headers(head.headers)
        self.is_client = about.leg == "client"
        self._url = url_parts(head.url)
        sent = self._sent = _take_secrets(flow, self.headers, self._url.query)
        self._credential = sent[0] if sent else None
        self._fingerprint = shared.key_names.fingerprint(self._credential) if self._credential else ""
        self.asker, self.asked = PROXY, PROXY
        self.base: dict[str, Any] = {}
        self.backend = UNKNOWN_BACKEND
        self.key_name: str | None = None
        self.requested_model: str | None = None
        self.answered_model: str | None = None
        self.wants_stream = False
        self.operation: str | None = None
        self.parameters: Parameters | None = None
        self.answer: Answer | None = None
        if self.is_client:
            _describe_client(flow, head, self.headers, gate)

    @property
    def model(self) -> str | None:
        """The answered model, else the requested one."""
        return self.answered_model or self.requested_model

    @property
    def fingerprint(self) -> str | None:
        """What tells the request's credential from others, where it has one and no variable's name tells."""
        return self._fingerprint if self._credential and self.key_name is None else None

    def find_session(self, body: object) -> None:
        """Finds the flow's session, once, by the schema's rules; ``body`` is the parsed JSON body, or None."""
        flow = self._flow
        if flow.session_id is not None:
            return
        session_id, flow.session_source = session_of(
            self.headers,
            body,
            session_headers=self._shared.settings.session_headers,
            client_host=self._head.client_host,
            user_agent=header(self.headers, "user-agent"),
            credential_fingerprint=self._fingerprint,
            flow_id=flow.id,
            salt=self._shared.salt,
        )
        flow.session_id = self._gate.label(session_id)

    def identify(self, body: object) -> None:
        """Finds session, backend, model and key name, now that the request is known; ``body`` as above."""
        flow = self._flow
        annotated = flow.identity
        client = flow.client_identity
        if client is not None and not self.is_client:
            client.find_session(None)  # only where its body is still on the way
        self.find_session(body)
        self.key_name = annotated.get("key_name")
        if self.key_name is None and self._credential:
            self.key_name = self._shared.key_names.name_of(self._credential)
        self.requested_model = annotated.get("model") or self._gate.identifier(requested_model(self._url.path, body))
        self.wants_stream = asks_for_stream(self._url.path, self._url.query, body)
        if self.is_client:
            self.backend = annotated.get("backend") or UNKNOWN_BACKEND
        else:
            port = self._url.port or (443 if self._url.scheme == "https" else 80)
            known = self._shared.settings.backends
            self.backend = annotated.get("backend") or backend_name(self._url.host, port, known)
            flow.backend = self.backend
            if self._head.method == "POST":
                self.operation = operation_of(self._url.path, body)
            if self.operation is not None:
                self.parameters = parameters_of(self._url.path, body)
        self.asker = flow.client or PROXY
        self.asked = PROXY if self.is_client else self.backend
        self.describe()

    @property
    def requested_dialect(self) -> Dialect | None:
        """The format that is asked for, by the URL; None where it is not known."""
        return requested_dialect(self._url.path, None) if self._head.method == "POST" else None

    def describe(self) -> None:
        """Makes ``base``."""
        about = self._about
        base: dict[str, Any] = {"leg": about.leg, "request_id": self._flow.id, "exchange_id": self._exchange_id}
        if about.attempt is not None:
            base["attempt"] = about.attempt
        base["trace_id"] = about.trace_id
        base["span_id"] = about.span_id
        base |= self._flow.client_metadata
        if self.is_client:
            client_request_id = self._gate.label(header(self.headers, "x-request-id"))
            if client_request_id:
                base["client_request_id"] = client_request_id
        self.base = base

    def accepted(self) -> None:
        """The request was accepted: what it was sent with is masked in other flows, too."""
        self._shared.gate.learn(self._sent)

    def learn_model(self, model: str | None) -> None:
        """Takes the model that answered; the first one counts."""
        if model is not None and self.answered_model is None:
            self.answered_model = self._gate.identifier(model)

    def learn_answer(self, body: object) -> None:
        """Takes what an answer, parsed, says of itself; only where a model was asked by us."""
        if self.operation is not None:
            answer = answer_of(body)
            reasons = tuple(self._gate.identifier(reason) or "" for reason in answer.finish_reasons)
            self.answer = Answer(self._gate.identifier(answer.id), reasons, answer.usage)


def introduce_client(shared: RecordingContext, flow: FlowRecording, head: RequestHead) -> None:
    """Takes what a client's request tells of its flow, where its own exchange is not recorded here."""
    headers = text_headers(head.headers)
    _take_secrets(flow, headers, url_parts(head.url).query)
    _describe_client(flow, head, headers, FlowGate(shared.gate, flow, shared.pause))


def _take_secrets(flow: FlowRecording, headers: list[tuple[str, str]], query: str) -> list[str]:
    """Masks what a request was sent with in its flow; returns its credentials."""
    sent = credentials(headers, query)
    flow.add_credentials(value for value in sent if can_be_masked(value))
    flow.add_credentials(named_secrets(headers, query))
    return sent


def _describe_client(flow: FlowRecording, head: RequestHead, headers: list[tuple[str, str]], gate: FlowGate) -> None:
    """Fills in the client fields shared by all records of the flow."""
    host = head.client_host or ""
    agent = gate.label(header(headers, "user-agent")) or ""
    flow.client = f"{host}({agent})" if agent else host or "unknown"
    facts: dict[str, Any] = {}
    if host:
        facts["client_host"] = host
    if agent:
        facts["user_agent"] = agent
    flow.client_metadata = facts


def text_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Headers as text: each byte a character, so that none is lost."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def header(headers: Iterable[Sequence[str]], name: str) -> str:
    """The first value of a header, "" where it is not there. ``name`` in lower case."""
    return next((value for key, value in headers if key.lower() == name), "")
