"""The capture span: an OpenTelemetry span around a span of the user's own provider.

Invariants:

- The user's span gets the metadata and exactly one end, whatever becomes of the capture. It is found by the id of its
  exchange (``OpenSpans``); where there is no span of the user's and no metrics are set up, nobody looks for it.
- No payload waits for the user's span: payload events go to the capture exporter the moment they happen, so that no
  event limit, no sampling decision and no crash before the span's end loses one. The span itself carries the finished
  records too for those who ask for it (``Payloads``), and no others.
- Where no span of the user's records, the capture has ids of its own (``SpanIdentity``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from opentelemetry import context as otel_context, trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, Tracer
from opentelemetry.util.types import Attributes, AttributeValue

from otel_wirecap.log import warn_once
from otel_wirecap.tracing import attributes as names
from otel_wirecap.tracing.payloads import CarriedPayloads, Payloads
from otel_wirecap.tracing.semantics import OTHER, attributes_of, failure_of, span_name
from otel_wirecap.tracing.span_identity import SpanIdentity

if TYPE_CHECKING:
    from otel_wirecap.capture.events import Leg
    from otel_wirecap.capture.facts import ExchangeFacts
    from otel_wirecap.capture.record import CaptureRecord
    from otel_wirecap.tracing.handover import Handover
    from otel_wirecap.tracing.request_metrics import RequestMetrics

_NOTHING_CARRIED = CarriedPayloads()
_KINDS: dict[Leg, SpanKind] = {"client": SpanKind.SERVER, "backend": SpanKind.CLIENT}


class CaptureSpan(Span):
    """A span whose payload events go to a capture.

    Args:
        identity: the user's span, started, and the request that it is of.
        start_time: of the exchange, nanoseconds since the epoch.
        handover: completes and ends the user's span.
        payloads: sends records to collectors; None where nobody wants them.
        metrics: records the exchange when it is over; None where no metrics are set up.

    Attributes:
        identity: as given.
        inner: the user's span.
        start_time: as given.
        carried: the payloads that the user's span carries.
        wants_records: whether the records of the exchange go to collectors.
        wants_end: whether the end of the exchange is reported to anybody: ending the API's own span does nothing.
    """

    def __init__(
        self,
        identity: SpanIdentity,
        start_time: int,
        handover: Handover,
        payloads: Payloads | None = None,
        metrics: RequestMetrics | None = None,
    ) -> None:
        self.identity = identity
        self.inner = inner = identity.inner
        self.start_time = start_time
        self._handover = handover
        self._payloads = payloads
        self._metrics = metrics
        self.wants_records = payloads is not None
        self.wants_end = metrics is not None or payloads is not None or inner.__class__ is not trace.NonRecordingSpan
        self.carried = _NOTHING_CARRIED if payloads is None else CarriedPayloads()

    def send(self, record: CaptureRecord) -> None:
        """Sends a record of the exchange to collectors, if they want it."""
        if self._payloads is not None:
            self._payloads.send(self.identity, self.carried, record)

    def finish(self, end_time: int, facts: ExchangeFacts) -> None:
        """Sets what the capture learned on the user's span, and ends that, both in the thread of the handover.

        The garbage collector may call this in a thread that is inside the SDK and holds one of its locks.

        Args:
            end_time: nanoseconds since the epoch.
            facts: what ``ExchangeRecording.end`` returned.
        """
        self._handover.put(functools.partial(self._finish, end_time, facts), self.carried.bytes)

    def _finish(self, end_time: int, facts: ExchangeFacts) -> None:
        inner, identity = self.inner, self.identity
        try:
            attributes = attributes_of(identity.leg, identity.method, facts)
            if identity.route is not None:
                attributes[names.HTTP_ROUTE] = identity.route
            if inner.is_recording():
                self._set(facts, attributes)
            if self._metrics is not None:
                self._metrics.record(identity, (end_time - self.start_time) / 1e9, facts, attributes)
        finally:
            inner.end(end_time)

    def _set(self, facts: ExchangeFacts, attributes: Mapping[str, AttributeValue]) -> None:
        inner, identity = self.inner, self.identity
        inner.set_attributes(attributes)
        if self.carried.left_out:
            inner.set_attribute(names.WIRECAP_PAYLOADS_LEFT_OUT, self.carried.left_out)
        inner.update_name(span_name(identity.leg, identity.method, identity.route, facts))
        failure = failure_of(identity.leg, facts)
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
    """Whether the current context suppresses what ``enabled`` reports; an empty one, which most are, does not."""
    return bool(otel_context.get_current()) and not enabled()


class CaptureTracer:
    """Starts the spans of one capture.

    Args:
        tracer: of the user's provider.
        handover: completes and ends the user's spans.
        payloads: sends records to collectors; None where nobody wants them.
        metrics: records exchanges that are over.
    """

    def __init__(self, tracer: Tracer, handover: Handover, payloads: Payloads | None, metrics: RequestMetrics) -> None:
        self._tracer = tracer
        self._handover = handover
        self._payloads = payloads
        self._metrics = metrics

    def start(
        self,
        leg: Leg,
        method: str,
        attributes: Mapping[str, AttributeValue],
        context: Context | None,
        start_time: int,
        flow_trace_id: str | None,
    ) -> CaptureSpan:
        """Starts a span of the user's provider and wraps it.

        Args:
            leg: of the exchange.
            method: the request's method as the semantic conventions have it.
            attributes: of the span.
            context: the parent's; None: the current one.
            start_time: nanoseconds since the epoch.
            flow_trace_id: the trace id of the flow's earlier exchanges, 32 hexadecimal digits; None if there are none.
        """
        parent = trace.get_current_span(context).get_span_context()
        inner: Span | None = None
        metrics = self._metrics if self._metrics.is_set_up else None
        if is_suppressed(is_http_instrumentation_enabled):  # the caller makes a span of its own
            metrics = None
        else:
            try:
                inner = self._tracer.start_span(
                    "HTTP" if method == OTHER else method, context=context, kind=_KINDS[leg], attributes=attributes,
                    start_time=start_time, record_exception=False, set_status_on_exception=False,
                )  # fmt: skip
            except Exception as error:  # noqa: BLE001  # a sampler, a processor: the capture needs none of them
                warn_once("exchanges are captured without spans: the tracer provider raises: %s", type(error).__name__)
        if inner is None:
            inner = trace.NonRecordingSpan(parent)
        identity = SpanIdentity(inner, parent, leg, method, flow_trace_id)
        return CaptureSpan(identity, start_time, self._handover, self._payloads, metrics)
