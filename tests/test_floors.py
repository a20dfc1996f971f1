"""The floors hold: who may lean on whom, and what may be said where.

Not covered here: that the client needs nothing but the standard library at run time (tests/apps/test_client.py).
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SOURCES = sorted((ROOT / "ceml").rglob("*.py"))
IN_THE_USERS_PROCESS = [
    ROOT / "ceml" / name for name in ("__init__.py", "apps/__init__.py", "apps/wire.py", "apps/client.py")
]


def test_nobody_leans_on_the_floor_above_or_the_neighbour() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([str(linter), "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", IN_THE_USERS_PROCESS, ids=lambda path: path.name)
def test_what_runs_in_the_users_process_is_python_3_6(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 6))
    futures = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module == "__future__"]
    assert not futures  # 3.6 does not know `annotations`


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_says_what_it_is_for(path: Path) -> None:
    if path.name != "__main__.py":
        assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


def test_the_daemon_never_imports_heavy_science() -> None:
    code = (
        "import sys, ceml.runtime, ceml.commands.serve, ceml.telemetry.progress\n"
        "import ceml.platforms.simulated, ceml.platforms.replay\n"
        "import ceml.platforms.jetson, ceml.platforms.linux, ceml.platforms.bandwidth, ceml.platforms.nvml\n"
        "heavy = {'scipy', 'sklearn', 'pandas', 'pydantic_settings', 'pynvml', 'ceml.testing', 'ceml.screens',\n"
        "         'starlette', 'uvicorn', 'textual', 'prometheus_client', 'opentelemetry', 'http.server'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
