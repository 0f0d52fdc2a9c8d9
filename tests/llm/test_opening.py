"""The opening of a conversation, in every provider's shape."""

import pytest

from otel_wirecap.llm.dialects import Opening
from otel_wirecap.llm.opening import opening_of


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "hi"}]},
        {
            "messages": [
                {"role": "developer", "content": "Be kind"},
                {"role": "user", "content": [{"type": "text", "text": "hi"}]},
            ]
        },
        {"system": "Be kind", "messages": [{"role": "user", "content": "hi"}]},
        {
            "system": [{"type": "text", "text": "Be kind", "cache_control": {"type": "ephemeral"}}],
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "x"}}]}],
        },
        {"instructions": "Be kind", "input": "hi"},
        {
            "instructions": "Be kind",
            "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
        },
        {
            "systemInstruction": {"parts": [{"text": "Be kind"}]},
            "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        },
        {"system_instruction": {"parts": [{"text": "Be kind"}]}, "contents": [{"parts": [{"text": "hi"}]}]},
        {"preamble": "Be kind", "message": "hi"},
        {"preamble": "Be kind", "chat_history": [{"role": "USER", "message": "hi"}], "message": "and now?"},
        {
            "system": [{"text": "Be kind"}, {"cachePoint": {"type": "default"}}],
            "messages": [{"role": "user", "content": [{"text": "hi"}]}],
        },
        {"system": "Be kind", "prompt": "hi"},
    ],
)
def test_every_shape_of_one_conversation_has_the_same_opening(body):
    assert opening_of(body) == Opening("Be kind", "hi")


def test_later_turns_do_not_change_the_opening():
    first = {"messages": [{"role": "user", "content": "hi"}]}
    later = {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "hi"}]},
            {"role": "assistant", "content": "hello"},
            {"role": "system", "content": "late"},
            {"role": "user", "content": "more"},
        ]
    }
    assert opening_of(first) == opening_of(later) == Opening("", "hi")


def test_pictures_count():
    def picture(url: str) -> dict[str, object]:
        return {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}

    assert opening_of(picture("https://a.example/1")) != opening_of(picture("https://a.example/2"))


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "text",
        {},
        {"messages": []},
        {"messages": [{"role": "assistant", "content": "x"}]},
        {"messages": "x"},
    ],
)
def test_without_a_users_words_there_is_no_opening(body):
    assert opening_of(body) is None


def test_hostile_nesting_and_length_are_bounded():
    nested: object = "deep"
    for _ in range(100_000):
        nested = [nested]
    assert opening_of({"messages": [{"role": "user", "content": nested}]}) is None
    assert opening_of({"prompt": "x" * 1_000_000}) == Opening("", "x" * 65536)
