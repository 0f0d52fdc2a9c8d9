"""Prompts masked as the whole recorder does it: what may be in a capture does not depend on what was said."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from otel_wirecap.capture.events import ErrorInfo, RequestHead, ResponseHead, WebsocketClose, WebsocketMessage
from tests.capture.test_recorder import JSON, NS, SSE, Desk

MARK = "[REDACTED]"
AWS = (b"content-type", b"application/vnd.amazon.eventstream")
NDJSON = (b"content-type", b"application/x-ndjson")

# Letters that no name, no id and no number of this test is made of: four of them in a row are of what was said.
HOT = "qxzjкшюяλξψ語漢😀"
SPICE = (
    " ", " ", ", ", "\n", "\n\n", "\t", '"', "\\", "\\n", '":"', '"}\n\n', "data: ", "\r\ndata: {", "[DONE]", "{", "}]",
    "0", "12345", "null", "true", "user", "role", '{"role": "', "\u2028", "é", "\x00", "/", "%20", "&", "=", ":",
    "-", "<b>",
)  # fmt: skip

Say = Callable[[], str]


class Talk:
    """Says something new each time."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.said: list[str] = []

    def __call__(self) -> str:
        rng = self._rng
        parts = [rng.choice(SPICE) if rng.random() < 0.5 else self._word() for _ in range(rng.randint(1, 9))]
        self.said.append("".join([self._word(), *parts]))
        return self.said[-1]

    def _word(self) -> str:
        return "".join(self._rng.choice(HOT) for _ in range(self._rng.randint(4, 9)))

    def name(self) -> str:
        """What may be a name of something."""
        self.said.append("".join(self._rng.choice("qxzj") for _ in range(8)))
        return self.said[-1]

    def numbers(self) -> list[int]:
        """Text as numbers of tokens."""
        return [self._rng.randrange(100_000_000, 999_999_999) for _ in range(self._rng.randint(1, 9))]


def pieces_of(text: str, length: int = 4) -> Iterator[str]:
    for place in range(len(text) - length + 1):
        piece = text[place : place + length]
        if all(character in HOT for character in piece):
            yield piece


def everything_in(value: Any) -> Iterator[str]:
    """All texts of a record, names and what is encoded in base64 included."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield name
            yield from everything_in(member)
        if set(value) == {"encoding", "data"} or "data" in value:
            yield from decoded(value.get("data"))
    elif isinstance(value, list):
        for item in value:
            yield from everything_in(item)
    elif isinstance(value, str):
        yield value
        if "\\u" in value:
            yield value.encode("ascii", "backslashreplace").decode("unicode-escape", "replace")
    else:
        yield str(value)


def decoded(data: object) -> Iterator[str]:
    if isinstance(data, str):
        try:
            raw = base64.b64decode(data, validate=True)
        except ValueError:
            return
        yield raw.decode("utf-8", "replace")
        for inner in raw.split(b'"'):
            if len(inner) > 7:
                try:
                    yield base64.b64decode(inner, validate=True).decode("utf-8", "replace")
                except ValueError:
                    continue


def assert_nothing_said(records: list[dict[str, Any]], talk: Talk) -> None:
    written = "\0".join(text for record in records for text in everything_in(record))
    said = {piece for text in talk.said for piece in pieces_of(text)}
    assert [piece for piece in said if piece in written] == []


KEPT = {
    "role", "type", "model", "object", "finish_reason", "stop_reason", "id", "index", "finishReason", "status",
    "tool_call_id", "call_id", "previous_response_id", "stream", "temperature", "max_tokens", "created", "done",
    "done_reason", "prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens",
    "cached_tokens", "promptTokenCount", "candidatesTokenCount", "inputTokens", "outputTokens", "totalTokens",
    "prompt_eval_count",
    "eval_count", "total_duration", "logprob", "stopReason", "latencyMs", "service_tier", "system_fingerprint",
    "tool_use_id", "media_type", "modelVersion", "responseId", "encoding_format",
}  # fmt: skip
ALL_CONTENT = {
    "input",
    "args",
    "response",
    "arguments",
    "logprobs",
    "top_logprobs",
    "json",
    "logit_bias",
    "token",
    "variables",
}


def assert_same_structure(said: Any, written: Any, name: str = "", parent: str = "") -> None:
    """The same but for the texts, and for what is content as a whole."""
    if isinstance(said, dict) and name in ALL_CONTENT:
        assert isinstance(written, dict | str), (name, written)
    elif isinstance(said, dict):
        assert list(written) == list(said)
        for key, value in said.items():
            assert_same_structure(value, written[key], key, name)
    elif isinstance(said, list) and said and isinstance(said[0], int | float):
        assert not any(isinstance(item, int | float) for item in written)
    elif isinstance(said, list) and name in {"tokens", *ALL_CONTENT} and said and not isinstance(said[0], dict):
        assert isinstance(written, list | str)
    elif isinstance(said, list):
        assert len(written) == len(said)
        for one, other in zip(said, written, strict=True):
            assert_same_structure(one, other, name, parent)
    elif isinstance(said, str):
        if not said or (name in KEPT and parent != "metadata"):
            assert written == said, name
        else:
            assert written in (MARK, said), name
    else:
        assert written == said, name


# -- bodies ----------------------------------------------------------------------------------------------------------


def openai_request(talk: Talk) -> Any:
    return {
        "model": "gpt-5-mini", "stream": False, "temperature": 0.5, "max_tokens": 7, "user": talk.name(),
        "messages": [
            {"role": "system", "content": talk()},
            {"role": "user", "name": talk.name(), "content": [
                {"type": "text", "text": talk()},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64," + talk.name(), "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": talk.name(), "format": "wav"}},
                {"type": "file", "file": {"file_data": talk.name(), "filename": talk()}},
            ]},
            {"role": "assistant", "content": None, "refusal": "", "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": talk()}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": talk()},
        ],
        "tools": [{"type": "function", "function": {"name": "get_weather", "description": talk(), "parameters": {
            "type": "object", "properties": {"city": {"type": "string", "description": talk(),
                                                                   "enum": [talk(), talk()]}},
            "required": ["city"]}}}],
        "stop": [talk(), talk()], "logit_bias": {"50256": -100}, "prediction": {"type": "content", "content": talk()},
        "metadata": {"note": talk(), "role": talk.name(), "name": talk.name(), "type": talk.name()},
    }  # fmt: skip


def openai_answer(talk: Talk) -> Any:
    token = {"token": talk(), "logprob": -0.25, "bytes": list(talk().encode())}
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1700000000, "model": "gpt-5-mini-2026",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": talk(), "refusal": None,
            "reasoning_content": talk(), "annotations": [{"type": "url_citation", "url_citation": {"title": talk(),
                "url": "https://example.org/" + talk.name()}}],
            "tool_calls": [{"index": 0, "id": "call_1", "type": "function",
                            "function": {"name": "get_weather", "arguments": json.dumps({"city": talk()})}}]},
            "logprobs": {"content": [{**token, "top_logprobs": [token]}]}, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16,
                  "prompt_tokens_details": {"cached_tokens": 3}},
        "service_tier": "default", "system_fingerprint": "fp_1",
    }  # fmt: skip


def completions(talk: Talk) -> Any:
    return {
        "id": "cmpl-1", "object": "text_completion", "model": "m-1", "prompt": talk.numbers(), "suffix": talk(),
        "choices": [{"index": 0, "text": talk(), "finish_reason": "stop", "logprobs": {
            "tokens": [talk.name(), talk.name()], "token_logprobs": [-0.5, -1.5],
            "top_logprobs": [{talk.name(): -0.5}, {talk(): -0.5}], "text_offset": [0, 4]},
            "token_ids": talk.numbers(), "prompt_token_ids": talk.numbers()}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16},
    }  # fmt: skip


def embeddings(talk: Talk) -> Any:
    return {"model": "embed-1", "encoding_format": "float", "input": [talk.numbers(), talk.numbers()],
            "data": [{"object": "embedding", "index": 0, "embedding": [0.125, -0.5]}],
            "usage": {"prompt_tokens": 2, "total_tokens": 2}}  # fmt: skip


def responses(talk: Talk) -> Any:
    return {
        "id": "resp_1", "object": "response", "model": "gpt-5", "status": "completed", "instructions": talk(),
        "previous_response_id": "resp_0", "prompt": {"id": "pmpt_1", "variables": {"who": talk()}},
        "input": [{"role": "user", "content": talk()},
                  {"type": "function_call_output", "call_id": "call_1", "output": talk()}],
        "output": [{"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": talk()}],
                    "encrypted_content": talk.name()},
                   {"type": "function_call", "id": "fc_1", "call_id": "call_2", "name": "search",
                    "arguments": talk(), "status": "completed"},
                   {"type": "web_search_call", "id": "ws_1", "action": {"type": "search", "query": talk(),
                    "queries": [talk()]}},
                   {"type": "message", "id": "msg_1", "role": "assistant", "content": [
                       {"type": "output_text", "text": talk(), "annotations": []}]}],
        "usage": {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12},
        "error": {"code": "server_error", "message": talk()},
    }  # fmt: skip


def anthropic(talk: Talk) -> Any:
    return {
        "model": "claude-x", "max_tokens": 9, "system": [{"type": "text", "text": talk(),
                                                          "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png",
                                                                      "data": talk.name()}},
                                         {"type": "document", "title": talk(), "context": talk(), "source": {
                                             "type": "text", "media_type": "text/plain", "data": talk()}}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": talk(), "signature": talk.name()},
                {"type": "tool_use", "id": "toolu_1", "name": "search",
                 "input": {"name": talk.name(), "id": talk.name(), "type": talk.name(), talk.name(): 4, "n": 123456789,
                           "deep": [{"model": talk.name(), "role": talk.name(), "number": [1, {"status": 5}]}]}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": talk()}]}],
        "stop_sequences": [talk.name()],
        "id": "msg_1", "type": "message", "role": "assistant", "stop_reason": "stop_sequence",
        "stop_sequence": talk.name(), "usage": {"input_tokens": 5, "output_tokens": 7},
    }  # fmt: skip


def gemini(talk: Talk) -> Any:
    return {
        "systemInstruction": {"parts": [{"text": talk()}]},
        "contents": [{"role": "user", "parts": [{"text": talk()}, {"inlineData": {"mimeType": "image/png",
                                                                                   "data": talk.name()}}]},
                     {"role": "model", "parts": [{"functionCall": {"name": "find", "args": {
                         "id": talk.name(), "type": talk.name(), talk.name(): talk.name(), "n": 4}},
                         "thoughtSignature": talk.name()}]},
                     {"role": "user", "parts": [{"functionResponse": {"name": "find", "response": {
                         "name": talk.name(), "status": talk.name(), "result": [talk(), 4]}}}]}],
        "candidates": [{"content": {"role": "model", "parts": [{"text": talk(), "thought": True}]}, "index": 0,
                        "finishReason": "STOP", "safetyRatings": [{"category": "HARM_CATEGORY_X",
                                                                   "probability": "LOW"}],
                        "groundingMetadata": {"webSearchQueries": [talk()]}}],
        "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 6}, "modelVersion": "gemini-x",
        "responseId": "r-1",
    }  # fmt: skip


def bedrock(talk: Talk) -> Any:
    return {
        "system": [{"text": talk()}],
        "messages": [{"role": "user", "content": [{"text": talk()}, {"toolResult": {"toolUseId": "tu_1", "content": [
            {"json": {"type": talk.name(), "n": 4}}], "status": "success"}}]}],
        "output": {"message": {"role": "assistant", "content": [{"toolUse": {"toolUseId": "tu_1", "name": "find",
                                                                              "input": {"id": talk.name()}}}]}},
        "stopReason": "tool_use", "usage": {"inputTokens": 4, "outputTokens": 6, "totalTokens": 10},
        "metrics": {"latencyMs": 12},
    }  # fmt: skip


def ollama(talk: Talk) -> Any:
    return {"model": "llama:8b", "prompt": talk(), "system": talk(), "context": talk.numbers(), "response": talk(),
            "message": {"role": "assistant", "content": talk(), "images": [talk.name()], "tool_calls": [
                {"function": {"name": "find", "arguments": {"name": talk.name(), "n": 4}}}]},
            "done": True, "done_reason": "stop", "total_duration": 12, "prompt_eval_count": 3,
            "eval_count": 4}  # fmt: skip


def unknown(talk: Talk) -> Any:
    return {"frobnicate": {"model": "x-1", "blurbs": [[talk()], {"of": {"what": talk()}}, [[talk()]]]},
            talk(): talk(), "n": 4, "deep": json.loads("[" * 40 + json.dumps(talk()) + "]" * 40),
            "nothing": None, "empty": "", "usage": {"prompt_tokens": 3, "total_tokens": 3}}  # fmt: skip


BODIES: dict[str, Callable[[Talk], Any]] = {
    function.__name__: function
    for function in (
        openai_request,
        openai_answer,
        completions,
        embeddings,
        responses,
        anthropic,
        gemini,
        bedrock,
        ollama,
        unknown,
    )
}


def post(body: bytes | None, *headers: tuple[bytes, bytes], path: str = "/v1/chat/completions") -> RequestHead:
    return RequestHead("POST", "https://api.openai.com" + path, list(headers), body=body)


def exchanged(desk: Desk, request: bytes, answer: bytes, *headers: tuple[bytes, bytes]) -> list[dict[str, Any]]:
    exchange = desk.exchange()
    exchange.begin(post(request, *headers))
    exchange.response(2 * NS, ResponseHead(200, "OK", list(headers)))
    exchange.chunk(3 * NS, answer)
    exchange.end(4 * NS, "complete")
    return desk.records()


def told(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records without what tells moments and lengths."""
    clean = []
    for record in records:
        metadata = {
            name: value
            for name, value in record["metadata"].items()
            if name not in {"truncated", "wire_length", "chunk_bytes", "process"}
        }
        if record["direction"].endswith("_end"):
            record = {**record, "payload": None}
        clean.append({
            name: value for name, value in {**record, "metadata": metadata}.items()
            if not name.startswith("timestamp") and name not in {"content_length", "session_id"}
        })  # fmt: skip
    return clean


def dumped(value: Any, rng: random.Random) -> bytes:
    indent = rng.choice([None, None, 1])
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5, indent=indent)
    return text.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("mode", ["on", "headers-only", "off"])
@pytest.mark.parametrize("name", BODIES)
def test_bodies_keep_their_structure_and_nothing_of_what_was_said(name: str, mode: str) -> None:
    for seed in range(3):
        rng = random.Random(f"{name} {mode} {seed}")
        talk = Talk(rng)
        said = BODIES[name](talk), BODIES[name](talk)
        desk = Desk(capture_redact_prompts=True, capture_redaction=mode, capture_allow_secrets=True)
        records = exchanged(desk, dumped(said[0], rng), dumped(said[1], rng), JSON)
        assert_nothing_said(records, talk)
        assert [record["content_type"] for record in records] == ["json", "json"]
        for value, record in zip(said, records, strict=True):
            written = record["payload"]
            if name == "unknown":  # a name that is a text is masked, too
                written = {key: member for key, member in written.items() if key != MARK}
                value = {key: member for key, member in value.items() if key not in talk.said}
            assert_same_structure(value, written)
            assert record["metadata"]["redactions"]["prompt"] > 0


@pytest.mark.parametrize("name", BODIES)
def test_what_is_written_does_not_depend_on_what_was_said(name: str) -> None:
    written = []
    for seed in range(3):
        talk = Talk(random.Random(seed))
        body = json.dumps(BODIES[name](talk)).encode()
        records = exchanged(Desk(capture_redact_prompts=True), body, body, JSON)
        written.append(told(records))
    assert written[0] == written[1] == written[2]


@pytest.mark.parametrize("name", BODIES)
def test_bodies_that_are_cut_off_or_too_long_keep_nothing_of_what_was_said(name: str) -> None:
    rng = random.Random(name)
    talk = Talk(rng)
    for number in range(24):
        body = dumped(BODIES[name](talk), rng)
        cut = rng.randrange(1, len(body))
        if number % 3 == 0:
            records = exchanged(Desk(capture_redact_prompts=True), body[:cut], body[:cut], JSON)
        elif number % 3 == 1:
            desk = Desk(capture_redact_prompts=True, capture_max_payload_bytes=cut)
            records = exchanged(desk, body * 2, body * 2, JSON)
        else:
            packed = gzip.compress(body)
            gzipped = (b"content-encoding", b"gzip")
            desk = Desk(capture_redact_prompts=True, capture_max_payload_bytes=cut)
            records = exchanged(desk, packed, packed, JSON, gzipped)
        assert_nothing_said(records, talk)


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain", "text/html", "application/octet-stream", "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=b", "audio/mpeg", "application/json", "", "application/xml",
    ],
)  # fmt: skip
def test_a_body_that_is_no_json_is_masked_whole(content_type: str) -> None:
    rng = random.Random(content_type)
    talk = Talk(rng)
    for wrap in (
        "{}",
        "id: {}",
        "event: {}\ndata: {}",
        "[{}",
        '{"id": "{}',
        "a=1&prompt={}",
        '--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n{}\r\n--b--',
        "\xff{}",
    ):
        for tail in (b"", b"\xff\xfe"):
            body = wrap.replace("{}", talk.name() if ":" in wrap else talk()).encode() + tail
            desk = Desk(capture_redact_prompts=True)
            records = exchanged(desk, body, body, (b"content-type", content_type.encode()))
            assert_nothing_said(records, talk)
            request = records[0]
            assert request["payload"] == MARK
            assert request["metadata"]["redactions"] == {"prompt": 1}
            assert request["content_length"] == len(body)


def test_names_of_people_and_files_are_content_and_those_of_tools_are_not() -> None:
    talk = Talk(random.Random(8))
    body = {
        "name": talk.name(), "before": talk.name(), "after": talk.name(), "detail": talk.name(),
        "messages": [{"role": "user", "name": talk.name(), "blood_type": talk.name(), "refusal_reason": talk.name()}],
        "file": {"name": talk.name()}, "document": {"name": talk.name(), "format": "pdf"},
        "tools": [{"name": "find", "input_schema": {"properties": {"name": {"type": "string",
                                                                            "default": talk.name()}}}}],
        "tool_choice": {"type": "tool", "name": "find"},
    }  # fmt: skip
    records = exchanged(Desk(capture_redact_prompts=True), json.dumps(body).encode(), b"{}", JSON)
    assert_nothing_said(records, talk)
    payload = records[0]["payload"]
    assert (payload["tools"][0]["name"], payload["tool_choice"]["name"]) == ("find", "find")
    assert payload["document"]["format"] == "pdf"


def test_a_text_or_number_that_is_a_whole_json_document_is_masked() -> None:
    talk = Talk(random.Random(1))
    for body in (json.dumps(talk()), json.dumps([talk(), talk()]), "4915112345678", "[4915112345678, 77]"):
        records = exchanged(Desk(capture_redact_prompts=True), body.encode(), body.encode(), JSON)
        assert_nothing_said(records, talk)
        assert "49151" not in json.dumps([record["payload"] for record in records])


def test_urls_and_errors_keep_nothing_of_what_was_said() -> None:
    talk = Talk(random.Random(2))
    desk = Desk(capture_redact_prompts=True)
    exchange = desk.exchange()
    said = talk.name()
    url = f"https://api.openai.com/v1/search?q={said}&alt=sse&prompt={said}+{said}&{said}&limit=3#{said}"
    exchange.begin(RequestHead("GET", url, [(b"referer", url.encode())], body=b"", redirect_of=None))
    exchange.response(2 * NS, ResponseHead(302, talk(), [(b"location", url.encode())]))
    exchange.end(3 * NS, "error", ErrorInfo("ValueError", f"cannot parse {talk()} of {url}"))
    records = desk.records()
    assert_nothing_said(records, talk)
    assert "alt=sse" in records[0]["metadata"]["url"]
    assert "limit=3" in records[0]["metadata"]["url"]
    assert records[-1]["metadata"]["error"] == {"type": "ValueError", "message": MARK}


# -- streams ---------------------------------------------------------------------------------------------------------

Event = Callable[[Talk, random.Random], bytes]


def sse(value: Any, rng: random.Random, name: str = "") -> bytes:
    end = rng.choice(["\n", "\n", "\r\n"])
    head = f"event: {name}{end}" if name else ""
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    return f"{head}data: {text}{end}{end}".encode("utf-8", "surrogatepass")


def chat_event(talk: Talk, rng: random.Random) -> bytes:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "find", "arguments": talk()}}
    delta = rng.choice([{"role": "assistant", "content": ""}, {"content": talk()}, {"tool_calls": [call]},
                        {"reasoning_content": talk()}])  # fmt: skip
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-5", "choices": [
        {"index": 0, "delta": delta, "finish_reason": rng.choice([None, "stop"])}],
        "obfuscation": talk.name()}  # fmt: skip
    return sse(chunk, rng) + rng.choice([b"", b": ping\n\n", b"data: [DONE]\n\n"])


def responses_event(talk: Talk, rng: random.Random) -> bytes:
    kind = rng.choice(["response.output_text.delta", "response.function_call_arguments.delta"])
    value = {"type": kind, "sequence_number": 3, "item_id": "item_1", "output_index": 0, "delta": talk(),
             "logprobs": [{"token": talk(), "logprob": -0.5, "bytes": talk.numbers()}]}  # fmt: skip
    return sse(value, rng, kind)


def anthropic_event(talk: Talk, rng: random.Random) -> bytes:
    delta = rng.choice([{"type": "text_delta", "text": talk()}, {"type": "input_json_delta", "partial_json": talk()},
                        {"type": "thinking_delta", "thinking": talk()}])  # fmt: skip
    return sse({"type": "content_block_delta", "index": 0, "delta": delta}, rng, "content_block_delta")


def gemini_event(talk: Talk, rng: random.Random) -> bytes:
    part = rng.choice([{"text": talk()}, {"functionCall": {"name": "find", "args": {"id": talk.name(), "n": [4]}}}])
    return sse({"candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}],
                "usageMetadata": {"promptTokenCount": 4}}, rng)  # fmt: skip


def text_event(talk: Talk, rng: random.Random) -> bytes:
    text = talk().replace("\r", "").replace("\n\n", "\n")
    return "".join(f"{rng.choice(['data: ', 'data:'])}{line}\n" for line in text.split("\n")).encode() + b"\n"


def broken_event(talk: Talk, rng: random.Random) -> bytes:
    """What no parser takes, and comments and fields that nobody knows."""
    whole = chat_event(talk, rng)
    cut = rng.randrange(1, len(whole))
    said = talk().replace("\r", " ").replace("\n", " ")
    return rng.choice([
        whole[:cut] + b"\n\n",
        whole[cut:] + b"\n\n", f": {said}\n\n".encode(), f"id: {said}\n{said}: {said}\n\n".encode(),
        f"event: {said}\ndata: {{'a': {said}}}\n\n".encode(), f'data: {{"id": {said}, "n": 1}}\n\n'.encode(),
    ])  # fmt: skip


def pretty_event(talk: Talk, rng: random.Random) -> bytes:
    lines = json.dumps({"type": "x.y", "index": 0, "what": [talk(), {"of": talk()}]}, indent=1).split("\n")
    return "".join(f"data: {line}\n" for line in lines).encode() + b"\n"


def ndjson(talk: Talk, rng: random.Random) -> bytes:
    return (
        json.dumps({"model": "llama", "message": {"role": "assistant", "content": talk()}, "done": False}).encode()
        + b"\n"
    )


def array_element(talk: Talk, rng: random.Random) -> bytes:
    candidate = {"index": 0, "content": {"role": "model", "parts": [{"text": talk()}]}}
    return b"," + json.dumps({"candidates": [candidate]}, indent=2).encode() + b"\r\n"


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    packed = b"".join(
        bytes([len(name)]) + name.encode() + b"\7" + struct.pack("!H", len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    head = struct.pack("!II", 16 + len(packed) + len(payload), len(packed))
    head += struct.pack("!I", zlib.crc32(head))
    return (message := head + packed + payload) + struct.pack("!I", zlib.crc32(message))


def converse(talk: Talk, rng: random.Random) -> bytes:
    event = {
        "contentBlockIndex": 0,
        "delta": rng.choice([{"text": talk()}, {"toolUse": {"input": talk()}}]),
        "p": "abcd",
    }
    return frame({":event-type": "contentBlockDelta", ":message-type": "event"}, json.dumps(event).encode())


def invoked(talk: Talk, rng: random.Random) -> bytes:
    if rng.random() < 0.2:
        return frame({":message-type": "error", ":error-message": talk()}, b"")
    inner = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": talk()}}
    inner_bytes = rng.choice([json.dumps(inner), talk()]).encode()
    return frame({":event-type": "chunk"}, json.dumps({"bytes": base64.b64encode(inner_bytes).decode()}).encode())


def raw_text(talk: Talk, rng: random.Random) -> bytes:
    return talk().encode()


STREAMS: dict[str, tuple[tuple[bytes, bytes], Event]] = {
    "chat": (SSE, chat_event), "responses": (SSE, responses_event), "anthropic": (SSE, anthropic_event),
    "gemini": (SSE, gemini_event), "text in events": (SSE, text_event), "damaged events": (SSE, broken_event),
    "documents on several lines": (SSE, pretty_event),
    "ndjson": (NDJSON, ndjson), "array": ((b"content-type", b"application/json"), array_element),
    "text as ndjson": (NDJSON, raw_text), "converse": (AWS, converse), "invoke": (AWS, invoked),
    "text as frames": (AWS, raw_text), "unknown": ((b"content-type", b"text/plain"), raw_text),
    "events of no type": ((b"x-a", b"b"), chat_event), "text of no type": ((b"x-a", b"b"), raw_text),
    "text as events": (SSE, raw_text), "text as json": ((b"content-type", b"application/json"), raw_text),
}  # fmt: skip


def streamed(
    desk: Desk, content_type: tuple[bytes, bytes], parts: list[bytes], rng: random.Random
) -> list[dict[str, Any]]:
    exchange = desk.exchange()
    exchange.begin(post(b'{"model":"m-1","stream":true}', JSON))
    exchange.response(2 * NS, ResponseHead(200, "OK", [content_type]))
    for number, part in enumerate(parts):
        exchange.chunk(3 * NS + number * 1000, part)
        if rng.random() < 0.3:
            for event in desk.events:
                desk.process.recorder.feed(event)
            desk.events.clear()
            desk.process.recorder.tick(3 * NS + number * 1000)
    exchange.end(5 * NS, "complete")
    return desk.records()


def cut_up(data: bytes, rng: random.Random) -> list[bytes]:
    count = rng.choice([0, 3, 20, 60])
    places = sorted(rng.randrange(len(data) + 1) for _ in range(count))
    if rng.random() < 0.15:
        places = list(range(len(data)))
    return [data[a:b] for a, b in itertools.pairwise([0, *places, len(data)])]


@pytest.mark.parametrize("name", STREAMS)
def test_streams_keep_chunks_and_moments_and_nothing_of_what_was_said(name: str) -> None:
    content_type, event = STREAMS[name]
    for seed in range(6):
        rng = random.Random(f"{name} {seed}")
        talk = Talk(rng)
        data = b"".join(event(talk, rng) for _ in range(rng.randint(1, 5)))
        if name == "array":
            data = b"[" + data[1:] + b"]"
        parts = cut_up(data, rng)
        mode = rng.choice(["on", "headers-only", "off"])
        plain = streamed(Desk(), content_type, parts, random.Random(seed))
        desk = Desk(capture_redact_prompts=True, capture_redaction=mode, capture_allow_secrets=True)
        records = streamed(desk, content_type, parts, random.Random(seed))
        assert_nothing_said(records, talk)
        assert "withheld" not in json.dumps(records)
        for one, other in zip(plain, records, strict=True):
            for field in ("direction", "content_length", "model"):
                assert one[field] == other[field]
            for field in ("chunk_number", "chunk_bytes"):
                assert one["metadata"].get(field) == other["metadata"].get(field)
        since = [[record["timestamp_unix"] - some[0]["timestamp_unix"] for record in some] for some in (plain, records)]
        assert since[0] == pytest.approx(since[1], abs=2e-6)


def payload_of(records: list[dict[str, Any]]) -> bytes:
    chunks = [record for record in records if record["direction"] == "stream_chunk"]
    return b"".join(
        base64.b64decode(c["payload"]["data"]) if c["content_type"] == "bytes" else (c["payload"] or "").encode()
        for c in chunks
    )


@pytest.mark.parametrize("name", STREAMS)
def test_what_the_chunks_of_a_stream_say_together_does_not_depend_on_its_cuts(name: str) -> None:
    content_type, event = STREAMS[name]
    for seed in range(3):
        rng = random.Random(f"{name} {seed}")
        talk = Talk(rng)
        data = b"".join(event(talk, rng) for _ in range(3))
        made = [
            payload_of(streamed(Desk(capture_redact_prompts=True), content_type, parts, rng))
            for parts in ([data], cut_up(data, rng), cut_up(data, rng), [data[i : i + 1] for i in range(len(data))])
        ]
        assert made[0] == made[1] == made[2] == made[3]


@pytest.mark.parametrize("name", ["chat", "responses", "anthropic", "gemini", "ndjson"])
def test_events_keep_their_structure(name: str) -> None:
    content_type, event = STREAMS[name]
    for seed in range(8):
        rng = random.Random(f"{name} {seed}")
        talk = Talk(rng)
        data = b"".join(event(talk, rng) for _ in range(4))
        written = payload_of(streamed(Desk(capture_redact_prompts=True), content_type, cut_up(data, rng), rng))
        for one, other in zip(data.split(b"\n"), written.split(b"\n"), strict=True):
            start = 0 if name == "ndjson" else 6
            if one[start : start + 1] == b"{":
                assert_same_structure(json.loads(one[start:]), json.loads(other[start:]))
            elif not one.startswith(b":"):
                assert one == other


def test_frames_of_masked_aws_streams_are_valid_and_have_the_structure_of_those_that_came() -> None:
    for seed in range(20):
        rng = random.Random(seed)
        talk = Talk(rng)
        data = b"".join(converse(talk, rng) for _ in range(3))
        written = payload_of(streamed(Desk(capture_redact_prompts=True), AWS, cut_up(data, rng), rng))
        count = 0
        while written:
            total, headers, checksum = struct.unpack_from("!III", written)
            assert checksum == zlib.crc32(written[:8])
            assert struct.unpack_from("!I", written, total - 4)[0] == zlib.crc32(written[: total - 4])
            document = json.loads(written[12 + headers : total - 4])
            assert document["contentBlockIndex"] == 0
            assert list(document) == ["contentBlockIndex", "delta", "p"]
            written, count = written[total:], count + 1
        assert count == 3


def test_the_assembled_message_has_its_structure_and_usage_and_one_marker_for_each_text() -> None:
    rng = random.Random(3)
    talk = Talk(rng)
    chunks = [{"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-5",
               "choices": [{"index": 0, "delta": {"role": "assistant", "content": talk()}}]}
              for _ in range(4)]  # fmt: skip
    last = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "model": "gpt-5",
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4},
    }
    data = b"".join(sse(chunk, rng) for chunk in [*chunks, last]) + b"data: [DONE]\n\n"
    records = streamed(Desk(capture_redact_prompts=True), SSE, cut_up(data, rng), rng)
    assert_nothing_said(records, talk)
    message = records[-1]["payload"]
    assert records[-1]["metadata"]["assembled"]
    assert message["choices"][0]["message"] == {"role": "assistant", "content": MARK}
    assert message["choices"][0]["finish_reason"] == "stop"
    assert message["usage"] == {"prompt_tokens": 3, "completion_tokens": 4}


def test_an_error_event_keeps_its_type_and_not_its_message() -> None:
    rng = random.Random(4)
    talk = Talk(rng)
    data = sse({"error": {"message": talk(), "type": "server_error", "code": "overloaded"}}, rng, "error")
    records = streamed(Desk(capture_redact_prompts=True), SSE, cut_up(data, rng), rng)
    assert_nothing_said(records, talk)
    error = next(r["metadata"]["error"] for r in records if "error" in r["metadata"])
    assert (error["message"], error["provider_type"], error["provider_code"]) == (MARK, "server_error", "overloaded")


# -- websockets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["on", "off"])
@pytest.mark.parametrize("seed", range(12))
def test_messages_of_websockets_keep_their_number_and_structure_and_nothing_of_what_was_said(
    seed: int, mode: str
) -> None:
    rng = random.Random(seed)
    talk = Talk(rng)
    desk = Desk(capture_redact_prompts=True, capture_redaction=mode, capture_allow_secrets=True)
    exchange = desk.exchange()
    exchange.begin(RequestHead("GET", "wss://api.openai.com/v1/realtime?model=gpt-5", [], body=b"", websocket=True))
    exchange.response(NS, ResponseHead(101, "Switching Protocols", []))
    documents: dict[int, Any] = {}
    for number in range(1, 10):
        asker = rng.random() < 0.5
        value = {"type": "response.output_text.delta", "item_id": "item_1", "output_index": 0, "delta": talk()}
        data = rng.choice([json.dumps(value), talk(), talk().encode() + b"\xff", json.dumps(value).encode(), "",
                           "4915112345", f"id: {talk.name()}", f"data: {talk()}"])  # fmt: skip
        if isinstance(data, str) and data[:1] == "{" and data[1:2] == '"' and data.endswith("}"):
            documents[number] = value
        opcode = 1 if isinstance(data, str) else 2
        cut = rng.randrange(len(data) + 1)
        if rng.random() < 0.3:
            exchange.message(NS + number, WebsocketMessage(asker, opcode, data[:cut], 1, final=False))
            exchange.message(NS + number, WebsocketMessage(asker, opcode, data[cut:], 2, final=True))
        else:
            exchange.message(NS + number, WebsocketMessage(asker, opcode, data, 1, final=True))
    exchange.message(2 * NS, WebsocketMessage(True, 1, talk(), 1, final=False))
    exchange.end(3 * NS, "complete", close=WebsocketClose(1011, talk(), True))
    records = desk.records()
    assert_nothing_said(records, talk)
    assert "4915112345" not in json.dumps(records)
    messages = [record for record in records if record["direction"] == "websocket_message"]
    assert [record["metadata"]["message_number"] for record in messages] == list(range(1, 11))
    for number, value in documents.items():
        assert_same_structure(value, json.loads(messages[number - 1]["payload"]))
    assert "model=gpt-5" in records[0]["metadata"]["url"]


def test_secrets_beside_the_content_are_masked_as_ever() -> None:
    talk = Talk(random.Random(5))
    key = "sk-proj-" + random.Random(6).randbytes(24).hex()
    desk = Desk(capture_redact_prompts=True)
    exchange = desk.exchange()
    body = json.dumps({"model": key, "id": key, "messages": [{"role": "user", "content": talk() + key}]}).encode()
    exchange.begin(post(body, JSON, (b"authorization", b"Bearer " + key.encode())))
    exchange.response(2 * NS, ResponseHead(200, "OK", [JSON]))
    exchange.chunk(2 * NS, b"{}")
    exchange.end(3 * NS, "complete")
    records = desk.records()
    assert key[8:] not in json.dumps(records)
    assert records[0]["payload"]["model"] == MARK
    assert_nothing_said(records, talk)


def test_without_the_setting_everything_is_as_it_was() -> None:
    talk = Talk(random.Random(7))
    said = openai_answer(talk)
    assert exchanged(Desk(), json.dumps(said).encode(), b"{}", JSON)[0]["payload"] == said
