"""What flows cost: by what the answer says, else by the table, where it is installed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import orjson
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
        f"ex_{number}", "backend", number, backend=backend, answered_model=model, started_unix=JANUARY_2026, usage=usage
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


def run_show(flow: str, path: Path, *more: str) -> str:
    """What ``show`` prints, with a mark on stderr where the table was loaded."""
    code = "import sys; from otel_wirecap.cli import main; main(sys.argv[1:]); print('genai_prices' in sys.modules)"
    command = [sys.executable, "-c", code, "show", flow, str(path), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@needs_table
@pytest.mark.thorough
def test_what_the_table_said_is_remembered_until_another_table_is_installed(tmp_path, cache_folder, monkeypatch):
    path = tmp_path / "demo.log"
    usage = {"prompt_tokens": 1000, "completion_tokens": 100}
    names = {"exchange_id": "ex_1", "request_id": "req_1", "leg": "backend", "attempt": 1}
    record = {
        "timestamp_iso": "2026-01-01T00:00:00.000000+00:00", "timestamp_unix": JANUARY_2026,
        "direction": "inbound_response", "source": "openai", "destination": "proxy", "session_id": "s",
        "backend": "openai", "model": "gpt-5-mini", "key_name": None, "content_type": "json", "content_length": 1,
        "payload": {"model": "gpt-5-mini", "usage": usage},
        "metadata": {**names, "outcome": "complete", "duration_ms": 1},
    }  # fmt: skip
    path.write_bytes(orjson.dumps(record) + b"\n")
    *first, was_loaded = run_show("req_1", path).splitlines()
    assert was_loaded == "True"
    assert any("cost" in line and "$" in line for line in first)
    *second, was_loaded = run_show("req_1", path).splitlines()
    assert (second, was_loaded) == (first, "False")
    memory = cache_folder / "costs.json"
    assert memory.stat().st_mode & 0o777 == 0o600
    told = orjson.loads(memory.read_bytes())
    for damaged in (b"", b"{", orjson.dumps({**told, "table": "another"}), b'{"table": 1, "costs": 7}'):
        memory.write_bytes(damaged)
        *third, was_loaded = run_show("req_1", path).splitlines()
        assert (third, was_loaded) == (first, "True")
    memory.unlink()
    run_show("req_1", path, "--no-index")
    assert not memory.exists()
