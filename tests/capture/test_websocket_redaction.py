"""The messages of a websocket: secrets split over them, how long they wait, what they are otherwise."""

from __future__ import annotations

import json
import random
import secrets
from typing import Any

import pytest

from otel_wirecap.capture.events import RequestHead, ResponseHead, WebsocketMessage
from otel_wirecap.capture.exchange import LiveExchange
from otel_wirecap.capture.redaction import messages as message_redaction
from tests.capture.test_recorder import NS, Desk

TEXT, BINARY = 1, 2
CLIENT, BACKEND = True, False


class Talk:
    """A websocket of a client whose messages are fed as they are said."""

    def __init__(self) -> None:
        self.desk = Desk()
        self.recorder = self.desk.process.recorder
        self.exchange: LiveExchange = self.desk.exchange()
        self.exchange.begin(RequestHead("GET", "wss://api.openai.com/v1/realtime", [], body=b"", websocket=True))
        self.exchange.response(NS, ResponseHead(101, "Switching Protocols", []))
        self.said = 0

    def say(self, asker: bool, data: str | bytes, at: int | None = None) -> None:
        self.said += 1
        opcode = TEXT if isinstance(data, str) else BINARY
        now = NS + self.said if at is None else at
        self.exchange.message(now, WebsocketMessage(asker, opcode, data, 1, final=True))
        self.feed()

    def feed(self) -> None:
        for event in self.desk.events:
            self.recorder.feed(event)
        self.desk.events.clear()

    def messages(self) -> list[dict[str, Any]]:
        records = [json.loads(line) for line in self.desk.lines]
        return [record for record in records if record["direction"] == "websocket_message"]

    def end(self) -> list[dict[str, Any]]:
        self.exchange.end(5 * NS, "complete")
        self.desk.records()
        return self.messages()


def delta(text: str, item: str = "item_1") -> str:
    return json.dumps({"type": "response.output_text.delta", "item_id": item, "output_index": 0, "delta": text})


def split(rng: random.Random, text: str) -> list[str]:
    places = sorted(rng.sample(range(1, len(text)), rng.randrange(1, 12)))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


@pytest.mark.parametrize("seed", range(30))
def test_a_secret_split_over_messages_is_not_written_and_the_other_side_keeps_its_bytes(seed: int) -> None:
    rng = random.Random(seed)
    key = "sk-proj-" + secrets.token_hex(24)
    talk = Talk()
    said = split(rng, f"The key is {key}, keep it.")
    theirs = []
    for number, part in enumerate(said):
        talk.say(BACKEND, delta(part))
        if rng.random() < 0.5:  # the client talks on meanwhile
            theirs.append(
                json.dumps({"type": "input_audio_buffer.append", "audio": secrets.token_urlsafe(rng.randrange(40))})
            )
            talk.say(CLIENT, theirs[-1])
        if rng.random() < 0.3:
            talk.recorder.tick(2 * NS + number)
    records = talk.end()
    assert [record["metadata"]["message_number"] for record in records] == list(range(1, talk.said + 1))
    text = "".join(json.loads(r["payload"]).get("delta", "") for r in records)
    assert text == "The key is [REDACTED], keep it."
    assert [r["payload"] for r in records if "audio" in r["payload"]] == theirs
    assert sum(r["metadata"].get("redactions", {}).get("openai", 0) for r in records) == 1
    assert [r["content_length"] for r in records if "delta" in r["payload"]] == [len(delta(part)) for part in said]


@pytest.mark.parametrize("seed", range(10))
def test_a_secret_split_over_messages_of_plain_text_or_bytes_is_not_written(seed: int) -> None:
    rng = random.Random(seed)
    key = "ghp_" + secrets.token_hex(20)
    for encode in (str, str.encode):
        talk = Talk()
        for part in split(rng, f"It is {key} ."):
            talk.say(BACKEND, encode(part))
        joined = "".join(str(record["payload"]) for record in talk.end())
        assert joined == "It is [REDACTED] ."


def test_a_whole_secret_is_found_whatever_the_message_before_it_ended_with() -> None:
    key = "sk-" + secrets.token_hex(24)
    talk = Talk()
    for data in ("ping", key, "pong"):
        talk.say(CLIENT, data)
    assert [record["payload"] for record in talk.end()] == ["ping", "[REDACTED]", "pong"]


def test_a_message_waits_for_the_next_one_and_for_five_seconds_at_most() -> None:
    talk = Talk()
    talk.say(BACKEND, delta("Hello wor"), NS)
    talk.say(CLIENT, json.dumps({"type": "response.cancel"}), NS + 1)
    talk.recorder.tick(5 * NS)
    assert talk.messages() == []  # the client's waits for its turn
    assert talk.recorder.held()[0] >= len(delta("Hello wor"))
    talk.recorder.tick(6 * NS)
    assert [json.loads(record["payload"])["type"] for record in talk.messages()] == [
        "response.output_text.delta", "response.cancel",
    ]  # fmt: skip
    assert talk.recorder.held()[0] == 0
    assert talk.messages()[0]["timestamp_unix"] == pytest.approx(talk.exchange.head.began_unix_ns / NS)
    talk.say(BACKEND, delta("ld."), 7 * NS)
    talk.recorder.tick(8 * NS)
    assert len(talk.messages()) == 3


def test_messages_that_cannot_be_redacted_are_withheld(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: Any) -> Any:
        raise RuntimeError

    monkeypatch.setattr(message_redaction, "parsed", fail)
    talk = Talk()
    talk.say(BACKEND, delta("Hello"))
    talk.say(CLIENT, "Hello")
    records = talk.end()
    assert [record["payload"] for record in records] == [None, None]
    assert [record["metadata"]["incomplete"] for record in records] == ["withheld"] * 2
    assert [record["metadata"]["redactions"] for record in records] == [{"withheld": 1}] * 2
