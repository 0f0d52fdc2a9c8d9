"""The masking of secrets: texts, JSON documents, bytes, headers and URLs go in, the same without secrets comes out.

Invariants:

- What holds no secret comes back as the very same object.
- Where a secret stood there is the fixed marker; nothing of the secret is left, its length included.
- One thread uses it: the writer's.
"""

import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from io import StringIO
from typing import Final
from urllib.parse import unquote, unquote_plus

import orjson

from otel_wirecap.capture.redaction.rules import Rules
from otel_wirecap.capture.redaction.search import SecretSearch, bounded
from otel_wirecap.capture.redaction.spans import MARKER, Span, add_counts, masked, merged
from otel_wirecap.capture.secret_names import PARTS_OF_SECRET_NAMES, header_rule, parameter_is_secret

# The tokens of a valid JSON document that can hold a value: strings and numbers.
_JSON_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|-?[0-9][0-9.eE+-]*+')

_QUOTED_MARKER: Final = orjson.dumps(MARKER)

_MAX_REMEMBERED: Final = 300
"""Characters of a text that is remembered where it held nothing."""

_OF_STRINGS: Final = frozenset({"field", "cookie"})
"""Rules of what a member's name, or what stands before a string, says of all of the string."""

# A part of a form up to its value, for fields that are no files. The bounds keep it linear.
_PART: Final = re.compile(
    rb"content-disposition:[ \t]{0,9}form-data;[ \t]{0,9}name=\"?(?P<name>[^\"\r\n;]{1,64}+)\"?[ \t]{0,9}\r?\n"
    rb"(?:[^\r\n]{1,200}+\r?\n){0,9}+\r?\n",
    re.IGNORECASE,
)
_BOUNDARY: Final = re.compile(rb"\r?\n--")

_URL: Final = re.compile(r"(?P<scheme>(?:[A-Za-z][A-Za-z0-9+.-]*:)?//)?(?P<rest>.*)", re.DOTALL)
_PAIR: Final = re.compile("[^&]+")
_TO_READ: Final = re.compile(f"[%+]|{PARTS_OF_SECRET_NAMES}")
"""A parameter without, in lower case, is no secret by its name, and has no other spelling."""
_WORD: Final = re.compile(r"[^\s<>\"'`]+")
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}://")
_URL_HEADERS: Final = frozenset({"referer", "location", "content-location", "origin", "operation-location"})


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
        search: what finds them.
        masks_prompts: whether the text of messages is to be masked before it comes here.
    """

    __slots__ = ("_rules", "masks_prompts", "search")

    def __init__(
        self,
        *,
        known_values: Iterable[str] = (),
        min_length: int = 8,
        rules: Rules = Rules(),  # noqa: B008  # frozen
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        self._rules = rules
        self.masks_prompts = rules.prompts
        self.search = SecretSearch(known_values=known_values, min_length=min_length, rules=rules, pause=pause)

    def __deepcopy__(self, memo: object) -> "Redactor":
        """Itself: a copy of what uses it uses the same."""
        return self

    def text(self, text: str, counts: dict[str, int], credentials: Sequence[str] = ()) -> str:
        """Masks the secrets in a text: the same object when it has none."""
        short = ("text", text) if len(text) <= _MAX_REMEMBERED and self.search.remembers(credentials) else None
        if short in self.search.harmless:
            return text
        data = _encoded(text)
        clean = self.bytes_(data, counts, credentials)
        if clean is not data:
            return _decoded(clean)
        if short is not None:
            self.search.remember(short)
        return text

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
        spans = self.search.spans(raw, credentials)
        if not spans:
            return raw

        # The rule by which the whole of a string is a secret, by the place of its quote.
        fields = {span.start - 1: span.rule for span in spans if span.rule in _OF_STRINGS}

        def rewritten(token: re.Match[bytes]) -> bytes:
            spelled = token[0]
            if token.start() in fields:
                _count(counts, fields[token.start()])
                return _QUOTED_MARKER
            if spelled[0] != ord('"'):
                return self._number(spelled, counts, credentials)
            if b"\\" not in spelled:
                return b'"%s"' % self.bytes_(spelled[1:-1], counts, credentials)
            try:
                value = orjson.loads(spelled)
            except orjson.JSONDecodeError:  # half of a surrogate pair
                said = _encoded(json.loads(spelled))
                kept = self.bytes_(said, counts, credentials)
                return spelled if kept is said else json.dumps(kept.decode("utf-8", "surrogatepass")).encode()
            clean = self.text(value, counts, credentials)
            return spelled if clean is value else orjson.dumps(clean)

        result, done, left = bytearray(), 0, deque(merged(spans))
        for token in _JSON_TOKEN.finditer(raw):
            begin, end = token.span()
            while left and left[0].end <= begin:
                left.popleft()
            if not left:
                break
            if left[0].start < end:
                result += raw[done:begin]
                result += rewritten(token)
                done = end
        result += raw[done:]
        return raw if result == raw else bytes(result)

    def bytes_(self, data: bytes, counts: dict[str, int], credentials: Sequence[str] = ()) -> bytes:
        """Masks the secrets in bytes, UTF-8 or whatever else: the same object when they have none."""
        spans = self.search.spans(data, credentials)
        return masked(data, spans, counts) if spans else data

    def form(self, text: str, counts: dict[str, int], credentials: Sequence[str] = ()) -> str:
        """Masks a form, ``application/x-www-form-urlencoded``: fields by their name, and what else is secret."""
        if self._rules.mode != "on":
            return text
        return self.text(self._query(text, counts, credentials, "field"), counts, credentials)

    def multipart(self, data: bytes, counts: dict[str, int], credentials: Sequence[str] = ()) -> bytes:
        """Masks a form, ``multipart/form-data`` (RFC 7578): fields by their name, and what else is secret."""
        spans = self.search.spans(data, credentials)
        for part in _PART.finditer(data) if self._rules.mode == "on" else ():
            name = part["name"].decode("utf-8", "replace")
            if name.lower() in self._rules.fields or parameter_is_secret(name):
                end = _BOUNDARY.search(data, part.end())
                value = Span(part.end(), end.start() if end else len(data), "field")
                if value.start < value.end:
                    spans.append(value)
        return masked(data, bounded(spans), counts) if spans else data

    def headers(
        self, headers: Sequence[tuple[str, str]], counts: dict[str, int], credentials: Sequence[str] = ()
    ) -> list[list[str]]:
        """Masks headers: whole values by their name, secrets within the others.

        Returns:
            ``[name, value]`` in wire order.
        """
        if self._rules.mode == "off":
            return [[name, value] for name, value in headers]
        if not self.search.remembers(credentials):
            with self.search.at("headers"):
                return self._headers(headers, counts, credentials)
        harmless = self.search.harmless
        new = [header for header in headers if ("header", *header) not in harmless]
        told = dict(zip(new, self._headers(new, counts, credentials), strict=True)) if new else {}
        for header, clean in told.items():
            if tuple(clean) == header and len(header[1]) <= _MAX_REMEMBERED:
                self.search.remember(("header", *header))
        return [told[header] if header in told else list(header) for header in headers]

    def _headers(
        self, headers: Sequence[tuple[str, str]], counts: dict[str, int], credentials: Sequence[str]
    ) -> list[list[str]]:
        # Most hold nothing: one search tells so of all of them.
        lines = "\n".join(name if self._named(name) else f"{name}: {value}" for name, value in headers)
        is_clean = not self.search.has_rules and not self.search.spans(_encoded(lines), credentials)
        return [self._header(name, value, counts, credentials, is_clean=is_clean) for name, value in headers]

    def url(self, url: str, counts: dict[str, int], credentials: Sequence[str] = ()) -> str:
        """Masks a URL, or the path and query of one.

        User and password go, parameters by their name, and secrets wherever else they stand.
        """
        if self._rules.mode == "off":
            return url
        short = ("url", url) if len(url) <= _MAX_REMEMBERED and self.search.remembers(credentials) else None
        if short in self.search.harmless:
            return url
        with self.search.at("urls"):
            clean = self._url(url, counts, credentials)
        if short is not None and clean is url:
            self.search.remember(short)
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
        path = "/".join(self._segment(segment, counts, credentials) for segment in path.split("/"))
        query = self._query(query, counts, credentials)
        fragment = self._query(fragment, counts, credentials)
        clean = self.text(f"{scheme}{path}{mark}{query}{hash_}{fragment}", counts, credentials)
        return url if clean == url else clean

    def _number(self, spelled: bytes, counts: dict[str, int], credentials: Sequence[str]) -> bytes:
        rule = self.search.rule_of(spelled.decode(), credentials)
        if rule is None:
            return spelled
        _count(counts, rule)
        return _QUOTED_MARKER

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
        holds_secrets = not is_clean and bool(self.search.spans(_encoded(f"{name}: {value}"), credentials))
        if holds_secrets:
            name = self.text(name, counts, credentials)
        if holds_secrets or "?" in value or "@" in value:
            value = self.text_with_urls(value, counts, credentials)
        return [name, value]

    def _segment(self, segment: str, counts: dict[str, int], credentials: Sequence[str]) -> str:
        """A segment of a path, with its parameters (RFC 3986, section 3.3): ``name;token=…``."""
        name, *parameters = segment.split(";")
        parts = [self._parameter(parameter, counts, credentials, "query") for parameter in parameters]
        return ";".join([self._percent_encoded(name, counts, credentials), *parts])

    def _query(self, query: str, counts: dict[str, int], credentials: Sequence[str], rule: str = "query") -> str:
        clean, done = StringIO(), 0
        for pair in _PAIR.finditer(query):
            if self._rules.fields or _TO_READ.search(pair[0].lower()):
                clean.write(query[done : pair.start()])
                clean.write(self._parameter(pair[0], counts, credentials, rule))
                done = pair.end()
        clean.write(query[done:])
        return clean.getvalue() if done else query

    def _parameter(self, pair: str, counts: dict[str, int], credentials: Sequence[str], rule: str) -> str:
        name, equals, value = pair.partition("=")
        decoded = unquote_plus(name)
        if value and (parameter_is_secret(decoded) or decoded.lower() in self._rules.fields):
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
        for decode in (unquote, unquote_plus) if "+" in part else (unquote,):
            decoded = _encoded(decode(part))
            spans = self.search.spans(decoded, credentials)
            if spans and masked(decoded, spans, {}) != _encoded(decode(clean)):
                _count(counts, spans[0].rule)
                return MARKER
        add_counts(counts, found)
        return clean


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:  # a known value that is no text stood within a character
        return data.decode("utf-8", "replace")


def _count(counts: dict[str, int], rule: str) -> None:
    counts[rule] = counts.get(rule, 0) + 1
