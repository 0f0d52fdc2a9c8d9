"""Formats of which only the ends of streams are known: their events are not added up to messages.

Sources: https://platform.openai.com/docs/api-reference/assistants-streaming/events,
https://replicate.com/docs/topics/predictions/streaming and, for Hugging Face's Text Generation Inference,
https://huggingface.github.io/text-generation-inference/ (``generate_stream``).
"""

from typing import Final

from otel_wirecap.llm.dialects.interface import Dialect

_RUN_ENDS: Final = tuple(
    f"thread.run.{status}"
    for status in ("cancelled", "completed", "expired", "failed", "incomplete", "requires_action")
)


class _Assistants(Dialect):
    name = "assistants"
    end_marks = (("type", _RUN_ENDS),)


class _Replicate(Dialect):
    name = "replicate"
    end_marks = (("type", ("done",)),)


class _TextGenerationInference(Dialect):
    name = "tgi"
    end_marks = (("generated_text", ()),)


DIALECTS: Final = (_Assistants(), _Replicate(), _TextGenerationInference())
