"""Whoever exports or imports with prompts masked gets what the recorder would have written with the same setting.

The same traffic is recorded twice, with the setting and without it. What is exported of the capture without it, with
the setting on, is held against the capture with it: record by record, and for every kind of record, every way out and
every way to give the setting.
"""

from __future__ import annotations

import base64
import json
import secrets
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_wirecap.capture.events import (
    ErrorInfo,
    ExchangeHead,
    RequestHead,
    ResponseHead,
    WebsocketClose,
    WebsocketMessage,
)
from otel_wirecap.capture.exchange import Exchange, Flow
from otel_wirecap.cli import main
from otel_wirecap.config import load_config
from otel_wirecap.reading.export import BUNDLE, KINDS, PARQUET
from otel_wirecap.reading.outgoing import Outgoing
from otel_wirecap.storage.recording import redactor_of
from otel_wirecap.storage.writer import CaptureWriter

BEGAN_UNIX_NS, MS = 1_767_225_600_000_000_000, 1_000_000
JSON, SSE, NDJSON = (
    (b"content-type", kind) for kind in (b"application/json", b"text/event-stream", b"application/x-ndjson")
)
MAX_PAYLOAD = 2000
IMPORT = "import"
WAYS = (*KINDS, IMPORT)
SETTINGS = ("off", "environment", "file")


class Said:
    """What was said in one kind of traffic: texts made up anew, none of which may leave."""

    def __init__(self) -> None:
        self.markers: dict[str, str] = {}

    def __call__(self, part: str) -> str:
        """A sentence; ``part`` says where in the traffic it stands."""
        return f"our secret plan {self.word(part)} is ready"

    def word(self, part: str) -> str:
        """A word, in which nothing looks like a key."""
        return self.markers.setdefault(part, "".join(secrets.choice("bdfghjkmpqvwxz") for _ in range(14)))


class Wire:
    """One exchange of one flow, driven as hooks drive it."""

    def __init__(self, writer: CaptureWriter, name: str) -> None:
        self.flow = Flow(f"req_{name}")
        self.now = 1_000_000 * MS
        self.put, self.flow_gone = writer.put, writer.flow_gone
        about = ExchangeHead("backend", self.flow.id, 1, "0" * 32, "0" * 16, BEGAN_UNIX_NS, self.now)
        self.exchange = Exchange(f"ex_{name}", about, self.flow, self)

    def failed(self, error: Exception) -> None:
        raise error

    def ended_unrecorded(self, *_end: object) -> None:
        raise AssertionError("its end found no writer")

    def annotate(self, **annotations: str) -> None:
        document = json.dumps(annotations).encode()
        self.flow.annotate(self.now, document, self)

    def ask(
        self,
        body: bytes | str,
        *headers: tuple[bytes, bytes],
        method: str = "POST",
        path: str = "/v1/chat/completions",
        websocket: bool = False,
    ) -> None:
        named = (b"x-session-id", b"s-1")
        data = body.encode() if isinstance(body, str) else body
        head = RequestHead(method, f"https://api.openai.com{path}", [named, *headers], body=data, websocket=websocket)
        self.exchange.begin(head)

    def answer(
        self, *pieces: bytes | str, headers: tuple[tuple[bytes, bytes], ...] = (JSON,), status: int = 200,
        reason: str = "OK", late: tuple[tuple[bytes, bytes], ...] | None = None,
    ) -> None:  # fmt: skip
        self.now += MS
        self.exchange.response(self.now, ResponseHead(status, reason, headers, request_headers=late))
        for piece in pieces:
            self.now += MS
            self.exchange.chunk(self.now, piece.encode() if isinstance(piece, str) else piece)

    def message(self, data: bytes | str, *, asker: bool, final: bool = True) -> None:
        self.now += MS
        self.exchange.message(self.now, WebsocketMessage(asker, 1 if isinstance(data, str) else 2, data, 1, final))

    def end(
        self, outcome: Any = "complete", error: ErrorInfo | None = None, close: WebsocketClose | None = None
    ) -> None:
        self.now += MS
        self.exchange.end(self.now, outcome, error, close)


def request(text: str, **members: object) -> str:
    return json.dumps({"model": "gpt-5-mini", "messages": [{"role": "user", "content": text}], **members})


def event(text: str, **members: object) -> str:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    chunk = {"id": "c-1", "object": "chat.completion.chunk", "model": "gpt-5-mini", "choices": [choice], **members}
    return f"data: {json.dumps(chunk)}\n\n"


# -- the kinds of records: each drives one exchange, or what it is about ----------------------------------------------


def json_bodies(wire: Wire, said: Said) -> None:
    wire.ask(request(said("question"), user="u-1"), JSON)
    message = {"role": "assistant", "content": said("answer")}
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    wire.answer(json.dumps({"id": "c-1", "model": "gpt-5-mini-1", "choices": choices, "usage": usage}))


def streamed_chat(wire: Wire, said: Said) -> None:
    wire.ask(request(said("question"), stream=True), JSON)
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    last = {"id": "c-1", "model": "gpt-5-mini-1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    first, second = event(said("answer's beginning")), event(said("answer's end"))
    end = f"data: {json.dumps(last | {'usage': usage})}\n\n: {said('comment')}\n\ndata: [DONE]\n\n"
    wire.answer(first[:33], first[33:] + second[:9], second[9:], end, headers=(SSE,))


def streamed_lines(wire: Wire, said: Said) -> None:
    wire.ask(request(said("question")), JSON, path="/api/chat")
    text = {"model": "llama", "message": {"role": "assistant", "content": said("answer")}, "done": False}
    last = {"model": "llama", "message": {"role": "assistant", "content": ""}, "done": True, "eval_count": 4}
    wire.answer(json.dumps(text)[:40], json.dumps(text)[40:] + "\n", json.dumps(last) + "\n", headers=(NDJSON,))


def frames(wire: Wire, said: Said) -> None:
    """AWS frames, whose masked ones are of another length."""
    wire.ask(json.dumps({"messages": [{"role": "user", "content": [{"text": said("question")}]}]}), JSON)
    name, value = b":event-type", b"contentBlockDelta"
    headers = bytes([len(name)]) + name + b"\7" + struct.pack("!H", len(value)) + value
    payload = json.dumps({"contentBlockIndex": 0, "delta": {"text": said("answer")}}).encode()
    head = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    frame = head + struct.pack("!I", zlib.crc32(head)) + headers + payload
    frame += struct.pack("!I", zlib.crc32(frame))
    wire.answer(frame[:40], frame[40:], headers=((b"content-type", b"application/vnd.amazon.eventstream"),))


def plain_text(wire: Wire, said: Said) -> None:
    wire.ask(said("question"), (b"content-type", b"text/plain"))
    wire.answer(json.dumps({"id": said.word("answer")}), headers=((b"content-type", b"text/plain"),))


def forms(wire: Wire, said: Said) -> None:
    wire.ask(f"model=m-1&prompt={said.word('form')}", (b"content-type", b"application/x-www-form-urlencoded"))
    part = f'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n{said("part")}\r\n--b--\r\n'
    wire.answer(part, headers=((b"content-type", b"multipart/form-data; boundary=b"),))


def binary(wire: Wire, said: Said) -> None:
    kind = (b"content-type", b"application/octet-stream")
    wire.ask(b"\xff\xfe\xfd" + said.word("sent").encode() + b"\x00", kind)
    wire.answer(b"\xff\xfe\xfd" + said.word("received").encode() + b"\x00", headers=(kind,))


def truncated_bodies(wire: Wire, said: Said) -> None:
    wire.ask(request(said("question") + " and so on" * MAX_PAYLOAD), JSON)
    wire.answer(said("answer") + " and so on" * MAX_PAYLOAD, headers=((b"content-type", b"text/plain"),))


def cut_body(wire: Wire, said: Said) -> None:
    wire.ask("", method="GET")
    content = json.dumps({"id": "c-1", "content": said("answer")})[:-8]
    wire.answer(content, headers=(JSON, (b"content-length", b"999")))
    wire.end("error", ErrorInfo("RemoteProtocolError", "incomplete"))


def websocket(wire: Wire, said: Said) -> None:
    wire.ask("", method="GET", path="/v1/realtime?model=gpt-5", websocket=True)
    wire.answer(status=101, reason="Switching Protocols", headers=())
    asked = json.dumps({"type": "response.create", "event_id": "e_1", "instructions": said("instructions")})
    wire.message(asked, asker=True)
    for item, part in (("i_1", "answer's beginning"), ("i_2", "answer's end")):
        wire.message(json.dumps({"type": "response.text.delta", "item_id": item, "delta": said(part)}), asker=False)
    wire.message(said("text"), asker=True)
    wire.message(asked, asker=True)
    wire.message(b"\xff\xfe\xfd" + said.word("bytes").encode() + b"\x00", asker=False)
    wire.message(json.dumps({"type": "input.append", "delta": said("long") + "x" * MAX_PAYLOAD}), asker=True)
    wire.message(json.dumps({"type": "session.update", "session": {"voice": "sage", "x": said("later")}}), asker=True)
    wire.message(json.dumps({"type": "input.append", "delta": said("unfinished")}), asker=False, final=False)
    wire.end(close=WebsocketClose(1011, said("close reason"), asker=False))


def refused_websocket(wire: Wire, said: Said) -> None:
    wire.ask("", JSON, method="GET", path="/v1/realtime", websocket=True)
    wire.answer(
        json.dumps({"id": said.word("answer")}),
        status=403,
        reason="Forbidden",
        headers=((b"content-type", b"text/plain"),),
    )


def error(wire: Wire, said: Said) -> None:
    wire.ask("", method="GET")
    wire.end("error", ErrorInfo("ValueError", f"cannot parse {said('message')!r}"))


def error_in_stream(wire: Wire, said: Said) -> None:
    wire.ask(request("x", stream=True), JSON)
    told = {"message": said("message"), "type": "server_error", "code": said("code")}
    wire.answer(f"data: {json.dumps({'error': told})}\n\n", headers=(SSE,))


def urls(wire: Wire, said: Said) -> None:
    path = f"/v1/notes/{said('path').replace(' ', '%20')}?q={said.word('query')}&alt=sse#{said.word('fragment')}"
    referer = (b"referer", b"https://a.example/" + f"?q={said.word('referer')}".encode())
    wire.ask("", referer, method="GET", path=path)
    location = (b"location", f"/next?topic={said.word('location')}&limit=3".encode())
    wire.answer(status=302, reason="Found", headers=(location,))


def headers(wire: Wire, said: Said) -> None:
    wire.ask("{}", JSON, (b"x-prompt", said("request header").encode()), (b"x-team", b"red"))
    late = ((b"x-user-question", said("late header").encode()), (b"x-team", b"red"))
    wire.answer("{}", headers=(JSON, (b"x-completion", said("response header").encode())), late=late)


def names(wire: Wire, said: Said) -> None:
    wire.ask(json.dumps({"model": said("model")}), JSON)
    wire.answer("{}", status=200, reason=said("reason"))


def annotations(wire: Wire, said: Said) -> None:
    """What the application says of itself stays: nothing of it may be a prompt."""
    wire.annotate(team="the red team", session_id="session of the red team")
    wire.ask("{}", JSON)
    wire.answer("{}")


Traffic = Callable[[Wire, Said], None]
TRAFFIC: dict[str, Traffic] = {
    kind.__name__: kind
    for kind in (
        json_bodies, streamed_chat, streamed_lines, frames, plain_text, forms, binary, truncated_bodies, cut_body,
        websocket, refused_websocket, error, error_in_stream, urls, headers, names, annotations,
    )
}  # fmt: skip

NOT_IN = {"har": {("headers", "request header"), ("websocket", "close reason")}}
"""What a way out has no place for."""


class Recorded:
    """The same traffic in two captures, and what was said in it, by kind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said = {name: Said() for name in TRAFFIC}
        self.plain, self.masked = folder / "plain" / "capture.log", folder / "masked" / "capture.log"
        for path, is_masked in ((self.plain, False), (self.masked, True)):
            path.parent.mkdir()
            settings = {"capture_redact_prompts": is_masked, "capture_max_payload_bytes": MAX_PAYLOAD}
            writer = CaptureWriter(load_config({"capture_file": path, **settings}, {}), str(path))
            writer.open()
            try:
                for name, traffic in TRAFFIC.items():
                    wire = Wire(writer, name)
                    traffic(wire, self.said[name])
                    wire.end()
            finally:
                assert writer.close(60)
        self.file = folder / "settings.yaml"
        self.file.write_text("logging: {capture_redact_prompts: true}\n")
        self._made: dict[tuple[str, str], dict[str, bytes]] = {}

    def leaving(self, way: str, setting: str) -> dict[str, bytes]:
        """What leaves that way: by kind of traffic where it is a file for each, else all under ``""``."""
        if (way, setting) not in self._made:
            self._made[way, setting] = self._leave(way, setting)
        return self._made[way, setting]

    def _leave(self, way: str, setting: str) -> dict[str, bytes]:
        options = ["--config", str(self.file)] if setting == "file" else []
        with pytest.MonkeyPatch.context() as patch:
            if setting == "environment":
                patch.setenv("WIRE_CAPTURE_REDACT_PROMPTS", "true")
            if way == BUNDLE:
                return {name: self._export(way, [*options, "--flow", f"req_{name}"]) for name in TRAFFIC}
            if way == IMPORT:
                return {"": self._import(options)}
            return {"": self._export(way, options)}

    def _export(self, way: str, options: list[str]) -> bytes:
        out = self.folder / f"out-{secrets.token_hex(4)}"
        assert main(["export", "--to", way, "--no-index", str(self.plain), "-o", str(out), *options]) == 0
        if way != PARQUET:
            return out.read_bytes()
        duckdb = pytest.importorskip("duckdb")
        with duckdb.connect() as connection:
            return repr(connection.execute("SELECT * FROM read_parquet(?)", [str(out)]).fetchall()).encode()

    def _import(self, options: list[str]) -> bytes:
        carried = [
            {"eventName": "wirecap.record", "body": {"stringValue": line}}
            for line in self.plain.read_text().splitlines()
        ]
        document = {"resourceLogs": [{"scopeLogs": [{"logRecords": carried}]}]}
        telemetry, made = (self.folder / f"{name}-{secrets.token_hex(4)}" for name in ("otlp", "made"))
        telemetry.write_text(json.dumps(document))
        assert main(["import", str(telemetry), "-o", str(made), *options]) == 0
        return made.read_bytes()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return Recorded(tmp_path_factory.mktemp("recorded"))


def is_in(content: bytes, marker: str) -> bool:
    """Whether a marker stands there, as it is or in base64, at whatever alignment."""
    spelled = [base64.b64encode(b"\0" * before + marker.encode())[4 * (before > 0) : -4] for before in range(3)]
    return any(one in content for one in (marker.encode(), *spelled))


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("way", WAYS)
def test_no_way_out_tells_what_was_said_where_prompts_are_masked(recorded: Recorded, way: str, setting: str) -> None:
    leaving = recorded.leaving(way, setting)
    told = {
        (kind, part): is_in(leaving.get("", leaving.get(kind, b"")), marker)
        for kind, said in recorded.said.items()
        for part, marker in said.markers.items()
    }
    if setting == "off":  # else the test could pass with nothing of it ever there
        assert {place for place, is_told in told.items() if not is_told} == NOT_IN.get(way, set())
    else:
        assert {place for place, is_told in told.items() if is_told} == set()
        kept = leaving.get("", leaving.get("annotations", b""))
        assert (b"the red team" in kept) == (way != "har")


OWN = {"process", "pid", "seq", "imported"}
"""What numbers a record."""


def by_exchange(content: bytes) -> dict[str, list[dict[str, Any]]]:
    """The records of each exchange in their order, less what numbers them."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in map(json.loads, content.splitlines()):
        metadata = {name: value for name, value in record["metadata"].items() if name not in OWN}
        if "redactions" in metadata:  # the rules: an error that is told twice is counted once by the recorder
            metadata["redactions"] = set(metadata["redactions"])
        if not record["direction"].startswith("system_"):
            found.setdefault(metadata["exchange_id"], []).append({**record, "metadata": metadata})
    return found


@pytest.mark.parametrize("setting", SETTINGS[1:])
@pytest.mark.parametrize("kind", TRAFFIC)
def test_what_is_exported_is_what_the_recorder_writes_with_the_setting(
    recorded: Recorded, kind: str, setting: str
) -> None:
    exported = by_exchange(recorded.leaving("jsonl", setting)[""])[f"ex_{kind}"]
    assert exported == by_exchange(recorded.masked.read_bytes())[f"ex_{kind}"]


def test_records_about_the_capture_itself_are_exported_as_they_are(recorded: Recorded) -> None:
    def about(content: bytes) -> list[bytes]:
        return [line for line in content.splitlines() if b'"direction":"system_' in line]

    assert about(recorded.leaving("jsonl", "environment")[""]) == about(recorded.plain.read_bytes()) != []


def test_what_is_masked_is_exported_as_it_is(
    recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WIRE_CAPTURE_REDACT_PROMPTS", "true")
    out = tmp_path / "out"
    assert main(["export", "--to", "jsonl", "--no-index", str(recorded.masked), "-o", str(out)]) == 0
    assert out.read_bytes() == recorded.masked.read_bytes()


def exported(lines: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The records of these lines, exported with prompts masked."""
    capture, out = tmp_path / "capture.log", tmp_path / "out"
    capture.write_bytes(b"".join(line + b"\n" for line in lines))
    monkeypatch.setenv("WIRE_CAPTURE_REDACT_PROMPTS", "true")
    assert main(["export", "--to", "jsonl", "--no-index", str(capture), "-o", str(out)]) == 0
    return [json.loads(line) for line in out.read_bytes().splitlines()]


def lines_of(content: bytes, kind: str) -> list[bytes]:
    return [line for line in content.splitlines() if b'"exchange_id":"ex_%b"' % kind.encode() in line]


LIKE_STRUCTURE = '"id":"{}","type":"{}"}}'
"""What a text may say that is no structure where a reader begins within the text."""


def test_a_stream_whose_beginning_is_rotated_away_tells_nothing(
    recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Said()
    text = LIKE_STRUCTURE.format(said.word("id"), said.word("type"))
    chunks = [line for line in lines_of(recorded.plain.read_bytes(), "streamed_chat") if b'"stream_chunk"' in line][1:]
    record = json.loads(chunks[0]) | {"payload": "{" + text}
    lines = [json.dumps(record, separators=(",", ":")).encode(), *chunks[1:]]
    told = exported(lines, tmp_path, monkeypatch)
    assert [one["payload"] for one in told] == ["[REDACTED]", "", ""]
    assert [one["metadata"]["chunk_number"] for one in told] == [2, 3, 4]


def test_a_stream_that_nothing_waits_for_any_longer_tells_nothing_of_what_follows(recorded: Recorded) -> None:
    said = Said()
    pieces = [
        'data: {"choices":[{"delta":{"content":"',
        "{" + LIKE_STRUCTURE.format(said.word("id"), said.word("type")),
    ]
    streamed = [line for line in lines_of(recorded.plain.read_bytes(), "streamed_chat") if b'"stream_' in line]
    start, first, second = map(json.loads, streamed[:3])
    others = lines_of(recorded.plain.read_bytes(), "json_bodies")
    lines = [json.dumps(start), json.dumps(first | {"payload": pieces[0]}), json.dumps(second | {"payload": pieces[1]})]
    redactor = redactor_of(load_config({"capture_redact_prompts": True}, {}))
    told = list(
        Outgoing(redactor, most_held=1).records([line.encode() for line in lines[:2]] + others + [lines[2].encode()])
    )
    assert [record.payload for record in told if record.direction == "stream_chunk"][-1] == "[REDACTED]"
    assert not any(marker in repr(told) for marker in said.markers.values())


def test_what_other_tools_repeat_of_a_body_is_not_told(
    recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Said()
    body = json.loads(request(said("question")))
    raw = {"length": 99, "preview": json.dumps(body)[:90], "truncated": True}
    record = json.loads(lines_of(recorded.plain.read_bytes(), "json_bodies")[0])
    record["metadata"] = {"request_id": None, "method": "POST", "url": "/v1/chat/completions", "error": said("error")}
    record["payload"] = {"parsed": body, "raw": raw}
    (told,) = exported([json.dumps(record).encode()], tmp_path, monkeypatch)
    assert told["metadata"]["raw"] == {"length": 99, "preview": "[REDACTED]", "truncated": True}
    assert not any(marker in json.dumps(told) for marker in said.markers.values())
    assert told["payload"]["model"] == "gpt-5-mini"
