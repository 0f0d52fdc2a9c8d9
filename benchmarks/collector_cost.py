"""What telemetry costs a proxy with a collector attached: CPU time of the proxy process, in one run.

    python benchmarks/collector_cost.py [--rounds 5]

Every proxy sends by OTLP over HTTP to one receiver, a process of its own that takes all and keeps nothing; all take
their turns in every round, and the table gives medians, and medians of the ratios to the bare proxy of the same round.
"""

from __future__ import annotations

import argparse
import http.server
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from processes import INSTRUMENT, OTHERS, Proxy, running
from proxy_cost import WORKLOADS, interleaved, measure

RECEIVE = "--receive"


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes what is sent."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answers that all is well."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def proxies(folder: Path, endpoint: str) -> list[Proxy]:
    """The proxies to compare, the bare one first."""
    otlp = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_TRACES_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "otlp",
        "OTEL_SERVICE_NAME": "bench",
    }  # fmt: skip
    ours = otlp | {
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": OTHERS, "WIRE_CAPTURE_MAX_BYTES": "4GB",
        "WIRE_CAPTURE_TOTAL_MAX_BYTES": "16GB",
    }  # fmt: skip

    def one(name: str, launcher: list[str], environment: dict[str, str]) -> Proxy:
        known = {"WIRE_CAPTURE_FILE": str(folder / f"{name}.log")} if "WIRE_CAPTURE_MAX_BYTES" in environment else {}
        return Proxy(name, "httpx", folder, launcher=launcher, environment=environment | known)

    instrument = [INSTRUMENT, sys.executable]
    return [
        Proxy("bare", "httpx", folder),
        Proxy("captured, no collector", "httpx", folder, settings={}),
        one("captured, spans", instrument, ours),
        one("captured, spans and payloads as logs", instrument, ours | {"WIRE_CAPTURE_SPAN_PAYLOADS": "logs"}),
        one("captured, spans and payloads as events", instrument, ours | {"WIRE_CAPTURE_SPAN_PAYLOADS": "events"}),
        one(
            "contrib httpx and FastAPI, spans", instrument, otlp | {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "wirecap"}
        ),
        one("logfire, spans", [sys.executable, "with_logfire.py"], otlp),
        one("logfire, spans and payloads", [sys.executable, "with_logfire.py"], otlp | {"WITH_PAYLOADS": "1"}),
    ]


def main() -> None:
    """Measures and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(RECEIVE, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.receive:
        receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        print(receiver.server_port, flush=True)
        receiver.serve_forever()
    os.chdir(Path(__file__).parent)
    with tempfile.TemporaryDirectory() as folder:
        receiver = subprocess.Popen([sys.executable, __file__, RECEIVE], stdout=subprocess.PIPE, text=True)
        try:
            made = proxies(Path(folder), f"http://127.0.0.1:{receiver.stdout.readline().strip()}")
            with running(made):
                tables(made, options.rounds)
        finally:
            receiver.kill()
            receiver.wait()


def tables(made: list[Proxy], rounds: int) -> None:
    """Runs all rounds and prints a table a workload."""
    for workload in ("2 KB reply", "100 KB reply", "50-chunk stream", "2000-chunk stream"):
        chunk_count = WORKLOADS[workload][3]
        costs = interleaved(made, rounds, lambda proxy, workload=workload: measure(proxy, workload).alone)
        print(f"\n| {workload} | µs a request | x bare | added µs | added µs a chunk |\n|---|---|---|---|---|")
        bare = costs[made[0].name]
        for name, own in costs.items():
            added = statistics.median(cost - base for cost, base in zip(own, bare, strict=True))
            ratio = statistics.median(cost / base for cost, base in zip(own, bare, strict=True))
            per_chunk = f"{added / chunk_count:.1f}" if chunk_count else "-"
            print(f"| {name} | {statistics.median(own):,.0f} | {ratio:.2f} | {added:,.0f} | {per_chunk} |", flush=True)


if __name__ == "__main__":
    main()
