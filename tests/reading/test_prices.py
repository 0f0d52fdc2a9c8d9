"""What flows cost: by what the answer says, else by the table, where it is installed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from otel_wirecap.llm.usage import Usage
from otel_wirecap.reading import prices
from otel_wirecap.reading.flows import Exchange, Flow
from otel_wirecap.reading.prices import Cost, cost_of, exchange_cost, price_table

needs_table = pytest.mark.skipif(
    importlib.util.find_spec("genai_prices") is None, reason="genai-prices is not installed"
)
JANUARY_2026, NOVEMBER_2026 = 1_767_225_600.0, 1_793_491_200.0


def attempt(usage, model="gpt-5-mini", backend="openai", number=1, moment=NOVEMBER_2026):
    return Exchange(
        f"ex_{number}", "backend", number, backend=backend, answered_model=model, started_unix=moment, usage=usage
    )


def test_an_answers_own_price_counts_and_attempts_add_up():
    flow = Flow(
        "req_1", attempts=[attempt(Usage(10, 1, cost=0.25)), attempt(Usage(10, 1, cost=0.5), number=2), attempt(None)]
    )
    assert cost_of(flow) == Cost(0.75)


UNKNOWN = Cost(None, ("model nobody-knows-this is not in the price table",))


@needs_table
def test_what_nobody_knows_the_price_of_has_none_and_says_why():
    assert exchange_cost(attempt(None)) == Cost()
    assert exchange_cost(attempt(Usage(10, 1), model="nobody-knows-this")) == UNKNOWN
    assert exchange_cost(attempt(Usage(10, 1), model=None)) == Cost(None, ("the model is not known",))
    both = Flow("req_1", attempts=[attempt(Usage(10, 1), model="nobody-knows-this"), attempt(Usage(10, 1, cost=2.0))])
    assert cost_of(both) == Cost(2.0, UNKNOWN.missing)


def test_without_a_table_the_reason_is_that(monkeypatch):
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    monkeypatch.setattr(prices, "_table", prices._table.__wrapped__)
    prices._by_table.cache_clear()
    try:
        assert exchange_cost(attempt(Usage(10, 1))) == Cost(None, ("no price table is installed (extra prices)",))
        assert exchange_cost(attempt(Usage(10, 1, cost=0.5))) == Cost(0.5)
    finally:
        prices._by_table.cache_clear()


@needs_table
def test_the_table_prices_cached_tokens_lower_and_knows_the_model_behind_a_gateways_name():
    full, cached = exchange_cost(attempt(Usage(1000, 100))), exchange_cost(attempt(Usage(1000, 100, cached=500)))
    assert 0 < cached.dollars < full.dollars
    assert full.missing == cached.missing == ()
    for backend in ("10.0.0.7:4000", "litellm"):
        assert exchange_cost(attempt(Usage(1000, 100), backend=backend)) == full
        assert exchange_cost(attempt(Usage(1000, 100), "openai/gpt-5-mini", backend)) == full
    assert exchange_cost(attempt(Usage(1000, 100), model="gemini-2.5-flash", backend="gemini")).dollars > 0


MILLION = 1_000_000
SONNET, FLASH = ("claude-sonnet-4-5", "anthropic"), ("gemini-2.5-flash", "gemini")
PRICED = {
    "writes to a cache for an hour": (Usage(MILLION // 10, cache_written=MILLION // 10), SONNET, 0.375),
    "writes to a cache for five minutes": (
        Usage(MILLION // 10, cache_written=MILLION // 10, cache_written_1h=MILLION // 10), SONNET, 0.6,
    ),
    "a small context": (Usage(MILLION // 10), SONNET, 0.3),
    "a large context": (Usage(MILLION), SONNET, 6.0),
    "a large context of several calls, each of which is small": (
        Usage(MILLION, billed=(Usage(MILLION // 10),) * 10), SONNET, 3.0,
    ),
    "a call of another model": (
        Usage(MILLION // 5, billed=(Usage(MILLION // 10), Usage(MILLION // 10, model="claude-haiku-4-5"))), SONNET, 0.4,
    ),
    "searches of the web": (Usage(web_searches=100), SONNET, 1.0),
    "text": (Usage(MILLION), FLASH, 0.3),
    "audio": (Usage(MILLION, input_audio=MILLION), FLASH, 1.0),
    "audio that costs what text does": (Usage(100_000, input_audio=100_000), ("gemini-2.5-pro", "gemini"), 0.125),
    "audio of a model that only speaks": (
        Usage(0, MILLION, output_audio=MILLION), ("gemini-2.5-flash-tts", "gemini"), 10.0,
    ),
    "images of a model that only draws": (Usage(0, MILLION, output_image=MILLION), ("gpt-image-1", "openai"), 40.0),
    "audio from a cache": (Usage(MILLION, cached=MILLION, input_audio=MILLION, cached_audio=MILLION), FLASH, 0.1),
    "audio, spoken": (Usage(0, MILLION, output_audio=MILLION), ("gpt-realtime", "openai"), 64.0),
    "images": (Usage(0, MILLION, output_image=MILLION), ("gemini-2.5-flash-image", "gemini"), 30.0),
    "audio by the second": (Usage(audio_seconds=3600), ("whisper-1", "openai"), 0.36),
    "audio by the second, with tokens": (Usage(9, 9, audio_seconds=3600), ("whisper-1", "openai"), 0.36),
    "billed units": (Usage(MILLION, billed=(Usage(MILLION // 10),)), ("gpt-5-mini", "openai"), 0.025),
    "the usual tier": (Usage(MILLION), ("gpt-5-mini", "openai"), 0.25),
    "flex": (Usage(MILLION, tier="flex"), ("gpt-5-mini", "openai"), 0.125),
    "priority": (Usage(MILLION, tier="priority"), ("gpt-5-mini", "openai"), 0.45),
    "batch": (Usage(MILLION, tier="batch"), ("gpt-5-mini", "openai"), 0.125),
    "flex where it costs the same": (Usage(MILLION, tier="flex"), ("llama-3.3-70b-versatile", "groq"), 0.59),
}  # fmt: skip


@needs_table
@pytest.mark.parametrize("name", PRICED)
def test_the_table_prices_each_part_of_an_answer(name):
    usage, (model, backend), dollars = PRICED[name]
    cost = exchange_cost(attempt(usage, model, backend))
    assert (round(cost.dollars, 6), cost.missing) == (dollars, ())


PARTIAL = {
    "a tier": (Usage(MILLION, tier="priority"), SONNET, "claude-sonnet-4-5: no price of service tier priority"),
    "a region": (Usage(MILLION, tier="us"), SONNET, "claude-sonnet-4-5: no price of service tier us"),
    "audio": (Usage(9, input_audio=9), ("gpt-5-mini", "openai"), "gpt-5-mini: no price of input audio"),
    "images": (Usage(0, 9, output_image=9), ("gpt-5-mini", "openai"), "gpt-5-mini: no price of output image"),
    "a cache": (Usage(9, cache_written=9), ("gpt-5-mini", "openai"), "gpt-5-mini: no price of cache written"),
    "an hour": (
        Usage(9, cache_written=9, cache_written_1h=9), ("gpt-6-sol", "openai"),
        "gpt-6-sol: no price of cache written 1h",
    ),
    "tokens of what is billed by the second": (Usage(9, 9), ("gpt-transcribe", "openai"),
                                              "gpt-transcribe: no price of input"),
    "searches": (Usage(9, unpriced="searches that an answer is grounded on"), FLASH,
                 "searches that an answer is grounded on"),
    "counts of which a part is more than all": (Usage(9, input_audio=11), FLASH,
                                                "the counts of the answer contradict each other"),
}  # fmt: skip


@needs_table
@pytest.mark.parametrize("name", PARTIAL)
def test_what_has_no_price_makes_a_cost_partial_and_is_named(name):
    usage, (model, backend), reason = PARTIAL[name]
    cost = exchange_cost(attempt(usage, model, backend))
    assert cost.dollars is not None
    assert reason in cost.missing


@needs_table
def test_prices_by_the_time_of_the_day_count():
    day = 1_744_000_000.0 // 86_400 * 86_400  # in April 2025, when DeepSeek's prices were lower from 16:30
    asked = [attempt(Usage(MILLION), "deepseek-chat", "deepseek", moment=day + hour * 3600) for hour in (16.4, 16.6)]
    before, after = (exchange_cost(one).dollars for one in asked)
    assert after < before


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
