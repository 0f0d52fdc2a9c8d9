"""Both legs of the ready-made proxy, byte for byte against what a real server received and a real client got."""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "instrumentation"))
from wire import EVENTS, serving

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("WIRE_CAPTURE", "OTEL_"))}
PATHS = ["/document", "/encoded/gzip", "/encoded/br", "/encoded/zstd", "/stream", "/reset", "/digest", "/redirect/1"]


def uploads(key: str) -> dict[str, dict[str, Any]]:
    def parts() -> Iterator[bytes]:
        for byte in '{"model": "asked", "input": "żółw"}'.encode():
            yield bytes([byte])

    return {
        "json": {"json": {"model": "asked", "note": "漢字"}},
        "numbers": {"content": b'{"model":"asked","n":[1.0,12345678901234567890123,1E5]}'},
        "chunked": {"content": parts()},
        "multipart": {"files": {"file": ("a.bin", b"plain text"), "model": (None, "asked")}},
        "binary": {"content": bytes(range(256)), "headers": {"content-type": "application/octet-stream"}},
        "secret": {"json": {"model": "asked", "note": f"the key is {key}"}},
    }


def body_of(record: dict[str, Any]) -> bytes:
    payload = record["payload"]
    if record["content_type"] == "bytes":
        return base64.b64decode(payload["data"])
    return (payload or "").encode() if record["content_type"] != "json" else json.dumps(payload).encode()


def same(record: dict[str, Any], wire: bytes, key: str) -> bool:
    if key.encode() in wire:
        return json.loads(body_of(record)) == json.loads(wire.replace(key.encode(), b"[REDACTED]"))
    if record["content_type"] == "json":
        return record["payload"] == json.loads(wire)
    return body_of(record) == wire


@pytest.fixture
def key() -> str:
    return "sk-" + secrets.token_hex(24)


def test_every_exchange_is_captured_byte_for_byte_on_both_legs(key: str, tmp_path: Path) -> None:
    capture = tmp_path / "capture.log"
    got: dict[str, tuple[int, bytes, bool]] = {}
    with serving() as server:
        command = [sys.executable, "-m", "otel_wirecap", "proxy", "--capture-file", str(capture), "--port", "0"]
        command += ["--default-backend", "raw", "--backend", f"raw={server.url}"]
        with subprocess.Popen(command, env=CLEAN | {"MY_API_KEY": key}, stderr=subprocess.PIPE, text=True) as proxy:
            assert proxy.stderr is not None
            address = next(word for word in proxy.stderr.readline().split() if word.startswith("http://"))
            try:
                with httpx2.Client(timeout=60) as client:
                    for path in PATHS:
                        for name, upload in uploads(key).items():
                            mark = f"{path}?case={name}"
                            options = dict(upload)
                            options["headers"] = {**options.get("headers", {}), "x-api-key": key, "x-mark": mark}
                            raw, cut = b"", False
                            with client.stream("POST", address + path, **options) as response:
                                try:
                                    for part in response.iter_bytes():
                                        raw += part
                                except httpx2.TransportError:
                                    cut = True
                            got[mark] = (response.status_code, raw, cut)
            finally:
                proxy.send_signal(signal.SIGTERM)
                proxy.wait(60)
        received = {dict(request.headers)["x-mark"]: request.body for request in server.received}
    assert key not in capture.read_text()

    exchanges: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in capture.read_text().splitlines():
        record = json.loads(line)
        if not record["direction"].startswith("system_") and not record["metadata"].get("assembled"):
            exchanges[record["metadata"]["exchange_id"]].append(record)
    flows: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(dict)
    for records in exchanges.values():
        mark = dict(records[0]["metadata"]["headers"])["x-mark"]
        flows[mark][records[0]["metadata"]["leg"]] = records
    assert flows.keys() == got.keys() == received.keys()
    for mark, legs in flows.items():
        status, body, cut = got[mark]
        assert legs.keys() == {"client", "backend"}
        assert len({record["metadata"]["request_id"] for records in legs.values() for record in records}) == 1
        for leg, records in legs.items():
            assert same(records[0], received[mark], key), mark
            assert records[0]["content_length"] == len(received[mark])
            assert {record["key_name"] for record in records} == {"MY_API_KEY"}
            assert records[-1]["metadata"]["outcome"] == ("error" if cut else "complete")
            if mark.startswith(("/stream", "/reset")):
                chunks = [record for record in records if record["direction"].endswith("stream_chunk")]
                assert b"".join(map(body_of, chunks)) == body
                assert body == b"".join(EVENTS[:2] if cut else EVENTS)
                assert records[-1]["payload"] == {"total_bytes": len(body), "total_chunks": len(chunks)}
            else:
                assert records[1]["metadata"]["status_code"] == status
                assert same(records[1], body, key), (leg, mark)
                assert records[1]["content_length"] == len(body)
