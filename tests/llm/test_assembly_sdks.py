"""The assembled message of every recorded stream is what the vendor's own SDK makes of the same bytes.

OpenAI's and Anthropic's SDKs add a stream up themselves. Those of Groq, Mistral, Google and Cohere only give its
events, parsed; these are added up here, in a way of their own. AWS's is not among the test's needs: the frames are
read here.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from made_streams import KINDS, SSE, STREAMS
from streams import AWS, frames_of, sse
from test_assembly_formats import COHERE, COHERE_ANSWER, COHERE_V1, COHERE_V1_ANSWER, ndjson

from otel_wirecap.llm.assembly import assemble

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "traffic" / "public.jsonl"


def recorded() -> list[Any]:
    if not RECORDED.exists():
        return []
    with RECORDED.open(encoding="utf-8") as lines:
        return [entry for entry in map(json.loads, lines) if entry["stream"]]


ENTRIES = {entry["id"]: entry for entry in recorded()}


def of(*kinds: str, but: str = " ", only: str = "") -> pytest.MarkDecorator:
    """The recorded streams of these kinds; skips where the recordings are not beside this checkout."""
    wanted = [i for i, e in ENTRIES.items() if e["kind"] in kinds and only in i and but not in i]
    missing = pytest.param("", marks=pytest.mark.skip(reason="the recorded streams are not beside this checkout"))
    return pytest.mark.parametrize("entry", wanted or [missing])


def body_of(entry: str) -> bytes:
    found = ENTRIES[entry]
    if "response_body_b64" in found:
        return base64.b64decode(found["response_body_b64"])
    return bytes(found["response_body"], "utf-8")


def type_of(entry: str) -> str:
    return str(dict(ENTRIES[entry]["response_headers"])["content-type"])


def message_of(entry: str) -> Any:
    body = body_of(entry)
    message = assemble(type_of(entry), [body[i : i + 100] for i in range(0, len(body), 100)])
    assert message == assemble(None, [body])  # the first bytes tell as much as the content type
    return message


Serve = Callable[[bytes, str], str]


@pytest.fixture(scope="module")
def serve() -> Iterator[Serve]:
    """Gives a URL under which every request is answered with these bytes."""
    answers: list[tuple[bytes, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            body, content_type = answers[int(self.path.split("/")[1])]
            self.send_response(200)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            pass

    def add(body: bytes, content_type: str) -> str:
        answers.append((body, content_type))
        return f"http://127.0.0.1:{server.server_port}/{len(answers) - 1}"

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield add
        server.shutdown()
        thread.join()


@pytest.fixture
def httpx_client() -> Iterator[httpx.Client]:
    """For an SDK that does not close its own."""
    with httpx.Client() as client:
        yield client


def differences(ours: Any, theirs: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """Where two JSON values differ, by path; a member that is null is one that is not there."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for key in ours.keys() | theirs.keys():
            found |= differences(ours.get(key), theirs.get(key), f"{path}.{key}".lstrip("."))
        return found
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        return {
            p: d
            for i, pair in enumerate(zip(ours, theirs, strict=True))
            for p, d in differences(*pair, f"{path}.{i}").items()
        }
    return {} if ours == theirs else {path: (ours, theirs)}


@of("chat", only="openai-")
def test_openai_s_sdk_adds_a_chat_stream_up_to_the_same(entry: str, serve: Serve) -> None:
    from openai import OpenAI
    from openai.lib.streaming.chat import ChatCompletionStreamState

    state = ChatCompletionStreamState()
    with OpenAI(api_key="-", base_url=serve(body_of(entry), type_of(entry)), max_retries=0) as client:
        for chunk in client.chat.completions.create(model="m", messages=[], stream=True):
            state.handle_chunk(chunk)
            usage = chunk.usage
    theirs: Any = state.current_completion_snapshot.to_dict(mode="json")
    for call in theirs["choices"][0]["message"].get("tool_calls") or ():
        del call["index"]  # its place in the stream, which an answer without streaming does not have
    found = differences(message_of(entry), theirs)
    # The SDK forgets the usage when chunks without one follow.
    assert found.keys() <= {"usage"}
    assert bool(found) == (message_of(entry).get("usage") is not None and usage is None)


@of("responses")
def test_openai_s_sdk_adds_a_response_stream_up_to_the_same(entry: str, serve: Serve) -> None:
    from openai import OpenAI

    with (
        OpenAI(api_key="-", base_url=serve(body_of(entry), type_of(entry)), max_retries=0) as client,
        client.responses.stream(model="m", input="x") as stream,
    ):
        theirs: Any = stream.get_final_response().to_dict(mode="json")
    for item in theirs["output"]:
        item.pop("parsed_arguments", None)  # the SDK's own
        for part in item.get("content") or ():
            part.pop("parsed", None)
    assert differences(message_of(entry), theirs) == {}


def anthropic_message(url: str) -> Any:
    from anthropic import Anthropic

    with (
        Anthropic(api_key="-", base_url=url, max_retries=0) as client,
        client.beta.messages.stream(model="m", messages=[], max_tokens=9) as stream,
    ):
        return stream.get_final_message().to_dict(mode="json")


@of("messages")
def test_anthropic_s_sdk_adds_a_stream_up_to_the_same(entry: str, serve: Serve) -> None:
    theirs = anthropic_message(serve(body_of(entry), type_of(entry)))
    assert differences(message_of(entry), theirs) == {}


@of("invoke")
def test_anthropic_s_sdk_makes_the_same_of_the_events_that_bedrock_wraps(entry: str, serve: Serve) -> None:
    events = [json.loads(base64.b64decode(json.loads(payload)["bytes"])) for _, payload in frames_of(body_of(entry))]
    theirs = anthropic_message(serve(sse(*events), "text/event-stream"))
    found = differences(message_of(entry), theirs)
    # Bedrock's own member of the last event, which the SDK passes over.
    assert found == {
        "amazon-bedrock-invocationMetrics": (events[-1]["amazon-bedrock-invocationMetrics"], None),
    }


@of("converse")
def test_the_frames_of_converse_add_up_to_the_same(entry: str) -> None:
    texts: dict[int, str] = {}
    inputs: dict[int, str] = {}
    blocks: dict[int, Any] = {}
    wanted: dict[str, Any] = {}
    for headers, payload in frames_of(body_of(entry)):
        event = json.loads(payload)
        event.pop("p", None)
        match headers[":event-type"], event.get("contentBlockIndex"):
            case "messageStart", _:
                wanted["output"] = {"message": {"role": event["role"]}}
            case "contentBlockStart", index:
                blocks[index] = event["start"]
            case "contentBlockDelta", index:
                blocks.setdefault(index, {})
                texts[index] = texts.get(index, "") + event["delta"].get("text", "")
                inputs[index] = inputs.get(index, "") + event["delta"].get("toolUse", {}).get("input", "")
            case (("messageStop" | "metadata"), _):
                wanted |= event
    for index, block in blocks.items():
        if "toolUse" in block:
            block["toolUse"]["input"] = json.loads(inputs[index])
        else:
            block["text"] = texts[index]
    wanted["output"]["message"]["content"] = [blocks[index] for index in sorted(blocks)]
    assert len(blocks) > 1
    assert message_of(entry) == wanted


def made(kind: str, *but: str) -> pytest.MarkDecorator:
    """The made-up streams of a kind, but for those that the SDK does not read as others do."""
    return pytest.mark.parametrize("name", [f"{kind}: {name}" for name in KINDS[kind] if name not in but])


def made_message(name: str) -> Any:
    message = assemble(SSE, [STREAMS[name].body])
    return json.loads(json.dumps(message))


NOT_READ = (
    "bytes that are no UTF-8", "a control character in a text", "an event that is cut", "events that are no objects",
)  # fmt: skip
"""What the SDK raises an error at, or passes over."""


@made(
    "chat", *NOT_READ,
    "half of a character",  # stays one, which no JSON can hold
    "a function's name with each piece",  # is doubled
    "an index that two calls have",  # become one
    "calls without indices", "choices without an index",  # are errors
    "an empty finish reason, before and after the one",  # is an error of its types, and counts
    "a usage in each chunk, which grows",  # is forgotten with the last chunk, which has none
)  # fmt: skip
def test_openai_s_sdk_adds_made_up_chat_streams_up_to_the_same(name: str, serve: Serve) -> None:
    from openai import OpenAI
    from openai.lib.streaming.chat import ChatCompletionStreamState

    state = ChatCompletionStreamState()
    with OpenAI(api_key="-", base_url=serve(STREAMS[name].body, SSE), max_retries=0) as client:
        for chunk in client.chat.completions.create(model="m", messages=[], stream=True):
            state.handle_chunk(chunk)
    theirs: Any = state.current_completion_snapshot.to_dict(mode="json")
    for call in theirs["choices"][0]["message"].get("tool_calls") or ():
        del call["index"]
    theirs = json.loads(json.dumps(theirs, ensure_ascii=False).encode("utf-16", "surrogatepass").decode("utf-16"))
    found = differences(made_message(name), theirs)
    assert {path: pair for path, pair in found.items() if "logprob" not in path} == {}


@made(
    "messages",
    "types in names alone",  # the SDK wants both
    "no names",  # and names
    "an index used again", "a second message", "the start twice",  # deltas go to the first; a start is an error
    "a reason that null follows",  # is replaced
    "an event that is cut",
)  # fmt: skip
def test_anthropic_s_sdk_adds_made_up_streams_up_to_the_same(name: str, serve: Serve) -> None:
    theirs = anthropic_message(serve(STREAMS[name].body, SSE))
    found = differences(made_message(name), theirs)
    # Of the cache's life at a stream's end, by which it is billed, the SDK takes no notice.
    assert found.keys() <= {"usage.cache_creation"}


@made(
    "responses", "types in names alone", "cut, types in names alone",
    "an index used again", "a second response", "a second response that is cut",
)  # fmt: skip
def test_openai_s_sdk_adds_made_up_responses_up_to_the_same(name: str, serve: Serve) -> None:
    from openai import OpenAI

    with (
        OpenAI(api_key="-", base_url=serve(STREAMS[name].body, SSE), max_retries=0) as client,
        client.responses.stream(model="m", input="x") as stream,
    ):
        theirs: Any = stream.get_final_response().to_dict(mode="json")
    for item in theirs["output"]:
        for part in item.get("content") or ():
            part.pop("parsed", None)
    assert differences(made_message(name), theirs) == {}


@made("media", "a transcription with speakers, types in names alone", "speech", "images")
def test_openai_s_sdk_reads_the_same_transcriptions(name: str, serve: Serve) -> None:
    from openai import OpenAI

    text, usage = "", None
    with OpenAI(api_key="-", base_url=serve(STREAMS[name].body, SSE), max_retries=0) as client:
        for event in client.audio.transcriptions.create(model="m", file=("a.wav", b"x"), stream=True):
            if event.type == "transcript.text.done":
                text, usage = event.text, event.usage and event.usage.to_dict(mode="json")
            elif event.type == "transcript.text.delta":
                text += event.delta
    ours = made_message(name)
    assert ours["text"] == text
    assert differences(ours.get("usage"), usage) == {}


@made("media", "a transcription", "a transcription that is cut", "a transcription with speakers, types in names alone",
      "speech")  # fmt: skip
def test_openai_s_sdk_reads_the_same_images(name: str, serve: Serve) -> None:
    from openai import OpenAI

    with OpenAI(api_key="-", base_url=serve(STREAMS[name].body, SSE), max_retries=0) as client:
        events = list(client.images.generate(model="m", prompt="x", stream=True))
    completed = [event.to_dict(mode="json") for event in events if event.type == "image_generation.completed"]
    ours = made_message(name)
    assert [one["b64_json"] for one in ours["data"]] == [one["b64_json"] for one in completed]
    assert ours["usage"]["input_tokens"] == sum(one["usage"]["input_tokens"] for one in completed)


@made("interactions", "an interaction of the first version")
def test_google_s_sdk_reads_the_same_interactions(name: str, serve: Serve) -> None:
    from google import genai

    client = genai.Client(vertexai=False, api_key="-", http_options={"base_url": serve(STREAMS[name].body, SSE)})
    text, arguments, theirs = "", "", None
    for event in client.interactions.create(model="m", input="x", stream=True):
        if event.event_type == "step.delta" and event.delta.type == "text":
            text += event.delta.text
        elif event.event_type == "step.delta" and event.delta.type == "arguments_delta":
            arguments += event.delta.arguments
        elif event.event_type == "interaction.completed":
            theirs = event.interaction
    client.close()
    ours = made_message(name)
    assert ours["steps"][1]["content"][0]["text"] == text
    assert ours["steps"][2]["arguments"] == json.loads(arguments)
    assert ours["usage"]["total_thought_tokens"] == theirs.usage.total_thought_tokens
    assert (ours["id"], ours["status"], ours["model"]) == (theirs.id, theirs.status, theirs.model)


def added_up(pieces: list[Any]) -> Any:
    """Deltas of one message, as the SDK parsed them, added up by rules for these members alone."""
    message: dict[str, Any] = {}
    for piece in pieces:
        for name, value in piece.items():
            if value is None or (value in ("", []) and name not in ("content", "reasoning")):
                continue
            known = message.get(name)
            if name in ("role", "channel"):
                message[name] = value
            elif name == "executed_tools":
                message[name] = list({tool["index"]: tool for tool in [*(known or []), *value]}.values())
            elif name == "reasoning_details":
                (detail,) = value
                last = known[-1] if known else {}
                text = last.get("text", "") + detail.get("text", "")
                message[name] = [last | detail | {"text": text}]
            elif isinstance(value, str) and not isinstance(known, list):
                message[name] = (known or "") + value
            elif isinstance(value, str):
                _add_parts(message[name], [{"type": "text", "text": value}])
            elif name == "content":
                parts = [{"type": "text", "text": known}] if isinstance(known, str) and known else known or []
                message[name] = _add_parts(parts, value)
            elif name == "tool_calls":
                message[name] = _add_calls(known or [], value)
            else:
                message[name] = (known or []) + value
    return message


def _add_parts(parts: list[Any], more: list[Any]) -> list[Any]:
    """Mistral's content parts; the text of one type goes on."""
    for part in more:
        if not parts or parts[-1]["type"] != part["type"]:
            parts.append(part)
        elif part["type"] == "text":
            parts[-1]["text"] += part["text"]
        else:
            parts[-1]["thinking"][0]["text"] += "".join(inner["text"] for inner in part["thinking"])
    return parts


def _add_calls(calls: list[Any], more: list[Any]) -> list[Any]:
    for call in more:
        position = call.pop("index")
        if position == len(calls):
            calls.append(call)
        else:
            calls[position]["function"]["arguments"] += call["function"]["arguments"]
    return calls


def chat_of(chunks: list[Any]) -> Any:
    """What chunks of one choice add up to."""
    choices = [choice for chunk in chunks for choice in chunk.get("choices") or ()]
    head = next((chunk for chunk in chunks if chunk.get("id")), chunks[0])
    rest: dict[str, Any] = {}
    for chunk in chunks:
        rest |= {key: value for key, value in chunk.items() if value not in (None, "", []) or key not in rest}
    reasons = [choice for choice in choices if choice.get("finish_reason")]
    ended = reasons[-1] if reasons else {}
    choice = {key: value for key, value in {**choices[-1], **ended}.items() if key != "delta"}
    choice["message"] = {"role": "assistant", **added_up([choice["delta"] for choice in choices])}
    return {**rest, **{k: head.get(k) for k in ("id", "created", "model")}, "choices": [choice]}


@of("chat", only="groq-", but="stream-1")
def test_groq_s_sdk_parses_events_that_add_up_to_the_same(entry: str, serve: Serve) -> None:
    from groq import Groq

    with Groq(api_key="-", base_url=serve(body_of(entry), type_of(entry)), max_retries=0) as client:
        chunks = list(client.chat.completions.create(model="m", messages=[], stream=True))
    theirs = chat_of([chunk.to_dict(mode="json") for chunk in chunks])
    theirs["object"] = "chat.completion"
    ours = message_of(entry)
    assert ours["usage"] == theirs["x_groq"]["usage"]
    assert differences({**ours, "usage": None}, theirs) == {}


@of("chat", only="groq-chat-stream-1")
def test_groq_s_sdk_raises_the_error_that_the_message_tells(entry: str, serve: Serve) -> None:
    from groq import APIError, Groq

    chunks: list[Any] = []
    with (
        Groq(api_key="-", base_url=serve(body_of(entry), type_of(entry)), max_retries=0) as client,
        client.chat.completions.create(model="m", messages=[], stream=True) as stream,
        pytest.raises(APIError) as raised,
    ):
        chunks += stream  # which keeps those that came before it raises
    ours = message_of(entry)
    assert ours["error"] == raised.value.body
    theirs = chat_of([chunk.to_dict(mode="json") for chunk in chunks])
    assert differences(ours["choices"][0]["message"], theirs["choices"][0]["message"]) == {}


@of("chat", only="mistral-")
def test_mistral_s_sdk_parses_events_that_add_up_to_the_same(entry: str, serve: Serve) -> None:
    from mistralai.client import Mistral

    with (
        Mistral(api_key="-", server_url=serve(body_of(entry), type_of(entry))) as client,
        client.chat.stream(model="m", messages=[{"role": "user", "content": "x"}]) as stream,
    ):
        chunks = [json.loads(event.data.model_dump_json(by_alias=True, exclude_unset=True)) for event in stream]
    theirs = chat_of(chunks)
    theirs["object"] = "chat.completion"
    ours = message_of(entry)
    for part in ours["choices"][0]["message"]["content"]:
        part.pop("closed", None)
    found = differences(ours, theirs)
    assert found == {}


@of("chat", only="openrouter-")
def test_openrouter_s_chunks_as_openai_s_sdk_parses_them_add_up_to_the_same(entry: str, serve: Serve) -> None:
    check_with_openai_s_chunks(entry, serve)


@of("chat", only="snowflake-")
def test_snowflake_s_chunks_as_openai_s_sdk_parses_them_add_up_to_the_same(entry: str, serve: Serve) -> None:
    check_with_openai_s_chunks(entry, serve)


def check_with_openai_s_chunks(entry: str, serve: Serve) -> None:
    """OpenAI's SDK does not add these up: it doubles labels that come again, and wants an index in each list."""
    from openai import OpenAI

    with OpenAI(api_key="-", base_url=serve(body_of(entry), type_of(entry)), max_retries=0) as client:
        chunks = list(client.chat.completions.create(model="m", messages=[], stream=True))
    theirs = chat_of([chunk.to_dict(mode="json") for chunk in chunks])
    theirs["object"] = "chat.completion"
    assert differences(message_of(entry), theirs) == {}


@of("generate")
def test_google_s_sdk_parses_events_that_add_up_to_the_same(entry: str, serve: Serve) -> None:
    from google import genai
    from google.genai.types import GenerateContentResponse

    def plain(answer: GenerateContentResponse) -> Any:
        return answer.model_dump(mode="json", exclude_none=True, exclude={"sdk_http_response"})

    url = serve(body_of(entry), type_of(entry))
    client = genai.Client(vertexai="vertex" in entry, api_key="-", http_options={"base_url": url})
    chunks = [plain(chunk) for chunk in client.models.generate_content_stream(model="m", contents="x")]
    client.close()
    parts: list[Any] = []
    theirs: dict[str, Any] = {}
    candidate: dict[str, Any] = {}
    for chunk in chunks:
        theirs |= chunk
        for piece in chunk.get("candidates", ()):
            content = piece.pop("content", {})
            candidate |= {key: value for key, value in piece.items() if value not in ("", [], {})}
            for part in content.get("parts") or ():
                goes_on = parts and set(part) | set(parts[-1]) <= {"text", "thought"} | {"thought_signature"}
                goes_on = goes_on and "text" in part and "text" in parts[-1]
                if goes_on and "thought_signature" not in parts[-1] and part.get("thought") == parts[-1].get("thought"):
                    parts[-1] |= part | {"text": parts[-1]["text"] + part["text"]}
                elif part != {"text": ""}:
                    parts.append(part)
    role = {"role": "model"}
    theirs["candidates"] = [{**candidate, "content": {"parts": parts, **role}}]
    ours = plain(GenerateContentResponse.model_validate(message_of(entry)))
    assert differences(ours, json.loads(json.dumps(theirs))) == {}


def test_cohere_s_sdk_parses_events_that_add_up_to_the_same(serve: Serve, httpx_client: httpx.Client) -> None:
    import cohere

    url = serve(sse(*COHERE), "text/event-stream")
    client = cohere.ClientV2("-", base_url=url, httpx_client=httpx_client)
    message: dict[str, Any] = {"tool_plan": "", "content": {}, "tool_calls": {}, "citations": []}
    theirs: dict[str, Any] = {"message": message, "logprobs": []}
    for event in client.chat_stream(model="m", messages=[{"role": "user", "content": "x"}]):
        match event.type:
            case "message-start":
                theirs["id"], message["role"] = event.id, event.delta.message.role
            case "tool-plan-delta":
                message["tool_plan"] += event.delta.message.tool_plan
            case "content-start":
                message["content"][event.index] = event.delta.message.content.dict()
            case "content-delta":
                for name, value in event.delta.message.content.dict(exclude_none=True).items():
                    message["content"][event.index][name] += value
                theirs["logprobs"] += [event.logprobs.dict()] if event.logprobs else []
            case "tool-call-start":
                message["tool_calls"][event.index] = event.delta.message.tool_calls.dict()
            case "tool-call-delta":
                function = message["tool_calls"][event.index]["function"]
                function["arguments"] += event.delta.message.tool_calls.function.arguments
            case "citation-start":
                message["citations"].append(event.delta.message.citations.dict())
            case "message-end":
                theirs["finish_reason"] = event.delta.finish_reason
                theirs["usage"] = event.delta.usage.dict()
    for name in ("content", "tool_calls"):
        message[name] = list(message[name].values())
    assert differences(COHERE_ANSWER, theirs) == {}
    assert differences(assemble("text/event-stream", [sse(*COHERE)]), theirs) == {}


def test_cohere_s_sdk_parses_events_of_its_first_interface_that_add_up_to_the_same(
    serve: Serve, httpx_client: httpx.Client
) -> None:
    import cohere

    url = serve(ndjson(*COHERE_V1), "application/stream+json")
    client = cohere.Client("-", base_url=url, httpx_client=httpx_client)
    theirs: dict[str, Any] = {"text": "", "tool_calls": [], "citations": []}
    for event in client.chat_stream(message="x"):
        match event.event_type:
            case "text-generation":
                theirs["text"] += event.text
            case "citation-generation":
                theirs["citations"] += [citation.dict(exclude_none=True) for citation in event.citations]
            case "tool-calls-chunk":
                delta = event.tool_call_delta
                if delta.name:
                    theirs["tool_calls"].append({"name": delta.name, "parameters": ""})
                theirs["tool_calls"][int(delta.index)]["parameters"] += delta.parameters or ""
            case _:
                told = event.dict(exclude_none=True)
                theirs |= {key: value for key, value in told.items() if key not in ("event_type", "is_finished")}
    for call in theirs["tool_calls"]:
        call["parameters"] = json.loads(call["parameters"])
    assert differences(COHERE_V1_ANSWER, theirs) == {}


def test_every_recorded_stream_is_looked_at_and_has_a_message() -> None:
    if not ENTRIES:
        pytest.skip("the recorded streams are not beside this checkout")
    kinds = {"chat", "responses", "messages", "generate", "converse", "invoke"}
    assert {entry["kind"] for entry in ENTRIES.values()} == kinds
    vendors = ("openai", "groq", "mistral", "openrouter", "snowflake")
    assert all(i.startswith(tuple(f"p-{v}-" for v in vendors)) for i, e in ENTRIES.items() if e["kind"] == "chat")
    assert {type_of(i) for i in ENTRIES} >= {AWS}
    assert all(message_of(entry) for entry in ENTRIES)
