"""The flow that the current context belongs to, and the annotations of flows that begin in it.

Invariant: a context whose request has been served belongs to no flow, unless ``carry`` made it: a worker that was
started by the first request that needed it serves all later ones.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from opentelemetry import context as otel_context, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

    from otel_wirecap.capture.exchange import LiveFlow


T = TypeVar("T")


class FlowLink(NamedTuple):
    """What a context belongs to.

    Attributes:
        flow: the flow.
        span: the span of the flow's client exchange; None where that is not captured, or has not begun.
        carried: whether ``carry`` made the context, which then belongs to the flow for as long as it lasts.
        begin: begins the client exchange, if it has not begun; None: it began with the flow.
    """

    flow: LiveFlow
    span: Span | None
    carried: bool
    begin: Callable[[], None] | None = None


_link: contextvars.ContextVar[FlowLink | None] = contextvars.ContextVar("otel_wirecap_flow", default=None)

flow_annotations: contextvars.ContextVar[bytes | None] = contextvars.ContextVar(
    "otel_wirecap_annotations", default=None
)
"""Annotations of all flows that begin in this context, a JSON object."""


def current_flow() -> LiveFlow | None:
    """The flow that the current context belongs to."""
    link = _link.get()
    if link is None or (link.flow.over and not link.carried):
        return None
    if link.begin is not None:
        link.begin()
    return link.flow


def parent_of_attempt(span: Span) -> Context | None:
    """The context of an attempt's parent span; None: the current one.

    Args:
        span: that of the client's request. It is the parent where no other instrumentation's span is the current one.
    """
    return None if trace.get_current_span().get_span_context().is_valid else trace.set_span_in_context(span)


def parent_of_new_flow() -> Context | None:
    """The context of a new flow's parent span; None: the current one.

    A request that has been served is the parent of nothing that its context begins later.
    """
    link = _link.get()
    return otel_context.Context() if link is not None and trace.get_current_span() is link.span else None


def serving_traceparent() -> list[str] | None:
    """The span of the client's request that this context serves, as ``traceparent``; None where there is none."""
    link = _link.get()
    if link is None or link.flow.over or link.span is None or trace.get_current_span() is not link.span:
        return None
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(link.span))
    return [carrier["traceparent"]] if "traceparent" in carrier else None


def enter_flow(
    flow: LiveFlow, span: Span | None, begin: Callable[[], None] | None = None
) -> contextvars.Token[FlowLink | None]:
    """Makes the current context belong to ``flow``; ``span`` and ``begin`` are those of its ``FlowLink``."""
    return _link.set(FlowLink(flow, span, carried=False, begin=begin))


def leave_flow(flow: LiveFlow, token: contextvars.Token[FlowLink | None]) -> bool:
    """Ends ``flow``: the client's request has been served.

    Returns:
        Whether this is the context in which ``enter_flow`` was called.
    """
    flow.over = True
    return reset(_link, token)


@contextlib.contextmanager
def carried_flow(flow: LiveFlow, context: Context) -> Iterator[None]:
    """Makes the current context belong to ``flow``, also when that has been served; ``context`` is OpenTelemetry's."""
    token, attached = _link.set(FlowLink(flow, None, carried=True)), otel_context.attach(context)
    try:
        yield
    finally:
        if reset(_link, token):
            otel_context.detach(attached)


def reset(variable: contextvars.ContextVar[T], token: contextvars.Token[T]) -> bool:
    """Gives a variable the value of before; returns whether this is the context in which the token was made."""
    try:
        variable.reset(token)
    except ValueError:  # the garbage collector closes a coroutine in another context: there is nothing to reset there
        return False
    return True
