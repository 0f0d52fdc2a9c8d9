"""The captures in ``pinned/``, the commands that read them, and what a command answers: see ``make_pinned_capture``."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from otel_wirecap.cli import main

PINNED = Path(__file__).with_name("pinned")
ANSWERS = PINNED / "answers.jsonl.xz"

CAPTURES = ("gateway.log", "gateway.cbor", "gateway.structured")
_SESSION = "session-of-pins"
_GROUPINGS = ("session", "backend", "model", "error", "key_name")
_FLOWS = [f"req_a1b2{number:016x}" for number in (1, 4, 7, 10, 13, 19, 21, 23, 25, 27, 29, 31, 33, 35, 37, 39, 41)]
_FLOWS += ["req_b1b20000000000000001", "req_b1b20000000000000004", "req_elsewhere"]
_QUERIES = (
    "SELECT direction, count(*) AS number FROM records GROUP BY ALL ORDER BY ALL",
    "SELECT * FROM flows ORDER BY request_id",
    "SELECT * FROM exchanges ORDER BY exchange_id",
    "SELECT exchange_id, chunk_number, chunk_bytes, gap_ms, text FROM chunks ORDER BY ALL",
    "SELECT payload->>'$.reason' AS reason, payload FROM records WHERE direction = 'system_gap' ORDER BY moment",
)


def _commands() -> list[list[str]]:
    made: list[list[str]] = []
    for file in CAPTURES:
        made += [
            ["ls", "--json", file],
            ["stats", "--json", file],
            ["tail", "--json", "-n", "1000", file],
            ["tail", "--json", "--flows", "-n", "1000", file],
            ["verify", "--json", file],
            ["scan", "--json", file],
            ["cache", "--json", _SESSION, file],
            ["timeline", "--json", _SESSION, file],
            *(["export", "--to", kind, file] for kind in ("jsonl", "har")),
        ]
        made += [["sql", "--json", query, file] for query in _QUERIES]
    main_capture = CAPTURES[0]
    made += [["ls", "--json", "--by", by, main_capture] for by in _GROUPINGS]
    made += [["stats", "--json", "--by", by, main_capture] for by in _GROUPINGS]
    made += [
        ["ls", "--json", *choice, main_capture]
        for choice in (
            ["--failed"], ["--status", "429"], ["--slow", "1s"], ["--grep", "gap"], ["--direction", "websocket_end"],
            ["--since", "2025-11-03T09:00:09", "--until", "2025-11-03T09:00:12"],
        )
    ]  # fmt: skip
    for flow in _FLOWS:
        made += [
            ["show", "--json", flow, main_capture],
            ["show", "--raw", "response", flow, main_capture],
            ["timeline", "--json", flow, main_capture],
            ["diff", "--json", flow, main_capture],
        ]
    made += [["export", "--to", kind, main_capture] for kind in ("structured", "text")]
    made.append(["export", "--to", "bundle", "--flow", _FLOWS[4], main_capture])
    made.append(["ls", "--json", "gateway.text"])
    made.append(["scan", "--json", "gateway.text"])
    made.append(["import", "otlp.json", "-o", "imported.log"])
    return made


COMMANDS = _commands()


@dataclasses.dataclass
class Answer:
    """What a command answered: its exit code, and its output as JSON values, a line each, or else as lines."""

    command: list[str]
    code: int
    lines: list[Any]


def answer_of(command: list[str], folder: Path) -> Answer:
    """Runs a command over copies of the captures in ``folder``; what it says for people is left out."""
    for file in PINNED.iterdir():
        shutil.copy(file, folder)
    output = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WIRE_CAPTURE", "OTEL_"))}
    kept["XDG_CACHE_HOME"] = str(folder / "cache")
    with (
        mock.patch.dict(os.environ, kept, clear=True),
        contextlib.chdir(folder),
        mock.patch("otel_wirecap.reading.export.__version__", "0.1.0"),
        mock.patch.object(sys, "stdout", output),
        mock.patch.object(sys, "stderr", io.StringIO()),
    ):
        code = main(command)
    data = output.buffer.getvalue() if isinstance(output.buffer, io.BytesIO) else b""
    if command[0] == "import":
        data = _imported(folder / command[-1])
    text = data.decode("utf-8", "backslashreplace")
    whole = _value(text)
    return Answer(command, code, [whole] if whole is not text else [_value(line) for line in text.splitlines()])


def _value(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return line


def _imported(path: Path) -> bytes:
    """The traffic in a capture that ``import`` made, without what differs each time."""
    records = [json.loads(line) for line in path.read_bytes().splitlines()]
    path.unlink()
    for record in records:
        for name in ("process", "pid", "seq"):
            record["metadata"].pop(name)
    return b"".join(
        json.dumps(record).encode() + b"\n" for record in records if not record["direction"].startswith("system_st")
    )
