"""Settings by argument, environment and file, and what is said of wrong ones."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Any

import pytest

import otel_wirecap
from otel_wirecap.cli import main
from otel_wirecap.config import (
    EXCLUDED_URLS_VARIABLES,
    REMOVED_SETTINGS,
    SETTINGS,
    SecretPattern,
    environment_variable,
    excluded_urls,
    load_config,
    service_name,
    unknown_variables,
)
from otel_wirecap.errors import ConfigurationError
from otel_wirecap.instrumentation.instrumentor import AutoInstrumentor

GOOD: dict[str, tuple[str, Any]] = {
    "capture_file": ("logs/a.log", Path("logs/a.log")),
    "capture_format": ("cbor", "cbor"),
    "cbor_capture_file": ("logs/a.cbor", Path("logs/a.cbor")),
    "capture_buffer_size": ("128KB", 131072),
    "capture_flush_interval": ("2.5", 2.5),
    "capture_max_entries_per_flush": ("200", 200),
    "capture_max_bytes": ("50MB", 50 << 20),
    "capture_max_files": ("0", 0),
    "capture_total_max_bytes": ("1.5 GiB", 3 << 29),
    "capture_max_age": ("1.5d", 129600.0),
    "capture_compression": ("zstd", "zstd"),
    "capture_encrypt_to": ("age1qqqq", "age1qqqq"),
    "capture_fsync": ("rotate", "rotate"),
    "capture_max_payload_bytes": ("1000", 1000),
    "capture_max_queue_bytes": ("8m", 8 << 20),
    "capture_writer": ("thread", "thread"),
    "capture_assemble_streams": ("off", False),
    "capture_legs": ("backend", ("backend",)),
    "capture_include": ("api.example, */v1/*", ("api.example", "*/v1/*")),
    "capture_exclude": ("/healthz", ("/healthz",)),
    "capture_span_payloads": ("events", "events"),
    "capture_propagate": ("never", "never"),
    "capture_session_headers": ("x-a, x-b", ("x-a", "x-b")),
    "capture_backends": ("Host:81=one, other=two", {"host:81": "one", "other": "two"}),
    "capture_redaction": ("headers-only", "headers-only"),
    "capture_allow_secrets": ("on", True),
    "capture_redact_values": ("first-secret,second-secret", ("first-secret", "second-secret")),
    "capture_redact_env": ("INTERNAL_*, MY_KEY", ("INTERNAL_*", "MY_KEY")),
    "capture_redact_env_files": (".env", (".env",)),
    "capture_redact_headers": ("x-a, x-b", ("x-a", "x-b")),
    "capture_redact_fields": ("iban", ("iban",)),
    "capture_redact_patterns": ("t=T-1", (SecretPattern("t", re.compile(b"T-1"), ("headers", "urls", "bodies")),)),
    "capture_redact_prompts": ("yes", True),
    "capture_redact_allow": ("sk-example", ("sk-example",)),
}
BAD = {
    "capture_format": "xml",
    "capture_buffer_size": "many",
    "capture_flush_interval": "0",
    "capture_max_entries_per_flush": "0",
    "capture_max_bytes": "-1",
    "capture_max_files": "1.5",
    "capture_total_max_bytes": "12x",
    "capture_max_age": "soon",
    "capture_compression": "bzip2",
    "capture_fsync": "always",
    "capture_writer": "wait",
    "capture_max_payload_bytes": "0",
    "capture_max_queue_bytes": "1e400",
    "capture_assemble_streams": "perhaps",
    "capture_legs": "middle",
    "capture_span_payloads": "all",
    "capture_propagate": "sometimes",
    "capture_backends": "nameless",
    "capture_redaction": "some",
    "capture_allow_secrets": "perhaps",
    "capture_redact_prompts": "perhaps",
}


def test_the_tables_here_name_every_setting() -> None:
    assert set(GOOD) == SETTINGS.keys()


@pytest.mark.parametrize("name", GOOD)
def test_a_setting_reads_alike_from_argument_environment_and_file(name: str, tmp_path: Path) -> None:
    text, value = GOOD[name]
    file = tmp_path / "settings.yaml"
    file.write_text(f"logging:\n  level: DEBUG\n  {name}: '{text}'\nother: 1\n")
    for config in (
        load_config({name: text}, {}),
        load_config({}, {environment_variable(name): text}),
        load_config({"config": file}, {}),
        load_config({}, {"WIRE_CAPTURE_CONFIG": str(file)}),
    ):
        assert getattr(config, name) == value


def test_arguments_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("logging: {capture_max_files: 1, capture_max_bytes: 11, capture_buffer_size: 111}\n")
    environ = {"WIRE_CAPTURE_CONFIG": str(file), "WIRE_CAPTURE_MAX_FILES": "2", "WIRE_CAPTURE_MAX_BYTES": "22"}
    config = load_config({"capture_max_files": 3, "capture_file": None}, environ)
    assert (config.capture_max_files, config.capture_max_bytes, config.capture_buffer_size) == (3, 22, 111)


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_value_is_told_with_its_setting_value_origin_and_what_is_right(name: str) -> None:
    variable = environment_variable(name)
    with pytest.raises(ConfigurationError) as told:
        load_config({}, {variable: BAD[name]})
    for part in (name, repr(BAD[name]), variable, "expected"):
        assert part in str(told.value)


def test_an_unknown_setting_is_told_with_the_one_that_was_meant(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"capture_max_byte: .*did you mean capture_max_bytes"):
        load_config({"capture_max_byte": 1}, {})
    file = tmp_path / "settings.yaml"
    file.write_text("logging: {capture_nonsense: 1}\n")
    with pytest.raises(ConfigurationError, match="capture_nonsense"):
        load_config({"config": file}, {})


@pytest.mark.parametrize("name", REMOVED_SETTINGS)
def test_a_setting_of_an_earlier_version_is_told_with_what_to_use_instead(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(f"logging: {{{name}: x}}\n")
    variable = environment_variable(name)
    expected = rf"{name}: no longer a setting \(.+\); " + re.escape(REMOVED_SETTINGS[name])
    for arguments, environ in (({name: "x"}, {}), ({"config": file}, {}), ({}, {variable: "x"})):
        with pytest.raises(ConfigurationError, match=expected):
            load_config(arguments, environ)
    monkeypatch.chdir(tmp_path)
    option = "--" + name.replace("_", "-")
    assert main(["run", option, "x", "--", "true"]) == 2
    assert re.search(expected, capsys.readouterr().err)
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    assert option not in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, "logging: [1, 2", "logging: text", "- a list", "", "level: INFO"])
def test_a_file_that_cannot_be_used_is_told_by_name(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError, match=r"settings\.yaml"):
        load_config({"config": file}, {})


@pytest.mark.parametrize("content", ["capture_file: x", "logging: {level: INFO}\ncapture-exclude: /x"])
def test_a_setting_at_the_top_level_of_a_file_is_told(content: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(content if "logging" in content else "logging: {}\n" + content)
    with pytest.raises(ConfigurationError, match=r"capture[_-]\w+: at the top level .* expected it under 'logging:'"):
        load_config({"config": file}, {})


def test_a_dash_in_a_file_is_told_with_the_name_that_was_meant(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("logging: {capture-file: x}")
    with pytest.raises(ConfigurationError, match=r"capture-file: .*did you mean capture_file"):
        load_config({"config": file}, {})


def test_a_variable_that_is_no_setting_s_is_told_with_the_one_that_was_meant() -> None:
    environ = {"WIRE_CAPTURE_FLIE": "x", "WIRE_CAPTURE_FILE": "y", "WIRE_CAPTURE_CONFIG": "z", "OTHER": "1"}
    environ["WIRE_CAPTURE_PROXY_TOKEN"] = "t"  # no setting of a capture, and known all the same
    assert unknown_variables(environ) == ["WIRE_CAPTURE_FLIE: no such setting; did you mean WIRE_CAPTURE_FILE?"]


@pytest.mark.parametrize("name", REMOVED_SETTINGS)
def test_a_variable_of_an_earlier_version_that_is_empty_is_told_and_no_error(name: str) -> None:
    variable = environment_variable(name)
    load_config({}, {variable: ""})
    assert unknown_variables({variable: ""}) == [f"{variable}: no longer a setting; {REMOVED_SETTINGS[name]}"]
    assert unknown_variables({variable: "x"}) == []  # the error tells it


def test_a_home_directory_is_looked_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_config({"capture_file": "~/x.log"}, {}).capture_file == tmp_path / "x.log"


def test_literal_secrets_are_counted_and_never_shown() -> None:
    config = load_config({"capture_redact_values": ["first-secret", "second-secret"]}, {})
    assert config.public()["capture_redact_values"] == 2
    assert "first-secret" not in str(config.public())


@pytest.mark.parametrize("rest", ["short", None, ["nested-list"]])
def test_a_wrong_list_of_secrets_is_told_without_them(rest: object) -> None:
    secret = secrets.token_hex(12)
    with pytest.raises(ConfigurationError, match=r"capture_redact_values: .*8 characters or more") as told:
        load_config({"capture_redact_values": [secret, rest]}, {})
    assert secret not in str(told.value)


def test_a_number_can_be_a_secret() -> None:
    assert load_config({"capture_redact_values": [1234567890]}, {}).capture_redact_values == ("1234567890",)


def expressions_of(environ: dict[str, str]) -> list[str]:
    return [expression.pattern for expression in excluded_urls(environ)]


@pytest.mark.parametrize("variable", EXCLUDED_URLS_VARIABLES)
def test_the_commas_of_a_regular_expression_do_not_cut_it(variable: str) -> None:
    assert expressions_of({variable: "/v[0-9]{2,3}/, health,x{1,}"}) == ["/v[0-9]{2,3}/", "health", "x{1,}"]


def test_the_service_name_is_opentelemetrys() -> None:
    assert service_name({"OTEL_SERVICE_NAME": "gateway"}) == "gateway"
    assert service_name({"OTEL_RESOURCE_ATTRIBUTES": "a=b,service.name=gateway"}) == "gateway"
    assert service_name({}) is None


def test_instrument_raises_on_a_wrong_setting_and_captures_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="capture_max_files"):
        otel_wirecap.instrument(capture_file=tmp_path / "capture.log", capture_max_files="x")
    assert not (tmp_path / "capture.log").exists()


def test_what_opentelemetry_calls_raises_nothing_whatever_the_application_called_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"capture_file": tmp_path / "capture.log", "capture_max_files": "x"}
    with pytest.raises(ConfigurationError):
        otel_wirecap.instrument(**settings)
    AutoInstrumentor().instrument(skip_dep_check=True, **settings)
    assert "capture is off: capture_max_files" in caplog.text


def test_of_opentelemetrys_variables_for_urls_the_one_for_us_counts() -> None:
    general = {"OTEL_PYTHON_EXCLUDED_URLS": "general"}
    own = general | {"OTEL_PYTHON_WIRECAP_EXCLUDED_URLS": "own"}
    assert expressions_of({}) == []
    assert expressions_of(general) == ["general"]
    assert expressions_of(own) == ["own"]


@pytest.mark.parametrize("variable", EXCLUDED_URLS_VARIABLES)
def test_a_wrong_expression_in_opentelemetrys_variable_is_told_with_the_settings(variable: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"{variable}: '([' (in the environment) cannot be used")):
        load_config({}, {variable: "(["})


@pytest.mark.parametrize(
    ("word", "payloads"),
    [("NO_CONTENT", "off"), ("span_only", "events"), ("EVENT_ONLY", "logs"), ("SPAN_AND_EVENT", "both"),
     ("true", "off"), ("", "off")],
)  # fmt: skip
def test_payloads_fall_back_to_opentelemetrys_variable(word: str, payloads: str) -> None:
    environ = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": word}
    assert load_config({}, environ).capture_span_payloads == payloads
    assert load_config({}, environ | {"WIRE_CAPTURE_SPAN_PAYLOADS": "logs"}).capture_span_payloads == "logs"
    assert load_config({"capture_span_payloads": "off"}, environ).capture_span_payloads == "off"


def test_on_and_off_are_words_in_yaml_too(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("logging: {capture_span_payloads: off, capture_redaction: on}\n")
    config = load_config({"config": file}, {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY"})
    assert (config.capture_span_payloads, config.capture_redaction) == ("off", "on")


def test_collectors_get_no_payload_that_keeps_its_secrets() -> None:
    for settings in (
        {"capture_redaction": "headers-only"},
        {"capture_redaction": "off", "capture_allow_secrets": True},
    ):
        with pytest.raises(ConfigurationError, match="capture_span_payloads"):
            load_config(settings | {"capture_span_payloads": "logs"}, {})
        assert load_config(settings, {}).capture_span_payloads == "off"
