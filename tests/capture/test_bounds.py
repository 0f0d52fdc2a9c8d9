"""What redaction may cost, whatever a body holds: eight times its size in memory, and a bound of findings."""

from __future__ import annotations

import json
import secrets
import tracemalloc
from collections.abc import Callable

import pytest

from otel_wirecap.capture.events import ResponseHead
from otel_wirecap.capture.redaction.gate import MARKER, Gate
from otel_wirecap.capture.redaction.search import MAX_FINDINGS
from tests.capture.test_recorder import JSON, NS, Desk, post

SIZE = 3_000_000
MAX_TIMES = 8

BODIES: dict[str, tuple[str, Callable[[int], str]]] = {
    "secret fields": ("application/json", lambda size: "{" + ",".join(
        f'"a{n}_api_key":"x1y2z3w4{n}"' for n in range(size // 33)) + "}"),
    "beginnings of keys": ("text/plain", lambda size: "sk-" * (size // 3)),
    "keys": ("text/plain", lambda size: ("ghp_" + secrets.token_hex(18) + " ") * (size // 41)),
    "escapes": ("application/json", lambda size: '{"a":"' + "\\u0061\\/" * (size // 8) + '"}'),
    "escapes within escapes": ("text/plain", lambda size: '\\\\\\"api_key\\\\\\":\\\\\\"' * (size // 20)),
    "base64": ("text/plain", lambda size: "c2stcHJvai0" * (size // 11)),
    "one long key": ("text/plain", lambda size: "sk-proj-" + "a1B2" * (size // 4)),
    "short strings": ("application/json", lambda size: "[" + ",".join(['"ab"'] * (size // 15)) + "]"),
    "numbers": ("application/json", lambda size: "[" + ",".join("1" * (size // 6)) + "]"),
    "empty objects": ("application/json", lambda size: "[" + ",".join(["{}"] * (size // 9)) + "]"),
    "a key among short strings": ("application/json", lambda size: json.dumps(
        {"a": ["ab"] * (size // 18), "b": "ghp_" + secrets.token_hex(18)})),
    "short events": ("text/event-stream", lambda size: "data: 1\n\n" * (size // 27)),
    "short lines of JSON": ("application/x-ndjson", lambda size: '{"a":"b"}\n' * (size // 40)),
    "parameters": ("application/x-www-form-urlencoded", lambda size: "&".join(f"a{n}=%41" for n in range(size // 36))),
    "secret parameters": ("application/x-www-form-urlencoded", lambda size: "&".join(
        f"api_key={n}" for n in range(size // 15))),
    "secret parts": ("multipart/form-data", lambda size: (
        '--x\r\nContent-Disposition: form-data; name="password"\r\n\r\nb\r\n' * (size // 59))),
    "a key that never ends": ("text/plain", lambda size: "-----BEGIN PRIVATE KEY-----\n" + "abcd" * (size // 4)),
}  # fmt: skip


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.sampled(2, rest="thorough")
def test_no_body_takes_more_than_eight_times_its_size(kind: str) -> None:
    content_type, make = BODIES[kind]
    body = make(SIZE).encode()
    gate = Gate(known_values=[secrets.token_hex(16)])
    gate.body(b"{}", "application/json", is_json=True)
    tracemalloc.start()
    try:
        gate.body(body, content_type, is_json=content_type == "application/json")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most <= MAX_TIMES * len(body), f"{most / len(body):.1f} times"


@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
def test_beyond_so_many_findings_the_rest_is_withheld_and_the_record_says_so(content_type: str) -> None:
    value = "x1y2z3w4" + secrets.token_hex(4)
    body = json.dumps({f"a{n}_api_key": value for n in range(2 * MAX_FINDINGS)}).encode()
    desk = Desk()
    exchange = desk.exchange()
    exchange.begin(post(body)._replace(headers=[(b"content-type", content_type.encode())]))
    exchange.response(2 * NS, ResponseHead(200, None, [JSON]))
    exchange.end(3 * NS, "complete")
    record = desk.records()[0]
    assert record["metadata"]["incomplete"] == "withheld"
    assert record["metadata"]["redactions"] == {"field": MAX_FINDINGS, "withheld": 1}
    assert record["content_length"] == len(body)
    assert record["payload"].count(MARKER) == MAX_FINDINGS
    assert value.encode() not in b"".join(desk.lines)


def test_a_body_with_as_many_as_are_masked_is_whole() -> None:
    body = json.dumps({f"a{n}_api_key": "x1y2z3w4" + secrets.token_hex(4) for n in range(MAX_FINDINGS)}).encode()
    passed = Gate().body(body, "application/json", is_json=True)
    assert not passed.withheld
    assert passed.counts == {"field": MAX_FINDINGS}
