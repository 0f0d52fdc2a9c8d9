"""The client of the demonstration: a dozen exchanges with the proxy, some concurrent, some failing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx2

QUESTION = "Does every byte arrive as it was sent? Zażółć gęślą jaźń 漢字 🙂"
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "The city"}, "days": {"type": "integer"}},
    "required": ["city"],
}
CHUNKS_UNTIL_HANG_UP = 12
SECONDS = 30.0


class DemoRequest(NamedTuple):
    """One request of the demonstration.

    Attributes:
        what: what it demonstrates.
        path: path at the proxy; may begin with ``/to/`` and a backend's name.
        body: JSON.
        hangs_up: whether the client disconnects in the middle of the response.
    """

    what: str
    path: str
    body: dict[str, Any]
    hangs_up: bool = False


async def drive(proxy: str, say: Callable[[str], None]) -> None:
    """Sends all requests and reports the result of each.

    Args:
        proxy: its URL.
        say: called with each line of progress.
    """
    headers = {"user-agent": "otel-wirecap-demo/1.0", "x-session-id": "demo-conversation"}
    async with httpx2.AsyncClient(base_url=proxy, headers=headers, timeout=SECONDS, trust_env=False) as client:
        for steps in _rounds():
            for told in await asyncio.gather(*(_take(client, step) for step in steps)):
                say(told)


async def _take(client: httpx2.AsyncClient, step: DemoRequest) -> str:
    chunks = 0
    try:
        async with client.stream("POST", step.path, json=step.body) as response:
            async for _ in response.aiter_raw():
                chunks += 1
                if step.hangs_up and chunks == CHUNKS_UNTIL_HANG_UP:
                    break
    except httpx2.HTTPError as error:
        return f"{step.what}: {type(error).__name__}"
    return f"{step.what}: {response.status_code}, {chunks} chunk{'' if chunks == 1 else 's'}"


def _rounds() -> tuple[tuple[DemoRequest, ...], ...]:
    """Returns the requests; those of one round are sent concurrently."""
    chat, messages, gemini = "/v1/chat/completions", "/to/anthropic/v1/messages", "/to/gemini/v1beta/models/"
    contents = {"contents": [{"role": "user", "parts": [{"text": QUESTION}]}]}
    usage = {"stream_options": {"include_usage": True}}
    chat_tool = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}
    message_tool = {"name": "get_weather", "input_schema": PARAMETERS}
    return (
        (DemoRequest("a chat completion", chat, _chat("demo-small")),),
        (
            DemoRequest("a streamed chat completion", chat, _chat("demo-small", stream=True, **usage)),
            DemoRequest("a streamed Anthropic message", messages, _message("demo-large", stream=True)),
            DemoRequest(
                "a streamed Gemini response",
                gemini + "demo-large:streamGenerateContent?alt=sse",
                contents,
            ),
            DemoRequest(
                "a streamed OpenAI response",
                "/v1/responses",
                {"model": "demo-large", "input": QUESTION, "stream": True},
            ),
        ),
        (
            DemoRequest("an Anthropic message", messages, _message("demo-small")),
            DemoRequest("a Gemini response", gemini + "demo-small:generateContent", contents),
            DemoRequest("an OpenAI response", "/v1/responses", {"model": "demo-small", "input": QUESTION}),
        ),
        (
            DemoRequest("a tool call", chat, _chat("demo-small", tools=[chat_tool])),
            DemoRequest("a streamed tool call", messages, _message("demo-small", stream=True, tools=[message_tool])),
        ),
        (
            DemoRequest("a rate limit", chat, _chat("demo-rate-limited")),
            DemoRequest("an error in mid-stream", messages, _message("demo-overloaded-stream", stream=True)),
            DemoRequest("a client that hangs up", chat, _chat("demo-endless", stream=True), hangs_up=True),
        ),
    )


def _chat(model: str, **further: Any) -> dict[str, Any]:
    system = {"role": "system", "content": "You are exact."}
    return {"model": model, "messages": [system, {"role": "user", "content": QUESTION}], **further}


def _message(model: str, **further: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": QUESTION}]
    return {"model": model, "max_tokens": 200, "system": "You are exact.", "messages": messages, **further}
