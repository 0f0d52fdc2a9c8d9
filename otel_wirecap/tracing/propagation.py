"""The trace context on its way to a backend: whether it is sent, and in which headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import baggage, propagate, trace

from otel_wirecap.llm.providers import PROVIDERS, backend_name

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from otel_wirecap.capture.events import Headers

TRACEPARENT = b"traceparent"


def context_headers(wanted: str, span: Span, headers: Headers, server: tuple[str, int]) -> dict[str, str]:
    """The headers that a request gets; none where the span does not record.

    Args:
        wanted: ``auto``, ``always`` or ``never``, as ``capture_propagate``.
        span: that of the attempt.
        headers: the request's so far.
        server: host and port that are asked.
    """
    if wanted == "never" or not span.is_recording():
        return {}
    if wanted == "auto" and (
        any(name.lower() == TRACEPARENT for name, _ in headers) or backend_name(*server, {}) in PROVIDERS
    ):
        return {}
    carrier: dict[str, str] = {}
    # What an application tells its own services in the baggage is not for others.
    propagate.inject(carrier, baggage.clear(trace.set_span_in_context(span)))
    return carrier
