"""What the user's settings have masked, and what they keep from being masked."""

from __future__ import annotations

import itertools
import json
import re
import secrets
from pathlib import Path
from typing import Any

import pytest
from test_recorder import NS, SSE, Desk, post, streamed

from otel_wirecap.capture.events import RequestHead, ResponseHead
from otel_wirecap.capture.redaction.redactor import Redactor
from otel_wirecap.capture.redaction.rules import PLACES, Pattern, Rules
from otel_wirecap.capture.redaction.stream import StreamRedactor
from otel_wirecap.config import load_config
from otel_wirecap.errors import ConfigurationError
from otel_wirecap.log import warn
from otel_wirecap.storage.known_secrets import KnownSecrets, variables_in

MARK = "[REDACTED]"


def request(
    options: dict[str, Any], body: object, *headers: tuple[str, str], path: str = "/v1/chat/completions"
) -> Any:
    """The record of one request."""
    desk = Desk(**options)
    exchange = desk.exchange()
    sent = tuple((name.encode(), value.encode()) for name, value in headers)
    exchange.begin(post(json.dumps(body).encode(), *sent, path=path))
    exchange.end(4 * NS, "complete")
    return desk.records()[0]


def test_redaction_can_be_for_headers_only() -> None:
    key = "sk-" + secrets.token_hex(24)
    record = request(
        {"capture_redaction": "headers-only"}, {"text": key}, ("authorization", f"Bearer {key}"), path=f"/v1?key={key}"
    )
    assert record["payload"] == {"text": key}
    assert record["metadata"]["url"].endswith(f"?key={MARK}")
    assert ["authorization", MARK] in record["metadata"]["headers"]
    assert record["metadata"]["redactions"] == {"header": 1, "query": 1}


def test_redaction_is_off_only_on_purpose_and_told() -> None:
    with pytest.raises(ConfigurationError, match=r"capture_redaction: 'off' .*capture_allow_secrets: true"):
        load_config({"capture_redaction": "off"}, {})
    options = {"capture_redaction": "off", "capture_allow_secrets": True}
    key = "sk-" + secrets.token_hex(24)
    record = request(options, {"text": key}, ("authorization", f"Bearer {key}"))
    assert record["payload"] == {"text": key}
    assert ["authorization", f"Bearer {key}"] in record["metadata"]["headers"]
    assert "redactions" not in record["metadata"]
    told = Desk(**options).process.system_start("p")["settings"]
    assert isinstance(told, dict)
    assert (told["capture_redaction"], told["capture_allow_secrets"]) == ("off", True)


@pytest.mark.parametrize("mode", ["headers-only", "off"])
def test_streams_go_through_where_redaction_is_not_on(mode: str) -> None:
    key = "sk-" + secrets.token_hex(24)
    chunks = [b'data: {"text":"%s"}\n\n' % part.encode() for part in (key[:9], key[9:])]
    records = streamed(Desk(capture_redaction=mode, capture_allow_secrets=True), *chunks)
    assert [record["payload"].encode() for record in records] == chunks


def test_headers_and_fields_that_the_user_names_are_masked_whole() -> None:
    options = {"capture_redact_headers": "X-Employee", "capture_redact_fields": ["Customer_Name", "iban"]}
    body = {
        "customer_name": "Jane Doe", "note": "Jane Doe", "deep": [{"IBAN": "DE 12"}], "customer_name_id": "x1",
        "inner": json.dumps({"iban": "a \"b\" c", "other": "kept"}), "iban": 12,
    }  # fmt: skip
    record = request(options, body, ("x-employee", "Ann"), path="/v1/x?iban=DE12&b=2")
    assert record["payload"] == {
        "customer_name": MARK, "note": "Jane Doe", "deep": [{"IBAN": MARK}], "customer_name_id": "x1",
        "inner": json.dumps({"iban": MARK, "other": "kept"}), "iban": 12,
    }  # fmt: skip
    assert ["x-employee", MARK] in record["metadata"]["headers"]
    assert record["metadata"]["url"].endswith(f"?iban={MARK}&b=2")


def test_patterns_of_the_user_are_masked_where_they_say_and_counted_under_their_name() -> None:
    options = {
        "capture_redact_patterns": [
            {"name": "ticket", "pattern": r"TICKET-\d{6}"},
            {"name": "codename", "literal": "Blue (Harvest)", "where": ["bodies"]},
        ]
    }
    body = {"text": "TICKET-123456 is about Blue (Harvest), TICKET-12 is not"}
    record = request(options, body, ("x-about", "Blue (Harvest)"), ("x-ticket", "TICKET-123456"))
    assert record["payload"] == {"text": f"{MARK} is about {MARK}, TICKET-12 is not"}
    assert ["x-about", "Blue (Harvest)"] in record["metadata"]["headers"]
    assert ["x-ticket", MARK] in record["metadata"]["headers"]
    assert record["metadata"]["redactions"] == {"ticket": 2, "codename": 1}


def test_what_the_user_allows_is_left_as_it_is() -> None:
    example, key = "sk-example-" + "0" * 19 + "1", "sk-" + secrets.token_hex(24)
    record = request({"capture_redact_allow": [example]}, {"text": f"{example} or {key}"})
    assert record["payload"] == {"text": f"{example} or {MARK}"}


def rules() -> Rules:
    pattern = Pattern("ticket", re.compile(rb"TICKET-\d{6,9}"), frozenset(PLACES))
    return Rules(fields=frozenset({"who"}), patterns=(pattern,), allowed=frozenset({b"sk-" + b"aA1" * 10}))


def test_in_streams_they_hold_wherever_the_stream_is_cut() -> None:
    text = 'See TICKET-1234567, {"who": "Jane \\"X\\" Doe", "what": "kept"}; ' + "sk-" + "aA1" * 10 + ". " + "end " * 50
    expected = f'See {MARK}, {{"who": "{MARK}", "what": "kept"}}; ' + text.split("; ", 1)[1]
    redactor = Redactor(rules=rules())
    assert redactor.text(text, {}) == expected
    for step in (1, 2, 7, 64):
        deltas = [text[place : place + step] for place in range(0, len(text), step)]
        stream = StreamRedactor(redactor, "text/event-stream")
        pieces = list(
            itertools.chain.from_iterable(
                stream.feed([f"data: {json.dumps({'text': delta})}\n\n".encode()]).pieces for delta in deltas
            )
        )
        pieces += stream.close().pieces
        assert "".join(json.loads(piece[6:])["text"] for piece in pieces) == expected


@pytest.mark.parametrize(
    "value",
    [
        [{"name": "a"}], [{"pattern": "a"}], [{"name": "a", "pattern": "("}], [{"name": "a", "pattern": "x*"}],
        [{"name": "a", "pattern": "x", "literal": "x"}], [{"name": "a", "literal": "x", "where": ["cookies"]}],
        [{"name": "a", "literal": "x", "also": 1}], "no-expression", 7,
    ],
)  # fmt: skip
def test_a_pattern_that_cannot_be_used_is_refused_and_not_shown(value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"capture_redact_patterns: a value .*expected a list of patterns"):
        load_config({"capture_redact_patterns": value}, {})


def test_patterns_are_named_in_the_settings_that_are_told() -> None:
    config = load_config({}, {"WIRE_CAPTURE_REDACT_PATTERNS": r"ticket=T-\d{1,6},other=O=\w+"})
    assert config.public()["capture_redact_patterns"] == ["ticket", "other"]
    assert [pattern.expression.pattern for pattern in config.capture_redact_patterns] == [rb"T-\d{1,6}", rb"O=\w+"]


def test_variables_that_the_user_names_are_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    value = secrets.token_hex(8)
    monkeypatch.setenv("INTERNAL_THING", value)
    assert request({}, {"text": value})["payload"] == {"text": value}
    assert request({"capture_redact_env": "internal_*"}, {"text": value})["payload"] == {"text": MARK}


def test_files_like_dot_env_are_read_again_when_they_change(tmp_path: Path) -> None:
    first, second = secrets.token_hex(8), secrets.token_hex(8)
    file = tmp_path / ".env"
    known = KnownSecrets(["PLAIN"], [str(file)])
    assert known.variables({}, warn) == {}
    file.write_text(f"export API_KEY=\"{first}\"\nPLAIN=thing # comment\nPORT=8080\nDB_PASSWORD='two words'\n")
    assert known.variables({}, warn) == {"API_KEY": (first,), "PLAIN": ("thing",), "DB_PASSWORD": ("two words",)}
    file.write_text(f"API_KEY={second}\n")
    assert known.variables({}, warn) == {"API_KEY": (second,)}
    assert known.variables({"API_KEY": first}, warn) == {"API_KEY": (first,)}
    file.unlink()
    assert known.variables({}, warn) == {"API_KEY": (second,)}


def test_what_files_like_dot_env_may_look_like() -> None:
    content = 'A=1\n # B=2\n C = "x\\n\\"y\\"" \nD=\'a\nb\'\nexport E=\nF=a=b\n'
    assert variables_in(content) == {"A": "1", "C": 'x\n"y"', "D": "a\nb", "E": "", "F": "a=b"}


def test_a_stream_masks_what_an_env_file_holds(tmp_path: Path) -> None:
    value = "Pa55-" + secrets.token_hex(8)
    (tmp_path / ".env").write_text(f"DB_PASSWORD={value}\n")
    desk = Desk(capture_redact_env_files=[str(tmp_path / ".env")])
    exchange = desk.exchange()
    exchange.begin(RequestHead("POST", "https://api.openai.com/v1/chat/completions", [], body=b"{}"))
    exchange.response(2 * NS, ResponseHead(200, None, [SSE]))
    for part in (value[:4], value[4:11], value[11:], ". "):
        exchange.chunk(3 * NS, b'data: {"text":"%s"}\n\n' % part.encode())
    exchange.end(4 * NS, "complete")
    chunks = [record["payload"] for record in desk.records() if record["direction"] == "stream_chunk"]
    assert "".join(json.loads(chunk[6:])["text"] for chunk in chunks) == MARK + ". "
