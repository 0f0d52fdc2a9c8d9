"""What the application's log gets from this package.

Invariants:

- Nothing here raises, whatever the application's log handlers do.
- No lock of ours is held while they run.
- A message that they refused is given once more, before the next one or at the end of the capture.
- Under gevent no thread of ours enters a log handler: its lock is gevent's, and one that a thread of the operating
  system waits for can be lost to a greenlet or to that thread for good (seen with gevent 26.9). The line goes to the
  standard error stream instead.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
from collections.abc import Callable, Hashable

from otel_wirecap import native

MAX_REFUSED = 16
"""Messages that are kept to be given again, the last ones."""

_logger = logging.getLogger("otel_wirecap")
_refused: collections.deque[tuple[int, str, tuple[object, ...]]] = collections.deque(maxlen=MAX_REFUSED)
_STANDARD_ERROR = 2


def warn(message: str, *arguments: object) -> bool:
    """Warns; returns whether the log took it: handlers and filters of the application's may raise."""
    return _give(logging.WARNING, message, arguments)


def log_error(message: str, *arguments: object) -> bool:
    """As ``warn``, of what keeps the capture from running."""
    return _give(logging.ERROR, message, arguments)


def inform(message: str, *arguments: object) -> None:
    """As ``warn``, of what is well."""
    _give(logging.INFO, message, arguments)


def give_refused_again() -> None:
    """Gives the log what it refused, once more."""
    with contextlib.suppress(IndexError):
        for _ in range(len(_refused)):
            _log(*_refused.popleft())


def _give(level: int, message: str, arguments: tuple[object, ...]) -> bool:
    give_refused_again()
    is_taken = _log(level, message, arguments)
    if not is_taken:
        _refused.append((level, message, arguments))
    return is_taken


def _warn_now(message: str, *arguments: object) -> bool:
    """As ``warn``, of what comes again by itself."""
    return _log(logging.WARNING, message, arguments)


def _log(level: int, message: str, arguments: tuple[object, ...]) -> bool:
    try:
        if native.current_thread() is not None and native.has_gevent():
            os.write(_STANDARD_ERROR, f"otel-wirecap: {message % arguments}\n".encode(errors="backslashreplace"))
        else:
            with native.known_to_threading():
                _logger.log(level, f"otel-wirecap: {message}", *arguments)
    except Exception:  # noqa: BLE001  # it must not reach the application through us
        return False
    return True


class WarnOnce:
    """Gives each warning once, however often there is a reason for it; one that the log refused comes again.

    Args:
        give: takes a message and its arguments, and returns whether the log took them; never raises.
    """

    def __init__(self, give: Callable[..., bool] = _warn_now) -> None:
        self._give = give
        self._given: dict[tuple[Hashable, ...], object] = {}

    def __call__(self, message: str, *arguments: Hashable) -> None:
        """Warns, unless the same message was given with the same arguments."""
        mine = object()
        # In place of a lock, which a signal handler, the garbage collector or a forked child might wait for in vain.
        if self._given.setdefault((message, *arguments), mine) is mine and not self._give(message, *arguments):
            self._given.pop((message, *arguments), None)

    def forget(self) -> None:
        """Has each warning be given once more."""
        self._given.clear()


warn_once = WarnOnce()
"""Gives each warning once a process."""
