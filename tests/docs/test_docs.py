"""What the documentation shows works: every block of code is run or read, every link leads somewhere.

An HTML comment before each block says how it is checked:

- ``file NAME``: written into the page's directory (Python is compiled, YAML is read as settings);
- ``run``, ``run, exit code N``: run by bash in that directory, with our commands on the path, a fake backend
  behind the vendors' SDKs and made-up keys;
- ``run after set-up``: the same, for the last command of a chain that installs first;
- ``serve``: started, and running until the page is done (proxies get the fake backend added as an option);
- ``jq``, ``jq may be empty``: run on the capture that the page has made, else on the demo's;
- ``record``: JSON, a record;
- ``shown: REASON``: neither; bash is parsed all the same.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from records import read_records
from selection import mostly

import otel_wirecap
import otel_wirecap.reading
from otel_wirecap.capture.record import METADATA_KEYS
from otel_wirecap.config import SETTINGS, load_config
from otel_wirecap.environment import environment_variable
from otel_wirecap.llm.dialects.registry import OURS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
BIN = Path(sys.executable).parent
CAPTURE = "logs/wire_capture.log"
SECONDS = 120
FLUSH_SECONDS = 60.0
PROVIDERS = ("openai", "anthropic", "gemini")
BLOCK = re.compile(
    r"(?:<!-- (?P<how>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")


class Block(NamedTuple):
    how: str
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    return [
        Block(found["how"] or "", found["language"], found["text"])
        for found in BLOCK.finditer(page.read_text(encoding="utf-8"))
    ]


def environ() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WIRE_CAPTURE_", "OTEL_"))}
    keys = {f"{name.upper()}_API_KEY": "made-up-" + secrets.token_hex(16) for name in PROVIDERS}
    return kept | keys | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}


@contextlib.contextmanager
def running(command: list[str], cwd: Path, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    pytest.fail(f"nothing answers on port {port}")


@pytest.fixture(scope="module")
def backend(tmp_path_factory) -> Iterator[str]:
    """The URL of a demo backend."""
    directory, port = tmp_path_factory.mktemp("backend"), free_port()
    with running(
        [sys.executable, "-m", "otel_wirecap.proxy.demo_backend", "--port", str(port)], directory, environ()
    ) as process:
        wait_for(port, process)
        yield f"http://127.0.0.1:{port}"


class Sandbox:
    """A directory in which a page's blocks are run in their order."""

    def __init__(self, directory: Path, backend: str, demo_capture: Path, stack: contextlib.ExitStack) -> None:
        self._directory = directory
        self._backend = backend
        self._demo_capture = demo_capture
        self._stack = stack
        self._ports = {port: str(free_port()) for port in ("4000", "4001", "4002")}
        self._environ = environ() | {"OPENAI_BASE_URL": f"{backend}/v1", "ANTHROPIC_BASE_URL": backend}

    def check(self, block: Block) -> None:
        text = re.sub(r"\b400[012]\b", lambda found: self._ports[found[0]], block.text)
        how, _, detail = block.how.partition(" ")
        if block.how.startswith("shown: "):
            if block.language == "bash":
                subprocess.run(["bash", "-n", "-c", text], check=True)
        elif how == "file":
            self._write(detail, block.language, text)
        elif block.how in {"run", "run after set-up"} or block.how.startswith("run, exit code "):
            if block.how == "run after set-up":
                text = text.rpartition("&& ")[2].replace(".venv/bin/", "")
            done = self._bash(text)
            assert done.returncode == int(block.how.partition("exit code ")[2] or 0), done.stderr
        elif block.how == "serve":
            self._serve(text)
        elif block.how in {"jq", "jq may be empty"}:
            self._jq(text, may_be_empty=block.how != "jq")
        elif block.how == "record":
            record = json.loads(text)
            assert list(record) == list(next(read_records(self._demo_capture)))
        else:
            pytest.fail(f"nothing says how this block is checked: {block}")

    def _write(self, name: str, language: str, text: str) -> None:
        path = self._directory / name
        path.write_text(text, encoding="utf-8")
        if language == "python":
            compile(text, name, "exec")
        else:
            assert language == "yaml"
            assert load_config({"config": str(path)}, {}).capture_file is not None

    def _bash(self, text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euc", text], cwd=self._directory, env=self._environ, capture_output=True, text=True,
            timeout=SECONDS,
        )  # fmt: skip

    def _serve(self, text: str) -> None:
        command = text.replace("\\\n", " ").strip()
        if command.startswith("otel-wirecap proxy"):
            if "--default-backend" not in command:  # there are more backends now than the page shows
                shown = re.findall(r"--backend (\w+)=", command) or ["openai"]
                assert len(shown) == 1, "the page's paths outside /to/ lead nowhere"
                command += f" --default-backend {shown[0]}"
            command += "".join(f" --backend {name}={self._backend}" for name in PROVIDERS)
        process = self._stack.enter_context(running(["bash", "-c", f"exec {command}"], self._directory, self._environ))
        wait_for(int(re.search(r"--port (\d+)", command)[1]), process)

    def _jq(self, text: str, *, may_be_empty: bool) -> None:
        capture = self._directory / CAPTURE
        if not capture.exists():
            capture.parent.mkdir(exist_ok=True)
            shutil.copy(self._demo_capture, capture)
        deadline = time.monotonic() + FLUSH_SECONDS
        done = self._bash(text)
        while not (done.stdout or may_be_empty) and time.monotonic() < deadline:  # a running server writes in its time
            time.sleep(0.2)
            done = self._bash(text)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert done.stdout or may_be_empty, f"no answer to {text}"


@pytest.mark.parametrize(
    "page", mostly(pytest.mark.docs, PAGES, ROOT / "README.md"), ids=lambda page: str(page.relative_to(ROOT))
)
def test_what_a_page_shows_works(page, tmp_path, backend, demo_capture):
    missing = set()
    with contextlib.ExitStack() as stack:
        sandbox = Sandbox(tmp_path, backend, demo_capture, stack)
        for block in blocks(page):
            lacks = {
                tool for tool in ("jq", "curl", "pkill") if f"{tool} -" in block.text and shutil.which(tool) is None
            }
            missing |= lacks
            if not lacks:
                sandbox.check(block)
    if missing:
        pytest.skip(f"some blocks need programs that are not here: {', '.join(sorted(missing))}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for link in LINK.finditer(text):
        target = link["target"].partition("#")[0]
        if target and "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {link['target']}"


def test_every_page_can_be_reached_from_the_front_page():
    front = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    reached = {(ROOT / "docs" / link["target"]).resolve() for link in LINK.finditer(front)}
    assert set((ROOT / "docs").rglob("*.md")) - {ROOT / "docs" / "index.md"} <= reached


@pytest.mark.docs
def test_the_commands_below_recipes_of_jq_answer_the_same(tmp_path, demo_capture):
    if shutil.which("jq") is None:
        pytest.skip("jq is not here")
    page = blocks(ROOT / "docs" / "how-to" / "read-a-capture-with-jq.md")
    pairs = [
        (recipe.text, command.text)
        for recipe, command in itertools.pairwise(page)
        if recipe.how.startswith("jq") and command.text.startswith("otel-wirecap sql")
    ]
    assert len(pairs) >= 6
    (tmp_path / CAPTURE).parent.mkdir()
    shutil.copy(demo_capture, tmp_path / CAPTURE)
    for texts in pairs:
        recipe, command = (
            subprocess.run(
                ["bash", "-euc", text], cwd=tmp_path, env=environ(), capture_output=True, text=True, check=True,
                timeout=SECONDS,
            ).stdout.splitlines()
            for text in texts
        )  # fmt: skip
        assert recipe, texts[0]
        assert sorted(line.split() for line in command[1:]) == sorted(line.split() for line in recipe), texts[1]


def rows(page: Path) -> list[list[str]]:
    lines = page.read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| `")]


def test_every_setting_is_documented_with_its_names_and_default():
    page = ROOT / "docs" / "reference" / "configuration.md"
    documented = {row[0]: row[1:4] for row in rows(page)}
    defaults = load_config({}, {})
    expected = {}
    for field in SETTINGS.values():
        value = getattr(defaults, field.name)
        if isinstance(value, bool):
            shown = str(value).lower()
        elif field.name == "capture_session_headers":
            shown = "see below"
            assert ",".join(f"`{name}`" for name in value) in re.sub(r",\s+", ",", page.read_text(encoding="utf-8"))
        elif isinstance(value, tuple) and value:
            shown = ",".join(value)
        elif isinstance(value, str):
            shown = f"`{value}`"
        else:
            shown = str(value) if value else "none"
        option = "--" + field.name.replace("_", "-")
        expected[f"`{field.name}`"] = [f"`{environment_variable(field.name)}`", f"`{option}`", shown]
    assert documented == expected


def test_every_field_direction_and_metadata_key_of_a_real_capture_is_documented(demo_capture):
    text = (ROOT / "docs" / "reference" / "schema.md").read_text(encoding="utf-8")
    documented = {
        name for row in rows(ROOT / "docs" / "reference" / "schema.md") for name in re.findall(r"`(\w+)`", row[0])
    }
    assert documented >= METADATA_KEYS
    for record in read_records(demo_capture):
        assert record["direction"] in documented
        assert set(record) | set(record["metadata"]) <= documented
    for outcome in ("complete", "closed", "client_disconnect", "cancelled", "error", "abandoned"):
        assert f"`{outcome}`" in text


def test_every_public_name_is_documented():
    text = (ROOT / "docs" / "reference" / "python-api.md").read_text(encoding="utf-8")
    for name in set(otel_wirecap.__all__) - {"__version__"}:
        assert re.search(rf"`{name}\b", text), name


READING = ROOT / "docs" / "reference" / "reading-api.md"


def test_every_name_that_reads_captures_is_documented_and_what_is_documented_is_there():
    text = READING.read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## `(\w+)[^\n]*`\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert set(sections) == set(otel_wirecap.reading.__all__)
    for name, section in sections.items():
        for row in re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE):
            for member in re.findall(r"`(\w+)", row):
                kind = getattr(otel_wirecap.reading, name)
                assert hasattr(kind, member) or f"self.{member} = " in inspect.getsource(kind), f"{name}.{member}"


@pytest.mark.docs
def test_what_is_shown_of_reading_captures_passes_a_strict_type_check(tmp_path):
    names = []
    for block in blocks(READING):
        if block.language == "python":
            names.append(block.how.removeprefix("file "))
            (tmp_path / names[-1]).write_text(block.text, encoding="utf-8")
    assert len(names) >= 6
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", *names]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_format_is_named():
    listed = (ROOT / "docs" / "how-to" / "add-a-format.md").read_text(encoding="utf-8").partition("\n\nA format")[0]
    for dialect in OURS:
        words = dialect.name.removesuffix("-v1").removesuffix("-models").split("-")
        missing = [word for word in words if word not in listed.lower()]
        assert not missing, f"docs/how-to/add-a-format.md does not name {dialect.name} at its top"


def test_every_command_is_documented():
    told = subprocess.run([sys.executable, "-m", "otel_wirecap", "--help"], capture_output=True, text=True, check=True)
    commands = re.findall(r"^    (\w+)  ", told.stdout, re.MULTILINE)
    text = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
    assert {"run", "proxy", "demo", "scan"} <= set(commands)
    for command in commands:
        assert f"## `otel-wirecap {command} " in text
        assert f"\notel-wirecap {command} --help\n" in text
