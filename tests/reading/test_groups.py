"""Flows grouped by what they have in common, and attempts by where they were made, counted anew from the records."""

from __future__ import annotations

import collections
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from selection import examples

from otel_wirecap.reading import index
from otel_wirecap.reading.captures import Captures
from otel_wirecap.reading.summaries import Group, grouped

BEGAN = 1_767_225_600.0
NAMES = st.sampled_from(["openai", "azure", "anthropic"])
KEYS = st.sampled_from([None, "OPENAI_API_KEY", "AZURE_KEY"])
EXCHANGES = st.fixed_dictionaries({
    "backend": NAMES, "key_name": KEYS, "late_key": KEYS, "model": st.sampled_from(["m", "n"]),
    "end": st.sampled_from(["ok", "ok", "503", "429", "reset", "open"]), "streamed": st.booleans(),
    "duration_ms": st.integers(1, 5000), "tokens": st.integers(1, 900),
})  # fmt: skip
FLOWS = st.fixed_dictionaries({"client": st.none() | EXCHANGES, "attempts": st.lists(EXCHANGES, max_size=4)}).filter(
    lambda flow: flow["client"] or flow["attempts"]
)


def record(direction: str, one: dict[str, Any], moment: float, payload: Any, **metadata: Any) -> dict[str, Any]:
    return {
        "timestamp_iso": "2026-01-01T00:00:00.000000+00:00", "timestamp_unix": moment, "direction": direction,
        "source": "s", "destination": "d", "session_id": one["session"], "backend": one["backend"],
        "model": one["model"], "key_name": one["key_name"], "content_type": "json", "content_length": 2,
        "payload": payload, "metadata": {name: one[name] for name in ("leg", "request_id", "exchange_id")} | metadata,
    }  # fmt: skip


def records_of(one: dict[str, Any]) -> list[dict[str, Any]]:
    """What a capture has of an exchange."""
    is_client = one["leg"] == "client"
    moment, numbered = one["began"], {} if is_client else {"attempt": one["attempt"]}
    path = "http://127.0.0.1/v1/chat/completions"
    request = "inbound_request" if is_client else "outbound_request"
    whole, stream = ("outbound_response", "outbound_stream") if is_client else ("inbound_response", "stream")
    made = [record(request, one, moment, {}, method="POST", url=path, **numbered)]
    if one["end"] == "open":
        return made
    one = one | {"key_name": one["late_key"] or one["key_name"]}  # what the application has named since
    ended = moment + one["duration_ms"] / 1000
    end = {"duration_ms": one["duration_ms"], "ttfb_ms": 1, "outcome": "complete", **numbered}
    if one["end"] == "reset":
        end |= {"outcome": "error", "error": {"type": "ReadError", "message": "reset"}}
        return [*made, record(whole, one, ended, None, **end)]
    if one["end"] != "ok":
        return [*made, record(whole, one, ended, {"error": {"type": "busy"}}, status_code=int(one["end"]), **end)]
    end["status_code"] = 200
    answer = {"object": "chat.completion", "model": one["model"], "choices": [], "usage": usage(one)}
    if not one["streamed"]:
        return [*made, record(whole, one, ended, answer, **end)]
    return [
        *made,
        record(f"{stream}_start", one, moment + 0.001, None, status_code=200, ttfb_ms=1, **numbered),
        record(f"{stream}_chunk", one, moment + 0.001, "x", chunk_number=1, chunk_bytes=1, **numbered),
        record(f"{stream}_end", one, ended, {"total_bytes": 1, "total_chunks": 1}, **end),
        *([] if is_client else [record(whole, one, ended, answer, assembled=True, **end)]),
    ]


def usage(one: dict[str, Any]) -> dict[str, int]:
    return {"prompt_tokens": one["tokens"], "completion_tokens": 1, "total_tokens": one["tokens"] + 1}


def exchanges_of(number: int, flow: dict[str, Any]) -> list[dict[str, Any]]:
    """The flow's exchanges, the client's first, each with its place in the flow."""
    common = {"request_id": f"req_{number:08}", "session": f"session-{number % 3}"}
    legs = [("client", 0, flow["client"])] if flow["client"] else []
    legs += [("backend", attempt, one) for attempt, one in enumerate(flow["attempts"], 1)]
    return [
        one | common | {"leg": leg, "attempt": attempt, "exchange_id": f"ex_{number:08}_{attempt}",
                        "began": BEGAN + number * 10 + attempt * 0.01}
        for leg, attempt, one in legs
    ]  # fmt: skip


def expected(flows: list[list[dict[str, Any]]], by: str) -> dict[str | None, dict[str, float]]:
    """By one exchange after the other: who asked whom, how it ended, how long it took, how many tokens it had."""
    groups: dict[str | None, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for exchanges in flows:
        flow_failed = (exchanges[0] if exchanges[0]["leg"] == "client" else exchanges[-1])["end"] not in ("ok", "open")
        attempts = [one for one in exchanges if one["leg"] == "backend"]
        for one in attempts or exchanges:
            group = groups[name_of(one, by)]
            is_attempt = one["leg"] == "backend"
            group["attempts"] += is_attempt
            group["failed_attempts"] += is_attempt and one["end"] not in ("ok", "open")
            if is_attempt and one["end"] != "open":
                group["ended"] += 1
                group["duration_ms"] += one["duration_ms"]
            if one["end"] == "ok" and (is_attempt or not one["streamed"]):
                group["input"] += one["tokens"]
        for name in {name_of(one, by) for one in attempts or exchanges}:
            groups[name]["flows"] += 1
            groups[name]["failed_flows"] += flow_failed
    return {name: dict(+group) for name, group in groups.items()}


def name_of(one: dict[str, Any], by: str) -> str | None:
    """The key that the request names counts, else what is named later."""
    late = one["late_key"] if by == "key_name" and one["end"] != "open" else None
    return one[by] or late


def groups_of(path: Path, by: str, *, use_index: bool) -> dict[str | None, dict[str, float]]:
    with Captures([path], use_index=use_index) as captures:
        return {group.name: numbers(group) for group in grouped(captures.flows(), by)}


def numbers(group: Group) -> dict[str, float]:
    names = ("attempts", "failed_attempts", "ended", "duration_ms", "flows", "failed_flows")
    found = {name: getattr(group, name) for name in names} | {"input": group.usage.input}
    return {name: number for name, number in found.items() if number}


@pytest.fixture
def small_index(monkeypatch):
    monkeypatch.setattr(index, "MIN_BYTES", 1)


@given(
    flows=st.lists(FLOWS, min_size=1, max_size=12),
    by=st.sampled_from(["backend", "key_name"]),
    order=st.randoms(use_true_random=False),
    cut=st.floats(0, 1),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=examples(200), deadline=None)
@pytest.mark.usefixtures("small_index")
def test_attempts_are_counted_where_they_were_made(flows, by, order, cut, tmp_path_factory):
    exchanges = [exchanges_of(number, flow) for number, flow in enumerate(flows)]
    records = [one for flow in exchanges for exchange in flow for one in records_of(exchange)]
    order.shuffle(records)
    path = tmp_path_factory.mktemp("groups") / "capture.log"
    lines = [orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE) for one in records]
    path.write_bytes(b"".join(lines[: max(1, round(cut * len(lines)))]))
    groups_of(path, by, use_index=True)  # an index of a part, that is extended, and read
    path.write_bytes(b"".join(lines))
    for use_index in (False, True, True):
        assert groups_of(path, by, use_index=use_index) == expected(exchanges, by)


RETRIED = [
    {"client": {"end": "ok", "backend": "anthropic", "key_name": None, "duration_ms": 900, "tokens": 7},
     "attempts": [{"end": "503", "backend": "openai", "key_name": "A", "duration_ms": 500, "tokens": 0},
                  {"end": "reset", "backend": "openai", "key_name": "A", "duration_ms": 90, "tokens": 0},
                  {"end": "ok", "backend": "anthropic", "key_name": "B", "duration_ms": 200, "tokens": 7}]},
    {"client": {"end": "ok", "backend": "openai", "key_name": None, "duration_ms": 100, "tokens": 5},
     "attempts": [{"end": "ok", "backend": "openai", "key_name": "A", "duration_ms": 100, "tokens": 5}]},
]  # fmt: skip


@pytest.fixture
def retried(tmp_path) -> Path:
    """The capture of a client that was answered by the second backend, and of one that was answered by the first."""
    flows = [
        {"client": flow["client"] | {"model": "m", "streamed": False, "late_key": None},
         "attempts": [one | {"model": "m", "streamed": False, "late_key": None} for one in flow["attempts"]]}
        for flow in RETRIED
    ]  # fmt: skip
    path = tmp_path / "retried.log"
    exchanges = [one for number, flow in enumerate(flows) for one in exchanges_of(number, flow)]
    path.write_bytes(b"".join(orjson.dumps(one) + b"\n" for exchange in exchanges for one in records_of(exchange)))
    return path


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", "otel_wirecap", *arguments]
    kept = {name: value for name, value in os.environ.items() if name not in {"FORCE_COLOR", "COLUMNS"}}
    done = subprocess.run(command, env=kept, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


@pytest.mark.parametrize("by", ["backend", "key_name"])
def test_a_failure_counts_at_the_backend_that_was_asked_and_the_flow_as_its_client_saw_it(retried, by):
    first, second = {"backend": ("openai", "anthropic"), "key_name": ("A", "B")}[by]
    groups = {group[by]: group for group in map(json.loads, run("ls", "--json", "--by", by, str(retried)).splitlines())}
    assert json.loads(run("stats", "--json", "--by", by, str(retried)))["by"][by] == list(groups.values())
    shown = {
        name: [groups[name][number] for number in ("attempts", "failed", "failed_attempts", "flows", "failed_flows")]
        for name in groups
    }
    assert shown == {first: [3, 2, 2, 2, 0], second: [1, 0, 0, 1, 0]}
    assert (groups[first]["duration_ms"], groups[second]["duration_ms"]) == (690, 200)
    assert (groups[first]["usage"]["input"], groups[second]["usage"]["input"]) == (5, 7)
    header, *rows = run("ls", "--by", by, str(retried)).splitlines()
    assert header.split()[:6] == [by, "attempts", "failed", "flows", "flows", "failed"]
    assert [row.split()[:5] for row in rows] == [[first, "3", "2", "2", "0"], [second, "1", "0", "1", "0"]]
    assert "230ms" in rows[0].replace(" ", "")


def test_by_model_and_session_the_flows_count_as_their_clients_saw_them(retried):
    (group,) = map(json.loads, run("ls", "--json", "--by", "model", str(retried)).splitlines())
    told = [group[name] for name in ("flows", "failed", "failed_flows", "attempts", "failed_attempts", "duration_ms")]
    assert told == [2, 0, 0, 4, 2, 1000]
    assert run("ls", "--by", "model", str(retried)).split()[:4] == ["model", "flows", "failed", "attempts"]
