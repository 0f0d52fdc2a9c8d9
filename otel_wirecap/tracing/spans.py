"""The spans of exchanges that run, found by the exchanges' ids.

Invariants:

- A span is in here from its exchange's beginning until its end is answered: there are as many as exchanges are open.
- Only spans whose end is reported to somebody are in here: ending the API's own does nothing.
- One book for the whole process: an exchange may outlast the capture that began it, and its end comes all the same.
- Every exchange has an end, also one that the application drops: a response's tee (``instrumentation/tees.py``), an
  attempt of aiohttp and a websocket end theirs in a finaliser; a coroutine that serves or sends a request ends its own
  when it is closed, which its finaliser does. Where the queue takes no end, the exchange answers it itself.
- A forked child begins with none: what is open is the parent's.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_wirecap.capture.facts import ExchangeFacts
    from otel_wirecap.capture.record import CaptureRecord
    from otel_wirecap.tracing.span import CaptureSpan


class OpenSpans(dict[str, "tuple[CaptureSpan, int]"]):
    """Exchange id → span, and when the exchange began. Takes what a writer answers; none of it raises."""

    def add(self, exchange_id: str, span: CaptureSpan, began_ns: int) -> None:
        """The exchange begins; ``began_ns`` is that moment on the monotonic clock of its events."""
        self[exchange_id] = span, began_ns

    def ended(self, exchange_id: str, now_ns: int, facts: ExchangeFacts) -> None:
        """The exchange is over; only the first answer counts."""
        entry = self.pop(exchange_id, None)
        if entry is not None:
            span, began_ns = entry
            with contextlib.suppress(Exception):  # the user's span processors are not ours to mend
                span.finish(span.start_time + now_ns - began_ns, facts)

    def record(self, exchange_id: str, record: CaptureRecord) -> None:
        """A record of the exchange is in the capture."""
        entry = self.get(exchange_id)
        if entry is not None:
            entry[0].send(record)


open_spans = OpenSpans()
"""Those of this process."""

os.register_at_fork(after_in_child=open_spans.clear)
