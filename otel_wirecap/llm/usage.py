"""Token counts of an answer, in one shape for all providers.

Providers do not agree on what "input" means: with OpenAI, Gemini and those who speak like them it includes what came
from the cache, with Anthropic and Bedrock it does not. Here it always does.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Usage(NamedTuple):
    """Tokens of one answer.

    Attributes:
        input: tokens of the prompt, those from the cache and those written to it included.
        output: tokens of the answer, reasoning included.
        cached: of ``input``, those read from the provider's cache.
        cache_written: of ``input``, those written to the provider's cache.
        reasoning: of ``output``, those the model thought with.
        cost: US dollars, where the answer itself names its price (OpenRouter); else None.
    """

    input: int = 0
    output: int = 0
    cached: int = 0
    cache_written: int = 0
    reasoning: int = 0
    cost: float | None = None

    @property
    def total(self) -> int:
        """Input and output."""
        return self.input + self.output

    def plus(self, other: Usage | None) -> Usage:
        """Both together; a cost is known where one of them names one."""
        if other is None:
            return self
        costs = [one.cost for one in (self, other) if one.cost is not None]
        return Usage(
            self.input + other.input,
            self.output + other.output,
            self.cached + other.cached,
            self.cache_written + other.cache_written,
            self.reasoning + other.reasoning,
            sum(costs) if costs else None,
        )


def usage_of(answer: Any) -> Usage | None:
    """The token counts that a provider's answer reports, or an event or a record of usage within one.

    Args:
        answer: the parsed JSON of a whole answer, streamed ones assembled, or a list of such (Gemini without SSE).

    Returns:
        None where it reports none.
    """
    if isinstance(answer, list):
        found = [one for one in map(usage_of, answer) if one is not None]
        return found[-1] if found else None
    if not isinstance(answer, dict):
        return None
    for holder in _holders(answer):
        usage = _read(holder)
        if usage is not None:
            return usage
    return None


def _holders(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Where the counts may stand, the likeliest first."""
    groq, meta, choices = answer.get("x_groq"), answer.get("meta"), answer.get("choices")
    candidates = [
        answer.get("usage"),
        answer.get("usageMetadata"),
        answer.get("usage_metadata"),
        groq.get("usage") if isinstance(groq, dict) else None,
        meta,  # Cohere, first version of its interface
        choices[-1].get("usage") if isinstance(choices, list) and choices and isinstance(choices[-1], dict) else None,
        answer if "prompt_eval_count" in answer or "eval_count" in answer else None,  # Ollama
    ]
    return [one for one in candidates if isinstance(one, dict)]


def _read(usage: dict[str, Any]) -> Usage | None:
    if "promptTokenCount" in usage or "candidatesTokenCount" in usage or "totalTokenCount" in usage:
        return _gemini(usage)
    if "inputTokens" in usage or "outputTokens" in usage:
        return _bedrock(usage)
    for inner in (usage.get("tokens"), usage.get("billed_units")):
        if isinstance(inner, dict):  # Cohere
            return Usage(_count(inner, "input_tokens"), _count(inner, "output_tokens"), _count(usage, "cached_tokens"))
    if "prompt_eval_count" in usage or "eval_count" in usage:
        return Usage(_count(usage, "prompt_eval_count"), _count(usage, "eval_count"))
    if "prompt_tokens" in usage or "completion_tokens" in usage:
        return _openai(usage, "prompt", "completion")
    if "cache_read_input_tokens" in usage or "cache_creation_input_tokens" in usage:
        return _anthropic(usage)
    if "input_tokens" in usage or "output_tokens" in usage:
        return _openai(usage, "input", "output")
    return None


def _openai(usage: dict[str, Any], asked: str, answered: str) -> Usage:
    details_in = _part(usage, f"{asked}_tokens_details")
    details_out = _part(usage, f"{answered}_tokens_details")
    cost = usage.get("cost")
    return Usage(
        _count(usage, f"{asked}_tokens"),
        _count(usage, f"{answered}_tokens"),
        # DeepSeek and Moonshot have a place of their own for it.
        _count(details_in, "cached_tokens") or _count(usage, "prompt_cache_hit_tokens", "cached_tokens"),
        _count(details_in, "cache_write_tokens", "cache_creation_tokens"),
        _count(details_out, "reasoning_tokens") or _count(usage, "reasoning_tokens"),
        float(cost) if isinstance(cost, int | float) and not isinstance(cost, bool) else None,
    )


def _anthropic(usage: dict[str, Any]) -> Usage:
    read, written = _count(usage, "cache_read_input_tokens"), _count(usage, "cache_creation_input_tokens")
    return Usage(_count(usage, "input_tokens") + read + written, _count(usage, "output_tokens"), read, written)


def _bedrock(usage: dict[str, Any]) -> Usage:
    read = _count(usage, "cacheReadInputTokens", "cacheReadInputTokenCount")
    written = _count(usage, "cacheWriteInputTokens", "cacheWriteInputTokenCount")
    return Usage(_count(usage, "inputTokens") + read + written, _count(usage, "outputTokens"), read, written)


def _gemini(usage: dict[str, Any]) -> Usage:
    thought = _count(usage, "thoughtsTokenCount")
    return Usage(
        _count(usage, "promptTokenCount") + _count(usage, "toolUsePromptTokenCount"),
        _count(usage, "candidatesTokenCount") + thought,
        _count(usage, "cachedContentTokenCount"),
        0,
        thought,
    )


def _part(usage: dict[str, Any], name: str) -> dict[str, Any]:
    part = usage.get(name)
    return part if isinstance(part, dict) else {}


def _count(usage: dict[str, Any], *names: str) -> int:
    """The first of the counts that is there; 0 where none is one."""
    for name in names:
        value = usage.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return int(value)
    return 0
