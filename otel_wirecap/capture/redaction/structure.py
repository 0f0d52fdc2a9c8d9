"""What of a document is its structure, and may be kept where prompts are masked: names, and values by their name.

Everything is content that neither this module nor one of our dialects knows to be structure.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from otel_wirecap.llm.dialects.registry import ours

# fmt: off
_KEPT: Final = frozenset(ours.structure) | {
    # what something is, and who says it
    "type", "role", "event", "toolName", "method", "jsonrpc", "status", "level", "mode", "phase", "channel",
    "media_type", "mediaType", "mime_type", "content_type", "contentType", "task_type",
    # which one
    "id", "model", "models", "provider", "version", "owned_by",
    # when
    "created", "created_at", "updated_at", "expires_at", "ttl",
    # how it is to be answered
    "service_tier", "serviceTier", "tool_choice", "effort", "modalities", "stream", "input_modalities",
    "output_modalities", "encoding_format", "response_format", "output_format", "audio_format", "input_audio_format",
    "output_audio_format", "format", "encoding", "language", "quality", "size", "voice",
    # schemas
    "required",
}
_IDS: Final = ("_id", "Id", "_ids")
_KEPT_PARAMETERS: Final = frozenset({
    "alt", "api-version", "beta", "limit", "order", "after", "before", "pageSize", "page_size",
})
_KEPT_WITHIN: Final = {
    # of a tool or a schema: other names are people's, files', subjects'
    "name": frozenset({
        "tools", "tool", "functions", "function", "tool_calls", "toolCalls", "function_call", "functionCall",
        "functionResponse", "function_response", "functionDeclarations", "function_declarations", "tool_choice",
        "toolChoice", "custom", "json_schema", "format", "content", "content_block", "input", "output", "item",
        "toolUse", "toolSpec", "models",
    }),
    "detail": frozenset({"image_url", "content"}),
    "code": frozenset({"error"}),
    "param": frozenset({"error"}),
    "reason": frozenset({"incomplete_details", "status_details"}),
}
_OWN: Final = frozenset({"metadata", "labels"})
"""What is in these, whoever sent it made up: only ids are kept, which tell whose or which one it is."""

# All within is content: names of arguments, tokens as names, numbers.
_CONTENT: Final = frozenset({
    "args", "arguments", "partialArgs", "partial_args", "tool_input", "kwargs", "variables", "documents", "json",
    "structuredContent", "structured_content", "logit_bias", "token", "top_tokens", "prefill",
})
_CONTENT_END: Final = "logprobs"
_CONTENT_OBJECTS: Final = frozenset({"input"})
_CONTENT_ARRAYS: Final = frozenset({"tokens", "token_ids", "prompt_token_ids"})
_CONTENT_WITHIN: Final = {
    "response": frozenset({"functionResponse", "function_response"}),
    "parameters": frozenset({"tool_calls", "toolCalls", "tool_call", "call"}),
}
# fmt: on
_NUMBERS_OF_TOKENS: Final = frozenset({"token", "token_id"})

NAME: Final = re.compile(rb"[A-Za-z_$@#.:/-][A-Za-z0-9_$@#.:/-]{0,79}")
"""The name of a member that is kept: others are no names, or those of tokens by their number."""

VALUE: Final = re.compile(rb"[A-Za-z0-9._:/@+=#|~-]{1,512}")
"""A string that is kept where its name says that it is structure: it has no spaces, so that it is no prose."""


@lru_cache(maxsize=1024)
def is_structure(name: str | None, parent: str | None) -> bool:
    """Whether strings of this name are structure.

    Args:
        name: the member's, or that of the array that the string is in; None for what has none.
        parent: the name of the object that it is a member of.
    """
    if name is None:
        return False
    if name.endswith(_IDS) or parent in _OWN:
        return name.endswith(_IDS)
    return name in _KEPT or parent in _KEPT_WITHIN.get(name, ())


def is_structure_of_urls(name: str) -> bool:
    """Whether the parameters of this name are structure."""
    return name in _KEPT_PARAMETERS or is_structure(name, None)


@lru_cache(maxsize=1024)
def is_content(name: str | None, parent: str | None, *, is_object: bool) -> bool:
    """Whether all is content that stands in an object of this name, or else in an array."""
    if name is None:
        return False
    if name in _CONTENT or name.lower().endswith(_CONTENT_END) or parent in _CONTENT_WITHIN.get(name, ()):
        return True
    return name in (_CONTENT_OBJECTS if is_object else _CONTENT_ARRAYS)


def spells(name: str | None) -> bool:
    """Whether a number of this name is a token, and so a piece of text."""
    return name in _NUMBERS_OF_TOKENS
