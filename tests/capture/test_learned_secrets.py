"""What is learned from requests and the environment, and what is not: no client may blind the capture of others."""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest
from test_recorder import SSE, Desk, post, whole

from otel_wirecap.capture.credentials import KeyNames, credential_variables
from otel_wirecap.capture.secret_values import DUMMIES, can_be_masked, reads_like_a_credential

MARK = "[REDACTED]"


def event(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode() + b"\n\n"


def payloads(desk: Desk) -> list[Any]:
    return [record["payload"] for record in desk.records()]


@pytest.mark.parametrize(("status", "is_learned"), [(200, True), (302, True), (401, False), (403, False), (500, False)])
def test_a_credential_is_masked_in_other_flows_only_when_it_was_accepted(status: int, is_learned: bool) -> None:
    key, desk = secrets.token_hex(16), Desk()
    quoting = json.dumps({"text": key}).encode()
    whole(desk, post(quoting, (b"authorization", f"Bearer {key}".encode())), b"{}", status=status)
    whole(desk, post(quoting), b"{}")
    own, _, other, _ = payloads(desk)
    assert own == {"text": MARK}
    assert other == {"text": MARK if is_learned else key}


MADE_UP = [
    ("x-api-key", '{"choices":[{"index":0'),
    ("authorization", "Bearer claude-opus-4-5-20251101"),
    ("api-key", "chat/completions1"),
    ("x-goog-api-key", '"}}]}\\n\\ndata: {"choic'),
    ("x-auth-token", "gpt-5-mini"),
    ("proxy-authorization", "Bearer /v1/chat/completions"),
    ("x-vault-token", "hello world 2024"),
    ("cookie", 'a="index":0; b=claude-opus-4-5'),
]


def test_a_made_up_credential_hides_nothing_of_other_flows_and_no_structure_of_its_own() -> None:
    desk, document = Desk(), {"model": "claude-opus-4-5-20251101", "messages": [{"content": "hello world 2024"}]}
    body, answer = json.dumps(document).encode(), event("Hello ") + event("world")
    sent = [(name.encode(), value.encode()) for name, value in MADE_UP if "claude" not in value]
    whole(desk, post(body, *sent), answer, SSE)
    whole(desk, post(b"{}", *((name.encode(), value.encode()) for name, value in MADE_UP)), b"{}")
    whole(desk, post(body), answer, SSE)
    records = desk.records()
    requests = [record["payload"] for record in records if record["direction"] == "outbound_request"]
    assert [requests[0], requests[2]] == [document, document]
    chunks = [record["payload"] for record in records if record["direction"] == "stream_chunk"]
    assert chunks == [answer.decode(), answer.decode()]
    assert {record["model"] for record in records if record["metadata"]["exchange_id"] == "ex_3"} == {document["model"]}


@pytest.mark.parametrize("value", sorted(DUMMIES | {"EMPTY", "Ollama"}))
def test_what_stands_for_a_credential_where_any_does_hides_no_word(value: str) -> None:
    desk = Desk()
    text = f"the {value} is what it is"
    whole(desk, post(json.dumps({"text": text}).encode(), (b"authorization", f"Bearer {value}".encode())), b"{}")
    assert payloads(desk)[0] == {"text": text}
    assert not can_be_masked(value)
    assert not reads_like_a_credential(value)
    assert credential_variables({"OPENAI_API_KEY": value, "DATABASE_URL": f"postgres://me:{value}@db/app"}) == {}


@pytest.mark.parametrize(
    "make",
    [
        lambda: secrets.token_hex(16),
        lambda: "aB7_" + secrets.token_hex(8) + "-" + secrets.token_hex(8),
        lambda: "sk-" + secrets.token_hex(24),
        lambda: "Tr0ub4dor&" + secrets.token_hex(2),
        lambda: "".join(secrets.choice("abcdefghijklmnop") for _ in range(24)),
        lambda: "Ab9" + secrets.token_hex(12) + "/" + secrets.token_hex(4) + "+x==",
    ],
)
def test_what_a_credential_looks_like(make: Any) -> None:
    assert reads_like_a_credential(make())


@pytest.mark.parametrize(
    "value",
    [
        "gpt-5-mini", "gpt-4o-2024-08-06", "claude-opus-4-5-20251101", "meta-llama/Llama-3.1-70B-Instruct",
        "gemini-2.5-pro",
        "o4-mini-deep-research", "models/text-embedding-004", "chat/completions1", "/v1/models/list/2024", "required",
        "disabled", "two words 2024", "lm-studio-local", "a,b,c,d,e,1", "{a:1,b:2}", "completions1", "us-east-1",
        "qwen2.5-coder:32b", "accounts/fireworks/models/llama-v3p1-8b", "2026-01-01", "12:30:00",
    ],
)  # fmt: skip
def test_names_words_paths_and_dates_are_no_credentials(value: str) -> None:
    assert not reads_like_a_credential(value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgresql://app:{}@db.internal:5432/prod?sslmode=require"),
        ("REDIS_URL", "redis://:{}@cache:6379/0"),
        ("HTTPS_PROXY", "http://me:{}@proxy:3128"),
        ("SENTRY_DSN", "https://{}@o1.sentry.example/42"),
        ("AMQP", "amqps://me:{}@mq/"),
        (
            "STORAGE",
            "DefaultEndpointsProtocol=https;AccountName=files;AccountKey={};Suffix=x",
        ),
        ("SQL_CONNECTION", "Server=db;Database=app;User Id=sa;Password={};Encrypt=true"),
        ("WEBHOOK_URL", "https://h.example/hook?token={}&a=1"),
        ("PGPASSWORD", "{}"),
        ("MYSQL_PWD", "{}"),
        ("OPENAI_API_KEYS", "{}"),
        ("APP_SECRETS", "{}"),
        ("JWT", "{}"),
        ("GITHUB_PAT", "{}"),
        ("AZURE_APIKEY", "{}"),
    ],
)
def test_the_secret_part_of_a_variable_is_known_and_no_other(name: str, value: str, monkeypatch: Any) -> None:
    secret = "Zx9-" + secrets.token_hex(8)
    assert credential_variables({name: f" {value.format(secret)}\n"}) == {name: (secret,)}
    assert KeyNames({name: (secret,)}, b"s" * 16).name_of(secret) == name
    monkeypatch.setenv(name, value.format(secret))
    desk = Desk()
    whole(desk, post(json.dumps({"a": f"it is {secret}", "b": "db.internal app prod files sa"}).encode()), b"{}")
    assert payloads(desk)[0] == {"a": f"it is {MARK}", "b": "db.internal app prod files sa"}


def test_the_keys_of_a_list_are_known_one_by_one() -> None:
    one, other = secrets.token_hex(8), secrets.token_hex(8)
    known = credential_variables({"OPENAI_API_KEYS": f"{one}, {other}"})
    assert known == {"OPENAI_API_KEYS": (f"{one}, {other}", one, other)}


def test_a_password_that_a_url_quotes_is_known_in_both_spellings() -> None:
    secret = secrets.token_hex(8)
    quoted = f"postgres://app:p%40{secret}@db/x"
    assert credential_variables({"DATABASE_URL": quoted}) == {"DATABASE_URL": (f"p%40{secret}", f"p@{secret}")}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_KEY", "/run/secrets/api_key"), ("TLS_PRIVATE_KEY", "./certs/server.key"), ("SECRET_KEY", "~/keys/secret"),
        ("DB_PASSWORD", "C:\\secrets\\password.txt"), ("AUTH_TOKEN", "disabled"), ("REQUIRE_AUTH", "required"),
        ("ENABLE_API_KEYS", "true"), ("SECRETS", "on"), ("API_KEY", "1234567890"), ("SSH_AUTH_SOCK", "/run/ssh-agent"),
        ("DATABASE_URL", "postgres://postgres:postgres@localhost:5432/app"), ("REDIS_URL", "redis://localhost:6379/0"),
        ("BASE_URL", "https://api.example/v1?page=2"), ("DATABASE_URL", "sqlite:////var/lib/app/data.db"),
    ],
)  # fmt: skip
def test_paths_switches_numbers_and_addresses_are_no_secrets(name: str, value: str) -> None:
    assert credential_variables({name: value}) == {}
