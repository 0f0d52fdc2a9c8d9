"""Automatic wrapping of ASGI servers and frameworks: lazily, when the application imports them."""

from __future__ import annotations

from typing import Any

from otel_wirecap.instrumentation.asgi import (
    FOREIGN_INSTRUMENTATION,
    SCOPE_KEY,
    WireCaptureMiddleware,
    flush_before_exit,
    record,
)
from otel_wirecap.instrumentation.flow_context import serving_traceparent
from otel_wirecap.instrumentation.patching import Hook, Wrapper
from otel_wirecap.instrumentation.runtime import active


def outermost(app: Any) -> WireCaptureMiddleware:
    """The application with our middleware around it, once."""
    return app if isinstance(app, WireCaptureMiddleware) else WireCaptureMiddleware(app)


def _load(wrapped: Any, instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Uvicorn's ``Config.load``: wraps the loaded application, outside of all its own middleware."""
    loaded = wrapped(*arguments, **keywords)
    _wrap_loaded(instance)
    return loaded


def _wrap_loaded(config: Any) -> None:
    app = getattr(config, "loaded_app", None)
    if app is not None and config.interface != "wsgi":
        config.loaded_app = outermost(app)


async def _shutdown(wrapped: Any, _instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Uvicorn's ``Server.shutdown``: after it the server raises the signal again that it was stopped with."""
    try:
        return await wrapped(*arguments, **keywords)
    finally:
        await flush_before_exit()


async def _startup(wrapped: Any, instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Uvicorn's ``Server.startup``: the application's own module may have started the capture while it was loaded."""
    _wrap_loaded(instance.config)
    return await wrapped(*arguments, **keywords)


def _run(wrapped: Any, instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Gunicorn's ``ASGIWorker.run``: as ``_startup``."""
    instance.asgi = outermost(instance.asgi)
    return wrapped(*arguments, **keywords)


def _wrap_attribute(name: str) -> Wrapper:
    """The wrapper of a method that sets an attribute of that name to the application."""

    def wrapper(wrapped: Any, instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        wrapped(*arguments, **keywords)
        setattr(instance, name, outermost(getattr(instance, name)))

    return wrapper


def _wrap_granian(wrapped: Any, _instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Granian's ``_callback_wrapper(callback, …)``: makes what a worker calls for each request."""
    if "callback" in keywords:
        return wrapped(*arguments, **{**keywords, "callback": outermost(keywords["callback"])})
    return wrapped(outermost(arguments[0]), *arguments[1:], **keywords)


def _call(wrapped: Any, _instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """A framework's application object being called; not async, so that a wrong call raises at once, as it does bare.

    uvicorn finds out by such a call whether an application is a factory.
    """
    if arguments and isinstance(arguments[0], dict) and SCOPE_KEY in arguments[0]:  # a wrapper further out records
        return wrapped(*arguments, **keywords)
    given = dict(zip(("scope", "receive", "send"), arguments, strict=False)) | keywords
    if given.keys() != {"scope", "receive", "send"}:
        return wrapped(*arguments, **keywords)
    return record(wrapped, given["scope"], given["receive"], given["send"])


def _call_instrumentation(wrapped: Any, instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Contrib's ASGI middleware being called: what it calls in turn is within its span, where our recording begins."""
    if callable(getattr(instance, "app", None)):
        instance.app = outermost(instance.app)
    return wrapped(*arguments, **keywords)


def _get_parent(wrapped: Any, _instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """What FastAPI's native telemetry reads from the request's headers, which is all it takes its parent from.

    Where our span of the request is a real one it is the parent, or client leg and backend leg would be of two traces.
    The headers that the application sees are not touched.
    """
    values = wrapped(*arguments, **keywords)
    try:
        if (arguments[1] if len(arguments) > 1 else keywords["key"]) == "traceparent":
            return serving_traceparent() or values
    except Exception as error:  # noqa: BLE001  # the host is never harmed
        runtime = active()
        if runtime is not None:
            runtime.failed(None, error)
    return values


HOOKS = (
    Hook("uvicorn.config", "Config", "load", _load),
    Hook("uvicorn.server", "Server", "startup", _startup),
    Hook("uvicorn.server", "Server", "shutdown", _shutdown),
    Hook("hypercorn.app_wrappers", "ASGIWrapper", "__init__", _wrap_attribute("app")),
    Hook("granian.asgi", "", "_callback_wrapper", _wrap_granian),
    # The names that its servers know it by, where they were imported before the application's own module.
    Hook("granian.server.mp", "", "_asgi_call_wrap", _wrap_granian),
    Hook("granian.server.mt", "", "_asgi_call_wrap", _wrap_granian),
    Hook("gunicorn.workers.gasgi", "ASGIWorker", "run", _run),  # its uvicorn worker is uvicorn
    Hook("starlette.applications", "Starlette", "__call__", _call),  # FastAPI's applications call it
    Hook(FOREIGN_INSTRUMENTATION, "OpenTelemetryMiddleware", "__call__", _call_instrumentation),
    Hook("fastapi.telemetry._asgi", "_HeadersGetter", "get", _get_parent),
    Hook("litestar.app", "Litestar", "__call__", _call),
    Hook("quart.app", "Quart", "__call__", _call),
    Hook("django.core.handlers.asgi", "ASGIHandler", "__call__", _call),
)


def instrument_app(app: Any) -> Any:
    """Records the exchanges of one ASGI application.

    Args:
        app: a Starlette or FastAPI application, which is changed and returned, or any ASGI callable, which is wrapped.

    Returns:
        The application to serve: ``app = instrument_app(app)``.

    Raises:
        TypeError: ``app`` cannot be called.
    """
    if not callable(app):
        raise TypeError(f"instrument_app: {type(app).__name__} is no ASGI application; expected a callable")
    if not hasattr(app, "build_middleware_stack"):
        return outermost(app)
    build = app.build_middleware_stack
    if getattr(build, "_wirecap", False):
        return app

    def build_recorded_stack() -> Any:
        return WireCaptureMiddleware(build())

    build_recorded_stack._wirecap = True  # type: ignore[attr-defined]  # noqa: SLF001  # marks our own function
    app.build_middleware_stack = build_recorded_stack
    if app.middleware_stack is not None:
        app.middleware_stack = WireCaptureMiddleware(app.middleware_stack)
    return app
