"""How the time that work takes grows with its size, without a clock that a busy machine can move much."""

from __future__ import annotations

import time
from collections.abc import Callable

TIMES = 16
MAX_RATIO = 90
"""Of work sixteen times as large: in proportion is 16, with the square 256."""
ATTEMPTS = 10
MIN_SECONDS = 0.0005


def assert_linear(work: Callable[[int], object], size: int) -> None:
    """Fails where ``work`` of sixteen times the size takes over ninety times as long.

    The processor's time of this thread counts, and of several attempts the quickest: what else the machine does only
    adds to it.
    """

    def seconds(size: int) -> float:
        began = time.thread_time()
        work(size)
        return time.thread_time() - began

    short = long = float("inf")
    for _ in range(ATTEMPTS):
        short = min(short, seconds(size))
        long = min(long, seconds(TIMES * size))
        if long <= MAX_RATIO * max(short, MIN_SECONDS):
            return
    raise AssertionError(f"sixteen times the size takes {long / short:.0f} times as long, {long:.3f} s")
