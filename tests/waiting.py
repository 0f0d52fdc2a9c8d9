"""Waiting for a condition: bounded, and so long that a slow or busy machine is no failure."""

from __future__ import annotations

import time
from collections.abc import Callable

MAX_SECONDS = 60.0
"""How long anything may take that is to happen at all: many times what it takes on a slow machine."""


def wait_until(condition: Callable[[], object], seconds: float = MAX_SECONDS) -> None:
    """Waits until ``condition`` holds; fails the test where it does not within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not come to that within {seconds} seconds"
        time.sleep(0.01)
