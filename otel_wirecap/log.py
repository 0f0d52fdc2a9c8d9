"""What the application's log gets from this package.

Invariants:

- Nothing here raises, whatever the application's log handlers do.
- No lock of ours is held while they run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable

_logger = logging.getLogger("otel_wirecap")


def warn(message: str, *arguments: object) -> bool:
    """Warns; returns whether the log took it: handlers and filters of the application's may raise."""
    return _log(logging.WARNING, message, arguments)


def log_error(message: str, *arguments: object) -> bool:
    """As ``warn``, of what keeps the capture from running."""
    return _log(logging.ERROR, message, arguments)


def _log(level: int, message: str, arguments: tuple[object, ...]) -> bool:
    try:
        _logger.log(level, f"otel-wirecap: {message}", *arguments)
    except Exception:  # noqa: BLE001  # it must not reach the application through us
        return False
    return True


class WarnOnce:
    """Gives each warning once, however often there is a reason for it; one that the log refused comes again.

    Args:
        give: takes a message and its arguments, and returns whether the log took them; never raises.
    """

    def __init__(self, give: Callable[..., bool] = warn) -> None:
        self._give = give
        self._given: dict[tuple[Hashable, ...], object] = {}

    def __call__(self, message: str, *arguments: Hashable) -> None:
        """Warns, unless the same message was given with the same arguments."""
        mine = object()
        # In place of a lock, which a signal handler or the garbage collector might wait for in vain.
        if self._given.setdefault((message, *arguments), mine) is mine and not self._give(message, *arguments):
            self._given.pop((message, *arguments), None)

    def forget(self) -> None:
        """Has each warning be given once more."""
        self._given.clear()


warn_once = WarnOnce()
"""Gives each warning once a process."""
