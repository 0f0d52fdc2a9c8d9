"""What recorded answers report and cost is what the price table's own reader makes of them, and SQL of a capture."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from otel_wirecap.llm.answers import usage_of
from otel_wirecap.llm.assembly import assemble
from otel_wirecap.reading.captures import Captures
from otel_wirecap.reading.flows import Exchange
from otel_wirecap.reading.prices import exchange_cost
from otel_wirecap.reading.sql import Database
from otel_wirecap.reading.stats import statistics_of

genai_prices = pytest.importorskip("genai_prices")
from genai_prices.data_snapshot import get_snapshot  # noqa: E402

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "traffic" / "public.jsonl"
FLAVORS = {"chat": "chat", "responses": "responses"}
PROVIDERS = {"azure": "openai", "vertex": "google", "gemini": "google", "bedrock": "aws"}
NOVEMBER_2026 = 1_793_491_200.0


def answers() -> dict[str, tuple[dict[str, Any], Any]]:
    """The recorded answers, streamed ones assembled, each with its entry."""
    if not RECORDED.exists():
        return {}
    found = {}
    with RECORDED.open(encoding="utf-8") as lines:
        for entry in map(json.loads, lines):
            body = base64.b64decode(entry["response_body_b64"]) if "response_body_b64" in entry else None
            body = entry["response_body"].encode() if body is None else body
            try:
                kind = dict(entry["response_headers"]).get("content-type")
                answer = assemble(kind, [body]) if entry["stream"] else orjson.loads(body)
            except orjson.JSONDecodeError:
                continue
            if usage_of(answer) is not None:
                found[entry["id"]] = entry, answer
    return found


ANSWERS = answers()
recorded = pytest.mark.parametrize(
    "name", list(ANSWERS) or [pytest.param("", marks=pytest.mark.skip(reason="the recordings are not beside this"))]
)


def theirs(name: str) -> Any:
    """What the price table's own reader finds in an answer; None where it knows no such answers."""
    entry, answer = ANSWERS[name]
    provider = PROVIDERS.get(entry["provider"], entry["provider"])
    for flavor in (FLAVORS.get(entry["kind"], "default"), "default", "anthropic"):
        try:
            return get_snapshot().extract_usage(answer, provider, None, flavor)
        except (LookupError, ValueError, AttributeError):
            continue
    return None


@recorded
def test_a_recorded_answer_reports_what_the_price_tables_reader_finds(name: str) -> None:
    answer, found = ANSWERS[name][1], theirs(name)
    if found is None or is_beyond(answer):
        pytest.skip("the table's reader does not know such answers")
    usage = usage_of(answer)
    usage = usage.billed[0] if usage.billed else usage
    ours = (usage.input, usage.output, usage.cached, usage.cache_written)
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    assert ours == tuple(found.usage.reported_value(one) for one in names)


@recorded
def test_a_recorded_answer_costs_what_the_price_table_says(name: str) -> None:
    (entry, answer), found = ANSWERS[name], theirs(name)
    usage = usage_of(answer)
    if found is None or found.model is None or usage.cost is not None or is_beyond(answer):
        pytest.skip("the table's reader does not know such answers")
    cost = exchange_cost(an_exchange(entry, answer))
    if not cost.missing and not usage.web_searches:
        assert cost.dollars == pytest.approx(float(found.calc_price().total_price), rel=1e-9)


def is_beyond(answer: Any) -> bool:
    """Whether an answer reports what the table's reader passes over: several calls, Mistral's cache."""
    usage = answer.get("usage") or {}
    return len(usage.get("iterations") or ()) > 1 or "num_cached_tokens" in usage


def an_exchange(entry: dict[str, Any], answer: Any) -> Exchange:
    model = entry.get("model") or answer.get("model") or answer.get("modelVersion")
    return Exchange(
        entry["id"], "backend", 1, backend=entry["provider"], answered_model=model, started_unix=NOVEMBER_2026,
        usage=usage_of(answer),
    )  # fmt: skip


@pytest.mark.skipif(not ANSWERS, reason="the recordings are not beside this checkout")
def test_sql_adds_up_what_stats_adds_up(tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    path = tmp_path / "capture.log"
    with path.open("wb") as file:
        for number, (entry, answer) in enumerate(ANSWERS.values()):
            file.write(orjson.dumps(a_record(number, entry, answer)) + b"\n")
    with Captures([path]) as captures:
        flows = captures.flows()
        told = statistics_of(flows)
        for view in ("flows", "exchanges"):
            query = (
                "SELECT sum(input_tokens), sum(output_tokens), sum(cached_tokens), sum(cache_written_tokens),"
                f" sum(reasoning_tokens), sum(cost), count(*) FILTER (len(cost_missing) > 0) FROM {view}"
            )
            with Database(captures, query) as database:
                ((*counts, cost, unpriced),) = database.ask()[1]
            usage = told.usage
            assert counts == [usage.input, usage.output, usage.cached, usage.cache_written, usage.reasoning]
            assert cost == pytest.approx(told.cost.dollars)
            assert unpriced == told.unpriced
    assert len(flows) == len(ANSWERS)
    assert usage.input > 0


def a_record(number: int, entry: dict[str, Any], answer: Any) -> dict[str, Any]:
    exchange = an_exchange(entry, answer)
    names = {"exchange_id": f"ex_{number}", "request_id": f"req_{number:04}", "leg": "backend", "attempt": 1}
    return {
        "timestamp_iso": "2026-11-01T00:00:00.000000+00:00", "timestamp_unix": NOVEMBER_2026,
        "direction": "inbound_response", "source": "b", "destination": "proxy", "session_id": "s",
        "backend": exchange.backend, "model": exchange.answered_model, "key_name": None, "content_type": "json",
        "content_length": 1, "payload": answer, "metadata": {**names, "outcome": "complete", "duration_ms": 1},
    }  # fmt: skip
