"""Dialects of other distributions: found when they are wanted, checked, and harmless when they fail."""

from __future__ import annotations

import copy
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from parley import ANSWER, EVENTS, distribution, imports_of

from otel_wirecap import dialect_plugins
from otel_wirecap.dialect_plugins import use_plugins
from otel_wirecap.frames.lexer import Frame
from otel_wirecap.llm.answers import answer_of, answered_model, usage_of
from otel_wirecap.llm.assembly import StreamAssembly
from otel_wirecap.llm.dialects import Opening, Parameters, Usage
from otel_wirecap.llm.dialects.interface import Answer
from otel_wirecap.llm.dialects.outside import outside
from otel_wirecap.llm.dialects.registry import OURS
from otel_wirecap.llm.opening import opening_of
from otel_wirecap.llm.prompts import Request, answer_protocol
from otel_wirecap.llm.requests import operation_of, parameters_of, requested_model
from otel_wirecap.reading.cache import prompt_pieces

PATH = "/parley/talk"
QUESTION = {"question": "How are you?", "voice": "parley-2", "heat": 0.5}
numbers = itertools.count()


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is reported; before and after, no dialect from outside has been looked for."""
    told: list[str] = []

    def report(message: str, *arguments: object) -> None:
        told.append(message % arguments)

    monkeypatch.setattr(dialect_plugins, "_report", None)
    outside.look_with(tuple)
    use_plugins(report)
    yield told
    outside.look_with(lambda: ())


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Puts a distribution on the import path; its module has a name that none had before."""
    modules = []

    def installed(name: str = "parley", more: str = "") -> Path:
        module = f"parley_dialect_{next(numbers)}"
        modules.append(module)
        folder = distribution(tmp_path / module, name=name, module=module, more=more)
        monkeypatch.syspath_prepend(folder)
        return folder

    yield installed
    for module in modules:
        sys.modules.pop(module, None)


def assembled(*events: str) -> StreamAssembly:
    assembly = StreamAssembly(max_bytes=1 << 20)
    for event in events:
        assembly.add(Frame("", event.encode()))
    return assembly


def streamed() -> StreamAssembly:
    return assembled(*map(json.dumps, EVENTS))


def test_every_question_is_answered_by_the_dialect_whose_traffic_it_is(reports, install):
    install()
    assert operation_of(PATH, QUESTION) == "chat"
    assert parameters_of(PATH, QUESTION) == Parameters(temperature=0.5)
    assert requested_model(PATH, QUESTION) == "parley-2"
    assert opening_of(QUESTION) == Opening("", "How are you?")
    assert Request(PATH, "", QUESTION).protocol == answer_protocol(ANSWER) == "parley"
    assert [(piece.path, piece.kind) for piece in prompt_pieces(PATH, QUESTION)][1:] == [(("question", 0), "messages")]
    assert answer_of(ANSWER) == Answer("t-1", ("done",), Usage(11, 3))
    assert usage_of(ANSWER) == Usage(11, 3)
    assert answered_model(ANSWER) == "parley-2"
    assert usage_of(ANSWER | {"error": None}) == Usage(11, 3), "no error"
    assert usage_of(ANSWER | {"error": "no"}) is None
    stream = streamed()
    assert stream.message() == ANSWER
    assert stream.model == "parley-2"
    assert reports == []


def test_nothing_is_looked_up_as_long_as_our_own_dialects_recognise_the_traffic(reports, install, monkeypatch):
    folder = install()
    chat = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    lookups = []
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_group: lookups.append(1) or [])
    for path in ("/v1/chat/completions", "/v1/messages", "/api/generate", "/model/m/invoke"):
        assert operation_of(path, chat) is not None
        parameters_of(path, chat)
        opening_of(chat)
        requested_model(path, {})
    for answer in (
        {"choices": [{"finish_reason": "stop"}]},
        {"type": "message", "content": []},
        {"candidates": []},
        {"message": {"role": "assistant", "content": "a"}, "done": True},
        {"results": [{"completionReason": "FINISH"}]},
        {"error": {"message": "no"}},
        {},
    ):
        answer_of(answer)
        answered_model(answer)
    assembled('{"choices": []}', '{"error": "no"}').message()
    assembled('{"error": "no"}').message()
    assert operation_of("/", None) is operation_of("/", b"x") is None
    assert lookups == []
    assert imports_of(folder, folder.name) == []


def test_it_is_looked_up_and_imported_once(reports, install, monkeypatch):
    folder = install()
    for _ in range(3):
        assert operation_of(PATH, QUESTION) == "chat"
        assert operation_of("/somewhere/else", {"a": 1}) is None
        use_plugins()  # as each writer does that starts
    assert len(imports_of(folder, folder.name)) == 1


def test_where_there_is_none_entry_points_are_read_once(reports, monkeypatch):
    lookups = []
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_group: lookups.append(1) or [])
    for _ in range(3):
        assert operation_of(PATH, QUESTION) is None
        assert usage_of(ANSWER) is None
    assert lookups == [1]


def test_entry_points_that_cannot_be_read_are_reported(reports, monkeypatch):
    def broken(**_group: str) -> list[Any]:
        raise OSError("unreadable")

    monkeypatch.setattr("importlib.metadata.entry_points", broken)
    assert operation_of(PATH, QUESTION) is None
    assert reports == ["no dialect of another distribution is used: reading the entry points raised OSError"]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("raise ImportError('x')", "importing it raised ImportError"),
        ("raise SystemExit(1)", "importing it raised SystemExit"),
        ("raise GeneratorExit", "importing it raised GeneratorExit"),
        ("del dialect", "importing it raised AttributeError"),
        ("dialect = Parley", "it is a class; name an object of it"),
        ("dialect = {'paths': ()}", "it is no Dialect but a dict"),
    ],
)
def test_one_that_cannot_be_used_is_reported_once_and_the_others_are_used(reports, install, more, why):
    broken = install("a-broken-one", more)
    install("parley")
    for _ in range(2):
        assert operation_of(PATH, QUESTION) == "chat"
    assert reports == [f"the dialect a-broken-one ({broken.name}:dialect) is not used: {why}"]


@pytest.mark.parametrize("name", [one.name for one in OURS])
def test_none_of_ours_can_be_replaced_by_its_name(reports, install, name):
    folder = install(name)
    assert operation_of(PATH, QUESTION) is None
    assert imports_of(folder, folder.name) == [], "it is not even imported"
    (told,) = reports
    assert told.startswith(f"the dialect {name} ")
    assert "there is one of this name already" in told


def test_none_of_ours_is_overruled_where_it_knows_the_traffic(reports, install):
    install(
        more="""
        Parley.operation = lambda self, path, body: "embeddings"
        Parley.usage = lambda self, answer: Usage(1, 1)
        Parley.is_answer = lambda self, body: True
        Parley.assembly = lambda self, event: Talk()
        """
    )
    assert operation_of(PATH, QUESTION) == "embeddings"
    assert operation_of("/v1/chat/completions", {"messages": []}) == "chat"
    assert usage_of({"choices": [], "usage": {"prompt_tokens": 5}}) == Usage(5)
    assert usage_of({"choices": []}) is None
    message = assembled('{"choices": [{"delta": {"content": "a"}}]}').message()
    assert message is not None
    assert message["choices"][0]["message"]["content"] == "a"


def test_two_of_one_name_are_no_reason_to_guess(reports, install):
    first, second = sorted((install("parley"), install("parley")), key=lambda folder: folder.name)
    assert operation_of(PATH, QUESTION) == "chat"
    assert len(imports_of(first, first.name)) + len(imports_of(second, second.name)) == 1
    (told,) = reports
    assert "there is one of this name already" in told


QUESTIONS: dict[str, Callable[[], object]] = {
    "operation": lambda: operation_of(PATH, QUESTION),
    "parameters": lambda: parameters_of(PATH, QUESTION),
    "requested_model": lambda: requested_model(PATH, {"question": "x"}),
    "opening": lambda: opening_of(QUESTION),
    "is_conversation": lambda: Request(PATH, "", QUESTION).protocol,
    "cache_order": lambda: prompt_pieces(PATH, QUESTION),
    "is_answer": lambda: answer_protocol(ANSWER),
    "usage": lambda: usage_of(ANSWER),
    "answered_model": lambda: answered_model(ANSWER),
    "answer_id": lambda: answer_of(ANSWER),
    "finish_reasons": lambda: answer_of(ANSWER),
    "assembly": lambda: streamed().message(),
    "error_in": lambda: streamed().message(),
}
"""What asks for each."""


@pytest.mark.parametrize("error", ["Exception", "BaseException"])  # panics of native libraries are the latter
@pytest.mark.parametrize("question", QUESTIONS)
def test_one_that_raises_is_reported_once_and_not_asked_again(reports, install, question, error):
    secret = "the words of a body"
    folder = install(
        more=f"""
        def raises(self, *arguments):
            raise type("Panic", ({error},), {{}})({secret!r})

        Parley.{question} = property(raises) if {question == "cache_order"} else raises
        """
    )
    for _ in range(2):
        QUESTIONS[question]()
    assert reports == [f"the dialect parley ({folder.name}:dialect) is not used: {question} raised Panic"]
    assert operation_of(PATH, QUESTION) is usage_of(ANSWER) is streamed().message() is None
    assert answer_of(ANSWER) == Answer()
    assert parameters_of(PATH, QUESTION) == Parameters(), "nobody knows it"


TEXTS = ["1", "b'x'", "['a']", "''", "'x' * 600", "type('Text', (str,), {})('x')", "object()"]
WRONG = {
    "operation": ["1", "'dance'", "['chat']", "True", "type('Text', (str,), {})('chat')"],
    "parameters": ["None", "(1, 2, 3)", "Parameters('1')", "Parameters(max_tokens=1.5)", "Parameters(float('nan'))"],
    "requested_model": TEXTS,
    "opening": ["None", "('', 'x')", "Opening('', None)", "Opening('', 'x' * 99999)"],
    "is_conversation": ["1", "None", "'yes'"],
    "is_answer": ["1", "None", "[1]"],
    "usage": ["1", "(1, 2)", "Usage('1')", "Usage(-1)", "Usage(True)", "Usage(1, cost='much')", "Usage(10 ** 400)"],
    "answered_model": TEXTS,
    "answer_id": TEXTS,
    "cache_order": ["None", "['question']", "(1,)", "'question'", "('a',) * 99"],
    "finish_reasons": ["None", "['done']", "(1,)", "(None,)", "('a',) * 99", "'done'"],
    "assembly": ["1", "Talk", "object()", "'x'"],
    "error_in": ["object()", "{1: 2}", "b'x'"],
}


@pytest.mark.parametrize(("question", "wrong"), [(name, one) for name, values in WRONG.items() for one in values])
def test_answers_of_wrong_types_go_no_further(reports, install, question, wrong):
    if wrong == "Talk":
        wrong = "type('Deaf', (), {'message': Talk.message})()"
    install(more=f"Parley.{question} = {wrong if question == 'cache_order' else f'lambda self, *arguments: {wrong}'}")
    QUESTIONS[question]()
    (told,) = reports
    assert f"is not used: {question} " in told
    assert operation_of(PATH, QUESTION) is None


@pytest.mark.parametrize(
    "more",
    [
        "def add(self, event, size): raise KeyError(event)\nTalk.add = add",
        "def message(self): raise KeyError(1)\nTalk.message = message",
        "def add(self, event, size): raise BaseException(event)\nTalk.add = add",
        "def message(self): raise BaseException(1)\nTalk.message = message",
        "Talk.message = lambda self: [1]",
        "Talk.message = lambda self: {1: object()}",
        "Talk.model = 7\nTalk.add = lambda self, event, size: None",
        "def message(self):\n    a = {}\n    a['a'] = a\n    return a\nTalk.message = message",
    ],
)
def test_an_assembly_that_fails_gives_no_message(reports, install, more):
    install(more=more)
    assert streamed().message() is None
    assert streamed().message() is None
    (told,) = reports
    assert " of its assembly raised " in told


def test_an_assembly_that_fails_still_leaves_the_provider_s_error(reports, install):
    install(more="def add(self, event, size): raise KeyError\nTalk.add = add")
    stream = assembled('{"talk": "t"}', '{"error": {"type": "overloaded", "message": "later"}}')
    assert stream.error is not None
    assert stream.error.type == "overloaded"


def test_an_assembly_holds_no_more_than_what_came_whatever_it_says(reports, install):
    install()
    assembly = StreamAssembly(max_bytes=1000)
    assembly.add(Frame("", b'{"talk": "t"}'))
    for _ in range(100):
        assembly.add(Frame("", b'{"say": "no end"}'))
    assert assembly.overflowed
    assert assembly.message() is None


def test_what_it_does_to_a_body_is_not_recorded(reports, install):
    install(
        more="""
        def spoil(self, path, body):
            body["question"] = "spoiled"
            return "chat"
        Parley.operation = spoil
        Parley.usage = lambda self, answer: answer.clear()
        """
    )
    question, answer = copy.deepcopy(QUESTION), copy.deepcopy(ANSWER)
    operation_of(PATH, question)
    usage_of(answer)
    assert question == QUESTION
    assert answer == ANSWER


def test_a_body_nested_beyond_reason_is_not_its_fault(reports, install):
    install()
    nested: Any = []
    for _ in range(100_000):
        nested = [nested]
    body = QUESTION | {"more": nested}
    assert operation_of(PATH, body) is None
    assert reports == []
    assert operation_of(PATH, QUESTION) == "chat"
