"""What may leave, for every kind of record, every way out and every setting of redaction.

Each kind of traffic says texts of several kinds: prompts, secrets that have a shape, that a name tells or that only a
setting knows, and structure. The same traffic is recorded with every setting, and once without any redaction; that
capture then leaves in every way with every setting. For each cell of the table it is asserted what must be masked, and
what must be kept. Besides, what is exported with prompts masked is what the recorder writes with that setting.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import secrets
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import INVALID_SPAN_CONTEXT

from otel_wirecap.capture.events import (
    ErrorInfo,
    ExchangeHead,
    RequestHead,
    ResponseHead,
    WebsocketClose,
    WebsocketMessage,
)
from otel_wirecap.capture.exchange import LiveExchange, LiveFlow
from otel_wirecap.capture.facts import ExchangeFacts
from otel_wirecap.capture.formats import FORMATS, JSONLines
from otel_wirecap.capture.record import CaptureRecord
from otel_wirecap.cli import main
from otel_wirecap.config import environment_variable, load_config
from otel_wirecap.errors import ConfigurationError
from otel_wirecap.messages import without_secrets
from otel_wirecap.reading.export import BUNDLE, KINDS, PARQUET
from otel_wirecap.storage.recording import gate_of
from otel_wirecap.storage.writer import CaptureWriter
from otel_wirecap.tracing.payloads import CarriedPayloads, Payloads
from otel_wirecap.tracing.span_identity import SpanIdentity

BEGAN_UNIX_NS, MS = 1_767_225_600_000_000_000, 1_000_000
JSON, SSE, NDJSON = (
    (b"content-type", kind) for kind in (b"application/json", b"text/event-stream", b"application/x-ndjson")
)
MAX_PAYLOAD = 4000
FIELD, BADGE, PATTERN = "plan_code", "x-badge", "acme"

# What a text is: said, and so a prompt; or a secret, by its shape, by the name of a header or parameter, by a setting
# (a value, a pattern, a field of JSON, a parameter of a field's name, a header); of a shape and allowed; structure.
PROMPT, SHAPE, NAMED, VALUE, MATCHING, IN_FIELD, PARAMETER, IN_HEADER, ALLOWED, KEPT = (
    "prompt", "shape", "named", "value", "matching", "field", "field's", "header", "allowed", "kept",
)  # fmt: skip


class Text(NamedTuple):
    """What stands somewhere in the traffic: of what kind it is, and whether it is said, so that it may be a prompt."""

    kind: str
    is_said: bool
    word: str


class Said:
    """The texts in one kind of traffic, made up anew, by where they stand and of what kind they are."""

    def __init__(self) -> None:
        self.texts: dict[tuple[str, str], Text] = {}

    @property
    def markers(self) -> dict[str, str]:
        """The prompts, by where they stand."""
        return {part: text.word for (part, kind), text in self.texts.items() if kind == PROMPT}

    def __call__(self, part: str) -> str:
        """A sentence with every kind of text that may stand in one; ``part`` says where in the traffic it stands."""
        shape, value, matching, allowed = (
            self.secret(part, kind, is_said=True) for kind in (SHAPE, VALUE, MATCHING, ALLOWED)
        )
        return f"our secret plan {self.word(part)} is ready: {shape} {value} {matching} {allowed}."

    def word(self, part: str) -> str:
        """A word, in which nothing looks like a key."""
        return self._word(part, PROMPT, is_said=True)

    def kept(self, part: str) -> str:
        """A word that is structure."""
        return self._word(part, KEPT, is_said=False)

    def secret(self, part: str, kind: str, *, is_said: bool = False) -> str:
        """A secret of a kind."""
        if kind in (SHAPE, ALLOWED):
            return "sk-proj-" + self._text(part, kind, is_said, secrets.token_hex(24))
        word = self._word(part, kind, is_said=is_said)
        return f"{PATTERN}-{word}" if kind == MATCHING else word

    def _word(self, part: str, kind: str, *, is_said: bool) -> str:
        return self._text(part, kind, is_said, "".join(secrets.choice("bdfghjkmpqvwxz") for _ in range(20)))

    def _text(self, part: str, kind: str, is_said: bool, new: str) -> str:  # as above
        return self.texts.setdefault((part, kind), Text(kind, is_said, new)).word


class Wire:
    """One exchange of one flow, driven as hooks drive it."""

    def __init__(self, name: str, writer: CaptureWriter | None = None, flow: LiveFlow | None = None) -> None:
        self.flow = flow or LiveFlow(f"req_{name}")
        self.now = 1_000_000 * MS
        self._writer = writer
        about = ExchangeHead(
            "backend", self.flow.id, 1, "0" * 32, "0" * 16, BEGAN_UNIX_NS, self.now, wants_end=True, wants_records=True
        )
        self.exchange = LiveExchange(f"ex_{name}", about, self.flow, self)

    def put(self, *event: Any) -> bool:
        return self._writer is None or self._writer.put(*event)

    def flow_gone(self, flow_id: str, /) -> None:
        if self._writer is not None:
            self._writer.flow_gone(flow_id)

    def failed(self, _exchange_id: str | None, error: Exception, /) -> None:
        raise error

    def ended_unrecorded(self, *_end: object) -> None:
        raise AssertionError("its end found no writer")

    def annotate(self, **annotations: str) -> None:
        self.flow.annotate(self.now, json.dumps(annotations).encode(), self)

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
    """With secrets that only a name tells: of a header, of a field."""
    named = (b"x-api-key", said.secret("key header", NAMED).encode())
    badge = (BADGE.encode(), said.secret("badge", IN_HEADER).encode())
    team = (b"x-team", said.kept("header").encode())
    field = {FIELD: said.secret("field", IN_FIELD, is_said=True)}
    wire.ask(request(said("question"), user="u-1", **field), JSON, named, badge, team)
    message = {"role": "assistant", "content": said("answer")}
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    name = said.kept("id")
    wire.answer(json.dumps({"id": name, "model": "gpt-5-mini-1", "choices": choices, "usage": usage}))


def streamed_chat(wire: Wire, said: Said) -> None:
    wire.ask(request(said("question"), stream=True), JSON)
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    last = {"id": "c-1", "model": "gpt-5-mini-1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    first, second = event(said("answer's beginning")), event(said("answer's end"))
    half = len(first) // 2
    end = f"data: {json.dumps(last | {'usage': usage})}\n\n: {said('comment')}\n\ndata: [DONE]\n\n"
    wire.answer(first[:half], first[half:] + second[:9], second[9:], end, headers=(SSE,))


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
    field, named = said.secret("form field", IN_FIELD, is_said=True), said.secret("form name", SHAPE, is_said=True)
    form = f"model=m-1&prompt={said.word('form')}&{FIELD}={field}&password={named}"
    wire.ask(form, (b"content-type", b"application/x-www-form-urlencoded"))
    part = f'--b\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n{said("part")}\r\n--b--\r\n'
    wire.answer(part, headers=((b"content-type", b"multipart/form-data; boundary=b"),))


def binary(wire: Wire, said: Said) -> None:
    kind = (b"content-type", b"application/octet-stream")
    wire.ask(b"\xff\xfe\xfd" + said("sent").encode() + b"\x00", kind)
    wire.answer(b"\xff\xfe\xfd" + said("received").encode() + b"\x00", headers=(kind,))


def truncated_bodies(wire: Wire, said: Said) -> None:
    wire.ask(request(said("question") + " and so on" * MAX_PAYLOAD), JSON)
    wire.answer(said("answer") + " and so on" * MAX_PAYLOAD, headers=((b"content-type", b"text/plain"),))


def cut_body(wire: Wire, said: Said) -> None:
    wire.ask("", method="GET")
    content = json.dumps({"id": "c-1", "content": said("answer") + " And so on."})[:-8]
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
    """With secrets in a path and in parameters, by shape and by name."""
    prose = f"a note on {said.word('path')}".replace(" ", "%20")
    named, field = (said.secret(f"{kind} parameter", kind, is_said=True) for kind in (NAMED, PARAMETER))
    query = f"q={said.word('query')}&alt={said.kept('alt')}&api_key={named}&{FIELD}={field}"
    path = f"/v1/notes/{prose}/{said.secret('path', SHAPE)}?{query}#{said.word('fragment')}"
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


def _rules() -> tuple[dict[str, Said], dict[str, dict[str, Any]]]:
    """What all traffic says, and the settings that know of it."""
    said = {name: Said() for name in TRAFFIC}
    for name, traffic in TRAFFIC.items():
        traffic(Wire(name), said[name])
    texts = [text for one in said.values() for text in one.texts.values()]
    rules = {
        "capture_redact_values": [text.word for text in texts if text.kind == VALUE],
        "capture_redact_fields": [FIELD],
        "capture_redact_headers": [BADGE],
        "capture_redact_patterns": f"plan={PATTERN}-[a-z]{{20}}",
        "capture_redact_allow": ["sk-proj-" + text.word for text in texts if text.kind == ALLOWED],
    }
    off = {"capture_redaction": "off", "capture_allow_secrets": "true"}
    prompts = {"capture_redact_prompts": "true"}
    by_name = {name.removeprefix("capture_redact_"): {name: value} for name, value in rules.items()}
    return said, {
        "nothing": off,
        "on": {},
        **by_name,
        "all rules": rules,
        "headers-only": {"capture_redaction": "headers-only", **rules},
        "off": {**off, **rules},
        "prompts": prompts,
        "prompts, in a file": prompts,
        "prompts and all rules": {**prompts, **rules},
        "prompts, secrets not": {**prompts, **off, **rules},
    }


SETTINGS = (
    "nothing", "on", "values", "fields", "headers", "patterns", "allow", "all rules", "headers-only", "off", "prompts",
    "prompts, in a file", "prompts and all rules", "prompts, secrets not",
)  # fmt: skip
IMPORT, EVENTS, LOGS, SPANS = "import", "events", "logs", "spans"
RECORDED = tuple(f"recorded as {name}" for name in FORMATS)
COLLECTED = (EVENTS, LOGS, SPANS)
WAYS = (*RECORDED, *COLLECTED, *KINDS, IMPORT)


def masked_kinds(settings: Mapping[str, Any], *, is_on: bool) -> set[str]:
    """The kinds of texts that these settings mask; ``is_on``: by a way out that always masks secrets."""
    mode = "on" if is_on else settings.get("capture_redaction", "on")
    if mode == "off":
        return set()
    known = {
        PARAMETER: "fields", IN_HEADER: "headers", VALUE: "values", MATCHING: "patterns", IN_FIELD: "fields",
    }  # fmt: skip
    masked = {NAMED, *(kind for kind, name in known.items() if f"capture_redact_{name}" in settings)}
    if mode == "headers-only":
        return masked & {NAMED, PARAMETER, IN_HEADER}
    return masked | {SHAPE} | (set() if "capture_redact_allow" in settings else {ALLOWED})


# What a way out has no place for.
NOT_IN: dict[str, Callable[[str, str], bool]] = {
    "har": lambda kind, part: (kind, part) in {("headers", "request header"), ("websocket", "close reason")},
}
# The only parts that spans and metrics are told of, as attributes.
ON_SPANS = {
    ("urls", "path"), ("urls", "query"), ("urls", "fragment"), ("urls", "alt"), ("urls", "named parameter"),
    ("urls", "field's parameter"), ("error", "message"), ("error_in_stream", "message"), ("names", "model"),
    ("json_bodies", "id"),
}  # fmt: skip


class Collected:
    """What collectors get of exchanges: of each its facts, and its records as span events and as log records."""

    def __init__(self, path: Path) -> None:
        self.facts: list[ExchangeFacts] = []
        self._open: dict[str, tuple[SpanIdentity, CarriedPayloads]] = {}
        self._spans, self._logs = InMemorySpanExporter(), InMemoryLogRecordExporter()
        self._tracing, self._logging = TracerProvider(shutdown_on_exit=False), LoggerProvider(shutdown_on_exit=False)
        self._tracing.add_span_processor(SimpleSpanProcessor(self._spans))
        self._logging.add_log_record_processor(SimpleLogRecordProcessor(self._logs))
        at_once = cast("Any", SimpleNamespace(put=lambda emit, _size: emit()))
        self._payloads = Payloads("both", str(path), self._logging, at_once)

    def ended(self, _exchange_id: str, _now_ns: int, facts: ExchangeFacts) -> None:
        self.facts.append(facts)

    def record(self, exchange_id: str, record: CaptureRecord) -> None:
        span = self._open.get(exchange_id)
        if span is None:
            inner = self._tracing.get_tracer("t").start_span("POST")
            identity = SpanIdentity(inner, INVALID_SPAN_CONTEXT, "backend", "POST")
            span = self._open[exchange_id] = identity, CarriedPayloads()
        self._payloads.send(*span, record)

    def told(self) -> dict[str, bytes]:
        for span, _carried in self._open.values():
            span.inner.end()
        events = [event for span in self._spans.get_finished_spans() for event in span.events]
        carried = [dict(event.attributes or {}) for event in events]
        logged = [str(data.log_record.body) for data in self._logs.get_finished_logs()]
        self._tracing.shutdown()
        self._logging.shutdown()
        return {
            EVENTS: json.dumps(carried).encode(),
            LOGS: "\n".join(logged).encode(),
            SPANS: "\n".join(map(repr, map(dataclasses.asdict, self.facts))).encode(),
        }


class Recorded:
    """The traffic in captures, and on its ways out of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said, self.settings = _rules()
        self._made: dict[tuple[str, str], bytes] = {}
        self.plain, self.masked = (self._record("jsonl", setting) for setting in ("nothing", "prompts"))
        self._one_flow = self._record("jsonl", "nothing", flow=LiveFlow("req_all"))

    def masks(self, way: str, setting: str, text: Text) -> bool:
        """Whether a text must not leave that way with these settings; it must in all other cases."""
        settings = self.settings[setting]
        is_on = way in (*KINDS, SPANS)
        return text.kind in masked_kinds(settings, is_on=is_on) or (
            text.is_said and "capture_redact_prompts" in settings
        )

    def leaving(self, way: str, setting: str) -> bytes:
        """All that leaves that way."""
        if (way, setting) not in self._made:
            if way in RECORDED:
                self._made[way, setting] = self._record(way.removeprefix("recorded as "), setting).read_bytes()
            elif way in COLLECTED:
                self._collect(setting)
            else:
                with pytest.MonkeyPatch.context() as patch:
                    options = self.give(patch, setting)
                    leave = self._import(options) if way == IMPORT else self._export(way, options)
                    self._made[way, setting] = leave
        return self._made[way, setting]

    def give(self, patch: pytest.MonkeyPatch, setting: str) -> list[str]:
        """Gives a command the settings, by its environment or as options."""
        settings = self.settings[setting]
        if setting.endswith("in a file"):
            file = self.folder / "settings.yaml"
            file.write_text(json.dumps({"logging": settings}))  # JSON is YAML
            return ["--config", str(file)]
        patch.setenv(environment_variable("capture_writer"), "thread")
        for name, value in settings.items():
            patch.setenv(environment_variable(name), value if isinstance(value, str) else ",".join(value))
        return []

    def _record(self, form: str, setting: str, flow: LiveFlow | None = None, told: Collected | None = None) -> Path:
        path = self.folder / f"{form}-{secrets.token_hex(4)}" / "capture.log"
        path.parent.mkdir()
        settings = {
            **self.settings[setting], "capture_max_payload_bytes": MAX_PAYLOAD, "capture_format": form,
            "capture_writer": "thread",  # which starts in no time
        }  # fmt: skip
        writer = CaptureWriter(load_config({"capture_file": path, **settings}, {}), str(path))
        if told is not None:
            writer.observe_exchanges(told)
        writer.open()
        try:
            for name, traffic in TRAFFIC.items():
                wire = Wire(name, writer, flow)
                traffic(wire, self.said[name])
                wire.end()
        finally:
            assert writer.close(60)
        return path

    def _collect(self, setting: str) -> None:
        told = Collected(self.plain)
        self._record("jsonl", setting, told=told)
        assert len(told.facts) == len(TRAFFIC)
        self._made |= {(way, setting): content for way, content in told.told().items()}

    def _export(self, way: str, options: list[str]) -> bytes:
        out = self.folder / f"out-{secrets.token_hex(4)}"
        capture = self._one_flow if way == BUNDLE else self.plain
        chosen = ["--flow", "req_all"] if way == BUNDLE else []
        assert main(["export", "--to", way, "--no-index", str(capture), "-o", str(out), *options, *chosen]) == 0
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


def is_in(content: bytes, word: str) -> bool:
    """Whether a word stands there, as it is or in base64, at whatever alignment."""
    spelled = [base64.b64encode(b"\0" * before + word.encode())[4 * (before > 0) : -4] for before in range(3)]
    return any(one in content for one in (word.encode(), *spelled))


def leaks(content: bytes, word: str) -> bool:
    """Whether half of a word stands there."""
    half = len(word) // 2
    return is_in(content, word[:half]) or is_in(content, word[half:])


def places(recorded: Recorded) -> Iterator[tuple[str, str, Text]]:
    """The kind of traffic, the part and the text of everything that is said."""
    for kind, said in recorded.said.items():
        for (part, _), text in said.texts.items():
            yield kind, part, text


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.sampled(31, rest="thorough")
def test_what_the_settings_mask_leaves_in_no_way_and_all_else_does(recorded: Recorded, way: str, setting: str) -> None:
    if way in (EVENTS, LOGS) and recorded.settings[setting].get("capture_redaction", "on") != "on":
        with pytest.raises(ConfigurationError, match="capture_span_payloads: off"):
            load_config({**recorded.settings[setting], "capture_span_payloads": way}, {})
        return
    leaving = recorded.leaving(way, setting)
    leaving += re.sub(rb"\n[ \t]*", b"", leaving)  # base64 may stand on several lines
    wrong = []
    for kind, part, text in places(recorded):
        has_place = (kind, part) in ON_SPANS if way == SPANS else not NOT_IN.get(way, lambda *_: False)(kind, part)
        must_go = recorded.masks(way, setting, text)
        if way == SPANS and (kind, part) == ("plain_text", "answer"):
            continue  # JSON that its type calls a text: masked as a whole, but its id is one
        if must_go and leaks(leaving, text.word):
            wrong.append(("left", kind, part, text.kind))
        elif not must_go and has_place and not is_in(leaving, text.word):
            wrong.append(("is missing", kind, part, text.kind))
    assert wrong == []
    assert (b"the red team" in leaving) == (way != "har")


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_scan_tells_what_is_there_and_nothing_of_it(
    recorded: Recorded, setting: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    options = recorded.give(monkeypatch, setting)
    code = main(["scan", "--json", str(recorded.plain), *options])
    told, said = capfd.readouterr()
    assert not any(leaks((told + said).encode(), text.word) for _, _, text in places(recorded))
    assert "the red team" not in told
    settings = recorded.settings[setting]
    masked = masked_kinds(settings, is_on=False)
    rules = {json.loads(line)["rule"] for line in told.splitlines()}
    found = {SHAPE: "openai", VALUE: "known", MATCHING: "plan", IN_FIELD: "field"}
    assert {rule for rule in rules if rule in found.values()} == {found[kind] for kind in masked if kind in found}
    assert "header" in rules  # by name, in every mode
    assert code == 1


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_message_of_a_log_or_an_error_has_no_secret_that_it_can_know(recorded: Recorded, setting: str) -> None:
    values = recorded.settings[setting].get("capture_redact_values", [])
    environ = {environment_variable("capture_redact_values"): ",".join(values)}
    texts = [text for _, _, text in places(recorded)]
    quoted = [f"sk-proj-{text.word}" if text.kind in (SHAPE, ALLOWED) else text.word for text in texts]
    told = without_secrets(f"ValueError: cannot parse {quoted}", environ)
    for text in texts:
        assert (text.word in told) is not (text.kind in {SHAPE, ALLOWED} or text.word in values)


OWN = {"process", "pid", "seq", "imported"}
"""What numbers a record."""


def by_exchange(content: bytes) -> dict[str, list[dict[str, Any]]]:
    """The records of each exchange in their order, less what numbers them."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in map(json.loads, content.splitlines()):
        metadata = {name: value for name, value in record["metadata"].items() if name not in OWN}
        if "credential" in metadata:  # its fingerprint is another in another file
            metadata["credential"] = len(metadata["credential"])
        if "redactions" in metadata:  # the rules: an error that is told twice is counted once by the recorder
            metadata["redactions"] = set() if "assembled" in metadata else set(metadata["redactions"])
        if not record["direction"].startswith("system_"):
            found.setdefault(metadata["exchange_id"], []).append({**record, "metadata": metadata})
    return found


@pytest.mark.parametrize("setting", ["prompts", "prompts, in a file"])
@pytest.mark.parametrize("kind", TRAFFIC)
@pytest.mark.sampled(9, rest="thorough")
def test_what_is_exported_is_what_the_recorder_writes_with_the_setting(
    recorded: Recorded, kind: str, setting: str
) -> None:
    exported = by_exchange(recorded.leaving("jsonl", setting))[f"ex_{kind}"]
    assert exported == by_exchange(recorded.masked.read_bytes())[f"ex_{kind}"]


def test_records_about_the_capture_itself_are_exported_as_they_are(recorded: Recorded) -> None:
    def about(content: bytes) -> list[bytes]:
        return [line for line in content.splitlines() if b'"direction":"system_' in line]

    assert about(recorded.leaving("jsonl", "prompts")) == about(recorded.plain.read_bytes()) != []


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
    changed = [start, first | {"payload": pieces[0]}, second | {"payload": pieces[1]}]
    lines = [json.dumps(record, separators=(",", ":")) for record in changed]
    gate = gate_of(load_config({"capture_redact_prompts": True}, {}))
    redaction, form, told = gate.records(max_held_bytes=max(map(len, lines))), JSONLines(), []
    for line in [*(line.encode() for line in lines[:2]), *others, lines[2].encode()]:
        told += redaction.feed(form.decode(line), len(line))
    told += redaction.close()
    assert [record.payload for record in told if record.direction == "stream_chunk"][-1] == ""
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


# -- what other tools have in place of what the schema says ------------------------------------------------------------


def nested(said: Said, part: str) -> dict[str, Any]:
    """What may stand in place of a text, with names and values that look like structure to whoever knows of none."""
    return {"id": said.word(part), "type": [said.word(f"{part}, in a list"), {"model": said.word(f"{part}, deep")}]}


MISPLACED = (
    "attempt", "client_host", "content_encoding", "duration_ms", "error", "headers", "http_version", "imported",
    "method", "reason", "request_headers", "status_code", "truncated", "url", "user_agent", "websocket",
)  # fmt: skip


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("name", MISPLACED)
def test_no_string_leaves_in_place_of_what_has_another_type(
    recorded: Recorded, name: str, depth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Said()
    record = json.loads(lines_of(recorded.plain.read_bytes(), "json_bodies")[0])
    value: Any = nested(said, name)
    for _ in range(depth):
        value = [value]
    record["metadata"][name] = value
    (told,) = exported([json.dumps(record).encode()], tmp_path, monkeypatch)
    assert not any(leaks(json.dumps(told).encode(), word) for word in said.markers.values())


@pytest.mark.parametrize("name", ["error", "websocket"])
def test_no_string_leaves_in_a_member_of_another_type_than_the_schema_gives_it(
    recorded: Recorded, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Said()
    record = json.loads(lines_of(recorded.plain.read_bytes(), "json_bodies")[0])
    record["metadata"][name] = {
        "type": nested(said, "type"), "message": [nested(said, "message")], "close_reason": nested(said, "reason"),
        "id": said.word("id"), "close_code": 1000,
    }  # fmt: skip
    (told,) = exported([json.dumps(record).encode()], tmp_path, monkeypatch)
    assert not any(leaks(json.dumps(told).encode(), word) for word in said.markers.values())
    assert told["metadata"][name]["close_code"] == 1000


FIELDS_OF_RECORDS = ("source", "destination", "session_id", "backend", "model", "key_name")


@pytest.mark.parametrize("name", FIELDS_OF_RECORDS)
def test_a_field_of_another_type_holds_neither_prompts_nor_secrets(
    recorded: Recorded, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Said()
    record = json.loads(lines_of(recorded.plain.read_bytes(), "json_bodies")[0])
    record[name] = {"id": said.word("id"), "text": said.secret("text", SHAPE)}
    line = json.dumps(record).encode()
    with monkeypatch.context() as patch:
        (told,) = exported([line], tmp_path, patch)
        assert not any(leaks(json.dumps(told).encode(), text.word) for text in said.texts.values())
    out = tmp_path / "without secrets"
    (tmp_path / "capture.log").write_bytes(line + b"\n")
    assert main(["export", "--to", "jsonl", "--no-index", str(tmp_path / "capture.log"), "-o", str(out)]) == 0
    assert json.loads(out.read_bytes())[name] == {"id": said.word("id"), "text": "[REDACTED]"}


def test_headers_that_are_an_object_are_masked_by_their_names(recorded: Recorded, tmp_path: Path) -> None:
    said = Said()
    record = json.loads(lines_of(recorded.plain.read_bytes(), "json_bodies")[0])
    secret = said.secret("key", NAMED)
    record["metadata"]["headers"] = {"x-api-key": secret, "cookie": ["a", "b"], "x-team": "red"}
    record["payload"] = {"text": f"it is {secret}."}  # a credential, and so secret wherever it stands
    (tmp_path / "capture.log").write_text(json.dumps(record) + "\n")
    out = tmp_path / "out"
    assert main(["export", "--to", "jsonl", "--no-index", str(tmp_path / "capture.log"), "-o", str(out)]) == 0
    told = json.loads(out.read_bytes())
    assert told["metadata"]["headers"] == {"x-api-key": "[REDACTED]", "cookie": "[REDACTED]", "x-team": "red"}
    assert told["payload"] == {"text": "it is [REDACTED]."}


def test_after_what_cannot_be_redacted_the_rest_of_a_stream_is_withheld(recorded: Recorded, tmp_path: Path) -> None:
    """The beginning of a secret may stand in what was withheld; nobody would know the end of it."""
    lines = lines_of(recorded.plain.read_bytes(), "streamed_chat")
    start, first, second = [json.loads(line) for line in lines if b'"stream_' in line][:3]
    key = "sk-proj-" + secrets.token_hex(24)
    half = len(key) // 2
    # Of a member that is there twice it cannot be told which one a secret was in.
    twice = f'data: {{"a": "{key} x", "a": "{key} x"}}\n\n'
    first["payload"] = f"{twice}data: {json.dumps({'text': key[:half]})}\n\n"
    second["payload"] = f"data: {json.dumps({'text': key[half:]})}\n\n"
    capture, out = tmp_path / "capture.log", tmp_path / "out"
    capture.write_text("".join(json.dumps(record) + "\n" for record in (start, first, second)))
    assert main(["export", "--to", "jsonl", "--no-index", str(capture), "-o", str(out)]) == 0
    chunks = [json.loads(line) for line in out.read_bytes().splitlines()][1:]
    assert [record["payload"] for record in chunks] == [None] * 2
    assert [record["metadata"]["incomplete"] for record in chunks] == ["withheld"] * 2


def test_the_fingerprint_of_a_credential_is_no_secret(
    recorded: Recorded, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is random and stands under a secret's name; without it nobody can tell whose requests are whose."""
    lines = lines_of(recorded.leaving("recorded as jsonl", "all rules"), "json_bodies")
    fingerprints = [json.loads(line)["metadata"].get("credential") for line in lines]
    assert fingerprints[0] is not None
    capture, out = tmp_path / "capture.log", tmp_path / "out"
    capture.write_bytes(lines[0] + b"\n")
    assert main(["export", "--to", "jsonl", "--no-index", str(capture), "-o", str(out)]) == 0
    assert json.loads(out.read_bytes())["metadata"]["credential"] == fingerprints[0]
    capfd.readouterr()
    main(["scan", "--json", str(capture)])
    assert "field" not in {json.loads(line)["rule"] for line in capfd.readouterr().out.splitlines()}


def test_what_another_tool_has_under_the_name_of_the_fingerprint_is_a_secret(
    recorded: Recorded, tmp_path: Path
) -> None:
    secret = "a2" + "".join(secrets.choice("abcdefghijkmnpq234567") for _ in range(14))
    record = json.loads(lines_of(recorded.plain.read_bytes(), "json_bodies")[0])
    record["metadata"] = {"method": "POST", "credential": secret}
    capture, out = tmp_path / "capture.log", tmp_path / "out"
    capture.write_text(json.dumps(record) + "\n")
    assert main(["export", "--to", "jsonl", "--no-index", str(capture), "-o", str(out)]) == 0
    assert json.loads(out.read_bytes())["metadata"]["credential"] == "[REDACTED]"


NO_HEADERS = ([["x"]], [1, 2], [None], [[["a"], {}]], [[]], {"a": [1]}, "x", 5)


@pytest.mark.parametrize("direction", ["outbound_request", "stream_start", "inbound_response", "websocket_start"])
@pytest.mark.parametrize("way", ["export", "import"])
def test_a_record_whose_headers_are_none_lets_no_secret_leave(
    way: str, direction: str, recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Said()
    record = json.loads(lines_of(recorded.plain.read_bytes(), "json_bodies")[0])
    lines = []
    for number, headers in enumerate(NO_HEADERS):
        text = f"it is {said.secret(f'{number}', SHAPE)}"
        facts = {**record["metadata"], "headers": headers, "seq": number}
        other = {"direction": direction, "content_type": "text", "payload": text, "metadata": facts}
        lines += [
            json.dumps({**record, **other}),
            json.dumps({**record, "metadata": {**record["metadata"], "seq": number + 100}}),
        ]
    capture, telemetry, out = (tmp_path / name for name in ("capture.log", "otlp.json", "out"))
    if way == "export":
        capture.write_text("\n".join(lines) + "\n")
        assert main(["export", "--to", "jsonl", "--no-index", str(capture), "-o", str(out)]) == 0
    else:
        monkeypatch.setenv(environment_variable("capture_writer"), "thread")
        carried = [{"eventName": "wirecap.record", "body": {"stringValue": line}} for line in lines]
        telemetry.write_text(json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": carried}]}]}))
        assert main(["import", str(telemetry), "-o", str(out)]) == 0
    left = out.read_bytes()
    assert left.count(f'"direction":"{direction}"'.encode()) >= len(NO_HEADERS)
    assert not any(leaks(left, text.word) for text in said.texts.values())
