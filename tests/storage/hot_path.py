"""What capture does for a relayed chunk and for a request, counted: calls and instructions of our own code, no time.

    python tests/storage/hot_path.py            counts, and prints beside the recorded figures
    python tests/storage/hot_path.py --record   counts, and records the figures for this version of Python

The host's path is what the application waits for: the ASGI middleware, the client hook, the tees, the queue's ``put``.
The sender's path is what a thread of the application's does so that the writer's process gets the events.
The writer's path is one round of the writer after another, in this thread, on the events that the host's path put;
its own thread is not started. A *call* is one of our functions being called or resumed, or one that our code calls,
in Python or C; an *instruction* is one of the bytecode of our functions. What libraries do inside is not counted, so
that another version of them changes nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

sys.path.append(str(Path(__file__).parents[1]))  # what all tests share, which pytest finds by itself

from driving import record_writer_of

import otel_wirecap
from otel_wirecap.capture.exchange import LiveExchange
from otel_wirecap.capture.recorder import Recorder
from otel_wirecap.instrumentation.runtime import active
from otel_wirecap.storage import host_side, pauses
from otel_wirecap.storage.channel import send_events
from otel_wirecap.storage.writer import CaptureWriter

FIGURES = Path(__file__).with_name("hot_path_figures.json")
OURS = str(Path(otel_wirecap.__file__).parent)
PYTHON = "{}.{}".format(*sys.version_info)
CHUNKS = 100
host_side.MAX_BATCH_EVENTS = EVENTS_A_ROUND = 50
"""25 chunks on each of the two legs: as many as come in half a second from a model that is not slow."""

Figures = dict[str, dict[str, float]]


class Counting:
    """Counts what our code does in this thread between ``begin`` and ``end``."""

    def __init__(self) -> None:
        self.calls = 0
        self.instructions = 0

    def begin(self, measure: str) -> None:
        if measure == "calls":
            sys.setprofile(self._profile)
        else:
            sys.settrace(self._trace)

    def end(self) -> None:
        sys.setprofile(None)
        sys.settrace(None)

    def _profile(self, frame: Any, event: str, _argument: Any) -> None:
        if event == "call":
            caller = frame.f_back
            self.calls += is_ours(frame) or (caller is not None and is_ours(caller))
        elif event == "c_call":
            self.calls += is_ours(frame)

    def _trace(self, frame: Any, event: str, _argument: Any) -> Any:
        if event == "opcode":
            self.instructions += 1
        if not is_ours(frame):
            return None
        frame.f_trace_lines = False
        frame.f_trace_opcodes = True
        return self._trace


def is_ours(frame: Any) -> bool:
    return bool(frame.f_code.co_filename.startswith(OURS))


def stream_event(number: int) -> bytes:
    delta = {"index": 0, "delta": {"content": f" word{number} and"}, "logprobs": None, "finish_reason": None}
    event = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_732_000_000, "model": "m-1"}
    return b"data: " + json.dumps(event | {"choices": [delta]}, separators=(",", ":")).encode() + b"\n\n"


class Backend(httpx.AsyncBaseTransport):
    """Answers with a stream of so many chunks, or, without any, with a completion of 2 KB."""

    def __init__(self, chunks: int) -> None:
        self._chunks = [stream_event(number) for number in range(chunks)]
        usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": "plain words " * 150},
            "finish_reason": "stop",
        }
        self._whole = json.dumps({"id": "1", "model": "m-1", "choices": [choice], "usage": usage}).encode()

    async def handle_async_request(self, _request: httpx.Request) -> httpx.Response:
        kind = "text/event-stream" if self._chunks else "application/json"
        return httpx.Response(200, headers={"content-type": kind}, stream=Body(self._chunks or [self._whole]))


class Body(httpx.AsyncByteStream):
    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk


async def relay(chunks: int) -> None:
    """One request through an ASGI application that relays it."""
    asked = {"model": "m-1", "stream": bool(chunks), "messages": [{"role": "user", "content": "Tell me. " * 100}]}
    body = json.dumps(asked).encode()

    async with httpx.AsyncClient(transport=Backend(chunks)) as client:

        async def app(_scope: Any, receive: Any, send: Any) -> None:
            request = client.build_request("POST", "http://10.0.0.1/v1/chat/completions", content=await read(receive))
            answer = await client.send(request, stream=True)
            kind = answer.headers["content-type"].encode()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
            async for chunk in answer.aiter_raw():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await answer.aclose()
            await send({"type": "http.response.body", "body": b""})

        async def read(receive: Any) -> bytes:
            return bytes((await receive())["body"])

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body}

        async def send(message: dict[str, Any]) -> None:
            pass

        headers = {"host": "gateway", "content-type": "application/json", "content-length": str(len(body))}
        scope = {
            "type": "http", "method": "POST", "path": "/v1/chat/completions", "http_version": "1.1", "scheme": "http",
            "client": ("127.0.0.1", 5), "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }  # fmt: skip
        await otel_wirecap.instrument_app(app)(scope, receive, send)


def count_flow(chunks: int, measure: str) -> tuple[int, int, int]:
    """What one flow costs on the host's path, the sender's and the writer's."""
    writer = current_writer()
    host, sending, writing = Counting(), Counting(), Counting()

    async def counted() -> None:
        host.begin(measure)
        try:
            await relay(chunks)
        finally:
            host.end()

    asyncio.run(counted())
    batches = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        writer._queue.wake_at(0, 0)
        messages = writer._pump.messages()
        while True:
            sending.begin(measure)
            try:
                events = next(messages, None)
                if events is not None:
                    send_events(ours, events)
            finally:
                sending.end()
            if events is None:
                break
            batches.append(events)
            theirs.recv(1 << 20)
    taken = record_writer_of(writer)
    for events in batches:
        for first in range(0, len(events), EVENTS_A_ROUND):
            taken._take(events[first : first + EVENTS_A_ROUND])
            writing.begin(measure)
            try:
                taken._round()
            finally:
                writing.end()
    return getattr(host, measure), getattr(sending, measure), getattr(writing, measure)


def current_writer() -> CaptureWriter:
    runtime = active()
    assert runtime is not None
    writer = runtime.exporter._writer
    assert writer is not None
    return writer


def count() -> Figures:
    """Counts all, in a capture without a thread."""
    CaptureWriter._start = lambda _writer: None  # type: ignore[method-assign]
    pauses.WORK_SLICE_NS = 10**18  # no pause: whether one is due is a question of time
    with tempfile.TemporaryDirectory() as folder:
        capture = Path(folder) / "capture.log"
        otel_wirecap.instrument(capture_file=capture, capture_flush_interval=3600, capture_writer="thread")
        recorder = record_writer_of(current_writer())._recording.recorder
        recorder._hold_ns = 0  # nothing is held to the next round: that, too, is a question of time
        gc.disable()
        figures: Figures = {}
        for measure in ("calls", "instructions"):
            for chunks in (0, CHUNKS):  # what is made once is made now, the code that is traced included
                count_flow(chunks, measure)
            whole, short, long = (count_flow(chunks, measure) for chunks in (0, CHUNKS, 2 * CHUNKS))
            for number, path in enumerate(("host", "sender", "writer")):
                figures.setdefault(f"{path}, relayed chunk", {})[measure] = (long[number] - short[number]) / CHUNKS
                figures.setdefault(f"{path}, request of 2 KB", {})[measure] = whole[number]
        lines = capture.read_bytes().splitlines()
        directions = Counter(json.loads(line)["direction"] for line in lines)
        assert directions["stream_chunk"] == directions["outbound_stream_chunk"] == 8 * CHUNKS, directions
        assert not [one for one in directions if one.startswith("system_")], directions
        return figures


def add_a_call(path: str) -> None:
    """Makes each chunk cost one call more, as a change might."""
    owner: Any = LiveExchange if path == "host" else Recorder
    name = "chunk" if path == "host" else "feed"
    inner = getattr(owner, name)

    def with_one_more_call(*arguments: Any) -> Any:
        return inner(*arguments)

    setattr(owner, name, with_one_more_call)


def recorded() -> dict[str, Figures]:
    """Version of Python → figures."""
    return json.loads(FIGURES.read_text()) if FIGURES.exists() else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--with-one-more-call", choices=("host", "writer"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.disable()
    if options.with_one_more_call:
        add_a_call(options.with_one_more_call)
    counted = count()
    if options.json:
        sys.stdout.write(json.dumps(counted))
        return
    known = recorded()
    rows = [
        f"| {name} | {measure} | {known.get(PYTHON, {}).get(name, {}).get(measure, '-')} | {figure} |"
        for name, figures in counted.items()
        for measure, figure in figures.items()
    ]
    head = [f"Python {PYTHON}", "", "| what | counted | recorded | now |", "|---|---|---|---|"]
    sys.stdout.write("\n".join([*head, *rows, ""]))
    if options.record:
        FIGURES.write_text(json.dumps(dict(sorted((known | {PYTHON: counted}).items())), indent=2) + "\n")


if __name__ == "__main__":
    main()
