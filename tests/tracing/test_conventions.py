"""Spans as OpenTelemetry's conventions for HTTP and for generative AI have them, of exchanges over real sockets."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import litestar
import pytest
from fastapi import APIRouter, FastAPI
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_http_instrumentation
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from traced_gateway import Gateway, Spans

import otel_wirecap
from otel_wirecap.capture.facts import ExchangeFacts
from otel_wirecap.llm.providers import PROVIDERS
from otel_wirecap.tracing.semantics import provider_of

CHAT = "/v1/chat/completions"
ASKED = {"model": "demo-small", "messages": [{"role": "user", "content": "hi"}]}
STREAMED = {"stream": True, "stream_options": {"include_usage": True}}
IDS = {"wirecap.request_id", "wirecap.exchange_id", "wirecap.session_id", "gen_ai.conversation.id"}


def told(spans: Spans, kind: SpanKind) -> dict[str, Any]:
    (span,) = spans.of(kind)
    return dict(span.attributes or {})


def test_a_stream_is_one_server_span_and_one_client_span_with_all_attributes(
    gateway: Gateway, spans: Spans, backend_url: str
) -> None:
    began = time.time_ns()
    status, body = gateway.ask(
        CHAT + "?tag=a",
        ASKED | STREAMED | {"temperature": 0, "max_tokens": 99, "top_p": 0.5},
        user_agent="Cline/1.0",
    )  # fmt: skip
    otel_wirecap.uninstrument()
    ended = time.time_ns()  # the server's end may be later than the client's
    assert status == 200
    events = [json.loads(line[6:]) for line in body.decode().splitlines() if line.startswith("data: {")]
    (server,), (client,) = spans.of(SpanKind.SERVER), spans.of(SpanKind.CLIENT)
    assert server.name == "POST /v1/{operation}"
    assert client.name == "chat demo-small"
    assert client.parent is not None
    assert client.parent.span_id == server.context.span_id
    assert server.parent is None
    assert began <= server.start_time <= client.start_time < client.end_time <= server.end_time <= ended
    assert client.end_time - client.start_time > 20_000_000  # the backend takes a moment for each event
    assert server.status.status_code is client.status.status_code is StatusCode.UNSET

    attributes = told(spans, SpanKind.SERVER)
    assert attributes.keys() > IDS
    assert {name: value for name, value in attributes.items() if name not in IDS} == {
        "http.request.method": "POST", "http.response.status_code": 200, "http.route": "/v1/{operation}",
        "url.scheme": "http", "url.path": CHAT, "url.query": "tag=a",
        "server.address": "localhost", "server.port": gateway.port, "client.address": "127.0.0.1",
        "network.protocol.version": "1.1", "user_agent.original": "Cline/1.0",
        "gen_ai.request.model": "demo-small", "gen_ai.response.model": "demo-small",
        "wirecap.leg": "client", "wirecap.outcome": "complete", "wirecap.session_source": "conversation",
    }  # fmt: skip
    attributes = told(spans, SpanKind.CLIENT)
    first_chunk = attributes.pop("gen_ai.response.time_to_first_chunk")
    assert 0 < first_chunk < (client.end_time - client.start_time) / 1e9
    assert {name: value for name, value in attributes.items() if name not in IDS} == {
        "http.request.method": "POST", "http.response.status_code": 200, "url.full": backend_url + CHAT + "?tag=a",
        "server.address": "127.0.0.1", "server.port": int(backend_url.rpartition(":")[2]),
        "network.protocol.version": "1.1", "user_agent.original": "Cline/1.0",
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "demo-small", "gen_ai.request.stream": True, "gen_ai.request.temperature": 0.0,
        "gen_ai.request.top_p": 0.5, "gen_ai.request.max_tokens": 99,
        "gen_ai.response.model": "demo-small", "gen_ai.response.id": events[0]["id"],
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": events[-1]["usage"]["prompt_tokens"],
        "gen_ai.usage.output_tokens": events[-1]["usage"]["completion_tokens"],
        "wirecap.leg": "backend", "wirecap.attempt": 1, "wirecap.outcome": "complete", "wirecap.backend": "openai",
        "wirecap.session_source": "conversation",
    }  # fmt: skip


def test_an_answer_that_is_no_stream_has_no_first_chunk(gateway: Gateway, spans: Spans) -> None:
    _, body = gateway.ask(CHAT, ASKED)
    otel_wirecap.uninstrument()
    attributes = told(spans, SpanKind.CLIENT)
    answer = json.loads(body)
    assert attributes["gen_ai.response.id"] == answer["id"]
    assert attributes["gen_ai.usage.output_tokens"] == answer["usage"]["completion_tokens"]
    assert not {"gen_ai.request.stream", "gen_ai.response.time_to_first_chunk"} & attributes.keys()


def test_tokens_that_are_not_reported_are_not_told_as_none(spans: Spans, capture_file: Path) -> None:
    answer = {"data": [], "model": "m", "usage": {"prompt_tokens": 3, "total_tokens": 3}}
    otel_wirecap.instrument(capture_file=capture_file, tracer_provider=spans.provider)
    with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, json=answer))) as client:
        client.post("https://api.openai.com/v1/embeddings", json={"model": "m", "input": "text"})
    otel_wirecap.uninstrument()
    (span,) = spans.of(SpanKind.CLIENT)
    assert span.name == "embeddings m"
    usage = {name: value for name, value in (span.attributes or {}).items() if name.startswith("gen_ai.usage")}
    assert usage == {"gen_ai.usage.input_tokens": 3}


@pytest.mark.parametrize(("model", "status"), [("demo-rate-limited", 429), ("demo-of-nobody", 404)])
def test_what_the_client_did_wrong_fails_the_attempt_and_not_the_server(
    model: str, status: int, gateway: Gateway, spans: Spans
) -> None:
    assert gateway.ask(CHAT, ASKED | {"model": model})[0] == status
    otel_wirecap.uninstrument()
    (server,), (client,) = spans.of(SpanKind.SERVER), spans.of(SpanKind.CLIENT)
    assert client.status.status_code is StatusCode.ERROR
    assert client.status.description is None  # the status code says it
    assert (client.attributes or {})["error.type"] == str(status)
    assert server.status.status_code is StatusCode.UNSET
    assert "error.type" not in (server.attributes or {})
    assert (server.attributes or {})["http.response.status_code"] == status


def test_an_error_within_a_stream_fails_the_attempt(gateway: Gateway, spans: Spans) -> None:
    assert gateway.ask(CHAT, ASKED | {"model": "demo-overloaded-stream", "stream": True})[0] == 200
    otel_wirecap.uninstrument()
    (server,), (client,) = spans.of(SpanKind.SERVER), spans.of(SpanKind.CLIENT)
    assert client.status.status_code is StatusCode.ERROR
    assert client.status.description
    assert (client.attributes or {})["error.type"] == "provider"
    assert server.status.status_code is StatusCode.UNSET


def test_an_application_that_fails_fails_the_server(gateway: Gateway, spans: Spans) -> None:
    assert gateway.ask("/broken")[0] == 500
    otel_wirecap.uninstrument()
    (server,) = spans.of(SpanKind.SERVER)
    assert server.name == "GET /broken"
    assert server.status.status_code is StatusCode.ERROR
    assert (server.attributes or {})["error.type"] in {"500", "RuntimeError"}


@pytest.mark.parametrize(
    ("path", "status", "name"),
    [
        ("/mounted/items/7", 200, "GET /mounted/items/{item}"),
        ("/nowhere/7", 404, "GET"),
    ],
)
def test_the_name_has_the_route_and_never_the_path(
    path: str, status: int, name: str, gateway: Gateway, spans: Spans
) -> None:
    assert gateway.ask(path)[0] == status
    otel_wirecap.uninstrument()
    (server,) = spans.of(SpanKind.SERVER)
    assert server.name == name
    assert (server.attributes or {})["url.path"] == path


def test_the_route_of_what_is_mounted_is_told_once(
    spans: Spans, capture_file: Path, serve: Callable[..., Gateway]
) -> None:
    files = Mount("/files", StaticFiles(directory=Path(__file__).parent))
    otel_wirecap.instrument(capture_file=capture_file, tracer_provider=spans.provider)
    gateway = serve(Starlette(routes=[Mount("/api", routes=[files])]))
    assert gateway.ask("/api/files/none.txt")[0] == 404
    otel_wirecap.uninstrument()
    assert [span.name for span in spans.of(SpanKind.SERVER)] == ["GET /api/files/{path}"]


def test_routes_are_those_that_fastapi_tells_itself(
    capture_file: Path, serve: Callable[..., Gateway], spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner, outer, app, mounted = APIRouter(prefix="/inner"), APIRouter(prefix="/outer/{tenant}"), FastAPI(), FastAPI()

    async def answer() -> str:
        return "there"

    inner.add_api_route("/items/{item}", answer)
    outer.include_router(inner)
    app.include_router(outer, prefix="/api")
    app.add_api_route("/plain/{rest:path}", answer)
    mounted.add_api_route("/there/{item}", answer)
    app.mount("/mounted", mounted)
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: spans.provider)  # what FastAPI looks for
    otel_wirecap.instrument(capture_file=capture_file, tracer_provider=spans.provider)
    gateway = serve(app)
    for path in ("/api/outer/blue/inner/items/7", "/plain/a/b", "/mounted/there/7"):
        assert gateway.ask(path) == (200, b'"there"')
    otel_wirecap.uninstrument()
    routes: dict[bool, list[object]] = {True: [], False: []}
    for span in spans.of(SpanKind.SERVER):
        attributes = span.attributes or {}
        routes["wirecap.leg" in attributes].append((span.name, attributes.get("http.route")))
    assert routes[True] == routes[False]
    assert routes[True][0] == ("GET /api/outer/{tenant}/inner/items/{item}", "/api/outer/{tenant}/inner/items/{item}")
    assert len(routes[True]) == 3


def test_litestar_tells_its_routes_too(spans: Spans, capture_file: Path, serve: Callable[..., Gateway]) -> None:
    @litestar.get("/items/{item:str}")
    async def item() -> str:
        return "there"

    otel_wirecap.instrument(capture_file=capture_file, tracer_provider=spans.provider)
    assert serve(litestar.Litestar([item])).ask("/items/7") == (200, b"there")
    otel_wirecap.uninstrument()
    assert [span.name for span in spans.of(SpanKind.SERVER)] == ["GET /items/{item}"]


def test_a_method_of_nobody_is_other_and_keeps_its_original(gateway: Gateway, spans: Spans) -> None:
    assert gateway.ask("/broken", method="PROPFIND")[0] == 405
    otel_wirecap.uninstrument()
    (server,) = spans.of(SpanKind.SERVER)
    attributes = server.attributes or {}
    assert (attributes["http.request.method"], attributes["http.request.method_original"]) == ("_OTHER", "PROPFIND")
    assert server.name.split(" ")[0] == "HTTP"


def test_opentelemetrys_variable_makes_methods_known(
    spans: Spans, capture_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "BREW, GET")
    otel_wirecap.instrument(capture_file=capture_file, tracer_provider=spans.provider)
    with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200))) as client:
        client.request("BREW", "http://pot.example/")
        client.request("POST", "http://pot.example/")
    otel_wirecap.uninstrument()
    methods = [(span.name, (span.attributes or {})["http.request.method"]) for span in spans.of(SpanKind.CLIENT)]
    assert methods == [("BREW", "BREW"), ("HTTP", "_OTHER")]


@pytest.mark.parametrize("redaction", ["on", "headers-only", "off"])
def test_no_secret_of_the_wire_reaches_a_span_whatever_the_capture_may_hold(
    redaction: str, spans: Spans, capture_file: Path, serve: Callable[..., Gateway]
) -> None:
    secret, key = secrets.token_hex(20), "sk-" + secrets.token_urlsafe(36)

    def answer(_request: httpx.Request) -> httpx.Response:
        said = {
            "id": f"id-{secret}",
            "model": key,
            "choices": [{"finish_reason": secret}],
            "usage": {"total_tokens": 1},
        }
        return httpx.Response(200, json=said)

    app = FastAPI()

    @app.post("/{rest:path}")
    async def relay() -> dict[str, str]:
        otel_wirecap.annotate(backend=f"backend of {key}", key_name=key)
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
            url = f"http://user:{secret}@backend.example/{key}/chat/completions?key={secret}"
            headers = {"authorization": f"Bearer {secret}", "user-agent": f"agent {key}"}
            await client.post(url, json={"model": key}, headers=headers)
        return {}

    otel_wirecap.instrument(
        capture_file=capture_file, tracer_provider=spans.provider, capture_redaction=redaction,
        capture_allow_secrets=True,
    )  # fmt: skip
    gateway = serve(app)
    gateway.ask(
        f"/x/{key}?key={secret}", {"model": key}, user_agent=f"agent {key}", authorization=f"Bearer {secret}",
        x_session_id=f"session-{secret}", x_forwarded_for=key,
    )  # fmt: skip
    with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200))) as client:
        client.request(key.upper(), "http://backend.example/", headers={"authorization": f"Bearer {key.upper()}"})
    otel_wirecap.uninstrument()
    finished = spans.exporter.get_finished_spans()
    assert len(finished) == 3
    for span in finished:
        shown = span.to_json()
        assert secret not in shown
        assert key not in shown
        assert key.upper() not in shown
    assert (key in capture_file.read_text()) is (redaction != "on")
    attempts = [span.attributes or {} for span in finished if span.kind is SpanKind.CLIENT]
    assert any("[REDACTED]" in one["url.full"] for one in attempts)
    assert {one.get("gen_ai.response.id") for one in attempts} == {None, "id-[REDACTED]"}


def test_further_attempts_are_counted(spans: Spans, capture_file: Path, serve: Callable[..., Gateway]) -> None:
    app = FastAPI()

    @app.get("/")
    async def retrying() -> dict[str, str]:
        transport = httpx.MockTransport(lambda _: httpx.Response(503))
        async with httpx.AsyncClient(transport=transport) as client:
            for _ in range(3):
                await client.get("http://backend.example/")
        return {}

    otel_wirecap.instrument(capture_file=capture_file, tracer_provider=spans.provider)
    serve(app).ask("/")
    otel_wirecap.uninstrument()
    counts = [(span.attributes or {}).get("http.request.resend_count") for span in spans.of(SpanKind.CLIENT)]
    assert counts == [None, 1, 2]


def test_a_request_whose_caller_makes_its_span_itself_gets_no_second_one(spans: Spans, capture_file: Path) -> None:
    otel_wirecap.instrument(capture_file=capture_file, tracer_provider=spans.provider)
    with (
        spans.provider.get_tracer("sdk").start_as_current_span("the SDK's own", kind=SpanKind.CLIENT) as own,
        suppress_http_instrumentation(),
        httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200))) as client,
    ):
        client.get("http://backend.example/")
        assert own.is_recording()
    otel_wirecap.uninstrument()
    (span,) = spans.exporter.get_finished_spans()
    assert "wirecap.leg" not in (span.attributes or {})
    records = [json.loads(line) for line in capture_file.read_text().splitlines()]
    traces = {r["metadata"]["trace_id"] for r in records if not r["direction"].startswith("system_")}
    assert traces == {f"{span.context.trace_id:032x}"}


def test_every_provider_has_a_name_of_the_conventions_or_its_own() -> None:
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

    newer = {"moonshot_ai"}  # semantic-conventions-genai, model/gen-ai/registry.yaml
    known = {value.value for value in gen_ai_attributes.GenAiProviderNameValues} | newer
    given = {name: provider_of(ExchangeFacts(outcome="complete", backend=name)) for name in PROVIDERS}
    url = "https://x.openai.azure.com/openai/deployments/a/chat/completions"
    azure = provider_of(ExchangeFacts(outcome="complete", backend="azure", url=url))
    assert {*given.values(), azure} & known == known - {"gcp.gen_ai"}
    assert all(given[name] == name for name in PROVIDERS if given[name] not in known)
