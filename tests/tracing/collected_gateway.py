"""A gateway in a process of its own under ``opentelemetry-instrument``, and what real SDKs ask of it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import string
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import traced_gateway

BIN = Path(sys.executable).parent
SECONDS = 120
CONTRIB = "aiohttp-client,asgi,fastapi,httpx"


def made_up(length: int) -> str:
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(length))


class Planted(NamedTuple):
    """Secrets that nobody knew before the test: keys, one that a prompt tells, one that the answers tell."""

    openai: str
    anthropic: str
    prompt: str
    answer: str

    @classmethod
    def make(cls) -> Planted:
        return cls(f"sk-proj-{made_up(40)}", f"sk-ant-api03-{made_up(40)}", f"ghp_{made_up(36)}", f"AKIA{made_up_id()}")


def made_up_id() -> str:
    return "".join(secrets.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(16))


class Done(NamedTuple):
    """A gateway that has ended."""

    code: int
    stderr: str


class CollectedGateway:
    """The running gateway.

    Attributes:
        url: where it is.
        done: how it ended, when it has.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout is not None
        self.url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        self.done = Done(0, "")

    def end(self) -> None:
        """Lets it end, and does not wait."""
        if self._process.stdin is not None:
            self._process.stdin.close()
            self._process.stdin = None

    def is_running(self) -> bool:
        return self._process.poll() is None

    def stop(self, seconds: float) -> None:
        self.end()
        _, stderr = self._process.communicate(timeout=seconds)
        self.done = Done(self._process.returncode, stderr)

    def kill(self) -> None:
        self._process.kill()
        self.stop(SECONDS)


def environ(capture_file: Path, **more: str) -> dict[str, str]:
    """Of a gateway: traces, logs and metrics go out by OTLP where nothing else is said."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OTEL_", "WIRE_CAPTURE", "OPENAI", "ANTHROPIC"))
    }
    signals = {f"OTEL_{signal}_EXPORTER": "otlp" for signal in ("TRACES", "METRICS", "LOGS")}
    return kept | signals | {"WIRE_CAPTURE_FILE": str(capture_file), "OTEL_SERVICE_NAME": "gateway"} | more


@contextlib.contextmanager
def collected_gateway(backend_url: str, env: dict[str, str], seconds: float = SECONDS) -> Iterator[CollectedGateway]:
    """Serves until it is left; it has ``seconds`` to end then, and all that it sends is sent."""
    command = [str(BIN / "opentelemetry-instrument"), sys.executable, traced_gateway.__file__, backend_url]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    try:
        gateway = CollectedGateway(process)
        yield gateway
        if gateway.is_running():
            gateway.stop(seconds)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


class ToTheEnd(httpx2.HTTPTransport):
    """Reads one chunk ahead: the SDKs close a stream at its last event, maybe before the server has ended it."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        response = super().handle_request(request)
        response.stream = ReadAhead(response.stream)
        return response


class ReadAhead(httpx2.SyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        ahead = b""
        for chunk in self._stream:
            yield ahead
            ahead = chunk
        yield ahead

    def close(self) -> None:
        self._stream.close()


ASKED: dict[str, Any] = {"model": "m-1", "max_tokens": 99}


def ask_with_sdks(url: str, planted: Planted, *, timeout: float = SECONDS) -> None:
    """Four flows: OpenAI's and Anthropic's SDK, each a whole answer and a stream."""
    import anthropic
    import openai

    said: Any = [{"role": "user", "content": f"Hello there, this is my token: {planted.prompt}"}]
    options: Any = {"timeout": timeout, "max_retries": 0}
    to_the_end = httpx2.Client(transport=ToTheEnd())
    with openai.OpenAI(base_url=f"{url}/v1", api_key=planted.openai, http_client=to_the_end, **options) as client:
        whole = client.chat.completions.create(messages=said, temperature=0.5, **ASKED)
        assert planted.answer in (whole.choices[0].message.content or "")
        with client.chat.completions.create(messages=said, temperature=0.5, stream=True, **ASKED) as stream:
            told = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        assert told == whole.choices[0].message.content
    to_the_end = httpx2.Client(transport=ToTheEnd())
    with anthropic.Anthropic(base_url=url, api_key=planted.anthropic, http_client=to_the_end, **options) as claude:
        message = claude.messages.create(messages=said, **ASKED)
        with claude.messages.stream(messages=said, **ASKED) as events:
            final = events.get_final_message()
        assert [block.type for block in final.content] == [block.type for block in message.content]


def records_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def assert_whole(records: list[dict[str, Any]]) -> None:
    """All four flows on both legs, with numbers from 1 on, and nothing lost."""
    assert [record["metadata"]["seq"] for record in records] == list(range(1, len(records) + 1))
    directions = [record["direction"] for record in records]
    assert (directions[0], directions[-1]) == ("system_start", "system_stop")
    assert "system_gap" not in directions
    for name in ("inbound_request", "outbound_request", "inbound_response"):
        assert directions.count(name) == 4
    for name in ("outbound_response", "stream_start", "stream_end", "outbound_stream_end"):
        assert directions.count(name) == 2
    ends = [record for record in records if record["direction"] in {"stream_end", "outbound_stream_end"}]
    assert {record["metadata"]["outcome"] for record in ends} == {"complete"}
