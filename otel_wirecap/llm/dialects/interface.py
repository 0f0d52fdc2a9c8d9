"""What is known of one provider's format, and how it is asked for.

Bodies and events are JSON from the network, parsed already: whatever their shape, nothing here raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from otel_wirecap.llm.dialects.words import MAX_CHARACTERS, first_turns, joined, words
from otel_wirecap.llm.errors import error_in
from otel_wirecap.llm.usage import Usage

Json: TypeAlias = dict[str, Any]
"""A parsed JSON object."""

OPERATIONS: Final = frozenset({"chat", "generate_content", "text_completion", "embeddings"})
"""What a model can be asked for; the names are OpenTelemetry's (``gen_ai.operation.name``)."""

_MAX_CHOICES: Final = 16
_MAX_NUMBER: Final = 1e15
"""No setting is larger; a number that is might not fit where it is reported."""


class MessageAssembly(Protocol):
    """The events of one stream, added up to a message.

    Attributes:
        model: the answered model, None until an event names it.
        size: about how much is held: characters of collected text, and bytes of JSON kept whole.
    """

    model: str | None
    size: int

    def add(self, event: Json, size: int, /) -> None:
        """Takes the next event.

        Args:
            event: the event's data. It is kept, in whole or in part: the caller does not change it.
            size: the bytes that it had as JSON.
        """

    def message(self) -> Json | None:
        """The message so far, in the shape of the provider's non-streaming answer; None when nothing came.

        Objects within it are shared with what is held, so it is for reading only; its top level may be added
        to.
        """


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


class Opening(NamedTuple):
    """The words that a conversation begins with; both at most 65,536 characters, and empty where there are none."""

    system: str
    user: str


class Dialect:
    """One provider's format. Everything has a default, which is to know nothing: override what is known.

    The attributes are tables of names that the methods of this class read by; a format that they do not describe
    overrides the method.

    Attributes:
        name: of the format; unique.
        paths: regular expressions for the end of a request's path, each with the operation that is asked for there,
            one of `OPERATIONS`; the first that matches counts.
        model_paths: regular expressions for a path that names the model, which is their first group.
        stream_paths: regular expressions for a path that asks for a stream.
        parameter_members: members of a request that hold its parameters, besides the request itself.
        top_p_members, max_tokens_members: names of these parameters.
        system_members: members of a request that are a system prompt.
        turn_members: members of a request that are a list of the conversation's turns.
        prompt_members: members of a request that are a user's words.
        cache_order: members of a request by the order in which the provider's prompt cache reads them.
        model_members: members of an answer, or an event, that name the model.
        model_holders: members of an event that hold an answer.
        id_members: members of an answer that are its id.
        choice_members: the member of an answer that is a list of choices, with the member of a choice that says why it
            ended.
        finish_members: members of an answer that say why it ended.
        end_marks: what the last event of a stream has: a member, and the values that it may have, any that is not empty
            where none are named. An event's name counts as its ``type`` where it has no such member. Where an answer
            has ``choice_members``, a reason on every choice is an end mark, too; ``[DONE]`` is one in every format.
        structure: names of members whose strings are structure and no content, and so may be kept where prompts are
            masked. This and the next two count only of our own dialects: they decide about what is masked.
        index_members: members of a stream's event that say which of several texts it adds to.
        label_members: members of a stream's event whose strings are no part of a text.
        event_types: how the ``type`` of a stream's events begins, where the name of the event may say it alone.
            Only those of our own dialects count.
    """

    name: str = ""
    paths: tuple[tuple[str, str], ...] = ()
    model_paths: tuple[str, ...] = ()
    stream_paths: tuple[str, ...] = ()
    parameter_members: tuple[str, ...] = ()
    top_p_members: tuple[str, ...] = ("top_p",)
    max_tokens_members: tuple[str, ...] = ("max_tokens",)
    system_members: tuple[str, ...] = ()
    turn_members: tuple[str, ...] = ()
    prompt_members: tuple[str, ...] = ()
    cache_order: tuple[str, ...] = ()
    model_members: tuple[str, ...] = ("model",)
    model_holders: tuple[str, ...] = ()
    id_members: tuple[str, ...] = ("id",)
    choice_members: tuple[tuple[str, str], ...] = ()
    finish_members: tuple[str, ...] = ()
    end_marks: tuple[tuple[str, tuple[object, ...]], ...] = ()
    structure: tuple[str, ...] = ()
    index_members: tuple[str, ...] = ()
    label_members: tuple[str, ...] = ()
    event_types: tuple[str, ...] = ()

    # -- requests ----------------------------------------------------------------------------------------------------

    def operation(self, path: str, body: object) -> str | None:
        """What a request asks a model for.

        Args:
            path: the URL's path as it was sent: what stands before the end is the provider's, or a gateway's.
            body: the parsed body; anything but a JSON object counts as none.

        Returns:
            One of `OPERATIONS`; None where it is no request of this format.
        """
        for pattern, operation in self.paths:
            if _compiled(pattern).search(path):
                return operation
        return None

    def is_conversation(self, path: str, body: Json) -> bool:
        """Whether a request is one for a conversation's next message, in this format."""
        return False

    def requested_model(self, path: str, body: object) -> str | None:
        """The model that a request asks for: the body's ``model``, else the one that the path names, percent-decoded.

        Args:
            path: the URL's path as it was sent, percent-encoded, without the query.
            body: the parsed body; anything but a JSON object counts as none.
        """
        model = body.get("model") if isinstance(body, dict) else None
        if model and isinstance(model, str):
            return model
        for pattern in self.model_paths:
            if found := _compiled(pattern).search(path):
                from urllib.parse import unquote  # much to import for what reading a capture does not want

                return unquote(found[1])
        return None

    def parameters(self, body: Json) -> Parameters:
        """How the model is asked to answer."""
        holders = [body, *(one for name in self.parameter_members if isinstance(one := body.get(name), dict))]
        most = _number(holders, self.max_tokens_members)
        return Parameters(
            _number(holders, ("temperature",)),
            _number(holders, self.top_p_members),
            None if most is None else int(most),
        )

    def opening(self, body: Json) -> Opening:
        """What the conversation begins with that a request is part of."""
        system, user = first_turns(body, self.turn_members)
        if not user:
            user = next(filter(None, (words(body.get(name)) for name in self.prompt_members)), "")
        system = [*(words(body.get(name)) for name in self.system_members), *system]
        return Opening(joined(system)[:MAX_CHARACTERS], user[:MAX_CHARACTERS])

    # -- answers -----------------------------------------------------------------------------------------------------

    def is_answer(self, body: Json) -> bool:
        """Whether a body is a whole answer in this format, that of a stream assembled."""
        return False

    def choices(self, answer: Json) -> Iterable[tuple[Any, Any]]:
        """Of each choice of an answer the message, and the reason of its end."""
        return ()

    def answered_model(self, body: Json) -> str | None:
        """The model that an answer, or one event of a stream, says it comes from."""
        for holder in (body, *map(body.get, self.model_holders)):
            if isinstance(holder, dict) and (model := text_in(holder, self.model_members)):
                return model
        return None

    def answer_id(self, answer: Json) -> str | None:
        """The provider's id of an answer."""
        return text_in(answer, self.id_members)

    def finish_reasons(self, answer: Json) -> tuple[str, ...]:
        """Why the model stopped, a reason a choice."""
        for holder, name in self.choice_members:
            choices = answer.get(holder)
            if isinstance(choices, list):
                reasons = (choice.get(name) for choice in choices[:_MAX_CHOICES] if isinstance(choice, dict))
                return tuple(reason for reason in reasons if isinstance(reason, str) and reason)
        reason = text_in(answer, self.finish_members)
        return () if reason is None else (reason,)

    def usage(self, answer: Json) -> Usage | None:
        """The token counts that an answer reports, or an event or a record of usage within one; None for none."""
        return None

    # -- streams -----------------------------------------------------------------------------------------------------

    @property
    def has_end_mark(self) -> bool:
        """Whether every whole stream of this format has an end mark."""
        return bool(self.end_marks or self.choice_members)

    def assembly(self, event: Json) -> MessageAssembly | None:
        """What adds the events of a stream up to a message.

        Args:
            event: the first event of a stream that any format recognises.

        Returns:
            None where this is no event of this format, or it could be one of any. The event is not added yet.
        """
        return None

    def ends(self, name: str, event: Json, finished: dict[int, bool]) -> bool:
        """Whether a stream has said all it had to say with this event: it is the end mark, or the last choice ended.

        Args:
            name: the event's name; "" where its frame has none.
            event: the event's data.
            finished: the choices that the stream has had so far, each with whether it has ended; kept up to date here.
        """
        for member, values in self.end_marks:
            value = event.get(member, name if member == "type" else None)
            if value and (not values or value in values):
                return True
        for holder, member in self.choice_members:  # noqa: SIM110  # for every event: any() takes three times as long
            if choices_end(event.get(holder), member, finished):
                return True
        return False

    def error_in(self, name: str, event: Json) -> object:
        """The error that an event of a stream, or an answer, carries after the status line has promised success.

        Args:
            name: the event's name; "" where its frame has none, and for an answer.
            event: the event's data, or the answer.

        Returns:
            The error as the provider sent it: a JSON value; None when the event carries none.
        """
        return error_in(name, event)


def objects_in(value: object) -> Iterator[Json]:
    """The objects among the elements of a list; of anything else none."""
    if isinstance(value, list):
        yield from (one for one in value if isinstance(one, dict))


def choices_end(choices: object, member: str, finished: dict[int, bool]) -> bool:
    """Whether the choices of an event, with those before, have all ended; see `Dialect.ends`.

    Args:
        choices: the choices of the event.
        member: of a choice, says why it ended. An empty reason says nothing.
        finished: see there.
    """
    has_ended = False
    if type(choices) is list:
        for position, choice in enumerate(choices):
            if type(choice) is dict:
                index = choice.get("index")
                if type(index) is not int:
                    index = position
                if choice.get(member):
                    finished[index] = has_ended = True
                elif index not in finished:
                    finished[index] = False
    return has_ended and False not in finished.values()


def text_in(holder: Json, names: Iterable[str]) -> str | None:
    """The first of the members that is a string and not empty."""
    for name in names:
        value = holder.get(name)
        if value and isinstance(value, str):
            return value
    return None


def _number(holders: list[Json], names: Iterable[str]) -> float | None:
    for holder in holders:
        for name in names:
            value = holder.get(name)
            if (
                value is not None
                and isinstance(value, int | float)
                and not isinstance(value, bool)
                and abs(value) < _MAX_NUMBER
            ):
                return value
    return None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
