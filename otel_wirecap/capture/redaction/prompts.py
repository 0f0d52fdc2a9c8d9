"""Prompts and answers taken out of bodies, streams, URLs and headers; their structure is left.

Nothing is looked for: everything is content and masked, but for what is known to be structure (see ``structure``).

Invariants:

- JSON keeps its structure (see ``json_masking``), wherever it stands: as a body, as the data of events, on lines, in
  the frames of AWS event streams, those in base64 included. Any other text is masked as a whole.
- Each piece of a stream comes out, in order; where the stream was cut does not change what the pieces say together.
  The marker stands where the text began.
- A piece comes out when the frame that ends in it is whole, or the few hundred bytes that may be structure are.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
import zlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, unquote_plus

from otel_wirecap.capture.redaction.documents import parsed
from otel_wirecap.capture.redaction.edits import Edits, Pieces
from otel_wirecap.capture.redaction.json_masking import JSONMasking
from otel_wirecap.capture.redaction.spans import MARKER
from otel_wirecap.capture.redaction.stream import Released
from otel_wirecap.capture.redaction.structure import NAME, VALUE, is_structure_of_urls
from otel_wirecap.capture.secret_names import segments_of

if TYPE_CHECKING:
    from collections.abc import Sequence

RULE: Final = "prompt"
"""What markers are counted under."""

_MARKER: Final = MARKER.encode()

_LINES_OF_JSON: Final = frozenset({
    "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines",
    "application/json-seq",
})  # fmt: skip
_NEVER_JSON: Final = ("text/", "multipart/", "image/", "audio/", "video/")
_EVENT_BEGINNINGS: Final = (b"data:", b"event:", b"id:", b"retry:", b":")
_JSON_BEGINNINGS: Final = (b"{", b"[", b'"')
_BLANK: Final = b" \t\r\n\x1e\xef\xbb\xbf"
_TO_GUESS: Final = 8
_MAX_TO_GUESS: Final = 128
_BOM: Final = b"\xef\xbb\xbf"

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_FIELDS: Final = (b"data", b"event", b"id", b"retry")
_FIELD: Final = re.compile(rb"(?:data|event|id|retry)?:[ ]?")
_DONE: Final = b"[DONE]"
_MAX_FIELD: Final = 128


class _Reader(ABC):
    """Finds what is content in data of one kind."""

    def __init__(self, edits: Edits) -> None:
        self._edits = edits

    @abstractmethod
    def read(self, data: bytes, at: int, base: int, *, is_end: bool) -> int:
        """Takes ``data`` from ``at`` on; ``base`` is their place in the stream. Returns where it got to."""

    @property
    def is_broken(self) -> bool:
        """Whether what was read is no whole document, although it began like one."""
        return False


class _Text(_Reader):
    """All is content."""

    def __init__(self, edits: Edits) -> None:
        super().__init__(edits)
        self._is_marked = False

    def read(self, data: bytes, at: int, base: int, *, is_end: bool) -> int:
        """See ``_Reader``."""
        if at < len(data):
            if self._is_marked:
                self._edits.drop(base + at, base + len(data))
            else:
                self._edits.replace(base + at, base + len(data), _MARKER)
            self._is_marked = True
        return len(data)


class _JSON(_Reader):
    """JSON documents; where they are on lines, one that is none does not spoil the next."""

    def __init__(self, edits: Edits, *, on_lines: bool) -> None:
        super().__init__(edits)
        self._masking = JSONMasking(edits)
        self._on_lines = on_lines

    def read(self, data: bytes, at: int, base: int, *, is_end: bool) -> int:
        """See ``_Reader``."""
        masking = self._masking
        while at < len(data):
            if not self._on_lines:
                return masking.read(data, at, len(data), base, is_end=is_end)
            end = data.find(b"\n", at)
            stop = len(data) if end < 0 else end
            at = masking.read(data, at, stop, base, is_end=is_end or end >= 0)
            if end < 0:
                return at
            if masking.failed or masking.is_in_string:
                masking.reset()
            at = end + 1
        return at

    @property
    def is_broken(self) -> bool:
        """See ``_Reader``."""
        return not self._on_lines and not self._masking.is_between


class _Events(_Reader):
    """Server-sent events: the names of fields stay, of data what stays of JSON, and short names of events.

    Args:
        edits: are added to.
        are_certain: the type says that these are events; else what they are named may be content, too.
    """

    def __init__(self, edits: Edits, *, are_certain: bool = True) -> None:
        super().__init__(edits)
        self._are_certain = are_certain
        self._masking = JSONMasking(edits)
        self._is_dropping = False
        self._in_data = False
        self._is_first = True

    def read(self, data: bytes, at: int, base: int, *, is_end: bool) -> int:
        """See ``_Reader``."""
        if self._is_first and at < len(data):
            if not is_end and len(data) - at < len(_BOM) and _BOM.startswith(data[at:]):
                return at
            self._is_first = False
            at += len(_BOM) * data.startswith(_BOM, at)
        while at < len(data):
            end = _LINE_END.search(data, at)
            if end is not None and end[0] == b"\r" and end.end() == len(data) and not is_end:
                end = None  # the rest of the line's end may follow
                stop = len(data) - 1
            else:
                stop = len(data) if end is None else end.start()
            got = self._line(data, at, stop, base, is_whole=end is not None or is_end)
            if end is None:
                return got
            if stop == at and not self._in_data and not self._is_dropping:
                self._masking.reset()
            self._in_data = self._is_dropping = False
            at = end.end()
        return at

    def _line(self, data: bytes, at: int, stop: int, base: int, *, is_whole: bool) -> int:
        """Takes a line or a part of one; returns where it got to."""
        if self._is_dropping:
            self._edits.drop(base + at, base + stop)
            return stop
        if not self._in_data:
            if at == stop:
                return at
            field = _FIELD.match(data, at, stop)
            if field is None:
                line = data[at:stop]
                if any(line == name[: len(line)] for name in _FIELDS):
                    return stop if is_whole else at
                return self._drop(at, stop, base)
            if not is_whole and field.end() == stop:
                return at
            if data[at : at + 4] != b"data":
                return self._other_field(data, at, field.end(), stop, base, is_whole=is_whole)
            if self._masking.is_between:
                rest = data[field.end() : stop].rstrip(b" ")
                is_short = stop - at <= _MAX_FIELD
                if is_short and rest == _DONE[: len(rest)] and (not is_whole or rest in (_DONE, b"")):
                    return stop if is_whole else at
            self._in_data = True
            at = field.end()
        return self._masking.read(data, at, stop, base, is_end=is_whole)

    def _other_field(self, data: bytes, at: int, value: int, stop: int, base: int, *, is_whole: bool) -> int:
        """Takes the name of an event and the like; a comment is content."""
        if value == stop:
            return stop
        if data[at : at + 1] != b":":
            if not is_whole and stop - at <= _MAX_FIELD:
                return at
            if self._are_certain and is_whole and stop - at <= _MAX_FIELD and VALUE.fullmatch(data, value, stop):
                return stop
        return self._drop(value, stop, base)

    def _drop(self, at: int, stop: int, base: int) -> int:
        self._is_dropping = True
        self._edits.replace(base + at, base + stop, _MARKER)
        return stop


class _Frames(_Reader):
    """AWS event streams: each frame is made anew."""

    def __init__(self, edits: Edits, max_bytes: int) -> None:
        super().__init__(edits)
        self._max_bytes = max_bytes
        self._rest: _Text | None = None

    def read(self, data: bytes, at: int, base: int, *, is_end: bool) -> int:
        """See ``_Reader``."""
        while self._rest is None and len(data) - at >= _PRELUDE.size:
            total, headers, checksum = _PRELUDE.unpack_from(data, at)
            is_frame = checksum == zlib.crc32(data[at : at + 8])
            if not is_frame or not _PRELUDE.size + headers + 4 <= total <= self._max_bytes:
                self._rest = _Text(self._edits)
            elif len(data) - at < total:
                break
            else:
                try:
                    clean, markers = _masked_frame(data[at : at + total], headers)
                except (struct.error, IndexError, ValueError):
                    self._rest = _Text(self._edits)
                    break
                self._edits.replace(base + at, base + at + total, clean, markers)
                at += total
        if is_end and self._rest is None:
            self._rest = _Text(self._edits)
        return at if self._rest is None else self._rest.read(data, at, base, is_end=is_end)


class _Guess(_Reader):
    """What the first bytes look like: a document that is whole is JSON or a text, no events."""

    def __init__(self, edits: Edits, *, json: bool, events: bool) -> None:
        super().__init__(edits)
        self._json = json
        self._events = events
        self._reader: _Reader | None = None

    def read(self, data: bytes, at: int, base: int, *, is_end: bool) -> int:
        """See ``_Reader``."""
        if self._reader is None:
            head = data[at : at + _MAX_TO_GUESS].lstrip(_BLANK)
            if len(head) < _TO_GUESS and len(data) - at < _MAX_TO_GUESS and not is_end:
                return at
            if self._events and head.startswith(_EVENT_BEGINNINGS):
                self._reader = _Events(self._edits, are_certain=False)
            elif self._json and head.startswith(_JSON_BEGINNINGS):
                self._reader = _JSON(self._edits, on_lines=False)
            else:
                self._reader = _Text(self._edits)
        return self._reader.read(data, at, base, is_end=is_end)

    @property
    def is_broken(self) -> bool:
        """See ``_Reader``."""
        return self._reader is not None and self._reader.is_broken


def _reader_of(content_type: str, edits: Edits, max_bytes: int, *, is_stream: bool) -> _Reader:
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        return _Events(edits)
    if kind == "application/vnd.amazon.eventstream":
        return _Frames(edits, max_bytes)
    if "json" in kind:
        return _JSON(edits, on_lines=kind in _LINES_OF_JSON)
    return _Guess(edits, json=not kind.startswith(_NEVER_JSON), events=is_stream)


class PromptMasking:
    """Masks the content of one stream.

    Args:
        content_type: its type.
        max_bytes: a frame that is longer is masked whole, with all that follows.
        is_stream: it is no single document, so that text of no known type may be events.
    """

    def __init__(self, content_type: str, max_bytes: int = 1 << 20, *, is_stream: bool = True) -> None:
        self._edits = Edits()
        self._pieces = Pieces()
        self._reader = _reader_of(content_type, self._edits, max_bytes, is_stream=is_stream)
        self._data = b""
        self._base = 0

    @property
    def is_broken(self) -> bool:
        """Whether all was to be one document and was none, now that it is over."""
        return self._reader.is_broken

    def feed(self, pieces: Sequence[bytes]) -> Released:
        """Takes the next pieces; returns those, in order, that can be told now."""
        return self._take(pieces, is_end=False)

    def close(self) -> Released:
        """The stream is over: returns the pieces that are left."""
        return self._take((), is_end=True)

    def _take(self, pieces: Sequence[bytes], *, is_end: bool) -> Released:
        self._pieces.add(pieces)
        data = b"".join((self._data, *pieces))
        got = self._reader.read(data, 0, self._base, is_end=is_end)
        self._data, self._base = data[got:], self._base + got
        taken = self._pieces.take(self._base, self._edits)
        counts = {number: {RULE: markers} for number, (_, markers) in enumerate(taken) if markers}
        return Released([piece for piece, _ in taken], counts)


def without_prompts(content: bytes, content_type: str, counts: dict[str, int], *, is_whole: bool = True) -> bytes:
    """A body with its content masked; ``counts`` is added to.

    What is no JSON is masked as a whole, even where it begins like some: only of a body that is known to be cut off
    (not ``is_whole``) the beginning tells the structure.
    """
    masking = PromptMasking(content_type, len(content), is_stream=False)
    released = [masking.feed([content]), masking.close()]
    if is_whole and masking.is_broken:
        return _marked(content.decode("utf-8", "replace"), counts).encode()
    for some in released:
        for rules in some.counts.values():
            counts[RULE] = counts.get(RULE, 0) + rules[RULE]
    return b"".join(piece for some in released for piece in some.pieces)


# -- frames of AWS event streams -------------------------------------------------------------------------------------

_PRELUDE: Final = struct.Struct("!III")
_CHECKSUM: Final = struct.Struct("!I")
_LENGTH: Final = struct.Struct("!H")
_SIZES: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
_BYTES, _STRING = 6, 7
_NAMES_OF_HEADERS: Final = frozenset({
    b":event-type", b":message-type", b":content-type", b":exception-type", b":error-code",
})  # fmt: skip
_BASE64_MEMBER: Final = re.compile(rb'("bytes"\s*+:\s*+)"%s"' % re.escape(_MARKER))


def _masked_frame(frame: bytes, headers_size: int) -> tuple[bytes, int]:
    """The frame with its content masked and its checksums right; the number of markers in it.

    Raises:
        struct.error: its headers are damaged; or IndexError, ValueError.
    """
    counts = {RULE: 0}
    place = _PRELUDE.size + headers_size
    headers = _masked_headers(frame[_PRELUDE.size : place], counts)
    payload = frame[place:-4]
    clean = without_prompts(payload, "application/json", counts) if payload else b""
    value = parsed(payload)
    inner = value.get("bytes") if isinstance(value, dict) else None
    if isinstance(inner, str):
        try:
            content = without_prompts(base64.b64decode(inner, validate=True), "application/json", counts)
        except (binascii.Error, ValueError):
            pass
        else:
            counts[RULE] -= bool(inner)  # its marker gives way
            clean = _BASE64_MEMBER.sub(lambda found: b'%s"%s"' % (found[1], base64.b64encode(content)), clean, count=1)
    total = _PRELUDE.size + len(headers) + len(clean) + 4
    head = _PRELUDE.pack(total, len(headers), 0)[:8]
    made = b"".join((head, _CHECKSUM.pack(zlib.crc32(head)), headers, clean))
    return made + _CHECKSUM.pack(zlib.crc32(made)), counts[RULE]


def _masked_headers(headers: bytes, counts: dict[str, int]) -> bytes:
    parts: list[bytes] = []
    at = 0
    while at < len(headers):
        begin = at
        name = headers[at + 1 : at + 1 + headers[at]]
        at += 1 + headers[at]
        kind = headers[at]
        at += 1
        if kind in _SIZES:
            at += _SIZES[kind]
            parts.append(headers[begin:at])
        elif kind in (_BYTES, _STRING):
            (length,) = _LENGTH.unpack_from(headers, at)
            value = headers[at + 2 : at + 2 + length]
            if value and not (name in _NAMES_OF_HEADERS and VALUE.fullmatch(value)):
                value = _MARKER
                counts[RULE] += 1
            parts += (headers[begin:at], _LENGTH.pack(len(value)), value)
            at += 2 + length
        else:
            raise ValueError("the header of a frame is of no known type")
    if at != len(headers):
        raise ValueError("the headers of a frame are cut off")
    return b"".join(parts)


# -- heads -----------------------------------------------------------------------------------------------------------

_URL_HEADERS: Final = frozenset({"referer", "location", "content-location", "operation-location", ":path"})
_CONTENT_WORDS: Final = frozenset({"prompt", "prompts", "completion", "completions", "question", "transcript"})
_IN_PATHS: Final = re.compile(r"[A-Za-z0-9._~:@!$&'()*,;=/\[\]{}|-]{0,256}")


def url_without_prompts(url: str, counts: dict[str, int]) -> str:
    """A URL, or the path and query of one, with parameters masked that are no structure, and paths that hold prose."""
    url, hash_, fragment = url.partition("#")
    path, mark, query = url.partition("?")
    segments = path.split("/")
    path = "/".join(part if _IN_PATHS.fullmatch(unquote(part)) else _marked(part, counts) for part in segments)
    query = "&".join(_parameter(pair, counts) for pair in query.split("&"))
    return f"{path}{mark}{query}{hash_}{_marked(fragment, counts)}"


def _parameter(pair: str, counts: dict[str, int]) -> str:
    name, equals, value = pair.partition("=")
    if not equals:
        return _marked(name, counts)
    decoded = unquote_plus(name)
    kept = is_structure_of_urls(decoded) and VALUE.fullmatch(unquote_plus(value).encode("utf-8", "surrogatepass"))
    if not VALUE.fullmatch(decoded.encode("utf-8", "surrogatepass")):
        name = _marked(name, counts)
    return f"{name}={value if kept else _marked(value, counts)}"


def headers_without_prompts(headers: Sequence[Sequence[str]], counts: dict[str, int]) -> list[list[str]]:
    """Headers with those masked whose name says that they hold a prompt, and what URLs in others may hold."""
    clean: list[list[str]] = []
    for name, value in headers:
        lower = name.lower()
        if not _CONTENT_WORDS.isdisjoint(segments_of(lower)):
            value = _marked(value, counts)
        elif lower in _URL_HEADERS:
            value = url_without_prompts(value, counts)
        clean.append([name, value])
    return clean


def name_without_prompts(text: str, counts: dict[str, int]) -> str:
    """A name or code as it is; the marker for what is none."""
    return text if VALUE.fullmatch(text.encode("utf-8", "surrogatepass")) else _marked(text, counts)


def text_without_prompts(text: str, counts: dict[str, int]) -> str:
    """The marker, for any text."""
    return _marked(text, counts)


def texts_masked(value: Any, counts: dict[str, int]) -> Any:
    """A JSON value with every string masked, and every name of a member that is none; numbers stay."""
    if isinstance(value, str):
        return _marked(value, counts)
    if isinstance(value, list):
        return [texts_masked(one, counts) for one in value]
    if isinstance(value, dict):
        return {_name_masked(name, counts): texts_masked(one, counts) for name, one in value.items()}
    return value


def _name_masked(name: str, counts: dict[str, int]) -> str:
    return name if NAME.fullmatch(name.encode("utf-8", "surrogatepass")) else _marked(name, counts)


def _marked(text: str, counts: dict[str, int]) -> str:
    if not text or text == MARKER:
        return text
    counts[RULE] = counts.get(RULE, 0) + 1
    return MARKER
