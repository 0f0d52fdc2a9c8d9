"""Every detector and every part of the streaming algorithm is needed: with one switched off, a secret gets out.

So the tests of recall notice when one of them breaks.
"""

from __future__ import annotations

import json
import random
import re
import secrets
from collections.abc import Callable, Iterator

import pytest
from provider_keys import KINDS
from recall import Recorded, leak
from secrets_corpus import STREAMS, Case, cases, known_values, shaped

from otel_wirecap.capture.redaction import documents, escapes, known, online, patterns, redactor, rules, search, stream
from otel_wirecap.capture.redaction.redactor import Redactor
from otel_wirecap.capture.redaction.rules import Rules
from otel_wirecap.capture.redaction.search import SecretSearch
from otel_wirecap.capture.redaction.spans import Span
from otel_wirecap.frames.framing import TextLexer

pytestmark = pytest.mark.thorough

Patch = pytest.MonkeyPatch
Mutation = Callable[[Patch], None]
SEED = 20260102
MAX_CASES = 400


def nothing(*_arguments: object, **_settings: object) -> list[object]:
    return []


def at_the_end(data: bytes, *_arguments: object) -> int:
    """Nothing is open."""
    return len(data)


def off(module: object, name: str, value: object) -> Mutation:
    return lambda patch: patch.setattr(module, name, value)


def is_stream(case: Case) -> bool:
    return case.carrier in STREAMS


def corpus(fits: Callable[[Case], bool]) -> Iterator[Case]:
    rng = random.Random(SEED)
    count = 0
    for case in cases(rng, known_values(rng, 3), 40, decoded_views=True):
        if fits(case):
            yield case
            count += 1
            if count == MAX_CASES:
                return


def gets_out(fits: Callable[[Case], bool]) -> bool:
    """Whether something of a secret of such a case is written."""
    recorded = Recorded({secret.value for secret in known_values(random.Random(SEED), 3)})
    return any(leak(case, recorded.lines(case)) is not None for case in corpus(fits))


DETECTORS: dict[str, tuple[Mutation, Callable[[Case], bool]]] = {
    "known values": (
        off(known.KnownValues, "spans", nothing), lambda case: case.cell[:3] == ("known", "text", "plain")
    ),
    "their spellings": (
        off(known, "spellings", lambda value: (value.encode("utf-8", "surrogateescape"),)),
        lambda case: case.cell[:3] == ("known", "text", "percent"),
    ),
    "their encodings": (off(known, "encodings", lambda _value: ()), lambda case: case.encoding == "hex"),
    "shapes": (
        off(search, "find_secrets", lambda data, *_: ([], False, len(data))),
        lambda case: case.cell[:2] == ("shape", "text"),
    ),
    "shapes in base64": (
        off(search, "find_encoded", nothing),
        lambda case: case.encoding.startswith("base64 text") and not is_stream(case),
    ),
}  # fmt: skip

STREAMING: dict[str, tuple[Mutation, Callable[[Case], bool]]] = {
    "what shapes leave open": (off(search, "open_place", at_the_end), lambda case: case.secret.detector == "shape"),
    "what base64 leaves open": (
        off(search, "open_encoded", at_the_end), lambda case: case.encoding.startswith("base64 text")
    ),
    "what known values leave open": (
        off(known.KnownValues, "open_place", lambda _self, _data, _begin, place: place),
        lambda case: case.secret.detector == "known",
    ),
    "the context of the undecided": (off(online, "CONTEXT", 0), lambda case: case.secret.detector == "shape"),
    "the channels of texts": (
        off(stream, "_collect", lambda *_a, **_k: None), lambda case: case.chunking == "per event"
    ),
    "the indexes that tell channels apart": (
        off(stream, "INDEXES", frozenset()), lambda case: case.carrier in ("sse openai chat", "sse anthropic")
    ),
    "frames": (
        off(stream.StreamRedactor, "_end_frames", lambda _self, limit: limit),
        lambda case: case.carrier == "aws bedrock",
    ),
    "AWS event streams": (
        off(documents, "lexer_of", lambda _type, _data, most, **_: TextLexer(most)),
        lambda case: case.carrier == "aws bedrock",
    ),
    "events on several lines": (
        off(documents, "_of_lines", lambda _frame: iter(())),
        lambda case: case.carrier == "sse several lines",
    ),
    "the wait for later events": (off(stream, "MAX_EVENTS", 0), lambda case: True),
}  # fmt: skip


@pytest.mark.parametrize("name", DETECTORS)
def test_without_a_detector_something_gets_out(name: str, monkeypatch: Patch) -> None:
    mutation, fits = DETECTORS[name]
    mutation(monkeypatch)
    assert gets_out(fits)


@pytest.mark.parametrize("name", STREAMING)
def test_without_a_part_of_the_streaming_something_gets_out_or_the_capture_of_it_fails(
    name: str, monkeypatch: Patch
) -> None:
    mutation, fits = STREAMING[name]
    mutation(monkeypatch)
    assert gets_out(lambda case: is_stream(case) and fits(case))


@pytest.mark.parametrize("rule", sorted({shape.rule for shapes in patterns.CONFIRM for shape in shapes}))
def test_without_a_shape_its_secrets_are_not_found_under_its_name(rule: str, monkeypatch: Patch) -> None:
    def found() -> int:
        rng, counts = random.Random(SEED), {}
        for _ in range(3):
            for kind in KINDS:
                Redactor().text(f"a {shaped(rng, kind).value} b", counts)
        return counts.get(rule, 0)

    assert found()
    left = tuple(tuple(shape for shape in shapes if shape.rule != rule) for shapes in patterns.CONFIRM)
    monkeypatch.setattr(patterns, "CONFIRM", left)
    assert not found()


def value() -> str:
    return secrets.token_hex(12)


def all_decided(self: stream.StreamRedactor, end: int, _credentials: object, **_: object) -> None:
    self._search.skip(self._data[:end])


def streamed(content_type: str, text: str) -> str:
    gate = stream.StreamRedactor(Redactor(), content_type)
    parts = [text[at : at + 9].encode() for at in range(0, len(text), 9)]
    return b"".join([*gate.feed(parts).pieces, *gate.close().pieces]).decode()


def beside_the_text(member: str) -> Callable[[str], str]:
    """What is left of events that have a secret in another member, after many that have none."""

    def left(text: str) -> str:
        gate = stream.StreamRedactor(Redactor(), "text/event-stream")
        told: list[bytes] = []
        for secret in ("none", f"ghp_{text}{text}"):
            event = {"type": "delta", "event_id": "e", "obfuscation": "x", "delta": {"text": " word"}}
            data = json.dumps({**event, member: secret})
            told += gate.feed([f"data: {data}\n\n".encode()] * 20).pieces
        return b"".join([*told, *gate.close().pieces]).decode()

    return left


def private_key(text: str) -> str:
    """What is left of a key whose lines come one by one."""
    lines = [
        "-----BEGIN PRIVATE KEY-----\n",
        f"{text}{text}\n",
        f"{text[::-1]}{text}\n",
        "-----END PRIVATE KEY-----\n",
    ]
    gate = stream.StreamRedactor(Redactor(), "text/plain")
    told = [piece for line in lines for piece in gate.feed([line.encode()]).pieces]
    return b"".join([*told, *gate.close().pieces]).decode()


def learned(text: str) -> str:
    gate = Redactor()
    gate.search.learn([text])
    return gate.text(f"it is {text}.", {})


def in_parts(text: str, secret: str, *, known: str = "") -> str:
    """What is left of a text that comes in parts."""
    said = (text % secret).encode()
    online_search = online.OnlineSearch(Redactor(known_values=[known] if known else []).search)
    spans: list[Span] = []
    size = 1000 if len(said) > 1000 else 20
    for at in range(0, len(said), size):
        spans += online_search.feed(said[at : at + size], ())
    spans += online_search.feed(b"", (), is_end=True)
    kept = bytearray(said)
    for span in reversed(spans):
        del kept[span.start : span.end]
    return kept.decode()


def without_user_information(patch: Patch) -> None:
    """Neither URLs that are known to be some nor those in texts."""
    patch.setattr(redactor, "_URL", re.compile(r"(?P<scheme>(?!))?(?P<rest>.*)", re.DOTALL))
    patch.setattr(search, "find_fields", lambda data, *_: ([], len(data)))


NAMED: dict[str, tuple[Mutation, Callable[[str], str]]] = {
    "headers": (
        off(redactor, "header_rule", lambda _name: None),
        lambda text: str(Redactor().headers([("x-api-key", text)], {})),
    ),
    "parameters": (
        off(redactor, "parameter_is_secret", lambda _name: False), lambda text: Redactor().url(f"/?pw={text}", {})
    ),
    "user information": (
        without_user_information,
        lambda text: Redactor().url(f"https://{text}@host/", {}),
    ),
    "JSON fields": (
        off(search, "find_fields", lambda data, *_: ([], len(data))),
        lambda text: Redactor().json(json.dumps({"password": text}).encode(), {}).decode(),
    ),
    "fields of forms": (
        off(redactor, "parameter_is_secret", lambda _name: False), lambda text: Redactor().form(f"pw={text}", {})
    ),
    "parts of forms": (
        off(redactor, "parameter_is_secret", lambda _name: False),
        lambda text: Redactor().multipart(
            b'--x\r\nContent-Disposition: form-data; name="password"\r\n\r\n' + text.encode() + b"\r\n--x--", {}
        ).decode(),
    ),
    "credentials of other requests": (off(SecretSearch, "learn", nothing), learned),
    "the request's own": (
        off(SecretSearch, "_find_own", lambda _self, own: search._Own(own, None, with_reserved=False, non_ascii=False)),
        lambda text: Redactor().text(f"it is {text}.", {}, (text,)),
    ),
    "the user's fields": (
        off(rules.FieldSearch, "spans", nothing),
        lambda text: Redactor(rules=Rules(fields=frozenset({"note"})))
        .json(json.dumps({"note": text}).encode(), {})
        .decode(),
    ),
    "the user's patterns": (
        off(SecretSearch, "_by_rules", lambda _self, _data, spans: spans),
        lambda text: Redactor(
            rules=Rules(patterns=(rules.Pattern("mine", re.compile(rb"[0-9a-f]{24}"), frozenset({"bodies"})),))
        ).text(f"it is {text}.", {}),
    ),
    "escapes of JSON": (
        off(patterns, "_ESCAPED_ASCII", re.compile(rb"(?!)")),
        lambda text: Redactor().json(b'{"text": "\\u0073k-%sAb"}' % text.encode(), {}).decode(),
    ),
    "escapes in known values": (
        off(SecretSearch, "_is_spelled", lambda *_, **__: False),
        lambda text: Redactor(known_values=["\N{KEY}" * 9 + text]).text(
            "\\ud83d\\udd11" + "\N{KEY}" * 8 + text, {}
        ),
    ),
    "reading escapes": (
        off(search, "Reading", lambda data, _way: escapes.Reading(data.replace(b"\\", b"/"), escapes.Way.ESCAPED)),
        lambda text: Redactor().text(f"\\\\u0073k-{text}Ab", {}),
    ),
    "cut escapes": (
        off(search, "cut_escape", lambda *_: None),
        lambda text: in_parts("its name is now %s.", f"\\u0073k-{text}Ab"),
    ),
    "the search of a stream's bytes": (
        off(stream.StreamRedactor, "_search_bytes", all_decided),
        lambda text: streamed("text/plain", f"a ghp_{text * 2} b"),
    ),
    "the search of what many events have in common": (
        off(stream.StreamRedactor, "_is_harmless", lambda *_: True), beside_the_text("event_id")
    ),
    "the search of what differs from event to event": (
        off(stream.StreamRedactor, "_is_harmless", lambda *_: True), beside_the_text("obfuscation")
    ),
    "whether a token goes on": (off(search, "is_open", lambda *_: False), private_key),
    "the rest of what is long": (
        off(online, "_REST", re.compile(rb"(?!)|")), lambda text: in_parts("sk-" + "A1" * online.MAX_OPEN + "%s", text)
    ),
    "the beginning of a value at the end": (
        off(known, "MIN_BEGINNING", 1 << 20), lambda text: in_parts("%s", text[:-1], known=text)
    ),
}  # fmt: skip


def pieces(text: str) -> list[str]:
    return [text[at : at + 8] for at in range(len(text) - 8)]


@pytest.mark.parametrize("name", NAMED)
def test_without_it_a_value_without_a_shape_gets_out(name: str, monkeypatch: Patch) -> None:
    mutation, redacted = NAMED[name]
    text = value()
    assert not any(piece in redacted(text) for piece in pieces(text))
    mutation(monkeypatch)
    assert any(piece in redacted(text) for piece in pieces(text))


def test_without_what_fields_leave_open_a_cut_changes_what_comes_out(monkeypatch: Patch) -> None:
    text = '{"password": "A1b!%s"}'  # the first 20 bytes end where no field is to be seen yet
    whole = in_parts('{"password": "%s"}', value())
    assert in_parts(text.replace('"A', '  "A'), value()) == whole.replace('"password": ', '"password":   ')
    found = search.find_fields
    monkeypatch.setattr(search, "find_fields", lambda data, *hits: (found(data, *hits)[0], len(data)))
    assert in_parts(text.replace('"A', '  "A'), value()) != whole.replace('"password": ', '"password":   ')
