"""Streams: however a secret is cut, into chunks or into the deltas of events, nothing of it comes out."""

from __future__ import annotations

import base64
import json
import random
import re
import secrets
import string
import struct
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from provider_keys import KINDS
from secrets_corpus import KNOWN, strange_json

from otel_wirecap.capture.redaction.redactor import Redactor
from otel_wirecap.capture.redaction.stream import MAX_EVENTS, StreamRedactor

ALNUM = string.ascii_letters + string.digits
MARK = "[REDACTED]"
SSE = "text/event-stream"
AWS = "application/vnd.amazon.eventstream"

Event = Callable[[int, str], bytes]


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def openai(index: int, text: str) -> bytes:
    delta = {"index": index, "delta": {"content": text}, "finish_reason": None}
    return f"data: {compact({'id': 'chatcmpl-1', 'object': 'chat.completion.chunk', 'choices': [delta]})}\n\n".encode()


def openai_tool(index: int, text: str) -> bytes:
    call = {"index": index, "function": {"arguments": text}}
    choice = {"index": 0, "delta": {"tool_calls": [call]}}
    return f"data: {json.dumps({'choices': [choice], 'obfuscation': secrets.token_hex(3)})}\n\n".encode()


def responses(index: int, text: str) -> bytes:
    value = {"type": "response.output_text.delta", "sequence_number": secrets.randbelow(99), "output_index": index}
    return f"event: response.output_text.delta\ndata: {compact({**value, 'delta': text})}\n\n".encode()


def anthropic(index: int, text: str) -> bytes:
    value = {"type": "content_block_delta", "index": index, "delta": {"type": "thinking_delta", "thinking": text}}
    return f"event: content_block_delta\r\ndata: {json.dumps(value, ensure_ascii=False)}\r\n\r\n".encode()


def cohere(index: int, text: str) -> bytes:
    value = {"type": "content-delta", "index": index, "delta": {"message": {"content": {"text": text}}}}
    return f"data: {json.dumps(value)}\n\n".encode()


def pretty(index: int, text: str) -> bytes:
    """An event whose document stands on several lines."""
    lines = json.dumps({"index": index, "unheard": {"of": text}}, indent=1).splitlines()
    return "".join(f"data: {line}\n" for line in lines).encode() + b"\n"


def ndjson(index: int, text: str) -> bytes:
    return json.dumps({"model": "llama", "n": secrets.randbelow(9), "index": index, "response": text}).encode() + b"\n"


def gemini(index: int, text: str) -> bytes:
    """An element of the array that comes without ``alt=sse``."""
    candidate = {"index": index, "content": {"parts": [{"text": text}]}}
    return b"," + json.dumps({"candidates": [candidate], "usage": secrets.randbelow(9)}, indent=2).encode() + b"\n"


def frame(payload: bytes) -> bytes:
    name, value = b":event-type", b"chunk"
    headers = bytes([len(name)]) + name + b"\7" + struct.pack("!H", len(value)) + value
    head = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    head += struct.pack("!I", zlib.crc32(head))
    message = head + headers + payload
    return message + struct.pack("!I", zlib.crc32(message))


def converse(index: int, text: str) -> bytes:
    return frame(json.dumps({"contentBlockIndex": index, "delta": {"text": text}, "p": "abcd"}).encode())


def bedrock(index: int, text: str) -> bytes:
    inner = {"type": "content_block_delta", "index": index, "delta": {"text": text}}
    return frame(json.dumps({"bytes": base64.b64encode(json.dumps(inner).encode()).decode(), "p": "ab"}).encode())


FORMATS: dict[str, tuple[str, Event]] = {
    "openai chat": (SSE, openai),
    "openai tool calls": (SSE, openai_tool),
    "openai responses": (SSE, responses),
    "anthropic thinking": (SSE, anthropic),
    "cohere": (SSE, cohere),
    "unknown provider, several lines": (SSE, pretty),
    "unknown type": ("text/plain", openai),
    "ollama ndjson": ("application/x-ndjson", ndjson),
    "gemini array": ("application/json", gemini),
    "bedrock converse": (AWS, converse),
    "bedrock invoke": (AWS, bedrock),
}


def frames(data: bytes) -> Iterable[bytes]:
    """The payloads of an event stream whose checksums are all right."""
    while data:
        total, headers, checksum = struct.unpack_from("!III", data)
        assert checksum == zlib.crc32(data[:8])
        assert struct.unpack_from("!I", data, total - 4)[0] == zlib.crc32(data[: total - 4])
        yield data[12 + headers : total - 4]
        data = data[total:]


def documents(content_type: str, data: bytes) -> Iterable[Any]:
    """What a reader of the stream sees."""
    if content_type == AWS:
        for payload in frames(data):
            value = json.loads(payload)
            yield json.loads(base64.b64decode(value["bytes"])) if "bytes" in value else value
    elif content_type == "application/json":
        yield from json.loads(data)
    elif content_type == "application/x-ndjson":
        yield from map(json.loads, data.splitlines())
    else:
        for event in data.decode().replace("\r", "").split("\n\n"):
            lines = [line[5:] for line in event.split("\n") if line.startswith("data:")]
            if lines:
                yield json.loads("\n".join(lines))


NAMES = ("content", "arguments", "delta", "thinking", "text", "of", "response")


def texts_of(value: Any, index: int = 0) -> Iterable[tuple[int, str]]:
    if isinstance(value, list):
        for item in value:
            yield from texts_of(item, index)
    elif isinstance(value, dict):
        index = value.get("index", value.get("output_index", value.get("contentBlockIndex", index)))
        for name, item in value.items():
            if name in NAMES and isinstance(item, str):
                yield index, item
            else:
                yield from texts_of(item, index)


def assembled(content_type: str, data: bytes) -> dict[int, str]:
    made: dict[int, str] = {}
    for document in documents(content_type, data):
        for index, text in texts_of(document):
            made[index] = made.get(index, "") + text
    return made


def redacted(
    redactor: Redactor, content_type: str, data: bytes, cuts: Iterable[int] = (), rng: random.Random | None = None
) -> list[bytes]:
    """The pieces that come out where the stream is cut there, a few of them taken at a time."""
    stream = StreamRedactor(redactor, content_type)
    out: list[bytes] = []
    waiting: list[bytes] = []
    place = count = 0
    for cut in (*cuts, len(data)):
        waiting.append(data[place:cut])
        place, count = cut, count + 1
        if rng is None or rng.random() < 0.6:
            out += stream.feed(waiting).pieces
            waiting = []
    out += stream.feed(waiting).pieces
    out += stream.close().pieces
    assert len(out) == count
    return out


def make_secret(kind: str, rng: random.Random) -> str:
    return KINDS[kind][1](rng, 0)


PLANTED = (
    "openai project, without it", "anthropic", "aws access key", "github", "google", "google refresh token", "jwt",
    "pem", "azure", "azure cosmos", "azure storage", "terraform", "mailchimp", "slack webhook", "docker", "mapbox",
)  # fmt: skip
WORDS = (
    "the", "key ", "Hello, ", "world", "\n", "session", " é", "日本", ' "q" ', "sk", "-", "s", "sk-", "eyJ", "A", "1//",
    "task-", '{"a": ', "😀", "\\", "-----BEGIN ", "ghp",
)  # fmt: skip


def make_text(rng: random.Random, planted: list[str]) -> str:
    text = ""
    for _ in range(rng.randint(1, 6)):
        if rng.random() < 0.5:
            secret = rng.choice(planted)
            text += rng.choice([" ", "\n", '"', ": ", "="]) + secret + rng.choice([" ", "\n", ". ", '"'])
        else:
            text += "".join(rng.choice(WORDS) for _ in range(rng.randint(1, 8)))
    return text


def make_stream(rng: random.Random, name: str, texts: dict[int, str]) -> bytes:
    """The texts in deltas, those of all indexes mixed."""
    content_type, event = FORMATS[name]
    data = b""
    places = dict.fromkeys(texts, 0)
    while places:
        index = rng.choice(list(places))
        end = places[index] + rng.choice((1, 1, 2, 3, 5, 8, 13, 200))
        data += event(index, texts[index][places[index] : end])
        places[index] = end
        if end >= len(texts[index]):
            del places[index]
    return b"[" + data[1:] + b"]" if content_type == "application/json" else data


def shares(text: str, secret: str, length: int = 8) -> bool:
    lines = secret.split("\n")
    body = "\n".join(lines[1:-1] if len(lines) > 2 else lines)  # the first and last line of a private key are no secret
    return any(body[place : place + length] in text for place in range(len(body) - length + 1))


def as_one(text: str) -> str:
    return re.sub(r"(?:\[REDACTED\])+", "[REDACTED]", text)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.sampled(11, rest="thorough")
def test_a_secret_never_survives_and_no_cut_changes_what_comes_out(name: str, seed: int) -> None:
    rng = random.Random(f"{name} {seed}")
    content_type, _ = FORMATS[name]
    known = [f"Kn0wn/{secrets.token_hex(6)}+x", f'p@ss "wörd"\\{secrets.token_hex(6)}']
    redactor = Redactor(known_values=known)
    for _ in range(4):
        planted = [*known, *(make_secret(rng.choice(PLANTED), rng) for _ in range(3))]
        texts = {index: make_text(rng, planted) for index in range(rng.randint(1, 3))}
        data = make_stream(rng, name, texts)
        whole = b"".join(redacted(redactor, content_type, data))
        made = assembled(content_type, whole)
        for index, text in texts.items():
            # A part of a secret that an event has whole may look like one itself: then there are two markers for it.
            assert as_one(made[index]) == as_one(redactor.text(text, {}))
            assert [secret for secret in planted if shares(made[index], secret)] == []
        for count in (1, 5, 40):
            cuts = sorted(rng.randrange(len(data) + 1) for _ in range(count))
            assert b"".join(redacted(redactor, content_type, data, cuts, rng)) == whole
        one_by_one = redacted(redactor, content_type, data, range(1, len(data)), rng)
        assert b"".join(one_by_one) == whole


@pytest.mark.parametrize("name", FORMATS)
def test_pieces_without_a_secret_come_out_as_they_went_in(name: str) -> None:
    rng = random.Random(name)
    content_type, _ = FORMATS[name]
    texts = {index: "".join(rng.choice(WORDS) for _ in range(60)) for index in range(2)}
    data = make_stream(rng, name, texts)
    cuts = sorted(rng.randrange(len(data)) for _ in range(30))
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert redacted(Redactor(known_values=[secrets.token_hex(12)]), content_type, data, cuts, rng) == pieces


def test_the_marker_stands_where_the_secret_began_and_the_events_go_on() -> None:
    key = "sk-proj-" + secrets.token_hex(20)
    parts = ["Use ", key[:2], key[2:9], key[9:30], key[30:] + " now", "."]
    stream = StreamRedactor(Redactor(), SSE)
    released = [stream.feed([openai(0, part)]) for part in parts]
    last = stream.close()
    pieces = [piece for some in (*released, last) for piece in some.pieces]
    expected = ["Use ", MARK, "", "", " now", "."]
    assert pieces == [openai(0, part) for part in expected]
    assert [counts for some in released for counts in some.counts.values()] == [{"openai": 1}]
    assert [len(some.pieces) for some in released] == [1, 0, 0, 0, 3, 2]


def test_what_waits_comes_out_once_the_text_has_not_gone_on_for_long() -> None:
    stream = StreamRedactor(Redactor(), SSE)
    assert stream.feed([openai(0, "the task sk-")]).pieces == []
    others = [openai(1, ". ") for _ in range(MAX_EVENTS)]
    assert stream.feed(others[:-1]).pieces == []
    assert len(stream.feed(others[-1:]).pieces) == MAX_EVENTS + 1


def test_the_beginning_of_a_known_value_at_the_end_of_a_stream_is_masked() -> None:
    value = "Va1ue" + secrets.token_hex(10)
    for length in range(1, len(value)):
        text = assembled(
            SSE, b"".join(redacted(Redactor(known_values=[value]), SSE, openai(0, "is " + value[:length])))
        )
        assert text == {0: "is " + (MARK if length >= 8 else value[:length])}


def test_a_stream_of_plain_text_is_searched_across_pieces() -> None:
    key = "ghp_" + secrets.token_hex(20)
    data = f"The key is {key}, keep it.".encode()
    for step in (1, 3, 11):
        pieces = redacted(Redactor(), "text/plain", data, range(step, len(data), step))
        assert b"".join(pieces) == f"The key is {MARK}, keep it.".encode()


def test_events_whose_data_is_text_are_searched_as_one_text() -> None:
    key = "ghp_" + secrets.token_hex(20)
    data = b"".join(f"data: {part}\n\n".encode() for part in ("Key: ", key[:3], key[3:20], key[20:], " ok"))
    clean = b"".join(redacted(Redactor(), SSE, data)).decode()
    assert [line[6:] for line in clean.split("\n") if line] == ["Key: ", MARK, "", "", " ok"]


def test_half_a_character_in_a_delta_hides_nothing() -> None:
    key = "ghp_" + secrets.token_hex(20)
    events = [rf'data: {{"delta":"{part}"}}' + "\n\n" for part in (r"\ud83d", r"\ude00 " + key[:9], key[9:] + ".")]
    clean = b"".join(redacted(Redactor(), SSE, "".join(events).encode())).decode()
    assert [line[6:] for line in clean.split("\n") if line] == [
        r'{"delta":"\ud83d"}', rf'{{"delta":"\ude00 {MARK}"}}', '{"delta":"."}',
    ]  # fmt: skip


def test_a_member_that_is_there_twice_is_not_guessed_about() -> None:
    key = "ghp_" + secrets.token_hex(20)
    data = b'data: {"text":"other","text":"%s"}\n\ndata: {"text":"%s "}\n\n' % (key[:20].encode(), key[20:].encode())
    with pytest.raises(ValueError, match="there twice"):
        redacted(Redactor(), SSE, data)


def test_a_secret_that_does_not_end_is_not_kept_in_memory() -> None:
    stream = StreamRedactor(Redactor(), "text/plain")
    beginning = "sk-proj-" + secrets.token_hex(20)
    pieces = stream.feed([b"Key: " + beginning.encode()]).pieces
    held = 0
    for _ in range(100):
        pieces += stream.feed([b"x9" * 5000]).pieces
        held = max(held, stream.held_bytes)
    pieces += stream.feed([b" end."]).pieces + stream.close().pieces
    assert b"".join(pieces) == f"Key: {MARK} end.".encode()
    assert held < 100_000


def test_what_is_held_is_bounded_whatever_comes() -> None:
    limit = 50_000
    unended_line = [b"data: " + b"x" * 1000] + [b"y" * 1000] * 200
    unended_array = [b'[{"a":"'] + [b"y" * 1000] * 200
    one_open_channel = [openai(0, "sk-")] + [openai(1, "words, " * 2000) for _ in range(40)]
    for content_type, pieces in ((SSE, unended_line), ("application/json", unended_array), (SSE, one_open_channel)):
        stream = StreamRedactor(Redactor(), content_type, limit)
        out: list[bytes] = []
        for piece in pieces:
            out += stream.feed([piece]).pieces
            assert stream.held_bytes < 2 * limit
        assert b"".join(out + stream.close().pieces) == b"".join(pieces)


def test_a_damaged_event_stream_is_searched_as_bytes() -> None:
    key = "ghp_" + secrets.token_hex(20)
    data = converse(0, "Hi") + b"\0\1 damaged " + key.encode() + b" \xff" + converse(0, "there")
    clean = b"".join(redacted(Redactor(), AWS, data, range(1, len(data), 7)))
    assert clean == data.replace(key.encode(), MARK.encode())


@pytest.mark.parametrize("seed", range(60))
def test_escapes_in_the_json_that_deltas_add_up_to_hide_nothing(seed: int) -> None:
    rng = random.Random(seed)
    key = ("sk-proj-" + secrets.token_hex(24), *(known(rng) for known in KNOWN.values()))[seed % (len(KNOWN) + 1)]
    is_known = seed % (len(KNOWN) + 1) > 0
    levels = rng.randrange(1, 4)
    arguments = f"it is {key}."
    for _ in range(levels):
        arguments = f'{{"text": "{strange_json(arguments, rng)}"}}'
    places = sorted(rng.sample(range(1, len(arguments)), rng.randrange(1, 30)))
    parts = [arguments[a:b] for a, b in zip([0, *places], [*places, len(arguments)], strict=True)]
    pieces = []
    for part in parts:
        call = {"index": 0, "function": {"arguments": part}}
        pieces.append(
            b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}).encode() + b"\n\n"
        )
    size = rng.randrange(1, 6)
    stream = StreamRedactor(Redactor(known_values=[key] if is_known else []), SSE)
    told = [piece for at in range(0, len(pieces), size) for piece in stream.feed(pieces[at : at + size]).pieces]
    told += stream.close().pieces
    said = [json.loads(piece[6:])["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"] for piece in told]
    clean = "".join(said)
    for _ in range(levels):
        clean = json.loads(clean)["text"]
    assert clean == "it is [REDACTED]."


@pytest.mark.parametrize(("content_type", "event"), [(SSE, openai), ("", openai), ("application/json", ndjson)])
@pytest.mark.parametrize("cut", [0, 1, 2, 3, 9])
def test_a_byte_order_mark_hides_no_secret_of_the_first_event(content_type: str, event: Event, cut: int) -> None:
    secret = make_secret(PLANTED[0], random.Random(cut))
    data = b"\xef\xbb\xbf" + event(0, secret[:20]) + event(0, secret[20:]) + event(0, " done")
    out = b"".join(redacted(Redactor(), content_type, data, [cut]))
    assert out.startswith(b"\xef\xbb\xbf")
    assert MARK.encode() in out
    assert not shares(out.decode(), secret)


@pytest.mark.parametrize(
    "payload", ['{"a":{"bytes":"AAAA"},"bytes":"%s"}', '{"b\\u0079tes":"%s"}', '{"bytes" :\n"%s"}']
)
def test_the_document_of_a_frame_is_masked_wherever_its_member_stands(payload: str) -> None:
    secret = make_secret(PLANTED[0], random.Random(payload))
    inner = base64.b64encode(json.dumps({"delta": {"text": f"my {secret}!"}}).encode()).decode()
    out = b"".join(redacted(Redactor(), AWS, frame((payload % inner).encode())))
    (value,) = (json.loads(payload) for payload in frames(out))
    assert json.loads(base64.b64decode(value["bytes"])) == {"delta": {"text": f"my {MARK}!"}}


def test_a_frame_that_names_its_document_twice_and_has_a_secret_is_refused() -> None:
    secret = make_secret(PLANTED[0], random.Random(1))
    inner = base64.b64encode(json.dumps({"text": secret}).encode()).decode()
    with pytest.raises(ValueError, match="twice"):
        redacted(Redactor(), AWS, frame(f'{{"bytes":"{inner}","bytes":"{inner}"}}'.encode()))


@pytest.mark.parametrize("depth", [150, 250, 1_000, 1_020, 5_000, 100_000])
@pytest.mark.parametrize("content_type", [SSE, AWS, "application/json"])
def test_a_document_may_nest_as_deep_as_it_likes(content_type: str, depth: int) -> None:
    document = b'{"a":' * depth + b'"b"' + b"}" * depth
    data = frame(document) if content_type == AWS else b"data: " + document + b"\n\n"
    assert b"".join(redacted(Redactor(), content_type, data)) == data


@pytest.mark.parametrize("text", [rb"\q", b"\xff\\n", rb"\ud83d", b"\t\\n", rb"\u12"])
def test_an_event_that_is_no_json_is_no_end_of_the_stream(text: bytes) -> None:
    good = [openai(0, word) for word in ("some", " words", " more")]
    events = [*good, good[0].replace(b"some", text), *good]
    out: list[bytes] = []
    stream = StreamRedactor(Redactor(), SSE)
    for event in events:
        out += stream.feed([event]).pieces
    assert [*out, *stream.close().pieces] == events


def test_an_event_that_ends_with_carriage_returns_is_over_with_the_second() -> None:
    lines = [b'data: {"text":"one."}\r', b"\rdata: ", b'{"text":"two."}']
    stream = StreamRedactor(Redactor(), SSE)
    assert [len(stream.feed([line]).pieces) for line in lines] == [0, 1, 0]


@pytest.mark.parametrize("at_once", [1, 5])
def test_strings_of_one_text_that_come_in_one_event_are_read_in_order(at_once: int) -> None:
    secret = make_secret(PLANTED[0], random.Random(at_once))
    texts = [("a ", "b "), ("c ", "d "), ("is ", secret[:9]), (secret[9:30], secret[30:] + " so "), ("e ", "f ")]
    events = [
        f"data: {json.dumps({'candidates': [{'content': {'parts': [{'text': one} for one in two]}}]})}\n\n".encode()
        for two in texts
    ]
    stream = StreamRedactor(Redactor(), SSE)
    out = [stream.feed(events[start : start + at_once]) for start in range(0, len(events), at_once)]
    data = b"".join(piece for some in (*out, stream.close()) for piece in some.pieces)
    assert assembled(SSE, data) == {0: f"a b c d is {MARK} so e f "}


@pytest.mark.parametrize("size", [1, 3, 10])
def test_a_secret_that_every_event_repeats_beside_its_text_is_masked_in_all_of_them(size):
    secret = "sk-proj-" + secrets.token_hex(24)
    start = 'event: content_block_delta\ndata: {"type":"content_block_delta","id":"'
    event = f'{start}{secret}","index":0,"delta":{{"type":"text_delta","text":" word"}}}}\n\n'.encode()
    stream = StreamRedactor(Redactor(), "text/event-stream")
    pieces = [piece for _ in range(6) for piece in stream.feed([event] * size).pieces]
    pieces += stream.close().pieces
    assert len(pieces) == 6 * size
    assert not any(secret.encode() in piece for piece in pieces)
    assert all(piece.count(b"[REDACTED]") == 1 for piece in pieces)


@pytest.mark.parametrize("place", ["obfuscation", "event_id", "event", "text"])
@pytest.mark.parametrize("cut", [None, 700])
def test_a_secret_that_one_of_many_like_events_holds_is_masked_wherever_it_stands(place: str, cut: int | None) -> None:
    secret = "ghp_" + secrets.token_hex(18)

    def like(number: int) -> str:
        held = {place: secret} if number in (30, 31) else {}
        # Where the text is the secret, the one before ends with a letter: the word that they make up is no secret.
        parts = {"event": "delta", "event_id": "e1", "obfuscation": "xyz", "text": " word", **held}
        name = parts.pop("event")
        text = {"type": "text_delta", "text": parts.pop("text")}
        return f"event: {name}\ndata: {compact({'index': 0, 'count': number, **parts, 'delta': text})}\n\n"

    data = "".join(map(like, range(60))).encode()
    half = len("".join(map(like, range(20)))) if cut is None else cut
    stream = StreamRedactor(Redactor(), "text/event-stream")
    told = [piece for part in (data[:half], data[half:]) for piece in stream.feed([part]).pieces]
    said = b"".join([*told, *stream.close().pieces]).decode()
    assert secret not in said
    assert said.count("[REDACTED]") == 2
    assert said.replace("[REDACTED]", secret) == data.decode()


def test_events_that_differ_in_structure_are_not_taken_for_like_ones() -> None:
    secret = "sk-proj-" + secrets.token_hex(24)
    like = b'data: {"index":0,"n":%d,"delta":{"text":" word"}}\n\n'
    strange = f'data: {{"index":0,"n":7,"delta":{{"text":" w","key":"{secret}"}}}}\n\n'.encode()
    for number in range(1, 12):
        events = [like % at for at in range(12)]
        events.insert(number, strange)
        stream = StreamRedactor(Redactor(), "text/event-stream")
        said = b"".join([*stream.feed([like % 1]).pieces, *stream.feed(events).pieces, *stream.close().pieces])
        assert secret.encode() not in said
        assert said.count(b"[REDACTED]") == 1


@pytest.mark.parametrize(
    "content_type", [SSE, "text/plain", "application/octet-stream", "application/json", "text/html", ""]
)
@pytest.mark.parametrize("spelled", ["\\u002d", "\\u0073\\u006b"])
def test_an_escape_that_is_cut_hides_no_key_in_what_is_no_frame(content_type: str, spelled: str) -> None:
    key = "sk-proj-" + secrets.token_hex(20)
    old = {"\\u002d": "-", "\\u0073\\u006b": "sk"}[spelled]
    body = f'say: "it is {key.replace(old, spelled)}, he said"'.encode()
    whole = None
    for cut in range(len(body) + 1):
        stream = StreamRedactor(Redactor(), content_type)
        pieces = [*stream.feed([body[:cut]]).pieces, *stream.feed([body[cut:]]).pieces, *stream.close().pieces]
        assert len(pieces) == 2
        whole = whole or b"".join(pieces)
        assert b"".join(pieces) == whole
        assert key[8:].encode() not in whole


@pytest.mark.parametrize("inner", ["nothing", "all of it"])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_secret_beside_the_document_of_a_frame_is_masked(inner: str, is_first: bool) -> None:
    key = "sk-proj-" + secrets.token_hex(20)
    said = {"nothing": "Hello", "all of it": key}[inner]
    encoded = {"bytes": base64.b64encode(json.dumps({"text": said}).encode()).decode()}
    payload = {"p": key, **encoded} if is_first else {**encoded, "p": key}
    stream = StreamRedactor(Redactor(), AWS)
    released = stream.feed([frame(json.dumps(payload).encode())]), stream.close()
    (clean,) = frames(b"".join(piece for some in released for piece in some.pieces))
    assert json.loads(clean)["p"] == MARK
    assert key[:20] not in base64.b64decode(json.loads(clean)["bytes"]).decode()
    (counts,) = [rules for some in released for rules in some.counts.values()]
    assert sum(counts.values()) == 1 + (inner != "nothing")
