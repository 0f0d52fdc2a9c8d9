"""What hooks put crosses to a writer as it is, wherever that runs and whatever the application hands on."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from wire import serving

import otel_wirecap
from otel_wirecap.capture.events import EventKind


class Name(str):
    """As some frameworks have them."""

    __slots__ = ()


class Data(bytes):
    """As some frameworks have them."""

    __slots__ = ()


def request_of(body: bytes) -> dict[str, Any]:
    headers = [[Data(b"content-type"), bytearray(b"application/json")], (b"host", b"gateway")]
    return {
        "type": "http", "method": Name("POST"), "path": "/v1/chat/completions", "http_version": Name("1.1"),
        "scheme": Name("http"), "client": (Name("127.0.0.1"), 5), "headers": headers, "query_string": b"",
        "server": ("gateway", 80), "body": body,
    }  # fmt: skip


@pytest.mark.parametrize("home", ["process", "thread"])
def test_every_hook_puts_plain_values_in_both_homes(
    home: str, capture_file: Path, events_put: list[tuple[Any, ...]]
) -> None:
    body = b'{"messages": []}'

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        otel_wirecap.annotate(session_id=Name("mine"), **{Name("tenant"): Name("one")})
        async with httpx.AsyncClient() as client:
            await client.post(f"{url}/stream", content=body)
        async with aiohttp.ClientSession() as session, session.post(f"{url}/stream", data=body) as response:
            chunks = [chunk async for chunk in response.content.iter_any()]
        await send(
            {"type": "http.response.start", "status": 200, "headers": [[Data(b"content-type"), bytearray(b"a/b")]]}
        )
        for chunk in chunks:
            await send({"type": "http.response.body", "body": bytearray(chunk), "more_body": True})
        await send({"type": "http.response.body", "body": memoryview(b"end")})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": Data(body)}

    async def send(_message: Any) -> None:
        pass

    with serving() as server:
        url = server.url
        otel_wirecap.instrument(capture_file=capture_file, capture_writer=home)
        asyncio.run(otel_wirecap.instrument_app(app)(request_of(body), receive, send))
        otel_wirecap.pause()
        otel_wirecap.uninstrument()
    assert {event[0] for event in events_put} >= {
        EventKind.BEGIN, EventKind.RESPONSE, EventKind.CHUNK, EventKind.END, EventKind.ANNOTATE, EventKind.SYSTEM,
    }  # fmt: skip
    records = [json.loads(line) for line in capture_file.read_text().splitlines()]
    assert not [record for record in records if record["direction"] == "system_gap"]
    told = [record["metadata"] for record in records]
    ends = [metadata["outcome"] for metadata in told if "outcome" in metadata and not metadata.get("assembled")]
    assert ends == ["complete"] * 3
    assert {record["session_id"] for record in records if record["metadata"].get("leg")} == {"mine"}
