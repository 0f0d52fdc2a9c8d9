"""Starting and stopping: ``instrument()``, ``uninstrument()`` and OpenTelemetry's instrumentor."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]  # a namespace package

from otel_wirecap import native
from otel_wirecap.client_libraries import CLIENT_LIBRARIES
from otel_wirecap.config import SETTINGS, load_config, unknown_variables
from otel_wirecap.environment import is_switched_off
from otel_wirecap.errors import CaptureFileError, ConfigurationError
from otel_wirecap.instrumentation import asgi_hooks, httpx, process_hooks
from otel_wirecap.instrumentation.patching import LazyHooks
from otel_wirecap.instrumentation.runtime import Runtime, active, set_active
from otel_wirecap.log import log_error, warn
from otel_wirecap.messages import without_secrets

PROVIDERS = ("tracer_provider", "meter_provider", "logger_provider")

_lock = native.RLock()
_client_hooks = [
    importlib.import_module(f"otel_wirecap.instrumentation.{name}")
    for name in dict.fromkeys(library.hook for library in CLIENT_LIBRARIES)
]
_hooks = LazyHooks(
    (*(hook for module in _client_hooks for hook in module.HOOKS), *asgi_hooks.HOOKS, *process_hooks.HOOKS)
)


class WireCaptureInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # the base class is not typed
    """OpenTelemetry's way to start a capture: settings as keyword arguments of ``instrument()``.

    ``tracer_provider`` makes the capture's spans, ``meter_provider`` gets its counters, ``logger_provider`` makes log
    records of payloads where that is asked for; default: the global ones.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """None is needed: what is there is hooked when it is imported."""
        return ()

    def instrument(self, **options: Any) -> None:
        """Starts the capture; nothing happens where it runs with all hooks.

        Raises:
            ConfigurationError: a setting is unknown or has a value that cannot be used.
        """
        with _lock:
            runtime = active()
            if runtime is not None and _hooks.installed:
                if load_config(_settings_of(options)) != runtime.config:
                    warn("capture runs already, into %s; it keeps its settings", runtime.config.capture_file)
                return
            # What is so, not what was asked for: capture may have stayed off for want of a file.
            self._is_instrumented_by_opentelemetry = False
            super().instrument(**options)

    def uninstrument(self, **options: Any) -> None:
        """Takes all hooks out and ends the capture, also one that ``instrument_client`` or ``instrument_app`` began."""
        with _lock:
            self._is_instrumented_by_opentelemetry = _hooks.installed or active() is not None
            super().uninstrument(**options)

    def _instrument(self, **settings: Any) -> None:
        start(settings)
        if active() is not None:
            _hooks.install()

    def _uninstrument(self, **_settings: Any) -> None:
        _hooks.remove()
        stop()


class AutoInstrumentor(WireCaptureInstrumentor):
    """What ``opentelemetry-instrument`` calls: a setting that cannot be used is logged, the application runs on.

    Attributes:
        was_asked: whether anybody has called ``instrument`` in this process.
    """

    was_asked = False

    _instance = None  # of this class: the base class makes one of a family, whose instrument() may raise

    def instrument(self, **options: Any) -> None:
        """Starts the capture that the environment (or declarative configuration) describes; never raises."""
        AutoInstrumentor.was_asked = True
        if active() is not None:  # by ``otel-wirecap run``, or by the application
            return
        try:
            settings = {name: value for name, value in options.items() if name in {"config", *SETTINGS}}
            if load_config(settings).capture_file is not None:  # else it is off, and nobody has asked for it
                WireCaptureInstrumentor().instrument(**options)
            else:
                for message in unknown_variables():  # it may have been one
                    warn("capture is off: %s", message)
        except Exception as error:  # noqa: BLE001  # the application runs on
            # One clear line, no traceback.
            reason = error if isinstance(error, ConfigurationError) else f"{type(error).__name__}: {error}"
            log_error("capture is off: %s", without_secrets(reason))

    def uninstrument(self, **options: Any) -> None:
        """Stops the capture."""
        WireCaptureInstrumentor().uninstrument(**options)


def start_where_passed_over() -> None:
    """Starts the capture where OpenTelemetry's set-up, which is over, never came to it; never raises."""
    if AutoInstrumentor.was_asked:
        return
    AutoInstrumentor().instrument(skip_dep_check=True)
    runtime = active()
    if runtime is not None and not is_switched_off():
        message = (
            "OpenTelemetry's set-up gave up (see above), and sends nothing; the capture runs, into %s; "
            "otel-wirecap doctor says what is missing"
        )
        warn(message, runtime.config.capture_file)


def _settings_of(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in PROVIDERS}


def start_in_child(packed: bytes) -> None:
    """Starts the capture of a process that a captured one has started, unless one runs.

    Args:
        packed: the parent's settings, pickled.

    Raises:
        WireCaptureError: it cannot be started here.
    """
    with _lock:
        if active() is None:
            set_active(Runtime(pickle.loads(packed)))  # noqa: S301  # by our own parent
            _hooks.install()


def instrument(**settings: Any) -> None:
    """Starts to capture this process's LLM traffic: its clients' (``CLIENT_LIBRARIES``) and its servers'.

    Call it before clients or applications are used; those made before are captured too. Without a capture file
    (argument, ``WIRE_CAPTURE_FILE`` or configuration file) capture is off and nothing is hooked. This, and a capture
    file that cannot be opened, are logged, and the application runs on.

    Args:
        settings: any setting by name, such as ``capture_file="wire_capture.log"``; ``config``: a YAML file;
            ``tracer_provider``: makes the capture's spans; ``meter_provider``: gets its counters.

    Raises:
        ConfigurationError: a setting is unknown or has a value that cannot be used.
    """
    WireCaptureInstrumentor().instrument(**settings)


def uninstrument() -> None:
    """Ends the capture and takes all hooks out; waits a few seconds at most until everything is in the file."""
    WireCaptureInstrumentor().uninstrument()


def start(settings: dict[str, Any]) -> None:
    """Starts the capture without hooking anything by itself; nothing happens where one runs.

    Raises:
        ConfigurationError: a setting is unknown or has a value that cannot be used.
    """
    with _lock:
        if active() is not None:
            return
        providers = {name: settings.pop(name, None) for name in PROVIDERS}
        config = load_config(settings)
        if config.capture_file is None:
            warn("capture is off: neither capture_file nor WIRE_CAPTURE_FILE is set")
            return
        for message in unknown_variables():
            warn("%s", message)
        try:
            set_active(Runtime(config, **providers))
        except CaptureFileError as error:
            log_error("capture is off: %s", without_secrets(error))


def stop() -> None:
    """Ends the running capture."""
    runtime = active()
    set_active(None)
    if runtime is not None:
        runtime.close()


def instrument_client(client: Any, **settings: Any) -> None:
    """Captures one client object of httpx or httpx2, starting the capture where none runs.

    Raises:
        ConfigurationError: a setting is unknown or has a value that cannot be used.
        TypeError: ``client`` is no client of httpx or httpx2.
    """
    httpx.instrument_client(client)
    start(settings)


def instrument_app(app: Any, **settings: Any) -> Any:
    """Captures one ASGI application, starting the capture where none runs.

    Returns:
        The application to serve: ``app = instrument_app(app)``.

    Raises:
        ConfigurationError: a setting is unknown or has a value that cannot be used.
        TypeError: ``app`` cannot be called.
    """
    instrumented = asgi_hooks.instrument_app(app)
    start(settings)
    return instrumented
