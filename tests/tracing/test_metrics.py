"""The capture's counters as OpenTelemetry metrics, read by the SDK's own reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import otel_wirecap
from otel_wirecap.instrumentation.runtime import active
from otel_wirecap.tracing import attributes as names


def collected(reader: InMemoryMetricReader) -> dict[str, list[tuple[dict[str, Any], Any]]]:
    """Name → (attributes, value) of each point."""
    data = reader.get_metrics_data()
    if data is None:
        return {}
    return {
        metric.name: [
            (dict(point.attributes), getattr(point, "value", None) or getattr(point, "count", 0))
            for point in metric.data.data_points
        ]
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


@pytest.fixture
def told() -> Any:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    yield provider, reader
    provider.shutdown()


def test_counters_agree_with_stats_and_with_the_files(told: Any, tmp_path: Path) -> None:
    provider, reader = told
    path, beside = tmp_path / "capture.log", tmp_path / "capture.cbor"
    for _ in range(2):  # a second capture in one process goes on with the same instruments
        otel_wirecap.instrument(capture_file=path, cbor_capture_file=beside, meter_provider=provider)
        try:
            with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, json={}))) as client:
                client.post("http://backend.example/v1/chat/completions", json={"model": "m"})
            runtime = active()
            assert runtime is not None
            assert runtime.exporter.force_flush()
            exporter_stats = otel_wirecap.stats()
            assert exporter_stats is not None
            points = collected(reader)
        finally:
            otel_wirecap.uninstrument()
        assert exporter_stats.cbor is not None
        for name, of in ((names.METRIC_RECORDS, "records"), (names.METRIC_BYTES, "bytes")):
            by_file = {attributes[names.CAPTURE_FILE]: value for attributes, value in points[name]}
            assert by_file == {
                str(path): getattr(exporter_stats, of), str(beside): getattr(exporter_stats.cbor, of)
            }  # fmt: skip
        assert exporter_stats.records == exporter_stats.cbor.records >= 1
        assert [value for _, value in points[names.METRIC_OPEN_EXCHANGES]] == [0]
        assert points[names.METRIC_QUEUE_EVENTS][0][1] == exporter_stats.waiting_events
        assert points[names.METRIC_QUEUE_BYTES][0][0] == {names.CAPTURE_FILE: str(path)}
        ((_, writes),) = points[names.METRIC_WRITE_DURATION]
        assert writes >= 2
        assert all(value == 0 for _, value in points[names.METRIC_WRITE_ERRORS])


def test_what_is_lost_is_told_by_reason(told: Any, tmp_path: Path) -> None:
    provider, reader = told
    otel_wirecap.instrument(
        capture_file=tmp_path / "capture.log", capture_max_queue_bytes=20_000, meter_provider=provider
    )
    try:
        with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, text="x" * 50_000))) as client:
            client.post("http://backend.example/v1/chat/completions", json={"model": "m"})
        runtime = active()
        assert runtime is not None
        runtime.failed("ex_1", KeyError("one of ours"))
        points = collected(reader)
    finally:
        otel_wirecap.uninstrument()
    file = {names.CAPTURE_FILE: str(tmp_path / "capture.log")}
    assert points[names.METRIC_LOST_EVENTS] == [({**file, names.REASON: "queue_full"}, 1)]
    assert points[names.METRIC_LOST_EXCHANGES] == [({**file, names.REASON: "capture_failure"}, 1)]


def test_the_histogram_of_writes_has_boundaries_for_seconds(told: Any, tmp_path: Path) -> None:
    provider, reader = told
    otel_wirecap.instrument(capture_file=tmp_path / "capture.log", meter_provider=provider)
    otel_wirecap.uninstrument()
    data = reader.get_metrics_data()
    (metric,) = [
        metric
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == names.METRIC_WRITE_DURATION
    ]
    for point in metric.data.data_points:
        assert point.explicit_bounds[0] <= 1e-4
        assert 1 < point.explicit_bounds[-1] < 30
        assert sum(point.bucket_counts[:-1]) == point.count
