"""Flows as lines of JSON, for indexes and temporary files."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Final

import orjson

from otel_wirecap.llm.usage import Usage
from otel_wirecap.reading.chunk_gaps import ChunkGaps
from otel_wirecap.reading.flows import Exchange, Flow

_FIELDS = tuple(field.name for field in dataclasses.fields(Exchange))
_USAGE, _GAPS, _URL, _ERROR = (_FIELDS.index(name) for name in ("usage", "gaps", "url", "error"))
_LEFT_OUT: Final = "?"
"""How a URL ends whose query was left out."""
_BEFORE_QUERY: Final = re.compile(r"(?![^/?#]*//[^/?#]*@)[^?#]*")
"""Of a URL that names a user, nothing."""
_ERROR_NAMES: Final = ("type", "provider_type", "provider_code")


def packed(flow: Flow, *, with_texts: bool = True) -> bytes:
    """A flow as one line of JSON; its id comes first.

    Without texts, URLs end before their query, and errors have no message: a secret that no rule knows may be there.
    """
    legs = [[getattr(one, name) for name in _FIELDS] for one in flow.exchanges]
    for leg in legs:
        if not with_texts:
            leg[_URL] = _without_query(leg[_URL])
            leg[_ERROR] = None if leg[_ERROR] is None else _without_message(leg[_ERROR])
        leg[_USAGE] = None if leg[_USAGE] is None else _packed_usage(leg[_USAGE])
        leg[_GAPS] = None if leg[_GAPS] is None else leg[_GAPS].packed()
    named = [flow.request_id, flow.session_id, flow.client_name, flow.spans, flow.client is not None]
    return orjson.dumps([*named, *legs])


def unpacked(line: bytes) -> Flow:
    """The flow that ``packed`` made a line of."""
    request_id, session_id, client_name, spans, has_client, *legs = orjson.loads(line)
    for leg in legs:
        if leg[_USAGE] is not None:
            leg[_USAGE] = _unpacked_usage(leg[_USAGE])
        if leg[_GAPS] is not None:
            leg[_GAPS] = ChunkGaps.unpacked(leg[_GAPS])
    exchanges = [Exchange(*leg) for leg in legs]
    spans = {key: (start, end) for key, (start, end) in spans.items()}
    client = exchanges.pop(0) if has_client else None
    return Flow(request_id, session_id, client, exchanges, client_name, spans)


def _packed_usage(usage: Usage) -> list[Any]:
    return [*usage[:-1], [_packed_usage(one) for one in usage.billed]]


def _unpacked_usage(values: list[Any]) -> Usage:
    return Usage(*values)._replace(billed=tuple(_unpacked_usage(one) for one in values[-1]))


def has_all_texts(exchange: Exchange) -> bool:
    """Whether nothing of an exchange was left out when it was packed without texts."""
    return not exchange.url.endswith(_LEFT_OUT) and (exchange.error or {}).get("message", "") is not None


def _without_query(url: str) -> str:
    kept = _BEFORE_QUERY.match(url)
    return _LEFT_OUT if kept is None else url if kept[0] == url else kept[0] + _LEFT_OUT


def _without_message(error: dict[str, Any]) -> dict[str, Any]:
    return {name: error[name] for name in _ERROR_NAMES if name in error} | {"message": None}
