"""Every provider's key is known as it is issued, wherever it stands, and what only looks like one is left alone."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from harmless_corpus import LOOK_ALIKES
from provider_keys import FORMS, ONLY_AS_A_WORD, Form

from otel_wirecap.capture.redaction import patterns
from otel_wirecap.capture.redaction.literals import Progress, SmallSearch
from otel_wirecap.capture.redaction.patterns import CONFIRM, LITERALS
from otel_wirecap.capture.redaction.redactor import Redactor
from otel_wirecap.capture.redaction.spans import MARKER, Span

LENGTHS = (0, 1, 2)
AROUND = ("{}", "key={} and more", '"{}"', "\\n{}\\n", "%3D{}&", "日本語{}。", "({})", "<{}>", "https://a.b/?k={}&x=y")
NEIGHBOURS = (
    "\x1b[32m", "\x1b[1;31m", "\x1b[38;5;12m", "\x1b[K", "^[[32m", r"\033[32m", r"\e[0m", r"\x1b[32m", r"\u001b[32m",
    r"\n", r"\t", r"\u0022", r"\x22", r"\042", "=3D", "%22", "%3d",
)  # fmt: skip
"""What stands right before a key in the output of programs, in source, mail and URLs."""

forms = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.kind)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """The same in every run of a test: none depends on luck."""
    return random.Random(request.node.name)


def told(text: str) -> tuple[str, dict[str, int]]:
    counts: dict[str, int] = {}
    return Redactor().text(text, counts), counts


@forms
@pytest.mark.sampled(20, rest="thorough")
def test_a_key_as_it_is_issued_is_masked_whole_wherever_it_stands(form: Form, rng: random.Random) -> None:
    for length in LENGTHS:
        for around in AROUND:
            before, after = around.split("{}")
            text = before + form.make(rng, length) + after
            assert told(text) == (before + MARKER + after, {form.rule: 1})


@forms
@pytest.mark.sampled(20, rest="thorough")
def test_what_ends_an_escape_is_no_word_that_runs_on_into_a_key(form: Form, rng: random.Random) -> None:
    for neighbour in NEIGHBOURS:
        key = form.make(rng)
        clean, counts = told(f"a {neighbour}{key} b")
        assert counts == {form.rule: 1}
        assert clean.endswith(f"{MARKER} b")
        assert not any(key[place : place + 8] in clean for place in range(len(key) - 8))


@forms
@pytest.mark.sampled(20, rest="thorough")
def test_a_key_right_after_an_escape_of_json_leaves_that_whole(form: Form, rng: random.Random) -> None:
    for escape in (r"\u662f", r"\u0041", r"\u1234", r"\uabcd", r"\ude42"):
        assert told(f'{{"a": "{escape}{form.make(rng)} b"}}')[0] == f'{{"a": "{escape}{MARKER} b"}}'


@forms
@pytest.mark.sampled(20, rest="thorough")
def test_a_key_that_no_word_ends_like_is_found_within_one(form: Form, rng: random.Random) -> None:
    for word in ("x", "desk", "Zz"):
        text = f"a {word}{form.make(rng)} b"
        if form.kind in ONLY_AS_A_WORD:
            assert form.rule not in told(text)[1]
        else:
            assert told(text)[1] == {form.rule: 1}


def test_a_key_is_found_where_another_ones_beginning_runs_into_its_own(rng: random.Random) -> None:
    count = 0
    for form in FORMS:
        key = form.make(rng)
        for literal in LITERALS:
            for place in range(1, len(literal)):
                if form.kind not in ONLY_AS_A_WORD and key.startswith(literal[place:]):
                    assert MARKER in told(f"a {literal[:place]}{key} b")[0]
                    count += 1
    assert count


@pytest.mark.parametrize("form", [form for form in FORMS if form.least], ids=lambda form: form.kind)
@pytest.mark.sampled(20, rest="thorough")
def test_of_one_that_is_cut_off_so_much_is_a_key_and_less_is_none(form: Form, rng: random.Random) -> None:
    for _ in range(10):
        assert told(f"a {form.cut(rng, form.least)} b") == (f"a {MARKER} b", {form.rule: 1})
        assert form.rule not in told(f"a {form.cut(rng, form.least - 1)} b")[1]


@pytest.mark.parametrize("form", [form for form in FORMS if form.inside], ids=lambda form: form.kind)
@pytest.mark.sampled(20, rest="thorough")
def test_within_a_word_it_takes_more_of_a_key_to_be_one(form: Form, rng: random.Random) -> None:
    for _ in range(10):
        assert told(f"a x{form.cut(rng, form.inside)} b")[1] == {form.rule: 1}
        assert told(f"a x{form.cut(rng, form.inside - 1)} b")[1] == {}


@pytest.mark.parametrize("text", LOOK_ALIKES)
def test_words_are_no_keys(text: str) -> None:
    for around in ("{}", "see {}, please", '{{"name": "{}"}}', "x{}y", "`{}`"):
        whole = around.format(text)
        assert told(whole) == (whole, {})


def samples(rule: str, rng: random.Random) -> Iterator[bytes]:
    """Keys of a rule, whole and cut, by themselves and in a word: of each beginning enough to find all differences."""
    for form in FORMS:
        if form.rule == rule:
            for each in form.alternatives():
                keys = [each.make(rng, length) for length in LENGTHS * 8]
                for least in filter(None, (form.least, form.inside)):
                    keys += [each.cut(rng, least - less) for less in (0, 1) for _ in range(20)]
                for key in keys:
                    yield from (f"a {key} b".encode(), f"x{key} b".encode())


SEARCH = SmallSearch([literal.encode() for literal in LITERALS])


def found(texts: list[bytes]) -> list[list[Span]]:
    return [patterns.find_secrets(text, (SEARCH.hits(text) or [[]])[0], Progress(0)) for text in texts]


ROW = re.compile(r"^\| `([^`]+)` \| [^|]+ \| (.+) \|$", re.MULTILINE)


def test_the_documentation_lists_the_keys_of_the_corpus() -> None:
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    section = page.partition("### Keys with a shape")[2].partition("\n## ")[0].replace("\\|", "|")
    listed = {rule: set(re.findall("`([^`]+)`", stems)) for rule, stems in ROW.findall(section)}
    known: dict[str, set[str]] = {"pem": {"-----BEGIN … PRIVATE KEY-----"}}
    for form in FORMS:
        known.setdefault(form.rule, set()).update(form.stem.strip("{}").split("|"))
    assert listed == known


@forms
@pytest.mark.sampled(20, rest="thorough")
def test_a_key_begins_with_what_it_is_known_by(form: Form, rng: random.Random) -> None:
    for _ in range(10):
        key = form.make(rng)
        spellings = (key, unquote(key), unquote("%" + key), key.replace(r"\/", "/"))
        assert any(stem in spelling for stem in form.stem.strip("{}").split("|") for spelling in spellings)


LAST_LEAST = re.compile(rb"\{(\d+),\}")
SHAPES = [
    pytest.param(literal, place, id=f"{shape.rule} {LITERALS[literal]}")
    for literal, shapes in enumerate(CONFIRM)
    for place, shape in enumerate(shapes)
    if shape.rule != "pem"  # test_redaction_mutations.py
]


@pytest.mark.parametrize(("literal", "place"), SHAPES)
@pytest.mark.sampled(20, rest="thorough")
def test_of_no_shape_anything_can_be_taken_away(
    literal: int, place: int, rng: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a shape, or with one that asks for a character less, other things are found in the corpus."""
    shape = CONFIRM[literal][place]
    texts = list(samples(shape.rule, rng))
    as_it_is = found(texts)

    def changed(*others: patterns.Confirmation) -> bool:
        shapes = [*CONFIRM[literal][:place], *others, *CONFIRM[literal][place + 1 :]]
        monkeypatch.setattr(patterns, "CONFIRM", (*CONFIRM[:literal], shapes, *CONFIRM[literal + 1 :]))
        return found(texts) != as_it_is

    assert changed()
    last = [*LAST_LEAST.finditer(shape.pattern)][-1:]
    for least in last:
        less = b"{%d,}" % (int(least[1]) - 1)
        shorter = shape.pattern[: least.start()] + less + shape.pattern[least.end() :]
        assert changed(dataclasses.replace(shape, pattern=shorter))
