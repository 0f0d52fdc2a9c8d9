"""Streams as providers frame them, for the tests."""

import base64
import json
import struct
import zlib
from typing import Any

AWS = "application/vnd.amazon.eventstream"


def frame(headers: dict[str, str], payload: bytes, *, before: bytes = b"") -> bytes:
    """A frame of an AWS event stream; ``before`` are headers that are spelled already."""
    spelled = before + b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack("!II", 16 + len(spelled) + len(payload), len(spelled))
    body = prelude + struct.pack("!I", zlib.crc32(prelude)) + spelled + payload
    return body + struct.pack("!I", zlib.crc32(body))


def aws_event(kind: str, payload: Any) -> bytes:
    """An event of Bedrock's."""
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return frame(headers, json.dumps(payload).encode())


def aws_chunk(event: Any) -> bytes:
    """A model's own event, as Bedrock wraps it."""
    return aws_event("chunk", {"bytes": base64.b64encode(json.dumps(event).encode()).decode(), "p": "abcdefgh"})


def ndjson(*events: Any) -> bytes:
    """Events on a line each."""
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def sse(*events: Any) -> bytes:
    """Server-sent events, named where they have a type."""
    return b"".join(
        (f"event: {event['type']}\n" if "type" in event else "").encode()
        + b"data: "
        + json.dumps(event).encode()
        + b"\n\n"
        for event in events
    )


def frames_of(stream: bytes) -> list[tuple[dict[str, str], bytes]]:
    """The headers and the payload of each frame, read in another way than the package does."""
    found = []
    while stream:
        total, size = struct.unpack_from("!II", stream)
        rest, headers = stream[12 : 12 + size], {}
        while rest:
            name, rest = rest[1 : 1 + rest[0]].decode(), rest[1 + rest[0] :]
            length = int.from_bytes(rest[1:3])
            headers[name], rest = rest[3 : 3 + length].decode(), rest[3 + length :]
        found.append((headers, stream[12 + size : total - 4]))
        stream = stream[total:]
    return found
