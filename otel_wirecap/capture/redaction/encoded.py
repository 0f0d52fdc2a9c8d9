r"""Secrets with a shape within base64: what a run of it says, where it has a literal of a shape in it.

Base64 writes each three bytes as four characters, so a literal has three spellings, by the place where it begins. The
characters that the literal alone decides, four of them at most, are searched for; what follows is decoded, and the
shape's expression confirms it there.

Invariants:

- Only the characters that the secret has a part in are masked; the last of them holds four bits of others at most.
  A text with thousands of spellings that are none is an exception: see ``_MAX_FAILED``.
- The run may be in the usual alphabet or that of URLs, have line ends in it, and ``\/``, ``\n`` and ``%2B`` as JSON and
  URLs write them.
- ``open_encoded`` may name a place too early, never one too late.
- Linear: what is decoded for a place grows only as long as the secret does.
"""

import base64
import re
import string
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from otel_wirecap.capture.redaction.literals import Hit, Progress
from otel_wirecap.capture.redaction.patterns import CONFIRM, LITERALS, MAX_UNDECIDED, to_decide
from otel_wirecap.capture.redaction.spans import Span

_MAX_CORE: Final = 4
_MAX_FAILED: Final = 4000
"""Spellings in one text that turn out to be none. No text has so many but one that is made to take long: what looks
like a secret in the rest of it is taken for one unread."""
_MAX_UNIT: Final = 4
_MAX_CHARACTERS: Final = 6
"""Bytes of the data for one byte of what they say, at most: three characters as ``%2B``, and what ends their line."""
_MAX_LAST: Final = 3 * _MAX_CHARACTERS + _MAX_UNIT
"""Bytes behind a secret that may be half of what goes on with it."""
MAX_UNDECIDED_ENCODED: Final = _MAX_CHARACTERS * MAX_UNDECIDED
_FEW: Final = 512
"""Characters that are decoded first: enough to tell for most shapes."""

_URL_ALPHABET: Final = bytes.maketrans(b"-_", b"+/")
_LETTER: Final = r"[A-Za-z0-9+/_-]"
_LINE_END: Final = rf"(?<={_LETTER}{{64}})(?:\\r\\n|\\n|\r?\n)"
"""Lines of fewer characters are no parts of one text, but of lists."""
_RUN: Final = re.compile(rf"(?:{_LETTER}++|\\/|%2[BbFf]|{_LINE_END})*+".encode())
_UNIT: Final = re.compile(rb"\\/|%2[BbFf]|(?:\\[rn]|[\r\n])+")
_CUT: Final = re.compile(rf"(?:%2?|\\|(?<={_LETTER}{{64}})(?:\\r\\n|\\n|\r?\n|\\r\\?|\r))\Z".encode())
_MEANING: Final = {rb"\/": b"/", b"%2B": b"+", b"%2b": b"+", b"%2F": b"/", b"%2f": b"/"}
_LETTERS: Final = re.compile(rf"{_LETTER}*\Z".encode())
_LETTER_BYTES: Final = bytes({*string.ascii_letters.encode(), *string.digits.encode(), *b"+/_-"})
_RUN_BYTES: Final = _LETTER_BYTES + b"\\%\r\n"
_SKIPPED: Final = (0, 2, 3)
"""Characters of the first four that what stands before the literal decides too, by the place where it begins."""


class _Core(NamedTuple):
    """A spelling: what literal it is of, and how many bytes stand before that in the first three."""

    literal: int
    before: int


def _cores() -> dict[bytes, list[_Core]]:
    found: dict[bytes, list[_Core]] = {}
    for number, literal in enumerate(LITERALS):
        if not any(shape.in_base64 for shape in CONFIRM[number]) or "\\" in literal or "%" in literal:
            continue
        for before in range(3):
            whole = base64.b64encode(bytes(before) + literal.encode())
            core = whole[_SKIPPED[before] : (before + len(literal)) * 8 // 6][:_MAX_CORE]
            for spelled in {core, core.replace(b"+", b"-").replace(b"/", b"_")}:
                found.setdefault(spelled, []).append(_Core(number, before))
    return found


_CORES: Final = _cores()
SPELLED: Final = sorted(_CORES, key=lambda core: (-len(core), core))
"""What is searched for."""

_SPELLINGS: Final = [_CORES[core] for core in SPELLED]
_LEAD: Final = max(shape.lead for shapes in CONFIRM for shape in shapes if shape.in_base64) * 2
"""Characters before a literal's that may say what of the secret stands before it."""
_MAX_OPEN: Final = 4 * -(-(_LEAD // 2 + 8) // 3)
"""Characters at the end that may say a secret's beginning up to its literal."""


def find_encoded(data: bytes, hits: Iterable[Hit], progress: Progress) -> list[Span]:
    """The secrets within base64.

    Args:
        data: what is searched.
        hits: the places of ``SPELLED``, in order.
        progress: how far hits were looked at before these; is brought forward.
    """
    spans: list[Span] = []
    for start, number in hits:
        if start < progress.done:
            continue
        for core in _SPELLINGS[number]:
            span = _read(data, start, core)[0] if progress.failed < _MAX_FAILED else _unread(data, start, core)
            if span is not None and span.start >= progress.done:
                spans.append(span)
                progress.done = span.end
                break
            progress.failed += 1
    return spans


def open_encoded(data: bytes, begin: int, hits: Iterable[Hit], spans: Iterable[Span]) -> int:
    """Where a secret in base64 may begin, at ``begin`` or later, that what follows decides; else the data's length.

    ``hits`` are the places of ``SPELLED`` among the last ``MAX_UNDECIDED_ENCODED`` bytes, ``spans`` what was found.
    """
    length = len(data)
    run = max(begin, len(data.rstrip(_RUN_BYTES)))
    if run >= length:
        return length
    letters = data[: length - _cut(data)].rstrip(_LETTER_BYTES)
    place = max(len(letters), run, length - _MAX_OPEN)
    if place == run:
        return place
    for start, core in ((start, core) for start, number in hits for core in _SPELLINGS[number]):
        if start >= run and length - start < _MAX_CHARACTERS * to_decide(core.literal):
            open_from = _read(data, start, core)[1]
            if open_from is not None:
                place = min(place, max(begin, open_from))
                break
    return min([place, *(span.start for span in spans if span.start >= begin and length - span.end <= _MAX_LAST)])


def _cut(data: bytes) -> int:
    """How many bytes at the end may be the beginning of what stands for one character, or for the end of a line."""
    if data[-1] in b"\\%\n\r" or data[-2:-1] in (b"\\", b"%"):
        return next((cut for cut in range(_MAX_UNIT, 0, -1) if _CUT.match(data, len(data) - cut)), 0)
    return 0


def _unread(data: bytes, start: int, core: _Core) -> Span | None:
    """The run that a spelling begins, whatever it says."""
    run = _RUN.match(data, start)
    return Span(start, run.end(), CONFIRM[core.literal][0].rule) if run and run[0] else None


def _read(data: bytes, start: int, core: _Core) -> tuple[Span | None, int | None]:
    """The secret whose literal is spelled there; the place where it begins that what follows the data decides."""
    literal, before = LITERALS[core.literal].encode(), core.before
    first = start - _SKIPPED[before]
    if first < 0:
        return None, None
    lead = len(_LETTERS.findall(data[max(0, first - _LEAD) : first])[0]) // 4 * 4
    first -= lead
    at = lead // 4 * 3 + before
    size = _FEW
    while True:
        run = _RUN.match(data, first, first + size)
        if not run or not run[0]:
            return None, None
        text, begins, ends = _decoded(run[0], first)
        goes_on = run.end() > first + size - _MAX_UNIT
        is_cut = ends[-1] == len(data) or _CUT.match(data, ends[-1]) is not None
        if not text.startswith(literal, at):
            return None, first if is_cut and literal.startswith(text[at:]) else None
        for shape in CONFIRM[core.literal]:
            found = shape.expression.match(text, at - shape.lead) if shape.in_base64 and at >= shape.lead else None
            if found is not None:
                is_last = len(text) - found.end() < 3  # the secret's next bytes may be half there
                if goes_on and is_last:
                    break
                span = Span(begins[found.start() * 8 // 6], ends[-(-found.end() * 8 // 6) - 1], shape.rule)
                return span, span.start if is_last and is_cut else None
        else:
            decided = len(text) - at >= to_decide(core.literal)
            if decided or not goes_on:
                return None, first if is_cut and not decided else None
        size *= 4


def _decoded(run: bytes, first: int) -> tuple[bytes, Sequence[int], Sequence[int]]:
    """What a run says; where each of its characters begins and ends, if it stands at ``first``."""
    begins: Sequence[int] = range(first, first + len(run))
    ends: Sequence[int] = range(first + 1, first + 1 + len(run))
    if run.strip(_LETTER_BYTES):
        plain: list[bytes] = []
        begins, ends, done = [], [], 0
        for unit in _UNIT.finditer(run + b"\n"):
            begin, end = unit.span()
            plain += (run[done:begin], meaning := _MEANING.get(unit[0], b""))
            begins += [*range(first + done, first + begin), first + begin][: len(plain[-2]) + len(meaning)]
            ends += [*range(first + done + 1, first + begin + 1), first + end][: len(plain[-2]) + len(meaning)]
            done = end
        run = b"".join(plain)
    run = run.translate(_URL_ALPHABET)
    run = run[: len(run) - (len(run) % 4 == 1)]
    return base64.b64decode(run + b"A" * (-len(run) % 4))[: len(run) * 6 // 8], begins, ends
