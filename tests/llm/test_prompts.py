"""What requests of different protocols ask for is the same where a translation is right, and each loss is named."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from conversations import IMAGE, PDF, PROTOCOLS, Json, changed, edited

from otel_wirecap.llm.prompts import Request, common_answer, common_requests
from otel_wirecap.llm.schemas import common_schema
from otel_wirecap.reading.diff import body_differences

PAIRS = list(itertools.permutations(PROTOCOLS, 2))


def found(before: Request, after: Request) -> list[tuple[str, str]]:
    common = common_requests(before, after)
    assert common is not None
    return [(one.kind, one.path) for one in body_differences(*common)]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_a_right_translation_has_no_difference(one, other):
    assert found(PROTOCOLS[one](), PROTOCOLS[other]()) == []


def results(body: Json, *, image: bool) -> None:
    """Takes the second image, or the first tool's result, out of a request."""
    gone = []
    for holder in lists(body):
        for part in holder:
            text = str(part)
            is_image = IMAGE in text and "parts" not in text and "content" not in text and "output" not in text
            if is_image if image else "sunny" in text and "Rain" not in text and text.count("sunny") == 1:
                gone.append((holder, part))
    holder, part = gone[-1]
    holder.remove(part)


def lists(value: Any):
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from lists(inner)
    if isinstance(value, list):
        yield value


def drop(*names: str):
    def change(body: Json) -> None:
        for holder in (body, body.get("generationConfig", {}), body.get("inferenceConfig", {}), body.get("text", {})):
            for name in names:
                holder.pop(name, None)

    return change


def without_system(body: Json) -> None:
    drop("system", "instructions", "systemInstruction")(body)
    if body.get("messages"):
        body["messages"] = [one for one in body["messages"] if one["role"] != "system"]


def without_tool(body: Json) -> None:
    held = body.get("toolConfig", {}).get("tools") or body["tools"]
    (held[0].get("functionDeclarations") or held).pop()


LOSSES = {
    "the image of a tool's result": (lambda body: results(body, image=True), ("dropped", "messages[2].media")),
    "the system prompt": (without_system, ("dropped", "system")),
    "a tool": (without_tool, ("dropped", "tools.forecast")),
    "the temperature": (drop("temperature"), ("dropped", "parameters.temperature")),
    "stop": (drop("stop", "stop_sequences", "stopSequences"), ("dropped", "parameters.stop")),
    "the limit": (
        drop("max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens", "maxTokens"),
        ("dropped", "parameters.max_tokens"),
    ),
    "the thinking": (drop("thinking", "reasoning_effort", "reasoning", "thinkingConfig"),
                     ("dropped", "parameters.thinking")),
    "the form of the answer": (
        drop("response_format", "output_config", "format", "responseMimeType", "responseSchema"),
        ("dropped", "parameters.response_format"),
    ),
}  # fmt: skip
HAS_NOT = {
    ("openai-responses", "stop"), ("bedrock", "the thinking"), ("bedrock", "the form of the answer"),
}  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("one", "other"), PAIRS)
@pytest.mark.sampled(40, rest="thorough")
def test_a_loss_is_named(one, other, loss):
    change, expected = LOSSES[loss]
    if {(one, loss), (other, loss)} & HAS_NOT:
        assert found(PROTOCOLS[one](), PROTOCOLS[other]()) == []
        return
    assert found(PROTOCOLS[one](), changed(PROTOCOLS[other](), change)) == [expected]


EDITS = {
    "a result": ("sunny", "sunn", ("changed", "messages[2].tool_results[0]")),
    "a result in JSON": ("rain", "snow", ("changed", "messages[2].tool_results[1].tomorrow")),
    "an argument": ("Ulm", "Bonn", ("changed", "messages[1].tool_calls[0].arguments.city")),
    "a text": ("And now?", "And?", ("changed", "messages[2].text")),
    "the system": ("Be kind.", "Be rude.", ("changed", "system")),
    "a document": (PDF, PDF[::-1], ("changed", "messages[0].media[1].sha256")),
    "a description": ("Days.", "Day.", ("changed", "tools.forecast.description")),
    "a schema": ("Where.", "When.", ("changed", "tools.weather.schema.properties.city.description")),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize(("one", "other"), PAIRS)
@pytest.mark.sampled(40, rest="thorough")
def test_a_change_is_named(one, other, edit):
    before, after, expected = EDITS[edit]
    told = found(PROTOCOLS[one](), edited(PROTOCOLS[other](), lambda text: text.replace(before, after)))
    rest = ("changed", "parameters.response_format.properties.city.description")
    assert [difference for difference in told if difference != rest] == [expected]


ANSWERS: dict[str, Json] = {
    "anthropic": {
        "type": "message", "role": "assistant", "model": "m", "stop_reason": "tool_use",
        "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Let me "},
                    {"type": "text", "text": "see."},
                    {"type": "tool_use", "id": "t", "name": "weather", "input": {"city": "Ulm"}}],
        "usage": {"input_tokens": 6, "cache_read_input_tokens": 4, "cache_creation_input_tokens": 0,
                  "output_tokens": 5},
    },
    "openai-chat": {
        "object": "chat.completion", "model": "m", "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
            "role": "assistant", "content": "Let me see.", "refusal": None, "tool_calls": [
                {"id": "t", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Ulm"}'}}]}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}},
    },
    "openai-responses": {
        "object": "response", "model": "m", "status": "completed", "output": [
            {"type": "reasoning", "summary": []},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]},
            {"type": "function_call", "call_id": "t", "name": "weather", "arguments": '{"city": "Ulm"}'}],
        "usage": {"input_tokens": 10, "output_tokens": 5, "input_tokens_details": {"cached_tokens": 4}},
    },
    "gemini": {
        "modelVersion": "m", "candidates": [{"finishReason": "STOP", "content": {"role": "model", "parts": [
            {"text": "Hm.", "thought": True}, {"text": "Let me see."},
            {"functionCall": {"name": "weather", "args": {"city": "Ulm"}}, "thoughtSignature": "c2ln"}]}}],
        "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 5, "cachedContentTokenCount": 4},
    },
}  # fmt: skip


@pytest.mark.parametrize(("one", "other"), list(itertools.permutations(ANSWERS, 2)))
def test_a_right_translation_of_an_answer_has_no_difference(one, other):
    before, after = common_answer(ANSWERS[one]), common_answer(ANSWERS[other])
    assert before["choices"][0]["tool_calls"] == [{"name": "weather", "arguments": {"city": "Ulm"}}]
    assert body_differences(before, after) == []


@pytest.mark.parametrize("name", ANSWERS)
def test_what_an_answer_loses_is_named(name):
    for loss, expected in (("Ulm", "tool_calls[0].arguments.city"), ("Let me see.", "text"), ("see.", "text")):
        text = json.dumps(ANSWERS[name]).replace(loss, "")
        if text != json.dumps(ANSWERS[name]):
            (one,) = body_differences(common_answer(ANSWERS["openai-chat"]), common_answer(json.loads(text)))
            assert (one.kind, one.path) == ("changed", f"choices[0].{expected}")


def test_a_stream_of_gemini_without_sse_is_one_answer():
    events = [
        {"modelVersion": "m", "candidates": [{"content": {"role": "model", "parts": [{"text": "Let "}]}}]},
        {"candidates": [{"content": {"role": "model", "parts": [{"text": "me."}]}, "finishReason": "MAX_TOKENS"}]},
    ]
    assert common_answer(events)["choices"] == [{"text": "Let me.", "finish": "length"}]


def conversation(path: str, **body: Any) -> Request:
    return Request(path, "", {"model": "m", "max_tokens": 5} | body)


def test_an_image_that_the_gateway_fetched_is_the_same_and_one_that_it_left_out_is_named():
    shown = {"type": "image", "source": {"type": "url", "url": "https://example.com/cat.png"}}
    before = conversation("/v1/messages", messages=[{"role": "user", "content": [shown]}])
    inline = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{IMAGE}"}}
    linked = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
    other = {"type": "image_url", "image_url": {"url": "https://example.com/dog.png"}}
    told = {}
    for name, parts in {"fetched": [inline], "linked": [linked], "other": [other], "none": ["?"]}.items():
        after = conversation("/v1/chat/completions", messages=[{"role": "user", "content": parts}])
        told[name] = found(before, after)
    assert told["fetched"] == told["linked"] == []
    assert told["other"] == [("changed", "messages[0].media[0].url")]
    assert ("dropped", "messages[0].media") in told["none"]


def chat(*messages: Json, **body: Any) -> Request:
    return conversation("/v1/chat/completions", messages=list(messages) or [{"role": "user", "content": "x"}], **body)


def claude(*messages: Json, **body: Any) -> Request:
    return conversation("/v1/messages", messages=list(messages) or [{"role": "user", "content": "x"}], **body)


def gemini(*contents: Json, config: Json | None = None, **body: Any) -> Request:
    turns = list(contents) or [{"role": "user", "parts": [{"text": "x"}]}]
    told = {"contents": turns, "generationConfig": {"maxOutputTokens": 5} | (config or {})}
    return Request("/v1beta/models/m:generateContent", "", told | body)


def unlimited(request: Request) -> Request:
    return request._replace(body={name: value for name, value in request.body.items() if name != "max_tokens"})


SHOWN = {"role": "user", "content": [{"type": "image_url", "image_url": "data:image/png;base64,+//+IQ=="}]}
ALIKE = {
    "a limit that Anthropic requires": (unlimited(chat()), claude()),
    "the usual choice of tools": (chat(tool_choice="auto"), claude()),
    "one choice": (chat(n=1), gemini()),
    "a search": (claude(tools=[{"type": "web_search_20250305", "name": "web_search"}]), gemini(
        tools=[{"googleSearch": {}}])),
    "a search by an option": (chat(web_search_options={}), gemini(tools=[{"google_search": {}}])),
    "JSON for Anthropic, which has no such form": (chat(response_format={"type": "json_object"}), claude()),
    "JSON": (chat(response_format={"type": "json_object"}), gemini(config={"responseMimeType": "application/json"})),
    "data in other digits": (
        chat(SHOWN), gemini({"parts": [{"inlineData": {"mimeType": "image/png", "data": "-__-IQ"}}]})),
    "a part with nothing but a signature": (
        chat({"role": "assistant", "content": "x"}),
        gemini({"role": "model", "parts": [{"text": "x"}, {"text": "", "thoughtSignature": "c2ln"}]},
               {"role": "model", "parts": [{"thoughtSignature": "c2ln"}]})),
    "empty texts": (
        chat({"role": "system", "content": ""}, {"role": "assistant", "content": ""}, {"role": "user", "content": "x"}),
        claude(system=[{"type": "text", "text": ""}])),
    "the order of what is required": (
        chat(tools=[{"type": "function", "function": {
            "name": "f", "parameters": {"type": "object", "required": ["a", "b"]}}}]),
        claude(tools=[{"name": "f", "input_schema": {"type": "object", "required": ["b", "a"]}}])),
    "one named tool": (
        chat(tool_choice={"type": "function", "function": {"name": "f"}}),
        gemini(toolConfig={"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}})),
    "one call at a time": (
        chat(parallel_tool_calls=False), claude(tool_choice={"type": "auto", "disable_parallel_tool_use": True})),
    "messages of one side after another": (
        chat({"role": "user", "content": "x"}, {"role": "user", "content": "y"}),
        claude({"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}]})),
    "a function's result, as it was before tools": (
        chat({"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": ""}},
             {"role": "function", "name": "f", "content": "5"}),
        gemini({"role": "model", "parts": [{"functionCall": {"name": "f"}}]},
               {"role": "function", "parts": [{"functionResponse": {"name": "f", "response": {"result": 5}}}]})),
    "thinking that is off": (claude(thinking={"type": "disabled"}), chat(reasoning_effort="none")),
    "a document that is text": (
        claude({"role": "user", "content": [{"type": "document", "source": {"type": "text", "data": "x"}}]}), chat()),
}  # fmt: skip
UNLIKE = {
    "JSON": (chat(response_format={"type": "json_object"}), gemini(), "parameters.response_format"),
    "a named tool": (chat(tool_choice={"type": "function", "function": {"name": "f"}}), claude(tool_choice={
        "type": "any"}), "parameters.tool_choice"),
    "no tool": (chat(tool_choice="none"), claude(), "parameters.tool_choice"),
    "several choices": (chat(n=2), gemini(), "parameters.n"),
    "a seed": (chat(seed=1), gemini(), "parameters.seed"),
    "top_k": (claude(top_k=5), gemini(), "parameters.top_k"),
    "calls at a time": (claude(tool_choice={"type": "auto", "disable_parallel_tool_use": True}), chat(),
                        "parameters.parallel_tool_calls"),
    "what a tool was called with": (
        chat({"role": "assistant", "tool_calls": [{"type": "custom", "custom": {"name": "f", "input": "a"}}]}),
        claude({"role": "assistant", "content": [{"type": "tool_use", "name": "f", "input": "b"}]}),
        "messages[0].tool_calls[0].arguments"),
    "a kind of part that is not known": (
        claude({"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "search_result", "content": []}]}),
        chat(), "messages[0].parts"),
    "what is shown in a result in parts": (
        gemini({"parts": [{"functionResponse": {"name": "f", "response": {"output": "x"}, "parts": [
            {"inlineData": {"mimeType": "audio/wav", "data": IMAGE}}]}}]}),
        chat({"role": "tool", "content": "x"}), "messages[0].media"),
}  # fmt: skip


@pytest.mark.parametrize("name", ALIKE)
def test_what_says_the_same_in_other_words_is_the_same(name):
    one, other = ALIKE[name]
    assert found(one, other) == []
    if "requires" not in name:
        assert found(other, one) == []


@pytest.mark.parametrize("name", UNLIKE)
def test_what_is_lost_or_changed_is_named_alone(name):
    one, other, path = UNLIKE[name]
    assert [place for _, place in found(one, other)] == [path]
    assert [place for _, place in found(other, one)] == [path]


SPELLINGS: dict[str, list[Json]] = {
    "null": [{"type": ["string", "null"]}, {"anyOf": [{"type": "string"}, {"type": "null"}]},
             {"type": "STRING", "nullable": True}],
    "a reference": [{"$ref": "#/$defs/B", "$defs": {"B": {"type": "string"}}}, {"type": "string"}],
    "one value": [{"const": "x"}, {"enum": ["x"]}],
    "nothing": [{"type": "object", "properties": {}}, {"type": "object", "required": []}, {}],
    "strict": [{"type": "object", "properties": {"title": {"type": "string"}}},
               {"type": "object", "additionalProperties": False, "title": "T", "$schema": "s",
                "properties": {"title": {"type": "string", "default": None, "format": "uri"}}}],
}  # fmt: skip


@pytest.mark.parametrize("name", SPELLINGS)
def test_schemas_that_say_the_same_are_the_same(name):
    first, *others = map(common_schema, SPELLINGS[name])
    assert all(one == first for one in others)
    assert name == "nothing" or first


def test_a_schema_that_refers_to_itself_is_followed_once():
    schema = {"properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}}
    assert common_schema(schema)["properties"].keys() == {"a", "b"}
    assert common_schema(schema)["properties"]["a"]["properties"] == schema["properties"]


def test_references_that_make_a_schema_grow_without_bound_are_followed_so_far_only():
    names = [f"d{number}" for number in range(40)]
    definitions = {
        name: {"properties": {side: {"$ref": f"#/$defs/{other}"} for side in "ab"}}
        for name, other in itertools.pairwise(names)
    }
    assert common_schema({"$ref": "#/$defs/d0", "$defs": definitions})["properties"].keys() == {"a", "b"}
