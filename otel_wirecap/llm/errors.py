"""The errors that providers report in answers, and within a stream after the status line has promised success."""

from typing import Any, Final, NamedTuple

import orjson

_MAX_WORD: Final = 40  # of an error that is a text: longer ones are sentences
_RAW_TEXT: Final = 8192  # of an error that is not JSON: an HTML page's beginning says enough


class ProviderError(NamedTuple):
    """A provider's own words for what went wrong; None where it has none.

    Attributes:
        type: the kind of error (``overloaded_error``, ``UNAVAILABLE``).
        message: the sentence for people.
        code: the provider's code, a number as its digits.
    """

    type: str | None
    message: str | None
    code: str | None


def error_in(name: str, event: dict[str, Any]) -> object:
    """Finds the error that an event of any format carries.

    Known are: an object with an ``error`` member (OpenAI chat, Groq, OpenRouter, Gemini, Anthropic), events of the type
    ``error``, vLLM's ``"object": "error"``, Cohere's ``err``, and any JSON object in an event named ``error``.

    Args:
        name: the event's name.
        event: the event's data.

    Returns:
        The error as the provider sent it: a JSON value; None when the event carries none.
    """
    error = event.get("error")
    if error:
        return error
    if name == "error" or event.get("object") == "error":
        return event
    kind = event.get("type")
    if kind is None:
        return event.get("err") or None
    return event if kind == "error" else None


def raw_error(data: bytes) -> str:
    """The error in an event named ``error`` that is not a JSON object: its first 8,192 bytes as text."""
    return data[:_RAW_TEXT].decode("utf-8", "replace")


def provider_error(error: object) -> ProviderError:
    """Reads an error as `error_in` or `raw_error` found it."""
    if not isinstance(error, dict):
        return ProviderError(None, _text(error), None)
    kind = _text(error.get("type")) or _text(error.get("status"))
    return ProviderError(
        None if kind == "error" else kind,  # the event's type then, which says nothing of the error
        _text(error.get("message")) or _text(error.get("detail")),
        _text(error.get("code")) or _text(error.get("status_code")),
    )


def _text(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # nested too deep
        return None


def error_type(answer: object) -> str | None:
    """The provider's word for the error that an answer holds, be its shape OpenAI's, Anthropic's, Gemini's or AWS's."""
    if isinstance(answer, list):
        return next((found for found in map(error_type, answer) if found), None)
    if not isinstance(answer, dict):
        return None
    error = answer.get("error")
    if isinstance(error, dict):
        words = (error.get("type"), error.get("status"), error.get("code"))
        return next((str(word) for word in words if word), "error")
    if isinstance(error, str) and error:
        return error if len(error) <= _MAX_WORD else "error"
    kind = answer.get("__type")
    return str(kind) if kind else None
