"""Every name that is emitted is one of the published conventions' or our own, and just these are documented."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import httpx
import opentelemetry.semconv._incubating.attributes
import opentelemetry.semconv._incubating.metrics
import opentelemetry.semconv.attributes
import opentelemetry.semconv.metrics
import pytest
from fastapi import FastAPI, WebSocket
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.semconv.schemas import Schemas
from traced_gateway import Gateway, Spans, gateway_app
from websockets.sync.client import connect

import otel_wirecap
from otel_wirecap.instrumentation.runtime import active
from otel_wirecap.storage.ledger import Loss
from otel_wirecap.storage.registry import open_writers
from otel_wirecap.tracing import attributes as names

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "telemetry.md"

NEWER: dict[str, str] = {}
"""Names that the package does not have yet, each with its source."""


def constants(*packages: ModuleType) -> set[str]:
    """The values of all constants in the modules of these packages."""
    found: set[str] = set()
    for package in packages:
        modules = [package, *(m for m in pkgutil.iter_modules(package.__path__, package.__name__ + "."))]
        for module in modules:
            held = vars(module if isinstance(module, ModuleType) else importlib.import_module(module.name))
            found |= {value for name, value in held.items() if name.isupper() and isinstance(value, str)}
    return found


def ours(*, metrics: bool) -> set[str]:
    held = {name: value for name, value in vars(names).items() if name.isupper() and name != "SCHEMA_URL"}
    return {value for name, value in held.items() if name.startswith("METRIC_") is metrics}


def documented(*sections: str) -> set[str]:
    """The names in the first column of the tables of these sections."""
    found: set[str] = set()
    for section in re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE):
        if section.partition("\n")[0] in sections:
            rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
            found |= {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    return found


@pytest.mark.parametrize("metrics", [False, True])
def test_every_name_is_published_or_our_own(metrics: bool) -> None:
    if metrics:
        published = constants(opentelemetry.semconv.metrics, opentelemetry.semconv._incubating.metrics)
    else:
        published = constants(opentelemetry.semconv.attributes, opentelemetry.semconv._incubating.attributes)
    assert {"http.route", "http.server.request.duration"} & published
    for name in ours(metrics=metrics):
        assert name.startswith("wirecap.") or name in published or name in NEWER, name
    assert not NEWER.keys() & published  # what is published by now needs no source


def test_the_schema_is_a_published_one() -> None:
    assert names.SCHEMA_URL in {schema.value for schema in Schemas}


def test_the_names_in_a_real_run_are_those_that_are_documented(
    spans: Spans, capture_file: Path, serve: Callable[..., Gateway], backend_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "made-up-" + secrets.token_hex(16)
    monkeypatch.setenv("MADE_UP_API_KEY", key)
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    app: FastAPI = gateway_app(backend_url)

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    @app.get("/twice")
    async def twice() -> None:
        usage = {
            "prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 1},
            "completion_tokens": 1, "completion_tokens_details": {"reasoning_tokens": 1},
        }  # fmt: skip
        transport = httpx.MockTransport(lambda _: httpx.Response(200, json={"usage": usage}))
        async with httpx.AsyncClient(transport=transport) as client:
            for _ in range(2):
                await client.post("https://api.openai.com/v1/chat/completions", json={"model": "m"})

    otel_wirecap.instrument(
        capture_file=capture_file, capture_max_queue_bytes=2 << 20,
        tracer_provider=spans.provider, meter_provider=meters,
    )  # fmt: skip
    gateway = serve(app)
    messages = [{"role": "user", "content": "hi"}]
    body = {"model": "demo-small", "messages": messages, "stream": True, "temperature": 1, "top_p": 1, "max_tokens": 9}
    gateway.ask("/v1/chat/completions?a=b", body, authorization=f"Bearer {key}", user_agent="agent")
    gateway.ask("/v1/chat/completions", {"model": "demo-rate-limited"})
    gateway.ask("/twice")
    gateway.ask("/nowhere", method="PROPFIND")
    gateway.ask("/v1/x", {"content": "x" * (3 << 20)})  # more than there is room for
    with connect(f"ws://127.0.0.1:{gateway.port}/socket") as websocket, pytest.raises(Exception, match="1000"):
        websocket.recv()
    (writer,) = open_writers()
    writer.lose(Loss("unserialisable", records=1))  # which no traffic brings about
    runtime = active()
    assert runtime is not None
    assert runtime.exporter.force_flush()
    data = json.loads((reader.get_metrics_data() or pytest.fail("no metrics")).to_json())
    otel_wirecap.uninstrument()
    metrics = [
        metric
        for resource in data["resource_metrics"]
        for scope in resource["scope_metrics"]
        if scope["scope"]["name"] == "otel_wirecap"
        for metric in scope["metrics"]
    ]
    finished = spans.exporter.get_finished_spans()
    on_spans = {name for span in finished for name in span.attributes or {}}
    on_metrics = {name for metric in metrics for point in metric["data"]["data_points"] for name in point["attributes"]}
    assert on_spans == documented("Spans")
    assert {metric["name"] for metric in metrics} == documented("Metrics") == ours(metrics=True)
    assert on_metrics <= on_spans | documented("Attributes of metrics")


def test_all_that_is_documented_has_a_name_in_the_code_and_the_other_way_round() -> None:
    told = documented("Spans", "Attributes of metrics", "Payloads for collectors")
    assert told == ours(metrics=False)
