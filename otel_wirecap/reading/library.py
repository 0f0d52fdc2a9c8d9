"""Captures, read from Python: what ``otel_wirecap.reading`` gives to its users.

What commands show is made of the same flows and exchanges; here they can read their bodies, too.

Invariant: memory is bounded, whatever a capture's size: one part of its summaries, and the bodies of ``MAX_FLOWS_READ``
flows, unless the user keeps more.
"""

from __future__ import annotations

import collections
import logging
from typing import TYPE_CHECKING, Any

from otel_wirecap.environment import default_capture_file
from otel_wirecap.errors import CaptureFileError
from otel_wirecap.reading.captures import Captures, the_one_named
from otel_wirecap.reading.legs import Leg, legs_of
from otel_wirecap.reading.messages import Contents, Message
from otel_wirecap.reading.records import Record
from otel_wirecap.reading.resource import Resource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from otel_wirecap.reading.flows import Exchange, Flow
    from otel_wirecap.reading.lines import RawRecord

MAX_FLOWS_READ = 2
"""Flows whose bodies are kept: one, and one that it is compared with."""

_logger = logging.getLogger("otel_wirecap.reading")


def open_capture(*paths: str | Path) -> Capture:
    """Opens captures for reading, as all commands do.

    Args:
        paths: the live file of each, whose rotated, compressed and CBOR files are found; or a single rotated file, a
            bundle; ``-`` is standard input. Without any: the capture that ``WIRE_CAPTURE_FILE`` names, else
            ``wire_capture.log``.

    Raises:
        CaptureFileError: there is no such capture, or it cannot be read.
        CaptureFormatError: a file is there and is no capture, or has nothing in it.
    """
    return Capture(*paths)


class Capture(Resource):
    """One or more captures, open until ``close()`` or the end of the ``with`` block.

    They are read as far as they went when they were opened. Each method reads them anew, from their beginning.

    Args:
        paths: as ``open_capture`` takes them.

    Attributes:
        unreadable: how many lines were no records, in the last pass of ``flows()``, ``exchanges()`` or ``records()``,
            as far as it has come. They are left out, and the log says so.
    """

    def __init__(self, *paths: str | Path) -> None:
        self._names = list(map(str, paths)) or [default_capture_file()]
        self._captures = Captures(self._names, use_index=False)
        self._bodies = _Bodies(self._captures, self._check)
        self._is_open = True
        self.unreadable = 0
        for path in self._captures.encrypted:
            _logger.warning("%r is encrypted, and left out; decrypt it first: age --decrypt -i KEY FILE", str(path))

    def close(self) -> None:
        """Closes the files; bodies that were not read yet cannot be read any more."""
        self._is_open = False
        self._bodies.clear()
        self._captures.close()

    @property
    def encrypted(self) -> list[Path]:
        """The files that are left out because they are encrypted."""
        return self._captures.encrypted

    def flows(self) -> Iterator[Flow]:
        """All flows, in the order they began.

        The summaries of all are read before the first is given, in bounded memory; bodies are read when asked for.
        """
        self._check()
        store = self._captures.store()
        try:
            self._report(store.damaged)
            for flow in store.flows():
                yield self._attached(flow)
        finally:
            store.close()

    def exchanges(self) -> Iterator[Exchange]:
        """The exchanges of all flows, in the flows' order: the client's, then each attempt."""
        return (exchange for flow in self.flows() for exchange in flow.exchanges)

    def flow(self, prefix: str) -> Flow:
        """The flow whose id, or the id of one of whose exchanges, begins so.

        Raises:
            FlowNotFoundError: there is none, or there are several and none is named in full.
        """
        found = {flow.request_id: flow for flow in self.flows() if flow.is_named(prefix)}
        return found[the_one_named(prefix, found)]

    def records(
        self, flow: Flow | None = None, *, on_unreadable: Callable[[Path, int], None] | None = None
    ) -> Iterator[Record]:
        """All records, or those of one flow: of one capture in its order, of several by time.

        Args:
            flow: a flow of this capture.
            on_unreadable: gets the file and the line (from 1) of what is no record, of all records; line 0 stands for
                a file that is encrypted.
        """
        self._check()
        if flow is not None:
            return (Record(*pair) for pair in self._captures.lines_of(flow))
        return self._records(on_unreadable)

    def _records(self, on_unreadable: Callable[[Path, int], None] | None) -> Iterator[Record]:
        damaged = 0

        def count(path: Path, line: int) -> None:
            nonlocal damaged
            damaged += line > 0
            self.unreadable = damaged
            if on_unreadable is not None:
                on_unreadable(path, line)

        self.unreadable = 0
        try:
            for pair in self._captures.lines(count):
                yield Record(*pair)
        finally:
            self._report(damaged)

    def _report(self, damaged: int) -> None:
        self.unreadable = damaged
        if damaged:
            _logger.warning("%s: %d lines are damaged and were left out", " ".join(map(repr, self._names)), damaged)

    def _check(self) -> None:
        if not self._is_open:
            told = " ".join(map(repr, self._names))
            raise CaptureFileError(f"capture {told} is closed; read it within its 'with' block")

    def _attached(self, flow: Flow) -> Flow:
        for exchange in flow.exchanges:
            exchange.attach(flow, self._bodies)
        return flow


class _Bodies:
    """Reads what exchanges carried, of a whole flow at once."""

    def __init__(self, captures: Captures, check: Callable[[], None]) -> None:
        self._captures = captures
        self._check = check
        self._read: collections.OrderedDict[str, dict[str, Contents]] = collections.OrderedDict()

    def __call__(self, exchange: Exchange) -> Contents:
        self._check()
        flow = exchange.flow
        known = self._read.get(flow.request_id)
        if known is None:
            known = {leg.exchange.exchange_id: _contents(leg) for leg in legs_of(self._captures, flow)}
            self._read[flow.request_id] = known
            if len(self._read) > MAX_FLOWS_READ:
                self._read.popitem(last=False)
        self._read.move_to_end(flow.request_id)
        return known[exchange.exchange_id]

    def clear(self) -> None:
        """Lets go of what was read."""
        self._read.clear()

    def __reduce__(self) -> tuple[Any, ...]:
        """None in copies of flows, and where they are pickled: an open file cannot go along."""
        return type(None), ()


def _contents(leg: Leg) -> Contents:
    return Contents(
        _message(leg.request, leg.request_body, leg.headers("request")),
        _message(leg.response, leg.response_body, leg.headers("response")),
        tuple(leg.chunks),
        lambda: leg.answer,
    )


def _message(record: RawRecord | None, body: bytes, headers: list[tuple[str, str]]) -> Message | None:
    return None if record is None else Message(Record(record), body, tuple(headers))
