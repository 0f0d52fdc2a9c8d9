"""The package is built as docs/architecture.md describes."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def python(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_imports_go_in_the_directions_that_are_laid_down():
    program = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout
    assert "Contracts: 6 kept, 0 broken." in done.stdout


PACKAGES = sorted(path.parent.name for path in (ROOT / "otel_wirecap").glob("*/__init__.py"))

MAX_CLASS_LINES = 350


def classes() -> list[tuple[str, str, int]]:
    """Module, name and number of lines of every class."""
    return [
        (str(path.relative_to(ROOT)), node.name, (node.end_lineno or 0) - node.lineno + 1)
        for path in sorted((ROOT / "otel_wirecap").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    ]


def test_no_class_is_longer_than_one_can_read():
    assert [found for found in classes() if found[2] > MAX_CLASS_LINES] == []


def test_a_class_name_means_one_thing():
    modules: dict[str, list[str]] = {}
    for module, name, _ in classes():
        modules.setdefault(name, []).append(module)
    assert {name: found for name, found in modules.items() if len(found) > 1} == {}


def test_the_pure_packages_read_no_clock():
    # A clock can also be read through datetime, which is there for its arithmetic.
    for package in ("capture", "llm", "frames"):
        for module in (ROOT / "otel_wirecap" / package).rglob("*.py"):
            assert not re.search(r"\b(now|utcnow|today)\(", module.read_text(encoding="utf-8")), module


def test_starting_a_capture_imports_no_library_that_the_application_has_not_imported(tmp_path):
    program = f"""
import sys, otel_wirecap
from otel_wirecap.instrumentation.runtime import active
otel_wirecap.instrument(capture_file={str(tmp_path / "capture.log")!r})
assert active() is not None
from otel_wirecap.client_libraries import CLIENT_LIBRARIES
libraries = {{library.name for library in CLIENT_LIBRARIES}}
print(sorted((libraries | {{"fastapi", "starlette", "uvicorn"}}) & set(sys.modules)))
"""
    assert python(program) == "[]\n"


def test_the_architecture_names_every_package():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert len(PACKAGES) > 6
    for package in PACKAGES:
        assert f"\n  {package}/ " in text, package


def test_the_documentation_names_only_modules_that_are_there():
    modules = {str(path.relative_to(ROOT)) for part in ("otel_wirecap", "tests", "benchmarks", ".ci")
               for path in (ROOT / part).rglob("*.py")}  # fmt: skip
    pages = [ROOT / "docs" / "architecture.md", ROOT / "CONTRIBUTING.md"]
    named = {name for page in pages for name in re.findall(r"`([\w./]+\.py)`", page.read_text(encoding="utf-8"))}
    assert len(named) > 60
    assert {name for name in named if not any(f"/{module}".endswith(f"/{name}") for module in modules)} == set()


REPLACED = {
    "_queue": r".*",
    "_socket": r".*",
    "_thread": r".*",
    "concurrent.futures": r".*",
    "multiprocessing": r".*",
    "os": r"fork.*|posix_spawn.*|popen|spawn.*|system|wait.*(?<!waitstatus_to_exitcode)",
    "queue": r".*",
    "select": r"[a-z]+",
    "selectors": r".*",
    "socket": r"(?!gethostname$)[a-z_]+",
    "subprocess": r".*",
    "threading": r".*",
    "time": r"sleep",
}
"""Modules whose names of these patterns gevent replaces, or which are made of such names."""

RUN_APART = {"in_writer_process.py", "writer_process_start.py"}
"""What no application's process runs."""


def in_applications() -> Iterator[Path]:
    package = ROOT / "otel_wirecap"
    yield from (module for module in package.glob("*.py") if module.name != "native.py")
    for name in ("instrumentation", "storage", "tracing"):
        yield from (module for module in (package / name).rglob("*.py") if module.name not in RUN_APART)


def replaced_names(source: str) -> list[str]:
    """The names in a module that gevent may have replaced; those of annotations are never looked up."""
    found = []

    def look(node: ast.AST) -> None:
        names: list[tuple[str, str]] = []
        match node:
            case ast.ImportFrom(module=str(module), names=imported):
                names = [(module, alias.name) for alias in imported]
            case ast.Attribute(value=ast.Name(id=module), attr=name):
                names = [(module, name)]
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                return
        found.extend(f"{m}.{n}" for m, n in names if m in REPLACED and re.fullmatch(REPLACED[m], n))
        for field, value in ast.iter_fields(node):
            if field not in {"annotation", "returns"}:
                for child in value if isinstance(value, list) else [value]:
                    if isinstance(child, ast.AST):
                        look(child)

    look(ast.parse(source))
    return found


def test_what_an_application_runs_of_ours_is_made_of_nothing_that_gevent_replaces():
    looked_at = 0
    for module in in_applications():
        looked_at += 1
        found = replaced_names(module.read_text(encoding="utf-8"))
        assert not found, f"{module.relative_to(ROOT)}: {found}: take them from otel_wirecap.native"
    assert looked_at > 40


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import threading\nlock = threading.Lock()", ["threading.Lock"]),
        ("def wait():\n    import time\n    time.sleep(1)", ["time.sleep"]),
        ("from queue import SimpleQueue", ["queue.SimpleQueue"]),
        ("import socket\nclass Own(socket.socket): ...", ["socket.socket"]),
        (
            "import socket\ndef use(it: socket.socket) -> socket.socket: print(socket.SHUT_RDWR, socket.gethostname())",
            [],
        ),
        ("import os, time\nos.waitpid(time.monotonic())", ["os.waitpid"]),
        ("import os\nos.waitstatus_to_exitcode(0)", []),
        ("if TYPE_CHECKING:\n    from threading import Lock", []),
    ],
)
def test_that_is_found(source: str, found: list[str]) -> None:
    assert replaced_names(source) == found
