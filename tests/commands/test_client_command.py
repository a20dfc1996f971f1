"""`ceml client`: what it prints stands alone. Not covered: what the clients do (tests/apps)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ceml.cli import main
from ceml.commands.client import CLIENTS
from tests.apps.listening import Listener

APPS = Path(__file__).parents[2] / "ceml" / "apps"


@pytest.mark.parametrize("language", CLIENTS)
def test_it_prints_the_file_as_it_is(language: str, capsys: pytest.CaptureFixture[str]):
    assert main(["client", language]) == 0
    assert capsys.readouterr().out == (APPS / CLIENTS[language][0]).read_text()


def test_the_python_client_runs_beside_a_program_without_ceml(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    main(["client", "python"])
    (tmp_path / "heartbeats.py").write_text(capsys.readouterr().out)
    listener = Listener(tmp_path / "beats")
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import heartbeats\n"
        f"with heartbeats.attach('alone', pipe={str(listener.path)!r}) as hb: hb.beat()\n"
        "sys.exit('ceml' in sys.modules)"
    )
    subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True)
    assert (listener.work("alone"), listener.leaves()) == (1, 1)
    listener.close()


def test_another_language_is_named_with_what_there_is(capsys: pytest.CaptureFixture[str]):
    assert main(["client", "rust"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "rust" in line
    assert all(language in line for language in CLIENTS)
