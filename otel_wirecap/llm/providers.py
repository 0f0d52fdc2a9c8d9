"""Who the providers of models are: their hosts, and how a key travels to them. What they speak is in ``dialects``.

Sources: the providers' public API references and the environment variables that their own SDKs read.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider of models.

    Attributes:
        name: the backend's name in a capture.
        hosts: host patterns, lower case; ``*`` stands for one or more characters, dots included. A pattern
            ``host:port`` holds for that port only.
        base_url: where a proxy sends requests by default; None when there is no one address (the host holds
            the customer's resource or region).
        credential_header: the lower-case header that a key travels in; the value of ``authorization`` is
            ``Bearer <key>``.
        key_variables: the environment variables that hold the key, the first that is set wins.
    """

    name: str
    hosts: tuple[str, ...]
    base_url: str | None = None
    credential_header: str = "authorization"
    key_variables: tuple[str, ...] = ()


_TABLE: Final = (
    Provider(
        "openai",
        ("api.openai.com", "*.api.openai.com", "chatgpt.com"),
        "https://api.openai.com",
        key_variables=("OPENAI_API_KEY",),
    ),
    Provider(
        "azure",
        (
            "*.openai.azure.com",
            "*.openai.azure.us",
            "*.cognitiveservices.azure.com",
            "*.services.ai.azure.com",
            "*.models.ai.azure.com",
        ),
        credential_header="api-key",
        key_variables=("AZURE_OPENAI_API_KEY", "AZURE_API_KEY", "AZURE_AI_API_KEY"),
    ),
    Provider(
        "anthropic",
        ("api.anthropic.com",),
        "https://api.anthropic.com",
        "x-api-key",
        ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    ),
    Provider(
        "gemini",
        ("generativelanguage.googleapis.com",),
        "https://generativelanguage.googleapis.com",
        "x-goog-api-key",
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    ),
    Provider(
        "vertex",
        ("aiplatform.googleapis.com", "*-aiplatform.googleapis.com", "aiplatform.*.rep.googleapis.com"),
        "https://aiplatform.googleapis.com",
        key_variables=("VERTEX_API_KEY", "GOOGLE_API_KEY"),
    ),
    Provider(
        "bedrock",
        (
            "bedrock-runtime.*.amazonaws.com",
            "bedrock-runtime-fips.*.amazonaws.com",
            "bedrock-runtime.*.amazonaws.com.cn",
            "bedrock-runtime.*.api.aws",
            "bedrock-runtime-fips.*.api.aws",
            "bedrock-agent-runtime.*.amazonaws.com",
            "bedrock-mantle.*.api.aws",
            "*.bedrock-runtime.*.vpce.amazonaws.com",
        ),
        key_variables=("AWS_BEARER_TOKEN_BEDROCK", "AWS_ACCESS_KEY_ID"),
    ),
    Provider(
        "mistral",
        ("api.mistral.ai", "codestral.mistral.ai"),
        "https://api.mistral.ai",
        key_variables=("MISTRAL_API_KEY", "CODESTRAL_API_KEY"),
    ),
    Provider("groq", ("api.groq.com",), "https://api.groq.com", key_variables=("GROQ_API_KEY",)),
    Provider(
        "cohere",
        ("api.cohere.com", "api.cohere.ai"),
        "https://api.cohere.com",
        key_variables=("CO_API_KEY", "COHERE_API_KEY"),
    ),
    Provider("openrouter", ("openrouter.ai",), "https://openrouter.ai", key_variables=("OPENROUTER_API_KEY",)),
    Provider("deepseek", ("api.deepseek.com",), "https://api.deepseek.com", key_variables=("DEEPSEEK_API_KEY",)),
    Provider("xai", ("api.x.ai", "*.api.x.ai"), "https://api.x.ai", key_variables=("XAI_API_KEY",)),
    Provider(
        "huggingface",
        ("router.huggingface.co", "api-inference.huggingface.co", "*.endpoints.huggingface.cloud"),
        "https://router.huggingface.co",
        key_variables=("HF_TOKEN", "HUGGINGFACE_API_KEY", "HUGGING_FACE_HUB_TOKEN"),
    ),
    Provider(
        "ollama",
        ("localhost:11434", "127.0.0.1:11434", "[::1]:11434", "host.docker.internal:11434", "ollama.com"),
        "http://localhost:11434",
        key_variables=("OLLAMA_API_KEY",),
    ),
    Provider(
        "together",
        ("api.together.xyz", "api.together.ai"),
        "https://api.together.xyz",
        key_variables=("TOGETHER_API_KEY",),
    ),
    Provider(
        "fireworks",
        ("api.fireworks.ai",),
        "https://api.fireworks.ai",
        key_variables=("FIREWORKS_API_KEY",),
    ),
    Provider(
        "perplexity",
        ("api.perplexity.ai",),
        "https://api.perplexity.ai",
        key_variables=("PERPLEXITY_API_KEY", "PPLX_API_KEY"),
    ),
    Provider("cerebras", ("api.cerebras.ai",), "https://api.cerebras.ai", key_variables=("CEREBRAS_API_KEY",)),
    Provider(
        "nvidia",
        ("integrate.api.nvidia.com", "ai.api.nvidia.com"),
        "https://integrate.api.nvidia.com",
        key_variables=("NVIDIA_API_KEY", "NVIDIA_NIM_API_KEY"),
    ),
    Provider(
        "replicate",
        ("api.replicate.com",),
        "https://api.replicate.com",
        key_variables=("REPLICATE_API_TOKEN", "REPLICATE_API_KEY"),
    ),
    Provider("snowflake", ("*.snowflakecomputing.com",), key_variables=("SNOWFLAKE_PAT", "SNOWFLAKE_JWT")),
    Provider(
        "databricks",
        ("*.cloud.databricks.com", "*.gcp.databricks.com", "*.azuredatabricks.net"),
        key_variables=("DATABRICKS_TOKEN", "DATABRICKS_API_KEY"),
    ),
    Provider(
        "qwen",
        ("dashscope.aliyuncs.com", "dashscope-intl.aliyuncs.com", "dashscope-us.aliyuncs.com"),
        "https://dashscope-intl.aliyuncs.com",
        key_variables=("DASHSCOPE_API_KEY", "QWEN_API_KEY"),
    ),
    Provider("qwen-oauth", ("portal.qwen.ai",), "https://portal.qwen.ai"),
    Provider(
        "zai",
        ("api.z.ai", "open.bigmodel.cn"),
        "https://api.z.ai",
        key_variables=("ZAI_API_KEY", "ZHIPUAI_API_KEY"),
    ),
    Provider(
        "moonshot",
        ("api.moonshot.ai", "api.moonshot.cn"),
        "https://api.moonshot.ai",
        key_variables=("MOONSHOT_API_KEY",),
    ),
    Provider(
        "minimax",
        ("api.minimax.io", "api.minimaxi.com", "api.minimax.chat"),
        "https://api.minimax.io",
        key_variables=("MINIMAX_API_KEY",),
    ),
    Provider("sambanova", ("api.sambanova.ai",), "https://api.sambanova.ai", key_variables=("SAMBANOVA_API_KEY",)),
    Provider(
        "deepinfra",
        ("api.deepinfra.com",),
        "https://api.deepinfra.com",
        key_variables=("DEEPINFRA_API_KEY", "DEEPINFRA_TOKEN"),
    ),
    Provider(
        "github",
        ("models.github.ai", "models.inference.ai.azure.com"),
        "https://models.github.ai",
        key_variables=("GITHUB_TOKEN", "GITHUB_API_KEY"),
    ),
    Provider("github-copilot", ("api.githubcopilot.com", "*.githubcopilot.com")),
    Provider(
        "cloudflare",
        ("gateway.ai.cloudflare.com", "api.cloudflare.com"),
        key_variables=("CLOUDFLARE_API_TOKEN", "CLOUDFLARE_API_KEY"),
    ),
    Provider("watsonx", ("*.ml.cloud.ibm.com",), key_variables=("WATSONX_API_KEY", "WATSONX_APIKEY")),
    Provider("ai21", ("api.ai21.com",), "https://api.ai21.com", key_variables=("AI21_API_KEY",)),
    Provider("voyage", ("api.voyageai.com",), "https://api.voyageai.com", key_variables=("VOYAGE_API_KEY",)),
    Provider("jina", ("api.jina.ai",), "https://api.jina.ai", key_variables=("JINA_API_KEY",)),
    Provider(
        "elevenlabs",
        ("api.elevenlabs.io",),
        "https://api.elevenlabs.io",
        "xi-api-key",
        ("ELEVENLABS_API_KEY",),
    ),
)

PROVIDERS: Final[Mapping[str, Provider]] = MappingProxyType({entry.name: entry for entry in _TABLE})
"""The known providers by name."""

_EXACT: Final = {host: entry.name for entry in _TABLE for host in entry.hosts if "*" not in host}
_PATTERNS: Final = tuple(
    (re.compile(r".+".join(map(re.escape, host.split("*")))), entry.name)
    for entry in _TABLE
    for host in entry.hosts
    if "*" in host
)


def backend_name(host: str, port: int | None, configured: Mapping[str, str]) -> str:
    """Names the backend behind an address.

    Args:
        host: host name or IP address, IPv6 with or without brackets; case does not matter.
        port: the port, defaults spelled out (443, 80); None when it is not known.
        configured: the user's own names, keys ``host`` or ``host:port`` (the latter wins).

    Returns:
        The configured name, else the known provider's, else ``host:port`` (``host`` alone without a port).
    """
    bare = host.lower().rstrip(".").strip("[]")
    name = f"[{bare}]" if ":" in bare else bare
    address = name if port is None else f"{name}:{port}"
    if configured:
        ours = {key.lower(): value for key, value in configured.items()}
        for key in (address, name, bare):
            if key in ours:
                return ours[key]
    return _known(name, address) or address


@lru_cache(maxsize=1024)
def _known(name: str, address: str) -> str | None:
    found = _EXACT.get(address) or _EXACT.get(name)
    return found or next((provider for pattern, provider in _PATTERNS if pattern.fullmatch(name)), None)
