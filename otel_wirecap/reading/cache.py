"""Who broke the prompt cache: where the prompts of a session's requests part ways, on each leg.

Providers cache by prefix: what a request has in common with an earlier one, from its first token on, is cheap. A proxy
that stamps the system prompt or shuffles the tools makes every request dear, and nobody sees it.

Prompts are held of the last few requests only.
"""

from __future__ import annotations

import dataclasses
import json
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_wirecap.capture.record import REQUESTS
from otel_wirecap.capture.url import url_parts
from otel_wirecap.llm.requests import requested_model
from otel_wirecap.reading.dialects import conversation_dialect
from otel_wirecap.reading.json_diff import Path, path_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otel_wirecap.llm.usage import Usage
    from otel_wirecap.reading.captures import Captures
    from otel_wirecap.reading.flows import Exchange, Flow

FIRST, INTACT, CLIENT, PROXY = "first", "intact", "client", "proxy"

_REMEMBERED, _MAX_DEPTH = 16, 150
_SUCCESSES = range(200, 300)
_MODEL_SPELT = frozenset({"input", "input_schema", "inputSchema", "parameters", "args", "arguments", "schema"})
"""Members whose own members reach the model as they are spelt: in there, their order counts."""
_MARKS = ("cache_control", "cachePoint")

_RANKS = ("backend", "model", "tools", "system", "messages")
_ROUTED = ("model", "backend")


class Piece(NamedTuple):
    """A piece of a prompt, in the order in which the provider reads it.

    Attributes:
        path: where it stands in the request.
        value: what stands there, without marks for the cache.
        spelling: the same text for pieces that are the same tokens.
        kind: ``backend``, ``model``, ``system``, ``tools`` or ``messages``: comparable over protocols.
    """

    path: Path
    value: Any
    spelling: str
    kind: str


@dataclasses.dataclass(frozen=True, slots=True)
class Break:
    """The first place where a prompt leaves the one before it.

    Attributes:
        path: the place in the request, ``messages[3].content[0].text``.
        kind: ``backend``, ``model``, ``system``, ``tools``, ``messages``; ``marks`` where those for the cache are lost.
        kept: pieces of the prompt before it that are the same.
        of: pieces of the earlier prompt.
        before: what stood there; None where there was nothing.
        after: what stands there.
        offset: characters of a text that are still the same; None where the place is no text.
        reordered: whether the same stands there in another order.
    """

    path: str
    kind: str
    kept: int
    of: int
    before: Any = None
    after: Any = None
    offset: int | None = None
    reordered: bool = False


@dataclasses.dataclass(slots=True)
class Step:
    """One request of the session beside the earlier one that it shares most with.

    Attributes:
        flow: the flow.
        verdict: ``first``: there is none before it; ``intact``: the backend got the earlier prompt as a beginning of
            this one; ``client``, ``proxy``: who broke it. Where there is no client leg, whoever asked is the client.
        earlier: the flow that it is compared with.
        client: the break on the client leg.
        backend: the break on the backend leg.
        usage: the tokens that the backend's answer reports.
    """

    flow: Flow
    verdict: str
    earlier: Flow | None = None
    client: Break | None = None
    backend: Break | None = None
    usage: Usage | None = None

    @property
    def after_seconds(self) -> float | None:
        """From the earlier request to this one; caches expire."""
        return None if self.earlier is None else self.flow.started_unix - self.earlier.started_unix

    def document(self) -> dict[str, Any]:
        """As JSON."""
        usage = self.usage
        return {
            "request_id": self.flow.request_id,
            "session_id": self.flow.session_id,
            "started": self.flow.started_unix,
            "model": self.flow.model,
            "verdict": self.verdict,
            "compared_with": None if self.earlier is None else self.earlier.request_id,
            "after_seconds": self.after_seconds,
            "client": None if self.client is None else dataclasses.asdict(self.client),
            "backend": None if self.backend is None else dataclasses.asdict(self.backend),
            "usage": None if usage is None else usage._asdict(),
        }


@dataclasses.dataclass(slots=True)
class _Prompt:
    flow: Flow
    client: list[Piece]
    backend: list[Piece]
    client_marks: int
    backend_marks: int
    usage: Usage | None

    @property
    def outer(self) -> list[Piece]:
        return self.client or self.backend


def cache_steps(captures: Captures, flows: Iterable[Flow]) -> Iterator[Step]:
    """The requests of a session one after the other, each with who broke its prompt's cache, if anybody did.

    Args:
        captures: where their records are.
        flows: the session's flows, in the order they began. Those that ask for no message of a conversation are left
            out. A request is compared with the one of the last sixteen that succeeded whose beginning it shares the
            most of, so that an agent's side calls do not count as breaks.
    """
    known: deque[_Prompt] = deque(maxlen=_REMEMBERED)
    for flow in flows:
        prompt = _prompt_of(captures, flow)
        if prompt is None:
            continue
        earlier = max(reversed(known), key=lambda one: _kept(one.outer, prompt.outer), default=None)
        yield Step(flow, FIRST, usage=prompt.usage) if earlier is None else _step(earlier, prompt)
        if not flow.failed:
            known.append(prompt)


def _step(earlier: _Prompt, prompt: _Prompt) -> Step:
    client, backend = first_break(earlier.client, prompt.client), first_break(earlier.backend, prompt.backend)
    step = Step(prompt.flow, INTACT, earlier.flow, client, backend, prompt.usage)
    if prompt.client_marks and prompt.backend and not prompt.backend_marks and _marks_count(prompt.flow):
        place = f"{prompt.client_marks} marks for the cache"
        step.backend, step.verdict = Break("cache_control", "marks", 0, len(earlier.backend), before=place), PROXY
    elif backend is not None:
        if not prompt.client or not earlier.client:
            step.verdict = CLIENT
        else:
            step.verdict = CLIENT if _explains(client, backend, earlier) else PROXY
    elif not prompt.backend and client is not None:
        step.verdict = CLIENT
    return step


def _marks_count(flow: Flow) -> bool:
    """Whether the backend caches what is marked: both legs speak as Anthropic does."""
    exchange = _answering(flow)
    return exchange is not None and exchange.path.endswith(("/messages", "/converse", "/converse-stream"))


def _explains(client: Break | None, backend: Break, earlier: _Prompt) -> bool:
    """Whether the client's break is the one that reached the backend."""
    if client is None:
        return False
    if client.kind != backend.kind:
        # A model may well have a backend of its own. Otherwise, what the client changed before is not lost on the rest.
        return _RANKS.index(client.kind) < _RANKS.index(backend.kind) or (client.kind, backend.kind) == _ROUTED
    if (client.before, client.after) == (backend.before, backend.after):
        return True
    if backend.kind != "messages":
        return client.reordered or not backend.reordered
    ours = _turns(earlier.client, client.kept)
    return _turns(earlier.backend, backend.kept) >= ours


def _turns(pieces: list[Piece], kept: int) -> int:
    return sum(piece.kind == "messages" for piece in pieces[:kept])


def first_break(before: list[Piece], after: list[Piece]) -> Break | None:
    """The first place where one prompt leaves the other; None where one is the beginning of the other."""
    kept = _kept(before, after)
    if kept in {len(before), len(after)}:
        return None
    old, new = before[kept], after[kept]
    if old.kind != new.kind or old.path[0] != new.path[0]:
        # One has a piece more than the other: what comes next is of another kind.
        gone = _RANKS.index(old.kind) < _RANKS.index(new.kind)
        piece = old if gone else new
        return Break(
            path_text(piece.path),
            piece.kind,
            kept,
            len(before),
            old.value if gone else None,
            None if gone else new.value,
        )
    reordered = old.kind == "tools" and _spelt_tools(before) == _spelt_tools(after)
    path, one, other, members = _first_place(old.value, new.value, new.path)
    offset = None
    if isinstance(one, str) and isinstance(other, str):
        offset = next(
            (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
        )
    return Break(path_text(path), new.kind, kept, len(before), one, other, offset, reordered or members)


def _spelt_tools(pieces: list[Piece]) -> list[str]:
    return sorted(piece.spelling for piece in pieces if piece.kind == "tools")


def _kept(before: list[Piece], after: list[Piece]) -> int:
    """How many pieces two prompts have in common at their beginning."""
    kept = 0
    for old, new in zip(before, after, strict=False):
        if old.spelling != new.spelling or old.kind != new.kind:
            break
        kept += 1
    return kept


def _first_place(before: Any, after: Any, path: Path) -> tuple[Path, Any, Any, bool]:
    """Where two values differ first, what stands there, and whether it is only the order of members."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key not in after:
                return (*path, key), value, None, False
            if _spelt(value) != _spelt(after[key]):
                return _first_place(value, after[key], (*path, key))
        for key, value in after.items():
            if key not in before:
                return (*path, key), None, value, False
        return path, list(before), list(after), True
    if isinstance(before, list) and isinstance(after, list):
        for number, (old, new) in enumerate(zip(before, after, strict=False)):
            if _spelt(old) != _spelt(new):
                return _first_place(old, new, (*path, number))
        number = min(len(before), len(after))
        return (
            (*path, number), before[number] if number < len(before) else None,
            after[number] if number < len(after) else None, False,
        )  # fmt: skip
    return path, before, after, False


# -- prompts -----------------------------------------------------------------------------------------


def _prompt_of(captures: Captures, flow: Flow) -> _Prompt | None:
    """The prompt of a flow on both legs, the backend's of the attempt that answered; None where it has none."""
    bodies = {
        str(record["metadata"].get("exchange_id")): record.get("payload")
        for record in captures.records_of(flow)
        if record["direction"] in REQUESTS
    }
    backend = _answering(flow)
    found: dict[str, tuple[list[Piece], int]] = {}
    for leg, exchange in (("client", flow.client), ("backend", backend)):
        body = None if exchange is None else bodies.get(exchange.exchange_id)
        pieces = [] if exchange is None else prompt_pieces(url_parts(exchange.url).path, body)
        if pieces and exchange is not None:
            # Whom it is for: the client says so with the path, of which the end may be a model, a verb.
            name, whom = (
                ("path", exchange.path.rpartition("/")[0]) if leg == "client" else ("backend", exchange.backend)
            )
            pieces.insert(0, Piece((name,), whom, whom, "backend"))
        found[leg] = pieces, _marks_in(body) if pieces else 0
    (ours, our_marks), (theirs, their_marks) = found["client"], found["backend"]
    if not ours and not theirs:
        return None
    usage = (backend.usage if backend is not None else None) or flow.usage
    return _Prompt(flow, ours, theirs, our_marks, their_marks, usage)


def _answering(flow: Flow) -> Exchange | None:
    good = [one for one in flow.attempts if one.status_code in _SUCCESSES]
    return next(reversed(good or flow.attempts), None)


def prompt_pieces(path: str, body: Any) -> list[Piece]:
    """The pieces of a prompt in the order in which the provider reads them.

    Args:
        path: the URL's path.
        body: the request's parsed body.

    Returns:
        The model, then tools, system and messages in the provider's order; empty where it is no such request.
    """
    dialect = conversation_dialect(path, body)
    if dialect is None:
        return []
    model = requested_model(path, body)
    pieces = [Piece(("model",), model, str(model), "model")]
    for name in dialect.cache_order:
        value = body.get(name)
        if value in (None, "", []):
            continue
        kind = "tools" if name in {"tools", "toolConfig", "functions"} else "system"
        if name in dialect.turn_members or name in dialect.prompt_members:
            kind = "messages"
            value = value if isinstance(value, list) else [value]
        if isinstance(value, list):
            pieces += [_piece((name, number), one, kind) for number, one in enumerate(value)]
        else:
            pieces.append(_piece((name,), value, kind))
    return pieces


def _piece(path: Path, value: Any, kind: str) -> Piece:
    if kind == "messages" and isinstance(value, dict) and value.get("role") in ("system", "developer"):
        kind = "system"
    value = _canonical(value)
    return Piece(path, value, _spelt(value), kind)


def _canonical(value: Any, depth: int = 0) -> Any:
    """The value as the model gets it: without marks, a text in its one form, members in one order where it is free."""
    if depth > _MAX_DEPTH:
        return value
    if isinstance(value, list):
        kept = [one for one in value if not (isinstance(one, dict) and set(one) == {"cachePoint"})]
        return [_canonical(one, depth + 1) for one in kept]
    if not isinstance(value, dict):
        return value
    told = {}
    for key in sorted(value):
        if key in _MARKS:
            continue
        inner = value[key]
        if key == "content" and isinstance(inner, str):
            inner = [{"text": inner, "type": "text"}]
        told[key] = inner if key in _MODEL_SPELT else _canonical(inner, depth + 1)
    return told


def _spelt(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _marks_in(value: Any, depth: int = 0) -> int:
    if depth > _MAX_DEPTH:
        return 0
    if isinstance(value, list):
        return sum(_marks_in(one, depth + 1) for one in value)
    if not isinstance(value, dict):
        return 0
    own = sum(1 for mark in _MARKS if value.get(mark))
    return own + sum(_marks_in(one, depth + 1) for key, one in value.items() if key not in _MODEL_SPELT)
