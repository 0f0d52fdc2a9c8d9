"""Benchmarks that compare two installed versions find what is slower, and nothing where nothing is."""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import otel_wirecap

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PACKAGE = Path(otel_wirecap.__file__).parent
SECONDS = 200
NOISE = 0.04
SERIES = 40
BUSY = """
import time
end = time.process_time() + 0.5
while time.process_time() < end:
    pass
"""


@pytest.fixture
def benchmark_module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Imports a module of the benchmarks, and forgets them all afterwards."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(BENCHMARKS)):
            del sys.modules[name]


@pytest.fixture
def against(benchmark_module: Any) -> ModuleType:
    return benchmark_module("against")


def environment(folder: Path, addition: str) -> str:
    """The interpreter of an environment with a copy of this otel-wirecap, whose commands begin with an addition."""
    copy = folder / "copy" / "otel_wirecap"
    shutil.copytree(PACKAGE, copy)
    command = copy / "__main__.py"
    before = command.read_text()
    command.write_text(before.replace("import sys\n", f"import sys\n{addition}", 1))
    assert addition in command.read_text()
    venv.create(folder / "venv", symlinks=True)
    python = folder / "venv" / "bin" / "python"
    site = next((folder / "venv" / "lib").glob("python*/site-packages"))
    (site / "both.pth").write_text(f"{copy.parent}\n{sysconfig.get_path('purelib')}\n")
    return str(python)


def run(*command: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | variables
    return subprocess.run(command, env=environ, cwd=cwd, capture_output=True, text=True, timeout=SECONDS, check=False)


def made_up(seed: int, change: float, rounds: int = 10) -> tuple[list[float], list[float]]:
    """Figures here and there, each with noise of its own and with that of its round."""
    dice = random.Random(seed)
    here, there = [], []
    for _ in range(rounds):
        machine = dice.uniform(0.5, 2)
        here.append(100 * machine * change * dice.gauss(1, NOISE))
        there.append(100 * machine * dice.gauss(1, NOISE))
    return here, there


@pytest.mark.parametrize(
    ("change", "least", "most"), [(1.0, 0, 2), (0.9, 0, 0), (1.1, 36, SERIES)], ids=["none", "faster", "slower"]
)
def test_a_tenth_more_is_found_and_no_change_is_not(against: ModuleType, change: float, least: int, most: int) -> None:
    found = [against.Comparison("µs", *made_up(seed, change)) for seed in range(SERIES)]
    assert least <= sum(one.is_worse for one in found) <= most


def test_the_interval_is_about_the_median_and_always_the_same(against: ModuleType) -> None:
    for seed in range(20):
        one, same = (against.Comparison("µs", *made_up(seed, 1.1)) for _ in range(2))
        assert (one.low, one.high) == (same.low, same.high)
        assert one.low <= one.ratio <= one.high


def test_a_ratio_that_varies_around_the_limit_is_not_worse(against: ModuleType) -> None:
    here = [1.0, 1.2] * 5
    assert not against.Comparison("µs", here, [1.0] * 10).is_worse
    assert against.Comparison("µs", [1.04] * 10, [1.0] * 10).is_worse
    assert not against.Comparison("µs", [1.03] * 10, [1.0] * 10).is_worse


def test_a_figure_that_is_nothing_is_refused(against: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        against.add({}, {"µs": 0.0}, {"µs": 1.0})
    assert ended.value.code == 2
    assert "µs: 0.0 here, 1.0 there" in capsys.readouterr().err


@pytest.mark.parametrize("benchmark", ["proxy_cost.py", "redaction.py", "stress.py", "reading.py"])
def test_an_environment_is_not_compared_with_itself(benchmark: str) -> None:
    done = run(sys.executable, str(BENCHMARKS / benchmark), "--quick", "--against", sys.executable)
    assert done.returncode == 2
    assert f"imports {PACKAGE}, as this interpreter does" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("python", ["no-such-python", "{empty}"])
def test_what_has_no_otel_wirecap_is_named(python: str, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", symlinks=True)
    python = python.format(empty=tmp_path / "venv" / "bin" / "python")
    done = run(sys.executable, str(BENCHMARKS / "stress.py"), "--quick", "--against", python)
    assert done.returncode == 2
    assert python in done.stderr
    assert "expected" in done.stderr
    assert "Traceback" not in done.stderr


def test_neither_the_working_directory_nor_pythonpath_is_taken_for_what_is_installed(
    against: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "otel_wirecap").mkdir()
    (tmp_path / "otel_wirecap" / "__init__.py").write_text("raise RuntimeError('this one is not installed')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert against.installation(sys.executable).package == PACKAGE


def test_what_is_measured_may_keep_what_it_compiles(against: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert "PYTHONDONTWRITEBYTECODE" not in against.own_environment()


def test_the_commit_is_that_of_a_checkout_and_not_of_one_around_an_environment(
    against: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "Nobody")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "nobody@example.com")
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message", "first")
    assert against.commit_of(package) == ""
    git("add", ".")
    git("commit", "--quiet", "--message", "second")
    assert against.commit_of(package) == git("rev-parse", "--short=9", "HEAD")
    (package / "__init__.py").write_text("changed = True\n")
    assert against.commit_of(package).endswith(" with changes")


@pytest.mark.thorough
@pytest.mark.timeout(2 * SECONDS)
def test_a_slower_version_is_found_by_a_benchmark(tmp_path: Path) -> None:
    slower = environment(tmp_path, BUSY)
    row = "ls, from the index"
    options = ["--bytes", "100KB", "--rounds", "1", "--only", row]
    worse = run(slower, str(BENCHMARKS / "reading.py"), *options, "--against", sys.executable)
    assert worse.returncode == 1, worse.stderr
    for told in (f", {tmp_path / 'copy' / 'otel_wirecap'};", f", {PACKAGE};", sys.executable, slower):
        assert told in worse.stdout
    (line,) = [line for line in worse.stdout.splitlines() if line.startswith(f"| {row}: CPU s |")]
    assert line.endswith("| worse |")


@pytest.mark.thorough
@pytest.mark.timeout(2 * SECONDS)
def test_an_environment_measures_what_is_its_own(tmp_path: Path) -> None:
    there = environment(tmp_path, "")
    options = ["--quick", "--rounds", "1", "--processes", "2", "--records", "200"]
    done = run(sys.executable, str(BENCHMARKS / "stress.py"), *options, "--against", there)
    assert done.returncode == int("| worse |" in done.stdout), done.stderr
    assert "| 2 writers, tight caps: CPU µs a record |" in done.stdout

    # In a coming version names move: then it is said which, and by whom they are missed.
    (tmp_path / "copy" / "otel_wirecap" / "storage" / "capture_file.py").rename(tmp_path / "moved.py")
    done = run(sys.executable, str(BENCHMARKS / "stress.py"), *options, "--against", there)
    assert done.returncode == 2
    assert f"{tmp_path / 'copy' / 'otel_wirecap'} has no otel_wirecap.storage.capture_file:CaptureFile" in done.stderr


def test_a_process_that_imports_another_version_measures_nothing(
    benchmark_module: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measuring = benchmark_module("measuring")
    with pytest.raises(SystemExit) as ended:
        measuring.MeasuringProcess(sys.executable, "stress_parts.py", tmp_path)
    assert ended.value.code == 2
    assert f"imports otel_wirecap from {PACKAGE}; expected {tmp_path}" in capsys.readouterr().err


@pytest.mark.thorough
@pytest.mark.timeout(2 * SECONDS)
def test_what_a_proxy_costs_in_all_counts_the_writer_that_is_no_child_of_it(
    benchmark_module: Any, tmp_path: Path
) -> None:
    processes, proxy_cost = benchmark_module("processes"), benchmark_module("proxy_cost")
    proxy = processes.Proxy("captured", "httpx", tmp_path, settings={"capture_writer": "process"})
    with processes.running([proxy]):
        cost = proxy_cost.cost(proxy, {"stream": True, "chunks": 200}, 2, 4)
        proxy.check_capture()
        (writer,) = proxy.helpers()
        assert writer not in processes.descendants(proxy.pid)
        assert cost.together > cost.alone > 0
    deadline = time.monotonic() + SECONDS
    while Path(f"/proc/{writer}").exists():
        assert time.monotonic() < deadline, "the writer outlives the proxy"
        time.sleep(0.02)


def test_a_proxy_that_captures_nothing_is_not_taken_for_a_cheap_one(
    benchmark_module: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    processes = benchmark_module("processes")
    proxy = processes.Proxy("captured", "httpx", tmp_path, settings={})
    with contextlib.suppress(FileNotFoundError):
        proxy.capture.unlink()
    with pytest.raises(SystemExit) as ended:
        proxy.check_capture()
    assert ended.value.code == 2
    assert "captured nothing" in capsys.readouterr().err
