"""When what happened in a flow is told from the capture that the recorder made of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from otel_wirecap.reading.captures import Captures
from otel_wirecap.reading.timeline import Timeline, timeline_of

sys.path.insert(0, str(Path(__file__).parent))

from pausing_gateway import BETWEEN_ATTEMPTS, PATHS, PAUSE, SESSION, capture

GAP_MS = PAUSE * 1000 * 0.7


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return capture(tmp_path_factory.mktemp("pauses"))


@pytest.fixture(scope="module")
def told(made) -> dict[str, Timeline]:
    with Captures([made], use_index=False) as captures:
        flows = captures.flows()
        return {how: timeline_of(captures, flow, gap_ms=GAP_MS) for how, flow in zip(PATHS, flows, strict=True)}


@pytest.fixture
def run(made, tmp_path):
    def call(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        dropped = {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}
        base = {name: value for name, value in os.environ.items() if name not in dropped}
        known = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONUTF8": "1"}
        command = [sys.executable, "-m", "otel_wirecap", "timeline", *arguments]
        return subprocess.run(command, env=base | known | environ, capture_output=True, text=True, timeout=120)

    return call


def rewritten(made: Path, path: Path, change) -> Path:
    """A copy of the capture, each record changed."""
    records = [orjson.loads(line) for line in made.read_bytes().splitlines()]
    path.write_bytes(b"".join(orjson.dumps(change(record)) + b"\n" for record in records))
    return path


# -- what is told ------------------------------------------------------------------------------------


def test_each_attempt_says_why_it_was_made_and_the_proxys_own_time_lies_between_them(told):
    client, *attempts = told["retried"].lanes
    assert [(lane.exchange.status_code, lane.reason) for lane in attempts] == [
        (503, None), (307, "retry"), (200, "redirect"),
    ]  # fmt: skip
    between = [span for span in told["retried"].own if span.what == "between"]
    assert max(span.ms for span in between) >= BETWEEN_ATTEMPTS * 900
    ordered = [span.what for span in told["retried"].own]
    assert ordered == sorted(ordered, key=["before", "between", "after"].index)
    busy = sum(lane.end - lane.start for lane in attempts)
    own = sum(span.end - span.start for span in told["retried"].own)
    assert own + busy == pytest.approx(client.end - client.start, abs=0.01)


def test_the_spans_of_a_leg_follow_one_another_and_hold_all_its_chunks(told):
    for one in told.values():
        for lane in one.lanes:
            assert lane.spans[0].start == lane.start
            assert lane.spans[-1].end == lane.end
            for before, after in zip(lane.spans, lane.spans[1:], strict=False):
                assert (before.what, after.what) == ("waiting", "receiving")
                assert before.end == after.start
            assert all(lane.start <= mark.moment <= lane.end for mark in lane.chunks)
            assert [mark.number for mark in lane.chunks] == list(range(1, len(lane.chunks) + 1))


def test_a_stream_that_stands_still_at_the_backend_does_so_on_both_legs(told):
    client, attempt = told["paused"].lanes
    for lane in (client, attempt):
        (stall,) = lane.stalls
        assert (stall.after, stall.arose) == (2, "backend")
        assert stall.ms >= PAUSE * 900


def test_a_stream_that_the_proxy_holds_back_is_told_to_be_stalled_by_the_proxy(told):
    client, _ = told["held"].lanes
    (stall,) = client.stalls
    assert (stall.after, stall.arose) == (2, "proxy")
    assert {stall.arose for lane in told["held"].lanes for stall in lane.stalls} == {"proxy"}


def test_an_attempt_that_goes_on_after_its_client_left_is_told(told):
    client, attempt = told["left"].lanes
    assert client.exchange.outcome == "client_disconnect"
    assert told["left"].outlived_ms(attempt) == pytest.approx((attempt.end - client.end) * 1000)
    assert told["left"].outlived_ms(client) == 0
    assert all(told[how].outlived_ms(lane) == 0 for how in ("retried", "paused") for lane in told[how].lanes)


def test_no_stall_is_shorter_than_the_gap_that_was_asked_for(made):
    with Captures([made], use_index=False) as captures:
        flow = captures.flows()[1]
        assert not any(lane.stalls for lane in timeline_of(captures, flow, gap_ms=60_000).lanes)
        every = timeline_of(captures, flow, gap_ms=0).lanes[0]
        assert len(every.stalls) == len(every.chunks) + 1  # before the first, after each


def test_what_has_lost_its_requests_or_its_ends_is_told_as_far_as_it_is_known(made, tmp_path):
    for missing in (("_request",), ("_end", "_response"), ("_request", "_start"), ("_chunk",)):
        lines = [line for line in made.read_bytes().splitlines(keepends=True)
                 if not orjson.loads(line)["direction"].endswith(missing)]  # fmt: skip
        (tmp_path / "part.log").write_bytes(b"".join(lines))
        with Captures([tmp_path / "part.log"], use_index=False) as captures:
            flows = captures.flows()
            assert len(flows) == len(PATHS)
            for flow in flows:
                one = timeline_of(captures, flow, gap_ms=GAP_MS)
                assert one.lanes
                assert all(lane.start <= lane.end for lane in one.lanes)
                assert all(span.start <= span.end for lane in one.lanes for span in lane.spans)
                assert orjson.loads(orjson.dumps(one.document()))["request_id"] == flow.request_id


# -- the command -------------------------------------------------------------------------------------


def documents(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return [orjson.loads(line) for line in done.stdout.splitlines()]


def test_a_session_is_one_page_on_one_clock_and_a_flow_is_a_page_of_its_own(run, made):
    page = run(SESSION, str(made)).stdout.splitlines()
    assert page[0].startswith(f"session {SESSION}")
    assert sum(line.startswith("req_") for line in page) == len(PATHS)
    flows = documents(run(SESSION, str(made), "--json"))
    assert len(flows) == len(PATHS)
    single = run(flows[1]["request_id"][:10], str(made)).stdout
    assert sum(line.startswith("req_") for line in single.splitlines()) == 1
    assert documents(run(flows[1]["request_id"], str(made), "--json")) == [flows[1]]


def test_the_page_says_in_words_what_its_marks_say(run, made):
    done = run(SESSION, str(made), "--gap", "280ms")
    for text in ("(retry)", "(redirect)", "after chunk 2", "by the backend", "by the proxy", "client left", "503"):
        assert text in done.stdout
    assert "after the client had left" in done.stdout
    assert "stalls of 280ms or more" in done.stderr
    assert "stalled" in done.stdout.splitlines()[-1] + done.stdout.splitlines()[-2]


@pytest.mark.parametrize("columns", [20, 40, 79, 80, 120, 250])
@pytest.mark.sampled(2, rest="thorough")
def test_no_line_is_wider_than_the_terminal(run, made, columns):
    for gap in ("1ms", "1s"):
        lines = run(SESSION, str(made), "--gap", gap, COLUMNS=str(columns)).stdout.splitlines()
        assert max(map(len, lines)) <= max(columns, 40)
        assert any("█" in line for line in lines)


def test_colours_change_nothing_but_colours_and_other_encodings_get_other_marks(run, made):
    coloured = run(SESSION, str(made), FORCE_COLOR="1").stdout
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == run(SESSION, str(made), NO_COLOR="1").stdout
    plain = run(SESSION, str(made), PYTHONUTF8="0", PYTHONIOENCODING="ascii").stdout
    assert plain.isascii()
    assert "# chunk" in plain


def test_control_characters_of_the_data_are_escaped(run, made, tmp_path):
    def change(record):
        record["backend"] = record["backend"] and "b\x1b[31m\u202e"
        record["session_id"] = record["session_id"] and "s\x07"
        if isinstance(record["metadata"].get("url"), str):
            record["model"] = "m\x1b]0;x\x07"
        return record

    done = run("s", str(rewritten(made, tmp_path / "odd.log", change)))
    assert "b\\x1b[31m" in done.stdout
    assert not {"\x1b", "\x07", "\u202e"} & set(done.stdout)


def test_what_is_not_there_is_told_in_a_sentence(run, made):
    done = run("nothing-of-the-kind", str(made))
    assert (done.returncode, done.stdout) == (2, "")
    assert "no flow begins with 'nothing-of-the-kind'" in done.stderr
    assert "no session begins with" in done.stderr
    assert "'soon' is no duration" in run(SESSION, str(made), "--gap", "soon").stderr
