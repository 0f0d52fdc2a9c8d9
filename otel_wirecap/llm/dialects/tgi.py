"""Hugging Face's Text Generation Inference, beside OpenAI's chat that it has, too: only how its streams end.

Source: https://huggingface.github.io/text-generation-inference/ (``generate_stream``)
"""

from typing import Final

from otel_wirecap.llm.dialects.interface import Dialect


class _TextGenerationInference(Dialect):
    name = "tgi"
    end_marks = (("generated_text", ()),)


DIALECT: Final = _TextGenerationInference()
