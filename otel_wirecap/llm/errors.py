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

    @property
    def word(self) -> str:
        """What it is called: by its type or its code, a short message, or else ``error``.

        OpenAI's type of a rate limit says what was counted (``requests``, ``tokens``): there the code says what it is.
        """
        kind, message, code = self
        if code and not code.isdigit() and "error" not in (kind or "error").lower():
            return code
        return kind or code or (message if message and len(message) <= _MAX_WORD else None) or "error"


def may_hold_error(data: bytes) -> bool:
    """Whether JSON may hold an error of a known format: what this says no to need not be asked `error_in`."""
    return b"err" in data or b"__type" in data


def error_in(name: str, event: dict[str, Any]) -> object:
    """Finds the error that an event of any format carries.

    Known are: an object with an ``error`` member (OpenAI chat, Groq, OpenRouter, Gemini, Anthropic), events of the type
    ``error``, vLLM's ``"object": "error"``, Cohere's ``err``, AWS's ``__type``, and any JSON object in an event named
    ``error``.

    Args:
        name: the event's name.
        event: the event's data.

    Returns:
        The error as the provider sent it: a JSON value; None when the event carries none.
    """
    error = event.get("error")
    if error:
        return error
    if name == "error" or event.get("object") == "error" or event.get("__type"):
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
    kind = _text(error.get("type")) or _text(error.get("status")) or _text(error.get("__type"))
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
