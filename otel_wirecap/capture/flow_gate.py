"""The gate, as the recording of an exchange asks it: with its flow's credentials, within the schema's lengths."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from otel_wirecap.capture.body import BodyCollector, RecordedBody, record_body

if TYPE_CHECKING:
    from otel_wirecap.capture.events import ErrorInfo
    from otel_wirecap.capture.flow import FlowRecording
    from otel_wirecap.capture.redaction.gate import Gate
    from otel_wirecap.llm.errors import ProviderError

MAX_ERROR_TEXT = 2000
MAX_IDENTITY_TEXT = 256


class FlowGate:
    """What of a flow's texts may leave. For the methods without a docstring see ``Gate``.

    Args:
        gate: decides.
        flow: whose credentials are masked.
        pause: is called between pieces of long work.
    """

    __slots__ = ("_flow", "_gate", "_pause")

    def __init__(self, gate: Gate, flow: FlowRecording, pause: Callable[[], None]) -> None:
        self._gate = gate
        self._flow = flow
        self._pause = pause

    def label(self, text: str | None) -> str | None:
        """A short text that a client or a provider gave, fit to stand in an envelope."""
        if text is None:
            return None
        return self._gate.label(text, {}, self._flow.credentials)[:MAX_IDENTITY_TEXT]

    def identifier(self, text: str | None) -> str | None:
        """The name of a model, an answer's id, and the like."""
        return self._gate.name(text, {}, self._flow.credentials)[:MAX_IDENTITY_TEXT] if text else text

    def error(self, error: ErrorInfo, counts: dict[str, int]) -> dict[str, str]:
        """An error as ``metadata.error``."""
        return {"type": error.type, "message": self.error_text(error.message, counts)}

    def add_provider_error(self, facts: dict[str, Any], error: ProviderError | None, counts: dict[str, int]) -> None:
        """A provider's own error, if there is one, as ``error`` of an end that has none."""
        if error is None or "error" in facts:
            return
        told = facts["error"] = {"type": "provider", "message": self.error_text(error.message or "", counts)}
        for name, value in (("provider_type", error.type), ("provider_code", error.code)):
            if value is not None:
                told[name] = self.name(value, counts)

    def error_text(self, text: str, counts: dict[str, int]) -> str:  # noqa: D102
        text = text.encode("utf-8", "replace").decode()
        return self._gate.error_text(text, counts, self._flow.credentials)[:MAX_ERROR_TEXT]

    def close_reason(self, reason: str, counts: dict[str, int]) -> str:  # noqa: D102
        reason = reason.encode("utf-8", "replace").decode()
        return self._gate.error_text(reason, counts, self._flow.credentials)[:MAX_IDENTITY_TEXT]

    def name(self, name: str, counts: dict[str, int]) -> str:  # noqa: D102
        return self._gate.name(name, counts, self._flow.credentials)[:MAX_ERROR_TEXT]

    def reason(self, status_code: int, reason: str, counts: dict[str, int]) -> str:  # noqa: D102
        return self._gate.reason(status_code, reason, counts, self._flow.credentials)[:MAX_IDENTITY_TEXT]

    def url(self, url: str, counts: dict[str, int]) -> str:  # noqa: D102
        return self._gate.url(url, counts, self._flow.credentials)

    def headers(self, headers: list[tuple[str, str]], counts: dict[str, int]) -> list[list[str]]:  # noqa: D102
        return self._gate.headers(headers, counts, self._flow.credentials)

    def body(
        self, body: BodyCollector, content_type: str, content_encoding: str, incomplete: str | None, *,
        as_text: bool = False,
    ) -> RecordedBody:  # fmt: skip
        """What a record has of a body; see ``record_body``."""
        return record_body(
            body,
            self._gate,
            self._flow.credentials,
            content_type=content_type,
            content_encoding=content_encoding,
            incomplete=incomplete,
            as_text=as_text,
            pause=self._pause,
        )
