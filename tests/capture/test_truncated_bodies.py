"""Bodies over the limit: the beginning is recorded, and a secret that the limit cuts does not show its beginning."""

from __future__ import annotations

import hashlib
import itertools
import secrets

import pytest
from hypothesis import given, strategies as st

from otel_wirecap.capture.body import LOOK_AHEAD, BodyCollector, record_body
from otel_wirecap.capture.redaction.gate import Gate

LIMIT = 100
SECRET = secrets.token_hex(20)
GATE = Gate(known_values=[SECRET])


def recorded(body: bytes, cuts: list[int]):
    collector = BodyCollector(LIMIT)
    places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(places):
        collector.add(body[start:end])
    return collector, record_body(collector, GATE, content_type="text/plain")


@given(st.binary(max_size=2 * LIMIT) | st.text(max_size=LIMIT).map(str.encode), st.lists(st.integers(0, 999)))
def test_up_to_the_limit_is_recorded_however_the_body_comes_in(body, cuts):
    collector, record = recorded(body, cuts)
    content = record.payload.encode() if isinstance(record.payload, str) else record.payload or b""
    if len(body) <= LIMIT:
        assert collector.truncated is None
        assert content == body
    else:
        assert collector.truncated == {"original_length": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        assert body.startswith(content)
        # A character that the limit cuts has four bytes at most.
        assert LIMIT - 4 < len(content) <= LIMIT
    assert record.length == len(body)


@pytest.mark.parametrize("start", range(LIMIT - len(SECRET) - 2, LIMIT + 2))
@pytest.mark.parametrize("filler", [b"x", b"\xff"], ids=["text", "bytes"])
def test_a_secret_that_the_limit_cuts_is_masked(start, filler):
    body = filler * start + SECRET.encode() + filler * (2 * LOOK_AHEAD)
    collector, record = recorded(body, [start + 7, LIMIT])
    content = record.payload.encode() if isinstance(record.payload, str) else record.payload
    assert SECRET[:4].encode() not in content
    assert content.startswith(filler * min(start, LIMIT - len(SECRET)))
    assert len(content) <= LIMIT
    assert collector.kept == LIMIT + LOOK_AHEAD
