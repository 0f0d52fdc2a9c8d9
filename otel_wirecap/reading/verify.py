"""Whether captures are whole: every line a record, every process's numbers without a hole, every exchange with an end.

Records are taken one at a time, in the order of the files; what stays is a few numbers for each process and each
exchange that is open. What cannot be known is told as a note, not as a problem: what began in files that have been
rotated away, what a process does that still runs, what captures of other tools do not say.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import socket
from typing import TYPE_CHECKING, Any, Final

from otel_wirecap.capture.record import (
    REQUESTS,
    STREAM_CHUNKS,
    STREAM_ENDS,
    WEBSOCKET_END,
    WEBSOCKET_MESSAGE,
    WEBSOCKET_START,
)
from otel_wirecap.reading.flows import ENDS
from otel_wirecap.reading.lines import typed
from otel_wirecap.reading.tally import is_running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_wirecap.reading.capture_files import Place
    from otel_wirecap.reading.captures import Captures
    from otel_wirecap.reading.lines import RawRecord

KINDS: Final = ("damaged", "number", "gap", "order", "beginning", "end", "chunks", "bytes", "length")
"""What can be wrong: a line is no record; a number of a process is missing or comes again; the capture tells that it
lost something; a record of an exchange comes too early or too late; an exchange has no request, or no end; chunks are
missing, or their bytes are not those that the stream's end tells of; a payload has another length than its record
says."""


_BEGINNINGS: Final = REQUESTS | {WEBSOCKET_START, "system_init"}
_PARTS: Final = STREAM_CHUNKS | {WEBSOCKET_MESSAGE}
_WITH_TOTALS: Final = STREAM_ENDS | {WEBSOCKET_END}
_CHANGED: Final = frozenset({"redactions", "truncated", "incomplete"})
"""What makes a payload another one than the body was."""

_MAX_ENDED: Final = 10_000
"""Exchanges that are remembered when they are over."""


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """Why a capture is not whole.

    Attributes:
        kind: one of ``KINDS``.
        place: where it shows.
        message: what is wrong, in one sentence without its beginning in capitals.
        exchange_id: the exchange that it is about; None if it is about none.
    """

    kind: str
    place: Place
    message: str
    exchange_id: str | None = None

    def document(self) -> dict[str, Any]:
        """The problem, ready for JSON."""
        file, line, offset = self.place
        told = {"problem": self.kind, "file": str(file), "line": line, "offset": offset, "message": self.message}
        return told | ({"exchange_id": self.exchange_id} if self.exchange_id is not None else {})


@dataclasses.dataclass(slots=True)
class _Process:
    """What is known of one process's capture.

    Attributes:
        first: its first number that is there; ``last``: the last one.
        pid: its number on its host; ``host``: that host's name, as its ``system_start`` says.
        place: where its last record stands.
        stopped: whether that is its end.
        has_gap: whether the capture says that it lost something of it.
    """

    first: int
    last: int
    pid: object
    place: Place
    host: object = None
    stopped: bool = False
    has_gap: bool = False

    @property
    def runs(self) -> bool:
        """Whether it still runs, as far as this machine can tell."""
        if self.stopped or not isinstance(self.pid, int) or self.host != socket.gethostname():
            return False
        return is_running(self.pid)


@dataclasses.dataclass(slots=True)
class _Exchange:
    """What is known of one exchange that is open.

    Attributes:
        place: where its first record stands.
        process: the process that it belongs to; None if its records do not say.
        is_whole: whether its beginning is there.
        parts: the number of its last chunk, or of a websocket's last message; None before the first that is there of
            one whose beginning is not.
        bytes: of all of them, as their records say.
        moment: of the last one, seconds since the epoch.
    """

    place: Place
    process: str | None
    is_whole: bool = True
    parts: int | None = 0
    bytes: int = 0
    moment: float = 0.0


class Verification:
    """Looks whether captures are whole.

    Attributes:
        records: how many have been read; ``processes``: of how many processes; ``exchanges``: of how many exchanges.
        unnumbered: records that tell no process and number, as those of other tools.
        rotated_away: processes and exchanges whose first records are in no file any more.
        running: exchanges that are open in a process that still runs.
        encrypted: files that cannot be read, and are not checked.
    """

    def __init__(self) -> None:
        self.records = self.processes = self.exchanges = 0
        self.unnumbered = self.rotated_away = self.running = self.encrypted = 0
        self._forget(is_rotated=False)

    def _forget(self, *, is_rotated: bool) -> None:
        """Begins with another capture."""
        self._is_rotated = is_rotated
        self._processes: dict[str, _Process] = {}
        self._open: dict[str, _Exchange] = {}
        self._ended: dict[str, None] = {}
        self._abandoned: dict[str, _Exchange] = {}

    def document(self) -> dict[str, int]:
        """What was read, ready for JSON."""
        names = ("records", "processes", "exchanges", "unnumbered", "rotated_away", "running")
        return {name: getattr(self, name) for name in names}

    def problems(self, captures: Captures) -> Iterator[Problem]:
        """Reads captures; gives what is wrong in them, in the order of the files, what has no end last."""
        for is_rotated, records in captures.placed_records():
            self._forget(is_rotated=is_rotated)
            for place, record in records:
                if record is None and not place.line:  # an encrypted file: what follows it begins as if it were gone
                    self.encrypted += 1
                    self.processes += len(self._processes)
                    self._forget(is_rotated=True)
                elif record is None:
                    yield Problem("damaged", place, "the line is no record")
                else:
                    yield from self._of_record(place, record)
            yield from self._left_open()
            self.processes += len(self._processes)

    def _of_record(self, place: Place, record: RawRecord) -> Iterator[Problem]:
        self.records += 1
        yield from self._of_process(place, record)
        direction, name = record["direction"], record["metadata"].get("exchange_id")
        if direction == "system_gap":
            yield Problem("gap", place, _gap_told(record.get("payload")))
        if direction.startswith("system_"):
            return
        length = _length_told(record)
        if length is not None:
            yield Problem("length", place, length, name)
        if isinstance(name, str):
            for kind, message in self._of_exchange(name, place, record):
                yield Problem(kind, place, message, name)

    # -- processes ---------------------------------------------------------------------------------------------------

    def _of_process(self, place: Place, record: RawRecord) -> Iterator[Problem]:
        metadata, direction = record["metadata"], record["direction"]
        name, number = metadata.get("process"), metadata.get("seq")
        if not isinstance(name, str) or not isinstance(number, int):
            self.unnumbered += 1
            return
        process = self._processes.get(name)
        if process is None:
            process = self._processes[name] = _Process(number, number, metadata.get("pid"), place)
            if number > 1 and self._is_rotated:
                self.rotated_away += 1
            elif number > 1:
                yield Problem("number", place, f"of process {name} the numbers before {number} are missing")
        elif number == process.last + 1:
            process.last = number
        elif number > process.last:
            missing = number - process.last - 1
            told = (
                f"number {process.last + 1} is" if missing == 1 else f"numbers {process.last + 1} to {number - 1} are"
            )
            yield Problem("number", place, f"of process {name} {told} missing")
            process.last = number
        else:
            yield Problem("number", place, f"of process {name} number {number} comes after number {process.last}")
        if direction == "system_start" and isinstance(payload := record.get("payload"), dict):
            process.host = payload.get("host")
        process.has_gap |= direction == "system_gap"
        process.stopped = direction == "system_stop"
        process.place = place

    # -- exchanges ---------------------------------------------------------------------------------------------------

    def _of_exchange(self, name: str, place: Place, record: RawRecord) -> Iterator[tuple[str, str]]:
        """What is wrong with an exchange by one of its records: kinds and messages."""
        direction, metadata = record["direction"], record["metadata"]
        if metadata.get("assembled") or direction == "stream_completion":
            return  # made of the others; where it stands says nothing
        exchange = self._open.get(name)
        if exchange is None:
            if name in self._ended:
                yield "order", f"{direction} comes after the exchange's end"
                return
            self.exchanges += 1
            process = metadata.get("process")
            exchange = self._open[name] = _Exchange(place, process if isinstance(process, str) else None)
            if direction not in _BEGINNINGS and not self._began_before(exchange):
                yield "beginning", f"{direction} has no request before it"
        elif direction in _BEGINNINGS:
            yield "order", f"{direction} comes after other records of the exchange"
        if direction in _PARTS:
            yield from self._of_part(exchange, record)
        if direction in ENDS:
            yield from self._of_end(exchange, record)
            del self._open[name]
            self._ended[name] = None
            if metadata.get("outcome") == "abandoned":
                self._abandoned[name] = exchange
            if len(self._ended) > _MAX_ENDED:
                del self._ended[next(iter(self._ended))]

    def _began_before(self, exchange: _Exchange) -> bool:
        """Whether its first records may have been rotated away; then it counts as such."""
        process = self._processes.get(exchange.process or "")
        before = self._is_rotated if process is None else self._is_rotated and process.first > 1
        self.rotated_away += before
        if before:
            exchange.is_whole, exchange.parts = False, None
        return before

    def _of_part(self, exchange: _Exchange, record: RawRecord) -> Iterator[tuple[str, str]]:
        """A chunk, or a websocket's message."""
        metadata, direction = record["metadata"], record["direction"]
        number = metadata.get("chunk_number", metadata.get("message_number"))
        what = "message" if direction == WEBSOCKET_MESSAGE else "chunk"
        expected = None if exchange.parts is None else exchange.parts + 1
        if not isinstance(number, int):
            number = expected or 1
        if expected is not None and number != expected:
            yield "chunks", f"{what} {number} comes after {f'{what} {exchange.parts}' if exchange.parts else 'none'}"
        exchange.parts = number
        exchange.bytes += typed(record.get("content_length"), int) or 0
        if record["timestamp_unix"] < exchange.moment:
            yield "order", f"{what} {number} came before the one that stands before it"
        exchange.moment = max(exchange.moment, record["timestamp_unix"])

    def _of_end(self, exchange: _Exchange, record: RawRecord) -> Iterator[tuple[str, str]]:
        """The end of an exchange: what it says of a stream, against the chunks that are there."""
        direction, metadata, payload = record["direction"], record["metadata"], record.get("payload")
        lost = sum(typed(metadata.get(name), int) or 0 for name in ("lost_chunks", "lost_messages"))
        if lost:
            yield "gap", f"the capture lost {lost} chunks of it"
        if direction not in _WITH_TOTALS or not isinstance(payload, dict) or not exchange.is_whole or lost:
            return
        chunks = payload.get("total_chunks", payload.get("total_messages"))
        if isinstance(chunks, int) and chunks != exchange.parts:
            yield "chunks", f"{exchange.parts} of {chunks} are there"
        size = payload.get("total_bytes")
        if isinstance(size, int) and size != exchange.bytes and "incomplete" not in metadata:
            yield "bytes", f"the stream had {size} bytes, and its chunks have {exchange.bytes}"

    def _left_open(self) -> Iterator[Problem]:
        for name, exchange in self._open.items():
            process = self._processes.get(exchange.process or "")
            if process is not None and process.runs:
                self.running += 1
                continue
            if process is None:
                told = "the exchange has no end"
            elif process.stopped:
                told = "the exchange has no end, although its process told its own"
            else:
                told = f"the exchange has no end, nor has its process {exchange.process}: was it killed?"
            yield Problem("end", exchange.place, told, name)
        # A writer that outlives its application tells the end of what was open, and none of the application's.
        for name, exchange in self._abandoned.items():
            process = self._processes.get(exchange.process or "")
            if process is not None and not (process.stopped or process.runs):
                told = f"the exchange was abandoned, and its process {exchange.process} has no end: was it killed?"
                yield Problem("end", exchange.place, told, name)
        for process_id, process in self._processes.items():
            if not (process.stopped or process.has_gap or process.runs):
                told = f"process {process_id} has no end: was it killed? What it did last may be missing"
                yield Problem("end", process.place, told)


def _length_told(record: RawRecord) -> str | None:
    """What is wrong with the length of a payload; None where nothing is, or where it cannot be known."""
    metadata, payload = record["metadata"], record.get("payload")
    if not metadata.keys().isdisjoint(_CHANGED) or "inferred" in metadata:
        return None
    if isinstance(payload, str) and record.get("content_type") != "json":  # how a JSON string was spelt is not known
        size = len(payload.encode("utf-8", "surrogatepass"))
    elif record.get("content_type") == "bytes" and isinstance(payload, dict):
        try:
            size = len(base64.b64decode(payload.get("data", ""), validate=True))
        except (binascii.Error, TypeError, ValueError):
            return "the payload is not the base64 that its record says"
    else:
        return None
    told = record.get("content_length")
    return None if told == size else f"the payload has {size} bytes, and its record says {told}"


def _gap_told(payload: object) -> str:
    """What a ``system_gap`` tells, in a sentence."""
    if not isinstance(payload, dict):
        return "the capture tells that it lost something"
    told = ", ".join(f"{name} {value}" for name, value in payload.items() if isinstance(value, str | int | float))
    return f"the capture tells that it lost something: {told}"
