"""Google's Interactions.

Source: google-genai's ``InteractionSSEEvent`` (events ``interaction.*`` and ``step.*``), and the first version of the
interface, whose events are ``interaction.start``, ``content.start``, ``content.delta``, ``interaction.complete``.
"""

from __future__ import annotations

from typing import Any, Final

from otel_wirecap.llm.dialects.interface import Dialect, Json, MessageAssembly
from otel_wirecap.llm.dialects.whole_answer import WholeAnswer
from otel_wirecap.llm.text import GrowingText, json_or_text, keep_newest
from otel_wirecap.llm.usage import Usage, usage_in

_EVENTS: Final = ("interaction.", "step.", "content.")
_LAST: Final = ("interaction.cancelled", "interaction.complete", "interaction.completed")
_MEMBER: Final = 64  # about what a step takes beside its value


class Interaction:
    """Adds the events up to an interaction."""

    __slots__ = ("_interaction", "_list", "_newest", "_steps", "_usage", "model", "size")

    def __init__(self) -> None:
        self.model: str | None = None
        self.size = 0
        self._interaction: Json = {}
        self._list = "steps"  # "outputs" in the first version
        self._steps: list[_Step] = []
        self._newest: dict[object, _Step] = {}
        self._usage: object = None  # of a step, while no interaction tells of all

    def add(self, event: Json, size: int) -> None:
        """See ``MessageAssembly.add``."""
        kind = str(event.get("event_type"))
        inner = event.get("interaction")
        if isinstance(inner, dict):
            for name, value in inner.items():
                keep_newest(self._interaction, name, value)
            self.size += size
            model = self._interaction.get("model")
            self.model = model if isinstance(model, str) and model else None
        if kind == "interaction.status_update":
            keep_newest(self._interaction, "status", event.get("status"))
        elif kind.startswith(("step.", "content.")):
            self._list = "steps" if kind.startswith("step.") else "outputs"
            self._add_to_step(kind, event, size)

    def message(self) -> Json | None:
        """See ``MessageAssembly.message``."""
        if not self._interaction and not self._steps:
            return None
        answer = {"object": "interaction", **self._interaction}
        if self._steps and not answer.get(self._list):
            answer[self._list] = [step.value() for step in self._steps]
        if self._usage is not None and not answer.get("usage"):
            answer["usage"] = self._usage
        return answer

    def _add_to_step(self, kind: str, event: Json, size: int) -> None:
        index = event.get("index") if isinstance(event.get("index"), int) else 0
        start = event.get("step") or event.get("content")
        step = self._newest.get(index)
        if step is None or kind.endswith(".start"):
            step = self._newest[index] = _Step(start if isinstance(start, dict) else {})
            self._steps.append(step)
            self.size += _MEMBER + size
        delta = event.get("delta")
        if isinstance(delta, dict):
            step.add(delta, in_list=self._list == "steps")
            self.size += size
        if isinstance(event.get("usage"), dict):
            self._usage = event["usage"]


class _Step:
    """One step: as it started, with what its deltas add."""

    __slots__ = ("_arguments", "_content", "_start", "_texts", "_values")

    def __init__(self, start: Json) -> None:
        self._start = dict(start)
        self._values: Json = {}
        self._texts: dict[str, GrowingText] = {}  # of the step itself
        self._content: list[Json | tuple[Json, GrowingText]] = []
        self._arguments: GrowingText | None = None

    def add(self, delta: Json, *, in_list: bool) -> None:
        """Takes a delta; ``in_list``: texts are elements of a list, and not the step itself."""
        kind = delta.get("type")
        if kind == "text" and isinstance(delta.get("text"), str):
            self._add_text(delta, in_list=in_list)
        elif kind == "arguments_delta" and isinstance(delta.get("arguments"), str):
            self._arguments = self._arguments or GrowingText()
            self._arguments.write(delta["arguments"])
        elif kind == "thought_summary" and isinstance(delta.get("content"), dict):
            self._values["summary"] = [*self._values.get("summary", ()), delta["content"]]
        elif kind == "text_annotation_delta":
            self._content.append({name: value for name, value in delta.items() if name != "type"})
        elif in_list and kind in {"image", "audio", "video", "document"}:
            self._content.append(delta)
        else:
            for name, value in delta.items():
                if name != "type":
                    keep_newest(self._values, name, value)
                    self._start.setdefault("type", kind)

    def value(self) -> Json:
        """The step as an interaction has it."""
        value = {**self._start, **self._values, **{name: text.getvalue() for name, text in self._texts.items()}}
        if self._arguments is not None:
            value["arguments"] = json_or_text(self._arguments.getvalue())
        if self._content:
            started = self._start.get("content")
            value.setdefault("type", "model_output")
            value["content"] = list(started) if isinstance(started, list) else []
            for one in self._content:
                if isinstance(one, tuple):
                    value["content"].append({**one[0], "text": one[1].getvalue()})
                elif "annotations" in one and "type" not in one and value["content"]:
                    last = value["content"][-1]
                    last["annotations"] = [*(last.get("annotations") or ()), *one["annotations"]]
                else:
                    value["content"].append(one)
        return value

    def _add_text(self, delta: Json, *, in_list: bool) -> None:
        text: str = delta["text"]
        if not in_list:
            known = self._start.get("text")
            grown = self._texts.setdefault("text", GrowingText(known if isinstance(known, str) else ""))
            grown.write(text)
            self._start.setdefault("type", "text")
            return
        last = self._content[-1] if self._content else None
        if not isinstance(last, tuple):
            last = ({"type": "text"}, GrowingText())
            self._content.append(last)
        last[1].write(text)


class _Interactions(Dialect):
    name = "interactions"
    paths = ((r"/interactions$", "generate_content"),)
    parameter_members = ("generation_config",)
    max_tokens_members = ("max_output_tokens",)
    system_members = ("system_instruction",)
    prompt_members = ("input",)
    model_holders = ("interaction",)
    end_marks = (("event_type", _LAST),)

    def is_answer(self, body: Json) -> bool:
        return isinstance(body.get("steps") or body.get("outputs"), list) and "status" in body

    def choices(self, answer: Json) -> tuple[tuple[Any, Any], ...]:
        return (({"content": answer.get("steps") or answer.get("outputs")}, answer.get("status")),)

    def usage(self, answer: Json) -> Usage | None:
        return usage_in(answer.get("usage"), answer)

    def assembly(self, event: Json) -> MessageAssembly | None:
        kind = event.get("event_type")
        if isinstance(kind, str) and kind.startswith(_EVENTS):
            return Interaction()
        return WholeAnswer() if event.get("object") == "interaction" else None


DIALECT: Final = _Interactions()
