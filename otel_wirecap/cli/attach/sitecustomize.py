"""What ``otel-wirecap run`` puts in front of a Python process: starts the capture, then gets out of the way.

Python imports a module of this name at start-up. It must never harm the process that it is loaded into, which may be
of another environment than the command's: then it says so, once, and the process runs on uncaptured.
"""

import os
import sys


def _start_capture() -> None:
    try:
        from otel_wirecap.instrumentation.instrumentor import AutoInstrumentor
    except ImportError as error:
        print(  # noqa: T201  # there is no logger to ask in somebody else's environment
            f"otel-wirecap: {sys.executable} is not captured: {error}; "
            "install otel-wirecap in the environment of the command",
            file=sys.stderr,
        )
        return
    AutoInstrumentor().instrument(skip_dep_check=True)


def _is_launcher() -> bool:
    """Whether this process is ``opentelemetry-instrument``, which only prepares the way and becomes the command."""
    return any(os.path.basename(part) == "opentelemetry-instrument" for part in sys.orig_argv[:3])  # noqa: PTH119


def _stay_first() -> None:
    """Keeps this module in front of the launcher's own of the same name.

    Without it a missing exporter, on which the launcher's set-up gives up, would take the capture with it.
    """
    from opentelemetry.instrumentation import auto_instrumentation

    execute = getattr(auto_instrumentation, "execl")  # noqa: B009  # what it imports, not exports

    def execute_behind_us(path: str, *arguments: str) -> None:
        here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
        paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path not in ("", here)]
        os.environ["PYTHONPATH"] = os.pathsep.join([here, *paths])
        execute(path, *arguments)

    setattr(auto_instrumentation, "execl", execute_behind_us)  # noqa: B010  # a patch, said as one


def _hand_over() -> None:
    """Imports the sitecustomize that this one hides, if there is one."""
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120  # pathlib costs start-up time
    hidden = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]  # noqa: PTH100
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


try:
    if _is_launcher():
        _stay_first()
    else:
        _start_capture()
except Exception as error:  # noqa: BLE001  # the process is not ours
    print(f"otel-wirecap: not captured: {type(error).__name__}", file=sys.stderr)  # noqa: T201
_hand_over()
