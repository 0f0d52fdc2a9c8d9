"""What the proxy changed: a flow's client request against each backend request, and the answers likewise.

What is compared is what the capture holds: secrets are masked on both legs and cannot differ.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from otel_wirecap.capture.url import url_parts
from otel_wirecap.llm.prompts import Request, answer_protocol, common_answer, common_requests
from otel_wirecap.llm.text import json_value
from otel_wirecap.llm.turns import same_words
from otel_wirecap.reading.flows import FIRST_ERROR_STATUS
from otel_wirecap.reading.json_diff import ADDED, CHANGED, DROPPED, Difference, differences

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_wirecap.reading.legs import Leg

NOISE = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade", "host", "content-length", "date",
})  # fmt: skip
"""Headers that belong to one connection, or follow from it: they differ on every two legs."""

_NOT_THE_WIRE = ("truncated", "incomplete", "redactions")


@dataclasses.dataclass(slots=True)
class Comparison:
    """A request or a response on the client's leg beside the one on the backend's.

    Attributes:
        part: ``request`` (the client's, and what became of it) or ``response`` (the backend's, and what became of it).
        attempt: the attempt on the backend leg.
        backend: the backend's name.
        line: differences of the request line or the status.
        headers: differences of headers that matter.
        noise: differences of headers that differ on every two legs.
        body: differences of the bodies, of streams those of the messages that they add up to.
        same_bytes: whether the bodies are the same bytes; None where one of them is not in the capture.
        same_chunks: of two streams, whether their chunks are the same; else None.
        protocols: the protocols of the two bodies where they differ: compared is what these have in common.
        remarks: why the comparison may not be of what was on the wire.
    """

    part: str
    attempt: int
    backend: str
    line: list[Difference] = dataclasses.field(default_factory=list)
    headers: list[Difference] = dataclasses.field(default_factory=list)
    noise: list[Difference] = dataclasses.field(default_factory=list)
    body: list[Difference] = dataclasses.field(default_factory=list)
    same_bytes: bool | None = None
    same_chunks: bool | None = None
    protocols: tuple[str, str] | None = None
    remarks: list[str] = dataclasses.field(default_factory=list)

    @property
    def count(self) -> int:
        """How many differences there are, noise not counted."""
        return len(self.line) + len(self.headers) + len(self.body)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        told: dict[str, Any] = {
            "part": self.part,
            "attempt": self.attempt,
            "backend": self.backend,
            "differences": self.count,
        }
        for name in ("line", "headers", "noise", "body"):
            told[name] = [one.document() for one in getattr(self, name)]
        names = ("same_bytes", "same_chunks", "protocols", "remarks")
        return told | {name: getattr(self, name) for name in names}


def compared(legs: Sequence[Leg]) -> list[Comparison]:
    """What the proxy changed in one flow: each attempt's request, then the response that the client got.

    Args:
        legs: the flow's exchanges in full, the client's first.

    Returns:
        Nothing where the flow lacks one of its two legs. The response is compared with that of the attempt whose bytes
        it has, else of the last that succeeded, else of the last.
    """
    client = next((leg for leg in legs if leg.exchange.leg == "client"), None)
    attempts = [leg for leg in legs if leg.exchange.leg != "client"]
    if client is None or not attempts:
        return []
    return [*(_requests(client, attempt) for attempt in attempts), _responses(_answering(client, attempts), client)]


def _answering(client: Leg, attempts: Sequence[Leg]) -> Leg:
    good = [one for one in attempts if one.exchange.status_code and one.exchange.status_code < FIRST_ERROR_STATUS]
    same = [one for one in attempts if one.response_body and one.response_body == client.response_body]
    return (same or good or attempts)[-1]


def _requests(client: Leg, attempt: Leg) -> Comparison:
    comparison = Comparison("request", attempt.exchange.attempt or 1, attempt.exchange.backend)
    if not _both_there(comparison, client.request, attempt.request, "request"):
        return comparison
    ours, theirs = url_parts(client.exchange.url), url_parts(attempt.exchange.url)
    lines = [("method", client.exchange.method, attempt.exchange.method), ("query", ours.query, theirs.query)]
    if not _is_mounted(ours.path, theirs.path):
        lines.insert(1, ("path", ours.path, theirs.path))
    comparison.line = [Difference(CHANGED, name, None, one, other) for name, one, other in lines if one != other]
    _compare_headers(comparison, client.headers("request"), attempt.headers("request"))
    if _is_websocket(client) or _is_websocket(attempt):
        _compare_messages(comparison, _messages(client, "client"), _messages(attempt, "proxy"))
        return comparison
    comparison.same_bytes = client.request_body == attempt.request_body
    if comparison.same_bytes and ours.path == theirs.path:
        return comparison
    before = Request(ours.path, ours.query, client.question)
    after = Request(theirs.path, theirs.query, attempt.question)
    common = common_requests(before, after)
    if common is not None:
        comparison.protocols = str(before.protocol), str(after.protocol)
    comparison.body = body_differences(*(common or (before.body, after.body)))
    return comparison


def body_differences(before: Any, after: Any) -> list[Difference]:
    """The differences of two values, but for texts that were only joined in another way."""
    return [one for one in differences(before, after) if one.kind != CHANGED or not same_words(one.before, one.after)]


def _responses(attempt: Leg, client: Leg) -> Comparison:
    comparison = Comparison("response", attempt.exchange.attempt or 1, attempt.exchange.backend)
    if not _both_there(comparison, attempt.response, client.response, "response"):
        return comparison
    if attempt.exchange.status_code != client.exchange.status_code:
        comparison.line = [
            Difference(CHANGED, "status", None, attempt.exchange.status_code, client.exchange.status_code)
        ]
    _compare_headers(comparison, attempt.headers("response"), client.headers("response"))
    if _is_websocket(client) or _is_websocket(attempt):
        _compare_messages(comparison, _messages(attempt, "backend"), _messages(client, "proxy"))
        return comparison
    comparison.same_bytes = attempt.response_body == client.response_body
    if attempt.exchange.streamed is not client.exchange.streamed:
        comparison.line.append(
            Difference(CHANGED, "streamed", None, attempt.exchange.streamed, client.exchange.streamed)
        )
    elif attempt.exchange.streamed:
        comparison.same_chunks = [one.data for one in attempt.chunks] == [one.data for one in client.chunks]
    if comparison.same_bytes:
        return comparison
    answered, handed_on = attempt.answer, client.answer
    if attempt.exchange.streamed and answered is None:
        answered = attempt.response_body.decode("utf-8", "replace")
    if client.exchange.streamed and handed_on is None:
        handed_on = client.response_body.decode("utf-8", "replace")
    one, other = _protocol_of(attempt, answered), _protocol_of(client, handed_on)
    if one is not None and other is not None and one != other:
        comparison.protocols = one, other
        answered, handed_on = common_answer(answered), common_answer(handed_on)
    comparison.body = body_differences(answered, handed_on)
    return comparison


def _protocol_of(leg: Leg, answer: Any) -> str | None:
    """An error has no protocol of its own: it is that of the request."""
    return answer_protocol(answer) or Request(url_parts(leg.exchange.url).path, "", leg.question).protocol


def _both_there(comparison: Comparison, one: object, other: object, part: str) -> bool:
    for leg, record in (
        (("client", one), ("backend", other)) if part == "request" else (("backend", one), ("client", other))
    ):
        if not isinstance(record, dict):
            comparison.remarks.append(f"the capture has no {part} on the {leg} leg")
            continue
        reasons = [name for name in _NOT_THE_WIRE if record.get("metadata", {}).get(name)]
        if reasons:
            comparison.remarks.append(f"{leg} leg: {', '.join(reasons)}")
    return isinstance(one, dict) and isinstance(other, dict)


def _is_mounted(one: str, other: str) -> bool:
    """Whether the proxy only put its own prefix before the path, or took it off."""
    return one == other or (other != "/" and one.endswith(other)) or (one != "/" and other.endswith(one))


# -- headers -----------------------------------------------------------------------------------------


def _compare_headers(
    comparison: Comparison, before: Sequence[tuple[str, str]], after: Sequence[tuple[str, str]]
) -> None:
    named = {
        option.strip().lower()
        for name, value in (*before, *after)
        if name.lower() == "connection"
        for option in value.split(",")
    }
    for one in header_differences(before, after):
        (comparison.noise if one.path in NOISE | named else comparison.headers).append(one)


def header_differences(before: Sequence[tuple[str, str]], after: Sequence[tuple[str, str]]) -> list[Difference]:
    """The differences of two lists of headers, by lower-case name; neither spelling nor the order of names counts."""
    ours, theirs = _by_name(before), _by_name(after)
    found = []
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        old, new = ", ".join(ours.get(name, ())), ", ".join(theirs.get(name, ()))
        if name not in theirs:
            found.append(Difference(DROPPED, name, None, old))
        elif name not in ours:
            found.append(Difference(ADDED, name, None, None, new))
        elif old != new:
            found.append(Difference(CHANGED, name, None, old, new))
    return found


def _by_name(headers: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    named: dict[str, list[str]] = defaultdict(list)
    for name, value in headers:
        named[name.lower()].append(value)
    return named


# -- websockets --------------------------------------------------------------------------------------


def _is_websocket(leg: Leg) -> bool:
    return leg.request is not None and leg.request is leg.response


def _messages(leg: Leg, sender: str) -> list[bytes]:
    return [chunk.data for chunk in leg.chunks if chunk.sender == sender]


def _compare_messages(comparison: Comparison, before: list[bytes], after: list[bytes]) -> None:
    comparison.same_bytes = before == after
    if not comparison.same_bytes:
        comparison.body = differences([_parsed(one) for one in before], [_parsed(one) for one in after])


def _parsed(message: bytes) -> Any:
    try:
        return json_value(message)
    except ValueError:
        return message.decode("utf-8", "replace")
