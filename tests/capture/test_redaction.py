"""No secret passes, and nothing else is changed."""

import base64
import json
import random
import re
import secrets
import string
from bisect import bisect_left
from urllib.parse import quote, quote_plus, urlencode

import orjson
import pytest
from growth import assert_linear
from hypothesis import assume, example, given, settings, strategies as st
from provider_keys import KINDS
from secrets_corpus import strange_json
from selection import examples

from otel_wirecap.capture.body import BodyCollector, record_body
from otel_wirecap.capture.credentials import credentials
from otel_wirecap.capture.redaction import patterns
from otel_wirecap.capture.redaction.encoded import SPELLED
from otel_wirecap.capture.redaction.escapes import Reading, Way
from otel_wirecap.capture.redaction.fields import NAME_PARTS
from otel_wirecap.capture.redaction.gate import Gate
from otel_wirecap.capture.redaction.known import KnownValues, spellings
from otel_wirecap.capture.redaction.literals import (
    MAX_LITERALS,
    WINDOW,
    AnyLiteral,
    LiteralSearch,
    SmallSearch,
    tables,
    windows,
)
from otel_wirecap.capture.redaction.redactor import Redactor
from otel_wirecap.capture.redaction.spans import MARKER
from otel_wirecap.capture.secret_names import PARTS_OF_SECRET_NAMES, header_rule, parameter_is_secret

ALNUM = string.ascii_letters + string.digits


def run(length: int, alphabet: str = ALNUM) -> str:
    """Random characters that hold a digit and a capital, as tokens do."""
    return "".join(secrets.choice(alphabet) for _ in range(length - 2)) + "7A"


def digits(length: int) -> str:
    return secrets.token_hex(length)[:length]


def pem(newline: str = "\n") -> str:
    lines = [base64.b64encode(secrets.token_bytes(48)).decode() for _ in range(6)]
    return newline.join(["-----BEGIN RSA " + "PRIVATE KEY-----", *lines, "-----END RSA " + "PRIVATE KEY-----"])


EXAMPLES = list(KINDS)

HARMLESS = [
    '<div class="sk-toggleable__label sk-toggleable__label-arrow sk-estimator-doc-link">',
    "use the task-management-system-2025-edition and a disk-encryption-utility-v2-final",
    "4f9c2b1e-7a3d-4c58-9b0e-1f2d3c4b5a69 is a UUID",
    "commit 9fceb02d0ae598e95dc970b74767f19372d61af8",
    'usage: {"prompt_tokens": 12, "max_tokens": 4096, "token": " Hello"}',
    "session timed out for the author; see the cookie recipe, the secret sauce and the password policy",
    "hf_hub_download(repo_id) and fw_version_string_of_the_firmware_in_question",
    "sk-your-api-key-goes-right-here-please",
    "AKIA is a prefix, sk- too, and -----BEGIN CERTIFICATE-----",
    "eyJhbGciOiJIUzI1NiJ9 alone is no token",
    "data:image/png;base64," + base64.b64encode(bytes(range(256)) * 40).decode(),
]


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_texts_come_back_as_they_are(text):
    counts: dict[str, int] = {}
    assert Redactor().text(text, counts) is text
    assert counts == {}


def test_a_shape_within_a_word_is_not_a_secret():
    text = "x" + "fw_" + run(34)
    assert Redactor().text(text, {}) is text


def test_longer_tokens_than_today_are_swallowed_whole():
    assert Redactor().text("ghp_" + run(5000) + " end", {}) == f"{MARKER} end"


def test_a_private_key_without_its_end_and_with_escaped_newlines_is_masked():
    whole = pem("\\n")
    assert Redactor().text(f'"{whole}"', {}) == f'"{MARKER}"'
    assert Redactor().text(f'"{whole[:200]}"', {}) == f'"{MARKER}"'
    assert Redactor().text(f"{pem()}\nThis is the key - keep it.", {}) == f"{MARKER}\nThis is the key - keep it."


LITERALS = [*(literal.encode() for literal in patterns.LITERALS), *NAME_PARTS, *SPELLED]


def test_the_tables_keep_their_invariants():
    made = list(tables(set(LITERALS)))
    assert set(LITERALS) <= {literal for table in made for literal in table}
    for table in made:
        assert min(map(len, table)) >= 3
        assert len(table) <= MAX_LITERALS


def test_every_place_of_every_literal_is_found():
    """Also within others and over windows' ends; in a small text and in a large one."""
    kinds = [LITERALS, LITERALS[::7], NAME_PARTS]
    rng = random.Random(5)
    parts = [literal[: rng.randrange(1, 9)] + filler for literal in LITERALS for filler in (b"", b"e", literal)]
    small = b"".join(rng.sample(parts, 400))[:4000]
    edge = b"x" * (WINDOW - len(small) // 2) + small
    large = edge + b"x" * WINDOW
    search = LiteralSearch(*kinds)
    for text, found in (
        (small, [SmallSearch(*kinds).hits(small)]),
        (small, [search.hits(small, small, 0)]),
        (large, [search.hits(large, *window) for window in windows(large)]),
    ):
        for kind, literals in enumerate(kinds):
            expected = {
                (place.start(), number)
                for number, literal in enumerate(literals)
                for place in re.finditer(b"(?=%s)" % re.escape(literal), text)
            }
            hits = [hit for part in found if part for hit in part[kind]]
            assert hits == sorted(hits)
            assert set(hits) == expected


def test_one_of_many_literals_is_found_wherever_it_begins():
    values = [secrets.token_bytes(8) for _ in range(3 * MAX_LITERALS)]
    search = AnyLiteral(values)
    for place in (0, WINDOW - 5, WINDOW, 2 * WINDOW - 1):
        text = bytes(place) + values[place % len(values)]
        assert any(search.is_in(part) for part, _ in windows(text))
        assert not any(search.is_in(part) for part, _ in windows(text[:-1]))


PARTS_OF_ESCAPES = ["x", "\\n", '\\"', "\\\\", "\\u00e9", "\\ud83d\\ude00", "\\u0041", "\\ud800", "\\", "u", "\N{KEY}"]


@given(st.lists(st.sampled_from(PARTS_OF_ESCAPES), max_size=200))
@settings(max_examples=examples(100))
def test_places_in_a_text_whose_escapes_are_read_are_those_in_the_text(parts):
    data = "".join(parts).encode()
    expected, begins, done = b"", [], 0
    while done < len(data):
        whole = next((part for part in PARTS_OF_ESCAPES[1:7] if data.startswith(part.encode(), done)), chr(data[done]))
        said = json.loads(f'"{whole}"').encode() if len(whole) > 1 else data[done : done + 1]
        expected += said
        begins += [done] * len(said)
        done += len(whole)
    begins.append(done)
    reading = Reading(data, Way.ESCAPED)
    assert reading.data == expected
    assert [reading.place(place) for place in range(len(begins))] == begins
    assert [reading.at(place) for place in range(done + 1)] == [bisect_left(begins, place) for place in range(done + 1)]


ADVERSARIAL = [
    "sk-",
    "-sk-",
    "-sk-ant-",
    "-eyJ",
    "-eyJaaaaaaaaaaaa.",
    "-----BEGIN ",
    "-----BEGIN RSA PRIVATE KEY",
    "-" + "-----BEGIN " + "PRIVATE KEY-----",
    "-AKIA",
    "JQQJ99",
    "A" * 60 + "JQQJ99",
    "_fw_",
    "-ya29.",
    "-",
    "a",
    '\\"',
    "\\n",
    'key":"',
    '"api_key":"',
    'key\\":\\"',
    "key" + "\\" * 40,
    'key": ',
]


@pytest.mark.parametrize("piece", ADVERSARIAL)
@pytest.mark.sampled(4, rest="thorough")
def test_time_grows_with_the_length_and_not_with_its_square(piece):
    gate = Gate(known_values=["a" * 8, "-" * 9 + "x"])
    assert_linear(
        lambda size: gate.body((piece * (size // len(piece) + 1))[:size], "text/plain", ["a" * 9], is_json=False),
        40_000,
    )


# --- known values and credentials ---


def test_known_values_are_masked_and_short_ones_are_not():
    value = secrets.token_hex(16)
    redactor, counts = Redactor(known_values=[value, "abc", f"  {value}\n"]), {}
    assert redactor.text(f"abc {value}{value}", counts) == f"abc {MARKER}{MARKER}"
    assert counts == {"known": 2}


def test_known_values_can_be_replaced_and_the_old_ones_stay_masked():
    old, new = secrets.token_hex(16), secrets.token_hex(16)
    redactor = Redactor(known_values=[old])
    built = redactor.search._known
    redactor.search.replace_known_values([old, "short"])
    assert redactor.search._known is built
    redactor.search.replace_known_values([new])
    assert redactor.text(f"{old} {new}", {}) == f"{MARKER} {MARKER}"


def test_credentials_that_were_seen_are_masked_everywhere_and_words_are_not():
    value, counts = secrets.token_hex(16), {}
    redactor = Redactor()
    redactor.search.learn([value, "lm-studio", "required"])
    assert redactor.text(f"{value} in lm-studio is required", counts) == f"{MARKER} in lm-studio is required"
    assert redactor.json(b"[1234567890]", {}) == b"[1234567890]"
    assert counts == {"credential": 1}
    redactor.search.learn(["1234567890"])
    assert redactor.json(b"[1234567890]", counts) == b'["[REDACTED]"]'


@pytest.mark.thorough
def test_the_credentials_that_were_seen_first_are_forgotten_when_there_are_too_many():
    redactor = Redactor()
    values = [secrets.token_hex(16) for _ in range(6 * MAX_LITERALS)]
    for value in values:
        redactor.search.learn([value])
    assert len(redactor.search._seen._batches) == 4
    for value in values[-20:]:
        assert redactor.text(value, {}) == MARKER
    assert redactor.text(values[0], {}) == values[0]
    assert redactor.text(values[0], {}, [values[0]]) == MARKER
    redactor.search.learn([values[0]])
    assert redactor.text(values[0], {}) == MARKER


@pytest.mark.parametrize("start", ["ABSK", "1//0", "bedrock-api-key-"])
def test_slashes_with_an_escape_hide_no_shape(start):
    secret = start + "/".join(run(20) for _ in range(1 if start == "1//0" else 6)) + run(20)
    raw = json.dumps([f"a {secret} b"]).replace("/", "\\/").encode()
    assert Redactor().json(raw, {}) == b'["a [REDACTED] b"]'


def test_what_some_serialisers_escape_hides_no_known_value_and_costs_harmless_text_nothing():
    value = "a&b<c>" + secrets.token_hex(8)
    raw = json.dumps([value, "x < y"])
    for letter in "&<>":
        raw = raw.replace(letter, f"\\u{ord(letter):04x}")
    assert Redactor(known_values=[value]).json(raw.encode(), {}) == b'["[REDACTED]", "x \\u003c y"]'
    clean = raw.encode()
    assert Redactor().json(clean, {}) is clean


def test_many_known_values_are_all_found():
    values = [secrets.token_hex(8) for _ in range(3 * MAX_LITERALS)]
    assert Redactor(known_values=values).text(" ".join(values), {}) == " ".join([MARKER] * len(values))


@pytest.mark.parametrize("piece", ["Credential=", "ab", "%2F+", "\u00fc/", "-"])
def test_a_value_may_be_as_long_and_repeat_itself_as_it_likes(piece):
    value = piece * (16_000 // len(piece))
    # What is searched for stays short: an automaton takes time with the square of what repeats itself.
    assert max(map(len, KnownValues("known", [value]).clues)) <= 64
    redactor = Redactor()
    assert redactor.text(f"is {value}, yes", {}, (value,)) == "is [REDACTED], yes"
    assert redactor.json(json.dumps({"a": value}).encode(), {}, (value,)) == b'{"a": "[REDACTED]"}'


def test_known_values_that_overlap_leave_nothing():
    first, second = "abcdefgh12", "gh12345678"
    counts: dict[str, int] = {}
    redactor = Redactor(known_values=[first, second, "h123"])
    assert redactor.text("_abcdefgh12345678_", counts) == f"_{MARKER}_"
    assert counts == {"known": 1}
    assert Redactor(known_values=["abcabcab"]).text("abcabcabcabcab!", {}) == f"{MARKER}!"


def test_a_known_value_within_a_longer_token_does_not_leave_the_tokens_ends():
    middle = secrets.token_hex(8)
    assert Redactor(known_values=[middle]).text(f"sk-A{middle}{middle[::-1]}", {}) == MARKER


@pytest.mark.parametrize(
    "value",
    ['pa"ss\\wo/rd é', "a+b/c==&d e%", "line one\nline two", "日本語の秘密の言葉", "tab\tbell\x07esc\x1b~"],
)
def test_the_spellings_of_a_known_value_are_found(value):
    redactor = Redactor(known_values=[value])
    forms = [
        value,
        json.dumps(value),
        json.dumps(value, ensure_ascii=False),
        orjson.dumps(value).decode(),
        json.dumps(value).replace("/", "\\/"),
        json.dumps(json.dumps(value, ensure_ascii=False), ensure_ascii=False),
        quote(value),
        quote(value, safe=""),
        quote_plus(value),
        quote(value, safe="").lower() if value.isascii() and value.islower() else quote(value, safe=""),
        value.encode().decode("latin-1"),
    ]
    for form in forms:
        assert MARKER in redactor.text(f"<{form}>", {}), form
        assert MARKER in Redactor().text(f"<{form}>", {}, [value]), form
    assert redactor.bytes_(b"\x00\xff" + value.encode() + b"\x00", {}) == b"\x00\xff" + MARKER.encode() + b"\x00"


def test_the_credentials_of_the_request_are_masked_and_short_ones_are_not():
    value = secrets.token_hex(16)
    counts: dict[str, int] = {}
    assert Redactor().text(f"echo {value} ab", counts, [value, "ab"]) == f"echo {MARKER} ab"
    assert counts == {"credential": 1}


def test_what_several_rules_find_is_one_marker_counted_once():
    value = "sk-" + secrets.token_hex(24)
    counts: dict[str, int] = {}
    assert Redactor(known_values=[value]).text(value, counts, [value]) == MARKER
    assert counts == {"credential": 1}


def test_lone_surrogates_do_not_hide_anything():
    value = secrets.token_hex(16)
    redactor = Redactor(known_values=[value, "\ud800" * 10, "caf\udce9-secret"])
    assert redactor.text(f"\ud800{value}\udfff", {}) == f"\ud800{MARKER}\udfff"
    assert redactor.bytes_(b"<caf\xe9-secret>", {}) == f"<{MARKER}>".encode()


@given(st.text())
def test_a_text_without_a_secret_comes_back_as_the_same_object(text):
    counts: dict[str, int] = {}
    assert Redactor(known_values=[secrets.token_hex(16)]).text(text, counts, [secrets.token_hex(16)]) is text
    assert counts == {}


PLAIN = st.text(st.characters(codec="utf-8", exclude_characters=ALNUM), max_size=12)
ODD_VALUES = st.text(st.characters(codec="utf-8"), min_size=8, max_size=24).map(str.strip).filter(lambda v: len(v) >= 8)


@given(PLAIN, st.sampled_from(EXAMPLES), PLAIN)
def test_a_planted_shape_never_survives_in_text_or_bytes(before, kind, after):
    secret = KINDS[kind][1](random.Random(kind), 1)
    text = f"{before}.{secret} {after}"
    clean = Redactor().text(text, {})
    assert MARKER in clean
    assert not shares(clean.replace(MARKER, "\0"), secret)
    assert not shares(Redactor().bytes_(text.encode(), {}).decode("utf-8", "replace"), secret)


def shares(text: str, secret: str, length: int = 12) -> bool:
    """Whether any 12 characters of the secret are in the text."""
    return any(secret[place : place + length] in text for place in range(len(secret) - length + 1))


@given(PLAIN, ODD_VALUES, PLAIN)
def test_a_known_value_never_survives_whatever_its_characters(before, value, after):
    text = before + value + after
    redactor = Redactor(known_values=[value])
    if value not in MARKER:
        assert value not in redactor.text(text, {})
        assert value.encode() not in redactor.bytes_(text.encode(), {})


# --- JSON ---


def test_a_clean_document_is_the_same_object():
    raw = b'{ "a" : [1.0, 1e5, 123456789012345678901234567890, -0.0, true, null, "\\u00e9\\/\\n" ] }\n'
    assert Redactor(known_values=["q" * 9]).json(raw, {}) is raw


def test_only_the_strings_concerned_are_rewritten():
    secret = "sk-" + secrets.token_hex(24)
    raw = '{ "n":1.0,"big":123456789012345678901234567890, "k":"é \\u00e9 \\/","a":[ "x %s \\n y" ],"n":1E+5 }'
    counts: dict[str, int] = {}
    clean = Redactor().json((raw % secret).encode(), counts)
    assert clean == (raw % MARKER).encode()
    assert counts == {"openai": 1}


def test_keys_are_redacted_too():
    secret = "hf_" + run(34)
    assert Redactor().json(json.dumps({secret: {secret: 1}}).encode(), {}) == b'{"[REDACTED]": {"[REDACTED]": 1}}'


def test_secrets_hidden_in_escapes_are_found():
    secret = "sk-" + secrets.token_hex(24)
    hidden = "".join(f"\\u{ord(letter):04X}" for letter in secret)
    assert Redactor().json(f'["{hidden}"]'.encode(), {}) == b'["[REDACTED]"]'
    assert Redactor().json(f'["a\\u006e{hidden[:6]}{secret[1:]}"]'.encode(), {}) is not None
    path = "ab/cd/" + secrets.token_hex(8)
    raw = f'["{path.replace("/", chr(92) + "/")}", "\\\\u0041"]'.encode()
    assert Redactor(known_values=[path]).json(raw, {}) == b'["[REDACTED]", "\\\\u0041"]'
    assert Redactor().json(raw, {}, [path]) == b'["[REDACTED]", "\\\\u0041"]'


def test_a_secret_hidden_under_a_key_that_is_repeated_is_found():
    secret = "\\u0073k-" + secrets.token_hex(24)
    assert Redactor().json(f'{{"a":"{secret}","a":1}}'.encode(), {}) == b'{"a":"[REDACTED]","a":1}'


def test_a_number_that_is_a_known_value_is_masked_and_one_that_contains_it_is_not():
    counts: dict[str, int] = {}
    raw = b'[1234567890, 12345678901, -1234567890, "1234567890", 1.5]'
    clean = Redactor(known_values=["1234567890"]).json(raw, counts)
    assert clean == b'["[REDACTED]", 12345678901, -1234567890, "[REDACTED]", 1.5]'
    assert counts == {"known": 2}


def test_a_known_value_that_only_matches_across_strings_leaves_the_document_alone():
    raw = b'{"a":"b","c":"d"}'
    assert Redactor(known_values=['"b","c":"']).json(raw, {}) is raw


SECRET_FIELDS = [  # of no value it depends on luck whether it reads like words
    ("api_key", lambda: secrets.token_hex(16)),
    ("apiKey", lambda: "7" + secrets.token_hex(4)),
    ("OPENAI_API_KEY", lambda: "A7-_" + secrets.token_hex(12)),
    ("x-api-key", lambda: secrets.token_hex(16)),
    ("password", lambda: "hunter2!"),
    ("DB_PASSWORD", lambda: "Tr0ub4dor&3"),
    ("client_secret", lambda: f"{secrets.token_hex(8)}_-9Z{secrets.token_hex(8)}"),
    ("access_token", lambda: secrets.token_hex(20)),
    ("refreshToken", lambda: secrets.token_hex(20)),
    ("authorization", lambda: "Bearer " + secrets.token_hex(20)),
    ("Authorization", lambda: "Basic " + base64.b64encode(b"me:" + secrets.token_hex(6).encode()).decode()),
    ("private_key", lambda: secrets.token_hex(32)),
    ("token", lambda: "Zx81" + secrets.token_hex(10)),
    ("secret", lambda: "Zx81" + secrets.token_hex(10)),
    ("HF_TOKEN", lambda: "Zx81" + secrets.token_hex(8)),
]


@pytest.mark.parametrize(("name", "make"), SECRET_FIELDS, ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("space", ["", " "])
def test_json_fields_with_a_secret_name_are_masked_at_any_depth(name, make, depth, space):
    secret, counts = make(), {}

    def document(value: str) -> str:
        inner = json.dumps({"a": 1, name: value, "b": ["x"]}, separators=(",", f":{space}"))
        for _ in range(depth):
            inner = json.dumps({"arguments": inner}, separators=(",", f":{space}"))
        return inner

    assert Redactor().json(document(secret).encode(), counts) == document(MARKER).encode()
    assert counts == {"field": 1}
    assert Redactor().text(f"look: {document(secret)}", {}) == f"look: {document(MARKER)}"


@pytest.mark.parametrize(
    "raw",
    [
        '{"usage":{"prompt_tokens":123456789012,"max_tokens":"4096","token":" Hello"},"key":"Enter"}',
        '{"password":{"type":"string","description":"8 characters"},"api_key":null,"token":12345678901234567890}',
        '{"password":"string","api_key":"${OPENAI_API_KEY}","secret":"sauce","access_token":"<your token>"}',
        '{"api_key":"os.environ/OPENAI_API_KEY","client_secret":"required","apiKey":"...","auth":"none"}',
        '{"prompt_cache_key":"9f86d081884c7d659a2feaa0c55ad015","next_page_token":"9f86d081884c7d659a2feaa0c55ad015"}',
        '{"signature":"EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pk","thoughtSignature":"9f86d081884c7d659a2feaa0"}',
        '{"password":"the password policy says 12 characters","public_key":"9f86d081884c7d659a2feaa0c55ad015"}',
        '{"api_key":""}',
        '{"idempotency_key":"9f86d081-884c-7d65-9a2f-eaa0c55ad015","sort_key":"created_at"}',
    ],
)
def test_fields_that_hold_no_secret_are_left_alone(raw):
    for document in (raw, json.dumps({"arguments": raw})):
        data = document.encode()
        assert Redactor().json(data, {}) is data


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8"), max_size=20),
)
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=8), inner, max_size=4),
    ),
    max_leaves=12,
)


def planted(document: object, secret: str, data: st.DataObject) -> object:
    """The document with the secret put into one of its strings, keys or places."""
    if isinstance(document, list):
        place = data.draw(st.integers(0, len(document)))
        if place < len(document) and data.draw(st.booleans()):
            return [*document[:place], planted(document[place], secret, data), *document[place + 1 :]]
        return [*document[:place], secret, *document[place:]]
    if isinstance(document, dict) and document and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(document)))
        return {k: planted(v, secret, data) if k == key else v for k, v in document.items()}
    if isinstance(document, dict):
        return {**document, data.draw(st.sampled_from(["", "é ", "\n"])) + secret: 1}
    if isinstance(document, str):
        return data.draw(st.sampled_from([document + " " + secret, secret + "\n" + document]))
    return {"a": document, "b": secret}


def expected(document: object, secret: str) -> object:
    if isinstance(document, str):
        return document.replace(secret, MARKER)
    if isinstance(document, list):
        return [expected(item, secret) for item in document]
    if isinstance(document, dict):
        return {key.replace(secret, MARKER): expected(value, secret) for key, value in document.items()}
    return document


def escaped_at_random(raw: str, data: st.DataObject) -> str:
    """The same document with some characters of its strings written as escapes."""
    share = data.draw(st.sampled_from([0, 1, 3]))

    def rewrite(token: re.Match[str]) -> str:
        return re.sub(
            r"\\u....|\\.|[A-Za-z0-9/-]",
            lambda one: (
                one[0]
                if one[0][0] == "\\" or data.draw(st.integers(0, 3)) >= share
                else ("\\/" if one[0] == "/" else f"\\u{ord(one[0]):04x}")
            ),
            token[0],
        )

    return re.sub(r'"(?:[^"\\]|\\.)*"', rewrite, raw) if share else raw


@settings(max_examples=examples(150))
@given(DOCUMENTS, st.booleans(), st.booleans(), st.sampled_from(["shape", "known", "credential"]), st.data())
def test_a_secret_planted_in_a_document_never_survives_and_the_rest_stays(document, ascii_only, compact, how, data):
    secret = {
        "shape": "hf_" + run(34),
        "known": 'k"\\/\n\x1b é' + secrets.token_hex(8),
        "credential": "c/+" + secrets.token_hex(8),
    }[how]
    redactor = Redactor(known_values=[secret] if how == "known" else [])
    document = planted(document, secret, data)
    separators = (",", ":") if compact else (", ", ": ")
    raw = escaped_at_random(json.dumps(document, ensure_ascii=ascii_only, separators=separators), data)
    assert json.loads(raw) == document
    counts: dict[str, int] = {}
    clean = redactor.json(raw.encode(), counts, [secret] if how == "credential" else [])
    assert clean is not None
    assert json.loads(clean) == expected(document, secret)
    assert [*map(str, numbers(clean.decode()))] == [*map(str, numbers(raw))]
    assert counts == {"huggingface" if how == "shape" else how: 1}


def numbers(raw: str) -> list[str]:
    found: list[str] = []
    json.loads(raw, parse_int=found.append, parse_float=found.append)
    return found


@given(DOCUMENTS)
def test_a_document_without_a_secret_comes_back_as_the_same_object(document):
    raw = json.dumps(document).encode()
    assert Redactor(known_values=[secrets.token_hex(16)]).json(raw, {}, [secrets.token_hex(16)]) is raw


# --- headers ---


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "Proxy-Authorization",
        "X-Api-Key",
        "api-key",
        "X-Goog-Api-Key",
        "X-Amz-Security-Token",
        "X-Auth-Token",
        "X-CSRF-Token",
        "Ocp-Apim-Subscription-Key",
        "X-LiteLLM-Api-Key",
        "xi-api-key",
        "Helicone-Auth",
        "X-Client-Secret",
        "X-Hub-Signature-256",
        "apikey",
        "x-functions-key",
        "x_api_key",
    ],
)
def test_secret_headers_are_masked_whole(name):
    counts: dict[str, int] = {}
    assert Redactor().headers([(name, "ab")], counts) == [[name, MARKER]]
    assert counts == {"header": 1}


@pytest.mark.parametrize("name", ["Cookie", "Set-Cookie", "X-Cookie"])
def test_cookies_are_masked_whole(name):
    counts: dict[str, int] = {}
    assert Redactor().headers([(name, "a=b")], counts) == [[name, MARKER]]
    assert counts == {"cookie": 1}


@pytest.mark.parametrize(
    "name",
    [
        "Idempotency-Key",
        "Sec-WebSocket-Key",
        "x-ratelimit-remaining-tokens",
        "anthropic-ratelimit-input-tokens-remaining",
        "x-token-count",
        "Access-Control-Allow-Credentials",
        "WWW-Authenticate",
        "Content-Type",
        "X-Session-Id",
        "author",
        "x-monkey",
        "x-stainless-retry-count",
    ],
)
def test_harmless_headers_are_kept(name):
    counts: dict[str, int] = {}
    assert Redactor().headers([(name, "value-1")], counts) == [[name, "value-1"]]
    assert counts == {}


@pytest.mark.parametrize(
    "name",
    [
        "X-RapidAPI-Key", "x-openai-key", "openai-key", "dd-application-key", "X-ApiToken", "X-API-TOKEN",
        "x-provider-key", "Api-Secret-Key", "key",
    ],
)  # fmt: skip
def test_every_key_is_secret_but_those_known_to_be_harmless(name):
    assert header_rule(name) == "header"
    assert parameter_is_secret(name)
    assert re.search(PARTS_OF_SECRET_NAMES, name.lower())


@pytest.mark.parametrize("name", ["x-cache-key", "Idempotency-Key", "prompt_cache_key", "partition-key", "public_key"])
def test_harmless_keys_are_kept(name):
    assert header_rule(name) is None
    assert not parameter_is_secret(name)


@pytest.mark.parametrize("kind", ["1", "PQ-1"])
def test_age_secret_keys_are_masked_those_for_post_quantum_recipients_too(kind):
    key = "AGE-SECRET-" + "KEY-" + kind + "".join(secrets.choice("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L") for _ in range(58))
    assert Redactor().text(f"identity {key} here", {}) == "identity [REDACTED] here"


def test_urls_within_headers_and_messages_are_masked_as_urls():
    secret = secrets.token_hex(12)
    redactor = Redactor()
    headers = [
        ("Link", f"<https://h.example/p?sig={secret}>; rel=next, </q?page=2&code={secret}>; rel=last"),
        ("Refresh", f"0; url=https://h.example/?code={secret}"),
        ("X-Original-URI", f"/v1?password={secret}"),
        ("Azure-AsyncOperation", f"https://me:{secret}@h.example/op"),
        ("Date", "Mon, 01 Jan 2026 00:00:00 GMT"),
        ("Accept", "text/html, */*;q=0.8"),
    ]
    counts: dict[str, int] = {}
    clean = redactor.headers(headers, counts)
    assert secret not in str(clean)
    assert clean[0][1] == f"<https://h.example/p?sig={MARKER}>; rel=next, </q?page=2&code={MARKER}>; rel=last"
    assert [value for _, value in clean[4:]] == [value for _, value in headers[4:]]
    assert counts == {"query": 4, "userinfo": 1}
    told = f"Client error '401' for url 'https://h.example/x?sig={secret}&a=1'\nsee (https://me:{secret}@h.example/y)."
    assert redactor.text_with_urls(told, {}) == (
        f"Client error '401' for url 'https://h.example/x?sig={MARKER}&a=1'\nsee (https://{MARKER}@h.example/y)."
    )


@pytest.mark.parametrize("piece", ["/", "a://", "?", "/?", "x", "/a?b=c&", "<", "://a@"])
def test_looking_for_urls_takes_time_in_proportion(piece):
    redactor = Redactor()
    assert_linear(lambda count: redactor.text_with_urls(piece * count, {}), 4_000)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("realtime, openai-insecure-api-key.{}, openai-beta.realtime-v1",
         "realtime, openai-insecure-api-key.[REDACTED], openai-beta.realtime-v1"),
        ("token, {}", "token, [REDACTED]"),
        ("v1, base64url.bearer.authorization.k8s.io.{}", "v1, base64url.bearer.authorization.k8s.io.[REDACTED]"),
        ("graphql-transport-ws, {}", "graphql-transport-ws, [REDACTED]"),
        ("graphql-transport-ws, mqtt, v12.stomp", "graphql-transport-ws, mqtt, v12.stomp"),
    ],
)  # fmt: skip
def test_keys_among_subprotocols_are_credentials(value, shown):
    secret = "a1" + secrets.token_hex(16)
    header = ("Sec-WebSocket-Protocol", value.format(secret))
    assert Redactor().headers([header], {}, credentials([header], "")) == [["Sec-WebSocket-Protocol", shown]]


def test_headers_keep_their_order_and_case_and_secrets_within_others_are_masked():
    secret, known = "sk-" + secrets.token_hex(24), secrets.token_hex(16)
    headers = [
        ("X-B", "1"),
        ("Sec-WebSocket-Protocol", f"realtime, openai-insecure-api-key.{secret}"),
        ("x-b", f"{known}"),
        (f"X-{known}", "2"),
        ("Referer", f"https://u:p@h.example/?key=12&q={known}"),
        ("Authorization", ""),
    ]
    assert Redactor(known_values=[known]).headers(headers, {}) == [
        ["X-B", "1"],
        ["Sec-WebSocket-Protocol", f"realtime, openai-insecure-api-key.{MARKER}"],
        ["x-b", MARKER],
        [f"X-{MARKER}", "2"],
        ["Referer", f"https://{MARKER}@h.example/?key={MARKER}&q={MARKER}"],
        ["Authorization", ""],
    ]


def test_names_are_judged_by_whole_segments():
    assert header_rule("x-api-key") == "header"
    assert header_rule("x-apikeys-count") is None
    for name in (
        "key",
        "apiKey",
        "api_key",
        "access_token",
        "accessToken",
        "sig",
        "X-Amz-Signature",
        "client_secret",
        "code",
    ):
        assert parameter_is_secret(name), name
    for name in (
        "pageToken",
        "next_page_token",
        "max_tokens",
        "monkey",
        "alt",
        "api-version",
        "keyword",
        "codec",
        "q",
    ):
        assert not parameter_is_secret(name), name


# --- URLs ---


def test_a_clean_url_is_the_same_object():
    url = "https://api.example/v1/a%20b?x=1&y=a+b&&z#top"
    assert Redactor(known_values=["q" * 9]).url(url, {}) is url


def test_user_parameters_and_fragment_are_masked_by_name_and_counted():
    counts: dict[str, int] = {}
    url = "https://me:p%40ss@api.example:8443/v1/x?alt=sse&key=abc&api%5Fkey=x&X-Amz-Credential=A%2Fb&empty=#access_token=t&b=1"
    assert Redactor().url(url, counts) == (
        f"https://{MARKER}@api.example:8443/v1/x?alt=sse&key={MARKER}&api%5Fkey={MARKER}&X-Amz-Credential={MARKER}"
        f"&empty=#access_token={MARKER}&b=1"
    )
    assert counts == {"userinfo": 1, "query": 4}


def test_a_path_with_a_query_is_masked_too():
    assert (
        Redactor().url("/v1beta/models/g:generateContent?key=1", {}) == f"/v1beta/models/g:generateContent?key={MARKER}"
    )
    assert Redactor().url("//u@h/x@y", {}) == f"//{MARKER}@h/x@y"


@given(ODD_VALUES, st.sampled_from(["/a/{}/b", "/a?q={}", "/a?{}=1", "https://h/#x={}", "//h/{}"]), st.data())
def test_a_known_value_never_survives_in_a_url_however_it_is_percent_encoded(value, shape, data):
    assume(not parameter_is_secret(value))  # else the name it is put into masks its parameter
    encoded = "".join(
        chr(byte)
        if chr(byte) in ALNUM and data.draw(st.integers(0, 5))
        else (f"%{byte:02X}" if data.draw(st.booleans()) else f"%{byte:02x}")
        for byte in value.encode()
    )
    counts: dict[str, int] = {}
    clean = Redactor(known_values=[value]).url(shape.format(encoded), counts)
    # "%30%3A" may be read as "%3" before "0%3A": no part of the value is in what is left.
    assert clean.replace("%3" + MARKER, MARKER) == shape.format(MARKER)
    assert counts == {"known": 1}


def test_a_shape_in_a_url_is_masked():
    secret = "hf_" + run(34)
    for url in (
        f"https://h/{secret}/x",
        f"https://h/?q={secret}&r=1",
        f"https://h/?q=a%20{secret}",
        f"https://{secret}.h/",
    ):
        assert secret not in Redactor().url(url, {})
    assert Redactor().url("https://h/?q=h" + "%66" + secret[2:], {}) == f"https://h/?q={MARKER}"


# --- forms ---


def recorded(body: bytes, content_type: str, counts: dict[str, int]):
    collector = BodyCollector(100_000)
    collector.add(body)
    body = record_body(collector, Gate(), content_type=content_type)
    counts.update(body.counts)
    return body.payload


def test_an_oauth_token_request_shows_none_of_its_secrets():
    sent = {
        "grant_type": "authorization_code",
        "code": secrets.token_urlsafe(20),
        "client_id": "gateway",
        "client_secret": secrets.token_urlsafe(20) + "%+",
        "refresh_token": secrets.token_hex(20),
        "password": "a b&c",
        "scope": "read write",
        "empty_token": "",
        "note": "sk-" + secrets.token_hex(24),
    }
    secret_names = ("code", "client_secret", "refresh_token", "password", "note")
    counts: dict[str, int] = {}
    clean = recorded(urlencode(sent).encode(), "Application/X-WWW-Form-Urlencoded; charset=utf-8", counts)
    shown = {name: MARKER if name in secret_names else value for name, value in sent.items()}
    assert clean == urlencode(shown, safe="[]")
    assert counts == {"field": 4, "openai": 1}


@pytest.mark.parametrize("newline", ["\r\n", "\n"])
def test_the_fields_of_a_multipart_form_are_masked_by_their_name(newline):
    secret, counts = secrets.token_hex(8), {}

    def form(value: str) -> bytes:
        lines = []
        for name, content in [
            ("model", "whisper-1"),
            ("api_key", value),
            ("prompt", "the\n--password"),
            ("token", value),
        ]:
            lines += ["--b0", f'Content-Disposition: form-data; name="{name}"', "Content-Type: text/plain", "", content]
        lines += ["--b0", 'content-disposition: form-data; name="secret"; filename="a.txt"', "", "a file"]
        return newline.join([*lines, "--b0--", ""]).encode()

    assert recorded(form(secret), "multipart/form-data; boundary=b0", counts) == form(MARKER).decode()
    assert counts == {"field": 2}


def test_a_form_without_secrets_is_left_as_it_is():
    form = b"--b\r\nContent-Disposition: form-data; name=model\r\n\r\nm\r\n--b\r\n\xff\r\n--b--"
    assert recorded(form, "multipart/form-data; boundary=b", {}) == form
    assert recorded(b"a=b&c=%20+d&&=&e", "application/x-www-form-urlencoded", {}) == "a=b&c=%20+d&&=&e"


@pytest.mark.parametrize(
    "piece", [b"content-disposition: form-data; name=", b'content-disposition: form-data; name="key"\r\na\r\n', b"\n--"]
)
def test_the_time_for_a_form_grows_with_its_length(piece):
    assert_linear(lambda size: Redactor().multipart(piece * (size // len(piece)), {}), 40_000)


# --- spellings ---


AROUND = st.binary(max_size=7)


@given(AROUND, st.one_of(ODD_VALUES, st.from_regex(r"[A-Za-z0-9_/+=#-]{8,60}", fullmatch=True)), AROUND, st.booleans())
def test_a_known_value_within_encoded_data_is_found_whatever_stands_around_it(before, value, after, is_credential):
    redactor = Redactor(known_values=[] if is_credential else [value])
    credentials = [value] if is_credential else []
    data = before + value.encode() + after
    standard = base64.b64encode(data).decode()
    for encoded in (
        data.hex(),
        data.hex().upper(),
        standard,
        standard.rstrip("="),
        standard.replace("/", "\\/"),
        quote(standard, safe=""),
        quote(standard, safe="").replace("%2B", "%2b").replace("%2F", "%2f"),
        base64.urlsafe_b64encode(data).decode(),
    ):
        counts: dict[str, int] = {}
        clean = redactor.text(f'a "{encoded}" b', counts, credentials)
        assert MARKER in clean, encoded
        assert sum(counts.values()) >= 1
        left = clean.replace(MARKER, "").removeprefix('a "').removesuffix('" b')
        # What stood around it, in base64 with the character at each end that the value decides a part of.
        assert len(left) <= max(2 * len(before + after), 3 * len(quote(base64.b64encode(before + after))) // 2 + 12)


@given(st.binary(max_size=300))
def test_harmless_encoded_data_is_left_alone(data):
    redactor = Redactor(known_values=[secrets.token_hex(16), "p" + secrets.token_urlsafe(24)])
    for encoded in (data.hex(), base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()):
        assert redactor.text(encoded, {}) is encoded


@given(st.text(min_size=8))
def test_spellings_begin_with_the_value(value):
    forms = spellings(value)
    assert forms == () or forms[0] == value.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("flood", [b"sk- ", b"c2st ", b"zay ", b"sk-", b"c2st"])
def test_a_text_that_is_made_to_take_long_hides_no_secret(flood: bytes) -> None:
    plain = "ghp_" + secrets.token_hex(20)
    encoded = base64.b64encode(f"my {plain}".encode())
    data = flood * 12_000 + b" " + plain.encode() + b" and " + encoded + b" end."
    passed = Gate().body(data, "text/plain", is_json=False)
    assert plain not in str(passed.payload)
    assert encoded[8:].decode() not in str(passed.payload)
    assert passed.withheld or str(passed.payload).endswith(" end.")


@given(ODD_VALUES, st.integers(1, 4), st.randoms(use_true_random=False))
@example("ab" + "\N{KEY}" * 8, 3, random.Random(1))
@example('\\"/' * 4, 4, random.Random(2))
def test_a_known_value_is_found_in_json_within_json_however_each_of_them_escapes_it(value, levels, rng):
    assume(MARKER not in value)
    text = f"it is {value}."
    for _ in range(levels):
        text = f'{{"text": "{strange_json(text, rng)}"}}'
    for told in (
        Redactor(known_values=[value]).json(text.encode(), {}).decode(),
        Redactor(known_values=[value]).text(f"{text}", {}),
    ):
        for _ in range(levels):
            told = json.loads(told)["text"]
        assert told == f"it is {MARKER}."
