"""Warnings that are told once a process, however often there is a reason."""

from __future__ import annotations

import functools

from otel_wirecap.log import warn


@functools.cache
def tell_once(message: str, detail: str) -> None:
    """Warns with ``message`` and ``detail``, the first time that these come together."""
    warn("%s: %s", message, detail)
