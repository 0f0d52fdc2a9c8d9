"""What a record says of its exchange beside the body, redacted: URLs, headers, reason phrases, errors, names.

Whoever writes records asks for each part as it comes to know it; for records that are there already see ``recorded``.
"""

from __future__ import annotations

from collections.abc import Sequence
from http.client import responses

from otel_wirecap.capture.events import CAPTURE_FAILURE
from otel_wirecap.capture.redaction.prompts import (
    headers_without_prompts,
    name_without_prompts,
    text_without_prompts,
    url_without_prompts,
)
from otel_wirecap.capture.redaction.redactor import Redactor


def redact_url(url: str, redactor: Redactor, counts: dict[str, int], credentials: Sequence[str] = ()) -> str:
    """A URL, or the path and query of one."""
    told = redactor.url(url, counts, credentials)
    return url_without_prompts(told, counts) if redactor.masks_prompts else told


def redact_headers(
    headers: Sequence[tuple[str, str]], redactor: Redactor, counts: dict[str, int], credentials: Sequence[str] = ()
) -> list[list[str]]:
    """Headers, as ``[name, value]`` in wire order."""
    told = redactor.headers(headers, counts, credentials)
    return headers_without_prompts(told, counts) if redactor.masks_prompts else told


def redact_message(text: str, redactor: Redactor, counts: dict[str, int], credentials: Sequence[str] = ()) -> str:
    """A text that may say anything, such as an error's: it may quote what was sent."""
    if redactor.masks_prompts:
        return text if text == CAPTURE_FAILURE.message else text_without_prompts(text, counts)
    return redactor.text_with_urls(text, counts, credentials)


def redact_name(name: str, redactor: Redactor, counts: dict[str, int], credentials: Sequence[str] = ()) -> str:
    """The name or code of something, such as a model's."""
    told = redactor.text_with_urls(name, counts, credentials)
    return name_without_prompts(told, counts) if redactor.masks_prompts else told


def redact_reason(
    status_code: object, reason: str, redactor: Redactor, counts: dict[str, int], credentials: Sequence[str] = ()
) -> str:
    """The phrase after a status code: a server may write there what it likes."""
    if redactor.masks_prompts:
        usual = responses.get(status_code, "OK") if isinstance(status_code, int) else "OK"
        if reason.lower() != usual.lower():
            return text_without_prompts(reason, counts)
    return redactor.text(reason, counts, credentials)
