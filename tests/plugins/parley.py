"""A made-up provider, and a distribution that knows its format, for the tests of dialects from outside."""

from __future__ import annotations

import textwrap
from pathlib import Path

EVENTS = (
    {"talk": "t-1", "voice": "parley-2"},
    {"say": "Good "},
    {"say": "evening."},
    {"heard": 11, "spoke": 3, "because": "done"},
)
"""What the provider streams."""

ANSWER = {"talk": "t-1", "voice": "parley-2", "say": "Good evening.", "heard": 11, "spoke": 3, "because": "done"}
"""What that adds up to."""

DIALECT = """
import os
from pathlib import Path

from otel_wirecap.llm.dialects import Dialect, Opening, Parameters, Usage

with Path(__file__).with_suffix(".imports").open("a") as file:
    file.write(f"{os.getpid()}\\n")


class Talk:
    model = None
    size = 0

    def __init__(self):
        self.answer = {}

    def add(self, event, size):
        self.model = event.get("voice", self.model)
        words = self.answer.get("say", "") + event.get("say", "")
        self.answer.update(event)
        if words:
            self.answer["say"] = words

    def message(self):
        return self.answer or None


class Parley(Dialect):
    paths = ((r"/parley/talk$", "chat"),)
    prompt_members = ("question",)
    model_members = ("voice",)
    id_members = ("talk",)
    finish_members = ("because",)
    structure = ("question", "say")
    cache_order = ("question",)

    def requested_model(self, path, body):
        return body.get("voice")

    def parameters(self, body):
        return Parameters(temperature=body.get("heat"))

    def is_conversation(self, path, body):
        return "question" in body

    def is_answer(self, body):
        return "talk" in body

    def usage(self, answer):
        return Usage(answer["heard"], answer["spoke"]) if "heard" in answer else None

    def assembly(self, event):
        return Talk() if "talk" in event else None


dialect = Parley()
"""


def distribution(folder: Path, *, name: str = "parley", module: str = "parley_dialect", more: str = "") -> Path:
    """A folder of the import path with one distribution in it.

    Args:
        folder: is made.
        name: of the entry point.
        module: that it names.
        more: Python that comes after the dialect's.
    """
    information = folder / f"{module}-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[otel_wirecap.dialects]\n{name} = {module}:dialect\n")
    (folder / f"{module}.py").write_text(DIALECT + textwrap.dedent(more))
    return folder


def imports_of(folder: Path, module: str = "parley_dialect") -> list[int]:
    """The processes that imported it, one for each time."""
    path = folder / f"{module}.imports"
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []
