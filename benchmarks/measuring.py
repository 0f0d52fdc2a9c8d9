"""Measuring in a process of another environment: its own otel-wirecap, and the benchmark code that stands here.

A benchmark starts a program beside this file with the interpreter that is to be measured. The program hands its
measurements to ``answer()``, and the benchmark asks for them through a ``MeasuringProcess``: a line of JSON each way.

Invariants: the program imports ``otel_wirecap`` from where it is installed, never from the working directory or
``PYTHONPATH``, and says from where before anything is measured; what the program prints goes to standard error.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from processes import HERE, fail, own_environment

END_SECONDS = 20


class MeasuringProcess:
    """A process that measures with an interpreter's own otel-wirecap; a context manager, which ends it.

    Args:
        python: the interpreter.
        program: the file beside this one that it runs.
        package: the folder of the ``otel_wirecap`` that it must import.
    """

    def __init__(self, python: str, program: str, package: Path) -> None:
        self._name = f"{python} {program}"
        self._process = subprocess.Popen(
            [python, str(HERE / program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=own_environment(),
        )  # fmt: skip
        try:
            imported = Path(self._answer())
            if imported != package:
                fail(f"{self._name} imports otel_wirecap from {imported}; expected {package}")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, measurement: str, **arguments: object) -> Any:
        """What a measurement gives for arguments, all of which JSON can hold."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either
            self._process.stdin.write(json.dumps([measurement, arguments]) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Ends the process: once nothing more can be asked, it ends by itself, and what it has started with it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            fail(f"{self._name} could not measure (exit code {self._process.wait()}); it says why above")
        return json.loads(line)


def answer(measurements: Mapping[str, Callable[..., object]]) -> None:
    """In the program that measures: does what it is asked for, until nothing more is."""
    out = sys.stdout
    print(json.dumps(str(package_folder())), file=out, flush=True)
    with contextlib.redirect_stdout(sys.stderr):
        for line in sys.stdin:
            name, arguments = json.loads(line)
            print(json.dumps(measurements[name](**arguments)), file=out, flush=True)


def package_folder() -> Path:
    """The folder of the ``otel_wirecap`` that this process imports."""
    found = importlib.import_module("otel_wirecap").__file__
    assert found is not None
    return Path(found).parent


def internal(*places: str) -> Any:
    """An internal of otel-wirecap, which versions keep in different places.

    Args:
        places: where it may be, such as ``otel_wirecap.config:load_config``, the newest first.
    """
    for place in places:
        module, _, name = place.partition(":")
        with contextlib.suppress(ModuleNotFoundError, AttributeError):
            return getattr(importlib.import_module(module), name)
    version = importlib.import_module("otel_wirecap").__version__
    return fail(
        f"otel_wirecap {version} in {package_folder()} has no {', nor '.join(places)}; expected one of them: add where "
        "this version keeps it"
    )
