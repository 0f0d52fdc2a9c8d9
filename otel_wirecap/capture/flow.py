"""What the recorder remembers of a flow: who asked, in which session, under which annotations."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_wirecap.capture.body import RecordedBody
    from otel_wirecap.capture.response_stream import ResponseStream

IDENTITY_ANNOTATIONS = ("session_id", "backend", "model", "key_name")


class ClientIdentity(Protocol):
    """Who the client is, as the recordings of the backend's exchanges see it."""

    def find_session(self, body: object) -> None:
        """Finds the flow's session; ``body`` is the parsed JSON body, or None."""


class KeptBody(NamedTuple):
    """A body that was recorded: what that depended on, its content last; what became of it."""

    made_of: tuple[str, tuple[str, ...], int, bytes]
    recorded: RecordedBody


@dataclasses.dataclass(eq=False, slots=True)
class FlowRecording:
    """The state of one flow. Owned by the recorder; ``client`` facts come from the client's request.

    Attributes:
        session_id: None until the flow's first request is recorded.
        session_source: how ``session_id`` was found.
        client: the schema's name of the client, ``127.0.0.1(Cline/1.0)``; None where there is no client leg.
        backend: the backend of the latest attempt, or the one annotated; None as long as none is known.
        credentials: the secrets sent with the flow's requests, masked in all of its records.
        identity: annotations that rule identity, redacted strings.
        annotations: metadata keys of the application's own.
        client_identity: who the client is, as long as its exchange lasts.
        stream: the latest response stream of a backend.
        body: of the leg that a body passes first, for the other one; a proxy may hand it on as it is.
        held: the client's exchange whose request waits for the annotations of the application, by id.
    """

    id: str
    session_id: str | None = None
    session_source: str = "request"
    client: str | None = None
    client_metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    client_identity: ClientIdentity | None = None
    backend: str | None = None
    credentials: tuple[str, ...] = ()
    identity: dict[str, str] = dataclasses.field(default_factory=dict)
    annotations: dict[str, Any] = dataclasses.field(default_factory=dict)
    held: str | None = None
    stream: ResponseStream | None = None
    body: KeptBody | None = None

    def add_credentials(self, values: Iterable[str]) -> None:
        """Adds what a request of this flow was signed with, longest first, so that no part of one is left over."""
        new = {value for value in values if value and value not in self.credentials}
        if new:
            self.credentials = tuple(sorted({*self.credentials, *new}, key=len, reverse=True))
