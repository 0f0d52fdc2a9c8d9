"""Serves the proxy with uvicorn, set up so that the server adds and changes nothing."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from otel_wirecap.errors import WireCaptureError
from otel_wirecap.proxy.app import RAW_HEADERS, RAW_TARGET, BackendBrokeOff

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp

MAX_HEAD_BYTES = 256 * 1024
KEEP_ALIVE_SECONDS = 75
"""Longer than clients keep idle connections, so that it is the client that closes."""

SHUTDOWN_SECONDS = 5
"""What running exchanges get to end when the proxy is told to stop."""


def serve(
    app: ASGIApp,
    host: str,
    port: int,
    *,
    what: str,
    note: str = "",
) -> None:
    """Serves ``app`` until SIGINT or SIGTERM; says on stderr, in one line, where it is once it answers.

    Args:
        app: the proxy, or another application to be served as transparently.
        host: the address to listen on.
        port: the port; 0 takes a free one.
        what: what is served, for that line.
        note: what the line says after the address.

    Raises:
        WireCaptureError: the address cannot be listened on.
    """
    listening = _listen(host, port)
    config = transparent_config(app, host, port)
    logging.getLogger("uvicorn.error").addFilter(_break_off_in_one_line)

    def ready(address: str) -> None:
        _say(f"{what} on {address}{note}")

    _Server(config, ready).run(sockets=[listening])


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)  # noqa: T201  # this is a command


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise WireCaptureError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; expected an address of this machine (--host) "
            "and a port that is free (--port)"
        ) from None


def transparent_config(app: ASGIApp, host: str, port: int) -> uvicorn.Config:
    """The settings of uvicorn under which what the application sends is what the client gets."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        # h11 keeps the spelling of header names in both directions; httptools writes them in lower case, and
        # refuses a 304 with a content-length.
        http=CasePreservingProtocol,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        # The peer's address is the client's address, whatever X-Forwarded-For says.
        proxy_headers=False,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[str], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        listening = self.servers[0].sockets[0].getsockname()
        host = f"[{listening[0]}]" if ":" in listening[0] else listening[0]
        self._ready(f"http://{host}:{listening[1]}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        running = len(self.server_state.tasks)
        if running:
            _say(f"waiting {SHUTDOWN_SECONDS} seconds at most for {running} running requests; interrupt to stop now")
        await super().shutdown(sockets)


class _Connection(h11.Connection):
    """Remembers the last request's target as it came, and its headers as they were spelt."""

    raw_headers: tuple[tuple[bytes, bytes], ...] = ()
    raw_target: bytes = b""

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.raw_headers = tuple(event.headers.raw_items())
            self.raw_target = bytes(event.target)
        return event


class CasePreservingProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 protocol, which also tells the application what came, byte for byte.

    The headers, names as they were spelt, stand in the scope's extension ``otel_wirecap.raw_headers``, in the order of
    the scope's own list; the target in ``otel_wirecap.raw_target``.
    """

    def __init__(self, config: uvicorn.Config, *arguments: Any, **keywords: Any) -> None:
        super().__init__(config, *arguments, **keywords)
        self.conn: h11.Connection = _Connection(h11.SERVER, config.h11_max_incomplete_event_size or MAX_HEAD_BYTES)

    @property
    def scope(self) -> Any:
        """The current request's scope."""
        return self._scope

    @scope.setter
    def scope(self, scope: Any) -> None:
        if scope is not None and isinstance(self.conn, _Connection):
            scope["extensions"] = {RAW_HEADERS: self.conn.raw_headers, RAW_TARGET: self.conn.raw_target}
        self._scope = scope


def _break_off_in_one_line(record: logging.LogRecord) -> bool:
    """Turns the traceback of a backend that broke off, which is no error of the server, into one line.

    That of a request which the end of the server cuts off says nothing new: it has been told that it will be.
    """
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, asyncio.CancelledError):
        return False
    if isinstance(error, BackendBrokeOff):
        record.msg, record.args, record.exc_info, record.levelno, record.levelname = (
            str(error), (), None, logging.WARNING, "WARNING",
        )  # fmt: skip
    return True
