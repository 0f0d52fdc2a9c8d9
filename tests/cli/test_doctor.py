"""Whatever keeps a command from being captured is found, with what to do about it; the command itself is never run."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from otel_wirecap.client_libraries import CLIENT_LIBRARIES

HTTP_CLIENTS = [library.name for library in CLIENT_LIBRARIES if library.protocol == "http"]


def doctor(*arguments: str | Path, cwd: Path | None = None, **environ: str) -> dict[str, dict[str, str]]:
    """The checks by name and what they told; of several of one name the gravest."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WIRE_CAPTURE", "OTEL_"))}
    command = [sys.executable, "-m", "otel_wirecap", "doctor", "--json", *map(str, arguments)]
    done = subprocess.run(command, env=kept | environ, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr
    grave = ("ok", "warn", "fail")
    found: dict[str, dict[str, str]] = {}
    for check in map(json.loads, done.stdout.splitlines()):
        known = found.get(check["name"])
        if known is None or grave.index(check["state"]) > grave.index(known["state"]):
            found[check["name"]] = check
    assert done.returncode == (1 if any(check["state"] == "fail" for check in found.values()) else 0)
    return found


def test_an_environment_in_which_all_is_well_passes(tmp_path):
    found = doctor("--", sys.executable, "gateway.py", WIRE_CAPTURE_FILE=str(tmp_path / "logs" / "capture.log"))
    assert {check["state"] for check in found.values()} <= {"ok", "warn"}
    for name in ("interpreter", "otel-wirecap", "capture file"):
        assert found[name]["state"] == "ok", found[name]
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


def test_the_command_is_not_run(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(f"#!{sys.executable}\nopen({str(tmp_path / 'ran')!r}, 'w')\n")
    script.chmod(0o755)
    assert doctor("--", script)["interpreter"]["state"] == "ok"
    assert not (tmp_path / "ran").exists()


def test_another_environment_without_the_package_is_told_and_how_to_install_it(tmp_path):
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    found = doctor("--", python, "gateway.py")
    assert found["otel-wirecap"]["state"] == "fail"
    assert found["otel-wirecap"]["fix"] == f"{python} -m pip install otel-wirecap"
    assert found["hooks"]["state"] == "fail"
    assert "no request to a backend is seen" in found["hooks"]["told"]


@pytest.mark.parametrize(
    ("there", "state", "told"),
    [
        ({"httpx": "0.28.1"}, "ok", "on the way to backends: httpx 0.28.1"),
        ({"httpx": "0.24.1"}, "fail", "httpx 0.24.1 is older than 0.25"),
        ({"aiohttp": "3.11.0", "websockets": "13.1"}, "warn", "websockets 13.1 is older than 15.0"),
        ({"websockets": "15.0"}, "fail", f"none of {', '.join(HTTP_CLIENTS)} is there"),
    ],
)
def test_clients_that_are_too_old_to_be_captured_are_found(
    there: dict[str, str], state: str, told: str, tmp_path: Path
) -> None:
    venv.create(tmp_path / "env", with_pip=False)
    (packages,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    for name, version in {"uvicorn": "0.30.0", **there}.items():
        folder = packages / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    found = doctor("--", tmp_path / "env" / "bin" / "python", "gateway.py")["hooks"]
    assert found["state"] == state
    assert told in found["told"]


@pytest.mark.parametrize(
    ("words", "state", "told"),
    [
        (["no-such-command"], "fail", "is not found"),
        (["/bin/sh", "-c", "true"], "warn", "is no Python program"),
    ],
)
def test_a_command_whose_interpreter_cannot_be_told_is_told(words, state, told):
    check = doctor("--", *words)["command"]
    assert (check["state"], told in check["told"]) == (state, True)


@pytest.mark.parametrize(
    ("environ", "name", "state", "told"),
    [
        ({}, "capture file", "warn", "capture is off"),
        ({"WIRE_CAPTURE_FORMAT": "xml"}, "settings", "fail", "xml"),
        ({"WIRE_CAPTURE_FIEL": "x"}, "settings", "warn", "did you mean WIRE_CAPTURE_FILE"),
        ({"WIRE_CAPTURE_FILE": "/dev/null/capture.log"}, "capture file", "fail", "is no folder"),
        ({"WIRE_CAPTURE_FILE": "/proc/capture.log"}, "capture file", "fail", "nothing can be written"),
        ({"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "asgi, wirecap"}, "telemetry", "fail", "switches wirecap off"),
        ({"OTEL_SDK_DISABLED": "TRUE"}, "telemetry", "warn", "the capture is complete all the same"),
        ({"OTEL_TRACES_EXPORTER": "wirecap,oltp"}, "telemetry", "fail", "names 'oltp', which is not installed"),
        ({"OTEL_LOGS_EXPORTER": "oltp"}, "telemetry", "fail", "OTEL_LOGS_EXPORTER names 'oltp'"),
        (
            {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/json"},
            "telemetry", "fail", "OTEL_METRICS_EXPORTER names 'otlp', which is not installed",
        ),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://me:secret@127.0.0.1:99999"},
            "telemetry", "warn", "no collector answers at http://127.0.0.1:99999",
        ),
    ],
)  # fmt: skip
@pytest.mark.sampled(5, rest="thorough")
def test_what_the_environment_says_is_looked_at(environ, name, state, told):
    check = doctor(**environ)[name]
    assert (check["state"], told in check["told"]) == (state, True), check


def test_a_capture_file_that_others_may_read_is_told(tmp_path):
    path = tmp_path / "capture.log"
    path.write_text("")
    path.chmod(0o644)
    check = doctor(WIRE_CAPTURE_FILE=str(path))["capture file"]
    assert (check["state"], check["fix"]) == ("warn", f"chmod 600 {path}")
    path.unlink()
    path.mkdir()
    assert doctor(WIRE_CAPTURE_FILE=str(path))["capture file"]["state"] == "fail"


@pytest.mark.parametrize("variable", ["WIRE_CAPTURE_FILE", "WIRE_CAPTURE_CBOR_FILE"])
@pytest.mark.parametrize("target", ["capture.log", "nowhere"])
def test_a_file_that_the_capture_refuses_is_told_in_its_words(variable: str, target: str, tmp_path: Path) -> None:
    (tmp_path / "capture.log").write_text("")
    (tmp_path / "link.log").symlink_to(tmp_path / target)
    environ = {"WIRE_CAPTURE_FILE": str(tmp_path / "main.log"), variable: str(tmp_path / "link.log")}
    check = doctor(**environ)["capture file"]
    assert (check["state"], "not a regular file but a symbolic link" in check["told"]) == ("fail", True)
    assert not (tmp_path / "main.log").exists()


def test_a_collector_that_does_not_answer_is_told_and_one_that_does_is_well():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        asked = {
            "OTEL_TRACES_EXPORTER": "otlp_proto_http",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{listener.getsockname()[1]}",
        }
        check = doctor(**asked)["telemetry"]
        assert check["state"] == "warn"
        assert "no collector answers" in check["told"]
        listener.listen()
        assert doctor(**asked)["telemetry"]["state"] == "ok"


@pytest.mark.parametrize(("protocol", "port"), [("grpc", 4317), ("http/protobuf", 4318)])
def test_otlp_is_the_exporter_of_its_protocol_and_what_the_launcher_asks_for_by_default(protocol, port):
    launcher = Path(sys.executable).with_name("opentelemetry-instrument")
    telemetry = doctor("--", launcher, "gateway.py", OTEL_EXPORTER_OTLP_PROTOCOL=protocol)["telemetry"]
    assert telemetry["state"] in {"ok", "warn"}  # somebody's collector may run on this machine
    assert f"http://localhost:{port}" in telemetry["told"]


def hidden(folder: Path, name: str) -> str:
    """A path on which a package of that name has no entry points, as whoever asks for them sees it."""
    metadata = folder / f"{name.replace('-', '_')}-99.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 99\n")
    (metadata / "entry_points.txt").write_text("")
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))


def test_a_launcher_that_sets_nothing_up_is_told(tmp_path):
    launcher = Path(sys.executable).with_name("opentelemetry-instrument")
    without = {"PYTHONPATH": hidden(tmp_path, "opentelemetry-distro"), "OTEL_TRACES_EXPORTER": "console"}
    telemetry = doctor("--", launcher, "gateway.py", **without)["telemetry"]
    assert (telemetry["state"], "no spans" in telemetry["told"]) == ("warn", True)
    assert "otel-wirecap[otlp]" in telemetry["fix"]
    # An application that does it itself needs no more than the exporter.
    assert "telemetry" not in doctor("--", sys.executable, "gateway.py", **without)


def test_a_configuration_file_counts_in_place_of_the_exporters_names(tmp_path):
    launcher = Path(sys.executable).with_name("opentelemetry-instrument")
    found = doctor("--", launcher, "gateway.py", OTEL_CONFIG_FILE="otel.yaml", OTEL_TRACES_EXPORTER="oltp")
    assert "telemetry" not in found


@pytest.mark.parametrize(
    ("environ", "state"),
    [
        ({"WIRE_CAPTURE_SPAN_PAYLOADS": "events"}, "warn"),
        ({"WIRE_CAPTURE_SPAN_PAYLOADS": "both", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "16"}, "warn"),
        ({"WIRE_CAPTURE_SPAN_PAYLOADS": "logs", "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "50"}, None),
        ({}, None),
    ],
)
def test_payloads_in_messages_that_collectors_may_refuse_are_told(environ, state):
    telemetry = doctor(**environ).get("telemetry")
    assert (telemetry and telemetry["state"]) == state
    assert telemetry is None or "larger than the 4 MB" in telemetry["told"]


def test_people_get_lines_and_what_to_do():
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WIRE_CAPTURE", "OTEL_"))}
    command = [sys.executable, "-m", "otel_wirecap", "doctor", "--", "no-such-command"]
    done = subprocess.run(command, env=kept, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stdout.startswith("fail  command: 'no-such-command' is not found\n      → ")
