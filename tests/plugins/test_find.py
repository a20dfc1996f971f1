"""Finding and making plugins. Not covered: what the shipped ones compute (their own tests)."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml import plugins
from ceml.domain.values import Prediction, Situation
from ceml.errors import CemlError, SettingsError
from ceml.plugins import KINDS, find, known

OWN = '''
"""An objective in a file."""
from __future__ import annotations
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy import ndarray


@dataclass
class Weighted:
    weight: float
    names: tuple[str, ...]
    constraints: tuple = ()

    def cost(self, predicted, now):
        return predicted.power_w * self.weight


def weighted(*, weight: float = 2.0, names: tuple[str, ...] = (), scale: int | None = None) -> Weighted:
    """Power, weighted."""
    return Weighted(weight, names)


def unfinished():
    return object()


def strange(*, what: ndarray = None):
    return Weighted(1.0, (what,))


def failing():
    return 1 / 0
'''


@pytest.fixture
def own(tmp_path: Path) -> str:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return str(path)


def test_a_plugin_by_name_with_typed_options():
    made = find("objectives", "min_energy:max_slowdown=0.25")
    assert made.constraints[0].name.startswith("max slowdown 25 %")  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "platforms"])
def test_every_shipped_plugin_can_be_made_and_has_one_line_of_help(kind: str):
    for plugin in known(kind):
        assert plugin.distribution == "ceml-runtime"
        assert len(plugin.help) > 10
        find(kind, plugin.name)


def test_an_unknown_name_gets_a_suggestion_and_the_list():
    with pytest.raises(SettingsError, match=r"'enrgy' \(did you mean energy\?\); known are: carbon, ed2p, edp, en"):
        find("objectives", "enrgy")


def test_only_the_one_asked_for_is_imported():
    code = (
        "import sys; from ceml.plugins import find; find('objectives', 'edp'); "
        "sys.exit('ceml.plugins.energy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("min_energy:max_slowdown=eight", "max_slowdown = 'eight': must be a valid number"),
        ("min_energy:max_slowdown=nan", "finite"),
        ("min_energy:slow=8", "objective min_energy takes no 'slow'; it takes: max_slowdown"),
        ("min_energy:max_slowdown=8,max_slowdown=9", "is given twice"),
        ("min_energy:8", "is not key=value"),
        ("energy:x=1", "objective energy takes no 'x'; it takes: risk"),
        ("min_energy:max_slowdown=-8", "max_slowdown = -8"),
    ],
)
def test_options_that_do_not_fit_are_said_in_words(reference: str, says: str):
    with pytest.raises(SettingsError, match=says):
        find("objectives", reference)


def test_an_option_of_a_plugin_that_takes_none_is_said(tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text("def plain():\n    raise AssertionError\n")
    with pytest.raises(SettingsError, match="takes no 'x'; it takes no options"):
        find("objectives", f"{file}:plain:x=1")


def test_a_factory_in_a_file(own: str):
    made = find("objectives", f"{own}:weighted:weight=3,names=[a,b]")
    assert (made.weight, made.names) == (3.0, ("a", "b"))  # type: ignore[attr-defined]
    predicted = Prediction(rate_hz=np.ones(2), power_w=np.array([1.0, 2.0]))
    assert list(made.cost(predicted, Situation())) == [3.0, 6.0]  # type: ignore[attr-defined]


def test_the_most_speed_under_a_cap_on_power_has_two_names():
    assert find("objectives", "power_cap") == find("objectives", "performance")
    assert find("objectives", "power_cap:risk=0.9") == find("objectives", "performance:risk=0.9")
    (told,) = [plugin.help for plugin in known("objectives") if plugin.name == "power_cap"]
    assert "--budget 8W" in told


def test_an_annotation_for_type_checkers_only_is_no_obstacle(own: str):
    assert find("objectives", f"{own}:strange:what=x").names == ("x",)  # type: ignore[attr-defined]


def test_the_reference_wins_over_defaults_and_none_is_no_default(own: str):
    made = find("objectives", f"{own}:weighted:weight=3", weight=4.0, names=("n",), scale=None)
    assert (made.weight, made.names) == (3.0, ("n",))  # type: ignore[attr-defined]


def test_a_default_that_the_factory_does_not_take_is_named(own: str):
    with pytest.raises(SettingsError, match="takes no 'table'; it takes: weight, names, scale"):
        find("objectives", f"{own}:weighted", table="x.csv")


@pytest.mark.parametrize(
    ("factory", "says"),
    [
        ("", r"does not say which function; write .*own\.py:NAME, where NAME is one of: .*weighted"),
        (":nothing", "has no function 'nothing'"),
        (":unfinished", r"no objective: it lacks method cost\(self, predicted"),
        (":failing", r"own\.py line 35: ZeroDivisionError"),
    ],
)
def test_a_file_that_does_not_do_says_why(own: str, factory: str, says: str):
    with pytest.raises(SettingsError, match=says):
        find("objectives", own + factory)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("x = 1\nraise ValueError('no')", "bad.py line 2: ValueError: no"),
        ("x = (", "bad.py line 1: "),
        ("import nothing_of_this_name", "bad.py line 1: ModuleNotFoundError"),
        ("import sys\nsys.exit(4)", "bad.py line 2: SystemExit"),
        ("\0", "null bytes"),
    ],
)
def test_a_file_with_an_error_is_one_line_with_its_place(tmp_path: Path, content: str, says: str):
    path = tmp_path / "bad.py"
    path.write_text(content)
    with pytest.raises(SettingsError, match=says) as caught:
        find("objectives", f"{path}:f")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(SettingsError) as caught:
        find("objectives", f"{tmp_path}/none.py:f")
    assert str(caught.value) == (
        f"objective '{tmp_path}/none.py:f': there is no file {tmp_path}/none.py; give the path of a Python file"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError) as caught:
        find("objectives", "none.py:f")
    assert str(caught.value) == (
        f"objective 'none.py:f': there is no file none.py ({tmp_path}/none.py); give the path of a Python file"
    )
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(SettingsError, match=r"folder.py cannot be read: .*; give the path of a Python file that"):
        find("objectives", "folder.py:f")


def test_an_error_in_a_file_has_its_line_however_the_file_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "bad.py").write_text("def f():\n    return 1 / 0\n")
    monkeypatch.chdir(tmp_path)
    for path in ("bad.py", "./bad.py", f"{tmp_path}/bad.py"):
        with pytest.raises(SettingsError, match=r"bad.py line 2: ZeroDivisionError"):
            find("objectives", f"{path}:f")


def test_a_platform_gets_its_context_first(own: str, tmp_path: Path):
    path = tmp_path / "board.py"
    path.write_text(
        "class Board:\n"
        "    space = sensors = actuators = total_rails = labels = ()\n"
        "def board(context, *, table: str = ''):\n"
        "    made = Board()\n"
        "    made.context, made.table = context, table\n"
        "    return made\n"
    )
    made = find("platforms", f"{path}:board", "the context", table=Path("a/b.csv"))
    assert (made.context, made.table) == ("the context", "a/b.csv")  # type: ignore[attr-defined]
    with pytest.raises(SettingsError, match="is no platform: it lacks"):
        find("platforms", f"{own}:unfinished")


def test_a_broken_plugin_is_listed_with_its_error_and_hides_no_other(monkeypatch: pytest.MonkeyPatch):
    entries = (
        EntryPoint("good", "ceml.plugins.energy:energy", "ceml.objectives"),
        EntryPoint("broken", "ceml.plugins.nowhere:f", "ceml.objectives"),
    )
    monkeypatch.setattr(plugins, "_entry_points", lambda kind: entries)
    broken, good = known("objectives")
    assert broken.help.startswith("cannot be loaded: ModuleNotFoundError")
    assert "energy" in good.help
    with pytest.raises(SettingsError, match=r"cannot be loaded from ceml\.plugins\.nowhere:f"):
        find("objectives", "broken")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise RuntimeError('no luck')", "line 1: RuntimeError: no luck"),
        ("raise RuntimeError('no luck\\nat all')", "line 1: RuntimeError: no luck at all"),
        ("import os\ndef f(:", "line 2: "),
        ("import sys\nsys.exit(7)", "line 2: SystemExit: 7"),
        ("def f():\n    return 1 / 0", "line 2: ZeroDivisionError"),
        ("def f():\n    raise SystemExit('no')", "line 2: SystemExit: no"),
    ],
)
def test_whatever_an_installed_plugin_raises_is_one_sentence_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
):
    module = f"bad_{abs(hash(text))}"
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    entry = EntryPoint("broken", f"{module}:f", "ceml.objectives")
    monkeypatch.setattr(plugins, "_entry_points", lambda kind: (entry,))
    with pytest.raises(SettingsError) as refused:
        find("objectives", "broken")
    assert said in str(refused.value)
    assert f"{module}.py" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(known("objectives")) == 1


def test_a_spoilt_list_of_plugins_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    info = tmp_path / "bad-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 1.0\n")
    (info / "entry_points.txt").write_bytes(b"\xff\xfe[ceml.objectives]\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SettingsError, match=r"entry_points\.txt is no text"):
        find("objectives", "energy")


def test_a_name_offered_twice_is_refused(monkeypatch: pytest.MonkeyPatch):
    values = ("ceml.plugins.energy:energy", "ceml.plugins.edp:edp")
    entries = tuple(EntryPoint("e", value, "ceml.objectives") for value in values)
    monkeypatch.setattr(plugins, "_entry_points", lambda kind: entries)
    with pytest.raises(SettingsError, match="offered more than once"):
        find("objectives", "e")


@given(
    st.text()
    | st.sampled_from(["energy:", "min_energy:max_slowdown"]).flatmap(lambda start: st.text().map(start.__add__))
)
def test_any_reference_gives_a_plugin_or_a_message(reference: str):
    try:
        find("objectives", reference)
    except CemlError:
        return


def test_a_factory_that_wants_to_end_the_program_ends_in_a_sentence(tmp_path: Path):
    path = tmp_path / "bad.py"
    path.write_text("import sys\ndef f():\n    sys.exit(3)\n")
    with pytest.raises(SettingsError, match=r"bad.py line 3: SystemExit: 3"):
        find("objectives", f"{path}:f")
