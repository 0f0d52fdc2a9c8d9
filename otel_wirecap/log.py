"""What the application's log gets from threads of this package.

Invariants:

- Nothing here raises, whatever the application's log handlers do.
- Under gevent no thread of ours enters a log handler: its lock is gevent's, and one that a thread of the operating
  system waits for can be lost to a greenlet or to that thread for good (seen with gevent 26.9). The line goes to the
  standard error stream instead.
"""

from __future__ import annotations

import logging
import os

from otel_wirecap import native

_logger = logging.getLogger("otel_wirecap")
_STANDARD_ERROR = 2


def warn(message: str, *arguments: object) -> bool:
    """Warns; returns whether the log took it: handlers and filters of the application's may raise."""
    try:
        if native.current_thread() is not None and native.has_gevent():
            os.write(_STANDARD_ERROR, f"otel-wirecap: {message % arguments}\n".encode(errors="backslashreplace"))
        else:
            with native.known_to_threading():
                _logger.warning(f"otel-wirecap: {message}", *arguments)
    except Exception:  # noqa: BLE001  # it must not reach the application through us
        return False
    return True
