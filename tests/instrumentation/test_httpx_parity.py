"""With and without capture a client sees the same: bytes, chunks, exceptions and response objects."""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path
from typing import Any

import pytest
from waiting import MAX_SECONDS
from wire import serving

import otel_wirecap

PATHS = ["/document", "/encoded/gzip", "/encoded/zstd", "/stream", "/reset", "/redirect/2", "/digest"]


def timeout(url: str) -> float:
    """Seconds that are met by every path but the one that stalls."""
    return 2.0 if "/stall/" in url else MAX_SECONDS


def facts(response: Any, chunks: list[bytes], error: str | None) -> dict[str, Any]:
    try:
        elapsed: Any = response.elapsed.total_seconds() > 0
    except RuntimeError as unavailable:
        elapsed = str(unavailable)
    return {
        "status": response.status_code,
        "headers": response.headers.raw,
        "chunks": chunks,
        "error": error,
        "downloaded": response.num_bytes_downloaded,
        "closed": response.is_closed,
        "consumed": response.is_stream_consumed,
        "elapsed": elapsed,
        "history": [hop.status_code for hop in response.history],
        "request": (response.request.method, str(response.request.url), response.request.headers.raw),
        "stream": type(response.stream).__name__,
    }


def see(http: Any, url: str, how: str) -> dict[str, Any]:
    chunks: list[bytes] = []
    error = None
    with http.Client(timeout=timeout(url), follow_redirects=True, auth=http.DigestAuth("u", "wordpass99")) as client:
        response = client.send(client.build_request("POST", url, content=b'{"a": 1}'), stream=True)
        try:
            if how == "decoded":
                chunks.extend(response.iter_bytes())
            else:
                for chunk in response.iter_raw():
                    chunks.append(chunk)
                    if how == "break":
                        break
        except http.HTTPError as failure:
            error = type(failure).__name__
        response.close()
        return facts(response, chunks, error)


async def see_async(http: Any, url: str, how: str) -> dict[str, Any]:
    chunks: list[bytes] = []
    error = None
    async with http.AsyncClient(
        timeout=timeout(url), follow_redirects=True, auth=http.DigestAuth("u", "wordpass99")
    ) as client:
        response = await client.send(client.build_request("POST", url, content=b'{"a": 1}'), stream=True)
        try:
            if how == "decoded":
                chunks.extend([chunk async for chunk in response.aiter_bytes()])
            else:
                async for chunk in response.aiter_raw():
                    chunks.append(chunk)
                    if how == "break":
                        break
        except http.HTTPError as failure:
            error = type(failure).__name__
        await response.aclose()
        return facts(response, chunks, error)


def normal(seen: dict[str, Any], port: int) -> Any:
    """What was seen, less what differs from run to run: the port, the digest's random values, chunks cut by reads."""
    joined = b"".join(seen["chunks"])
    request = [(name, value) for name, value in seen["request"][2] if name.lower() not in (b"host", b"authorization")]
    return {
        **seen,
        "chunks": (len(seen["chunks"]), joined),
        "request": (seen["request"][0], seen["request"][1].replace(str(port), "PORT"), request),
    }


@pytest.mark.parametrize("name", ["httpx", "httpx2"])
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("how", ["raw", "decoded", "break"])
@pytest.mark.parametrize("path", [*PATHS, pytest.param("/stall/20", marks=pytest.mark.thorough)])
@pytest.mark.sampled(17, rest="thorough")
def test_a_client_sees_the_same_with_and_without_capture(
    name: str, kind: str, how: str, path: str, capture_file: Path
) -> None:
    http = importlib.import_module(name)
    seen = []
    with serving() as server:
        for captured in (False, True):
            if captured:
                otel_wirecap.instrument(capture_file=capture_file)
            try:
                url = server.url + path
                told = see(http, url, how) if kind == "sync" else asyncio.run(see_async(http, url, how))
            finally:
                if captured:
                    otel_wirecap.uninstrument()
            seen.append(normal(told, server.server_address[1]))
        assert seen[0] == seen[1]
        bodies = [(got.method, got.target, got.body) for got in server.received]
        assert bodies[: len(bodies) // 2] == bodies[len(bodies) // 2 :]
    assert '"direction":"outbound_request"' in capture_file.read_text()
