"""The search: texts, JSON documents, bytes, headers and URLs go in, the same without secrets comes out.

Invariants:

- What holds no secret comes back as the very same object.
- Where a secret stood there is the fixed marker; nothing of the secret is left, its length included.
- A secret is found by its value (known ones, and the credentials of the request at hand), by its shape, or by the
  name of the header, parameter or JSON field that holds it.
- All searching is done in bytes: texts in UTF-8, so that one search serves bodies, chunks and binary data alike.
- Time is linear in the length of the text (times the number of credentials).
- One thread uses it: the writer's.
"""

import contextlib
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote, unquote_plus

import orjson

from otel_wirecap.capture.redaction import encoded, patterns
from otel_wirecap.capture.redaction.encoded import find_encoded, open_encoded
from otel_wirecap.capture.redaction.escapes import cut_escape, read_escapes
from otel_wirecap.capture.redaction.fields import open_value
from otel_wirecap.capture.redaction.known import KnownValues
from otel_wirecap.capture.redaction.names import (
    header_rule,
    is_secret_name,
    query_is_secret,
    reads_like_a_secret,
    segments_of,
)
from otel_wirecap.capture.redaction.patterns import SMALL, Find, Hit, any_of, find_secrets, is_open, open_place, tables
from otel_wirecap.capture.redaction.rules import MAX_PATTERN_BYTES, FieldSearch, Place, Rules
from otel_wirecap.capture.redaction.spans import MARKER, Span, masked

# The tokens of a valid JSON document that can hold a value: strings and numbers.
_JSON_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|-?[0-9][0-9.eE+-]*+')

# What of the findings of all searches is what: see Redactor._changed.
_SHAPES: Final = slice(len(patterns.FIND))
_ENCODED: Final = slice(len(patterns.FIND), len(patterns.FIND) + len(encoded.FIND))
_CLUES: Final = slice(len(patterns.FIND) + len(encoded.FIND), None)

_MAX_PASSES_FOR_SEEN: Final = 4
"""Some 40 credentials: each pass costs as much as the search for all shapes."""

_MAX_ESCAPES: Final = 4
"""How deep within JSON's strings JSON may stand that is spelled in a strange way."""

_MAX_HARMLESS, _MAX_REMEMBERED = 2048, 300
"""Short texts, and their characters, that held nothing: names, URLs and headers are the same again and again."""

_LARGE: Final = 1 << 17
"""Bytes of a text whose searches take a tenth of a millisecond or so together."""

_MIN_BEGINNING: Final = 8
"""Bytes of a known value at the end of a stream that are masked though the rest never came."""

# A part of a form up to its value, for fields that are no files. The bounds keep it linear.
_PART: Final = re.compile(
    rb"content-disposition:[ \t]{0,9}form-data;[ \t]{0,9}name=\"?(?P<name>[^\"\r\n;]{1,64}+)\"?[ \t]{0,9}\r?\n"
    rb"(?:[^\r\n]{1,200}+\r?\n){0,9}+\r?\n",
    re.IGNORECASE,
)
_BOUNDARY: Final = re.compile(rb"\r?\n--")

_URL: Final = re.compile(r"(?P<scheme>(?:[A-Za-z][A-Za-z0-9+.-]*:)?//)?(?P<rest>.*)", re.DOTALL)
_WORD: Final = re.compile(r"[^\s<>\"'`]+")
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://")
_URL_HEADERS: Final = frozenset({"referer", "location", "content-location", "origin", "operation-location"})


class _Own(NamedTuple):
    """What is to be known of the credentials of one request, beside the values that are masked anyway.

    Attributes:
        credentials: all of them.
        values: those that are not masked anyway.
        with_slash: whether any value of all has a slash in it.
        non_ascii: whether any is not all ASCII.
    """

    credentials: tuple[str, ...]
    values: KnownValues | None
    with_slash: bool
    non_ascii: bool


class Redactor:
    """Masks secrets.

    Args:
        known_values: Secret values to be masked wherever they stand.
        rules: what else is to be masked, and what is not.
        min_length: Known values and credentials shorter than this many characters are not searched for: they
            would mangle harmless text.
        pause: is called between the searches of a large text, each of which keeps the interpreter for itself.

    Every method takes ``counts``, the record's ``metadata.redactions``, and adds to it: rule to number of
    markers. The rules are ``credential``, ``known``, ``header``, ``cookie``, ``query``, ``userinfo``, ``field``, and
    the ids of the table of shapes (``openai``, ``aws``, ``jwt``, …). ``credentials`` are the values that
    the request at hand was sent with.

    Attributes:
        generation: is another number whenever other values are searched for.
    """

    __slots__ = (
        "_any",
        "_clues",
        "_fields",
        "_find",
        "_harmless",
        "_has_rules",
        "_known",
        "_min_length",
        "_none",
        "_pause",
        "_place",
        "_rules",
        "_seen",
        "_set",
        "_these",
        "generation",
    )

    def __init__(
        self,
        *,
        known_values: Iterable[str] = (),
        min_length: int = 8,
        rules: Rules = Rules(),  # noqa: B008  # frozen
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        self._rules = rules
        self._fields = FieldSearch(rules.fields) if rules.fields else None
        self._place: Place = "bodies"
        self._min_length = min_length
        self._pause = pause
        self._set = self._usable(known_values)
        self._known = KnownValues("known", self._set)
        self._seen = KnownValues("credential", max_passes=_MAX_PASSES_FOR_SEEN)
        self._has_rules = bool(rules.fields or rules.patterns or rules.allowed)
        self._find: list[Find] = []
        self._any: Find | None = None
        self._clues: list[bytes] = []
        self._harmless: set[tuple[str, ...] | None] = set()
        self.generation = 0
        self._changed()

    def __deepcopy__(self, memo: object) -> "Redactor":
        """Itself: a copy of what uses it uses the same."""
        return self

    def replace_known_values(self, values: Iterable[str]) -> None:
        """Sets the known values; nothing is rebuilt when they are the same as before.

        Those that are known no longer are masked all the same, for conversations quote them, until many others came.
        """
        usable = self._usable(values)
        if usable != self._set:
            self._seen.add(sorted(self._set - usable))
            self._set = usable
            self._known = KnownValues("known", usable)
            self._changed()

    def learn(self, credentials: Iterable[str]) -> None:
        """Has the credentials of a request masked in others too, until many others came.

        Those that read like a word (a local server takes any) are not: they would mangle harmless text.
        """
        new = [value for value in credentials if value not in self._seen and len(value) >= self._min_length]
        new = [value for value in new if reads_like_a_secret(value)]
        if new:
            self._seen.add(new)
            self._changed()

    @property
    def masks_prompts(self) -> bool:
        """Whether the text of messages is to be masked before it comes here."""
        return self._rules.prompts

    @property
    def has_rules(self) -> bool:
        """Whether the user says what is secret: then a text's name, or what stands around it, may make it one."""
        return self._has_rules

    def text(self, text: str, counts: dict[str, int], credentials: Sequence[str] = ()) -> str:
        """Masks the secrets in a text: the same object when it has none."""
        short = ("text", text) if len(text) <= _MAX_REMEMBERED and self._remembers(credentials) else None
        if short in self._harmless:
            return text
        data = _encoded(text)
        clean = self.bytes_(data, counts, credentials)
        if clean is not data:
            return _decoded(clean)
        if short is not None:
            self._remember(short)
        return text

    def _remembers(self, credentials: Sequence[str]) -> bool:
        """Whether what was harmless the last time is so now: it depends on nothing but the text."""
        return not self._has_rules and self._own(credentials).values is None

    def _remember(self, harmless: tuple[str, ...]) -> None:
        if len(self._harmless) >= _MAX_HARMLESS:
            self._harmless.clear()
        self._harmless.add(harmless)

    def text_with_urls(self, text: str, counts: dict[str, int], credentials: Sequence[str] = ()) -> str:
        """Masks a text that may quote URLs (a message of an error, a header): those as ``url`` does."""

        def clean(word: re.Match[str]) -> str:
            quoted = word[0]
            absolute = _ABSOLUTE.search(quoted) if "://" in quoted else None
            begin = absolute.start() if absolute else quoted.find("/")
            if begin < 0 or (absolute is None and quoted.find("?", begin) < 0):
                return quoted
            return quoted[:begin] + self.url(quoted[begin:], counts, credentials)

        if "/" in text:
            text = _WORD.sub(clean, text)
        return self.text(text, counts, credentials)

    def json(self, raw: bytes, counts: dict[str, int], credentials: Sequence[str] = ()) -> bytes:
        r"""Masks the secrets in the strings of a JSON document, keys and values alike.

        A number that as a whole is a known value becomes the marker, as a string.

        Args:
            raw: One valid JSON document, UTF-8.
            counts: Rule to number of markers; added to.
            credentials: The values that the request was sent with.

        Returns:
            The same object when it has none. Else the document with the strings concerned rewritten and
            every other byte kept.

        Raises:
            orjson.JSONDecodeError: it is no such document.
        """
        spans = self._search(raw, credentials)
        if not spans:
            return raw

        fields = {span.start - 1 for span in spans if span.rule == "field"}

        def rewritten(token: re.Match[bytes]) -> bytes:
            spelled = token[0]
            if token.start() in fields:
                _count(counts, "field")
                return orjson.dumps(MARKER)
            if spelled[0] != ord('"'):
                return self._number(spelled, counts, credentials)
            if b"\\" not in spelled:
                return b'"%s"' % self.bytes_(spelled[1:-1], counts, credentials)
            value = orjson.loads(spelled)
            clean = self.text(value, counts, credentials)
            return spelled if clean is value else orjson.dumps(clean)

        result = _JSON_TOKEN.sub(rewritten, raw)
        return raw if result == raw else result

    def bytes_(self, data: bytes, counts: dict[str, int], credentials: Sequence[str] = ()) -> bytes:
        """Masks the secrets in bytes, UTF-8 or whatever else: the same object when they have none."""
        spans = self._search(data, credentials)
        return masked(data, spans, counts) if spans else data

    def form(self, text: str, counts: dict[str, int], credentials: Sequence[str] = ()) -> str:
        """Masks a form, ``application/x-www-form-urlencoded``: fields by their name, and what else is secret."""
        if self._rules.mode != "on":
            return text
        return self.text(self._query(text, counts, credentials, "field"), counts, credentials)

    def multipart(self, data: bytes, counts: dict[str, int], credentials: Sequence[str] = ()) -> bytes:
        """Masks a form, ``multipart/form-data`` (RFC 7578): fields by their name, and what else is secret."""
        spans = self._search(data, credentials)
        for part in _PART.finditer(data) if self._rules.mode == "on" else ():
            name = part["name"].decode("utf-8", "replace")
            if name.lower() in self._rules.fields or is_secret_name(segments_of(name)):
                end = _BOUNDARY.search(data, part.end())
                value = Span(part.end(), end.start() if end else len(data), "field")
                if value.start < value.end:
                    spans.append(value)
        return masked(data, spans, counts) if spans else data

    def stream(
        self, data: bytes, begin: int, credentials: Sequence[str] = (), *, is_end: bool = False
    ) -> tuple[list[Span], int]:
        """The secrets in a part of a stream, as far as what follows cannot change them.

        Args:
            data: what is not decided yet, after some of what is.
            begin: where the undecided part begins.
            credentials: The values that the request was sent with.
            is_end: Nothing follows. The beginning of a known value at the very end is a secret too, from 8 bytes on.

        Returns:
            The secrets, and the place that all is decided up to.
        """
        if self._rules.mode != "on":
            return [], len(data)
        return self._stream(data, begin, credentials, _MAX_ESCAPES, is_end=is_end)

    def _stream(
        self, data: bytes, begin: int, credentials: Sequence[str], escapes: int, *, is_end: bool
    ) -> tuple[list[Span], int]:
        """The secrets as the data are spelled, and those that their escapes hide: see ``stream`` and ``_search``."""
        spans, place, escaped = self._decided(data, begin, credentials, is_end=is_end)
        cut = None if is_end else cut_escape(data, begin)
        if escaped and escapes:
            read, places = read_escapes(data[:cut])
            more, read_place = self._stream(read, bisect_left(places, begin), credentials, escapes - 1, is_end=is_end)
            spans += [Span(places[start], places[end], rule) for start, end, rule in more]
            place = min(place, places[read_place])
        if cut is not None:
            place = min(place, cut)
        # A secret that reaches beyond the place is not told either, so its beginning is the place: those that end last
        # first, for each makes fewer end before the place. One that ends where an escape is cut may go on with that.
        for span in sorted(spans, key=lambda span: span.end, reverse=True):
            if span.end > place > span.start or span.end == cut:
                place = min(place, max(begin, span.start))
        return [Span(max(span.start, begin), span.end, span.rule) for span in spans if begin < span.end <= place], place

    def _decided(
        self, data: bytes, begin: int, credentials: Sequence[str], *, is_end: bool
    ) -> tuple[list[Span], int, bool]:
        """The secrets as the data are spelled, the place that all is decided up to; whether escapes may hide others."""
        length = len(data)
        own = self._own(credentials)
        known = [self._seen, self._known, *([own.values] if own.values is not None else [])]
        found = self._found(data)
        has_hits = any(found)
        spans, escaped = find_secrets(data, found[_SHAPES], begin) if has_hits else ([], False)
        if is_end:
            place = length
            for values in known:
                open_at = values.open_place(data, begin, length)
                if length - open_at >= _MIN_BEGINNING:
                    spans.append(Span(open_at, length, values.rule))
        else:
            place = self._open_place(data, begin, known, spans)
        if has_hits or own.values is not None:
            spans += find_encoded(data, found[_ENCODED], begin)
            spans += self._values(data, found[_CLUES], own)
        return self._by_rules(data, spans) if self._has_rules else spans, place, escaped or self._hides(data, own)

    def _open_place(self, data: bytes, begin: int, known: Iterable[KnownValues], shapes: Iterable[Span]) -> int:
        """Where a secret may begin, at ``begin`` or later, that what follows the data decides; else their length."""
        length = len(data)
        place = min(open_place(data, begin), open_encoded(data, begin), open_value(data, begin))
        for values in known:
            place = values.open_place(data, begin, place)
        for span in shapes:
            if begin <= span.start < place and is_open(span, length):
                place = span.start
        if self._fields is not None:
            place = min(place, self._fields.open_place(data, begin))
        if self._rules.patterns:
            place = min(place, max(begin, length - MAX_PATTERN_BYTES))
        return place

    def headers(
        self, headers: Sequence[tuple[str, str]], counts: dict[str, int], credentials: Sequence[str] = ()
    ) -> list[list[str]]:
        """Masks headers: whole values by their name, secrets within the others.

        Returns:
            ``[name, value]`` in wire order.
        """
        if self._rules.mode == "off":
            return [[name, value] for name, value in headers]
        if not self._remembers(credentials):
            with self._at("headers"):
                return self._headers(headers, counts, credentials)
        harmless = self._harmless
        new = [header for header in headers if ("header", *header) not in harmless]
        told = dict(zip(new, self._headers(new, counts, credentials), strict=True)) if new else {}
        for header, clean in told.items():
            if tuple(clean) == header and len(header[1]) <= _MAX_REMEMBERED:
                self._remember(("header", *header))
        return [told[header] if header in told else list(header) for header in headers]

    def _headers(
        self, headers: Sequence[tuple[str, str]], counts: dict[str, int], credentials: Sequence[str]
    ) -> list[list[str]]:
        # Most hold nothing: one search tells so of all of them.
        lines = "\n".join(name if self._named(name) else f"{name}: {value}" for name, value in headers)
        is_clean = not self._has_rules and not self._search(_encoded(lines), credentials)
        return [self._header(name, value, counts, credentials, is_clean=is_clean) for name, value in headers]

    def url(self, url: str, counts: dict[str, int], credentials: Sequence[str] = ()) -> str:
        """Masks a URL, or the path and query of one.

        User and password go, parameters by their name, and secrets wherever else they stand.
        """
        if self._rules.mode == "off":
            return url
        short = ("url", url) if len(url) <= _MAX_REMEMBERED and self._remembers(credentials) else None
        if short in self._harmless:
            return url
        with self._at("urls"):
            clean = self._url(url, counts, credentials)
        if short is not None and clean is url:
            self._remember(short)
        return clean

    def _url(self, url: str, counts: dict[str, int], credentials: Sequence[str]) -> str:
        parts = _URL.fullmatch(url)
        assert parts is not None  # noqa: S101  # every part is optional
        scheme, rest = parts["scheme"] or "", parts["rest"]
        if scheme:
            authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
            userinfo, _, _ = authority.rpartition("@")
            if userinfo:
                _count(counts, "userinfo")
                rest = MARKER + rest[len(userinfo) :]
        rest, hash_, fragment = rest.partition("#")
        path, mark, query = rest.partition("?")
        path = "/".join(self._percent_encoded(segment, counts, credentials) for segment in path.split("/"))
        query = self._query(query, counts, credentials)
        fragment = self._query(fragment, counts, credentials)
        clean = self.text(f"{scheme}{path}{mark}{query}{hash_}{fragment}", counts, credentials)
        return url if clean == url else clean

    def _search(self, data: bytes, credentials: Sequence[str], escapes: int = _MAX_ESCAPES) -> list[Span]:
        """The secrets in the data. Those that stand earlier in the list name what several rules found.

        ``escapes``: how often escapes are read that hide secrets: those of JSON, of JSON within JSON, and so on.
        """
        if self._rules.mode != "on":
            return []
        own = self._own(credentials)
        found = self._found(data)
        hides = self._hides(data, own)
        if not any(found) and own.values is None and not self._has_rules and not hides:
            return []
        shapes, escaped = find_secrets(data, found[_SHAPES])
        spans = [*self._values(data, found[_CLUES], own), *shapes, *find_encoded(data, found[_ENCODED])]
        if self._has_rules:
            spans = self._by_rules(data, spans)
        if (escaped or hides) and escapes:
            read, places = read_escapes(data)
            more = self._search(read, credentials, escapes - 1)
            spans += [Span(places[start], places[end], rule) for start, end, rule in more]
        return spans

    def _found(self, data: bytes) -> list[list[Hit]]:
        """What each of the searches finds."""
        if len(data) <= SMALL:
            if self._any is None:
                self._any = any_of([*patterns.ALL, *encoded.SPELLED, *self._clues])
            return [find(data) for find in self._find] if self._any(data) else self._none
        if len(data) < _LARGE:
            return [find(data) for find in self._find]
        found = []
        for find in self._find:
            self._pause()
            found.append(find(data))
        return found

    def _values(self, data: bytes, clues: Iterable[list[Hit]], own: _Own) -> list[Span]:
        """The places of the values that are known; ``clues`` are the parts of them that were found."""
        own_spans = own.values.spans(data) if own.values is not None else []
        if not any(clues):
            return own_spans
        return [*self._seen.spans(data), *own_spans, *self._known.spans(data)]

    def _by_rules(self, data: bytes, spans: list[Span]) -> list[Span]:
        """Adds what the user's rules find, and leaves out what they allow."""
        rules = self._rules
        if self._fields is not None:
            spans += self._fields.spans(data)
        for pattern in rules.patterns:
            if self._place in pattern.places:
                spans += [Span(*match.span(), pattern.name) for match in pattern.expression.finditer(data) if match[0]]
        if rules.allowed:
            spans = [span for span in spans if data[span.start : span.end] not in rules.allowed]
        return spans

    @contextlib.contextmanager
    def _at(self, place: Place) -> Iterator[None]:
        """Has the rules for a place count."""
        before, self._place = self._place, place
        try:
            yield
        finally:
            self._place = before

    def _changed(self) -> None:
        """The values that are searched for are others now."""
        clues = sorted(self._seen.clues | self._known.clues)
        self._find = [*patterns.FIND, *encoded.FIND, *(find for find, _ in tables(clues, range(len(clues))))]
        self._any = None
        self._clues = clues
        self._none: list[list[Hit]] = [[] for _ in self._find]
        self._these = self._find_own(())
        self._harmless.clear()
        self.generation += 1

    def _own(self, credentials: Sequence[str]) -> _Own:
        """What the credentials of a request need beyond the values that are masked anyway."""
        if credentials is not self._these.credentials:
            self._these = self._find_own(tuple(credentials))
        return self._these

    def _find_own(self, credentials: tuple[str, ...]) -> _Own:
        new = tuple(value for value in credentials if len(value) >= self._min_length and value not in self._seen)
        values = _credential_search(new) if new else None
        known = [known for known in (self._seen, self._known, values) if known is not None]
        return _Own(credentials, values, any(one.with_slash for one in known), any(one.non_ascii for one in known))

    @staticmethod
    def _hides(data: bytes, own: _Own) -> bool:
        r"""Whether the data may spell a known value so that only reading their escapes tells.

        Slashes may have an escape or none, and characters beyond ASCII too, one by one.
        """
        return (own.with_slash and b"\\/" in data) or (own.non_ascii and b"\\u" in data)

    def _number(self, spelled: bytes, counts: dict[str, int], credentials: Sequence[str]) -> bytes:
        number = spelled.decode()
        rule = (
            "credential"
            if number in credentials or number in self._seen
            else "known"
            if number in self._known
            else None
        )
        if rule is None or len(spelled) < self._min_length:
            return spelled
        _count(counts, rule)
        return orjson.dumps(MARKER)

    def _named(self, name: str) -> str | None:
        """The rule by which a header of this name holds a secret; None where it holds none."""
        return "header" if name.lower() in self._rules.headers else header_rule(name)

    def _header(
        self, name: str, value: str, counts: dict[str, int], credentials: Sequence[str], *, is_clean: bool
    ) -> list[str]:
        rule = self._named(name)
        if rule is not None:
            if value:
                _count(counts, rule)
                value = MARKER
            return [name if is_clean else self.text(name, counts, credentials), value]
        if name.lower() in _URL_HEADERS:
            return [name, self.url(value, counts, credentials)]
        holds_secrets = not is_clean and bool(self._search(_encoded(f"{name}: {value}"), credentials))
        if holds_secrets:
            name = self.text(name, counts, credentials)
        if holds_secrets or "?" in value or "@" in value:
            value = self.text_with_urls(value, counts, credentials)
        return [name, value]

    def _query(self, query: str, counts: dict[str, int], credentials: Sequence[str], rule: str = "query") -> str:
        return "&".join(self._parameter(pair, counts, credentials, rule) for pair in query.split("&"))

    def _parameter(self, pair: str, counts: dict[str, int], credentials: Sequence[str], rule: str) -> str:
        name, equals, value = pair.partition("=")
        decoded = unquote_plus(name)
        if value and (query_is_secret(decoded) or decoded.lower() in self._rules.fields):
            _count(counts, rule)
            value = MARKER
        name = self._percent_encoded(name, counts, credentials)
        return f"{name}{equals}{self._percent_encoded(value, counts, credentials)}"

    def _percent_encoded(self, part: str, counts: dict[str, int], credentials: Sequence[str]) -> str:
        """Masks the whole of a part whose percent-encoding hides a secret from a search of it as it is."""
        if "%" not in part and "+" not in part:
            return part
        found: dict[str, int] = {}
        clean = self.text(part, found, credentials)
        for decode in (unquote, unquote_plus):
            decoded = _encoded(decode(part))
            spans = self._search(decoded, credentials)
            if spans and masked(decoded, spans, {}) != _encoded(decode(clean)):
                _count(counts, spans[0].rule)
                return MARKER
        for rule, count in found.items():
            counts[rule] = counts.get(rule, 0) + count
        return clean

    def _usable(self, values: Iterable[str]) -> frozenset[str]:
        return frozenset(value for value in map(str.strip, values) if len(value) >= self._min_length)


@lru_cache(maxsize=256)
def _credential_search(credentials: tuple[str, ...]) -> KnownValues:
    return KnownValues("credential", credentials)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:  # a known value that is no text stood within a character
        return data.decode("utf-8", "replace")


def _count(counts: dict[str, int], rule: str) -> None:
    counts[rule] = counts.get(rule, 0) + 1
