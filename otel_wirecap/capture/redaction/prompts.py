"""Prompts and answers taken out of bodies, streams, URLs and headers; their structure is left.

Nothing is looked for: everything is content and masked, but for what is known to be structure (see ``structure``).

Invariants:

- JSON keeps its structure (see ``json_masking``), wherever it stands: as a body, as the data of events, on lines, in
  the messages of AWS event streams, those in base64 included. Any other text is masked as a whole.
- Each piece of a stream comes out, in order; where the stream was cut does not change what the pieces say together.
  The marker stands where the text began.
- A piece comes out when every frame that begins in it is whole. A frame that is too large is masked whole, with all
  that follows.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, unquote_plus

from otel_wirecap.capture.redaction.documents import strings_at
from otel_wirecap.capture.redaction.edits import Edit, Pieces, Released, applied, counted, merged
from otel_wirecap.capture.redaction.json_masking import RULE, beginning_edits, document_edits, marking
from otel_wirecap.capture.redaction.spans import MARKER
from otel_wirecap.capture.redaction.structure import NAME, VALUE, is_structure_of_urls
from otel_wirecap.capture.secret_names import segments_of
from otel_wirecap.frames.aws_message import BYTES, STRING, AWSMessage, Header, headers_of
from otel_wirecap.frames.framing import AWS_TYPE, JSON_LINES_TYPES, SSE_TYPE, TextLexer, lexer_of
from otel_wirecap.frames.json_values import BLANK, JSONLinesLexer, JSONValuesLexer
from otel_wirecap.frames.lexer import Lexer
from otel_wirecap.frames.sse import FIELDS, SSELexer, SSELine, lines_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from otel_wirecap.frames.lexer import Frame

_MARKER: Final = MARKER.encode()

_NEVER_JSON: Final = ("text/", "multipart/", "image/", "audio/", "video/")
_JSON_BEGINNINGS: Final = (b"{", b"[", b'"')
_DONE: Final = (b"", b"[DONE]")
_MAX_FIELD: Final = 128
_BETWEEN: Final[dict[type[Lexer], bytes]] = {JSONLinesLexer: BLANK, JSONValuesLexer: BLANK + b"[],"}
"""Bytes between frames that are no content."""
_FRAMED_TYPES: Final = JSON_LINES_TYPES | {SSE_TYPE, AWS_TYPE}
"""Of bodies that are more than one document, whatever they begin with."""

_BOM: Final = b"\xef\xbb\xbf"

_NAMES_OF_HEADERS: Final = frozenset({
    b":event-type", b":message-type", b":content-type", b":exception-type", b":error-code",
})  # fmt: skip


class PromptMasking:
    """Masks the content of one stream.

    Args:
        content_type: its type.
        max_bytes: a frame that is longer is masked whole, with all that follows.
        is_text: whatever it looks like, it is a text.

    Attributes:
        is_broken: whether some of it was neither a JSON document nor what may stand between two.
    """

    def __init__(self, content_type: str, max_bytes: int = 1 << 20, *, is_text: bool = False) -> None:
        self._content_type = content_type.partition(";")[0].strip().lower()
        self._max_bytes = max_bytes
        self._pieces = Pieces()
        self._data = b""
        self._lexer: Lexer | None = TextLexer(max_bytes) if is_text else None
        self._base = 0  # where the data begin in the stream
        self._done = 0  # all before this place of the stream is masked
        self._in_text = False  # a text goes on that is no frame, and has its marker
        self.is_broken = False

    def feed(self, pieces: Sequence[bytes]) -> Released:
        """Takes the next pieces; returns those, in order, that may come out now."""
        return self._take(pieces, is_end=False)

    def close(self) -> Released:
        """The stream is over: returns the pieces that are left."""
        return self._take((), is_end=True)

    def _take(self, pieces: Sequence[bytes], *, is_end: bool) -> Released:
        self._data += self._pieces.add(pieces)
        lexer = self._lexer
        if lexer is None:
            lexer = self._lexer = lexer_of(self._content_type, self._data, self._max_bytes, is_end=is_end)
            if lexer is None:
                return self._pieces.release(0)
            self._done = lexer.consumed
        data = self._data[self._done - self._base :]
        if isinstance(lexer, SSELexer):
            is_known = self._mask_events(lexer, data, is_end=is_end)
        else:
            is_known = self._mask_frames(lexer, data, is_end=is_end)
        if not is_known:
            end = self._base + len(self._data)
            self._pass_over(end)
            self._lexer = TextLexer(self._max_bytes, begin=end)
        self._data, self._base = self._data[self._done - self._base :], self._done
        return self._pieces.release(self._done)

    # The methods below return whether what comes next is known; else a frame is too large, or none.

    def _mask_frames(self, lexer: Lexer, data: bytes, *, is_end: bool) -> bool:
        frames = lexer.read(data, is_end=is_end)
        limit = lexer.consumed if lexer.dropped_from is None else lexer.dropped_from
        between = _BETWEEN.get(type(lexer), b"")
        for frame in frames:
            if frame.start >= limit:
                break
            self._pass_over(frame.start, between)
            self._in_text = False
            try:
                self._pieces.edits += self._edits_of(frame)
            except ValueError:  # of a message's headers, which cannot be read
                return False
            self._done = frame.end
        self._pass_over(limit, between)
        return lexer.dropped_from is None

    def _edits_of(self, frame: Frame) -> list[Edit]:
        if frame.message is not None:
            message, markers = _masked_message(frame.message)
            return [Edit(frame.start, frame.end, message.encoded(), (RULE,) * markers)]
        edits = document_edits(frame.data)
        if edits is None:
            self.is_broken = True
            return _placed(frame, (marking(0, len(frame.data)),))
        return _placed(frame, edits)

    def _pass_over(self, place: int, between: bytes = b"") -> None:
        """Masks what is no frame up to a place: all from the first byte that may not stand between two."""
        begin, self._done = self._done, max(self._done, place)
        if not self._in_text:
            text = self._data[begin - self._base : place - self._base]
            begin += len(text) - len(text.lstrip(between))
        if begin < place:
            self._pieces.edits.append(Edit(begin, place, b"") if self._in_text else marking(begin, place))
            self._in_text = self.is_broken = True

    def _mask_events(self, lexer: SSELexer, data: bytes, *, is_end: bool) -> bool:
        block, place = lexer.whole(data, is_end=is_end)
        frames = lexer.frames(block, place)
        limit = lexer.consumed if lexer.dropped_from is None else lexer.dropped_from
        for line in lines_of(block):
            if place + line.start >= limit:
                break
            if line.field != b"data":
                self._mask_line(block, place, line)
        for frame in frames:
            if frame.start < limit:
                self._pieces.edits += _placed(frame, _edits_of_event(frame))
        self._done = limit
        return lexer.dropped_from is None

    def _mask_line(self, block: bytes, place: int, line: SSELine) -> None:
        """Masks the name of an event and the like, if it is none; a comment is content, and so is no known field."""
        begin, value = line.value, block[line.value : line.end]
        if line.field and line.field not in FIELDS:
            begin = line.start
        elif self._content_type == SSE_TYPE and line.field and line.end - line.start <= _MAX_FIELD:
            begin = line.end if VALUE.fullmatch(value) else begin  # else these may be no events, and no names
        if begin < line.end:
            self._pieces.edits.append(marking(place + begin, place + line.end))


def _edits_of_event(frame: Frame) -> Iterable[Edit]:
    """What masks the data of an event: one document, or else that of each line, or its text."""
    whole = document_edits(frame.data)
    if whole is not None:
        return whole
    edits: list[Edit] = []
    at = 0
    for text in frame.data.split(b"\n"):
        if text.rstrip() not in _DONE:
            found = document_edits(text)
            found = iter((marking(0, len(text)),)) if found is None else found
            edits += [edit._replace(start=at + edit.start, end=at + edit.end) for edit in found]
        at += len(text) + 1
    return edits


def _placed(frame: Frame, edits: Iterable[Edit]) -> list[Edit]:
    """Edits of a frame's data, by places in the stream."""
    found: list[Edit] = []
    for edit in edits:
        first, *others = frame.places(edit.start, edit.end)
        found.append(Edit(*first, edit.replacement, edit.rules))
        found += [Edit(start, end, b"") for start, end in others]
    return found


def _masked_message(message: AWSMessage) -> tuple[AWSMessage, int]:
    """The message with its content masked; the number of markers in it.

    Raises:
        ValueError: its headers are damaged.
    """
    markers = 0
    headers: list[Header] = []
    for header in message.header_list():
        is_kept = header.name in _NAMES_OF_HEADERS and VALUE.fullmatch(header.value)
        if header.type in (BYTES, STRING) and header.value and not is_kept:
            header = header._replace(value=_MARKER)
            markers += 1
        headers.append(header)
    payload = message.payload
    edits = _edits_or_all(payload)
    inner = message.unwrapped()
    places = strings_at(payload, ("bytes",)) if inner is not None else []
    if inner is not None and len(places) == 1:
        begin, end = places[0]
        within = _edits_or_all(inner)
        rules = tuple(rule for edit in within for rule in edit.rules)
        edits = [edit for edit in edits if edit.start != begin]
        edits.append(Edit(begin, end, base64.b64encode(applied(inner, within)), rules))
    edits = merged(edits)
    markers += sum(len(edit.rules) for edit in edits)
    return AWSMessage(headers_of(headers), applied(payload, edits)), markers


def _edits_or_all(content: bytes) -> list[Edit]:
    edits = document_edits(content)
    return list(edits) if edits is not None else [marking(0, len(content))] if content else []


def without_prompts(content: bytes, content_type: str, counts: dict[str, int], *, is_whole: bool = True) -> bytes:
    """A body with its content masked; ``counts`` is added to.

    What is no JSON is masked as a whole, even where it begins like some: only of a body that is known to be cut off
    (not ``is_whole``) the structure of the beginning stays.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in _FRAMED_TYPES:
        is_json = "json" in kind or not kind.startswith(_NEVER_JSON)
        if not is_json or not content.lstrip(BLANK + _BOM).startswith(_JSON_BEGINNINGS):
            return text_without_prompts(content.decode("utf-8", "replace"), counts).encode()
        edits = document_edits(content)
        if edits is None and not is_whole:
            edits = beginning_edits(content)
        if edits is not None:
            return applied(content, counted(edits, counts))
    masking = PromptMasking(kind, len(content))
    released = [masking.feed([content]), masking.close()]
    if masking.is_broken and kind not in _FRAMED_TYPES:
        return text_without_prompts(content.decode("utf-8", "replace"), counts).encode()
    for some in released:
        for rules in some.counts.values():
            counts[RULE] = counts.get(RULE, 0) + rules[RULE]
    return b"".join(piece for some in released for piece in some.pieces)


# -- heads -----------------------------------------------------------------------------------------------------------

_URL_HEADERS: Final = frozenset({"referer", "location", "content-location", "operation-location", ":path"})
_CONTENT_WORDS: Final = frozenset({"prompt", "prompts", "completion", "completions", "question", "transcript"})
_IN_PATHS: Final = re.compile(r"[A-Za-z0-9._~:@!$&'()*,;=/\[\]{}|-]{0,256}")


def url_without_prompts(url: str, counts: dict[str, int]) -> str:
    """A URL, or the path and query of one, with parameters masked that are no structure, and paths that hold prose."""
    url, hash_, fragment = url.partition("#")
    path, mark, query = url.partition("?")
    segments = path.split("/")
    path = "/".join(
        part if _IN_PATHS.fullmatch(unquote(part)) else text_without_prompts(part, counts) for part in segments
    )
    query = "&".join(_parameter(pair, counts) for pair in query.split("&"))
    return f"{path}{mark}{query}{hash_}{text_without_prompts(fragment, counts)}"


def _parameter(pair: str, counts: dict[str, int]) -> str:
    name, equals, value = pair.partition("=")
    if not equals:
        return text_without_prompts(name, counts)
    decoded = unquote_plus(name)
    kept = is_structure_of_urls(decoded) and VALUE.fullmatch(unquote_plus(value).encode("utf-8", "surrogatepass"))
    if not VALUE.fullmatch(decoded.encode("utf-8", "surrogatepass")):
        name = text_without_prompts(name, counts)
    return f"{name}={value if kept else text_without_prompts(value, counts)}"


def headers_without_prompts(headers: Sequence[Sequence[str]], counts: dict[str, int]) -> list[list[str]]:
    """Headers with those masked whose name says that they hold a prompt, and what URLs in others may hold."""
    clean: list[list[str]] = []
    for name, value in headers:
        lower = name.lower()
        if not _CONTENT_WORDS.isdisjoint(segments_of(lower)):
            value = text_without_prompts(value, counts)
        elif lower in _URL_HEADERS:
            value = url_without_prompts(value, counts)
        clean.append([name, value])
    return clean


def name_without_prompts(text: str, counts: dict[str, int]) -> str:
    """A name or code as it is; the marker for what is none."""
    return text if VALUE.fullmatch(text.encode("utf-8", "surrogatepass")) else text_without_prompts(text, counts)


def texts_masked(value: Any, counts: dict[str, int]) -> Any:
    """A JSON value with every string masked, and every name of a member that is none; numbers stay."""
    if isinstance(value, str):
        return text_without_prompts(value, counts)
    if isinstance(value, list):
        return [texts_masked(one, counts) for one in value]
    if isinstance(value, dict):
        return {_name_masked(name, counts): texts_masked(one, counts) for name, one in value.items()}
    return value


def _name_masked(name: str, counts: dict[str, int]) -> str:
    return name if NAME.fullmatch(name.encode("utf-8", "surrogatepass")) else text_without_prompts(name, counts)


def text_without_prompts(text: str, counts: dict[str, int]) -> str:
    """The marker, for any text."""
    if not text or text == MARKER:
        return text
    counts[RULE] = counts.get(RULE, 0) + 1
    return MARKER
