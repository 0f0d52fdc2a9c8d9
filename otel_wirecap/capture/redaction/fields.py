r"""Secrets known by their position: by the name that they stand under in JSON and in texts, and in URLs.

What is searched for (``literals.py``) are the parts of names that secrets have, and a few other beginnings; one
expression reads the whole name and what follows it: a member of JSON (also within JSON within strings), an assignment
in code, configuration or a shell, a line of headers, an element of XML, a parameter of a URL, two strings of a list,
``"name": …, "value": …``. The span is that of the value alone; what is around it stays.

Invariants:

- A value of JSON ends at its quote, any other where its alphabet ends: a span never takes away structure.
- ``secret_names`` says which names count. Of a name that is likely a secret's only values count that look random. No
  word, placeholder, type or reference is a secret.
- From the beginning of a name to that of its value are 240 bytes at most: a stream keeps that much context.
- What ends where the data do is open: ``find_fields`` returns where the first such value begins.
- Linear: every expression is bounded or possessive, and the bytes of a value are read once.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from otel_wirecap.capture.redaction.literals import Hit, Progress
from otel_wirecap.capture.redaction.spans import MARKER, Span
from otel_wirecap.capture.secret_names import (
    Certainty,
    is_about_secret,
    member_certainty,
    parameter_is_secret,
)

# fmt: off
NAME_PARTS: Final = tuple(part.encode() for part in (
    "_key", "-key", "_KEY", "-KEY", "-Key", "pikey", "piKey", "PIKEY", 'Key"', "Key\\", "Key=", "Key:", "key=",
    "assw", "ASSW", "assphr", 'pass"', "pass\\", "_pass", "_PASS", 'pwd"', "pwd=", "Pwd=", "redential", "REDENTIAL",
    'ken"', 'ken\\"', "ken\\\\", "ken=", "ken'", "en =", "OKEN", "_token:", "-token:", "-Token:",
    'ret"', 'ret\\"', "ret\\\\", "ret=", "ret'", "et =", "ECRET", "_secret:", "tSecret", 'rets"',
    'uth"', "uth\\", "uth=", "_auth", "horization", 'rer"', "arer ", 'kie"', "kie\\", "kie:", 'jwt"', "jwt=", "JWT=",
    'dsn"', "DSN=", 'pat"', "pi key", "PI key", "nemonic", "ionString", "ion_string", "ture=", "sig=", "code=",
    "ken: ", "ret: ", "ken>", "ret>", 'kens":[', 'kens": [', "kens\\", 'kies"', "kies\\", "rets\\", "Key = ",
    "PWD=", "PASS=", "pass=", "sid=", "icket=", "sertion=", "verifier=", "ken%3D", "key%3D", "ret%3D",
    "-token ", "-secret ", " -u ", "--user ", "--user=", "xy-user ", " -b ", "--cookie ", "://",
))
# fmt: on
"""What is searched for: parts of names that are rare elsewhere; those that are common words with what follows them.

Four bytes are compared first: where those are rare, the search is quick.
"""

_MAX_NAME: Final = 80
_NAME_BYTES: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"
_URL_SIGNS: Final = b"?&;#"
_ESCAPE_LETTERS: Final = b"nrtbf"
_MIN_SECRET: Final = 6
_MAX_LIST: Final = 4096
_MAX_READ_AGAIN: Final = 512
"""Bytes of a value that is no secret in which others are looked for."""
_MAX_CUT_ESCAPE: Final = 16
"""Backslashes at the end of the data, of an escape or before a quote, that what follows decides."""

_BLANK: Final = rb"[ \t\r\n]{0,24}+(?:\\{1,8}+[nrt][ \t]{0,12}+){0,3}+"
_NAMED: Final = re.compile(
    rb"""(?P<name>[A-Za-z0-9_.-]{1,80}+(?:(?<=[Aa][Pp][Ii])[ ]key)?+)
    (?P<close>\\*+["'])?+ (?: \[?\] )?+
    (?:
      BLANK (?P<separator> => | <- | :TYPE | [:?]= | : | =(?!=) | %3[Dd] )
      \*{0,2}+ BLANK SCALAR CALL (?P<open>\\*+["'`])?+
    | (?P<pair> BLANK , BLANK (?P=close) ) (?P<value> VALUE (?P=close) BLANK : BLANK (?P=close) )?+
    | (?P<attribute> [ \t]{1,8}+ (?:value|content) = \\*+["'] )
    | (?P<below> EOL [ \t]{0,40}+ value:[ \t]{1,8}+ ) (?P<quote>\\*+["'])?+
    | (?P<element> (?:[ \t][^<>\r\n]{0,60}+)?+ > )
    | (?P<line> [ \t]{1,8}+ )
    )""".replace(
        b"TYPE", rb"[ ]?&?[A-Za-z][A-Za-z_.]{0,24}[ ]?=(?=[ ]{0,2}\\*[\"'`])"
    )  # of a declaration: "key: str ="
    .replace(b"SCALAR", rb"(?:[|>][+-]?EOL[ \t]{1,40}+|[&!]{1,2}[A-Za-z0-9_]{1,20}+[ ])?+")  # of YAML
    .replace(b"CALL", rb"(?P<call>[bfruBFRU]{1,2}(?=\\*[\"'])|[A-Za-z_.]{1,24}+\((?=\\*[\"']))?+")
    .replace(b"VALUE", rb"(?:[Vv]alue|ParameterValue|v)")
    .replace(b"EOL", rb"(?:\r?\n|(?:\\+r)?\\+n)")
    .replace(b"BLANK", _BLANK),
    re.VERBOSE,
)

_SCHEME: Final = rb"(?:[Bb]earer[ ]|[Bb]asic[ ]|[Tt]oken[ ]|[Aa]pi[Kk]ey[ ]|[Kk]ey[ ]|Bot[ ])?+"
_IS_SCHEME: Final = re.compile(rb"(?:Bearer|Basic|Token|ApiKey|Key|Bot)[ ]", re.IGNORECASE)
_STRING: Final = re.compile(_SCHEME + rb'(?:[^"\\\s]++|\\.)*+')
_STRING_WITHIN_STRING: Final = re.compile(_SCHEME + rb'[^"\\\s]*+(?:\\++[^"\\\s]++)*+')
_QUOTED: Final = re.compile(_SCHEME + rb"[^\s\"'`<>{}\[\](),;\\]*+")
_BARE: Final = re.compile(_SCHEME + rb"[A-Za-z0-9_.+/~@!#%^*?$:-]*+={0,2}+")
_PARAMETER: Final = re.compile(rb"[^\s&;#\"'`<>\\{}\[\](),|]*+")
_WITHIN_PARAMETER: Final = re.compile(rb"[^\s&;#%\"'`<>\\{}\[\](),|]*+")
_ELEMENT: Final = re.compile(rb"[^\s<>\"'\\]*+")
_COOKIES: Final = re.compile(rb"[^\r\n\"'\\]*+")
_COOKIE: Final = re.compile(rb"[A-Za-z0-9_.-]{1,64}=(?=[^;\s]{0,64}[0-9])[^;\s]{8}")
_NODE: Final = re.compile(
    rb"(?P<blank>(?:[\s,]|\\++[nrt])++)|(?P<open>[\[{])|(?P<close>[\]}])|(?P<plain>[A-Za-z0-9.+-]++)|\\*+[\"']"
)
_IS_NAME: Final = re.compile(_BLANK + rb":" + _BLANK)
_LINE_ITEM: Final = re.compile(
    rb"(?:-|(?:[ \t]*+(?:\r?\n|(?:\\++r)?\\++n))[ \t]{0,40}+-)[ \t]{1,8}+(?P<open>\\*+[\"'])?+"
)
_LOGIN: Final = re.compile(rb"login[ \t]{1,8}[^\s\\]{1,64}(?:[ \t\r\n]|\\[nrt]){1,8}\Z")
_MAX_LOGIN: Final = 90
_QUOTE: Final = re.compile(rb"\\*+[\"'`]")
_SETTER: Final = re.compile(rb"(?:ENV|ARG|setenv|setx|-g?x|define)[ \t]{1,2}\Z")
_USER_OPTIONS: Final = (b"-u", b"--user", b"--user=", b"xy-user")  # the last one of --proxy-user
_USER: Final = re.compile(rb"\\*+[\"']?[A-Za-z0-9_.@+-]{1,64}+:")
_PERCENT: Final = re.compile(rb"%[0-9A-Fa-f]{2}")
_USER_INFORMATION: Final = re.compile(rb"[^\s\"'`<>\\/?#(){}\[\],|]{0,256}+")

# A word, a type, prose, or a reference to what holds the value: "string", "os.environ[…]", "${KEY}", "<your key>".
_REFERENCE: Final = re.compile(
    rb"[$<{%]|vault:|arn:|op:|ssm:|os\.|process\.env|env[.:\[]|\[?redacted|[a-z][a-z0-9+.-]{0,16}://"
    rb"|(?:~|\.\.?)/[a-z.]|(?-i:/[a-z][a-z_-]{0,30}[/.]|/[a-z_-]{1,30}\Z)"
    rb"|(?:your|my|the|this|example|change|replace|insert|dummy|fake|test|sample)[_-]",
    re.IGNORECASE,
)
_LEFT_OUT: Final = re.compile(rb"x{4,}|\*{3}|\.{3}|\xe2\x80\xa6")
_WORD: Final = re.compile(rb"[A-Z]+[a-z]*|[a-z]+")
_WHOLE_WORD: Final = re.compile(rb"(?<![A-Za-z0-9])[a-z]{5,}+(?![A-Za-z0-9])")
_SEPARATOR: Final = re.compile(rb"[_.:/-]")
_HUMP: Final = re.compile(rb"[a-z][A-Z][a-z]")
_DIGITS: Final = b"0123456789"
_MAX_WORDS: Final = 200
"""Bytes: no words joined together are longer."""
_ATTRIBUTE: Final = re.compile(rb"[A-Za-z_]\w*(?:(?:\.|::|->)[A-Za-z_]\w*)++")
_ESCAPED: Final = re.compile(rb"\\(?:u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_PLAIN: Final = re.compile(rb"[^\s\"]{%d,}" % _MIN_SECRET)
_WORDS: Final = re.compile(rb"[._]?[A-Za-z][a-z]*(?:[_-][A-Za-z]?[a-z]*)*|[A-Z]{2,}(?:[_-][A-Z]{2,})+")
_IDENTIFIER: Final = re.compile(rb"[A-Za-z_]++[0-9]{0,3}+(?:[_-][A-Za-z]*+[0-9]{0,3}+)*+")
_HAS_DIGIT: Final = re.compile(rb"[^0-9]*[0-9]")
_HAS_LETTER: Final = re.compile(rb"[^A-Za-z]*[A-Za-z]")
_RANDOM: Final = re.compile(rb"(?=[^0-9]*[0-9])(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9_.+/=~%-]{16,}")
_ALNUM: Final = re.compile(rb"[A-Za-z0-9+/]++={0,2}")
_VARIED: Final = re.compile(rb"(?:[^0-9]*[0-9][^A-Za-z]*[A-Za-z]){2}")
_LINE_ENDS: Final = b"\r\n\\\"'`"


class _Value(NamedTuple):
    """A value under a secret's name: its place, whether it is a secret, and the rule that says so.

    ``is_done``: no other name is looked for within it.
    """

    begin: int
    end: int
    is_secret: bool
    rule: str = "field"
    is_done: bool = False


def find_fields(data: bytes, hits: Iterable[Hit], progress: Progress) -> tuple[list[Span], int]:
    """The secrets that are known by their position.

    Args:
        data: what is searched.
        hits: the places of ``NAME_PARTS``, in order.
        progress: how far hits were looked at before these; is brought forward.

    Returns:
        The secrets; and where the first value begins that what follows the data may make one, else their length.
    """
    spans: list[Span] = []
    length = len(data)
    open_at = length
    for start, number in hits:
        if start < progress.done:
            continue
        for value in _values(data, start, start + len(NAME_PARTS[number])):
            if value.is_secret or value.is_done or value.end - value.begin > _MAX_READ_AGAIN:
                progress.done = max(progress.done, value.end)
            if length - value.end <= _MAX_CUT_ESCAPE and not data[value.end :].strip(b"\\"):
                open_at = min(open_at, value.begin)
            if value.is_secret and data[value.begin : value.end] != _MARKER:
                spans.append(Span(value.begin, value.end, value.rule))
    return spans, open_at


_MARKER: Final = MARKER.encode()


def _values(data: bytes, start: int, end: int) -> Iterable[_Value]:
    """The values of what begins with, or has in its name, what was found at ``start`` to ``end``."""
    first = data[start]
    if first == ord(":"):
        return _user_information(data, end)
    option = data[start:end].strip()
    if option in (b"-b", b"--cookie"):
        quote = _QUOTE.match(data, end)
        begin = end if quote is None else quote.end()
        is_cookie = _COOKIE.match(data, begin) is not None
        found = _cookies(data, begin, None if quote is None else quote[0])
        return [value._replace(is_secret=value.is_secret and is_cookie) for value in found]
    if option in _USER_OPTIONS:
        return _user(data, end)
    return _named(data, start)


def _named(data: bytes, start: int) -> Iterable[_Value]:
    begin = start + 1
    if data[start] in _NAME_BYTES:
        head = data[max(0, start - _MAX_NAME) : start]
        begin = start - len(head) + len(head.rstrip(_NAME_BYTES))
        if begin and data[begin - 1] == ord("\\"):
            begin += 5 if data[begin] == ord("u") else data[begin] in _ESCAPE_LETTERS
    is_within = data[begin - 1 : begin] == b"%"
    found = _NAMED.match(data, begin + 2 * is_within)
    if found is None:
        return ()
    name, close, separator, opening = found.group("name", "close", "separator", "open")
    at = found.end()
    if separator is not None and close is None and opening is None and (is_within or _is_in_url(data, begin)):
        return _parameter(data, at, name, _WITHIN_PARAMETER if is_within else _PARAMETER)
    certainty = _certainty(name)
    if certainty is None:
        if separator is None or not _is_cookie(name):
            return ()
        if data[at : at + 1] == b"{" or (data[at : at + 1] == b"[" and close is not None):
            return _nested(data, at, Certainty.LIKELY)
        return _cookies(data, at, opening)
    if separator is not None:
        return _assigned(data, found, certainty)
    return _beside(data, begin, found, certainty)


def _beside(data: bytes, begin: int, found: re.Match[bytes], certainty: Certainty) -> Iterable[_Value]:
    """The value of a name that no sign assigns it to: the next string, attribute, element or word, or the next line."""
    at = found.end()
    close = found["close"]
    if found["pair"] is not None:
        # The names of members stand in lists too, one after the other: a value beside one has to look like one.
        sure = certainty if found["value"] is not None or found["name"].startswith(b"--") else Certainty.LIKELY
        return [_string(data, at, close, sure)] if close is not None else ()
    if found["attribute"] is not None:
        return [_judged(data, at, _QUOTED, certainty, needs_digit=True)]
    if found["below"] is not None:
        return [_judged(data, at, _QUOTED if found["quote"] else _BARE, certainty, needs_digit=True)]
    if found["element"] is not None:
        is_element = close is not None or data[begin - 1 : begin] in (b"<", b":")
        return [_element(data, at, certainty)] if is_element else ()
    return _on_line(data, begin, at, found["name"], certainty)


def _assigned(data: bytes, found: re.Match[bytes], certainty: Certainty) -> Iterable[_Value]:
    """The value behind a colon or an equals sign."""
    at = found.end()
    close, opening = found.group("close", "open")
    if opening is not None:
        if data.startswith(opening, at):
            return ()
        if close is None or close != opening or opening[-1:] != b'"':
            sure = Certainty.LIKELY if (found["call"] or b"").endswith(b"(") else certainty
            return [_judged(data, at, _QUOTED, sure, needs_digit=True)]
        return [_string(data, at, opening, certainty)]
    if data[at : at + 1] in (b"[", b"{"):
        return _nested(data, at, Certainty.LIKELY if close is None else certainty)
    if close is None:
        return _items(data, at, certainty) if data[at : at + 2] == b"- " else [_bare(data, found, certainty)]
    return ()


def _string(data: bytes, at: int, quote: bytes, certainty: Certainty) -> _Value:
    """A string of JSON, the quotes of which are spelled like that."""
    if quote[-1:] != b'"':
        return _judged(data, at, _QUOTED, certainty, needs_digit=True)
    expression = _STRING if len(quote) == 1 else _STRING_WITHIN_STRING
    value = _judged(data, at, expression, certainty)
    # What a blank ends is prose.
    is_whole = data[value.end : value.end + 1] not in (b" ", b"\t", b"\n", b"\r")
    return value if is_whole else value._replace(is_secret=False)


def _judged(
    data: bytes, at: int, expression: re.Pattern[bytes], certainty: Certainty, *, needs_digit: bool = False
) -> _Value:
    found = expression.match(data, at)
    end = at if found is None else found.end()
    if end - at < _MIN_SECRET:
        return _Value(at, end, is_secret=False)
    value = data[at:end]
    is_secret = is_secret_value(value, certainty) and not (needs_digit and _HAS_DIGIT.match(value) is None)
    return _Value(at, end, is_secret)


def _element(data: bytes, at: int, certainty: Certainty) -> _Value:
    """The text of an XML element: nothing but that, up to the end tag."""
    value = _judged(data, at, _ELEMENT, certainty)
    after = data[value.end : value.end + 2]
    if after == b"<":  # the end tag follows, or not
        return _Value(at, len(data), is_secret=False)
    return value._replace(is_secret=value.is_secret and after in (b"</", b""))


def _bare(data: bytes, found: re.Match[bytes], certainty: Certainty) -> _Value:
    """A value without quotes: in configuration, shells, lines of headers, or code, where most are no strings."""
    at = found.end()
    value = _judged(data, at, _BARE, certainty, needs_digit=True)
    after = data[value.end : value.end + 1]
    text = data[at : value.end].rstrip(b".:!?")
    scheme = _IS_SCHEME.match(text)
    said = text[scheme.end() :] if scheme else text
    is_secret = value.is_secret and after not in (b"(", b"[", b"{") and not _ATTRIBUTE.fullmatch(said)
    if is_secret and _IDENTIFIER.fullmatch(said) and not _RANDOM.fullmatch(said):
        is_line = not after or after in _LINE_ENDS
        is_secret = is_line and found[0].endswith((b"=", b": ")) and found[0][-2:-1] not in b" \t"
    elif is_secret and not scheme and said.isalnum():
        is_secret = _VARIED.match(said) is not None or _RANDOM.fullmatch(said) is not None
    return value._replace(end=at + len(text) if is_secret and after else value.end, is_secret=is_secret)


def _nested(data: bytes, at: int, certainty: Certainty) -> Iterator[_Value]:
    """The strings of an array or an object under a secret's name: those of objects, where they look random."""
    place, limit, depth, name = at, at + _MAX_LIST, 0, b""
    is_list = data[at] == ord("[")
    while place < limit and (node := _NODE.match(data, place)) is not None:
        place = node.end()
        if node.lastgroup is not None:
            depth += (node.lastgroup == "open") - (node.lastgroup == "close")
            if depth == 0 and node.lastgroup != "blank":
                yield _Value(at, place, is_secret=False, is_done=place < len(data))
                return
            continue
        end = data.find(node[0], place, limit)
        while end > 0 and len(node[0]) == 1 and data[end - 1] == ord("\\"):
            end = data.find(node[0], end + 1, limit)
        if end < 0:
            break
        if (colon := _IS_NAME.match(data, end + len(node[0]))) is not None:
            name, place = data[place:end], colon.end()
            continue
        if not is_about_secret(name.decode("ascii", "replace")):
            sure = certainty if is_list and depth == 1 else Certainty.LIKELY
            yield _string(data, place, node[0], max(sure, _certainty(name) or sure))
        name, place = b"", end + len(node[0])
    is_open = place < limit and limit > len(data)
    yield _Value(at, len(data) if is_open else place, is_secret=False, is_done=True)


def _items(data: bytes, at: int, certainty: Certainty) -> Iterator[_Value]:
    """The items of a list of YAML, each on a line of its own."""
    place = at
    while place - at < _MAX_LIST and (item := _LINE_ITEM.match(data, place)) is not None:
        value = _judged(data, item.end(), _QUOTED if item["open"] else _BARE, certainty, needs_digit=True)
        yield value._replace(is_done=True)
        place = value.end + len(item["open"] or b"")


def _parameter(data: bytes, at: int, name: bytes, expression: re.Pattern[bytes]) -> Iterable[_Value]:
    text = name.decode()
    if not parameter_is_secret(text):
        return ()
    value = _judged(data, at, expression, member_certainty(text) or Certainty.LIKELY)
    return [value._replace(rule="query")]


def _cookies(data: bytes, at: int, quote: bytes | None) -> Iterable[_Value]:
    found = _COOKIES.match(data, at)
    end = at if found is None else found.end()
    is_whole = quote is None or data.startswith(quote[:1], end) or end == len(data)
    is_secret = _COOKIE.search(data, at, end) is not None or _RANDOM.fullmatch(data, at, end) is not None
    return [_Value(at, end, is_whole and is_secret, "cookie")]


def _on_line(data: bytes, begin: int, at: int, name: bytes, certainty: Certainty) -> Iterable[_Value]:
    """What follows a word on its line: the value of an option or a directive, the password of a ``.netrc``."""
    if name.lower() == b"password" and _LOGIN.search(data[max(0, begin - _MAX_LOGIN) : begin]):
        return [_judged(data, at, _ELEMENT, Certainty.CERTAIN)]
    quote = _QUOTE.match(data, at)
    is_sure = quote is not None or name.startswith(b"--") or _SETTER.search(data, max(0, begin - 9), begin) is not None
    expression, begin = (_BARE, at) if quote is None else (_QUOTED, quote.end())
    value = _judged(data, begin, expression, certainty if is_sure else Certainty.LIKELY, needs_digit=True)
    is_other = data[value.end : value.end + 1] in (b"(", b"[", b"{", b"=")
    is_other = is_other or not (is_sure or _ALNUM.fullmatch(data, value.begin, value.end))
    return [value._replace(is_secret=value.is_secret and not is_other)]


def _user(data: bytes, at: int) -> Iterable[_Value]:
    """The password of curl's ``-u user:password``."""
    user = _USER.match(data, at)
    if user is None:
        return ()
    value = _judged(data, user.end(), _ELEMENT, Certainty.CERTAIN)
    said = data[value.begin : value.end]
    return [value._replace(is_secret=value.is_secret and _HAS_LETTER.match(said) is not None, rule="userinfo")]


def _user_information(data: bytes, at: int) -> Iterable[_Value]:
    """User and password of a URL (RFC 3986, section 3.2.1)."""
    found = _USER_INFORMATION.match(data, at)
    end = at if found is None else found.end()
    rest = [_Value(at, end, is_secret=False)] if end == len(data) else []
    information, sign, _ = data[at:end].rpartition(b"@")
    if not sign:
        return rest
    _, colon, password = _PERCENT.sub(b"_", information).partition(b":")
    is_secret = (
        is_secret_value(password, Certainty.CERTAIN) and _HAS_DIGIT.match(password) is not None
        if colon
        else is_secret_value(information, Certainty.LIKELY)
    )
    return [_Value(at, at + len(information), is_secret, "userinfo"), *rest]


def is_secret_value(value: bytes, certainty: Certainty) -> bool:
    """Whether a value under such a name is a secret: no word, placeholder, type or reference."""
    scheme = _IS_SCHEME.match(value)
    bare = _ESCAPED.sub(b"_", value[scheme.end() :] if scheme else value)
    if certainty is Certainty.LIKELY:
        is_likely = _RANDOM.fullmatch(bare) is not None and not _are_words(bare, max_digits=4)
        is_likely = is_likely and len(_WHOLE_WORD.findall(bare)) < 2
    else:
        is_likely = _PLAIN.fullmatch(bare) is not None and not _WORDS.fullmatch(bare)
        is_likely = is_likely and not _are_words(bare, max_digits=0)
    return is_likely and not _REFERENCE.match(bare) and not _LEFT_OUT.search(bare)


def _are_words(value: bytes, max_digits: int) -> bool:
    """Whether a value is words joined together, of code or of a file's name, with a number or two in it."""
    if len(value) > _MAX_WORDS:
        return False
    digits = len(value) - len(value.translate(None, _DIGITS))
    if digits > max_digits:
        return False
    # Of random letters in both cases a "word" has two or three; those of one case have nothing that joins words.
    joins = len(_SEPARATOR.findall(value)) + (_HUMP.search(value) is not None)
    words = _WORD.findall(value)
    return joins > 0 and sum(map(len, words)) >= len(words) * max(4, 7 - joins)


def _is_in_url(data: bytes, begin: int) -> bool:
    return begin > 0 and data[begin - 1] in _URL_SIGNS


def _is_cookie(name: bytes) -> bool:
    return name.lower() in (b"cookie", b"cookies", b"set-cookie")


@lru_cache(maxsize=1024)
def _certainty(name: bytes) -> Certainty | None:
    return member_certainty(name.decode("ascii", "replace"))
