"""What the hook of a client library is made of: an attempt, and wrappers of the functions that send one.

A library's hook is a module with a subclass of ``ClientAttempt`` and a tuple ``HOOKS``. Where one function sends one
request and returns its response, ``wrap_send`` and ``wrap_async_send`` make its wrappers.

Invariants:

- Nothing that goes wrong in an attempt reaches the application, and what the library returns or raises is what the
  application gets.
- What is changed of a request for the time in which it is sent is restored afterwards.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from opentelemetry import context as otel_context, trace

from otel_wirecap.instrumentation.attempts import current_request_id, enter, followed, leave
from otel_wirecap.instrumentation.guard import guarded, now_ns, outcome_of
from otel_wirecap.instrumentation.runtime import active

if TYPE_CHECKING:
    from contextvars import Token

    from otel_wirecap.capture.events import Headers, RequestHead
    from otel_wirecap.instrumentation.attempts import Sending
    from otel_wirecap.instrumentation.patching import Wrapper
    from otel_wirecap.instrumentation.runtime import Runtime


class ClientAttempt(ABC):
    """One request of a client library on its way to a backend. Each library has a subclass.

    Args:
        runtime: the running capture.
        client: whose method was called.
        request: the library's request object. It is not kept: a library whose requests keep their attempt would make a
            ring of the two, which waits for the garbage collector.
        url: as ``url_of`` returned it.

    Attributes:
        exchange: takes what happens.
        span: of the exchange.
    """

    __slots__ = ("_attached", "_entered", "_request_id", "exchange", "span")
    _entered: tuple[Sending, Token[Sending | None]] | None
    _attached: Token[otel_context.Context] | None

    REQUEST_KEYWORD: ClassVar[str] = "request"
    """The name of the parameter of the hooked function that takes the request."""

    IS_TRANSPORT: ClassVar[bool] = False
    """Whether other client libraries send their requests through this one: those are recorded where they begin."""

    def __init__(self, runtime: Runtime, client: Any, request: Any, url: str) -> None:
        self._request_id = id(request)
        self._entered = self._attached = None
        head, server = self.describe(client, request, url)
        flow, redirect_of = followed(url)
        if redirect_of is not None:
            head = head._replace(redirect_of=redirect_of)
        self.exchange, self.span = runtime.begin_backend(head, server, flow, self.set_headers)

    # -- what a library's subclass says ---------------------------------------------------------------------------

    @classmethod
    @abstractmethod
    def url_of(cls, client: Any, request: Any) -> str:
        """The URL that ``client`` sends ``request`` to."""

    @abstractmethod
    def describe(self, client: Any, request: Any, url: str) -> tuple[RequestHead, tuple[str, int]]:
        """The request, with all of its headers so far, and the host and the port that it is sent to.

        It is called first: what else the subclass needs of the request is kept here.
        """

    @abstractmethod
    def set_headers(self, headers: dict[str, str]) -> Headers:
        """Sets headers on the request, those of the trace context; returns all of its headers as they are then."""

    @abstractmethod
    def answered(self, response: Any) -> None:
        """Records the response's head, and has its body recorded as the application reads it (see ``tees``)."""

    def prepare(self) -> None:  # noqa: B027  # most libraries' requests have their body in their head
        """Is called before the request is sent: has its body recorded where that is not in its head."""

    def restore(self) -> None:  # noqa: B027  # not every library's request is changed
        """Is called when the request has been sent: takes back what was changed for it."""

    # -- what is the same for all ----------------------------------------------------------------------------------

    @classmethod
    def begin(cls, client: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Self | None:
        """Begins the attempt that a call of the hooked function is; None where nothing is to be recorded.

        Args:
            client: whose method it is.
            arguments: of the call; the first one is the request.
            keywords: of the call.
        """
        runtime = active()
        if runtime is None:
            return None
        try:
            request = arguments[0] if arguments else keywords[cls.REQUEST_KEYWORD]
            recorded = current_request_id()
            if recorded is not None and (cls.IS_TRANSPORT or recorded == id(request)):
                return None
            url = cls.url_of(client, request)
            if not runtime.wants("backend", url):
                return None
            return cls(runtime, client, request, url)
        except Exception as error:  # noqa: BLE001  # the host is never harmed
            runtime.failed(None, error)
            return None

    def failed(self, error: BaseException) -> None:
        """Ends the exchange: the request got no response, or not the whole of its head."""
        self.exchange.end(now_ns(), *outcome_of(error))

    def __enter__(self) -> None:
        try:
            self._entered = enter(self._request_id)
            span = self.span
            if span.identity.has_ids:
                self._attached = otel_context.attach(trace.set_span_in_context(span.inner))
            self.prepare()
        except Exception as error:  # noqa: BLE001  # the host is never harmed
            self.exchange.fail(now_ns(), error)

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                guarded(self.exchange, self.failed, error)
            entered = self._entered
            if entered is not None and leave(entered) and self._attached is not None:
                otel_context.detach(self._attached)
            self.restore()
        except Exception as failure:  # noqa: BLE001  # the host is never harmed
            self.exchange.fail(now_ns(), failure)


def wrap_send(attempt_class: type[ClientAttempt]) -> Wrapper:
    """The wrapper of a method that sends the request that is its first argument and returns its response."""

    def send(wrapped: Any, instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        attempt = attempt_class.begin(instance, arguments, keywords)
        if attempt is None:
            return wrapped(*arguments, **keywords)
        with attempt:
            response = wrapped(*arguments, **keywords)
        guarded(attempt.exchange, attempt.answered, response)
        return response

    return send


def wrap_async_send(attempt_class: type[ClientAttempt]) -> Wrapper:
    """As ``wrap_send``, for a coroutine method."""

    async def send(wrapped: Any, instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        attempt = attempt_class.begin(instance, arguments, keywords)
        if attempt is None:
            return await wrapped(*arguments, **keywords)
        with attempt:
            response = await wrapped(*arguments, **keywords)
        guarded(attempt.exchange, attempt.answered, response)
        return response

    return send
