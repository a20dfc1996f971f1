"""Parts that do not fit are said at start, in words. Not covered here: what the parts do together (test_house.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from ceml.domain.values import Limits
from ceml.errors import SettingsError
from ceml.parts import Parts, choose
from ceml.sources import load
from ceml.store.paths import PlatformContext

TIMES_ONLY = "device,workload,gpu_hz,step_s\nb,w,1e9,1.0\nb,w,2e9,0.5\n"


def parts(folder: Path, *, in_process: bool = False, **flags: object) -> Parts:
    flags = {"platform": "simulated", **flags}
    context = PlatformContext(runtime_dir=folder, in_process=in_process)
    return choose(load(None, flags, {}), context)


def plugin(folder: Path, body: str) -> str:
    path = folder / "mine.py"
    path.write_text(
        f"import numpy as np\nclass Mine:\n  constraints = ()\n  def cost(self, predicted, now):\n    {body}\n"
        "def mine():\n  return Mine()\n"
    )
    return f"{path}:mine"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise ValueError('not today')", "raised ValueError: not today"),
        ("return 1.0", r"shape \(n,\)"),
        ("return predicted.power_w[:1]", r"shape \(n,\)"),
        ("return predicted.power_w * np.nan", "must be finite"),
        ("return np.zeros(3)", r"shape \(n,\) = \(540,\)"),
        ("return predicted.power_w * (np.nan if len(predicted.power_w) > 20 else 1)", "must be finite"),
        ("return predicted.power_w * 1j", "real numbers"),
        ("raise SystemExit(7)", "raised SystemExit: 7"),
        ("return predicted.speed", "AttributeError"),
    ],
)
def test_an_objective_that_does_not_work_is_said_at_start(tmp_path: Path, body: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        parts(tmp_path, objective=plugin(tmp_path, body))


def test_an_objective_that_makes_the_daemon_wait_is_said_at_start(tmp_path: Path) -> None:
    slow = "import time; time.sleep(0.15); return 1 / predicted.rate_hz"
    with pytest.raises(SettingsError, match=r"takes 0\.1\d? s to answer for 540 states"):
        parts(tmp_path, objective=plugin(tmp_path, slow))


def test_an_objective_may_prepare_something_when_it_is_asked_first(tmp_path: Path) -> None:
    once = "import time; vars(self).get('asked') or time.sleep(0.15); self.asked = True; return 1 / predicted.rate_hz"
    assert parts(tmp_path, objective=plugin(tmp_path, once)).mind.objective.constraints == ()


def test_an_objective_that_works_is_taken(tmp_path: Path) -> None:
    chosen = parts(tmp_path, objective=plugin(tmp_path, "return 1 / predicted.rate_hz"))
    assert chosen.mind.objective.constraints == ()


def test_power_that_is_not_measured_is_said_and_not_guessed(tmp_path: Path) -> None:
    table = tmp_path / "times.csv"
    table.write_text(TIMES_ONLY)
    flags = {"platform": "replay", "table": table, "workload": "w"}
    for more in (
        {"objective": "energy"},
        {"objective": "performance", "budget": "5W"},
        {"objective": "performance", "energy_allowance": "1kJ"},
    ):
        with pytest.raises(SettingsError, match="measures none"):
            parts(tmp_path, **flags, **more)


def test_limits_that_the_rate_alone_can_keep_need_no_power(tmp_path: Path) -> None:
    table = tmp_path / "times.csv"
    table.write_text(TIMES_ONLY)
    flags = {"platform": "replay", "table": table, "workload": "w", "objective": "performance"}
    chosen = parts(tmp_path, **flags, target="1.5/s", max_slowdown="10%", deadline="5min")
    assert chosen.limits == Limits(target_hz=1.5, max_slowdown=0.1, deadline_s=300.0)


def test_what_the_board_does_not_measure_cannot_be_limited(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"rail_budget npu=3W: .* it measures: cpu, gpu, mem, total"):
        parts(tmp_path, rail_budget=["gpu=2W", "npu=3W"])
    with pytest.raises(SettingsError, match=r"max_temperature = 80C: simulated measures no temperature"):
        parts(tmp_path, max_temperature="80C")
    assert parts(tmp_path, rail_budget=["gpu=2W"]).limits.rail_caps_w == {"gpu": 2.0}


def test_options_reach_the_plugins_that_take_them(tmp_path: Path) -> None:
    sampler = parts(tmp_path, model="paper", beats_per_state=7, power_samples_per_state=2).mind.sampler.inside
    assert (sampler.beats, sampler.power_samples) == (7, 2)  # type: ignore[attr-defined]
    with pytest.raises(SettingsError, match="takes no 'table'"):
        parts(tmp_path, table=tmp_path / "x.csv")


def test_the_sampler_suits_the_model_unless_one_is_named(tmp_path: Path) -> None:
    def name(**flags: object) -> str:
        return type(parts(tmp_path, **flags).mind.sampler.inside).__name__

    assert name() == "Improvement"
    assert name(model="paper") == name(sampler="paper") == "PaperSampler"
    with pytest.raises(SettingsError, match="states its uncertainty"):
        parts(tmp_path, model="paper", sampler="improvement")


@pytest.mark.parametrize("constraints", ["None", "(3,)", "'none'"])
def test_constraints_that_are_none_are_said_at_start(tmp_path: Path, constraints: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        f"class Mine:\n  constraints = {constraints}\n  def cost(self, predicted, now):\n    return predicted.power_w\n"
        "def mine():\n  return Mine()\n"
    )
    with pytest.raises(SettingsError, match="its constraints must be a tuple"):
        parts(tmp_path, objective=f"{path}:mine")
