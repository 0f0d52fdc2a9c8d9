"""The redaction of a stream: pieces go in as they arrive, and come out, in order, when nothing in them is open.

A secret may be split over pieces, and over the strings of consecutive events ("sk-", "proj", "-Ab…"). So the bytes are
searched as they are, across pieces; and the strings that a reader adds up (the content of one choice, the arguments
of one tool call) are searched as the one text that they make, for each a channel.

Invariants:

- What is told does not depend on how the stream was cut into pieces.
- A piece without a secret comes out as the very same bytes. Where a secret begins there is the marker; the rest of it
  is taken out of the pieces and events that it stands in.
- A piece comes out when its bytes are decided, every event that begins in it is whole, and so are the channels up to
  there. What is held is lost when the process is killed: it is not written in clear.
- A channel that nothing is added to for ``MAX_EVENTS`` events is over, as at the stream's end: not everything waits
  for one that may never go on.
- An error leaves it unusable: whoever called it withholds the rest of the stream.
"""

from __future__ import annotations

import json
import re
import string
from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from otel_wirecap.capture.decoding import NOT_JSON
from otel_wirecap.capture.redaction.documents import (
    Document,
    FramedDocuments,
    changes,
    encoded,
    parsed,
    strings_at,
    without_field,
    written,
)
from otel_wirecap.capture.redaction.edits import Edit, Pieces, Released
from otel_wirecap.capture.redaction.online import CONTINUED, MAX_OPEN, OnlineSearch
from otel_wirecap.capture.redaction.spans import MARKER, Span
from otel_wirecap.capture.redaction.templates import DATA, INDEXES, NO_TEXT, learned

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otel_wirecap.capture.redaction.documents import Documents
    from otel_wirecap.capture.redaction.redactor import Redactor
    from otel_wirecap.capture.redaction.templates import Template, Told
    from otel_wirecap.frames.lexer import Frame

MAX_EVENTS: Final = 64
"""Most texts end with letters that could begin a key: so many events wait for one that will not go on."""

_MAX_TEMPLATES: Final = 8
_TRIALS: Final = 16
"""Events that are looked at for what they have in common with the next, and one more for every 8 that had."""

_MAX_CHANNELS: Final = 256
_MAX_CONSTANTS: Final = 64

_MARKER: Final = MARKER.encode()

_OPEN_ESCAPE: Final = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_MAX_ESCAPE: Final = 5
_WORD: Final = string.ascii_letters.encode() + string.digits.encode() + b"_./+=~-\\"


class _Fragment(NamedTuple):
    """What one string of an event adds to a channel.

    Attributes:
        begin: where it begins in the channel's text.
        start: where the event begins in the stream.
        offset: where ``content`` begins in the stream.
        content: the event's document.
        path: the names on the way to the string; None where the document is no JSON and all of it is the text.
        number: which of the strings with this path.
        frame: what the document is encoded in.
    """

    begin: int
    start: int
    offset: int
    content: bytes
    path: tuple[str, ...] | None
    number: int
    frame: Frame | None


class _Run(NamedTuple):
    r"""What many events add to a channel that have a template in common.

    Attributes:
        begin: where it begins in the channel's text.
        lines: the events' lines, with a ``\n`` before each.
        place: where they begin in the stream.
        template: that of every line with data.
        number: which of the template's texts is the channel's.
    """

    begin: int
    lines: bytes
    place: int
    template: Template
    number: int

    def fragments(self, end: int) -> Iterator[_Fragment]:
        """What each event adds, the last first; ``end`` is where it ends in the channel's text."""
        path, number = self.template.places[self.number]
        at = len(self.lines)
        while (at := self.lines.rfind(DATA, 0, at)) >= 0:
            texts = self.template.texts_of(self.lines, at)
            assert texts is not None  # noqa: S101  # every such line has the template
            end -= len(_plain(texts[self.number : self.number + 1]))
            start = self.place + at + 1
            line = self.lines[at + 1 : self.lines.index(b"\n", at + 1)]
            yield _Fragment(end, start, start, line, path, number, None)


class _Channel:
    """One text that is made of the strings of several events.

    Attributes:
        fragments: those that are not decided.
        added: what came since the last search, and ``parts`` its texts.
        size: of the text.
        event: number of the last event that added to it.
    """

    __slots__ = ("added", "event", "fragments", "parts", "search", "size")

    def __init__(self, redactor: Redactor) -> None:
        self.search = OnlineSearch(redactor.search)
        self.fragments: list[_Fragment] = []
        self.added: list[_Fragment | _Run] = []
        self.parts: list[bytes] = []
        self.size = 0
        self.event = 0

    def add(self, text: bytes, source: _Fragment | _Run) -> None:
        """Adds to the text."""
        self.parts.append(text)
        self.added.append(source)
        self.size += len(text)

    def latest(self, place: int) -> list[_Fragment]:
        """The fragments that reach beyond a place of the text, in order."""
        found: list[_Fragment] = []
        end = self.size
        for source in reversed([*self.fragments, *self.added]):
            if end <= place:
                break
            if isinstance(source, _Fragment):
                found.append(source)
            else:
                for fragment in source.fragments(end):
                    found.append(fragment)
                    if fragment.begin <= place and place:
                        break
            end = source.begin
        return found[::-1]


class StreamRedactor:
    """Redacts one stream.

    Args:
        redactor: what finds the secrets.
        content: the stream's type, in lower case and without parameters, or what finds the documents in it.
        max_held_bytes: beyond these every document and every channel is over: what is open is let go.
    """

    def __init__(self, redactor: Redactor, content: str | Documents, max_held_bytes: int = 1 << 20) -> None:
        self._redactor = redactor
        self._documents: Documents = FramedDocuments(content, max_held_bytes) if isinstance(content, str) else content
        self._max_held_bytes = max_held_bytes
        self._search = OnlineSearch(redactor.search)
        self._data = b""
        self._base = 0
        self._pieces = Pieces()
        self._channels: dict[tuple[str, ...], _Channel] = {}
        self._changed: dict[tuple[str, ...], _Channel] = {}
        self._frames: deque[tuple[Frame, list[Edit]]] = deque()
        self._credentials: Sequence[str] = ()
        self._events = 0
        self._templates: list[Template] = []
        self._has_news = False
        self._harmless: list[tuple[int, int]] = []
        self._constants: dict[bytes, bool] = {}
        self._searched_for: tuple[int, Sequence[str]] = (0, ())
        self._learned = 0
        self._matched = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of pieces that have not come out."""
        return self._pieces.held_bytes

    def feed(self, pieces: Sequence[bytes], credentials: Sequence[str] = ()) -> Released:
        """Takes the next pieces; returns those, in order, that can be told now."""
        return self._take(pieces, credentials, is_end=False)

    def close(self, credentials: Sequence[str] = ()) -> Released:
        """Returns the pieces that are left, all decided as at the end of the stream."""
        return self._take((), credentials, is_end=True)

    def _take(self, pieces: Sequence[bytes], credentials: Sequence[str], *, is_end: bool) -> Released:
        self._data += self._pieces.add(pieces)
        self._credentials = credentials
        documents = self._documents
        for document in documents.read(self._data[documents.consumed - self._base :], self, is_end=is_end):
            self._read(document, credentials)
        end = len(self._data) if is_end else documents.consumed - self._base
        self._search_bytes(end, credentials, is_end=is_end)
        limit = min(self._search.decided, self._search_channels(credentials, is_end=is_end))
        return self._pieces.release(self._end_frames(limit))

    def _search_bytes(self, end: int, credentials: Sequence[str], *, is_end: bool) -> None:
        """Searches the bytes as they are, as far as documents were made of them, but for those known to be harmless."""
        spans: list[Span] = []
        data, done = self._data, 0
        for begin, stop in self._harmless:
            begin, stop = max(begin - self._base, 0), stop - self._base
            if begin > done:
                spans += self._search.feed(data[done:begin], credentials)
                done = begin
            if not self._search.open_bytes:
                self._search.skip(data[done:stop])
                done = stop
        self._harmless.clear()
        if done < end and not is_end and data.find(b"\\", max(0, end - _MAX_ESCAPE), end) >= 0:
            end = max(done, _before_open_escape(data, end))
        if done < end or is_end:
            spans += self._search.feed(data[done:end], credentials, is_end=is_end)
        self._pieces.edits += [_masking(*span) for span in spans]
        self._data = data[end:]
        self._base += end

    # -- events ------------------------------------------------------------------------------------------------------

    def _read(self, document: Document, credentials: Sequence[str]) -> None:
        start, offset, content, value, frame = document
        self._events += 1
        if frame is not None:
            spans = self._redactor.search.stream(content, 0, credentials, is_end=True)[0]
            self._frames.append((frame, [_masking(*span) for span in spans]))
        if value is NOT_JSON:
            channel = self._channel((), 1, credentials)
            channel.add(content, _Fragment(channel.size, start, offset, content, None, 0, frame))
            return
        texts: list[tuple[tuple[str, ...], tuple[str, ...], str]] = []
        _collect(value, (), (), texts, every=b"\\" in content)
        numbers: dict[tuple[str, ...], int] = {}
        for key, path, text in texts:
            number = numbers[path] = numbers.get(path, -1) + 1
            channel = self._channel(key, 1, credentials)
            channel.add(encoded(text), _Fragment(channel.size, start, offset, content, path, number, frame))
        if self._learned < _TRIALS + self._matched // 8 and content[:5] == b"data:" and b"\\" not in content:
            self._learned += 1
            template = learned(content, texts)
            if template is not None:
                self._templates.insert(0, template)
                del self._templates[_MAX_TEMPLATES:]
                self._has_news = True

    def _channel(self, key: tuple[str, ...], events: int, credentials: Sequence[str]) -> _Channel:
        """The channel that ``events`` events, the last ones, add to."""
        channel = self._channels.get(key)
        if channel is None:
            channel = self._channels[key] = _Channel(self._redactor)
        elif self._events - channel.event - events >= MAX_EVENTS:
            self._search_channel(channel, credentials, is_end=True)
        channel.event = self._events
        self._changed[key] = channel
        return channel

    def news(self) -> bool:
        """Whether a template was learned since this was asked last."""
        has_news, self._has_news = self._has_news, False
        return has_news

    def all(self, lines: bytes, place: int) -> bool:
        """Takes the lines of an event stream, if all events have the template that came last."""
        if not self._templates:
            return False
        template = self._templates[0]
        told = template.told(lines)
        if told is None:
            return False
        self._take_events(template, lines, place, told.texts)
        if not template.has_secret_name and self._is_harmless(told):
            self._harmless.append((place + told.start, place + told.end))
        return True

    def one(self, lines: bytes, at: int, start: int) -> bool:
        """Takes the event of one line, if it has one of the templates."""
        for template in self._templates:
            texts = template.texts_of(lines, at)
            if texts is not None:
                line = lines[at : lines.index(b"\n", at + 1) + 1]
                self._take_events(template, line, start - 1, [(text,) for text in texts])
                if template is not self._templates[0]:
                    self._templates.remove(template)
                    self._templates.insert(0, template)
                return True
        return False

    def _take_events(self, template: Template, lines: bytes, place: int, found: Sequence[tuple[bytes, ...]]) -> None:
        """Adds what the events of a template say: for each of its texts the part that each event has."""
        count = len(found[0])
        self._matched += count
        self._events += count
        for number, (key, texts) in enumerate(zip(template.keys, found, strict=True)):
            channel = self._channel(key, count, self._credentials)
            channel.add(_plain(texts), _Run(channel.size, lines, place, template, number))

    def _is_harmless(self, told: Told) -> bool:
        """Whether there is no secret in events as they are: neither in what all have in common nor in what differs."""
        search, credentials = self._redactor.search, self._credentials
        if search.has_rules:
            return False
        if self._searched_for != (search.generation, credentials):
            self._searched_for = (search.generation, credentials)
            self._constants.clear()
        constant = told.constant
        is_harmless = self._constants.get(constant)
        if is_harmless is None:
            if len(self._constants) >= _MAX_CONSTANTS:
                self._constants.clear()
            is_harmless = search.stream(constant, 0, credentials) == ([], len(constant))
            self._constants[constant] = is_harmless
        # A line end keeps apart what the events have apart: a text may be a secret that runs on in its channel.
        strings = b"\n".join(told.strings)
        return is_harmless and not search.spans(strings, credentials)

    # -- channels ----------------------------------------------------------------------------------------------------

    def _search_channels(self, credentials: Sequence[str], *, is_end: bool) -> int:
        """Searches the channels that were added to; returns the place of the first event in which one is open."""
        is_end = is_end or self.held_bytes > self._max_held_bytes
        limit = self._base + len(self._data)
        for key, channel in list(self._changed.items()):
            self._search_channel(channel, credentials, is_end=is_end or self._events - channel.event >= MAX_EVENTS)
            if channel.fragments:
                limit = min(limit, channel.fragments[0].start)
            else:
                del self._changed[key]
        if len(self._channels) > _MAX_CHANNELS:
            self._channels = {
                key: channel for key, channel in self._channels.items() if self._events - channel.event < MAX_EVENTS
            }
        return limit

    def _search_channel(self, channel: _Channel, credentials: Sequence[str], *, is_end: bool) -> None:
        """Searches what was added; keeps the fragments that are not decided."""
        part = channel.parts[0] if len(channel.parts) == 1 else b"".join(channel.parts)
        spans = channel.search.feed(part, credentials, is_end=is_end)
        if spans:
            self._mask(channel.latest(0), spans, channel.size)
        channel.fragments = channel.latest(channel.search.decided) if channel.search.open_bytes else []
        channel.added.clear()
        channel.parts.clear()

    def _mask(self, fragments: list[_Fragment], spans: list[Span], size: int) -> None:
        begins = [fragment.begin for fragment in fragments]
        ends = [*begins[1:], size]
        for start, end, rule in spans:
            first = max(0, bisect_right(begins, start) - 1)
            for fragment, its_end in zip(fragments[first:], ends[first:], strict=True):
                if fragment.begin >= end:
                    break
                begin = max(start, fragment.begin)
                if begin < its_end:
                    self._edit(fragment, begin - fragment.begin, min(end, its_end) - fragment.begin, rule)
                    rule = CONTINUED  # the marker stands in the first only

    def _edit(self, fragment: _Fragment, start: int, end: int, rule: str) -> None:
        """Has a part of one string masked where it stands in its document."""
        content = fragment.content
        if fragment.path is not None:
            begin, stop = _place(content, fragment.path, fragment.number)
            spelled = content[begin:stop]
            start, end = begin + written(spelled, start), begin + written(spelled, end)
        if fragment.frame is None:
            self._pieces.edits.append(_masking(fragment.offset + start, fragment.offset + end, rule))
            return
        edits = next(edits for frame, edits in self._frames if frame is fragment.frame)
        edits.append(_masking(start, end, rule))

    # -- what comes out ----------------------------------------------------------------------------------------------

    def _end_frames(self, limit: int) -> int:
        """Makes anew the frames that end before the limit and have a secret in them; returns a limit between frames."""
        while self._frames:
            frame, edits = self._frames[0]
            assert frame.message is not None  # noqa: S101  # only such frames are encoded
            payload, end = frame.start + frame.message.payload_start, frame.end
            if end > limit:
                return min(limit, frame.start)
            self._frames.popleft()
            # What was found in the payload as it stands was found in its document, too, but for what is beside that.
            around = [edit for edit in self._pieces.edits if edit.end > payload and edit.start < end]
            self._pieces.edits = [edit for edit in self._pieces.edits if edit.end <= payload or edit.start >= end]
            self._pieces.edits += changes(frame, edits, around)
        return limit


def _collect(
    node: Any,
    key: tuple[str, ...],
    path: tuple[str, ...],
    found: list[tuple[tuple[str, ...], tuple[str, ...], str]],
    *,
    every: bool,
) -> None:
    """Finds the strings of a document in order: the key of each one's channel, its path, itself.

    Args:
        node: the document, or a part of it.
        key: the path, and what tells the texts of one path apart.
        path: names only.
        found: added to.
        every: also those that are no parts of a text.
    """
    if isinstance(node, list):
        for item in node:
            if isinstance(item, str):
                found.append((key, path, item))
            elif isinstance(item, dict | list):
                _collect(item, key, path, found, every=every)
        return
    for index in sorted(INDEXES.intersection(node)):
        key = (*key, index, str(node[index]))
    for name, value in node.items():
        if isinstance(value, str):
            if every or name not in NO_TEXT:
                found.append(((*key, name), (*path, name), value))
        elif isinstance(value, dict | list):
            _collect(value, (*key, name), (*path, name), found, every=every)


def _plain(texts: Sequence[bytes]) -> bytes:
    """What strings say, as they are spelled in JSON, one after the other."""
    joined = b"".join(texts)
    if b"\\" not in joined:
        return joined
    spelled = b'["%s"]' % b'","'.join(texts)
    try:
        return "".join(orjson.loads(spelled)).encode()
    except orjson.JSONDecodeError:
        return b"".join(map(_plain_by_itself, texts))


def _plain_by_itself(text: bytes) -> bytes:
    """What one string says that a strict parser refuses; itself, if no parser reads it."""
    try:
        return encoded(json.loads((b'"%s"' % text).decode(), strict=False))  # half of a surrogate pair
    except ValueError:
        return text


def _place(content: bytes, path: tuple[str, ...], number: int) -> tuple[int, int]:
    """Where a document has a string.

    Raises:
        ValueError: a name is there twice, so that it cannot be told which string was read.
    """
    found: list[tuple[tuple[str, ...], tuple[str, ...], str]] = []
    _collect(parsed(without_field(content)), (), (), found, every=True)
    places = strings_at(content, path)
    if len(places) != sum(1 for _, its_path, _ in found if its_path == path):
        raise ValueError("a member of an event's document is there twice")
    return places[number]


def _before_open_escape(data: bytes, end: int) -> int:
    """Where the word begins that ends with an escape that is cut off at ``end``, where one is; else ``end``."""
    escape = _OPEN_ESCAPE.search(data, max(0, end - _MAX_ESCAPE), end)
    if escape is None:
        return end
    begin = max(0, escape.start() - MAX_OPEN)
    return begin + len(data[begin : escape.start()].rstrip(_WORD))


def _masking(start: int, end: int, rule: str) -> Edit:
    return Edit(start, end, b"") if rule == CONTINUED else Edit(start, end, _MARKER, (rule,))
