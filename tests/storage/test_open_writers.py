"""The writers of a process are shared, and whoever logs in their name holds nobody up."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path

import pytest
from waiting import MAX_SECONDS

from otel_wirecap.config import load_config
from otel_wirecap.storage.registry import open_writer, release_writer


def test_a_log_handler_may_wait_for_somebody_who_opens_a_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no process can be started the log says so: by then others may open and close captures."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "gateway"))
    was_opened: list[bool] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            def use() -> None:
                release_writer(open_writer(load_config({"capture_file": tmp_path / "b.log"} | thread, {})))

            if "is written by a thread" in record.getMessage():
                other = threading.Thread(target=use, daemon=True)
                other.start()
                other.join(MAX_SECONDS)
                was_opened.append(not other.is_alive())

    thread = {"capture_writer": "thread"}
    handler = Handler()
    logger = logging.getLogger("otel_wirecap")
    logger.addHandler(handler)
    try:
        writer = open_writer(load_config({"capture_file": tmp_path / "a.log"}, {}))
    finally:
        logger.removeHandler(handler)
    release_writer(writer)
    assert was_opened == [True]
