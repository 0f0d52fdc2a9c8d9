"""What requests of different protocols ask for is the same where a translation is right, and each loss is named."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from conversations import IMAGE, PDF, PROTOCOLS, Json, changed, edited

from otel_wirecap.llm.prompts import Request, common_requests
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
