"""A transparent, streaming reverse proxy in front of LLM backends, on Starlette and httpx2.

Invariants:

- Connections go to the backends' own origins and nowhere else: nothing that a client sends becomes part of a URL.
  A key is added to a request for its backend's origin only.
- Nothing is buffered, decoded or rewritten: method, target (but for ``/to/NAME``), end-to-end headers and both
  bodies pass as received, chunk by chunk. What may change: ``Host``, hop-by-hop headers, a key where the client sent
  no credential and may use it (see ``access``), and the client token, which is taken out.
- A response that breaks off on the backend's side breaks off on the client's side; it never ends cleanly.
- When the client leaves, the backend's connection is closed at once.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

import anyio
import httpx2
from starlette.routing import Router as StarletteRouter

from otel_wirecap import annotate
from otel_wirecap.proxy.access import Access, Arrival, Passage, Refusal
from otel_wirecap.proxy.authority import Origin
from otel_wirecap.proxy.headers import request_headers, response_headers
from otel_wirecap.proxy.provider_errors import refusal_body
from otel_wirecap.proxy.routing import Route, Router, RoutingError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

    from otel_wirecap.proxy.backends import Backend
    from otel_wirecap.proxy.headers import HeaderList

logger = logging.getLogger("otel_wirecap.proxy")

RAW_HEADERS = "otel_wirecap.raw_headers"
"""The scope extension with the request's headers as the client spelt them; ASGI has them in lower case."""

RAW_TARGET = "otel_wirecap.raw_target"
"""The scope extension with the request's target as received; ASGI's parts leave out the ``?`` of an empty query."""

CONNECT_SECONDS = 10.0
DRAIN_SECONDS = 5.0
DRAIN_BYTES = 64 << 20
READ_SECONDS = 600.0
"""A model may think for minutes before its first byte, and between two of them."""

MAX_STATUS = 599
"""RFC 9110, section 15; servers know no other."""

IDLE_SECONDS = 4.0
"""Common servers close idle connections after 5 s; to reuse one at that moment would lose the request."""


class BackendBrokeOff(Exception):  # noqa: N818  # what happened, not a defect of ours
    """A backend's response broke off; raised so that the server breaks the client's off, too."""


def create_app(
    backends: Mapping[str, Backend],
    default_backend: str | None,
    *,
    environ: Mapping[str, str],
    access: Access = Access(),  # noqa: B008  # frozen
    connect_timeout: float | None = CONNECT_SECONDS,
    read_timeout: float | None = READ_SECONDS,
) -> ASGIApp:
    """The proxy as an ASGI application.

    Args:
        backends: by name.
        default_backend: the name of the backend for every path outside ``/to/``; None: those paths get a 404.
        environ: where keys are looked up for requests that bring no credential.
        access: who may use those keys.
        connect_timeout: seconds, None for no limit.
        read_timeout: seconds without a byte from the backend, None for no limit.
    """
    client = httpx2.AsyncClient(
        verify=httpx2.create_ssl_context(),
        # No proxies and no netrc credentials from the environment: requests go out as they came in.
        trust_env=False,
        timeout=httpx2.Timeout(connect=connect_timeout, read=read_timeout, write=None, pool=None),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=200, keepalive_expiry=IDLE_SECONDS),
        # Cookies are the client's own business: none is kept here.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
    )

    @contextlib.asynccontextmanager
    async def lifespan(_app: StarletteRouter) -> AsyncIterator[None]:
        async with client:
            yield

    relay = _Relay(client, Router(backends, default_backend), environ, access)
    # Without routes: Starlette's patterns know no target but a path, and look at it percent-decoded.
    return StarletteRouter(default=relay, lifespan=lifespan)


class _Relay:
    """Hands requests on to backends, and their responses back."""

    def __init__(self, client: httpx2.AsyncClient, router: Router, environ: Mapping[str, str], access: Access) -> None:
        self._client = client
        self._router = router
        self._environ = environ
        self._access = access
        self._mentioned: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            route = self._router.route(scope["method"], _target(scope))
        except RoutingError as error:
            await _take_body(receive)
            await _send_error(send, error.status, error.kind, str(error))
            return
        annotate(backend=route.backend.name)
        self._mention_namesake(route)
        decision = self._decide(scope, route)
        if isinstance(decision, Refusal):
            await _refuse(receive, send, route.backend, decision)
            return
        failure: BackendBrokeOff | None = None
        # A client that leaves cancels this group. The exchange with the backend runs in the caller's task,
        # so that it belongs to the caller's context.
        async with anyio.create_task_group() as group:
            upload = _Upload(receive, group.cancel_scope)
            try:
                request = self._request(scope, route, decision, upload)
                group.start_soon(upload.watch)
                response = await self._client.send(request, stream=True, follow_redirects=False)
                if response.status_code > MAX_STATUS:
                    await response.aclose()
                    raise httpx2.RemoteProtocolError("no status of HTTP", request=request)
            except httpx2.HTTPError as error:
                await upload.drain()
                await _send_failure(send, route.backend, error)
            else:
                upload.finished.set()
                try:
                    await _hand_back(response, send)
                except httpx2.HTTPError as error:
                    # The text of the error may quote what was sent or received; its type is enough.
                    failure = BackendBrokeOff(f"backend {route.backend.name!r} broke off: {type(error).__name__}")
                finally:
                    with anyio.CancelScope(shield=True):
                        await response.aclose()
            group.cancel_scope.cancel()
        if failure is not None:
            raise failure

    def _mention_namesake(self, route: Route) -> None:
        """Says in the log, once for each name, that ``/NAME/…`` no longer leads to the backend NAME."""
        if route.namesake is not None and route.namesake.name not in self._mentioned:
            name, default = route.namesake.name, route.backend.name
            self._mentioned.add(name)
            logger.warning(
                "a request for /%s/... went to the default backend %s; for the backend %s write /to/%s/...",
                name, default, name, name,
            )  # fmt: skip

    def _decide(self, scope: Scope, route: Route) -> Passage | Refusal:
        """Whether the request may pass, and with the backend's key or without."""
        received = (scope.get("extensions") or {}).get(RAW_HEADERS) or scope["headers"]
        arrival = Arrival(scope.get("server"), scope["method"], route.path, route.query, received)
        has_key = route.backend.credential(self._environ) is not None
        return self._access.decide(arrival, route.backend.credential_header, has_key=has_key)

    def _request(self, scope: Scope, route: Route, passage: Passage, upload: _Upload) -> httpx2.Request:
        url = origin_url(route.backend)
        headers, has_body = request_headers(passage.headers, url.netloc, http_version=scope["http_version"])
        if passage.adds_key:
            headers += added_key(url, route.backend, self._environ)
        request = httpx2.Request(
            scope["method"],
            url,
            # The connection goes where the URL says; what it asks for there are these bytes.
            extensions={"target": route._replace(query=passage.query).target},
            **({"stream": upload} if has_body else {"content": b""}),
        )
        request.method = scope["method"]  # the constructor writes it in upper case
        request.headers = httpx2.Headers(headers)  # in place of all that the constructor adds
        if not has_body:
            upload.finished.set()
        return request


def _target(scope: Scope) -> bytes:
    target: bytes | None = (scope.get("extensions") or {}).get(RAW_TARGET)
    if target is not None:
        return target
    path: bytes = scope["raw_path"]
    query: bytes = scope["query_string"]
    return path + b"?" + query if query else path


@functools.lru_cache(maxsize=256)
def origin_url(backend: Backend) -> httpx2.URL:
    """The URL of a backend's origin, with the path ``/``."""
    origin = backend.origin
    return httpx2.URL(scheme=origin.scheme, host=origin.host, port=origin.port, path="/")


def added_key(url: httpx2.URL, backend: Backend, environ: Mapping[str, str]) -> HeaderList:
    """The header with the environment's key for a request to ``url``: none but for the backend's own origin."""
    # The last look before a key leaves, at the very URL that is connected to.
    if Origin.of(url.scheme, url.raw_host.decode("ascii"), url.port) != backend.origin:
        return []
    added = backend.credential(environ)
    return [] if added is None else [(added[0].encode("ascii"), added[1].encode("utf-8"))]


class _Upload(httpx2.AsyncByteStream):
    """The client's request body as it comes, and the watch on the client afterwards."""

    def __init__(self, receive: Receive, scope: anyio.CancelScope) -> None:
        self._receive = receive
        self._scope = scope
        self.finished = anyio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._scope.cancel()
                await anyio.sleep_forever()  # the cancellation arrives here: the upload never ends cleanly
            body = message.get("body", b"")
            more = message.get("more_body", False)
            if body:
                yield body
        self.finished.set()

    async def drain(self) -> None:
        """Takes the rest of the body, within bounds: what a client asked of a dead backend is in the capture then."""
        taken = 0
        with anyio.move_on_after(DRAIN_SECONDS):
            if not self.finished.is_set():
                async for part in self:
                    taken += len(part)
                    if taken > DRAIN_BYTES:
                        return

    async def watch(self) -> None:
        """Cancels everything when the client leaves. ``receive`` has one reader at a time, hence the wait."""
        await self.finished.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._scope.cancel()


async def _take_body(receive: Receive) -> None:
    """Takes a body that goes nowhere: a client that is cut off while it sends never reads the answer."""
    with anyio.CancelScope() as client_left:
        await _Upload(receive, client_left).drain()


async def _hand_back(response: httpx2.Response, send: Send) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": response.status_code,
            "headers": response_headers(response.headers.raw),
        }
    )
    async for chunk in response.aiter_raw():
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _refuse(receive: Receive, send: Send, backend: Backend, refusal: Refusal) -> None:
    await _take_body(receive)
    headers = [(b"www-authenticate", b"Bearer")] if refusal.status == 401 else []
    await _send_json(send, refusal.status, refusal_body(backend.name, refusal), headers)


async def _send_failure(send: Send, backend: Backend, error: httpx2.HTTPError) -> None:
    if isinstance(error, httpx2.TimeoutException):
        status, kind, what = 504, "backend_timeout", "did not answer in time"
    elif isinstance(error, httpx2.ConnectError):
        status, kind, what = 502, "backend_unreachable", "cannot be reached"
    else:
        status, kind, what = 502, "backend_failed", "broke off before it answered"
    # No more of the error than its type: its text may quote headers.
    message = f"backend {backend.name!r} {what} ({type(error).__name__})"
    logger.warning("%s: %s", message, backend.base_url)
    await _send_error(send, status, kind, message)


async def _send_error(send: Send, status: int, kind: str, message: str) -> None:
    await _send_json(send, status, {"error": {"type": kind, "message": message}})


async def _send_json(
    send: Send, status: int, document: object, further_headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    body = json.dumps(document).encode()
    headers: list[Any] = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode("ascii")),
        *further_headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
