"""One HTTP request with its response on one leg: the state machine between a hook and the queue.

Invariants, whatever order a hook calls in and from however many threads:

- BEGIN comes first and once. Nothing follows END, and END comes exactly once.
- The request side ends exactly once, before END; a response that begins first leaves it open (its bytes may still
  flow), so the request's record is written with what there is.
- RESPONSE comes at most once, before the first CHUNK or MESSAGE.
- An exchange whose BEGIN found no room is off: none of its events is put, so that no record stands alone.
- Every event is made of plain values (see ``events``) here, where it is born.
- No method raises because of the capture: what goes wrong inside turns this exchange off and is reported once.

Pure: moments (``now``, nanoseconds of a monotonic clock) and identifiers come in as arguments.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from marshal import dumps
from typing import Any, Protocol, TypeAlias

from otel_wirecap.capture.events import (
    CAPTURE_FAILURE,
    ErrorInfo,
    EventKind,
    ExchangeHead,
    IncompleteReason,
    Outcome,
    RequestHead,
    ResponseHead,
    Value,
    WebsocketClose,
    WebsocketMessage,
    plain,
)

Put: TypeAlias = Callable[[int, "str | None", int, Value, int], bool]
"""Takes an event's kind, id, moment and value, and the bytes that it holds; False where there was no room for it."""

_BEGIN = EventKind.BEGIN
_REQUEST_CHUNK = EventKind.REQUEST_CHUNK
_REQUEST_RESTART = EventKind.REQUEST_RESTART
_REQUEST_END = EventKind.REQUEST_END
_RESPONSE = EventKind.RESPONSE
_CHUNK = EventKind.CHUNK
_MESSAGE = EventKind.MESSAGE
_END = EventKind.END

HEAD_SIZE = 1024
"""Bytes that an event is counted with beside its body and headers: its tuple, its moments."""


class Host(Protocol):
    """The running capture, as exchanges and flows see it. None of its methods may wait."""

    def put(self, kind: int, subject_id: str | None, now_ns: int, value: Value, size: int, /) -> bool:
        """Takes an event; see ``Put``."""

    def flow_gone(self, flow_id: str, /) -> None:
        """Nothing of the flow will be put any more. Called by the garbage collector, in the middle of anything."""

    def ended_unrecorded(self, exchange_id: str, now_ns: int, outcome: Outcome, /) -> None:
        """An exchange that ``wants_end`` is over, and no writer will answer its end."""

    def failed(self, exchange_id: str | None, error: Exception, /) -> None:
        """Something of ours went wrong, and an exchange is not captured, or no further; None before it has an id."""


class LiveFlow:
    """One client exchange with the backend exchanges it caused.

    Attributes:
        id: the flow's ``request_id``.
        trace_id: that of its first exchange, which the others share where no tracing gives them one; None before.
        over: whether the client's request has been served: what its context begins now is no part of it any more.
        attempts: the numbers of the backend exchanges to come.
        client_request: the client's RequestHead but for its body, packed; None where it is not captured.
        host: the one behind which a writer knows of the flow, and is told when it is gone; None where none does.
        span: that of its client exchange, where it is not made the current one; None elsewhere. Nothing here reads it.
    """

    __slots__ = ("attempts", "client_request", "host", "id", "over", "span", "trace_id")

    def __init__(self, flow_id: str) -> None:
        self.id = flow_id
        self.trace_id: str | None = None
        self.over = False
        self.client_request: bytes | None = None
        self.host: Host | None = None
        self.span: Any = None
        self.attempts = itertools.count(1)

    def annotate(self, now: int, document: bytes, host: Host) -> None:
        """What the application says of the flow, a JSON object."""
        if host.put(EventKind.ANNOTATE, self.id, now, document, len(document)):
            self.host = host

    def __del__(self) -> None:
        if self.host is not None:
            try:  # noqa: SIM105  # at every request
                self.host.flow_gone(self.id)
            except Exception:  # noqa: BLE001, S110  # as with everything here
                pass


class LiveExchange:
    """One HTTP request with its response, on one leg.

    Args:
        exchange_id: the ``exchange_id``.
        head: what is known of it.
        flow: the flow it belongs to.
        host: takes its events.

    Attributes:
        id, head, flow: as given.
        responded: whether the response has begun.
    """

    __slots__ = (
        "__weakref__",
        "_ends",
        "_host",
        "_is_off",
        "_lost_chunks",
        "_put",
        "_request_ended",
        "_takes",
        "flow",
        "head",
        "id",
        "responded",
    )

    def __init__(self, exchange_id: str, head: ExchangeHead, flow: LiveFlow, host: Host) -> None:
        self.id = exchange_id
        self.head = head
        self.flow = flow
        self._host = host
        self._put = host.put
        self._is_off = False
        self._takes = True  # neither off nor ended
        self._ends = [None]  # popped by the one call that ends the exchange: list.pop is atomic
        self._request_ended = False
        self.responded = False
        self._lost_chunks = 0

    @property
    def ended(self) -> bool:
        """Whether the exchange is over."""
        return not self._ends

    def begin(self, head: RequestHead) -> None:
        """The request begins; with ``head.body`` its body is there, whole."""
        began_ns = self.head.began_ns
        try:
            body = head.body
            self._request_ended = body is not None
            try:
                asked = dumps(head[:-1])  # type: ignore[arg-type]  # headers are no Sequence to it; the last is the body
            except ValueError:
                asked = dumps(plain(head[:-1]))
            size = HEAD_SIZE + len(asked)
            if body is not None:
                if body.__class__ is not bytes:
                    body = bytes(body)
                size += len(body)
            flow = self.flow
            if self.head.leg == "client":
                flow.client_request = asked
            if self._put(_BEGIN, self.id, began_ns, (self.head[:], asked, flow.client_request, body), size):
                flow.host = self._host
            else:
                self._is_off, self._takes = True, False
        except Exception as error:  # noqa: BLE001  # the host is never harmed
            self.fail(began_ns, error)

    def request_chunk(self, now: int, data: bytes) -> None:
        """Bytes of the request's body pass."""
        if self._is_off or self._request_ended:
            return
        try:
            if data.__class__ is not bytes:
                data = bytes(data)
            if not self._put(_REQUEST_CHUNK, self.id, now, data, len(data)):
                self.request_end(now, "dropped")
        except Exception as error:  # noqa: BLE001
            self.fail(now, error)

    def request_restart(self, now: int) -> None:
        """The body is read anew from its beginning (a transport sends it again)."""
        if not (self._is_off or self._request_ended):
            self._put_control(_REQUEST_RESTART, now, None)

    def request_end(self, now: int, incomplete: IncompleteReason | None = None) -> None:
        """The request's body is whole, or ends here for the reason given."""
        if self._is_off or self._request_ended:
            return
        self._request_ended = True
        self._put_control(_REQUEST_END, now, incomplete)

    def response(self, now: int, head: ResponseHead) -> None:
        """The response's status and headers are there."""
        if self.responded or not self._takes:
            return
        self.responded = True
        try:
            try:
                answer = dumps(head[:])  # type: ignore[arg-type]  # as above
            except ValueError:
                answer = dumps(plain(head))
            self._put(_RESPONSE, self.id, now, answer, HEAD_SIZE + len(answer))
        except Exception as error:  # noqa: BLE001
            self.fail(now, error)

    def chunk(self, now: int, data: bytes) -> None:
        """Bytes of the response's body pass. The hot path: one call, one tuple."""
        if not self._takes:
            return
        try:
            if data.__class__ is not bytes:
                data = bytes(data)
            if not self._put(_CHUNK, self.id, now, data, len(data)):
                self._lost_chunks += 1
        except Exception as error:  # noqa: BLE001
            self.fail(now, error)

    def message(self, now: int, message: WebsocketMessage) -> None:
        """A message, or a part of one, passes on a websocket."""
        if not self._takes:
            return
        try:
            if not self._put(_MESSAGE, self.id, now, plain(message), HEAD_SIZE + len(message.data)):
                self._lost_chunks += 1
        except Exception as error:  # noqa: BLE001
            self.fail(now, error)

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
        self._takes = False
        is_recorded = not self._is_off
        if is_recorded and not self._request_ended:
            # A response that ended well while the body was not read to its end: the application did not want it.
            self.request_end(now, "not_read" if outcome in {"complete", "closed"} else "cut")
        self._put_end(now, outcome, error, close, is_recorded=is_recorded)

    def fail(self, now: int, error: Exception) -> None:
        """Something of ours went wrong: turns this exchange off; what was recorded so far still gets its end."""
        is_recorded = not self._is_off
        self._is_off, self._takes = True, False
        with contextlib.suppress(IndexError):  # it is over, and has its end
            self._ends.pop()
            if is_recorded and not self._request_ended:
                self._request_ended = True
                with contextlib.suppress(Exception):  # as what is reported already
                    self._put(_REQUEST_END, self.id, now, "cut", HEAD_SIZE)
            self._put_end(now, "error", CAPTURE_FAILURE, None, is_recorded=is_recorded)
        self._host.failed(self.id, error)

    def _put_end(
        self, now: int, outcome: Outcome, error: ErrorInfo | None, close: WebsocketClose | None, *, is_recorded: bool
    ) -> None:
        is_taken, wants_end = False, self.head.wants_end
        try:
            end = outcome, error and plain(error), self._lost_chunks, close and plain(close), wants_end
            is_taken = is_recorded and self._put(_END, self.id, now, end, HEAD_SIZE)
        except Exception as failure:  # noqa: BLE001
            if not self._is_off:  # else something was reported already
                self._host.failed(self.id, failure)
        if wants_end and not is_taken:
            self._host.ended_unrecorded(self.id, now, outcome)

    def _put_control(self, kind: int, now: int, value: str | None) -> None:
        try:
            self._put(kind, self.id, now, value, HEAD_SIZE)
        except Exception as error:  # noqa: BLE001  # the host is never harmed
            self.fail(now, error)
