"""What answers cost, in US dollars, by a table that others maintain: the package genai-prices, an extra.

The table is the one that is installed: nothing is fetched.
"""

from __future__ import annotations

import functools
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

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


def cost_of(flow: Flow) -> float | None:
    """What a flow cost, all attempts together; None where no attempt's cost is known."""
    costs = [cost for cost in map(exchange_cost, flow.attempts or flow.exchanges) if cost is not None]
    return sum(costs) if costs else None


def exchange_cost(exchange: Exchange) -> float | None:
    """What one answer cost: as it says itself, else by the table at the prices of its day; None if not known."""
    usage = exchange.usage
    if usage is None or usage.cost is not None or not exchange.model:
        return None if usage is None else usage.cost
    day = datetime.fromtimestamp(exchange.started, UTC).date() if exchange.started else None
    return _by_table(exchange.backend, exchange.model, usage, day)


def price_table() -> str | None:
    """The table's name and version, and the date of its latest price in force; None where it is not installed."""
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


@functools.lru_cache(maxsize=4096)
def _by_table(backend: str, model: str, usage: Usage, day: date | None) -> float | None:
    calculate = _table()
    if calculate is None:
        return None
    moment = None if day is None else datetime.combine(day, datetime.min.time(), UTC)
    for provider in (_NAMES.get(backend, backend), None):  # a gateway's own name is no provider's: the model tells
        try:
            return float(calculate(usage, model, provider, moment))
        except (LookupError, ValueError):
            continue
    return None


@functools.cache
def _table() -> Callable[[Usage, str, str | None, datetime | None], Any] | None:
    try:
        import genai_prices
    except ImportError:
        return None

    def calculate(usage: Usage, model: str, provider: str | None, moment: datetime | None) -> Any:
        told = genai_prices.Usage(
            input_tokens=usage.input,
            output_tokens=usage.output,
            cache_read_tokens=usage.cached,
            cache_write_tokens=usage.cache_written,
        )
        price = genai_prices.calc_price(told, model, provider_id=provider, genai_request_timestamp=moment)
        return price.total_price

    return calculate
