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


def openai_usage(usage: dict[str, Any], asked: str, answered: str) -> Usage:
    """Counts as OpenAI has them, whose interfaces differ in the words for what is asked and what is answered."""
    details_in = _part(usage, f"{asked}_tokens_details")
    details_out = _part(usage, f"{answered}_tokens_details")
    cost = usage.get("cost")
    return Usage(
        count_in(usage, f"{asked}_tokens"),
        count_in(usage, f"{answered}_tokens"),
        # DeepSeek and Moonshot have a place of their own for it.
        count_in(details_in, "cached_tokens") or count_in(usage, "prompt_cache_hit_tokens", "cached_tokens"),
        count_in(details_in, "cache_write_tokens", "cache_creation_tokens"),
        count_in(details_out, "reasoning_tokens") or count_in(usage, "reasoning_tokens"),
        float(cost) if isinstance(cost, int | float) and not isinstance(cost, bool) else None,
    )


def count_in(usage: dict[str, Any], *names: str) -> int:
    """The first of the counts that is there; 0 where none is one."""
    for name in names:
        value = usage.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return int(value)
    return 0


def _part(usage: dict[str, Any], name: str) -> dict[str, Any]:
    part = usage.get(name)
    return part if isinstance(part, dict) else {}
