"""What a client sent is masked in its backend exchanges, and named there, whichever writer takes them."""

from __future__ import annotations

import json
import os
import secrets
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from driving import Gateway, open_writer, records, wait_until, writers_of

from otel_wirecap.capture.events import ExchangeHead, RequestHead, ResponseHead
from otel_wirecap.capture.exchange import LiveExchange, LiveFlow
from otel_wirecap.storage.writer import CaptureWriter

JSON = [(b"content-type", b"application/json")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "capture.log"


class Relay:
    """A client's request with a key that has no shape, and the backend exchange whose body quotes it."""

    def __init__(self, writer: CaptureWriter) -> None:
        self.key = f"team-{secrets.token_hex(5)}-{secrets.token_hex(4)}"
        self.flow = LiveFlow("req_relay")
        self.host = Gateway(writer)

    def exchange(self, leg: Any, name: str, head: RequestHead) -> LiveExchange:
        began = time.time_ns(), time.monotonic_ns()
        attempt = next(self.flow.attempts) if leg == "backend" else None
        about = ExchangeHead(leg, self.flow.id, attempt, "0" * 32, "0" * 16, *began)
        exchange = LiveExchange(name, about, self.flow, self.host)
        exchange.begin(head)
        return exchange

    def ask(self, *more: tuple[bytes, bytes]) -> LiveExchange:
        headers = [*JSON, *more, (b"authorization", f"Bearer {self.key}".encode()), (b"user-agent", b"Agent/1")]
        head = RequestHead("POST", "http://gateway/v1/chat/completions", headers, client_host="10.1.2.3", body=b"{}")
        return self.exchange("client", "ex_client", head)

    def call_backend(self) -> None:
        body = json.dumps({"model": "m", "user": f"key {self.key}"}).encode()
        url = f"https://backend.example/v1/chat/completions?for={self.key}"
        exchange = self.exchange("backend", "ex_backend", RequestHead("POST", url, JSON, body=body))
        exchange.response(time.monotonic_ns(), ResponseHead(200, None, JSON))
        exchange.chunk(time.monotonic_ns(), body)
        exchange.end(time.monotonic_ns(), "complete")

    def check(self, path: Path) -> None:
        assert self.key not in path.read_text()
        (asked,) = [record for record in records(path) if record["direction"] == "outbound_request"]
        assert asked["metadata"]["redactions"]["credential"] >= 2
        assert asked["metadata"]["client_host"] == "10.1.2.3"
        assert asked["metadata"]["user_agent"] == "Agent/1"


def test_the_writer_that_took_its_request_was_killed(path: Path) -> None:
    writer = open_writer(path)
    relay, first = Relay(writer), writer.process
    asked = relay.ask()
    assert writer.flush()
    (pid,) = writers_of()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: writer.process != first)
    relay.call_backend()
    asked.end(time.monotonic_ns(), "complete")
    assert writer.close()
    relay.check(path)


def test_the_exchange_begins_in_a_forked_child(path: Path) -> None:
    writer = open_writer(path)
    relay = Relay(writer)
    relay.ask().end(time.monotonic_ns(), "complete")
    assert writer.flush()
    child = os.fork()
    if not child:
        try:
            relay.call_backend()
            os._exit(not writer.close())
        finally:
            os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert writer.close()
    relay.check(path)


@pytest.mark.usefixtures("writer_home")
def test_the_queue_had_no_room_for_its_request(path: Path) -> None:
    writer = open_writer(path, capture_max_queue_bytes=20_000)
    relay = Relay(writer)
    relay.ask((b"x-large", b"x" * 20_000)).end(time.monotonic_ns(), "complete")
    assert writer.stats().lost_exchanges == {"queue_full": 1}
    relay.call_backend()
    assert writer.close()
    relay.check(path)
