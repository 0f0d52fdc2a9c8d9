"""What a gateway changed is found in the capture that the recorder made of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from otel_wirecap.reading.captures import Captures
from otel_wirecap.reading.diff import compared
from otel_wirecap.reading.json_diff import Difference, differences
from otel_wirecap.reading.legs import legs_of

sys.path.insert(0, str(Path(__file__).parent))

from rewriting_gateway import WORDS, capture

CHAT = {
    "model": "m", "messages": [{"role": "user", "content": "Does every byte arrive?"}],
    "max_tokens": 50, "top_k": 3, "temperature": 1,
}  # fmt: skip
TOOL = {"type": "object", "properties": {"city": {"type": "string"}}}
CALL = {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Ulm"}}
ANTHROPIC = {
    "model": "m", "max_tokens": 50, "system": "Be kind.", "stop_sequences": ["END"],
    "messages": [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": [CALL]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "sunny"}]},
    ],
    "tools": [{"name": "weather", "description": "The weather.", "input_schema": TOOL}],
}  # fmt: skip
REQUESTS = {
    "same": ("/same/v1/chat/completions", CHAT),
    "stream": ("/same/v1/chat/completions", CHAT | {"stream": True}),
    "prompted": ("/prompted/v1/chat/completions", CHAT),
    "commented": ("/commented/v1/chat/completions", CHAT | {"stream": True}),
    "recut": ("/recut/v1/chat/completions", CHAT | {"stream": True}),
    "censored": ("/censored/v1/chat/completions", CHAT | {"stream": True}),
    "pardoned": ("/pardoned/v1/chat/completions", CHAT | {"user": "over quota"}),
    "translated": ("/translated/v1/messages", ANTHROPIC),
    "lossless": ("/translated/v1/messages", ANTHROPIC | {"metadata": {"lossless": True}}),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return capture(tmp_path_factory.mktemp("gateway"), list(REQUESTS.values()))


@pytest.fixture
def comparisons(made):
    """The comparison of the requests and of the responses of the flow with this name."""

    def find(name: str):
        with Captures([made], use_index=False) as captures:
            flows = captures.flows()
            assert len(flows) == len(REQUESTS)
            request, response = compared(legs_of(captures, flows[list(REQUESTS).index(name)]))
        return request, response

    return find


def told(found) -> set[tuple]:
    return {(one.kind, one.path, one.before, one.after) for one in found}


def test_what_a_gateway_relays_has_no_differences_in_line_and_body(comparisons):
    for name in ("same", "stream"):
        for one in comparisons(name):
            assert (one.line, one.body, one.same_bytes) == ([], [], True)
    assert comparisons("stream")[1].same_chunks is True
    assert comparisons("same")[1].same_chunks is None


def test_moved_added_dropped_and_changed_members_are_told_by_their_path(comparisons):
    request, _ = comparisons("prompted")
    assert request.same_bytes is False
    assert request.body == [
        Difference("added", "messages[0]", None, None, {"role": "system", "content": "Be brief."}),
        Difference("moved", "max_tokens", "max_completion_tokens", 50, 50),
        Difference("dropped", "top_k", None, 3),
        Difference("changed", "temperature", None, 1, 0.5),
        Difference("added", "user", None, None, "gateway"),
    ]


def test_headers_are_compared_and_those_of_the_connection_are_noise(comparisons):
    request, response = comparisons("prompted")
    assert ("added", "x-gateway", None, "1") in told(request.headers)
    assert ("dropped", "x-session-id", "conversation-1", None) in told(request.headers)
    assert not {"host", "connection", "content-length"} & {one.path for one in request.headers}
    assert {"host", "content-length"} <= {one.path for one in request.noise}
    assert "date" in {one.path for one in response.noise}


def test_a_stream_with_other_bytes_that_says_the_same_has_no_difference(comparisons):
    _, response = comparisons("commented")
    assert (response.same_bytes, response.body) == (False, [])


def test_a_stream_cut_into_other_chunks_is_the_same_bytes(comparisons):
    _, response = comparisons("recut")
    assert (response.same_bytes, response.same_chunks) == (True, False)


def test_a_stream_that_says_something_else_differs_in_the_message(comparisons):
    _, response = comparisons("censored")
    (only,) = response.body
    assert (only.kind, only.path) == ("changed", "choices[0].message.content")
    assert (only.before, only.after) == ("".join(WORDS), "Every bit arrives.")


def test_a_status_that_was_changed_is_told(comparisons):
    _, response = comparisons("pardoned")
    assert told(response.line) == {("changed", "status", 429, 200)}
    assert response.body == []


def test_across_protocols_what_both_have_in_common_is_compared(comparisons):
    request, response = comparisons("translated")
    assert request.protocols == ("anthropic", "openai-chat")
    assert told(request.line) == {("changed", "path", "/translated/v1/messages", "/v1/chat/completions")}
    assert [(one.kind, one.path, one.before) for one in request.body] == [("dropped", "parameters.stop", ["END"])]
    assert response.protocols == ("openai-chat", "anthropic")
    assert response.body == []


def test_a_faithful_translation_has_no_difference_in_what_is_common(comparisons):
    request, _ = comparisons("lossless")
    assert request.body == []


def test_a_flow_without_a_second_leg_has_nothing_to_compare(made):
    with Captures([made], use_index=False) as captures:
        legs = legs_of(captures, captures.flows()[0])
    assert compared(legs[:1]) == []
    assert compared(legs[1:]) == []


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"a": 1, "b": [1, 2]}, {"b": [1, 2], "a": 1.0}, []),
        ({"a": 1}, {"a": True}, [Difference("changed", "a", None, 1, True)]),
        ([1, 2, 3], [1, 3], [Difference("dropped", "[1]", None, 2)]),
        ({"a b": "x"}, {}, [Difference("dropped", '["a b"]', None, "x")]),
        (None, {"a": 1}, [Difference("changed", "$", None, None, {"a": 1})]),
        (
            [{"role": "user", "content": "a"}],
            [{"role": "system", "content": "s"}, {"role": "user", "content": "b"}],
            [
                Difference("added", "[0]", None, None, {"role": "system", "content": "s"}),
                Difference("changed", "[0].content", "[1].content", "a", "b"),
            ],
        ),
        (
            {"one": {"text": "a long text"}},
            {"other": {"inner": {"text": "a long text"}}},
            [
                Difference("dropped", "one", None, {"text": "a long text"}),
                Difference("added", "other", None, None, {"inner": {"text": "a long text"}}),
            ],
        ),
        ({"a": {"x": 1}}, {"b": {"x": 1}}, [Difference("moved", "a", "b", {"x": 1}, {"x": 1})]),
        # The same small number in a distant place is chance.
        (
            {"a": {"n": 1}, "b": {}},
            {"a": {}, "b": {"m": 1}},
            [Difference("dropped", "a.n", None, 1), Difference("added", "b.m", None, None, 1)],
        ),
        ({"n": 10**30}, {"n": 10**30}, []),
        ([10**30], [10**30, 1], [Difference("added", "[1]", None, None, 1)]),
    ],
)
def test_differences_of_values(before, after, expected):
    assert differences(before, after) == expected


def test_long_lists_and_deep_values_are_compared_all_the_same():
    numbers = list(range(20_000))
    assert differences(numbers, [0, *numbers[::-1]])
    deep: object = 1
    other: object = 2
    for _ in range(400):
        deep, other = [deep], [other]
    assert len(differences(deep, other)) == 1
