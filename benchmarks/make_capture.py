"""Makes a large capture with a realistic mix of records: many chunks, fewer bodies, several flows at a time.

    python benchmarks/make_capture.py big.log --bytes 1GB

About two thirds of the flows are streams of some eighty chunks on each leg; the others are answers of a few kilobytes,
some of them errors. Prompts grow with the turns of their session, up to 60 kB.
"""

from __future__ import annotations

import argparse
import random
import secrets
from pathlib import Path

import orjson

from otel_wirecap.capture.formats import JSONLines
from otel_wirecap.capture.record import CaptureRecord, RawJSON

START_NS = 1_767_225_600_000_000_000
AT_A_TIME = 8
TURNS = 12
MODELS = (("openai", "gpt-5-mini"), ("openai", "gpt-5"), ("anthropic", "claude-sonnet-4-5"))
WORDS = [
    "the",
    "of",
    "a",
    "record",
    "chunk",
    '"quoted"',
    "stream\n",
    "model",
    "answer",
    "über",
    "漢字",
    "tool",
    "call",
    "path/to/file.py",
    "=",
    "def",
    "return",
]
HEADERS = [["Host", "api.example.com"], ["Content-Type", "application/json"], ["Authorization", "[REDACTED]"]]


class Flow:
    """One flow: gives its records in their order."""

    def __init__(self, dice: random.Random, session: str, turn: int) -> None:
        self.dice, self.session, self.turn = dice, session, turn
        self.backend, self.model = dice.choice(MODELS)
        self.request_id = "req_" + secrets.token_hex(10)
        self.exchanges = {"client": "ex_" + secrets.token_hex(10), "backend": "ex_" + secrets.token_hex(10)}
        self.records = self._records()

    def _records(self):
        body = {"model": self.model, "stream": True, "messages": [
            {"role": "user", "content": text(self.dice, 200 * (turn + 1))} for turn in range(self.turn)
        ]}  # fmt: skip
        asked = RawJSON(orjson.dumps(body))
        for leg, direction in (("client", "inbound_request"), ("backend", "outbound_request")):
            yield self._record(
                direction, leg, asked, method="POST", url="https://api.example.com/v1/chat", headers=HEADERS
            )
        kind = self.dice.random()
        if kind > 0.66:
            yield from self._answered(429 if kind > 0.97 else 200)
        else:
            yield from self._streamed()

    def _answered(self, status: int):
        answer = self._answer(text(self.dice, 600))
        if status != 200:
            answer = {"error": {"type": "rate_limit_error", "message": "Slow down."}}
        payload = RawJSON(orjson.dumps(answer))
        for leg, direction in (("backend", "inbound_response"), ("client", "outbound_response")):
            yield self._record(
                direction, leg, payload, headers=HEADERS, status_code=status, ttfb_ms=700.1, duration_ms=812.5,
                outcome="complete",
            )  # fmt: skip

    def _streamed(self):
        for leg, direction in (("backend", "stream_start"), ("client", "outbound_stream_start")):
            yield self._record(direction, leg, None, headers=HEADERS, status_code=200, ttfb_ms=401.2)
        count, size, said = self.dice.randint(40, 130), 0, []
        for number in range(1, count + 1):
            said.append(text(self.dice, 2))
            event = {"id": self.request_id, "object": "chat.completion.chunk", "model": self.model,
                     "choices": [{"index": 0, "delta": {"content": said[-1]}, "finish_reason": None}]}  # fmt: skip
            chunk = f"data: {orjson.dumps(event).decode()}\n\n"
            size += len(chunk.encode())
            for leg, direction in (("backend", "stream_chunk"), ("client", "outbound_stream_chunk")):
                yield self._record(direction, leg, chunk, chunk_bytes=len(chunk.encode()), chunk_number=number)
        totals = {"total_bytes": size, "total_chunks": count}
        for leg, direction in (("backend", "stream_end"), ("client", "outbound_stream_end")):
            yield self._record(
                direction, leg, totals, status_code=200, ttfb_ms=401.2, duration_ms=9_000.5, outcome="complete"
            )
        answer = RawJSON(orjson.dumps(self._answer("".join(said))))
        yield self._record("inbound_response", "backend", answer, status_code=200, duration_ms=9_000.5,
                           outcome="complete", assembled=True)  # fmt: skip

    def _answer(self, said: str) -> dict[str, object]:
        usage = {"prompt_tokens": 300 * self.turn, "completion_tokens": 90, "total_tokens": 300 * self.turn + 90,
                 "prompt_tokens_details": {"cached_tokens": 200 * self.turn}}  # fmt: skip
        message = {"role": "assistant", "content": said}
        return {"id": self.request_id, "object": "chat.completion", "model": self.model,
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}  # fmt: skip

    def _record(self, direction, leg, payload, **facts) -> CaptureRecord:
        metadata = {"leg": leg, "request_id": self.request_id, "exchange_id": self.exchanges[leg]}
        if leg == "backend":
            metadata["attempt"] = 1
        metadata |= {"trace_id": secrets.token_hex(16), "span_id": secrets.token_hex(8), "client_host": "127.0.0.1",
                     "user_agent": "Cline/1.0", **facts, "session_source": "header:x-session-id"}  # fmt: skip
        length = len(payload.data) if isinstance(payload, RawJSON) else len(payload or "")
        return CaptureRecord(0, direction, "127.0.0.1(Cline/1.0)", self.backend, self.session, self.backend, self.model,
                      "OPENAI_API_KEY", length, payload, metadata)  # fmt: skip


def text(dice: random.Random, words: int) -> str:
    return " ".join(dice.choices(WORDS, k=words))


def make(path: Path, size: int) -> tuple[int, int, int]:
    """Writes a capture of at least ``size`` bytes; gives its bytes, records and flows."""
    dice, form = random.Random(7), JSONLines()
    written = records = flows = turn = 0
    session, now, running = "session-0", START_NS, list[Flow]()
    with path.open("wb") as file:
        while written < size or running:
            while len(running) < AT_A_TIME and written < size:
                turn = turn % TURNS + 1
                if turn == 1:
                    session = f"session-{flows // TURNS}"
                running.append(Flow(dice, session, turn))
                flows += 1
            flow = dice.choice(running)
            for _ in range(dice.randint(1, 4)):
                record = next(flow.records, None)
                if record is None:
                    running.remove(flow)
                    break
                now += dice.randint(20_000, 900_000)
                records += 1
                record.time_ns = now
                record.metadata |= {"seq": records, "pid": 4711, "process": "567180dcb38a78d2"}
                written += file.write(form.encode(record))
    path.chmod(0o600)
    return written, records, flows


def main() -> None:
    from otel_wirecap.config import parse_size

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--bytes", default="1GB", help="about how large (default: %(default)s)")
    arguments = parser.parse_args()
    written, records, flows = make(arguments.file, parse_size(arguments.bytes))
    print(f"{arguments.file}: {written:,} bytes, {records:,} records, {flows:,} flows")


if __name__ == "__main__":
    main()
