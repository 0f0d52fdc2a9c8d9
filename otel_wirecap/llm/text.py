"""Text that comes in pieces: growing strings, and characters cut in half by an event's end."""

import json
from collections.abc import Mapping
from io import StringIO
from typing import Any, Final

import orjson

_DEPTH: Final = 100  # of JSON that is mended; deeper than any message, and far from Python's recursion limit


class GrowingText(StringIO):
    """A string under construction: as compact as the string itself, and linear however small the pieces."""

    def __init__(self, start: str = "") -> None:
        super().__init__(newline="\n")  # as is; the default would do, said here because all depends on it
        self.write(start)


def keep_newest(target: dict[str, Any], key: str, value: object) -> None:
    """Keeps the last value that says something: nothing empty replaces what is there."""
    if value or value == 0 or key not in target:
        target[key] = value


def json_or_text(text: str) -> object:
    """The JSON value that a text is; the text itself when it is not (yet) JSON."""
    try:
        return orjson.loads(text)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        value = lenient_json(text)
        return text if value is None else mended(value)


def json_value(data: bytes | str) -> Any:
    """The value of a JSON document, as clients read it.

    Beyond what strict parsers take there may be halves of characters, each of which becomes U+FFFD in the value, and
    numbers that JSON does not have: ``NaN``, ``Infinity``, ``-Infinity``.

    Raises:
        ValueError: it is none.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        refused = error
    try:
        return mended(json.loads(data if isinstance(data, str) else data.decode(), parse_int=_number))
    except (ValueError, RecursionError):
        raise refused from None


def lenient_json(data: bytes | str) -> Any:
    """Parses an event of a stream that is not strict JSON, as clients do.

    Halves of characters stay as they are (see `mended`): JSON spells a character beyond U+FFFF as two escapes, and
    servers that cut their deltas by UTF-16 length send one in each of two events. Bytes that are no UTF-8 become
    U+FFFD, numbers may be those of ``json_value``, and strings may hold control characters.

    Returns:
        The value; None when this is not JSON either.
    """
    try:
        text = data if isinstance(data, str) else data.decode(errors="replace")
        return json.loads(text, parse_int=_number, strict=False)
    except (ValueError, RecursionError):
        return None


def mended(value: Any, depth: int = _DEPTH) -> Any:
    """The value with halves that met in a string made whole again; a half left alone becomes U+FFFD."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if depth == 0:
        return None
    if isinstance(value, list):
        return [mended(item, depth - 1) for item in value]
    if isinstance(value, Mapping):
        return {mended(key): mended(item, depth - 1) for key, item in value.items()}
    return value


def _number(digits: str) -> int | float:
    """An integer, or a float when it takes more than 64 bits, as the strict parser has it."""
    number = int(digits)
    return number if -(1 << 63) <= number < 1 << 64 else float(digits)
