"""Secrets whose characters are spelled in another way."""

from __future__ import annotations

import base64
import quopri
import random
import re
import secrets
import string
from collections.abc import Callable, Iterable
from functools import partial
from urllib.parse import quote

import pytest

from otel_wirecap.capture.redaction.online import OnlineSearch
from otel_wirecap.capture.redaction.redactor import Redactor
from otel_wirecap.capture.redaction.search import SecretSearch
from otel_wirecap.capture.redaction.spans import MARKER, Span, merged

Encode = Callable[[str, random.Random], str]
RNG = random.Random(21)
LETTERS = string.ascii_letters + string.digits
NO_WIDTH = "\u200b\u200c\u200d\ufeff\u2060\u00ad\u200e\u2063"


def _some(text: str, rng: random.Random, spell: Callable[[str], str]) -> str:
    """Some of the characters spelled so, one at least."""
    sure = rng.randrange(len(text))
    return "".join(spell(one) if at == sure or rng.random() < 0.3 else one for at, one in enumerate(text))


def percent(text: str) -> str:
    return "".join(f"%{byte:02{RNG.choice('xX')}}" for byte in text.encode())


def reference(text: str) -> str:
    return "".join(RNG.choice([f"&#{ord(one)};", f"&#x{ord(one):x};", f"&#X{ord(one):04X};"]) for one in text)


def quoted(text: str) -> str:
    return "".join(f"={byte:02X}" for byte in text.encode())


def soft(text: str, rng: random.Random, *, end: str) -> str:
    at = rng.randrange(1, len(text))
    return text[:at] + "=" + end + text[at:]


def mime(text: str, rng: random.Random) -> str:
    lead = "x" * rng.randrange(45, 74)
    return quopri.encodestring(f"{lead}<{text}".encode()).decode().partition("<")[2].removeprefix("=\n")


def no_width(text: str, rng: random.Random) -> str:
    at = rng.randrange(1, len(text))
    few = "".join(rng.choices(NO_WIDTH, k=rng.randrange(1, 4)))
    return _some(text[:at], rng, lambda one: rng.choice(NO_WIDTH) + one).lstrip(NO_WIDTH) + few + text[at:]


def wrapped(text: str, rng: random.Random, *, end: str, width: int) -> str:
    before = rng.randbytes(rng.randrange(60, 200))
    encoded = base64.b64encode(before + text.encode() + rng.randbytes(rng.randrange(40))).decode()
    return end.join(encoded[at : at + width] for at in range(0, len(encoded), width))


def _pieces(value: str) -> set[str]:
    """What base64 makes of any nine bytes of a value."""
    encoded = [base64.b64encode(value.encode()[at:]).decode().rstrip("=") for at in range(3)]
    return {text[at : at + 12] for text in encoded for at in range(0, len(text) - 16, 4)}


ENCODINGS: dict[str, Encode] = {
    "percent": lambda text, _: percent(text),
    "percent, partly": lambda text, rng: _some(text, rng, percent),
    "percent, doubly": lambda text, rng: quote(_some(text, rng, percent), safe=""),
    "percent, three times": lambda text, rng: quote(quote(_some(text, rng, percent), safe=""), safe=""),
    "references": lambda text, rng: _some(text, rng, reference),
    "references within references": lambda text, rng: _some(text, rng, reference).replace("&", "&amp;"),
    "quoted-printable": lambda text, rng: _some(text, rng, quoted),
    "quoted-printable, as a library writes it": mime,
    "soft line end": partial(soft, end="\r\n"),
    "soft line end of Unix": partial(soft, end="\n"),
    "soft line end in JSON": partial(soft, end="\\r\\n"),
    "no width": no_width,
    "no width, in JSON": lambda text, rng: no_width(text, rng).encode("ascii", "backslashreplace").decode()
    .replace("\\xad", "\\u00ad"),
    "no width, percent": lambda text, rng: quote(no_width(text, rng), safe=""),
    "base64 on lines": partial(wrapped, end="\r\n", width=76),
    "base64 on lines of 64": partial(wrapped, end="\n", width=64),
    "base64 on lines in JSON": partial(wrapped, end="\\n", width=76),
}  # fmt: skip
QUOTED = {name for name in ENCODINGS if name.startswith(("quoted", "soft"))}
"""After the ``=`` of a parameter, "61" may as well be the value's."""
VALUES: dict[str, Callable[[], str]] = {
    "letters": lambda: secrets.token_hex(16),
    "reserved": lambda: secrets.token_hex(6) + "+/=&?" + secrets.token_hex(6) + "==",
    "shape": lambda: "ghp" + "_" + "".join(secrets.choice(LETTERS) for _ in range(36)),
    "hyphens": lambda: "-".join(("sk", "ant", "api03")) + "-" + secrets.token_urlsafe(66) + "-" + "aB3d5fAA",
}
BEFORE = ("its key is ", '{"key": "', "?key=", "\n", "(", "")
AFTER = (" and more", '"}', "&b=c", "\n", ")", "")


def search_for(kind: str, value: str) -> tuple[SecretSearch, Redactor]:
    redactor = Redactor(known_values=[value] if kind in ("letters", "reserved") else [])
    return redactor.search, redactor


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_secret_is_found_however_its_characters_are_spelled(encoding: str, kind: str) -> None:
    for seed in range(30):
        value, rng = VALUES[kind](), random.Random(seed)
        spelled = ENCODINGS[encoding](value, rng)
        _, redactor = search_for(kind, value)
        for before, after in zip(BEFORE, AFTER, strict=True):
            if before.endswith("=") and encoding in QUOTED:
                continue
            masked = redactor.text(before + spelled + after, {})
            left = masked.removeprefix(before).removesuffix(after)
            if encoding.startswith("base64"):
                joined = re.sub(r"[\r\n]|\\\\[rn]", "", left)
                assert [piece for piece in _pieces(value) if piece in joined] == []
                assert left != spelled
            else:
                # An ``=`` at the end of a line may be quoted-printable's.
                assert re.fullmatch(rf"{re.escape(MARKER)}(?:=|\\r|\\n|\s)*", left), (before, spelled)


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.sampled(20, rest="thorough")
def test_what_is_found_does_not_depend_on_where_a_text_is_cut(encoding: str, kind: str) -> None:
    for seed in range(3):
        value, rng = VALUES[kind](), random.Random(seed)
        place = (0, 1, 5)[seed] if encoding in QUOTED else seed
        text = (BEFORE[place] + ENCODINGS[encoding](value, rng) + (AFTER[place] or ".")).encode()
        search, _ = search_for(kind, value)
        whole = _covered(OnlineSearch(search).feed(text, (), is_end=True))
        assert whole
        for size in [*range(1, 12), *rng.sample(range(12, len(text)), 5)]:
            parts, found = OnlineSearch(search), []
            for at in range(0, len(text), size):
                found += parts.feed(text[at : at + size], (), is_end=at + size >= len(text))
            assert _covered(found) == whole


def _covered(spans: Iterable[Span]) -> list[int]:
    return [place for span in merged(list(spans)) for place in range(span.start, span.end)]
