from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import secrets
import signal
import socket
import subprocess
import sys

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from selection import examples

from otel_wirecap.errors import ConfigurationError
from otel_wirecap.proxy.backends import backends_from
from otel_wirecap.proxy.headers import request_headers, response_headers, sent_credentials

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def answering(response: bytes = OK):
    """A handler that reads requests without a body and answers each with ``response``."""

    async def handler(backend, reader, writer):
        while True:
            await backend.head(reader)
            writer.write(response)
            await writer.drain()

    return handler


def streaming(*chunks: bytes, release: asyncio.Event | None = None, end: bytes = b"0\r\n\r\n"):
    """A handler that answers with a chunked stream; before each chunk but the first it awaits ``release``."""

    async def handler(backend, reader, writer):
        await backend.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number, chunk in enumerate(chunks):
            if release is not None and number:
                await release.wait()
                release.clear()
            writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await writer.drain()
            await asyncio.sleep(0.005)
        writer.write(end)
        await writer.drain()
        if end:
            await reader.read()
            backend.client_left.set()

    return handler


# -- the request on its way to the backend ---------------------------------------------------------


async def test_headers_arrive_in_the_clients_order_and_spelling_with_repeats_and_nothing_added(
    socket_backend, serve_proxy, connect
):
    backend = await socket_backend(answering())
    client = await connect(await serve_proxy(backend.url))
    client.send(
        b"GET /v1/models HTTP/1.1\r\nHost: proxy.test\r\nX-B: 1\r\nx-a: two  words\r\nX-b: 3\r\n"
        b"AuThOrIzAtIoN: Bearer k\r\n\r\n"
    )
    assert (await client.head())[0] == b"HTTP/1.1 200 OK"
    assert backend.head_lines == [
        b"GET /v1/models HTTP/1.1",
        b"Host: 127.0.0.1:%d" % backend.port,
        b"X-B: 1",
        b"x-a: two  words",
        b"X-b: 3",
        b"AuThOrIzAtIoN: Bearer k",
    ]


async def test_hop_by_hop_headers_and_what_connection_names_stay_behind(socket_backend, serve_proxy, connect):
    backend = await socket_backend(answering())
    client = await connect(await serve_proxy(backend.url))
    client.send(
        b"GET / HTTP/1.1\r\nHost: p\r\nConnection: keep-alive, X-Private, Content-Length\r\n"
        b"Keep-Alive: 5\r\nTE: trailers\r\n"
        b"X-Private: 1\r\nProxy-Authorization: Basic x\r\nUpgrade: h2c\r\nTrailer: x\r\nX-Kept: 1\r\n\r\n"
    )
    await client.head()
    assert backend.head_lines[2:] == [b"X-Kept: 1"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "POST", "OPTIONS"])
async def test_a_request_without_a_body_is_sent_without_one(method, socket_backend, serve_proxy, connect):
    backend = await socket_backend(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    client = await connect(await serve_proxy(backend.url))
    client.send(f"{method} /x HTTP/1.1\r\nHost: p\r\n\r\n".encode())
    await client.head()
    assert backend.head_lines[1:] == [b"Host: 127.0.0.1:%d" % backend.port]


async def test_an_upload_streams_to_the_backend_before_any_response(socket_backend, serve_proxy, connect):
    arrived: asyncio.Queue[bytes] = asyncio.Queue()

    async def handler(backend, reader, writer):
        await backend.head(reader)
        while size := int(await reader.readline(), 16):
            arrived.put_nowait(await reader.readexactly(size))
            await reader.readline()
        writer.write(OK)
        await writer.drain()

    backend = await socket_backend(handler)
    client = await connect(await serve_proxy(backend.url))
    client.send(b"POST /v1/files HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: chunked\r\n\r\n")
    for part in (b"first", b"\x00\xff second", b"third"):
        client.send(b"%x\r\n%b\r\n" % (len(part), part))
        assert await asyncio.wait_for(arrived.get(), 60) == part
    client.send(b"0\r\n\r\n")
    assert (await client.head())[0] == b"HTTP/1.1 200 OK"
    assert [line for line in backend.head_lines if line.lower().startswith((b"content-", b"transfer-"))] == [
        b"Transfer-Encoding: chunked"
    ]


async def test_a_body_of_known_length_keeps_its_length_and_its_bytes(socket_backend, serve_proxy):
    body = secrets.token_bytes(300_000)
    received = bytearray()

    async def handler(backend, reader, writer):
        await backend.head(reader)
        received.extend(await reader.readexactly(len(body)))
        writer.write(OK)
        await writer.drain()

    backend = await socket_backend(handler)
    proxy = await serve_proxy(backend.url)
    async with httpx2.AsyncClient() as client:
        response = await client.post(proxy + "/v1/x", content=body)
    assert response.status_code == 200
    assert bytes(received) == body
    assert b"content-length: 300000" in [line.lower() for line in backend.head_lines]
    assert b"transfer-encoding" not in backend.heads[0].lower()


async def test_a_client_that_leaves_in_mid_upload_breaks_the_upload_off(socket_backend, serve_proxy, connect):
    begun, ended = asyncio.Event(), asyncio.Event()
    rest = bytearray()

    async def handler(backend, reader, writer):
        await backend.head(reader)
        rest.extend(await reader.readuntil(b"half\r\n"))
        begun.set()
        rest.extend(await reader.read())
        ended.set()

    backend = await socket_backend(handler)
    client = await connect(await serve_proxy(backend.url))
    client.send(b"POST / HTTP/1.1\r\nHost: p\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
    await asyncio.wait_for(begun.wait(), 60)
    client.writer.close()
    await asyncio.wait_for(ended.wait(), 60)
    assert bytes(rest) == b"4\r\nhalf\r\n"  # no last chunk: the backend cannot take it for a whole request


# -- the response on its way to the client ---------------------------------------------------------


async def test_response_headers_arrive_in_the_backends_order_and_spelling_with_nothing_added(
    socket_backend, serve_proxy, connect
):
    backend = await socket_backend(
        answering(
            b"HTTP/1.1 201 Created\r\nX-Request-Id: r1\r\nset-cookie: a=1\r\nSet-Cookie: b=2\r\n"
            b"Connection: X-Hop\r\nX-Hop: 1\r\n"
            b"Keep-Alive: timeout=5\r\ncontent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
        )
    )
    client = await connect(await serve_proxy(backend.url))
    client.send(b"GET / HTTP/1.1\r\nHost: p\r\n\r\n")
    assert await client.head() == [
        b"HTTP/1.1 201 Created",
        b"X-Request-Id: r1",
        b"set-cookie: a=1",
        b"Set-Cookie: b=2",
        b"content-Type: text/plain",
        b"Content-Length: 2",
    ]
    assert await client.reader.readexactly(2) == b"ok"


async def test_cookies_of_one_response_are_not_sent_with_the_next_request(socket_backend, serve_proxy, connect):
    backend = await socket_backend(
        answering(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1; Path=/\r\nContent-Length: 0\r\n\r\n")
    )
    client = await connect(await serve_proxy(backend.url))
    for _ in range(2):
        client.send(b"GET / HTTP/1.1\r\nHost: p\r\n\r\n")
        await client.head()
    assert len(backend.heads) == 2
    assert b"cookie" not in backend.heads[1].lower()


async def test_a_compressed_body_passes_undecoded(socket_backend, serve_proxy):
    packed = gzip.compress(b"hello" * 100)
    backend = await socket_backend(
        answering(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(packed), packed))
    )
    proxy = await serve_proxy(backend.url)
    async with httpx2.AsyncClient() as client, client.stream("GET", proxy + "/x") as response:
        assert b"".join([chunk async for chunk in response.aiter_raw()]) == packed
        assert response.headers["content-encoding"] == "gzip"
        assert response.headers["content-length"] == str(len(packed))


async def test_each_chunk_of_a_stream_arrives_as_it_was_and_when_it_was_sent(socket_backend, serve_proxy, connect):
    release = asyncio.Event()
    chunks = [b"data: one\n\n", "data: 漢".encode()[:-1], "漢".encode()[-1:] + b"\n\n", b"data: [DONE]\n\n"]
    backend = await socket_backend(streaming(*chunks, release=release))
    client = await connect(await serve_proxy(backend.url))
    client.send(b"GET / HTTP/1.1\r\nHost: p\r\n\r\n")
    await client.head()
    for chunk in chunks:
        # The backend holds the next chunk back until this one has arrived.
        assert await asyncio.wait_for(client.chunk(), 60) == chunk
        release.set()
    assert await client.chunk() == b""


@settings(max_examples=examples(15), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks=st.lists(st.binary(min_size=1, max_size=200), max_size=6))
async def test_any_bytes_pass_unchanged(chunks, socket_backend, serve_proxy, connect):
    backend = await socket_backend(streaming(*chunks))
    client = await connect(await serve_proxy(backend.url))
    client.send(b"GET / HTTP/1.1\r\nHost: p\r\n\r\n")
    await client.head()
    received = []
    while chunk := await client.chunk():
        received.append(chunk)
    assert b"".join(received) == b"".join(chunks)


@pytest.mark.parametrize(
    ("method", "response", "expected"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n", [b"Content-Length: 1234"]),
        ("GET", b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n", [b"X-A: 1"]),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", [b"Content-Length: 99"]),
        ("GET", b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n", None),
    ],
)
async def test_responses_without_a_body_and_redirects_pass_as_they_are(
    method, response, expected, socket_backend, serve_proxy, connect
):
    backend = await socket_backend(answering(response))
    client = await connect(await serve_proxy(backend.url))
    for _ in range(2):  # the connection stays in step
        client.send(f"{method} /x HTTP/1.1\r\nHost: p\r\n\r\n".encode())
        head = await client.head()
        assert head[0] == response.split(b"\r\n")[0]
        assert head[1:] == (expected or [b"Location: /y", b"Content-Length: 0"])
    assert len(backend.heads) == 2


CHUNKED = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"


@pytest.mark.parametrize("length", [0, 3, 11, 500])
@pytest.mark.parametrize(
    "encoding", [b"Transfer-Encoding: chunked", b"transfer-encoding: Chunked", b"TRANSFER-ENCODING: CHUNKED"]
)
@pytest.mark.parametrize("length_first", [True, False])
@pytest.mark.parametrize("connection", [b"keep-alive", b"content-length, transfer-encoding"])
@pytest.mark.sampled(12, rest="thorough")
async def test_a_chunked_body_arrives_whole_whatever_length_is_claimed(
    length, encoding, length_first, connection, socket_backend, serve_proxy, connect
):
    framing = [b"Content-Length: %d" % length, encoding]
    head = b"\r\n".join(
        [b"HTTP/1.1 200 OK", b"Connection: " + connection, *(framing if length_first else framing[::-1])]
    )
    backend = await socket_backend(answering(head + b"\r\n\r\n" + CHUNKED))
    client = await connect(await serve_proxy(backend.url))
    for _ in range(2):  # both connections stay in step
        client.send(b"GET / HTTP/1.1\r\nHost: p\r\n\r\n")
        assert await client.head() == [b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked"]
        assert [await client.chunk(), await client.chunk(), await client.chunk()] == [b"hello", b" world", b""]
    assert len(backend.heads) == 2


@pytest.mark.parametrize("coding", [b"gzip, chunked", b"GZIP , Chunked", b"gzip", b"identity", b"xchunked"])
async def test_a_transfer_coding_that_nobody_here_can_undo_is_told_and_not_guessed_at(
    coding, socket_backend, serve_proxy
):
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: " + coding + b"\r\n\r\n" + CHUNKED
    backend = await socket_backend(answering(response))
    proxy = await serve_proxy(backend.url)
    async with httpx2.AsyncClient() as client:
        told = await client.get(proxy + "/v1/x")
    assert (told.status_code, told.json()["error"]["type"]) == (502, "backend_failed")


@pytest.mark.parametrize(
    ("method", "status", "passed"),
    [("HEAD", b"200 OK", [b"Transfer-Encoding: chunked"]), ("GET", b"304 Not Modified", []), ("HEAD", b"304 X", [])],
)
async def test_a_head_with_two_framings_and_no_body_claims_no_length(
    method, status, passed, socket_backend, serve_proxy, connect
):
    response = b"HTTP/1.1 " + status + b"\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
    backend = await socket_backend(answering(response))
    client = await connect(await serve_proxy(backend.url))
    for _ in range(2):
        client.send(f"{method} /x HTTP/1.1\r\nHost: p\r\n\r\n".encode())
        assert [line for line in await client.head() if b"-" in line] == passed
    assert len(backend.heads) == 2


async def test_a_client_that_leaves_in_mid_stream_closes_the_backends_connection_at_once(
    socket_backend, serve_proxy, connect
):
    async def handler(backend, reader, writer):
        await backend.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        await writer.drain()
        await reader.read()  # silent from here on: only the connection's end can be seen
        backend.client_left.set()

    backend = await socket_backend(handler)
    client = await connect(await serve_proxy(backend.url))
    client.send(b"GET / HTTP/1.1\r\nHost: p\r\n\r\n")
    await client.head()
    assert await client.chunk() == b"x"
    client.writer.close()
    await asyncio.wait_for(backend.client_left.wait(), 60)


async def test_a_client_that_leaves_before_the_response_closes_the_backends_connection_at_once(
    socket_backend, serve_proxy, connect
):
    asked = asyncio.Event()

    async def handler(backend, reader, writer):
        await backend.head(reader)
        assert await reader.readexactly(2) == b"{}"
        asked.set()
        assert await reader.read() == b""
        backend.client_left.set()

    backend = await socket_backend(handler)
    client = await connect(await serve_proxy(backend.url))
    client.send(b"POST / HTTP/1.1\r\nHost: p\r\nContent-Length: 2\r\n\r\n{}")
    await asyncio.wait_for(asked.wait(), 60)
    assert not backend.client_left.is_set()
    client.writer.close()
    await asyncio.wait_for(backend.client_left.wait(), 60)
    assert backend.client_left.is_set()


# -- failures --------------------------------------------------------------------------------------


async def test_a_backend_that_is_not_there_is_told_as_502_without_any_secret(serve_proxy):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        key = "sk-" + secrets.token_hex(24)
        proxy = await serve_proxy(
            f"http://127.0.0.1:{taken.getsockname()[1]}", environ={"OPENAI_API_KEY": key}, name="work"
        )
        async with httpx2.AsyncClient() as client:
            response = await client.post(proxy + "/v1/x", json={})
    assert response.status_code == 502
    assert response.json()["error"]["type"] == "backend_unreachable"
    assert "'work'" in response.json()["error"]["message"]
    assert key not in response.text


@pytest.mark.parametrize("answer", [b"", b"not http at all\r\n\r\n"])
async def test_a_backend_that_breaks_the_protocol_is_told_as_502(answer, socket_backend, serve_proxy):
    async def handler(backend, reader, writer):
        await backend.head(reader)
        writer.write(answer)
        await writer.drain()

    backend = await socket_backend(handler)
    proxy = await serve_proxy(backend.url)
    async with httpx2.AsyncClient() as client:
        response = await client.get(proxy + "/v1/x")
    assert response.status_code == 502
    assert response.json()["error"]["type"] == "backend_failed"


async def test_a_header_that_cannot_be_sent_is_not_quoted(socket_backend, serve_proxy):
    backend = await socket_backend(answering())
    key = "sk-" + secrets.token_hex(24)
    proxy = await serve_proxy(backend.url, environ={"OPENAI_API_KEY": key + "\nbroken"})
    async with httpx2.AsyncClient() as client:
        response = await client.get(proxy + "/v1/x")
    assert response.status_code == 502
    assert key not in response.text


async def test_a_silent_backend_is_told_as_504(socket_backend, serve_proxy):
    async def handler(backend, reader, writer):
        await backend.head(reader)
        await reader.read()

    backend = await socket_backend(handler)
    proxy = await serve_proxy(backend.url, read_timeout=0.1)
    async with httpx2.AsyncClient() as client:
        response = await client.get(proxy + "/v1/x")
    assert response.status_code == 504
    assert response.json()["error"]["type"] == "backend_timeout"


async def test_a_status_that_is_none_is_a_bad_gateway(socket_backend, serve_proxy):
    backend = await socket_backend(answering(b"HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\nok"))
    proxy = await serve_proxy(backend.url)
    async with httpx2.AsyncClient() as client:
        answer = await client.get(proxy + "/v1/x")
    assert (answer.status_code, answer.json()["error"]["type"]) == (502, "backend_failed")


@pytest.mark.parametrize(
    "framing", [b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"Content-Length: 10\r\n\r\nabc"]
)
async def test_a_break_in_mid_stream_is_a_break_for_the_client(framing, socket_backend, serve_proxy):
    async def handler(backend, reader, writer):
        await backend.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n" + framing)
        await writer.drain()

    backend = await socket_backend(handler)
    proxy = await serve_proxy(backend.url)
    received = bytearray()

    async def read_to_the_end(response):
        async for chunk in response.aiter_raw():
            received.extend(chunk)

    async with httpx2.AsyncClient() as client, client.stream("GET", proxy + "/v1/x") as response:
        assert response.status_code == 200
        with pytest.raises(httpx2.RemoteProtocolError):
            await read_to_the_end(response)
    assert received == b"abc"


# -- keys ------------------------------------------------------------------------------------------


async def test_the_environments_key_is_added_when_the_client_sends_none(socket_backend, serve_proxy, connect):
    backend = await socket_backend(answering())
    key = "sk-" + secrets.token_hex(24)
    proxy = await serve_proxy(backend.url, environ={"OPENAI_API_KEY": key})
    client = await connect(proxy)
    client.send(b"GET /v1/models HTTP/1.1\r\nHost: " + proxy.removeprefix("http://").encode() + b"\r\n\r\n")
    await client.head()
    assert backend.head_lines[2:] == [b"authorization: Bearer " + key.encode()]


@pytest.mark.parametrize(
    ("path", "header"),
    [
        (b"/x", b"Authorization: Bearer mine"),
        (b"/x", b"X-Api-Key: mine"),
        (b"/x", b"api-key: mine"),
        (b"/x", b"x-goog-api-key: mine"),
        (b"/x?alt=sse&key=mine", b"X-Other: 1"),
    ],
)
async def test_the_clients_own_credential_stands_alone(path, header, socket_backend, serve_proxy, connect):
    backend = await socket_backend(answering())
    client = await connect(await serve_proxy(backend.url, environ={"OPENAI_API_KEY": secrets.token_hex(24)}))
    client.send(b"GET " + path + b" HTTP/1.1\r\nHost: p\r\n" + header + b"\r\n\r\n")
    await client.head()
    assert backend.head_lines[2:] == [header]


@pytest.mark.parametrize(("query", "brought"), [(b"q=\xc3\xbc\xff", False), (b"q=\xff&key=", True), (b"\xff", False)])
def test_a_query_that_is_no_ascii_is_looked_into_too(query, brought):
    assert bool(sent_credentials([], query, "authorization")) is brought


def test_a_key_travels_the_way_its_provider_expects():
    key = secrets.token_hex(24)
    known = backends_from([]).by_name
    assert known["openai"].credential({"OPENAI_API_KEY": key}) == ("authorization", f"Bearer {key}")
    assert known["anthropic"].credential({"ANTHROPIC_API_KEY": key}) == ("x-api-key", key)
    assert known["anthropic"].credential({"ANTHROPIC_AUTH_TOKEN": key}) == ("authorization", f"Bearer {key}")
    assert known["gemini"].credential({"GOOGLE_API_KEY": key}) == ("x-goog-api-key", key)
    assert known["openai"].credential({"ANTHROPIC_API_KEY": key}) is None
    bedrock = backends_from(["bedrock=https://bedrock-runtime.eu-west-1.amazonaws.com"]).by_name["bedrock"]
    assert bedrock.credential({"AWS_ACCESS_KEY_ID": key}) is None
    own = backends_from(["my-llm=http://127.0.0.1:8000/api/"]).by_name["my-llm"]
    assert own.base_url == "http://127.0.0.1:8000/api"
    assert own.credential({"MY_LLM_API_KEY": key}) == ("authorization", f"Bearer {key}")


# -- settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "option",
    [
        "openai",
        "=http://x",
        "a/b=http://x",
        "x=ftp://host",
        "x=http://",
        "x=http://host:port",
        "x=host:80",
        "x=http://h?q=1",
        "x=http://h#f",
        "x=http://h ost",
        "x=http://[::1",
    ],
)
def test_a_backend_option_that_cannot_be_used_is_named(option):
    with pytest.raises(ConfigurationError, match=r"--backend: .*expected"):
        backends_from([option])


@pytest.mark.parametrize(
    "option", ["x=https://user:{}@host", "x=user:{}@host", "=https://user:{}@host", "user:{}@host"]
)
@pytest.mark.parametrize("between", ["", "/", "@", "?", "#", "//", "\n", "="])
def test_a_password_in_a_url_is_refused_and_not_repeated(option, between):
    halves = secrets.token_hex(8), secrets.token_hex(8)
    with pytest.raises(ConfigurationError) as told:
        backends_from([option.format(between.join(halves))], "x")
    assert not [half for half in halves if half in str(told.value)]
    assert "***@host" in str(told.value)


@pytest.mark.parametrize(
    ("options", "named", "default"),
    [
        ([], None, "openai"),
        ([], "gemini", "gemini"),
        (["local=http://h"], None, "local"),
        (["anthropic=http://h"], None, "anthropic"),
        (["local=http://h", "local=http://i"], None, "local"),
        (["local=http://h", "openai=http://i"], None, None),
        (["local=http://h", "openai=http://i"], "openai", "openai"),
        (["local=http://h"], "openai", "openai"),
    ],
)
def test_the_default_backend_is_the_named_one_else_the_only_one_there_can_be(options, named, default):
    assert backends_from(options, named).default == default


@pytest.mark.parametrize(
    ("url", "origin", "base_path"),
    [
        ("http://H.test", ("http", "h.test", 80), b""),
        ("https://h:443/", ("https", "h", 443), b""),
        ("https://h:8443/Api/%41//", ("https", "h", 8443), b"/Api/%41"),
        ("http://[::1]:80/x", ("http", "::1", 80), b"/x"),
    ],
)
def test_a_base_url_is_an_origin_and_a_path(url, origin, base_path):
    backend = backends_from([f"x={url}"]).by_name["x"]
    assert (backend.origin, backend.base_path) == (origin, base_path)


def test_an_unknown_default_backend_is_told_with_the_known_ones():
    with pytest.raises(ConfigurationError, match=r"'opnai'.*anthropic, .*openai"):
        backends_from([], "opnai")


# -- headers, as a function ------------------------------------------------------------------------

HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"Host", b"X-A", b"x-a", b"Connection", b"TE", b"Content-Length", b"X-Hop", b"Upgrade"]),
        st.sampled_from([b"1", b"X-Hop", b"close, X-HOP", b"content-length"]),
    )
)


@given(HEADERS)
def test_end_to_end_headers_keep_their_order_and_values(received):
    sent = response_headers(received)
    rest = iter(received)
    assert all(header in rest for header in sent)  # a subsequence: nothing added, nothing moved
    kept = {name.lower() for name, _ in sent}
    assert not kept & {b"connection", b"te", b"upgrade"}
    assert {b"x-a", b"content-length"} & {name.lower() for name, _ in received} <= kept


@pytest.mark.parametrize("name", [b"Transfer-Encoding", b"transfer-encoding", b"TRANSFER-ENCODING"])
@pytest.mark.parametrize("connection", [b"keep-alive", b"Content-Length, Transfer-Encoding"])
def test_a_response_with_two_framings_loses_the_length_that_does_not_rule(name, connection):
    received = [(b"Content-Length", b"3"), (b"Connection", connection), (name, b"chunked"), (b"X-Kept", b"1")]
    assert response_headers(received) == [(b"X-Kept", b"1")]
    assert response_headers(received[:2]) == [(b"Content-Length", b"3")]


def test_a_body_with_two_framings_keeps_the_one_that_rules():
    headers, has_body = request_headers(
        [(b"Host", b"p"), (b"Content-Length", b"3"), (b"Transfer-Encoding", b"chunked")],
        b"b",
        http_version="1.1",
    )
    assert headers == [(b"Host", b"b"), (b"Transfer-Encoding", b"chunked")]
    assert has_body


# -- the command's server --------------------------------------------------------------------------

SERVE = """
import sys
from otel_wirecap.proxy.app import create_app
from otel_wirecap.proxy.backends import Backend
from otel_wirecap.proxy.server import serve
serve(create_app({"b": Backend("b", sys.argv[1])}, "b", environ={}), "127.0.0.1", 0, what="a proxy", note=" for b")
"""


async def test_the_server_says_where_it_is_and_a_broken_stream_costs_one_line(socket_backend):
    async def handler(backend, reader, writer):
        await backend.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        await writer.drain()

    backend = await socket_backend(handler)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVE, backend.url, stderr=subprocess.PIPE, env=os.environ | {"PYTHONUTF8": "1"}
    )
    try:
        assert process.stderr is not None
        line = (await asyncio.wait_for(process.stderr.readline(), 60)).decode()
        prefix, _, rest = line.partition("http://127.0.0.1:")
        port, _, note = rest.partition(" ")
        assert (prefix, note) == ("a proxy on ", "for b\n")
        async with httpx2.AsyncClient() as client:
            with pytest.raises(httpx2.RemoteProtocolError):
                await client.get(f"http://127.0.0.1:{port}/x")
        process.send_signal(signal.SIGTERM)
        errors = (await asyncio.wait_for(process.stderr.read(), 60)).decode()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    assert errors.count("\n") == 1
    assert "backend 'b' broke off: RemoteProtocolError" in errors
    assert json.dumps(errors).count("Traceback") == 0


@pytest.mark.thorough
async def test_a_stream_that_runs_when_the_server_is_stopped_costs_no_traceback(socket_backend):
    async def handler(backend, reader, writer):
        await backend.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        await writer.drain()
        await asyncio.sleep(60)

    backend = await socket_backend(handler)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVE, backend.url, stderr=subprocess.PIPE, env=os.environ | {"PYTHONUTF8": "1"}
    )
    try:
        assert process.stderr is not None
        line = (await asyncio.wait_for(process.stderr.readline(), 60)).decode()
        url = line.split()[3]
        async with httpx2.AsyncClient() as client, client.stream("GET", url) as response:
            chunks = response.aiter_raw()
            assert await anext(chunks) == b"abc"
            process.send_signal(signal.SIGTERM)
            errors = (await asyncio.wait_for(process.stderr.read(), 60)).decode()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    assert "waiting 5 seconds at most for 1 running requests" in errors
    assert "Traceback" not in errors
