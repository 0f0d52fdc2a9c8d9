"""One HTTP request with its response on one leg: the state machine between a hook and the queue.

Invariants, whatever order a hook calls in and from however many threads:

- BEGIN comes first and once. Nothing follows END, and END comes exactly once.
- The request side ends exactly once, before END; a response that begins first leaves it open (its bytes may still
  flow), so the request's record is written with what there is.
- RESPONSE comes at most once, before the first CHUNK or MESSAGE.
- An exchange whose BEGIN found no room is off: none of its events is emitted, so that no record stands alone.
- No method raises because of the capture: what goes wrong inside turns this exchange off and is reported once.

Pure: moments (``now``, nanoseconds of a monotonic clock) and identifiers come in as arguments.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import TypeAlias

from otel_wirecap.capture.events import (
    CAPTURE_FAILURE,
    End,
    ErrorInfo,
    EventKind,
    IncompleteReason,
    Leg,
    Outcome,
    RequestHead,
    ResponseHead,
    Value,
    WebsocketClose,
    WebsocketMessage,
)
from otel_wirecap.capture.facts import ExchangeFacts
from otel_wirecap.capture.record import Record

Emit: TypeAlias = Callable[[EventKind, "Exchange | Flow | None", int, Value, int], bool]
"""Takes an event with the bytes it holds; False where there was no room for it."""

_BEGIN = EventKind.BEGIN
_REQUEST_CHUNK = EventKind.REQUEST_CHUNK
_REQUEST_RESTART = EventKind.REQUEST_RESTART
_REQUEST_END = EventKind.REQUEST_END
_RESPONSE = EventKind.RESPONSE
_CHUNK = EventKind.CHUNK
_MESSAGE = EventKind.MESSAGE
_END = EventKind.END

HEAD_SIZE = 1024
"""Bytes that an event without a body is counted with: its tuple, its headers."""


class Flow:
    """One client exchange with the backend exchanges it caused.

    Attributes:
        id: the flow's ``request_id``.
        trace_id: that of its first exchange, which the others share where no tracing gives them one; None before.
        over: whether the client's request has been served: what its context begins now is no part of it any more.
        recording: what the recorder remembers of the flow; the recorder's alone.
    """

    __slots__ = ("__weakref__", "_attempts", "id", "over", "recording", "trace_id")

    def __init__(self, flow_id: str) -> None:
        self.id = flow_id
        self.trace_id: str | None = None
        self.over = False
        self.recording: object = None
        self._attempts = itertools.count(1)

    def next_attempt(self) -> int:
        """The number of the backend exchange that begins now, from 1 on."""
        return next(self._attempts)


class Exchange:
    """One HTTP request with its response, on one leg.

    Attributes:
        id: the ``exchange_id``.
        leg: ``client`` or ``backend``.
        flow: the flow it belongs to.
        attempt: its number among the flow's backend exchanges; None on the client leg.
        trace_id: the OpenTelemetry trace, 32 hexadecimal digits.
        span_id: the OpenTelemetry span, 16 hexadecimal digits.
        began_unix_ns: wall-clock moment of the beginning, nanoseconds since the epoch.
        began_ns: the same moment on the monotonic clock of all ``now`` arguments.
        on_end: called by the recorder, with what it learned, once the exchange is recorded; may be None.
        on_record: called by the recorder with each of the exchange's records when it has its number; may be None.
    """

    __slots__ = (
        "__weakref__",
        "_emit",
        "_ends",
        "_lost_chunks",
        "_off",
        "_on_failure",
        "_request_ended",
        "_responded",
        "attempt",
        "began_ns",
        "began_unix_ns",
        "flow",
        "id",
        "leg",
        "on_end",
        "on_record",
        "span_id",
        "trace_id",
    )

    def __init__(
        self,
        exchange_id: str,
        leg: Leg,
        flow: Flow,
        *,
        attempt: int | None,
        trace_id: str,
        span_id: str,
        began_unix_ns: int,
        began_ns: int,
        emit: Emit,
        on_failure: Callable[[Exception], None],
        on_end: Callable[[int, ExchangeFacts], None] | None = None,
        on_record: Callable[[Record], None] | None = None,
    ) -> None:
        self.id = exchange_id
        self.leg: Leg = leg
        self.flow = flow
        self.attempt = attempt
        self.trace_id = trace_id
        self.span_id = span_id
        self.began_unix_ns = began_unix_ns
        self.began_ns = began_ns
        self.on_end = on_end
        self.on_record = on_record
        self._emit = emit
        self._on_failure = on_failure
        self._off = False
        self._ends = [None]  # popped by the one call that ends the exchange: list.pop is atomic
        self._request_ended = False
        self._responded = False
        self._lost_chunks = 0

    @property
    def responded(self) -> bool:
        """Whether the response has begun."""
        return self._responded

    @property
    def ended(self) -> bool:
        """Whether the exchange is over."""
        return not self._ends

    def begin(self, head: RequestHead) -> None:
        """The request begins; with ``head.body`` its body is there, whole."""
        try:
            body = head.body
            self._request_ended = body is not None
            if not self._emit(_BEGIN, self, self.began_ns, head, HEAD_SIZE + (len(body) if body else 0)):
                self._off = True
        except Exception as error:  # noqa: BLE001  # the host is never harmed
            self.fail(error)

    def request_chunk(self, now: int, data: bytes) -> None:
        """Bytes of the request's body pass."""
        if self._off or self._request_ended:
            return
        try:
            if not self._emit(_REQUEST_CHUNK, self, now, data, len(data)):
                self.request_end(now, "dropped")
        except Exception as error:  # noqa: BLE001
            self.fail(error)

    def request_restart(self, now: int) -> None:
        """The body is read anew from its beginning (a transport sends it again)."""
        if not (self._off or self._request_ended):
            self._emit_control(_REQUEST_RESTART, now, None)

    def request_end(self, now: int, incomplete: IncompleteReason | None = None) -> None:
        """The request's body is whole, or ends here for the reason given."""
        if self._off or self._request_ended:
            return
        self._request_ended = True
        self._emit_control(_REQUEST_END, now, incomplete)

    def response(self, now: int, head: ResponseHead) -> None:
        """The response's status and headers are there."""
        if self._off or self._responded or not self._ends:
            return
        self._responded = True
        self._emit_control(_RESPONSE, now, head)

    def chunk(self, now: int, data: bytes) -> None:
        """Bytes of the response's body pass. The hot path: one call, one tuple."""
        if self._off or not self._ends:
            return
        try:
            if not self._emit(_CHUNK, self, now, data, len(data)):
                self._lost_chunks += 1
        except Exception as error:  # noqa: BLE001
            self.fail(error)

    def message(self, now: int, message: WebsocketMessage) -> None:
        """A message, or a part of one, passes on a websocket."""
        if self._off or not self._ends:
            return
        try:
            if not self._emit(_MESSAGE, self, now, message, HEAD_SIZE + len(message.data)):
                self._lost_chunks += 1
        except Exception as error:  # noqa: BLE001
            self.fail(error)

    def end(
        self, now: int, outcome: Outcome, error: ErrorInfo | None = None, close: WebsocketClose | None = None
    ) -> None:
        """The exchange is over; only the first call counts. ``close``: how a websocket was closed."""
        if not self._ends:  # most calls come when it is over
            return
        try:
            self._ends.pop()
        except IndexError:
            return
        try:
            self._end(now, outcome, error, close)
        except Exception as failure:  # noqa: BLE001  # the host is never harmed
            self.fail(failure)

    def _end(self, now: int, outcome: Outcome, error: ErrorInfo | None, close: WebsocketClose | None) -> None:
        if self._off:
            if self.on_end is not None:  # nobody else will end the span
                self.on_end(self.began_unix_ns + now - self.began_ns, ExchangeFacts(outcome=outcome))
            return
        if not self._request_ended:
            # A response that ended well while the body was not read to its end: the application did not want it.
            self.request_end(now, "not_read" if outcome in {"complete", "closed"} else "cut")
        self._emit_control(_END, now, End(outcome, error, self._lost_chunks, close))

    def _emit_control(self, kind: EventKind, now: int, value: Value) -> None:
        try:
            self._emit(kind, self, now, value, HEAD_SIZE)
        except Exception as error:  # noqa: BLE001  # the host is never harmed
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Something of ours went wrong: turns this exchange off; what was recorded so far still gets its end."""
        self._off = True
        self._ends.clear()
        with contextlib.suppress(Exception):
            self._emit(_END, self, self.began_ns, End("error", CAPTURE_FAILURE), HEAD_SIZE)
        self._on_failure(error)


def end_span(exchange: Exchange, now_ns: int, facts: ExchangeFacts) -> None:
    """Has the span of an exchange that ended at ``now_ns`` ended."""
    if exchange.on_end is not None:
        with contextlib.suppress(Exception):  # the user's span processors are not ours to mend
            exchange.on_end(exchange.began_unix_ns + now_ns - exchange.began_ns, facts)
