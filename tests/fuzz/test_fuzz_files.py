"""Captures that are damaged, and files that are none: what can be read is, what cannot is told, and that is all."""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import cbor2
import pytest
from backports import zstd
from damage import NASTY, assert_linear, damaged, fuzz
from hypothesis import given, strategies as st
from records import read_records

from otel_wirecap.capture.formats import CBOR, JSONLines, Structured
from otel_wirecap.capture.record import CaptureRecord, RawJSON
from otel_wirecap.capture.redaction.gate import Gate
from otel_wirecap.errors import CaptureFileError
from otel_wirecap.reading.reader import read_lines
from otel_wirecap.reading.scan import scan

IDENTITY = {"leg": "backend", "request_id": "r1", "exchange_id": "e1", "seq": 1, "process": "0123456789abcdef"}


def record(direction: str, payload: Any) -> CaptureRecord:
    return CaptureRecord(
        time_ns=1_768_060_721_039_145_000, direction=direction, source="a", destination="b", session_id="s",
        backend="openai", model="m", key_name=None, content_length=1, payload=payload, metadata=dict(IDENTITY),
    )  # fmt: skip


RECORDS = (
    record("outbound_request", RawJSON(b'{"a":1.50,"b":[1,2],"a":null,"c":123456789012345678901}')),
    record("stream_chunk", "data: {}\n\n"),
    record("stream_chunk", b"\xff\0\n" * 5 + CBOR.terminator),
    record("stream_end", {"total_bytes": 1, "total_chunks": 2}),
    record("inbound_response", None),
)
FORMS = {"jsonl": JSONLines(), "cbor": CBOR(), "structured": Structured()}
PACK = {"plain": bytes, "gzip": gzip.compress, "zstd": zstd.compress}


def made(form: str) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(RECORDS), max_size=4).map(lambda some: b"".join(map(FORMS[form].encode, some)))


@contextlib.contextmanager
def file_of(data: bytes) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.log"
        path.write_bytes(data)
        yield path


@pytest.mark.parametrize(("form", "pack"), [*itertools.product(FORMS, PACK)])
@fuzz
@given(data=st.data())
def test_every_line_of_a_damaged_capture_is_a_record_or_told(form: str, pack: str, data: st.DataObject) -> None:
    content = data.draw(damaged(made(form)))
    packed = PACK[pack](content)
    packed = data.draw(damaged(st.just(packed))) if data.draw(st.booleans()) else packed
    damages: list[int] = []
    with file_of(packed) as path:
        records = list(read_records(path, on_damage=lambda _file, number: damages.append(number)))
        lines = list(read_lines(path))
    assert all(isinstance(one, dict) for one in records)
    assert len(records) + len(damages) == len(lines)
    assert len(set(damages)) == len(damages)


@pytest.mark.parametrize(("form", "pack"), [*itertools.product(FORMS, PACK)])
@pytest.mark.parametrize("size", [0, 256 * 1024 - 40, 256 * 1024 - 7, 1024 * 1024 - 300, 1024 * 1024 + 1])
def test_every_record_of_a_sound_capture_is_read_wherever_blocks_end(form: str, pack: str, size: int) -> None:
    some = [record("stream_chunk", "x" * (size + extra)) for extra in range(3)]
    with file_of(PACK[pack](b"".join(map(FORMS[form].encode, (*some, *RECORDS))))) as path:
        records = list(read_records(path, on_damage=lambda *_: pytest.fail("damaged")))
    assert [told["payload"] for told in records[:3]] == [one.payload for one in some]
    assert len(records) == 3 + len(RECORDS)


@pytest.mark.parametrize("form", ["jsonl", "cbor"])
@fuzz
@given(data=st.data())
def test_bytes_are_a_record_or_a_value_error(form: str, data: st.DataObject) -> None:
    decoder = FORMS[form]
    assert isinstance(decoder, JSONLines | CBOR)
    content = data.draw(damaged(st.sampled_from(RECORDS).map(decoder.encode)))
    try:
        decoded = decoder.decode(content)
    except ValueError:
        return
    assert isinstance(decoded, CaptureRecord)


@pytest.mark.parametrize(
    "value",
    [
        cbor2.CBORTag(30, [1, 0]), cbor2.CBORTag(262, b"{"), cbor2.CBORTag(4, [10**9, 1]), {1: 2}, {b"a": 1}, 1 << 70,
        cbor2.undefined, float("nan"), cbor2.CBORTag(35, "("), b"\xff", {"a": cbor2.CBORTag(9999, 1)},
        cbor2.CBORSimpleValue(9),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "field", ["payload", "metadata", "key_name", "content_length", "timestamp_iso", "content_type"]
)
def test_a_capture_in_cbor_may_hold_any_value_anywhere(field: str, value: Any) -> None:
    cbor = CBOR()
    told = cbor2.loads(cbor.encode(RECORDS[3]))
    told[field] = value
    parts = b"".join(cbor2.dumps(name) + cbor2.dumps(one) for name, one in told.items())
    item = b"\xbf" + parts + CBOR.terminator
    sound = cbor.encode(RECORDS[1])
    with file_of(sound + item + sound) as path:
        records = list(read_records(path))
    assert [one["direction"] for one in (records[0], records[-1])] == ["stream_chunk"] * 2


LINES = (
    b'{"direction":"stream_chunk","payload":"data: {\\"a\\":\\"b\\"}\\n\\n","metadata":{"exchange_id":"e1"}}',
    b'{"direction":"stream_chunk","metadata":"x","payload":{"encoding":"base64","data":"c2stYWJj"}}',
    b'{"direction":"stream_end","metadata":[1],"payload":null}', b"authorization: Bearer abcdefgh12345678", b"{", b"}",
    b'{"encoding":"base64","data":"\xc3\xbc"}', b'[["authorization","Bearer abcdefgh12345678"]]', b"plain text",
    b'"a": "b",',
    b"-----BEGIN PRIVATE KEY-----", b'{"name":1,"value":[],"headers":[[],[1,2],["x-api-key",3]]}',
    b"[" * 1000 + b"]" * 1000,
)  # fmt: skip


@fuzz
@given(st.lists(st.sampled_from(LINES + NASTY) | damaged(st.sampled_from(LINES)), max_size=8).map(b"\n".join))
def test_any_file_can_be_scanned_and_only_places_and_rules_are_told(content: bytes) -> None:
    with file_of(content) as path:
        for found in scan(path, Gate()):
            assert found.file == path
            assert 0 <= found.line <= content.count(b"\n") + 1


@fuzz
@given(st.binary(max_size=300))
def test_a_file_that_is_no_capture_is_read_or_refused(content: bytes) -> None:
    with file_of(content) as path, contextlib.suppress(CaptureFileError):
        assert all(isinstance(one, dict) for one in read_records(path))


@pytest.mark.parametrize("line", [*LINES[:6], LINES[8], b'"'])
def test_scanning_takes_work_in_proportion_to_the_lines(line: bytes, tmp_path: Path) -> None:
    gate = Gate()

    def run(count: int) -> Any:
        path = tmp_path / f"{count}.log"
        path.write_bytes((line + b"\n") * count)
        return lambda: list(scan(path, gate))

    assert_linear(run, 40)


@pytest.mark.parametrize("depth", [300, 1_000, 100_000])
def test_lines_that_nest_deep_are_read_or_told(depth: int) -> None:
    line = JSONLines().encode(RECORDS[4]).replace(b'"payload":null', b'"payload":' + b"[" * depth + b"]" * depth)
    with file_of(line + json.dumps({"direction": "x"}).encode() + b"\n") as path:
        damages: list[int] = []
        records = list(read_records(path, on_damage=lambda _file, number: damages.append(number)))
        assert len(records) + len(damages) == 2
        list(scan(path, Gate()))
