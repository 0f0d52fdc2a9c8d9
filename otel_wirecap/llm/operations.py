"""What a request asks of a model, and what an answer says of itself, whatever the provider's dialect.

Everything is read from JSON that is parsed already; whatever its shape, nothing here raises.
"""

import re
from typing import Any, Final, NamedTuple

from otel_wirecap.llm.usage import Usage, usage_of

_MAX_CHOICES: Final = 16
_LARGEST: Final = 1e15
"""No setting is larger; a number that is might not fit where it is told."""

# By the path's end: what stands before it is the provider's, or a gateway's.
_OPERATIONS: Final = tuple(
    (re.compile(expression), operation)
    for expression, operation in (
        (
            r"/(?:chat|agents)/completions$|/responses$|/v1/messages$|/(?:v[12]|api)/chat$|/converse(?:-stream)?$",
            "chat",
        ),
        (r"(?::|%3A)(?:streamGenerateContent|generateContent)$", "generate_content"),
        (r"/embeddings$|/(?:v[12]|api)/embed$", "embeddings"),
        (r"(?::|%3A)(?:embedContent|batchEmbedContents|asyncBatchEmbedContent)$", "embeddings"),
        (r"(?::|%3A)(?:streamRawPredict|rawPredict)$", "chat"),
        (r"/completions$|/v1/complete$|/api/generate$", "text_completion"),
    )
)
_INVOKE: Final = re.compile(r"/model/.+/invoke(?:-with-response-stream)?$")


class Parameters(NamedTuple):
    """How a model is asked to answer; None for what the request leaves open."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None


class Answer(NamedTuple):
    """What an answer says of itself.

    Attributes:
        id: the provider's id of it.
        finish_reasons: why the model stopped, a reason a choice.
        usage: its tokens.
    """

    id: str | None = None
    finish_reasons: tuple[str, ...] = ()
    usage: Usage | None = None


def operation_of(path: str, body: object) -> str | None:
    """The kind of operation that a request asks a model for.

    Args:
        path: the URL's path as it was sent.
        body: the parsed JSON body; anything else counts as none.

    Returns:
        ``chat``, ``generate_content``, ``text_completion`` or ``embeddings``; None where it asks for none of these.
    """
    for pattern, operation in _OPERATIONS:
        if pattern.search(path):
            return operation
    if _INVOKE.search(path):  # Bedrock's, with the model's own kind of body
        if isinstance(body, dict) and not {"messages", "input"}.isdisjoint(body):
            return "chat"
        return "embeddings" if "embed" in path else "text_completion"
    return None


def parameters_of(body: object) -> Parameters:
    """How the model is asked to answer; ``body`` is the parsed JSON body, anything else counts as none."""
    if not isinstance(body, dict):
        return Parameters()
    inner = (body.get(name) for name in ("generationConfig", "inferenceConfig", "options", "textGenerationConfig"))
    holders = [body, *(one for one in inner if isinstance(one, dict))]
    most = _number(
        holders, "max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens", "maxTokens",
        "num_predict", "max_tokens_to_sample", "maxTokenCount",
    )  # fmt: skip
    return Parameters(
        _number(holders, "temperature"),
        _number(holders, "top_p", "topP", "p"),
        None if most is None else int(most),
    )


def answer_of(body: object) -> Answer:
    """What an answer says of itself; ``body`` is its parsed JSON, streamed ones assembled."""
    usage = usage_of(body)
    if isinstance(body, list):
        body = body[-1] if body else None
    if not isinstance(body, dict):
        return Answer(usage=usage)
    return Answer(_text(body, "id", "responseId", "response_id"), _finish_reasons(body), usage)


def _finish_reasons(answer: dict[str, Any]) -> tuple[str, ...]:
    for holder, name in (("choices", "finish_reason"), ("candidates", "finishReason"), ("results", "completionReason")):
        choices = answer.get(holder)
        if isinstance(choices, list):
            reasons = (choice.get(name) for choice in choices[:_MAX_CHOICES] if isinstance(choice, dict))
            return tuple(reason for reason in reasons if isinstance(reason, str) and reason)
    reason = _text(answer, "stop_reason", "stopReason", "finish_reason", "done_reason")
    return () if reason is None else (reason,)


def _number(holders: list[dict[str, Any]], *names: str) -> float | None:
    for holder in holders:
        for name in names:
            value = holder.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST:
                return value
    return None


def _text(answer: dict[str, Any], *names: str) -> str | None:
    return next((value for name in names if isinstance(value := answer.get(name), str) and value), None)
