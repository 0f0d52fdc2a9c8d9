"""Flows as lines of JSON, for indexes and temporary files."""

from __future__ import annotations

import dataclasses
from typing import Any

import orjson

from otel_wirecap.llm.usage import Usage
from otel_wirecap.reading.chunk_gaps import ChunkGaps
from otel_wirecap.reading.flows import Exchange, Flow

_FIELDS = tuple(field.name for field in dataclasses.fields(Exchange))
_USAGE, _GAPS = _FIELDS.index("usage"), _FIELDS.index("gaps")


def packed(flow: Flow) -> bytes:
    """A flow as one line of JSON; its id comes first."""
    legs = [[getattr(one, name) for name in _FIELDS] for one in flow.exchanges]
    for leg in legs:
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
