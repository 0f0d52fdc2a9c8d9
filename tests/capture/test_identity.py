"""Credentials, the variables they come from, and sessions."""

import base64
import json
import secrets
import uuid

import pytest
from hypothesis import given, strategies as st

from otel_wirecap.capture.credentials import KeyNames, credential_variables, credentials
from otel_wirecap.capture.sessions import session_of
from otel_wirecap.config import DEFAULT_SESSION_HEADERS

SALT = secrets.token_bytes(32)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_every_carrier_is_found_and_the_first_in_order_is_the_credential():
    values = [secrets.token_hex(16) for _ in range(6)]
    found = credentials(
        [
            ("X-Goog-Api-Key", values[3]),
            ("API-Key", values[2]),
            ("x-api-key", values[1]),
            ("Authorization", f"Bearer {values[0]}"),
            ("Ocp-Apim-Subscription-Key", values[4]),
        ],
        f"alt=sse&key={values[5]}",
    )
    assert found == values


def test_sigv4_gives_the_access_key_id():
    key_id = "AKIA" + secrets.token_hex(8).upper()
    scope = "20250110/us-east-1/bedrock/aws4_request"
    value = f"AWS4-HMAC-SHA256 Credential={key_id}/{scope}, SignedHeaders=host, Signature=ab"
    assert credentials([("authorization", value)], "")[0] == key_id
    assert credentials([], f"X-Amz-Credential={key_id}%2F20250110%2Fus-east-1") == [key_id]


def test_a_signature_whose_key_id_never_ends_is_read_as_any_other_scheme():
    endless = "Credential=" * 9_000
    assert credentials([("authorization", f"AWS4-HMAC-SHA256 {endless}")], "") == [endless]
    too_long = "A" * 129
    assert credentials([("authorization", f"AWS4-HMAC-SHA256 Credential={too_long}/x")], "")[0] != too_long


def test_basic_gives_the_password_else_the_user():
    user, password = secrets.token_hex(8), secrets.token_hex(8)
    assert credentials([("Authorization", basic(user, password))], "")[0] == password
    assert credentials([("Authorization", basic(user, ""))], "")[0] == user
    for token in ("not-base64!", "\xfc\xff", "/w==", "AAA"):
        assert credentials([("Authorization", f"Basic {token}")], "") == [token]


def test_token_scheme_bare_values_and_bearer_in_key_headers():
    value = secrets.token_hex(16)
    assert credentials([("authorization", f"token {value}")], "") == [value]
    assert credentials([("authorization", value)], "") == [value]
    assert credentials([("x-litellm-api-key", f"Bearer {value}")], "") == [value]


def test_a_query_credential_is_decoded():
    assert credentials([], "access_token=a%2Fb%2B12345") == ["a/b+12345"]


def test_one_value_carried_twice_is_listed_once_and_empty_values_not_at_all():
    value = secrets.token_hex(16)
    assert credentials([("x-api-key", value), ("authorization", f"Bearer {value}"), ("api-key", " ")], "key=") == [
        value
    ]


@given(
    st.lists(st.tuples(st.sampled_from(["authorization", "x-api-key", "cookie"]), st.text(max_size=40))),
    st.text(),
)
def test_whatever_is_sent_credentials_never_raise(headers, query):
    assert all(credentials(headers, query))


@pytest.mark.parametrize(
    "name",
    [
        "OPENAI_API_KEY",
        "OPENAI_API_KEY_2",
        "OPENAI_API_KEY_PROD",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_BEARER_TOKEN_BEDROCK",
        "HF_TOKEN",
        "GITHUB_PAT",
        "DATABASE_PASSWORD",
        "DB_PWD",
        "LITELLM_MASTER_KEY",
        "LITELLM_KEY",
        "CLIENT_SECRET",
        "WATSONX_APIKEY",
        "SENTRY_DSN",
        "openai_api_key",
    ],
)
def test_variables_that_hold_credentials_are_recognised(name):
    assert credential_variables({name: " a-long-enough-value "}) == {name: ("a-long-enough-value",)}


@pytest.mark.parametrize(
    "name",
    [
        "MAX_TOKENS",
        "TOKENIZERS_PARALLELISM",
        "SSH_AUTH_SOCK",
        "OPENAI_API_KEY_FILE",
        "TOKEN_PATH",
        "TOKEN_URL",
        "KEYBOARD",
        "XAUTHORITY",
        "GIT_AUTHOR_NAME",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "PWD",
        "OLDPWD",
        "AWS_SECRET_NAME",
        "LANGFUSE_PUBLIC_KEY",
        "SORT_KEY",
        "TOKEN_LIMIT",
        "MONKEY",
        "PATH",
        "_",
    ],
)
def test_variables_that_only_sound_like_credentials_are_not(name):
    assert credential_variables({name: "a-long-enough-value"}) == {}


def test_short_values_are_no_credentials():
    assert credential_variables({"API_KEY": "1234567"}) == {}
    assert credential_variables({"API_KEY": "1234567a"}) == {"API_KEY": ("1234567a",)}


def test_a_credential_is_named_after_its_variable():
    value = secrets.token_hex(16)
    names = KeyNames(credential_variables({"OPENAI_API_KEY": f" {value}\n", "HOME": "/home/someone"}), SALT)
    assert names.name_of(value) == "OPENAI_API_KEY"
    assert names.name_of(secrets.token_hex(16)) is None
    assert names.name_of("/home/someone") is None
    assert names.name_of("") is None


def test_of_two_variables_with_one_value_the_providers_then_the_shorter_then_the_first_wins():
    value = secrets.token_hex(16)
    environ = dict.fromkeys(("A_KEY", "OPENAI_API_KEY_OLD", "OPENAI_API_KEY"), value)
    assert KeyNames(credential_variables(environ), SALT).name_of(value) == "OPENAI_API_KEY"
    assert KeyNames({"MY_LONG_API_KEY": (value,), "MY_KEY": (value,)}, SALT).name_of(value) == "MY_KEY"
    assert KeyNames({"B_KEY": (value,), "A_KEY": (value,)}, SALT).name_of(value) == "A_KEY"


def test_no_value_is_kept_in_clear():
    value = secrets.token_hex(16)
    names = KeyNames(credential_variables({"OPENAI_API_KEY": value}), SALT)
    held = repr([getattr(names, slot) for slot in KeyNames.__slots__])
    assert value not in held


def test_a_fingerprint_is_the_same_within_a_process_and_another_in_the_next():
    value = secrets.token_hex(16)
    here, there = KeyNames({}, SALT), KeyNames({}, secrets.token_bytes(32))
    assert here.fingerprint(value) == KeyNames({}, SALT).fingerprint(value)
    assert here.fingerprint(value) != there.fingerprint(value)
    assert here.fingerprint(value) != here.fingerprint(value + "x")
    assert value not in here.fingerprint(value)
    assert len(here.fingerprint(value)) == 16


def session(headers=(), body=None, **changes):
    settings = {
        "session_headers": DEFAULT_SESSION_HEADERS,
        "client_host": "127.0.0.1",
        "user_agent": "Cline/1.0",
        "credential_fingerprint": "abc",
        "flow_id": "req_1",
        "salt": SALT,
    }
    return session_of(list(headers), body, **(settings | changes))


HI = {"messages": [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "hi"}]}


def test_sources_answer_in_their_order():
    user_id = f"user_{'ab' * 32}_account_{uuid.uuid4()}_session_{uuid.uuid4()}"
    headers = [("Baggage", "session.id=from-baggage"), ("X-Session-Id", "from-header")]
    body = HI | {
        "metadata": {"session_id": "from-metadata", "user_id": user_id},
        "conversation": {"id": "conv_7"},
        "prompt_cache_key": "cache-1",
    }
    assert session(headers, body) == ("from-header", "header:x-session-id")
    headers.pop()
    assert session(headers, body) == ("from-metadata", "body:metadata.session_id")
    del body["metadata"]["session_id"]
    assert session(headers, body) == (user_id[-36:], "body:metadata.user_id")
    del body["metadata"]
    assert session(headers, body) == ("conv_7", "body:conversation")
    del body["conversation"]
    assert session(headers, body) == ("cache-1", "body:prompt_cache_key")
    del body["prompt_cache_key"]
    assert session(headers, body) == ("from-baggage", "baggage")
    headers.pop()
    assert session(headers, body)[1] == "conversation"
    assert session(headers, {}) == ("req_1", "request")


def test_the_first_configured_header_wins_whatever_its_case():
    headers = [("b", "2"), ("A-Session", "1")]
    assert session(headers, session_headers=("a-session", "b")) == ("1", "header:a-session")
    assert session(headers, session_headers=("X", "B")) == ("2", "header:b")
    assert session([(DEFAULT_SESSION_HEADERS[0], " "), ("session_id", "s")]) == ("s", "header:session_id")


def test_a_user_id_gives_only_its_session_part():
    assert session(body={"metadata": {"user_id": json.dumps({"device_id": "d", "session_id": "s-1"})}}) == (
        "s-1",
        "body:metadata.user_id",
    )
    for user_id in ("user-123", "{broken", "{}", 7, "session_id_of_no_one"):
        assert session(body={"metadata": {"user_id": user_id}})[1] == "request"


def test_a_conversation_may_be_a_string():
    assert session(body={"conversation": "conv_1"}) == ("conv_1", "body:conversation")


def test_baggage_is_percent_decoded_and_its_properties_dropped():
    headers = [("baggage", "a=b, session.id = caf%C3%A9%201;ttl=60 ,c=d")]
    assert session(headers) == ("café 1", "baggage")


def test_the_turns_of_a_conversation_share_a_session():
    later = {
        "messages": [
            *HI["messages"],
            {"role": "assistant", "content": "hello"},
            {"role": "user", "content": "?"},
        ]
    }
    assert session(body=HI) == session(body=later, flow_id="req_2")


@pytest.mark.parametrize(
    "change",
    [
        {"client_host": "10.0.0.1"},
        {"user_agent": None},
        {"credential_fingerprint": "other"},
        {"salt": b"x" * 32},
    ],
)
def test_strangers_who_say_the_same_do_not_share_a_session(change):
    assert session(body=HI) != session(body=HI, **change)


def test_another_opening_is_another_conversation():
    other = {"messages": [{"role": "system", "content": "Be"}, {"role": "user", "content": "kindhi"}]}
    assert session(body=HI)[0] != session(body=other)[0]


@given(st.one_of(st.text(), st.integers(), st.none(), st.booleans(), st.lists(st.text())))
def test_session_ids_are_printable(value):
    found, source = session([], {"metadata": {"session_id": value}})
    assert found
    assert found.isprintable()
    assert source in ("body:metadata.session_id", "request")


def test_a_session_id_is_not_cut_before_it_is_redacted():
    assert session([("x-session-id", "s" * 1000)]) == ("s" * 1000, "header:x-session-id")
