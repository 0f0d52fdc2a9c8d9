"""What is read out of a request's line, headers and body, whatever stands there."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest
from damage import NASTY, assert_linear, damaged, fuzz
from hypothesis import given, strategies as st

from otel_wirecap.capture.credentials import credentials
from otel_wirecap.capture.redaction.redactor import Redactor
from otel_wirecap.capture.secret_values import named_secrets
from otel_wirecap.capture.sessions import session_of
from otel_wirecap.capture.url import url_parts
from otel_wirecap.errors import ConfigurationError
from otel_wirecap.llm.opening import opening_of, system_prompt
from otel_wirecap.llm.providers import backend_name
from otel_wirecap.llm.requests import asks_for_stream, requested_model
from otel_wirecap.proxy.backends import backends_from
from otel_wirecap.proxy.headers import HOP_BY_HOP, request_headers, response_headers, sent_credentials

URLS = (
    b"https://user:pw@api.openai.com:443/v1/chat/completions?key=ab%2Bc&alt=sse#x",
    b"/v1beta/models/g%3AstreamGenerateContent",
    b"//[::1]:11434/api?x=1&x=2", b"/openai/deployments/gpt/chat/completions?api-version=1",
    b"/model/arn%3Aaws%3A/x/converse-stream",
    b"http://h:99999/a//b/../c;d?&&==%&%4", b"", b"::", b"?token=", b"/v1/models/o/n/predictions",
)  # fmt: skip
HEADERS = (
    (b"authorization", b"Bearer abcdefgh12345678"), (b"authorization", b"Basic dXNlcjpwYXNzd29yZA=="),
    (b"authorization", b"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7/20250110/us-east-1/s/aws4_request, SignedHeaders=h"),
    (b"x-api-key", b"abcdefgh12345678"), (b"api-key", b"Bearer x1234567"),
    (b"cookie", b"a=b; session=abcdef0123456789"),
    (b"baggage", b"a=1,session.id=s%C3%BC1;p=1, b=2"),
    (b"sec-websocket-protocol", b"realtime, openai-insecure-api-key.sk-1, token, k"),
    (b"x-session-id", b"s1"), (b"referer", b"https://u:p@h/?key=abcdefgh1"), (b"connection", b"close, x-mine"),
    (b"content-length", b"5"), (b"transfer-encoding", b"chunked"), (b"host", b"h"), (b"location", b"/?token=abcdefg1"),
)  # fmt: skip

headers = st.lists(
    st.sampled_from(HEADERS).flatmap(
        lambda pair: st.tuples(st.just(pair[0]) | damaged(st.just(pair[0])), damaged(st.just(pair[1])))
    ),
    max_size=5,
)
as_text = headers.map(lambda pairs: [(name.decode("latin-1"), value.decode("latin-1")) for name, value in pairs])
urls = damaged(st.sampled_from(URLS)).map(lambda url: url.decode("latin-1")) | st.text(max_size=30)
bodies: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.just('{"session_id":"\ud800"}'),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from((
            "messages", "contents", "input", "role", "content", "parts", "text", "system", "metadata", "user_id",
            "session_id", "conversation", "id", "prompt_cache_key", "model", "stream", "message", "prompt",
        )),
        inner, max_size=4,
    ),
    max_leaves=14,
)  # fmt: skip


@fuzz
@given(urls)
def test_a_url_falls_into_parts_that_are_all_its_own(url: str) -> None:
    parts = url_parts(url)
    assert parts.path in url
    assert parts.query in url
    assert parts.host in url.lower()
    assert parts.port is None or 0 <= parts.port <= 99999
    assert isinstance(backend_name(parts.host, parts.port, {"h": "mine", "h:1": "other"}), str)
    model = requested_model(parts.path, None)
    assert model is None or model in unquote(parts.path)
    asks_for_stream(parts.path, parts.query, None)


@fuzz
@given(as_text, urls)
def test_credentials_are_parts_of_what_was_sent(sent: list[tuple[str, str]], url: str) -> None:
    query = url.partition("?")[2]
    found = credentials(sent, query)
    assert len(set(found)) == len(found)
    assert all(value and value == value.strip() for value in found)
    every = "\n".join(value for _, value in sent)
    for value in found:
        is_basic = any(scheme.lower().startswith("basic") for _, scheme in sent)
        assert value in every or value in unquote(query) or is_basic
    assert all(len(value) >= 8 for value in named_secrets(sent, query))


@fuzz
@given(as_text, bodies)
def test_every_request_has_a_session_that_can_be_shown(sent: list[tuple[str, str]], body: Any) -> None:
    session, source = session_of(
        sent, body, session_headers=("X-Session-Id",), client_host=None, user_agent=None, credential_fingerprint=None,
        flow_id="req_1", salt=b"0123456789abcdef",
    )  # fmt: skip
    assert session
    assert session.isprintable()
    assert source.partition(":")[0] in {"header", "body", "baggage", "conversation", "request"}
    opening = opening_of(body)
    assert opening is None or (opening.user and max(map(len, opening)) <= 65536)
    assert system_prompt(body) != ""
    model = requested_model("/", body)
    assert model is None or model


@fuzz
@given(as_text, urls, st.text(max_size=20))
def test_redacting_twice_is_redacting_once(sent: list[tuple[str, str]], url: str, text: str) -> None:
    redactor, own = Redactor(known_values=["Kn0wn/value+x"]), tuple(credentials(sent, url.partition("?")[2]))
    clean = redactor.headers(sent, {}, own)
    assert [len(pair) for pair in clean] == [2] * len(sent)
    assert redactor.headers([(name, value) for name, value in clean], {}, own) == clean
    whole = redactor.url(url, {}, own)
    assert redactor.url(whole, {}, own) == whole
    for value in own:
        assert len(value) < 8 or value not in {value for _, value in clean}
    told = redactor.text_with_urls(f"{text} {url}", {}, own)
    assert redactor.text_with_urls(told, {}, own) == told
    redactor.form(url, {}, own)


@fuzz
@given(headers, headers, damaged(st.sampled_from(URLS)))
def test_a_proxy_passes_what_is_end_to_end_and_nothing_of_one_connection(
    sent: list[tuple[bytes, bytes]], answered: list[tuple[bytes, bytes]], query: bytes
) -> None:
    for version in ("1.0", "1.1", "2"):
        passed = request_headers(sent, b"backend:1", http_version=version)
        names = [name.lower() for name, _ in passed.headers]
        assert not (HOP_BY_HOP - {b"transfer-encoding"}) & set(names)
        assert b"host" in names
        assert not {b"content-length", b"transfer-encoding"} <= set(names)
        assert {value for name, value in passed.headers if name.lower() == b"host"} == {b"backend:1"}
    assert not HOP_BY_HOP & {name.lower() for name, _ in response_headers(answered)}
    assert sent_credentials([*sent, (b"X-Api-Key", b"")], query, "authorization")
    sent_credentials(sent, query, "authorization")


@fuzz
@given(urls, st.sampled_from((*NASTY, b"local", b"openai")))
def test_a_backend_option_is_taken_or_refused_without_the_password_in_it(url: str, name: bytes) -> None:
    said = ""
    try:
        backends = backends_from([f"{name.decode('latin-1')}={url}"]).by_name
        assert all(backend.origin.scheme in {"http", "https"} for backend in backends.values())
        assert all(backend.base_path[:1] in {b"", b"/"} for backend in backends.values())
    except ConfigurationError as error:
        said = str(error)
    assert "user:pw" not in said or "@" not in url.rpartition("user:pw")[2]


@pytest.mark.parametrize(
    ("name", "piece"),
    [
        ("authorization", "Credential="), ("authorization", "Basic "), ("authorization", "a "), ("cookie", "a=b; "),
        ("sec-websocket-protocol", "bearer."), ("sec-websocket-protocol", "token, "), ("baggage", "session.id=,"),
        ("x-api-key", "Bearer "), ("referer", "https://u:p@h/?key=x "), ("x-other", "a://b?c=d&"), ("x-other", "/?@:%"),
    ],
)  # fmt: skip
def test_headers_take_work_in_proportion_to_their_length(name: str, piece: str) -> None:
    redactor = Redactor()

    def run(count: int) -> Any:
        sent = [(name, piece * count)]

        def look() -> None:
            own = tuple(credentials(sent, ""))[:1]
            session_of(
                sent, None, session_headers=(), client_host=None, user_agent=None, credential_fingerprint=None,
                flow_id="r", salt=b"0" * 16,
            )  # fmt: skip
            redactor.headers(sent, {}, own)

        return look

    assert_linear(run)


@pytest.mark.parametrize("piece", ["/", "&", "=", "%2", "key=a&", "@", ":", "?", "#", "models/", "//", "a=%ff&"])
def test_urls_take_work_in_proportion_to_their_length(piece: str) -> None:
    redactor = Redactor()

    def run(count: int) -> Any:
        url = "https://h/" + piece * count

        def look() -> None:
            parts = url_parts(url)
            requested_model(parts.path, None)
            asks_for_stream(parts.path, parts.query, None)
            credentials([], parts.query)
            redactor.url(url, {})

        return look

    assert_linear(run)
