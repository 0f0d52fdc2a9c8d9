"""What all recordings of a process share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_wirecap.capture.credentials import KeyNames
    from otel_wirecap.capture.record import CaptureRecord, ChunkRun
    from otel_wirecap.capture.redaction.gate import Gate


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RecordingSettings:
    """What the recording of exchanges is told once."""

    max_payload_bytes: int
    max_held_bytes: int
    assemble_streams: bool
    session_headers: tuple[str, ...]
    backends: dict[str, str]


@dataclasses.dataclass(slots=True)
class RecordingContext:
    """What all recordings of a process share.

    Attributes:
        gate: what everything that leaves goes through.
        write: takes finished records, ``write_run`` runs of chunks.
        send_back: takes an exchange's id and each of its records that has its number, where that is wanted.
    """

    settings: RecordingSettings
    gate: Gate
    key_names: KeyNames
    salt: bytes
    write: Callable[[CaptureRecord], None]
    write_run: Callable[[ChunkRun], None]
    send_back: Callable[[str, CaptureRecord], None]
    pause: Callable[[], None]
