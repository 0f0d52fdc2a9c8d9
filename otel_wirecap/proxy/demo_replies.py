"""Canned replies in the shapes of four LLM APIs: OpenAI chat and responses, Anthropic messages, Gemini.

Pure: bodies and events come out as values and bytes; nothing waits here. Shapes: the providers' public API
references; their own SDKs parse them.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import TYPE_CHECKING, Any

from otel_wirecap.proxy.provider_errors import anthropic_error, gemini_error, openai_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otel_wirecap.proxy.provider_errors import Body

CREATED = 1_767_225_600
"""The moment that all replies claim to be made at: 2026-01-01T00:00:00Z."""

REQUEST_ID: Body = {"request_id": "req_demo"}
"""What Anthropic's errors say beside the error."""

PIECES = (
    *("Zażółć", " gęślą", " jaźń:", " every", " byte", " of", " 漢字", " and", " 🙂"),
    *(" arrives", " as", " it", " was", " sent."),
)
"""Text in two, three and four bytes a character."""

TOOL_VALUES: Mapping[str, Any] = {"integer": 3, "number": 21.5, "boolean": True, "array": [], "object": {}}


@dataclasses.dataclass(frozen=True, slots=True)
class Tool:
    """A tool call that a reply makes: the tool's name and its arguments."""

    name: str
    arguments: Body

    @classmethod
    def of(cls, name: str, schema: object) -> Tool:
        """A call of the tool ``name`` with a value for each property of its JSON schema."""
        properties = schema.get("properties") if isinstance(schema, dict) else None
        arguments = {
            key: TOOL_VALUES.get(str(value.get("type", "string")).lower(), "Kraków")
            for key, value in (properties or {}).items()
            if isinstance(value, dict)
        }
        return cls(name, arguments)

    @property
    def json(self) -> str:
        """The arguments as a JSON text."""
        return _json(self.arguments)


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """What a reply says, whatever the API.

    Attributes:
        model: the model's name.
        id: the part of the reply's id that is its own.
        input_tokens: of the request.
        pieces: the text, as it is streamed; ignored where a tool is called.
        tool: the tool call, if any.
        breaks: whether the stream ends in a provider's error.
    """

    model: str
    id: str
    input_tokens: int
    pieces: tuple[str, ...] = PIECES
    tool: Tool | None = None
    breaks: bool = False

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.pieces)

    @property
    def output_tokens(self) -> int:
        """Tokens of the reply."""
        return 18 if self.tool is not None else len(self.pieces)

    @property
    def total_tokens(self) -> int:
        """Tokens of request and reply."""
        return self.input_tokens + self.output_tokens

    @property
    def streamed_pieces(self) -> tuple[str, ...]:
        """The pieces that are streamed before the stream ends or breaks."""
        return self.pieces[:4] if self.breaks else self.pieces


# -- OpenAI chat completions -------------------------------------------------------------------------


def chat_completion(reply: Reply) -> Body:
    """An OpenAI chat completion."""
    message: Body = {"role": "assistant", "content": reply.text, "refusal": None, "annotations": []}
    if reply.tool is not None:
        message |= {"content": None, "tool_calls": [_chat_tool_call(reply, reply.tool.json)]}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish_reason(reply)}
    return {**_chat_head(reply, "chat.completion"), "choices": [choice], "usage": _chat_usage(reply)}


def chat_events(reply: Reply, *, include_usage: bool) -> Iterator[bytes]:
    """The same, streamed. ``include_usage``: what ``stream_options.include_usage`` asks for."""
    head = _chat_head(reply, "chat.completion.chunk") | ({"usage": None} if include_usage else {})

    def chunk(delta: Body, finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _data({**head, "choices": [choice]})

    if reply.tool is not None:
        call = _chat_tool_call(reply, "")
        yield chunk({"role": "assistant", "content": None, "tool_calls": [{"index": 0, **call}]})
        for part in _halves(reply.tool.json):
            yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": part}}]})
    else:
        yield chunk({"role": "assistant", "content": "", "refusal": None})
        for piece in reply.streamed_pieces:
            yield chunk({"content": piece})
    if reply.breaks:
        yield _data(openai_error("The server had an error while processing your request.", "server_error"))
        return
    yield chunk({}, _finish_reason(reply))
    if include_usage:
        yield _data({**head, "choices": [], "usage": _chat_usage(reply)})
    yield b"data: [DONE]\n\n"


def _chat_head(reply: Reply, kind: str) -> Body:
    return {
        "id": f"chatcmpl-{reply.id}",
        "object": kind,
        "created": CREATED,
        "model": reply.model,
        "service_tier": "default",
        "system_fingerprint": "fp_demo",
    }


def _chat_tool_call(reply: Reply, arguments: str) -> Body:
    name = reply.tool.name if reply.tool is not None else ""
    return {
        "id": f"call_{reply.id}",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def _chat_usage(reply: Reply) -> Body:
    return {
        "prompt_tokens": reply.input_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": reply.total_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def _finish_reason(reply: Reply) -> str:
    return "stop" if reply.tool is None else "tool_calls"


# -- OpenAI responses --------------------------------------------------------------------------------


def response(reply: Reply) -> Body:
    """An OpenAI response."""
    return _response(reply, "completed", [_response_item(reply, done=True)])


def response_events(reply: Reply) -> Iterator[bytes]:
    """The same, streamed."""
    numbers = itertools.count()

    def event(kind: str, **fields: Any) -> bytes:
        return _event(kind, {"type": kind, "sequence_number": next(numbers), **fields})

    started = _response(reply, "in_progress", [])
    yield event("response.created", response=started)
    yield event("response.in_progress", response=started)
    item = _response_item(reply, done=False)
    place = {"item_id": item["id"], "output_index": 0}
    yield event("response.output_item.added", output_index=0, item=item)
    if reply.tool is not None:
        for part in _halves(reply.tool.json):
            yield event("response.function_call_arguments.delta", **place, delta=part)
        yield event("response.function_call_arguments.done", **place, name=reply.tool.name, arguments=reply.tool.json)
    else:
        place["content_index"] = 0
        yield event("response.content_part.added", **place, part=_response_part(""))
        for piece in reply.streamed_pieces:
            yield event("response.output_text.delta", **place, delta=piece, logprobs=[])
        if reply.breaks:
            yield event("error", code="server_error", message="The server had an error.", param=None)
            return
        yield event("response.output_text.done", **place, text=reply.text, logprobs=[])
        yield event("response.content_part.done", **place, part=_response_part(reply.text))
    yield event("response.output_item.done", output_index=0, item=_response_item(reply, done=True))
    yield event("response.completed", response=response(reply))


def _response(reply: Reply, status: str, output: list[Body]) -> Body:
    usage = {
        "input_tokens": reply.input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": reply.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": reply.total_tokens,
    }
    return {
        "id": f"resp_{reply.id}",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "model": reply.model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage if status == "completed" else None,
    }


def _response_item(reply: Reply, *, done: bool) -> Body:
    status = "completed" if done else "in_progress"
    if reply.tool is not None:
        return {
            "id": f"fc_{reply.id}",
            "type": "function_call",
            "status": status,
            "call_id": f"call_{reply.id}",
            "name": reply.tool.name,
            "arguments": reply.tool.json if done else "",
        }
    content = [_response_part(reply.text)] if done else []
    return {
        "id": f"msg_{reply.id}",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def _response_part(text: str) -> Body:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


# -- Anthropic messages ------------------------------------------------------------------------------


def message(reply: Reply) -> Body:
    """An Anthropic message."""
    block: Body = {"type": "text", "text": reply.text}
    if reply.tool is not None:
        block = _tool_use(reply, reply.tool, reply.tool.arguments)
    usage = {**_message_usage(reply), "output_tokens": reply.output_tokens}
    return _message_head(reply) | {"content": [block], "stop_reason": _stop_reason(reply), "usage": usage}


def message_events(reply: Reply) -> Iterator[bytes]:
    """The same, streamed."""

    def event(kind: str, **fields: Any) -> bytes:
        return _event(kind, {"type": kind, **fields})

    yield event("message_start", message=_message_head(reply))
    if reply.tool is not None:
        yield event("content_block_start", index=0, content_block=_tool_use(reply, reply.tool, {}))
        for part in _halves(reply.tool.json):
            yield event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": part})
    else:
        yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        yield event("ping")
        for piece in reply.streamed_pieces:
            yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
    if reply.breaks:
        yield _event("error", anthropic_error("Overloaded", "overloaded_error") | REQUEST_ID)
        return
    yield event("content_block_stop", index=0)
    yield event(
        "message_delta",
        delta={"stop_reason": _stop_reason(reply), "stop_sequence": None},
        usage={"output_tokens": reply.output_tokens},
    )
    yield event("message_stop")


def _message_head(reply: Reply) -> Body:
    return {
        "id": f"msg_{reply.id}",
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _message_usage(reply),
    }


def _message_usage(reply: Reply) -> Body:
    return {
        "input_tokens": reply.input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 1,
    }


def _tool_use(reply: Reply, tool: Tool, arguments: Body) -> Body:
    return {"type": "tool_use", "id": f"toolu_{reply.id}", "name": tool.name, "input": arguments}


def _stop_reason(reply: Reply) -> str:
    return "end_turn" if reply.tool is None else "tool_use"


# -- Gemini ------------------------------------------------------------------------------------------


def generated_content(reply: Reply) -> Body:
    """A Gemini generateContent response."""
    if reply.tool is not None:
        return _generated(reply, _function_call(reply.tool), finished=True)
    return _generated(reply, {"text": reply.text}, finished=True)


def generated_parts(reply: Reply) -> Iterator[Body]:
    """The responses that streamGenerateContent answers with, one after the other."""
    if reply.tool is not None:
        yield _generated(reply, _function_call(reply.tool), finished=True)
        return
    pieces = reply.streamed_pieces
    for number, piece in enumerate(pieces, 1):
        yield _generated(reply, {"text": piece}, finished=number == len(pieces) and not reply.breaks)
    if reply.breaks:
        yield gemini_error(503, "The model is overloaded.", "UNAVAILABLE")


def gemini_event(body: Body) -> bytes:
    """A Gemini server-sent event; this provider ends lines with CR LF."""
    return b"data: " + _json(body).encode() + b"\r\n\r\n"


def _generated(reply: Reply, part: Body, *, finished: bool) -> Body:
    candidate: Body = {"content": {"parts": [part], "role": "model"}, "index": 0}
    usage = {"promptTokenCount": reply.input_tokens, "totalTokenCount": reply.input_tokens}
    if finished:
        candidate["finishReason"] = "STOP"
        usage = {
            "promptTokenCount": reply.input_tokens,
            "candidatesTokenCount": reply.output_tokens,
            "totalTokenCount": reply.total_tokens,
        }
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": reply.model,
        "responseId": reply.id,
    }


def _function_call(tool: Tool) -> Body:
    return {"functionCall": {"name": tool.name, "args": tool.arguments}}


# -- shared ------------------------------------------------------------------------------------------


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _data(body: Body) -> bytes:
    return b"data: " + _json(body).encode() + b"\n\n"


def _event(kind: str, body: Body) -> bytes:
    return b"event: " + kind.encode() + b"\n" + _data(body)


def _halves(text: str) -> tuple[str, str]:
    middle = len(text) // 2
    return text[:middle], text[middle:]
