"""Prompts masked: nothing of a text is left, whatever carries it and however it is cut; the structure is."""

from __future__ import annotations

import base64
import itertools
import json
import random
import secrets
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Any

import orjson
import pytest
from growth import assert_linear
from hypothesis import given, settings, strategies as st
from test_recorder import NS, Desk

from otel_wirecap.capture.events import (
    ErrorInfo,
    EventKind,
    RequestHead,
    ResponseHead,
    WebsocketClose,
    WebsocketMessage,
)
from otel_wirecap.capture.redaction.prompts import PromptMasking, without_prompts
from tests.capture.test_stream_redaction import AWS, FORMATS, SSE, converse, documents, frame, make_stream, openai

MARK = "[REDACTED]"
JSON = "application/json"
LETTERS = "QXZJKVWŻŁÓĘ日本語😀"
ON = {"capture_redact_prompts": True}


def make_text(rng: random.Random) -> str:
    """A text whose words stand nowhere else."""
    words = ("".join(rng.choice(LETTERS) for _ in range(rng.randint(4, 9))) for _ in range(rng.randint(1, 9)))
    return rng.choice([" ", "\n", '"', "\\", ", ", '{"', "data: "]).join(words)


def leaks(text: str, written: str) -> bool:
    """Whether four characters of a text stand there, as they are or as JSON or URLs write them."""
    letters = [text[place : place + 4] for place in range(len(text) - 3)]
    parts = [part for part in letters if set(part) <= set(LETTERS)]
    return any(part in written or json.dumps(part)[1:-1] in written for part in parts)


def masked(content_type: str, data: bytes, cuts: Iterable[int] = ()) -> list[bytes]:
    """The pieces that come out where the stream is cut there."""
    masking = PromptMasking(content_type)
    places = [0, *cuts, len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(places)]
    out = [piece for one in pieces for piece in masking.feed([one]).pieces] + masking.close().pieces
    assert len(out) == len(pieces)
    return out


def shape(value: Any) -> Any:
    """A document with its texts left out: what is to be the same."""
    if isinstance(value, dict):
        return {name: shape(member) for name, member in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return "text" if isinstance(value, str) else value


# -- bodies --------------------------------------------------------------------------------------------------------


def chat(text: str) -> dict[str, Any]:
    call = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": json.dumps({"for": text})}}
    parts = [
        {"type": "text", "text": text},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + text}},
    ]
    schema = {"type": "object", "properties": {"city": {"type": "string", "description": text}}, "required": ["city"]}
    return {
        "model": "gpt-5-mini",
        "messages": [
            {"role": "system", "content": text},
            {"role": "user", "content": parts},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": text},
        ],
        "tools": [{"type": "function", "function": {"name": "look_up", "description": text, "parameters": schema}}],
        "temperature": 0.5,
        "stream": False,
        "stop": [text],
        "metadata": {"note": text},
    }


def chat_answer(text: str) -> dict[str, Any]:
    usage = {"prompt_tokens": 12, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}
    message = {"role": "assistant", "content": text, "refusal": None, "reasoning_content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 17, "choices": [choice], "usage": usage}


def anthropic_answer(text: str) -> dict[str, Any]:
    blocks = [{"type": "thinking", "thinking": text, "signature": text}, {"type": "text", "text": text}]
    usage = {"input_tokens": 7, "output_tokens": 9}
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": blocks,
        "stop_reason": "end_turn",
        "usage": usage,
    }


def gemini_answer(text: str) -> dict[str, Any]:
    rating = {"category": "HARM_CATEGORY_HARASSMENT", "probability": "NEGLIGIBLE"}
    candidate = {
        "content": {"role": "model", "parts": [{"text": text}]},
        "finishReason": "STOP",
        "safetyRatings": [rating],
    }
    return {"candidates": [candidate], "usageMetadata": {"promptTokenCount": 4}, "modelVersion": "gemini-3-pro"}


def an_error(text: str) -> dict[str, Any]:
    return {"error": {"type": "invalid_request_error", "code": "context_length", "param": "messages", "message": text}}


BODIES: tuple[Callable[[str], dict[str, Any]], ...] = (chat, chat_answer, anthropic_answer, gemini_answer, an_error)


def exchange_of(
    options: dict[str, Any],
    question: bytes,
    answer: bytes,
    content_type: str = JSON,
    url: str = "https://api.openai.com/v1/x",
) -> tuple[list[dict[str, Any]], str]:
    """The records of one exchange and the lines as they are written."""
    desk = Desk(**options)
    exchange = desk.exchange()
    head = ("content-type", content_type)
    headers = [(head[0].encode(), head[1].encode())] if content_type else []
    exchange.begin(RequestHead("POST", url, headers, body=question))
    exchange.response(2 * NS, ResponseHead(200, None, headers))
    exchange.chunk(3 * NS, answer)
    exchange.end(4 * NS, "complete")
    records = desk.records()
    return records, b"".join(desk.lines).decode()


@pytest.mark.parametrize("seed", range(8))
def test_of_bodies_the_structure_is_left_and_nothing_of_their_texts(seed: int) -> None:
    rng = random.Random(seed)
    for make in BODIES:
        text = make_text(rng)
        body = json.dumps(make(text), ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 2])).encode()
        records, written = exchange_of(ON, body, body)
        plain, unmasked = exchange_of({}, body, body)
        assert leaks(text, unmasked)
        assert not leaks(text, written)
        for record, other in zip(records, plain, strict=True):
            assert shape(record["payload"]) == shape(other["payload"])
            assert record["metadata"]["redactions"].keys() == {"prompt"}
            for name in ("model", "content_length", "direction", "content_type"):
                assert record[name] == other[name]


def test_what_is_structure_stays_as_it_is() -> None:
    body = orjson.dumps(chat("Who?") | {"empty": ""})
    kept = json.loads(without_prompts(body, JSON, counts := {}))
    assert counts == {"prompt": 9}
    assert (kept["model"], kept["temperature"], kept["stream"], kept["empty"]) == ("gpt-5-mini", 0.5, False, "")
    assert [message["role"] for message in kept["messages"]] == ["system", "user", "assistant", "tool"]
    assert [part["type"] for part in kept["messages"][1]["content"]] == ["text", "image_url"]
    call = kept["messages"][2]["tool_calls"][0]
    assert call == {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": MARK}}
    assert kept["messages"][3]["tool_call_id"] == "call_1"
    schema = kept["tools"][0]["function"]["parameters"]
    assert schema == {
        "type": "object", "properties": {"city": {"type": "string", "description": MARK}}, "required": ["city"],
    }  # fmt: skip
    answer = json.loads(without_prompts(orjson.dumps(chat_answer("Me.")), JSON, {}))
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"] == chat_answer("")["usage"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"input": [15496, 995]}, {"input": [MARK]}),
        ({"input": [[1, 2], [3]]}, {"input": [[MARK], [MARK]]}),
        ({"embedding": [0.25, -1e-3]}, {"embedding": [MARK]}),
        ({"logprobs": {"content": [{"token": "Hi", "bytes": [72, 105]}]}}, {"logprobs": {MARK: MARK}}),
        ({"top_logprobs": [{"Hello": -0.5}]}, {"top_logprobs": [MARK]}),
        ({"logprobs": True}, {"logprobs": True}),
        ({"logit_bias": {"50256": -100}}, {"logit_bias": {MARK: MARK}}),
        ({"biases": {"50256": -100}}, {"biases": {MARK: -100}}),
        ({"token": {"id": 17, "text": "Hi"}}, {"token": {MARK: MARK}}),
        ({"token_id": 17, "n": 17}, {"token_id": MARK, "n": 17}),
        ({"type": "tool_use", "input": {"age of": 41}}, {"type": "tool_use", "input": {MARK: MARK}}),
        ({"type": "tool_use", "input": {}}, {"type": "tool_use", "input": {}}),
        ({"functionCall": {"name": "f", "args": {"n": 1}}}, {"functionCall": {"name": "f", "args": {MARK: MARK}}}),
        ({"functionResponse": {"response": {"n": 1}}}, {"functionResponse": {"response": {MARK: MARK}}}),
        ({"response": {"usage": {"n": 1}}}, {"response": {"usage": {"n": 1}}}),
        ({"usage": {"tokens": {"input_tokens": 3}}}, {"usage": {"tokens": {"input_tokens": 3}}}),
        ({"tokens": [{"id": 5, "piece": "x"}]}, {"tokens": [MARK]}),
        ({"type": "two words", "role": "über", "model": "a" * 600}, {"type": MARK, "role": MARK, "model": MARK}),
        ({"a name of words": 1}, {MARK: 1}),
        (["text", {"role": "user"}, 5], [MARK, {"role": "user"}, MARK]),
        ("text", MARK),
    ],
)
def test_numbers_and_names_that_are_text_go_and_others_stay(given: Any, expected: Any) -> None:
    assert json.loads(without_prompts(json.dumps(given).encode(), JSON, {})) == expected


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b", "audio/wav", ""]
)
def test_a_body_that_is_no_json_is_masked_whole(kind: str) -> None:
    text = make_text(random.Random(1))
    for body in (text.encode(), b"\x00\xff" + text.encode(), b'prompt="' + text.encode() + b'"&n=41'):
        records, written = exchange_of(ON, body, body, kind)
        assert [record["payload"] for record in records] == [MARK, MARK]
        assert not leaks(text, written)


def test_json_that_is_called_text_is_text() -> None:
    records, _ = exchange_of(ON, b'{"surname": 41}', b"", "text/plain")
    assert records[0]["payload"] == MARK


@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_a_body_that_is_cut_off_anywhere_says_nothing(ensure_ascii: bool) -> None:
    text = make_text(random.Random(2))
    body = json.dumps(chat(text), ensure_ascii=ensure_ascii).encode()
    for limit in range(1, len(body), 7):
        records, written = exchange_of(ON | {"capture_max_payload_bytes": limit}, body, body)
        assert not leaks(text, written)
        assert all(record["metadata"]["truncated"]["original_length"] == len(body) for record in records)


# -- heads, errors, modes ------------------------------------------------------------------------------------------


def test_parameters_paths_headers_and_errors_say_nothing_either() -> None:
    text = make_text(random.Random(3)).replace("\n", " ")
    desk = Desk(**ON)
    exchange = desk.exchange()
    quoted = "".join(f"%{byte:02x}" for byte in text.encode())
    url = f"https://host:8443/v1/models/gpt-5:run/{quoted}?q={quoted}&alt=sse&api-version=2024-10-21&{quoted}#{quoted}"
    headers = [(b"x-user-prompt", text.encode()), (b"referer", b"/a?q=" + quoted.encode()), (b"x-trace", b"t-1")]
    exchange.begin(RequestHead("GET", url, headers, body=b""))
    exchange.response(2 * NS, ResponseHead(500, None, [(b"location", f"/b?prompt={quoted}".encode())]))
    exchange.end(4 * NS, "error", ErrorInfo("ValueError", f"cannot say {text}"))
    request, response = desk.records()
    assert request["metadata"]["url"] == (
        f"https://host:8443/v1/models/gpt-5:run/{MARK}?q={MARK}&alt=sse&api-version=2024-10-21&{MARK}#{MARK}"
    )
    assert request["metadata"]["headers"] == [["x-user-prompt", MARK], ["referer", f"/a?q={MARK}"], ["x-trace", "t-1"]]
    assert response["metadata"]["headers"] == [["location", f"/b?prompt={MARK}"]]
    assert response["metadata"]["error"] == {"type": "ValueError", "message": MARK}
    assert not leaks(text, b"".join(desk.lines).decode())


def test_secrets_are_masked_besides_and_prompts_whatever_the_mode() -> None:
    key, text = "sk-proj-" + secrets.token_hex(20), make_text(random.Random(4))
    body = orjson.dumps({"model": "m", "session_id": key, "prompt": text})
    for options in (
        {},
        {"capture_redaction": "headers-only"},
        {"capture_redaction": "off", "capture_allow_secrets": True},
    ):
        records, written = exchange_of(ON | options, body, b"")
        assert not leaks(text, written)
        assert (key in written) is bool(options)
        assert records[0]["metadata"]["redactions"]["prompt"] == 1


def test_the_setting_is_told() -> None:
    for options, told in ((ON, True), ({}, False)):
        settings = Desk(**options).process.system_start("p")["settings"]
        assert isinstance(settings, dict)
        assert settings["capture_redact_prompts"] is told


def test_an_error_within_withholds_the_payload(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise RuntimeError

    monkeypatch.setattr("otel_wirecap.capture.redaction.texts.without_prompts", fail)
    records, written = exchange_of(ON, b'{"prompt": "Who are you?"}', b'{"text": "Who are you?"}')
    assert [record["metadata"]["incomplete"] for record in records] == ["withheld", "withheld"]
    assert "Who" not in written


# -- streams -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", FORMATS)
def test_of_streams_nothing_is_left_wherever_they_are_cut(name: str, seed: int) -> None:
    rng = random.Random(f"{name}{seed}")
    content_type = FORMATS[name][0]
    texts = {index: make_text(rng) for index in range(2)}
    data = make_stream(rng, name, texts)
    whole = b"".join(masked(content_type, data))
    assert whole != data
    for document, other in zip(documents(content_type, whole), documents(content_type, data), strict=True):
        assert shape(document) == shape(other)
        said = json.dumps(document, ensure_ascii=False)
        assert not any(leaks(text, said) for text in texts.values())
    for _ in range(8):
        cuts = sorted(rng.randrange(len(data)) for _ in range(rng.randint(1, 40)))
        pieces = masked(content_type, data, cuts)
        assert b"".join(pieces) == whole


@pytest.mark.parametrize(
    ("content_type", "data"),
    [
        (
            JSON,
            b'\xef\xbb\xbf{"a": "", "type": "x", "b": "\\"\\\\", "n": -1.5e3, "c": [1, null], "args": {"e": true}}',
        ),
        (SSE, b'\xef\xbb\xbfdata: {"a":\r\ndata: "one"}\r\n\r\ndata: two\r\rdata\n\nevent: x\ndata: [DONE]\n\n'),
        ("", b'\r\n event: x\r\ndata: {"a": "one"}\r\n\r\n'),
        ("application/json-seq", b'\x1e{"a": "one"}\n\x1e{"a": "\n\x1e{"a": ["two", 3]}\n'),
        (AWS, converse(0, "one") + converse(0, "two") + b"three"),
    ],
)
def test_no_cut_changes_what_is_masked(content_type: str, data: bytes) -> None:
    whole = b"".join(masked(content_type, data))
    assert not any(word in whole for word in (b"one", b"two", b"three"))
    for cut in range(len(data) + 1):
        assert b"".join(masked(content_type, data, [cut])) == whole
    assert b"".join(masked(content_type, data, range(1, len(data)))) == whole


def chunks_of(options: dict[str, Any], content_type: str, pieces: Iterable[bytes]) -> list[dict[str, Any]]:
    desk = Desk(**options)
    exchange = desk.exchange(began_unix_ns=NS)
    exchange.begin(RequestHead("POST", "https://api.openai.com/v1/x", [], body=b'{"stream": true}'))
    exchange.response(2 * NS, ResponseHead(200, None, [(b"content-type", content_type.encode())]))
    for number, piece in enumerate(pieces):
        exchange.chunk(3 * NS + number * 1_000_000, piece)
    exchange.end(9 * NS, "complete")
    return desk.records()[1:]


@pytest.mark.parametrize("name", FORMATS)
def test_each_chunk_keeps_its_record_its_number_and_its_time(name: str) -> None:
    rng = random.Random(name)
    data = make_stream(rng, name, {0: make_text(rng)})
    cuts = [0, *sorted(rng.randrange(len(data)) for _ in range(12)), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(cuts)]
    records, others = (chunks_of(options, FORMATS[name][0], pieces) for options in (ON, {}))
    same = ("direction", "timestamp_unix", "model", "content_length", "source", "destination", "content_type")
    for record, other in zip(records, others, strict=True):
        if not record["metadata"].get("assembled"):
            assert [record[field] for field in same] == [other[field] for field in same]
        told = [{k: v for k, v in one["metadata"].items() if k not in ("redactions", "seq")} for one in (record, other)]
        assert told[0] == told[1]
    assert sum(record["metadata"].get("redactions", {}).get("prompt", 0) for record in records) > 0


def test_an_event_over_three_chunks_has_the_marker_where_its_text_began() -> None:
    event = openai(0, "Hello there, you")
    first, second = event.index(b"there"), event.index(b"you")
    pieces = masked(SSE, event, [first, second])
    assert pieces == [event[: event.index(b"Hello")] + MARK.encode(), b"", event[second + 3 :]]


def test_a_chunk_waits_for_the_end_of_the_event_that_begins_in_it() -> None:
    masking = PromptMasking(SSE)
    assert masking.feed([b": ping\n\n", b'data: {"a": "He']).pieces == [b": [REDACTED]\n\n"]
    assert masking.feed([b"llo", b'"}\n\nda']).pieces == [b'data: {"a": "[REDACTED]', b""]
    assert masking.feed([b'ta: {"a": "x"}\n', b"\n"]).pieces == [b'"}\n\nda', b'ta: {"a": "[REDACTED]"}\n', b"\n"]


def test_the_assembled_message_says_nothing_and_keeps_its_usage() -> None:
    text = make_text(random.Random(5))
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    last = b"data: %s\n\n" % orjson.dumps({"id": "c", "model": "gpt-5", "choices": [], "usage": usage})
    records = chunks_of(ON, SSE, [openai(0, text[:3]), openai(0, text[3:]), last, b"data: [DONE]\n\n"])
    message = records[-1]
    assert message["metadata"]["assembled"] is True
    assert message["payload"]["choices"][0]["message"] == {"role": "assistant", "content": MARK}
    assert message["payload"]["usage"] == usage
    assert message["model"] == "gpt-5"
    assert not leaks(text, json.dumps(records, ensure_ascii=False))
    assert records[-3]["payload"] == "data: [DONE]\n\n"


@pytest.mark.parametrize(
    "content_type", [SSE, JSON, AWS, "application/x-ndjson", "text/plain", "application/octet-stream", ""]
)
def test_what_cannot_be_parsed_says_nothing(content_type: str) -> None:
    rng = random.Random(content_type)
    for _ in range(60):
        text = make_text(rng)
        around = rng.choice([
            "{}", "data: {}\n\n", "data: {}", "event: {}\n", ": {}\n", "id: {}\n\ndata: 1\n\n", '{{"a": "{}',
            '{{"a": {}}}',
            '["x", {}]', "[1, {}]", '"{}" {}', 'data: {{"a":\ndata: "{}"\n: {}\ndata: }}\n\n', "{}: {}\n",
            '{{"{}": 1}}',
            '{{"a": "b\n{}"}}', "\ufeffdata: {}\n\n", 'data: {{"a": "{}\n\ndata: {{"b": "c"}}\n\n',
        ])  # fmt: skip
        data = around.replace("{}", text).replace("{{", "{").replace("}}", "}").encode()
        if content_type == AWS:
            data = rng.choice([frame(data), converse(0, "Hi") + data, frame(orjson.dumps({"bytes": text, "p": "x"}))])
        whole = b"".join(masked(content_type, data))
        assert not leaks(text, whole.decode("utf-8", "replace"))
        for _ in range(5):
            cuts = sorted(rng.randrange(len(data)) for _ in range(rng.randint(1, 12)))
            assert b"".join(masked(content_type, data, cuts)) == whole


def test_names_of_events_that_are_names_and_the_end_stay() -> None:
    kept = b"event: response.done\r\nid: 17\r\nretry: 3000\r\ndata:\r\n\r\ndata: [DONE]\r\n\r\n"
    assert b"".join(masked(SSE, kept)) == kept
    assert b"".join(masked(SSE, b"event: a b\n: ping\nfoo\n\n")) == b"event: %s\n: %s\n%s\n\n" % ((MARK.encode(),) * 3)


def test_one_bad_line_of_many_spoils_no_other() -> None:
    data = b'{"done": false, "response": "Hi"}\nnothing\n{"done": true, "response": ""}\n'
    assert b"".join(masked("application/x-ndjson", data)) == (
        b'{"done": false, "response": "[REDACTED]"}\n[REDACTED]\n{"done": true, "response": ""}\n'
    )


def test_texts_in_the_headers_of_frames_and_in_base64_go() -> None:
    inner = base64.b64encode(orjson.dumps({"type": "x", "delta": {"text": "Hello"}})).decode()
    data = frame(orjson.dumps({"bytes": inner, "p": "abc"}))
    (document,) = documents(AWS, b"".join(masked(AWS, data)))
    assert document == {"type": "x", "delta": {"text": MARK}}
    renamed = frame(b"{}").replace(b":event-type", b":eventxtype")
    assert b"chunk" not in b"".join(masked(AWS, renamed))  # a checksum that is wrong: all of it is text


SPELLED: dict[str, Callable[[str], bytes]] = {
    SSE: lambda text: b"event: x\n: y\ndata: %s\n\n" % orjson.dumps({"type": text}),
    "application/x-ndjson": lambda text: orjson.dumps({"type": text}) + b"\n",
    JSON: lambda text: orjson.dumps({"type": text}) + b", ",
    AWS: lambda text: frame(orjson.dumps({"type": text})),
}


@pytest.mark.parametrize("content_type", SPELLED)
def test_a_frame_that_is_too_large_is_masked_with_all_that_follows(content_type: str) -> None:
    spell = SPELLED[content_type]
    small, large = spell("ok"), spell("QXZK" * 100)
    data = small + large + small
    kept = b"".join(masked(content_type, small))
    for size in (1, 7, 300, len(data)):
        masking = PromptMasking(content_type, 200)
        out: list[bytes] = []
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        for number, piece in enumerate(pieces, 1):
            out += masking.feed([piece]).pieces
            held = sum(map(len, pieces[len(out) : number]))
            assert held <= 200 + 2 + 2 * size
        out += masking.close().pieces
        assert len(out) == len(pieces)
        whole = b"".join(out)
        assert whole in (kept + MARK.encode(), kept + b"event: x\n: " + MARK.encode())
    assert b"QXZK" not in whole


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", JSON, "application/octet-stream", "text/html; charset=utf-8", SSE]
)
def test_of_streams_the_first_bytes_say_what_is_structure(content_type: str) -> None:
    for spelled in (
        b'data: {"type": "x", "text": "%s"}\n\ndata: [DONE]\n\n',
        b'{"type": "x", "text": "%s"}\n{"type": "y"}\n',
        b'[{"type": "x", "text": "%s"},\n{"type": "y"}]',
    ):
        data = spelled % b"QXZK"
        for cuts in ((), range(1, len(data))):
            assert b"".join(masked(content_type, data, cuts)) == spelled % MARK.encode()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"model": "m", "messages": [{"role": "user", "content": "He', '{"model": "m", "messages": [{"role": "user", '
         '"content": "[REDACTED]'),
        ('{"model": "m", "role', '{"model": "m",[REDACTED]'),
        ('{"n": 12, "m": 34', '{"n": 12,[REDACTED]'),
        ('{"n": 12, ', '{"n": 12, '),
        ('[{"id": "a"}, {"id": "b"}', '[{"id": "a"}, {"id": "b"}'),
        ('{"args": {"x": [1, "y', '{"args": {"[REDACTED]":"[REDACTED]"[REDACTED]'),
        ('{"id": "a", oops', '{"id": "a",[REDACTED]'),
        ('{"id": oops, "id": "a"', "[REDACTED]"),
        ("]", "[REDACTED]"),
    ],
)  # fmt: skip
def test_of_a_body_that_is_cut_off_the_known_structure_stays(body: str, expected: str) -> None:
    counts: dict[str, int] = {}
    clean = without_prompts(body.encode(), JSON, counts, is_whole=False)
    assert clean.decode() == expected
    assert without_prompts(clean, JSON, counts, is_whole=False) == clean


@pytest.mark.parametrize("seed", range(4))
def test_messages_of_a_websocket_say_nothing(seed: int) -> None:
    rng = random.Random(seed)
    desk = Desk(**ON)
    exchange = desk.exchange()
    exchange.begin(
        RequestHead("GET", "wss://api.openai.com/v1/realtime?model=gpt-realtime", [], body=b"", websocket=True)
    )
    exchange.response(NS, ResponseHead(101, None, []))
    text = make_text(rng)
    delta = json.dumps({"type": "response.output_text.delta", "item_id": "item_1", "delta": text})
    for number, data in enumerate((delta, text, delta.encode(), text.encode() + b"\xff", "")):
        opcode = 1 if isinstance(data, str) else 2
        exchange.message(NS + number, WebsocketMessage(number % 2 == 0, opcode, data))
    exchange.end(5 * NS, "complete", None, WebsocketClose(1000, text[:20], asker=True))
    start, *messages, end = desk.records()
    assert start["metadata"]["url"].endswith("?model=gpt-realtime")
    clean = json.loads(messages[0]["payload"])
    assert clean == {"type": "response.output_text.delta", "item_id": "item_1", "delta": MARK}
    assert [message["payload"] for message in messages[1:]] == [MARK, messages[0]["payload"], MARK, None]
    assert [message["metadata"].get("redactions") for message in messages] == [{"prompt": 1}] * 4 + [None]
    assert end["metadata"]["websocket"]["close_reason"] == MARK
    assert not leaks(text, b"".join(desk.lines).decode())


# -- records from elsewhere --------------------------------------------------------------------------------------------


def test_of_records_from_elsewhere_no_text_is_taken_over() -> None:
    text = make_text(random.Random(6))
    _, written = exchange_of(
        {}, orjson.dumps(chat(text)), text.encode(), url=f"https://host/v1?q={secrets.token_hex(8)}"
    )
    desk = Desk(**ON)
    for line in written.splitlines():
        document = json.loads(line)
        document["metadata"]["error"] = {"type": "ValueError", "message": text}
        desk.events.append((EventKind.DOCUMENT, None, NS, json.dumps(document), 0))
    request, response = desk.records()
    assert request["metadata"]["url"] == f"https://host/v1?q={MARK}"
    assert request["metadata"]["error"] == {"type": "ValueError", "message": MARK}
    assert shape(request["payload"]) == shape(chat(text))
    assert response["payload"] == MARK
    assert not leaks(text, b"".join(desk.lines).decode())


# -- anything ----------------------------------------------------------------------------------------------------------

PARTS = st.sampled_from([
    *'{}[],:" \n', '"a"', '"type"', '"args"', '"x y"', "1", "-2.5", "true", "tr", "null", "\r\n", "\r", "data: ",
    "data", "event: ", "id: ", ": ", "\\", '\\"', "\\u0041", "\x1e", "\ufeff", "[DONE]", "QXZK", '{"a": "QXZK"}',
    'data: {"delta": "QXZK"}\n\n', '"' + "q" * 600 + '"',
])  # fmt: skip


@given(
    st.lists(PARTS, max_size=20).map("".join),
    st.sampled_from([SSE, JSON, "application/x-ndjson", "", "text/plain"]),
    st.lists(st.integers(0, 400), max_size=6),
)
@settings(deadline=None)
def test_whatever_comes_is_masked_the_same_however_it_is_cut(text: str, content_type: str, cuts: list[int]) -> None:
    data = text.encode()
    places = sorted(min(cut, len(data)) for cut in cuts)
    assert b"".join(masked(content_type, data, places)) == b"".join(masked(content_type, data))


@pytest.mark.parametrize("content_type", [JSON, "", SSE, "application/x-ndjson"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_json_that_is_not_utf_8_says_nothing(encoding: str, content_type: str) -> None:
    words = "QXZJ KVWQ"
    for quote in ("\u0122", "\u2222"):  # a byte of it is a quote
        text = json.dumps({"content": f"{quote} {words}", "model": words}, ensure_ascii=False).encode(encoding)
        for data in (text, b"data: %b\n\n" % text):
            written = (b"".join(masked(content_type, data)), without_prompts(data, content_type, {}))
            assert not any(
                letter in out for letter in b"QXZJKVW" for out in (one.replace(MARK.encode(), b"") for one in written)
            )


@pytest.mark.parametrize("line", [b"data: x\n", b'data: {"a": "b"}\n', b'data: "a",\n'])
def test_an_event_of_many_lines_is_masked_in_time_in_proportion_to_it(line: bytes) -> None:
    assert_linear(lambda size: masked(SSE, line * (size // len(line)) + b"\n"), 1 << 12)


@pytest.mark.parametrize("is_whole", [True, False])
@pytest.mark.sampled(1, rest="thorough")
def test_of_a_body_of_many_strings_no_list_is_made(is_whole: bool) -> None:
    body = b'["a"' + b',"a"' * (1 << 17) + b"]" * is_whole
    tracemalloc.start()
    try:
        without_prompts(body, JSON, {}, is_whole=is_whole)
        assert tracemalloc.get_traced_memory()[1] < 50 * len(body)
    finally:
        tracemalloc.stop()
