"""The house is built as docs/architecture.md says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def python(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_imports_go_in_the_directions_that_are_laid_down():
    program = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout
    assert "Contracts: 4 kept, 0 broken." in done.stdout


def test_the_pure_packages_read_no_clock():
    # A clock can also be read through datetime, which is there for its arithmetic.
    for package in ("capture", "llm"):
        for module in (ROOT / "otel_wirecap" / package).rglob("*.py"):
            assert not re.search(r"\b(now|utcnow|today)\(", module.read_text(encoding="utf-8")), module


def test_starting_a_capture_imports_no_library_that_the_application_has_not_imported(tmp_path):
    program = f"""
import sys, otel_wirecap
from otel_wirecap.instrumentation.runtime import active
otel_wirecap.instrument(capture_file={str(tmp_path / "capture.log")!r})
assert active() is not None
print(sorted({{"aiohttp", "fastapi", "httpx", "httpx2", "starlette", "uvicorn"}} & set(sys.modules)))
"""
    assert python(program) == "[]\n"


def test_the_architecture_names_every_package():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    packages = [path.parent.name for path in (ROOT / "otel_wirecap").glob("*/__init__.py")]
    assert len(packages) > 6
    for package in packages:
        assert f"\n  {package}/ " in text, package
