"""Token counts of every provider's shape, in one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from otel_wirecap.llm.answers import usage_of
from otel_wirecap.llm.usage import Usage

RECORDED = Path(__file__).parents[3] / "shared" / "traffic" / "public.jsonl"


def chat(**usage):
    """An answer of OpenAI's chat with these counts."""
    return {"choices": [], "usage": usage}


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
        Usage(70, 3, billed=(Usage(1),)),
    ),
    "cohere with a cache": (
        {"usage": {"billed_units": {"input_tokens": 1}, "tokens": {"input_tokens": 70, "output_tokens": 3},
                   "cached_tokens": 40}},
        Usage(70, 3, 40, billed=(Usage(1),)),
    ),
    "vertex with numbers for words": (
        {"candidates": [], "usageMetadata": {
            "promptTokenCount": 30, "candidatesTokenCount": 5, "totalTokenCount": 35, "trafficType": 1,
            "promptTokensDetails": [{"modality": 1, "tokenCount": 10}, {"modality": 4, "tokenCount": 20}]}},
        Usage(30, 5, input_audio=20),
    ),
    "cohere, before": ({"meta": {"tokens": {"input_tokens": 6, "output_tokens": 5}}}, Usage(6, 5)),
    "groq": ({"x_groq": {"usage": {"prompt_tokens": 2, "completion_tokens": 1}}}, Usage(2, 1)),
    "moonshot": (
        {"choices": [{"usage": {"prompt_tokens": 8, "completion_tokens": 1, "cached_tokens": 4}}]}, Usage(8, 1, 4),
    ),
    "deepseek": ({"usage": {"prompt_tokens": 8, "completion_tokens": 1, "prompt_cache_hit_tokens": 6}}, Usage(8, 1, 6)),
    "openrouter": ({"usage": {"prompt_tokens": 8, "completion_tokens": 1, "cost": 0.25}}, Usage(8, 1, cost=0.25)),
    "ollama": ({"prompt_eval_count": 26, "eval_count": 9, "done": True}, Usage(26, 9)),
    "xai: reasoning beside the output": (
        chat(prompt_tokens=32, completion_tokens=9, total_tokens=135, prompt_tokens_details={"cached_tokens": 6},
             completion_tokens_details={"reasoning_tokens": 94}),
        Usage(32, 103, 6, 0, 94),
    ),
    "reasoning that is more than the output, without a total": (
        chat(prompt_tokens=33, completion_tokens=71, reasoning_tokens=739), Usage(33, 810, 0, 0, 739),
    ),
    "xai: its price in ticks": (
        chat(prompt_tokens=8, completion_tokens=1, total_tokens=9, cost_in_usd_ticks=37_756_000),
        Usage(8, 1, cost=0.0037756),
    ),
    "litellm: cache counts beside the prompt's, which includes them": (
        chat(prompt_tokens=1060, completion_tokens=7, total_tokens=1067, cache_read_input_tokens=1000,
             cache_creation_input_tokens=50, prompt_tokens_details={
                 "cached_tokens": 1000, "cache_creation_tokens": 50,
                 "cache_creation_token_details": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30}}),
        Usage(1060, 7, 1000, 50, cache_written_1h=30),
    ),
    "a gateway whose prompt count leaves the cache out": (
        chat(prompt_tokens=10, completion_tokens=7, total_tokens=1067, cache_read_input_tokens=1000,
             cache_creation_input_tokens=50),
        Usage(1060, 7, 1000, 50),
    ),
    "the same without a total": (
        chat(prompt_tokens=10, completion_tokens=7, cache_read_input_tokens=1000), Usage(1010, 7, 1000),
    ),
    "mistral": (chat(prompt_tokens=86, completion_tokens=703, total_tokens=789, num_cached_tokens=85),
                Usage(86, 703, 85)),
    "openrouter with one's own key": (
        chat(prompt_tokens=8, completion_tokens=1, cost=0.25, is_byok=True,
             cost_details={"upstream_inference_cost": 5}),
        Usage(8, 1, cost=5.25),
    ),
    "perplexity": (
        chat(prompt_tokens=8, completion_tokens=1, total_tokens=9, num_search_queries=2, cost={"total_cost": 0.5}),
        Usage(8, 1, cost=0.5, web_searches=2),
    ),
    "numbers as texts, and one that is null": (
        chat(prompt_tokens="100", completion_tokens="20", cost="0.5", prompt_tokens_details=None),
        Usage(100, 20, cost=0.5),
    ),
    "numbers that are none": (chat(prompt_tokens=float("nan"), completion_tokens=-3, total_tokens=True), None),
    "gemini in openai's form: reasoning in the total alone": (
        chat(prompt_tokens=10, completion_tokens=5, total_tokens=115), Usage(10, 105),
    ),
    "reasoning that is less than the output, and beside it": (
        chat(prompt_tokens=32, completion_tokens=9, total_tokens=46, completion_tokens_details={"reasoning_tokens": 5}),
        Usage(32, 14, 0, 0, 5),
    ),
    "responses with anthropic's names, too": (
        {"output": [], "usage": {"input_tokens": 100, "output_tokens": 5, "cache_read_input_tokens": 40,
                                 "input_tokens_details": {"cached_tokens": 40}}},
        Usage(100, 5, 40),
    ),
    "a cache's life alone": (
        {"type": "message", "content": [], "usage": {"input_tokens": 5, "cache_read_input_tokens": 0,
                                                     "cache_creation": {"ephemeral_1h_input_tokens": 60}}},
        Usage(65, 0, 0, 60, cache_written_1h=60),
    ),
    "two names of which one is 0": (chat(input_tokens=9, prompt_tokens=0, completion_tokens=1), Usage(9, 1)),
    "two names that differ": (chat(input_tokens=9, prompt_tokens=5, completion_tokens=1, output_tokens=2), Usage(5, 1)),
    "a gateway that leaves out both": (
        chat(prompt_tokens=10, completion_tokens=7, total_tokens=1087, reasoning_tokens=20,
             prompt_tokens_details={"cached_tokens": 1050}),
        Usage(1060, 27, 1050, 0, 20),
    ),
    "a step of a run": ({"object": "thread.run.step", "usage": {"prompt_tokens": 5, "completion_tokens": 7}}, None),
    "embeddings of vertex": (
        {"predictions": [{"embeddings": {"values": [], "statistics": {"token_count": n}}} for n in (3, 4.0)]}, Usage(7),
    ),
    "mistral's transcription": (
        {"text": "x", "usage": {"prompt_audio_seconds": 7, "prompt_tokens": 4, "completion_tokens": 30,
                                "total_tokens": 34}},
        Usage(4, 30, audio_seconds=7),
    ),
    "a total alone": (chat(total_tokens=12), Usage(12)),
    "a total without the output": (chat(prompt_tokens=9, total_tokens=12), Usage(9, 3)),
    "a total without the input": (chat(completion_tokens=9, total_tokens=12), Usage(3, 9)),
    "embeddings": ({"object": "list", "data": [], "usage": {"prompt_tokens": 12, "total_tokens": 12}}, Usage(12)),
    "reranking": ({"results": [], "usage": {"total_tokens": 12}}, Usage(12)),
    "openai by tier": (
        {**chat(prompt_tokens=1, completion_tokens=2), "service_tier": "flex"}, Usage(1, 2, tier="flex"),
    ),
    "the usual tier": ({**chat(prompt_tokens=1, completion_tokens=2), "service_tier": "default"}, Usage(1, 2)),
    "a batch": ({"object": "batch", "usage": {"input_tokens": 5, "output_tokens": 6}}, Usage(5, 6, tier="batch")),
    "realtime": (
        {"type": "response.done", "response": {"output": [], "usage": {
            "total_tokens": 42, "input_tokens": 30, "output_tokens": 12,
            "input_token_details": {"audio_tokens": 20, "cached_tokens": 8,
                                    "cached_tokens_details": {"audio_tokens": 5}},
            "output_token_details": {"audio_tokens": 10}}}},
        Usage(30, 12, 8, input_audio=20, output_audio=10, cached_audio=5),
    ),
    "images": (
        {"created": 1, "data": [], "usage": {"input_tokens": 50, "output_tokens": 100, "total_tokens": 150,
                                             "input_tokens_details": {"image_tokens": 40, "text_tokens": 10}}},
        Usage(50, 100, input_image=40),
    ),
    "a transcription by the second": (
        {"text": "hi", "usage": {"type": "duration", "seconds": 10.2}}, Usage(audio_seconds=11),
    ),
    "searches of the web": (
        {"output": [{"type": "web_search_call", "action": {"type": "search"}}, {"type": "web_search_call"},
                    {"type": "web_search_call", "action": {"type": "open_page"}}],
         "usage": {"input_tokens": 5, "output_tokens": 6}},
        Usage(5, 6, web_searches=2),
    ),
    "anthropic: life of the cache, searches, tier": (
        {"type": "message", "content": [], "usage": {
            "input_tokens": 5, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 100, "output_tokens": 7,
            "cache_creation": {"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 60},
            "server_tool_use": {"web_search_requests": 3}, "service_tier": "batch",
            "output_tokens_details": {"thinking_tokens": 2}}},
        Usage(105, 7, 0, 100, 2, cache_written_1h=60, web_searches=3, tier="batch"),
    ),
    "anthropic: compaction": (
        {"type": "message", "content": [], "usage": {
            "input_tokens": 23, "output_tokens": 1, "cache_read_input_tokens": 0, "iterations": [
                {"type": "compaction", "input_tokens": 180, "output_tokens": 3, "cache_read_input_tokens": 7},
                {"type": "message", "input_tokens": 23, "output_tokens": 1}]}},
        Usage(210, 4, 7, billed=(Usage(187, 3, 7), Usage(23, 1))),
    ),
    "anthropic: an adviser of another model": (
        {"type": "message", "content": [], "usage": {"input_tokens": 23, "output_tokens": 1, "iterations": [
            {"type": "message", "input_tokens": 23, "output_tokens": 1},
            {"type": "advisor_message", "input_tokens": 40, "output_tokens": 9, "model": "opus"}]}},
        Usage(63, 10, billed=(Usage(23, 1), Usage(40, 9, model="opus"))),
    ),
    "gemini: tools' results, modalities, tier": (
        {"candidates": [], "usageMetadata": {
            "promptTokenCount": 30, "toolUsePromptTokenCount": 6, "candidatesTokenCount": 5, "thoughtsTokenCount": 11,
            "totalTokenCount": 52, "cachedContentTokenCount": 12, "trafficType": "ON_DEMAND_FLEX",
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 10}, {"modality": "AUDIO", "tokenCount": 20}],
            "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 4}],
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 5}]}},
        Usage(36, 16, 12, 0, 11, input_audio=20, output_image=5, cached_audio=4, tier="flex"),
    ),
    "gemini where the output includes the thoughts": (
        {"candidates": [], "usageMetadata": {"promptTokenCount": 30, "candidatesTokenCount": 16,
                                             "thoughtsTokenCount": 11, "totalTokenCount": 46}},
        Usage(30, 16, 0, 0, 11),
    ),
    "gemini live": (
        {"usageMetadata": {"promptTokenCount": 3, "responseTokenCount": 5, "totalTokenCount": 8,
                           "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 5}]}},
        Usage(3, 5, output_audio=5),
    ),
    "gemini in snake case": (
        {"usage_metadata": {"prompt_token_count": 3, "candidates_token_count": 5, "thoughts_token_count": 2}},
        Usage(3, 7, 0, 0, 2),
    ),
    "gemini, grounded": (
        {"candidates": [{"groundingMetadata": {"webSearchQueries": ["x"]}}], "usageMetadata": {"promptTokenCount": 3}},
        Usage(3, unpriced="searches that an answer is grounded on"),
    ),
    "google's interactions": (
        {"id": "i", "usage": {
            "total_input_tokens": 7, "total_output_tokens": 20, "total_thought_tokens": 22, "total_tokens": 49,
            "total_cached_tokens": 2, "total_tool_use_tokens": 0,
            "input_tokens_by_modality": [{"modality": "audio", "tokens": 3}]}},
        Usage(7, 42, 2, 0, 22, input_audio=3),
    ),
    "bedrock: life of the cache, tier": (
        {"output": {"message": {}}, "serviceTier": {"type": "priority"}, "usage": {
            "inputTokens": 4, "outputTokens": 2, "totalTokens": 17, "cacheReadInputTokens": 10,
            "cacheWriteInputTokens": 5,
            "cacheDetails": [{"ttl": "1h", "inputTokens": 3}, {"ttl": "5m", "inputTokens": 2}]}},
        Usage(19, 2, 10, 5, cache_written_1h=3, tier="priority"),
    ),
    "bedrock's llama": ({"generation": "x", "prompt_token_count": 3, "generation_token_count": 4}, Usage(3, 4)),
    "bedrock's titan": ({"inputTextTokenCount": 3, "results": [{"tokenCount": 4, "outputText": ""}]}, Usage(3, 4)),
    "llama.cpp": ({"content": "x", "tokens_evaluated": 3, "tokens_predicted": 4}, Usage(3, 4)),
    "workers ai": ({"result": {"response": "x", "usage": {"prompt_tokens": 3, "completion_tokens": 4}}}, Usage(3, 4)),
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
