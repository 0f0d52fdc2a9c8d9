"""A client library as small as one can be, for a hook of its own: sync over ``http.client``, async over streams.

``send`` sends one request and returns its response, whose body is read as it comes; ``fetch`` follows redirects.
"""

from __future__ import annotations

import asyncio
import dataclasses
import http.client
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any
from urllib.parse import urljoin, urlsplit


@dataclasses.dataclass
class Request:
    method: str
    url: str
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    body: bytes | Iterable[bytes] | AsyncIterable[bytes] = b""


@dataclasses.dataclass
class Response:
    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: Any


class Client:
    def send(self, request: Request) -> Response:
        url = urlsplit(request.url)
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
        body = request.body if isinstance(request.body, bytes) else iter(request.body)  # type: ignore[arg-type]
        try:
            connection.request(request.method, url.path, body, request.headers, encode_chunked=True)
            answer = connection.getresponse()
        except BaseException:
            connection.close()
            raise
        return Response(answer.status, answer.reason, answer.getheaders(), Body(connection, answer))

    def fetch(self, request: Request) -> Response:
        while location := dict((response := self.send(request)).headers).get("location"):
            response.body.close()
            request = dataclasses.replace(request, url=urljoin(request.url, location))
        return response


class Body:
    def __init__(self, connection: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        while data := self._answer.read1(65536):
            yield data

    def close(self) -> None:
        self._answer.close()
        self._connection.close()


class AsyncClient:
    async def send(self, request: Request) -> Response:
        url = urlsplit(request.url)
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        try:
            whole = request.body if isinstance(request.body, bytes) else None
            length = "transfer-encoding: chunked" if whole is None else f"content-length: {len(whole)}"
            lines = [f"{name}: {value}" for name, value in request.headers.items()]
            head = [f"{request.method} {url.path} HTTP/1.1", f"host: {url.netloc}", length, *lines, "", ""]
            writer.write("\r\n".join(head).encode() + (whole or b""))
            if whole is None:
                async for data in request.body:  # type: ignore[union-attr]
                    writer.write(b"%x\r\n%b\r\n" % (len(data), data))
                writer.write(b"0\r\n\r\n")
            await writer.drain()
            _, status, reason = (await reader.readline()).decode().strip().split(" ", 2)
            headers = []
            while line := (await reader.readline()).decode().strip():
                name, _, value = line.partition(":")
                headers.append((name.lower(), value.strip()))
        except BaseException:
            writer.close()
            raise
        return Response(int(status), reason, headers, AsyncBody(reader, writer, dict(headers)))

    async def fetch(self, request: Request) -> Response:
        while location := dict((response := await self.send(request)).headers).get("location"):
            await response.body.aclose()
            request = dataclasses.replace(request, url=urljoin(request.url, location))
        return response


class AsyncBody:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: dict[str, str]) -> None:
        self._reader = reader
        self._writer = writer
        self._length = headers.get("content-length")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._length is not None:
            yield await self._reader.readexactly(int(self._length))
            return
        while size := int(await self._reader.readline(), 16):
            yield await self._reader.readexactly(size)
            await self._reader.readline()

    async def aclose(self) -> None:
        self._writer.close()
