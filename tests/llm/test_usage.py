"""Token counts of every provider's shape, in one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from otel_wirecap.llm.answers import usage_of
from otel_wirecap.llm.usage import Usage

RECORDED = Path(__file__).parents[3] / "shared" / "traffic" / "public.jsonl"

SHAPES = {
    "openai chat": (
        {"usage": {"prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 64},
                   "completion_tokens_details": {"reasoning_tokens": 8}}},
        Usage(100, 20, 64, 0, 8),
    ),
    "openai responses": (
        {"usage": {"input_tokens": 9, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 2},
                   "output_tokens_details": {"reasoning_tokens": 3}}},
        Usage(9, 4, 2, 0, 3),
    ),
    "anthropic": (
        {"usage": {"input_tokens": 5, "cache_read_input_tokens": 1000, "cache_creation_input_tokens": 50,
                   "output_tokens": 7}},
        Usage(1055, 7, 1000, 50),
    ),
    "gemini": (
        {"usageMetadata": {"promptTokenCount": 30, "candidatesTokenCount": 5, "thoughtsTokenCount": 11,
                           "cachedContentTokenCount": 12, "totalTokenCount": 46}},
        Usage(30, 16, 12, 0, 11),
    ),
    "gemini, the array of a stream": (
        [{"usageMetadata": {"promptTokenCount": 3}},
         {"usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2}}],
        Usage(3, 2),
    ),
    "bedrock": (
        {"usage": {"inputTokens": 4, "outputTokens": 2, "cacheReadInputTokens": 10, "cacheWriteInputTokens": 1}},
        Usage(15, 2, 10, 1),
    ),
    "cohere": (
        {"usage": {"billed_units": {"input_tokens": 1}, "tokens": {"input_tokens": 70, "output_tokens": 3}}},
        Usage(70, 3),
    ),
    "cohere, before": ({"meta": {"tokens": {"input_tokens": 6, "output_tokens": 5}}}, Usage(6, 5)),
    "groq": ({"x_groq": {"usage": {"prompt_tokens": 2, "completion_tokens": 1}}}, Usage(2, 1)),
    "moonshot": (
        {"choices": [{"usage": {"prompt_tokens": 8, "completion_tokens": 1, "cached_tokens": 4}}]}, Usage(8, 1, 4),
    ),
    "deepseek": ({"usage": {"prompt_tokens": 8, "completion_tokens": 1, "prompt_cache_hit_tokens": 6}}, Usage(8, 1, 6)),
    "openrouter": ({"usage": {"prompt_tokens": 8, "completion_tokens": 1, "cost": 0.25}}, Usage(8, 1, cost=0.25)),
    "ollama": ({"prompt_eval_count": 26, "eval_count": 9, "done": True}, Usage(26, 9)),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_the_counts_of_a_providers_shape_are_read(shape):
    answer, expected = SHAPES[shape]
    assert usage_of(answer) == expected


@pytest.mark.parametrize(
    "answer", [None, "text", 1, [], {}, {"usage": None}, {"usage": {"prompt_tokens": None}}, {"usage": []}]
)
def test_an_answer_without_counts_has_none_and_does_no_harm(answer):
    usage = usage_of(answer)
    assert usage is None or usage == Usage()


def test_counts_add_up_and_a_known_cost_stays_known():
    assert Usage(1, 2, 3, 4, 5, 0.5).plus(Usage(10, 20)) == Usage(11, 22, 3, 4, 5, 0.5)
    assert Usage(1).plus(None) == Usage(1)
    assert Usage(3, 4).total == 7


def test_every_recorded_answer_that_reports_counts_is_read():
    if not RECORDED.exists():
        pytest.skip("the recorded traffic is not in this checkout")
    read = 0
    for line in RECORDED.read_text(encoding="utf-8").splitlines():
        exchange = json.loads(line)
        try:
            answer = json.loads(exchange.get("response_body"))
        except (TypeError, ValueError):
            continue
        if isinstance(answer, dict) and (answer.get("usage") or answer.get("usageMetadata")):
            usage = usage_of(answer)
            assert usage is not None, exchange["id"]
            assert usage.total > 0, exchange["id"]
            assert usage.cached <= usage.input, exchange["id"]
            assert usage.reasoning <= usage.output, exchange["id"]
            read += 1
    assert read > 5
