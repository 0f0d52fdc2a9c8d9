"""The gate: each kind of text by itself, what it does where it fails, and the gate of what is told elsewhere."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

import pytest

from otel_wirecap.capture.events import WebsocketClose
from otel_wirecap.capture.facts import ExchangeFacts
from otel_wirecap.capture.record import CaptureRecord, RawJSON
from otel_wirecap.capture.redaction import gate as gate_module, texts
from otel_wirecap.capture.redaction.gate import FAILED, MARKER, Gate, Passed, Rules
from otel_wirecap.capture.redaction.redactor import Redactor
from otel_wirecap.capture.redaction.search import SecretSearch
from otel_wirecap.capture.redaction.stream import StreamRedactor
from otel_wirecap.capture.secret_values import named_secrets
from otel_wirecap.llm.dialects.interface import Answer
from tests.capture.test_recorder import NS, Desk, post, whole
from tests.capture.test_websocket_redaction import Talk

SECRET = "sk-proj-" + secrets.token_hex(24)


def record(payload: Any = None, **metadata: Any) -> CaptureRecord:
    told = {"leg": "backend", "exchange_id": "ex_1", **metadata}
    return CaptureRecord(0, "outbound_request", "proxy", "openai", "s-1", "openai", "gpt", None, 9, payload, told)


def told_by(call: Callable[[Gate, dict[str, int]], Any]) -> tuple[Any, dict[str, int]]:
    counts: dict[str, int] = {}
    return call(Gate(), counts), counts


TEXTS: dict[str, Callable[[Gate, dict[str, int]], Any]] = {
    "url": lambda gate, counts: gate.url(f"/v1?q={SECRET}", counts),
    "error_text": lambda gate, counts: gate.error_text(f"no {SECRET}", counts),
    "name": lambda gate, counts: gate.name(SECRET, counts),
    "reason": lambda gate, counts: gate.reason(200, f"OK {SECRET}", counts),
    "label": lambda gate, counts: gate.label(SECRET, counts),
}


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: Any, **_options: Any) -> Any:
        raise ValueError(SECRET)

    for method in ("text", "bytes_", "json", "url", "headers", "form", "multipart", "text_with_urls"):
        monkeypatch.setattr(Redactor, method, fail)
    monkeypatch.setattr(SecretSearch, "spans", fail)
    monkeypatch.setattr(StreamRedactor, "feed", fail)
    monkeypatch.setattr(StreamRedactor, "close", fail)


@pytest.mark.parametrize("kind", TEXTS)
def test_a_secret_in_a_text_is_masked_and_counted(kind: str) -> None:
    told, counts = told_by(TEXTS[kind])
    assert MARKER in told
    assert SECRET not in told
    assert counts == {"openai": 1}


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.usefixtures("broken")
def test_a_text_that_cannot_be_redacted_becomes_the_marker(kind: str) -> None:
    assert told_by(TEXTS[kind]) == (MARKER, {"withheld": 1})


@pytest.mark.parametrize("kind", ["url", "error_text", "name", "reason"])
def test_a_text_whose_prompts_cannot_be_masked_becomes_the_marker(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for masking in ("text_without_prompts", "name_without_prompts", "url_without_prompts"):
        monkeypatch.setattr(texts, masking, None)
    counts: dict[str, int] = {}
    assert TEXTS[kind](Gate(Rules(prompts=True)), counts) == MARKER
    assert counts["withheld"] == 1


@pytest.mark.parametrize("document", [b"[1]", b"{", b'"x"', b"1", b"null"])
def test_annotations_that_are_no_object_are_none(document: bytes) -> None:
    assert Gate().annotations(document) == {}


NO_TEXT = "abc123\udcff456\ud800"
"""As Python spells bytes that are no text."""


@pytest.mark.parametrize("mode", ["on", "headers-only", "off"])
@pytest.mark.parametrize("prompts", [True, False])
def test_nothing_raises_for_what_is_no_text(prompts: bool, mode: Any) -> None:
    gate, counts = Gate(Rules(mode=mode, prompts=prompts), known_values=[NO_TEXT]), dict[str, int]()
    gate.replace_known_values([NO_TEXT])
    gate.learn(named_secrets([("authorization", NO_TEXT), ("cookie", NO_TEXT)], f"key={NO_TEXT}"))
    for text in (gate.url, gate.error_text, gate.name, gate.label):
        assert isinstance(text(NO_TEXT, counts), str)
    gate.reason(200, NO_TEXT, counts)
    assert len(gate.headers([(NO_TEXT, NO_TEXT)], counts)) == 1
    gate.message(NO_TEXT)
    gate.system(NO_TEXT)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b", NO_TEXT):
        gate.body(NO_TEXT, kind, is_json=False)
    gate.facts(ExchangeFacts(outcome="error", url=NO_TEXT, error=NO_TEXT, method=NO_TEXT))
    one = record(NO_TEXT, url=NO_TEXT, error={"message": NO_TEXT})
    gate.record(one)
    chunk = record(NO_TEXT)
    chunk.direction = "stream_chunk"
    records = gate.records()
    assert len([*records.feed(chunk, 9), *records.close()]) == 1


@pytest.mark.usefixtures("broken")
def test_what_is_larger_and_cannot_be_redacted_is_withheld() -> None:
    gate, counts = Gate(), dict[str, int]()
    nothing = Passed(None, {"withheld": 1}, withheld=True)
    for is_json in (True, False):
        assert gate.body(b'"x"', "application/json", is_json=is_json) == nothing
    assert nothing.facts == {"incomplete": "withheld"}
    assert gate.system(RawJSON(b"{}")) == nothing
    assert gate.headers([("a", SECRET), ("b", "c")], counts) == [[MARKER, MARKER]] * 2
    assert counts == {"withheld": 1}
    assert gate.annotations(b'{"a": 1}') == {}
    assert gate.message(SECRET) == FAILED
    one = record("text", url=SECRET)
    assert gate.record(one) is False
    assert (one.payload, one.source, one.model, one.direction) == (None, "", None, "outbound_request")
    assert one.metadata == {
        "leg": "backend", "exchange_id": "ex_1", "incomplete": "withheld", "redactions": {"withheld": 1}
    }  # fmt: skip
    facts = ExchangeFacts(outcome="complete", status_code=200, url=SECRET, method=SECRET)
    assert Gate(Rules(mode="off")).facts(facts) == ExchangeFacts(outcome="complete", status_code=200)


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize("make", [lambda gate: gate.stream("", 99), lambda gate: gate.messages(99)])
def test_the_pieces_of_what_cannot_be_redacted_are_withheld_each_once(make: Callable[[Gate], Any]) -> None:
    stream = make(Gate())
    assert stream.feed([b"a", b"b"]) == ([], {}, 2)
    fork = stream.fork()
    assert fork.feed([b"c"]) == stream.feed([b"c"]) == ([], {}, 1)
    assert fork.close() == stream.close() == ([], {}, 0)


def test_a_stream_that_fails_withholds_what_it_holds_and_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Gate().stream("text/event-stream", 1 << 20)
    assert stream.feed([b'data: {"a": "sk-']) == ([], {}, 0)
    with monkeypatch.context() as patch:
        patch.setattr(StreamRedactor, "feed", None)
        assert stream.feed([b"x"]) == ([], {}, 2)
    assert stream.feed([b"y"]) == ([], {}, 1)


def test_a_fork_holds_what_is_held() -> None:
    stream = Gate().stream("text/event-stream", 1 << 20)
    stream.feed([b'data: {"a": "' + SECRET[:20].encode()])
    fork = stream.fork()
    rest = SECRET[20:].encode() + b'"}\n\n'
    for one in (stream, fork):
        pieces = [*one.feed([rest]).pieces, *one.close().pieces]
        assert b"".join(pieces) == b'data: {"a": "[REDACTED]"}\n\n'


def test_a_chunk_whose_metadata_cannot_be_redacted_does_not_get_its_payload_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chunk = record("data: x\n\n", chunk_number=1)
    chunk.direction = "stream_chunk"
    records = Gate().records()
    with monkeypatch.context() as patch:
        patch.setattr(Gate, "metadata", None)
        left = records.feed(chunk, 9)
    (one,) = [*left, *records.close()]
    assert one.payload is None
    assert one.metadata["incomplete"] == "withheld"


def test_an_exchange_goes_on_without_the_url_that_cannot_be_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: Any) -> Any:
        raise ValueError(SECRET)

    monkeypatch.setattr(Redactor, "url", fail)
    desk = Desk()
    whole(desk, post(b'{"model": "gpt"}'), b"{}")
    request, response = desk.records()
    assert request["metadata"]["url"] == MARKER
    assert request["metadata"]["redactions"] == {"withheld": 1}
    assert request["payload"] == {"model": "gpt"}
    assert response["metadata"]["outcome"] == "complete"


def test_what_is_masked_in_a_close_reason_is_counted() -> None:
    talk = Talk()
    talk.exchange.end(9 * NS, "complete", None, WebsocketClose(1000, f"no {SECRET}", asker=False))
    end = talk.desk.records()[-1]
    assert end["metadata"]["websocket"]["close_reason"] == f"no {MARKER}"
    assert end["metadata"]["redactions"] == {"openai": 1}


@pytest.mark.parametrize(("options", "is_masked"), [({}, True), ({"capture_redaction": "off"}, False)])
def test_what_a_capture_says_of_its_settings_goes_through_the_gate(options: dict[str, Any], is_masked: bool) -> None:
    desk = Desk(capture_backends={"10.0.0.1": SECRET}, capture_allow_secrets=True, **options)
    start = desk.process.system_start("p")
    assert (SECRET in json.dumps(start)) is not is_masked
    assert start["settings"]["capture_allow_secrets"] is True  # type: ignore[index]


@pytest.mark.parametrize("mode", ["on", "headers-only", "off"])
def test_collectors_get_no_secrets_whatever_the_capture_holds(mode: Any) -> None:
    value, learned, credential = (secrets.token_hex(12) for _ in range(3))
    gate = Gate(Rules(mode=mode), known_values=[value])
    gate.learn([learned])
    assert (gate.outside is gate) is (mode == "on")
    assert gate.outside.outside is gate.outside
    told = f"{SECRET} {value} {learned} {credential}"
    facts = ExchangeFacts(
        outcome="error", error=told, url=f"/?q={value}", session_id=learned, answer=Answer(credential, (told,))
    )
    counts: dict[str, int] = {}
    if mode == "on":  # they come from the gate itself
        facts.error = gate.error_text(told, counts, (credential,))
        facts.url, facts.session_id, facts.answer = gate.url(f"/?q={value}", counts), MARKER, None
    clean = repr(gate.facts(facts, (credential,)))
    assert not any(secret in clean for secret in (SECRET, value, learned, credential))
    new = secrets.token_hex(12)
    gate.replace_known_values([new])
    assert new not in repr(gate.outside.error_text(new, counts))
    assert (gate.generation, gate.outside.generation) > (1, 1)


@pytest.mark.parametrize("prompts", [True, False])
def test_what_is_searched_for_is_learned_by_the_gate_of_collectors_too(prompts: bool) -> None:
    gate = Gate(Rules(mode="headers-only", prompts=prompts))
    assert gate.outside.error_text("the question", {}) == (MARKER if prompts else "the question")


def test_there_is_one_way_in() -> None:
    """What the rest of the package may know of the redaction is what the gate gives it."""
    assert sorted(gate_module.__all__) == [
        "FAILED", "Finder", "FoundInStream", "Gate", "MARKER", "Mode", "Passed", "Pattern", "Place", "RecordRedaction",
        "Released", "Rules", "StreamRedaction", "add_counts", "withheld",
    ]  # fmt: skip
