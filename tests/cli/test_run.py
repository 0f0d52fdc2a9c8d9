"""``otel-wirecap run`` with real commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

RUN = [str(Path(sys.executable).parent / "otel-wirecap"), "run"]
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith(("WIRE_CAPTURE", "OTEL_"))}

EXCHANGE = """
import httpx2
transport = httpx2.MockTransport(lambda request: httpx2.Response(200, json={"model": "m"}))
httpx2.Client(transport=transport).post("http://backend.example/v1/chat/completions", json={"model": "m"})
"""


def run(folder: Path, *command: str, options: tuple[str, ...] = (), **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RUN, *options, "--", *command], cwd=folder, env=CLEAN | environ, capture_output=True, text=True, timeout=120
    )


def directions(path: Path) -> list[str]:
    return [json.loads(line)["direction"] for line in path.read_text().splitlines()]


WHOLE = ["system_start", "outbound_request", "inbound_response", "system_stop"]


def test_a_command_is_captured_and_its_exit_code_returned(tmp_path: Path) -> None:
    done = run(tmp_path, sys.executable, "-c", EXCHANGE + "raise SystemExit(7)")
    assert done.returncode == 7
    assert done.stdout == ""
    assert directions(tmp_path / "wire_capture.log") == WHOLE


def test_child_processes_of_the_command_are_captured_too(tmp_path: Path) -> None:
    code = (
        f"import os, subprocess, sys; os.chdir('/'); subprocess.run([sys.executable, '-c', {EXCHANGE!r}], check=True)"
    )
    assert run(tmp_path, sys.executable, "-c", code).returncode == 0
    assert "outbound_request" in directions(tmp_path / "wire_capture.log")


def test_an_uncaught_exception_loses_nothing(tmp_path: Path) -> None:
    assert run(tmp_path, sys.executable, "-c", EXCHANGE + "raise RuntimeError").returncode == 1
    assert directions(tmp_path / "wire_capture.log") == WHOLE


@pytest.mark.parametrize("exporter", [None, "otlp", "nonsense"])
@pytest.mark.telemetry
def test_opentelemetrys_own_set_up_may_fail_without_taking_the_capture_with_it(
    exporter: str | None, tmp_path: Path
) -> None:
    launcher = str(Path(sys.executable).parent / "opentelemetry-instrument")
    environ = {"OTEL_EXPORTER_OTLP_TIMEOUT": "1"} | ({"OTEL_TRACES_EXPORTER": exporter} if exporter else {})
    done = run(tmp_path, launcher, sys.executable, "-c", EXCHANGE, **environ)
    assert done.returncode == 0
    assert directions(tmp_path / "wire_capture.log") == WHOLE


@pytest.mark.thorough
def test_the_sitecustomize_that_is_hidden_runs_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    only_in_the_command = "import os\nif 'WIRE_CAPTURE_FILE' in os.environ:\n    print('the own one ran')\n"
    (tmp_path / "own" / "sitecustomize.py").write_text(only_in_the_command)
    done = run(tmp_path, sys.executable, "-c", EXCHANGE, PYTHONPATH=str(tmp_path / "own"))
    assert done.stdout == "the own one ran\n"
    assert directions(tmp_path / "wire_capture.log") == WHOLE


def test_a_signal_reaches_the_command(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time; signal.signal(15, lambda *a: sys.exit(5)); print('up', flush=True)\n"
        "for _ in range(2000): time.sleep(0.1)"  # a signal just before a long wait would be handled after it
    )
    command = [*RUN, "--", sys.executable, "-c", code]
    with subprocess.Popen(
        command, cwd=tmp_path, env=CLEAN, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "up\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 5
        finally:
            process.kill()


@pytest.mark.thorough
def test_the_exit_code_is_returned_where_children_that_end_are_ignored(tmp_path: Path) -> None:
    command = [*RUN, "--", sys.executable, "-c", "raise SystemExit(7)"]
    done = subprocess.run(
        command, cwd=tmp_path, env=CLEAN, capture_output=True, timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
    )  # fmt: skip
    assert done.returncode == 7


def test_a_wrong_setting_is_told_before_anything_runs(tmp_path: Path) -> None:
    done = run(tmp_path, sys.executable, "-c", "print('ran')", options=("--capture-max-bytes", "12x"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "capture_max_bytes: '12x'" in done.stderr


def test_a_missing_command_is_told(tmp_path: Path) -> None:
    assert run(tmp_path, "no-such-command").returncode == 127
    assert run(tmp_path).returncode == 2


def test_a_command_that_cannot_be_captured_is_told(tmp_path: Path) -> None:
    done = run(tmp_path, sys.executable, "-I", "-c", "print('ran')")
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert "nothing was captured" in done.stderr


@pytest.mark.parametrize("form", ["jsonl", "cbor", "text", "structured"])
@pytest.mark.sampled(2, rest="thorough")
def test_it_ends_with_what_was_captured_by_it_and_not_before(form: str, tmp_path: Path) -> None:
    path = tmp_path / "wire_capture.log"
    options = ("--capture-format", form, "--capture-max-bytes", "8KB")  # it is rotated meanwhile
    for exchanges, told in ((1, "1 exchange captured"), (12, "12 exchanges captured")):
        code = f"for _ in range({exchanges}):\n exec({EXCHANGE!r})"
        done = run(tmp_path, sys.executable, "-c", code, options=options)
        expected = f"capture: {path}" if form == "text" else f"{told} in {path}"
        assert done.stderr == f"otel-wirecap: {expected}\n"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("", "1 process was ready to be captured, and neither sent a request by httpx"),
        ("import urllib3", "and imported urllib3, whose requests are not captured"),
        ("import urllib.request as u; u.urlopen('data:,x')", "and imported urllib.request, whose requests"),
        ("import urllib.request", "and neither sent a request by httpx"),
    ],
)
def test_nothing_captured_is_said_with_what_is_known_of_why(code: str, told: str, tmp_path: Path) -> None:
    done = run(tmp_path, sys.executable, "-c", code)
    assert f"0 exchanges captured in {tmp_path / 'wire_capture.log'}: " in done.stderr
    assert told in done.stderr
    for command in ("ls", "doctor"):
        listed = subprocess.run(
            [RUN[0], command, *(["--capture-file"] if command == "doctor" else []), "wire_capture.log"],
            cwd=tmp_path, env=CLEAN, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert told in listed.stdout + listed.stderr


def test_a_misspelt_variable_is_named_where_nothing_else_is_captured(tmp_path: Path) -> None:
    launcher = str(Path(sys.executable).parent / "opentelemetry-instrument")
    done = subprocess.run(
        [launcher, sys.executable, "-c", "pass"], env=CLEAN | {"WIRE_CAPTURE_FLIE": "x.log"},
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stderr.count("capture is off: WIRE_CAPTURE_FLIE: no such setting; did you mean WIRE_CAPTURE_FILE?") == 1


def test_the_first_exchange_is_announced_once_with_the_files_path(tmp_path: Path) -> None:
    logged = "import logging; logging.basicConfig(level='INFO');" + EXCHANGE + EXCHANGE
    done = run(tmp_path, sys.executable, "-c", logged)
    assert done.stderr.count(f"the first exchange is captured, into {tmp_path / 'wire_capture.log'}") == 1


def test_an_interpreter_without_the_package_is_told_once_and_runs_on(tmp_path: Path) -> None:
    base = getattr(sys, "_base_executable", sys.executable)
    probe = subprocess.run([base, "-c", "import otel_wirecap"], cwd=tmp_path, env=CLEAN, capture_output=True)
    if probe.returncode == 0:
        pytest.skip("the base interpreter has the package as well")
    done = run(tmp_path, base, "-c", "print('ran')")
    assert done.stdout == "ran\n"
    assert done.stderr.count("is not captured") == 1
