"""What flows cost: by what the answer says, else by the table, where it is installed."""

from __future__ import annotations

import importlib.util

import pytest

from otel_wirecap.llm.usage import Usage
from otel_wirecap.reading.flows import Exchange, Flow
from otel_wirecap.reading.prices import cost_of, exchange_cost, price_table

needs_table = pytest.mark.skipif(
    importlib.util.find_spec("genai_prices") is None, reason="genai-prices is not installed"
)
JANUARY_2026 = 1_767_225_600.0


def attempt(usage, model="gpt-5-mini", backend="openai", number=1):
    return Exchange(
        f"ex_{number}", "backend", number, backend=backend, answered_model=model, started=JANUARY_2026, usage=usage
    )


def test_an_answers_own_price_counts_and_attempts_add_up():
    flow = Flow(
        "req_1", attempts=[attempt(Usage(10, 1, cost=0.25)), attempt(Usage(10, 1, cost=0.5), number=2), attempt(None)]
    )
    assert cost_of(flow) == 0.75


def test_what_nobody_knows_the_price_of_has_none():
    assert exchange_cost(attempt(None)) is None
    assert exchange_cost(attempt(Usage(10, 1), model="nobody-knows-this")) is None
    assert cost_of(Flow("req_1", attempts=[attempt(Usage(10, 1), model="nobody-knows-this")])) is None


@needs_table
def test_the_table_prices_cached_tokens_lower_and_knows_the_model_behind_a_gateways_name():
    full, cached = exchange_cost(attempt(Usage(1000, 100))), exchange_cost(attempt(Usage(1000, 100, cached=500)))
    assert 0 < cached < full
    assert exchange_cost(attempt(Usage(1000, 100), backend="10.0.0.7:4000")) == full
    assert exchange_cost(attempt(Usage(1000, 100), model="gemini-2.5-flash", backend="gemini")) > 0


@needs_table
def test_the_table_is_named_with_its_date():
    assert price_table().startswith("genai-prices ")
    assert "latest price of 20" in price_table()
