"""Puts the corpus through the recorder, and looks for what is left of the secrets in the lines it would write."""

from __future__ import annotations

import base64
import json
import random
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from ahocorasick_rs import AhoCorasick
from harmless_corpus import controls
from secrets_corpus import AWS, Case, Control, cases, frames, known_values

from otel_wirecap.capture.events import Event, ExchangeHead, RequestHead, ResponseHead
from otel_wirecap.capture.exchange import LiveExchange, LiveFlow
from otel_wirecap.capture.formats import JSONLines
from otel_wirecap.config import load_config
from otel_wirecap.storage.recording import ProcessRecording

DECODED_VIEWS: Final = True
"""Whether secrets with a shape are looked for in base64 that decodes to text."""

LEAK: Final = 8
"""Characters of a secret in a row that are a leak."""

PUBLIC: Final = re.compile(base64.b64encode(b"OpenAI").decode() + "|-api-key")
"""Words in keys that are no secret, and may be written for another reason: what every key of OpenAI's has in its
middle is the base64 of its name, which binary bodies with that name have, too; Bedrock's begin like ``x-api-key``."""

NS: Final = 1_000_000_000
_ESCAPE: Final = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.))", re.DOTALL)
_LETTERS: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]{12,}")
_HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2}){8,}")


class Recorded:
    """A recorder that is fed one exchange at a time.

    Args:
        known: what it is told to mask.
    """

    def __init__(self, known: Iterable[str]) -> None:
        self._form = JSONLines()
        self._lines: list[bytes] = []
        self._events: list[Event] = []
        self._failures: list[Exception] = []
        config = load_config({"capture_file": "unused", "capture_redact_values": list(known)}, {})
        self._recorder = ProcessRecording(
            config,
            "/unused",
            write=lambda record: self._lines.append(self._form.encode(record)),
            write_run=lambda run: self._lines.extend(map(self._form.encode, run.records())),
            on_failure=lambda _exchange, error: self._failures.append(error),
        ).recorder
        self._count = 0

    def put(self, *event: Any) -> bool:
        self._events.append(event)
        return True

    def flow_gone(self, flow_id: str) -> None:
        pass

    def ended_unrecorded(self, *end: Any) -> None:
        pass

    def failed(self, _exchange_id: str | None, error: Exception) -> None:
        self._failures.append(error)

    def lines(self, case: Case | Control) -> list[bytes]:
        """What is written of an exchange."""
        self._count += 1
        flow = LiveFlow(f"req_{self._count}")
        about = ExchangeHead("backend", flow.id, 1, "0" * 32, "0" * 16, time.time_ns(), NS)
        exchange = LiveExchange(f"ex_{self._count}", about, flow, self)
        exchange.begin(RequestHead("POST", case.url, case.request_headers, body=case.request))
        exchange.response(2 * NS, ResponseHead(200, None, case.response_headers))
        for number, piece in enumerate(case.response):
            exchange.chunk(3 * NS + number, piece)
        exchange.end(4 * NS, "complete")
        for event in self._events:
            self._recorder.feed(event)
        self._events.clear()
        self._recorder.tick(6 * NS, everything=True)
        assert not self._failures, self._failures
        lines, self._lines = self._lines, []
        return lines


def _unescaped(text: str) -> str:
    def letter(escape: re.Match[str]) -> str:
        return chr(int(escape[1], 16)) if escape[1] else _LETTERS.get(escape[2], escape[2])

    return _ESCAPE.sub(letter, text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def chunks(lines: Iterable[dict[str, Any]]) -> bytes:
    """The bytes of a stream that were written."""
    return b"".join(payload_bytes(record) for record in lines if record["direction"].endswith("stream_chunk"))


def payload_bytes(record: dict[str, Any]) -> bytes:
    payload = record["payload"]
    return base64.b64decode(payload["data"]) if record["content_type"] == "bytes" else (payload or "").encode()


def joined_texts(documents: Iterable[Any]) -> list[str]:
    """The texts that a reader of a stream puts together: the strings at one path, for each index."""
    found: dict[tuple[object, ...], list[str]] = defaultdict(list)

    def collect(node: Any, key: tuple[object, ...]) -> None:
        if isinstance(node, dict):
            key = (*key, *(node[name] for name in ("index", "output_index", "contentBlockIndex") if name in node))
            for name, value in node.items():
                collect(value, (*key, name))
        elif isinstance(node, list):
            for value in node:
                collect(value, key)
        elif isinstance(node, str):
            found[key].append(node)

    for document in documents:
        collect(document, ())
    return ["".join(texts) for texts in found.values()]


def _documents(stream: bytes, content_type: bytes) -> Iterator[Any]:
    if content_type == AWS:
        yield from map(json.loads, frames(stream))
        return
    text = stream.decode()
    if "data:" not in text:
        yield from (json.loads(line) for line in text.splitlines() if line.strip())
        return
    for event in re.split(r"\r?\n\r?\n", text):
        data = "\n".join(line[5:] for line in event.splitlines() if line.startswith("data:"))
        if data.strip() not in ("", "[DONE]"):
            yield json.loads(data)


def views(case: Case, lines: list[bytes]) -> list[str]:
    """All readings of what was written: as it stands, with its escapes read, put together, and decoded."""
    records = [json.loads(line) for line in lines]
    found = [b"\n".join(lines).decode()]
    stream = chunks(records)
    if stream:
        found.append(stream.decode("utf-8", "replace"))
        found += joined_texts(_documents(stream, case.response_headers[0][1].partition(b";")[0]))
    for record in records:
        if record["content_type"] == "bytes":
            found.append(base64.b64decode(record["payload"]["data"]).decode("utf-8", "replace"))
    read = [found[0], *found[2:]]
    for _ in range(4):
        read = [_unescaped(text) for text in read if "\\" in text]
        found += read
    found += [unquote(text) for text in found if "%" in text]
    if case.encoding.startswith("base64"):
        found += [_decoded(part) for text in found for part in _BASE64.findall(text)]
    if case.encoding == "hex":
        found += [bytes.fromhex(part).decode("utf-8", "replace") for text in found for part in _HEX.findall(text)]
    return found


def _decoded(part: str) -> str:
    usual = part.replace("-", "+").replace("_", "/")
    texts = []
    for begin in range(4):
        whole = usual[begin:][: len(usual[begin:]) // 4 * 4]
        texts.append(base64.b64decode(whole).decode("utf-8", "replace"))
    return "\0".join(texts)


def leak(case: Case, lines: list[bytes]) -> str | None:
    """A piece of the secret that was written."""
    parts = PUBLIC.split(case.secret.value)
    pieces = {part[at : at + LEAK] for part in parts for at in range(len(part) - LEAK + 1)} or {case.secret.value}
    search = AhoCorasick(sorted(pieces))
    return next((piece for view in views(case, lines) for piece in search.find_matches_as_strings(view)), None)


class Cell(NamedTuple):
    """What became of the cases of one cell."""

    cases: list[Case]
    leaks: list[tuple[Case, list[bytes], str]]

    @property
    def recall(self) -> float:
        return 1 - len(self.leaks) / len(self.cases)


def measured(seed: int, per_cell: int, *, decoded_views: bool = DECODED_VIEWS) -> dict[tuple[str, str, str, str], Cell]:
    """Every cell of the corpus of a seed."""
    rng = random.Random(seed)
    known = known_values(rng, 3)
    recorded = Recorded({secret.value for secret in known})
    cells: dict[tuple[str, str, str, str], Cell] = defaultdict(lambda: Cell([], []))
    for case in cases(rng, known, per_cell, decoded_views=decoded_views):
        lines = recorded.lines(case)
        cell = cells[case.cell]
        cell.cases.append(case)
        piece = leak(case, lines)
        if piece is not None:
            cell.leaks.append((case, lines, piece))
    return cells


def false_alarms(seed: int, per_kind: int) -> tuple[int, list[tuple[Control, list[bytes]]]]:
    """How many harmless exchanges there were, and those that were changed."""
    rng = random.Random(seed)
    recorded = Recorded(secret.value for secret in known_values(rng, 3))
    count, changed = 0, []
    for control in controls(rng, per_kind):
        count += 1
        lines = recorded.lines(control)
        if not is_unchanged(control, lines):
            changed.append((control, lines))
    return count, changed


def is_unchanged(control: Control, lines: list[bytes]) -> bool:
    records = [json.loads(line) for line in lines]
    if any("redactions" in record["metadata"] for record in records):
        return False
    if records[0]["payload"] != json.loads(control.request):
        return False
    answer = b"".join(control.response)
    if any(record["direction"] == "stream_chunk" for record in records):
        return chunks(records) == answer
    payload = records[1]["payload"]
    return bool(payload == (json.loads(answer) if records[1]["content_type"] == "json" else answer.decode()))


def table(cells: dict[tuple[str, str, str, str], Cell]) -> str:
    """A row a cell."""
    rows = ["| detector | carrier | encoding | chunking | cases | found |", "|---|---|---|---|---|---|"]
    rows += [f"| {' | '.join(name)} | {len(cell.cases)} | {cell.recall:.1%} |" for name, cell in sorted(cells.items())]
    for detector in ("known", "shape"):
        mine = [cell for name, cell in cells.items() if name[0] == detector]
        count, leaks = sum(len(cell.cases) for cell in mine), sum(len(cell.leaks) for cell in mine)
        rows.append(f"| {detector} | all | all | all | {count} | {1 - leaks / count:.2%} |")
    return "\n".join(rows)
