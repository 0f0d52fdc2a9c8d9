"""What hosts, URLs and bodies of providers mean."""

import pytest

from otel_wirecap.llm.answers import answered_model
from otel_wirecap.llm.providers import PROVIDERS, backend_name
from otel_wirecap.llm.requests import asks_for_stream, requested_model


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("api.openai.com", "openai"),
        ("eu.api.openai.com", "openai"),
        ("contoso.openai.azure.com", "azure"),
        ("contoso.cognitiveservices.azure.com", "azure"),
        ("contoso.services.ai.azure.com", "azure"),
        ("api.anthropic.com", "anthropic"),
        ("generativelanguage.googleapis.com", "gemini"),
        ("aiplatform.googleapis.com", "vertex"),
        ("europe-west4-aiplatform.googleapis.com", "vertex"),
        ("bedrock-runtime.us-east-1.amazonaws.com", "bedrock"),
        ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "bedrock"),
        ("bedrock-runtime.cn-north-1.amazonaws.com.cn", "bedrock"),
        ("vpce-0abc.bedrock-runtime.eu-central-1.vpce.amazonaws.com", "bedrock"),
        ("api.x.ai", "xai"),
        ("router.huggingface.co", "huggingface"),
        ("abc.us-east-1.aws.endpoints.huggingface.cloud", "huggingface"),
        ("openrouter.ai", "openrouter"),
        ("dashscope-intl.aliyuncs.com", "qwen"),
        ("portal.qwen.ai", "qwen-oauth"),
        ("myorg-account.snowflakecomputing.com", "snowflake"),
    ],
)
def test_a_known_host_is_named_after_its_provider(host, name):
    assert backend_name(host, 443, {}) == name
    assert backend_name(host.upper() + ".", None, {}) == name


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1", "[::1]"])
def test_ollama_is_known_by_its_port_on_this_machine(host):
    assert backend_name(host, 11434, {}) == "ollama"
    assert backend_name(host, 8000, {}) != "ollama"


@pytest.mark.parametrize(
    "host", ["openai.example", "xapi.openai.com.evil.example", "notopenai.com", "openai.azure.com"]
)
def test_a_host_that_only_resembles_a_provider_is_an_address(host):
    assert backend_name(host, 443, {}) == f"{host}:443"


def test_an_unknown_host_is_host_and_port_and_ipv6_gets_brackets():
    assert backend_name("10.0.0.7", 8000, {}) == "10.0.0.7:8000"
    assert backend_name("fe80::1", 8000, {}) == "[fe80::1]:8000"
    assert backend_name("vllm.internal", None, {}) == "vllm.internal"


def test_a_configured_name_wins_and_the_one_with_a_port_wins_over_the_one_without():
    configured = {"Gateway.internal": "gateway", "gateway.internal:9000": "canary", "api.openai.com": "mine"}
    assert backend_name("gateway.internal", 8000, configured) == "gateway"
    assert backend_name("GATEWAY.internal", 9000, configured) == "canary"
    assert backend_name("api.openai.com", 443, configured) == "mine"
    assert backend_name("::1", 9, {"[::1]:9": "six"}) == "six"


def test_the_table_is_consistent():
    for name, provider in PROVIDERS.items():
        assert provider.name == name
        assert all(host == host.lower() for host in provider.hosts)
        assert provider.credential_header == provider.credential_header.lower()
        if provider.base_url:
            host = provider.base_url.partition("://")[2]
            address, _, port = host.partition(":")
            assert backend_name(address, int(port) if port else 443, {}) == name
    hosts = [host for provider in PROVIDERS.values() for host in provider.hosts]
    assert len(hosts) == len(set(hosts))


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1beta/models/gemini-2.5-flash:generateContent", "gemini-2.5-flash"),
        ("/v1beta/models/gemini-2.5-flash:streamGenerateContent", "gemini-2.5-flash"),
        ("/v1beta/models/gemini%2D2.5%2Dflash%3AgenerateContent", "gemini-2.5-flash"),
        ("/v1beta/tunedModels/mine-x1:generateContent", "mine-x1"),
        (
            "/v1/projects/p/locations/us-east5/publishers/anthropic/models/claude-sonnet-4@20250514:rawPredict",
            "claude-sonnet-4@20250514",
        ),
        ("/openai/deployments/my%20gpt/chat/completions", "my gpt"),
        (
            "/model/us.anthropic.claude-sonnet-4-20250514-v1%3A0/invoke",
            "us.anthropic.claude-sonnet-4-20250514-v1:0",
        ),
        (
            "/model/anthropic.claude-3-haiku-20240307-v1:0/converse-stream",
            "anthropic.claude-3-haiku-20240307-v1:0",
        ),
        (
            "/to/bedrock/model/anthropic.claude-3-haiku-20240307-v1:0/converse-stream",
            "anthropic.claude-3-haiku-20240307-v1:0",
        ),
        (
            "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.amazon.nova/converse",
            "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.amazon.nova",
        ),
        ("/models/meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("/hf-inference/models/org/name/pipeline/text-generation", "org/name"),
        ("/v1/models/gpt-4o", "gpt-4o"),
        ("/v1/models/owner/name/predictions", "owner/name"),
        ("/v1/models", None),
        ("/v1/models/", None),
        ("/docs/models/overview", None),
        ("/static/app.js", None),
        ("/deployments/web/status", None),
        ("/modeling/models:list/x", None),
        ("/v1/chat/completions", None),
    ],
)
def test_the_url_names_the_model_where_the_body_does_not(path, model):
    assert requested_model(path, None) == model
    assert requested_model(path, {"model": ""}) == model
    assert requested_model(path, {"model": 7}) == model


def test_the_body_names_the_model_first():
    assert requested_model("/openai/deployments/d/chat/completions", {"model": "gpt-4o"}) == "gpt-4o"


@pytest.mark.parametrize(
    ("body", "model"),
    [
        ({"model": "gpt-4o-2024-08-06"}, "gpt-4o-2024-08-06"),
        ({"modelVersion": "gemini-2.5-flash"}, "gemini-2.5-flash"),
        ([{"modelVersion": "gemini-2.5-flash"}, {}], "gemini-2.5-flash"),
        ({"type": "response.created", "response": {"model": "gpt-5"}}, "gpt-5"),
        ({"type": "message_start", "message": {"model": "claude-sonnet-4"}}, "claude-sonnet-4"),
        ({"message": "model"}, None),
        ([], None),
        ("model", None),
        (None, None),
    ],
)
def test_the_answer_names_its_model_where_its_format_puts_it(body, model):
    assert answered_model(body) == model


@pytest.mark.parametrize(
    ("path", "query", "body", "streams"),
    [
        ("/v1/chat/completions", "", {"stream": True}, True),
        ("/v1/chat/completions", "", {"stream": False}, False),
        ("/v1/chat/completions", "", {"stream": "true"}, False),
        ("/v1/chat/completions", "", None, False),
        ("/v1beta/models/g:streamGenerateContent", "", {}, True),
        ("/v1beta/models/g:generateContent", "", {}, False),
        ("/v1/publishers/anthropic/models/c:streamRawPredict", "", {}, True),
        ("/model/m/converse-stream", "", {}, True),
        ("/model/m%2Fn/invoke-with-response-stream", "", {}, True),
        ("/model/m/invoke", "", {}, False),
        ("/v1/run", "a=b&stream=true", None, True),
        ("/v1/run", "stream=1", None, True),
        ("/v1/run", "stream=false", None, False),
        ("/v1/run", "upstream=true", None, False),
    ],
)
def test_the_wish_for_a_stream_is_read_from_body_path_and_query(path, query, body, streams):
    assert asks_for_stream(path, query, body) is streams
