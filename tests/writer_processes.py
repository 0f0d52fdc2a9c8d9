"""Finds the processes that write captures."""

from __future__ import annotations

import os
from pathlib import Path


def command_of(pid: int) -> str:
    """The command line of a process, its parts ended by NUL; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def writers_of(pid: int | None = None) -> list[int]:
    """The processes that write for this one, or another one."""
    processes = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    end = f"writer_process_start.py\0{pid or os.getpid()}\0"
    return [process for process in processes if command_of(process).endswith(end)]
