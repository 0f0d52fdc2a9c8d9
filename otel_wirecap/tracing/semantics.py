"""What is learned of an exchange, as OpenTelemetry says it: attributes, the span's name, whether it failed.

Pure. A client's exchange is told as an HTTP server's, an attempt as an HTTP client's and, where it asks a model for
something, as a GenAI client's. Tokens, provider and operation stand on attempts only: whoever adds up spans would count
them twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from otel_wirecap.capture.url import url_parts
from otel_wirecap.tracing import attributes as names

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue

    from otel_wirecap.capture.events import Leg
    from otel_wirecap.capture.facts import ExchangeFacts

METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"}
)  # fmt: skip
OTHER = "_OTHER"

PROVIDERS = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "vertex": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
"""The conventions' names of providers that have another one in a capture; the rest are named alike."""

AZURE_INFERENCE = "azure.ai.inference"
_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_CLIENT_FAILS, _SERVER_FAILS = 400, 500


class Failure(NamedTuple):
    """Why a span is one of a failure.

    Attributes:
        type: the conventions' ``error.type``.
        description: more about it; None where the status code says it all.
    """

    type: str
    description: str | None


def method_of(method: str, known: frozenset[str]) -> str:
    """``http.request.method``: a method that is not known would make too many different values."""
    return method if method in known else OTHER


def failure_of(leg: Leg, facts: ExchangeFacts) -> Failure | None:
    """Whether the exchange failed, as the conventions see it; what a client did wrong is no failure of the server."""
    status = facts.status_code or 0
    if facts.outcome == "error" or (facts.error_type is not None and leg == "backend"):
        return Failure(facts.error_type or OTHER, facts.error)
    if status >= (_SERVER_FAILS if leg == "client" else _CLIENT_FAILS):
        return Failure(str(status), None)
    return None


def span_name(leg: Leg, method: str, route: str | None, facts: ExchangeFacts) -> str:
    """``chat gpt-4o`` for what a model is asked, ``POST /v1/chat/completions`` where the route is known."""
    if facts.operation is not None:
        return f"{facts.operation} {facts.requested_model}" if facts.requested_model else facts.operation
    method = "HTTP" if method == OTHER else method
    return f"{method} {route}" if leg == "client" and route else method


def attributes_of(leg: Leg, method: str, facts: ExchangeFacts) -> dict[str, AttributeValue]:
    """All attributes that are known only when the exchange is over; ``method`` as ``method_of`` says."""
    told = _http(leg, facts)
    if method == OTHER:
        told[names.HTTP_REQUEST_METHOD_ORIGINAL] = facts.method
    told |= {
        names.GEN_AI_REQUEST_MODEL: facts.requested_model,
        names.GEN_AI_RESPONSE_MODEL: facts.answered_model,
        names.GEN_AI_CONVERSATION_ID: facts.session_id if facts.session_source != "request" else None,
        names.WIRECAP_OUTCOME: facts.outcome,
        names.WIRECAP_BACKEND: facts.backend,
        names.WIRECAP_KEY_NAME: facts.key_name,
        names.WIRECAP_SESSION_ID: facts.session_id,
        names.WIRECAP_SESSION_SOURCE: facts.session_source if facts.session_id else None,
    }
    if facts.operation is not None:
        told |= _gen_ai(facts)
    failure = failure_of(leg, facts)
    if failure is not None:
        told[names.ERROR_TYPE] = failure.type
    return {name: value for name, value in told.items() if value is not None}


def provider_of(facts: ExchangeFacts) -> str | None:
    """``gen_ai.provider.name``; where the conventions know no name for it: the backend's."""
    if facts.backend == "azure" and "/openai/" not in (facts.url or ""):
        return AZURE_INFERENCE
    return PROVIDERS.get(facts.backend or "", facts.backend)


def _http(leg: Leg, facts: ExchangeFacts) -> dict[str, AttributeValue | None]:
    url = url_parts(facts.url or "")
    told: dict[str, AttributeValue | None] = {
        names.HTTP_RESPONSE_STATUS_CODE: facts.status_code,
        names.NETWORK_PROTOCOL_VERSION: (facts.http_version or "").removeprefix("HTTP/") or None,
        names.USER_AGENT_ORIGINAL: facts.user_agent,
    }
    if facts.websocket:
        told[names.NETWORK_PROTOCOL_NAME] = "websocket"
    if url.host:
        told |= {names.SERVER_ADDRESS: url.host, names.SERVER_PORT: url.port or _DEFAULT_PORTS.get(url.scheme)}
    if leg == "backend":
        told[names.URL_FULL] = facts.url
    elif facts.url is not None:
        told |= {
            names.URL_SCHEME: url.scheme,
            names.URL_PATH: url.path,
            names.URL_QUERY: url.query or None,
            names.CLIENT_ADDRESS: facts.client_host,
        }
    return told


def _gen_ai(facts: ExchangeFacts) -> dict[str, AttributeValue | None]:
    told: dict[str, AttributeValue | None] = {
        names.GEN_AI_OPERATION_NAME: facts.operation,
        names.GEN_AI_PROVIDER_NAME: provider_of(facts),
        names.GEN_AI_REQUEST_STREAM: facts.wants_stream or None,
    }
    if facts.first_chunk_ns is not None:
        told[names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK] = facts.first_chunk_ns / 1e9
    if facts.parameters is not None:
        temperature, top_p, max_tokens = facts.parameters
        told |= {
            names.GEN_AI_REQUEST_TEMPERATURE: None if temperature is None else float(temperature),
            names.GEN_AI_REQUEST_TOP_P: None if top_p is None else float(top_p),
            names.GEN_AI_REQUEST_MAX_TOKENS: max_tokens,
        }
    answer = facts.answer
    if answer is not None:
        told[names.GEN_AI_RESPONSE_ID] = answer.id
        told[names.GEN_AI_RESPONSE_FINISH_REASONS] = answer.finish_reasons or None
        if answer.usage is not None:  # a count of none is one that was not reported
            told |= {
                names.GEN_AI_USAGE_INPUT_TOKENS: answer.usage.input or None,
                names.GEN_AI_USAGE_OUTPUT_TOKENS: answer.usage.output or None,
                names.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: answer.usage.cached or None,
                names.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS: answer.usage.cache_written or None,
                names.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: answer.usage.reasoning or None,
            }
    return told
