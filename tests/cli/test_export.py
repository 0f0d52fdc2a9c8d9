"""What is exported is what was captured, in the shape that was asked for, and without a secret, whoever captured it."""

from __future__ import annotations

import base64
import json
import os
import resource
import secrets
import subprocess
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

START = 1_767_225_600.0
LOSSLESS = ("jsonl", "cbor")


@pytest.fixture
def demo(demo_capture) -> Path:
    return demo_capture


def run(*arguments: str | Path, check: bool = False, **how: Any) -> subprocess.CompletedProcess[bytes]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("WIRE_CAPTURE", "OTEL_"))}
    command = [sys.executable, "-m", "otel_wirecap", *map(str, arguments)]
    return subprocess.run(command, env=environ, check=check, capture_output=True, timeout=120, **how)


def export(kind: str, *arguments: str | Path) -> bytes:
    done = run("export", "--to", kind, *arguments)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def records_of(data: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in data.splitlines()]


def a_flow(demo: Path, *, streamed: bool = True) -> dict[str, Any]:
    flows = records_of(run("ls", "--json", demo, check=True).stdout)
    return next(flow for flow in flows if bool(flow["chunks"]) == streamed and not flow["error"])


# -- the capture formats ---------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_what_was_redacted_when_it_was_captured_comes_out_byte_by_byte_also_by_way_of_cbor(demo, tmp_path):
    assert export("jsonl", demo) == demo.read_bytes()
    cbor = tmp_path / "demo.cbor"
    cbor.write_bytes(export("cbor", demo))
    assert export("jsonl", cbor) == demo.read_bytes()


def test_the_formats_are_those_that_the_recorder_writes(demo):
    records = records_of(demo.read_bytes())
    structured = records_of(export("structured", demo))
    assert [one["metadata"]["seq"] for one in structured] == [record["metadata"]["seq"] for record in records]
    assert {"timestamp", "communication", "metadata", "payload"} == structured[0].keys()
    text = export("text", demo).decode()
    assert text.count("\n\n") == len(records)
    assert text.startswith("----- SYSTEM_START ")


@pytest.mark.thorough
def test_flows_are_chosen_by_their_id_and_as_ls_chooses(demo):
    flow = a_flow(demo)
    chosen = records_of(export("jsonl", demo, "--flow", flow["request_id"][:12]))
    assert {record["metadata"]["request_id"] for record in chosen} == {flow["request_id"]}
    failed = {one["request_id"] for one in records_of(run("ls", "--json", "--failed", demo).stdout)}
    assert {record["metadata"]["request_id"] for record in records_of(export("jsonl", demo, "--failed"))} == failed
    none = run("export", "--to", "jsonl", demo, "--model", "no-such-model")
    assert (none.returncode, none.stdout) == (1, b"")
    assert b"no flow is chosen" in none.stderr


# -- HAR -------------------------------------------------------------------------------------------------------------

# What each object must have, by the specification: http://www.softwareishard.com/blog/har-12-spec/
ENTRY = {
    "startedDateTime": str,
    "time": (int, float),
    "request": dict,
    "response": dict,
    "cache": dict,
    "timings": dict,
}
REQUEST = {
    "method": str, "url": str, "httpVersion": str, "cookies": list, "headers": list, "queryString": list,
    "headersSize": int, "bodySize": int,
}  # fmt: skip
RESPONSE = {
    "status": int, "statusText": str, "httpVersion": str, "cookies": list, "headers": list, "content": dict,
    "redirectURL": str, "headersSize": int, "bodySize": int,
}  # fmt: skip


def has(told: dict[str, Any], members: dict[str, Any]) -> None:
    for name, kind in members.items():
        assert isinstance(told[name], kind), name
        if name in {"cookies", "headers", "queryString"}:
            assert all(isinstance(pair["name"], str) and isinstance(pair["value"], str) for pair in told[name])


def test_an_archive_is_as_the_specification_has_it_and_holds_every_exchange(demo):
    log = orjson.loads(export("har", demo))["log"]
    assert log["version"] == "1.2"
    assert log["creator"]["name"] == "otel-wirecap"
    for entry in log["entries"]:
        has(entry, ENTRY)
        assert datetime.fromisoformat(entry["startedDateTime"]).tzinfo is not None
        has(entry["request"], REQUEST)
        assert entry["request"]["url"].startswith("http")
        has(entry["response"], RESPONSE)
        has(entry["response"]["content"], {"size": int, "mimeType": str})
        timings = entry["timings"]
        assert {"send", "wait", "receive"} <= timings.keys()
        known = sum(value for name, value in timings.items() if name != "ssl" and value >= 0)
        assert entry["time"] == pytest.approx(known)
    exchanges = {
        record["metadata"]["exchange_id"]
        for record in records_of(demo.read_bytes())
        if not record["direction"].startswith("system_")
    }
    assert Counter(entry["_wirecap"]["exchange_id"] for entry in log["entries"]) == Counter(exchanges)


def test_an_archive_has_the_bodies_and_when_each_chunk_came(demo):
    flow = a_flow(demo)
    client, backend = orjson.loads(export("har", demo, "--flow", flow["request_id"]))["log"]["entries"]
    assert (client["_wirecap"]["leg"], backend["_wirecap"]["leg"]) == ("client", "backend")
    sent = run("show", flow["request_id"], demo, "--raw", "request").stdout
    got = run("show", flow["request_id"], demo, "--raw", "response").stdout
    assert backend["request"]["postData"]["text"].encode() == sent
    assert backend["response"]["content"]["text"].encode() == got
    assert backend["response"]["content"]["mimeType"].startswith("text/event-stream")
    chunks = backend["_chunks"]
    assert [chunk["number"] for chunk in chunks] == list(range(1, len(chunks) + 1))
    assert sum(chunk["bytes"] for chunk in chunks) == len(got)
    moments = [chunk["at_ms"] for chunk in chunks]
    assert moments == sorted(moments)
    assert 0 <= moments[0] <= moments[-1] <= backend["time"] + 1


# -- one flow for a bug report ---------------------------------------------------------------------------------------


def test_a_bundle_is_one_json_document_that_the_commands_read(demo, tmp_path):
    flow, path = a_flow(demo), tmp_path / "report.json"
    export("bundle", demo, "--flow", flow["request_id"], "-o", path)
    told = json.loads(path.read_text())
    assert told["flow"] == {**flow, "started": told["flow"]["started"]}
    assert len(told["answers"]) == 2
    assert told["records"][0]["direction"] == "system_start"
    directions = Counter(record["direction"] for record in told["records"])
    assert directions["stream_chunk"] == flow["exchanges"][1]["chunks"]
    assert run("show", flow["request_id"], path).stdout == run("show", flow["request_id"], demo).stdout
    assert run("diff", flow["request_id"], path).stdout == run("diff", flow["request_id"], demo).stdout
    assert records_of(run("ls", "--json", path).stdout) == [flow]
    assert export("jsonl", path, "--flow", flow["request_id"]) == export("jsonl", demo, "--flow", flow["request_id"])


def test_a_bundle_of_several_flows_is_refused(demo, tmp_path):
    path = tmp_path / "report.json"
    done = run("export", "--to", "bundle", demo, "-o", path)
    assert done.returncode == 2
    assert b"a bundle holds one flow, and 13 are chosen" in done.stderr
    assert list(tmp_path.iterdir()) == []


# -- Parquet ---------------------------------------------------------------------------------------------------------


def test_a_parquet_file_holds_every_record(demo, tmp_path):
    duckdb = pytest.importorskip("duckdb")
    path = tmp_path / "it's.parquet"
    export("parquet", demo, "-o", path)
    with duckdb.connect() as connection:
        found = connection.execute("SELECT direction, payload, metadata FROM read_parquet(?)", [str(path)]).fetchall()
    expected = [(one["direction"], one["payload"], one["metadata"]) for one in records_of(demo.read_bytes())]
    told = [(direction, payload and json.loads(payload), json.loads(facts)) for direction, payload, facts in found]
    assert told == expected
    done = run("export", "--to", "parquet", demo)
    assert done.returncode == 2
    assert b"-o" in done.stderr


# -- no secret -------------------------------------------------------------------------------------------------------


def unredacted(secret: dict[str, str], *, ours: bool) -> bytes:
    """A capture by something that masks nothing, with a secret in every place."""
    now = [START]

    def line(direction: str, payload: Any, **metadata: Any) -> bytes:
        now[0] += 0.01
        kind = "empty" if payload is None else "text" if isinstance(payload, str) else "json"
        if isinstance(payload, dict) and payload.get("encoding") == "base64":
            kind = "bytes"
        named = {"exchange_id": "ex_1", "request_id": "req_1", "leg": "backend", "attempt": 1, "process": "p"}
        record = {
            "timestamp_iso": datetime.fromtimestamp(now[0]).astimezone().isoformat(), "timestamp_unix": now[0],
            "direction": direction, "source": "client", "destination": "openai", "session_id": "s", "backend": "openai",
            "model": "gpt-5", "key_name": None, "content_type": kind, "content_length": len(str(payload)),
            "payload": payload, "metadata": {**metadata, **named} if ours else {**metadata, "request_id": None},
        }  # fmt: skip
        return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)

    def event(text: str) -> str:
        choice = {"index": 0, "delta": {"content": text}}
        return f"data: {json.dumps({'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"

    split = secret["split"]
    texts = ["It is ", split[:4], split[4:9], split[9:], ", no", " more."]
    url = f"https://api.openai.com/v1/chat/completions?key={secret['query']}"
    headers = [["Authorization", f"Bearer {secret['header']}"], ["Cookie", f"sid={secret['cookie']}"]]
    content = {"messages": [{"role": "user", "content": f"my key is {secret['body']}"}], "password": secret["field"]}
    binary = base64.b64encode(b"\xff\xfe" + secret["bytes"].encode()).decode()
    return b"".join(
        [
            line("outbound_request", content, method="POST", url=url, headers=headers),
            line("stream_start", None, status_code=200, headers=[["content-type", "text/event-stream"]]),
            *(
                line("stream_chunk", event(text), chunk_number=number, chunk_bytes=len(event(text)))
                for number, text in enumerate(texts, 1)
            ),
            line("stream_chunk", {"encoding": "base64", "data": binary}, chunk_number=7, chunk_bytes=9),
            line("stream_chunk", event(f"echo {secret['header']}"), chunk_number=8, chunk_bytes=9),
            line(
                "stream_end", {"total_bytes": 1, "total_chunks": 8}, outcome="error",
                error={"type": "Refused", "message": f"no answer from https://u:{secret['userinfo']}@host/"},
            ),
        ]
    )  # fmt: skip


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("kind", ["jsonl", "cbor", "structured", "text", "har", "bundle", "parquet"])
@pytest.mark.sampled(4, rest="thorough")
def test_no_secret_goes_out_of_a_capture_that_has_them_all(kind, ours, tmp_path):
    shaped = ("split", "body", "bytes")
    secret = {name: "sk-proj-" + secrets.token_hex(24) for name in shaped}
    secret |= {name: secrets.token_hex(16) for name in ("query", "header", "cookie", "field", "userinfo")}
    capture = tmp_path / "capture.log"
    capture.write_bytes(unredacted(secret, ours=ours))
    out = tmp_path / "out"
    export(kind, capture, "-o", out)
    if kind == "parquet":
        duckdb = pytest.importorskip("duckdb")
        with duckdb.connect() as connection:
            rows = connection.execute("SELECT * FROM read_parquet(?)", [str(out)]).fetchall()
        told = repr(rows)
    else:
        told = out.read_bytes().decode("utf-8", "replace")
    if kind == "har":
        (entry,) = orjson.loads(told)["log"]["entries"]
        told += base64.b64decode(entry["response"]["content"]["text"]).decode("utf-8", "replace")
    said = told.replace("\\", "")
    for name, value in secret.items():
        assert value[-12:] not in told, name
        encoded = base64.b64encode(value.encode()[-24:]).decode()[:12]
        assert encoded not in said, name
    assert secret["split"][4:9] not in told
    assert "[REDACTED]" in told
    assert " more." in told
    if kind != "parquet":
        assert out.stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_redacted_does_not_go_out(tmp_path):
    """An event that names its text twice cannot be told: it is withheld with the rest of its stream."""
    capture, secret = tmp_path / "capture.log", "sk-proj-" + secrets.token_hex(24)
    places = ("split", "body", "bytes", "query", "header", "cookie", "field", "userinfo")
    lines = unredacted(dict.fromkeys(places, "none" * 5), ours=True).splitlines()
    record = orjson.loads(lines[3])
    record["payload"] = f'data: {{"choices":[{{"index":0,"delta":{{"content":"a","content":"{secret}"}}}}]}}\n\n'
    lines[3] = orjson.dumps(record)
    capture.write_bytes(b"\n".join(lines) + b"\n")
    told = records_of(export("jsonl", capture))
    assert len(told) == len(lines)
    assert secret not in str(told)


# -- writing ---------------------------------------------------------------------------------------------------------


def test_a_file_that_is_there_is_kept_unless_force_is_given(demo, tmp_path):
    out = tmp_path / "out.har"
    out.write_text("mine")
    refused = run("export", "--to", "har", demo, "-o", out)
    assert (refused.returncode, out.read_text()) == (2, "mine")
    assert b"--force" in refused.stderr
    export("har", demo, "-o", out, "--force")
    assert orjson.loads(out.read_bytes())["log"]["entries"]


def test_an_export_that_fails_leaves_nothing_and_says_why(demo, tmp_path):
    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = run("export", "--to", "jsonl", demo, "-o", tmp_path / "out", "--no-index", preexec_fn=little_room)
    assert done.returncode == 2
    assert b"cannot be written" in done.stderr
    assert b"Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
    lost = run("export", "--to", "jsonl", demo, "-o", tmp_path / "no" / "out")
    assert lost.returncode == 2
    assert b"cannot be written" in lost.stderr


def test_a_pipe_that_closes_ends_it_quietly(demo):
    command = f"{sys.executable} -m otel_wirecap export --to har {demo} | head -c 10"
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=120)
    assert done.stdout == b'{"log":{"v'
    assert done.stderr == b""
