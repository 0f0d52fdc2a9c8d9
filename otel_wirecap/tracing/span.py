"""The capture span: an OpenTelemetry span around a span of the user's own provider.

Invariants:

- The user's span gets the metadata and exactly one end, whatever becomes of the capture. It is found by the id of its
  exchange (``OpenSpans``); where there is no span of the user's and nobody who hears metrics, nobody looks for it.
- No payload waits for the user's span: payload events go to the capture exporter the moment they happen, so that no
  event limit, no sampling decision and no crash before the span's end loses one. The span itself carries the finished
  records too for those who ask for it (``Payloads``), and no others.
- Where no span of the user's records, the capture has ids of its own; a parent's trace id is kept, else the flow's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, Tracer
from opentelemetry.util.types import Attributes, AttributeValue

from otel_wirecap.log import warn_once
from otel_wirecap.tracing import attributes as names
from otel_wirecap.tracing.ids import random_hex
from otel_wirecap.tracing.payloads import OnSpan, Payloads
from otel_wirecap.tracing.semantics import OTHER, attributes_of, failure_of, span_name

if TYPE_CHECKING:
    from otel_wirecap.capture.events import Leg
    from otel_wirecap.capture.facts import ExchangeFacts
    from otel_wirecap.capture.record import Record
    from otel_wirecap.tracing.handover import Handover
    from otel_wirecap.tracing.request_metrics import RequestMetrics

_KINDS: dict[Leg, SpanKind] = {"client": SpanKind.SERVER, "backend": SpanKind.CLIENT}


class CaptureSpan(Span):
    """A span whose payload events go to a capture.

    Args:
        inner: the user's span, started; recording or not.
        parent: the context of the parent, whose trace id is kept where the user's span brings no id of its own.
        handover: has the user's span completed and ended.
        leg: of the exchange.
        method: the request's, as the conventions have it.
        flow_trace_id: the trace id of the flow's earlier exchanges, 32 hexadecimal digits; None where there is none.
        payloads: who tells records to collectors; None where nobody does.
        metrics: who is told of the exchange when it is over; None where nobody is.
        start_time: of the exchange, nanoseconds since the epoch.

    Attributes:
        inner, leg, method, start_time: as given.
        has_ids: whether the user's span has ids of its own; where no tracing is set up it has not.
        route: the template of the path that serves the request, as far as the application told it.
        carried: what of the payloads the user's span carries.
        wants_records: whether somebody is told each record of the exchange.
        wants_end: whether anybody hears of the end: that of the API's own span does nothing.
    """

    def __init__(
        self,
        inner: Span,
        parent: SpanContext,
        *,
        handover: Handover,
        leg: Leg,
        method: str,
        flow_trace_id: str | None = None,
        payloads: Payloads | None = None,
        metrics: RequestMetrics | None = None,
        start_time: int = 0,
    ) -> None:
        self.inner = inner
        self._handover = handover
        self._payloads = payloads
        self._metrics = metrics
        self.start_time = start_time
        self.wants_records = payloads is not None
        self.wants_end = metrics is not None or payloads is not None or inner.__class__ is not trace.NonRecordingSpan
        self.carried = OnSpan()
        self.leg = leg
        self.method = method
        self.route: str | None = None
        context = inner.get_span_context()
        self.has_ids = context is not parent and context.is_valid and context.span_id != parent.span_id
        if self.has_ids:
            self.trace_id = f"{context.trace_id:032x}"
            self.span_id = f"{context.span_id:016x}"
        else:
            self.trace_id = f"{parent.trace_id:032x}" if parent.is_valid else flow_trace_id or random_hex(16)
            self.span_id = random_hex(8)

    def tell(self, record: Record) -> None:
        """Tells a record of the exchange to who asked for them."""
        if self._payloads is not None:
            self._payloads.tell(self, record)

    def finish(self, end_time: int, facts: ExchangeFacts) -> None:
        """Has what the capture learned set on the user's span, and that ended.

        It only hands that over: the garbage collector may call this in a thread that is inside the SDK and holds a lock
        of its.

        Args:
            end_time: nanoseconds since the epoch.
            facts: what ``ExchangeRecording.end`` returned.
        """
        self._handover.put(functools.partial(self._finish, end_time, facts), self.carried.bytes)

    def _finish(self, end_time: int, facts: ExchangeFacts) -> None:
        inner = self.inner
        try:
            if inner.is_recording():
                self._set(facts)
            if self._metrics is not None:
                self._metrics.record(self, (end_time - self.start_time) / 1e9, facts)
        finally:
            inner.end(end_time)

    def _set(self, facts: ExchangeFacts) -> None:
        inner, leg = self.inner, self.leg
        attributes = attributes_of(leg, self.method, facts)
        if self.route is not None:
            attributes[names.HTTP_ROUTE] = self.route
        if self.carried.left_out:
            attributes[names.WIRECAP_PAYLOADS_LEFT_OUT] = self.carried.left_out
        inner.set_attributes(attributes)
        inner.update_name(span_name(leg, self.method, self.route, facts))
        failure = failure_of(leg, facts)
        if failure is not None:
            inner.set_status(Status(StatusCode.ERROR, failure.description))

    # -- the API's Span, handed on to the user's -----------------------------------------------------------------

    def end(self, end_time: int | None = None) -> None:
        """Ends the user's span."""
        self.inner.end(end_time)

    def get_span_context(self) -> SpanContext:
        """The context of the user's span."""
        return self.inner.get_span_context()

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Sets attributes on the user's span."""
        self.inner.set_attributes(attributes)

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Sets an attribute on the user's span."""
        self.inner.set_attribute(key, value)

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """Adds an event to the user's span."""
        self.inner.add_event(name, attributes, timestamp)

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """Adds a link to the user's span."""
        self.inner.add_link(context, attributes)

    def update_name(self, name: str) -> None:
        """Renames the user's span."""
        self.inner.update_name(name)

    def is_recording(self) -> bool:
        """Whether the user's span records."""
        return self.inner.is_recording()

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Sets the status of the user's span."""
        self.inner.set_status(status, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,  # noqa: FBT001, FBT002  # the API's signature
    ) -> None:
        """Records an exception on the user's span."""
        self.inner.record_exception(exception, attributes, timestamp, escaped)


def is_suppressed(enabled: Callable[[], bool]) -> bool:
    """Whether the current context suppresses what ``enabled`` tells; an empty one, which most are, does not."""
    return bool(otel_context.get_current()) and not enabled()


def start_capture_span(
    tracer: Tracer,
    leg: Leg,
    method: str,
    attributes: Mapping[str, AttributeValue],
    *,
    context: Context | None,
    start_time: int,
    handover: Handover,
    flow_trace_id: str | None,
    payloads: Payloads | None,
    metrics: RequestMetrics | None,
) -> CaptureSpan:
    """Starts a span of the user's provider and wraps it.

    ``context`` is the parent's, None the current one; ``start_time`` is nanoseconds since the epoch; ``handover``,
    ``leg``, ``method``, ``flow_trace_id``, ``payloads`` and ``metrics`` as in ``CaptureSpan``; the rest as in
    ``Tracer.start_span``.
    """
    parent = trace.get_current_span(context).get_span_context()
    inner: Span | None = None
    if metrics is not None and not metrics.heard:
        metrics = None
    if is_suppressed(is_http_instrumentation_enabled):  # whoever is calling tells of this request
        metrics = None
    else:
        try:
            inner = tracer.start_span(
                "HTTP" if method == OTHER else method, context=context, kind=_KINDS[leg], attributes=attributes,
                start_time=start_time, record_exception=False, set_status_on_exception=False,
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001  # a sampler, a processor: the capture needs none of them
            warn_once("exchanges are captured without spans: the tracer provider raises: %s", type(error).__name__)
    if inner is None:
        inner = trace.NonRecordingSpan(parent)
    return CaptureSpan(
        inner, parent, handover=handover, leg=leg, method=method, flow_trace_id=flow_trace_id,
        payloads=payloads, metrics=metrics, start_time=start_time,
    )  # fmt: skip
