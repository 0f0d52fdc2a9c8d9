"""Captures that an earlier version wrote are answered about as that version did: see ``make_pinned_capture``."""

from __future__ import annotations

import copy
import json
import lzma
import math
import re
from pathlib import Path
from typing import Any

import pytest
from pinned_answers import ANSWERS, COMMANDS, Answer, answer_of

PINNED_ANSWERS = [Answer(**json.loads(line)) for line in lzma.decompress(ANSWERS.read_bytes()).splitlines()]


def differences(before: Any, now: Any, place: str = "") -> list[str]:
    """Where an answer is another one. An object may have got members, and none may be gone."""
    if isinstance(before, dict) and isinstance(now, dict):
        gone = [f"{place}.{name} is gone" for name in before.keys() - now.keys()]
        inner = [differences(before[name], now[name], f"{place}.{name}") for name in before.keys() & now.keys()]
        return [*gone, *(one for found in inner for one in found)]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        inner = [differences(*pair, f"{place}[{number}]") for number, pair in enumerate(zip(before, now, strict=True))]
        return [one for found in inner for one in found]
    if isinstance(before, float) and isinstance(now, float) and math.isclose(before, now, rel_tol=1e-9):
        return []  # a sum depends on the order in which it was added up
    if isinstance(before, str) and isinstance(now, str):
        # Which price is the latest in force depends on the day of the test.
        before, now = (re.sub(r"(genai-prices .*), latest price of [\d-]+", r"\1", text) for text in (before, now))
    return [] if before == now and type(before) is type(now) else [f"{place}: {before!r} became {now!r}"]


def test_the_answers_are_those_to_the_commands():
    assert [answer.command for answer in PINNED_ANSWERS] == COMMANDS


@pytest.mark.parametrize("pinned", PINNED_ANSWERS, ids=lambda answer: " ".join(answer.command)[:70])
def test_an_earlier_capture_is_answered_about_as_it_was(pinned: Answer, tmp_path: Path):
    answer = answer_of(pinned.command, tmp_path)
    assert answer.code == pinned.code
    assert differences(pinned.lines, answer.lines) == []


def test_a_difference_is_found():
    before = next(answer for answer in PINNED_ANSWERS if answer.command[0] == "stats").lines
    assert differences(before, before) == []
    for change in ("gone", "other", "new"):
        now = copy.deepcopy(before)
        if change == "gone":
            del now[0]["duration_ms"]["p50"]
        elif change == "other":
            now[0]["duration_ms"]["p50"] += 1
        else:
            now[0]["duration_ms"]["p51"] = 1
        assert len(differences(before, now)) == (change != "new"), change
    assert differences(before, []) != []
