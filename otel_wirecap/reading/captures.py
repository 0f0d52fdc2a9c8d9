"""Captures, opened for reading: their records merged by time, their flows, one flow's records.

Everything that answers a question from captures begins here. Whatever a capture is (live or rotated files, compressed,
CBOR, structured, standard input, made by somebody else), its records come out in the schema's shape.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import heapq
import os
import signal
import threading
from typing import TYPE_CHECKING, NamedTuple, Self, TypeAlias

import orjson

from otel_wirecap.capture.naming import is_rotated_name
from otel_wirecap.errors import CaptureFileError, FlowNotFoundError
from otel_wirecap.reading import index
from otel_wirecap.reading.flows import Flow, FlowCollector
from otel_wirecap.reading.quick import NotOurs, envelope_of, payload_text, quick_flows
from otel_wirecap.reading.reader import Record, json_record
from otel_wirecap.reading.sources import STDIN, Source, open_capture

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

Progress: TypeAlias = "Callable[[int, int], None]"
"""Is told, now and then, how many bytes have been read, and of how many."""


class Place(NamedTuple):
    """Where a record stands.

    Attributes:
        file: the file.
        line: the number of its line, or of its item, from 1.
        offset: of its first byte in what the file holds.
    """

    file: Path
    line: int
    offset: int


PART_BYTES = 32 * 1024 * 1024
"""What one process reads at a time."""

MANY_BYTES = 64 * 1024 * 1024
"""From here on several processes read: below, starting them costs more than they save."""

_MAX_NAMED = 5
_LINES_BETWEEN = 1000
"""Lines between two words about the progress."""


class Captures:
    """One or more captures, open as long as the ``with`` block lasts.

    Args:
        paths: the live files; ``-`` is standard input. Rotated files are found.
        use_index: whether large files' flows are remembered in the user's cache folder.
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
        with contextlib.ExitStack() as stack, _telling(paths):
            self._captures = [_Capture(open_capture(path, stack)) for path in dict.fromkeys(map(str, paths))]
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def sources(self) -> list[Source]:
        """The open files, the oldest of each capture first."""
        return [source for capture in self._captures for source in capture.sources]

    @property
    def encrypted(self) -> list[Path]:
        """The files that are left out because they are encrypted."""
        return [source.path for source in self.sources if source.is_encrypted]

    def records(self, *, on_damage: Callable[[Path, int], None] | None = None) -> Iterator[Record]:
        """All records in the schema's shape; of several captures merged by time, of one in its order.

        Args:
            on_damage: is told the file and the line of what is no record; line 0 of a file that is encrypted.
        """
        return _merged([capture.records(on_damage) for capture in self._captures])

    def placed_records(self) -> Iterator[tuple[bool, Iterator[tuple[Place, Record | None]]]]:
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

    def flow(self, prefix: str) -> Flow:
        """The flow whose id, or the id of one of whose exchanges, begins so.

        Raises:
            FlowNotFoundError: there is none, or there are several and none is named in full.
        """
        found = self._matching(prefix)
        if prefix in found:
            return found[prefix]
        if not found:
            raise FlowNotFoundError(f"no flow begins with {prefix!r}; otel-wirecap ls lists them")
        if len(found) > 1:
            names = sorted(found)
            told = ", ".join(names[:_MAX_NAMED]) + (", …" if len(names) > _MAX_NAMED else "")
            raise FlowNotFoundError(f"{len(names)} flows begin with {prefix!r}: {told}")
        (name,) = found
        return self._matching(name)[name]  # all of it: an exchange's id is not in every part

    def session(self, prefix: str) -> list[Flow]:
        """The flows of the session whose id begins so, in the order they began.

        Raises:
            FlowNotFoundError: there is none, or there are several and none is named in full.
        """
        flows = [flow for flow in self.flows() if (flow.session_id or "").startswith(prefix)]
        named = [flow for flow in flows if flow.session_id == prefix]
        names = sorted({str(flow.session_id) for flow in flows})
        if named or len(names) == 1:
            return named or flows
        if not names:
            raise FlowNotFoundError(f"no session begins with {prefix!r}; otel-wirecap ls --by session lists them")
        told = ", ".join(names[:_MAX_NAMED]) + (", …" if len(names) > _MAX_NAMED else "")
        raise FlowNotFoundError(f"{len(names)} sessions begin with {prefix!r}: {told}")

    def records_of(self, flow: Flow) -> Iterator[Record]:
        """The records of one flow, in the schema's shape and the capture's order; read where they stand."""
        return (record for record, _ in self.lines_of(flow))

    def lines_of(self, flow: Flow) -> Iterator[tuple[Record, bytes]]:
        """The records of one flow, each with its line, for ``body_of``."""
        captures = [one for one in self._captures if any(source.key in flow.spans for source in one.sources)]
        return heapq.merge(*(one.lines_of(flow) for one in captures), key=lambda pair: pair[0]["timestamp_unix"])

    def flows_with(self, pattern: re.Pattern[bytes]) -> set[str]:
        """The ids of the flows in one of whose payloads, as JSON text, the pattern is found."""
        return {name for capture in self._captures for name in capture.flows_with(pattern)}

    def _matching(self, prefix: str) -> dict[str, Flow]:
        """The flows that are named so, each put together from all parts."""
        if self._collected is not None:
            return {flow.request_id: flow for flow in self._collected.flows if index.is_named(flow, prefix)}
        found = FlowCollector()
        for part in self._read_parts():
            if isinstance(part, index.Index):
                for flow in part.matching(prefix):
                    found.add_flow(flow)
            else:
                for flow in part.flows:
                    if index.is_named(flow, prefix):
                        found.add_flow(copy.deepcopy(flow))  # the part keeps its own
        return {flow.request_id: flow for flow in found.flows}

    def _read_parts(self) -> list[index.Index | FlowCollector]:
        """What the indexes know, and what the files have beyond them; read once."""
        if self._parts is None:
            self._parts = []
            for capture in self._captures:
                try:
                    self._parts += self._quick_parts(capture)
                except NotOurs:
                    capture.is_ours = False
                    self._parts.append(capture.slow_flows())
        return self._parts

    def _quick_parts(self, capture: _Capture) -> list[index.Index | FlowCollector]:
        known = [index.load(source) if self._is_indexed(source) else None for source in capture.sources]
        jobs = [
            job
            for number, (source, before) in enumerate(zip(capture.sources, known, strict=True))
            for job in _jobs(number, source, before.covered if before else 0)
        ]
        read: dict[tuple[int, bool], FlowCollector] = {}
        for job, flows in zip(jobs, _run(capture.sources, jobs, self._progress), strict=True):
            read.setdefault((job.source, job.is_torn), FlowCollector()).merge(flows)
        parts: list[index.Index | FlowCollector] = []
        for number, source in enumerate(capture.sources):
            before, rest, torn = known[number], read.get((number, False)), read.get((number, True))
            if before is not None and rest is not None and source.end_of_lines() - before.covered < index.MIN_BYTES:
                parts += [before, rest]  # not worth a new index yet
            elif rest is not None:
                flows = before.flows() if before else FlowCollector()
                flows.merge(rest)
                if self._is_indexed(source):
                    index.store(source, flows, source.end_of_lines())
                parts.append(flows)
            elif before is not None:
                parts.append(before)
            if torn is not None:
                parts.append(torn)
        return parts

    def _is_indexed(self, source: Source) -> bool:
        return self._use_index and source.size >= index.MIN_BYTES and str(source.path) != STDIN


def body_of(record: Record, line: bytes) -> bytes:
    """The bytes of the body, or of the chunk, that a record holds; JSON spelt as in its line."""
    payload = record.get("payload")
    if isinstance(payload, str):
        return payload.encode()
    if record.get("content_type") == "bytes" and isinstance(payload, dict):
        return base64.b64decode(payload.get("data", ""))
    return b"" if payload is None else payload_text(line)


class _Capture:
    """The files of one capture, opened.

    Attributes:
        sources: the oldest first.
        is_ours: whether its records name their exchanges, as far as is known.
    """

    def __init__(self, sources: list[Source]) -> None:
        self.sources = [source for source in sources if source.size] or sources
        self.is_ours = True
        for source in self.sources:
            # One that is encrypted, among others that are not, is left out: see Captures.encrypted.
            if not source.is_encrypted or all(one.is_encrypted for one in self.sources):
                source.check()

    def records(self, on_damage: Callable[[Path, int], None] | None = None) -> Iterator[Record]:
        return (record for record, _ in self.normal_lines(on_damage, spelt=False))

    @property
    def is_rotated(self) -> bool:
        return len(self.sources) > 1 or any(is_rotated_name(source.path.name) for source in self.sources)

    def placed_records(self, tell: Callable[[int], None]) -> Iterator[tuple[Place, Record | None]]:
        from otel_wirecap.reading.other_shapes import OtherShapes  # only who reads all records needs it

        shapes, done = OtherShapes(), 0
        for source in self.sources:
            for number, offset, line in source.lines():
                read = None if line is None else json_record(line)
                yield Place(source.path, number, offset), None if read is None else shapes.normal(read)
                if not number % _LINES_BETWEEN:
                    tell(done + min(offset, source.size))
            done += source.size

    def normal_lines(
        self, on_damage: Callable[[Path, int], None] | None = None, *, spelt: bool = True
    ) -> Iterator[tuple[Record, bytes]]:
        """The records in the schema's shape, each with its line; where ``spelt``, the line has that shape too."""
        from otel_wirecap.reading.other_shapes import OtherShapes  # as above

        shapes = OtherShapes()
        for source in self.sources:
            for number, _, line in source.lines():
                read = None if line is None else json_record(line)
                record = None if read is None else shapes.normal(read)
                if record is not None and line is not None:
                    yield record, orjson.dumps(record) if spelt and record is not read else line
                elif on_damage is not None:
                    on_damage(source.path, number)

    def slow_flows(self) -> FlowCollector:
        """The flows of records whose exchanges must be inferred: all in their order, by one process."""
        flows = FlowCollector()
        damaged = list[int]()
        span = self.sources[0].key, 0, self.sources[0].size
        for record in self.records(lambda _, number: damaged.append(number)):
            flows.add(record, span)
        flows.damaged = sum(number > 0 for number in damaged)
        return flows

    def lines_of(self, flow: Flow) -> Iterator[tuple[Record, bytes]]:
        if not self.is_ours:
            for one in self.records():
                if one["metadata"].get("request_id") == flow.request_id:
                    yield one, orjson.dumps(one)
            return
        wanted = flow.request_id.encode()
        for source in self.sources:
            if source.key in flow.spans:
                for line in _lines_with(source, wanted, *flow.spans[source.key]):
                    record = json_record(line)
                    if record is not None and _names(record, flow.request_id):
                        yield record, line

    def flows_with(self, pattern: re.Pattern[bytes]) -> Iterator[str]:
        if not self.is_ours:
            for record in self.records():
                if pattern.search(orjson.dumps(record.get("payload"))):
                    yield str(record["metadata"].get("request_id"))
            return
        for source in self.sources:
            for _, _, line in source.lines():
                if line is not None and pattern.search(payload_text(line)):
                    found = envelope_of(line)
                    if found is not None and isinstance(found.get("metadata"), dict):
                        yield str(found["metadata"].get("request_id"))


class _Job(NamedTuple):
    """A part of a file to be read: the file's number, and from where to where.

    Attributes:
        is_torn: whether it is what stands behind the last newline.
    """

    source: int
    start: int
    end: int
    is_torn: bool = False


def _jobs(number: int, source: Source, start: int) -> Iterator[_Job]:
    if source.is_encrypted:
        return
    if not source.is_plain:
        if start < source.size:
            yield _Job(number, 0, source.size)
        return
    whole = source.end_of_lines()
    while start < whole:
        end = min(start + PART_BYTES, whole)
        yield _Job(number, start, end)
        start = end
    if whole < source.size:
        yield _Job(number, whole, source.size, is_torn=True)


def _run(sources: list[Source], jobs: list[_Job], progress: Progress | None) -> Iterator[FlowCollector]:
    """Does the jobs, in several processes where that pays, and gives what each found, in their order."""
    total, done = sum(job.end - job.start for job in jobs), 0
    workers = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, len(jobs))
    # A process that has threads cannot be forked safely.
    if total >= MANY_BYTES and workers > 1 and hasattr(os, "fork") and threading.active_count() == 1:
        results = _run_in_processes(sources, jobs, workers)
    else:
        results = (quick_flows(sources[job.source], job.start, job.end) for job in jobs)
    for job, found in zip(jobs, results, strict=True):
        done += job.end - job.start
        if progress is not None:
            progress(done, total)
        yield found


def _run_in_processes(sources: list[Source], jobs: list[_Job], workers: int) -> Iterator[FlowCollector]:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    context = multiprocessing.get_context("fork")
    # The open files go to the children by being inherited: nothing of them is sent.
    with ProcessPoolExecutor(workers, context, _begin_worker, (sources,)) as pool:
        try:
            yield from pool.map(_do, jobs)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_inherited: list[Source] = []
"""In a worker: the files that it reads."""


def _begin_worker(sources: list[Source]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its children
    _inherited[:] = sources


def _do(job: _Job) -> FlowCollector:
    return quick_flows(_inherited[job.source], job.start, job.end)


def _lines_with(source: Source, wanted: bytes, start: int, end: int) -> Iterator[bytes]:
    """The lines of a part of a file that have the bytes within them."""
    if not source.is_plain:
        yield from (line for _, _, line in source.lines() if line is not None and wanted in line)
        return
    for _, block in source.blocks(start, end):
        place = block.find(wanted)
        while place >= 0:
            until = block.find(b"\n", place)
            until = len(block) if until < 0 else until
            yield block[block.rfind(b"\n", 0, place) + 1 : until]
            place = block.find(wanted, until)


def _names(record: Record, request_id: str) -> bool:
    metadata = record.get("metadata")
    return isinstance(metadata, dict) and metadata.get("request_id") == request_id


def _merged(captures: Iterable[Iterator[Record]]) -> Iterator[Record]:
    return heapq.merge(*captures, key=lambda record: record["timestamp_unix"])


@contextlib.contextmanager
def _telling(paths: Sequence[str | Path]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        told = " ".join(map(str, paths))
        raise CaptureFileError(f"capture {told!r} cannot be read: {error.strerror or error}") from error
