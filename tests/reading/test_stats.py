"""Flows in numbers are what the records say, however the lines are read; percentiles are near the exact ones."""

from __future__ import annotations

import gzip
import itertools
import os
import statistics
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings, strategies as st
from selection import examples

from otel_wirecap.capture.formats import CBOR, JSONLines
from otel_wirecap.reading import flow_parts, index
from otel_wirecap.reading.captures import Captures
from otel_wirecap.reading.distribution import ACCURACY, Distribution
from otel_wirecap.reading.flows import FlowCollector
from otel_wirecap.reading.quick import QuickCollector, quick_flows
from otel_wirecap.reading.stats import TIMES, Statistics, statistics_of

sys.path.insert(0, str(Path(__file__).parent))

from pausing_gateway import BETWEEN_ATTEMPTS, PATHS, PAUSE, capture

VALUES = st.lists(st.floats(0, 1e9), min_size=1, max_size=200)


@given(VALUES, st.sampled_from([0, 1, 50, 90, 99, 100]))
def test_a_percentile_is_off_by_a_hundredth_at_most(values, percent):
    distribution = Distribution()
    for value in values:
        distribution.add(value)
    exact = sorted(values)[int(percent / 100 * (len(values) - 1))]
    assert distribution.percentile(percent) == pytest.approx(exact, rel=ACCURACY * 1.01, abs=2e-6)
    assert (distribution.count, distribution.least, distribution.most) == (len(values), min(values), max(values))


@given(VALUES, VALUES, st.integers(1, 40))
def test_two_distributions_make_one_as_if_their_values_were_added_one_by_one(some, others, columns):
    whole, first, second = Distribution(), Distribution(), Distribution()
    for value in some:
        whole.add(value)
        first.add(value)
    for value in others:
        whole.add(value)
        second.add(value)
    first.merge(second)
    told = first.document()
    assert told.pop("mean") == pytest.approx(whole.document()["mean"])
    assert told == {name: value for name, value in whole.document().items() if name != "mean"}
    assert first.histogram(columns) == whole.histogram(columns)
    assert sum(first.histogram(columns)) == len(some) + len(others)


def test_of_nothing_there_is_no_percentile():
    assert Distribution().percentile(50) is None
    assert Distribution().document() == {"count": 0}
    assert Distribution().histogram(3) == [0, 0, 0]


# -- gaps ------------------------------------------------------------------------------------------------------------


def counted(statistics: Statistics) -> list[dict]:
    """The gaps of both legs, but for the mean: that depends on the order in which they were added."""
    return [
        {**one.document(), "mean": None, "histogram": one.histogram(50)}
        for one in (statistics.backend_gap_ms, statistics.client_gap_ms)
    ]


def by_records(lines) -> dict[str, list[float]]:
    """The gaps of each leg, from records that are parsed as a whole."""
    moments = defaultdict(list)
    for line in lines:
        record = orjson.loads(line)
        if record["direction"] in {"stream_chunk", "outbound_stream_chunk"}:
            moments[record["direction"], record["metadata"]["exchange_id"]].append(record["timestamp_unix"])
    found = defaultdict(list)
    for (direction, _), times in moments.items():
        found[direction] += [(after - before) * 1000 for before, after in itertools.pairwise(times)]
    return found


def gaps_of(path: Path, *, use_index: bool = False) -> Statistics:
    with Captures([path], use_index=use_index) as captures:
        return statistics_of(captures.flows())


def test_the_gaps_are_those_between_the_records_of_chunks(demo, demo_lines):
    found, exact = gaps_of(demo), by_records(demo_lines)
    for distribution, direction in (
        (found.backend_gap_ms, "stream_chunk"),
        (found.client_gap_ms, "outbound_stream_chunk"),
    ):
        assert distribution.count == len(exact[direction]) > 50
        assert distribution.total == pytest.approx(sum(exact[direction]), abs=0.01)
        assert distribution.most == pytest.approx(max(exact[direction]), abs=0.01)
        assert distribution.percentile(50) == pytest.approx(statistics.median_low(exact[direction]), rel=0.03)


@settings(deadline=None, max_examples=examples(30))
@given(st.lists(st.integers(0, 320_000), max_size=5))
def test_the_gaps_of_parts_make_those_of_the_whole(demo_lines, tmp_path_factory, cuts):
    path = tmp_path_factory.mktemp("parts") / "demo.log"
    path.write_bytes(b"".join(demo_lines))
    with Captures([path], use_index=False) as captures:
        (source,) = captures.sources
        whole, found = quick_flows(source), FlowCollector()
        bounds = sorted({0, source.size, *(min(cut, source.size) for cut in cuts)})
        for start, end in itertools.pairwise(bounds):
            found.merge(quick_flows(source, start, end))
    assert counted(statistics_of(found.flows)) == counted(statistics_of(whole.flows))


def test_a_clock_that_is_set_back_between_two_chunks_makes_no_negative_gap(demo_lines, tmp_path):
    (line,) = itertools.islice((one for one in demo_lines if b'"direction":"stream_chunk"' in one), 1)
    records = [orjson.loads(line) | {"timestamp_unix": moment} for moment in (100.0, 101.0, 100.5, 101.25)]
    lines = [orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records]
    slow = FlowCollector()
    for record in records:
        slow.add(record)
    for parts in ([lines], [lines[:2], lines[2:]], [[one] for one in lines]):
        merged = FlowCollector()
        for part in parts:
            quick = QuickCollector("file")
            quick.take(0, b"".join(part))
            merged.merge(quick.finish())
        for collector in (merged, slow):
            (flow,) = collector.flows
            gaps = flow.attempts[0].gaps.ms
            assert (gaps.count, gaps.least, gaps.most, gaps.total) == (3, 0.0, 1000.0, 1750.0)


def test_gaps_are_the_same_by_several_processes_compressed_in_cbor_indexed_and_in_another_order_of_members(
    demo, demo_lines, tmp_path, monkeypatch
):
    exact = counted(gaps_of(demo))
    packed = tmp_path / "packed.log"
    packed.write_bytes(gzip.compress(demo.read_bytes()))
    assert counted(gaps_of(packed)) == exact
    cbor = tmp_path / "capture.cbor"
    cbor.write_bytes(b"".join(CBOR().encode(JSONLines().decode(line)) for line in demo_lines))
    assert counted(gaps_of(cbor)) == exact
    turned = tmp_path / "turned.log"
    turned.write_bytes(
        b"".join(
            orjson.dumps(dict(reversed(orjson.loads(line).items())), option=orjson.OPT_APPEND_NEWLINE)
            for line in demo_lines
        )
    )
    assert counted(gaps_of(turned)) == exact
    monkeypatch.setattr(index, "MIN_BYTES", 1)
    half = len(demo_lines) // 2
    growing = tmp_path / "growing.log"
    growing.write_bytes(b"".join(demo_lines[:half]))
    gaps_of(growing, use_index=True)
    with growing.open("ab") as file:
        file.writelines(demo_lines[half:])
    assert counted(gaps_of(growing, use_index=True)) == exact  # an index, and what came after it
    assert counted(gaps_of(growing, use_index=True)) == exact  # an index alone
    monkeypatch.setattr(flow_parts, "MANY_BYTES", 1)
    monkeypatch.setattr(flow_parts, "PART_BYTES", 20_000)
    assert counted(gaps_of(demo)) == exact


def test_gaps_are_those_of_the_flows_that_were_chosen(demo):
    with Captures([demo], use_index=False) as captures:
        flow = next(flow for flow in captures.flows() if flow.outer.chunk_count > 3)
        assert statistics_of([flow]).client_gap_ms.count == flow.outer.chunk_count - 1


# -- numbers ---------------------------------------------------------------------------------------------------------


def test_requests_errors_and_tokens_are_those_of_the_records(demo, demo_lines):
    with Captures([demo], use_index=False) as captures:
        flows = captures.flows()
        told = statistics_of(flows).document()
    records = [orjson.loads(line) for line in demo_lines]
    directions = Counter(record["direction"] for record in records)
    assert (told["requests"], told["attempts"]) == (directions["inbound_request"], directions["outbound_request"])
    durations = [
        record["metadata"]["duration_ms"]
        for record in records
        if record["direction"] in {"outbound_response", "outbound_stream_end"}
        and not record["metadata"].get("assembled")
    ]
    assert told["duration_ms"]["count"] == len(durations)
    assert told["duration_ms"]["mean"] == pytest.approx(statistics.mean(durations))
    assert told["duration_ms"]["max"] == max(durations)
    assert told["failed"] == sum(told["client_errors"].values()) == sum(told["backend_errors"].values()) > 0
    assert told["usage"]["input"] == sum(flow.usage.input for flow in flows if flow.usage)
    answers = [one for flow in flows for one in flow.attempts or flow.exchanges]
    assert told["unpriced"] == sum(one.usage is not None for one in answers)
    assert set(TIMES) <= told.keys()


@pytest.mark.thorough
def test_the_proxys_own_time_is_what_it_waited_itself(tmp_path):
    with Captures([capture(tmp_path)], use_index=False) as captures:
        flows = dict(zip(PATHS, captures.flows(), strict=True))
    added = {}
    for how, flow in flows.items():
        alone = Statistics()
        alone.add(flow)
        added[how] = alone.added_ms
    assert {one.count for one in added.values()} == {1}
    assert added["retried"].most >= BETWEEN_ATTEMPTS * 900
    # What comes after the headers, a backend that stalls or a proxy that holds chunks back, is no part of it.
    assert max(added["paused"].most, added["held"].most) < PAUSE * 1000


# -- the command -----------------------------------------------------------------------------------------------------


def stats(*arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}}
    command = [sys.executable, "-m", "otel_wirecap", "stats", *map(str, arguments)]
    base = {"PYTHONUTF8": "1", **kept, **environ}
    return subprocess.run(command, env=base, capture_output=True, text=True, timeout=120)


def test_the_command_shows_counts_percentiles_histograms_and_groups(demo):
    told = stats(demo)
    assert told.returncode == 0
    assert "13 by clients; 13 attempts at backends" in told.stdout
    for name in ("total", "headers", "first chunk", "backend chunk gap", "added by proxy", "tokens per second"):
        (line,) = (line for line in told.stdout.splitlines() if line.startswith(name))
        assert "█" in line
    assert "model " in told.stdout
    assert "backend " in told.stdout
    assert told.stderr == "otel-wirecap: 13 of 13 flows\n"


@pytest.mark.thorough
def test_the_command_is_plain_where_blocks_cannot_be_written_and_fits_where_it_is_narrow(demo):
    plain = {"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    told = stats(demo, **plain)
    assert told.returncode == 0
    assert told.stdout.isascii()
    assert "#" in told.stdout
    told = stats(demo, **plain, COLUMNS="60")
    assert "p50" in told.stdout
    assert max(map(len, told.stdout.splitlines())) <= 60


@pytest.mark.thorough
def test_the_command_takes_the_choice_of_ls_and_answers_in_json(demo):
    told = orjson.loads(stats(demo, "--json", "--failed", "--by", "error").stdout)
    assert told["requests"] == told["failed"] == 2
    assert {group["error"] for group in told["by"]["error"]} == set(told["client_errors"])
    none = stats(demo, "--model", "no-such-model")
    assert (none.returncode, none.stdout, none.stderr) == (0, "", "otel-wirecap: 0 of 13 flows\n")
