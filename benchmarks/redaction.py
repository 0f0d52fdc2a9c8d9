"""What redaction costs, as a ratio to ``orjson.loads`` and ``orjson.dumps`` of the same data in the same run.

Bodies are requests with messages of prose, code and tool results; streams are batches of events as the recorder takes
them. Nothing in them is a secret: that is the common case, and the expensive one, for everything has to be looked at.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import statistics
import tempfile
import threading
import time
from collections.abc import Callable

import orjson

from otel_wirecap.capture.events import RequestHead
from otel_wirecap.capture.exchange import Exchange, Flow
from otel_wirecap.capture.redaction.redactor import Redactor
from otel_wirecap.capture.redaction.stream import StreamRedactor
from otel_wirecap.config import load_config
from otel_wirecap.storage.writer import CaptureWriter

BODIES = {"2 KB": 2_000, "100 KB": 100_000, "1 MB": 1_000_000}
RNG = random.Random(7)
TEXT = (
    "the of and to in is that it was for on are as with his they be at one have this from by hot word but what some "
    "we can out other were all there when up use your how said an each she which do their time if will way about many "
    "then them write would like so these her long make thing see him two has look more day could go come number sound "
    "key token session secret user request response stream model answer error value when open system content"
)
WORDS = TEXT.split(" ")
CODE = """
def render(self, name: str, *, limit: int = 20) -> list[str]:
    \"\"\"Returns the first lines of the file; see RFC 9110.\"\"\"
    path = self._root / name
    with path.open(encoding="utf-8") as stream:
        return [line.rstrip("\\n") for line in itertools.islice(stream, limit)]
"""


def prose(size: int) -> str:
    parts: list[str] = []
    while size > 0:
        parts.append(RNG.choice(WORDS) + RNG.choice((" ", " ", " ", " ", ", ", ". ", "\n", ": ", " “", "” ")))
        size -= len(parts[-1])
    return "".join(parts)


def body(size: int) -> bytes:
    """A request of that size."""
    messages: list[object] = [{"role": "system", "content": prose(min(500, size // 3))}]
    while (left := size - len(json.dumps(messages))) > 200:
        kind = RNG.randrange(4)
        if kind == 0:
            messages.append({"role": "user", "content": [{"type": "text", "text": prose(min(left - 100, 3000))}]})
        elif kind == 1:
            messages.append({"role": "assistant", "content": CODE * max(1, min(left // 600, 8))})
        elif kind == 2:
            call = {"name": "read", "arguments": json.dumps({"path": "src/a.py", "limit": RNG.randrange(99)})}
            messages.append({"role": "assistant", "tool_calls": [{"id": "call_1", "function": call}]})
        else:
            messages.append({"role": "tool", "tool_call_id": "call_1", "content": prose(min(left - 100, 2000))})
    request = {"model": "gpt-5-mini", "messages": messages, "stream": True, "temperature": 0.2, "max_tokens": 800}
    return json.dumps(request, separators=(",", ":"), ensure_ascii=RNG.random() < 0.5).encode()


def event(kind: str, number: int) -> bytes:
    text = " " + RNG.choice(WORDS) + RNG.choice(("", "", "", ",", ".", "\n"))
    if kind == "OpenAI chat":
        choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
        value: dict[str, object] = {
            "id": "chatcmpl-AbC123xyz", "object": "chat.completion.chunk", "created": 1732000000,
            "model": "gpt-4o-2024-08-06", "system_fingerprint": "fp_abc", "choices": [choice],
        }  # fmt: skip
        name = ""
    elif kind == "OpenAI responses":
        name = "event: response.output_text.delta\n"
        value = {
            "type": "response.output_text.delta", "sequence_number": number, "item_id": "msg_0123456789abcdef",
            "output_index": 0, "content_index": 0, "delta": text,
        }  # fmt: skip
    elif kind == "Anthropic":
        name = "event: content_block_delta\n"
        value = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    else:
        name = ""
        candidate = {"content": {"parts": [{"text": text * 9}], "role": "model"}, "index": 0}
        usage = {"promptTokenCount": 12, "candidatesTokenCount": number, "totalTokenCount": 12 + number}
        value = {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-2.0-flash"}
    return f"{name}data: {json.dumps(value, separators=(',', ':'))}\n\n".encode()


def redactor() -> tuple[Redactor, tuple[str, ...]]:
    """As in a process with eight keys in its environment; and the credential of the request."""
    own = "sk-" + secrets.token_hex(24)
    made = Redactor(known_values=[secrets.token_urlsafe(24) for _ in range(8)])
    made.learn([own])
    return made, (own,)


def seconds(action: Callable[[], object], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        action()
    return (time.perf_counter() - began) / times


def ratio(limit: Callable[[], object], ours: Callable[[], object], times: int, rounds: int) -> str:
    """Microseconds of limit and redaction, medians of rounds in turns, and the median of their ratios."""
    figures = [(seconds(limit, times), seconds(ours, times)) for _ in range(rounds)]
    base, mine = (statistics.median(column) * 1e6 for column in zip(*figures, strict=True))
    return f"{base:,.1f} | {mine:,.1f} | {statistics.median(o / b for b, o in figures):.2f}"


def bodies(rounds: int) -> None:
    made, credentials = redactor()
    print("\n| body | loads + dumps, µs | redaction, µs | ratio |\n|---|---|---|---|")
    for name, size in BODIES.items():
        data = body(size)
        counts: dict[str, int] = {}
        assert made.json(data, counts, credentials) is data, counts
        row = ratio(
            lambda data=data: orjson.dumps(orjson.loads(data)),
            lambda data=data: made.json(data, {}, credentials),
            max(3, 2_000_000 // len(data)),
            rounds,
        )
        print(f"| {name} | {row} |")


def streams(rounds: int, batch: int) -> None:
    made, credentials = redactor()
    print(f"\n| stream, {batch} events at a time | loads + dumps, µs an event | redaction, µs | ratio |")
    print("|---|---|---|---|")
    for kind in ("OpenAI chat", "OpenAI responses", "Anthropic", "Gemini"):
        batches = [[event(kind, 100 * start + number) for number in range(batch)] for start in range(2000 // batch)]
        documents = [piece[piece.index(b"data: ") + 6 :].strip() for pieces in batches for piece in pieces]

        def limit(documents: list[bytes] = documents) -> None:
            for document in documents:
                orjson.dumps(orjson.loads(document))

        def ours(batches: list[list[bytes]] = batches) -> None:
            stream = StreamRedactor(made, "text/event-stream")
            count = sum(len(stream.feed(pieces, credentials).pieces) for pieces in batches)
            assert count + len(stream.close(credentials).pieces) == len(batches) * batch

        figures = [(seconds(limit, 1), seconds(ours, 1)) for _ in range(rounds)]
        base, mine = (statistics.median(column) / len(documents) * 1e6 for column in zip(*figures, strict=True))
        print(f"| {kind} | {base:.2f} | {mine:.2f} | {statistics.median(o / b for b, o in figures):.2f} |")


WORST = {
    "sk-": b"sk-", "all prefixes": b"sk-AKIA ghp_ eyJ xai- AIza npm_ ", "-----BEGIN": b"-----BEGIN ", "eyJ": b"eyJa.",
    "c2st": b"c2st", "one letter": b"x", "open field": b'"api_key": "', "quotes": b'"', "backslashes": b"\\\\",
}  # fmt: skip


def worst_cases() -> None:
    made, credentials = redactor()
    print("\n| text of nothing but | 1 MB, ms | 10 MB, ms | times |\n|---|---|---|---|")
    for name, piece in WORST.items():
        figures = []
        for size in (1_000_000, 10_000_000):
            data = piece * (size // len(piece))
            figures.append(min(seconds(lambda data=data: made.bytes_(data, {}, credentials), 1) for _ in range(3)))
        print(f"| `{name}` | {figures[0] * 1e3:.1f} | {figures[1] * 1e3:.1f} | {figures[1] / figures[0]:.1f} |")


async def lag(duration: float) -> float:
    """The 99th percentile of how late a sleep of a millisecond ends, in ms."""
    late = []
    end = time.perf_counter() + duration
    while (began := time.perf_counter()) < end:
        await asyncio.sleep(0.001)
        late.append(time.perf_counter() - began - 0.001)
    return statistics.quantiles(late, n=100)[98] * 1e3


def recorded(data: bytes, stop: threading.Event) -> None:
    """Has the recorder take request after request with that body, each as soon as the last is taken."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/capture.log"
        settings = {"capture_file": path, "capture_flush_interval": 0.05, "capture_max_bytes": "50MB"}
        writer = CaptureWriter(load_config(settings, {}), path)
        writer.open()
        while not stop.is_set():
            exchange = Exchange(
                "ex_" + secrets.token_hex(8), "backend", Flow("req_1"), attempt=1, trace_id="0" * 32, span_id="0" * 16,
                began_unix_ns=time.time_ns(), began_ns=time.monotonic_ns(), emit=writer.put,
                on_failure=lambda _error: None,
            )  # fmt: skip
            exchange.begin(RequestHead("POST", "https://api.openai.com/v1/chat/completions", [], body=data))
            exchange.end(time.monotonic_ns(), "complete")
            while writer.stats().waiting_events and not stop.is_set():
                time.sleep(0.0005)
        writer.close()


def loop_lag(rounds: int) -> None:
    data = body(1_000_000)
    idle, busy = [], []
    for _ in range(rounds):
        idle.append(asyncio.run(lag(2.0)))
        stop = threading.Event()
        thread = threading.Thread(target=recorded, args=(data, stop))
        thread.start()
        busy.append(asyncio.run(lag(2.0)))
        stop.set()
        thread.join()
    print("\n| event loop's lag, p99 | ms |\n|---|---|")
    print(f"| idle | {statistics.median(idle):.2f} |")
    print(f"| while bodies of 1 MB are recorded | {statistics.median(busy):.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=100, help="events that are redacted together")
    arguments = parser.parse_args()
    bodies(arguments.rounds)
    streams(arguments.rounds, arguments.batch)
    worst_cases()
    loop_lag(min(3, arguments.rounds))


if __name__ == "__main__":
    main()
