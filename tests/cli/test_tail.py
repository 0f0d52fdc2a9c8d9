"""``otel-wirecap tail``: the last events, what comes live, flows as they end."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

COMMAND = [sys.executable, "-m", "otel_wirecap"]


@pytest.fixture
def made(demo_capture: Path) -> Path:
    """The demonstration's capture."""
    return demo_capture


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("WIRE_CAPTURE", "OTEL_"))}


def run(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "tail", *arguments]
    return subprocess.run(command, input=given, capture_output=True, text=True, timeout=120, env=clean())


def test_the_last_events_are_shown_one_a_line(made: Path) -> None:
    records = [json.loads(line) for line in made.read_text().splitlines()]
    lines = run("-n", "7", str(made)).stdout.splitlines()
    assert len(lines) == 7
    for line, record in zip(lines, records[-7:], strict=True):
        assert record["direction"] in line
    told = run("-n", "7", "--json", str(made)).stdout.splitlines()
    assert [json.loads(line) for line in told] == records[-7:]


def test_a_rotated_file_a_bundle_and_standard_input_have_last_events_too(made: Path, tmp_path: Path) -> None:
    records = [json.loads(line) for line in made.read_text().splitlines()]
    packed, bundle = tmp_path / "capture.log.1.gz", tmp_path / "flow.json"
    packed.write_bytes(gzip.compress(made.read_bytes()))
    flow = next(one["metadata"]["request_id"] for one in records if "request_id" in one["metadata"])
    export = [*COMMAND, "export", "--to", "bundle", "--flow", flow, "-o", str(bundle), str(made)]
    subprocess.run(export, capture_output=True, check=True, env=clean())
    for name in (str(packed), str(bundle), "-"):
        done = run("-n", "100000", "--json", name, given=made.read_text())
        assert (done.returncode, done.stderr) == (0, "")
        told = [json.loads(line) for line in done.stdout.splitlines()]
        if name == str(bundle):
            assert {one["metadata"].get("request_id") for one in told} - {None} == {flow}
        else:
            assert told == records
        last = run("-n", "2", "--json", name, given=made.read_text()).stdout.splitlines()
        assert last == done.stdout.splitlines()[-2:]


def test_flows_are_shown_as_they_end(made: Path) -> None:
    done = run("--flows", "--json", "-n", "100000", str(made))
    flows = [json.loads(line) for line in done.stdout.splitlines()]
    records = [json.loads(line) for line in made.read_text().splitlines()]
    named = {record["metadata"]["request_id"] for record in records if "request_id" in record["metadata"]}
    assert {flow["request_id"] for flow in flows} == named
    assert len(run("--flows", "-n", "100000", str(made)).stdout.splitlines()) == len(flows)


@pytest.mark.parametrize(
    ("options", "holds"),
    [
        (["--backend", "gemini"], lambda one: one["backend"] == "gemini"),
        (["--model", "large"], lambda one: "large" in (one["model"] or "")),
        (["--session", "demo-"], lambda one: (one["session_id"] or "").startswith("demo-")),
        (["--direction", "stream_end"], lambda one: one["direction"] == "stream_end"),
        (["--status", "4xx"], lambda one: one["metadata"].get("status_code") == 429),
        (["--grep", "overloaded_err[o]r"], lambda one: "overloaded_error" in json.dumps(one["payload"])),
        (
            ["--failed", "--backend", "anthropic"],
            lambda one: one["backend"] == "anthropic"
            and (one["metadata"].get("error") is not None
                 or ("error" in (one["payload"] or ()) and one["direction"].endswith("_response"))),
        ),
    ],
)  # fmt: skip
@pytest.mark.sampled(3, rest="thorough")
def test_the_last_events_are_the_last_of_those_that_were_chosen(made: Path, options: list[str], holds: Any) -> None:
    records = [json.loads(line) for line in made.read_text().splitlines()]
    wanted = [record for record in records if holds(record)]
    assert 0 < len(wanted) < len(records)
    told = run(*options, "--json", "-n", "3", str(made)).stdout.splitlines()
    assert [json.loads(line) for line in told] == wanted[-3:]
    assert len(run(*options, "-n", "100000", str(made)).stdout.splitlines()) == len(wanted)


@pytest.mark.parametrize(
    "options",
    [
        ["--failed"], ["--status", "429"], ["--backend", "gemini"], ["--model", "demo-large"], ["--session", "nobody"],
        ["--direction", "stream_end"], ["--grep", "Overloaded"], ["--grep", "Overloaded", "--backend", "openai"],
    ],
)  # fmt: skip
@pytest.mark.sampled(1, rest="thorough")
def test_flows_are_chosen_as_ls_chooses_them(made: Path, options: list[str]) -> None:
    command = [*COMMAND, "ls", "--json", *options, str(made)]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, env=clean()).stdout
    told = run("--flows", "--json", "-n", "100000", *options, str(made)).stdout
    assert sorted(told.splitlines()) == sorted(listed.splitlines())


def test_what_comes_live_is_chosen_too(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "live.log"
    lines = made.read_bytes().splitlines(keepends=True)
    command = [*COMMAND, "tail", "-F", "--json", "--direction", "stream_end", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean()) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert b"not there yet" in process.stderr.readline()
        path.write_bytes(b"".join(lines))
        wanted = [one for one in map(json.loads, lines) if one["direction"] == "stream_end"]
        assert [json.loads(process.stdout.readline()) for _ in wanted] == wanted
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130


def test_an_option_that_would_mean_nothing_is_not_there(made: Path) -> None:
    done = run("--no-index", str(made))
    assert done.returncode == 2
    assert "unrecognized arguments: --no-index" in done.stderr


def test_what_comes_is_shown_live_also_of_a_capture_that_is_not_there_yet(made: Path, tmp_path: Path) -> None:
    path = tmp_path / "live.log"
    lines = made.read_bytes().splitlines(keepends=True)
    command = [*COMMAND, "tail", "-F", "--json", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean()) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert b"not there yet" in process.stderr.readline()
        path.write_bytes(b"".join(lines[:3]))
        told: list[Any] = [json.loads(process.stdout.readline()) for _ in range(3)]
        path.rename(tmp_path / "live.log.1")
        path.write_bytes(b"".join(lines[3:6]))
        told += [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert told == [json.loads(line) for line in lines[:6]]


def test_it_ends_when_nobody_reads_on(made: Path) -> None:
    command = [*COMMAND, "tail", "-F", str(made)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean()) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_what_cannot_be_followed_is_told_in_a_sentence(tmp_path: Path) -> None:
    done = run(str(tmp_path / "none.log"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "no such file" in done.stderr
    done = run("a.log", "b.log")
    assert done.returncode == 2
    assert "one capture" in done.stderr
    assert run("-n", "x").returncode == 2
