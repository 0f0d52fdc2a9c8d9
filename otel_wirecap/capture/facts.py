"""What the recorder learned of an exchange, for whoever tells it elsewhere than in the capture."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_wirecap.capture.events import Outcome
    from otel_wirecap.llm.dialects.interface import Answer, Parameters


@dataclasses.dataclass(slots=True, kw_only=True)
class ExchangeFacts:
    """What was learned of one exchange; None for what is not known. All strings have been through the gate.

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
