"""Warnings that are told once a process, however often there is a reason."""

from __future__ import annotations

import contextlib
import functools
import logging

from otel_wirecap import native

logger = logging.getLogger("otel_wirecap")


@functools.cache
def tell_once(message: str, detail: str) -> None:
    """Warns with ``message`` and ``detail``, the first time that these come together."""
    # The application's log handlers must not reach it through us.
    with contextlib.suppress(Exception), native.known_to_threading():
        logger.warning("otel-wirecap: %s: %s", message, detail)
