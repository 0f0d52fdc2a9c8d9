"""What Bedrock's InvokeModel takes and gives: each model family's own format; here Titan's, Llama's and old Mistral's.

Source: https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html
"""

import re
from typing import Final

from otel_wirecap.llm.dialects.interface import Dialect, Json, MessageAssembly, objects_in
from otel_wirecap.llm.dialects.text_chunks import TextChunks
from otel_wirecap.llm.usage import Usage, usage_in

_INVOKE: Final = re.compile(r"/model/.+/invoke(?:-with-response-stream)?$")


class _BedrockModels(Dialect):
    name = "bedrock-models"
    parameter_members = ("textGenerationConfig",)
    top_p_members = ("topP", "p")
    max_tokens_members = ("maxTokenCount",)
    prompt_members = ("inputText",)
    choice_members = (("results", "completionReason"), ("outputs", "stop_reason"))
    end_marks = (("completionReason", ()), ("stop_reason", ()), ("amazon-bedrock-invocationMetrics", ()))

    def operation(self, path: str, body: object) -> str | None:
        if not _INVOKE.search(path):
            return None
        if isinstance(body, dict) and not {"messages", "input"}.isdisjoint(body):
            return "chat"
        return "embeddings" if "embed" in path else "text_completion"

    def usage(self, answer: Json) -> Usage | None:
        results = [one.get("tokenCount") for one in objects_in(answer.get("results"))]  # Titan's
        metrics = answer.get("amazon-bedrock-invocationMetrics")
        if not results and "generation_token_count" not in answer and "inputTextTokenCount" not in answer:
            return usage_in(metrics)
        return usage_in(answer if not results else {**answer, "outputTokenCount": results[0]}) or usage_in(metrics)

    def assembly(self, event: Json) -> MessageAssembly | None:
        has_text = isinstance(event.get("generation"), str) or isinstance(event.get("outputText"), str)
        return TextChunks() if has_text or isinstance(event.get("outputs"), list) else None


DIALECT: Final = _BedrockModels()
