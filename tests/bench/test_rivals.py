"""The strategies to be held against. Not covered: holding states and scoring them (test_session, test_score)."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ceml.bench.peers import gaussian_process, ln_levels, tpe
from ceml.bench.rivals import RIVALS, at_random, chosen, narrowed, run_rival
from ceml.bench.session import Conditions
from ceml.domain.knobs import Knob, KnobKind, KnobSpace
from ceml.errors import SettingsError
from ceml.plant.board import jetson_tx2
from ceml.plant.table import Table
from ceml.sources import load
from tests.bench.small_tables import written

PLANT = jetson_tx2("vit")
FREE = load(None, {}, {})


def played_out(trials, cost=lambda state: 1.0 + state) -> list[int]:
    """The states that trials ask for, where each costs that much."""
    asked: list[int] = []
    try:
        asked.append(next(trials))
        while True:
            asked.append(trials.send(cost(asked[-1])))
    except StopIteration:
        return asked


spaces = st.builds(
    lambda counts, words, seed: _space(counts, words, seed),
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.booleans(),
    st.integers(0, 99),
)


def _space(counts: list[int], words: bool, seed: int) -> KnobSpace:
    knobs = [Knob(name=f"d{at}_hz", levels=tuple(float(v) for v in range(1, n + 1))) for at, n in enumerate(counts)]
    if words:
        knobs.append(Knob(name="mode", levels=("a", "b", "c"), kind=KnobKind.CATEGORY))
    present = np.random.default_rng(seed).random(int(np.prod([len(k.levels) for k in knobs]))) < 0.7
    present[-1] = True
    return KnobSpace(knobs, present)


def needs(*peers: str) -> pytest.MarkDecorator:
    absent = [peer for peer in peers if not find_spec(peer)]
    return pytest.mark.skipif(bool(absent), reason=f"{', '.join(absent)} not here; `make rivals` puts them here")


@pytest.mark.parametrize(
    "strategy",
    [
        at_random,
        pytest.param(gaussian_process, marks=needs("sklearn")),
        pytest.param(tpe, marks=needs("optuna")),
    ],
)
@hypothesis_settings(max_examples=30)  # each fits a dozen Gaussian processes
@given(spaces, st.integers(0, 99), st.integers(1, 12), st.sampled_from([0.0, 0.3]))
def test_they_ask_for_present_states_as_often_as_they_may(
    strategy: Any, space: KnobSpace, seed: int, count: int, unknown: float
):
    rng = np.random.default_rng(seed)

    def cost(state: int) -> float:
        return float("inf") if rng.random() < unknown else 1.0 + abs(state - 3.0)

    states = played_out(strategy(space, seed, count), cost)
    assert all(space.present[state] for state in states)
    if strategy is tpe:
        assert len(states) == count
    else:  # no state twice
        assert len(states) == len(set(states)) == min(count, len(space))


@given(spaces)
def test_levels_are_told_to_the_process_from_zero_to_one(space: KnobSpace):
    features = ln_levels(space)
    assert features.shape[0] == len(space)
    assert np.isfinite(features).all()
    assert features.min() >= 0.0
    assert features.max() <= 1.0


@needs("sklearn")
def test_the_gaussian_process_finds_the_bottom_of_a_bowl():
    space = KnobSpace([Knob(name=f"{d}_hz", levels=tuple(np.geomspace(1e8, 1e9, 12))) for d in ("cpu", "gpu")])
    truth = 3.0 + ((ln_levels(space) - 0.55) ** 2).sum(axis=1) * 4
    for seed in range(2):
        states = played_out(gaussian_process(space, seed, 15), lambda state: float(truth[state]))
        assert min(truth[states]) <= np.sort(truth)[3], seed


SHORT = {name: [needs(rival.needs[0])] if rival.needs else [] for name, rival in RIVALS.items() if "-30" not in name}


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks) for name, marks in SHORT.items()])
def test_every_rival_plays_the_same_work_and_the_same_again(name: str):
    rival, conditions = RIVALS[name], Conditions(steps=800, seed=3)
    got = run_rival(rival, FREE, PLANT, conditions)
    assert got == run_rival(rival, FREE, PLANT, conditions)
    assert got.run_excess is not None
    assert got.run_excess >= 0.0
    assert got.states == len(PLANT.space)
    assert got.chosen is not None
    tried = {"max": 1, "best32-offline": 1, "best32": 32, "random-7": 7, "random-15": 15, "gp-7": 7, "gp-15": 15}
    if name in tried:
        assert got.states_tried == tried[name]


def test_max_stays_at_the_maximum_and_what_was_known_before_costs_nothing():
    got = run_rival(RIVALS["max"], FREE, PLANT, Conditions(steps=100))
    assert got.run_energy_j == pytest.approx(100 * got.max_state_energy_j)
    offline = run_rival(RIVALS["best32-offline"], FREE, PLANT, Conditions(steps=100))
    assert offline.run_energy_j == pytest.approx(100 * offline.chosen_energy_j)
    paying = run_rival(RIVALS["best32"], FREE, PLANT, Conditions(steps=800))
    assert paying.chosen == offline.chosen
    assert paying.run_excess > offline.run_excess


def test_the_papers_narrow_range_limits_the_candidates_and_not_the_best():
    wide, narrow = (RIVALS[f"paper-exhaustive-{name}"] for name in ("full", "narrow"))
    full = jetson_tx2("lstm", range="full")
    one, other = (run_rival(rival, FREE, full, Conditions(steps=700)) for rival in (wide, narrow))
    assert (one.best, one.states, one.max_state_energy_j) == (other.best, other.states, other.max_state_energy_j)
    assert other.chosen["gpu_hz"] >= 0.32 * 1300.5e6
    assert len(narrowed(full.space)) == 540


def test_the_narrow_range_has_450_states_on_the_measured_board(tables):
    name = "jetson-tx2-train.csv"
    table = Table.parse((tables / name).read_text().splitlines(), name)
    assert len(narrowed(table.grid("lstm-imdb-train").space)) == 450


def test_under_a_cap_a_state_that_breaks_it_is_not_kept(tmp_path):
    path = written(tmp_path, "t.csv")
    plant = Table.parse(path.read_text().splitlines(), "t").grid("w")
    capped = load(None, {"budget": "4W"}, {})
    got = run_rival(RIVALS["random-30"], capped, plant, Conditions(steps=700, noise_power=0.0))
    assert got.feasible is True


def test_rivals_are_asked_for_by_name_and_by_family(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ceml.bench.rivals.missing", lambda peer: False)
    assert [r.name for r in chosen("all")[0]] == list(RIVALS)
    assert chosen("none") == ([], [])
    assert [r.name for r in chosen("tpe, max")[0]] == ["max", "tpe-7", "tpe-15", "tpe-30"]
    assert [r.name for r in chosen("paper-local")[0]] == ["paper-local-full", "paper-local-narrow"]
    with pytest.raises(SettingsError, match=r"--rivals bayes: no such strategy; give all, none or some of max, "):
        chosen("max,bayes")


def test_absent_peers_are_named_with_the_way_to_install_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ceml.bench.rivals.missing", lambda peer: peer == "optuna")
    rivals, sentences = chosen("max,tpe,gp-7")
    assert [rival.name for rival in rivals] == ["max", "gp-7"]
    assert sentences == [
        "left out: tpe-7, tpe-15, tpe-30, since optuna is not installed (make rivals, or pip install optuna)"
    ]
