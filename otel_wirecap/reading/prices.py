"""What answers cost, in US dollars, by a table that others maintain: the package genai-prices, an extra.

The table is the one that is installed: nothing is fetched. To load it takes longer than all else that a command does,
so what it said can be remembered in the user's cache folder: for as long as that very table is installed.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from otel_wirecap.environment import cache_folder
from otel_wirecap.reading.resource import replacement
from otel_wirecap.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otel_wirecap.llm.usage import Usage
    from otel_wirecap.reading.flows import Exchange, Flow

_NAMES = {
    "azure": "azure",
    "bedrock": "aws",
    "gemini": "google",
    "moonshot": "moonshotai",
    "vertex": "google",
    "xai": "x-ai",
    "zai": "zhipuai",
}
"""Our names of backends where the table has others."""


class Cost(NamedTuple):
    """What answers cost.

    Attributes:
        dollars: US dollars, as far as known; None where nothing is.
        missing: what is not in it, and why; empty where it is all. With ``dollars``, the cost is partial.
    """

    dollars: float | None = None
    missing: tuple[str, ...] = ()

    def plus(self, other: Cost) -> Cost:
        """Both together; each reason once."""
        known = [one.dollars for one in (self, other) if one.dollars is not None]
        return Cost(sum(known) if known else None, tuple(dict.fromkeys(self.missing + other.missing)))


def cost_of(flow: Flow) -> Cost:
    """What a flow cost, all attempts together; an answer that was only read again costs nothing."""
    total = Cost()
    for exchange in flow.counted:
        total = total.plus(exchange_cost(exchange))
    return total


def exchange_cost(exchange: Exchange) -> Cost:
    """What one answer cost: as it says itself, else by the table at the prices of its day and hour."""
    usage = exchange.usage
    if usage is None:
        return Cost()
    if usage.cost is not None:
        return Cost(usage.cost)
    total = Cost(missing=() if usage.unpriced is None else (usage.unpriced,))
    for part in usage.billed or (usage,):
        if part.cost is not None:
            total = total.plus(Cost(part.cost))
        elif model := part.model or exchange.model:
            total = total.plus(_by_table(exchange.backend, model, _priced(part), _half_hour(exchange.started_unix)))
        else:
            total = total.plus(Cost(missing=("the model is not known",)))
    return total


def _priced(usage: Usage) -> Usage:
    """What its price depends on."""
    return usage._replace(model=None, unpriced=None, billed=())


def _half_hour(moment: float | None) -> int | None:
    """The moment, rounded down: prices by the time of the day begin and end on half hours."""
    return None if moment is None else int(moment // 1800) * 1800


def price_table() -> str | None:
    """The table's name and version, and the date of its latest price in force; None where it is not installed."""
    if not _memory:
        return _asked_its_name()
    today = datetime.now(UTC).date().isoformat()
    name = _memory[0].name(today)
    if name is None:
        name = _asked_its_name()
        if name is not None:
            _memory[0].put_name(today, name)
    return name


def _asked_its_name() -> str | None:
    if _table() is None:
        return None
    import genai_prices
    from genai_prices.data import providers

    today = datetime.now(UTC).date()
    dates = [
        begin
        for provider in providers
        for model in provider.models
        if isinstance(model.prices, list)
        for price in model.prices
        if (begin := getattr(price.constraint, "start_date", None)) is not None and begin <= today
    ]
    newest = f", latest price of {max(dates)}" if dates else ""
    return f"genai-prices {genai_prices.__version__}{newest}"


class _Memory:
    """What the table said, in a file of the cache folder. Whatever goes wrong with it, the table is asked.

    Attributes:
        table: which table said it: of another one nothing is believed.
    """

    def __init__(self, path: Path, table: str) -> None:
        self._path, self.table = path, table
        self._has_new = False
        self._costs: dict[str, Sequence[Any]] = {}
        self._names: dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            told = orjson.loads(path.read_bytes())
            if told["table"] == table:
                self._costs, self._names = dict(told["costs"]), dict(told["names"])

    def get(self, question: str) -> Cost | None:
        """What the table said; None where that is not known."""
        told = self._costs.get(question)
        return None if told is None else Cost(told[0], tuple(told[1]))

    def put(self, question: str, cost: Cost) -> None:
        """Remembers it."""
        self._costs[question] = tuple(cost)
        self._has_new = True

    def name(self, day: str) -> str | None:
        """The table's name as it was told on that day; None where it was not."""
        return self._names.get(day)

    def put_name(self, day: str, name: str) -> None:
        """Remembers the name that the table has on a day."""
        self._names = {day: name}
        self._has_new = True

    def store(self) -> None:
        """Brings what is new into the file."""
        if not self._has_new:
            return
        kept = dict(list(self._costs.items())[-_MAX_REMEMBERED:])
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with replacement(self._path) as (_, file):
                file.write(orjson.dumps({"table": self.table, "names": self._names, "costs": kept}))


_memory: list[_Memory] = []  # at most one
_MAX_REMEMBERED = 20_000


def remember() -> None:
    """Has what the table says remembered from now on, and beyond this process; what was remembered is believed."""
    spec = None if _memory else importlib.util.find_spec("genai_prices")  # which does not load it
    if spec is not None and spec.origin is not None:
        with contextlib.suppress(OSError):
            file = Path(spec.origin).resolve()
            memory = _Memory(cache_folder() / "costs.json", f"{__version__} 2 {file} {file.stat().st_mtime_ns}")
            _memory.append(memory)
            atexit.register(memory.store)


@functools.lru_cache(maxsize=4096)
def _by_table(backend: str, model: str, usage: Usage, moment: int | None) -> Cost:
    if not _memory:
        return _asked_of_table(backend, model, usage, moment)
    question = orjson.dumps([backend, model, list(usage), moment]).decode()
    cost = _memory[0].get(question)
    if cost is None:
        cost = _asked_of_table(backend, model, usage, moment)
        _memory[0].put(question, cost)
    return cost


def _asked_of_table(backend: str, model: str, usage: Usage, moment: int | None) -> Cost:
    calculate = _table()
    if calculate is None:
        return Cost(missing=("no price table is installed (extra prices)",))
    when = datetime.now(UTC) if moment is None else datetime.fromtimestamp(moment, UTC)
    prefix, _, name = model.partition("/")
    # A gateway's own name is no provider's: the model's says whose it is, by itself or in front of it.
    for provider, known_as in ((_NAMES.get(backend, backend), model), (None, model), (prefix, name), (None, name)):
        with contextlib.suppress(LookupError):
            return calculate(usage, known_as, provider, when)
    return Cost(missing=(f"model {model} is not in the price table",))


_PRICES: Final = {
    "input": ("input_mtok",),
    "output": ("output_mtok", "output_audio_mtok", "output_image_mtok"),
    "cache_written": ("cache_write_mtok",),
    "cache_written_1h": ("cache_write_1h_mtok",),
    "input_audio": ("input_audio_mtok",),
    "output_audio": ("output_audio_mtok",),
    "output_image": ("output_image_mtok",),
    "audio_seconds": ("audio_hours", "input_audio_hours"),
    "web_searches": ("web_searches_kcount",),
}
"""The prices that a count needs, by their names in the table: one of them. Other counts never cost more than the tokens
that they are part of."""


def _has_price(count: str, usage: Usage, price: Any) -> bool:
    """Whether the table has what a count costs, or the price of all tokens is that of this count, too."""
    names = _PRICES[count] + (_PRICES["audio_seconds"] if usage.audio_seconds else ())  # instead of tokens
    if any(getattr(price.model_price, name, None) is not None for name in names):
        return True
    if count == "input_audio":
        return bool(price.provider.id == "google")  # of whose models those are listed that have a price for audio
    made_for = {"output_audio": "tts", "output_image": "image"}.get(count)
    return made_for is not None and made_for in price.model.id


def _has_tier(price: Any, context: dict[str, str], when: datetime) -> bool:
    if not any(price.model is model for model in price.provider.models):
        return False  # another provider's model, of whose tiers the table knows nothing here
    return any(
        variant.when.items() <= context.items() and (variant.constraint is None or variant.constraint.active(when))
        for variant in price.model.price_variants or ()
    )


@functools.cache
def _table() -> Callable[[Usage, str, str | None, datetime], Cost] | None:
    try:
        import genai_prices
    except (ImportError, RuntimeError):  # what it brings along may want a home
        return None

    def calculate(usage: Usage, model: str, provider: str | None, when: datetime) -> Cost:
        counts = {
            "input_tokens": usage.input, "output_tokens": usage.output, "cache_read_tokens": usage.cached,
            "cache_write_tokens": usage.cache_written, "output_reasoning_tokens": usage.reasoning,
        }  # fmt: skip
        details = {
            "cache_write_1h_tokens": usage.cache_written_1h,
            "input_audio_tokens": usage.input_audio, "output_audio_tokens": usage.output_audio,
            "input_image_tokens": usage.input_image, "output_image_tokens": usage.output_image,
            "cache_audio_read_tokens": usage.cached_audio, "cache_image_read_tokens": usage.cached_image,
            "web_searches": usage.web_searches,
            "audio_seconds": usage.audio_seconds, "input_audio_seconds": usage.audio_seconds,
        }  # fmt: skip
        tier = usage.tier
        context = {} if tier is None else {"processing": tier, "service_tier": tier, "speed": tier}
        missing = []

        def asked(counts: dict[str, int]) -> Any:
            return genai_prices.calc_price(
                genai_prices.Usage(**counts), model, provider_id=provider, genai_request_timestamp=when,
                price_context=context,
            )  # fmt: skip

        try:
            price = asked(counts | details)
        except ValueError:  # a count is more than the one that it is part of
            price = asked(counts)
            missing.append("the counts of the answer contradict each other")
        missing += [
            f"{model}: no price of {name.replace('_', ' ')}"
            for name in _PRICES
            if getattr(usage, name) and not _has_price(name, usage, price)
        ]
        if tier is not None and (price.provider.id, tier) not in _USUAL and not _has_tier(price, context, when):
            missing.append(f"{model}: no price of service tier {tier}")
        return Cost(float(price.total_price), tuple(missing))

    return calculate


_USUAL: Final = frozenset({("groq", "flex")})
"""The tiers that cost what the usual one does: https://console.groq.com/docs/flex-processing"""
