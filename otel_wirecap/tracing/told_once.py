"""Warnings that are told once a process, however often there is a reason: what fails in the user's telemetry, say."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Iterator

logger = logging.getLogger("otel_wirecap")


@functools.cache
def tell_once(message: str, detail: str) -> None:
    """Warns with ``message`` and ``detail``, the first time that these come together."""
    with contextlib.suppress(Exception):  # the application's log handlers must not reach it through us
        logger.warning("otel-wirecap: %s: %s", message, detail)


@contextlib.contextmanager
def guarded(message: str) -> Iterator[None]:
    """Keeps what the user's processors, exporters and samplers raise from the capture; tells ``message`` instead.

    That may be no ``Exception``: a cancellation, an exit. It would end the writer's thread, and the capture with it.
    Only in the main thread such a one may be meant for the application.
    """
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and threading.current_thread() is threading.main_thread():
            raise
        tell_once(message, type(error).__name__)
