"""Metrics of exchanges by OpenTelemetry's conventions for HTTP and generative AI, recorded when an exchange is over.

Pure of clocks: durations are those of the exchanges themselves. Websockets are not counted: how long one is open says
nothing of requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.metrics import NoOpHistogram

from otel_wirecap.tracing import attributes as names
from otel_wirecap.tracing.semantics import failure_of, protocol_version, provider_of, server_of, url_scheme

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import Histogram, Meter
    from opentelemetry.util.types import AttributeValue

    from otel_wirecap.capture.events import Leg
    from otel_wirecap.capture.facts import ExchangeFacts
    from otel_wirecap.tracing.span_identity import SpanIdentity

HTTP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
GEN_AI_SECONDS = tuple(0.01 * 2**power for power in range(14))
TOKENS = tuple(float(4**power) for power in range(14))
"""The conventions' boundaries of buckets; a view of the user's own wins."""


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

    def record(self, span: SpanIdentity, seconds: float, facts: ExchangeFacts) -> None:
        """Records one exchange that is over, which took so many seconds; exemplars get its span."""
        if facts.websocket or seconds <= 0:  # without a duration: its capture failed, and nobody saw its end
            return
        leg = span.leg
        context = trace.set_span_in_context(span.inner)
        self._http[leg].record(seconds, _http(leg, span, facts), context)
        if facts.operation is not None:
            self._record_operation(seconds, facts, context)

    def _record_operation(self, seconds: float, facts: ExchangeFacts, context: Context) -> None:
        attributes = _known(
            {
                names.GEN_AI_OPERATION_NAME: facts.operation,
                names.GEN_AI_PROVIDER_NAME: provider_of(facts),
                names.GEN_AI_REQUEST_MODEL: facts.requested_model,
                names.GEN_AI_RESPONSE_MODEL: facts.answered_model,
                **_server(facts),
            }
        )
        failure = failure_of("backend", facts)
        failed = {} if failure is None else {names.ERROR_TYPE: failure.type}
        self._operation.record(seconds, attributes | failed, context)
        if facts.wants_stream and facts.first_chunk_ns is not None:
            self._first_chunk.record(facts.first_chunk_ns / 1e9, attributes, context)
        usage = facts.answer.usage if facts.answer is not None else None
        if usage is not None:
            for kind, count in (("input", usage.input), ("output", usage.output)):
                if count:
                    self._tokens.record(count, attributes | {names.GEN_AI_TOKEN_TYPE: kind}, context)


def _http(leg: Leg, span: SpanIdentity, facts: ExchangeFacts) -> dict[str, AttributeValue]:
    failure = failure_of(leg, facts)
    attributes: dict[str, AttributeValue | None] = {
        names.HTTP_REQUEST_METHOD: span.method,
        names.HTTP_RESPONSE_STATUS_CODE: facts.status_code,
        names.NETWORK_PROTOCOL_VERSION: protocol_version(facts),
        names.ERROR_TYPE: None if failure is None else failure.type,
        names.URL_SCHEME: url_scheme(facts),
    }
    if leg == "client":
        attributes[names.HTTP_ROUTE] = span.route
    else:
        attributes |= _server(facts)
    return _known(attributes)


def _server(facts: ExchangeFacts) -> dict[str, AttributeValue | None]:
    server = server_of(facts)
    return {} if server is None else {names.SERVER_ADDRESS: server[0], names.SERVER_PORT: server[1]}


def _known(attributes: dict[str, AttributeValue | None]) -> dict[str, AttributeValue]:
    return {name: value for name, value in attributes.items() if value is not None}
