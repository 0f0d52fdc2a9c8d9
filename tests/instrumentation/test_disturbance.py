"""The proof that nothing is disturbed: whatever comes over the wire, however it is read, an application sees the same.

Each example is run bare and captured, over real sockets, and what the application saw is compared: bytes, chunk
boundaries, exceptions, the state of the response. HTTP chunks are the boundaries: they do not depend on how TCP cuts.
"""

from __future__ import annotations

import asyncio
import socketserver
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import httpx
import httpx2
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from selection import examples

import otel_wirecap


class Script(NamedTuple):
    """What a backend sends: pieces with pauses before them in milliseconds, and whether it breaks off at the end."""

    content_type: str
    pieces: list[tuple[int, bytes]]
    breaks: bool


class Reader(NamedTuple):
    """What the application does: reads all, or does ``then`` after ``count`` pieces."""

    count: int
    then: str


pieces = st.lists(st.tuples(st.sampled_from([0, 0, 0, 2]), st.binary(min_size=1, max_size=1500)), max_size=6)
scripts = st.builds(
    Script,
    st.sampled_from(["text/event-stream", "application/json", "application/octet-stream"]),
    pieces,
    st.booleans(),
)
readers = st.builds(Reader, st.integers(0, 4), st.sampled_from(["read on", "break", "close", "cancel", "raise"]))
bodies = st.one_of(st.binary(max_size=3000), st.lists(st.binary(min_size=1, max_size=500), max_size=4))


class Handler(socketserver.StreamRequestHandler):
    server: Backend

    def handle(self) -> None:
        length, chunked = 0, False
        self.rfile.readline()
        while (line := self.rfile.readline()).strip():
            name, _, value = line.decode("latin-1").lower().partition(":")
            if name == "content-length":
                length = int(value)
            chunked = chunked or (name == "transfer-encoding" and "chunked" in value)
        body = self.rfile.read(length)
        while chunked and (size := int(self.rfile.readline(), 16)):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.server.received.append(body)
        script = self.server.script
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {script.content_type}\r\ntransfer-encoding: chunked\r\n\r\n"
        self.wfile.write(head.encode())
        for pause, piece in script.pieces:
            time.sleep(pause / 1000)
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        if not script.breaks:
            self.wfile.write(b"0\r\n\r\n")

    def finish(self) -> None:
        """The client may be gone."""


class Backend(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    script: Script

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.received: list[bytes] = []

    def handle_error(self, *_: Any) -> None:
        """A client that left is no news."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1/chat/completions"


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with Backend() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(60)


class Ours(Exception):  # noqa: N818  # the application's own
    pass


def act(then: str) -> None:
    if then == "cancel":
        raise asyncio.CancelledError
    if then == "raise":
        raise Ours


def as_content(body: bytes | list[bytes]) -> Any:
    if isinstance(body, bytes):
        return body

    async def stream() -> Any:
        for part in body:
            yield part

    return stream()


async def read_httpx(http: Any, url: str, body: bytes | list[bytes], reader: Reader) -> list[Any]:
    seen: list[Any] = []
    async with http.AsyncClient() as client:
        request = client.build_request("POST", url, content=as_content(body))
        response = None
        try:
            response = await client.send(request, stream=True)
            chunks = response.aiter_raw()
            if reader.count or reader.then == "read on":
                async for chunk in chunks:
                    seen.append(chunk)
                    if len(seen) == reader.count and reader.then != "read on":
                        break
            act(reader.then)
        except (http.HTTPError, Ours, asyncio.CancelledError) as error:
            seen.append((type(error).__name__, str(error)))
        if response is not None:
            if reader.then != "break":
                await response.aclose()
            seen.append((response.status_code, response.headers.raw, response.num_bytes_downloaded))
            seen.append((response.is_closed, response.is_stream_consumed))
    return seen


def read_httpx_sync(http: Any, url: str, body: bytes | list[bytes], reader: Reader) -> list[Any]:
    seen: list[Any] = []
    with http.Client() as client:
        response = None
        try:
            content = body if isinstance(body, bytes) else iter(body)
            response = client.send(client.build_request("POST", url, content=content), stream=True)
            if reader.count or reader.then == "read on":
                for chunk in response.iter_raw():
                    seen.append(chunk)
                    if len(seen) == reader.count and reader.then != "read on":
                        break
            act(reader.then)
        except (http.HTTPError, Ours, asyncio.CancelledError) as error:
            seen.append((type(error).__name__, str(error)))
        if response is not None:
            if reader.then != "break":
                response.close()
            seen.append((response.status_code, response.headers.raw, response.num_bytes_downloaded))
            seen.append((response.is_closed, response.is_stream_consumed))
    return seen


async def read_aiohttp(url: str, body: bytes | list[bytes], reader: Reader) -> list[Any]:
    seen: list[Any] = []
    async with aiohttp.ClientSession() as session:
        response = None
        try:
            async with session.post(url, data=as_content(body)) as response:
                if reader.count or reader.then == "read on":
                    whole = b""
                    async for data, at_end in response.content.iter_chunks():
                        whole += data  # within an HTTP chunk the cuts are TCP's
                        if at_end and whole:  # an end that comes by itself is a chunk of nothing to aiohttp
                            seen.append(whole)
                            whole = b""
                            if len(seen) == reader.count and reader.then != "read on":
                                break
                if reader.then == "close":
                    response.close()
                act(reader.then)
        except (aiohttp.ClientError, Ours, asyncio.CancelledError) as error:
            seen.append((type(error).__name__, str(error)))
        if response is not None:
            seen.append((response.status, response.raw_headers, response.closed, type(response.content).__name__))
    return seen


def run(client: str, url: str, body: bytes | list[bytes], reader: Reader) -> list[Any]:
    if client == "aiohttp":
        return asyncio.run(read_aiohttp(url, body, reader))
    module = httpx if client.startswith("httpx ") else httpx2
    if client.endswith("async"):
        return asyncio.run(read_httpx(module, url, body, reader))
    return read_httpx_sync(module, url, body, reader)


@pytest.mark.parametrize("client", ["httpx sync", "httpx async", "httpx2 sync", "httpx2 async", "aiohttp"])
@pytest.mark.sampled(1, rest="thorough")
def test_a_client_sees_the_same_whatever_comes_and_however_it_reads(client: str, backend: Backend) -> None:
    @settings(max_examples=examples(30), deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(script=scripts, reader=readers, body=bodies)
    def holds(script: Script, reader: Reader, body: bytes | list[bytes]) -> None:
        backend.script = script
        bare = run(client, backend.url, body, reader)
        with tempfile.TemporaryDirectory() as folder:
            otel_wirecap.instrument(capture_file=Path(folder, "capture.log"))
            try:
                captured = run(client, backend.url, body, reader)
            finally:
                otel_wirecap.uninstrument()
            assert b'"outbound_request"' in Path(folder, "capture.log").read_bytes()
        assert captured == bare
        assert backend.received[-1] == backend.received[-2]

    holds()


messages = st.lists(
    st.tuples(st.binary(max_size=800), st.sampled_from([bytes, bytearray]), st.booleans()), min_size=1, max_size=5
)


@settings(max_examples=examples(100), deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(incoming=messages, outgoing=messages, fails_after=st.integers(0, 12), leaves=st.booleans())
def test_an_application_and_its_server_see_the_same(
    incoming: list[Any], outgoing: list[Any], fails_after: int, leaves: bool
) -> None:
    def once() -> tuple[list[Any], list[Any]]:
        came: list[Any] = []
        went: list[Any] = []
        to_come = [
            {"type": "http.request", "body": kind(data), "more_body": number < len(incoming) - 1 or explicit}
            for number, (data, kind, explicit) in enumerate(incoming)
        ]
        if leaves:
            to_come.append({"type": "http.disconnect"})

        async def receive() -> Any:
            return to_come.pop(0) if to_come else {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            went.append(message)
            if len(went) == fails_after:
                raise OSError("gone")

        async def app(scope: Any, receive: Any, send: Any) -> None:
            came.append({name: value for name, value in scope.items() if not name.startswith("otel_wirecap")})
            came.extend([await receive() for _ in range(len(incoming) + 1)])
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
            for number, (data, kind, _) in enumerate(outgoing):
                await send({"type": "http.response.body", "body": kind(data), "more_body": number < len(outgoing) - 1})

        scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"x", b"\xff")], "http_version": "1.1"}
        try:
            asyncio.run(otel_wirecap.WireCaptureMiddleware(app)(scope, receive, send))
        except OSError as error:
            went.append(str(error))
        return came, went

    bare = once()
    with tempfile.TemporaryDirectory() as folder:
        otel_wirecap.instrument(capture_file=Path(folder, "capture.log"))
        try:
            assert once() == bare
        finally:
            otel_wirecap.uninstrument()
