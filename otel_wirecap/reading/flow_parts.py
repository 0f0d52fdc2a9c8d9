"""The flows of a capture's files, from indexes and by several processes where that pays; for commands.

Parts of a file are summaries that can be merged: see ``FlowCollector``.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from otel_wirecap.reading import index
from otel_wirecap.reading.flows import FlowCollector
from otel_wirecap.reading.quick import quick_flows
from otel_wirecap.reading.sources import STDIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from otel_wirecap.reading.sources import Source

Progress: TypeAlias = "Callable[[int, int], None]"
"""Is called, now and then, with how many bytes have been read, and of how many."""

PART_BYTES = 32 * 1024 * 1024
"""What one process reads at a time."""

MANY_BYTES = 64 * 1024 * 1024
"""From here on several processes read: below, starting them costs more than they save."""


def parts_of(
    sources: Sequence[Source], *, use_index: bool, progress: Progress | None = None
) -> list[index.Index | FlowCollector]:
    """What the indexes know of the files of one capture, and what the files have beyond them.

    Args:
        sources: the files.
        use_index: whether to use, and write, indexes of large files.
        progress: gets the bytes that are read, and all there are.

    Raises:
        NotOurs: a record has another shape than the schema's.
    """
    if use_index:
        index.forget_gone()
    known = [index.load(source) if (use_index and _is_indexed(source)) else None for source in sources]
    jobs = [
        job
        for number, (source, before) in enumerate(zip(sources, known, strict=True))
        for job in _jobs(number, source, before.covered if before else 0)
    ]
    read: dict[tuple[int, bool], FlowCollector] = {}
    for job, flows in zip(jobs, _run(sources, jobs, progress), strict=True):
        read.setdefault((job.source, job.is_torn), FlowCollector()).merge(flows)
    parts: list[index.Index | FlowCollector] = []
    for number, source in enumerate(sources):
        before, rest, torn = known[number], read.get((number, False)), read.get((number, True))
        if before is not None and rest is not None and source.end_of_lines() - before.covered < index.MIN_BYTES:
            parts += [before, rest]  # not worth a new index yet
        elif rest is not None:
            flows = before.flows() if before else FlowCollector()
            flows.merge(rest)
            if use_index and _is_indexed(source):
                index.store(source, flows, source.end_of_lines())
            parts.append(flows)
        elif before is not None:
            parts.append(before)
        if torn is not None:
            parts.append(torn)
    return parts


def _is_indexed(source: Source) -> bool:
    return source.size >= index.MIN_BYTES and str(source.path) != STDIN


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


def _run(sources: Sequence[Source], jobs: list[_Job], progress: Progress | None) -> Iterator[FlowCollector]:
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


def _run_in_processes(sources: Sequence[Source], jobs: list[_Job], workers: int) -> Iterator[FlowCollector]:
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


def _begin_worker(sources: Sequence[Source]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its children
    _inherited[:] = sources


def _do(job: _Job) -> FlowCollector:
    return quick_flows(_inherited[job.source], job.start, job.end)
