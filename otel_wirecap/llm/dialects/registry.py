"""All dialects that are known: ours, and, only for what none of ours knows, those from outside the package.

Invariants:

- Names are unique. What a dialect from outside says counts only where none of ours recognises the request, the answer
  or the stream, so it changes nothing about ours.
- Dialects from outside are looked for when something is first not recognised, and not again.
- What may be kept where prompts are masked is ours alone to say.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from otel_wirecap.llm.dialects import (
    anthropic,
    assistants,
    bedrock,
    bedrock_models,
    cohere,
    cohere_v1,
    gemini,
    interactions,
    llama_cpp,
    ollama,
    openai_chat,
    openai_media,
    openai_responses,
    replicate,
    text_completions,
    tgi,
    workers_ai,
)
from otel_wirecap.llm.dialects.interface import Dialect, Json, MessageAssembly
from otel_wirecap.llm.dialects.outside import outside
from otel_wirecap.llm.errors import error_in
from otel_wirecap.llm.usage import Usage

OURS: Final = (
    openai_chat.DIALECT,
    anthropic.DIALECT,
    openai_responses.DIALECT,
    openai_media.DIALECT,
    gemini.DIALECT,
    interactions.DIALECT,
    bedrock.DIALECT,
    cohere.DIALECT,
    cohere_v1.DIALECT,
    ollama.DIALECT,
    text_completions.DIALECT,
    bedrock_models.DIALECT,
    llama_cpp.DIALECT,
    workers_ai.DIALECT,
    assistants.DIALECT,
    replicate.DIALECT,
    tgi.DIALECT,
)
"""Our dialects, in the order in which they are asked."""

_TABLES: Final = tuple(name for name, value in vars(Dialect).items() if isinstance(value, tuple))
_LISTED_MODEL: Final = (
    # The entry of a listing: v1/models/{id}. Hugging Face: models/{org}/{name}.
    # Replicate: v1/models/{owner}/{name}/predictions.
    r"^(?:/to/[^/]+)?(?:/hf-inference|.*/v\d[a-z0-9]*)?/models/([^/:]+(?:/[^/:]+)?)"
    r"(?:/(?:predictions|pipeline|endpoints|v1)(?:/.*)?)?$"
)


class Dialects(Dialect):
    """Several dialects as one: their tables joined, so that a question to many costs what one to a single does.

    Args:
        dialects: in the order in which they are asked.
    """

    def __init__(self, dialects: Iterable[Dialect]) -> None:
        self.all = tuple(dialects)
        for table in _TABLES:
            setattr(self, table, tuple(dict.fromkeys(entry for one in self.all for entry in getattr(one, table))))

    def operation(self, path: str, body: object) -> str | None:
        """See ``Dialect``, as for all that follow."""
        for one in self.all:
            operation = one.operation(path, body)
            if operation is not None:
                return operation
        return None

    def is_answer(self, body: Json) -> bool:  # noqa: D102
        return self.of_answer(body) is not None

    def usage(self, answer: Json) -> Usage | None:  # noqa: D102
        known = self.of_answer(answer)
        for one in self.all if known is None else (known, *self.all):
            usage = one.usage(answer)
            if usage is not None:
                return usage
        return None

    def error_in(self, name: str, event: Json) -> object:  # noqa: D102
        dialect = self.of_answer(event)
        return error_in(name, event) if dialect is None else dialect.error_in(name, event)

    def of_request(self, path: str, body: Json) -> Dialect | None:
        """The dialect of a request for a conversation's next message; None where it is none, or is not known."""
        # The first ones recognise what the later ones, who know more particulars, send as well.
        return next((one for one in reversed(self.all) if one.is_conversation(path, body)), None)

    def of_answer(self, body: Json) -> Dialect | None:
        """The dialect of a whole answer; None where it is not known, as with errors."""
        for one in self.all:
            if one.is_answer(body):
                return one
        return None

    def recognises(self, answer: Json) -> bool:
        """Whether an answer is one of theirs, as far as it has anything that is known of."""
        return bool(
            self.is_answer(answer) or self.assembly(answer) or self.finish_reasons(answer) or self.usage(answer)
        )

    def assembly(self, event: Json) -> MessageAssembly | None:  # noqa: D102
        found = _of_event(self.all, event)
        return None if found is None else found[1]


ours: Final = Dialects(OURS)
"""Our dialects, as one."""

ours.model_paths += (_LISTED_MODEL,)  # last: it matches much of what theirs do


def outside_request(path: str, body: object) -> Dialect | None:
    """Whose request it is that none of ours recognises; None where it is one of ours, or nobody's."""
    if outside.are_none or not isinstance(body, dict) or ours.operation(path, body) is not None:
        return None
    return next((one for one in outside.all() if one.operation(path, body) is not None), None)


def outside_answer(body: Json) -> Dialect | None:
    """Whose answer it is that none of ours recognises; None where it is one of ours, an error, or nobody's."""
    if outside.are_none or not body or body.get("error") or ours.recognises(body):
        return None
    return next((one for one in outside.all() if one.is_answer(body)), None)


def event_dialect(event: Json) -> tuple[Dialect, MessageAssembly] | None:
    """The dialect of an event of a stream, and what adds such events up; None where it is not known."""
    found = _of_event(ours.all, event)
    if found is None and not outside.are_none and error_in("", event) is None:
        return _of_event(outside.all(), event)
    return found


def _of_event(dialects: Iterable[Dialect], event: Json) -> tuple[Dialect, MessageAssembly] | None:
    for one in dialects:
        assembly = one.assembly(event)
        if assembly is not None:
            return one, assembly
    return None


def conversation_dialect(path: str, body: object) -> Dialect | None:
    """The dialect of a request for a conversation's next message; None where it is none, or is not known."""
    if not isinstance(body, dict):
        return None
    dialect = ours.of_request(path, body)
    return dialect or next((one for one in outside.all() if one.is_conversation(path, body)), None)


def requested_dialect(path: str, body: object) -> Dialect | None:
    """The dialect of a request, by its path; None where it is not known."""
    known = next((one for one in ours.all if one.operation(path, body) is not None), None)
    return known or outside_request(path, body)


def answer_dialect(body: object) -> Dialect | None:
    """The dialect of a whole answer; None where it is not known, as with errors."""
    return ours.of_answer(body) or outside_answer(body) if isinstance(body, dict) else None
