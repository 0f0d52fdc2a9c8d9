"""``otel-wirecap ls`` and ``show``, driven as an engineer on call drives them."""

from __future__ import annotations

import gzip
import http.server
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import orjson
import pytest

from otel_wirecap.cli.text import Cell, Column, Style, cut, table, width_of

COMMAND = [sys.executable, "-m", "otel_wirecap"]
HEAVY = ("opentelemetry", "httpx", "httpx2", "yaml", "wrapt", "asyncio")


@pytest.fixture
def made(demo_capture) -> Path:
    """The demonstration's capture."""
    return demo_capture


@pytest.fixture
def run(made, tmp_path):
    """Runs a command in a folder with the demonstration's capture as ``demo.log``."""
    shutil.copy(made, tmp_path / "demo.log")

    def call(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        base = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}}
        known = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONUTF8": "1"}
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=tmp_path,
            env=base | known | environ,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return call


def listed(done) -> list[dict]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


# -- ls ----------------------------------------------------------------------------------------------


def test_ls_shows_every_flow_with_what_happened_on_both_legs(run):
    done = run("ls", "demo.log")
    assert done.returncode == 0
    heading, *rows = done.stdout.splitlines()
    assert heading.split()[:2] == ["flow", "time"]
    assert len(rows) == 13
    assert sum("openai 429" in row for row in rows) == 1
    assert sum(row.endswith("overloaded_error") for row in rows) == 1
    assert sum(row.endswith("client left") for row in rows) == 1
    assert re.fullmatch(
        r"otel-wirecap: 13 of 13 flows, \d+ records\n"
        r"otel-wirecap: costs are not complete: (?:model demo-\S+ is not in the price table(?:; )?)+\n",
        done.stderr,
    )


def test_ls_json_has_one_object_a_flow_with_its_exchanges_and_tokens(run):
    flows = listed(run("ls", "--json", "demo.log"))
    assert len(flows) == 13
    assert all([leg["leg"] for leg in flow["exchanges"]] == ["client", "backend"] for flow in flows)
    assert all(flow["usage"]["input"] > 0 for flow in flows if flow["error"] is None and flow["outcome"] == "complete")
    assert [flow["started"] for flow in flows] == sorted(flow["started"] for flow in flows)


@pytest.mark.parametrize(
    ("options", "holds", "count"),
    [
        (["--failed"], lambda flow: flow["error"] is not None, 2),
        (["--status", "429"], lambda flow: flow["status"] == 429, 1),
        (["--status", "4xx"], lambda flow: flow["status"] == 429, 1),
        (["--backend", "gemini"], lambda flow: flow["backend"] == "gemini", 2),
        (["--model", "demo-large"], lambda flow: flow["model"] == "demo-large", 3),
        (["--session", "demo-con"], lambda _: True, 13),
        (["--slow", "100ms"], lambda flow: flow["duration_ms"] > 100, None),
        (["--direction", "outbound_stream_end"], lambda flow: flow["exchanges"][0]["streamed"], 7),
        (["--direction", "system_stop"], lambda _: False, 0),
        (["--grep", "overloaded_err[o]r"], lambda flow: flow["error"] == "overloaded_error", 1),
        (["--since", "1h"], lambda _: True, 13),
        (["--until", "2026-01-01"], lambda _: False, 0),
        (["--failed", "--backend", "anthropic"], lambda flow: flow["error"] == "overloaded_error", 1),
    ],
)
@pytest.mark.sampled(1, rest="thorough")
def test_ls_chooses(run, options, holds, count):
    everything = listed(run("ls", "--json", "demo.log"))
    chosen = listed(run("ls", "--json", "demo.log", *options))
    assert all(map(holds, chosen))
    assert count is None or len(chosen) == count
    names = {flow["request_id"] for flow in chosen}
    if count != 0 and options[0] != "--session":
        assert names == {flow["request_id"] for flow in everything if holds(flow)}


@pytest.mark.parametrize("by", ["session", "backend", "model", "error", "key_name"])
@pytest.mark.thorough
def test_ls_adds_flows_up_by_what_they_have_in_common(run, by):
    groups = listed(run("ls", "--json", "--by", by, "demo.log"))
    flows = listed(run("ls", "--json", "demo.log"))
    assert sum(group["flows"] for group in groups) == 13
    assert sum(group["failed"] for group in groups) == 2
    tokens = sum(flow["usage"]["input"] for flow in flows if flow["usage"])
    assert sum(group["usage"]["input"] for group in groups) == tokens
    assert len(run("ls", "--by", by, "demo.log").stdout.splitlines()) == len(groups) + 1


@pytest.mark.thorough
def test_ls_reads_the_capture_that_the_environment_names(run, tmp_path):
    assert len(run("ls", "--json", WIRE_CAPTURE_FILE="demo.log").stdout.splitlines()) == 13
    done = run("ls")
    assert done.returncode == 2
    assert done.stderr == "otel-wirecap: capture 'wire_capture.log' cannot be read: no such file\n"


@pytest.mark.thorough
def test_ls_reads_several_captures_and_compressed_ones(run, tmp_path):
    lines = (tmp_path / "demo.log").read_bytes().splitlines(keepends=True)
    (tmp_path / "a.log").write_bytes(gzip.compress(b"".join(lines[::2])))
    (tmp_path / "b.log").write_bytes(b"".join(lines[1::2]))
    assert run("ls", "--json", "a.log", "b.log").stdout == run("ls", "--json", "demo.log").stdout


@pytest.mark.thorough
def test_options_may_stand_before_between_and_behind_the_captures(run):
    flow = flow_with(run, status=429)["request_id"]
    wanted = run("show", flow, "demo.log", "--leg", "client").stdout
    assert wanted
    for order in (
        ("--leg", "client", flow, "demo.log"),
        (flow, "--leg", "client", "demo.log"),
        (flow, "--leg=client", "--", "demo.log"),
    ):
        assert run("show", *order).stdout == wanted
    assert len(listed(run("ls", "demo.log", "--json", "demo.log"))) == 13
    done = run("show", "--leg", "client")
    assert done.returncode == 2
    assert done.stderr.endswith("the following arguments are required: FLOW\n")
    assert "unrecognized arguments: --wrong" in run("show", flow, "--wrong", "demo.log").stderr


@pytest.mark.thorough
def test_files_that_are_left_out_because_they_are_encrypted_are_told_and_are_no_damage(run, tmp_path):
    (tmp_path / "demo.log.2.age").write_bytes(b"age-encryption.org/v1\n-> X25519 x\n")
    for command in (("ls", "demo.log"), ("ls", "demo.log", "--json"), ("show", "ex_", "demo.log")):
        told = [line for line in run(*command).stderr.splitlines() if "encrypted" in line]
        assert told == [
            "otel-wirecap: left out because encrypted: 'demo.log.2.age'; "
            "decrypt each: age --decrypt -i KEY -o NAME NAME.age"
        ]
    assert "damaged" not in run("ls", "demo.log").stderr


def test_wrong_arguments_say_what_would_be_right(run):
    for options, text in [
        (["--slow", "fast"], "'fast' is no duration; expected a number with ms, s, m, h or d"),
        (["--since", "yesterday"], "'yesterday' is no moment"),
        (["--status", "ok"], "'ok' is no status; expected 429, or 5xx"),
        (["--grep", "("], "'(' is no regular expression"),
    ]:
        done = run("ls", "demo.log", *options)
        assert done.returncode == 2
        assert text in done.stderr


def test_control_characters_of_the_data_are_escaped(run, tmp_path):
    path = tmp_path / "demo.log"
    changed = path.read_bytes().replace(b'"demo-small"', b'"demo\\u001b[31m\\u202e"')
    path.write_bytes(changed.replace(b"demo-conversation", b"x\\u0007y"))
    name = listed(run("ls", "--json", "demo.log"))[0]["request_id"]
    for done in (run("ls", "demo.log"), run("show", name, "demo.log")):
        assert "demo\\x1b[31m\\u202e" in done.stdout
        assert not {"\x1b", "\x07", "\u202e"} & set(done.stdout)


@pytest.mark.thorough
def test_colours_are_as_the_environment_wants_them(run):
    assert "\x1b[" not in run("ls", "demo.log").stdout
    assert "\x1b[" in run("ls", "demo.log", FORCE_COLOR="1").stdout
    plain = re.sub(r"\x1b\[[0-9;]*m", "", run("ls", "demo.log", FORCE_COLOR="1").stdout)
    assert plain == run("ls", "demo.log", NO_COLOR="1").stdout


@pytest.mark.parametrize("columns", [50, 80, 120, 200])
@pytest.mark.sampled(1, rest="thorough")
def test_no_line_is_wider_than_the_terminal_and_ids_stay_whole(run, columns):
    lines = run("ls", "demo.log", COLUMNS=str(columns)).stdout.splitlines()
    assert max(map(len, lines)) <= columns
    assert all(re.match(r"req_[0-9a-f]{8}", line) for line in lines[1:])


@pytest.mark.tools
def test_a_closed_pipe_is_no_error(run, tmp_path):
    name = listed(run("ls", "--json", "demo.log"))[1]["request_id"]
    for what in (
        "ls --json demo.log",
        "ls demo.log",
        f"show {name} demo.log --full",
        f"show {name} demo.log --raw response",
    ):
        # The reader is gone before the first byte.
        command = f"(sleep 0.3; {sys.executable} -m otel_wirecap {what}; echo $? > code) | true"
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.stderr.startswith("otel-wirecap: ") or done.stderr == ""
        assert "Traceback" not in done.stderr
        assert "BrokenPipe" not in done.stderr
        assert (tmp_path / "code").read_text() == "0\n"


def test_reading_imports_nothing_of_what_records(made):
    program = f"""
import sys
sys.modules["genai_prices"] = None  # the extra that tells costs brings a lot along
from otel_wirecap.cli import main
main(["ls", {str(made)!r}])
main(["show", "ex_", {str(made)!r}])
print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("WIRE_CAPTURE", "OTEL_"))}
    # Without site's .pth files: some packages import a lot from theirs.
    path = os.pathsep.join([str(Path(__file__).parents[2]), *(p for p in sys.path if p.endswith("site-packages"))])
    environ["PYTHONPATH"] = path
    done = subprocess.run([sys.executable, "-S", "-c", program], env=environ, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize(("columns", "is_loaded"), [("80", False), ("400", True)])
@pytest.mark.sampled(1, rest="thorough")
def test_the_table_of_prices_is_loaded_only_where_costs_have_room(made, columns, is_loaded, tmp_path):
    pytest.importorskip("genai_prices")
    program = f"""
import sys
from otel_wirecap.cli import main
main(["ls", {str(made)!r}])
print("genai_prices" in sys.modules, file=sys.stderr)
"""
    known = {"COLUMNS": columns, "PYTHONPATH": str(Path(__file__).parents[2]), "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | known, capture_output=True, text=True, timeout=120
    )
    assert done.stderr.splitlines()[-1] == str(is_loaded)


# -- show --------------------------------------------------------------------------------------------


def flow_with(run, **wanted):
    return next(
        flow for flow in listed(run("ls", "--json", "demo.log"))
        if all(flow[name] == value for name, value in wanted.items())
    )  # fmt: skip


def test_show_tells_all_four_legs_in_their_order(run):
    flow = flow_with(run, error="overloaded_error")
    text = run("show", flow["request_id"], "demo.log").stdout
    titles = [line.split("  ")[0] for line in text.splitlines() if line.startswith("── ")]
    assert titles == [
        "── client → proxy", "── proxy → anthropic, attempt 1", "── anthropic → proxy, attempt 1", "── proxy → client",
    ]  # fmt: skip
    assert "(the same bytes as the client's)" in text
    assert "! provider: Overloaded" in text
    assert "ANTHROPIC_API_KEY" in text
    assert "x-api-key" not in text
    assert "x-api-key: [REDACTED]" in run("show", flow["request_id"], "demo.log", "--headers").stdout


@pytest.mark.thorough
def test_show_takes_the_shortest_beginning_that_is_enough_and_names_the_flows_otherwise(run):
    flow = flow_with(run, status=429)
    short = run("ls", "demo.log", "--status", "429").stdout.splitlines()[1].split()[0]
    assert flow["request_id"].startswith(short)
    assert flow["request_id"] in run("show", short, "demo.log").stdout
    done = run("show", "req_", "demo.log")
    assert (done.returncode, done.stdout) == (2, "")
    assert "13 flows begin with 'req_'" in done.stderr


def test_show_cuts_long_bodies_and_says_how_to_see_the_rest(run, tmp_path):
    line = (tmp_path / "demo.log").read_bytes().splitlines()[1]
    record = orjson.loads(line)
    record["payload"]["messages"] = [{"role": "user", "content": f"turn {n}"} for n in range(40)]
    (tmp_path / "long.log").write_bytes(orjson.dumps(record) + b"\n")
    name = record["metadata"]["request_id"]
    assert "more lines; --full shows them" in run("show", name, "long.log").stdout
    assert '"turn 39"' in run("show", name, "long.log", "--full").stdout


@pytest.mark.thorough
def test_show_raw_gives_the_exact_bytes_and_nothing_else(run, tmp_path):
    flow = flow_with(run, backend="anthropic", chunks=25)
    done = run("show", flow["request_id"], "demo.log", "--raw", "response")
    chunks = [
        record["payload"] for record in map(orjson.loads, (tmp_path / "demo.log").read_bytes().splitlines())
        if record["direction"] == "stream_chunk" and record["metadata"]["request_id"] == flow["request_id"]
    ]  # fmt: skip
    assert done.stdout == "".join(chunks)
    assert len(done.stdout.encode()) == flow["exchanges"][1]["bytes"]
    asked = run("show", flow["request_id"], "demo.log", "--raw", "request", "--leg", "client").stdout
    assert len(asked.encode()) == flow["exchanges"][0]["request_bytes"]


@pytest.mark.thorough
def test_show_chunks_marks_where_a_stream_stood_still(run, tmp_path):
    flow = flow_with(run, backend="anthropic", chunks=25)
    lines = []
    for line in (tmp_path / "demo.log").read_bytes().splitlines():
        record = orjson.loads(line)
        if record["direction"] == "stream_chunk" and record["metadata"]["chunk_number"] >= 9:
            record["timestamp_unix"] += 3
        lines.append(orjson.dumps(record))
    (tmp_path / "slow.log").write_bytes(b"\n".join(lines))
    rows = run("show", flow["request_id"], "slow.log", "--chunks", "--leg", "backend").stdout.splitlines()[1:]
    assert len(rows) == 25
    assert [number for number, row in enumerate(rows, 1) if "<- gap" in row] == [9]
    (document,) = listed(run("show", flow["request_id"], "slow.log", "--chunks", "--json"))
    assert [len(leg["chunks"]) for leg in document["legs"]] == [25, 25]


@pytest.mark.thorough
def test_show_events_are_those_of_the_stream(run):
    flow = flow_with(run, backend="anthropic", chunks=25)
    text = run("show", flow["request_id"], "demo.log", "--events", "--leg", "backend").stdout
    assert "event 1 message_start:" in text
    assert "message_stop" in text


@pytest.mark.thorough
def test_a_leg_that_is_not_there_is_told(run):
    done = run("show", flow_with(run, status=429)["request_id"], "demo.log", "--attempt", "7")
    assert done.returncode == 2
    assert "has no such leg: it has the client's, attempt 1" in done.stderr


class Echo(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.seen.append((self.path, dict(self.headers.items()), body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_command_sends_the_same_request_with_the_key_from_the_environment(run, tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        server.seen = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for backend, header, prefix in (("openai", "Authorization", "Bearer "), ("anthropic", "x-api-key", "")):
            flow = flow_with(run, backend=backend, error=None)
            command = run("show", flow["request_id"], "demo.log", "--curl").stdout
            key = secrets.token_hex(20)
            assert key not in command
            command = re.sub(r"http://127\.0\.0\.1:\d+", f"http://127.0.0.1:{server.server_port}", command)
            environ = os.environ | {flow["key_name"]: key}
            subprocess.run(["sh", "-ec", command], env=environ, check=True, capture_output=True)
            path, headers, body = server.seen.pop()
            leg = flow["exchanges"][1]
            assert leg["url"].endswith(path)
            assert {name.lower(): value for name, value in headers.items()}[header.lower()] == prefix + key
            assert body == run("show", flow["request_id"], "demo.log", "--raw", "request").stdout.encode()
        server.shutdown()


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_a_terminal_shows_a_table_that_fits_with_colours(made, tmp_path):
    shutil.copy(made, tmp_path / "demo.log")
    tmux = ["tmux", "-L", f"wirecap-{os.getpid()}", "-f", "/dev/null"]
    shell = f"LC_ALL=C.UTF-8 {sys.executable} -m otel_wirecap ls demo.log; echo ended; sleep 60"
    session = [*tmux, "new-session", "-d", "-x", "72", "-y", "40", "-c", str(tmp_path), "sh", "-c", shell]
    subprocess.run(session, check=True)
    try:
        screen, deadline = "", time.monotonic() + 20
        while "ended" not in screen and time.monotonic() < deadline:
            time.sleep(0.1)
            pane = subprocess.run([*tmux, "capture-pane", "-p", "-e"], capture_output=True, text=True, check=True)
            screen = pane.stdout
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)
    assert "\x1b[" in screen
    lines = re.sub(r"\x1b\[[0-9;]*m", "", screen).splitlines()
    rows = [line for line in lines if line.startswith("req_")]
    assert len(rows) == 13, screen  # none is wrapped
    assert max(map(len, lines)) <= 72


# -- tables ------------------------------------------------------------------------------------------


def test_wide_characters_count_as_the_columns_that_they_take():
    assert width_of("漢字") == 4
    assert width_of("e\u0301") == 1
    assert [cut("漢字かな", width) for width in (8, 5, 4, 1)] == ["漢字かな", "漢字…", "漢…", "…"]
    assert cut("abcdef", 4) == "abc…"


def test_a_narrow_table_leaves_out_the_least_important_columns_first():
    columns = [Column("a"), Column("b", rank=1), Column("c", rank=2)]
    row = [Cell("x" * 8), Cell("y" * 8), Cell("z" * 8)]
    style = Style(sys.stderr)
    style.is_on = False
    assert [line.split() for line in table(columns, [row], style, 20)] == [["a", "b"], ["x" * 8, "y" * 8]]
    assert next(table(columns, [row], style, None)).split() == ["a", "b", "c"]
