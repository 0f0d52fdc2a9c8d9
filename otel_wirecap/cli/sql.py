"""``otel-wirecap sql QUERY [FILE …]``: SQL queries over captures, run by DuckDB."""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from otel_wirecap.cli.captures import add_reading_parser, opened, tell, write, write_json
from otel_wirecap.cli.text import Cell, Column, Style, columns_of, printable, table
from otel_wirecap.llm.text import json_value
from otel_wirecap.reading.sql import Database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from otel_wirecap.reading import sql

EXAMPLES = """
otel-wirecap sql "SELECT backend, count(*) FROM exchanges WHERE leg = 'backend' GROUP BY ALL"
otel-wirecap sql "SELECT session_id, max(gap_ms) FROM chunks GROUP BY ALL ORDER BY 2 DESC"
otel-wirecap sql "SELECT payload->>'$.error.message' FROM records WHERE direction = 'inbound_response'"
otel-wirecap sql "DESCRIBE flows"
otel-wirecap sql --csv "SELECT * FROM flows" a.log b.log > flows.csv
"""

_NUMBERS = ("INT", "DOUBLE", "FLOAT", "DECIMAL", "REAL")
_INTEGER_LIMIT = 2**63


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the command."""
    parser = add_reading_parser(
        subparsers,
        "sql",
        "query captures in SQL",
        "Runs a query over the views records, flows, exchanges and chunks; needs the extra sql (DuckDB).",
        EXAMPLES,
        subject=("QUERY", "a query in DuckDB's SQL; DESCRIBE flows lists the columns"),
    )
    parser.add_argument("--csv", action="store_true", help="CSV with a header line")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    if arguments.csv and arguments.json:
        tell("--csv and --json exclude each other; give one of them")
        return 2
    damaged = 0

    def on_damage(_file: Path, _line: int) -> None:
        nonlocal damaged
        damaged += 1

    with_texts = "exchanges" in arguments.query.lower()
    with (
        opened(arguments, with_texts=with_texts) as captures,
        Database(captures, arguments.query, on_damage=on_damage) as database,
    ):
        columns, rows = database.ask()
        if arguments.json:
            for row in rows:
                write_json({name: _json(value, kind) for (name, kind), value in zip(columns, row, strict=True)})
        elif arguments.csv:
            _show_csv(columns, rows)
        else:
            _show(columns, rows)
    if damaged:
        tell(f"{damaged} lines are damaged and were left out")
    return 0


def _show(columns: list[sql.ResultColumn], rows: Iterator[tuple[Any, ...]]) -> None:
    cells = [[Cell("-" if value is None else printable(str(value))) for value in row] for row in rows]
    titles = [Column(printable(name), right=kind.startswith(_NUMBERS) or "INT" in kind) for name, kind in columns]
    for line in table(titles, cells, Style(sys.stdout), columns_of(sys.stdout)):
        write(line)


def _show_csv(columns: list[sql.ResultColumn], rows: Iterator[tuple[Any, ...]]) -> None:
    line = io.StringIO()
    writer = csv.writer(line, lineterminator="")
    for row in itertools.chain([[column.name for column in columns]], rows):
        line.seek(0)
        line.truncate()
        writer.writerow(row)
        write(line.getvalue())


def _json(value: Any, kind: str) -> Any:
    """Returns a value that JSON can represent; parses JSON columns."""
    if kind == "JSON" and isinstance(value, str):
        return json_value(value)
    if value is None or isinstance(value, str | bool | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < _INTEGER_LIMIT else float(value)
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, list | tuple):
        return [_json(one, "") for one in value]
    if isinstance(value, dict):
        return {str(name): _json(one, "") for name, one in value.items()}
    return str(value)
