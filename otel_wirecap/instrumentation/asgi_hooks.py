"""Automatic wrapping of ASGI servers and frameworks: lazily, when the application imports them."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from otel_wirecap.instrumentation.asgi import WireCaptureMiddleware, flush_before_exit, record
from otel_wirecap.instrumentation.patching import patch, unpatch


def _load(wrapped: Any, instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Uvicorn's ``Config.load``: wraps the loaded application, outside of all its own middleware."""
    loaded = wrapped(*arguments, **keywords)
    app = getattr(instance, "loaded_app", None)
    if app is not None and not isinstance(app, WireCaptureMiddleware) and instance.interface != "wsgi":
        instance.loaded_app = WireCaptureMiddleware(app)
    return loaded


async def _shutdown(wrapped: Any, _instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """Uvicorn's ``Server.shutdown``: after it the server raises the signal again that it was stopped with."""
    try:
        return await wrapped(*arguments, **keywords)
    finally:
        await flush_before_exit()


def _call(wrapped: Any, _instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """A framework's application object being called; not async, so that a wrong call raises at once, as it does bare.

    uvicorn finds out by such a call whether an application is a factory.
    """
    given = dict(zip(("scope", "receive", "send"), arguments, strict=False)) | keywords
    if given.keys() != {"scope", "receive", "send"}:
        return wrapped(*arguments, **keywords)
    return record(wrapped, given["scope"], given["receive"], given["send"])


def install_uvicorn_config(module: ModuleType) -> None:
    """Hooks ``uvicorn.config``."""
    patch(module.Config, "load", _load)


def remove_uvicorn_config(module: ModuleType) -> None:
    """Takes the hook out of ``uvicorn.config``."""
    unpatch(module.Config, "load")


def install_uvicorn_server(module: ModuleType) -> None:
    """Hooks ``uvicorn.server``."""
    patch(module.Server, "shutdown", _shutdown)


def remove_uvicorn_server(module: ModuleType) -> None:
    """Takes the hook out of ``uvicorn.server``."""
    unpatch(module.Server, "shutdown")


def install_starlette(module: ModuleType) -> None:
    """Hooks ``starlette.applications``; FastAPI's applications call it."""
    patch(module.Starlette, "__call__", _call)


def remove_starlette(module: ModuleType) -> None:
    """Takes the hook out of ``starlette.applications``."""
    unpatch(module.Starlette, "__call__")


def instrument_app(app: Any) -> Any:
    """Records the HTTP exchanges of one ASGI application.

    Args:
        app: a Starlette or FastAPI application, which is changed and returned, or any ASGI callable, which is wrapped.

    Returns:
        The application to serve: ``app = instrument_app(app)``.
    """
    if isinstance(app, WireCaptureMiddleware):
        return app
    if not hasattr(app, "build_middleware_stack"):
        return WireCaptureMiddleware(app)
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
