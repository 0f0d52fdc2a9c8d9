"""The recipes that a wire capture is known for give right answers, streams and errors included.

The answers are computed from what the client of the proxy sent and received, never from the capture.
"""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from collections import Counter

import pytest
from recipe_traffic import Kept, Traffic, make_traffic

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(shutil.which("jq") is None, reason="the recipes are programs of jq, which is missing"),
]

SECONDS = 5.0
"""How much later than its client a busy process may see the moment that a record has."""
"""How far the clocks of two processes of one machine, and their steps, may lie apart."""

SLOW = r"""
import json
# Read and parse wire capture file
with open('logs/wire_capture.log', 'r') as f:
    entries = [json.loads(line) for line in f]
# Analyze by direction
from collections import Counter
directions = Counter(e['direction'] for e in entries)
print(f"Direction counts: {directions}")
# Find slow requests (>2 seconds)
slow_requests = []
for i, entry in enumerate(entries):
    if entry['direction'] == 'outbound_request':
        # Find corresponding response
        for j in range(i+1, len(entries)):
            if entries[j]['direction'] == 'inbound_response' and entries[j]['session_id'] == entry['session_id']:
                duration = entries[j]['timestamp_unix'] - entry['timestamp_unix']
                if duration > 2.0:
                    slow_requests.append({
                        'session': entry['session_id'],
                        'model': entry['model'],
                        'duration': duration
                    })
                break
print(f"Slow requests: {len(slow_requests)}")
print(slow_requests)
"""


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> Traffic:
    return make_traffic(tmp_path_factory.mktemp("recipes"))


def shell(traffic: Traffic, command: str) -> str:
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=traffic.directory, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def documents(text: str) -> list[dict]:
    decoder, found = json.JSONDecoder(), []
    while text := text.strip():
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:]
    return found


def tally(text: str) -> Counter[str]:
    """What ``uniq -c`` printed."""
    return Counter({line.split(None, 1)[1]: int(line.split(None, 1)[0]) for line in text.splitlines()})


def reached(traffic: Traffic) -> list[Kept]:
    """The exchanges that got an answer from the backend."""
    return [kept for kept in traffic.kept if kept.session != "gone"]


def masked(traffic: Traffic, text: str) -> str:
    return text.replace(traffic.prompt_secret, "[REDACTED]").replace(traffic.key, "[REDACTED]")


def test_the_traffic_is_what_the_recipes_are_about(traffic):
    statuses = Counter(kept.status for kept in traffic.kept)
    assert statuses == {200: 13, 429: 2, 404: 1, 502: 1}
    assert sum(kept.streamed for kept in traffic.kept) == 6
    assert all(len(kept.chunks) > 4 for kept in traffic.kept if kept.streamed)


def test_requests_are_counted_per_backend(traffic):
    out = shell(
        traffic,
        """jq -r 'select(.direction=="outbound_request") | .backend' logs/wire_capture.log | sort | uniq -c""",
    )
    assert tally(out) == {"openai": len(reached(traffic)), "gone": 1}


def test_users_prompts_are_listed_without_the_secrets_in_them(traffic):
    out = shell(
        traffic,
        """jq -r 'select(.direction=="outbound_request") | .payload.messages[]? | select(.role=="user") | .content'"""
        " logs/wire_capture.log",
    )
    # Nothing of a body leaves for a backend that cannot be reached: its request's payload is null.
    texts = [kept.body["messages"][1]["content"] for kept in reached(traffic)]
    for text in texts:
        if isinstance(text, str):
            assert masked(traffic, text) + "\n" in out
            out = out.replace(masked(traffic, text) + "\n", "", 1)
    assert documents(out.replace("]\n[", "]\n\n[")) == [text for text in texts if not isinstance(text, str)]
    assert traffic.prompt_secret not in out
    assert traffic.key not in out


def test_failed_responses_are_those_with_an_error_or_no_choices(traffic):
    out = shell(
        traffic,
        """jq 'select(.direction=="inbound_response" and (.payload.error or .payload.choices == null))'"""
        " logs/wire_capture.log",
    )
    failed = Counter(kept.session for kept in traffic.kept if kept.status != 200 or "error" in kept.answered)
    assert failed == {"limited": 2, "unknown": 1, "broken": 1, "gone": 1}
    assert Counter(record["session_id"] for record in documents(out)) == failed


def test_tokens_are_told_with_the_answering_model(traffic):
    out = shell(
        traffic,
        r"""jq -r 'select(.direction=="inbound_response" and .payload.usage) | "\(.model) """
        r"""\(.payload.usage.total_tokens // (.payload.usage.prompt_tokens + .payload.usage.completion_tokens))"'"""
        " logs/wire_capture.log",
    )
    expected = Counter(
        f"{kept.answered['model']} {kept.answered['usage']['total_tokens']}"
        for kept in reached(traffic)
        if "usage" in kept.answered
    )
    assert sum(expected.values()) == 11
    assert Counter(out.splitlines()) == expected


def test_token_usage_is_told_in_full(traffic):
    out = shell(
        traffic,
        """jq -r 'select(.direction=="inbound_response" and .payload.usage) |\n"""
        r""""\(.timestamp_iso) \(.model) prompt:\(.payload.usage.prompt_tokens) """
        r"""completion:\(.payload.usage.completion_tokens) total:\(.payload.usage.total_tokens)"' \
        logs/wire_capture.log""",
    )
    expected = Counter()
    for kept in reached(traffic):
        if usage := kept.answered.get("usage"):
            numbers = [usage[f"{name}_tokens"] for name in ("prompt", "completion", "total")]
            expected["{} prompt:{} completion:{} total:{}".format(kept.answered["model"], *numbers)] += 1
    assert Counter(line.split(" ", 1)[1] for line in out.splitlines()) == expected
    assert all(line.split(" ")[0].endswith("+00:00") for line in out.splitlines())


def test_each_chunk_of_a_stream_is_counted_once(traffic):
    out = shell(
        traffic,
        """jq -r 'select(.direction=="stream_chunk") | .session_id' logs/wire_capture.log | sort | uniq -c""",
    )
    expected = Counter()
    for kept in traffic.kept:
        if kept.streamed:
            expected[kept.session] += len(kept.chunks)
    assert tally(out) == expected


def test_chunks_come_with_their_moments(traffic):
    out = shell(
        traffic,
        r"""jq -r 'select(.direction=="stream_chunk") | "\(.session_id) \(.timestamp_unix)"' logs/wire_capture.log""",
    )
    moments: dict[str, list[float]] = {}
    for line in out.splitlines():
        session, moment = line.split()
        moments.setdefault(session, []).append(float(moment))
    streams = [kept for kept in traffic.kept if kept.streamed]
    for session, times in moments.items():
        assert times == sorted(times)
        for kept in (kept for kept in streams if kept.session == session):
            within = [time for time in times if kept.began - SECONDS <= time <= kept.ended + SECONDS]
            assert len(within) >= len(kept.chunks)
    assert sum(map(len, moments.values())) == sum(len(kept.chunks) for kept in streams)


def test_sessions_with_broken_streams_are_found(traffic):
    out = shell(traffic, """jq 'select(.direction=="stream_end" and .metadata.error)' logs/wire_capture.log""")
    expected = [kept.session for kept in traffic.kept if kept.streamed and "error" in kept.answered]
    assert [record["session_id"] for record in documents(out)] == expected == ["broken"]


def test_slow_requests_are_found_whether_streamed_or_not(traffic):
    done = subprocess.run(
        [sys.executable, "-c", SLOW], cwd=traffic.directory, capture_output=True, text=True, timeout=120, check=True
    )
    counts, number, told = done.stdout.splitlines()
    slow = [kept for kept in reached(traffic) if kept.ended - kept.began > 2.0]
    assert sorted(kept.session for kept in slow) == ["slow", "slow-stream"]
    assert number == f"Slow requests: {len(slow)}"
    found = {(one["session"], one["model"]): one["duration"] for one in ast.literal_eval(told)}
    assert set(found) == {(kept.session, kept.body["model"]) for kept in slow}
    for kept in slow:
        duration = found[kept.session, kept.body["model"]]
        assert 2.0 < duration <= kept.ended - kept.began + SECONDS
    directions = ast.literal_eval(counts.removeprefix("Direction counts: Counter(").removesuffix(")"))
    streams = sum(kept.streamed for kept in traffic.kept)
    chunks = sum(len(kept.chunks) for kept in traffic.kept if kept.streamed)
    assert directions == {
        "inbound_request": len(traffic.kept),
        "outbound_request": len(traffic.kept),
        "inbound_response": len(traffic.kept),
        "outbound_response": len(traffic.kept) - streams,
        "stream_start": streams,
        "stream_chunk": chunks,
        "stream_end": streams,
        "outbound_stream_start": streams,
        "outbound_stream_chunk": chunks,
        "outbound_stream_end": streams,
        "system_start": 1,
        "system_stop": 1,
    }


def test_prompts_are_extracted_whole(traffic):
    out = shell(traffic, """jq -r 'select(.direction=="outbound_request") | .payload.messages' logs/wire_capture.log""")
    expected = [masked(traffic, json.dumps(kept.body["messages"])) for kept in reached(traffic)]
    assert sorted(json.dumps(messages) for messages in documents(out)) == sorted([*expected, "null"])


def test_errors_of_the_provider_are_found(traffic):
    out = shell(traffic, """jq 'select(.direction=="inbound_response" and .payload.error)' logs/wire_capture.log""")
    expected = sorted(json.dumps(kept.answered["error"]) for kept in reached(traffic) if "error" in kept.answered)
    assert len(expected) == 4
    assert sorted(json.dumps(record["payload"]["error"]) for record in documents(out)) == expected


def test_errors_are_grouped_by_type(traffic):
    out = shell(
        traffic,
        """jq -r 'select(.direction=="inbound_response" and .payload.error) | .payload.error.type'"""
        " logs/wire_capture.log | sort | uniq -c",
    )
    expected = Counter(kept.answered["error"]["type"] for kept in reached(traffic) if "error" in kept.answered)
    assert tally(out) == expected == {"requests": 2, "invalid_request_error": 1, "server_error": 1}


def test_every_response_has_its_moment(traffic):
    out = shell(
        traffic,
        """jq -r 'select(.direction=="inbound_response") |\n"""
        r""""\(.session_id) \(.timestamp_unix)"' logs/wire_capture.log""",
    )
    found: dict[str, list[float]] = {}
    for line in out.splitlines():
        session, moment = line.split()
        found.setdefault(session, []).append(float(moment))
    assert {session: len(times) for session, times in found.items()} == Counter(kept.session for kept in traffic.kept)
    for session, times in found.items():
        # One session's requests were sent one after the other.
        for kept, time in zip([kept for kept in traffic.kept if kept.session == session], sorted(times), strict=True):
            assert kept.began - SECONDS <= time <= kept.ended + SECONDS
