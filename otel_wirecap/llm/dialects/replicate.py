"""Predictions of Replicate: only how their streams end.

Source: https://replicate.com/docs/topics/predictions/streaming
"""

from typing import Final

from otel_wirecap.llm.dialects.interface import Dialect


class _Replicate(Dialect):
    name = "replicate"
    end_marks = (("type", ("done",)),)


DIALECT: Final = _Replicate()
