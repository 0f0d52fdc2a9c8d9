"""Who may use the operator's keys, on the wire: raw clients and vendors' SDKs, and a backend that keeps all."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import secrets
from typing import NamedTuple

import anthropic
import openai
import pytest
from google import genai
from hypothesis import HealthCheck, given, settings, strategies as st

from otel_wirecap.proxy.access import Access
from otel_wirecap.proxy.authority import parsed_authority, parsed_origin
from otel_wirecap.proxy.backends import backends_from

KEY = "sk-" + secrets.token_hex(24)
TOKEN = secrets.token_urlsafe(32)
EVIL = "https://evil.example"
ANSWERS = {
    b"/chat/completions": {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    },
    b"/messages": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
        "stop_sequence": None, "content": [{"type": "text", "text": "hello"}],
        "usage": {"input_tokens": 1, "output_tokens": 1},
    },
    b":generateContent": {
        "candidates": [{"content": {"role": "model", "parts": [{"text": "hello"}]}, "finishReason": "STOP"}],
    },
}  # fmt: skip


async def answer(backend, reader, writer):
    """Keeps each request's head, reads its body, and answers as the provider whose path it is."""
    while True:
        head = await backend.head(reader)
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        await reader.readexactly(int(length[1]) if length else 0)
        path = head.split(b" ")[1].partition(b"?")[0]
        body = json.dumps(next((ANSWERS[end] for end in ANSWERS if path.endswith(end)), {})).encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        await writer.drain()


class Answer(NamedTuple):
    status: int
    headers: dict[bytes, bytes]
    body: bytes


class Site:
    """A proxy with one backend, and a raw client."""

    def __init__(self, backend, url, connect) -> None:
        self.backend = backend
        self.url = url
        self.host = url.removeprefix("http://")
        self._connect = connect

    async def ask(
        self, *headers: str | bytes, line="POST /v1/x HTTP/1.1", host: str | None = "own", body=b""
    ) -> Answer:
        """Sends a request on a connection of its own."""
        host = self.host if host == "own" else host
        lines = [line, *([] if host is None else [f"Host: {host}"]), *headers, f"Content-Length: {len(body)}"]
        raw = [line if isinstance(line, bytes) else line.encode("latin-1") for line in [*lines, "Connection: close"]]
        client = await self._connect(self.url)
        client.send(b"\r\n".join(raw) + b"\r\n\r\n" + body)
        head, _, received = (await client.reader.read()).partition(b"\r\n\r\n")
        client.writer.close()
        status, *fields = head.split(b"\r\n")
        return Answer(
            int(status.split()[1]), {n.lower(): v for n, _, v in (f.partition(b": ") for f in fields)}, received
        )

    @property
    def got(self) -> bytes:
        """All heads that the backend has received."""
        return b"".join(self.backend.heads)


@pytest.fixture
def site(socket_backend, serve_proxy, connect):
    async def start(*, provider="openai", access=None) -> Site:
        backend = await socket_backend(answer)
        known = backends_from([f"{provider}={backend.url}"]).by_name[provider]
        environ = {known.key_variables[0]: KEY}
        url = await serve_proxy(backend.url, environ=environ, name=provider, default=known, access=access or Access())
        return Site(backend, url, connect)

    return start


def with_token() -> Access:
    return Access(TOKEN.encode())


async def test_a_web_page_gets_no_answer_with_the_operators_key(site):
    place = await site()
    # As a page that is there under a name of its own (DNS rebinding), and as any page with a request it may send.
    for headers, host in [
        ([f"Origin: {EVIL}"], "attacker.example:4000"),
        ([], "attacker.example:4000"),
        ([f"Origin: {EVIL}"], "own"),
        (["Origin: null"], "own"),
        (["Sec-Fetch-Site: cross-site"], "own"),
    ]:
        answered = await place.ask(*headers, "Content-Type: text/plain", host=host, body=b"{}")
        assert answered.status == 403
        assert answered.headers[b"content-type"] == b"application/json"
        assert b"access-control-allow-origin" not in answered.headers
        assert json.loads(answered.body)["error"]["message"]
    assert place.got == b""


async def test_who_asks_the_proxy_itself_gets_an_answer_with_the_operators_key(site):
    place = await site()
    port = place.host.rpartition(":")[2]
    for host in (f"127.0.0.1:{port}", f"LOCALHOST:{port}", f"[::1]:{port}"):
        assert (await place.ask(host=host)).status == 200
        assert (await place.ask("Sec-Fetch-Site: same-origin", f"Origin: http://{host}", host=host)).status == 200
    assert place.got.count(b"\r\nauthorization: Bearer " + KEY.encode()) == len(place.backend.heads) == 6


async def test_what_is_allowed_by_option_gets_the_operators_key(site):
    rules = Access(
        None, frozenset({parsed_authority("llm.example")}), frozenset({parsed_origin("https://app.example")})
    )
    place = await site(access=rules)
    answered = await place.ask("Origin: https://app.example", "Sec-Fetch-Site: cross-site", host="llm.example:9")
    assert answered.status == 200
    assert KEY.encode() in place.got
    assert (await place.ask(f"Origin: {EVIL}", host="llm.example")).status == 403
    assert len(place.backend.heads) == 1


@pytest.mark.parametrize("rules", ["open to the page", "with a token", "closed"])
async def test_a_preflight_passes_without_a_key(rules, site):
    access = {
        "open to the page": Access(allowed_origins=frozenset({parsed_origin(EVIL)})),
        "with a token": with_token(),
        "closed": Access(),
    }[rules]
    place = await site(access=access)
    answered = await place.ask(
        f"Origin: {EVIL}", "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type",
        line="OPTIONS /v1/x HTTP/1.1",
    )  # fmt: skip
    assert answered.status == 200
    assert answered.headers[b"access-control-allow-origin"] == b"*"
    assert place.got.startswith(b"OPTIONS /v1/x ")
    assert b"authorization" not in place.got.lower()
    assert KEY.encode() not in place.got


async def test_a_page_with_a_credential_of_its_own_passes_unchanged(site):
    place = await site()
    answered = await place.ask(f"Origin: {EVIL}", "Authorization: Bearer mine", host="attacker.example")
    assert answered.status == 200
    assert b"\r\nAuthorization: Bearer mine\r\n" in place.got
    assert KEY.encode() not in place.got


async def test_http_1_0_without_a_host_and_targets_that_name_a_host_get_no_key(site):
    place = await site()
    assert (await place.ask(line="GET /v1/x HTTP/1.0", host=None)).status == 403
    for line in ("GET http://attacker.example/v1/x HTTP/1.1", f"GET http://{place.host}/v1/x HTTP/1.1"):
        assert 400 <= (await place.ask(line=line, host="attacker.example")).status < 500
    assert place.got == b""


async def test_several_hosts_get_no_key(site):
    place = await site()
    assert (await place.ask("Host: attacker.example")).status in {400, 403}
    assert place.got == b""


async def test_a_refused_upload_is_taken_whole_so_that_its_client_reads_why(site):
    place = await site()
    answered = await place.ask(f"Origin: {EVIL}", body=bytes(8 << 20))
    assert answered.status == 403
    assert json.loads(answered.body)["error"]["code"] == "origin_not_allowed"


# -- with a client token ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "path"),
    [
        (["Authorization: Bearer {}"], "/v1/x"),
        (["Authorization: {}"], "/v1/x"),
        (["X-Api-Key: {}"], "/v1/x"),
        (["api-key: {}", "x-goog-api-key: {}", "Authorization: Bearer {}"], "/v1/x"),
        ([], "/v1/x?key={}&alt=sse"),
        (["Proxy-Authorization: Bearer {}", "x-api-key: {}", "Cookie: a={}", "{}: 1"], "/v1/x?a={}"),
    ],
)
async def test_the_token_gets_the_operators_key_in_its_place_and_goes_no_further(headers, path, site):
    place = await site(access=with_token())
    sent = [header.format(TOKEN) for header in headers]
    answered = await place.ask(*sent, line=f"POST {path.format(TOKEN)} HTTP/1.1")
    assert answered.status == 200
    assert place.got.count(b"\r\nauthorization: Bearer " + KEY.encode() + b"\r\n") == 1
    assert TOKEN.encode() not in place.got
    assert b"?key" not in place.got


async def test_without_the_token_nothing_is_sent_on(site):
    place = await site(access=with_token())
    basic = base64.b64encode(f"user:{TOKEN}".encode()).decode()
    for headers in ([], [f"X-Other: {TOKEN}"], [f"Authorization: Basic {basic}"], [f"Authorization: Bearer {TOKEN}x"]):
        answered = await place.ask(*headers)
        assert answered.status == 401
        assert answered.headers[b"www-authenticate"] == b"Bearer"
        assert json.loads(answered.body)["error"]["code"] == "client_token_missing"
    assert place.got == b""


async def test_another_credential_passes_as_it_is_and_never_gets_the_operators_key(site):
    place = await site(access=with_token())
    assert (await place.ask("Authorization: Bearer mine")).status == 200
    assert (await place.ask("x-api-key: mine", f"Authorization: Bearer {TOKEN}")).status == 200
    assert (await place.ask(f"x-api-key: {TOKEN}", line="POST /v1/x?key=mine HTTP/1.1")).status == 200
    first, second, third = place.backend.heads
    assert b"\r\nAuthorization: Bearer mine\r\n" in first
    assert b"\r\nx-api-key: mine\r\n" in second
    assert third.startswith(b"POST /v1/x?key=mine ")
    assert KEY.encode() not in place.got
    assert TOKEN.encode() not in place.got


# -- whatever a client sends -----------------------------------------------------------------------

TEXTS = st.lists(
    st.sampled_from(
        [TOKEN, TOKEN, "Bearer ", "mine", " ", ",", ";a=", "%2D", "".join(f"%{ord(c):02x}" for c in TOKEN)]
    ),
    max_size=4,
).map("".join)
NAMES = st.sampled_from(["Authorization", "authorization", "X-Api-Key", "api-key", "x-goog-api-key", "X-Other", TOKEN])
HEADERS = st.lists(st.tuples(NAMES, TEXTS).map(": ".join), max_size=4)
QUERIES = st.lists(st.tuples(st.sampled_from(["key", "x", "k%65y"]), TEXTS).map("=".join), max_size=3).map(
    lambda pairs: "&".join(pairs).replace(" ", "+")
)
KNOWN = ("authorization", "x-api-key", "api-key", "x-goog-api-key")


def carries_a_credential(headers: list[str], query: str) -> bool:
    return any(header.partition(":")[0].lower() in KNOWN for header in headers) or any(
        pair.startswith(("key=", "k%65y=")) for pair in query.split("&")
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(headers=HEADERS, query=QUERIES, method=st.sampled_from(["POST", "OPTIONS"]), preflight=st.booleans())
async def test_whatever_is_sent_the_token_stays_here(headers, query, method, preflight, site):
    place = await site(access=with_token())
    asked = [*headers, *["Access-Control-Request-Method: POST"] * preflight]
    answered = await place.ask(*asked, line=f"{method} /v1/x?{query} HTTP/1.1")
    assert answered.status in {200, 401}
    assert TOKEN.encode() not in place.got
    assert place.got.lower().count(b"%%%02x" % ord(TOKEN[0])) < len(TOKEN)
    if KEY.encode() in place.got:
        assert not (method == "OPTIONS" and preflight)
        places = [header for header in headers if header.partition(":")[0].lower() in KNOWN] + query.split("&")
        assert any(TOKEN in text or f"%{ord(TOKEN[0]):02x}" in text for text in places)
        # No other credential went with it.
        assert sum(line.partition(b":")[0].lower().decode() in KNOWN for line in place.backend.head_lines[1:]) == 1
        assert b"key=" not in place.backend.head_lines[0]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    headers=HEADERS.map(lambda headers: headers[:1]),
    query=QUERIES,
    host=st.sampled_from(["own", "own", "attacker.example", "localhost"]),
    origin=st.sampled_from([None, None, EVIL, "null", "http://localhost"]),
    fetched=st.sampled_from([None, "none", "same-site", "cross-site"]),
    preflight=st.booleans(),
)
async def test_whatever_is_sent_the_operators_key_goes_only_where_it_may(
    headers, query, host, origin, fetched, preflight, site
):
    place = await site()
    asked = [*headers, *["Access-Control-Request-Method: POST"] * preflight]
    asked += [] if origin is None else [f"Origin: {origin}"]
    asked += [] if fetched is None else [f"Sec-Fetch-Site: {fetched}"]
    answered = await place.ask(*asked, line=f"{'OPTIONS' if preflight else 'POST'} /v1/x?{query} HTTP/1.1", host=host)
    transparent = preflight or carries_a_credential(headers, query)
    may = host == "own" and origin is None and fetched in {None, "none"} and not transparent
    assert (KEY.encode() in place.got) is may
    assert answered.status == (200 if may or transparent else 403)


# -- vendors' SDKs ---------------------------------------------------------------------------------

MESSAGES = [{"role": "user", "content": "Hello"}]


def openai_client(place: Site) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{place.url}/v1", api_key=TOKEN, max_retries=0)


def anthropic_client(place: Site) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=place.url, api_key=TOKEN, max_retries=0)


async def test_openais_sdk_gets_answers_with_the_token_as_its_key(site):
    place = await site(access=with_token())
    async with openai_client(place) as client:
        answered = await client.chat.completions.create(model="m", messages=MESSAGES)
    assert answered.choices[0].message.content == "hello"
    assert b"\r\nauthorization: Bearer " + KEY.encode() in place.got
    assert TOKEN.encode() not in place.got


async def test_anthropics_sdk_gets_answers_with_the_token_as_its_key(site):
    place = await site(provider="anthropic", access=with_token())
    async with anthropic_client(place) as client:
        answered = await client.messages.create(model="m", max_tokens=9, messages=MESSAGES)
    assert answered.content[0].text == "hello"
    assert b"\r\nx-api-key: " + KEY.encode() in place.got
    assert TOKEN.encode() not in place.got


async def test_googles_sdk_gets_answers_with_the_token_as_its_key(site):
    place = await site(provider="gemini", access=with_token())
    with genai.Client(api_key=TOKEN, http_options={"base_url": place.url}) as client:
        answered = await asyncio.to_thread(client.models.generate_content, model="m", contents="Hello")
    assert answered.text == "hello"
    assert b"\r\nx-goog-api-key: " + KEY.encode() in place.got
    assert TOKEN.encode() not in place.got


async def test_openais_sdk_shows_what_is_refused_as_its_own_errors(site):
    asked = {"model": "m", "messages": MESSAGES}
    no_key = {"Authorization": openai.Omit()}
    place = await site(access=with_token())
    async with openai_client(place) as client:
        with pytest.raises(openai.AuthenticationError, match="client token") as unknown:
            await client.chat.completions.create(**asked, extra_headers=no_key)
    assert unknown.value.code == "client_token_missing"
    place = await site()
    async with openai_client(place) as client:
        with pytest.raises(openai.PermissionDeniedError, match=r"--allow-host gpu\.example"):
            await client.chat.completions.create(**asked, extra_headers={**no_key, "Host": "gpu.example"})
    assert place.got == b""


async def test_anthropics_sdk_shows_what_is_refused_as_its_own_errors(site):
    asked = {"model": "m", "max_tokens": 9, "messages": MESSAGES}
    no_key = {"Authorization": anthropic.Omit(), "X-Api-Key": anthropic.Omit()}
    place = await site(provider="anthropic", access=with_token())
    async with anthropic_client(place) as client:
        with pytest.raises(anthropic.AuthenticationError, match="client token") as unknown:
            await client.messages.create(**asked, extra_headers=no_key)
    assert unknown.value.body["error"]["type"] == "authentication_error"
    place = await site(provider="anthropic")
    async with anthropic_client(place) as client:
        with pytest.raises(anthropic.PermissionDeniedError, match=r"--allow-origin https://evil\.example") as refused:
            await client.messages.create(**asked, extra_headers={**no_key, "Origin": EVIL})
    assert refused.value.body["error"]["type"] == "permission_error"
    assert place.got == b""


async def test_googles_sdk_shows_what_is_refused_as_its_own_errors(site):
    place = await site(provider="gemini")
    answered = await place.ask(f"Origin: {EVIL}")
    error = genai.errors.ClientError(answered.status, json.loads(answered.body))
    assert (error.code, error.status) == (403, "PERMISSION_DENIED")
    assert "--allow-origin" in error.message
