"""The client hook: httpx and httpx2, sync and async, one implementation.

It wraps ``_send_single_request`` of both client classes: the one place that every hop passes, whatever transport,
redirect, authentication flow or retry is around it, and under which the response's stream can be replaced without the
response noticing. The modules are never imported by us.
"""

from __future__ import annotations

import functools
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from opentelemetry import context as otel_context
from opentelemetry import trace

from otel_wirecap.capture.events import RequestHead, ResponseHead
from otel_wirecap.instrumentation.attempts import current_request, enter, followed, leave, redirected
from otel_wirecap.instrumentation.httpx_streams import Tees, tees_for
from otel_wirecap.instrumentation.patching import Hook, HookWrapper
from otel_wirecap.instrumentation.runtime import Runtime, active, guarded, now_ns, outcome_of

if TYPE_CHECKING:
    from otel_wirecap.capture.events import Headers

SEND = "_send_single_request"


class _Sending:
    """One request on its way, from the hook's side."""

    __slots__ = (
        "_attached",
        "_entered",
        "_headers",
        "_replaced",
        "_request",
        "_sent_headers",
        "_stream",
        "exchange",
        "span",
        "tees",
    )

    def __init__(self, runtime: Runtime, tees: Tees, request: Any, url: str) -> None:
        self.tees = tees
        self._request = request
        self._headers = request.headers.raw
        self._stream: Any = None
        self._attached: Any = None
        self._entered: Any = None
        self._sent_headers: Any = None
        self._replaced: dict[str, str | None] = {}
        flow, redirect_of = followed(url)
        head = RequestHead(
            method=request.method,
            url=url,
            headers=self._headers,
            body=getattr(request, "_content", None),
            redirect_of=redirect_of,
        )
        asked = request.url
        port = asked.port or (443 if asked.scheme == "https" else 80)
        self.exchange, self.span = runtime.begin_backend(head, (asked.host, port), flow, self._inject)

    def _inject(self, carrier: dict[str, str]) -> Headers:
        headers = self._request.headers
        for name, value in carrier.items():
            self._replaced[name] = headers.get(name)
            headers[name] = value
        self._headers = headers.raw
        return cast("Headers", self._headers)

    def begun(self) -> None:
        """The request is about to be sent."""
        request = self._request
        if getattr(request, "_content", None) is None:
            tee = self.tees.request(request.stream, self.exchange)
            if tee is not None:
                self._stream, request.stream = (request.stream, tee), tee
        self._entered = enter(request)
        if self.span.has_ids:
            self._attached = otel_context.attach(trace.set_span_in_context(self.span.inner))

    def sent(self) -> None:
        """The call is over, one way or the other: what was changed for it is put back."""
        headers = self._request.headers
        self._sent_headers = headers.raw
        for name, value in self._replaced.items():  # a redirect, and who sends it again, copy the request's headers
            if value is None:
                headers.pop(name, None)
            else:
                headers[name] = value
        if self._attached is not None:
            otel_context.detach(self._attached)
        if self._entered is not None:
            leave(self._entered)
        if self._stream is not None and self._request.stream is self._stream[1]:
            self._request.stream = self._stream[0]

    def failed(self, error: BaseException) -> None:
        """The request got no response."""
        self.exchange.end(now_ns(), *outcome_of(error))

    def answered(self, response: Any, *, is_async: bool) -> None:
        """The response's head is there; its body is recorded as it is read."""
        exchange, now = self.exchange, now_ns()
        extensions = response.extensions
        version = extensions.get("http_version")
        reason = extensions.get("reason_phrase")
        headers_now = self._sent_headers
        exchange.response(
            now,
            ResponseHead(
                status_code=response.status_code,
                reason=reason.decode("latin-1") if isinstance(reason, bytes) else response.reason_phrase,
                headers=response.headers.raw,
                http_version=version.decode("latin-1") if isinstance(version, bytes) else None,
                request_headers=headers_now if headers_now != self._headers else None,
            ),
        )
        if response.has_redirect_location:
            redirected(exchange, lambda: str(response.request.url.join(response.headers["location"])))
        bound = response.stream
        inner = bound._stream  # noqa: SLF001  # under the bound stream: the response keeps looking at that one
        if hasattr(response, "_content"):
            # Made whole (mock and cache transports): nobody will iterate its stream.
            raw = getattr(inner, "_stream", None)
            exchange.chunk(now, raw if isinstance(raw, bytes) else response._content)  # noqa: SLF001
            exchange.end(now, "complete")
            return
        tee = self.tees.async_response if is_async else self.tees.sync_response
        bound._stream = tee(inner, exchange)  # noqa: SLF001


def _begin(instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> _Sending | None:
    runtime = active()
    if runtime is None:
        return None
    try:
        request = arguments[0] if arguments else keywords["request"]
        if current_request() is request:
            return None
        url = _sent_url(request)
        if not runtime.wants("backend", url):
            return None
        sending = _Sending(runtime, _tees_of(instance.__class__), request, url)
    except Exception as error:  # noqa: BLE001  # the host is never harmed
        runtime.failed(None, error)
        return None
    guarded(sending.exchange, sending.begun)
    return sending


def _sent_url(request: Any) -> str:
    """The URL as it goes out: a path in the extension ``target`` is sent in the place of the URL's own.

    Source: https://www.python-httpx.org/advanced/extensions/#target
    """
    url, target = request.url, request.extensions.get("target")
    if isinstance(target, bytes):
        target = target.decode("latin-1")
    if not target or not target.startswith("/"):
        return str(url)
    return f"{url.scheme}://{url.netloc.decode('ascii')}{target}"


def _send(wrapped: Any, instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    sending = _begin(instance, arguments, keywords)
    if sending is None:
        return wrapped(*arguments, **keywords)
    try:
        response = wrapped(*arguments, **keywords)
    except BaseException as error:
        guarded(sending.exchange, sending.failed, error)
        raise
    finally:
        guarded(sending.exchange, sending.sent)
    guarded(sending.exchange, sending.answered, response, is_async=False)
    return response


async def _send_async(wrapped: Any, instance: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    sending = _begin(instance, arguments, keywords)
    if sending is None:
        return await wrapped(*arguments, **keywords)
    try:
        response = await wrapped(*arguments, **keywords)
    except BaseException as error:
        guarded(sending.exchange, sending.failed, error)
        raise
    finally:
        guarded(sending.exchange, sending.sent)
    guarded(sending.exchange, sending.answered, response, is_async=True)
    return response


HOOKS = tuple(
    Hook(module, owner, SEND, wrapper)
    for module in ("httpx", "httpx2")
    for owner, wrapper in (("Client", _send), ("AsyncClient", _send_async))
)


def instrument_client(client: Any) -> None:
    """Hooks one client object of httpx or httpx2.

    Raises:
        TypeError: ``client`` is no client of httpx or httpx2.
    """
    module = _module_of(type(client))
    wrapper = _send_async if isinstance(client, module.AsyncClient) else _send
    if SEND not in vars(client):
        setattr(client, SEND, HookWrapper(getattr(client, SEND), wrapper))


@functools.lru_cache(maxsize=64)
def _tees_of(client: type) -> Tees:
    return tees_for(_module_of(client))


def _module_of(client: type) -> ModuleType:
    """The module, httpx or httpx2, of whose client class ``client`` is a subclass."""
    for kind in client.__mro__:
        if kind.__name__ in {"Client", "AsyncClient"}:
            module = sys.modules.get(kind.__module__.partition(".")[0])
            if module is not None and hasattr(module, "AsyncByteStream"):
                return module
    raise TypeError(f"{client.__qualname__} is no client class of httpx or httpx2")
