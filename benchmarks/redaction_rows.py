"""What ``redaction.py`` measures, in a process of the environment whose otel-wirecap is measured.

Bodies are requests with messages of prose, code and tool results; streams are batches of events as the recorder takes
them. Nothing in them is a secret: that is the common case, and the expensive one, for everything has to be looked at.
Figures are seconds of the process's CPU time, but for the event loop's lag; the limit is ``orjson.loads`` and
``orjson.dumps`` of the same data.
"""

from __future__ import annotations

import asyncio
import functools
import json
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import orjson
from measuring import answer, internal
from processes import serving_backend

import otel_wirecap

BODY_BYTES = 20_000_000
"""Of bodies that are redacted in one measurement, so that none is over in less than some milliseconds."""
MIN_SECONDS = 0.05
"""A measurement that is over in less is made many times."""
EVENTS = 2000
REQUEST_SECONDS = 60
STREAMS = 10
BODIES = {"2 KB": 2_000, "100 KB": 100_000, "1 MB": 1_000_000}
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


def prose(dice: random.Random, size: int) -> str:
    parts: list[str] = []
    while size > 0:
        parts.append(dice.choice(WORDS) + dice.choice((" ", " ", " ", " ", ", ", ". ", "\n", ": ", " “", "” ")))
        size -= len(parts[-1])
    return "".join(parts)


def body(size: int) -> bytes:
    """A request of that size, the same in all processes."""
    dice = random.Random(size)
    messages: list[object] = [{"role": "system", "content": prose(dice, min(500, size // 3))}]
    while (left := size - len(json.dumps(messages))) > 200:
        kind = dice.randrange(4)
        if kind == 0:
            messages.append({"role": "user", "content": [{"type": "text", "text": prose(dice, min(left - 100, 3000))}]})
        elif kind == 1:
            messages.append({"role": "assistant", "content": CODE * max(1, min(left // 600, 8))})
        elif kind == 2:
            call = {"name": "read", "arguments": json.dumps({"path": "src/a.py", "limit": dice.randrange(99)})}
            messages.append({"role": "assistant", "tool_calls": [{"id": "call_1", "function": call}]})
        else:
            messages.append({"role": "tool", "tool_call_id": "call_1", "content": prose(dice, min(left - 100, 2000))})
    request = {"model": "gpt-5-mini", "messages": messages, "stream": True, "temperature": 0.2, "max_tokens": 800}
    return json.dumps(request, separators=(",", ":"), ensure_ascii=dice.random() < 0.5).encode()


def event(dice: random.Random, kind: str, number: int) -> bytes:
    text = " " + dice.choice(WORDS) + dice.choice(("", "", "", ",", ".", "\n"))
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


class Redaction:
    """The redaction of a process with known values, and of a request with a credential of its own.

    The one place that knows what is internal to otel-wirecap: its ``Redactor`` and ``StreamRedactor``.
    """

    def __init__(self, known_values: tuple[str, ...], credential: str) -> None:
        self._redactor = internal("otel_wirecap.capture.redaction.redactor:Redactor")(known_values=known_values)
        getattr(self._redactor, "search", self._redactor).learn([credential])  # of an earlier version, perhaps
        self._stream_redactor = internal("otel_wirecap.capture.redaction.stream:StreamRedactor")
        self._credentials = (credential,)

    def json(self, data: bytes) -> bytes:
        """A JSON document, redacted."""
        return self._redactor.json(data, {}, self._credentials)

    def data(self, data: bytes) -> bytes:
        """Any bytes, redacted."""
        try:
            return self._redactor.bytes_(data, {}, self._credentials)
        except Exception as error:
            if type(error).__name__ != "TooManyFindings":  # by name: an earlier version knows no bound
                raise
            return b""  # as far as it got, the rest is withheld

    def stream(self, batches: list[list[bytes]]) -> int:
        """Redacts a stream, whose events come in batches; how many pieces come out."""
        stream = self._stream_redactor(self._redactor, "text/event-stream")
        count = sum(len(stream.feed(pieces, self._credentials).pieces) for pieces in batches)
        return count + len(stream.close(self._credentials).pieces)


made = functools.cache(Redaction)


def redaction(secrets: list[str]) -> Redaction:
    """The redaction with these secrets, the credential first; made once."""
    return made(tuple(secrets[1:]), secrets[0])


def seconds(action: Callable[[], object], times: int) -> float:
    """CPU seconds of one of so many times."""
    began = time.process_time()
    for _ in range(times):
        action()
    return (time.process_time() - began) / times


data_of = functools.cache(body)


def of_body(name: str, secrets: list[str]) -> tuple[float, float]:
    """Seconds of the limit and of redaction, for a body."""
    ours, data = redaction(secrets), data_of(BODIES[name])
    assert ours.json(data) is data
    times = max(10, BODY_BYTES // len(data))
    return seconds(lambda: orjson.dumps(orjson.loads(data)), times), seconds(lambda: ours.json(data), times)


@functools.cache
def batches_of(kind: str, batch: int) -> list[list[bytes]]:
    """The events of a stream in batches, the same in all processes."""
    dice = random.Random(kind)
    return [[event(dice, kind, batch * at + number) for number in range(batch)] for at in range(EVENTS // batch)]


def of_stream(kind: str, batch: int, secrets: list[str]) -> tuple[float, float]:
    """Seconds of the limit and of redaction, for an event of a stream."""
    ours, batches = redaction(secrets), batches_of(kind, batch)
    documents = [piece[piece.index(b"data: ") + 6 :].strip() for pieces in batches for piece in pieces]

    def limit() -> None:
        for document in documents:
            orjson.dumps(orjson.loads(document))

    assert ours.stream(batches) == len(documents)
    took = seconds(limit, STREAMS), seconds(lambda: ours.stream(batches), STREAMS)
    return took[0] / len(documents), took[1] / len(documents)


WORST = {
    "sk-": b"sk-", "all prefixes": b"sk-AKIA ghp_ eyJ xai- AIza npm_ ", "-----BEGIN": b"-----BEGIN ", "eyJ": b"eyJa.",
    "c2st": b"c2st", "one letter": b"x", "open field": b'"api_key": "', "quotes": b'"', "backslashes": b"\\\\",
}  # fmt: skip


def of_worst_case(name: str, size: int, secrets: list[str]) -> float:
    """Seconds of redaction for bytes that are nothing but beginnings of secrets."""
    ours, data = redaction(secrets), WORST[name] * (size // len(WORST[name]))
    once = seconds(lambda: ours.data(data), 1)
    return seconds(lambda: ours.data(data), round(MIN_SECONDS / once)) if once < MIN_SECONDS / 2 else once


async def lag(duration: float) -> float:
    """The 99th percentile of how late a sleep of a millisecond ends, in ms."""
    late = []
    end = time.perf_counter() + duration
    while (began := time.perf_counter()) < end:
        await asyncio.sleep(0.001)
        late.append(time.perf_counter() - began - 0.001)
    return statistics.quantiles(late, n=100)[98] * 1e3


def ask(url: str, data: bytes, stop: threading.Event, began: threading.Event, *, captured: bool) -> None:
    """Sends request after request with that body, each once the last is answered and, if captured, recorded."""
    with httpx.Client(timeout=REQUEST_SECONDS) as client:
        while not stop.is_set():
            client.post(url, content=data, headers={"content-type": "application/json"}).raise_for_status()
            while captured and otel_wirecap.stats().waiting_events and not stop.is_set():
                time.sleep(0.0005)
            began.set()


def of_loop(duration: float, *, asking: bool, captured: bool) -> float:
    """The event loop's lag in milliseconds, while bodies of 1 MB are sent, or none, which are captured or not."""
    if not asking:
        return asyncio.run(lag(duration))
    data = json.dumps(json.loads(body(1_000_000)) | {"size": 2048}).encode()
    with tempfile.TemporaryDirectory() as folder, serving_backend() as address:
        if captured:
            otel_wirecap.instrument(
                capture_file=f"{folder}/capture.log", capture_flush_interval=0.05, capture_max_bytes="50MB"
            )
        stop, began = threading.Event(), threading.Event()
        thread = threading.Thread(
            target=ask, args=(f"{address}/v1/chat/completions", data, stop, began), kwargs={"captured": captured}
        )
        thread.start()
        try:
            if not began.wait(REQUEST_SECONDS):
                raise RuntimeError(f"no body was sent{' and recorded' * captured} in {REQUEST_SECONDS} seconds")
            return asyncio.run(lag(duration))
        finally:
            stop.set()
            thread.join()
            if captured:
                otel_wirecap.uninstrument()
                if not Path(folder, "capture.log").stat().st_size:
                    raise RuntimeError("nothing was recorded")


if __name__ == "__main__":
    answer({"body": of_body, "stream": of_stream, "worst case": of_worst_case, "loop": of_loop})
