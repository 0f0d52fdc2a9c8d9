"""What all hooks share: the running capture, the flow of the current context, and the guard.

Invariants:

- At most one capture runs in a process; hooks look it up at every request, so that it can be started and stopped at
  any time, and pass everything through when there is none.
- Nothing that goes wrong in here reaches the application: it is counted and told once for each place.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import secrets
import time
from typing import TYPE_CHECKING, NamedTuple

import orjson
from opentelemetry import trace
from opentelemetry.trace import SpanKind, TracerProvider

from otel_wirecap.capture.events import ErrorInfo, EventKind, Leg, Outcome, RequestHead, WebsocketClose
from otel_wirecap.capture.exchange import HEAD_SIZE, Exchange, Flow
from otel_wirecap.storage.registry import close_first_at_exit
from otel_wirecap.tracing import attributes as names
from otel_wirecap.tracing.exporter import WireCaptureSpanExporter
from otel_wirecap.tracing.span import CaptureSpan, start_capture_span
from otel_wirecap.version import __version__

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue

    from otel_wirecap.config import CaptureConfig

logger = logging.getLogger("otel_wirecap")

SCHEMA_URL = "https://opentelemetry.io/schemas/1.40.0"

ORDINARY_CLOSES = frozenset({1000, 1001, 1005})
"""Close codes that tell of no trouble: normal, going away, none given (RFC 6455, 7.4.1)."""

NO_CLOSE_FRAME = 1006

current_flow: contextvars.ContextVar[Flow | None] = contextvars.ContextVar("otel_wirecap_flow", default=None)
_ambient_annotations: contextvars.ContextVar[bytes | None] = contextvars.ContextVar(
    "otel_wirecap_annotations", default=None
)

now_ns = time.monotonic_ns


class Begun(NamedTuple):
    """An exchange that has begun, with its span."""

    exchange: Exchange
    span: CaptureSpan


class Runtime:
    """The running capture.

    Args:
        config: the settings, a capture file among them.
        tracer_provider: whose spans the capture's spans are; None: the global provider, also one set later.

    Raises:
        CaptureFileError: the capture file cannot be opened.
    """

    def __init__(self, config: CaptureConfig, tracer_provider: TracerProvider | None = None) -> None:
        self.exporter = WireCaptureSpanExporter(config)
        self._tracer = trace.get_tracer("otel_wirecap", __version__, tracer_provider, SCHEMA_URL)
        self._told: set[str] = set()
        self._used = False
        self.failures = 0

    def begin_client(self, head: RequestHead, context: Context | None, server: tuple[str, int] | None) -> Begun:
        """Begins the exchange between a client and this process; a flow of its own."""
        flow = Flow(_new_id("req"))
        return self._begin("client", flow, None, head, SpanKind.SERVER, context, server)

    def begin_backend(self, head: RequestHead, server: tuple[str, int] | None, flow: Flow | None = None) -> Begun:
        """Begins an exchange with a backend: an attempt of ``flow`` or of the current flow, else a flow of its own."""
        flow = flow or current_flow.get()
        if flow is None:
            flow = Flow(_new_id("req"))
            annotations = _ambient_annotations.get()
            if annotations is not None:
                self.exporter.emit(EventKind.ANNOTATE, flow, now_ns(), annotations, HEAD_SIZE)
        return self._begin("backend", flow, flow.next_attempt(), head, SpanKind.CLIENT, None, server)

    def _begin(
        self,
        leg: Leg,
        flow: Flow,
        attempt: int | None,
        head: RequestHead,
        kind: SpanKind,
        context: Context | None,
        server: tuple[str, int] | None,
    ) -> Begun:
        if not self._used:
            self._used = True
            close_first_at_exit()  # by now the application has set up its tracing
        began_unix_ns, began_ns = time.time_ns(), now_ns()
        exchange_id = _new_id("ex")
        attributes: dict[str, AttributeValue] = {
            names.HTTP_REQUEST_METHOD: head.method,
            names.WIRECAP_REQUEST_ID: flow.id,
            names.WIRECAP_EXCHANGE_ID: exchange_id,
            names.WIRECAP_LEG: leg,
        }
        if server is not None:
            attributes[names.SERVER_ADDRESS], attributes[names.SERVER_PORT] = server
        if attempt is not None:
            attributes[names.WIRECAP_ATTEMPT] = attempt
        span = start_capture_span(
            self._tracer, head.method, kind, attributes,
            context=context, start_time=began_unix_ns, exporter=self.exporter,
        )  # fmt: skip
        exchange = Exchange(
            exchange_id,
            leg,
            flow,
            attempt=attempt,
            trace_id=span.trace_id,
            span_id=span.span_id,
            began_unix_ns=began_unix_ns,
            began_ns=began_ns,
            emit=span.emit,
            on_failure=self.failed,
            on_end=span.finish,
        )
        exchange.begin(head)
        return Begun(exchange, span)

    def failed(self, error: Exception) -> None:
        """Counts an error of our own and tells it once for each place, without its text (it may quote a payload)."""
        self.failures += 1
        trace_back = error.__traceback__
        while trace_back is not None and trace_back.tb_next is not None:
            trace_back = trace_back.tb_next
        place = f"{trace_back.tb_frame.f_code.co_qualname}:{trace_back.tb_lineno}" if trace_back else "?"
        if place in self._told:
            return
        self._told.add(place)
        with contextlib.suppress(Exception):  # the application's log handlers must not reach it through us
            logger.warning("an exchange is not captured: %s in %s", type(error).__name__, place)

    def close(self) -> None:
        """Ends this use of the capture."""
        self.exporter.shutdown()


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
        flow = current_flow.get()
        if flow is not None:
            runtime.exporter.emit(EventKind.ANNOTATE, flow, now_ns(), document, len(document))
            return
        before = _ambient_annotations.get()
        if before is not None:
            document = orjson.dumps(orjson.loads(before) | orjson.loads(document))
        _ambient_annotations.set(document)
    except Exception as error:  # noqa: BLE001  # the host is never harmed
        runtime.failed(error)


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
    return f"{kind}_{secrets.token_hex(10)}"
