"""What all hooks share: the moment, the guard around what records, and how an exchange ended.

Invariant: nothing that goes wrong in what records reaches the application.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from otel_wirecap.capture.events import ErrorInfo, Outcome, WebsocketClose

if TYPE_CHECKING:
    from otel_wirecap.capture.exchange import LiveExchange

ORDINARY_CLOSES = frozenset({1000, 1001, 1005})
"""Close codes of websockets that are no errors: normal, going away, none given (RFC 6455, section 7.4.1)."""

NO_CLOSE_FRAME = 1006
"""The close code where the connection ended without a close frame (RFC 6455, section 7.4.1)."""

now_ns = time.monotonic_ns
"""The clock of all events, nanoseconds."""


def guarded(exchange: LiveExchange, action: Callable[..., None], *arguments: Any, **keywords: Any) -> None:
    """Calls ``action``, which records something of ``exchange``; if it fails, the exchange is not recorded any further.

    Args:
        exchange: the one that is recorded.
        action: is called with the other arguments.
        arguments: its positional arguments.
        keywords: its keyword arguments.
    """
    try:
        action(*arguments, **keywords)
    except Exception as error:  # noqa: BLE001  # the host is never harmed
        exchange.fail(now_ns(), error)


def outcome_of(error: BaseException) -> tuple[Outcome, ErrorInfo | None]:
    """The outcome of an exchange that ``error`` ended; cancellations of asyncio and trio are no errors."""
    name = type(error).__name__
    if name in {"CancelledError", "Cancelled"}:
        return "cancelled", None
    if isinstance(error, GeneratorExit):
        return "closed", None
    try:
        message = str(error)
    except Exception:  # noqa: BLE001  # somebody else's __str__
        message = ""
    return "error", ErrorInfo(name, message)


def outcome_of_close(close: WebsocketClose) -> tuple[Outcome, ErrorInfo | None]:
    """The outcome of a websocket that was closed with ``close``."""
    if close.code in ORDINARY_CLOSES:
        return "complete", None
    return "error", ErrorInfo("WebsocketClosed", f"{close.code} {close.reason}".rstrip())
