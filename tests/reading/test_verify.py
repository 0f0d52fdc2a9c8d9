"""Whatever is missing from a capture, or wrong in it, is found and told where it is; what is whole is called so."""

from __future__ import annotations

import contextlib
import gzip
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import orjson
import pytest

import otel_wirecap
from otel_wirecap.reading.captures import Captures
from otel_wirecap.reading.verify import Problem, Verification

STREAMING = """
import http.server, sys, threading, time
import httpx
import otel_wirecap

class Backend(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number in range(2000):
            piece = b"data: {}\\n\\n"
            self.wfile.write(b"%x\\r\\n%s\\r\\n" % (len(piece), piece))
            time.sleep(0.02)

    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend)
threading.Thread(target=server.serve_forever, daemon=True).start()
otel_wirecap.instrument(capture_file=sys.argv[1], capture_flush_interval=0.05)
with httpx.stream("POST", f"http://127.0.0.1:{server.server_port}/v1/chat/completions", json={}, timeout=60) as answer:
    for _ in answer.iter_raw():
        pass
"""


def verified(*paths: Path) -> tuple[list[Problem], Verification]:
    verification = Verification()
    with Captures(list(paths), use_index=False) as captures:
        return list(verification.problems(captures)), verification


def problems(path: Path, lines: list[bytes]) -> list[Problem]:
    path.write_bytes(b"".join(lines))
    return verified(path)[0]


def place_of(lines: list[bytes], direction: str, number: int = 0) -> int:
    """Where the record of that direction stands."""
    found = [at for at, line in enumerate(lines) if orjson.loads(line)["direction"] == direction]
    return found[number]


def changed(line: bytes, change: Callable[[dict], None]) -> bytes:
    record = orjson.loads(line)
    change(record)
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


def kinds(found: list[Problem]) -> set[str]:
    return {problem.kind for problem in found}


def test_a_whole_capture_has_no_problem(demo, demo_lines):
    found, verification = verified(demo)
    assert found == []
    assert verification.document() == {
        "records": len(demo_lines), "processes": 1, "exchanges": 26, "unnumbered": 0, "rotated_away": 0, "running": 0,
    }  # fmt: skip


def test_each_record_that_is_taken_out_is_missed_and_told_where(demo, demo_lines):
    """Of the last, no number follows: it is the end of its process."""
    for number in range(len(demo_lines)):
        found = problems(demo, [*demo_lines[:number], *demo_lines[number + 1 :]])
        kind, line = ("number", number + 1) if number + 1 < len(demo_lines) else ("end", number)
        assert [problem for problem in found if problem.kind == kind and problem.place.line == line], number


def test_each_record_that_comes_again_is_told(demo, demo_lines):
    for number in range(0, len(demo_lines), 7):
        found = problems(demo, [*demo_lines[: number + 1], *demo_lines[number:]])
        assert [problem for problem in found if problem.kind == "number" and problem.place.line == number + 2], number


def test_records_that_changed_places_are_told(demo, demo_lines):
    at = place_of(demo_lines, "stream_chunk", 5)
    found = problems(demo, [*demo_lines[:at], demo_lines[at + 1], demo_lines[at], *demo_lines[at + 2 :]])
    assert {"number"} <= kinds(found)


@pytest.mark.parametrize("damage", [b"{half a record\n", b"\x00\xff\x01\n", b"[1, 2]\n", b'{"a": 1}\n'])
def test_a_line_that_is_no_record_is_told(demo, demo_lines, damage):
    found = problems(demo, [*demo_lines[:40], damage, *demo_lines[40:]])
    assert [(problem.kind, problem.place.line) for problem in found] == [("damaged", 41)]
    assert found[0].place.offset == sum(map(len, demo_lines[:40]))


def test_a_torn_last_line_is_told(demo, demo_lines):
    found = problems(demo, [*demo_lines[:-1], demo_lines[-1][:50]])
    assert [(problem.kind, problem.place.line) for problem in found] == [
        ("damaged", len(demo_lines)), ("end", len(demo_lines) - 1)
    ]  # fmt: skip


def test_a_payload_of_another_length_is_told(demo, demo_lines):
    at = place_of(demo_lines, "stream_chunk")
    line = changed(demo_lines[at], lambda record: record.update(payload=record["payload"][:-1]))
    found = problems(demo, [*demo_lines[:at], line, *demo_lines[at + 1 :]])
    assert [(problem.kind, problem.place.line) for problem in found] == [("length", at + 1)]
    exchange = orjson.loads(line)["metadata"]["exchange_id"]
    assert found[0].exchange_id == exchange


@pytest.mark.parametrize("document", ["ok", "a\nb", "é", ""])
def test_a_json_body_that_is_a_bare_string_has_the_length_of_its_document(document: str, tmp_path: Path) -> None:
    otel_wirecap.instrument(capture_file=tmp_path / "c.log")
    try:
        backend = httpx.MockTransport(lambda _request: httpx.Response(200, json=document))
        with httpx.Client(transport=backend) as client:
            client.post("http://backend.example/v1/models", json=document)
    finally:
        otel_wirecap.uninstrument()
    assert verified(tmp_path / "c.log")[0] == []


def test_a_stream_whose_end_tells_of_other_bytes_or_chunks_is_told(demo, demo_lines):
    at = place_of(demo_lines, "outbound_stream_end")
    more = changed(demo_lines[at], lambda record: record["payload"].update(total_bytes=10**9))
    assert kinds(problems(demo, [*demo_lines[:at], more, *demo_lines[at + 1 :]])) == {"bytes"}
    more = changed(demo_lines[at], lambda record: record["payload"].update(total_chunks=10**9))
    assert kinds(problems(demo, [*demo_lines[:at], more, *demo_lines[at + 1 :]])) == {"chunks"}


def test_a_chunk_that_was_taken_out_and_the_numbers_mended_is_told(demo, demo_lines):
    at = place_of(demo_lines, "stream_chunk", 3)

    def less(record: dict) -> None:
        record["metadata"]["seq"] -= 1

    found = problems(demo, [*demo_lines[:at], *(changed(line, less) for line in demo_lines[at + 1 :])])
    assert kinds(found) == {"chunks", "bytes"}


def test_what_the_capture_itself_tells_it_lost_is_told(demo, demo_lines):
    at = place_of(demo_lines, "system_stop")

    def gap(record: dict) -> None:
        record["direction"] = "system_gap"
        record["payload"] = {"lost_events": 3, "reason": "queue full"}

    found = problems(demo, [*demo_lines[:at], changed(demo_lines[at], gap)])
    assert kinds(found) == {"gap"}
    assert "queue full" in found[0].message


def test_an_exchange_without_a_request_or_without_an_end_is_told(demo, demo_lines):
    def without(at: int) -> list[bytes]:
        def less(record: dict) -> None:
            record["metadata"]["seq"] -= 1

        return [*demo_lines[:at], *(changed(line, less) for line in demo_lines[at + 1 :])]

    at = place_of(demo_lines, "outbound_request")
    assert kinds(problems(demo, without(at))) == {"beginning"}
    at = place_of(demo_lines, "outbound_response")
    found = problems(demo, without(at))
    assert kinds(found) == {"end"}
    assert "although its process told its own" in found[0].message
    assert orjson.loads(demo_lines[found[0].place.line - 1])["metadata"]["exchange_id"] == found[0].exchange_id


def test_what_was_rotated_away_is_a_note_and_what_is_missing_in_between_a_problem(demo, demo_lines):
    first, second, last = demo_lines[:100], demo_lines[100:200], demo_lines[200:]
    demo.with_name(f"{demo.name}.2").write_bytes(b"".join(first))
    demo.with_name(f"{demo.name}.1").write_bytes(b"".join(second))
    demo.write_bytes(b"".join(last))
    assert verified(demo)[0] == []
    demo.with_name(f"{demo.name}.2").unlink()
    found, verification = verified(demo)
    assert found == []
    assert verification.rotated_away > 1
    demo.with_name(f"{demo.name}.2").write_bytes(b"".join(first))
    demo.with_name(f"{demo.name}.1").unlink()
    found, _ = verified(demo)
    assert ("number", demo, 1) in [(problem.kind, problem.place.file, problem.place.line) for problem in found]


def test_of_a_capture_that_was_never_rotated_the_missing_beginning_is_a_problem(demo, demo_lines):
    assert "number" in kinds(problems(demo, demo_lines[1:]))


@pytest.mark.parametrize("writer", ["process", "thread"])
@pytest.mark.sampled(1, rest="faults")
def test_a_process_that_still_runs_may_have_open_exchanges_and_one_that_was_killed_may_not(tmp_path, writer):
    path = tmp_path / "capture.log"
    with running(path, writer) as process:
        found, verification = verified(path)
        assert [problem for problem in found if problem.kind != "damaged"] == []  # a line may be half written
        assert verification.running == 1
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    deadline = time.monotonic() + 60
    while writer == "process" and b'"abandoned"' not in path.read_bytes():  # it still writes what it was sent
        assert time.monotonic() < deadline
        time.sleep(0.05)
    found, verification = verified(path)
    assert "end" in kinds(found)
    assert "was it killed?" in next(problem.message for problem in found if problem.kind == "end")
    assert verification.running == 0


@pytest.mark.parametrize("writer", ["process", "thread"])
@pytest.mark.parametrize("asks", [0, 1])
@pytest.mark.sampled(2, rest="faults")
def test_what_a_killed_process_leaves_is_never_called_whole(asks: int, writer: str, tmp_path: Path) -> None:
    path = tmp_path / "capture.log"
    program = """
import os, sys
import httpx, otel_wirecap
otel_wirecap.instrument(capture_file=sys.argv[1], capture_writer=sys.argv[2], capture_flush_interval=3600)
with httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(200, json={}))) as client:
    for _ in range(int(sys.argv[3])):
        client.get("http://backend.example/v1/models")
while not os.path.getsize(sys.argv[1]):
    pass
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", program, str(path), writer, str(asks)], timeout=60)
    deadline = time.monotonic() + 60
    while writer == "process" and b"application_gone" not in path.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    found, _ = verified(path)
    assert [problem.kind for problem in found] == ["gap" if writer == "process" else "end"]


@contextlib.contextmanager
def running(path: Path, writer: str) -> Iterator[subprocess.Popen[bytes]]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WIRE_CAPTURE", "OTEL_"))}
    kept["WIRE_CAPTURE_WRITER"] = writer
    process = subprocess.Popen([sys.executable, "-c", STREAMING, str(path)], env=kept)
    try:
        deadline = time.monotonic() + 60
        while b'"stream_chunk"' not in (path.read_bytes() if path.exists() else b""):
            assert time.monotonic() < deadline, "nothing is captured"
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait(60)


def test_two_processes_number_by_themselves_and_the_same_capture_in_two_files_is_two_captures(demo, tmp_path):
    packed = tmp_path / "packed.log"
    packed.write_bytes(gzip.compress(demo.read_bytes()))
    found, verification = verified(demo, packed)
    assert found == []
    assert verification.processes == 2


def test_an_encrypted_file_is_not_checked_and_no_damage_and_read_where_it_was_decrypted_beside(demo, demo_lines):
    encrypted = b"age-encryption.org/v1\n-> X25519 x\n" + bytes(100)
    demo.with_name(f"{demo.name}.3").write_bytes(b"".join(demo_lines[:100]))
    demo.with_name(f"{demo.name}.2.age").write_bytes(encrypted)
    demo.with_name(f"{demo.name}.1").write_bytes(b"".join(demo_lines[200:250]))
    demo.write_bytes(b"".join(demo_lines[250:]))
    found, verification = verified(demo)
    assert (kinds(found), verification.encrypted) == (set(), 1)
    told = verify(demo)
    assert (told.returncode, b"encrypted, not checked" in told.stderr, b"whole" in told.stderr) == (0, True, False)
    demo.with_name(f"{demo.name}.2").write_bytes(b"".join(demo_lines[100:200]))
    found, verification = verified(demo)
    assert (found, verification.encrypted) == ([], 0)


def test_a_capture_without_numbers_says_that_holes_cannot_be_known(demo, demo_lines):
    def unnumbered(record: dict) -> None:
        del record["metadata"]["seq"], record["metadata"]["process"]

    demo.write_bytes(b"".join(changed(line, unnumbered) for line in demo_lines))
    found, verification = verified(demo)
    assert found == []
    assert verification.unnumbered == len(demo_lines)


# -- the command ---------------------------------------------------------------------------------------------------


def verify(*arguments: str | Path, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "otel_wirecap", "verify", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=120)


def test_the_command_says_whole_and_ends_with_0_or_names_the_places_and_ends_with_1(demo, demo_lines):
    whole = verify(demo)
    assert (whole.returncode, whole.stdout) == (0, b"")
    assert b"whole: " in whole.stderr
    demo.write_bytes(b"".join(demo_lines[:40] + demo_lines[41:]))
    broken = verify(demo)
    assert broken.returncode == 1
    assert broken.stdout.startswith(f"{demo}:41: number: ".encode())
    assert b"problem" in broken.stderr


def test_the_command_answers_in_json_and_reads_standard_input(demo_lines):
    broken = verify("-", "--json", stdin=b"".join(demo_lines[:40] + demo_lines[41:]))
    assert broken.returncode == 1
    *told, last = map(orjson.loads, broken.stdout.splitlines())
    assert told[0] == {
        "problem": "number", "file": "-", "line": 41, "offset": sum(map(len, demo_lines[:40])),
        "message": told[0]["message"],
    }  # fmt: skip
    assert last["problems"] == len(told)
    assert last["records"] == len(demo_lines) - 1


def test_what_a_capture_says_cannot_move_the_terminals_cursor(demo, demo_lines):
    at = place_of(demo_lines, "outbound_request")
    line = changed(demo_lines[at], lambda record: record["metadata"].update(exchange_id="ex\x1b[2J"))
    demo.write_bytes(b"".join([*demo_lines[:at], line, *demo_lines[at + 1 :]]))
    assert b"\x1b" not in verify(demo).stdout
