"""A key that is pasted into the wrong place is in no message: not in an exception, on a terminal, in a log."""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import secrets
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import otel_wirecap
from otel_wirecap.cli import main
from otel_wirecap.config import environment_variable, load_config
from otel_wirecap.errors import ConfigurationError
from otel_wirecap.instrumentation.instrumentor import AutoInstrumentor
from otel_wirecap.tracing.exporter import WireCaptureSpanExporter

VARIABLE = "INTERNAL_API_KEY"


class Secret(NamedTuple):
    """A secret, and the parts of it of which none may be told."""

    value: str
    parts: tuple[str, ...]


def age_key() -> Secret:
    pyrage = pytest.importorskip("pyrage")
    value = str(pyrage.x25519.Identity.generate())
    return Secret(value, (value[20:40], value[-20:]))


def ssh_key() -> Secret:
    """Of the shape that ssh-keygen writes; no key fits."""
    encoded = base64.b64encode(b"openssh-key-v1\0" + secrets.token_bytes(250)).decode()
    lines = [encoded[place : place + 70] for place in range(0, len(encoded), 70)]
    begin, end = (f"-----{word} OPENSSH PRIVATE KEY-----" for word in ("BEGIN", "END"))
    return Secret("\n".join([begin, *lines, end]), tuple(line[-16:] for line in lines[1:-1]))


def provider_key() -> Secret:
    value = "sk-proj-" + secrets.token_hex(24)
    return Secret(value, (value[12:], value[-12:]))


def value_of_environment() -> Secret:
    """Of no shape, and with what a quotation spells in another way."""
    core = secrets.token_hex(12)
    return Secret(f"pass'\"\\{core}", (core,))


SECRETS: dict[str, Callable[[], Secret]] = {
    make.__name__: make for make in (age_key, ssh_key, provider_key, value_of_environment)
}

WRONG_FOR = (
    "capture_format", "capture_buffer_size", "capture_flush_interval", "capture_max_entries_per_flush",
    "capture_max_bytes", "capture_max_files", "capture_total_max_bytes", "capture_max_age", "capture_compression",
    "capture_encrypt_to", "capture_fsync", "capture_writer", "capture_max_payload_bytes",
    "capture_max_queue_bytes", "capture_assemble_streams", "capture_legs",
    "capture_span_payloads", "capture_propagate", "capture_redaction", "capture_allow_secrets",
    "capture_redact_prompts",
)  # fmt: skip
"""The settings that no secret is a value of."""


@pytest.fixture(params=SECRETS)
def secret(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Secret:
    made = SECRETS[request.param]()
    if request.param == value_of_environment.__name__:
        monkeypatch.setenv(VARIABLE, made.value)
    return made


def hides(told: str, secret: Secret) -> bool:
    return not any(part in told for part in secret.parts)


def as_argument(_folder: Path, name: str, value: str) -> dict[str, Any]:
    return {name: value}


def as_variable(_folder: Path, name: str, value: str) -> dict[str, Any]:
    os.environ[environment_variable(name)] = value
    return {}


def in_file(folder: Path, name: str, value: object) -> dict[str, Any]:
    import json

    file = folder / "settings.yaml"
    file.write_text(json.dumps({"logging": {name: value}}))  # JSON is YAML
    return {"config": file}


def in_list_in_file(folder: Path, name: str, value: str) -> dict[str, Any]:
    return in_file(folder, name, [{"a": [value]}])


GIVEN: dict[str, Callable[[Path, str, str], dict[str, Any]]] = {
    way.__name__: way for way in (as_argument, as_variable, in_file, in_list_in_file)
}


def assert_untold(error: BaseException, secret: Secret) -> None:
    """Neither the error nor what it was raised from tells it."""
    said = [str(error), repr(error), repr(error.args), *traceback.format_exception(error)]
    assert error.__context__ is None
    assert error.__cause__ is None
    assert hides("\n".join(said), secret)


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("name", WRONG_FOR)
@pytest.mark.sampled(40, rest="thorough")
def test_an_error_of_a_setting_quotes_no_secret(
    name: str, given: str, secret: Secret, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(environment_variable(name), "")  # so that it is as before afterwards
    settings = GIVEN[given](tmp_path, name, secret.value)
    with pytest.raises(ConfigurationError, match=name) as told:
        load_config(settings)
    assert_untold(told.value, secret)
    with pytest.raises(ConfigurationError) as raised:
        otel_wirecap.instrument(capture_file=tmp_path / "capture.log", **settings)
    assert_untold(raised.value, secret)
    assert not (tmp_path / "capture.log").exists()


@pytest.mark.parametrize("given", ["as_argument", "in_file"])
def test_an_error_of_an_unknown_setting_quotes_no_secret(given: str, secret: Secret, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such setting") as told:
        load_config(GIVEN[given](tmp_path, f"capture_{secret.value}", "x"))
    assert_untold(told.value, secret)


@pytest.mark.parametrize(
    "content",
    ["logging:\n  capture_redact_values: [{}\n", "logging:\n  a: *{}\n", "logging: !{} x\n", 'a: "{}\n', "a: b: {}\n",
     "{}"],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_told_without_what_is_in_it(content: str, tmp_path: Path) -> None:
    file, word = tmp_path / "settings.yaml", secrets.token_hex(6)  # no shape at all
    file.write_text(content.replace("{}", word))
    with pytest.raises(ConfigurationError, match=r"settings\.yaml") as told:
        load_config({"config": file})
    assert_untold(told.value, Secret(word, (word,)))


@pytest.mark.parametrize("make", [age_key, ssh_key])
@pytest.mark.parametrize("around", ["{}", "# public key: age1qqq\n{}\n"])
def test_a_secret_key_in_place_of_a_public_one_is_called_one(make: Callable[[], Secret], around: str) -> None:
    secret = make()
    with pytest.raises(ConfigurationError, match=r"a secret key .* expected the public key: age1") as told:
        load_config({"capture_encrypt_to": around.format(secret.value)})
    assert "age-keygen -y" in str(told.value)
    assert_untold(told.value, secret)


def test_what_is_no_key_at_all_is_told_with_what_is_one() -> None:
    with pytest.raises(ConfigurationError, match=r"capture_encrypt_to: a value .* expected an age public key") as told:
        load_config({"capture_encrypt_to": "/home/me/.ssh/id_ed25519"})
    assert "no file's name" in str(told.value)


COMMANDS: dict[str, tuple[str, ...]] = {
    "a recipient of run": ("run", "--capture-encrypt-to={}", "--", "true"),
    "a size of run": ("run", "--capture-max-bytes={}", "--", "true"),
    "a command of run": ("run", "--", "{}"),
    "a recipient of proxy": ("proxy", "--capture-encrypt-to={}"),
    "a backend": ("proxy", "--backend={}"),
    "a backend's URL": ("proxy", "--backend=local={}"),
    "the default backend": ("proxy", "--default-backend={}"),
    "a port": ("proxy", "--port={}"),
    "a setting of doctor": ("doctor", "--capture-encrypt-to={}"),
    "a setting of doctor, as JSON": ("doctor", "--json", "--capture-max-bytes={}"),
    "a command of doctor": ("doctor", "--", "{}"),
    "a file for doctor": ("doctor", "--capture-file=/dev/null/{}/capture.log"),
    "a setting of scan": ("scan", "--capture-format={}", "x"),
    "a file of settings": ("export", "--to=jsonl", "--config={}", "x"),
    "a kind": ("export", "--to={}", "x"),
    "a file": ("ls", "{}"),
    "a flow": ("show", "{}"),
    "a command": ("{}",),
    "an option": ("ls", "--{}"),
    "words": ("doctor", "--json", "x", "{}"),
    "a status": ("ls", "--status={}"),
    "an import": ("import", "{}", "-o", "x"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_prints_a_secret_that_it_cannot_use(
    name: str, secret: Secret, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code = main([word.replace("{}", secret.value) for word in COMMANDS[name]])
    except SystemExit as error:  # argparse's way
        code = int(error.code or 0)
    told = capfd.readouterr()
    assert code in {1, 2, 127}
    assert told.out + told.err
    assert hides(told.out + told.err, secret)


@pytest.mark.parametrize("name", ["capture_encrypt_to", "capture_max_bytes"])
def test_no_log_line_has_a_secret_that_a_setting_was(
    name: str, secret: Secret, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    settings = {"capture_file": str(tmp_path / "capture.log"), name: secret.value}
    AutoInstrumentor().instrument(skip_dep_check=True, **settings)
    WireCaptureSpanExporter(**settings).shutdown()
    assert caplog.text.count(name) == 2
    assert hides(caplog.text, secret)


def test_no_log_line_has_a_secret_that_a_file_was_named_by(
    secret: Secret, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    otel_wirecap.instrument(capture_file=tmp_path / "file" / secret.value)
    assert "capture is off" in caplog.text
    assert hides(caplog.text, secret)


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "-c", "import otel_wirecap; otel_wirecap.instrument()"],
        [str(Path(sys.executable).with_name("opentelemetry-instrument")), sys.executable, "-c", "print('runs')"],
        [sys.executable, "-m", "otel_wirecap", "run", "--", sys.executable, "-c", ""],
    ],
    ids=["instrument", "opentelemetry-instrument", "run"],
)
@pytest.mark.sampled(1, rest="telemetry")
def test_a_process_prints_no_secret_key_that_its_environment_gives_for_a_public_one(
    command: list[str], secret: Secret, tmp_path: Path
) -> None:
    settings = {"WIRE_CAPTURE_FILE": str(tmp_path / "capture.log"), "WIRE_CAPTURE_ENCRYPT_TO": secret.value}
    exporters = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
    done = subprocess.run(
        command, env={**os.environ, **exporters, **settings}, capture_output=True, text=True, timeout=100, check=False
    )
    assert "capture_encrypt_to" in done.stderr
    assert hides(done.stdout + done.stderr, secret)


# -- secrets of no shape: only the settings or options that they were given to tell of them --------------------------

NAMING = (
    "capture_redact_values", "capture_redact_env", "capture_redact_env_files", "capture_redact_headers",
    "capture_redact_fields", "capture_redact_patterns", "capture_redact_allow", "capture_encrypt_to",
)  # fmt: skip


def shapeless(length: int = 20) -> str:
    return "".join(secrets.choice("bdfghjkmpqvwxz") for _ in range(length))


@pytest.mark.parametrize("given", ["as_argument", "in_file"])
@pytest.mark.parametrize("name", NAMING)
def test_a_setting_that_names_secrets_is_never_quoted(name: str, given: str, tmp_path: Path) -> None:
    word = shapeless(7)  # too short to be searched for
    with pytest.raises(ConfigurationError, match=rf"{name}: a value \(") as told:
        load_config(GIVEN[given](tmp_path, name, [[word]]))  # type: ignore[arg-type]
    assert_untold(told.value, Secret(word, (word,)))


@pytest.mark.parametrize("given", ["as_argument", "in_file"])
def test_what_one_setting_names_as_secret_is_quoted_in_no_error_of_another(given: str, tmp_path: Path) -> None:
    word = shapeless()
    settings = GIVEN[given](tmp_path, "capture_redact_values", [word, shapeless()])  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="capture_format") as told:
        load_config({**settings, "capture_format": f"the {word}"})
    assert_untold(told.value, Secret(word, (word,)))


@pytest.mark.parametrize("length", [5, 20])
@pytest.mark.parametrize(
    "words",
    [
        ("ls", "--capture-redact-values={}"),
        ("ls", "--capture-redact-values", "{}"),
        ("run", "--capture-redactvalues={}", "--", "true"),
        ("show", "--client-token", "{}", "--", "x"),
        ("proxy", "--api-key={}"),
    ],
    ids=" ".join,
)
def test_an_option_that_names_a_secret_is_never_quoted(
    words: tuple[str, ...], length: int, capfd: pytest.CaptureFixture[str]
) -> None:
    word = shapeless(length)
    with pytest.raises(SystemExit):
        main([one.replace("{}", word) for one in words])
    told = capfd.readouterr().err
    assert "error:" in told
    assert words[1].partition("=")[0] in told  # what is wrong is told all the same
    assert word not in told


@pytest.mark.parametrize("option", ["--capture-redact-values={0},x", "--capture-redact-v={0}"])
def test_what_one_option_names_as_secret_is_quoted_in_no_error_of_another(
    option: str, capfd: pytest.CaptureFixture[str]
) -> None:
    word = shapeless()
    for command in (("run", "--capture-format={0}", option, "--", "true"), ("ls", option, "--status={0}", "x")):
        with contextlib.suppress(SystemExit):
            assert main([one.format(word) for one in command]) == 2
        told = capfd.readouterr().err
        assert told
        assert word not in told


def test_a_message_is_searched_once(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    from otel_wirecap.capture.redaction.gate import Gate

    searched: list[str] = []
    message = Gate.message

    def counted(self: Gate, text: str) -> str:
        searched.append(text)
        return message(self, text)

    monkeypatch.setattr(Gate, "message", counted)
    assert main(["run", "--capture-format=yaml", "--", "true"]) == 2
    assert "'yaml'" in capfd.readouterr().err
    assert len(searched) == 1
