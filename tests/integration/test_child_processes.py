"""Children of multiprocessing, of concurrent.futures and of billiard, however they end: every finished call is kept."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from records import read_records
from waiting import wait_until
from writer_processes import writers_of

from otel_wirecap.reading.captures import Captures
from otel_wirecap.reading.verify import Verification

CALLS = 10

PROGRAM = f"""
    import concurrent.futures, importlib, multiprocessing, os, sys
    import httpx

    def call(number):
        backend = httpx.MockTransport(lambda request: httpx.Response(200, json={{}}))
        with httpx.Client(transport=backend) as client:
            return client.post("http://backend.example/v1/x", json={{"number": number}}).status_code

    def put(queue, number):
        queue.put(call(number))

    if __name__ == "__main__":
        import otel_wirecap

        path, kind, method = sys.argv[1:]
        otel_wirecap.instrument(capture_file=path)
        if kind == "billiard":
            import billiard as multiprocessing
        context = multiprocessing.get_context(method)
        if kind == "executor":
            with concurrent.futures.ProcessPoolExecutor(3, mp_context=context) as pool:
                answers = list(pool.map(call, range({CALLS})))
        elif kind == "terminated":
            queue = context.Queue()
            processes = [context.Process(target=put, args=(queue, number)) for number in range({CALLS})]
            for process in processes:
                process.start()
            answers = [queue.get() for _ in processes]
            for process in processes:
                process.terminate()
                process.join()
        elif kind == "closed":
            pool = context.Pool(3)
            answers = pool.map(call, range({CALLS}))
            pool.close()
            pool.join()
        else:
            with context.Pool(3) as pool:
                answers = pool.map(call, range({CALLS}))
        assert answers == [200] * {CALLS}
"""

ENDS = """
    import os, sys
    import httpx, otel_wirecap

    otel_wirecap.instrument(capture_file=sys.argv[1])
    if sys.argv[2] == "fork" and os.fork():
        os.wait()
        sys.exit()
    with httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(200, json={}))) as client:
        client.post("http://backend.example/v1/x", json={"number": 0})
    if sys.argv[2] == "exec":
        os.execl(sys.executable, sys.executable, "-c", "")
    os._exit(0)
"""


def run(program: str, calls: int, path: Path, *arguments: str, **environ: str) -> list[dict[str, Any]]:
    """Runs a program to its end, and waits until its capture is whole and all writers that are known have ended."""
    script = path.with_name("program.py")
    script.write_text(textwrap.dedent(program))
    command = [sys.executable, str(script), str(path), *arguments]
    done = subprocess.run(command, env=os.environ | environ, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    # A writer may only just have been started, of which nothing shows that there is to be one.
    wait_until(lambda: path.stat().st_size and len(asked(list(read_records(path)))) >= calls and not problems(path))
    for pid in {record["metadata"]["pid"] for record in read_records(path)}:
        wait_until(lambda: not writers_of(pid))  # noqa: B023  # called at once
    assert problems(path) == []
    return list(read_records(path))


def problems(path: Path) -> list[str]:
    with Captures([path], use_index=False) as captures:
        return [problem.message for problem in Verification().problems(captures)]


def asked(records: list[dict[str, Any]]) -> list[int]:
    return sorted(record["payload"]["number"] for record in records if record["direction"] == "outbound_request")


@pytest.mark.parametrize("writer", ["process", "thread"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("kind", ["pool", "closed", "executor", "terminated", "billiard"])
@pytest.mark.sampled(4, rest="faults")
def test_every_finished_call_of_a_child_is_kept(kind: str, method: str, writer: str, tmp_path: Path) -> None:
    """Also where the parent alone has started the capture, below ``if __name__ == "__main__"``."""
    if kind == "billiard":
        pytest.importorskip("billiard")
    records = run(PROGRAM, CALLS, tmp_path / "c.log", kind, method, WIRE_CAPTURE_WRITER=writer)
    assert asked(records) == list(range(CALLS))


@pytest.mark.parametrize("writer", ["process", "thread"])
@pytest.mark.parametrize("end", ["exit", "fork", "exec"])
@pytest.mark.sampled(2, rest="faults")
def test_ends_without_pythons_own_are_ends(end: str, writer: str, tmp_path: Path) -> None:
    records = run(ENDS, 1, tmp_path / "c.log", end, WIRE_CAPTURE_WRITER=writer)
    assert asked(records) == [0]
    processes = {record["metadata"]["process"] for record in records}
    assert sum(record["direction"] == "system_stop" for record in records) == len(processes)
