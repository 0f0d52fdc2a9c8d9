"""What one process's recorder is made of: settings, secrets to mask, and what ``system_start`` tells."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import secrets
import socket
from collections.abc import Callable
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, cast

import orjson

from otel_wirecap import config as configuration
from otel_wirecap.capture.context import RecordingContext, RecordingSettings
from otel_wirecap.capture.credentials import KeyNames
from otel_wirecap.capture.record import RawJSON
from otel_wirecap.capture.recorder import Recorder
from otel_wirecap.capture.redaction.gate import Gate, Pattern, Rules
from otel_wirecap.client_libraries import CLIENT_LIBRARIES
from otel_wirecap.environment import environment
from otel_wirecap.log import warn
from otel_wirecap.storage.known_secrets import KnownSecrets
from otel_wirecap.version import __version__

if TYPE_CHECKING:
    from otel_wirecap.capture.facts import ExchangeFacts
    from otel_wirecap.capture.record import CaptureRecord, ChunkRun
    from otel_wirecap.capture.redaction.gate import Mode, Place

NS = 1_000_000_000
MAX_HELD_BYTES = 1 << 20
"""Of one stream, in which a secret may begin. What is held counts as waiting, and must not fill the queue."""
MAX_UNREDACTED_BYTES = 1 << 19
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PACKAGES = (
    "opentelemetry-api",
    *(library.name for library in CLIENT_LIBRARIES),
    "starlette",
    "fastapi",
    "uvicorn",
    "litellm",
)
"""Whose versions are in ``system_start``."""


class ProcessRecording:
    """The recorder of one process and what it is fed with.

    Args:
        config: the settings in force.
        path: the capture file's absolute path.
        write: takes finished records, ``write_run`` runs of chunks.
        on_end, on_failure: see ``Recorder``.
        send_back: see ``RecordingContext``.
        pause: is called after each piece of work.

    Attributes:
        hold_ns: how long some of what is recorded may wait for what comes after it.
    """

    def __init__(
        self,
        config: configuration.CaptureConfig,
        path: str,
        *,
        write: Callable[[CaptureRecord], None],
        write_run: Callable[[ChunkRun], None],
        on_failure: Callable[[str, Exception], None],
        on_end: Callable[[str, int, ExchangeFacts], None] = lambda *_ended: None,
        send_back: Callable[[str, CaptureRecord], None] = lambda *_record: None,
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = config
        self._salt = _salt(path)
        self._secrets: dict[str, tuple[str, ...]] | None = None
        self._known_secrets = KnownSecrets(config.capture_redact_env, config.capture_redact_env_files)
        self._versions = _versions()
        self._shared = RecordingContext(
            settings=RecordingSettings(
                max_payload_bytes=config.capture_max_payload_bytes,
                max_held_bytes=min(MAX_HELD_BYTES, config.capture_max_queue_bytes // 16),
                assemble_streams=config.capture_assemble_streams,
                session_headers=config.capture_session_headers,
                backends=config.capture_backends,
            ),
            gate=Gate(_rules(config), pause=pause),
            key_names=KeyNames({}, self._salt),
            salt=self._salt,
            write=write,
            write_run=write_run,
            send_back=send_back,
            pause=pause,
        )
        self.refresh_secrets()
        self.hold_ns = int(min(config.capture_flush_interval, 1.0) * NS / 2)
        self.recorder = Recorder(
            self._shared,
            hold_ns=self.hold_ns,
            max_chunks=config.capture_max_entries_per_flush,
            max_unredacted_bytes=min(MAX_UNREDACTED_BYTES, config.capture_max_queue_bytes // 8),
            max_imported_bytes=config.capture_max_queue_bytes // 4,
            on_end=on_end,
            on_failure=on_failure,
        )

    def refresh_secrets(self, warn: Callable[..., object] = lambda *_: None) -> None:
        """Looks into the environment for credentials, so that changes at run time are noticed.

        Args:
            warn: see ``KnownSecrets.variables``.
        """
        variables = self._known_secrets.variables(environment(), warn)
        if variables == self._secrets:
            return
        self._secrets = variables
        self._shared.gate.replace_known_values(
            [*chain.from_iterable(variables.values()), *self._config.capture_redact_values]
        )
        self._shared.key_names = KeyNames(variables, self._salt)

    def system_start(self, process: str) -> dict[str, object]:
        """The payload of ``system_start``: settings in force, versions, host and service name."""
        told = {
            "settings": self._config.public(),
            "versions": self._versions,
            "host": socket.gethostname(),
            "service_name": configuration.service_name(),
            "process": process,
        }
        passed = self._shared.gate.system(RawJSON(orjson.dumps(told, default=str)))
        return passed.payload.value() if isinstance(passed.payload, RawJSON) else {"process": process}


def gate_of(config: configuration.CaptureConfig) -> Gate:
    """The gate of these settings, which knows the secrets of the environment as it is now."""
    known = KnownSecrets(config.capture_redact_env, config.capture_redact_env_files)
    values = [*chain.from_iterable(known.variables(environment(), warn).values()), *config.capture_redact_values]
    return Gate(_rules(config), known_values=values)


def _rules(config: configuration.CaptureConfig) -> Rules:
    return Rules(
        mode=cast("Mode", config.capture_redaction),
        headers=frozenset(map(str.lower, config.capture_redact_headers)),
        fields=frozenset(map(str.lower, config.capture_redact_fields)),
        patterns=tuple(
            Pattern(name, expression, frozenset(cast("tuple[Place, ...]", where)))
            for name, expression, where in config.capture_redact_patterns
        ),
        allowed=frozenset(text.encode() for text in config.capture_redact_allow),
        prompts=config.capture_redact_prompts,
    )


@functools.cache
def _versions() -> dict[str, str]:
    """The versions to tell. Looked up before the writer begins: it may not be able to read them later.

    A server that gives up root for another user may no longer read the packages, nor import the modules needed for it.
    """
    versions = {"otel-wirecap": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        # A broken or unreadable distribution raises whatever its reading meets; it is merely not told.
        with contextlib.suppress(Exception):
            versions[name] = metadata.version(name)
    return versions


def _salt(path: str) -> bytes:
    """The key of all fingerprints: the same for the processes of one capture, worth nothing on another machine.

    So that the workers of one server give one conversation one session id, it is made of what they share; the boot id
    never leaves the machine.
    """
    try:
        secret = BOOT_ID.read_bytes()
    except OSError:
        secret = secrets.token_bytes(32)
    return hashlib.sha256(b"\0".join((secret, str(os.getuid()).encode(), os.fsencode(path)))).digest()
