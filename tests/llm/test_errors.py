"""What the errors in answers are called."""

from __future__ import annotations

import json
from typing import Any

import pytest

from otel_wirecap.llm.answers import answer_error
from otel_wirecap.llm.errors import may_hold_error


@pytest.mark.parametrize(
    ("error", "word"),
    [
        ({"message": "m", "type": "requests", "code": "rate_limit_exceeded"}, "rate_limit_exceeded"),
        ({"message": "m", "type": "tokens", "code": "rate_limit_exceeded"}, "rate_limit_exceeded"),
        ({"message": "m", "type": "insufficient_quota", "code": "insufficient_quota"}, "insufficient_quota"),
        ({"message": "m", "type": "invalid_request_error", "code": "context_length_exceeded"}, "invalid_request_error"),
        ({"message": "m", "type": "BadRequestError", "code": 400}, "BadRequestError"),
        ({"message": "m", "type": "exceeds", "code": 400}, "exceeds"),
        ({"message": "m", "type": None, "code": "content_filter"}, "content_filter"),
        ({"message": "m", "status": "UNAVAILABLE", "code": 503}, "UNAVAILABLE"),
        ({"message": "m", "code": 429}, "429"),
        ({"message": "short"}, "short"),
        ({"message": "m" * 41}, "error"),
        ("short", "short"),
        ("m" * 41, "error"),
    ],
)
def test_an_error_is_called_by_what_says_most(error: Any, word: str) -> None:
    for answer in ({"error": error}, [{"error": error}], {"type": "error", "error": error}):
        found = answer_error(answer)
        assert found is not None
        assert found.word == word


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (b'{"__type": "ThrottlingException", "message": "m"}', "ThrottlingException"),
        (b'{"object": "error", "message": "m", "type": "NotFoundError"}', "NotFoundError"),
        (b'{"choices": [{"finish_reason": "error", "message": {}}]}', "finish_reason: error"),
        (b'{"object": "response", "status": "failed", "error": null, "output": []}', "response.failed"),
        (b'{"choices": [{"finish_reason": "stop", "message": {"content": "error"}}]}', None),
        (b'{"error": null, "err": ""}', None),
        (b"[]", None),
        (b"1", None),
    ],
)
def test_an_answer_without_a_member_error_may_hold_one(answer: bytes, word: str | None) -> None:
    found = answer_error(json.loads(answer))
    assert (found and found.word) == word
    assert may_hold_error(answer) or found is None
