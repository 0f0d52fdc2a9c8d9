"""A dialect that is not trusted: it is given copies, its answers are checked, and it is not asked again once it failed.

Invariants:

- No method raises, and each returns what `Dialect` says; after a failure all return that they know nothing. A failure
  is whatever is raised, panics of native libraries and cancellations too, which are no ``Exception``; but whoever
  interrupts the program means the program.
- What it is given is a copy, so that what is recorded is what was on the wire.
- It says nothing of masking: what may be kept where prompts are masked is the same with and without it.
"""

from __future__ import annotations

import copy
import functools
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

import orjson

from otel_wirecap.llm.dialects.interface import OPERATIONS, Dialect, Json, MessageAssembly, Opening, Parameters
from otel_wirecap.llm.dialects.words import MAX_CHARACTERS
from otel_wirecap.llm.errors import error_in
from otel_wirecap.llm.usage import Usage

MAX_TEXT: Final = 512
"""Characters of a model's name, an id or a reason."""

MAX_CHOICES: Final = 16
MAX_NUMBER: Final = 1e15

_TABLES: Final = ("cache_order", "prompt_members", "turn_members")

T = TypeVar("T")


class GuardedDialect(Dialect):
    """A dialect that is asked until it fails. Of its tables those are taken over that the analysis of caches reads.

    Args:
        name: it is known by.
        dialect: what is asked.
        on_failure: takes what went wrong, once. It has nothing in it that stood in a body.
    """

    def __init__(self, name: str, dialect: Dialect, on_failure: Callable[[str], None]) -> None:
        self.name = name
        self._dialect: Dialect | None = dialect
        self._on_failure = on_failure
        for table in _TABLES:
            setattr(self, table, self._asked(table, _are_texts, unknown=()))
        self.end_marks = self._asked("end_marks", _are_marks, unknown=())
        self.choice_members = self._asked("choice_members", _are_names, unknown=())
        for question, (is_right, unknown) in _QUESTIONS.items():
            setattr(self, question, functools.partial(self._asked, question, is_right, unknown=unknown))
        self.choices = functools.partial(self._asked, "choices", _are_pairs, unknown=(), made_by=_first)  # type: ignore[method-assign]

    def error_in(self, name: str, event: Json) -> object:
        """See ``Dialect``."""
        return self._asked("error_in", _is_anything, name, event, made_by=_as_json, unknown=error_in(name, event))

    def assembly(self, event: Json) -> MessageAssembly | None:
        """See ``Dialect``."""
        assembly = self._asked("assembly", _is_assembly, event, unknown=None)
        return None if assembly is None else GuardedAssembly(assembly, self.fail)

    def fail(self, why: str) -> None:
        """Reports it, and has it not be asked any more."""
        if self._dialect is not None:
            self._dialect = None
            self._on_failure(why)

    def _asked(
        self,
        question: str,
        is_right: Callable[[Any], bool],
        *arguments: object,
        unknown: T,
        made_by: Callable[[Any], Any] = lambda answer: answer,
    ) -> T:
        """What it answers; ``unknown`` where it has failed, now or before."""
        if self._dialect is None:
            return unknown
        try:
            own = copy.deepcopy(arguments)
        except RecursionError:  # nested as no body is; it is not the dialect's fault
            return unknown
        try:
            asked = getattr(self._dialect, question)
            answer = made_by(asked(*own) if callable(asked) else asked)
            if is_right(answer):
                found: T = answer
                return found
            self.fail(f"{question} gave {_kind(answer)} that is none of its values")
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  # as the invariants say
            self.fail(f"{question} raised {type(error).__name__}")
        return unknown


class GuardedAssembly:
    """What such a dialect adds a stream's events up with; see `MessageAssembly`.

    Attributes:
        size: bytes of the events: whatever it holds of them, it is no more.
    """

    __slots__ = ("_assembly", "_fail", "model", "size")

    def __init__(self, assembly: MessageAssembly, fail: Callable[[str], None]) -> None:
        self._assembly: MessageAssembly | None = assembly
        self._fail = fail
        self.model: str | None = None
        self.size = 0

    def add(self, event: Json, size: int, /) -> None:
        """See ``MessageAssembly.add``."""
        self.size += size
        if self._assembly is None:
            return
        try:
            self._assembly.add(copy.deepcopy(event), size)
            self.model = _checked(getattr(self._assembly, "model", None), _is_text)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  # as the invariants say
            self._give_up("add", error)

    def message(self) -> Json | None:
        """See ``MessageAssembly.message``."""
        if self._assembly is None:
            return None
        try:
            message: Json | None = _checked(_as_json(self._assembly.message()), _is_message)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  # as the invariants say
            self._give_up("message", error)
        else:
            return message
        return None

    def _give_up(self, method: str, error: BaseException) -> None:
        self._assembly = None
        self._fail(f"{method} of its assembly raised {type(error).__name__}")


# -- what answers may be ---------------------------------------------------------------------------------------------
# Of these very types: where facts are read, types derived from them would have to be imported.


def _is_anything(_value: Any) -> bool:
    return True


def _is_truth(value: Any) -> bool:
    return type(value) is bool


def _is_operation(value: Any) -> bool:
    return value is None or (type(value) is str and value in OPERATIONS)


def _is_text(value: Any) -> bool:
    return value is None or (type(value) is str and 0 < len(value) <= MAX_TEXT)


def _are_texts(value: Any) -> bool:
    return type(value) is tuple and len(value) <= MAX_CHOICES and None not in value and all(map(_is_text, value))


def _are_names(value: Any) -> bool:
    return type(value) is tuple and all(
        type(one) is tuple and len(one) == len(("list", "reason")) and _are_texts(one) for one in value
    )


def _are_marks(value: Any) -> bool:
    return type(value) is tuple and all(
        type(one) is tuple
        and len(one) == len(("member", "values"))
        and type(one[0]) is str
        and type(one[1]) is tuple
        and all(type(mark) in (str, bool, int) for mark in one[1])
        for one in value
    )


def _first(values: Iterable[T]) -> list[T]:
    return list(itertools.islice(values, MAX_CHOICES))


def _are_pairs(value: list[Any]) -> bool:
    return all(type(one) is tuple and len(one) == len(("message", "reason")) for one in value)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) < MAX_NUMBER


def _are_parameters(value: Any) -> bool:
    is_whole = type(value) is Parameters and (value.max_tokens is None or type(value.max_tokens) is int)
    return is_whole and all(one is None or _is_number(one) for one in value)


def _is_opening(value: Any) -> bool:
    return type(value) is Opening and all(type(one) is str and len(one) <= MAX_CHARACTERS for one in value)


def _is_usage(value: Any) -> bool:
    if value is None:
        return True
    if type(value) is not Usage or not all(type(one) is int and 0 <= one < MAX_NUMBER for one in value.counts.values()):
        return False
    are_texts = all(map(_is_text, (value.tier, value.model, value.unpriced)))
    has_parts = type(value.billed) is tuple and all(
        type(one) is Usage and not one.billed and _is_usage(one) for one in value.billed
    )
    return are_texts and has_parts and (value.cost is None or _is_number(value.cost))


def _is_assembly(value: Any) -> bool:
    return value is None or (callable(getattr(value, "add", None)) and callable(getattr(value, "message", None)))


def _is_message(value: Any) -> bool:
    return value is None or isinstance(value, dict)


def _checked(value: Any, is_right: Callable[[Any], bool]) -> Any:
    if not is_right(value):
        raise TypeError(_kind(value))
    return value


def _as_json(value: Any) -> Any:
    """A copy as JSON has it; raises where it is none."""
    return orjson.loads(orjson.dumps(value))


def _kind(value: object) -> str:
    return f"an object of the type {type(value).__name__}"


_QUESTIONS: Final[dict[str, tuple[Callable[[Any], bool], object]]] = {
    "operation": (_is_operation, None),
    "is_conversation": (_is_truth, False),
    "requested_model": (_is_text, None),
    "parameters": (_are_parameters, Parameters()),
    "opening": (_is_opening, Opening("", "")),
    "is_answer": (_is_truth, False),
    "answered_model": (_is_text, None),
    "answer_id": (_is_text, None),
    "finish_reasons": (_are_texts, ()),
    "usage": (_is_usage, None),
}
"""The methods of a dialect, each with what its answer must be, and what one answers that knows nothing."""
