"""What all hooks share: the running capture, the flow of the current context, and the guard.

Invariants:

- At most one capture runs in a process; hooks look it up at every request, so that it can be started and stopped at
  any time, and pass everything through when there is none.
- Nothing that goes wrong in here reaches the application: it is counted and told once for each place.
"""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import functools
import inspect
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeAlias, TypeVar, cast

import orjson
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import Span, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_wirecap.capture.events import (
    ErrorInfo,
    EventKind,
    ExchangeHead,
    Headers,
    Leg,
    Outcome,
    RequestHead,
    WebsocketClose,
)
from otel_wirecap.capture.exchange import HEAD_SIZE, Exchange, Flow
from otel_wirecap.capture.facts import ExchangeFacts
from otel_wirecap.config import excluded_urls, known_methods
from otel_wirecap.errors import place_of
from otel_wirecap.instrumentation.choice import Choice
from otel_wirecap.log import WarnOnce, warn_once
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
from otel_wirecap.tracing.span import CaptureSpan, is_suppressed, start_capture_span
from otel_wirecap.tracing.spans import open_spans
from otel_wirecap.version import __version__

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.util.types import AttributeValue

    from otel_wirecap.config import CaptureConfig
    from otel_wirecap.storage.stats import CaptureStats

ORDINARY_CLOSES = frozenset({1000, 1001, 1005})
"""Close codes that tell of no trouble: normal, going away, none given (RFC 6455, 7.4.1)."""

NO_CLOSE_FRAME = 1006


class _Link(NamedTuple):
    """What a context belongs to: a flow, and the span of its client exchange; ``carried``: on purpose, by ``carry``."""

    flow: Flow
    span: Span | None
    carried: bool


_link: contextvars.ContextVar[_Link | None] = contextvars.ContextVar("otel_wirecap_flow", default=None)
_ambient_annotations: contextvars.ContextVar[bytes | None] = contextvars.ContextVar(
    "otel_wirecap_annotations", default=None
)

now_ns = time.monotonic_ns


def current_flow() -> Flow | None:
    """The flow that the current context belongs to.

    A task that outlives the request in whose context it was started is not that request's any more: a worker that was
    made by the first request that needed it serves all later ones.
    """
    link = _link.get()
    return None if link is None or (link.flow.over and not link.carried) else link.flow


def serving_traceparent() -> list[str] | None:
    """The span of the client's request that this context serves, as ``traceparent``; None where there is none."""
    link = _link.get()
    if link is None or link.flow.over or link.span is None or trace.get_current_span() is not link.span:
        return None
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(link.span))
    return [carrier["traceparent"]] if "traceparent" in carrier else None


def enter_flow(flow: Flow, span: Span | None) -> contextvars.Token[_Link | None]:
    """The current context now belongs to ``flow``; ``span`` is that of its client exchange."""
    return _link.set(_Link(flow, span, carried=False))


def leave_flow(flow: Flow, token: contextvars.Token[_Link | None]) -> bool:
    """The client's request has been served; False where this is another context than the one it was served in."""
    flow.over = True
    return _put_back(token)


def _put_back(token: contextvars.Token[_Link | None]) -> bool:
    try:
        _link.reset(token)
    except ValueError:  # the garbage collector closes a coroutine in another context: nothing is to be put back there
        return False
    return True


Inject: TypeAlias = Callable[[dict[str, str]], Headers]
"""Sets headers on a request that is about to be sent; returns all of its headers as they are then."""


class Begun(NamedTuple):
    """An exchange that has begun, with its span."""

    exchange: Exchange
    span: CaptureSpan


class Runtime:
    """The running capture: the ``Host`` of all exchanges.

    Args:
        config: the settings, a capture file among them.
        tracer_provider: whose spans the capture's spans are; None: the global provider, also one set later.
        meter_provider: who is told the capture's counters; None: the global provider, also one set later.
        logger_provider: whose log records payloads become, where that is asked for; None: the global provider's.

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
        self.capture_file = config.capture_file
        self._propagate = config.capture_propagate
        self._handover = Handover()
        self._payloads = _payloads(config, logger_provider, self._handover)
        self.exporter = WireCaptureSpanExporter(config)
        self.put = self.exporter.emit
        self.flow_gone = self.exporter.flow_gone
        if self._payloads is not None:
            self.exporter.observe_system_records(self._payloads.tell_system_record)
        self._metrics = report_metrics(meter_provider)
        self.choice = Choice(config, excluded_urls())
        self._methods = known_methods() or METHODS
        self._tracer = trace.get_tracer("otel_wirecap", __version__, tracer_provider, names.SCHEMA_URL)
        self._warn_once = WarnOnce()
        self._used = False

    def begin_client(self, head: RequestHead, context: Context | None) -> Begun:
        """Begins the exchange between a client and this process; a flow of its own."""
        return self._begin("client", self.new_flow(), None, head, context)

    def begin_backend(self, head: RequestHead, server: tuple[str, int], flow: Flow | None, inject: Inject) -> Begun:
        """Begins an exchange with a backend: an attempt of ``flow`` or of the current flow, else a flow of its own.

        ``inject`` is called where the request is to have further headers.
        """
        flow = flow or current_flow()
        context = None
        if flow is None:
            flow = self.new_flow()
            link = _link.get()
            if link is not None and trace.get_current_span() is link.span:
                context = otel_context.Context()  # no child of the request that is over
            annotations = _ambient_annotations.get()
            if annotations is not None:
                flow.annotate(now_ns(), annotations, self)
        return self._begin("backend", flow, next(flow.attempts), head, context, server, inject)

    def wants(self, leg: Leg, url: str) -> bool:
        """Whether an exchange that begins now is to be captured. A flow that began before a pause is finished.

        ``suppress_instrumentation`` is heeded: exporters send under it. ``suppress_http_instrumentation`` is not: SDKs
        set it around requests for which they make a span themselves, but such a span records no payload. So such a
        request is captured, and gets no second span.
        """
        if is_suppressed(is_instrumentation_enabled):
            return False
        choice = self.choice
        if choice.paused and (leg == "client" or current_flow() is None):
            choice.passed_over += 1
            return False
        return choice.leg(leg) and choice.url(url)

    def new_flow(self) -> Flow:
        """A flow of its own."""
        return Flow(_new_id("req"))

    def pause(self) -> None:
        """No new flow is captured from now on; the capture says so."""
        if not self.choice.paused:
            self.choice.paused, self.choice.passed_over = True, 0
            self._tell("system_pause", {})

    def resume(self) -> None:
        """New flows are captured again; the capture says so, and how many exchanges passed by."""
        if self.choice.paused:
            self.choice.paused = False
            self._tell("system_resume", {"exchanges_passed_over": self.choice.passed_over})

    def _tell(self, direction: str, payload: dict[str, object]) -> None:
        self.put(EventKind.SYSTEM, None, now_ns(), (direction, payload), HEAD_SIZE)

    def _begin(
        self,
        leg: Leg,
        flow: Flow,
        attempt: int | None,
        head: RequestHead,
        context: Context | None,
        server: tuple[str, int] | None = None,
        inject: Inject | None = None,
    ) -> Begun:
        if not self._used:
            self._used = True
            # By now the application has set up its tracing, whose end must come after these two.
            atexit.register(self._handover.close)
            close_first_at_exit()
        began_unix_ns, began_ns = time.time_ns(), now_ns()
        exchange_id = _new_id("ex")
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
        span = start_capture_span(
            self._tracer, leg, method, attributes,
            context=context, start_time=began_unix_ns, handover=self._handover, flow_trace_id=flow.trace_id,
            payloads=self._payloads, metrics=self._metrics,
        )  # fmt: skip
        if flow.trace_id is None:
            flow.trace_id = span.trace_id
        wants_end = span.wants_end
        about = ExchangeHead(
            leg, flow.id, attempt, span.trace_id, span.span_id, began_unix_ns, began_ns, wants_end, span.wants_records
        )
        exchange = Exchange(exchange_id, about, flow, self)
        if wants_end:
            open_spans.add(exchange_id, span, began_ns)
        if server is not None and inject is not None:
            head = self._propagated(span, head, server, inject)
        exchange.begin(head)
        return Begun(exchange, span)

    def _propagated(self, span: CaptureSpan, head: RequestHead, server: tuple[str, int], inject: Inject) -> RequestHead:
        """The head as it is sent: with the trace context where that is wanted."""
        try:
            carrier = context_headers(self._propagate, span.inner, head.headers, server)
            return head._replace(headers=inject(carrier)) if carrier else head
        except Exception as error:  # noqa: BLE001  # a propagator of the user's
            warn_once("a trace context is not sent on: %s", type(error).__name__)
            return head

    def ended_unrecorded(self, exchange_id: str, now_ns: int, outcome: Outcome) -> None:
        """An exchange is over whose end no writer will answer: ends its span."""
        open_spans.ended(exchange_id, now_ns, ExchangeFacts(outcome=outcome))

    def failed(self, exchange_id: str | None, error: Exception) -> None:
        """Tells an error of our own in the capture, and once for each place in the log, without its text.

        That may quote a payload.
        """
        with contextlib.suppress(Exception):
            name = type(error).__name__
            self.exporter.lose(Loss("capture_failure", exchanges=1, error=name, exchange_id=exchange_id))
        self._warn_once("an exchange is not captured: %s in %s", type(error).__name__, place_of(error))

    def close(self) -> None:
        """Ends this use of the capture."""
        self.exporter.shutdown()
        atexit.unregister(self._handover.close)
        self._handover.close()


def _payloads(config: CaptureConfig, logger_provider: LoggerProvider | None, handover: Handover) -> Payloads | None:
    """Who tells payloads to collectors; None where nobody asked for it."""
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


def annotate(
    *,
    session_id: str | None = None,
    backend: str | None = None,
    model: str | None = None,
    key_name: str | None = None,
    **metadata: object,
) -> None:
    """Says of the current flow what only the application knows; holds for the flow's records from now on.

    Within a request that a server hook has seen, it is about that request and the backend exchanges it causes. Outside
    of one (a script that calls a backend), it is about every flow that begins later in the same context.

    Args:
        session_id: the conversation or agent run that the flow belongs to.
        backend: the name of the backend that is asked.
        model: the model that is asked for.
        key_name: the name of the credential that is used, never its value.
        metadata: further keys of ``metadata``, JSON values; names that the schema uses are kept for the schema.

    Never raises, and does nothing as long as no capture runs.
    """
    runtime = _runtime
    if runtime is None:
        return
    try:
        identity = {"session_id": session_id, "backend": backend, "model": model, "key_name": key_name}
        annotations = {name: value for name, value in identity.items() if value is not None} | metadata
        document = orjson.dumps(annotations, default=str, option=orjson.OPT_NON_STR_KEYS)
        flow = current_flow()
        if flow is not None:
            flow.annotate(now_ns(), document, runtime)
            return
        before = _ambient_annotations.get()
        if before is not None:
            document = orjson.dumps(orjson.loads(before) | orjson.loads(document))
        _ambient_annotations.set(document)
    except Exception as error:  # noqa: BLE001  # the host is never harmed
        runtime.failed(None, error)


def pause() -> None:
    """Captures no new exchange until ``resume()``; those that run are captured to their end, with what they cause.

    May be called from any thread, and from a signal handler.
    """
    if _runtime is not None:
        _runtime.pause()


def resume() -> None:
    """Ends a ``pause()``; may be called from wherever that may."""
    if _runtime is not None:
        _runtime.resume()


def stats() -> CaptureStats | None:
    """The counters of the running capture in this process; None where none runs."""
    return None if _runtime is None else _runtime.exporter.stats()


P = ParamSpec("P")
T = TypeVar("T")


def carry(function: Callable[P, T]) -> Callable[P, T]:
    """Makes ``function`` part of the current request wherever and whenever it is called.

    For the ways on which Python loses the context (``run_in_executor``, a thread of one's own, a queue whose worker
    was started elsewhere) and for work that outlives the request on purpose. Outside of a request, or where no capture
    runs, the function itself is returned.

    Args:
        function: any callable; where it makes a coroutine, that runs as part of the request.

    Raises:
        TypeError: ``function`` makes a generator, whose steps are taken by somebody else: carry that one.
    """
    called = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        name = getattr(function, "__qualname__", function)
        raise TypeError(f"carry: {name} is a generator function; expected the function that iterates over it")
    flow = current_flow()
    if flow is None:
        return function
    link, context = _Link(flow, None, carried=True), otel_context.get_current()

    @contextlib.contextmanager
    def carried() -> Iterator[None]:
        token, attached = _link.set(link), otel_context.attach(context)
        try:
            yield
        finally:
            if _put_back(token):
                otel_context.detach(attached)

    async def finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with carried():
            return await coroutine

    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called):

        @functools.wraps(function)
        async def call_async(*arguments: P.args, **keywords: P.kwargs) -> Any:
            return await finish(cast("Coroutine[Any, Any, Any]", function(*arguments, **keywords)))

        return cast("Callable[P, T]", call_async)

    @functools.wraps(function)
    def call(*arguments: P.args, **keywords: P.kwargs) -> T:
        with carried():
            result = function(*arguments, **keywords)
        return cast("T", finish(result)) if inspect.iscoroutine(result) else result

    return call


def guarded(exchange: Exchange, action: Callable[..., None], *arguments: Any, **keywords: Any) -> None:
    """Calls an action of ours that records something of ``exchange``, so that its failure harms nobody."""
    try:
        action(*arguments, **keywords)
    except Exception as error:  # noqa: BLE001  # the host is never harmed
        exchange.fail(now_ns(), error)


def outcome_of(error: BaseException) -> tuple[Outcome, ErrorInfo | None]:
    """How an exchange ends on which ``error`` was raised: asyncio's and trio's cancellations are no errors."""
    name = type(error).__name__
    if name in {"CancelledError", "Cancelled"}:
        return "cancelled", None
    if isinstance(error, GeneratorExit):
        return "closed", None
    try:
        message = str(error)
    except Exception:  # noqa: BLE001  # somebody else's __str__
        message = ""
    return "error", ErrorInfo(name, message)


def outcome_of_close(close: WebsocketClose) -> tuple[Outcome, ErrorInfo | None]:
    """How a websocket ended that was closed so."""
    if close.code in ORDINARY_CLOSES:
        return "complete", None
    return "error", ErrorInfo("WebsocketClosed", f"{close.code} {close.reason}".rstrip())


def _new_id(kind: str) -> str:
    return f"{kind}_{random_hex(10)}"
