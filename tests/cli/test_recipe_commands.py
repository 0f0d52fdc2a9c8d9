"""Each recipe that the specification of the capture has for jq or Python has its command, and the two agree."""

# ruff: noqa: E501  # recipes stand as the specification has them

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SPECIFICATION = Path(__file__).parents[3] / "shared" / "spec" / "wire-capture.txt"
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "read-a-capture-with-jq.md"

ANSWERS = "direction = 'inbound_response'"
TOKENS = "payload->>'$.usage.{}'"

# What the recipe prints, one value a line, and the query that answers the same, a column a value.
RECIPES = {
    # Requests by backend.
    """jq -r 'select(.direction=="outbound_request") | .backend' logs/wire_capture.log | sort | uniq -c""":
        "SELECT count(*), backend FROM records WHERE direction = 'outbound_request' GROUP BY ALL",
    # What users said.
    """jq -r 'select(.direction=="outbound_request") | .payload.messages[]? | select(.role=="user") | .content' logs/wire_capture.log""":
        "SELECT message->>'$.content' FROM (SELECT unnest((payload->'$.messages')::JSON[]) AS message FROM records "
        "WHERE direction = 'outbound_request') WHERE message->>'$.role' = 'user'",
    # Whatever is no chat answer.
    """jq 'select(.direction=="inbound_response" and (.payload.error or .payload.choices == null))' logs/wire_capture.log""":
        f"SELECT * FROM records WHERE {ANSWERS} AND (payload->>'$.error' IS NOT NULL OR payload->>'$.choices' IS NULL)",
    # Tokens in all.
    """jq -r 'select(.direction=="inbound_response" and .payload.usage) | "\\(.model) \\(.payload.usage.total_tokens // (.payload.usage.prompt_tokens + .payload.usage.completion_tokens))"' logs/wire_capture.log""":
        f"SELECT model, coalesce({TOKENS.format('total_tokens')}, (({TOKENS.format('prompt_tokens')})::INT "
        f"+ ({TOKENS.format('completion_tokens')})::INT)::VARCHAR, 'null') FROM records WHERE {ANSWERS} "
        "AND payload->>'$.usage' IS NOT NULL",
    # Chunks by session.
    """jq -r 'select(.direction=="stream_chunk") | .session_id' logs/wire_capture.log | sort | uniq -c""":
        "SELECT count(*), session_id FROM chunks WHERE leg = 'backend' GROUP BY ALL",
    # Streams that broke.
    """jq 'select(.direction=="stream_end" and .metadata.error)' logs/wire_capture.log""":
        "SELECT * FROM records WHERE direction = 'stream_end' AND metadata->>'$.error' IS NOT NULL",
    # All messages.
    """jq -r 'select(.direction=="outbound_request") | .payload.messages' logs/wire_capture.log""":
        "SELECT coalesce(payload->'$.messages', 'null') FROM records WHERE direction = 'outbound_request'",
    # Tokens in full.
    """jq -r 'select(.direction=="inbound_response" and .payload.usage) | "\\(.timestamp_iso) \\(.model) prompt:\\(.payload.usage.prompt_tokens) completion:\\(.payload.usage.completion_tokens) total:\\(.payload.usage.total_tokens)"' logs/wire_capture.log""":
        "SELECT timestamp_iso, model, "
        + ", ".join(
            f"'{name}:' || coalesce({TOKENS.format(field)}, 'null')"
            for name, field in (("prompt", "prompt_tokens"), ("completion", "completion_tokens"), ("total", "total_tokens"))
        )
        + f" FROM records WHERE {ANSWERS} AND payload->>'$.usage' IS NOT NULL",
    # All errors, and their types.
    """jq 'select(.direction=="inbound_response" and .payload.error)' logs/wire_capture.log""":
        f"SELECT * FROM records WHERE {ANSWERS} AND payload->>'$.error' IS NOT NULL",
    """jq -r 'select(.direction=="inbound_response" and .payload.error) | .payload.error.type' logs/wire_capture.log | sort | uniq -c""":
        f"SELECT count(*), payload->>'$.error.type' FROM records WHERE {ANSWERS} AND payload->>'$.error' IS NOT NULL "
        "GROUP BY ALL",
    # When responses and chunks came.
    """jq -r 'select(.direction=="inbound_response") | "\\(.session_id) \\(.timestamp_unix)"' logs/wire_capture.log""":
        f"SELECT session_id, timestamp_unix FROM records WHERE {ANSWERS}",
    """jq -r 'select(.direction=="stream_chunk") | "\\(.session_id) \\(.timestamp_unix)"' logs/wire_capture.log""":
        "SELECT session_id, timestamp_unix FROM records WHERE direction = 'stream_chunk'",
}  # fmt: skip

# As the specification has it, but for a threshold that a test can wait for.
SLOW = """
import json, sys
with open('logs/wire_capture.log', 'r') as f:
    entries = [json.loads(line) for line in f]
from collections import Counter
directions = Counter(e['direction'] for e in entries)
slow_requests = []
for i, entry in enumerate(entries):
    if entry['direction'] == 'outbound_request':
        for j in range(i+1, len(entries)):
            if entries[j]['direction'] == 'inbound_response' and entries[j]['session_id'] == entry['session_id']:
                duration = entries[j]['timestamp_unix'] - entry['timestamp_unix']
                if duration > float(sys.argv[1]):
                    slow_requests.append({'session': entry['session_id'], 'model': entry['model'], 'duration': duration})
                break
print(json.dumps([directions, slow_requests]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, demo_capture) -> Path:
    """Where the demonstration's capture is ``logs/wire_capture.log``."""
    path = tmp_path_factory.mktemp("recipes")
    (path / "logs").mkdir()
    shutil.copy(demo_capture, path / "logs" / "wire_capture.log")
    return path


def shell(folder: Path, *command: str) -> str:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("WIRE_CAPTURE", "OTEL_"))}
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120)
    assert done.returncode in {0, 5}, done.stderr  # 5: jq met a payload that is no object
    return done.stdout


def query(folder: Path, text: str) -> list[list[object]]:
    pytest.importorskip("duckdb")
    told = shell(folder, sys.executable, "-m", "otel_wirecap", "sql", "--json", text, "logs/wire_capture.log")
    return [list(json.loads(line).values()) for line in told.splitlines()]


@pytest.mark.parametrize("recipe", RECIPES, ids=range(len(RECIPES)))
@pytest.mark.sampled(2, rest="thorough")
def test_the_command_answers_what_the_recipe_does(recipe, folder):
    if shutil.which("jq") is None:
        pytest.skip("jq is not here")
    told = shell(folder, "bash", "-c", recipe)
    rows = query(folder, RECIPES[recipe])
    assert rows
    if " | ." not in recipe and '| "' not in recipe:  # whole records
        records = [json.loads(text) for text in re.split(r"(?<=^\})\n", told, flags=re.MULTILINE) if text]
        assert sorted(row[0] for row in rows) == sorted(record["timestamp_iso"] for record in records)
    elif recipe.endswith(".payload.messages' logs/wire_capture.log"):
        decoder, documents = json.JSONDecoder(), []
        while told := told.lstrip():
            document, end = decoder.raw_decode(told)
            documents.append(document)
            told = told[end:]
        assert [json.loads(row[0]) if isinstance(row[0], str) else row[0] for row in rows] == documents
    else:
        assert sorted(" ".join(map(str, row)).split() for row in rows) == sorted(
            line.split() for line in told.splitlines()
        )


def test_each_recipe_of_the_specification_is_among_them():
    if not SPECIFICATION.exists():
        pytest.skip("the specification is not here")
    text = SPECIFICATION.read_text(encoding="utf-8")
    found = re.findall(r"jq (?:-\w )?'[^']+'(?:\s|\\)+logs/\w+\.log(?: \| sort \| uniq -c)?", text)
    flat = {" ".join(one.replace("\\\n", " ").split()).replace("model_debug", "wire_capture") for one in found}
    assert len(flat) >= 10
    assert flat == set(RECIPES)


def test_the_page_of_recipes_has_them_all():
    page = " ".join(PAGE.read_text(encoding="utf-8").replace("\\\n", " ").split())
    assert [recipe for recipe in RECIPES if recipe not in page] == []


@pytest.mark.thorough
def test_ls_finds_the_slow_requests_and_sql_counts_the_directions(folder, tmp_path):
    (tmp_path / "logs").mkdir()
    records = [json.loads(line) for line in (folder / "logs" / "wire_capture.log").read_text().splitlines()]
    for record in records:  # the recipe takes the session's next answer for that of a request: a session a flow, then
        record["session_id"] = record["metadata"].get("request_id")
    (tmp_path / "logs" / "wire_capture.log").write_text("".join(json.dumps(record) + "\n" for record in records))
    directions, slow = json.loads(shell(tmp_path, sys.executable, "-c", SLOW, "0.2"))
    command = [sys.executable, "-m", "otel_wirecap", "ls", "--json", "--slow", "200ms", "logs/wire_capture.log"]
    flows = [json.loads(line) for line in shell(tmp_path, *command).splitlines()]
    assert 0 < len(flows) < 13
    assert {one["session"]: one["model"] for one in slow} == {flow["session_id"]: flow["model"] for flow in flows}
    took = {flow["session_id"]: flow["exchanges"][1]["duration_ms"] / 1000 for flow in flows}
    assert {one["session"]: one["duration"] for one in slow} == pytest.approx(took, abs=0.01)
    assert dict(query(tmp_path, "SELECT direction, count(*) FROM records GROUP BY ALL")) == directions
