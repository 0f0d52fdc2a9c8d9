"""``otel-wirecap scan``: finds what was not masked, in our captures and in others' files, and never prints it."""

from __future__ import annotations

import base64
import bz2
import gzip
import json
import lzma
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from otel_wirecap.capture.formats import CBOR
from otel_wirecap.storage.system_records import system_record


def scanned(*arguments: object, **environ: str) -> tuple[int, list[str], str]:
    """Exit code, lines of stdout, stderr."""
    told = subprocess.run(
        [sys.executable, "-m", "otel_wirecap", "scan", *map(str, arguments)],
        capture_output=True, text=True, env={**os.environ, **environ},
    )  # fmt: skip
    return told.returncode, told.stdout.splitlines(), told.stderr


def write_lines(file: Path, *documents: object) -> Path:
    file.write_text("".join(json.dumps(document) + "\n" for document in documents))
    return file


def make_key() -> str:
    return "sk-" + secrets.token_hex(24)


def chunk(text: str, exchange: str = "ex_1") -> dict[str, Any]:
    payload = f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': text}}]})}\n\n"
    return {"direction": "stream_chunk", "payload": payload, "metadata": {"exchange_id": exchange}}


def test_a_secret_is_told_by_place_and_rule_and_never_printed(tmp_path: Path) -> None:
    key = make_key()
    file = write_lines(tmp_path / "a.log", {"text": "none"}, {"deep": [{"text": f"is {key}, and {key}"}]})
    code, out, err = scanned(file)
    assert (code, out) == (1, [f"{file}:2: openai (2)"])
    assert key[:10] not in err
    code, out, _ = scanned("--json", file)
    assert (code, [json.loads(line) for line in out]) == (
        1, [{"file": str(file), "line": 2, "rule": "openai", "count": 2}],
    )  # fmt: skip


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress])
def test_a_file_that_is_packed_in_another_way_is_told_as_one_that_cannot_be_read(pack: Any, tmp_path: Path) -> None:
    file = tmp_path / "a.log.packed"
    file.write_bytes(pack((make_key() + "\n").encode() * 100))
    code, out, err = scanned(file)
    assert (code, out) == (2, [])
    assert f"{file} cannot be read: damaged, encrypted or packed" in err


def test_what_is_masked_already_and_harmless_is_no_finding(tmp_path: Path) -> None:
    file = write_lines(
        tmp_path / "a.log",
        {"metadata": {"headers": [["authorization", "[REDACTED]"], ["content-type", "application/json"]]}},
        {"text": "The key is [REDACTED].", "usage": {"prompt_tokens": 12}, "id": "chatcmpl-" + secrets.token_hex(12)},
        {"image": "data:image/png;base64," + base64.b64encode(bytes(range(256))).decode()},
        chunk("sk-"), chunk("ip this"), chunk(" task."),
    )  # fmt: skip
    assert scanned(file)[:2] == (0, [])


def test_secrets_are_found_in_every_carrier(tmp_path: Path) -> None:
    key, value = make_key(), secrets.token_hex(12)
    encoded = {"encoding": "base64", "data": base64.b64encode(b"\xff" + key.encode()).decode()}
    cases = {
        "openai": {"payload": encoded},
        "field": {"headers": [["X-Api-Key", value]]},
        "field ": {"headers": [{"name": "Authorization", "value": f"Bearer {value}"}]},
        "header": {"headers": [["X-Api-Key", value[:9] + "1"]]},  # beside a name only what looks random is a secret
        " field": {"inner": json.dumps({"api_key": value})},
    }
    for number, (rule, document) in enumerate(cases.items()):
        file = write_lines(tmp_path / f"{number}.log", document)
        assert scanned(file)[:2] == (1, [f"{file}:1: {rule.strip()}"])


def test_a_secret_that_is_split_over_the_deltas_of_a_stream_is_found(tmp_path: Path) -> None:
    key = make_key()
    other = [chunk("words, ", "ex_2") for _ in range(3)]
    records = [chunk(key[:5]), other[0], chunk(key[5:30]), other[1], chunk(key[30:] + ", so"), other[2], chunk(". ")]
    file = write_lines(tmp_path / "a.log", *records)
    assert scanned(file)[:2] == (1, [f"{file}:5: openai"])


def test_text_and_documents_of_other_tools_are_looked_into(tmp_path: Path) -> None:
    key, value = make_key(), secrets.token_hex(12)
    log = tmp_path / "access.log"
    body = "\n".join(secrets.token_hex(32) for _ in range(4))
    log.write_text(
        f"12:00 GET /\n> Authorization: Bearer {value}\nkey={key}\n"
        f"-----BEGIN {'PRIVATE'} KEY-----\n{body}\n-----END {'PRIVATE'} KEY-----\nend\n"
    )
    assert scanned(log)[:2] == (1, [f"{log}:2: field", f"{log}:3: openai", f"{log}:4: pem"])
    har = tmp_path / "a.har"
    har.write_text(json.dumps({"headers": [{"name": "x-api-key", "value": value}]}, indent=2))
    assert scanned(har)[:2] == (1, [f"{har}:5: field"])


def test_rotated_compressed_and_cbor_files_are_looked_into(tmp_path: Path) -> None:
    key = make_key()
    live = write_lines(tmp_path / "a.log", {"text": "none"})
    line = json.dumps({"text": key}).encode() + b"\n"
    (tmp_path / "a.log.1.gz").write_bytes(gzip.compress(line))
    assert scanned(live)[:2] == (1, [f"{tmp_path / 'a.log.1.gz'}:1: openai"])
    cbor = tmp_path / "a.cbor"
    record = system_record("system_gap", {"text": key})
    record.metadata |= {"process": "p", "seq": 1}
    cbor.write_bytes(CBOR().encode(record))
    assert scanned(cbor)[:2] == (1, [f"{cbor}:1: openai"])


@pytest.mark.thorough
def test_known_values_come_from_the_environment_and_the_settings(tmp_path: Path) -> None:
    value, other = secrets.token_hex(12), secrets.token_hex(12)
    file = write_lines(tmp_path / "a.log", {"text": value}, {"text": other})
    assert scanned(file)[0] == 0
    assert scanned(file, SOME_API_KEY=value)[:2] == (1, [f"{file}:1: known"])
    (tmp_path / ".env").write_text(f"DB_PASSWORD={other}\n")
    options = ["--capture-redact-env-files", tmp_path / ".env"]
    assert scanned(*options, file)[:2] == (1, [f"{file}:2: known"])
    assert scanned(*options, "--capture-redact-allow", other, file)[0] == 0


@pytest.mark.parametrize("make", ["missing", "damaged"])
def test_what_cannot_be_read_is_told(tmp_path: Path, make: str) -> None:
    file = tmp_path / "a.log"
    if make == "damaged":
        file.write_bytes(gzip.compress(b'{"text": "none"}\n' * 1000)[:-20])
    code, _, err = scanned(file)
    assert code == 2
    assert str(file) in err
    assert "cannot be read" in err
