"""A body in one piece that is larger than the queue is recorded as truncated: neither lost nor of another size."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from records import read_records

import otel_wirecap
from otel_wirecap.reading.captures import Captures
from otel_wirecap.reading.verify import Verification

BODY = os.urandom(3_000_000)
KEPT = 10_000
SETTINGS: dict[str, Any] = {"capture_max_queue_bytes": 1_000_000, "capture_max_payload_bytes": KEPT}


@pytest.mark.parametrize("writer", ["process", "thread"])
@pytest.mark.parametrize("side", ["request", "response", "compressed", "stream"])
@pytest.mark.sampled(3, rest="thorough")
def test_a_body_larger_than_the_queue(side: str, writer: str, tmp_path: Path) -> None:
    asked = BODY if side == "request" else b"{}"
    answer = {"request": b"{}", "response": BODY, "compressed": gzip.compress(BODY), "stream": b"data: " + BODY}[side]
    named = {"compressed": {"content-encoding": "gzip"}, "stream": {"content-type": "text/event-stream"}}
    headers = named.get(side)
    backend = httpx.MockTransport(lambda _request: httpx.Response(200, content=answer, headers=headers))
    otel_wirecap.instrument(capture_file=tmp_path / "c.log", capture_writer=writer, **SETTINGS)
    try:
        with httpx.Client(transport=backend) as client:
            assert client.post("http://backend.example/v1/files", content=asked).status_code == 200
    finally:
        otel_wirecap.uninstrument()

    found = {record["direction"]: record for record in read_records(tmp_path / "c.log")}
    assert "system_gap" not in found
    if side == "stream":
        (end, chunk) = found["stream_end"], found["stream_chunk"]
        assert end["metadata"]["incomplete"] == "dropped"
        assert end["metadata"]["wire_length"] == len(answer)
        assert 0 < chunk["content_length"] < len(answer)
    else:
        record = found["outbound_request" if side == "request" else "inbound_response"]
        metadata = record["metadata"]
        if side == "compressed":
            assert (metadata["incomplete"], metadata["wire_length"]) == ("dropped", len(answer))
        else:
            assert metadata["truncated"] == {"original_length": len(BODY)}, "no hash of what never came"
            assert record["content_length"] == len(BODY)
    with Captures([tmp_path / "c.log"], use_index=False) as captures:
        assert list(Verification().problems(captures)) == []


def test_one_that_finds_room_has_its_hash(tmp_path: Path) -> None:
    otel_wirecap.instrument(capture_file=tmp_path / "c.log", capture_max_payload_bytes=KEPT)
    try:
        with httpx.Client(transport=httpx.MockTransport(lambda _request: httpx.Response(200))) as client:
            client.post("http://backend.example/v1/files", content=BODY)
    finally:
        otel_wirecap.uninstrument()
    (asked,) = (r for r in read_records(tmp_path / "c.log") if r["direction"] == "outbound_request")
    assert asked["metadata"]["truncated"].keys() == {"original_length", "sha256"}
