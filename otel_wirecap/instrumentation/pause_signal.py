"""Pausing and resuming the capture of a running process by a signal.

Invariants: the application's own handler of the signal is called as before, and put back when the capture ends, unless
somebody has replaced ours meanwhile.
"""

from __future__ import annotations

import contextlib
import logging
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple

from otel_wirecap import native
from otel_wirecap.instrumentation.runtime import active

logger = logging.getLogger("otel_wirecap")


class _Installed(NamedTuple):
    number: int
    handler: Callable[[int, FrameType | None], Any]
    before: Any


_installed: list[_Installed] = []


def install(name: str) -> None:
    """Lets the signal called ``name`` pause a capture that runs, and resume one that is paused."""
    number = getattr(signal, name)
    before = signal.getsignal(number)

    def toggle(received: int, frame: FrameType | None) -> None:
        runtime = active()
        if runtime is not None:
            # Not in here: the handler may have interrupted the very code whose locks this needs.
            with contextlib.suppress(RuntimeError):  # there can be no thread at the moment
                native.start_thread("otel-wirecap-pause", runtime.toggle)
        if callable(before):
            before(received, frame)

    try:
        signal.signal(number, toggle)
    except ValueError:  # Python lets the main thread alone set handlers
        logger.warning("otel-wirecap: capture_pause_signal: %s is not heeded: not started in the main thread", name)
        return
    _installed.append(_Installed(number, toggle, before))


def remove() -> None:
    """Puts back what handled the signal before."""
    while _installed:
        number, handler, before = _installed.pop()
        if signal.getsignal(number) is handler:
            with contextlib.suppress(ValueError):  # not in the main thread
                signal.signal(number, signal.SIG_DFL if before is None else before)
