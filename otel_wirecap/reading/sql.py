"""Captures as tables that SQL can be asked of, by DuckDB, an extra.

The records that our own reader gives are written, in the schema's shape, to a file without a name; the views read it
column by column as a query wants them. So every capture that can be read can be queried, and DuckDB need not know what
a torn line, a rotated file or CBOR is.

Invariant: once a query runs, it can open no file but these, load no extension, and change no setting of that.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import tempfile
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import orjson

from otel_wirecap.capture.record import STREAM_CHUNKS
from otel_wirecap.errors import CaptureFileError, ConfigurationError, QueryError
from otel_wirecap.llm.text import json_value
from otel_wirecap.reading.resource import Resource
from otel_wirecap.reading.summaries import document

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from types import ModuleType

    import duckdb

    from otel_wirecap.reading.captures import Captures
    from otel_wirecap.reading.flows import Flow

_TOKENS = {
    "input_tokens": "BIGINT",
    "output_tokens": "BIGINT",
    "cached_tokens": "BIGINT",
    "cache_written_tokens": "BIGINT",
    "reasoning_tokens": "BIGINT",
    "cost": "DOUBLE",
    "cost_missing": "VARCHAR[]",
}
_FLOWS = {
    "request_id": "VARCHAR", "session_id": "VARCHAR", "started": "TIMESTAMP", "client": "VARCHAR",
    "backend": "VARCHAR", "model": "VARCHAR", "key_name": "VARCHAR", "status": "INTEGER", "outcome": "VARCHAR",
    "error": "VARCHAR", "failed": "BOOLEAN", "attempts": "INTEGER", "ttfb_ms": "DOUBLE", "duration_ms": "DOUBLE",
    "chunks": "BIGINT", **_TOKENS,
}  # fmt: skip
_EXCHANGES = {
    "exchange_id": "VARCHAR", "request_id": "VARCHAR", "session_id": "VARCHAR", "leg": "VARCHAR",
    "attempt": "INTEGER", "backend": "VARCHAR", "method": "VARCHAR", "url": "VARCHAR", "requested_model": "VARCHAR",
    "answered_model": "VARCHAR", "key_name": "VARCHAR", "status": "INTEGER", "started": "TIMESTAMP",
    "ttfb_ms": "DOUBLE", "duration_ms": "DOUBLE", "request_bytes": "BIGINT", "bytes": "BIGINT", "streamed": "BOOLEAN",
    "chunks": "BIGINT", "first_chunk": "TIMESTAMP", "last_chunk": "TIMESTAMP", "outcome": "VARCHAR",
    "error_type": "VARCHAR", "error_message": "VARCHAR", "failed": "BOOLEAN", **_TOKENS,
}  # fmt: skip

# Values of other types than the schema's, as other tools' captures have them, become NULL and stop no query.
_RECORDS = """
    SELECT timestamp_iso, try_cast(timestamp_unix->>'$' AS DOUBLE) AS timestamp_unix,
        make_timestamp(try_cast(round(try_cast(timestamp_unix->>'$' AS DOUBLE) * 1e6) AS BIGINT)) AS moment,
        direction, source, destination, session_id, backend, model, key_name, content_type,
        try_cast(content_length->>'$' AS BIGINT) AS content_length, payload, metadata,
        metadata->>'$.request_id' AS request_id, metadata->>'$.exchange_id' AS exchange_id,
        metadata->>'$.leg' AS leg, try_cast(metadata->>'$.attempt' AS INTEGER) AS attempt
    FROM {lines}
"""
_RECORD_FIELDS = {
    "timestamp_iso": "VARCHAR", "timestamp_unix": "JSON", "direction": "VARCHAR", "source": "VARCHAR",
    "destination": "VARCHAR", "session_id": "VARCHAR", "backend": "VARCHAR", "model": "VARCHAR",
    "key_name": "VARCHAR", "content_type": "VARCHAR", "content_length": "JSON", "payload": "JSON", "metadata": "JSON",
}  # fmt: skip
_CHUNKS = f"""
    SELECT request_id, exchange_id, session_id, leg, attempt, backend, model, moment,
        try_cast(metadata->>'$.chunk_number' AS BIGINT) AS chunk_number,
        try_cast(metadata->>'$.chunk_bytes' AS BIGINT) AS chunk_bytes,
        round((timestamp_unix - lag(timestamp_unix) OVER (PARTITION BY exchange_id
            ORDER BY try_cast(metadata->>'$.chunk_number' AS BIGINT), timestamp_unix)) * 1000, 3) AS gap_ms,
        CASE WHEN json_type(payload) = 'VARCHAR' THEN payload->>'$' END AS text, payload
    FROM records WHERE direction IN ({", ".join(f"'{name}'" for name in sorted(STREAM_CHUNKS))})
"""  # noqa: S608  # the names are our own
_MIN_OBJECT_BYTES = 16 * 1024 * 1024
_AT_ONCE = 1000
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
"""Perhaps half of a character."""


class ResultColumn(NamedTuple):
    """A column of an answer.

    Attributes:
        name: as the query gives it.
        type: DuckDB's name of its type: ``VARCHAR``, ``JSON``, ``BIGINT``.
    """

    name: str
    type: str


class Database(Resource):
    """Captures, ready for one query; open as long as the ``with`` block lasts.

    Args:
        captures: which; read as far as the query needs.
        query: says which views to fill.
        on_damage: is told the file and the line of what is no record, where records are read.

    Raises:
        CaptureFileError: a capture cannot be read, or not copied to where temporary files go.
        ConfigurationError: DuckDB is not installed.
    """

    def __init__(self, captures: Captures, query: str, *, on_damage: Callable[[Path, int], None] | None = None) -> None:
        duckdb = _duckdb("sql")
        self._query = query
        self._errors = duckdb.Error
        with contextlib.ExitStack() as stack:
            self._stack = stack
            # Without a folder for what does not fit into memory, nothing of a capture is left on the disk.
            self._connection = stack.enter_context(
                contextlib.closing(duckdb.connect(":memory:", config={"temp_directory": ""}))
            )
            try:
                self._fill(captures, on_damage)
            except OSError as error:
                # Not with the folder's name: there may be none.
                raise CaptureFileError(
                    f"no copy for the query can be made where temporary files go (TMPDIR): {error.strerror or error}"
                ) from error
            self._stack = stack.pop_all()

    def ask(self) -> tuple[list[ResultColumn], Iterator[tuple[Any, ...]]]:
        """The answer's columns and rows; of several statements, the last one's.

        Raises:
            QueryError: the query is wrong, or wants what is not allowed; the rows may raise it too.
        """
        with self._telling():
            answer: duckdb.DuckDBPyConnection | None = self._connection.execute(self._query)
            if answer is None or answer.description is None:
                raise QueryError("the query is empty; try: SELECT * FROM flows")
            columns = [ResultColumn(told[0], str(told[1])) for told in answer.description]
        return columns, self._rows(answer)

    def _rows(self, answer: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
        while True:
            with self._telling():
                rows = answer.fetchmany(_AT_ONCE)
            if not rows:
                return
            yield from rows

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            # What follows the first paragraph is a picture of the query.
            told = " ".join(str(error).partition("\n\n")[0].split())
            raise QueryError(f"the query cannot be answered: {told}") from error

    def _fill(self, captures: Captures, on_damage: Callable[[Path, int], None] | None) -> None:
        named = set(re.findall(r"\w+", self._query.lower()))
        lines = captures.json_lines(on_damage) if named & {"records", "chunks"} else iter(())
        flows = captures.flows() if named & {"flows", "exchanges"} else []
        paths = [
            self._view("records", _RECORDS, _RECORD_FIELDS, lines),
            self._view("flows", "SELECT * FROM {lines}", _FLOWS, map(_flow, flows)),
            self._view("exchanges", "SELECT * FROM {lines}", _EXCHANGES, itertools.chain(*map(_exchanges, flows))),
        ]
        self._connection.execute(f"CREATE VIEW chunks AS {_CHUNKS}")
        allowed = ", ".join(f"'{path}'" for path in paths)
        for setting in (
            f"allowed_paths = [{allowed}]",
            "python_enable_replacements = false",
            "TimeZone = 'UTC'",
            "enable_external_access = false",
            "lock_configuration = true",
        ):
            self._connection.execute(f"SET {setting}")

    def _view(self, name: str, select: str, fields: dict[str, str], lines: Iterator[bytes]) -> str:
        """Makes a view over lines of JSON, and gives the path at which they are read."""
        file = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # the stack closes it
        read = _read_json(file, lines, fields)
        self._connection.execute(f"CREATE VIEW {name} AS {select.format(lines=read)}")
        return f"/dev/fd/{file.fileno()}"


def write_parquet(lines: Iterable[bytes], path: Path) -> None:
    """Writes the view ``records`` of records, lines of JSON in the schema's shape, as a Parquet file.

    Raises:
        CaptureFileError: the file, or the copy that it is made from, cannot be written.
        ConfigurationError: DuckDB is not installed.
    """
    duckdb = _duckdb("export to parquet")
    with tempfile.TemporaryFile() as file, contextlib.closing(duckdb.connect(":memory:")) as connection:
        try:
            select = _RECORDS.format(lines=_read_json(file, lines, _RECORD_FIELDS))
            target = str(path).replace("'", "''")
            connection.execute(f"COPY ({select}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)")
        except (OSError, duckdb.Error) as error:
            told = " ".join(str(error).partition("\n\n")[0].split())
            raise CaptureFileError(f"no Parquet file can be written: {told}") from error


def _duckdb(what: str) -> ModuleType:
    try:
        import duckdb
    except ImportError:
        raise ConfigurationError(f"{what} needs DuckDB; install the extra: otel-wirecap[sql]") from None
    return duckdb


def _read_json(file: IO[bytes], lines: Iterable[bytes], fields: dict[str, str]) -> str:
    """Writes lines of JSON to a file, and gives what reads them in a query."""
    longest = 0
    for line in lines:
        if _HALF.search(line):  # which DuckDB takes for no JSON
            line = orjson.dumps(json_value(line))
        longest = max(longest, len(line))
        file.write(line if line.endswith(b"\n") else line + b"\n")
    file.flush()
    told = ", ".join(f"{field}: '{kind}'" for field, kind in fields.items())
    return (
        f"read_json('/dev/fd/{file.fileno()}', format='newline_delimited', columns={{{told}}}, "
        f"maximum_object_size={max(_MIN_OBJECT_BYTES, 2 * longest)})"
    )


def _flow(flow: Flow) -> bytes:
    told = document(flow)
    told |= {"started": _moment(told["started"] or None), "failed": flow.failed, "attempts": len(flow.attempts)}
    return orjson.dumps(told | _tokens(told["usage"]))


def _exchanges(flow: Flow) -> Iterator[bytes]:
    for one, told in zip(flow.exchanges, document(flow)["exchanges"], strict=True):
        told |= {name: _moment(told[name]) for name in ("started", "first_chunk", "last_chunk")}
        told |= {"request_id": flow.request_id, "session_id": flow.session_id, "exchange_id": one.exchange_id}
        told |= {"failed": one.failed, "error_message": (one.error or {}).get("message")}
        yield orjson.dumps(told | _tokens(told["usage"]))


def _tokens(usage: dict[str, int] | None) -> dict[str, int]:
    return {} if usage is None else {f"{name}_tokens": count for name, count in usage.items()}


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
