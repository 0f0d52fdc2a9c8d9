"""Letting go of the interpreter, in threads of the application's process that work for long."""

from __future__ import annotations

import time

from otel_wirecap import native

WORK_SLICE_NS = 500_000
PAUSE_SECONDS = 0.0001


class Pauses:
    """Lets go of the interpreter after half a millisecond of work, or an event loop's timers come late."""

    def __init__(self) -> None:
        self._slice_end = 0

    def pause_if_due(self) -> None:
        """Is called after each piece of work."""
        if time.monotonic_ns() >= self._slice_end:
            native.sleep(PAUSE_SECONDS)
            self._slice_end = time.monotonic_ns() + WORK_SLICE_NS
