"""What a capture's files hold, remembered between two runs, in the user's cache folder.

One index a file, named by the file's identity and its beginning, so that a rotated file keeps its own under its new
name. It is believed as long as the file has not become shorter and still has, where the index ends, the bytes that it
had; a file that grew is read on from there.

Invariants:

- Whatever goes wrong with an index, the capture is read as if there were none.
- It holds names, ids, numbers and the places of records: no payload, no URL's query, no error's text (see ``packing``).
- It goes when its file is gone: each use of indexes removes those whose files are no longer where they were.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from otel_wirecap.environment import cache_folder
from otel_wirecap.reading.flows import FlowCollector
from otel_wirecap.reading.packing import packed, unpacked
from otel_wirecap.reading.resource import NEW, replacement
from otel_wirecap.reading.sources import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_wirecap.reading.flows import Flow

VERSION = 3
MIN_BYTES = 1024 * 1024
"""Smaller files are read anew: that is as fast."""

_TAIL = 4096
_KEPT_SECONDS = 30 * 86400
_UNFINISHED_SECONDS = 3600


class Index:
    """The index of one file, as text: one line a flow, parsed when it is wanted.

    Attributes:
        covered: bytes of the file that it tells of: whole lines.
    """

    def __init__(self, data: bytes, header: dict[str, Any], begin: int) -> None:
        self._data, self._begin, self._header = data, begin, header
        self.covered = int(header["covered"])

    def flows(self) -> FlowCollector:
        """All that it holds."""
        collector = FlowCollector()
        collector.records, collector.damaged = self._header["records"], self._header["damaged"]
        collector.gaps = self._header["gaps"]
        for line in self._data[self._begin :].splitlines():
            collector.add_flow(unpacked(line))
        return collector

    def matching(self, prefix: str) -> Iterator[Flow]:
        """The flows whose id, or one of whose exchanges' ids, begins so."""
        wanted, seen = b'["' + prefix.encode(), set[int]()
        place = self._data.find(wanted, self._begin - 1)
        while place >= 0:
            start = self._data.rfind(b"\n", 0, place) + 1
            end = self._data.index(b"\n", place)
            if start not in seen:
                seen.add(start)
                flow = unpacked(self._data[start:end])
                if flow.is_named(prefix):
                    yield flow
            place = self._data.find(wanted, end)


def load(source: Source) -> Index | None:
    """The index of a file, as far as it still holds; None where there is none."""
    try:
        data = _path(source).read_bytes()
        begin = data.index(b"\n") + 1
        header = orjson.loads(data[:begin])
        covered = int(header["covered"])
        if header["version"] != VERSION or covered > source.size or _tail(source, covered) != header["tail"]:
            return None
        if header["size"] == source.size and header["mtime_ns"] != source.mtime_ns:
            return None  # written to, and no longer than before: something else stands in it
        if not data.endswith(b"\n"):
            return None
        return Index(data, header, begin)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def store(source: Source, flows: FlowCollector, covered: int) -> None:
    """Remembers what was read of a file, if the cache folder can be written."""
    with contextlib.suppress(OSError):
        path = _path(source)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        header = {
            "version": VERSION,
            "folder": str(source.path.resolve().parent),
            "inode": source.identity[1],
            "covered": covered,
            "size": source.size,
            "mtime_ns": source.mtime_ns,
            "tail": _tail(source, covered),
            "records": flows.records,
            "damaged": flows.damaged,
            "gaps": flows.gaps,
        }
        lines = [orjson.dumps(header), *(packed(flow, with_texts=False) for flow in flows.flows), b""]
        with replacement(path) as (_, file):
            file.write(b"\n".join(lines))


def forget_gone() -> None:
    """Removes the indexes of files that are no longer in their folders, and those that were not written for long."""
    now, inodes = time.time(), lru_cache(maxsize=None)(_inodes)
    with contextlib.suppress(OSError):
        for entry in os.scandir(cache_folder()):
            if entry.is_file(follow_symlinks=False) and entry.name.endswith((".index", NEW)):
                age = now - entry.stat(follow_symlinks=False).st_mtime
                if entry.name.endswith(NEW):
                    is_over = age > _UNFINISHED_SECONDS
                else:
                    is_over = age > _KEPT_SECONDS or not _is_there(Path(entry.path), inodes)
                if is_over:
                    Path(entry.path).unlink(missing_ok=True)


def _is_there(index: Path, inodes: Callable[[str], dict[int, str]]) -> bool:
    """Whether the file of an index is still in its folder, be it under another name."""
    try:
        with index.open("rb") as file:
            header = orjson.loads(file.readline())
        path = Path(header["folder"], inodes(header["folder"])[header["inode"]])
        with path.open("rb") as file:
            return header["version"] == VERSION and Source(path, file).key == index.stem
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _inodes(folder: str) -> dict[int, str]:
    """The regular files of a folder."""
    return {entry.inode(): entry.name for entry in os.scandir(folder) if entry.is_file(follow_symlinks=False)}


def _path(source: Source) -> Path:
    return cache_folder() / f"{source.key}.index"


def _tail(source: Source, covered: int) -> str:
    start = max(covered - _TAIL, 0)
    return hashlib.sha256(source.read(start, covered - start)).hexdigest()
