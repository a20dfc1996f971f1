"""Where the frameworks are: this interpreter, the one that $CEML_FRAMEWORKS names, or that of `make frameworks`."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT

ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith(("CEML_", "PYTHONWARN"))} | {
    "PYTHONPATH": str(ROOT),
    "KERAS_BACKEND": "torch",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


@cache
def _has(python: str, modules: tuple[str, ...]) -> bool:
    code = f"import sys; from importlib.util import find_spec; sys.exit(not all(map(find_spec, {modules!r})))"
    return subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0


def python_with(*modules: str) -> str:
    """An interpreter that has these modules; without one the test is skipped by name."""
    made = ROOT / ".venv-frameworks"
    ready = str(made / "bin" / "python") if (made / ".ready").exists() else None  # else it is just being made
    places = (sys.executable, os.environ.get("CEML_FRAMEWORKS"), ready)
    for python in places:
        if python and Path(python).exists() and _has(python, modules):
            return python
    pytest.skip(f"no {' and '.join(modules)} here: `make frameworks` installs it")


def run_with(*modules: str, words: list[object], **env: str) -> subprocess.CompletedProcess[str]:
    """Run a program by an interpreter that has these modules; it must end well."""
    command = [python_with(*modules), *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=ENVIRONMENT | env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done
