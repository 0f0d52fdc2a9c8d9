"""What is asked of a model, and what its answer says of itself, in the dialects of the providers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from otel_wirecap.llm.answers import answer_of
from otel_wirecap.llm.dialects import Parameters
from otel_wirecap.llm.dialects.interface import Answer
from otel_wirecap.llm.requests import operation_of, parameters_of
from otel_wirecap.llm.usage import Usage

MODEL = "/model/arn%3Aaws%3Abedrock/"


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("/v1/chat/completions", "chat"),
        ("/openai/deployments/mine/chat/completions", "chat"),
        ("/v1/responses", "chat"),
        ("/anthropic/v1/messages", "chat"),
        ("/v2/chat", "chat"),
        ("/api/chat", "chat"),
        (MODEL + "converse-stream", "chat"),
        ("/v1/projects/p/locations/l/publishers/anthropic/models/claude:streamRawPredict", "chat"),
        ("/v1beta/models/gemini-2.5-pro:streamGenerateContent", "generate_content"),
        ("/v1beta/models/gemini-2.5-pro%3AgenerateContent", "generate_content"),
        ("/v1/completions", "text_completion"),
        ("/api/generate", "text_completion"),
        ("/v1/embeddings", "embeddings"),
        ("/api/embed", "embeddings"),
        ("/v1beta/models/e:batchEmbedContents", "embeddings"),
        ("/v1/models", None),
        ("/v1/messages/count_tokens", None),
        ("/v1/threads/t/messages", None),
        ("/v1/responses/resp_1", None),
        ("/chat", None),
        ("", None),
    ],
)
def test_the_path_tells_the_operation(path: str, operation: str | None) -> None:
    assert operation_of(path, {}) == operation


def test_bedrock_s_invoke_is_told_by_the_body_and_the_model() -> None:
    assert operation_of(MODEL + "invoke", {"messages": []}) == "chat"
    assert operation_of(MODEL + "invoke-with-response-stream", {"prompt": ""}) == "text_completion"
    assert operation_of("/model/amazon.titan-embed-text-v2/invoke", {"inputText": ""}) == "embeddings"


@pytest.mark.parametrize(
    ("body", "parameters"),
    [
        ({"temperature": 0.5, "top_p": 1, "max_completion_tokens": 9}, Parameters(0.5, 1, 9)),
        ({"max_output_tokens": 9}, Parameters(None, None, 9)),
        ({"generationConfig": {"temperature": 0, "topP": 0.1, "maxOutputTokens": 9}}, Parameters(0, 0.1, 9)),
        ({"inferenceConfig": {"temperature": 1, "topP": 0.1, "maxTokens": 9}}, Parameters(1, 0.1, 9)),
        ({"options": {"temperature": 1, "top_p": 0.1, "num_predict": 9}}, Parameters(1, 0.1, 9)),
        ({"temperature": True, "top_p": "1", "max_tokens": None, "options": [1]}, Parameters()),
        ({"max_tokens": 10**400, "temperature": float("nan")}, Parameters()),
        ([], Parameters()),
        (None, Parameters()),
    ],
)
def test_parameters_are_found_where_each_provider_has_them(body: object, parameters: Parameters) -> None:
    assert parameters_of("", body) == parameters


@pytest.mark.parametrize(
    ("answer", "identifier", "reasons", "tokens"),
    [
        (
            {
                "id": "chatcmpl-1",
                "choices": [{"finish_reason": "stop"}, {"finish_reason": "length"}, {"finish_reason": None}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 2},
            },
            "chatcmpl-1", ("stop", "length"), Usage(1, 2),
        ),
        (
            {"id": "msg_1", "stop_reason": "end_turn", "usage": {"input_tokens": 1, "cache_read_input_tokens": 2}},
            "msg_1", ("end_turn",), Usage(3, 0, 2),
        ),
        (
            {"responseId": "r", "candidates": [{"finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 1}},
            "r", ("STOP",), Usage(1),
        ),
        ({"stopReason": "end_turn", "usage": {"inputTokens": 1, "outputTokens": 2}}, None, ("end_turn",), Usage(1, 2)),
        ({"done_reason": "stop", "prompt_eval_count": 1, "eval_count": 2}, None, ("stop",), Usage(1, 2)),
        ({"choices": "none", "id": 7}, None, (), None),
        ([{"responseId": "a"}, {"responseId": "b"}], "b", (), None),
        ([], None, (), None),
        ("text", None, (), None),
    ],
)  # fmt: skip
def test_answers_say_who_they_are(
    answer: object, identifier: str | None, reasons: tuple[str, ...], tokens: Usage | None
) -> None:
    assert answer_of(answer) == Answer(identifier, reasons, tokens)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "candidates", "usage", "id", "finish_reason", "temperature", "options", "max_tokens"]
            ),
            inner,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_whatever_json_says_is_told_in_the_types_of_attributes(value: Any) -> None:
    parameters, answer = parameters_of("", value), answer_of(value)
    assert all(number is None or abs(number) < float("inf") for number in parameters)
    assert isinstance(parameters.max_tokens, int | None)
    assert isinstance(answer.id, str | None)
    assert all(answer.finish_reasons)
    assert operation_of("/model/x/invoke", value) in {"chat", "text_completion"}
