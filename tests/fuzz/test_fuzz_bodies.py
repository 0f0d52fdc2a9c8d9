"""Bodies, whatever their codings and kinds: decoded, collected, told apart and redacted."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from typing import Any

import brotli
import orjson
import pytest
from backports import zstd
from damage import assert_linear, cuts, damaged, fuzz, in_pieces
from hypothesis import given, strategies as st

from otel_wirecap.capture.body import LOOK_AHEAD, BodyCollector, record_body
from otel_wirecap.capture.decoding import NOT_JSON, ContentDecoder, UndecodableError, parse_json
from otel_wirecap.capture.record import RawJSON
from otel_wirecap.capture.redaction.gate import Gate
from otel_wirecap.capture.redaction.redactor import Redactor

TEXTS = (
    b'{"model":"m","n":1.50,"api_key":"abcdefgh12345678","messages":[{"content":"hi \\u00e9 \\ud83d\\ude00"}]}',
    b"", b"some text", bytes(range(256)), b"a" * 500, b'[1,{"a":"\\/"},-0,1e5]',
)  # fmt: skip
ENCODE = {
    "gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstd.compress,
    "gzip, br": lambda data: brotli.compress(gzip.compress(data)), "": lambda data: data,
}  # fmt: skip
FORM = b"grant_type=x&client_secret=abc%20def1&refresh_token=%2f+a&&=&a=b"
MULTIPART = (
    b'--b\r\nContent-Disposition: form-data; name="api_key"\r\nContent-Type: text/plain\r\n\r\nabc123\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n\xff\0\r\n--b--\r\n'
)


def decoded(header: str, pieces: list[bytes]) -> bytes | None:
    decoder = ContentDecoder(header)
    try:
        return b"".join(decoder.decode(piece) for piece in pieces)
    except UndecodableError:
        return None


@pytest.mark.parametrize("header", ENCODE)
@fuzz
@given(data=st.data(), places=cuts)
def test_decoding_gives_the_same_wherever_it_is_cut(header: str, data: st.DataObject, places: list[int]) -> None:
    wire = data.draw(damaged(st.sampled_from(TEXTS).map(ENCODE[header])))
    assert decoded(header, in_pieces(wire, places)) == decoded(header, [wire])


@fuzz
@given(st.lists(st.sampled_from((*ENCODE, "x-gzip", "identity", "unheard", "GZIP", "gzip;q=1"))).map(", ".join))
def test_a_header_names_codings_or_is_refused(header: str) -> None:
    try:
        assert isinstance(ContentDecoder(header).decode(b""), bytes)
    except UndecodableError:
        assert any(coding.strip() not in ENCODE for coding in header.lower().split(",")) or header.count(",") > 4


@fuzz
@given(st.data(), cuts, st.sampled_from((*ENCODE, "unheard")), st.integers(1, 700))
def test_of_a_body_the_beginning_is_kept_and_all_of_it_counted(
    data: st.DataObject, places: list[int], header: str, limit: int
) -> None:
    encode = ENCODE.get(header, ENCODE[""])
    wire = data.draw(damaged(st.sampled_from((*TEXTS, b"x" * (LOOK_AHEAD + 900))).map(encode)))
    body = BodyCollector(limit, header)
    for piece in in_pieces(wire, places):
        body.add(piece)
        assert body.kept <= limit + LOOK_AHEAD
    assert body.wire_length == len(wire)
    if body.undecodable:
        assert body.kept == 0
        assert body.undecodable_facts()["wire_length"] == len(wire)
        return
    whole = decoded(header, in_pieces(wire, places)) if header else wire
    assert whole is not None
    assert body.length == len(whole)
    assert body.content() == whole[: limit + LOOK_AHEAD]
    told = {"original_length": len(whole), "sha256": hashlib.sha256(whole).hexdigest()}
    assert body.truncated == (told if len(whole) > limit else None)


@fuzz
@given(
    damaged(st.sampled_from((*TEXTS, FORM, MULTIPART))),
    st.sampled_from(
        ("application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "", "x")
    ),
    st.sampled_from((3, 40, 1 << 20)),
    st.sampled_from((None, "cut")),
    st.booleans(),
)
def test_a_body_is_recorded_and_never_withheld(
    content: bytes, content_type: str, limit: int, incomplete: str | None, as_text: bool
) -> None:
    body = BodyCollector(limit)
    body.add(content)
    recorded = record_body(body, Gate(), content_type=content_type, incomplete=incomplete, as_text=as_text)
    counts = recorded.counts
    assert "withheld" not in counts
    assert recorded.length == len(content)
    if isinstance(recorded.payload, RawJSON):
        assert b"\n" not in recorded.payload.data
        orjson.loads(recorded.payload.data)
    elif not counts and recorded.payload is not None:
        told = recorded.payload if isinstance(recorded.payload, bytes) else str(recorded.payload).encode()
        assert content.startswith(told)
        assert len(content) <= limit or len(told) <= limit
    text = recorded.payload.data if isinstance(recorded.payload, RawJSON) else recorded.payload
    assert (
        text is None
        or b"abcdefgh12345678" not in (text.encode() if isinstance(text, str) else bytes(text))
        or not (recorded.value is not NOT_JSON)
    )


@fuzz
@given(damaged(st.sampled_from(TEXTS)), st.sampled_from(("application/json", "text/plain")))
def test_what_is_taken_for_json_is_json(content: bytes, content_type: str) -> None:
    value = parse_json(content, content_type)
    if value is not NOT_JSON:
        assert orjson.loads(content) == value


@pytest.mark.parametrize(
    "piece",
    [b'"', b"\\", b"{", b"[", b"a=b&", b"%2", b"--", b"\r\n--b", b'name="key"', b"sk-", b"eyJ", b'"key":"', b"\\u0"],
)
@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"])
def test_a_body_takes_work_in_proportion_to_its_length(piece: bytes, content_type: str) -> None:
    gate = Gate()

    def run(count: int) -> Any:
        body = BodyCollector(1 << 20)
        body.add(piece * count)
        return lambda: record_body(body, gate, content_type=content_type)

    assert_linear(run)


@pytest.mark.parametrize("piece", ['"a"', '"\\u0073k-"', '{"key":"abcdefg1"}', "1", '"sk-"', '"\\\\"'])
def test_json_takes_work_in_proportion_to_its_length(piece: str) -> None:
    redactor = Redactor(known_values=["p\u00e4ssword/1"])

    def run(count: int) -> Any:
        document = json.dumps([json.loads(piece)] * count).encode()
        return lambda: redactor.json(document, {})

    assert_linear(run)
