"""The redaction of streams, whatever they hold: no cut changes what comes out, and no byte is lost.

A stream that has no secret comes out as it went in, piece by piece. One whose document has a member twice where a
secret must be masked is refused with a ValueError; so it is withheld, and that is the only error there is.
"""

from __future__ import annotations

import base64
import json
import random
import struct
import zlib
from typing import Any

import pytest
from damage import assert_linear, cuts, damaged, fuzz, in_pieces
from hypothesis import given, strategies as st

from otel_wirecap.capture.decoding import NOT_JSON, TextSplitter
from otel_wirecap.capture.redaction.documents import FramedDocuments, parsed, strings_at, written
from otel_wirecap.capture.redaction.redactor import Redactor
from otel_wirecap.capture.redaction.stream import StreamRedactor

SSE, AWS, NDJSON, ARRAY = (
    "text/event-stream", "application/vnd.amazon.eventstream", "application/x-ndjson", "application/json",
)  # fmt: skip
TYPES = (SSE, AWS, NDJSON, ARRAY, "")

_random = random.Random(5)
SECRET = "sk-proj-" + "".join(_random.choices("abcdefghijkmnopqrstuvwxyzABCDEFGH23456789", k=40)) + "A1"
KNOWN = f'p@ss "w\u00f6rd"\\{_random.randrange(10**9, 10**10)}'


def frame(payload: bytes, headers: bytes = b"") -> bytes:
    head = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    head += struct.pack("!I", zlib.crc32(head))
    message = head + headers + payload
    return message + struct.pack("!I", zlib.crc32(message))


def event(kind: str, index: int, text: str) -> bytes:
    """One event that adds to a text."""
    chat = {"id": "c", "choices": [{"index": index, "delta": {"content": text}}], "created": index}
    compact = json.dumps(chat, separators=(",", ":")).encode()
    match kind:
        case "chat":
            return b"data: " + compact + b"\n\n"
        case "crlf":
            return b"event: x\r\ndata:" + json.dumps(chat, ensure_ascii=False).encode() + b"\r\n\r\n"
        case "cr":
            return b"data: " + compact + b"\r\r"
        case "lines":
            return (
                b"".join(b"data: " + line + b"\n" for line in json.dumps(chat, indent=1).encode().split(b"\n")) + b"\n"
            )
        case "two":
            block = {"index": index, "delta": {"a": text, "b": [text[:3], text[3:]]}}
            return b"data: " + json.dumps(block).encode() + b"\n\n"
        case "plain":
            return b"data: " + text.encode("utf-8", "replace").replace(b"\n", b" ") + b"\n\n"
        case "json":
            return compact + b"\n"
        case "element":
            return b",\n" + json.dumps(chat, indent=2).encode()
        case "frame":
            return frame(
                json.dumps({"contentBlockIndex": index, "delta": {"text": text}, "p": "ab"}).encode(), b"\1a\7\0\1b"
            )
        case _:
            inner = base64.b64encode(json.dumps({"index": index, "delta": {"text": text}}).encode()).decode()
            return frame(json.dumps({"bytes": inner, "p": "ab"}).encode())


KINDS = {
    SSE: ("chat", "crlf", "cr", "lines", "two", "plain"), AWS: ("frame", "encoded"), NDJSON: ("json",),
    ARRAY: ("element", "json"), "": ("chat", "two", "lines"),
}  # fmt: skip
_MARK = b"\xef\xbb\xbf"
BEGINNINGS = {
    SSE: (b"", _MARK, b"\n", b":c\n\n"), AWS: (b"",), NDJSON: (b"", _MARK, b"\n"), ARRAY: (b"[", b"[{}", _MARK + b"["),
    "": (b"", _MARK, b"\n", b":c\n\n"),
}  # fmt: skip
texts = st.sampled_from(
    ("", " ", "Hello", "sk-", "s", "\u00e9\U0001f600", '"', "\\", "-----BEGIN ", "eyJ", "\n", "key: ")
)


@st.composite
def made(draw: st.DrawFn, type_: str, *, with_secret: bool) -> bytes:
    """A stream of this type, and perhaps secrets that are split over its events."""
    data = draw(st.sampled_from(BEGINNINGS[type_]))
    for kind in draw(st.lists(st.sampled_from(KINDS[type_]), max_size=4)):
        index = draw(st.integers(0, 1))
        planted = draw(st.sampled_from(("", f" {SECRET} ", f" {KNOWN} "))) if with_secret else ""
        text = draw(texts) + planted + draw(texts)
        for piece in in_pieces(text.encode(), draw(st.lists(st.integers(0, 60), max_size=3))):
            data += event(kind, index, piece.decode("utf-8", "ignore"))
    return data


def taken(type_: str, pieces: list[bytes], redactor: Redactor, most: int = 1 << 20) -> list[bytes] | None:
    """The pieces that come out; None where the stream is refused."""
    stream = StreamRedactor(redactor, type_, most)
    out: list[bytes] = []
    given_ = 0
    try:
        for piece in pieces:
            given_ += len(piece)
            out += stream.feed([piece]).pieces
            # What came out and what is held are all there was.
            assert stream.held_bytes == given_ - sum(map(len, pieces[: len(out)]))
        return out + stream.close().pieces
    except ValueError:
        return None


REDACTOR = Redactor(known_values=[KNOWN])


@pytest.mark.parametrize("type_", TYPES)
@fuzz
@given(data=st.data(), places=cuts)
def test_no_cut_changes_what_comes_out_and_no_piece_is_lost(type_: str, data: st.DataObject, places: list[int]) -> None:
    stream = data.draw(damaged(made(type_, with_secret=True)))
    whole = taken(type_, [stream], REDACTOR)
    pieces = in_pieces(stream, places)
    out = taken(type_, pieces, REDACTOR)
    assert out is None or len(out) == len(pieces)
    assert (out is None) == (whole is None)
    assert out is None or whole is None or b"".join(out) == b"".join(whole)


@pytest.mark.parametrize("type_", TYPES)
@fuzz
@given(data=st.data(), places=cuts)
def test_without_a_secret_every_piece_comes_out_as_it_went_in(
    type_: str, data: st.DataObject, places: list[int]
) -> None:
    pieces = in_pieces(data.draw(damaged(made(type_, with_secret=False))), places)
    assert taken(type_, pieces, Redactor()) == pieces


@pytest.mark.parametrize("type_", TYPES)
@fuzz
@given(data=st.data(), places=cuts)
def test_no_secret_comes_out_of_a_stream_that_is_sound(type_: str, data: st.DataObject, places: list[int]) -> None:
    pieces = in_pieces(data.draw(made(type_, with_secret=True)), places)
    out = taken(type_, pieces, REDACTOR)
    assert out is not None
    text = b"".join(out).decode("utf-8", "replace")
    assert SECRET[8:24] not in text
    assert SECRET[24:40] not in text


@pytest.mark.parametrize("type_", TYPES)
@fuzz
@given(data=st.data(), places=cuts, most=st.integers(1, 400))
def test_little_is_held_where_little_may_be(type_: str, data: st.DataObject, places: list[int], most: int) -> None:
    pieces = in_pieces(data.draw(damaged(made(type_, with_secret=False))), places)
    stream = StreamRedactor(Redactor(), type_, most)
    out: list[bytes] = []
    for piece in pieces:
        out += stream.feed([piece]).pieces
        # Over the limit it lets go; what is open in the bytes themselves has a bound of its own, the piece is whole.
        assert stream.held_bytes <= most + len(piece) + 2500 + max(map(len, pieces))
    assert out + stream.close().pieces == pieces


@pytest.mark.parametrize("type_", TYPES)
@fuzz
@given(data=st.data(), places=cuts)
def test_documents_stand_where_they_say_wherever_the_stream_is_cut(
    type_: str, data: st.DataObject, places: list[int]
) -> None:
    stream = data.draw(damaged(made(type_, with_secret=False)))

    class Nothing:
        def all(self, _lines: bytes, _place: int) -> bool:
            return False

        def one(self, _lines: bytes, _at: int, _start: int) -> bool:
            return False

        def news(self) -> bool:
            return False

    def found(pieces: list[bytes]) -> list[tuple[int, int, bytes, str]]:
        reader, so_far, done = FramedDocuments(type_, 1 << 20), b"", 0
        documents = []
        for number, piece in enumerate([*pieces, b""]):
            so_far += piece
            is_end = number == len(pieces)
            for document in reader.read(so_far[reader.consumed :], Nothing(), is_end=is_end):
                assert document.start >= done
                documents.append((document.start, document.offset, document.content, repr(document.value)))
            assert done <= reader.consumed <= len(so_far)
            done = reader.consumed
        assert reader.consumed == len(so_far)
        return documents

    documents = found([stream])
    assert found(in_pieces(stream, places)) == documents
    for _, offset, content, value in documents:
        if type_ != AWS:
            shown = stream[offset : offset + len(content)]
            assert len(shown) == len(content)
            assert all(ours in (theirs, 0x20) for ours, theirs in zip(content, shown, strict=True))
        assert (value == repr(NOT_JSON)) or parsed(content.removeprefix(b"data:")) is not NOT_JSON


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.sampled_from(("\ud83d", "\x7f\x00/", "\U0001f600")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(("a", "b", 'q"', "\u00e9")), inner),
    max_leaves=8,
)


@fuzz
@given(json_values, st.booleans())
def test_every_string_is_found_where_it_stands(value: Any, ascii_only: bool) -> None:
    content = json.dumps({"x": value, "y": [value]}, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")

    def strings(node: Any, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], str]]:
        if isinstance(node, str):
            return [(path, node)]
        if isinstance(node, dict):
            return [found for name, child in node.items() for found in strings(child, (*path, name))]
        return [found for child in node for found in strings(child, path)] if isinstance(node, list) else []

    every = strings(json.loads(content.decode("utf-8", "surrogatepass")), ())
    for path in {path for path, _ in every}:
        said = [text for its_path, text in every if its_path == path]
        places = strings_at(content, path)
        assert [json.loads(b'"%s"' % content[a:b]) if ascii_only else None for a, b in places] == [
            text if ascii_only else None for text in said
        ]
        for (start, end), text in zip(places, said, strict=True):
            spelled = content[start:end]
            if ascii_only:
                length = len(text.encode("utf-8", "surrogatepass"))
                assert written(spelled, length) == len(spelled)
                assert written(spelled, 0) == 0


@fuzz
@given(st.binary(max_size=60) | damaged(st.text().map(str.encode)), cuts)
def test_chunks_of_text_join_to_the_bytes_there_were(data: bytes, places: list[int]) -> None:
    splitter = TextSplitter()
    parts = [splitter.feed(piece) for piece in in_pieces(data, places)]
    joined = b"".join(part.encode() if isinstance(part, str) else part for part in parts) + splitter.rest()
    assert joined == data


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("size", [50, 1 << 30])
def test_redacting_a_stream_takes_work_in_proportion_to_it(type_: str, size: int) -> None:
    def run(count: int) -> Any:
        stream = b"".join(event(KINDS[type_][0], n % 2, "some words sk- eyJ") for n in range(count))
        pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
        return lambda: taken(type_, pieces, REDACTOR)

    assert_linear(run, 80)  # more events than any text waits for
