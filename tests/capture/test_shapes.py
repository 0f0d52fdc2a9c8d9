"""Every provider's key is known as it is issued, wherever it stands, and what only looks like one is left alone."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator

import pytest
from provider_keys import FORMS, ONLY_AS_A_WORD, Form

from otel_wirecap.capture.redaction import patterns
from otel_wirecap.capture.redaction.patterns import CONFIRM, LITERALS
from otel_wirecap.capture.redaction.redactor import Redactor
from otel_wirecap.capture.redaction.spans import MARKER, Span

RANDOM = secrets.SystemRandom()
LENGTHS = (0, 1, 2)
AROUND = ("{}", "key={} and more", '"{}"', "\\n{}\\n", "%3D{}&", "日本語{}。", "({})", "<{}>", "https://a.b/?k={}&x=y")
NEIGHBOURS = (
    "\x1b[32m", "\x1b[1;31m", "\x1b[38;5;12m", "\x1b[K", "^[[32m", r"\033[32m", r"\e[0m", r"\x1b[32m", r"\u001b[32m",
    r"\n", r"\t", r"\u0022", r"\x22", r"\042", "=3D", "%22", "%3d",
)  # fmt: skip
"""What stands right before a key in the output of programs, in source, mail and URLs."""

forms = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.kind)


def told(text: str) -> tuple[str, dict[str, int]]:
    counts: dict[str, int] = {}
    return Redactor().text(text, counts), counts


@forms
def test_a_key_as_it_is_issued_is_masked_whole_wherever_it_stands(form: Form) -> None:
    for length in LENGTHS:
        for around in AROUND:
            before, after = around.split("{}")
            text = before + form.make(RANDOM, length) + after
            assert told(text) == (before + MARKER + after, {form.rule: 1})


@forms
def test_what_ends_an_escape_is_no_word_that_runs_on_into_a_key(form: Form) -> None:
    for neighbour in NEIGHBOURS:
        key = form.make(RANDOM)
        clean, counts = told(f"a {neighbour}{key} b")
        assert counts == {form.rule: 1}
        assert clean.endswith(f"{MARKER} b")
        assert not any(key[place : place + 8] in clean for place in range(len(key) - 8))


@forms
def test_a_key_that_no_word_ends_like_is_found_within_one(form: Form) -> None:
    for word in ("x", "desk", "9", "Zz"):
        text = f"a {word}{form.make(RANDOM)} b"
        if form.kind in ONLY_AS_A_WORD:
            assert form.rule not in told(text)[1]
        else:
            assert told(text)[1] == {form.rule: 1}


@pytest.mark.parametrize("form", [form for form in FORMS if form.least], ids=lambda form: form.kind)
def test_of_one_that_is_cut_off_so_much_is_a_key_and_less_is_none(form: Form) -> None:
    for _ in range(10):
        assert told(f"a {form.cut(RANDOM, form.least)} b") == (f"a {MARKER} b", {form.rule: 1})
        assert form.rule not in told(f"a {form.cut(RANDOM, form.least - 1)} b")[1]


@pytest.mark.parametrize("form", [form for form in FORMS if form.inside], ids=lambda form: form.kind)
def test_within_a_word_it_takes_more_of_a_key_to_be_one(form: Form) -> None:
    for _ in range(10):
        assert told(f"a x{form.cut(RANDOM, form.inside)} b")[1] == {form.rule: 1}
        assert told(f"a x{form.cut(RANDOM, form.inside - 1)} b")[1] == {}


LOOK_ALIKES = r"""
sk-SK-slovak-locale-variant
sk-learn-estimators-and-pipelines-2024-edition
sk-ant-your-api-key-goes-here
sk-proj-Your-Project-Key-Goes-Here-Please-2025
task-proj-2024-planning-of-the-migration-to-version-4
ASIAPACIFICREGION1234X
ASIAPACIFICREGIONALOFFICES
AKIA-IS-A-PREFIX
jina_embeddings_v3_text_matching_base_en_2024
jina_embeddings_v3_QuantizedInt8_with_MatryoshkaDimensions_1024
xoxo-hugs-and-kisses-from-all-of-us-2024
xapp-name-is-registered-in-the-Console-2024
pcsk_9_inhibitors_lower_LDL_cholesterol_in_most_patients_2023
re_compile_the_pattern_2_times_Please_and_thanks
re_exports12_aModuleOfThatLengthHere
dp.state.machine.Transition2024
glpat-Your-Token-Goes-Here-2024
gldt-deploy-token-for-the-Staging-2-cluster
hvs.The-Token-Of-Vault-Goes-Here-2024-01
hf_transformersmodelconfigurationutilities
tr_dev_environment_of_the_Team
key-value-store-of-the-cluster
key_of_the_translation_table_in_the_database
ops_team_on_call_rotation_for_the_second_quarter_of_2024
secret_of_the_old_house_by_the_lake
pat-on-the-back
pul-request-review-for-the-platform-team
AccountKey=YOUR_ACCOUNT_KEY
Endpoint=sb://x/;SharedAccessKey=<your key>
AccessKey=${KEY}
whsec_your_signing_secret_goes_here
EAAAAAAAAAAAAAAAAAAAA
pa-responsive-grid-Layout-with-12-Columns-and-Gutters
fc-cache -f -v
tid=42;exp=never
A3-paper-size
12:AA:34:BB:56:CC
1234567890:AA is how it begins
/webhooks/github/payload-from-the-organisation
hooks.slack.com/services/your/webhook/url
squ_are_the_circle
phx_the_city_in_Arizona_has_1_million_people_or_more
figd_esign_tokens_of_the_Library_2024_in_colour
NRAL
LTAIlongtermassistance
sb_secret_of_the_Project_goes_here_2024_01
in three 8Q~ words
d1-us2
en-us1
napi_create_reference_and_the_rest_of_Node_API_version_9
dbtc_command_line_tools_for_the_Warehouse_2024_team
EAACH_OTHER_IS_HOW_PEOPLE_HELP
vcr_cassettes_Recorded_with_the_Version_6_of_the_library
dckr_pat_goes_here_in_your_Configuration_2_or_3
e2b_sandbox_template_for_the_Agents
rpa_robotic_process_automation_tools
https://pscale_x/pscale_tkn_goes_here_in_the_dashboard_of_yours
SG.Some-Longer-Namespace.of-the-Component-Library-in-Version-12
mdb_sa_sk_is_the_Prefix_of_a_Secret_of_Atlas_Service_Accounts_2024
eyJrIjoi
sk.eyJ1Ijoi
ops_eyJ
-eyJ.eyJ.eyJ
crsr_position
gsk_pharmaceuticals
ATBBank
HRKU-lele
re_
sk-
xai-explainability-for-Tabular-data-in-2024-and-later-years
""".strip().splitlines()


@pytest.mark.parametrize("text", LOOK_ALIKES)
def test_words_are_no_keys(text: str) -> None:
    for around in ("{}", "see {}, please", '{{"name": "{}"}}', "x{}y", "`{}`"):
        whole = around.format(text)
        assert told(whole) == (whole, {})


def samples(rule: str) -> Iterator[bytes]:
    """Keys of a rule, whole and cut, by themselves and in a word."""
    for form in FORMS:
        if form.rule == rule:
            keys = [form.make(RANDOM, length) for length in LENGTHS * 8]
            for least in filter(None, (form.least, form.inside)):
                keys += [form.cut(RANDOM, least - less) for less in (0, 1) for _ in range(20)]
            for key in keys:
                yield from (f"a {key} b".encode(), f"x{key} b".encode())


def found(texts: list[bytes]) -> list[list[Span]]:
    return [patterns.find_secrets(text, [find(text) for find in patterns.FIND])[0] for text in texts]


LAST_LEAST = re.compile(rb"\{(\d+),\}")
SHAPES = [
    pytest.param(literal, place, id=f"{shape.rule} {LITERALS[literal]}")
    for literal, shapes in enumerate(CONFIRM)
    for place, shape in enumerate(shapes)
    if shape.rule != "pem"  # test_redaction_mutations.py
]


@pytest.mark.parametrize(("literal", "place"), SHAPES)
def test_of_no_shape_anything_can_be_taken_away(literal: int, place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a shape, or with one that asks for a character less, other things are found in the corpus."""
    shape = CONFIRM[literal][place]
    texts = list(samples(shape.rule))
    as_it_is = found(texts)

    def changed(*others: patterns.Confirmation) -> bool:
        shapes = [*CONFIRM[literal][:place], *others, *CONFIRM[literal][place + 1 :]]
        monkeypatch.setattr(patterns, "CONFIRM", (*CONFIRM[:literal], shapes, *CONFIRM[literal + 1 :]))
        return found(texts) != as_it_is

    assert changed()
    last = [*LAST_LEAST.finditer(shape.expression.pattern)][-1:]
    for least in last:
        pattern, less = shape.expression.pattern, b"{%d,}" % (int(least[1]) - 1)
        shorter = re.compile(pattern[: least.start()] + less + pattern[least.end() :])
        assert changed(shape._replace(expression=shorter))
