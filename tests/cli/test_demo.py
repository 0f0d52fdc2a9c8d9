from __future__ import annotations

import os
import secrets

import httpx2
import pytest

from otel_wirecap.cli import demo, main
from otel_wirecap.cli.demo_client import _rounds
from otel_wirecap.errors import WireCaptureError


def test_a_child_answers_as_long_as_it_is_needed_and_is_gone_afterwards():
    with demo._child("backend", ["otel_wirecap.proxy.demo_backend"]) as url:
        (step,) = [step for steps in _rounds() for step in steps if step.what == "a chat completion"]
        assert httpx2.post(url + step.path, json=step.body).json()["model"] == "demo-small"
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(url)


def test_a_child_that_does_not_come_up_is_told_with_its_own_words():
    child = demo._Child("backend", ["otel_wirecap.no_such_module"])
    with pytest.raises(WireCaptureError, match=r"the backend did not come up:\n.*no_such_module"):
        child.url()
    child.stop()


def test_children_get_neither_the_users_keys_nor_the_users_capture_settings(monkeypatch):
    key = secrets.token_hex(20)
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "GOOGLE_API_KEY"):
        monkeypatch.setenv(name, key)
    monkeypatch.setenv("WIRE_CAPTURE_FORMAT", "text")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    environ = demo._environment()
    assert key not in environ.values()
    assert environ["OPENAI_API_KEY"].startswith("demo-")
    assert not {"WIRE_CAPTURE_FORMAT", "OTEL_TRACES_EXPORTER"} & environ.keys()
    assert environ["PATH"] == os.environ["PATH"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--default-backend", "opnai"], "no known backend; expected one of: "),
        (["--backend", "local"], "expected NAME=URL"),
        (["--backend", "local=ftp://x"], "expected http://HOST"),
        (["--capture-max-files", "many"], "capture_max_files"),
    ],
)
def test_the_proxy_refuses_what_it_cannot_use_before_anything_starts(arguments, told, capsys):
    assert main(["proxy", *arguments]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("port", ["70000", "-1", "http"])
def test_the_proxy_refuses_a_port_that_is_none(port, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["proxy", f"--port={port}"])
    assert ended.value.code == 2
    assert "--port" in capsys.readouterr().err
