"""The vendors' own SDKs talk to the demo backend, directly and through the proxy."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time

import anthropic
import httpx2
import openai
import pytest
import uvicorn
from google import genai
from google.genai import types

from otel_wirecap.proxy.app import create_app
from otel_wirecap.proxy.backends import Backend
from otel_wirecap.proxy.demo_backend import create_demo_backend
from otel_wirecap.proxy.demo_replies import PIECES
from otel_wirecap.proxy.server import transparent_config

TEXT = "".join(PIECES)
USER = [{"role": "user", "content": "How exact is it?"}]
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}
ARGUMENTS = {"city": "Kraków", "days": 3}
CHAT_TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}]
RESPONSE_TOOLS = [{"type": "function", "name": "get_weather", "parameters": PARAMETERS, "strict": None}]
MESSAGE_TOOLS = [{"name": "get_weather", "input_schema": PARAMETERS}]


@contextlib.contextmanager
def serving(app):
    """Serves an application in a thread, so that the SDKs' blocking clients can be used; gives its URL."""
    server = uvicorn.Server(transparent_config(app, "127.0.0.1", 0))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)


@pytest.fixture(scope="module")
def urls():
    with serving(create_demo_backend(pace=0.001)) as backend:
        names = ("openai", "anthropic", "gemini")
        proxy = create_app({name: Backend(name, backend) for name in names}, "openai", environ={})
        with serving(proxy) as proxied:
            yield {
                "direct": dict.fromkeys(names, backend),
                "proxied": {name: f"{proxied}/to/{name}" for name in names},
            }


@pytest.fixture(params=["direct", "proxied"])
def url(request, urls):
    return urls[request.param]


@pytest.fixture
def openai_client(url):
    key = "sk-" + secrets.token_hex(24)
    with openai.OpenAI(api_key=key, base_url=url["openai"] + "/v1", max_retries=0) as client:
        yield client


@pytest.fixture
def anthropic_client(url):
    key = "sk-ant-" + secrets.token_hex(24)
    with anthropic.Anthropic(api_key=key, base_url=url["anthropic"], max_retries=0) as client:
        yield client


@pytest.fixture
def gemini_client(url):
    with genai.Client(api_key=secrets.token_hex(20), http_options=types.HttpOptions(base_url=url["gemini"])) as client:
        yield client


# -- OpenAI chat completions -------------------------------------------------------------------------


def test_chat_completion(openai_client):
    answer = openai_client.chat.completions.create(model="demo-small", messages=USER)
    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "demo-small"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + len(PIECES)


def test_chat_completion_stream_with_usage(openai_client):
    chunks = list(
        openai_client.chat.completions.create(
            model="demo-small", messages=USER, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == TEXT
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == [len(PIECES)]


def test_chat_completion_stream_without_usage_has_none(openai_client):
    chunks = list(openai_client.chat.completions.create(model="demo-small", messages=USER, stream=True))
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert not any(chunk.usage for chunk in chunks)


@pytest.mark.parametrize("stream", [False, True])
def test_chat_completion_calls_a_tool(stream, openai_client):
    asked = {"model": "demo-small", "messages": USER, "tools": CHAT_TOOLS}
    if stream:
        with openai_client.chat.completions.stream(**asked) as events:
            answer = events.get_final_completion()
    else:
        answer = openai_client.chat.completions.create(**asked)
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    assert httpx2.Response(200, content=call.function.arguments).json() == ARGUMENTS
    assert answer.choices[0].finish_reason == "tool_calls"


def test_chat_completion_errors(openai_client):
    with pytest.raises(openai.RateLimitError) as limited:
        openai_client.chat.completions.create(model="demo-rate-limited", messages=USER)
    assert limited.value.code == "rate_limit_exceeded"
    with pytest.raises(openai.NotFoundError, match="demo-unknown"):
        openai_client.chat.completions.create(model="demo-unknown", messages=USER)
    stream = openai_client.chat.completions.create(model="demo-overloaded-stream", messages=USER, stream=True)
    with pytest.raises(openai.APIError, match="had an error"):
        list(stream)


# -- OpenAI responses --------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_response(stream, openai_client):
    if stream:
        with openai_client.responses.stream(model="demo-large", input="Hello") as events:
            kinds = [event.type for event in events]
            answer = events.get_final_response()
        assert kinds[0] == "response.created"
        assert kinds.count("response.output_text.delta") == len(PIECES)
        assert kinds[-1] == "response.completed"
    else:
        answer = openai_client.responses.create(model="demo-large", input="Hello")
    assert answer.output_text == TEXT
    assert answer.status == "completed"
    assert answer.usage.output_tokens == len(PIECES)


@pytest.mark.parametrize("stream", [False, True])
def test_response_calls_a_tool(stream, openai_client):
    asked = {"model": "demo-large", "input": "Weather?", "tools": RESPONSE_TOOLS}
    if stream:
        with openai_client.responses.stream(**asked) as events:
            answer = events.get_final_response()
    else:
        answer = openai_client.responses.create(**asked)
    (call,) = answer.output
    assert (call.type, call.name) == ("function_call", "get_weather")
    assert httpx2.Response(200, content=call.arguments).json() == ARGUMENTS


def test_response_stream_that_breaks(openai_client):
    events = openai_client.responses.create(model="demo-overloaded-stream", input="x", stream=True)
    last = list(events)[-1]  # here the SDK hands the error event to its caller
    assert (last.type, last.message) == ("error", "The server had an error.")


# -- Anthropic messages ------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_message(stream, anthropic_client):
    asked = {"model": "demo-small", "messages": USER, "max_tokens": 100}
    if stream:
        with anthropic_client.messages.stream(**asked) as events:
            assert "".join(events.text_stream) == TEXT
            answer = events.get_final_message()
    else:
        answer = anthropic_client.messages.create(**asked)
    assert answer.content[0].text == TEXT
    assert answer.stop_reason == "end_turn"
    assert answer.usage.output_tokens == len(PIECES)
    assert answer.usage.input_tokens > 0


@pytest.mark.parametrize("stream", [False, True])
def test_message_calls_a_tool(stream, anthropic_client):
    asked = {"model": "demo-small", "messages": USER, "max_tokens": 100, "tools": MESSAGE_TOOLS}
    if stream:
        with anthropic_client.messages.stream(**asked) as events:
            answer = events.get_final_message()
    else:
        answer = anthropic_client.messages.create(**asked)
    (block,) = answer.content
    assert (block.type, block.name, block.input) == ("tool_use", "get_weather", ARGUMENTS)
    assert answer.stop_reason == "tool_use"


def test_message_errors(anthropic_client):
    with pytest.raises(anthropic.RateLimitError):
        anthropic_client.messages.create(model="demo-rate-limited", messages=USER, max_tokens=9)
    with pytest.raises(anthropic.NotFoundError):
        anthropic_client.messages.create(model="demo-unknown", messages=USER, max_tokens=9)
    stream = anthropic_client.messages.create(model="demo-overloaded-stream", messages=USER, max_tokens=9, stream=True)
    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        list(stream)


# -- Gemini ------------------------------------------------------------------------------------------


def test_generate_content(gemini_client):
    answer = gemini_client.models.generate_content(model="demo-small", contents="Hello")
    assert answer.text == TEXT
    assert answer.model_version == "demo-small"
    assert answer.usage_metadata.candidates_token_count == len(PIECES)


def test_generate_content_stream(gemini_client):
    parts = list(gemini_client.models.generate_content_stream(model="demo-small", contents="Hello"))
    assert [part.text for part in parts] == list(PIECES)
    assert parts[-1].candidates[0].finish_reason == types.FinishReason.STOP
    assert parts[-1].usage_metadata.candidates_token_count == len(PIECES)


def test_generate_content_calls_a_tool(gemini_client):
    declaration = types.FunctionDeclaration(name="get_weather", parameters_json_schema=PARAMETERS)
    config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[declaration])])
    answer = gemini_client.models.generate_content(model="demo-small", contents="Weather?", config=config)
    (call,) = answer.function_calls
    assert (call.name, call.args) == ("get_weather", ARGUMENTS)


def test_generate_content_errors(gemini_client):
    with pytest.raises(genai.errors.ClientError) as limited:
        gemini_client.models.generate_content(model="demo-rate-limited", contents="x")
    assert (limited.value.code, limited.value.status) == (429, "RESOURCE_EXHAUSTED")
    with pytest.raises(genai.errors.ClientError) as unknown:
        gemini_client.models.generate_content(model="demo-unknown", contents="x")
    assert unknown.value.code == 404


def test_a_gemini_stream_without_sse_is_one_json_array(url):
    path = url["gemini"] + "/v1beta/models/demo-small:streamGenerateContent"
    parts = httpx2.post(path, json={"contents": []}).json()
    assert [part["candidates"][0]["content"]["parts"][0]["text"] for part in parts] == list(PIECES)


# -- the wire ----------------------------------------------------------------------------------------


def test_streams_come_in_pieces_that_cut_characters(urls):
    asked = {"model": "demo-small", "messages": USER, "stream": True}
    with httpx2.stream("POST", urls["direct"]["openai"] + "/v1/chat/completions", json=asked) as response:
        chunks = list(response.iter_raw())
    assert len(chunks) > len(PIECES)
    assert b"".join(chunks).decode().endswith("data: [DONE]\n\n")
    with pytest.raises(UnicodeDecodeError):
        [chunk.decode() for chunk in chunks]
