"""What an answer says of itself, whatever the provider's dialect.

Everything is read from JSON that is parsed already; whatever its shape, nothing here raises.
"""

from typing import Any

from otel_wirecap.llm.dialects.interface import Answer, Dialect
from otel_wirecap.llm.dialects.registry import ours, outside_answer
from otel_wirecap.llm.errors import ProviderError, provider_error
from otel_wirecap.llm.text import lenient_json
from otel_wirecap.llm.usage import Usage


def answer_of(body: object) -> Answer:
    """What an answer says of itself; ``body`` is its parsed JSON, streamed ones assembled."""
    usage = usage_of(body)
    if isinstance(body, list):
        body = body[-1] if body else None
    if not isinstance(body, dict):
        return Answer(usage=usage)
    dialect = _dialect_of(body)
    return Answer(dialect.answer_id(body), dialect.finish_reasons(body), usage)


def usage_of(answer: Any) -> Usage | None:
    """The token counts that a provider's answer reports, or an event or a record of usage within one.

    Args:
        answer: the parsed JSON of a whole answer, streamed ones assembled, or a list of such (Gemini without SSE).

    Returns:
        None where it reports none.
    """
    if isinstance(answer, list):
        found = [one for one in map(usage_of, answer) if one is not None]
        return found[-1] if found else None
    if not isinstance(answer, dict):
        return None
    return ours.usage(answer) or _dialect_of(answer).usage(answer)


def answer_id_of(body: object) -> str | None:
    """The provider's id of an answer; None where it has none."""
    return _dialect_of(body).answer_id(body) if isinstance(body, dict) else None


def usage_of_message(text: str) -> Usage | None:
    """The token counts in a message of a websocket that ends an answer, with the model that the message names.

    Source: the events ``response.done`` of openai.types.realtime, ``response.completed`` of openai.types.responses and
    google.genai.types.LiveServerMessage.
    """
    event = lenient_json(text)
    usage = usage_of(event)
    return usage and usage._replace(model=answered_model(event))


def answer_error(answer: object) -> ProviderError | None:
    """The error that an answer holds, be it one of a choice, or of a list of answers; None where it holds none."""
    if isinstance(answer, list):
        return next((found for found in map(answer_error, answer) if found is not None), None)
    if not isinstance(answer, dict):
        return None
    error = _dialect_of(answer).error_in("", answer)
    return None if error is None else provider_error(error)


def answered_model(body: object) -> str | None:
    """Finds the model that an answer, or one event of a stream, says it comes from.

    Args:
        body: a parsed JSON value: an OpenAI-like answer or chunk (``model``), a Gemini one (``modelVersion``; a list of
            them is read by its first), a Responses API event (``response.model``) or an Anthropic ``message_start``
            (``message.model``).
    """
    if isinstance(body, list):
        body = body[0] if body else None
    if not isinstance(body, dict):
        return None
    return ours.answered_model(body) or _dialect_of(body).answered_model(body)


def _dialect_of(answer: dict[str, Any]) -> Dialect:
    """Ours as one, unless the answer is one from outside."""
    return outside_answer(answer) or ours
