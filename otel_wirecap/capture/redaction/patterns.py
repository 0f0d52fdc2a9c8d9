"""Secrets known by their shape: a literal prefix, then a run of characters.

Automata find the prefixes, and a regular expression confirms each at its place.

Invariants, each held by a test:

- At most ``MAX_LITERALS`` literals in an automaton, none shorter than three bytes: beyond either its search is several
  times slower. Those of three bytes have an automaton of their own, because the others are found faster without them.
- No literal begins inside another at a place where it could be confirmed, so that the automaton's
  non-overlapping hits are all there are.
- Every expression is linear: what can fail after a run is bounded, what is unbounded cannot fail.
- Upper bounds are open: vendors lengthen their tokens, and a fixed length would leave the tail in clear.
- ``open_place`` may name a place too early, never one too late: what stands before it stays what it is, whatever
  follows the data.

The shapes are those of the vendors' documentation and of tokens they issue. Keys without a signature
(Mistral, Cohere, 32 hex digits of Azure, AWS secret keys) cannot be found here, only by value or by name.
"""

import re
import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from ahocorasick_rs import BytesAhoCorasick, Implementation, MatchKind

from otel_wirecap.capture.redaction.fields import NAME_PARTS, find_fields
from otel_wirecap.capture.redaction.spans import Span

MAX_LITERALS: Final = 63

_W: Final = "[A-Za-z0-9_-]"
# Words have neither digits nor capitals; tokens do. CSS classes (sk-toggleable__label-arrow) begin like keys.
_MIXED: Final = "(?=[a-z_-]{0,63}[A-Z0-9])"
# Nor are words with dashes and a year: a file sk-learn-pipelines-2024-edition, say.
_PART: Final = "(?:[a-z]{1,14}+|v?[0-9]{1,4}+)(?![A-Za-z0-9])"
_NO_SLUG: Final = rf"(?!{_PART}(?:[_-]{_PART}){{2,10}}+(?!{_W}))"
# Documentation shows what a token looks like.
_NO_EXAMPLE: Final = "(?!x{8}|X{8})"

# A token begins where no word runs on. A letter that ends an escape (JSON's \n, \u000a; %3D) is no such word.
_LEFT: Final = re.compile(rb"(?:(?<![A-Za-z0-9])|(?<=\\[bfnrt])|(?<=\\u[0-9A-Fa-f]{4})|(?<=%[0-9A-Fa-f]{2}))")

_BASE64: Final = r"(?:[A-Za-z0-9+/]|\\/|%2[BbFf])"  # JSON may write the slash with an escape, URLs do
_SLASH: Final = r"(?:/|\\/|%2[Ff])"
_PEM_BODY: Final = r"[A-Za-z0-9+/=\s\\:,%]"  # base64, RFC 1421 headers, and newlines written \n, \\n or %0A
# Prose speaks of "-----BEGIN PRIVATE KEY-----", too.
_PEM_BEGINS: Final = (
    r"(?=(?:\\+(?:[nr]|u000[AaDd])|%0[AaDd]|\s)*+"
    r"(?:(?:[A-Za-z0-9+/=]|\\+/|%2[BbFf]){12}|Proc-Type|DEK-Info|Version|Comment|Charset|Hash))"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """One form of secret.

    Attributes:
        rule: The id that findings are counted under.
        literals: What it begins with; one of them.
        body: Expression for what follows the literal.
        lead: Characters of the secret that stand before the literal.
        bounded: Whether it counts only where no word runs on; the same for all shapes of a literal.
        in_base64: Whether it is looked for within base64, too. That takes three more literals for each.
    """

    rule: str
    literals: tuple[str, ...]
    body: str
    lead: str = ""
    lead_length: int = 0
    bounded: bool = True
    in_base64: bool = True

    def expression(self, literal: str) -> re.Pattern[bytes]:
        """The expression that confirms the literal, to be matched ``lead_length`` before it."""
        return re.compile((self.lead + re.escape(literal) + _NO_EXAMPLE + self.body).encode())


SHAPES: Final = (
    Shape("anthropic", ("sk-",), rf"ant-{_W}{{20,}}(?:\.{_W}+)*"),
    Shape("openrouter", ("sk-",), rf"or-{_MIXED}{_W}{{20,}}"),
    Shape("langfuse", ("sk-",), rf"lf-{_MIXED}{_W}{{20,}}"),
    Shape("openai", ("sk-",), rf"{_NO_SLUG}(?:{_MIXED}{_W}{{20,}}|[a-z]{{32,}})"),  # DeepSeek, LiteLLM and others, too
    Shape("openai", ("ek_",), r"[A-Za-z0-9]{24,}"),  # a client's key for one realtime session
    Shape("google", ("AIza",), rf"{_W}{{35,}}"),
    Shape("google", ("AQ.",), rf"{_MIXED}{_W}{{30,}}"),
    Shape("google", ("ya29.",), r"(?:[A-Za-z0-9_-]{1,8}\.){0,2}[A-Za-z0-9_-]{20,}(?:\.[A-Za-z0-9_-]+)*"),
    Shape("google", ("1//0", r"1\/\/0", "1%2F%2F0"), rf"{_W}{{30,}}"),
    Shape("google", ("GOCSPX-",), rf"{_W}{{20,}}"),
    Shape("aws", ("AKIA", "ASIA", "ABIA", "ACCA"), r"[A-Z0-9]{16,}"),
    Shape("aws", ("ABSK",), rf"{_BASE64}{{60,}}(?:=|%3[Dd]){{0,2}}"),
    Shape("aws", ("bedrock-api-key-",), r"(?:[A-Za-z0-9+/=_-]|\\/|%2[BbFf]|%3[Dd]){20,}"),
    Shape("azure", ("QQJ99",), r"[A-Za-z0-9]{10}AC[A-Za-z0-9]{14,}", "[A-Za-z0-9]{52}J", 53, bounded=False),
    Shape("huggingface", ("hf_", "api_org_"), r"[A-Za-z0-9]{30,}"),
    Shape("groq", ("gsk_",), r"[A-Za-z0-9]{40,}"),
    Shape("xai", ("xai-",), r"[A-Za-z0-9_]{40,}"),
    Shape("perplexity", ("pplx-",), r"[A-Za-z0-9]{40,}"),
    Shape("replicate", ("r8_",), r"[A-Za-z0-9]{36,}"),
    Shape("nvidia", ("nvapi-",), rf"{_W}{{40,}}"),
    Shape("together", ("tgp_v1_",), rf"{_W}{{40,}}"),
    Shape("fireworks", ("fw_",), rf"{_MIXED}[A-Za-z0-9]{{22,}}"),
    Shape("cerebras", ("csk-",), r"[a-z0-9]{40,}"),
    Shape("langsmith", ("lsv2_",), r"(?:pt|sk)_[a-f0-9_]{32,}"),
    Shape("logfire", ("pylf_",), r"v[0-9]+_[A-Za-z0-9_]{20,}"),
    Shape("elevenlabs", ("sk_",), r"[a-f0-9]{40,}"),
    Shape("databricks", ("dapi",), r"[a-f0-9]{32,}(?:-[0-9]+)?"),
    Shape(
        "github",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        r"[A-Za-z0-9_-]{36,}(?:\.[A-Za-z0-9_-]+)*",
    ),
    Shape("gitlab", ("glpat-",), rf"{_W}{{20,}}(?:\.{_W}+)*"),
    Shape("slack", ("xox",), r"(?:e\.xox)?[a-z]-[A-Za-z0-9-]{20,}"),
    Shape("slack", ("xapp-",), r"[A-Za-z0-9-]{20,}"),
    Shape("stripe", ("sk_",), r"(?:live|test)_[A-Za-z0-9]{16,}"),
    Shape("stripe", ("rk_live_", "rk_test_"), r"[A-Za-z0-9]{16,}"),
    Shape("npm", ("npm_",), r"[A-Za-z0-9]{36,}"),
    Shape("pypi", ("pypi-AgE",), rf"{_W}{{50,}}"),
    Shape("voyage", ("pa-",), rf"{_MIXED}{_W}{{40,}}"),
    Shape("jina", ("jina_",), rf"{_W}{{40,}}", in_base64=False),
    Shape("pinecone", ("pcsk_",), r"[A-Za-z0-9_]{40,}"),
    Shape("tavily", ("tvly-",), r"(?:dev-|prod-)?[A-Za-z0-9-]{20,}"),
    Shape("vercel", ("vck_",), r"[A-Za-z0-9]{40,}", in_base64=False),
    Shape("sendgrid", ("SG.",), rf"{_W}{{16,64}}\.{_W}{{30,}}", in_base64=False),
    Shape(
        "slack",
        ("hooks.slack.com",),
        rf"{_SLASH}services{_SLASH}[A-Z0-9]{{8,16}}{_SLASH}[A-Z0-9]{{8,16}}{_SLASH}[A-Za-z0-9]{{20,}}",
        in_base64=False,
    ),
    Shape("digitalocean", ("dop_v1_",), r"[a-f0-9]{40,}", in_base64=False),
    Shape("supabase", ("sbp_",), r"[a-f0-9_]{40,}", in_base64=False),
    Shape("linear", ("lin_",), r"api_[A-Za-z0-9]{32,}", in_base64=False),
    Shape("notion", ("ntn_",), r"[A-Za-z0-9]{40,}", in_base64=False),
    Shape("postman", ("PMAK-",), r"[a-f0-9-]{50,}", in_base64=False),
    Shape("doppler", ("dp.pt.",), r"[A-Za-z0-9]{40,}", in_base64=False),
    Shape("vault", ("hvs.",), rf"{_MIXED}{_W}{{24,}}", in_base64=False),
    Shape("sentry", ("sntrys_",), r"(?:[A-Za-z0-9+/=_-]|\\/|%2[BbFf]|%3[Dd]){40,}", in_base64=False),
    Shape("grafana", ("glsa_",), r"[A-Za-z0-9_]{38,}", in_base64=False),
    Shape("shopify", ("shpat_", "shpss_", "shpca_"), r"[a-fA-F0-9]{32,}", in_base64=False),
    Shape("age", ("AGE-SECRET-KEY-",), r"(?:PQ-)?1[A-Z0-9]{50,}", in_base64=False),
    Shape("tailscale", ("tskey-",), r"(?:[a-z]{1,16}-)?[A-Za-z0-9]{8,32}-[A-Za-z0-9]{20,}", in_base64=False),
    Shape("atlassian", ("ATATT3",), rf"{_W}{{60,}}(?:(?:=|%(?:25)?3[Dd])[A-Z0-9]*)?", in_base64=False),
    # The header's bound, possessive, keeps a text of nothing but beginnings linear.
    Shape("jwt", ("eyJ",), rf"{_W}{{10,2048}}+\.eyJ{_W}{{10,}}(?:\.{_W}*){{0,3}}"),
    Shape(
        "pem",
        ("-BEGIN ", "-BEGIN%20"),
        rf"(?:[A-Z0-9 ]|%20){{0,40}}PRIVATE(?: |%20)KEY(?:(?: |%20)BLOCK)?-----{_PEM_BEGINS}"
        rf"{_PEM_BODY}*+(?:-(?!----END[ %]){_PEM_BODY}*+)*+(?:-----END(?: |%20)(?:[A-Z0-9 ]|%20){{0,40}}(?:-----)?)?",
        "----",
        4,
        bounded=False,
    ),
)

# Longer literals first: of those that begin at one place the longest is tried first, and within an automaton the first
# one in the list is the one that is found.
LITERALS: Final = sorted(
    {literal for shape in SHAPES for literal in shape.literals}, key=lambda text: (-len(text), text)
)

IN_BASE64: Final = [any(shape.in_base64 for shape in SHAPES if literal in shape.literals) for literal in LITERALS]

CONFIRM: Final = tuple(
    tuple((shape.expression(literal), shape.lead_length, shape.rule) for shape in SHAPES if literal in shape.literals)
    for literal in LITERALS
)

_BOUNDED: Final = tuple(all(shape.bounded for shape in SHAPES if literal in shape.literals) for literal in LITERALS)

_ESCAPED_ASCII: Final = re.compile(rb"\\u00(?:2[0-57-9A-Fa-f]|3[0-9ABDFabdf]|[4-7][0-9A-Fa-f])")
"""ASCII that nobody needs to escape: not & < > (2, 3c, 3e), which some serialisers write so."""

_RUN: Final = re.compile(rb"[A-Za-z0-9_./+=-]*+")
_MAX_FAILED: Final = 10_000
"""Beginnings of secrets in one text that turn out to be none. No text has so many but one that is made to take long:
what looks like a secret in the rest of it is taken for one."""

_FIRST_END: Final = len(LITERALS) + 1
_ALL: Final = (*(literal.encode() for literal in LITERALS), rb"\u00", *NAME_PARTS)
"""What is searched for; its number is its place here. The shapes come first, then what begins an escape."""


Hit: TypeAlias = tuple[int, int, int]
"""What was found: which of the literals, where it begins, where it ends."""

Find: TypeAlias = Callable[[bytes], list[Hit]]


def tables(literals: Sequence[bytes], numbers: Sequence[int]) -> list[tuple[Find, Sequence[int]]]:
    """The searches that find literals, each with the numbers of those that it finds."""
    count = -(-len(numbers) // MAX_LITERALS)
    parts = [numbers[part * len(numbers) // count : (part + 1) * len(numbers) // count] for part in range(count)]
    return [
        (
            BytesAhoCorasick(
                [literals[number] for number in part], matchkind=MatchKind.LeftmostFirst
            ).find_matches_as_indexes,
            part,
        )
        for part in parts
    ]


def any_of(literals: Iterable[bytes]) -> Find:
    """One search for all of them, for small texts: it tells whether one is there, not which ones are all there.

    It takes longer for each byte than the searches of ``tables``, and less for a text of a few hundred. Each search
    lets go of the interpreter, which another thread that is busy gives back only milliseconds later: one is better than
    seven.
    """
    longest_first = sorted(set(literals), key=lambda literal: (-len(literal), literal))
    return BytesAhoCorasick(
        longest_first, matchkind=MatchKind.LeftmostFirst, implementation=Implementation.DFA
    ).find_matches_as_indexes


_SHORT: Final = [number for number, literal in enumerate(_ALL) if len(literal) == 3]
_LONG: Final = sorted(set(range(len(_ALL))) - set(_SHORT), key=_ALL.__getitem__)
# Which of them are searched for together was measured (benchmarks/redaction.py): short ones apart from the others, and
# others with their neighbours of the alphabet.
_TABLES: Final = [
    *tables(_ALL, _SHORT),
    *tables(_ALL, [number for number in _LONG if _ALL[number] < b"a"]),
    *tables(_ALL, [number for number in _LONG if b"a" <= _ALL[number] < b"p"]),
    *tables(_ALL, [number for number in _LONG if _ALL[number] >= b"p"]),
]
FIND: Final = [find for find, _ in _TABLES]
ALL: Final = _ALL
"""All that ``FIND`` finds."""

_ANY: Final = any_of(_ALL)

# What the expressions can consume, private keys aside; and how many bytes they need to fail.
_TOKEN_BYTES: Final = bytes({*string.ascii_letters.encode(), *string.digits.encode(), *b"_-./+=%\\"})
MAX_TO_DECIDE: Final = {"eyJ": 2200}
USUALLY_TO_DECIDE: Final = 200
_AZURE_LEAD: Final = 58
"""Letters and digits that may stand before the signature of an Azure key, and the signature but for one."""
_ALNUM: Final = bytes({*string.ascii_letters.encode(), *string.digits.encode()})

_BEGINNINGS: Final = {
    literal[:length].encode(): any(
        _BOUNDED[index] for index, other in enumerate(LITERALS) if other.startswith(literal[:length])
    )
    for literal in LITERALS
    for length in range(1, len(literal))
}
"""Every proper beginning of a literal; whether it counts only where no word runs on."""
_MAX_BEGINNING: Final = max(map(len, _BEGINNINGS))
_PEM_BEGINNING: Final = re.compile(
    rb"-{1,5}(?:B(?:E(?:G(?:I(?:N(?:[ %](?:[A-Z0-9 %]{1,64}-{0,5})?)?)?)?)?)?)?\Z",
)
_PEM_WAITS: Final = re.compile(rb"-----BEGIN[ %][A-Z0-9 %]{1,64}-----[A-Za-z0-9+/=\\%\s:-]{0,48}\Z")
_MAX_PEM_BEGINNING: Final = 84 + 48

SMALL: Final = 4096
"""Bytes of a text up to which ``any_of`` is asked first."""

_SLACK: Final = {"pem": 64, "field": 8}
"""Bytes that must follow a secret before it is known to be over; two for every other shape."""


def open_place(data: bytes, begin: int) -> int:
    """Where a secret may begin, at ``begin`` or later, that is decided only by what follows the data; else their end.

    Letters and digits at the end always may: there are keys whose signature stands in their middle.
    """
    length = len(data)
    last = max(begin, length - _MAX_PEM_BEGINNING)
    if begin == length or data[-1] == ord('"') or (data[-1] == ord("\n") and data.find(b"-----", last) < 0):
        return length
    run = max(len(data.rstrip(_TOKEN_BYTES)), begin)
    place = max(len(data.rstrip(_ALNUM)), begin, length - _AZURE_LEAD)
    if run < place:
        place = min(place, _open_literal(data, run))
    if data.find(b"-", last) >= 0:
        for beginning in (_PEM_BEGINNING, _PEM_WAITS):
            if (dashes := beginning.search(data, last)) is not None:
                place = min(place, dashes.start())
    return place


def _open_literal(data: bytes, begin: int) -> int:
    """Where the first literal stands, or the beginning of one, whose fate is open."""
    length = len(data)
    tail = data[begin:]
    hits: list[tuple[int, int]] = []
    if len(tail) > SMALL or _ANY(tail):
        hits = [(start, numbers[index]) for find, numbers in _TABLES for index, start, _ in find(tail)]
    for start, index in sorted(hits):
        if index >= len(LITERALS):
            continue
        start += begin
        to_decide = MAX_TO_DECIDE.get(LITERALS[index], USUALLY_TO_DECIDE)
        if length - start < to_decide and (not _BOUNDED[index] or _LEFT.match(data, start)):
            return max(begin, start - max(lead for _, lead, _ in CONFIRM[index]))
    for start in range(max(begin, length - _MAX_BEGINNING), length):
        bounded = _BEGINNINGS.get(data[start:])
        if bounded is not None and (not bounded or _LEFT.match(data, start)):
            return start
    return length


def is_open(span: Span, length: int) -> bool:
    """Whether what follows the data, ``length`` bytes of it, may make a secret that was found in it longer."""
    return length - span.end < _SLACK.get(span.rule, 2)


def find_secrets(data: bytes, found: Iterable[list[Hit]], begin: int = 0) -> tuple[list[Span], bool, int]:
    """The secrets at ``begin`` or later that have a shape, each with its whole run, and those known by their position.

    Also whether ASCII characters are written as JSON escapes, and where the first value begins that what follows the
    data may make a secret by its position. ``found`` is what ``FIND`` found in the data.
    """
    escaped = False
    hits: list[tuple[int, int]] = []
    names: list[tuple[int, int]] = []
    for (_, numbers), table in zip(_TABLES, found, strict=True):
        for index, start, end in table:
            number = numbers[index]
            if number >= _FIRST_END:
                names.append((start, end))
            elif number < len(LITERALS):
                hits.append((start, number))
            elif not escaped:
                escaped = _ESCAPED_ASCII.match(data, start) is not None
    spans, open_at = find_fields(data, names) if names else ([], len(data))
    return [*_confirmed(data, sorted(hits), begin), *spans] if hits else spans, escaped, open_at


def _confirmed(data: bytes, hits: list[tuple[int, int]], begin: int) -> list[Span]:
    """Keeps the hits that are secrets, each with its whole run; hits inside a secret belong to it."""
    spans: list[Span] = []
    done, failed = begin, 0
    for start, index in hits:
        if start < done or (_BOUNDED[index] and not _LEFT.match(data, start)):
            continue
        span = _read(data, start, index, begin) if failed < _MAX_FAILED else _unread(data, start, index)
        if span is None:
            failed += 1
        else:
            done = span.end
            spans.append(span)
    return spans


def _read(data: bytes, start: int, index: int, begin: int) -> Span | None:
    """The secret that has its literal there."""
    for expression, lead, rule in CONFIRM[index]:
        if start - lead >= begin and (match := expression.match(data, start - lead)):
            return Span(match.start(), match.end(), rule)
    return None


def _unread(data: bytes, start: int, index: int) -> Span:
    """What a literal begins, whether it is a secret or not."""
    end = start + len(LITERALS[index])
    run = _RUN.match(data, end)
    return Span(start, run.end() if run else end, CONFIRM[index][0][2])
