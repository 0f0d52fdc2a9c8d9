"""Secrets in texts of UTF-16 and UTF-32, with and without a byte order mark."""

from __future__ import annotations

import base64
import codecs
import json
import secrets
from typing import Any

import pytest

from otel_wirecap.capture.events import ResponseHead
from otel_wirecap.capture.redaction.gate import MARKER, Gate, Passed
from tests.capture.test_recorder import NS, Desk, post

ENCODINGS = {
    "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE, "utf-32-be": codecs.BOM_UTF32_BE,
}  # fmt: skip


def said(passed: Passed, encoding: str) -> str:
    payload = passed.payload
    assert isinstance(payload, str | bytes)
    return (payload.encode() if isinstance(payload, str) else payload).decode(encoding)


@pytest.mark.parametrize("with_mark", [True, False])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("text", ['{{"messages": [{{"content": "key {}"}}]}}', "the key is {}, żółw", "{}"])
def test_a_known_value_and_a_shape_are_masked(text: str, encoding: str, with_mark: bool) -> None:
    mark = ENCODINGS[encoding] if with_mark else b""
    for value in (secrets.token_urlsafe(16) + "9a", "ghp_" + secrets.token_hex(18)):
        data = mark + text.format(value).encode(encoding)
        passed = Gate(known_values=[value]).body(data, "application/json; charset=utf-16", is_json=False)
        assert said(passed, encoding).lstrip("\ufeff") == text.format(MARKER)
        assert sum(passed.counts.values()) == 1


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_holds_no_secret_is_the_same_to_the_byte(encoding: str) -> None:
    data = ENCODINGS[encoding] + "nothing in here but words".encode(encoding)
    passed = Gate().body(data, "text/plain", is_json=False)
    assert passed.payload == data or str(passed.payload).encode() == data
    assert passed.counts == {}


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\0" * 64, b"\xff\xfe", bytes(range(256)) * 5, b"\xff\xfe\x00", b"\0a" * 7]
)
def test_other_bytes_are_no_text(data: bytes) -> None:
    assert Gate().body(data, "application/octet-stream", is_json=False).counts == {}


def test_the_capture_has_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    value = secrets.token_urlsafe(24)
    monkeypatch.setenv("MISTRAL_API_KEY", value)
    for encoding in ("utf-16", "utf-16-le", "utf-32"):
        headers = [(b"content-type", f"application/json; charset={encoding}".encode())]
        body = json.dumps({"messages": [{"content": f"key {value}"}]}).encode(encoding)
        desk = Desk()
        exchange = desk.exchange()
        exchange.begin(post(body)._replace(headers=headers))
        exchange.response(2 * NS, ResponseHead(200, None, headers))
        exchange.chunk(3 * NS, body)
        exchange.end(4 * NS, "complete")
        for record in desk.records():
            payload: Any = record["payload"]
            data = base64.b64decode(payload["data"]) if isinstance(payload, dict) and "data" in payload else b""
            whole = data + json.dumps(payload).encode()
            assert value.encode() not in whole.replace(b"\0", b"").replace(b"\\u0000", b"")
