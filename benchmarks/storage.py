"""What the way into the file costs, beside other ways: for who calls, in records a second, in processor time, in lag.

The limit is orjson and one ``write`` per 64 KB, in the calling thread: no queue, no lock, no rotation, no redaction.
What is put into otel-wirecap is a chunk of a stream, which it decodes, redacts, numbers and serialises; the others get
the finished record. Contestants run one after another in each round, the figures are medians of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.util
import logging
import logging.handlers
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from otel_wirecap.capture.events import ExchangeHead, RequestHead, ResponseHead
from otel_wirecap.capture.exchange import LiveExchange, LiveFlow
from otel_wirecap.capture.record import CaptureRecord
from otel_wirecap.config import load_config
from otel_wirecap.storage.output import CaptureOutput
from otel_wirecap.storage.writer import CaptureWriter

SIZES = {"chunk": 150, "2 KB": 2_000, "100 KB": 100_000}
MAX_BYTES = 1 << 30


def record(payload: str, number: int) -> dict[str, Any]:
    """A record of the schema."""
    return {
        "timestamp_iso": "2026-01-10T15:58:41.039145+00:00", "timestamp_unix": 1768060721.039145,
        "direction": "stream_chunk", "source": "openai", "destination": "127.0.0.1(Cline/1.0)",
        "session_id": "session-123", "backend": "openai", "model": "gpt-5-mini", "key_name": "OPENAI_API_KEY",
        "content_type": "text", "content_length": len(payload), "payload": payload,
        "metadata": {
            "leg": "backend", "request_id": "req_5bd2c7aa0c9d8f1e", "exchange_id": "ex_77f0e1d2aa13b2c4", "attempt": 1,
            "trace_id": "0" * 32, "span_id": "0" * 16, "chunk_number": number, "chunk_bytes": len(payload),
            "pid": 4242, "seq": number, "process": "0123456789abcdef",
        },
    }  # fmt: skip


def text(size: int) -> str:
    """An event of a stream, with words in it."""
    head, tail = 'data: {"choices":[{"index":0,"delta":{"content":"', '"}}]}\n\n'
    words = "The quick brown fox, aged 7, jumps over the lazy dog. " * (size // 50 + 1)
    return head + words[: size - len(head) - len(tail)] + tail


class Limit:
    name = "limit"

    def __init__(self, folder: Path) -> None:
        self._fd = os.open(folder / "limit.log", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        self._lines: list[bytes] = []
        self._bytes = 0

    def put(self, payload: str, number: int) -> None:
        line = orjson.dumps(record(payload, number), option=orjson.OPT_APPEND_NEWLINE)
        self._lines.append(line)
        self._bytes += len(line)
        if self._bytes >= 65536:
            self._write()

    def _write(self) -> None:
        os.write(self._fd, b"".join(self._lines))
        self._lines, self._bytes = [], 0

    def close(self) -> None:
        self._write()
        os.close(self._fd)


class Host:
    """Puts events into a writer, and is told of nothing."""

    def __init__(self, writer: CaptureWriter) -> None:
        self.put, self.flow_gone = writer.put, writer.flow_gone

    def failed(self, error: Exception) -> None:
        raise error

    def ended_unrecorded(self, *end: object) -> None:
        pass


class WireCapture:
    name = "otel-wirecap"
    settings: dict[str, object] = {}  # noqa: RUF012  # read only

    def __init__(self, folder: Path) -> None:
        path = folder / f"{self.name.replace(', ', '-')}.log"
        settings = {"capture_file": path, "capture_max_bytes": MAX_BYTES, "capture_total_max_bytes": MAX_BYTES * 4}
        # A thread, so that all of the processor time is this process's.
        settings |= {"capture_max_queue_bytes": "2GB", "capture_writer": "thread"} | self.settings
        self._writer = CaptureWriter(load_config(settings, {}), str(path))
        self._writer.open()
        flow = LiveFlow("req_1")
        about = ExchangeHead("backend", flow.id, 1, "0" * 32, "0" * 16, time.time_ns(), time.monotonic_ns())
        self._exchange = LiveExchange("ex_1", about, flow, Host(self._writer))
        self._exchange.begin(RequestHead("POST", "https://api.openai.com/v1/chat/completions", [], body=b"{}"))
        self._exchange.response(time.monotonic_ns(), ResponseHead(200, None, [(b"content-type", b"text/event-stream")]))
        self._bytes: dict[str, bytes] = {}

    def put(self, payload: str, number: int) -> None:
        data = self._bytes.get(payload)  # a proxy has bytes; making them is not ours
        if data is None:
            data = self._bytes[payload] = payload.encode()
        self._exchange.chunk(time.monotonic_ns(), data)

    def close(self) -> None:
        self._exchange.end(time.monotonic_ns(), "complete")
        if not self._writer.close(120):
            raise SystemExit("the writer did not come to its end")


class WireCaptureCBOR(WireCapture):
    name = "otel-wirecap, cbor"
    settings = {"capture_format": "cbor"}  # noqa: RUF012  # read only


class FormatAndFile:
    """The last part of otel-wirecap's way alone, in the calling thread: a ready record becomes bytes in the file."""

    name = "otel-wirecap, format and file alone"

    def __init__(self, folder: Path) -> None:
        path = folder / "alone.log"
        settings = {"capture_file": path, "capture_max_bytes": MAX_BYTES, "capture_total_max_bytes": MAX_BYTES * 4}
        self._output = CaptureOutput(load_config(settings, {}), str(path), "jsonl", tell=print, on_gap=print)

    def put(self, payload: str, number: int) -> None:
        made = record(payload, number)
        self._output.take(
            CaptureRecord(
                time.time_ns(), made["direction"], made["source"], made["destination"], made["session_id"],
                made["backend"], made["model"], made["key_name"], made["content_length"], payload, made["metadata"],
            )
        )  # fmt: skip
        if self._output.waiting_bytes >= 65536:
            self._output.write()

    def close(self) -> None:
        self._output.write()
        self._output.close()


class StandardLogging:
    name = "RotatingFileHandler"

    def __init__(self, folder: Path) -> None:
        self._handler = self._make(folder)
        self._handler.setFormatter(logging.Formatter("%(message)s"))
        self._logger = logging.Logger("benchmark")  # noqa: LOG001  # of its own: it must not stay registered
        self._logger.addHandler(self._handler)

    def _make(self, folder: Path) -> logging.Handler:
        return logging.handlers.RotatingFileHandler(folder / "logging.log", maxBytes=MAX_BYTES, backupCount=5)

    def put(self, payload: str, number: int) -> None:
        self._logger.info(orjson.dumps(record(payload, number)).decode())

    def close(self) -> None:
        self._handler.close()


class ConcurrentLogHandler(StandardLogging):
    name = "concurrent-log-handler"
    needs = "concurrent_log_handler"

    def _make(self, folder: Path) -> logging.Handler:
        from concurrent_log_handler import ConcurrentRotatingFileHandler

        return ConcurrentRotatingFileHandler(str(folder / "concurrent.log"), maxBytes=MAX_BYTES, backupCount=5)


class Loguru:
    name = "loguru"
    needs = "loguru"
    enqueue = False

    def __init__(self, folder: Path) -> None:
        from loguru import logger

        logger.remove()
        self._logger = logger
        path = folder / f"loguru-{self.enqueue}.log"
        self._sink = logger.add(path, format="{message}", rotation=MAX_BYTES, enqueue=self.enqueue)

    def put(self, payload: str, number: int) -> None:
        self._logger.info(orjson.dumps(record(payload, number)).decode())

    def close(self) -> None:
        self._logger.complete()
        self._logger.remove(self._sink)


class LoguruEnqueued(Loguru):
    name = "loguru, enqueued"
    enqueue = True


class SpanFile:
    """OpenTelemetry's own span exporter, into a file: each record is a span event's attribute, as OTLP has it."""

    name = "OTel spans to a file"

    def __init__(self, folder: Path) -> None:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

        self._file = (folder / "spans.log").open("w")
        exporter = ConsoleSpanExporter(out=self._file, formatter=lambda span: span.to_json(indent=None) + "\n")
        self._provider = TracerProvider(shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=1 << 20))
        self._tracer = self._provider.get_tracer("benchmark")

    def put(self, payload: str, number: int) -> None:
        span = self._tracer.start_span("chunk")
        span.add_event("wirecap.stream_chunk", {"record": orjson.dumps(record(payload, number)).decode()})
        span.end()

    def close(self) -> None:
        self._provider.shutdown()
        self._file.close()


CONTESTANTS: list[Any] = [
    Limit, FormatAndFile, WireCapture, WireCaptureCBOR, StandardLogging,
    ConcurrentLogHandler, Loguru, LoguruEnqueued, SpanFile,
]  # fmt: skip


def throughput(make: Callable[[Path], Any], payload: str, count: int) -> tuple[float, float, float, float]:
    """The caller's microseconds an event (median, p99), records a second, microseconds of processor time a record."""
    with tempfile.TemporaryDirectory() as folder:
        contestant = make(Path(folder))
        gc.collect()
        took = [0] * count
        clock = time.perf_counter_ns
        cpu, began = time.process_time(), time.perf_counter()
        for number in range(count):
            before = clock()
            contestant.put(payload, number)
            took[number] = clock() - before
        contestant.close()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    took.sort()
    return took[count // 2] / 1e3, took[count * 99 // 100] / 1e3, count / seconds, cpu / count * 1e6


async def lag(make: Callable[[Path], Any] | None, payload: str, per_second: int, seconds: float) -> float:
    """The p99 by which a timer of one millisecond comes late, in milliseconds, while events are put in the loop."""
    late: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        contestant = make(Path(folder)) if make is not None else None
        end = time.perf_counter() + seconds
        number = 0

        async def feed() -> None:
            nonlocal number
            began = time.perf_counter()
            while time.perf_counter() < end:
                await asyncio.sleep(0.005)
                due = int((time.perf_counter() - began) * per_second)
                while number < due:
                    if contestant is not None:
                        contestant.put(payload, number)
                    number += 1

        async def timer() -> None:
            while time.perf_counter() < end:
                before = time.perf_counter()
                await asyncio.sleep(0.001)
                late.append(time.perf_counter() - before - 0.001)

        await asyncio.gather(feed(), timer())
        if contestant is not None:
            contestant.close()
    return sorted(late)[len(late) * 99 // 100] * 1e3


def median(values: list[float]) -> float:
    return statistics.median(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=20, help="of payload for each contestant in each round")
    parser.add_argument("--lag-seconds", type=float, default=2.0)
    options = parser.parse_args()
    contestants = []
    for contestant in CONTESTANTS:
        if importlib.util.find_spec(getattr(contestant, "needs", "orjson")) is None:
            print(f"{contestant.name}: not installed, left out", file=sys.stderr)
        else:
            contestants.append(contestant)

    print("| record | way | call µs: median, p99 | records a second | processor µs a record | ratio to the limit |")
    print("|---|---|---|---|---|---|")
    for kind, size in SIZES.items():
        payload = text(size)
        count = max(200, min(20_000, options.megabytes * 1_000_000 // size))
        results: dict[str, list[tuple[float, float, float, float]]] = {one.name: [] for one in contestants}
        for _ in range(options.rounds):
            for one in contestants:
                results[one.name].append(throughput(one, payload, count))
        limit = [cpu for *_, cpu in results["limit"]]
        for name, rounds in results.items():
            call, p99, rate, cpu = (median(list(column)) for column in zip(*rounds, strict=True))
            ratio = median([one[3] / bare for one, bare in zip(rounds, limit, strict=True)])
            print(f"| {kind} | {name} | {call:.1f}, {p99:.1f} | {rate:,.0f} | {cpu:.1f} | {ratio:.1f} |")

    print("\n| while events are put in the loop | lag p99, ms: 2,000 chunks a second | 50 of 100 KB a second |")
    print("|---|---|---|")
    chunk, large = text(SIZES["chunk"]), text(SIZES["100 KB"])
    lags: dict[str, list[tuple[float, float]]] = {}
    for _ in range(options.rounds):
        for one in [None, *contestants]:
            if one is FormatAndFile:
                continue
            pair = tuple(
                asyncio.run(lag(one, payload, rate, options.lag_seconds))
                for payload, rate in ((chunk, 2000), (large, 50))
            )
            lags.setdefault(one.name if one is not None else "nothing", []).append(pair)
    for name, pairs in lags.items():
        print(f"| {name} | " + " | ".join(f"{median(list(column)):.2f}" for column in zip(*pairs, strict=True)) + " |")


if __name__ == "__main__":
    main()
