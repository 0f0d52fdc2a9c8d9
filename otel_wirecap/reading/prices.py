"""What answers cost, in US dollars, by a table that others maintain: the package genai-prices, an extra.

The table is the one that is installed: nothing is fetched. To load it takes longer than all else that a command does,
so what it said can be remembered in the user's cache folder: for as long as that very table is installed.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from otel_wirecap.environment import cache_folder
from otel_wirecap.reading.resource import replacement
from otel_wirecap.version import __version__

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
    day = datetime.fromtimestamp(exchange.started_unix, UTC).date() if exchange.started_unix else None
    return _by_table(exchange.backend, exchange.model, usage, day)


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
        self._costs: dict[str, float | None] = {}
        self._names: dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            told = orjson.loads(path.read_bytes())
            if told["table"] == table:
                self._costs, self._names = dict(told["costs"]), dict(told["names"])

    def get(self, question: str) -> tuple[bool, float | None]:
        """Whether it is known, and what the table said."""
        return question in self._costs, self._costs.get(question)

    def put(self, question: str, cost: float | None) -> None:
        """Remembers it."""
        self._costs[question] = cost
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
            memory = _Memory(cache_folder() / "costs.json", f"{__version__} {file} {file.stat().st_mtime_ns}")
            _memory.append(memory)
            atexit.register(memory.store)


@functools.lru_cache(maxsize=4096)
def _by_table(backend: str, model: str, usage: Usage, day: date | None) -> float | None:
    if not _memory:
        return _asked_of_table(backend, model, usage, day)
    question = orjson.dumps([backend, model, usage[:-1], day]).decode()
    is_known, cost = _memory[0].get(question)
    if not is_known:
        cost = _asked_of_table(backend, model, usage, day)
        _memory[0].put(question, cost)
    return cost


def _asked_of_table(backend: str, model: str, usage: Usage, day: date | None) -> float | None:
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
