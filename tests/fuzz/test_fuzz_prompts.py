"""The masking of prompts in streams, whatever they hold and however little may be held."""

from __future__ import annotations

import base64
import json

from damage import cuts, fuzz, in_pieces
from hypothesis import example, given, strategies as st

from otel_wirecap.capture.redaction.prompts import PromptMasking
from otel_wirecap.frames.aws_message import AWSMessage
from otel_wirecap.frames.framing import AWS_TYPE, SSE_TYPE

SAID = b"QXZK"
"""Stands nowhere but where something is said."""

TYPES = ("", SSE_TYPE, AWS_TYPE, "application/json", "application/x-ndjson", "application/json-seq", "text/plain")


def message(payload: bytes) -> bytes:
    return AWSMessage(b"\x01a\x07\x00\x04" + SAID, payload).encoded()


PARTS = [
    *(bytes([one]) for one in b'[]{},:"\\\n\r \x1e\0'), b"\r\n", b"\xef\xbb\xbf", SAID, b'"%s"' % SAID, b"[1,2]",
    b"data: ", b"event: x\n", b": %s\n" % SAID, b"data: [DONE]\n\n", b'data: {"delta":"%s"}\n\n' % SAID,
    b'{"type":"ok"}', b'{"a": "%s"}' % SAID, b'{"args":{"a":[1,"%s"]}}\n' % SAID, b'{"bytes":"x',
    message(b'{"a":"%s"}' % SAID),
    message(json.dumps({"bytes": base64.b64encode(b'{"a":"%s"}' % SAID).decode(), "p": SAID.decode()}).encode()),
]  # fmt: skip


def masked(content_type: str, pieces: list[bytes], most: int) -> bytes:
    masking = PromptMasking(content_type, most)
    out = [one for piece in pieces for one in masking.feed([piece]).pieces] + masking.close().pieces
    assert len(out) == len(pieces)
    return b"".join(out)


@fuzz
@given(
    st.lists(st.sampled_from(PARTS), max_size=9).map(b"".join), st.sampled_from(TYPES), cuts,
    st.sampled_from((10, 30, 100, 1 << 20)),
)  # fmt: skip
@example(b'data: {"a":"%s"\r\n\n%s[1,2]"%s"' % (SAID * 3, SAID, SAID), "application/json", [9], 10)
def test_nothing_said_comes_out_and_no_cut_changes_what_does(
    stream: bytes, content_type: str, places: list[int], most: int
) -> None:
    whole = masked(content_type, [stream], most)
    assert SAID not in whole
    assert masked(content_type, in_pieces(stream, places), most) == whole
    assert masked(content_type, [stream[at : at + 1] for at in range(len(stream))], most) == whole
