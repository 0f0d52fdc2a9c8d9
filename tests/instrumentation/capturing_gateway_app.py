"""The gateway, whose own module starts the capture while a server loads it."""

from __future__ import annotations

from gateway_app import raw

import otel_wirecap

__all__ = ["raw"]

otel_wirecap.instrument()
