"""Processes that this one starts by ``multiprocessing``, and ways in which a process ends without Python's own end.

Invariants:

- A child that starts afresh (spawn, forkserver) is captured with its parent's settings, unless its own module has
  started a capture, or the package cannot be imported there. A forked one is captured anyway.
- What a child puts is safe before its parent has what the child sends it: pools are ended by SIGTERM, with no regard to
  what their workers still have to do.
- ``os._exit`` and ``os.exec*``, after which nothing of this process runs, wait until the events are safe.
- Nothing here raises, or waits for longer than ``MAX_HAND_OVER_SECONDS``.
"""

from __future__ import annotations

import contextlib
import pickle
import sys
from typing import Any

from otel_wirecap.instrumentation.patching import Hook, Wrapper
from otel_wirecap.instrumentation.runtime import active
from otel_wirecap.storage.registry import open_writers

MAX_HAND_OVER_SECONDS = 5.0

_ATTRIBUTE = "_otel_wirecap"
_START = """
try:
    from otel_wirecap.instrumentation.instrumentor import start_in_child
    start_in_child(packed)
except Exception:
    pass
"""


class _StartedInChild:
    """Starts the capture where it is unpickled. It becomes plain Python, for an environment that may lack the package.

    Args:
        packed: the settings.
    """

    def __init__(self, packed: bytes) -> None:
        self._packed = packed

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (_START, {"packed": self._packed})


def _launch(wrapped: Any, _instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """``Popen._launch(process)``, which pickles the process: with it goes what starts its capture."""
    runtime, process = active(), (*arguments, *keywords.values())[0]
    if runtime is None:
        return wrapped(*arguments, **keywords)
    with contextlib.suppress(Exception):  # the host is never harmed
        setattr(process, _ATTRIBUTE, _StartedInChild(pickle.dumps(runtime.config)))
    try:
        return wrapped(*arguments, **keywords)
    finally:
        process.__dict__.pop(_ATTRIBUTE, None)


def _hand_over(wrapped: Any, _instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """What may be the last that this process does."""
    with contextlib.suppress(Exception):  # the host is never harmed
        for writer in open_writers():
            writer.hand_over(MAX_HAND_OVER_SECONDS)
    return wrapped(*arguments, **keywords)


def _hand_over_in_children_of(library: str) -> Wrapper:
    """As ``_hand_over``, in the processes alone that ``library`` has started."""

    def send(wrapped: Any, instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        process = sys.modules[f"{library}.process"].current_process()
        if getattr(process, "_parent_pid", None) is None:
            return wrapped(*arguments, **keywords)
        return _hand_over(wrapped, instance, arguments, keywords)

    return send


_LIBRARIES = ("multiprocessing", "billiard")
"""``billiard`` is Celery's."""

HOOKS = (
    *(
        hook
        for library in _LIBRARIES
        for hook in (
            Hook(f"{library}.popen_spawn_posix", "Popen", "_launch", _launch),
            Hook(f"{library}.popen_forkserver", "Popen", "_launch", _launch),
            Hook(f"{library}.connection", "Connection", "_send_bytes", _hand_over_in_children_of(library)),
        )
    ),
    Hook("os", "", "_exit", _hand_over),
    Hook("os", "", "execv", _hand_over),
    Hook("os", "", "execve", _hand_over),
)
