"""Assembly against recorded streams of real providers, checked by facts that are read in another way."""

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from anthropic.types import Message
from google.genai.types import GenerateContentResponse
from message_texts import begin_as
from openai.types.chat import ChatCompletion
from openai.types.responses import Response
from pydantic import ValidationError

from otel_wirecap.frames.framing import FrameReader
from otel_wirecap.llm.assembly import StreamAssembly

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "traffic" / "public.jsonl"

if not RECORDED.exists():
    pytest.skip("the recorded streams are not beside this checkout", allow_module_level=True)


def recorded() -> list[Any]:
    with RECORDED.open(encoding="utf-8") as lines:
        entries = [json.loads(line) for line in lines]
    return [e for e in entries if e["stream"] and isinstance(e.get("response_body"), str)]


STREAMS = recorded()


def of(*kinds: str) -> pytest.MarkDecorator:
    entries = [e for e in STREAMS if e["kind"] in kinds]
    return pytest.mark.parametrize("entry", entries, ids=[e["id"] for e in entries])


def assembly_of(entry: Any) -> StreamAssembly:
    """The assembly of the stream, fed in pieces of odd sizes."""
    body, sizes = entry["response_body"].encode(), random.Random(entry["id"])
    parser, assembly = FrameReader("text/event-stream"), StreamAssembly(max_bytes=1 << 24)
    while body:
        size = sizes.choice([1, 3, 200, 4096])
        for event in parser.feed(body[:size]):
            assembly.add(event)
        body = body[size:]
    for event in parser.close():
        assembly.add(event)
    return assembly


def message_of(entry: Any) -> Any:
    return assembly_of(entry).message()


def events_of(entry: Any) -> list[Any]:
    """The events' JSON; recorded data take one line each."""
    return [json.loads(data) for data in re.findall(r"^data: ?(\{.*\})\s*$", entry["response_body"], re.MULTILINE)]


def text_in(value: Any, *members: str) -> str:
    """The strings under the named members, at any depth, in order."""
    if isinstance(value, list):
        return "".join(text_in(item, *members) for item in value)
    if isinstance(value, dict):
        return "".join(
            inner if isinstance(inner, str) and name in members else text_in(inner, *members)
            for name, inner in value.items()
        )
    return ""


def wanted(events: list[Any], path: str) -> list[Any]:
    """What stands at a dotted path of the events, nothing empty; ``*`` is every element of a list."""
    found = list(events)
    for step in path.split("."):
        found = [
            inner
            for value in found
            for inner in (value if step == "*" else [value.get(step)] if isinstance(value, dict) else [])
            if inner not in (None, "", [], {})
        ]
    return found


def test_there_are_recorded_streams_of_every_format() -> None:
    assert {e["kind"] for e in STREAMS} >= {"chat", "responses", "messages", "generate"}


@of("chat")
def test_a_recorded_chat_stream_adds_up(entry: Any) -> None:
    events, assembly = events_of(entry), assembly_of(entry)
    message: Any = assembly.message()
    (choice,) = message["choices"]
    for member in ("content", "reasoning", "reasoning_content", "refusal"):
        pieces = wanted(events, f"choices.*.delta.{member}")
        assert text_in({member: choice["message"].get(member)}, member, "text") == text_in(
            [{member: piece} for piece in pieces], member, "text"
        )
    calls: dict[int, str] = {}
    for call in wanted(events, "choices.*.delta.tool_calls.*"):
        calls[call["index"]] = calls.get(call["index"], "") + call["function"]["arguments"]
    made = choice["message"].get("tool_calls") or []
    assert [call["function"]["arguments"] for call in made] == list(calls.values())
    for call in made:
        json.loads(call["function"]["arguments"])
    assert [call["id"] for call in made] == wanted(events, "choices.*.delta.tool_calls.*.id")
    usages = wanted(events, "usage") or wanted(events, "x_groq.usage")
    assert message.get("usage") == (usages[-1] if usages else None)
    reasons = wanted(events, "choices.*.finish_reason")
    assert choice["finish_reason"] == (reasons[-1] if reasons else None)
    assert message["model"] == assembly.model == wanted(events, "model")[0]


@of("responses")
def test_a_recorded_response_is_the_one_its_last_event_brings(entry: Any) -> None:
    events, assembly = events_of(entry), assembly_of(entry)
    (final,) = [e["response"] for e in events if e["type"] == "response.completed"]
    assert assembly.message() == final
    assert assembly.model == final["model"]


@of("responses")
def test_a_recorded_response_without_its_last_event_has_the_same_output(entry: Any) -> None:
    final = events_of(entry)[-1]["response"]
    blocks = re.split(r"\n\n", entry["response_body"].rstrip())[:-1]
    output = message_of({**entry, "response_body": "\n\n".join(blocks) + "\n\n"})["output"]
    assert without_secrets(output) == without_secrets(final["output"])
    # Not even the items' last forms: the deltas alone say the text and the arguments.
    deltas_only = [block for block in blocks if not re.search(r"\.done\"", block)]
    output = message_of({**entry, "response_body": "\n\n".join(deltas_only) + "\n\n"})["output"]
    assert text_in(output, "text", "arguments") == text_in(final["output"], "text", "arguments")


def without_secrets(output: list[Any]) -> list[Any]:
    """The items without what the provider encrypts anew in every event."""
    return [{name: value for name, value in item.items() if name != "encrypted_content"} for item in output]


@of("messages")
def test_a_recorded_message_adds_up(entry: Any) -> None:
    events, assembly = events_of(entry), assembly_of(entry)
    message: Any = assembly.message()
    start = events[0]["message"]
    end = next(e for e in events if e["type"] == "message_delta")
    assert message["usage"] == start["usage"] | end["usage"]
    assert message["stop_reason"] == end["delta"]["stop_reason"]
    assert message["model"] == assembly.model == start["model"]
    starts = [e["content_block"] for e in events if e["type"] == "content_block_start"]
    assert [block["type"] for block in message["content"]] == [block["type"] for block in starts]
    for index, block in enumerate(message["content"]):
        ds = [e["delta"] for e in events if e["type"] == "content_block_delta" and e["index"] == index]
        for member in ("text", "thinking", "signature"):
            assert block.get(member, "") == text_in(ds, member)
        arguments = text_in(ds, "partial_json")
        if arguments:
            assert block["input"] == json.loads(arguments)
        citations = wanted(ds, "citation")
        assert (block.get("citations") or []) == citations
        if block["type"].endswith("_tool_result"):
            assert block == starts[index]


@of("generate")
def test_a_recorded_generate_stream_adds_up(entry: Any) -> None:
    events, assembly = events_of(entry), assembly_of(entry)
    message: Any = assembly.message()
    assert message["usageMetadata"] == wanted(events, "usageMetadata")[-1]
    assert message["modelVersion"] == assembly.model == events[0]["modelVersion"]
    (candidate,) = message["candidates"]
    assert candidate["finishReason"] == wanted(events, "candidates.*.finishReason")[-1]
    grounding = wanted(events, "candidates.*.groundingMetadata")
    assert candidate.get("groundingMetadata") == (grounding[-1] if grounding else None)
    sent = wanted(events, "candidates.*.content.parts.*")
    parts = candidate["content"]["parts"]
    assert text_in(parts, "text") == text_in(sent, "text")
    for member in ("functionCall", "executableCode", "codeExecutionResult", "toolCall", "thoughtSignature"):
        assert wanted(parts, member) == wanted(sent, member)


@of("chat", "responses", "messages", "generate")
def test_an_error_is_told_where_the_stream_carried_one(entry: Any) -> None:
    assembly, errors = assembly_of(entry), wanted(events_of(entry), "error")
    assert bool(errors) == ("midstream-error" in entry["tags"])
    if not errors:
        assert assembly.error is None
        return
    assert assembly.error is not None
    assert tuple(assembly.error) == (errors[0]["type"], errors[0]["message"], errors[0]["code"])
    message: Any = assembly.message()
    assert message["error"] == errors[0]


VENDOR_SHAPES: dict[str, Any] = {
    "chat": ChatCompletion,
    "responses": Response,
    "messages": Message,
    "generate": GenerateContentResponse,
}
OTHER_SHAPES = {
    "p-anthropic-messages-stream-2": "a block of a type that is in beta: advisor_tool_result",
    "p-groq-chat-stream-1": "broken off by an error: it has no finish reason",
    "p-mistral-chat-stream-1": "content in parts is Mistral's own",
    "p-snowflake-chat-stream-1": "sends no finish reason and an empty service tier",
}
"""What the vendors' types refuse although it is what the provider sent, and why."""


@of("chat", "responses", "messages", "generate")
def test_a_recorded_stream_assembles_to_the_shape_that_the_vendor_declares(entry: Any) -> None:
    refused = []
    try:
        VENDOR_SHAPES[entry["kind"]].model_validate(message_of(entry))
    except ValidationError as error:
        # Usage is compared with what was sent above; old streams lack counts that newer types require.
        refused = [problem for problem in error.errors() if problem["loc"][0] != "usage"]
    assert bool(refused) == (entry["id"] in OTHER_SHAPES), refused


@of("chat", "responses", "messages", "generate")
def test_a_recorded_stream_cut_short_gives_what_came(entry: Any) -> None:
    parser, assembly, whole = FrameReader("text/event-stream"), StreamAssembly(max_bytes=1 << 24), message_of(entry)
    events = parser.feed(entry["response_body"].encode())
    for number, event in enumerate(events):
        assembly.add(event)
        if number % 17 == 0:
            assert begin_as(assembly.message(), whole)
