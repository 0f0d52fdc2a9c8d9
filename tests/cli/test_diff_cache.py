"""``otel-wirecap diff`` and ``cache`` on the capture of a gateway that changes things."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "reading"))

from rewriting_gateway import SESSION, capture

BODY = {"model": "m", "messages": [{"role": "user", "content": "a\x1b[31m"}], "max_tokens": 5, "top_k": 3}
LONGER = {**BODY, "messages": [*BODY["messages"], {"role": "user", "content": "b"}]}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    path = "v1/chat/completions"
    requests = [(f"/{how}/{path}", body) for how in ("prompted", "stamped", "same") for body in (BODY, LONGER)]
    return capture(tmp_path_factory.mktemp("gateway"), requests)


@pytest.fixture
def run(made, tmp_path):
    def call(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        options = [one for one in arguments[1:] if one.startswith("--")]
        subject = [one for one in arguments[1:] if not one.startswith("--")]
        base = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}}
        return subprocess.run(
            [sys.executable, "-m", "otel_wirecap", arguments[0], *subject, str(made), *options],
            env=base | {"XDG_CACHE_HOME": str(tmp_path), "PYTHONUTF8": "1"} | environ,
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    return call


@pytest.fixture
def flows(run) -> list[str]:
    return [json.loads(line)["request_id"] for line in run("ls", "--json").stdout.splitlines()]


@pytest.mark.thorough
def test_diff_tells_each_change_on_a_line_and_exits_with_1(run, flows):
    done = run("diff", flows[0])
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert "  > max_tokens → max_completion_tokens" in lines
    assert "  - top_k: 3" in lines
    assert "  + temperature: 0.5" in lines
    assert '  + header x-gateway: "1"' in lines
    assert not any("header host" in line for line in lines)
    assert any("~ header host" in line for line in run("diff", flows[0], "--headers").stdout.splitlines())


@pytest.mark.thorough
def test_diff_json_counts_what_its_comparisons_hold(run, flows):
    done = run("diff", flows[0], "--json")
    (document,) = map(json.loads, done.stdout.splitlines())
    assert [one["part"] for one in document["comparisons"]] == ["request", "response"]
    held = sum(len(one[part]) for one in document["comparisons"] for part in ("line", "headers", "body"))
    assert document["differences"] == held > 4
    assert done.returncode == 1


@pytest.mark.thorough
def test_diff_fits_the_terminal_and_escapes_what_would_command_it(run, flows):
    text = run("diff", flows[2], COLUMNS="60").stdout
    assert "\x1b" not in text
    assert max(len(line) for line in text.splitlines() if line.startswith("  ")) <= 60
    assert "\x1b[33m" in run("diff", flows[0], FORCE_COLOR="1").stdout


def test_diff_of_nothing_changed_exits_with_0(run, flows, made, tmp_path):
    """The gateway's clients send headers of their own; without these nothing is left that differs."""
    records = [json.loads(line) for line in made.read_text().splitlines()]
    for record in records:
        for name in ("headers", "request_headers"):
            record["metadata"].pop(name, None)
    bare = tmp_path / "bare.log"
    bare.write_text("".join(json.dumps(record) + "\n" for record in records))
    command = [sys.executable, "-m", "otel_wirecap", "diff", "--no-index"]
    codes = [subprocess.run([*command, flow, str(bare)], capture_output=True, timeout=120).returncode for flow in flows]
    assert codes == [1, 1, 1, 1, 0, 0]


def test_cache_names_who_broke_it_where_and_exits_with_1(run):
    done = run("cache", SESSION[:6])
    assert done.returncode == 1
    assert done.stdout.count("broken by the proxy") >= 1
    assert "messages[0].content[0].text at character 25" in done.stdout
    assert "240 of 600 tokens came from the cache" in done.stderr
    documents = [json.loads(line) for line in run("cache", SESSION, "--json").stdout.splitlines()]
    assert len(documents) == 6
    assert documents[3]["verdict"] == "proxy"
    assert documents[0]["verdict"] == "first"


def test_unknown_flows_and_sessions_are_told(run):
    for command in ("diff", "cache"):
        done = run(command, "nowhere")
        assert (done.returncode, done.stdout) == (2, "")
        assert "'nowhere'" in done.stderr
