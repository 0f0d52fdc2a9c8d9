"""What may leave of each kind of text: the part of the gate that knows nothing of records; see ``gate``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson

from otel_wirecap.capture.decoding import NOT_JSON, cut_text, parse_json, without_end
from otel_wirecap.capture.events import CAPTURE_FAILURE, TRUNCATED_STREAM
from otel_wirecap.capture.facts import ExchangeFacts
from otel_wirecap.capture.record import RawJSON
from otel_wirecap.capture.redaction.bodies import redact_body, redact_json, redact_text
from otel_wirecap.capture.redaction.passed import WITHHELD, Passed, withheld
from otel_wirecap.capture.redaction.prompts import (
    headers_without_prompts,
    name_without_prompts,
    text_without_prompts,
    texts_masked,
    url_without_prompts,
    without_prompts,
)
from otel_wirecap.capture.redaction.redactor import Redactor
from otel_wirecap.capture.redaction.rules import Rules
from otel_wirecap.capture.redaction.search import TooManyFindings
from otel_wirecap.capture.redaction.spans import MARKER
from otel_wirecap.capture.redaction.streams import StreamRedaction, message_redaction, stream_redaction
from otel_wirecap.llm.dialects.interface import Answer

FAILED: Final = "a message that could not be redacted"
"""What stands for a message of an error or a log that cannot be told."""

_TEXTS_OF_FACTS: Final = (
    "method", "http_version", "user_agent", "client_host", "backend", "key_name", "session_id", "requested_model",
    "answered_model",
)  # fmt: skip
_OUR_MESSAGES: Final = {CAPTURE_FAILURE.message, TRUNCATED_STREAM.message}
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}


class TextGate:
    """Lets texts leave without what the settings mask.

    Most methods take ``counts``, the record's ``metadata.redactions``, and add to it: rule to number of markers. The
    rules are ``credential``, ``known``, ``header``, ``cookie``, ``query``, ``userinfo``, ``field``, the ids of the
    table of shapes (``openai``, ``aws``, ``jwt``, …), the names of the user's patterns, ``prompt``, and ``withheld``.
    ``credentials`` are the values that the request at hand was sent with.

    Args:
        rules: what the settings mask.
        known_values: secret values to be masked wherever they stand.
        pause: is called between the searches of a large text.

    Attributes:
        generation: another number whenever other values are searched for.
        outside: the gate of what is told elsewhere than in the capture. Whoever lets the capture hold secrets does not
            let collectors have them: it masks all of them. Where this gate does, too, it is this one.
    """

    __slots__ = ("_masks_prompts", "_redactor", "generation", "outside")

    def __init__(
        self,
        rules: Rules = Rules(),  # noqa: B008  # frozen
        *,
        known_values: Iterable[str] = (),
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        known = tuple(known_values)
        self._redactor = Redactor(known_values=known, rules=rules, pause=pause)
        self._masks_prompts = rules.prompts
        self.generation = self._redactor.search.generation
        self.outside: TextGate = self
        if rules.mode != "on":
            self.outside = TextGate(dataclasses.replace(rules, mode="on"), known_values=known)

    # -- what is searched for --------------------------------------------------------------------------------------

    def replace_known_values(self, values: Iterable[str]) -> None:
        """Sets the values that are secret wherever they stand; those of before stay so until many others came."""
        known = tuple(values)
        self._redactor.search.replace_known_values(known)
        self.generation = self._redactor.search.generation
        if self.outside is not self:
            self.outside.replace_known_values(known)

    def learn(self, credentials: Sequence[str]) -> None:
        """Masks the credentials of a request in others, too, except those that read like a word."""
        self._redactor.search.learn(credentials)
        self.generation = self._redactor.search.generation
        if self.outside is not self:
            self.outside.learn(credentials)

    # -- bodies ----------------------------------------------------------------------------------------------------

    def body(
        self,
        content: str | bytes,
        content_type: str,
        credentials: Sequence[str] = (),
        *,
        is_json: bool,
        is_whole: bool = True,
        beyond: int = 0,
    ) -> Passed:
        """A body, or a whole message: JSON, a form, text or bytes.

        Args:
            content: the body.
            content_type: its type, with parameters or without; "" where none is told.
            credentials: the values that the request was sent with.
            is_json: it is one valid JSON document.
            is_whole: nothing of it is missing.
            beyond: bytes at its end that are looked at, for a secret that the limit cuts, and do not leave.
        """
        counts: dict[str, int] = {}
        try:
            if self._masks_prompts:  # what is beyond the limit is content, whatever secret goes on there
                kept, beyond = without_end(content, beyond), 0
                document = kept.encode() if isinstance(kept, str) else kept
                content = without_prompts(document, content_type, counts, is_whole=is_whole)
                is_json = is_json and parse_json(content, content_type) is not NOT_JSON
            payload: RawJSON | str | bytes
            if is_json:
                document = content.encode() if isinstance(content, str) else content
                payload = redact_json(document, self._redactor, counts, credentials)
            else:
                payload = redact_body(content, content_type, self._redactor, counts, credentials)
            if beyond and not isinstance(payload, RawJSON):
                payload = without_end(payload, beyond)
        except TooManyFindings as found:
            return self._beginning(content, content_type, found.place, credentials)
        except Exception:  # noqa: BLE001  # fail closed
            return withheld()
        return Passed(payload, counts)

    def _beginning(self, content: str | bytes, content_type: str, place: int, credentials: Sequence[str]) -> Passed:
        """So many bytes of a body, masked as the text that it no longer is more than; the rest is withheld."""
        if "form" in content_type:  # the place is one in what is left of its fields
            return withheld()
        data = content.encode() if isinstance(content, str) else content
        counts = {WITHHELD: 1}
        try:
            payload = redact_text(cut_text(data[:place]), self._redactor, counts, credentials)
        except Exception:  # noqa: BLE001  # fail closed
            return withheld()
        return Passed(payload, counts, withheld=True)

    def stream(self, content_type: str, max_held_bytes: int, *, is_from_start: bool = True) -> StreamRedaction:
        """What the pieces of a stream go through.

        Args:
            content_type: the stream's, in lower case, without parameters.
            max_held_bytes: what waits for the rest of a secret has no more bytes than that.
            is_from_start: the first piece is the stream's first. Else it may begin within a text that looks like
                structure: where prompts are masked, all is then taken for content.
        """
        return stream_redaction(self._redactor, content_type, max_held_bytes, is_from_start=is_from_start)

    def messages(self, max_held_bytes: int) -> StreamRedaction:
        """What the whole messages of one side of a websocket go through; after ``close`` more may come."""
        return message_redaction(self._redactor, max_held_bytes)

    # -- what a record says beside the body ------------------------------------------------------------------------

    def url(self, url: str, counts: dict[str, int], credentials: Sequence[str] = ()) -> str:
        """A URL, or the path and query of one: parameters by their name, user and password, prose in paths."""
        try:
            told = self._redactor.url(url, counts, credentials)
            return url_without_prompts(told, counts) if self._masks_prompts else told
        except Exception:  # noqa: BLE001  # fail closed
            return _failed(counts)

    def headers(
        self, headers: Sequence[tuple[str, str]], counts: dict[str, int], credentials: Sequence[str] = ()
    ) -> list[list[str]]:
        """Headers, as ``[name, value]`` in wire order: whole values by their name, else what is secret in them."""
        try:
            told = self._redactor.headers(headers, counts, credentials)
            return headers_without_prompts(told, counts) if self._masks_prompts else told
        except Exception:  # noqa: BLE001  # fail closed
            _failed(counts)
            return [[MARKER, MARKER] for _ in headers]

    def error_text(self, text: str, counts: dict[str, int], credentials: Sequence[str] = ()) -> str:
        """What an error says, or why a websocket was closed: it may quote anything, and so is a prompt as a whole."""
        try:
            if self._masks_prompts:
                return text if text in _OUR_MESSAGES else text_without_prompts(text, counts)
            return self._redactor.text_with_urls(text, counts, credentials)
        except Exception:  # noqa: BLE001  # fail closed
            return _failed(counts)

    def name(self, name: str, counts: dict[str, int], credentials: Sequence[str] = ()) -> str:
        """What names a model, an answer, an error, why it ended: where prompts are masked, one without spaces."""
        try:
            told = self._redactor.text_with_urls(name, counts, credentials)
            return name_without_prompts(told, counts) if self._masks_prompts else told
        except Exception:  # noqa: BLE001  # fail closed
            return _failed(counts)

    def reason(
        self, status_code: object, reason: str, counts: dict[str, int], credentials: Sequence[str] = ()
    ) -> str:  # fmt: skip
        """The phrase after a status code: where prompts are masked the usual one stays, else it is a text."""
        try:
            if self._masks_prompts:
                usual = _PHRASES.get(status_code, "OK") if isinstance(status_code, int) else "OK"
                if reason.lower() != usual.lower():
                    return text_without_prompts(reason, counts)
            return self._redactor.text(reason, counts, credentials)
        except Exception:  # noqa: BLE001  # fail closed
            return _failed(counts)

    def label(self, text: str, counts: dict[str, int], credentials: Sequence[str] = ()) -> str:
        """What tells who it was (an address, an agent, a session) or how it was asked (a method): no prompt."""
        try:
            return self._redactor.text(text, counts, credentials)
        except Exception:  # noqa: BLE001  # fail closed
            return _failed(counts)

    def annotations(self, document: bytes, credentials: Sequence[str] = ()) -> dict[str, Any]:
        """What the application says of its flow, a JSON object: secrets go; prompts are not said there.

        Nothing is left of one that cannot be redacted.
        """
        try:
            return dict(redact_json(document, self._redactor, {}, credentials).value())
        except Exception:  # noqa: BLE001  # fail closed
            return {}

    # -- what leaves elsewhere -------------------------------------------------------------------------------------

    def facts(self, facts: ExchangeFacts, credentials: Sequence[str] = ()) -> ExchangeFacts:
        """What spans and metrics get of an exchange, all of which has been through this gate, fit for a collector."""
        return facts if self.outside is self else self.outside._facts(facts, credentials)  # noqa: SLF001  # itself

    def _facts(self, facts: ExchangeFacts, credentials: Sequence[str]) -> ExchangeFacts:
        def clean(text: str | None) -> str | None:
            return None if text is None else self._redactor.text_with_urls(text, {}, credentials)

        try:
            told: dict[str, Any] = {name: clean(getattr(facts, name)) for name in _TEXTS_OF_FACTS}
            if facts.answer is not None:
                reasons = tuple(clean(reason) or "" for reason in facts.answer.finish_reasons)
                told["answer"] = Answer(clean(facts.answer.id), reasons, facts.answer.usage)
        except Exception:  # noqa: BLE001  # fail closed
            return ExchangeFacts(outcome=facts.outcome, status_code=facts.status_code)
        url = None if facts.url is None else self.url(facts.url, {}, credentials)
        error = None if facts.error is None else self.error_text(facts.error, {}, credentials)
        return dataclasses.replace(facts, url=url, error=error, **told)

    def system(self, content: RawJSON | str | bytes) -> Passed:
        """What a capture says of itself: secrets go, such as one in a backend's name; prompts are not said there."""
        counts: dict[str, int] = {}
        try:
            if isinstance(content, RawJSON):
                return Passed(redact_json(content.data, self._redactor, counts, ()), counts)
            return Passed(redact_text(content, self._redactor, counts, ()), counts)
        except Exception:  # noqa: BLE001  # fail closed
            return withheld()

    def misplaced(self, value: Any, counts: dict[str, int]) -> Any:
        """What stands in a record in place of something of another type, so that it may be anything: no string stays.

        Raises:
            Exception: it cannot be redacted.
        """
        return texts_masked(value, counts) if self._masks_prompts else value

    def added(self, value: Any, counts: dict[str, int]) -> Any:
        """What another tool added to a record: it may repeat a body, and so is masked as one.

        Raises:
            Exception: it cannot be redacted.
        """
        if not self._masks_prompts:
            return value
        return orjson.loads(without_prompts(orjson.dumps(value), "application/json", counts))

    def metadata(self, document: bytes, counts: dict[str, int]) -> bytes:
        """A record's metadata, a JSON document whose parts have been through their methods: secrets in the rest.

        Raises:
            Exception: it cannot be redacted.
        """
        return self._redactor.json(document, counts)

    def message(self, text: str) -> str:
        """What a log or a terminal is told, an error as a rule: it quotes URLs, settings, files."""
        try:
            return self._redactor.text_with_urls(text, {})
        except Exception:  # noqa: BLE001  # fail closed
            return FAILED


def _failed(counts: dict[str, int]) -> str:
    counts[WITHHELD] = counts.get(WITHHELD, 0) + 1
    return MARKER
