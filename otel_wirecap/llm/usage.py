"""Token counts of an answer, in one shape for all providers: the one place that knows what each calls them.

Providers do not agree on what "input" includes. With OpenAI, Gemini and those who speak like them it includes what came
from the cache, with Anthropic and Bedrock it does not. Nor do they on "output": with OpenAI it includes the reasoning,
with Gemini and xAI it does not. Here both always do.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple, TypeAlias

Json: TypeAlias = dict[str, Any]

TICKS_PER_DOLLAR: Final = 10**10
"""Of xAI's ``cost_in_usd_ticks``: https://docs.x.ai/developers/cost-tracking"""

MAX_COUNT: Final = 10**15
"""What is more is no count."""

_MAX_CALLS: Final = 1000
"""Calls of one answer that are priced by themselves; what is beyond counts as one."""


class Usage(NamedTuple):
    """Tokens of one answer.

    Attributes:
        input: tokens of the prompt, those from the cache and those written to it included.
        output: tokens of the answer, reasoning included.
        cached: of ``input``, those read from the provider's cache.
        cache_written: of ``input``, those written to the provider's cache.
        reasoning: of ``output``, those the model thought with.
        cost: US dollars, where the answer itself names its price (OpenRouter, xAI, Perplexity); else None.
        cache_written_1h: of ``cache_written``, those that are kept for an hour.
        input_audio: of ``input``, audio; ``input_image``: images.
        output_audio: of ``output``, audio; ``output_image``: images.
        cached_audio: of ``cached``, audio; ``cached_image``: images.
        audio_seconds: seconds of audio that are billed instead of tokens, rounded up.
        web_searches: searches of the web that are billed beside the tokens.
        tier: the service tier where its price is another than the usual one (``flex``, ``priority``, ``batch``, …).
        model: the model, where it is another one than the answer names.
        unpriced: what else is billed and not counted here.
        billed: what is billed, each by its own context and model, where it is not these counts as one: the calls that
            an answer is made of, the responses of a websocket, Cohere's billed units.
    """

    input: int = 0
    output: int = 0
    cached: int = 0
    cache_written: int = 0
    reasoning: int = 0
    cost: float | None = None
    cache_written_1h: int = 0
    input_audio: int = 0
    output_audio: int = 0
    input_image: int = 0
    output_image: int = 0
    cached_audio: int = 0
    cached_image: int = 0
    audio_seconds: int = 0
    web_searches: int = 0
    tier: str | None = None
    model: str | None = None
    unpriced: str | None = None
    billed: tuple[Usage, ...] = ()

    @property
    def total(self) -> int:
        """Input and output."""
        return self.input + self.output

    @property
    def counts(self) -> dict[str, int]:
        """What is counted, by name."""
        return {name: getattr(self, name) for name in COUNTS}

    def plus(self, other: Usage | None) -> Usage:
        """The counts of both together; a cost is known where one of them names one."""
        if other is None:
            return self
        costs = [one.cost for one in (self, other) if one.cost is not None]
        sums = {name: getattr(self, name) + getattr(other, name) for name in COUNTS}
        return Usage(cost=sum(costs) if costs else None, **sums)

    def with_call(self, other: Usage) -> Usage:
        """The counts of both together, each priced by itself."""
        calls = (*(self.billed or (self,)), *(other.billed or (other,)))
        if len(calls) > _MAX_CALLS:
            calls = (*calls[: _MAX_CALLS - 1], calls[_MAX_CALLS - 1].plus(calls[_MAX_CALLS]))
        return self.plus(other)._replace(billed=calls)


_NO_COUNTS: Final = ("cost", "tier", "model", "unpriced", "billed")
COUNTS: Final = tuple(name for name in Usage._fields if name not in _NO_COUNTS)
"""The attributes that are counts."""

_INPUT: Final = (
    "prompt_tokens",  # openai.types.CompletionUsage, and all who speak like it
    "input_tokens",  # openai.types.responses.ResponseUsage, anthropic.types.Usage, cohere.types.UsageTokens
    "promptTokenCount",  # google.genai.types.GenerateContentResponseUsageMetadata
    "total_input_tokens",  # google-genai, interactions.Usage
    "inputTokens",  # https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html
    "prompt_token_count", "inputTokenCount", "inputTextTokenCount",  # amazon-bedrock-invocationMetrics; Titan
    "prompt_eval_count",  # https://github.com/ollama/ollama/blob/main/docs/api.md
    "tokens_evaluated",  # https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
)  # fmt: skip
_OUTPUT: Final = (
    "completion_tokens", "output_tokens", "candidatesTokenCount", "candidates_token_count", "responseTokenCount",
    "response_token_count", "total_output_tokens", "outputTokens", "outputTokenCount", "generation_token_count",
    "eval_count", "tokens_predicted",
)  # fmt: skip
_TOTAL: Final = ("total_tokens", "totalTokenCount", "total_token_count", "totalTokens")
_OF_TOOLS: Final = (  # results of tools that the provider called, which are input beside the prompt
    "toolUsePromptTokenCount", "tool_use_prompt_token_count", "total_tool_use_tokens",
    "connector_tokens",  # mistralai ConversationUsageInfo
)  # fmt: skip
_CACHED: Final = (
    "prompt_tokens_details.cached_tokens", "input_tokens_details.cached_tokens",
    "input_token_details.cached_tokens",  # openai.types.realtime.RealtimeResponseUsage
    "prompt_cache_hit_tokens",  # https://api-docs.deepseek.com/guides/kv_cache
    "cached_tokens",  # Moonshot; cohere.types.Usage
    "num_cached_tokens",  # Mistral
    "cache_read_input_tokens",  # anthropic.types.Usage; beside prompt_tokens with LiteLLM, Portkey and Databricks
    "prompt_tokens_details.cache_read_tokens", "prompt_tokens_details.cache_read_input_tokens", "cache_read_tokens",
    "cachedContentTokenCount", "cached_content_token_count", "total_cached_tokens",
    "cacheReadInputTokens", "cacheReadInputTokenCount",
)  # fmt: skip
_CACHE_WRITTEN: Final = (
    "prompt_tokens_details.cache_write_tokens", "input_tokens_details.cache_write_tokens",  # openai; OpenRouter
    "prompt_tokens_details.cache_creation_tokens",  # litellm.types.utils.PromptTokensDetailsWrapper
    "prompt_tokens_details.cached_creation_tokens",  # New API
    "cache_creation_input_tokens", "prompt_tokens_details.cache_creation_input_tokens", "cache_write_tokens",
    "cache_creation_tokens", "cacheWriteInputTokens", "cacheWriteInputTokenCount",
)  # fmt: skip
_CACHE_WRITTEN_1H: Final = (
    "cache_creation.ephemeral_1h_input_tokens",  # anthropic.types.CacheCreation
    "prompt_tokens_details.cache_creation_token_details.ephemeral_1h_input_tokens",  # LiteLLM
    "cache_creation_token_details.ephemeral_1h_input_tokens",
    "claude_cache_creation_1_h_tokens",  # New API
    "cacheDetails#1h",  # Bedrock's CacheDetail
)  # fmt: skip
_REASONING: Final = (
    "completion_tokens_details.reasoning_tokens", "output_tokens_details.reasoning_tokens",
    "output_token_details.reasoning_tokens",
    "output_tokens_details.thinking_tokens",  # anthropic.types.OutputTokensDetails
    "reasoning_tokens", "thoughtsTokenCount", "thoughts_token_count", "total_thought_tokens",
)  # fmt: skip


def _details(holders: str, member: str) -> tuple[str, ...]:
    return tuple(f"{holder}.{member}" for holder in holders.split())


_ASKED, _ANSWERED = (
    "prompt_tokens_details input_tokens_details input_token_details",
    "completion_tokens_details output_tokens_details output_token_details",
)
_PARTS: Final = {
    "input_audio": (
        *_details(_ASKED, "audio_tokens"), "promptTokensDetails#audio", "prompt_tokens_details#audio",
        "input_tokens_by_modality#audio",
    ),
    "input_image": (
        *_details(_ASKED, "image_tokens"), "promptTokensDetails#image", "prompt_tokens_details#image",
        "input_tokens_by_modality#image",
    ),
    "output_audio": (
        *_details(_ANSWERED, "audio_tokens"), "candidatesTokensDetails#audio", "candidates_tokens_details#audio",
        "responseTokensDetails#audio", "response_tokens_details#audio", "output_tokens_by_modality#audio",
    ),
    "output_image": (
        *_details(_ANSWERED, "image_tokens"), "candidatesTokensDetails#image", "candidates_tokens_details#image",
        "responseTokensDetails#image", "response_tokens_details#image", "output_tokens_by_modality#image",
    ),
    "cached_audio": (
        *_details(_ASKED, "cached_tokens_details.audio_tokens"), "cacheTokensDetails#audio",
        "cached_tokens_by_modality#audio",
    ),
    "cached_image": (
        *_details(_ASKED, "cached_tokens_details.image_tokens"), "cacheTokensDetails#image",
        "cached_tokens_by_modality#image",
    ),
    "audio_seconds": (
        "seconds",  # openai.types.audio.Transcription.UsageDuration
        "prompt_audio_seconds",  # mistralai UsageInfo
    ),
    "web_searches": (
        "server_tool_use.web_search_requests",  # anthropic.types.ServerToolUsage
        "server_tool_use_details.web_search_requests",  # OpenRouter
        "num_search_queries",  # Perplexity
        "grounding_tool_count#google_search",  # google-genai, interactions.GroundingToolCount
    ),
}  # fmt: skip
_REASONING_BESIDE: Final = frozenset(
    {"candidatesTokenCount", "candidates_token_count", "thoughtsTokenCount", "thoughts_token_count",
     "responseTokenCount", "response_token_count", "total_thought_tokens"}
)  # fmt: skip
"""The names of Google, whose counts of output leave out what the model thought."""

_CACHE_BESIDE: Final = frozenset(
    {"cache_read_input_tokens", "cache_creation_input_tokens", "cacheReadInputTokens", "cacheWriteInputTokens",
     "cacheReadInputTokenCount", "cacheWriteInputTokenCount"}
)  # fmt: skip
"""The names of Anthropic and Bedrock, whose counts of input leave out what was read from and written to a cache."""

_USUAL_TIERS: Final = frozenset(
    {"", "auto", "default", "global", "not_available", "on_demand", "standard", "traffic_type_unspecified",
     "unspecified"}
)  # fmt: skip


class _UsageMember:
    """A member of a usage, or a word in an element of a list: what is counted there, and places within it.

    Attributes:
        counts: each with its place in the list of the count's names: the first that is not 0 counts.
        members: of an object there, by name; ``elements``: of a list there, by a word that they have.
    """

    __slots__ = ("counts", "elements", "members")

    def __init__(self) -> None:
        self.counts: list[tuple[int, str]] = []
        self.members: dict[str, _UsageMember] = {}
        self.elements: dict[str, _UsageMember] = {}


def _places(names: dict[str, tuple[str, ...]]) -> dict[str, _UsageMember]:
    """The names as a tree, so that only members that a usage has are looked for.

    ``a.b`` is a member of a member; ``a#x`` is the number in that element of a list which has x in it.
    """
    root = _UsageMember()
    for count, paths in names.items():
        for order, path in enumerate(paths):
            place = root
            members, _, element = path.partition("#")
            for member in members.split("."):
                place = place.members.setdefault(member, _UsageMember())
            if element:
                place = place.elements.setdefault(element, _UsageMember())
            place.counts.append((order, count))
    return root.members


_MODALITIES: Final = {2: "image", 4: "audio"}
"""Numbers of Google's enumeration ``Modality``, where a client writes it so."""

_PLACES: Final = _places(
    {
        "input": _INPUT, "output": _OUTPUT, "total": _TOTAL, "tools": _OF_TOOLS, "cached": _CACHED,
        "cache_written": _CACHE_WRITTEN, "cache_written_1h": _CACHE_WRITTEN_1H, "reasoning": _REASONING, **_PARTS,
    }
)  # fmt: skip


def usage_in(usage: object, answer: Json | None = None) -> Usage | None:
    """Reads what an answer says of its tokens.

    Args:
        usage: the object that has the counts, with whatever names.
        answer: the answer that it is in, which may name the service tier.

    Returns:
        None where it has no count.
    """
    if not isinstance(usage, dict) or (answer and answer.get("object") == "thread.run.step"):  # whose run has it, too
        return None
    found: dict[str, tuple[int, int]] = {}
    _collect(usage, _PLACES, found)
    cost = _cost(usage)
    if not found and cost is None:
        return None
    counts: dict[str, Any] = {count: number for count, (_, number) in found.items()}
    asked, answered, total = counts.pop("input", None), counts.pop("output", None), counts.pop("total", 0)
    beside = counts.get("audio_seconds") or counts.get("web_searches")
    if asked is None and answered is None and not total and cost is None and not beside:
        return None
    tools, reasoning, cached = counts.pop("tools", 0), counts.get("reasoning", 0), counts.get("cached", 0)
    written = max(counts.get("cache_written", 0), counts.get("cache_written_1h", 0))
    input_, output = (asked or 0) + tools, answered or 0
    if cached or written or reasoning:
        more_input, more_output = _left_out(usage, input_, output, cached + written, reasoning, total)
        input_, output = input_ + more_input, output + more_output
    if total and asked is None:
        input_ = max(input_, total - output)
    elif total and not reasoning:  # which Gemini leaves out of its output, in OpenAI's form, and reports nowhere
        output = max(output, total - input_)
    counts |= {"input": input_, "output": output, "cache_written": written}
    reported = Usage(cost=cost, tier=_tier(usage, answer or {}), **counts)
    return _with_iterations(reported, usage) if "iterations" in usage else reported


def added(usage: Json, other: Json) -> Json:
    """What two answers report, as one: their numbers added, of anything else the last that is there."""
    both = {**usage, **{name: value for name, value in other.items() if value is not None or name not in usage}}
    for name in usage.keys() & other.keys():
        one, two = usage[name], other[name]
        if isinstance(one, dict) and isinstance(two, dict):
            both[name] = added(one, two)
        elif (type(one) in (int, float) and type(two) in (int, float)) or (
            isinstance(one, list) and isinstance(two, list)
        ):
            both[name] = one + two
    return both


def billed_units(usage: Usage, billed: object) -> Usage:
    """The counts, and that others are billed (Cohere)."""
    units = usage_in(billed)
    return usage if units is None or units == usage else usage._replace(billed=(units,))


def _collect(holder: Json, places: dict[str, _UsageMember], found: dict[str, tuple[int, int]]) -> None:
    """Takes the numbers of an object, and of those within it."""
    for name, value in holder.items():
        place = places.get(name)
        if place is None or value is None:
            continue
        if isinstance(value, dict):
            if place.members:
                _collect(value, place.members, found)
        elif isinstance(value, list):
            for one in value if place.elements else ():
                if isinstance(one, dict):
                    _collect_element(one, place.elements, found)
        elif place.counts:
            _take(place, _number(value), found)


def _collect_element(one: Json, elements: dict[str, _UsageMember], found: dict[str, tuple[int, int]]) -> None:
    for name, word in one.items():
        told = _MODALITIES.get(word) if name == "modality" and type(word) is int else word
        place = elements.get(told.lower()) if isinstance(told, str) else None
        if place is not None:
            numbers = [number for key, value in one.items() if key != name and (number := _number(value)) is not None]
            known = sum(found[count][1] for _, count in place.counts if count in found)
            _take(place, sum(numbers) + known, found)


def _take(place: _UsageMember, number: float | None, found: dict[str, tuple[int, int]]) -> None:
    for order, count in place.counts if number is not None else ():
        known = found.get(count)
        if known is None or (number and (not known[1] or order <= known[0])):
            found[count] = order, math.ceil(number or 0)


def _number(value: object) -> float | None:
    if value is None or type(value) is int:
        return value if value is not None and 0 <= value < MAX_COUNT else None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if 0 <= value < MAX_COUNT else None  # NaN is not, either


def _left_out(usage: Json, asked: int, answered: int, cache: int, reasoning: int, total: int) -> tuple[int, int]:
    """What the counts of input and of output leave out: the cache's, and what the model thought.

    Some names say it, as does a part that is more than what it would be a part of; else the total does, where it is.
    """
    beside = "prompt_tokens" not in usage and not _CACHE_BESIDE.isdisjoint(usage)
    leaves_cache = cache > asked or (beside and _within(usage, "input_tokens_details", "cached_tokens") is None)
    for more_asked in (cache,) if leaves_cache else (0, cache):
        for more_answered in (reasoning,) if reasoning > answered else (0, reasoning):
            if total == asked + more_asked + answered + more_answered:
                return more_asked, more_answered
    leaves_reasoning = reasoning > answered or not _REASONING_BESIDE.isdisjoint(usage)
    return cache if leaves_cache else 0, reasoning if leaves_reasoning else 0


def _cost(usage: Json) -> float | None:
    """What the answer says it cost, in US dollars."""
    ticks = _number(usage.get("cost_in_usd_ticks"))
    if ticks is not None:
        return ticks / TICKS_PER_DOLLAR
    told = usage.get("cost")  # OpenRouter, LiteLLM
    if isinstance(told, dict):
        told = told.get("total_cost")  # Perplexity
    cost = _number(usage.get("estimated_cost") if told is None else told)  # DeepInfra
    if cost is not None and usage.get("is_byok"):
        # With a key of one's own, OpenRouter takes its fee, and the provider behind it the price.
        return cost + (_number(_within(usage, "cost_details", "upstream_inference_cost")) or 0.0)
    return cost


def _within(holder: Json, member: str, inner: str) -> Any:
    found = holder.get(member)
    return found.get(inner) if isinstance(found, dict) else None


def _tier(usage: Json, answer: Json) -> str | None:
    """The service tier by which an answer is billed; None for the usual one."""
    told = (
        usage.get("speed"),  # anthropic.types.Usage
        "batch" if answer.get("object") == "batch" else None,  # openai.types.Batch
        answer.get("service_tier"),  # OpenAI, Groq, interactions
        usage.get("service_tier"),  # Anthropic
        usage.get("serviceTier"),  # Gemini
        usage.get("trafficType"),  # Vertex
        _within(answer, "serviceTier", "type") if "serviceTier" in answer else None,  # Bedrock
        usage.get("inference_geo"),  # Anthropic, where the region is chosen
    )
    for name in told:
        if name and isinstance(name, str) and name.lower() not in _USUAL_TIERS:
            return name.lower().removeprefix("on_demand_")
    return None


def _with_iterations(usage: Usage, reported: Json) -> Usage:
    """Anthropic's counts where a message took several calls: those at the top are not the sum.

    Source: https://platform.claude.com/docs/en/build-with-claude/compaction ("sum across all entries"), and
    anthropic.types.beta.BetaIterationsUsage.
    """
    iterations = reported.get("iterations")
    found: Usage | None = None
    for one in iterations[:_MAX_CALLS] if isinstance(iterations, list) else ():
        call = usage_in({**one, "iterations": None}) if isinstance(one, dict) else None
        if call is not None:
            model = one.get("model")
            call = call._replace(tier=usage.tier, model=model if isinstance(model, str) and model else None)
            found = call if found is None else found.with_call(call)
    if found is None:
        return usage
    calls = found.billed or (found,)
    first = calls[0]._replace(web_searches=usage.web_searches)
    reasoning = max(usage.reasoning, found.reasoning)
    return found._replace(
        cost=usage.cost, reasoning=reasoning, web_searches=usage.web_searches, tier=usage.tier,
        model=None, billed=(first, *calls[1:]),
    )  # fmt: skip
