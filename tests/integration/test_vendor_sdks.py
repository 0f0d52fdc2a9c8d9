"""The vendors' own SDKs, captured by ``otel-wirecap run`` without a word of it in their code."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selection import mostly

from otel_wirecap.frames.framing import FrameReader

BIN = Path(sys.executable).parent

SCRIPTS = {
    "openai chat": (
        "OPENAI_API_KEY",
        """
        from openai import OpenAI
        client = OpenAI(base_url=URL + "/v1")
        ask = dict(model="demo-small", messages=[{"role": "user", "content": "hello"}])
        client.chat.completions.create(**ask)
        list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
        """,
    ),
    "openai responses": (
        "OPENAI_API_KEY",
        """
        from openai import OpenAI
        client = OpenAI(base_url=URL + "/v1")
        client.responses.create(model="demo-small", input="hello")
        list(client.responses.create(model="demo-small", input="hello", stream=True))
        """,
    ),
    "anthropic": (
        "ANTHROPIC_API_KEY",
        """
        from anthropic import Anthropic
        client = Anthropic(base_url=URL)
        ask = dict(model="demo-small", max_tokens=99, messages=[{"role": "user", "content": "hello"}])
        client.messages.create(**ask)
        with client.messages.stream(**ask) as stream:
            stream.get_final_message()
        """,
    ),
    "mistralai": (
        "MISTRAL_API_KEY",
        """
        import os
        from mistralai.client import Mistral
        with Mistral(api_key=os.environ["MISTRAL_API_KEY"], server_url=URL) as client:
            ask = dict(model="demo-small", messages=[{"role": "user", "content": "hello"}])
            client.chat.complete(**ask)
            with client.chat.stream(**ask) as stream:
                list(stream)
        """,
    ),
    "google-genai": (
        "GEMINI_API_KEY",
        """
        from google import genai
        client = genai.Client(http_options={"base_url": URL})
        client.models.generate_content(model="demo-small", contents="hello")
        list(client.models.generate_content_stream(model="demo-small", contents="hello"))
        """,
    ),
    "openai over aiohttp": (
        "OPENAI_API_KEY",
        """
        import asyncio
        from openai import AsyncOpenAI, DefaultAioHttpClient
        async def main():
            async with DefaultAioHttpClient() as http, AsyncOpenAI(base_url=URL + "/v1", http_client=http) as client:
                ask = dict(model="demo-small", messages=[{"role": "user", "content": "hello"}])
                await client.chat.completions.create(**ask)
                options = {"include_usage": True}
                async for _ in await client.chat.completions.create(**ask, stream=True, stream_options=options):
                    pass
        asyncio.run(main())
        """,
    ),
    "google-genai over aiohttp": (
        "GEMINI_API_KEY",
        """
        import asyncio, gc
        import aiohttp
        from google import genai
        async def main():
            async with genai.Client(http_options={"base_url": URL}).aio as client:
                await client.models.generate_content(model="demo-small", contents="hello")
                async for _ in await client.models.generate_content_stream(model="demo-small", contents="hello"):
                    pass
            assert any(isinstance(thing, aiohttp.ClientSession) for thing in gc.get_objects())
        asyncio.run(main())
        """,
    ),
}


@pytest.fixture(scope="module")
def backend() -> Iterator[str]:
    command = [sys.executable, "-m", "otel_wirecap.proxy.demo_backend", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        yield next(word for word in line.split() if word.startswith("http://"))
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def events_of(stream: bytes) -> int:
    parser = FrameReader("text/event-stream")
    return len([event for event in parser.feed(stream) + parser.close() if event.data != b"[DONE]"])


@pytest.mark.parametrize("name", mostly(pytest.mark.sdks, SCRIPTS, next(iter(SCRIPTS))))
def test_an_sdk_is_captured_without_a_code_change(name: str, backend: str, tmp_path: Path) -> None:
    variable, code = SCRIPTS[name]
    key = "sk-" + secrets.token_hex(24)
    lines = [line.removeprefix("        ") for line in code.splitlines()]
    (tmp_path / "script.py").write_text(f"URL = {backend!r}\n" + "\n".join(lines))
    command = [str(BIN / "otel-wirecap"), "run", "--capture-file", "capture.log"]
    command += ["--capture-backends", f"{backend.removeprefix('http://')}=demo", "--", sys.executable, "script.py"]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "WIRE_CAPTURE", "GOOGLE_", "OPENAI_"))}
    began = time.time()
    done = subprocess.run(
        command, cwd=tmp_path, env=clean | {variable: key}, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr[-3000:]
    text = (tmp_path / "capture.log").read_text()
    assert key not in text
    records: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    assert (records[0]["direction"], records[-1]["direction"]) == ("system_start", "system_stop")
    assert [record["metadata"]["seq"] for record in records] == list(range(1, len(records) + 1))
    traffic = records[1:-1]

    requests = [record for record in traffic if record["direction"] == "outbound_request"]
    assert len(requests) == 2
    for record in traffic:
        assert record["backend"] == "demo"
        assert record["key_name"] == variable
        assert began <= record["timestamp_unix"] <= time.time()
    assert {record["model"] for record in requests} == {"demo-small"}
    assert {record["source"] for record in requests} == {"proxy"}

    plain, streamed = [
        [record for record in traffic if record["metadata"]["exchange_id"] == request["metadata"]["exchange_id"]]
        for request in requests
    ]
    assert [record["direction"] for record in plain] == ["outbound_request", "inbound_response"]
    directions = [record["direction"] for record in streamed]
    chunks = [record for record in streamed if record["direction"] == "stream_chunk"]
    assert directions == [
        "outbound_request", "stream_start", *["stream_chunk"] * len(chunks), "stream_end", "inbound_response",
    ]  # fmt: skip
    joined = "".join(record["payload"] for record in chunks).encode()
    end, assembled = streamed[-2:]
    assert end["payload"] == {"total_bytes": len(joined), "total_chunks": len(chunks)}
    assert end["metadata"]["outcome"] in {"complete", "closed"}
    assert events_of(joined) > 3
    assert assembled["metadata"]["assembled"] is True
    shape = plain[1]["payload"]
    assert assembled["payload"].keys() >= {"id", "choices"} & shape.keys()
    usage = "usageMetadata" if "candidates" in shape else "usage"
    if name != "mistralai":  # it does not ask for usage in streams, as this backend wants to be asked
        assert assembled["payload"][usage].keys() == shape[usage].keys()
    assert assembled["model"] == plain[1]["model"] is not None
