"""A transparent, streaming reverse proxy in front of LLM backends, on Starlette and httpx2.

Invariants:

- A request whose first path segment is a backend's name goes there, without that segment; every other one
  goes to the default backend. The shape of a path is never interpreted.
- Nothing is buffered, decoded or rewritten: method, path, query, end-to-end headers and both bodies pass as
  received, chunk by chunk. What may change: ``Host``, hop-by-hop headers, a key where the client sent no credential
  and may use it (see ``access``), and the client token, which is taken out.
- A response that breaks off on the backend's side breaks off on the client's side; it never ends cleanly.
- When the client leaves, the backend's connection is closed at once.
"""

from __future__ import annotations

import contextlib
import json
import logging
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import anyio
import httpx2
from starlette.applications import Starlette
from starlette.routing import Route

from otel_wirecap import annotate
from otel_wirecap.proxy.access import Access, Arrival, Passage, Refusal
from otel_wirecap.proxy.headers import request_headers, response_headers
from otel_wirecap.proxy.provider_errors import refusal_body

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from starlette.types import Receive, Scope, Send

    from otel_wirecap.proxy.backends import Backend

logger = logging.getLogger("otel_wirecap.proxy")

RAW_HEADERS = "otel_wirecap.raw_headers"
"""The scope extension with the request's headers as the client spelt them; ASGI has them in lower case."""

CONNECT_SECONDS = 10.0
DRAIN_SECONDS = 5.0
DRAIN_BYTES = 64 << 20
READ_SECONDS = 600.0
"""A model may think for minutes before its first byte, and between two of them."""

IDLE_SECONDS = 4.0
"""Common servers close idle connections after 5 s; to reuse one at that moment would lose the request."""


class BackendBrokeOff(Exception):  # noqa: N818  # what happened, not a defect of ours
    """A backend's response broke off; raised so that the server breaks the client's off, too."""


def create_app(
    backends: Mapping[str, Backend],
    default_backend: str,
    *,
    environ: Mapping[str, str],
    access: Access = Access(),  # noqa: B008  # frozen
    connect_timeout: float | None = CONNECT_SECONDS,
    read_timeout: float | None = READ_SECONDS,
) -> Starlette:
    """The proxy as an ASGI application.

    Args:
        backends: by name.
        default_backend: the name of the backend for every path that begins with no backend's name.
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
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    relay = _Relay(client, backends, backends[default_backend], environ, access)
    return Starlette(routes=[Route("/{path:path}", relay)], lifespan=lifespan)


class _Relay:
    """Hands requests on to backends, and their responses back."""

    def __init__(
        self,
        client: httpx2.AsyncClient,
        backends: Mapping[str, Backend],
        default: Backend,
        environ: Mapping[str, str],
        access: Access,
    ) -> None:
        self._client = client
        self._backends = {name.encode("ascii"): backend for name, backend in backends.items()}
        self._default = default
        self._environ = environ
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        backend, target = self._route(scope)
        annotate(backend=backend.name)
        decision = self._decide(scope, backend)
        if isinstance(decision, Refusal):
            await _refuse(receive, send, backend, decision)
            return
        failure: BackendBrokeOff | None = None
        # A client that leaves cancels this group. The exchange with the backend runs in the caller's task,
        # so that it belongs to the caller's context.
        async with anyio.create_task_group() as group:
            upload = _Upload(receive, group.cancel_scope)
            try:
                request = self._request(scope, backend, target, upload, decision)
                group.start_soon(upload.watch)
                response = await self._client.send(request, stream=True, follow_redirects=False)
            except httpx2.InvalidURL:
                await _send_error(send, 400, "invalid_path", "the request's path cannot be sent on")
            except httpx2.HTTPError as error:
                await upload.drain()
                await _send_failure(send, backend, error)
            else:
                upload.finished.set()
                try:
                    await _hand_back(response, send)
                except httpx2.HTTPError as error:
                    # The text of the error may quote what was sent or received; its type is enough.
                    failure = BackendBrokeOff(f"backend {backend.name!r} broke off: {type(error).__name__}")
                finally:
                    with anyio.CancelScope(shield=True):
                        await response.aclose()
            group.cancel_scope.cancel()
        if failure is not None:
            raise failure

    def _route(self, scope: Scope) -> tuple[Backend, bytes]:
        """The backend, and the path (percent-encoded, as received) that it is asked for."""
        path: bytes = scope.get("raw_path") or quote(scope["path"]).encode("ascii")
        path = path.removeprefix(scope.get("root_path", "").encode("utf-8"))
        first, _, rest = path.removeprefix(b"/").partition(b"/")
        backend = self._backends.get(first)
        return (self._default, path) if backend is None else (backend, b"/" + rest)

    def _decide(self, scope: Scope, backend: Backend) -> Passage | Refusal:
        """Whether the request may pass, and with the backend's key or without."""
        received = (scope.get("extensions") or {}).get(RAW_HEADERS) or scope["headers"]
        path = scope.get("raw_path") or scope["path"].encode("utf-8")
        arrival = Arrival(scope.get("server"), scope["method"], path, scope["query_string"], received)
        has_key = backend.credential(self._environ) is not None
        return self._access.decide(arrival, backend.credential_header, has_key=has_key)

    def _request(
        self, scope: Scope, backend: Backend, path: bytes, upload: _Upload, passage: Passage
    ) -> httpx2.Request:
        query = passage.query
        base = httpx2.URL(backend.base_url)
        headers, has_body = request_headers(passage.headers, base.netloc, http_version=scope["http_version"])
        added = backend.credential(self._environ) if passage.adds_key else None
        if added is not None:
            headers.append((added[0].encode("ascii"), added[1].encode("utf-8")))
        target = base.raw_path.removesuffix(b"/") + path + (b"?" + query if query else b"")
        request = httpx2.Request(
            scope["method"],
            backend.base_url + (path + (b"?" + query if query else b"")).decode("latin-1"),
            # A URL object normalises; the wire gets the bytes as they came.
            extensions={"target": target},
            **({"stream": upload} if has_body else {"content": b""}),
        )
        request.headers = httpx2.Headers(headers)  # in place of all that the constructor adds
        if not has_body:
            upload.finished.set()
        return request


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
    """Takes the request's body before it answers: who is cut off while sending never reads the answer."""
    with anyio.CancelScope() as client_left:
        await _Upload(receive, client_left).drain()
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
    logger.warning("%s", message)
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
