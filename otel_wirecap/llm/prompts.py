"""What requests and answers of different protocols have in common: messages, tools by name, parameters, the end.

Known are OpenAI's chat (and whoever speaks like it) and its responses, Anthropic, Gemini and Bedrock's converse.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from otel_wirecap.llm.answers import answered_model, usage_of
from otel_wirecap.llm.dialects.interface import Json
from otel_wirecap.llm.dialects.openai_responses import parts_of
from otel_wirecap.llm.dialects.registry import answer_dialect, conversation_dialect, ours
from otel_wirecap.llm.requests import asks_for_stream, requested_model
from otel_wirecap.llm.text import json_or_text

_STOP = ("stop", "stop_sequences", "stopSequences")
_ROLES = {"developer": "system", "model": "assistant", "function": "tool"}
_KINDS = {"image_url": "image", "input_image": "image", "inlineData": "image", "fileData": "file", "input_file": "file"}
_NOT_SAID = frozenset({"thinking", "redacted_thinking", "reasoning", "reasoningContent", "cachePoint"})
_FINISHES = {
    "end_turn": "stop", "stop_sequence": "stop", "completed": "stop", "max_tokens": "length",
    "max_output_tokens": "length", "tool_use": "tool_calls", "refusal": "content_filter", "safety": "content_filter",
    "guardrail_intervened": "content_filter", "incomplete": "length",
}  # fmt: skip


def request_protocol(path: str, body: object) -> str | None:
    """The protocol of a request.

    Args:
        path: the URL's path.
        body: its parsed body.

    Returns:
        The name of a dialect; None where it is no request for a conversation's next message.
    """
    dialect = conversation_dialect(path, body)
    return None if dialect is None else dialect.name


def answer_protocol(body: object) -> str | None:
    """The protocol of an answer's parsed body; None where it is not known, as with errors."""
    if isinstance(body, list):
        return answer_protocol(body[0]) if body else None
    dialect = answer_dialect(body)
    return None if dialect is None else dialect.name


def common_request(path: str, query: str, body: Json) -> Json:
    """What a request asks for, in the same shape for all protocols.

    Args:
        path: the URL's path.
        query: the URL's query.
        body: the parsed body, of a protocol that ``request_protocol`` knows.

    Returns:
        ``model``, ``messages`` (each ``role`` and ``text``, and if it has any ``tool_calls``, other ``parts``),
        ``tools`` (name to ``description`` and ``schema``), ``parameters``. Ids of tool calls, what the model thought,
        and marks for caches are not common and left out.
    """
    return {
        "model": requested_model(path, body),
        "messages": _joined([*_system(body), *_messages(body)]),
        "tools": dict(_tool(tool) for tool in _tools(body)),
        "parameters": _parameters(path, query, body),
    }


def common_answer(body: Any) -> Json:
    """What an answer says, in the same shape for all protocols.

    Args:
        body: the parsed body; of a stream the assembled message.

    Returns:
        ``model``, ``choices`` (each ``text``, ``finish``, and if it has any ``tool_calls``), ``usage``, and of an error
        its ``error``.
    """
    usage = usage_of(body)
    answer = body if isinstance(body, dict) else body[-1] if isinstance(body, list) and body else {}
    told: Json = {"model": answered_model(body), "choices": []}
    if usage is not None:
        told["usage"] = {"input": usage.input, "output": usage.output, "cached": usage.cached}
    if not isinstance(answer, dict):
        return told
    for message, finish in _choices(body if isinstance(body, list) else [answer]):
        said = list(_split("assistant", message))
        choice: Json = {"text": "\n".join(one["text"] for one in said if one["text"])}
        calls = [call for one in said for call in one.get("tool_calls", ())]
        if calls:
            choice["tool_calls"] = calls
        name = str(finish or "").lower()
        choice["finish"] = _FINISHES.get(name, name) or None
        if calls and choice["finish"] == "stop":
            choice["finish"] = "tool_calls"
        told["choices"].append(choice)
    error = answer.get("error")
    if error:
        told["error"] = str(error.get("message", error)) if isinstance(error, dict) else str(error)
    return told


def _choices(answers: list[Any]) -> Iterator[tuple[Any, Any]]:
    """The message and the reason of the end of each choice."""
    for answer in answers:
        dialect = answer_dialect(answer)
        if dialect is not None:
            yield from dialect.choices(answer)


# -- messages ----------------------------------------------------------------------------------------


def _system(body: Json) -> Iterator[Json]:
    for name in ours.system_members:
        if body.get(name):
            value = body[name]
            yield from _split("system", value if _is_object(value) else {"content": value})


def _messages(body: Json) -> Iterator[Json]:
    turns: Any = next((body[name] for name in ours.turn_members if name in body), [])
    for turn in [turns] if isinstance(turns, str | dict) else _list(turns):
        if isinstance(turn, str):
            yield {"role": "user", "text": turn}
        elif isinstance(turn, dict):
            kind = turn.get("type")
            role = turn.get("role") or ("assistant" if kind in ("function_call", "reasoning") else "user")
            yield from _split(role, {"content": parts_of(turn)} if kind and kind != "message" else turn)


def _split(role: Any, message: Any) -> Iterator[Json]:
    """A message's own words and calls, and each result of a tool in it as a message of its own."""
    role = _ROLES.get(role, role) if isinstance(role, str) else ""
    texts: list[str] = []
    calls: list[Json] = []
    others: list[str] = []
    message = message if _is_object(message) else {}
    content = message.get("content", message.get("parts"))
    for part in [content] if isinstance(content, str | dict) else _list(content):
        result = _result(part)
        if result is not None:
            yield {"role": "tool", "text": result}
            continue
        call = _call(part)
        if call is not None:
            calls.append(call)
        elif isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict) and not part.get("thought"):
            if isinstance(part.get("text"), str):
                texts.append(part["text"])
            else:
                kind = str(part.get("type") or next(iter(part), ""))
                if kind not in _NOT_SAID:
                    others.append(_KINDS.get(kind, kind))
    calls += [call for call in map(_call, _list(message.get("tool_calls"))) if call is not None]
    if not (texts or calls or others) and role == "user" and content:
        return  # it was results of tools only
    told: Json = {"role": role, "text": "\n".join(texts)}
    if calls:
        told["tool_calls"] = calls
    if others:
        told["parts"] = others
    yield told


def _result(part: Any) -> str | None:
    """The text of a tool's result; None where the part is none."""
    if not isinstance(part, dict):
        return None
    holder = part.get("functionResponse") or part.get("toolResult")
    if part.get("type") == "tool_result":
        content = part.get("content", "")
    elif part.get("type") == "function_call_output":
        content = part.get("output", "")
    elif isinstance(holder, dict):
        content = holder.get("content", holder.get("response", ""))
    else:
        return None
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [one.get("text") for one in content if isinstance(one, dict)]
        return "\n".join(text for text in texts if isinstance(text, str))
    return orjson.dumps(content).decode()


def _call(part: Any) -> Json | None:
    """A call of a tool, its name and arguments; None where the part is none."""
    if not isinstance(part, dict):
        return None
    function = part.get("function") or part.get("functionCall") or part.get("toolUse")
    if isinstance(function, dict):
        given = next((function[name] for name in ("arguments", "args", "input") if name in function), None)
        return {"name": function.get("name"), "arguments": _parsed(given)}
    if part.get("type") in ("tool_use", "function_call"):
        return {"name": part.get("name"), "arguments": _parsed(part.get("input", part.get("arguments")))}
    return None


def _joined(messages: list[Json]) -> list[Json]:
    """System messages that follow one another are one: some protocols have room for one only."""
    joined: list[Json] = []
    for message in messages:
        if joined and message["role"] == joined[-1]["role"] == "system":
            joined[-1] = joined[-1] | {"text": f"{joined[-1]['text']}\n{message['text']}"}
        else:
            joined.append(message)
    return joined


# -- tools and parameters ----------------------------------------------------------------------------


def _tools(body: Json) -> Iterator[Json]:
    config = body.get("toolConfig")
    listed = _list(body.get("tools")) or (_list(config.get("tools")) if isinstance(config, dict) else [])
    for tool in filter(_is_object, listed):
        declared = tool.get("functionDeclarations") or tool.get("function_declarations")
        yield from filter(_is_object, declared if isinstance(declared, list) else [tool])


def _tool(tool: Json) -> tuple[str, Json]:
    inner = next((tool[name] for name in ("function", "toolSpec") if _is_object(tool.get(name))), tool)
    names = ("input_schema", "parameters", "inputSchema", "parametersJsonSchema")
    schema = next((inner[name] for name in names if name in inner), None)
    if isinstance(schema, dict) and "inputSchema" in inner:
        schema = schema.get("json", schema)
    name = inner.get("name") or inner.get("type") or next(iter(inner), "")
    return str(name), {"description": inner.get("description"), "schema": _lower_types(schema)}


def _lower_types(schema: Any, depth: int = 0) -> Any:
    """Gemini spells a schema's types in capitals."""
    if depth > 100:
        return schema
    if isinstance(schema, list):
        return [_lower_types(one, depth + 1) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: value.lower() if key == "type" and isinstance(value, str) else _lower_types(value, depth + 1)
        for key, value in schema.items()
    }


def _parameters(path: str, query: str, body: Json) -> Json:
    config = body.get("generationConfig") or body.get("generation_config") or body.get("inferenceConfig")
    holder = body | config if isinstance(config, dict) else body
    stop = next((holder[name] for name in _STOP if holder.get(name)), None)
    found = {
        "temperature": holder.get("temperature"),
        "top_p": holder.get("top_p", holder.get("topP")),
        "max_tokens": next((holder[name] for name in ours.max_tokens_members if holder.get(name) is not None), None),
        "stop": [stop] if isinstance(stop, str) else stop,
        "tool_choice": _tool_choice(body),
    }
    told = {name: value for name, value in found.items() if value is not None}
    return told | {"stream": asks_for_stream(path, query, body)}


def _tool_choice(body: Json) -> str | None:
    choice = body.get("tool_choice")
    config = body.get("toolConfig")
    if choice is None and isinstance(config, dict):
        calling = config.get("functionCallingConfig")
        choice = calling.get("mode") if isinstance(calling, dict) else config.get("toolChoice")
    if isinstance(choice, dict):
        inner = choice.get("function") or choice.get("tool")
        choice = (
            (inner if isinstance(inner, dict) else choice).get("name") or choice.get("type") or next(iter(choice), None)
        )
    if not isinstance(choice, str):
        return None
    return {"any": "required", "ANY": "required", "AUTO": "auto", "NONE": "none"}.get(choice, choice)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _parsed(value: Any) -> Any:
    return json_or_text(value) if isinstance(value, str) else value
