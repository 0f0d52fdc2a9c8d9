"""The running capture, to which the hooks report exchanges.

Invariants:

- At most one capture runs in a process; hooks look it up at every request, so that it can be started and stopped at
  any time, and pass everything through when there is none.
- What goes wrong in here does not reach the application: it is counted, and logged once for each place.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from opentelemetry import trace
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import TracerProvider

from otel_wirecap.capture.events import EventKind, ExchangeHead, Headers, Leg, Outcome, RequestHead
from otel_wirecap.capture.exchange import HEAD_SIZE, LiveExchange, LiveFlow
from otel_wirecap.capture.facts import ExchangeFacts
from otel_wirecap.client_libraries import unhooked_libraries
from otel_wirecap.config import excluded_urls, known_methods
from otel_wirecap.errors import place_of
from otel_wirecap.instrumentation.exchange_filter import ExchangeFilter
from otel_wirecap.instrumentation.flow_context import (
    current_flow,
    flow_annotations,
    parent_of_attempt,
    parent_of_new_flow,
)
from otel_wirecap.instrumentation.guard import now_ns
from otel_wirecap.log import WarnOnce, inform, warn, warn_once
from otel_wirecap.storage.ledger import Loss
from otel_wirecap.storage.registry import close_first_at_exit
from otel_wirecap.tracing import attributes as names
from otel_wirecap.tracing.exporter import WireCaptureSpanExporter
from otel_wirecap.tracing.handover import Handover
from otel_wirecap.tracing.ids import random_hex
from otel_wirecap.tracing.metrics import report_metrics
from otel_wirecap.tracing.payloads import Payloads
from otel_wirecap.tracing.propagation import context_headers
from otel_wirecap.tracing.semantics import METHODS, method_of
from otel_wirecap.tracing.span import CaptureSpan, CaptureTracer, is_suppressed
from otel_wirecap.tracing.spans import open_spans
from otel_wirecap.version import __version__

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.util.types import AttributeValue

    from otel_wirecap.config import CaptureConfig

SetHeaders: TypeAlias = Callable[[dict[str, str]], Headers]
"""Sets headers on a request that is about to be sent; returns all of its headers as they are then."""


class Runtime:
    """The running capture: the ``Host`` of all exchanges.

    Args:
        config: the settings, a capture file among them.
        tracer_provider: makes the spans; None: the global provider, also one set later.
        meter_provider: gets the capture's counters; None: the global provider, also one set later.
        logger_provider: makes log records of payloads, where that is asked for; None: the global one.

    Raises:
        CaptureFileError: the capture file cannot be opened.
        ConfigurationError: a setting needs a package that is missing.
    """

    def __init__(
        self,
        config: CaptureConfig,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        logger_provider: LoggerProvider | None = None,
    ) -> None:
        self.config = config
        self._propagate = config.capture_propagate
        self._handover = Handover()
        payloads = _payloads(config, logger_provider, self._handover)
        self.exporter = WireCaptureSpanExporter(config)
        self.put = self.exporter.emit
        self.flow_gone = self.exporter.flow_gone
        if payloads is not None:
            self.exporter.observe_system_records(payloads.send_system_record)
        self.filter = ExchangeFilter(config, excluded_urls())
        self._methods = known_methods() or METHODS
        tracer = trace.get_tracer("otel_wirecap", __version__, tracer_provider, names.SCHEMA_URL)
        self._tracer = CaptureTracer(tracer, self._handover, payloads, report_metrics(meter_provider))
        self._warn_once = WarnOnce()
        self._used = False
        self._pid = os.getpid()
        atexit.register(self._tell_if_unused)

    def begin_client(
        self, head: RequestHead, context: Context | None, flow: LiveFlow
    ) -> tuple[LiveExchange, CaptureSpan]:
        """Begins the exchange between a client and this process.

        Args:
            head: the request.
            context: that of the span's parent; None: the current one.
            flow: a new one.
        """
        return self._begin("client", flow, None, head, context)

    def begin_backend(
        self, head: RequestHead, server: tuple[str, int], flow: LiveFlow | None, set_headers: SetHeaders
    ) -> tuple[LiveExchange, CaptureSpan]:
        """Begins an exchange with a backend.

        Args:
            head: the request.
            server: the host and the port that it is sent to.
            flow: the one that it is an attempt of; None: the current one, else a flow of its own.
            set_headers: is called if the request is to have further headers, those of the trace context.
        """
        flow = flow or current_flow()
        context = None
        if flow is None:
            flow, context = self.new_flow(), parent_of_new_flow()
            annotations = flow_annotations.get()
            if annotations is not None:
                flow.annotate(now_ns(), annotations, self)
        elif flow.span is not None:
            context = parent_of_attempt(flow.span)
        return self._begin("backend", flow, next(flow.attempts), head, context, server, set_headers)

    def wants(self, leg: Leg, url: str) -> bool:
        """Whether an exchange that begins now is to be captured. A flow that began before a pause is finished.

        ``suppress_instrumentation`` is heeded: exporters send under it. ``suppress_http_instrumentation`` is not: SDKs
        set it around requests for which they make a span themselves, but such a span records no payload. So such a
        request is captured, and gets no second span.
        """
        if is_suppressed(is_instrumentation_enabled):
            return False
        chosen = self.filter
        if chosen.paused and (leg == "client" or current_flow() is None):
            chosen.passed_over += 1
            return False
        return chosen.takes(leg, url)

    def new_flow(self) -> LiveFlow:
        """A flow of its own."""
        return LiveFlow("req_" + random_hex(10))

    def pause(self) -> None:
        """No new flow is captured from now on; the capture says so."""
        if not self.filter.paused:
            self.filter.paused, self.filter.passed_over = True, 0
            self._report("system_pause", {})

    def resume(self) -> None:
        """New flows are captured again; the capture says so, and how many exchanges passed by."""
        if self.filter.paused:
            self.filter.paused = False
            self._report("system_resume", {"exchanges_passed_over": self.filter.passed_over})

    def _report(self, direction: str, payload: dict[str, object]) -> None:
        self.put(EventKind.SYSTEM, None, now_ns(), (direction, payload), HEAD_SIZE)

    def _begin(
        self,
        leg: Leg,
        flow: LiveFlow,
        attempt: int | None,
        head: RequestHead,
        context: Context | None,
        server: tuple[str, int] | None = None,
        set_headers: SetHeaders | None = None,
    ) -> tuple[LiveExchange, CaptureSpan]:
        if not self._used:
            self._used = True
            atexit.unregister(self._tell_if_unused)
            inform("the first exchange is captured, into %s", self.config.capture_file)
            # By now the application has set up its tracing, whose end must come after these two.
            atexit.register(self._handover.close)
            close_first_at_exit()
        began_unix_ns, began_ns = time.time_ns(), now_ns()
        exchange_id = "ex_" + random_hex(10)
        method = method_of(head.method, self._methods)
        attributes: dict[str, AttributeValue] = {
            names.HTTP_REQUEST_METHOD: method,
            names.WIRECAP_REQUEST_ID: flow.id,
            names.WIRECAP_EXCHANGE_ID: exchange_id,
            names.WIRECAP_LEG: leg,
        }
        if server is not None:
            attributes[names.SERVER_ADDRESS], attributes[names.SERVER_PORT] = server
        if attempt is not None:
            attributes[names.WIRECAP_ATTEMPT] = attempt
            if attempt > 1:
                attributes[names.HTTP_REQUEST_RESEND_COUNT] = attempt - 1
        span = self._tracer.start(leg, method, attributes, context, began_unix_ns, flow.trace_id)
        ids, wants_end = span.identity, span.wants_end
        if flow.trace_id is None:
            flow.trace_id = ids.trace_id
        about = ExchangeHead(
            leg, flow.id, attempt, ids.trace_id, ids.span_id, began_unix_ns, began_ns, wants_end, span.wants_records
        )
        exchange = LiveExchange(exchange_id, about, flow, self)
        if wants_end:
            open_spans.add(exchange_id, span, began_ns)
        if server is not None and set_headers is not None:
            head = self._propagated(span, head, server, set_headers)
        exchange.begin(head)
        return exchange, span

    def _propagated(
        self, span: CaptureSpan, head: RequestHead, server: tuple[str, int], set_headers: SetHeaders
    ) -> RequestHead:
        """The head as it is sent: with the trace context where that is wanted."""
        try:
            carrier = context_headers(self._propagate, span.inner, head.headers, server)
            return head._replace(headers=set_headers(carrier)) if carrier else head
        except Exception as error:  # noqa: BLE001  # a propagator of the user's
            warn_once("a trace context is not sent on: %s", type(error).__name__)
            return head

    def ended_unrecorded(self, exchange_id: str, now_ns: int, outcome: Outcome) -> None:
        """An exchange is over whose end no writer will answer: ends its span."""
        open_spans.ended(exchange_id, now_ns, ExchangeFacts(outcome=outcome))

    def failed(self, exchange_id: str | None, error: Exception) -> None:
        """Reports an error of our own: in the capture, and once for each place in the log.

        Without its text, which may quote a payload.
        """
        with contextlib.suppress(Exception):
            name = type(error).__name__
            self.exporter.lose(Loss("capture_failure", exchanges=1, error=name, exchange_id=exchange_id))
        self._warn_once("an exchange is not captured: %s in %s", type(error).__name__, place_of(error))

    def _tell_if_unused(self) -> None:
        """Says why nothing was captured, where that can be known."""
        names = unhooked_libraries()
        if names and not self._used and self._pid == os.getpid():  # a forked child has no part in the capture yet
            self.put(EventKind.SYSTEM, None, now_ns(), {"unhooked_libraries": names}, HEAD_SIZE)
            warn("this process has captured nothing: requests by %s are not captured", ", ".join(names))

    def close(self) -> None:
        """Ends this use of the capture."""
        atexit.unregister(self._tell_if_unused)
        self._tell_if_unused()
        self.exporter.shutdown()
        atexit.unregister(self._handover.close)
        self._handover.close()


def _payloads(config: CaptureConfig, logger_provider: LoggerProvider | None, handover: Handover) -> Payloads | None:
    """What sends payloads to collectors; None where nobody asked for it."""
    if config.capture_span_payloads == "off" or config.capture_file is None:
        return None
    path = os.fspath(config.capture_file.absolute())
    return Payloads(config.capture_span_payloads, path, logger_provider, handover)


_runtime: Runtime | None = None


def active() -> Runtime | None:
    """The running capture, None where there is none."""
    return _runtime


def set_active(runtime: Runtime | None) -> None:
    """Makes ``runtime`` the running capture."""
    global _runtime  # one capture a process: this is where it lives
    _runtime = runtime
