"""One request in the words of each protocol, as a right translation has it, written by their references."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from typing import Any

from otel_wirecap.llm.prompts import Request

Json = dict[str, Any]
IMAGE, PDF, SOUND = (base64.b64encode(text).decode() for text in (b"an image of a cat", b"a document", b"a sound"))
SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "description": "Where."}}, "required": ["city"]}
NESTED = {
    "type": "object",
    "properties": {"days": {"type": "integer"}, "unit": {"type": "string", "enum": ["C", "F"]},
                   "at": {"type": "array", "items": {"type": "object", "properties": {"lat": {"type": "number"}}}}},
}  # fmt: skip


def anthropic() -> Request:
    return Request("/v1/messages", "", {
        "model": "m", "max_tokens": 100, "temperature": 0.5, "top_p": 0.9, "stop_sequences": ["END", "STOP"],
        "system": [{"type": "text", "text": "Be brief."},
                   {"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
        "thinking": {"type": "enabled", "budget_tokens": 2048},
        "tool_choice": {"type": "any"},
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
        "tools": [{"name": "weather", "description": "The weather.", "input_schema": SCHEMA},
                  {"name": "forecast", "description": "Days.", "input_schema": NESTED,
                   "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": IMAGE}},
                {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
                {"type": "text", "text": "Let me see."},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Ulm"}},
                {"type": "tool_use", "id": "t2", "name": "forecast", "input": {"days": 2, "at": []}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [
                    {"type": "text", "text": "sunny"},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": IMAGE}}]},
                {"type": "tool_result", "tool_use_id": "t2", "content": '{"tomorrow": "rain"}'},
                {"type": "text", "text": "And now?"}]},
            {"role": "assistant", "content": "Rain."},
            {"role": "user", "content": "Thanks."},
        ],
    })  # fmt: skip


def chat() -> Request:
    image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{IMAGE}"}}
    return Request("/v1/chat/completions", "", {
        "model": "m", "max_completion_tokens": 100, "temperature": 0.5, "top_p": 0.9, "stop": ["END", "STOP"],
        "reasoning_effort": "low", "tool_choice": "required",
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA, "strict": True}},
        "tools": [
            {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": SCHEMA}},
            {"type": "function", "function": {"name": "forecast", "description": "Days.", "parameters": NESTED}},
        ],
        "messages": [
            {"role": "system", "content": "Be brief.\n\nBe kind."},
            {"role": "user", "content": [
                {"type": "text", "text": "What is this?"}, image,
                {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}}]},
            {"role": "assistant", "content": "Let me see.", "reasoning_content": "Hm.", "tool_calls": [
                {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Ulm"}'}},
                {"id": "t2", "type": "function", "function": {"name": "forecast",
                                                              "arguments": '{"at": [], "days": 2}'}}]},
            {"role": "tool", "tool_call_id": "t1", "content": "sunny"},
            {"role": "tool", "tool_call_id": "t2", "content": '{"tomorrow":"rain"}'},
            {"role": "user", "content": [image, {"type": "text", "text": "And now?"}]},
            {"role": "assistant", "content": "Rain."},
            {"role": "user", "content": "Thanks."},
        ],
    })  # fmt: skip


def responses() -> Request:
    return Request("/v1/responses", "", {
        "model": "m", "max_output_tokens": 100, "temperature": 0.5, "top_p": 0.9,
        "reasoning": {"effort": "low"}, "tool_choice": "required", "instructions": "Be brief.\n\nBe kind.",
        "text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA, "strict": True}},
        "tools": [{"type": "function", "name": "weather", "description": "The weather.", "parameters": SCHEMA},
                  {"type": "function", "name": "forecast", "description": "Days.", "strict": False,
                   "parameters": NESTED | {"additionalProperties": False}}],
        "input": [
            {"role": "user", "content": [
                {"type": "input_text", "text": "What is this?"},
                {"type": "input_image", "image_url": f"data:image/png;base64,{IMAGE}", "detail": "auto"},
                {"type": "input_file", "filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}]},
            {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "Hm."}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me see."}]},
            {"type": "function_call", "call_id": "t1", "name": "weather", "arguments": '{"city":"Ulm"}'},
            {"type": "function_call", "call_id": "t2", "name": "forecast", "arguments": '{"days":2,"at":[]}'},
            {"type": "function_call_output", "call_id": "t1", "output": [
                {"type": "input_text", "text": "sunny"},
                {"type": "input_image", "image_url": f"data:image/png;base64,{IMAGE}"}]},
            {"type": "function_call_output", "call_id": "t2", "output": '{"tomorrow": "rain"}'},
            {"role": "user", "content": "And now?"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Rain."}]},
            {"role": "user", "content": "Thanks."},
        ],
    })  # fmt: skip


def gemini() -> Request:
    def typed(schema: Any) -> Any:
        if not isinstance(schema, dict):
            return [typed(one) for one in schema] if isinstance(schema, list) else schema
        kinds = {"type": schema["type"].upper()} if isinstance(schema.get("type"), str) else {}
        return {key: typed(value) for key, value in schema.items()} | kinds

    return Request("/v1beta/models/m:generateContent", "", {
        "systemInstruction": {"parts": [{"text": "Be brief."}, {"text": "Be kind."}]},
        "generationConfig": {
            "maxOutputTokens": 100, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END", "STOP"],
            "thinkingConfig": {"thinkingBudget": 2048, "includeThoughts": True},
            "responseMimeType": "application/json", "responseSchema": typed(SCHEMA),
        },
        "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
        "tools": [{"functionDeclarations": [
            {"name": "weather", "description": "The weather.", "parameters": typed(SCHEMA)},
            {"name": "forecast", "description": "Days.", "parameters": typed(NESTED)}]}],
        "contents": [
            {"role": "user", "parts": [{"text": "What is this?"},
                                       {"inlineData": {"mimeType": "image/png", "data": IMAGE}},
                                       {"inline_data": {"mime_type": "application/pdf", "data": PDF}}]},
            {"role": "model", "parts": [
                {"text": "Hm.", "thought": True}, {"text": "Let me see."},
                {"functionCall": {"name": "weather", "args": {"city": "Ulm"}}, "thoughtSignature": "c2ln"},
                {"functionCall": {"name": "forecast", "args": {"days": 2, "at": []}}}]},
            {"role": "user", "parts": [
                {"functionResponse": {"name": "weather", "response": {"output": "sunny"}}},
                {"inlineData": {"mimeType": "image/png", "data": IMAGE}},
                {"functionResponse": {"name": "forecast", "response": {"tomorrow": "rain"}}},
                {"text": "And now?"}]},
            {"role": "model", "parts": [{"text": "Rain."}]},
            {"role": "user", "parts": [{"text": "Thanks."}]},
        ],
    })  # fmt: skip


def bedrock() -> Request:
    image = {"image": {"format": "png", "source": {"bytes": IMAGE}}}
    return Request("/model/m/converse", "", {
        "system": [{"text": "Be brief."}, {"text": "Be kind."}, {"cachePoint": {"type": "default"}}],
        "inferenceConfig": {"maxTokens": 100, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END", "STOP"]},
        "toolConfig": {"toolChoice": {"any": {}}, "tools": [
            {"toolSpec": {"name": "weather", "description": "The weather.", "inputSchema": {"json": SCHEMA}}},
            {"toolSpec": {"name": "forecast", "description": "Days.", "inputSchema": {"json": NESTED}}}]},
        "messages": [
            {"role": "user", "content": [
                {"text": "What is this?"}, image,
                {"document": {"format": "pdf", "name": "a", "source": {"bytes": PDF}}}]},
            {"role": "assistant", "content": [
                {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "c2ln"}}},
                {"text": "Let me see."},
                {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Ulm"}}},
                {"toolUse": {"toolUseId": "t2", "name": "forecast", "input": {"days": 2, "at": []}}}]},
            {"role": "user", "content": [
                {"toolResult": {"toolUseId": "t1", "content": [{"text": "sunny"}, image]}},
                {"toolResult": {"toolUseId": "t2", "content": [{"json": {"tomorrow": "rain"}}]}},
                {"text": "And now?"}]},
            {"role": "assistant", "content": [{"text": "Rain."}]},
            {"role": "user", "content": [{"text": "Thanks."}]},
        ],
    })  # fmt: skip


PROTOCOLS: dict[str, Callable[[], Request]] = {
    "anthropic": anthropic, "openai-chat": chat, "openai-responses": responses, "gemini": gemini, "bedrock": bedrock,
}  # fmt: skip


def edited(request: Request, edit: Callable[[str], str]) -> Request:
    """The request with the JSON text of its body edited."""
    before = json.dumps(request.body)
    after = edit(before)
    assert after != before
    return request._replace(body=json.loads(after))


def changed(request: Request, change: Callable[[Json], object]) -> Request:
    """The request with its body changed in place."""
    body = copy.deepcopy(request.body)
    change(body)
    assert body != request.body
    return request._replace(body=body)
