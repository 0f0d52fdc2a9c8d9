"""Captures, opened for reading: their records merged by time, their flows, one flow's records.

Everything that answers a question from captures begins here. Whatever a capture is (live or rotated files, compressed,
CBOR, structured, standard input, made by somebody else), its records come out in the schema's shape.
"""

from __future__ import annotations

import contextlib
import copy
import heapq
from typing import TYPE_CHECKING

from otel_wirecap.errors import FlowNotFoundError
from otel_wirecap.reading import index
from otel_wirecap.reading.capture_files import CaptureFiles
from otel_wirecap.reading.flow_parts import parts_of
from otel_wirecap.reading.flow_store import FlowStore
from otel_wirecap.reading.flows import Flow, FlowCollector
from otel_wirecap.reading.packing import has_all_texts
from otel_wirecap.reading.quick import NotOurs
from otel_wirecap.reading.resource import Resource, read_errors
from otel_wirecap.reading.sources import open_sources

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from otel_wirecap.reading.capture_files import Place
    from otel_wirecap.reading.flow_parts import Progress
    from otel_wirecap.reading.lines import RawRecord
    from otel_wirecap.reading.sources import Source

_MAX_NAMED = 5


class Captures(Resource):
    """One or more captures, open as long as the ``with`` block lasts.

    Args:
        paths: the live files; ``-`` is standard input. Rotated files are found.
        use_index: whether large files' flows are remembered in the user's cache folder. ``flows`` and ``collect``
            then leave out URLs' queries and errors' messages, which no index holds.
        progress: is told how far a long pass has come.

    Raises:
        CaptureFileError: there is no such capture, or it cannot be read.
        CaptureFormatError: a file is there and is no capture, or has nothing in it.
    """

    def __init__(
        self, paths: Sequence[str | Path], *, use_index: bool = True, progress: Progress | None = None
    ) -> None:
        self._use_index = use_index
        self._progress = progress
        self._parts: list[index.Index | FlowCollector] | None = None
        self._collected: FlowCollector | None = None
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as failed, read_errors(" ".join(map(str, paths))):
            failed.push(self._stack)
            names = dict.fromkeys(map(str, paths))
            self._captures = [CaptureFiles(open_sources(path, self._stack), self._stack) for path in names]
            failed.pop_all()

    @property
    def sources(self) -> list[Source]:
        """The open files, the oldest of each capture first."""
        return [source for capture in self._captures for source in capture.sources]

    @property
    def encrypted(self) -> list[Path]:
        """The files that are left out because they are encrypted."""
        return [source.path for source in self.sources if source.is_encrypted]

    def lines(self, on_damage: Callable[[Path, int], None] | None = None) -> Iterator[tuple[RawRecord, bytes]]:
        """All records in the schema's shape, each with its line: of several captures by time, of one in its order.

        Args:
            on_damage: is told the file and the line of what is no record; line 0 of a file that is encrypted.
        """
        return _merged([capture.normal_lines(on_damage) for capture in self._captures])

    def placed_records(self) -> Iterator[tuple[bool, Iterator[tuple[Place, RawRecord | None]]]]:
        """Of each capture whether its first files may be gone, and its records in their order, each with its place.

        The records are in the schema's shape; None stands for what is no record.
        """
        total = sum(source.size for source in self.sources)
        before = 0

        def tell(done: int) -> None:
            if self._progress is not None:
                self._progress(before + done, total)

        for capture in self._captures:
            yield capture.is_rotated, capture.placed_records(tell)
            before += sum(source.size for source in capture.sources)

    def json_lines(self, on_damage: Callable[[Path, int], None] | None = None) -> Iterator[bytes]:
        """All records as JSON in the schema's shape, one capture after the other: our own as they stand.

        Args:
            on_damage: is told the file and the line of what is no record.
        """
        return (line for capture in self._captures for _, line in capture.normal_lines(on_damage))

    def collect(self) -> FlowCollector:
        """The flows of all captures, with what else was counted; read once."""
        if self._collected is None:
            self._collected = FlowCollector()
            for part in self._read_parts():
                self._collected.merge(part.flows() if isinstance(part, index.Index) else part)
            self._parts = None
        return self._collected

    def flows(self) -> list[Flow]:
        """The flows of all captures, in the order they began."""
        return self.collect().flows

    def store(self) -> FlowStore:
        """The flows of all captures, read once more, by this process and in bounded memory; to be closed."""
        for _ in range(len(self._captures) + 1):  # each may turn out to be of another shape
            store = FlowStore()
            try:
                for capture in self._captures:
                    for part in capture.flow_parts():
                        store.add(part)
            except NotOurs:
                store.close()
            except BaseException:
                store.close()
                raise
            else:
                return store
        raise AssertionError("a capture is of another shape only once")

    def flow(self, prefix: str) -> Flow:
        """The flow whose id, or the id of one of whose exchanges, begins so.

        Raises:
            FlowNotFoundError: there is none, or there are several and none is named in full.
        """
        found = self._matching(prefix)
        name = the_one_named(prefix, found)
        # All of it: an exchange's id is not in every part.
        return self._with_texts(found[name] if name == prefix else self._matching(name)[name])

    def session(self, prefix: str) -> list[Flow]:
        """The flows of the session whose id begins so, in the order they began.

        Raises:
            FlowNotFoundError: there is none, or there are several and none is named in full.
        """
        flows = self.flows()
        names = {flow.session_id for flow in flows if flow.session_id and flow.session_id.startswith(prefix)}
        name = the_one_named(prefix, names, "session", "ls --by session")
        return [self._with_texts(flow) for flow in flows if flow.session_id == name]

    def records_of(self, flow: Flow) -> Iterator[RawRecord]:
        """The records of one flow, in the schema's shape and the capture's order; read where they stand."""
        return (record for record, _ in self.lines_of(flow))

    def lines_of(self, flow: Flow) -> Iterator[tuple[RawRecord, bytes]]:
        """The records of one flow, each with its line, for ``body_of``."""
        captures = [one for one in self._captures if any(source.key in flow.spans for source in one.sources)]
        return _merged([one.lines_of(flow) for one in captures])

    def flows_with(self, pattern: re.Pattern[bytes]) -> set[str]:
        """The ids of the flows in one of whose payloads, as JSON text, the pattern is found."""
        return {name for capture in self._captures for name in capture.flows_with(pattern)}

    def _with_texts(self, flow: Flow) -> Flow:
        """The flow, with what an index has not of its URLs and errors read from its records."""
        if not all(map(has_all_texts, flow.exchanges)):
            read = FlowCollector()
            for record in self.records_of(flow):
                read.add(record)
            known = {one.exchange_id: one for whole in read.flows for one in whole.exchanges}
            for exchange in flow.exchanges:
                if exchange.exchange_id in known:
                    exchange.url, exchange.error = known[exchange.exchange_id].url, known[exchange.exchange_id].error
        return flow

    def _matching(self, prefix: str) -> dict[str, Flow]:
        """The flows that are named so, each put together from all parts."""
        if self._collected is not None:
            return {flow.request_id: flow for flow in self._collected.flows if flow.is_named(prefix)}
        found = FlowCollector()
        for part in self._read_parts():
            if isinstance(part, index.Index):
                for flow in part.matching(prefix):
                    found.add_flow(flow)
            else:
                for flow in part.flows:
                    if flow.is_named(prefix):
                        found.add_flow(copy.deepcopy(flow))  # the part keeps its own
        return {flow.request_id: flow for flow in found.flows}

    def _read_parts(self) -> list[index.Index | FlowCollector]:
        """What the indexes know, and what the files have beyond them; read once."""
        if self._parts is None:
            self._parts = []
            for capture in self._captures:
                try:
                    self._parts += parts_of(capture.sources, use_index=self._use_index, progress=self._progress)
                except NotOurs:
                    capture.is_ours = False
                    self._parts += capture.inferred_parts()
        return self._parts


def the_one_named(prefix: str, names: Collection[str], what: str = "flow", command: str = "ls") -> str:
    """The id that a prefix names, of those that it fits.

    Args:
        prefix: the beginning of an id.
        names: the ids that begin so.
        what: they are ids of.
        command: lists all of them.

    Raises:
        FlowNotFoundError: there is none, or there are several and none is named in full.
    """
    if prefix in names:
        return prefix
    if not names:
        raise FlowNotFoundError(f"no {what} begins with {prefix!r}; otel-wirecap {command} lists them")
    if len(names) > 1:
        told = ", ".join(sorted(names)[:_MAX_NAMED]) + (", …" if len(names) > _MAX_NAMED else "")
        raise FlowNotFoundError(f"{len(names)} {what}s begin with {prefix!r}: {told}")
    return next(iter(names))


def _merged(captures: Iterable[Iterator[tuple[RawRecord, bytes]]]) -> Iterator[tuple[RawRecord, bytes]]:
    return heapq.merge(*captures, key=lambda pair: pair[0]["timestamp_unix"])
