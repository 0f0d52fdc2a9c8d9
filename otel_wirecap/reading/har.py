"""Exchanges as entries of an HTTP archive, HAR 1.2 (http://www.softwareishard.com/blog/har-12-spec/).

What the format has no place for stands in members that begin with an underscore, as it allows: ``_wirecap`` (which
flow, leg and attempt), ``_chunks`` (when a stream's chunks came), ``_webSocketMessages`` (as browsers have them).
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from otel_wirecap.capture.decoding import text_or_bytes
from otel_wirecap.capture.url import url_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_wirecap.reading.legs import Leg

_UNKNOWN = -1
"""What the format has for what is not known."""


def entry(leg: Leg) -> dict[str, Any]:
    """One exchange as an entry of the archive."""
    one = leg.exchange
    ttfb, duration = one.ttfb_ms, one.duration_ms
    waited = ttfb if ttfb is not None else duration or 0.0
    received = max((duration or waited) - waited, 0.0)
    told: dict[str, Any] = {
        "startedDateTime": datetime.fromtimestamp(one.started_unix or 0.0, UTC).isoformat(timespec="microseconds"),
        "time": waited + received,
        "request": _request(leg),
        "response": _response(leg),
        "cache": {},
        "timings": {
            "blocked": _UNKNOWN, "dns": _UNKNOWN, "connect": _UNKNOWN, "ssl": _UNKNOWN,
            "send": 0, "wait": waited, "receive": received,
        },
        "_wirecap": {
            name: value
            for name, value in {
                "request_id": _metadata(leg).get("request_id"), "exchange_id": one.exchange_id, "leg": one.leg,
                "attempt": one.attempt, "backend": one.backend, "model": one.model, "key_name": one.key_name,
                "outcome": one.outcome, "error": one.error,
            }.items()
            if value is not None
        },
    }  # fmt: skip
    began = one.started_unix or 0.0
    asking = ("client",) if one.leg == "client" else ("client", "proxy")  # who sends what a browser would
    if any(chunk.sender for chunk in leg.chunks):
        told["_webSocketMessages"] = [
            {
                "type": "send" if chunk.sender in asking else "receive",
                "time": chunk.timestamp_unix,
                **_frame(chunk.data),
            }
            for chunk in leg.chunks
        ]
    elif leg.chunks:
        told["_chunks"] = [
            {"number": chunk.number, "at_ms": (chunk.timestamp_unix - began) * 1000, "bytes": len(chunk.data)}
            for chunk in leg.chunks
        ]
    return told


def _request(leg: Leg) -> dict[str, Any]:
    one, metadata = leg.exchange, _metadata(leg)
    headers = leg.headers("request")
    url = one.url if "://" in one.url else f"http://unknown{one.url}"
    told: dict[str, Any] = {
        "method": one.method or "GET",
        "url": url,
        "httpVersion": _version(metadata),
        "cookies": _cookies(headers, "cookie"),
        "headers": _pairs(headers),
        "queryString": _pairs(parse_qsl(url_parts(url).query, keep_blank_values=True)),
        "headersSize": _UNKNOWN,
        "bodySize": metadata.get("wire_length", one.request_bytes),
    }
    if leg.request_body:
        text = text_or_bytes(leg.request_body)
        told["postData"] = {"mimeType": leg.header("request", "content-type") or "", "text": text}
        if isinstance(text, bytes):  # the format has no way to say that a request's body is encoded
            told["postData"] |= {
                "text": text.decode("latin-1"),
                "comment": "bytes, each as the character of its number",
            }
    return told


def _response(leg: Leg) -> dict[str, Any]:
    one = leg.exchange
    metadata, headers = leg.metadata("response"), leg.headers("response")
    text = text_or_bytes(leg.response_body)
    content = {"size": len(leg.response_body), "mimeType": leg.header("response", "content-type") or "", "text": text}
    if isinstance(text, bytes):
        content |= {"text": base64.b64encode(text).decode("ascii"), "encoding": "base64"}
    return {
        "status": one.status_code or 0,
        "statusText": str(metadata.get("reason") or ""),
        "httpVersion": _version(metadata),
        "cookies": _cookies(headers, "set-cookie"),
        "headers": _pairs(headers),
        "content": content,
        "redirectURL": leg.header("response", "location") or "",
        "headersSize": _UNKNOWN,
        "bodySize": metadata.get("wire_length", one.response_bytes),
    }


def _metadata(leg: Leg) -> dict[str, Any]:
    record = leg.request or leg.response or leg.end
    return {} if record is None else dict(record["metadata"])


def _version(metadata: dict[str, Any]) -> str:
    version = metadata.get("http_version")
    return "unknown" if version is None else f"HTTP/{version}".replace("HTTP/HTTP/", "HTTP/")


def _pairs(pairs: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in pairs]


def _cookies(headers: Sequence[tuple[str, str]], wanted: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for name, value in headers:
        if name.lower() == wanted:
            try:
                found += ({"name": one.key, "value": one.value} for one in SimpleCookie(value).values())
            except CookieError:
                continue
    return found


def _frame(data: bytes) -> dict[str, Any]:
    text = text_or_bytes(data)
    is_text = isinstance(text, str)
    return {"opcode": 1 if is_text else 2, "data": text if is_text else base64.b64encode(data).decode("ascii")}
