"""``otel-wirecap sql``, on captures of every kind, beside what our own reader and the other commands say."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from otel_wirecap.capture.formats import CBOR, JSONLines, Structured
from otel_wirecap.reading.captures import Captures

pytest.importorskip("duckdb", reason="the extra sql is not installed")

COMMAND = [sys.executable, "-m", "otel_wirecap"]


@pytest.fixture
def made(demo_capture) -> Path:
    """The demonstration's capture."""
    return demo_capture


def sql(directory: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    environ = os.environ | {"XDG_CACHE_HOME": str(directory / "cache"), "PYTHONUTF8": "1"}
    return subprocess.run(
        [*COMMAND, "sql", *arguments], cwd=directory, env=environ, input=stdin, capture_output=True, timeout=120
    )


def answer(directory: Path, query: str, *files: str, stdin: bytes = b"") -> list[dict]:
    done = sql(directory, "--json", query, *files, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_records_are_those_that_the_reader_gives_payloads_and_metadata_included(made, tmp_path):
    with Captures([made]) as captures:
        expected = [dict(record) for record, _ in captures.lines()]
    told = answer(tmp_path, f"SELECT {', '.join(expected[0])} FROM records", str(made))
    assert told == expected


def test_payloads_and_metadata_are_reached_with_json_functions(made, tmp_path):
    with Captures([made]) as captures:
        expected = Counter(
            record["payload"]["model"]
            for record, _ in captures.lines()
            if record["direction"] == "inbound_request" and "model" in record["payload"]
        )
    query = (
        "SELECT payload->>'$.model' AS model, count(*) AS n FROM records "
        "WHERE direction = 'inbound_request' AND metadata->>'$.leg' = 'client' AND model IS NOT NULL "
        "AND payload->>'$.model' IS NOT NULL GROUP BY ALL"
    )
    assert {row["model"]: row["n"] for row in answer(tmp_path, query, str(made))} == expected


@pytest.mark.thorough
def test_flows_and_exchanges_say_what_ls_says(made, tmp_path):
    listed = subprocess.run([*COMMAND, "ls", "--json", str(made)], capture_output=True, check=True, timeout=120)
    flows = [json.loads(line) for line in listed.stdout.splitlines()]
    told = answer(tmp_path, "SELECT * FROM flows ORDER BY started, request_id", str(made))
    for row, flow in zip(told, flows, strict=True):
        for name in ("request_id", "session_id", "client", "backend", "model", "status", "outcome", "error", "chunks"):
            assert row[name] == flow[name], name
        assert row["input_tokens"] == (flow["usage"] or {}).get("input")
        assert row["attempts"] == sum(one["leg"] == "backend" for one in flow["exchanges"])
    exchanges = answer(tmp_path, "SELECT exchange_id, leg, duration_ms, bytes FROM exchanges", str(made))
    expected = [
        (one["id"], one["leg"], one["duration_ms"], one["bytes"]) for flow in flows for one in flow["exchanges"]
    ]
    assert sorted(tuple(row.values()) for row in exchanges) == sorted(expected)


@pytest.mark.thorough
def test_the_chunks_of_every_stream_add_up_to_its_end(made, tmp_path):
    query = (
        "SELECT e.exchange_id, e.bytes, sum(c.chunk_bytes) AS size, sum(strlen(c.text)) AS length, e.chunks, "
        "count(*) AS n FROM exchanges e JOIN chunks c USING (exchange_id) WHERE e.streamed GROUP BY ALL"
    )
    rows = answer(tmp_path, query, str(made))
    assert len(rows) >= 14
    assert all(row["bytes"] == row["size"] == row["length"] and row["chunks"] == row["n"] for row in rows)


@pytest.mark.parametrize("kind", ["rotated", "compressed", "torn", "stdin", "twice", "without exchanges"])
def test_captures_of_every_kind_are_read(made, tmp_path, kind):
    lines = made.read_bytes().splitlines(keepends=True)
    path, files, stdin, expected = tmp_path / "one.log", ["one.log"], b"", len(lines)
    if kind == "rotated":
        (tmp_path / "one.log.1").write_bytes(b"".join(lines[:100]))
        path.write_bytes(b"".join(lines[100:]))
    elif kind == "compressed":
        (tmp_path / "one.log.1.gz").write_bytes(gzip.compress(b"".join(lines[:100])))
        path.write_bytes(b"".join(lines[100:]))
    elif kind == "torn":
        path.write_bytes(b"".join(lines) + lines[-1][:40])
    elif kind == "stdin":
        files, stdin = ["-"], b"".join(lines)
    elif kind == "twice":
        shutil.copy(made, path)
        shutil.copy(made, tmp_path / "two.log")
        files, expected = ["one.log", "two.log"], 2 * len(lines)
    else:
        stripped = []
        for line in lines:
            record = json.loads(line)
            for name in ("exchange_id", "request_id", "leg"):
                record["metadata"].pop(name, None)
            stripped.append(json.dumps(record).encode() + b"\n")
        path.write_bytes(b"".join(stripped))
    lost = "count(*) FILTER (direction NOT LIKE 'system%' AND exchange_id IS NULL)"
    query = f"SELECT count(*) AS n, {lost} AS lost FROM records"
    done = sql(tmp_path, "--json", query, *files, stdin=stdin)
    assert json.loads(done.stdout) == {"n": expected, "lost": 0}
    assert (b"1 lines are damaged" in done.stderr) == (kind == "torn")


@pytest.mark.parametrize("kind", [CBOR, Structured])
def test_captures_of_other_formats_give_the_records_that_the_reader_gives(made, tmp_path, kind):
    path, form, lines = tmp_path / "other.log", kind(), JSONLines()
    path.write_bytes(b"".join(form.encode(lines.decode(line)) for line in made.read_bytes().splitlines(keepends=True)))
    with Captures([path]) as captures:
        expected = [[record[name] for name in ("direction", "session_id", "payload")] for record, _ in captures.lines()]
    rows = answer(tmp_path, "SELECT direction, session_id, payload FROM records", "other.log")
    assert [list(row.values()) for row in rows] == expected


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("SELEC 1", "SELEC"),
        ("SELECT nothing FROM flows", "nothing"),
        ("", "empty"),
        ("COPY (SELECT 1) TO 'written.csv'", "written.csv"),
        ("ATTACH 'written.db'", "written.db"),
        ("SELECT * FROM read_text('secret.txt')", "secret.txt"),
        ("SELECT * FROM 'secret.txt'", "secret.txt"),
        ("INSTALL httpfs", "disabled"),
        ("SET enable_external_access = true", "locked"),
        ("SET lock_configuration = false", "locked"),
        ("SELECT CAST(outcome AS INTEGER) FROM flows", "complete"),
    ],
)
@pytest.mark.sampled(4, rest="thorough")
def test_a_query_that_is_wrong_or_not_allowed_gets_one_sentence_and_exit_code_2(made, tmp_path, query, word):
    (tmp_path / "secret.txt").write_text("not to be read")
    done = sql(tmp_path, query, str(made))
    assert done.returncode == 2
    assert done.stdout == b""
    assert word in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1
    assert not list(tmp_path.glob("written*"))


def test_without_duckdb_the_extra_is_named(made, tmp_path):
    program = (
        "import sys; sys.modules['duckdb'] = None\n"
        f"from otel_wirecap.cli import main; sys.exit(main(['sql', 'SELECT 1', {str(made)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr == "otel-wirecap: sql needs DuckDB; install the extra: otel-wirecap[sql]\n"


def test_csv_has_a_heading_and_quotes_what_needs_it(made, tmp_path):
    done = sql(tmp_path, "--csv", "SELECT 'a,\"b' AS text, 2 AS n, NULL AS none", str(made))
    assert done.stdout == b'text,n,none\n"a,""b",2,\n'


def test_a_table_escapes_what_would_command_the_terminal(made, tmp_path):
    done = sql(tmp_path, "SELECT chr(27) || '[31m' AS \"a\", NULL AS b", str(made))
    assert done.stdout.decode().splitlines() == ["a         b", "\\x1b[31m  -"]
