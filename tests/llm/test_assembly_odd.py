"""Streams with the oddities of real ones add up to what their clients read, however their bytes are cut."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from made_streams import STREAMS

from otel_wirecap.frames.framing import FrameReader
from otel_wirecap.llm.answers import usage_of
from otel_wirecap.llm.assembly import StreamAssembly


def assembled(name: str, size: int) -> StreamAssembly:
    stream = STREAMS[name]
    frames, assembly = FrameReader(stream.content_type), StreamAssembly(max_bytes=1 << 24)
    for start in range(0, len(stream.body), size):
        for event in frames.feed(stream.body[start : start + size]):
            assembly.add(event)
    for event in frames.close():
        assembly.add(event)
    return assembly


def at(value: Any, path: str) -> Any:
    for step in path.split("."):
        value = value[int(step)] if isinstance(value, list) else value.get(step)
    return value


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_with_an_oddity_adds_up_to_what_its_client_reads(name: str) -> None:
    stream = STREAMS[name]
    for size in (1, 7, len(stream.body)):
        assembly = assembled(name, size)
        message = assembly.message()
        assert {path: at(message, path) for path in stream.holds} == stream.holds
        assert usage_of(message) == stream.usage
        assert assembly.unreadable == stream.unreadable
        orjson.dumps(message)  # it can be written
