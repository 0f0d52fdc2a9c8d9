"""Spans arrive in Arize Phoenix, which nobody here wrote, and are there what they were here.

Phoenix is large: ``PHOENIX_PYTHON`` names an interpreter that has the package arize-phoenix.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from collected_gateway import CONTRIB, Planted, ask_with_sdks, assert_whole, collected_gateway, environ, records_of
from otlp_collectors import GRPC, HTTP
from redaction_backend import Backend, Words

PHOENIX_PYTHON = os.environ.get("PHOENIX_PYTHON")
SECONDS = 90

pytestmark = [
    pytest.mark.skipif(PHOENIX_PYTHON is None, reason="PHOENIX_PYTHON names no interpreter that has Phoenix"),
    pytest.mark.telemetry,
]


class Phoenix(NamedTuple):
    """The running server: its address, and where it takes OTLP."""

    url: str
    endpoints: dict[str, str]

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return json.load(answer)

    def spans(self, project: str, count: int) -> list[dict[str, Any]]:
        """The spans of ours in a project, as soon as there are so many; what there is after a while."""
        found: list[dict[str, Any]] = []
        deadline = time.monotonic() + SECONDS
        while len(found) < count and time.monotonic() < deadline:
            try:
                told = self.get(f"/v1/projects/{project}/spans?limit=1000")["data"]
            except urllib.error.HTTPError as refused:  # the project is made with its first span
                if refused.code != 404:
                    raise
                told = []
            found = [span for span in told if "wirecap.leg" in span["attributes"]]
            if len(found) < count:
                time.sleep(0.2)
        return found


@pytest.fixture(scope="module")
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phoenix]:
    folder = tmp_path_factory.mktemp("phoenix")
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        port, grpc_port = one.getsockname()[1], other.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PHOENIX_", "PYTHON"))}
    env = kept | {
        "PHOENIX_WORKING_DIR": str(folder), "PHOENIX_HOST": "127.0.0.1", "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(grpc_port), "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false", "PHOENIX_DISABLE_AGENT_ASSISTANT": "true",
    }  # fmt: skip
    assert PHOENIX_PYTHON is not None
    with (folder / "log").open("wb") as log:
        command = [PHOENIX_PYTHON, "-m", "phoenix.server.main", "serve"]
        process = subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log)
    try:
        found = Phoenix(
            f"http://127.0.0.1:{port}", {HTTP: f"http://127.0.0.1:{port}", GRPC: f"http://127.0.0.1:{grpc_port}"}
        )
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                found.get("/v1/projects")
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.2)
        yield found
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize(("protocol", "wanted"), [(GRPC, "off"), (HTTP, "events")])
def test_a_captured_flow_arrives_linked_and_with_its_attributes(
    protocol: str, wanted: str, phoenix: Phoenix, capture_file: Path
) -> None:
    planted = Planted.make()
    backend = Backend(Words("Let me see.", f"The other one is {planted.answer}.", json.dumps({"city": "Paris"})))
    try:
        env = environ(
            capture_file,
            OTEL_EXPORTER_OTLP_ENDPOINT=phoenix.endpoints[protocol],
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_METRICS_EXPORTER="none",
            OTEL_LOGS_EXPORTER="none",
            OTEL_RESOURCE_ATTRIBUTES=f"openinference.project.name={wanted}",
            OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=CONTRIB,
            WIRE_CAPTURE_SPAN_PAYLOADS=wanted,
        )
        with collected_gateway(backend.url, env) as gateway:
            ask_with_sdks(gateway.url, planted)
    finally:
        backend.close()
    assert gateway.done.stderr == ""
    records = records_of(capture_file)
    assert_whole(records)
    spans = phoenix.spans(wanted, 8)

    of_records = {record["metadata"]["span_id"]: record for record in records[1:-1]}
    assert {span["context"]["span_id"] for span in spans} == of_records.keys()
    assert len(spans) == 8
    all_spans = phoenix.get(f"/v1/projects/{wanted}/spans?limit=1000")["data"]  # FastAPI's own among them
    by_id = {span["context"]["span_id"]: span for span in all_spans}
    for span in spans:
        record, attributes = of_records[span["context"]["span_id"]], span["attributes"]
        assert span["context"]["trace_id"] == record["metadata"]["trace_id"]
        told = {
            "wirecap.leg": record["metadata"]["leg"], "wirecap.request_id": record["metadata"]["request_id"],
            "wirecap.exchange_id": record["metadata"]["exchange_id"], "wirecap.session_id": record["session_id"],
            "wirecap.outcome": "complete", "http.request.method": "POST", "http.response.status_code": 200,
            "gen_ai.request.model": "m-1", "gen_ai.response.model": "m-2",
            "gen_ai.conversation.id": record["session_id"],
        }  # fmt: skip
        assert {name: attributes.get(name) for name in told} == told
        assert span["status_code"] == "UNSET"
        if record["metadata"]["leg"] == "client":
            assert span["name"] == "POST /v1/{operation}"
            assert span["parent_id"] is None
            continue
        assert span["name"] == "chat m-1"
        assert attributes["gen_ai.operation.name"] == "chat"
        assert attributes["gen_ai.response.finish_reasons"] in (["tool_calls"], ["tool_use"])
        above = by_id[span["parent_id"]]
        while "wirecap.leg" not in above["attributes"]:
            above = by_id[above["parent_id"]]
        assert above["attributes"]["wirecap.request_id"] == attributes["wirecap.request_id"]
        assert above["attributes"]["wirecap.leg"] == "client"

    documents = [event["attributes"]["wirecap.record"] for span in spans for event in span["events"]]
    if wanted == "off":
        assert documents == []
    else:
        found = sorted((json.loads(document) for document in documents), key=lambda told: told["metadata"]["seq"])
        assert found == records[1:-1]
    everything = json.dumps(all_spans)
    assert ("The other one is" in everything) is (wanted != "off")
    for secret in planted:
        assert secret not in everything
