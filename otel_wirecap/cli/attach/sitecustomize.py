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
    _start_capture()
except Exception as error:  # noqa: BLE001  # the process is not ours
    print(f"otel-wirecap: not captured: {type(error).__name__}", file=sys.stderr)  # noqa: T201
_hand_over()
