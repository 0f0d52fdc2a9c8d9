"""Files like ``.env`` that are none, are too large, or cannot be read: the writer neither waits for them nor fails."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tracemalloc
from itertools import chain
from pathlib import Path

import orjson
import pytest

from otel_wirecap.capture.redaction.gate import Gate, Rules
from otel_wirecap.storage.known_secrets import MAX_FILE_BYTES, MAX_SECRETS, KnownSecrets


class Warnings(list[str]):
    """The warnings that were given, each once."""

    def __call__(self, message: str, *arguments: object) -> None:
        told = message % arguments
        if told not in self:
            self.append(told)


def is_fifo(path: Path) -> None:
    os.mkfifo(path)


def is_folder(path: Path) -> None:
    path.mkdir()


def is_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def is_terminal(path: Path) -> None:
    path.symlink_to(os.ttyname(os.openpty()[1]))


def is_missing(_path: Path) -> None:
    pass


def is_loop(path: Path) -> None:
    path.symlink_to(path)


NO_FILES = {
    is_fifo: "it is a named pipe, not a file",
    is_folder: "it is a directory, not a file",
    is_device: "it is a device, not a file",
    is_terminal: "it is a device, not a file",
    is_missing: "No such file or directory",
    is_loop: "Too many levels of symbolic links",
}


@pytest.mark.parametrize("make", NO_FILES)
def test_what_is_no_file_is_reported_and_not_waited_for(make, tmp_path):
    make(tmp_path / ".env")
    value = secrets.token_hex(16)
    (tmp_path / "other.env").write_text(f"API_KEY={value}\n")
    program = """
import sys
from otel_wirecap.storage.known_secrets import KnownSecrets
known, told = KnownSecrets([], sys.argv[1:]), []
for _ in range(3):
    found = known.variables({}, lambda message, *arguments: told.append(message % arguments))
print(found == {"API_KEY": (open(sys.argv[2]).read().strip()[8:],)}, *sorted(set(told)), sep="\\n")
"""
    line = [sys.executable, "-c", program, str(tmp_path / ".env"), str(tmp_path / "other.env")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True)
    is_known, *told = done.stdout.splitlines()
    assert is_known == "True"
    assert len(told) == 1
    assert told[0] == f"capture_redact_env_files: {str(tmp_path / '.env')!r} cannot be read: {NO_FILES[make]}"


def test_a_file_that_may_not_be_read_is_reported(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    (tmp_path / ".env").write_text("")
    (tmp_path / ".env").chmod(0)
    warnings = Warnings()
    assert KnownSecrets([], [str(tmp_path / ".env")]).variables({}, warnings) == {}
    assert warnings == [f"capture_redact_env_files: {str(tmp_path / '.env')!r} cannot be read: Permission denied"]


def test_of_a_large_file_the_beginning_is_read_once(tmp_path):
    path, value = tmp_path / ".env", secrets.token_hex(16)
    with path.open("wb") as file:
        file.write(f"API_KEY={value}\nFILLER=".encode())
        file.truncate(100 << 20)  # with a hole
    known, warnings = KnownSecrets([], [str(path)]), Warnings()
    tracemalloc.start()
    assert known.variables({}, warnings)["API_KEY"] == (value,)
    assert tracemalloc.get_traced_memory()[1] < 12 * MAX_FILE_BYTES
    tracemalloc.reset_peak()
    known.variables({}, warnings)
    assert tracemalloc.get_traced_memory()[1] < 8 * MAX_FILE_BYTES
    tracemalloc.stop()
    assert len(warnings) == 1
    assert f"is larger than {MAX_FILE_BYTES} bytes" in warnings[0]


@pytest.mark.parametrize("where", ["file", "environment", "one variable"])
def test_of_twenty_thousand_keys_as_many_are_known_as_a_search_can_bear(where, tmp_path):
    path, mine = tmp_path / ".env", secrets.token_hex(16)
    many = {f"SERVICE_{number}_API_KEY": secrets.token_hex(10) for number in range(20_000)}
    environ = {"OPENAI_API_KEY": mine}
    if where == "file":
        path.write_text("".join(f"{name}={value}\n" for name, value in many.items()))
    elif where == "environment":
        environ |= many
    else:
        environ["API_KEYS"] = ",".join(many.values())
    known, warnings = KnownSecrets([], [str(path)] if where == "file" else []), Warnings()
    found = known.variables(environ, warnings)
    assert found["OPENAI_API_KEY"] == (mine,)
    assert len(list(chain.from_iterable(found.values()))) == MAX_SECRETS
    last = "API_KEYS" if where == "one variable" else f"SERVICE_{MAX_SECRETS - 1}_API_KEY"
    place = f"capture_redact_env_files: {str(path)!r}" if where == "file" else "the environment"
    assert warnings == [
        f"{place}: of more than {MAX_SECRETS} secrets, those from {last} on are not masked by their values: name fewer"
    ]
    gate = Gate(Rules(mode="on"), known_values=chain.from_iterable(found.values()))
    counts: dict[str, int] = {}
    assert mine not in gate.error_text(f"wrong key: {mine}", counts)
    assert counts == {"known": 1}


def test_as_many_secrets_as_are_known_take_little_memory():
    """The largest of the automata took half a megabyte for a value."""
    program = f"""
import resource, secrets
from otel_wirecap.capture.redaction.gate import Gate, Rules
def used(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
gate = Gate(Rules(mode="on"), known_values=["x" * 20])
gate.error_text("nothing", {{}})
before = used()
gate = Gate(Rules(mode="on"), known_values=[secrets.token_urlsafe(24) for _ in range({MAX_SECRETS})])
gate.error_text("nothing", {{}})
print((used() - before) >> 10)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert int(done.stdout) < 160


APPLICATION = """
import sys, time
import httpx
import otel_wirecap
otel_wirecap.instrument(capture_file=sys.argv[1], capture_writer=sys.argv[2], capture_redact_env_files=[sys.argv[3]])
with httpx.Client(transport=httpx.HTTPTransport()) as client:
    began = time.monotonic()
    try:
        client.get("http://127.0.0.1:9/")  # nobody listens
    except httpx.ConnectError:
        pass
    print(time.monotonic() - began < 20)

"""


@pytest.mark.parametrize("writer", ["process", "thread"])
@pytest.mark.parametrize("kind", ["fifo", "20,000 keys"])
def test_a_captured_application_goes_on_whatever_the_file_is(writer, kind, tmp_path):
    path, capture = tmp_path / ".env", tmp_path / "capture.log"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.write_text("".join(f"SERVICE_{n}_API_KEY={secrets.token_hex(10)}\n" for n in range(20_000)))
    line = [sys.executable, "-c", APPLICATION, str(capture), writer, str(path)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120)
    assert done.stdout == "True\n", done.stderr
    assert done.stderr.count("capture_redact_env_files") == 1, done.stderr
    directions = [orjson.loads(one)["direction"] for one in capture.read_bytes().splitlines()]
    assert directions == ["system_start", "outbound_request", "inbound_response", "system_stop"]
