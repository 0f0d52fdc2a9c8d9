"""Who broke the prompt cache is told from the capture of a gateway that does such things."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest

from otel_wirecap.reading.cache import cache_steps, first_break, prompt_pieces
from otel_wirecap.reading.captures import Captures

sys.path.insert(0, str(Path(__file__).parent))

from rewriting_gateway import SESSION, capture

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("weather", "time")
]  # fmt: skip
MARK = {"cache_control": {"type": "ephemeral"}}


def talk(*words: str) -> list[dict]:
    return [{"role": ("user", "assistant")[number % 2], "content": word} for number, word in enumerate(words)]


def chat(*words: str, model: str = "m", **more) -> dict:
    return {"model": model, "messages": talk(*words), "tools": TOOLS} | more


def marked(*words: str) -> dict:
    """With a mark for the cache at the last message, as agents send them: its text is a list there, a text before."""
    messages = talk(*words)
    messages[-1]["content"] = [{"type": "text", "text": messages[-1]["content"], **MARK}]
    return {"model": "m", "max_tokens": 5, "system": "Be kind.", "messages": messages}


@pytest.fixture
def steps(tmp_path):
    """The steps of a session with these requests through the gateway."""

    def make(*requests: tuple[str, dict]):
        path = capture(tmp_path, list(requests))
        with Captures([path], use_index=False) as captures:
            found = list(cache_steps(captures, captures.session(SESSION)))
        assert len(found) == len(requests)
        return found

    return make


CHAT, MESSAGES = "v1/chat/completions", "v1/messages"


def test_each_change_is_laid_at_the_door_of_whoever_made_it(steps):
    found = steps(
        (f"/same/{CHAT}", chat("a", model="same")),
        (f"/same/{CHAT}", chat("a", "b", "c", model="same")),
        (f"/same/{CHAT}", chat("a", "B, not b", "c", "d", "e", model="same")),
        (f"/stamped/{CHAT}", chat("a", model="stamped")),
        (f"/stamped/{CHAT}", chat("a", "b", "c", model="stamped")),
        (f"/shuffled/{CHAT}", chat("a", model="shuffled")),
        (f"/shuffled/{CHAT}", chat("a", "b", "c", model="shuffled")),
        (f"/respelt/{CHAT}", chat("a", model="respelt")),
        (f"/respelt/{CHAT}", chat("a", "b", "c", model="respelt")),
    )
    verdicts = [step.verdict for step in found]
    assert verdicts == ["first", "intact", "client", "client", "proxy", "client", "proxy", "client", "proxy"]
    intact, client = found[1:3]
    assert (intact.client, intact.backend) == (None, None)
    assert client.client == client.backend or client.client.path == client.backend.path == "messages[1].content[0].text"
    assert (client.backend.before, client.backend.after, client.backend.offset) == ("b", "B, not b", 0)
    stamped, shuffled, respelt = found[4], found[6], found[8]
    assert stamped.client is shuffled.client is respelt.client is None
    assert (stamped.backend.kind, stamped.backend.path) == ("system", "messages[0].content[0].text")
    assert stamped.backend.before[stamped.backend.offset :] == "1."
    assert (shuffled.backend.kind, shuffled.backend.reordered) == ("tools", True)
    assert shuffled.backend.path.startswith("tools[0].function")
    assert (respelt.backend.path, respelt.backend.reordered) == ("tools[0].function.parameters", True)
    assert respelt.backend.before == ["properties", "required", "type"]
    assert all((step.usage.input, step.usage.cached) == (100, 40) for step in found)
    # A new conversation is compared with the request just before it.
    assert (found[3].earlier.request_id, found[3].client.path) == (found[2].flow.request_id, "path")


@pytest.mark.thorough
def test_marks_that_a_gateway_removes_are_its_doing_and_marks_that_move_are_no_break(steps):
    found = steps(
        (f"/same/{MESSAGES}", marked("a")),
        (f"/same/{MESSAGES}", marked("a", "b", "c")),
        (f"/unmarked/{MESSAGES}", marked("a", "b", "c", "d", "e")),
    )
    assert [step.verdict for step in found] == ["first", "intact", "proxy"]
    assert (found[2].backend.kind, found[2].backend.path) == ("marks", "cache_control")
    assert (found[2].usage.input, found[2].usage.cached) == (100, 40)


@pytest.mark.thorough
def test_a_side_call_in_between_and_a_failed_request_are_no_break(steps):
    found = steps(
        (f"/same/{CHAT}", chat("a")),
        (f"/same/{CHAT}", chat("a title, please", model="small")),
        (f"/same/{CHAT}", chat("z", user="over quota")),
        (f"/same/{CHAT}", chat("a", "b", "c")),
    )
    assert [step.verdict for step in found] == ["first", "client", "client", "intact"]
    assert found[3].earlier is found[0].flow


@pytest.mark.thorough
def test_a_client_that_changes_later_does_not_excuse_a_proxy_that_changes_earlier(steps):
    found = steps(
        (f"/stamped/{CHAT}", chat("a", "b", "c")),
        (f"/stamped/{CHAT}", chat("a", "b", "another")),
    )
    step = found[1]
    assert step.verdict == "proxy"
    assert (step.client.path, step.backend.path) == ("messages[2].content[0].text", "messages[0].content[0].text")


def broken(before: dict, after: dict, path: str = "/v1/chat/completions"):
    return first_break(prompt_pieces(path, before), prompt_pieces(path, after))


@pytest.mark.parametrize(
    ("path", "before", "after", "place", "kind"),
    [
        ("/v1/messages", {"system": "a"}, {"system": "b"}, "system", "system"),
        ("/v1/messages", {"system": "a"}, {}, "system", "system"),
        ("/v1/messages", {}, {"system": "a"}, "system", "system"),
        ("/v1/messages", {"tools": [{"name": "x", "input_schema": {}}]}, {}, "tools[0]", "tools"),
        ("/v1/messages", {"tools": [{"name": "x"}], "system": "a"}, {"tools": [{"name": "y"}], "system": "b"},
         "tools[0].name", "tools"),
        ("/v1/chat/completions", {"model": "a"}, {"model": "b"}, "model", "model"),
        ("/v1/chat/completions", {}, {"tools": [{"type": "function"}]}, "tools[0]", "tools"),
    ],
)  # fmt: skip
def test_the_first_place_is_that_of_the_providers_order(path, before, after, place, kind):
    messages = {"messages": talk("a")}
    found = broken(messages | before, messages | after, path)
    assert (found.path, found.kind) == (place, kind)


def test_what_does_not_reach_the_model_is_no_break():
    before = {"messages": [{"role": "user", "content": "a"}], "temperature": 1}
    after = {"messages": [{"content": [{"type": "text", "text": "a"}], "role": "user"}], "temperature": 0}
    assert broken(before, after) is None
    assert broken(before, {"messages": []}) is None  # a shorter prompt is still in the cache
    again = copy.deepcopy(after)
    again["messages"][0]["content"][0]["text"] = "ab"
    found = broken(before, again)
    assert (found.path, found.offset, found.kept, found.of) == ("messages[0].content[0].text", 1, 1, 2)


def test_other_bodies_have_no_prompt():
    assert prompt_pieces("/v1/embeddings", {"model": "m", "input": "a"}) == []
    assert prompt_pieces("/v1/models", None) == []
    gemini = {"contents": [{"parts": [{"text": "a"}]}], "systemInstruction": {"parts": [{"text": "b"}]}}
    kinds = [piece.kind for piece in prompt_pieces("/v1beta/models/g:generateContent", gemini)]
    assert kinds == ["model", "system", "messages"]
    kinds = [piece.kind for piece in prompt_pieces("/v1/responses", {"model": "m", "input": "a", "instructions": "b"})]
    assert kinds == ["model", "system", "messages"]
