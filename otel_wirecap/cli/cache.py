"""``otel-wirecap cache SESSION [FILE …]``: who broke the prompt cache, the client or the proxy, and where."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from otel_wirecap.cli.captures import add_reading_parser, opened, tell, write, write_json, write_table
from otel_wirecap.cli.flow_text import clock, unique_length
from otel_wirecap.cli.text import Cell, Column, Style, columns_of, cut, printable
from otel_wirecap.reading.cache import CLIENT, FIRST, INTACT, PROXY, Break, Step, cache_steps

if TYPE_CHECKING:
    from collections.abc import Sequence

EXAMPLES = """
otel-wirecap cache demo-conversation
otel-wirecap cache 5f0c logs/wire_capture.log
otel-wirecap cache 5f0c --json | jq 'select(.verdict == "proxy") | .backend'
"""

_STYLES = {FIRST: "dim", INTACT: "green", CLIENT: "yellow", PROXY: "red"}
_EXCERPT, _AROUND = 50, 15

_COLUMNS = (
    Column("flow", least=12), Column("time (UTC)", rank=6, least=18), Column("model", rank=5, least=10),
    Column("after", rank=4, right=True), Column("in", rank=3, right=True), Column("cached", right=True),
    Column("written", rank=7, right=True), Column("broken by"), Column("client leg", rank=2, least=12),
    Column("backend leg", rank=1, least=12),
)  # fmt: skip


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the command."""
    add_reading_parser(
        subparsers,
        "cache",
        "find out what broke a session's prompt cache",
        "Compares each prompt of a session with the earlier one it continues, on both legs, and shows the first "
        "difference. Exit code 1 if the proxy broke a cached prompt.",
        EXAMPLES,
        subject=("SESSION", "session id, or the beginning of it; otel-wirecap ls --by session lists them"),
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    with opened(arguments) as captures:
        steps = list(cache_steps(captures, captures.session(arguments.session)))
    if arguments.json:
        for step in steps:
            write_json(step.document())
    else:
        _show(steps)
    return 1 if any(step.verdict == PROXY for step in steps) else 0


def _show(steps: Sequence[Step]) -> None:
    style, width = Style(sys.stdout), columns_of(sys.stdout)
    length = unique_length([step.flow.request_id for step in steps])
    write_table(_COLUMNS, [_row(step, length) for step in steps])
    for step in steps:
        if step.verdict in {CLIENT, PROXY}:
            write("")
            write(style(f"{printable(step.flow.request_id[:length])}: broken by the {step.verdict}", "bold"))
            for leg, found in (("client", step.client), ("backend", step.backend)):
                line = f"  {leg:7} {_told(found)}"
                write(line if width is None else cut(line, width))
    counts = Counter(step.verdict for step in steps)
    usages = [step.usage for step in steps if step.usage is not None]
    cached, asked = sum(one.cached for one in usages), sum(one.input for one in usages)
    told = f"{len(steps)} prompts, {counts[INTACT]} continued, "
    told += f"broken: {counts[PROXY]} by the proxy, {counts[CLIENT]} by the client"
    tell(told + (f"; {cached:,} of {asked:,} tokens came from the cache" if asked else ""))


def _row(step: Step, length: int) -> list[Cell]:
    usage, after = step.usage, step.after_seconds
    return [
        Cell(printable(step.flow.request_id[:length]), "cyan"),
        Cell(clock(step.flow.started_unix)),
        Cell(printable(step.flow.model or "-")),
        Cell("-" if after is None else f"{after:.0f}s"),
        Cell("-" if usage is None else str(usage.input)),
        Cell("-" if usage is None else str(usage.cached)),
        Cell("-" if usage is None else str(usage.cache_written)),
        Cell({FIRST: "-", INTACT: "nobody"}.get(step.verdict, step.verdict), _STYLES[step.verdict]),
        Cell(_place(step.client)),
        Cell(_place(step.backend)),
    ]


def _place(found: Break | None) -> str:
    return "-" if found is None else printable(found.path)


def _told(found: Break | None) -> str:
    if found is None:
        return "the same as far as both go"
    order = ", in another order" if found.reordered else ""
    offset = f" at character {found.offset}" if found.offset else ""
    near = found.offset or 0
    return (
        f"{printable(found.path)}{offset}{order}: {_excerpt(found.before, near)} → {_excerpt(found.after, near)}"
        f"  ({found.kept} of {found.of} parts kept)"
    )


def _excerpt(value: Any, near: int) -> str:
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False, default=str)
    start = max(0, near - _AROUND) if near + _AROUND > _EXCERPT else 0
    return ("…" if start else "") + cut(printable(text[start:]), _EXCERPT)
