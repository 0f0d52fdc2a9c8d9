"""The span of an exchange as its payloads and its metrics see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_wirecap.tracing.ids import random_hex

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanContext

    from otel_wirecap.capture.events import Leg


class SpanIdentity:
    """Which span it is, and which request it is of.

    Where the user's span has no ids of its own, the span has the parent's trace id, else the flow's, else a new one.

    Args:
        inner: the user's span, recording or not.
        parent: the context of its parent.
        leg: ``client`` or ``backend``.
        method: the request's method as the semantic conventions have it.
        flow_trace_id: the trace id of the flow's earlier exchanges, 32 hexadecimal digits; None if there are none.

    Attributes:
        inner, leg, method: as given.
        has_ids: whether the user's span has ids of its own: it has none where no tracing is set up.
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits.
        route: the template of the path that serves the request; None where the application does not report one.
    """

    __slots__ = ("has_ids", "inner", "leg", "method", "route", "span_id", "trace_id")

    def __init__(
        self, inner: Span, parent: SpanContext, leg: Leg, method: str, flow_trace_id: str | None = None
    ) -> None:
        self.inner = inner
        self.leg = leg
        self.method = method
        self.route: str | None = None
        context = inner.get_span_context()
        self.has_ids = has_ids = context is not parent and context.is_valid and context.span_id != parent.span_id
        if has_ids:
            self.trace_id = f"{context.trace_id:032x}"
            self.span_id = f"{context.span_id:016x}"
        else:
            self.trace_id = f"{parent.trace_id:032x}" if parent.is_valid else flow_trace_id or random_hex(16)
            self.span_id = random_hex(8)
