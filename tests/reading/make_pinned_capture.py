"""Makes the captures in ``pinned/`` and what the reading commands answer about them.

    python tests/reading/make_pinned_capture.py captures   writes the captures anew, with the code of this checkout
    python tests/reading/make_pinned_capture.py answers    asks the commands of this checkout and stores their answers

Both were run once with version 0.1.0, before the first release, at a state that wrote settings and gaps which later
code no longer knows. They are there to show how the files came to be. Running them again gives up what the files pin:
that captures written then are read as they were read then. The groups by backend and by key were stored anew when they
began to count attempts.

The traffic is made up. The clock is one that the events move on, ids are fixed, and what depends on the machine (its
name, versions, boot id) is replaced, so that two runs write the same bytes.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import json
import lzma
import os
import shutil
import socket
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from pinned_answers import ANSWERS, COMMANDS, PINNED, answer_of

from otel_wirecap.capture.events import (
    BINARY,
    TEXT,
    ErrorInfo,
    EventKind,
    ExchangeHead,
    RequestHead,
    ResponseHead,
    WebsocketClose,
    WebsocketMessage,
)
from otel_wirecap.capture.exchange import LiveExchange, LiveFlow
from otel_wirecap.config import load_config
from otel_wirecap.storage import recording
from otel_wirecap.storage.channel import Answers, Close, Message
from otel_wirecap.storage.ledger import Loss
from otel_wirecap.storage.record_writer import RecordWriter

MS = 1_000_000
MORNING = 1_762_160_400_000_000_000
"""2025-11-03T09:00:00Z, nanoseconds since the epoch."""

KEY_VARIABLE = "OPENAI_API_KEY"
CHAT = "https://api.openai.com/v1/chat/completions"
CLAUDE = "https://api.anthropic.com/v1/messages"
GEMINI = "https://generativelanguage.googleapis.com/v1beta/models/gemini-demo:streamGenerateContent"
BEDROCK = "https://bedrock-runtime.eu-west-1.amazonaws.com/model/demo.model-v1/converse-stream"
JSON_TYPE = (b"content-type", b"application/json")
SSE_TYPE = (b"content-type", b"text/event-stream")


class Clock:
    """The clock that the writer sees; each event moves it on to its own moment."""

    def __init__(self) -> None:
        self.ns = 0

    def monotonic_ns(self) -> int:
        return self.ns

    def time_ns(self) -> int:
        return MORNING + self.ns

    def monotonic(self) -> float:
        return self.ns / 1e9

    def time(self) -> float:
        return self.time_ns() / 1e9


class Source:
    """Events in a row, with actions between them; all is taken without a pause. The host, and the writer's channel."""

    def __init__(self, clock: Clock, *, killed: bool = False) -> None:
        self._killed = killed
        self._clock = clock
        self._items: collections.deque[Any] = collections.deque()

    def put(self, *event: Any) -> bool:
        self._items.append(event)
        return True

    def flow_gone(self, flow_id: str) -> None:
        pass

    def ended_unrecorded(self, *end: Any) -> None:
        pass

    def failed(self, _exchange_id: str | None, error: Exception) -> None:
        sys.stderr.write(f"{error!r}\n")

    def do(self, action: Callable[[], None]) -> None:
        self._items.append(action)

    def lose(self, loss: Loss) -> None:
        self._items.append(loss)

    def receive(self, _seconds: float) -> Iterator[Message]:
        """One event at a time, at its own moment."""
        while self._items and callable(self._items[0]):
            self._items.popleft()()
        if not self._items:
            yield Close(30, killed=self._killed)
            return
        item = self._items.popleft()
        if isinstance(item, Loss):
            yield item
        else:
            self._clock.ns = max(self._clock.ns, item[2])
            yield [item]

    def rest(self) -> None:
        pass


class NoAnswers:
    """Nobody wants to know what comes of it, but for warnings."""

    def log(self, message: str, *arguments: object) -> bool:
        sys.stderr.write(message % arguments + "\n")
        return True

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_answer: None


class Process:
    """One process that writes: its events, and the ids of what it captures."""

    def __init__(self, clock: Clock, name: str, pid: int, *, killed: bool = False) -> None:
        self.source = Source(clock, killed=killed)
        self.name, self.pid = name, pid
        self._clock = clock
        self._number = 0

    def flow(self) -> LiveFlow:
        self._number += 1
        return LiveFlow(f"req_{self.name[:4]}{self._number:016x}")

    def exchange(self, flow: LiveFlow, at: int, leg: Any = "backend") -> LiveExchange:
        self._number += 1
        attempt = next(flow.attempts) if leg == "backend" else None
        ids = f"{self._number:032x}", f"{self._number:016x}"
        about = ExchangeHead(leg, flow.id, attempt, *ids, MORNING + at * MS, at * MS)
        return LiveExchange(f"ex_{self.name[:4]}{self._number:016x}", about, flow, self.source)

    def tell(self, at: int, direction: str, **payload: object) -> None:
        self.source.put(EventKind.SYSTEM, None, at * MS, (direction, payload), 0)

    def write(self, path: Path, **settings: object) -> None:
        config = load_config({"capture_file": path, **settings}, {})
        answers = cast("Answers", NoAnswers())
        RecordWriter(config, str(path), self.source, answers, process=self.name, pid=self.pid).run()


# -- what passes -----------------------------------------------------------------------------------------------------


def asked(model: str, text: str, *, stream: bool, **more: object) -> bytes:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
    return json.dumps({"model": model, "stream": stream, "messages": messages, **more}).encode()


def client_head(body: bytes, *, path: str = "/v1/chat/completions", session: str = "session-of-pins") -> RequestHead:
    headers = [(b"host", b"gateway"), (b"user-agent", b"Demo/1.0"), (b"x-session-id", session.encode()), JSON_TYPE]
    return RequestHead("POST", f"http://gateway{path}", headers, "1.1", "127.0.0.1", body=body)


def backend_head(url: str, body: bytes, **more: Any) -> RequestHead:
    credential = b"Bearer " + os.environ[KEY_VARIABLE].encode()
    return RequestHead("POST", url, [(b"authorization", credential), JSON_TYPE], "1.1", body=body, **more)


def event(document: object, name: str | None = None) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(document, ensure_ascii=False)}\n\n".encode()


def chat_events(words: list[str], model: str) -> list[bytes]:
    def chunk(delta: object, reason: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return event({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]})

    usage = {"prompt_tokens": 11, "completion_tokens": len(words), "total_tokens": 11 + len(words)}
    last = event({"id": "c1", "object": "chat.completion.chunk", "model": model, "choices": [], "usage": usage})
    return [*(chunk({"content": word}, None) for word in words), chunk({}, "stop"), last, b"data: [DONE]\n\n"]


def claude_events(words: list[str]) -> list[bytes]:
    message = {"id": "m1", "type": "message", "role": "assistant", "model": "claude-demo", "content": []}
    usage = {"input_tokens": 7, "output_tokens": 1}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}} for word in words
    ]
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}}
    documents = [
        {"type": "message_start", "message": message | {"usage": usage}}, block, *deltas,
        {"type": "content_block_stop", "index": 0}, end, {"type": "message_stop"},
    ]  # fmt: skip
    return [event(document, str(document["type"])) for document in documents]


def aws_frame(name: str, document: object) -> bytes:
    headers = b""
    for key, value in ((":event-type", name), (":content-type", "application/json"), (":message-type", "event")):
        headers += struct.pack(">B", len(key)) + key.encode() + struct.pack(">BH", 7, len(value)) + value.encode()
    payload = json.dumps(document).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    frame = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return frame + struct.pack(">I", zlib.crc32(frame))


def answer(model: str, text: str) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    return json.dumps(
        {"id": "c2", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}
    ).encode()


# -- the scenes ------------------------------------------------------------------------------------------------------


def whole(process: Process, at: int, text: str = "What is a gap?") -> None:
    """A request and an answer, on both legs; the proxy renames the model."""
    flow = process.flow()
    body, reply = asked("demo", text, stream=False), answer("gpt-demo", "What is missing.")
    client = process.exchange(flow, at, "client")
    client.begin(client_head(body))
    process.source.put(EventKind.ANNOTATE, flow, at * MS, b'{"tenant":"demo"}', 20)
    backend = process.exchange(flow, at + 4)
    backend.begin(backend_head(CHAT, body.replace(b'"demo"', b'"gpt-demo"')))
    backend.response((at + 90) * MS, ResponseHead(200, "OK", [JSON_TYPE]))
    backend.chunk((at + 91) * MS, reply)
    backend.end((at + 92) * MS, "complete")
    client.response((at + 94) * MS, ResponseHead(200, "OK", [JSON_TYPE]))
    client.chunk((at + 95) * MS, reply)
    client.end((at + 96) * MS, "complete")


def streamed(process: Process, at: int, words: list[str], *, cut: int | None = None, left: bool = False) -> None:
    """A stream on both legs; ``cut``: where a character's bytes are parted; ``left``: the client goes."""
    flow = process.flow()
    body = asked("gpt-demo", "Count.", stream=True, stream_options={"include_usage": True})
    client, backend = process.exchange(flow, at, "client"), process.exchange(flow, at + 3)
    client.begin(client_head(body))
    backend.begin(backend_head(CHAT, body))
    head = ResponseHead(200, "OK", [SSE_TYPE])
    backend.response((at + 40) * MS, head)
    client.response((at + 41) * MS, head)
    pieces = chat_events(words, "gpt-demo")
    if cut is not None:
        data = b"".join(pieces)
        pieces = [data[:cut], data[cut : cut + 700], data[cut + 700 :]]
    moment = at + 50
    for number, piece in enumerate(pieces):
        moment += 1500 if number == 2 else 17 + number
        backend.chunk(moment * MS, piece)
        client.chunk(moment * MS + 300_000, piece)
        if left and number == 2:
            client.end((moment + 1) * MS, "client_disconnect")
            backend.end((moment + 120) * MS, "cancelled")
            return
    backend.end((moment + 2) * MS, "complete")
    client.end((moment + 3) * MS, "complete")


def retried(process: Process, at: int) -> None:
    """429, a redirect, an attempt that cannot connect, and an answer from another provider."""
    flow = process.flow()
    body = asked("gpt-demo", "Again?", stream=False)
    client = process.exchange(flow, at, "client")
    client.begin(client_head(body))
    first = process.exchange(flow, at + 2)
    first.begin(backend_head(CHAT, body))
    error = json.dumps({"error": {"type": "rate_limit_error", "message": "Slow down."}}).encode()
    first.response((at + 20) * MS, ResponseHead(429, "Too Many Requests", [JSON_TYPE]))
    first.chunk((at + 20) * MS, error)
    first.end((at + 21) * MS, "complete")
    second = process.exchange(flow, at + 120)
    second.begin(backend_head(CHAT, body))
    second.response(
        (at + 130) * MS, ResponseHead(307, "Temporary Redirect", [(b"location", b"https://eu.api.openai.com/v1")])
    )
    second.end((at + 131) * MS, "complete")
    third = process.exchange(flow, at + 132)
    third.begin(backend_head("https://eu.api.openai.com/v1", body, redirect_of=second.id))
    third.end((at + 160) * MS, "error", ErrorInfo("ConnectError", "All connection attempts failed"))
    fourth = process.exchange(flow, at + 170)
    fourth.begin(backend_head(CLAUDE, asked("claude-demo", "Again?", stream=False, max_tokens=9)))
    reply = {"id": "m2", "type": "message", "model": "claude-demo", "content": [{"type": "text", "text": "Yes."}]}
    data = json.dumps(reply | {"stop_reason": "end_turn", "usage": {"input_tokens": 8, "output_tokens": 2}}).encode()
    for exchange, later in ((fourth, 260), (client, 263)):
        exchange.response((at + later) * MS, ResponseHead(200, "OK", [JSON_TYPE]))
        exchange.chunk((at + later + 1) * MS, data)
        exchange.end((at + later + 2) * MS, "complete")


def direct(process: Process, at: int, url: str, body: bytes, kind: bytes, pieces: list[bytes], outcome: Any) -> None:
    """What a script asks a backend itself."""
    exchange = process.exchange(process.flow(), at)
    exchange.begin(backend_head(url, body))
    exchange.response((at + 30) * MS, ResponseHead(200, "OK", [(b"content-type", kind)]))
    for number, piece in enumerate(pieces):
        exchange.chunk((at + 40 + 25 * number) * MS, piece)
    exchange.end((at + 45 + 25 * len(pieces)) * MS, outcome)


def websocket(process: Process, at: int) -> None:
    exchange = process.exchange(process.flow(), at, "client")
    headers = [(b"host", b"gateway"), (b"user-agent", b"Demo/1.0"), (b"x-session-id", b"session-of-sockets")]
    head = RequestHead("GET", "ws://gateway/v1/realtime", headers, "1.1", "127.0.0.1", body=b"", websocket=True)
    exchange.begin(head)
    exchange.response((at + 5) * MS, ResponseHead(101, None, [(b"upgrade", b"websocket")]))
    exchange.message((at + 10) * MS, WebsocketMessage(asker=True, opcode=TEXT, data='{"type":"session.update"}'))
    exchange.message((at + 30) * MS, WebsocketMessage(asker=False, opcode=BINARY, data=b"\0\1\2\xff"))
    exchange.message((at + 45) * MS, WebsocketMessage(asker=False, opcode=TEXT, data="grüß "))
    exchange.end(
        (at + 50) * MS,
        "error",
        ErrorInfo("WebsocketClosed", "1011 no more"),
        WebsocketClose(1011, "no more", asker=False),
    )


def odd(process: Process, at: int) -> None:
    """Bodies that are not all there, ends that are none."""
    cut_body = process.exchange(process.flow(), at)
    cut_body.begin(backend_head(CHAT, asked("gpt-demo", "long " * 300, stream=False)))
    cut_body.response((at + 9) * MS, ResponseHead(500, "Internal Server Error", [(b"content-type", b"text/html")]))
    cut_body.chunk((at + 10) * MS, b"<h1>no</h1>")
    cut_body.end((at + 11) * MS, "complete")
    undecodable = process.exchange(process.flow(), at + 20)
    undecodable.begin(backend_head(CHAT, b""))
    undecodable.response((at + 29) * MS, ResponseHead(200, "OK", [JSON_TYPE, (b"content-encoding", b"gzip")]))
    undecodable.chunk((at + 30) * MS, b"this is no gzip")
    undecodable.end((at + 31) * MS, "complete")
    unread = process.exchange(process.flow(), at + 40, "client")
    head = client_head(b"", session="session-of-oddities")
    unread.begin(head._replace(body=None))
    unread.request_chunk((at + 41) * MS, b'{"model":')
    unread.response((at + 42) * MS, ResponseHead(413, "Content Too Large", []))
    unread.end((at + 43) * MS, "complete")
    cut_off = process.exchange(process.flow(), at + 50)
    cut_off.begin(backend_head(CHAT, asked("gpt-demo", "Cut me off.", stream=True)))
    cut_off.response((at + 60) * MS, ResponseHead(200, "OK", [SSE_TYPE]))
    cut_off.chunk((at + 61) * MS, chat_events(["One"], "gpt-demo")[0])
    cut_off.end((at + 62) * MS, "error", ErrorInfo("ReadError", "connection reset"))
    refused = process.exchange(process.flow(), at + 70)
    refused.begin(backend_head(CHAT, asked("gpt-demo", "Fail in the stream.", stream=True)))
    refused.response((at + 80) * MS, ResponseHead(200, "OK", [SSE_TYPE]))
    refused.chunk((at + 81) * MS, event({"error": {"type": "server_error", "code": "overloaded", "message": "Later."}}))
    refused.end((at + 82) * MS, "complete")
    lost = process.exchange(process.flow(), at + 90)
    lost.begin(backend_head(CHAT, asked("gpt-demo", "Lose some.", stream=True)))
    lost.response((at + 95) * MS, ResponseHead(200, "OK", [SSE_TYPE]))
    lost.chunk((at + 96) * MS, chat_events(["One"], "gpt-demo")[0])
    lost._lost_chunks = 2
    lost.end((at + 99) * MS, "complete")


def first_process(clock: Clock, path: Path, settings: dict[str, Any]) -> None:
    """Most of the capture; another process writes into it meanwhile."""
    process = Process(clock, "a1b2c3d4e5f60718", 4001)
    whole(process, 10)
    streamed(process, 300, ["One", ", two", ", three", "."])
    streamed(process, 2500, ["Grüße", " und ", "日本", "."], cut=150)
    streamed(process, 6000, ["Never", " mind", " this", "."], left=True)
    process.source.do(lambda: second_process(clock, path, settings))
    retried(process, 9000)
    process.tell(9500, "system_pause")
    process.tell(9900, "system_resume", exchanges_passed_over=3)
    direct(process, 10_000, CLAUDE, asked("claude-demo", "Say it.", stream=True, max_tokens=99),
           b"text/event-stream", claude_events(["So", " it", " is."]), "complete")  # fmt: skip
    parts = [
        {"candidates": [{"content": {"parts": [{"text": word}], "role": "model"}}], "modelVersion": "gemini-demo"}
        for word in ("Ge", "mini")
    ]
    parts[-1]["candidates"][0]["finishReason"] = "STOP"
    parts[-1]["usageMetadata"] = {"promptTokenCount": 4, "candidatesTokenCount": 2, "totalTokenCount": 6}
    pieces = [b"[" + json.dumps(parts[0]).encode(), b",\r\n" + json.dumps(parts[1]).encode() + b"]"]
    direct(
        process,
        11_000,
        GEMINI,
        b'{"contents":[{"role":"user","parts":[{"text":"Hi"}]}]}',
        b"application/json",
        pieces,
        "complete",
    )
    frames = [
        aws_frame("messageStart", {"role": "assistant"}),
        aws_frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Framed."}}),
        aws_frame("contentBlockStop", {"contentBlockIndex": 0}),
        aws_frame("messageStop", {"stopReason": "end_turn"}),
        aws_frame("metadata", {"usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}}),
    ]
    data = b"".join(frames)
    direct(process, 12_000, BEDROCK, b'{"messages":[{"role":"user","content":[{"text":"Hi"}]}]}',
           b"application/vnd.amazon.eventstream", [data[:170], data[170:]], "complete")  # fmt: skip
    websocket(process, 13_000)
    odd(process, 14_000)
    process.source.lose(Loss("queue_full", 5, 700, 1, since_ns=13_900 * MS))
    process.tell(15_000, "system_gap", lost_events=1, reason="capture_failure", error="KeyError")
    process.tell(15_001, "system_gap", lost_records=1, reason="too_long", lost_bytes=70_000)
    process.tell(
        15_002,
        "system_gap",
        lost_records=3,
        first_seq=20,
        last_seq=22,
        reason="ENOSPC",
        capture_file="/var/log/gateway.cbor",
    )
    process.tell(
        15_003, "system_gap", lost_events=4, lost_bytes=300, lost_exchanges=1, reason="writer_died", error="signal 9"
    )
    # Its metadata alone is longer than a file may be: it becomes a gap.
    too_much = process.exchange(process.flow(), 15_100)
    too_much.begin(RequestHead("GET", CHAT, [(b"x-long", b"x" * 40_000)], "1.1", body=b""))
    too_much.end(15_110 * MS, "cancelled")
    unended = process.exchange(process.flow(), 15_200)
    unended.begin(backend_head(CHAT, asked("gpt-demo", "Are you there?", stream=True)))
    unended.response(15_220 * MS, ResponseHead(200, "OK", [SSE_TYPE]))
    unended.chunk(15_230 * MS, chat_events(["I"], "gpt-demo")[0])
    imported = {
        "timestamp_iso": "2025-11-03T08:00:00.000000+00:00", "timestamp_unix": 1762156800.0,
        "direction": "outbound_request", "source": "proxy", "destination": "openai", "session_id": "session-elsewhere",
        "backend": "openai", "model": "gpt-demo", "key_name": None, "content_type": "json", "content_length": 20,
        "payload": {"model": "gpt-demo"},
        "metadata": {
            "leg": "backend", "request_id": "req_elsewhere", "exchange_id": "ex_elsewhere", "attempt": 1,
            "method": "POST", "url": CHAT, "headers": [], "process": "ffff000011112222", "pid": 9, "seq": 3,
        },
    }  # fmt: skip
    process.source.put(EventKind.DOCUMENT, None, 15_300 * MS, json.dumps(imported), 100)
    process.write(path, **settings)


def second_process(clock: Clock, path: Path, settings: dict[str, Any]) -> None:
    """It is killed in the middle of a stream, and its writer tells so."""
    process = Process(clock, "b1b2c3d4e5f60718", 4002, killed=True)
    whole(process, 8600, "What is a gap, again?")
    begun = process.exchange(process.flow(), 8700)
    begun.begin(backend_head(CHAT, asked("gpt-demo", "Begin.", stream=True)))
    begun.response(8720 * MS, ResponseHead(200, "OK", [SSE_TYPE]))
    begun.chunk(8730 * MS, chat_events(["Once"], "gpt-demo")[0])
    process.tell(8800, "system_gap", lost_events=2, reason="application_gone")
    process.write(path, **settings)
    with path.open("ab") as file:  # as a writer that is killed while it writes leaves it
        file.write(b'{"timestamp_iso":"2025-11-03T09:00:08.810')


def third_process(clock: Clock, path: Path, settings: dict[str, Any]) -> None:
    """Short: one answer and one stream."""
    process = Process(clock, "c1b2c3d4e5f60718", 4003)
    whole(process, 20_000)
    data = b"".join(claude_events(["Grüße."]))
    cut = data.index("ü".encode()) + 1
    direct(process, 20_300, CLAUDE, asked("claude-demo", "Greet.", stream=True, max_tokens=9),
           b"text/event-stream", [data[:cut], data[cut:]], "complete")  # fmt: skip
    process.write(path, **settings)


@contextlib.contextmanager
def replaced(clock: Clock) -> Iterator[None]:
    """The clock, the machine's name, versions and boot id are made up; one key is in the environment."""
    names = ("monotonic_ns", "time_ns", "monotonic", "time")
    before = {name: getattr(time, name) for name in names}
    host, versions, boot_id = socket.gethostname, recording._versions, recording.BOOT_ID
    with tempfile.TemporaryDirectory() as folder:
        made_up = Path(folder) / "boot_id"
        made_up.write_text("made up")
        try:
            for name in names:
                setattr(time, name, getattr(clock, name))
            socket.gethostname = lambda: "gateway-1"
            recording._versions = lambda: {"otel-wirecap": "0.1.0", "python": "3.11.7", "httpx": "0.28.1"}  # type: ignore[assignment]
            recording.BOOT_ID = made_up
            os.environ[KEY_VARIABLE] = "demo-" + hashlib.sha256(b"for the pinned captures").hexdigest()
            yield
        finally:
            for name in names:
                setattr(time, name, before[name])
            socket.gethostname, recording.BOOT_ID = host, boot_id
            recording._versions = versions


def make_captures() -> None:
    shutil.rmtree(PINNED, ignore_errors=True)
    PINNED.mkdir()
    os.chdir(PINNED)
    for name in [name for name in os.environ if name.startswith(("WIRE_CAPTURE", "OTEL_"))]:
        del os.environ[name]
    clock = Clock()
    folder = Path("/tmp/gateway")  # the path stands in system_start
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    settings: dict[str, Any] = {
        "capture_max_bytes": 36_000,
        "capture_max_payload_bytes": 1500,
        "capture_compression": "gzip",
    }
    with replaced(clock):
        first_process(clock, folder / "gateway.log", settings)
        for form in ("cbor", "structured", "text"):
            clock.ns = 0
            third_process(clock, folder / f"gateway.{form}", {"capture_format": form})
    for file in sorted(folder.iterdir()):
        shutil.copy(file, PINNED / file.name)
    shutil.rmtree(folder)
    carry()


def carry() -> None:
    """Some of the records as telemetry carries them, for ``import``."""
    lines = (PINNED / "gateway.log").read_text().splitlines()[:6]
    events = [
        {"name": "wirecap.record", "attributes": [
            {"key": "wirecap.record", "value": {"stringValue": line}},
            {"key": "wirecap.capture_file", "value": {"stringValue": "/var/log/gateway.log"}},
        ]}
        for line in lines
    ]  # fmt: skip
    document = {"resourceSpans": [{"scopeSpans": [{"spans": [{"events": events}]}]}]}
    (PINNED / "otlp.json").write_text(json.dumps(document) + "\n")


def store_answers() -> None:
    with tempfile.TemporaryDirectory() as folder:
        answers = [answer_of(command, Path(folder)) for command in COMMANDS]
    lines = [json.dumps(dataclasses.asdict(answer), ensure_ascii=False) + "\n" for answer in answers]
    ANSWERS.write_bytes(lzma.compress("".join(lines).encode()))


if __name__ == "__main__":
    {"captures": make_captures, "answers": store_answers}[sys.argv[1]]()
