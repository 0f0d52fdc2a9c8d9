"""A leg's events and message, whatever frames its stream."""

from __future__ import annotations

import json
from typing import Any

import pytest

from otel_wirecap.reading.legs import Leg, events_of
from otel_wirecap.reading.messages import Chunk

ANSWERS = [
    {"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}}], "modelVersion": "m"} for text in "ab"
]
STREAMS = {
    "application/json": json.dumps(ANSWERS, indent=2),
    "application/x-ndjson": "".join(json.dumps(answer) + "\n" for answer in ANSWERS),
    "text/event-stream": "".join(f"data: {json.dumps(answer)}\n\n" for answer in ANSWERS),
}


@pytest.mark.parametrize("content_type", STREAMS)
@pytest.mark.parametrize("is_told", [True, False])
def test_a_stream_in_any_framing_has_its_events_and_its_message(content_type: str, is_told: bool) -> None:
    stream = STREAMS[content_type].encode()
    headers = [["Content-Type", f"{content_type}; charset=UTF-8"]] if is_told else []
    start: Any = {"direction": "stream_start", "metadata": {"headers": headers}}
    exchange: Any = None
    leg = Leg(exchange, response=start, response_body=stream, chunks=[Chunk(1, 0.0, stream)])
    assert [json.loads(event.data) for event in events_of(leg)] == ANSWERS
    assert leg.answer["candidates"][0]["content"]["parts"] == [{"text": "ab"}]
