"""``otel-wirecap doctor [options] [-- CMD…]``: what keeps a command from being captured, and how to fix it.

The command itself is not run; its interpreter lists what is installed in its environment.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from otel_wirecap.cli.captures import write, write_json
from otel_wirecap.cli.options import add_capture_options, capture_settings
from otel_wirecap.cli.text import Style, printable
from otel_wirecap.client_libraries import CLIENT_LIBRARIES
from otel_wirecap.config import CaptureConfig, load_config, unknown_variables
from otel_wirecap.environment import environment, environment_variable, is_switched_off
from otel_wirecap.errors import WireCaptureError
from otel_wirecap.log import warn
from otel_wirecap.messages import without_secrets
from otel_wirecap.reading.captures import Captures
from otel_wirecap.reading.tally import why_nothing
from otel_wirecap.storage.output import make_outputs
from otel_wirecap.version import __version__

OK, WARN, FAIL = "ok", "warn", "fail"
_STYLES = {OK: "green", WARN: "yellow", FAIL: "red"}
_MIN_PYTHON = (3, 11)
_SECONDS = 20.0
_CONNECT_SECONDS = 1.0
_SERVERS = ("uvicorn", "hypercorn", "granian", "gunicorn", "starlette", "fastapi", "litestar", "quart", "django")
_FOR_SETTINGS = ("cbor2", "pyrage", "backports.zstd", "opentelemetry-configuration")
_OTLP_PORT = {"http": 80, "https": 443}
_OTLP_DEFAULT = {"otlp_proto_grpc": "http://localhost:4317", "otlp_proto_http": "http://localhost:4318"}
_OTLP_PROTOCOLS = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}
_PAYLOAD_BATCHES = {"BSP": 16, "BLRP": 50}
_SIGNALS = ("traces", "metrics", "logs")
_OUR_GROUPS = ("opentelemetry_instrumentor", "opentelemetry_traces_exporter")

_PROBE = """
import importlib.metadata as m, json, os, sys
def version(name):
    try:
        return m.version(name)
    except m.PackageNotFoundError:
        return None
signals = ("traces", "metrics", "logs")
groups = ("opentelemetry_instrumentor", "opentelemetry_configurator")
groups += tuple(f"opentelemetry_{signal}_exporter" for signal in signals)
print(json.dumps({
    "python": sys.version_info[:3], "executable": sys.executable,
    "packages": {name: version(name) for name in json.loads(sys.argv[1])},
    "entry_points": {group: sorted(point.name for point in m.entry_points(group=group)) for group in groups},
    "launcher": os.path.exists(os.path.join(os.path.dirname(sys.executable), "opentelemetry-instrument")),
}))
"""


class Check(NamedTuple):
    """One check.

    Attributes:
        name: what was checked.
        state: ``ok``, ``warn`` (capture works, something else may not) or ``fail`` (capture does not work).
        told: the finding, as a lower-case sentence fragment.
        fix: how to fix it; empty if there is nothing to fix.
    """

    name: str
    state: str
    told: str
    fix: str = ""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Registers the command."""
    parser = subparsers.add_parser(
        "doctor",
        help="find out why a command is not captured",
        description="Checks an environment for what would keep a Python command from being captured, or its "
        "telemetry from arriving. The command is not run.",
        usage="otel-wirecap doctor [options] [-- COMMAND [ARGUMENT ...]]",
        epilog="exit code: 0 nothing must be fixed, 1 something must",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per check")
    add_capture_options(parser)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="the command, after -- (default: this Python)")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command and returns its exit code."""
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    style, failed = Style(sys.stdout), False
    for found in _checks(command, capture_settings(arguments)):
        check = found._replace(told=without_secrets(found.told), fix=without_secrets(found.fix))
        failed |= check.state == FAIL
        if arguments.json:
            write_json({name: value for name, value in check._asdict().items() if value})
            continue
        write(f"{style(check.state.ljust(4), _STYLES[check.state])}  {check.name}: {printable(check.told)}")
        if check.fix:
            write(f"      {style('→', 'dim')} {printable(check.fix)}")
    return 1 if failed else 0


def _checks(command: list[str], settings: Mapping[str, object]) -> Iterator[Check]:
    environ = environment()
    interpreter, check = _interpreter(command)
    if check is not None:
        yield check
    told = None
    if interpreter is not None:
        told, check = _asked(interpreter)
        yield check
    if told is not None:
        yield from _packages(told)
    config: CaptureConfig | None = None
    try:
        config = load_config(settings)
    except WireCaptureError as error:
        yield Check("settings", FAIL, str(error), "correct the setting")
    for name in unknown_variables(environ):  # each with what may have been meant
        yield Check("settings", WARN, name, "otel-wirecap run --help has all")
    if config is not None:
        yield from _capture(config)
        if told is not None:
            yield from _extras(config, told["packages"])
        yield from _batches(config, environ)
    is_launched = bool(command) and Path(command[0]).name == "opentelemetry-instrument"
    yield from _telemetry(environ, told, is_launched=is_launched)


# -- the interpreter -------------------------------------------------------------------------------------------------


def _interpreter(command: list[str]) -> tuple[str | None, Check | None]:
    """Returns a command's interpreter, or the reason why it cannot be determined."""
    if not command:
        return sys.executable, None
    found = shutil.which(command[0])
    if found is None:
        return None, Check("command", FAIL, f"{command[0]!r} is not found", "check its name and PATH")
    if Path(found).name.startswith("python"):
        return found, None
    with Path(found).open("rb") as file:
        first = file.readline(300)
    words = first[2:].decode("utf-8", "replace").split() if first.startswith(b"#!") else []
    if words and Path(words[0]).name == "env":
        words = [word for word in words[1:] if not word.startswith("-")]
        words = [shutil.which(words[0]) or words[0]] if words else []
    if words and Path(words[0]).name.startswith("python"):
        return words[0], None
    told = f"{command[0]!r} is no Python program, as far as can be seen; what it starts may be one"
    return None, Check("command", WARN, told, "name the Python command that it starts: otel-wirecap doctor -- python …")


def _asked(interpreter: str) -> tuple[dict[str, Any] | None, Check]:
    """What an interpreter says of its environment."""
    clients = [library.name for library in CLIENT_LIBRARIES]
    names = ["otel-wirecap", "opentelemetry-sdk", *clients, *_SERVERS, *_FOR_SETTINGS]
    try:
        done = subprocess.run(  # noqa: S603  # the interpreter of the command that was given, with our own program
            [interpreter, "-c", _PROBE, json.dumps(names)],
            capture_output=True, text=True, timeout=_SECONDS, check=True,
        )  # fmt: skip
        told = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        name = type(error).__name__
        return None, Check("interpreter", FAIL, f"{interpreter} does not answer: {name}", "does it run at all?")
    version = ".".join(map(str, told["python"]))
    if tuple(told["python"][:2]) < _MIN_PYTHON:
        needed = ".".join(map(str, _MIN_PYTHON))
        return told, Check("interpreter", FAIL, f"Python {version} ({interpreter})", f"use Python {needed} or later")
    return told, Check("interpreter", OK, f"Python {version} ({interpreter})")


def _packages(told: dict[str, Any]) -> Iterator[Check]:
    packages, executable = told["packages"], told["executable"]
    installed = packages["otel-wirecap"]
    if installed is None:
        yield Check("otel-wirecap", FAIL, "not installed there", f"{executable} -m pip install otel-wirecap")
    elif installed != __version__:
        upgrade = f"{executable} -m pip install --upgrade otel-wirecap"
        yield Check("otel-wirecap", WARN, f"{installed} there, {__version__} here", upgrade)
    else:
        yield Check("otel-wirecap", OK, installed)
    if installed is not None:
        points = told["entry_points"]
        missing = [group for group in _OUR_GROUPS if "wirecap" not in points[group]]
        if missing:
            again = f"{executable} -m pip install --force-reinstall otel-wirecap"
            yield Check("entry points", FAIL, f"not registered: {', '.join(missing)}", again)
    yield from _client_hooks(packages, executable)
    servers = [f"{name} {packages[name]}" for name in _SERVERS if packages[name] is not None]
    if servers:
        yield Check("hooks", OK, f"from clients: {', '.join(servers)}")
    else:
        yield Check("hooks", WARN, "no ASGI server is there: only requests to backends are seen")
    if not told["launcher"]:
        fix = "otel-wirecap run -- COMMAND captures without it"
        yield Check("launcher", WARN, "opentelemetry-instrument is not there", fix)


def _client_hooks(packages: dict[str, str | None], executable: str) -> Iterator[Check]:
    """Which requests to backends are seen. An old websockets is no failure: servers bring it along."""
    fit, has_http = [], False
    for library in CLIENT_LIBRARIES:
        version = packages[library.name]
        if version is None:
            continue
        is_http = library.protocol == "http"
        has_http = has_http or is_http
        if _numbers(version) < library.since:
            told = f"{library.name} {version} is older than {'.'.join(map(str, library.since))}"
            yield Check("hooks", FAIL if is_http else WARN, told, f"{executable} -m pip install -U {library.name}")
        else:
            fit.append(f"{library.name} {version}")
    if fit:
        yield Check("hooks", OK, f"on the way to backends: {', '.join(fit)}")
    if not has_http:
        known = ", ".join(library.name for library in CLIENT_LIBRARIES if library.protocol == "http")
        yield Check("hooks", FAIL, f"none of {known} is there: no request to a backend is seen", "use one of them")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())


# -- the capture -----------------------------------------------------------------------------------------------------


def _capture(config: CaptureConfig) -> Iterator[Check]:
    variable, path = environment_variable("capture_file"), config.capture_file
    if path is None:
        yield Check("capture file", WARN, "none is set: capture is off", f"set {variable}, or use otel-wirecap run")
        return
    # Missing folders are made.
    folder = next(one for one in path.absolute().parents if one.exists())
    if not folder.is_dir():
        yield Check("capture file", FAIL, f"{folder} is no folder", f"name another file in {variable}")
        return
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".otel-wirecap-doctor-") as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        yield Check("capture file", FAIL, f"nothing can be written to {folder}: {error.strerror}", "check its owner")
        return
    try:
        _open_as_the_capture_does(config, path)
    except WireCaptureError as error:
        yield Check("capture file", FAIL, str(error), f"check its owner and its kind, or name another in {variable}")
        return
    if path.exists():
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            yield Check("capture file", WARN, f"{path} may be read by others ({mode:o})", f"chmod 600 {path}")
        nothing = None
        with contextlib.suppress(WireCaptureError), Captures([path]) as captures:
            nothing = why_nothing(captures)
        if nothing is not None:
            yield Check("capture file", WARN, f"nothing was captured in {path}: {nothing}", "see the hooks above")
    free = shutil.disk_usage(folder).free
    if free < config.capture_total_max_bytes:
        told = f"{free:,} bytes are free, and captures may take {config.capture_total_max_bytes:,}"
        bound = environment_variable("capture_total_max_bytes")
        yield Check("capture file", WARN, told, f"make room, or lower {bound}")
    yield Check("capture file", OK, str(path))


def _open_as_the_capture_does(config: CaptureConfig, path: Path) -> None:
    """Opens the files that are there.

    Raises:
        WireCaptureError: the capture refuses them.
    """
    for output in make_outputs(config, str(path.absolute()), log=warn, on_loss=_nothing, on_gap=_nothing):
        if os.path.lexists(output.path):
            output.file.check()
            output.close()


def _nothing(_loss: object) -> None:
    """Nothing is written, and nothing lost."""


def _extras(config: CaptureConfig, packages: dict[str, str | None]) -> Iterator[Check]:
    formats = {config.capture_format} | ({"cbor"} if config.cbor_capture_file is not None else set())
    needed = {
        "cbor2": ("cbor", "cbor" in formats),
        "pyrage": ("encryption", config.capture_encrypt_to is not None),
        "backports.zstd": ("encodings", config.capture_compression == "zstd" and sys.version_info < (3, 14)),
    }
    for package, (extra, is_needed) in needed.items():
        if is_needed and packages[package] is None:
            told = f"the settings need {package}, which is not there"
            yield Check("extras", FAIL, told, f"pip install 'otel-wirecap[{extra}]'")


# -- telemetry -------------------------------------------------------------------------------------------------------


def _telemetry(environ: Mapping[str, str], told: dict[str, Any] | None, *, is_launched: bool) -> Iterator[Check]:
    """``is_launched``: the command is ``opentelemetry-instrument``, which defaults to OTLP exporters."""
    if is_switched_off():
        fix = "take it out, or use otel-wirecap run"
        yield Check("telemetry", FAIL, "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS switches wirecap off", fix)
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        yield Check("telemetry", WARN, "OTEL_SDK_DISABLED is true: no spans; the capture is complete all the same")
    if is_launched and told is not None:
        if not told["entry_points"]["opentelemetry_configurator"]:
            nothing = "nothing sets OpenTelemetry up: no spans, unless the application does it"
            yield Check("telemetry", WARN, nothing, "pip install 'otel-wirecap[otlp]', or opentelemetry-distro")
            return
        if environ.get("OTEL_CONFIG_FILE"):  # it says all of it
            if told["packages"]["opentelemetry-configuration"] is None:
                needed = "OTEL_CONFIG_FILE needs opentelemetry-configuration, which is not there"
                yield Check("telemetry", FAIL, needed, "pip install opentelemetry-configuration")
            return
    yield from _exporters(environ, told, default="otlp" if is_launched else "")


def _exporters(environ: Mapping[str, str], told: dict[str, Any] | None, *, default: str) -> Iterator[Check]:
    collectors: dict[str, None] = {}
    for signal in _SIGNALS:
        variable = f"OTEL_{signal.upper()}_EXPORTER"
        for name in filter(None, (name.strip() for name in environ.get(variable, default).split(","))):
            found = _exporter(name, signal, environ)
            if told is not None and found not in {"none", *told["entry_points"][f"opentelemetry_{signal}_exporter"]}:
                fix = "pip install 'otel-wirecap[otlp]'" if found.startswith("otlp") else "correct the name"
                how = f"{variable} names" if variable in environ else f"without {variable} it is"
                yield Check("telemetry", FAIL, f"{how} {name!r}, which is not installed", fix)
            if found in _OTLP_DEFAULT:
                collectors[_endpoint(signal, found, environ)] = None
    for endpoint in collectors:
        yield _answers(endpoint)


def _batches(config: CaptureConfig, environ: Mapping[str, str]) -> Iterator[Check]:
    """With payloads, OpenTelemetry's default batch size makes messages that collectors refuse."""
    wanted = {"events": ["BSP"], "logs": ["BLRP"], "both": ["BSP", "BLRP"]}.get(config.capture_span_payloads, [])
    if environ.get("OTEL_CONFIG_FILE"):
        return
    for kind in wanted:
        variable = f"OTEL_{kind}_MAX_EXPORT_BATCH_SIZE"
        if not environ.get(variable):
            nothing = f"without {variable} messages with payloads may be larger than the 4 MB that collectors take"
            yield Check("telemetry", WARN, nothing, f"set {variable} to {_PAYLOAD_BATCHES[kind]}")


def _exporter(name: str, signal: str, environ: Mapping[str, str]) -> str:
    """Returns the exporter that OpenTelemetry loads for a name: ``otlp`` depends on the protocol."""
    if name != "otlp":
        return name
    variables = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    protocol = next((environ[variable] for variable in variables if environ.get(variable)), "grpc").strip()
    return _OTLP_PROTOCOLS.get(protocol, f"otlp by {protocol}")


def _endpoint(signal: str, exporter: str, environ: Mapping[str, str]) -> str:
    names = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    endpoint = next((environ[name] for name in names if environ.get(name)), _OTLP_DEFAULT[exporter])
    return urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")._replace(path="").geturl()


def _answers(endpoint: str) -> Check:
    """Returns whether anything listens at the collector's address."""
    parts = urlsplit(endpoint)
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    try:
        address = parts.hostname or "localhost", parts.port or _OTLP_PORT.get(parts.scheme, 4317)
        with socket.create_connection(address, _CONNECT_SECONDS):
            pass
    except (OSError, ValueError) as error:
        reason = error.strerror or "no answer" if isinstance(error, OSError) else str(error)
        told = f"no collector answers at {place}: {reason}"
        return Check("telemetry", WARN, told, "the capture goes on without it; spans are lost")
    return Check("telemetry", OK, f"something answers at {place}")
