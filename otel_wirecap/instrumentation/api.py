"""The public functions that an application calls while a capture runs; without one they do nothing."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

import orjson
from opentelemetry import context as otel_context

from otel_wirecap.instrumentation.flow_context import carried_flow, current_flow, flow_annotations
from otel_wirecap.instrumentation.guard import now_ns
from otel_wirecap.instrumentation.runtime import active

if TYPE_CHECKING:
    from otel_wirecap.storage.stats import CaptureStats

P = ParamSpec("P")
T = TypeVar("T")


def annotate(
    *,
    session_id: str | None = None,
    backend: str | None = None,
    model: str | None = None,
    key_name: str | None = None,
    **metadata: object,
) -> None:
    """Adds to the current flow's records, from now on, what only the application knows.

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
    runtime = active()
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
        before = flow_annotations.get()
        if before is not None:
            document = orjson.dumps(orjson.loads(before) | orjson.loads(document))
        flow_annotations.set(document)
    except Exception as error:  # noqa: BLE001  # the host is never harmed
        runtime.failed(None, error)


def pause() -> None:
    """Captures no new exchange until ``resume()``; those that run are captured to their end, with what they cause.

    May be called from any thread, and from a signal handler.
    """
    runtime = active()
    if runtime is not None:
        runtime.pause()


def resume() -> None:
    """Ends a ``pause()``; may be called from wherever that may."""
    runtime = active()
    if runtime is not None:
        runtime.resume()


def stats() -> CaptureStats | None:
    """The counters of the running capture in this process; None where none runs."""
    runtime = active()
    return None if runtime is None else runtime.exporter.stats()


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
    carried = functools.partial(carried_flow, flow, otel_context.get_current())

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
