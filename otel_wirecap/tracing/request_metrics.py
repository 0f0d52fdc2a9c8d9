"""Metrics of exchanges by OpenTelemetry's conventions for HTTP and generative AI, recorded when an exchange is over.

Pure of clocks: durations are those of the exchanges themselves. Websockets are not counted: how long one is open says
nothing of requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Set as AbstractSet
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.metrics import NoOpHistogram

from otel_wirecap.capture.url import url_parts
from otel_wirecap.tracing import attributes as names

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram, Meter
    from opentelemetry.util.types import AttributeValue

    from otel_wirecap.capture.events import Leg
    from otel_wirecap.capture.facts import ExchangeFacts
    from otel_wirecap.tracing.span_identity import SpanIdentity

HTTP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
GEN_AI_SECONDS = tuple(0.01 * 2**power for power in range(14))
TOKENS = tuple(float(4**power) for power in range(14))
"""The conventions' boundaries of buckets; a view of the user's own wins."""

_SERVER = frozenset({names.SERVER_ADDRESS, names.SERVER_PORT})
_EACH = frozenset({names.HTTP_RESPONSE_STATUS_CODE, names.NETWORK_PROTOCOL_VERSION, names.ERROR_TYPE})
_HTTP: dict[Leg, frozenset[str]] = {"client": _EACH | {names.HTTP_ROUTE}, "backend": _EACH | _SERVER}
_GEN_AI = _SERVER | {
    names.GEN_AI_OPERATION_NAME,
    names.GEN_AI_PROVIDER_NAME,
    names.GEN_AI_REQUEST_MODEL,
    names.GEN_AI_RESPONSE_MODEL,
}
"""Which attributes of the span are a measurement's, too."""


class RequestMetrics:
    """The instruments of one meter.

    Args:
        meter: makes them.
    """

    def __init__(self, meter: Meter) -> None:
        def seconds(name: str, description: str, boundaries: tuple[float, ...]) -> Histogram:
            return meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=boundaries)

        self._http = {
            "client": seconds(names.METRIC_HTTP_SERVER_DURATION, "Duration of HTTP server requests.", HTTP_SECONDS),
            "backend": seconds(names.METRIC_HTTP_CLIENT_DURATION, "Duration of HTTP client requests.", HTTP_SECONDS),
        }
        self._operation = seconds(names.METRIC_GEN_AI_DURATION, "GenAI operation duration.", GEN_AI_SECONDS)
        self._first_chunk = seconds(names.METRIC_GEN_AI_FIRST_CHUNK, "Time to receive the first chunk.", GEN_AI_SECONDS)
        self._tokens = meter.create_histogram(
            names.METRIC_GEN_AI_TOKENS,
            "{token}",
            "Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=TOKENS,
        )

    @property
    def is_set_up(self) -> bool:
        """Whether the application has set up metrics."""
        instrument = self._operation
        # The global provider's stand-in shows it in no other way; should it have no such member, all is recorded.
        return getattr(instrument, "_real_instrument", instrument) is not None and not isinstance(
            instrument, NoOpHistogram
        )

    def record(
        self, span: SpanIdentity, seconds: float, facts: ExchangeFacts, told: Mapping[str, AttributeValue]
    ) -> None:
        """Records one exchange that is over; exemplars get its span.

        Args:
            span: that of the exchange.
            seconds: how long it took.
            facts: what is known of it.
            told: the span's attributes; some of them are the measurements' own.
        """
        if facts.websocket or seconds <= 0:  # without a duration: its capture failed, and nobody saw its end
            return
        context = trace.set_span_in_context(span.inner)
        scheme = url_parts(facts.url or "").scheme
        http = {names.HTTP_REQUEST_METHOD: span.method, **({names.URL_SCHEME: scheme} if scheme else {})}
        self._http[span.leg].record(seconds, http | _of(told, _HTTP[span.leg]), context)
        if facts.operation is None:
            return
        attributes = _of(told, _GEN_AI)
        self._operation.record(seconds, attributes | _of(told, {names.ERROR_TYPE}), context)
        if facts.wants_stream and facts.first_chunk_ns is not None:
            self._first_chunk.record(facts.first_chunk_ns / 1e9, attributes, context)
        usage = facts.answer.usage if facts.answer is not None else None
        if usage is not None:
            for kind, count in (("input", usage.input), ("output", usage.output)):
                if count:
                    self._tokens.record(count, attributes | {names.GEN_AI_TOKEN_TYPE: kind}, context)


def _of(told: Mapping[str, AttributeValue], wanted: AbstractSet[str]) -> dict[str, AttributeValue]:
    return {name: value for name, value in told.items() if name in wanted}
