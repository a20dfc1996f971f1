"""The command line's frame: verbs, exit statuses, clean messages. Not covered: what each verb does (tests/commands)."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ceml import __version__, cli
from ceml.errors import CemlError, SettingsError, Unavailable

CEML = [sys.executable, "-W", "error", "-m", "ceml"]


def ceml(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CEML, *words], capture_output=True, text=True, timeout=60, **options)  # type: ignore[call-overload]


def test_help_names_every_verb_and_gives_examples(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"    {verb} " in out for verb in cli.VERBS)
    assert "examples:" in out


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]):
    assert cli.main([verb, "--help"]) == 0
    assert f"usage: ceml {verb}" in capsys.readouterr().out


def test_every_heading_of_help_has_verbs_that_stand_nowhere_else():
    named = [verb for verbs in cli.GROUPS.values() for verb in verbs]
    assert len(named) == len(set(named))
    assert set(cli.VERBS) <= set(named)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_no_page_of_help_has_a_paragraph_without_end(verb: str, capsys: pytest.CaptureFixture[str]):
    cli.main([verb, "--help"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 125


@pytest.mark.parametrize("words", [["-3W"], ["-.5W", "--timeout-s", "1"], ["--clear", "-3"], ["--perf", "-2/s"]])
def test_a_word_that_begins_with_a_dash_and_a_number_is_no_flag(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert cli.main(["budget", *words, "--runtime-dir", str(tmp_path)]) == 2
    assert "no server" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "page"),
    [
        (["config", "show", "--nosuch"], "ceml config show --help"),
        (["serve", "--nosuch"], "ceml serve --help"),
        (["knowledge", "list", "--nosuch"], "ceml knowledge list --help"),
        (["--nosuch"], "ceml --help"),
    ],
)
def test_a_flag_that_is_not_there_points_to_the_page_of_its_verb(
    words: list[str], page: str, capsys: pytest.CaptureFixture[str]
):
    assert cli.main(words) == 2
    assert capsys.readouterr().err == f"ceml: unrecognized arguments: --nosuch (usage: {page})\n"


def test_version(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"ceml {__version__}\n"


@pytest.mark.parametrize("words", [[], ["nonsense"], ["config"], ["serve", "--nonsense"], ["--nonsense"]])
def test_what_is_no_command_exits_2_with_usage(words: list[str], capsys: pytest.CaptureFixture[str]):
    assert cli.main(words) == 2
    assert "usage: ceml" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--budget", "-3W"], ["--budget=-3W"], ["--seed", "-3"], ["--speed", "-.5"]])
def test_a_value_that_begins_with_a_dash_is_a_value(words: list[str], capsys: pytest.CaptureFixture[str]):
    assert cli.main(["config", "show", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    name = words[0].partition("=")[0].removeprefix("--")
    assert line.startswith(f"ceml: {name} = '-")
    assert "(from flag)" in line


def test_no_number_is_one_line(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["app", "--workload", "vit", "--steps", "1e6"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "ceml: --steps = '1e6': must be a whole number (usage: ceml app --help)"


def test_a_wrong_setting_is_a_clean_line_and_exit_2():
    ended = ceml("config", "show", "--budget", "8V", "--seed", "x")
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 2
    assert all(line.startswith("ceml: ") for line in ended.stderr.splitlines())


@pytest.mark.parametrize("words", [["--help"], ["config", "show"], ["restore", "--help"], ["serve", "--help"]])
def test_help_settings_and_restore_load_no_numpy(words: list[str]):
    code = f"import sys; from ceml.cli import main; main({words!r}); sys.exit(3 if 'numpy' in sys.modules else 0)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 0


def test_top_level_help_loads_no_pydantic():
    code = "import sys; from ceml.cli import main; main(['--help']); sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60).returncode == 0


def test_one_blas_thread_before_numpy_loads(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    cli.main(["--version"])
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"


def verb_that_raises(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    def raising(argv: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "_run", raising)
    return cli.main([])


def test_errors_for_people_are_lines_and_exit_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert verb_that_raises(monkeypatch, Unavailable("no /dev/x: plug it in\nor do without")) == 2
    assert capsys.readouterr().err == "ceml: no /dev/x: plug it in\nceml: or do without\n"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="groups of errors come from a package there")
def test_several_errors_are_all_said_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    group = BaseExceptionGroup  # noqa: F821
    tree = group("", [SettingsError("a"), group("", [CemlError("b"), SettingsError("a")])])
    assert verb_that_raises(monkeypatch, tree) == 2
    assert capsys.readouterr().err == "ceml: a\nceml: b\n"
    assert verb_that_raises(monkeypatch, group("", [KeyboardInterrupt()])) == 130


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ZeroDivisionError):
        verb_that_raises(monkeypatch, ZeroDivisionError())


def test_ctrl_c_exits_130(tmp_path: Path):
    record = tmp_path / "run.jsonl"
    words = ["replay", "jetson-tx2", "--workload", "vit", "--steps", "300000", "--record", str(record)]
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "ceml", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            while process.poll() is None and not (record.exists() and b"configuration_applied" in record.read_bytes()):
                time.sleep(0.02)  # not before the run is under way
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()  # nobody waits for a run that did not hear
    assert (process.returncode, err) == (130, "")


def test_a_loop_that_was_cancelled_is_an_interruption(monkeypatch: pytest.MonkeyPatch):
    assert verb_that_raises(monkeypatch, asyncio.CancelledError()) == 130
    assert verb_that_raises(monkeypatch, KeyboardInterrupt()) == 130


def test_a_reader_that_leaves_is_no_error():
    script = f"{sys.executable} -m ceml config show | true; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert ended.stdout.strip() in ("141", "0")
    assert ended.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_under_the_output_is_a_message(unbuffered: str):
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [*CEML, "config", "show"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    assert ended.returncode == 2
    assert ended.stderr == "ceml: cannot write the output: No space left on device\n"


def test_what_a_plugin_of_a_file_raises_is_said_with_its_place_and_without_a_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from ceml.domain.response.paper import paper\n"
        "class Mine:\n"
        "  def fit(self, space, observations, **options):\n"
        "    fit = paper().fit(space, observations, **options)\n"
        "    if observations:\n"
        "      space.states[:] = 0\n"
        "    return fit\n"
        "def mine():\n  return Mine()\n"
    )
    words = ["replay", "jetson-tx2", "--workload", "vit", "--steps", "100", "--model", f"{plugin}:mine"]
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert f"{plugin} line 6 raised ValueError" in said
    assert "Traceback" not in said
