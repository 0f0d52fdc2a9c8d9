"""What ``otel-wirecap run`` and ``opentelemetry-instrument`` put in front of a Python process: starts the capture.

Python imports a module of this name at start-up. It must never harm the process that it is loaded into, which may be
of another environment than the command's: then it says so, once, and the process runs on uncaptured. The module of
this name that it hides is imported too: OpenTelemetry's before the capture starts, any other one afterwards.
"""

import os
import sys
from collections.abc import Callable

_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120  # pathlib costs start-up time


def _start_capture(*, opentelemetry_was_first: bool = False) -> None:
    try:
        from otel_wirecap.instrumentation.instrumentor import AutoInstrumentor, start_where_passed_over
    except ImportError as error:
        print(  # noqa: T201  # there is no logger to ask in somebody else's environment
            f"otel-wirecap: {sys.executable} is not captured: {error}; "
            "install otel-wirecap in the environment of the command",
            file=sys.stderr,
        )
        return
    if opentelemetry_was_first:
        start_where_passed_over()
    else:
        AutoInstrumentor().instrument(skip_dep_check=True)


def _opentelemetry_is_next() -> bool:
    """Whether it is OpenTelemetry's module of this name that this one hides."""
    theirs = os.path.join("opentelemetry", "instrumentation", "auto_instrumentation")  # noqa: PTH118
    return any(entry.endswith(theirs) for entry in sys.path)


def _is_launcher() -> bool:
    """Whether this process is ``opentelemetry-instrument``, which only prepares the way and becomes the command."""
    return any(os.path.basename(part) == "opentelemetry-instrument" for part in sys.orig_argv[:3])  # noqa: PTH119


def _stay_first() -> None:
    """Keeps this module in front of OpenTelemetry's in processes that this one starts; theirs went to the front."""
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if _HERE in paths:
        paths.remove(_HERE)
        os.environ["PYTHONPATH"] = os.pathsep.join([_HERE, *paths])


def _hand_over() -> None:
    """Imports the sitecustomize that this one hides, if there is one."""
    hidden = [entry for entry in sys.path if os.path.abspath(entry or ".") != _HERE]  # noqa: PTH100
    if len(hidden) == len(sys.path):
        return
    own = sys.modules.pop("sitecustomize", None)
    sys.path[:], before = hidden, list(sys.path)
    try:
        import sitecustomize  # type: ignore  # noqa: F401  # whichever there is, or none
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
        if own is not None:
            sys.modules["sitecustomize"] = own
    finally:
        if sys.path == hidden:
            sys.path[:] = before


def _guarded(action: Callable[[], None]) -> None:
    try:
        action()
    except Exception as error:  # noqa: BLE001  # the process is not ours
        print(f"otel-wirecap: not captured: {type(error).__name__}", file=sys.stderr)  # noqa: T201


if _is_launcher():  # ``instrumentation/environment_variables`` sees to it that what it becomes comes here, too
    _hand_over()
elif _opentelemetry_is_next():
    try:
        _hand_over()
    finally:
        _guarded(_stay_first)
        _guarded(lambda: _start_capture(opentelemetry_was_first=True))
else:
    _guarded(_start_capture)
    _hand_over()
