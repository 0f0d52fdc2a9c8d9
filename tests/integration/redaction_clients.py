"""A program: the vendors' SDKs ask through a proxy, with secrets in what they send, and tell what they received.

``python redaction_clients.py PLAN.json``: the plan names the proxies, the keys and the words; what every call received
goes to ``received`` of the plan. Last the proxy is an application of this process, instrumented, and its spans and what
was logged go to the files that the plan names.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

Received = dict[str, str]
Plan = dict[str, Any]


def joined(parts: list[tuple[str, str | None]]) -> Received:
    """The texts of each kind, one after the other."""
    received: Received = {}
    for kind, text in parts:
        received[kind] = received.get(kind, "") + (text or "")
    return received


def tool(plan: Plan) -> dict[str, Any]:
    return {
        "name": "look_up",
        "description": f"Looks up. Sign in with {plan['tool']} first.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    }


# -- OpenAI ------------------------------------------------------------------------------------------------------------


def openai_options(plan: Plan, url: str) -> dict[str, Any]:
    return {"api_key": plan["keys"]["openai"], "base_url": f"{url}/to/openai/v1", "default_headers": plan["headers"]}


def chat_request(plan: Plan) -> dict[str, Any]:
    messages = [{"role": "user", "content": plan["prompt"]}]
    return {"model": "m", "messages": messages, "tools": [{"type": "function", "function": tool(plan)}]}


def of_chat(message: Any) -> Received:
    parts = [("text", message.content), ("thought", getattr(message, "reasoning_content", None))]
    return joined(parts + [("arguments", call.function.arguments) for call in message.tool_calls or ()])


def of_chunk(chunk: Any) -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = []
    for choice in chunk.choices:
        found += [("text", choice.delta.content), ("thought", getattr(choice.delta, "reasoning_content", None))]
        found += [("arguments", call.function.arguments) for call in choice.delta.tool_calls or ()]
    return found


RESPONSE_DELTAS = {
    "response.output_text.delta": "text",
    "response.reasoning_summary_text.delta": "thought",
    "response.function_call_arguments.delta": "arguments",
}


def responses_request(plan: Plan) -> dict[str, Any]:
    return {"model": "m", "input": plan["prompt"], "tools": [{"type": "function", "strict": False, **tool(plan)}]}


def of_response(response: Any) -> Received:
    parts: list[tuple[str, str | None]] = [("text", response.output_text)]
    for item in response.output:
        if item.type == "reasoning":
            parts += [("thought", summary.text) for summary in item.summary]
        elif item.type == "function_call":
            parts.append(("arguments", item.arguments))
    return joined(parts)


def openai_sync(plan: Plan, url: str) -> Iterator[tuple[str, Received]]:
    from openai import OpenAI

    with OpenAI(**openai_options(plan, url)) as client:
        yield "chat", of_chat(client.chat.completions.create(**chat_request(plan)).choices[0].message)
        chunks = client.chat.completions.create(**chat_request(plan), stream=True)
        yield "chat stream", joined([part for chunk in chunks for part in of_chunk(chunk)])
        yield "responses", of_response(client.responses.create(**responses_request(plan)))
        events = client.responses.create(**responses_request(plan), stream=True)
        deltas = [(RESPONSE_DELTAS[event.type], event.delta) for event in events if event.type in RESPONSE_DELTAS]
        yield "responses stream", joined(deltas)


async def openai_async(plan: Plan, url: str) -> AsyncIterator[tuple[str, Received]]:
    from openai import AsyncOpenAI

    async with AsyncOpenAI(**openai_options(plan, url)) as client:
        yield "chat", of_chat((await client.chat.completions.create(**chat_request(plan))).choices[0].message)
        chunks = await client.chat.completions.create(**chat_request(plan), stream=True)
        yield "chat stream", joined([part async for chunk in chunks for part in of_chunk(chunk)])
        yield "responses", of_response(await client.responses.create(**responses_request(plan)))
        events = await client.responses.create(**responses_request(plan), stream=True)
        deltas = [(RESPONSE_DELTAS[event.type], event.delta) async for event in events if event.type in RESPONSE_DELTAS]
        yield "responses stream", joined(deltas)


# -- Anthropic ---------------------------------------------------------------------------------------------------------


def anthropic_options(plan: Plan, url: str) -> dict[str, Any]:
    return {"api_key": plan["keys"]["anthropic"], "base_url": f"{url}/to/anthropic", "default_headers": plan["headers"]}


def messages_request(plan: Plan) -> dict[str, Any]:
    described = tool(plan)
    described["input_schema"] = described.pop("parameters")
    messages = [{"role": "user", "content": plan["prompt"]}]
    return {"model": "m", "max_tokens": 99, "messages": messages, "tools": [described]}


def of_message(message: Any) -> Received:
    kinds: dict[str, Callable[[Any], tuple[str, str]]] = {
        "text": lambda block: ("text", block.text),
        "thinking": lambda block: ("thought", block.thinking),
        "tool_use": lambda block: ("arguments", json.dumps(block.input)),
    }
    return joined([kinds[block.type](block) for block in message.content])


def anthropic_sync(plan: Plan, url: str) -> Iterator[tuple[str, Received]]:
    from anthropic import Anthropic

    with Anthropic(**anthropic_options(plan, url)) as client:
        yield "messages", of_message(client.messages.create(**messages_request(plan)))
        with client.messages.stream(**messages_request(plan)) as stream:
            yield "messages stream", of_message(stream.get_final_message())


async def anthropic_async(plan: Plan, url: str) -> AsyncIterator[tuple[str, Received]]:
    from anthropic import AsyncAnthropic

    async with AsyncAnthropic(**anthropic_options(plan, url)) as client:
        yield "messages", of_message(await client.messages.create(**messages_request(plan)))
        async with client.messages.stream(**messages_request(plan)) as stream:
            yield "messages stream", of_message(await stream.get_final_message())


# -- Gemini ------------------------------------------------------------------------------------------------------------


def gemini_client(plan: Plan, url: str) -> Any:
    from google import genai

    options = {"base_url": f"{url}/to/gemini", "headers": plan["headers"]}
    return genai.Client(api_key=plan["keys"]["gemini"], http_options=options)


def generate_request(plan: Plan) -> dict[str, Any]:
    described = tool(plan)
    parameters = {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}}
    declared = {"name": described["name"], "description": described["description"], "parameters": parameters}
    config = {
        "tools": [{"function_declarations": [declared]}],
        "automatic_function_calling": {"disable": True},
    }
    return {"model": "m", "contents": plan["prompt"], "config": config}


def of_answers(answers: list[Any]) -> Received:
    parts: list[tuple[str, str | None]] = []
    for answer in answers:
        for part in answer.candidates[0].content.parts:
            if part.function_call is not None:
                parts.append(("arguments", json.dumps(part.function_call.args)))
            else:
                parts.append(("thought" if part.thought else "text", part.text))
    return joined(parts)


def gemini_sync(plan: Plan, url: str) -> Iterator[tuple[str, Received]]:
    with gemini_client(plan, url) as client:
        yield "generate", of_answers([client.models.generate_content(**generate_request(plan))])
        yield "generate stream", of_answers(list(client.models.generate_content_stream(**generate_request(plan))))


async def gemini_async(plan: Plan, url: str) -> AsyncIterator[tuple[str, Received]]:
    whole = gemini_client(plan, url)  # which closes when nobody has it
    async with whole.aio as client:
        yield "generate", of_answers([await client.models.generate_content(**generate_request(plan))])
        answers = await client.models.generate_content_stream(**generate_request(plan))
        yield "generate stream", of_answers([answer async for answer in answers])


# -- Mistral -----------------------------------------------------------------------------------------------------------


def mistral_client(plan: Plan, url: str) -> Any:
    from mistralai.client import Mistral

    return Mistral(api_key=plan["keys"]["mistral"], server_url=f"{url}/to/mistral")


def of_mistral(events: Any) -> list[tuple[str, str | None]]:
    return of_chunk(events.data)


def mistral_sync(plan: Plan, url: str) -> Iterator[tuple[str, Received]]:
    with mistral_client(plan, url) as client:
        yield (
            "chat",
            of_chat(client.chat.complete(**chat_request(plan), http_headers=plan["headers"]).choices[0].message),
        )
        with client.chat.stream(**chat_request(plan), http_headers=plan["headers"]) as events:
            yield "chat stream", joined([part for event in events for part in of_mistral(event)])


async def mistral_async(plan: Plan, url: str) -> AsyncIterator[tuple[str, Received]]:
    async with mistral_client(plan, url) as client:
        answer = await client.chat.complete_async(**chat_request(plan), http_headers=plan["headers"])
        yield "chat", of_chat(answer.choices[0].message)
        events = await client.chat.stream_async(**chat_request(plan), http_headers=plan["headers"])
        yield "chat stream", joined([part async for event in events for part in of_mistral(event)])


# -- Cohere ------------------------------------------------------------------------------------------------------------


def cohere_options(plan: Plan, url: str) -> dict[str, Any]:
    return {"api_key": plan["keys"]["cohere"], "base_url": f"{url}/to/cohere"}


def of_cohere(message: Any) -> Received:
    parts: list[tuple[str, str | None]] = [("thought", message.tool_plan)]
    parts += [("text", item.text) for item in message.content or ()]
    return joined(parts + [("arguments", call.function.arguments) for call in message.tool_calls or ()])


def of_cohere_event(event: Any) -> list[tuple[str, str | None]]:
    match event.type:
        case "content-delta":
            return [("text", event.delta.message.content.text)]
        case "tool-plan-delta":
            return [("thought", event.delta.message.tool_plan)]
        case "tool-call-delta":
            return [("arguments", event.delta.message.tool_calls.function.arguments)]
    return []


def cohere_sync(plan: Plan, url: str) -> Iterator[tuple[str, Received]]:
    import cohere

    client = cohere.ClientV2(**cohere_options(plan, url))
    options = {"additional_headers": plan["headers"]}
    yield "chat", of_cohere(client.chat(**chat_request(plan), request_options=options).message)
    events = client.chat_stream(**chat_request(plan), request_options=options)
    yield "chat stream", joined([part for event in events for part in of_cohere_event(event)])


async def cohere_async(plan: Plan, url: str) -> AsyncIterator[tuple[str, Received]]:
    import cohere

    async with cohere.AsyncClientV2(**cohere_options(plan, url)) as client:
        options = {"additional_headers": plan["headers"]}
        yield "chat", of_cohere((await client.chat(**chat_request(plan), request_options=options)).message)
        events = client.chat_stream(**chat_request(plan), request_options=options)
        yield "chat stream", joined([part async for event in events for part in of_cohere_event(event)])


SYNC = (openai_sync, anthropic_sync, gemini_sync, mistral_sync, cohere_sync)
ASYNC = (openai_async, anthropic_async, gemini_async, mistral_async, cohere_async)


def ask(plan: Plan, url: str) -> dict[str, Received]:
    """All calls of all SDKs through one proxy."""
    received = {f"{run.__name__} {name}": told for run in SYNC for name, told in run(plan, url)}

    async def run_all() -> None:
        for run in ASYNC:
            async for name, told in run(plan, url):
                received[f"{run.__name__} {name}"] = told

    asyncio.run(run_all())
    return received


@contextlib.contextmanager
def fastapi_proxy(backend: str) -> Iterator[str]:
    """A proxy that somebody wrote with FastAPI and httpx, on a port of its own."""
    client = httpx.AsyncClient()
    app = FastAPI()

    @app.post("/{path:path}")
    async def relay(path: str, request: Request) -> StreamingResponse:
        dropped = ("host", "content-length", "connection", "transfer-encoding")
        headers = [(name, value) for name, value in request.headers.items() if name not in dropped]
        asked = client.build_request(
            "POST", f"{backend}/{path}", params=request.query_params, headers=headers, content=await request.body()
        )
        answer = await client.send(asked, stream=True)
        kept = {name: value for name, value in answer.headers.items() if name in ("content-type", "content-encoding")}
        return StreamingResponse(answer.aiter_raw(), answer.status_code, kept)

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)


def ask_instrumented(plan: Plan) -> dict[str, Received]:
    """All calls through a proxy of this process; tells the spans, and what we log."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    import otel_wirecap

    told = plan["fastapi"]
    for name in ("otel_wirecap", "opentelemetry"):
        logging.getLogger(name).addHandler(logging.FileHandler(told["log"]))
        logging.getLogger(name).setLevel(logging.DEBUG)
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    otel_wirecap.instrument(capture_file=told["capture_file"])
    try:
        with fastapi_proxy(told["backend"]) as url:
            received = ask(plan, url)
    finally:
        otel_wirecap.uninstrument()
    spans = exporter.get_finished_spans()
    Path(told["spans"]).write_text("\n".join(span.to_json(indent=None) for span in spans))
    return received


def main() -> None:
    plan = json.loads(Path(sys.argv[1]).read_text())
    received = [*(ask(plan, url) for url in plan["urls"]), ask_instrumented(plan)]
    Path(plan["received"]).write_text(json.dumps(received))


if __name__ == "__main__":
    main()
