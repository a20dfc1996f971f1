"""`ceml plugin new|check`: what is written works as it stands. Not covered: what is asked (tests/testing)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ceml.cli import main
from ceml.commands import plugin
from ceml.plugins import KINDS
from ceml.testing import promises
from tests.conftest import ROOT

CEML = [sys.executable, "-m", "ceml"]


def board(folder: Path) -> str:
    """What the platform's skeleton turns and reads: plain files."""
    for name, text in (("levels_hz", "300000000 600000000 900000000"), ("gpu_hz", "600000000"), ("power_mw", "5250")):
        (folder / name).write_text(text + "\n")
    return f":root={folder},sensor_period_s=0.01"


@pytest.mark.parametrize("kind", KINDS.values())
def test_a_new_plugin_works_as_it_stands_with_its_test(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["plugin", "new", kind, "my_own", "--to", str(tmp_path / "deep")]) == 0
    folder = tmp_path / "deep" / "my_own"
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "ceml_my_own.py",
        "pyproject.toml",
        "test_ceml_my_own.py",
    ]
    assert "$" not in "".join(path.read_text() for path in folder.iterdir())
    reference = f"{folder / 'ceml_my_own.py'}:my_own" + (board(tmp_path) if kind == "platform" else "")
    capsys.readouterr()
    assert main(["plugin", "check", reference]) == 0
    assert capsys.readouterr().out.startswith(f"{kind} {reference} keeps its promises")


def test_the_tests_of_new_plugins_pass_and_their_style_is_good(tmp_path: Path):
    for kind in KINDS.values():
        assert main(["plugin", "new", kind, f"my_{kind}", "--to", str(tmp_path)]) == 0
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", str(tmp_path)]
    done = subprocess.run(tests, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "6 passed" in done.stdout
    ruff = [str(Path(sys.executable).with_name("ruff")), "check", "--isolated", "--no-cache", "--line-length", "120"]
    rules = ["--select", "E,F,B,UP", "--ignore", "B905"]
    done = subprocess.run([*ruff, *rules, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_installed_it_is_known_by_its_name_and_used_like_ours(tmp_path: Path):
    assert main(["plugin", "new", "objective", "my_metric", "--to", str(tmp_path)]) == 0
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*pip, "--disable-pip-version-check", "--target", str(site), str(tmp_path / "my_metric")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    env = os.environ | {"PYTHONPATH": str(site)}

    def ceml(*words: str) -> str:
        return subprocess.run([*CEML, *words], env=env, capture_output=True, text=True, check=True).stdout

    assert "[ceml-my-metric]" in next(
        line for line in ceml("plugins", "objectives").splitlines() if "my_metric" in line
    )
    assert "keeps its promises" in ceml("plugin", "check", "my_metric")
    words = [
        "replay",
        "jetson-tx2",
        "--workload",
        "vit",
        "--steps",
        "400",
        "--objective",
        "my_metric:weight=1",
        "--json",
    ]
    assert json.loads(ceml(*words))["objective"] == "my_metric:weight=1"


@pytest.mark.parametrize(
    ("kind", "flags"), [("model", ["--sampler", "paper"]), ("search", []), ("sampler", []), ("detector", [])]
)
def test_a_new_decider_runs_a_whole_replay(
    kind: str, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["plugin", "new", kind, "mine", "--to", str(tmp_path)]) == 0
    capsys.readouterr()
    plugin = f"{tmp_path / 'mine' / 'ceml_mine.py'}:mine"
    assert (
        main(["replay", "jetson-tx2", "--workload", "vit", "--steps", "800", f"--{kind}", plugin, *flags, "--json"])
        == 0
    )
    played = json.loads(capsys.readouterr().out)
    assert played["chosen"]
    assert played["regret"] < 0.5


@pytest.mark.parametrize("name", ["", "My", "my-metric", "1st", "a" * 42, "../up", "a b", "größe", "a__b", "a_"])
def test_a_name_that_is_none_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["plugin", "new", "objective", name, "--to", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "such as my_metric" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "name", "reason"),
    [
        ("objective", "class", "keyword of Python"),
        ("objective", "match", "keyword of Python"),
        ("search", "print", "Python itself"),
        ("objective", "np", "imports something of that name"),
        ("model", "prediction", "imports something of that name"),
        ("objective", "energy", "ceml-runtime has installed a plugin of that kind and name"),
        ("platform", "jetson", "ceml-runtime has installed"),
    ],
)
def test_a_name_that_would_get_in_the_way_is_refused_with_another(
    kind: str, name: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["plugin", "new", kind, name, "--to", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ceml: name = {name!r}: ")
    assert reason in line
    assert not list(tmp_path.iterdir())
    assert line.endswith(f"take another, such as my_{name}")
    assert main(["plugin", "new", kind, f"my_{name}", "--to", str(tmp_path)]) == 0


def test_a_name_may_be_that_of_another_kind(tmp_path: Path):
    assert main(["plugin", "new", "objective", "overlap", "--to", str(tmp_path)]) == 0


def test_what_is_there_is_left_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "mine").mkdir()
    (tmp_path / "file").write_text("precious")
    assert main(["plugin", "new", "model", "mine", "--to", str(tmp_path)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["plugin", "new", "model", "mine", "--to", str(tmp_path / "file")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert not list((tmp_path / "mine").iterdir())


@pytest.mark.parametrize(
    ("reference", "kind"),
    [
        ("energy", "objective"),
        ("overlap", "model"),
        ("local", "search"),
        ("improvement", "sampler"),
        ("cusum", "detector"),
    ],
)
def test_those_that_are_installed_can_be_checked_by_name(reference: str, kind: str, capsys: pytest.CaptureFixture[str]):
    assert main(["plugin", "check", reference]) == 0
    assert capsys.readouterr().out.startswith(f"{kind} {reference} keeps its promises")


BAD = """
import numpy as np
class Bad:
    constraints = ()
    def cost(self, predicted, now):
        return np.array([hz / w for hz, w in zip(predicted.rate_hz, predicted.power_w)])
def bad():
    return Bad()
def broken():
    raise KeyError("nothing here")
def other():
    return object()
class Half:
    def update(self, measured, predicted=None, std=0.0):
        return False
def half():
    return Half()
def needs(*, watts: float):
    return Bad()
"""


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("bad", ["not vectorised", "lower is better"]),
        ("broken", ["line 10: KeyError"]),
        ("other", ["no plugin of any kind; an objective, for one, has method cost(self, predicted"]),
        ("half", ["no plugin of any kind; it is nearest to a detector, and lacks method reset(self)"]),
        ("needs", ["watts"]),
        ("absent", ["has no function 'absent'"]),
    ],
)
def test_a_bad_one_is_told_what_is_wrong(
    factory: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "bad.py"
    file.write_text(BAD)
    assert main(["plugin", "check", f"{file}:{factory}"]) == 2
    told = capsys.readouterr()
    for word in words:
        assert word in told.out + told.err
    assert "Traceback" not in told.out + told.err


def test_a_platform_that_cannot_be_made_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["plugin", "new", "platform", "mine", "--to", str(tmp_path)]) == 0
    mine = f"{tmp_path / 'mine' / 'ceml_mine.py'}:mine"
    for reference, word in ((mine, "platform"), (f"{mine}:root=/nope", "/nope/levels_hz"), ("bandwidth", "pid")):
        capsys.readouterr()
        assert main(["plugin", "check", reference]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert word in line
        assert "context" not in line


def test_one_that_hangs_while_it_is_made_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(promises, "LIMIT_S", 0.2)
    (tmp_path / "hangs.py").write_text("import threading\nthreading.Event().wait()\n")
    assert main(["plugin", "check", f"{tmp_path / 'hangs.py'}:anything"]) == 2
    assert "no answer within 0.2 s" in capsys.readouterr().err


HANGS = """
import os, signal, time
class Hangs:
    constraints = ()
    def __init__(self, how):
        self.how = how
    def cost(self, predicted, now):
        self.how()
        return predicted.power_w / predicted.rate_hz
def deaf_to_everything():
    while True:
        try:
            time.sleep(1)
        except BaseException:
            pass
def sleeps():
    return Hangs(lambda: time.sleep(1000))
def deaf():
    return Hangs(deaf_to_everything)
def crashes():
    return Hangs(lambda: os.kill(os.getpid(), signal.SIGKILL))
def leaves():
    os._exit(3)
"""


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("sleeps", "breaks 1 of its promises:\n- it gave no answer within 0.2 s: it hangs, sleeps or waits, in /"),
        ("deaf", "breaks 1 of its promises:\n- it gave no answer within 2.2 s and could not be interrupted"),
        ("crashes", "it ended the process that it was asked in (SIGKILL)"),
        ("leaves", "while it was made, it ended the process that it was asked in (exit status 3)"),
    ],
)
def test_one_that_hangs_or_crashes_when_it_is_asked_is_ended_and_told_of(
    factory: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(promises, "LIMIT_S", 0.2)
    monkeypatch.setattr(plugin, "SLACK_S", 2.0)
    (tmp_path / "hangs.py").write_text(HANGS)
    assert main(["plugin", "check", f"{tmp_path / 'hangs.py'}:{factory}"]) == 2
    told = capsys.readouterr()
    assert words in told.out + told.err


def test_a_platform_that_hangs_is_put_back_and_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(plugin, "PLATFORM_S", 0.5)
    assert main(["plugin", "new", "platform", "mine", "--to", str(tmp_path)]) == 0
    file = tmp_path / "mine" / "ceml_mine.py"
    text = file.read_text()
    assert text.count("    async def glance(self) -> Configuration:\n") == 1
    hangs = "    async def glance(self) -> Configuration:\n        import anyio\n        await anyio.sleep_forever()\n"
    file.write_text(text.replace("    async def glance(self) -> Configuration:\n", hangs))
    reference = f"{file}:mine{board(tmp_path)}"
    capsys.readouterr()
    assert main(["plugin", "check", reference]) == 2
    assert "actuator 1 gave no answer within 0.5 s" in capsys.readouterr().out
    assert (tmp_path / "gpu_hz").read_text() == "600000000\n"


def test_an_unknown_name_says_what_is_known(capsys: pytest.CaptureFixture[str]):
    assert main(["plugin", "check", "enregy"]) == 2
    assert "did you mean energy" in capsys.readouterr().err
    assert main(["plugin", "check", "zzz"]) == 2
    assert "`ceml plugins` lists them" in capsys.readouterr().err
    assert main(["plugin", "check", "energy", "--kind", "model"]) == 2
    assert "no model is called 'energy'" in capsys.readouterr().err


def test_the_examples_of_this_house_keep_their_promises(capsys: pytest.CaptureFixture[str]):
    assert main(["plugin", "check", f"{ROOT}/examples/03-own-objective/objective.py:fast_enough:longest_s=0.9"]) == 0
    assert "objective" in capsys.readouterr().out
