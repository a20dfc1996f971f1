"""What is remembered of a program: recognised by one window, never believed without it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.domain.knobs import Configuration, Knob, KnobSpace
from ceml.domain.memory import MOST_PHASES, STEPS_BELIEVED, Memory, of_others, pooled, reachable
from ceml.domain.response.overlap import overlap
from ceml.domain.response.paper import paper
from ceml.domain.values import NAN, Knowledge, Observation, Remembered
from ceml.store.knowledge_file import phase_of

CPU = Knob(name="cpu_hz", levels=(1e9, 1.5e9, 2e9))
GPU = Knob(name="gpu_hz", levels=(0.5e9, 1e9))
SPACE = KnobSpace([CPU, GPU])


def seen(state: int, rate_hz: float, power_w: float = 8.0, *, steps: float = 10, samples: int = 5) -> Observation:
    return Observation(
        configuration=SPACE.configuration(state),
        start_s=3.0,
        end_s=3.0 + steps / rate_hz if rate_hz else 3.0,
        beats=int(steps),
        steps=steps,
        rate_hz=rate_hz,
        power_w=power_w,
        rail_w={"total": power_w},
        utilisation={"cpu": 0.5},
        power_samples=samples,
        step_cv=0.02,
        power_cv=0.025,
    )


def memory(*phases: tuple[Observation, ...], app: str = "a") -> Memory:
    programs = tuple(Remembered(app="a", knobs=SPACE.knobs, observations=phase) for phase in phases)
    return Memory(app, Knowledge(programs=programs))


FAST = (seen(0, 4.0), seen(3, 6.0, 10.0))
SLOW = (seen(0, 1.0), seen(3, 1.5, 10.0))


def test_a_window_that_agrees_recalls_what_was_measured() -> None:
    of = memory(FAST)
    assert of.hoped == FAST
    assert of.recognise(SPACE, overlap(), seen(3, 6.05, 10.1))
    assert [each.configuration for each in of.recalled] == [each.configuration for each in FAST]
    assert not of.hoped


@pytest.mark.parametrize("window", [seen(3, 8.0, 10.0), seen(3, 6.0, 13.0), seen(3, NAN), seen(3, 0.0)])
def test_a_window_that_does_not_agree_recalls_nothing(window: Observation) -> None:
    of = memory(FAST)
    assert not of.recognise(SPACE, overlap(), window)
    assert of.recalled == ()
    if window.rate_hz > 0:
        assert not of.hoped, "one window is enough to say no"


def test_the_window_picks_the_phase() -> None:
    of = memory(FAST, SLOW)
    assert of.recognise(SPACE, overlap(), seen(3, 1.5, 10.0))
    assert of.recalled[0].rate_hz == 1.0


def test_a_window_elsewhere_is_held_against_the_fitted_model() -> None:
    agrees, differs = memory(FAST), memory(FAST)
    assert agrees.recognise(SPACE, overlap(), seen(1, 4.6, 8.6))
    assert not differs.recognise(SPACE, overlap(), seen(1, 40.0, 8.6))


def test_where_nearly_anything_would_be_expected_nothing_is_recognised() -> None:
    """Far from all that is remembered even what the model expects proves nothing."""
    far, highest = (seen(0, 4.0, 8.0),), SPACE.max_state
    expected = overlap().fit(SPACE, far).predict(np.array([highest]))
    as_expected = seen(highest, float(expected.rate_hz[0]), float(expected.power_w[0]))
    assert not memory(far).recognise(SPACE, overlap(), as_expected)
    assert memory((*far, as_expected)).recognise(SPACE, overlap(), as_expected)


def test_a_model_that_cannot_say_recognises_nothing() -> None:
    """The paper's needs seven states: two remembered ones let it expect nothing anywhere else."""
    assert not memory(FAST).recognise(SPACE, paper(), seen(1, 4.6, 8.6))


def test_power_that_was_not_measured_proves_nothing_either_way() -> None:
    assert memory(FAST).recognise(SPACE, overlap(), replace(seen(3, 6.0), power_w=NAN, power_samples=0))


def test_programs_of_another_name_are_not_its_phases() -> None:
    other = memory(FAST, app="b")
    assert not other.hoped
    assert not other.recognise(SPACE, overlap(), FAST[0])


def test_a_phase_left_is_kept_and_recognised_when_it_returns() -> None:
    of = memory()
    of.left(SPACE, FAST)
    assert of.hoped
    assert not of.recognise(SPACE, overlap(), SLOW[0])
    of.left(SPACE, SLOW)
    assert [each.rate_hz for each in of.hoped] == pytest.approx([4.0, 6.0]), "what came before is likelier to return"
    assert of.recognise(SPACE, overlap(), FAST[1])
    assert len(of.phases(SPACE, (FAST[1],))) == 2


def test_phases_are_bounded_and_the_present_one_comes_first() -> None:
    of = memory(*[(seen(0, float(rate)),) for rate in range(1, 10)])
    kept = of.remembered(SPACE, (seen(2, 50.0),))
    assert len(kept) == MOST_PHASES
    assert kept[0].observations[0].rate_hz == 50.0
    assert kept[0].app == "a"


def test_what_is_recalled_fades() -> None:
    of = memory((seen(3, 6.0, 10.0, steps=5000, samples=900),))
    of.recognise(SPACE, overlap(), seen(3, 6.0, 10.0))
    assert of.recalled[0].steps == STEPS_BELIEVED
    assert of.recalled[0].beats <= STEPS_BELIEVED
    assert of.recalled[0].rate_hz == 6.0


WINDOWS = st.lists(
    st.builds(
        seen,
        st.integers(0, 5),
        st.floats(0.1, 1e3),
        st.floats(0.1, 100),
        steps=st.integers(1, 500),
        samples=st.integers(0, 50),
    ),
    max_size=30,
)


@given(WINDOWS)
def test_pooling_conserves_steps_seconds_and_samples(windows: list[Observation]) -> None:
    one_each = pooled(SPACE, windows)
    assert len({each.configuration for each in one_each}) == len(one_each)
    assert sum(each.steps for each in one_each) == pytest.approx(sum(each.steps for each in windows))
    assert sum(each.duration_s for each in one_each) == pytest.approx(sum(w.steps / w.rate_hz for w in windows))
    assert sum(each.power_samples for each in one_each) == sum(w.power_samples for w in windows)


@given(WINDOWS)
def test_pooling_twice_changes_nothing(windows: list[Observation]) -> None:
    once = pooled(SPACE, windows)
    twice = pooled(SPACE, once)
    assert {str(each.configuration): each.rate_hz for each in twice} == pytest.approx(
        {str(each.configuration): each.rate_hz for each in once}
    )


def test_windows_that_say_nothing_are_not_pooled() -> None:
    stranger = replace(seen(0, 1.0), configuration=Configuration({"cpu_hz": 7.0}))
    assert pooled(SPACE, [seen(0, NAN), replace(seen(0, 1.0), steps=0.0), stranger]) == ()


def test_what_is_kept_names_every_level_that_it_was_measured_at() -> None:
    """Limits of a boot may leave fewer levels than a phase of an earlier one was measured at."""
    lower = KnobSpace([CPU, Knob(name="gpu_hz", levels=(0.5e9,))])
    of = memory(FAST, SLOW)
    assert not of.recognise(lower, overlap(), seen(0, 9.0))
    window = replace(seen(0, 9.0), configuration=Configuration({"cpu_hz": 1e9, "gpu_hz": 0.5e9}))
    kept = of.remembered(lower, [window])
    assert len(kept) == 3
    for phase in kept:
        assert phase_of(phase) is not None
    assert [phase.knobs[1].levels for phase in kept] == [(0.5e9,), (0.5e9, 1e9), (0.5e9, 1e9)]


def test_of_others_leaves_the_program_itself_out() -> None:
    mine, theirs = (Remembered(app=app, knobs=SPACE.knobs, observations=FAST) for app in ("a", "b"))
    assert of_others("a", Knowledge(programs=(mine, theirs))).programs == (theirs,)


def test_unreachable_states_are_left_out_but_never_all() -> None:
    gone = frozenset({SPACE.configuration(2), Configuration({"other_hz": 1.0})})
    assert 2 not in reachable(SPACE, Knowledge(unreachable=gone)).states
    everything = frozenset(SPACE.configuration(state) for state in SPACE.states)
    assert len(reachable(SPACE, Knowledge(unreachable=everything))) == len(SPACE)
