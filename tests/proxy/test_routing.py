"""Where the ready-made proxy sends a request, and what it asks for there."""

from __future__ import annotations

import asyncio
import re
import secrets

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from otel_wirecap.proxy.app import added_key, create_app, origin_url
from otel_wirecap.proxy.backends import Backend, backends_from
from otel_wirecap.proxy.routing import Router, RoutingError

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"  # without a body, so that it answers a HEAD, too

BACKENDS = {
    "openai": Backend("openai", "https://api.test"),
    "gemini": Backend("gemini", "http://127.0.0.1:8000"),
    "local": Backend("local", "http://127.0.0.1:9000/api/%41"),
    "to": Backend("to", "http://127.0.0.1:9001"),
}


# -- the rule --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "name", "asked_for"),
    [
        # /to/NAME/... goes to NAME, without the prefix
        (b"/to/gemini/v1beta/models/g:generateContent?alt=sse", "gemini", b"/v1beta/models/g:generateContent?alt=sse"),
        (b"/to/gemini", "gemini", b"/"),
        (b"/to/gemini/", "gemini", b"/"),
        (b"/to/gemini?key=1&x=/to/y", "gemini", b"/?key=1&x=/to/y"),
        (b"/to/gemini/?", "gemini", b"/?"),
        (b"/to/gemini//v1//x/", "gemini", b"//v1//x/"),
        (b"/to/gemini/to/openai/v1", "gemini", b"/to/openai/v1"),
        (b"/to/gemini/../openai/v1", "gemini", b"/../openai/v1"),
        (b"/to/gemini/@stranger.test/v1", "gemini", b"/@stranger.test/v1"),
        (b"/to/openai/v1/models", "openai", b"/v1/models"),
        (b"/to/to/v1", "to", b"/v1"),
        # a backend's own path comes before the request's
        (b"/to/local/v1/x", "local", b"/api/%41/v1/x"),
        (b"/to/local?x=1", "local", b"/api/%41/?x=1"),
        # all else goes whole to the default backend: vendors' own paths, names of backends, whatever looks like a host
        (b"/v1/chat/completions", "openai", b"/v1/chat/completions"),
        (b"/openai/v1/chat/completions", "openai", b"/openai/v1/chat/completions"),
        (b"/openai/deployments/d/chat/completions?api-version=1", "openai",
         b"/openai/deployments/d/chat/completions?api-version=1"),
        (b"/anthropic/v1/messages", "openai", b"/anthropic/v1/messages"),
        (b"/gemini/v1beta/models", "openai", b"/gemini/v1beta/models"),
        (b"/", "openai", b"/"),
        (b"/?", "openai", b"/?"),
        (b"/tools/gemini/x", "openai", b"/tools/gemini/x"),
        (b"/TO/gemini/x", "openai", b"/TO/gemini/x"),
        (b"/%74o/gemini/x", "openai", b"/%74o/gemini/x"),
        (b"/./to/gemini/x", "openai", b"/./to/gemini/x"),
        (b"/x/../to/gemini/x", "openai", b"/x/../to/gemini/x"),
        (b"//to/gemini/x", "openai", b"//to/gemini/x"),
        (b"//stranger.test/v1", "openai", b"//stranger.test/v1"),
        (b"/\\\\stranger.test/v1", "openai", b"/\\\\stranger.test/v1"),
        (b"/%2F@stranger.test/v1#x", "openai", b"/%2F@stranger.test/v1#x"),
    ],
)  # fmt: skip
def test_a_path_that_begins_with_to_names_its_backend_and_every_other_is_the_defaults(target, name, asked_for):
    route = Router(BACKENDS, "openai").route("POST", target)
    assert (route.backend, route.target) == (BACKENDS[name], asked_for)


@pytest.mark.parametrize(
    ("target", "namesake"),
    [
        (b"/gemini/v1beta/models", "gemini"),
        (b"/gemini", "gemini"),
        (b"/openai/v1/models", None),
        (b"/gem%69ni/v1", None),
        (b"/v1/gemini", None),
        (b"/to/gemini/v1", None),
        (b"/to/gemini/local/v1", None),
    ],
)
def test_a_path_that_begins_with_another_backends_name_says_so(target, namesake):
    assert Router(BACKENDS, "openai").route("POST", target).namesake == BACKENDS.get(namesake)


async def test_a_path_of_before_is_mentioned_in_the_log_once_for_each_name(place, caplog):
    proxy, *_ = place
    for target in (b"/other/v1", b"/other/v1", b"/to/other/v1", b"/v1"):
        assert (await ask(proxy, b"GET", target)).startswith(b"HTTP/1.1 200")
    assert [message for message in caplog.messages if "write /to/" in message] == [
        "a request for /other/... went to the default backend openai; for the backend other write /to/other/..."
    ]


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (b"/to", "the path names no backend"),
        (b"/to/", "the path names no backend"),
        (b"/to?x=1", "the path names no backend"),
        (b"/to//gemini/x", "the path names no backend"),
        (b"/to/gemin/x", "no backend is called 'gemin'"),
        (b"/to/Gemini/x", "no backend is called 'Gemini'"),
        (b"/to/gem%69ni/x", "no backend is called 'gem%69ni'"),
        (b"/to/gemini#x/v1", "no backend is called 'gemini#x'"),
        (b"/to/gemini@stranger.test/v1", "no backend is called 'gemini@stranger.test'"),
        (b"/to/..", "no backend is called '..'"),
        (b"/to/" + b"n" * 64, "no backend is called '" + "n" * 64 + "'"),
        (b"/to/" + b"n" * 65, "no backend is called 65 characters"),
    ],
)
def test_an_unknown_name_is_told_with_the_known_ones(target, told):
    for default in ("openai", None):
        with pytest.raises(RoutingError) as refused:
            Router(BACKENDS, default).route("POST", target)
        assert (refused.value.status, refused.value.kind) == (404, "unknown_backend")
        assert str(refused.value) == f"{told}; expected /to/NAME/..., NAME one of: gemini, local, openai, to"


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        (b"/v1/models", None),
        (b"/gem%69ni/v1", None),
        (b"/gemini/v1beta/models", "write /to/gemini/..."),
        (b"/gemini", "write /to/gemini/..."),
        (b"/gemini?x=1", "write /to/gemini/..."),
    ],
)
def test_without_a_default_backend_a_path_outside_to_is_told_how_to_name_one(target, hint):
    with pytest.raises(RoutingError) as refused:
        Router(BACKENDS, None).route("GET", target)
    told = str(refused.value)
    assert (refused.value.status, refused.value.kind) == (404, "no_default_backend")
    assert "NAME one of: gemini, local, openai, to" in told
    assert "--default-backend NAME" in told
    assert ("no longer leads" in told) is (hint is not None)
    assert (hint or "") in told


@pytest.mark.parametrize("default", ["openai", None])
@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", b"http://stranger.test/path"),
        ("GET", b"HTTPS://api.test/to/gemini/x"),
        ("POST", b"%2F@stranger.test/v1"),
        ("POST", b"@stranger.test/v1"),
        ("POST", b"\\\\stranger.test\\v1"),
        ("GET", b"stranger.test:80"),
        ("GET", b"to/gemini/x"),
        ("GET", b"?x=/"),
        ("GET", b""),
        ("GET", b"*"),
        ("OPTIONS", b"*?x"),
        ("OPTIONS", b"**"),
        ("options", b"*"),
        ("CONNECT", b"stranger.test:443"),
        ("CONNECT", b"/v1"),
        ("CONNECT", b"*"),
    ],
)
def test_what_is_no_path_from_the_root_goes_nowhere(method, target, default):
    with pytest.raises(RoutingError, match="expected a path that begins with '/'") as refused:
        Router(BACKENDS, default).route(method, target)
    assert (refused.value.status, refused.value.kind) == (400, "invalid_target")


def test_options_of_the_whole_server_are_the_default_backends():
    route = Router(BACKENDS, "local").route("OPTIONS", b"*")
    assert (route.backend, route.target) == (BACKENDS["local"], b"*")
    with pytest.raises(RoutingError, match="no default backend"):
        Router(BACKENDS, None).route("OPTIONS", b"*")


# -- the wire --------------------------------------------------------------------------------------


def keeping(response: bytes = OK):
    """A handler that reads requests without a body and answers each with ``response``."""

    async def handler(backend, reader, writer):
        while True:
            await backend.head(reader)
            writer.write(response)
            await writer.drain()

    return handler


@pytest.fixture
async def place(socket_backend, serve_proxy):
    """A proxy with a default backend and another, a stranger that nothing leads to, and the backends' key."""
    default, other, stranger = [await socket_backend(keeping()) for _ in range(3)]
    key = "sk-" + secrets.token_hex(24)
    proxy = await serve_proxy(
        default.url,
        others=[Backend("other", other.url, key_variables=("OTHER_KEY",))],
        environ={"OPENAI_API_KEY": key, "OTHER_KEY": key},
    )
    return proxy, default, other, stranger, key.encode()


async def ask(proxy: str, method: bytes, target: bytes) -> bytes:
    """Sends one request over a connection of its own; the answer to its end."""
    port = int(proxy.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = b" HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: close\r\n\r\n" % port
        writer.write(method + b" " + target + head)
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/%E6%BC%A2/a%2Fb//c/./d?x=%20+%2B&empty=&y",
        b"/%2e%2e/v1?q=a'b\"c|d",
        b"/../v1/./x/..",
        b"/v1beta/models/gemini:generateContent?alt=sse",
        b"/v1/x?",
        b"/v1/x??a",
        b"/v1/x#y?z",
        b"//",
        b"/",
        b"/" + b"x" * 100_000,
    ],
)
async def test_a_target_is_sent_on_byte_for_byte(target, place):
    proxy, default, other, *_ = place
    assert (await ask(proxy, b"GET", target)).startswith(b"HTTP/1.1 200")
    assert (await ask(proxy, b"GET", b"/to/other" + target)).startswith(b"HTTP/1.1 200")
    assert default.head_lines[0] == other.head_lines[0] == b"GET " + target + b" HTTP/1.1"


@pytest.mark.parametrize("method", [b"get", b"Post", b"connect", b"PROPFIND"])
async def test_a_method_is_sent_on_as_it_is_spelt(method, place):
    proxy, default, *_ = place
    assert (await ask(proxy, method, b"/v1/x")).startswith(b"HTTP/1.1 200")
    assert default.head_lines[0] == method + b" /v1/x HTTP/1.1"


async def test_options_of_the_whole_server_arrive_as_an_asterisk(place):
    proxy, default, other, *_ = place
    assert (await ask(proxy, b"OPTIONS", b"*")).startswith(b"HTTP/1.1 200")
    assert default.head_lines[0] == b"OPTIONS * HTTP/1.1"
    assert not other.heads


@pytest.mark.parametrize(
    ("method", "target"),
    [(b"GET", b"http://127.0.0.1:%d/v1"), (b"POST", b"%%2F@127.0.0.1:%d/v1"), (b"CONNECT", b"127.0.0.1:%d")],
)
async def test_what_is_no_path_gets_a_400_in_json_and_nothing_is_sent(method, target, place):
    proxy, default, other, stranger, _ = place
    answer = await ask(proxy, method, target % stranger.port)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"content-type: application/json" in head.lower()
    assert b'"type": "invalid_target"' in body
    assert not [backend for backend in (default, other, stranger) if backend.heads]


async def test_a_request_that_goes_nowhere_leaves_its_connection_usable(place, connect):
    proxy, default, *_ = place
    client = await connect(proxy)
    client.send(b"POST /to/nobody/v1 HTTP/1.1\r\nHost: p\r\nContent-Length: 4\r\n\r\nbody")
    head = await client.head()
    assert head[0].startswith(b"HTTP/1.1 404")
    length = int(next(line for line in head if line.startswith(b"content-length")).split()[1])
    assert b'"type": "unknown_backend"' in await client.reader.readexactly(length)
    client.send(b"GET /v1/models HTTP/1.1\r\nHost: " + proxy.removeprefix("http://").encode() + b"\r\n\r\n")
    assert (await client.head())[0] == b"HTTP/1.1 200 OK"
    assert default.head_lines[0] == b"GET /v1/models HTTP/1.1"


@pytest.mark.parametrize("target", [b"/to/nobody/v1", b"http://stranger.test/v1"])
async def test_who_sends_a_large_body_nowhere_reads_the_answer(target, place):
    size = 16 << 20
    reader, writer = await asyncio.open_connection("127.0.0.1", int(place[0].rpartition(":")[2]))
    try:
        writer.write(b"POST %b HTTP/1.1\r\nHost: p\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % (target, size))
        for _ in range(size >> 20):
            writer.write(bytes(1 << 20))
            await writer.drain()
        answer = await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()
    assert re.match(rb"HTTP/1.1 40[04] ", answer)
    assert answer.endswith(b'"}}')


async def test_the_app_under_a_server_that_gives_no_raw_target_asks_for_path_and_query(socket_backend):
    backend = await socket_backend(keeping())
    app = create_app({"b": Backend("b", backend.url)}, "b", environ={})
    transport = httpx2.ASGITransport(app)
    async with app.lifespan_context(app), httpx2.AsyncClient(transport=transport, base_url="http://p") as client:
        assert (await client.get("/a%2Fb?x=%20")).status_code == 200
        assert (await client.get("/to/b/y")).status_code == 200
    assert [head.split(b"\r\n")[0] for head in backend.heads] == [b"GET /a%2Fb?x=%20 HTTP/1.1", b"GET /y HTTP/1.1"]


PIECES = (
    b"/", b"//", b"\\", b"@", b":", b"?", b"#", b"%2F", b"%2f", b"%40", b"%5C", b"%00", b"%0d%0a", b"..", b".", b";",
    b"*", b"[", b"]", b"[::1]", b"\t", b"\0", b" ", b"\xff", "漢".encode(), b"http:", b"https://", b"x", b"user:pw@",
    b"to", b"/to/", b"/to/other", b"other", b"openai", b"v1", b"&key", b"|", b'"', b"<", b"{STRANGER}", b"@{STRANGER}",
    b"//{STRANGER}", b"%2F@{STRANGER}/", b"http://{STRANGER}/",
)  # fmt: skip
targets = st.tuples(
    st.sampled_from([b"/", b"", b"/to/other", b"/to/other/", b"/to/openai/"]),
    st.lists(st.sampled_from(PIECES) | st.binary(min_size=1, max_size=2), max_size=7),
).map(lambda parts: parts[0] + b"".join(parts[1])).filter(lambda target: not set(target) & set(b"\r\n"))  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(target=targets, method=st.sampled_from([b"GET", b"POST", b"OPTIONS", b"CONNECT", b"HEAD"]))
async def test_no_target_leads_a_request_or_a_key_to_a_stranger(target, method, place):
    proxy, default, other, stranger, key = place
    for backend in (default, other, stranger):
        backend.heads.clear()
    target = target.replace(b"{STRANGER}", b"127.0.0.1:%d" % stranger.port)
    answer = await ask(proxy, method, target)
    status = int(re.match(rb"HTTP/1\.1 (\d{3}) ", answer)[1])
    assert stranger.connections == 0
    assert status in {200, 400, 404}
    if status != 200:
        assert not default.heads + other.heads
        return
    named = re.fullmatch(rb"/to/(other|openai)(?:/([^?]*))?(\?.*)?", target, re.DOTALL)
    asked_for = b"/%b%b" % (named[2] or b"", named[3] or b"") if named else target
    asked, unasked = (other, default) if named and named[1] == b"other" else (default, other)
    assert not unasked.heads
    assert [head.split(b"\r\n")[0] for head in asked.heads] == [method + b" " + asked_for + b" HTTP/1.1"]
    assert key in asked.heads[0] or b"key" in target.partition(b"?")[2]


# -- the key ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "added"),
    [
        ("http://h.test:8000/", True),
        ("HTTP://H.test:8000/elsewhere?x", True),
        ("https://h.test:8000/", False),
        ("http://h.test/", False),
        ("http://h.test:8001/", False),
        ("http://other.test:8000/", False),
        ("http://h.test.other.test:8000/", False),
    ],
)
def test_a_key_is_added_for_its_backends_own_origin_only(url, added):
    key = "sk-" + secrets.token_hex(24)
    backend = Backend("b", "http://h.test:8000/base", key_variables=("B_KEY",))
    headers = added_key(httpx2.URL(url), backend, {"B_KEY": key})
    assert headers == ([(b"authorization", b"Bearer " + key.encode())] if added else [])


@pytest.mark.parametrize(
    "url",
    ["http://h", "https://h/", "https://h:443", "http://H.Test:80/x", "http://[::1]:8000", "http://[2001:DB8::1]/v1",
     "https://xn--bcher-kva.test", "http://127.0.0.1:1", "http://a_b.test", "http://a%41.test"],
)  # fmt: skip
def test_every_backend_gets_its_own_key(url):
    key = "sk-" + secrets.token_hex(24)
    backend = backends_from([f"b={url}"]).by_name["b"]
    assert added_key(origin_url(backend), backend, {"B_API_KEY": key}) != []
