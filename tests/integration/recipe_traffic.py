"""Real traffic through ``otel-wirecap proxy``, kept by a plain-socket client that counts the chunks it gets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from otel_wirecap.proxy.demo_backend import main as backend_main

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

DELAY_HEADER = "x-demo-delay"
START_SECONDS = 60.0


@dataclass(slots=True)
class Kept:
    """What the client sent and got: the source of the right answers."""

    session: str
    body: dict[str, Any]
    path: str
    began: float = 0.0
    ended: float = 0.0
    status: int = 0
    chunks: list[bytes] = field(default_factory=list)
    content: bytes = b""

    @property
    def streamed(self) -> bool:
        return b"data:" in self.content

    @property
    def events(self) -> list[dict[str, Any]]:
        lines = self.content.decode().split("\n")
        return [json.loads(line[5:]) for line in lines if line.startswith("data:") and line[5:].strip() != "[DONE]"]

    @property
    def answered(self) -> dict[str, Any]:
        """Model, usage and error of the answer, whether it was streamed or not."""
        parts = self.events if self.streamed else [json.loads(self.content)]
        told: dict[str, Any] = {}
        for part in parts:
            told |= {name: part[name] for name in ("model", "usage", "error") if part.get(name)}
        return told


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def server(command: Sequence[str], cwd: Path, **environ: str) -> Iterator[str]:
    """A server that says its address on stderr, stopped with SIGTERM at the end; gives its URL."""
    process = subprocess.Popen(
        [sys.executable, *command], cwd=cwd, env=os.environ | environ, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    found: list[str] = []
    ready = threading.Event()

    def read() -> None:
        assert process.stderr is not None
        with process.stderr:
            for raw in process.stderr:
                _, mark, rest = raw.decode().partition(" on http://")
                if mark and not found:
                    found.append("http://" + rest.split()[0])
                    ready.set()
        ready.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        assert ready.wait(START_SECONDS), "the server did not come up"
        assert found, "the server ended at once"
        yield found[0]
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        finally:
            process.kill()
            process.wait()
            reader.join(60)


def send(proxy: str, kept: Kept, key: str, *, delay: float = 0.0) -> Kept:
    """One request on a connection of its own; the chunks are those of the chunked transfer coding."""
    host, _, port = proxy.removeprefix("http://").partition(":")
    body = json.dumps(kept.body).encode()
    head = (
        f"POST {kept.path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: recipes/1.0\r\nContent-Type: application/json\r\n"
        f"X-Session-Id: {kept.session}\r\nAuthorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n"
        f"{DELAY_HEADER}: {delay}\r\nConnection: close\r\n\r\n"
    )
    kept.began = time.time()
    with socket.create_connection((host, int(port)), timeout=30) as connection, connection.makefile("rb") as reader:
        connection.sendall(head.encode() + body)
        kept.status = int(reader.readline().split()[1])
        chunked = False
        while (line := reader.readline().strip()) != b"":
            chunked = chunked or line.lower() == b"transfer-encoding: chunked"
        if chunked:
            while size := int(reader.readline(), 16):
                kept.chunks.append(reader.read(size))
                reader.readline()
            kept.content = b"".join(kept.chunks)
        else:
            kept.content = reader.read()
    kept.ended = time.time()
    return kept


def chat(session: str, text: Any = "Hello", model: str = "demo-small", path: str = "", **further: Any) -> Kept:
    system = {"role": "system", "content": f"You help {session}."}
    body = {"model": model, "messages": [system, {"role": "user", "content": text}], **further}
    return Kept(session, body, path + "/v1/chat/completions")


@dataclass(slots=True)
class Traffic:
    """A capture in ``directory``/logs/wire_capture.log, and what was sent and received."""

    directory: Path
    kept: list[Kept]
    prompt_secret: str
    key: str


def make_traffic(directory: Path) -> Traffic:
    """Sends chats of every kind, three sessions at a time, through the proxy to the demo backend."""
    secret, key = "sk-" + secrets.token_hex(24), "made-up-" + secrets.token_hex(16)
    usage = {"stream_options": {"include_usage": True}}
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    parts = [{"type": "text", "text": "a part, ünïcödé 漢字"}]
    sessions: list[list[tuple[Kept, float]]] = [
        [(chat("plain", "First\nand second line"), 0), (chat("plain", "Once more", "demo-large"), 0)],
        [(chat("stream", "Tell me", stream=True, **usage), 0), (chat("stream", "And?", stream=True, **usage), 0)],
        [(chat("no-usage", "Tell me, and don't count", stream=True), 0)],
        [(chat("slow", "Think", "demo-large"), 2.3), (chat("slow", "Quick now"), 0)],
        [(chat("slow-stream", "Think", stream=True, **usage), 2.3)],
        [
            (chat("limited", "Now", "demo-rate-limited"), 0),
            (chat("limited", "Now", "demo-rate-limited", stream=True), 0),
        ],
        [(chat("unknown", "Who?", "demo-no-such-model"), 0), (chat("unknown", "Then you", "demo-small"), 0)],
        [(chat("broken", "Break", "demo-overloaded-stream", stream=True, **usage), 0)],
        [(chat("tools", parts, tools=[tool]), 0), (chat("tools", parts, stream=True, tools=[tool], **usage), 0)],
        [(chat("secret", f"my key is {secret}, and mine {key}"), 0)],
        [(chat("gone", "Anybody?", path="/to/gone"), 0)],
    ]
    script = f"from {__name__} import slowed_backend; slowed_backend()"
    path = os.pathsep.join([os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")])  # noqa: PTH120
    with contextlib.ExitStack() as stack:
        backend = stack.enter_context(server(["-c", script], directory, PYTHONPATH=path))
        options = ["--capture-file", "logs/wire_capture.log", "--default-backend", "openai", "--port", "0"]
        options += ["--backend", f"openai={backend}", "--backend", f"gone=http://127.0.0.1:{_free_port()}"]
        proxy = stack.enter_context(
            server(["-m", "otel_wirecap", "proxy", *options], directory, OPENAI_API_KEY=key, WIRE_CAPTURE_CONFIG="")
        )
        with ThreadPoolExecutor(3) as pool:
            runs = [pool.submit(lambda run=run: [send(proxy, k, key, delay=d) for k, d in run]) for run in sessions]
            kept = [one for run in runs for one in run.result()]
    return Traffic(directory, kept, secret, key)


def slowed_backend() -> None:
    """Runs the demo backend with a pause before the answers to requests that ask for one."""
    from otel_wirecap.proxy import demo_backend

    create = demo_backend.create_demo_backend

    def create_slowed() -> Any:
        app = create()

        async def slowed(scope: Any, receive: Any, send: Any) -> None:
            headers = dict(scope.get("headers", ()))
            await asyncio.sleep(float(headers.get(DELAY_HEADER.encode(), b"0")))
            await app(scope, receive, send)

        return slowed

    demo_backend.create_demo_backend = create_slowed  # type: ignore[assignment]
    sys.argv = ["backend", "--port", "0"]
    backend_main()
