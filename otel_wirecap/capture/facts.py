"""What the recorder learned of an exchange, for whoever tells it elsewhere than in the capture."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from otel_wirecap.llm.operations import Answer

if TYPE_CHECKING:
    from otel_wirecap.capture.events import Outcome
    from otel_wirecap.capture.redaction.redactor import Redactor
    from otel_wirecap.llm.operations import Parameters


@dataclasses.dataclass(slots=True, kw_only=True)
class ExchangeFacts:
    """What was learned of one exchange; None for what is not known. All strings have been through the redactor.

    Attributes:
        outcome: how it ended.
        error_type, error: what went wrong, its kind and its text.
        method, url, http_version, user_agent, client_host: of the request.
        websocket: whether it asked for a websocket.
        status_code: of the response.
        backend: the backend's name; None on the client's leg.
        key_name: the name of the variable that holds the credential.
        session_id, session_source: of the flow.
        requested_model, answered_model: the models' names.
        operation: what the model is asked for, as ``operation_of`` names it; None on the client's leg.
        parameters: how it is asked to answer.
        wants_stream: whether the request asks for a stream.
        answer: what the answer says of itself.
        first_chunk_ns: from the beginning to the first chunk of a stream, nanoseconds.
    """

    outcome: Outcome
    error_type: str | None = None
    error: str | None = None
    method: str | None = None
    url: str | None = None
    http_version: str | None = None
    user_agent: str | None = None
    client_host: str | None = None
    websocket: bool = False
    status_code: int | None = None
    backend: str | None = None
    key_name: str | None = None
    session_id: str | None = None
    session_source: str | None = None
    requested_model: str | None = None
    answered_model: str | None = None
    operation: str | None = None
    parameters: Parameters | None = None
    wants_stream: bool = False
    answer: Answer | None = None
    first_chunk_ns: int | None = None


_TEXTS = (
    "error", "method", "http_version", "user_agent", "client_host", "backend", "key_name", "session_id",
    "requested_model", "answered_model",
)  # fmt: skip


def masked(facts: ExchangeFacts, redactor: Redactor, credentials: tuple[str, ...]) -> ExchangeFacts:
    """The facts without the secrets that the capture itself may hold; nearly none of them where that fails."""

    def clean(text: str | None) -> str | None:
        return None if text is None else redactor.text_with_urls(text, {}, credentials)

    try:
        answer = facts.answer
        if answer is not None:
            reasons = tuple(clean(reason) or "" for reason in answer.finish_reasons)
            answer = Answer(clean(answer.id), reasons, answer.usage)
        told: dict[str, Any] = {name: clean(getattr(facts, name)) for name in _TEXTS}
        url = None if facts.url is None else redactor.url(facts.url, {}, credentials)
        return dataclasses.replace(facts, url=url, answer=answer, **told)
    except Exception:  # noqa: BLE001  # fail closed
        return ExchangeFacts(outcome=facts.outcome, status_code=facts.status_code)
