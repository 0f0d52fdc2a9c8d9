"""The capture's counters, and the exchanges', as OpenTelemetry metrics.

Invariant: the instruments are made once for each meter provider and ask at every collection what is being captured, so
that captures may come and go, and a forked child reports its own.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from otel_wirecap.storage.registry import open_writers
from otel_wirecap.storage.stats import CaptureStats, FileStats
from otel_wirecap.tracing import attributes as names
from otel_wirecap.tracing.request_metrics import RequestMetrics
from otel_wirecap.version import __version__

WRITE_SECONDS = tuple(1e-5 * 4**power for power in range(11))
"""Boundaries of buckets, from 10 microseconds to 10 seconds; a view of the user's own wins."""

Observe: TypeAlias = Callable[[CallbackOptions], Iterable[Observation]]


class Instruments(NamedTuple):
    """What is recorded as it happens; the counters are asked for at each collection."""

    writes: metrics.Histogram
    requests: RequestMetrics


_instruments: weakref.WeakKeyDictionary[object, Instruments] = weakref.WeakKeyDictionary()


def report_metrics(meter_provider: MeterProvider | None) -> RequestMetrics:
    """Reports on all captures of this process; ``None``: to the global meter provider, also one set later.

    Returns:
        What is to be told of exchanges.
    """
    # The global provider may be another object later, and is the same: its module stands for it.
    provider = metrics if meter_provider is None else meter_provider
    if provider not in _instruments:
        made_by = meter_provider or metrics.get_meter_provider()
        meter = made_by.get_meter("otel_wirecap", __version__, names.SCHEMA_URL)
        _instruments[provider] = _make_instruments(meter)
    instruments = _instruments[provider]
    for writer in open_writers():
        writer.observe_writes(instruments.writes.record)
    return instruments.requests


def _make_instruments(meter: metrics.Meter) -> Instruments:
    counter, gauge = meter.create_observable_counter, meter.create_observable_up_down_counter
    counter(names.METRIC_RECORDS, [_each_file(lambda file: file.records)], "{record}", "Records in the file")
    counter(names.METRIC_BYTES, [_each_file(lambda file: file.bytes)], "By", "Bytes of the records in the file")
    counter(names.METRIC_WRITE_ERRORS, [_each_file(lambda file: file.write_errors)], "{error}", "Failed writes")
    counter(
        names.METRIC_LOST_EVENTS, [_by_reason(lambda stats: stats.lost_events)], "{event}", "Events lost, by reason"
    )
    counter(
        names.METRIC_LOST_RECORDS, [_by_reason(lambda stats: stats.lost_records)], "{record}", "Records lost, by reason"
    )
    counter(
        names.METRIC_LOST_EXCHANGES,
        [_by_reason(lambda stats: stats.lost_exchanges)],
        "{exchange}",
        "Exchanges lost, by reason",
    )
    gauge(
        names.METRIC_QUEUE_EVENTS, [_each_capture(lambda capture: capture.waiting_events)], "{event}", "Waiting events"
    )
    gauge(names.METRIC_QUEUE_BYTES, [_each_capture(lambda capture: capture.waiting_bytes)], "By", "Waiting bytes")
    gauge(
        names.METRIC_OPEN_EXCHANGES,
        [_each_capture(lambda capture: capture.open_exchanges)],
        "{exchange}",
        "Exchanges that have begun and not ended",
    )
    writes = meter.create_histogram(
        names.METRIC_WRITE_DURATION,
        "s",
        "Duration of writes, waiting for the lock included",
        explicit_bucket_boundaries_advisory=WRITE_SECONDS,
    )
    return Instruments(writes, RequestMetrics(meter))


def _observed(values: Callable[[CaptureStats], Iterable[tuple[int, dict[str, str]]]]) -> Observe:
    """Asks each capture of this process for values and their attributes."""
    return lambda _options: (
        Observation(value, attributes) for writer in open_writers() for value, attributes in values(writer.stats())
    )


def _each_capture(value: Callable[[CaptureStats], int]) -> Observe:
    return _observed(lambda stats: [(value(stats), {names.CAPTURE_FILE: stats.capture_file})])


def _each_file(value: Callable[[FileStats], int]) -> Observe:
    return _observed(
        lambda stats: [
            (value(file), {names.CAPTURE_FILE: file.capture_file}) for file in (stats, stats.cbor) if file is not None
        ]
    )


def _by_reason(value: Callable[[CaptureStats], dict[str, int]]) -> Observe:
    return _observed(
        lambda stats: [
            (count, {names.CAPTURE_FILE: stats.capture_file, names.REASON: reason})
            for reason, count in value(stats).items()
        ]
    )
