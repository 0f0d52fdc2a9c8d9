"""The errors that providers send within a stream, after the status line has promised success."""

from typing import Any, Final, NamedTuple

import orjson

from otel_wirecap.llm.assembly.interface import Json

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


def error_in(name: str, event: Json) -> object:
    """Finds the error that an event carries.

    Known are: an object with an ``error`` member (OpenAI chat, Groq, OpenRouter, Gemini, Anthropic), the
    events ``error`` and ``response.failed`` of OpenAI's Responses API, vLLM's ``"object": "error"``, Cohere's
    ``err`` and its error in the last event, and any JSON object in an event named ``error``.

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
    if kind == "error":
        return event
    if kind == "response.failed":
        response = event.get("response")
        return (response.get("error") if isinstance(response, dict) else None) or {"type": kind}
    if kind == "message-end":
        delta = event.get("delta")
        return (delta.get("error") if isinstance(delta, dict) else None) or None
    return None


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
