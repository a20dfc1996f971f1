"""Pollers and the phase watcher, in virtual time.

Not covered here: detectors (tests/domain/test_phase.py), real sensors (tests/platforms).
"""

from __future__ import annotations

from typing import get_args

import anyio
import pytest

from ceml.control.bus import Bus
from ceml.control.watch import PhaseWatcher, SensorPoller
from ceml.domain.events import (
    AppJoined,
    AppLeft,
    Event,
    PhaseChanged,
    Sampled,
    SensorLost,
    SensorRecovered,
    Throttled,
    WindowClosed,
)
from ceml.domain.knobs import Configuration
from ceml.domain.phase import cusum, difference
from ceml.domain.values import Observation, Sample
from ceml.errors import Temporary, Unavailable


class Meter:
    """A sensor that follows a script of (until second, what happens)."""

    name, period_s, lag_s = "meter", 0.1, 0.0

    def __init__(
        self, *, fails=lambda at_s: None, takes_s=lambda at_s: 0.0, reads_w=lambda at_s: {"total": 5.0}
    ) -> None:
        self._fails, self._takes_s, self._reads_w = fails, takes_s, reads_w

    async def read(self) -> Sample:
        at_s = anyio.current_time()
        await anyio.sleep(self._takes_s(at_s))
        error = self._fails(at_s)
        if error is not None:
            raise error
        return Sample(at_s=anyio.current_time(), rails_w=self._reads_w(at_s))


class InstantMeter(Meter):
    """The same for one whose answer lies in memory."""

    def read_now(self) -> Sample:
        at_s = anyio.current_time()
        error = self._fails(at_s)
        if error is not None:
            raise error
        return Sample(at_s=at_s, rails_w=self._reads_w(at_s))


@pytest.fixture(params=[Meter, InstantMeter])
def a_meter(request: pytest.FixtureRequest) -> type[Meter]:
    return request.param


def polled(virtually, meter: Meter, seconds: float) -> list[Event]:
    heard: list[Event] = []

    async def main() -> None:
        bus = Bus()
        eyes = bus.subscribe("eyes", *get_args(Event))
        async with anyio.create_task_group() as group:
            await group.start(lambda *, task_status: SensorPoller(meter, bus).run(task_status=task_status))
            await anyio.sleep(seconds)
            group.cancel_scope.cancel()
        eyes.close()
        heard.extend([event async for event in eyes])

    virtually(main)
    return heard


def of(heard: list[Event], kind: type) -> list:
    return [event for event in heard if isinstance(event, kind)]


def test_it_polls_on_a_fixed_beat(virtually, a_meter) -> None:
    samples = of(polled(virtually, a_meter(), 10.05), Sampled)
    assert [round(sample.at_s, 6) for sample in samples] == [round(0.1 * i, 6) for i in range(101)]


def test_slow_reads_do_not_stretch_the_period(virtually) -> None:
    samples = of(polled(virtually, Meter(takes_s=lambda at_s: 0.06), 10.0), Sampled)
    assert len(samples) == 100


def test_reads_slower_than_the_period_skip_and_keep_the_beat(virtually) -> None:
    samples = of(polled(virtually, Meter(takes_s=lambda at_s: 0.25), 10.0), Sampled)
    assert len(samples) == pytest.approx(10 / 0.3, abs=2)


def test_one_bad_transfer_is_nothing_to_talk_about(virtually, a_meter) -> None:
    heard = polled(virtually, a_meter(fails=lambda t: Temporary("once") if 1.0 < t < 1.15 else None), 3.0)
    assert of(heard, SensorLost) == []
    assert len(of(heard, Sampled)) > 27


def test_a_lost_sensor_is_said_once_and_its_return_too(virtually, a_meter) -> None:
    heard = polled(virtually, a_meter(fails=lambda t: Temporary("no bus") if 1.0 < t < 5.0 else None), 20.0)
    (lost,), (back,) = of(heard, SensorLost), of(heard, SensorRecovered)
    assert lost.reason == "no bus"
    assert lost.at_s < 1.5
    assert 5.0 <= back.at_s < 12.0
    assert of(heard, Sampled)[-1].at_s > 19.8


def test_a_sensor_that_is_gone_is_said_at_once_and_asked_less_and_less(virtually, a_meter) -> None:
    asked: list[float] = []

    def fails(at_s: float) -> Exception:
        asked.append(at_s)
        return Unavailable("unplugged")

    heard = polled(virtually, a_meter(fails=fails), 300.0)
    assert len(of(heard, SensorLost)) == 1
    assert len(asked) < 40


@pytest.mark.parametrize("away_s", [1.0, 10.0, 100.0, 1e4])
def test_that_a_sensor_is_back_is_seen_after_a_third_of_the_time_it_was_away_and_half_a_minute_at_most(
    virtually, away_s: float
) -> None:
    def fails(at_s: float) -> Exception | None:
        return Temporary("away") if 1.0 < at_s < 1.0 + away_s else None

    heard = polled(virtually, Meter(fails=fails), 1.0 + away_s + 35.0)
    (back,) = of(heard, SensorRecovered)
    assert back.at_s - 1.0 - away_s < min(away_s / 3.0 + 0.2, 31.0)


def test_a_read_that_hangs_counts_as_failed(virtually) -> None:
    heard = polled(virtually, Meter(takes_s=lambda at_s: 1e6 if at_s > 1 else 0.0), 30.0)
    (lost,) = of(heard, SensorLost)
    assert "no answer" in lost.reason


@pytest.mark.parametrize("watts", [0.0, -1.5, float("nan")])
def test_a_sensor_that_reads_nothing_is_lost_until_it_reads_something(virtually, a_meter, watts: float) -> None:
    heard = polled(virtually, a_meter(reads_w=lambda t: {"total": watts if 1.0 < t < 5.0 else 5.0}), 20.0)
    (lost,), (_,) = of(heard, SensorLost), of(heard, SensorRecovered)
    assert lost.reason == f"it reads total {watts:g} W, and a machine that runs draws more than that"
    assert {sample.rails_w["total"] for sample in of(heard, Sampled)} == {5.0}


@pytest.mark.parametrize("watts", [float("inf"), 1e308, 2e6])
def test_a_sensor_that_reads_more_than_any_machine_draws_is_lost_until_it_reads_less(
    virtually, a_meter, watts: float
) -> None:
    heard = polled(virtually, a_meter(reads_w=lambda t: {"total": watts if 1.0 < t < 5.0 else 5.0}), 20.0)
    (lost,), (_,) = of(heard, SensorLost), of(heard, SensorRecovered)
    assert lost.reason == f"it reads total {watts:g} W, and no machine draws more than 1e+06 W"
    assert {sample.rails_w["total"] for sample in of(heard, Sampled)} == {5.0}


@pytest.mark.parametrize("watts", ["5.0", None, {}])
def test_a_third_partys_sensor_that_reads_no_numbers_is_lost_until_it_does(virtually, a_meter, watts: object) -> None:
    heard = polled(virtually, a_meter(reads_w=lambda t: {"cpu": 2.0, "gpu": watts if 1.0 < t < 5.0 else 5.0}), 20.0)
    (lost,), (_,) = of(heard, SensorLost), of(heard, SensorRecovered)
    assert lost.reason == f"it reads cpu 2.0, gpu {watts!r}, and watts are numbers"
    assert {sample.rails_w["gpu"] for sample in of(heard, Sampled)} == {5.0}


@pytest.mark.parametrize("watts", [float("inf"), float("-inf"), 1e308, float("nan")])
def test_one_rail_that_cannot_be_believed_is_not_measured_and_the_others_are(virtually, a_meter, watts: float) -> None:
    heard = polled(virtually, a_meter(reads_w=lambda t: {"gpu": watts, "cpu": 2.0}), 2.0)
    assert of(heard, SensorLost) == []
    assert {(str(s.rails_w["gpu"]), s.rails_w["cpu"]) for s in of(heard, Sampled)} == {("nan", 2.0)}


def cycling(good_s: float, bad_s: float, *rubbish: float):
    return lambda t: {"total": 5.0 if t % (good_s + bad_s) < good_s else rubbish[int(10 * t) % len(rubbish)]}


def test_a_sensor_that_lies_three_times_of_four_is_soon_lost_for_good(virtually, a_meter) -> None:
    heard = polled(virtually, a_meter(reads_w=cycling(0.1, 0.3, 0.0, float("nan"), -5.0)), 600.0)
    assert len(of(heard, SensorLost)) <= 3
    assert len(of(heard, SensorRecovered)) < len(of(heard, SensorLost))


def test_a_sensor_that_is_lost_again_and_again_is_said_less_and_less_and_still_used(virtually, a_meter) -> None:
    heard = polled(virtually, a_meter(reads_w=cycling(9.7, 1.0, 0.0)), 3600.0)
    assert 5 < len(of(heard, SensorLost)) < 150, "of 336 times"
    assert of(heard, Sampled)[-1].at_s > 3500.0


def test_what_was_lost_long_ago_is_forgotten(virtually, a_meter) -> None:
    heard = polled(virtually, a_meter(reads_w=cycling(100.0, 1.0, 0.0)), 2020.0)
    lost, back = of(heard, SensorLost), of(heard, SensorRecovered)
    assert len(lost) == 20
    assert all(there.at_s - gone.at_s < 2.5 for gone, there in zip(lost, back, strict=False))


def test_a_rail_that_is_off_reads_nothing_and_never_less(virtually, a_meter) -> None:
    heard = polled(virtually, a_meter(reads_w=lambda t: {"gpu": -0.008 if t < 1.0 else 0.0, "cpu": 2.0}), 2.0)
    assert of(heard, SensorLost) == []
    assert {tuple(sample.rails_w.items()) for sample in of(heard, Sampled)} == {(("gpu", 0.0), ("cpu", 2.0))}


@pytest.mark.parametrize("where", ["fails", "reads_w"])
def test_a_bug_in_a_sensor_ends_the_house_whatever_calls_it(virtually, a_meter, where: str) -> None:
    def breaks(at_s: float) -> None:
        if at_s > 0.5:
            raise ZeroDivisionError("a bug")

    with pytest.raises(Exception, match="unhandled errors") as caught:
        polled(
            virtually,
            a_meter(**{where: lambda at_s: breaks(at_s) or {"fails": None, "reads_w": {"a": 1.0}}[where]}),
            2.0,
        )
    assert [type(error) for error in getattr(caught.value, "exceptions", ())] == [ZeroDivisionError]


def watched(
    virtually,
    windows: list[tuple[float, float, str]],
    *,
    detector=difference,
    predicted: tuple[float, float] = (float("nan"), float("nan")),
    meanwhile: dict[int, Event] | None = None,
    busy: dict[int, float] | None = None,
    phase: str | None = None,
) -> list[PhaseChanged]:
    heard: list[Event] = []

    async def main() -> None:
        bus = Bus()
        eyes = bus.subscribe("eyes", PhaseChanged)
        watcher = PhaseWatcher(bus, detector)
        async with anyio.create_task_group() as group:
            await group.start(lambda *, task_status: watcher.run(task_status=task_status))
            for number, (rate, power, place) in enumerate(windows):
                seen = Observation(
                    configuration=Configuration({"gpu_hz": 1e9 if place == "idle" else 2e9}),
                    start_s=number,
                    end_s=number + 1,
                    beats=10,
                    steps=10,
                    rate_hz=rate,
                    power_w=power,
                    power_samples=10,
                    step_cv=0.02,
                    power_cv=0.02,
                    utilisation={"gpu": (busy or {}).get(number, 0.5)},
                )
                if meanwhile and number in meanwhile:
                    bus.publish(meanwhile[number])
                bus.publish(
                    WindowClosed(
                        at_s=number + 1.0,
                        app="a",
                        observation=seen,
                        phase=phase or place,
                        predicted_rate_hz=predicted[0],
                        predicted_power_w=predicted[1],
                    )
                )
            await anyio.sleep(1)
            group.cancel_scope.cancel()
        eyes.close()
        heard.extend([event async for event in eyes])

    virtually(main)
    return heard  # type: ignore[return-value]


def test_a_steady_program_has_no_phases(virtually) -> None:
    assert watched(virtually, [(10.0, 5.0, "idle")] * 50) == []


def test_a_change_of_rate_is_announced_once_with_before_and_after(virtually) -> None:
    (changed,) = watched(virtually, [(10.0, 5.0, "idle")] * 10 + [(8.0, 5.0, "idle")] * 2)
    assert (changed.signal, changed.before, changed.after) == ("rate", 10.0, 8.0)


def test_a_change_of_power_alone_is_one_too(virtually) -> None:
    (changed,) = watched(virtually, [(10.0, 5.0, "idle")] * 10 + [(10.0, 6.5, "idle")] * 2)
    assert changed.signal == "power"


def test_windows_of_profiling_are_not_compared(virtually) -> None:
    assert watched(virtually, [(float(r), 5.0, "profiling") for r in range(1, 30)]) == []


def test_two_configurations_that_take_turns_are_watched_each_on_its_own(virtually) -> None:
    fast, slow = (10.0, 5.0, "idle"), (6.0, 3.0, "profiling")
    assert watched(virtually, [fast, slow] * 40, phase="idle") == []
    (changed,) = watched(virtually, [fast, slow] * 20 + [(8.0, 5.0, "idle"), slow] * 4, phase="idle")
    assert (changed.signal, changed.before, changed.after) == ("rate", 10.0, 8.0)


STEADY, SLOW = [(10.0, 5.0, "idle")] * 10, [(8.0, 5.0, "idle")] * 4


def test_where_nothing_speaks_against_it_the_program_has_changed(virtually) -> None:
    (changed,) = watched(virtually, STEADY + SLOW[:2], detector=cusum, predicted=(10.0, 5.0))
    assert (changed.signal, changed.cause) == ("rate", "program")


def test_a_model_that_was_never_right_is_wrong_and_said_to_be_so_once(virtually) -> None:
    (changed,) = watched(virtually, STEADY * 3, detector=cusum, predicted=(10.0, 8.0))
    assert (changed.signal, changed.cause, changed.before, changed.after) == ("power", "model", 8.0, 5.0)


def test_another_program_on_the_machine_is_interference(virtually) -> None:
    joined = {9: AppJoined(at_s=9.0, app="b")}
    (changed,) = watched(virtually, STEADY + SLOW, detector=cusum, meanwhile=dict(joined))
    assert changed.cause == "interference"
    assert "1 more program" in changed.why
    left = {5: AppJoined(at_s=5.0, app="b"), 9: AppLeft(at_s=9.0, app="b")}
    (changed,) = watched(virtually, STEADY + SLOW, detector=cusum, meanwhile=dict(left))
    assert changed.cause == "program"


def test_slower_on_a_busier_device_is_interference(virtually) -> None:
    (changed,) = watched(virtually, STEADY + SLOW, detector=cusum, busy=dict.fromkeys(range(10, 14), 0.9))
    assert changed.cause == "interference"
    assert "from 50% to 90%" in changed.why


def test_slower_with_less_power_on_a_hot_board_is_throttling(virtually) -> None:
    hot = {10: Sampled(at_s=10.0, sensor="t", temperatures_c={"cpu": 60.0, "gpu": 90.0})}
    cooler = [(8.0, 4.0, "idle")] * 4
    (changed,) = watched(virtually, STEADY + cooler, detector=cusum, meanwhile=dict(hot))
    assert changed.cause == "throttling"
    assert "90 C" in changed.why


def test_what_the_hardware_says_of_throttling_is_believed(virtually) -> None:
    slower = [(8.0, 4.9, "idle")] * 4  # power alone would not tell
    held = {10: Throttled(at_s=10.0, sensor="t", reasons=("gpu0: power brake",))}
    (changed,) = watched(virtually, STEADY + slower, detector=cusum, meanwhile=dict(held))
    assert (changed.cause, changed.why) == ("throttling", "slower, and gpu0: power brake")
    over = {9: Throttled(at_s=9.0, sensor="t", reasons=("x",)), 10: Throttled(at_s=10.0, sensor="t", reasons=())}
    (changed,) = watched(virtually, STEADY + slower, detector=cusum, meanwhile=over)
    assert changed.cause == "program"


def test_cusum_goes_on_over_configurations_and_finds_no_change_in_them(virtually) -> None:
    turns = [(10.0, 5.0, "idle")] * 20 + [(3.0, 1.0, "profiling")] * 3 + [(10.0, 5.0, "idle")] * 20
    assert watched(virtually, turns, detector=cusum) == []


def test_a_poller_says_when_throttling_begins_changes_and_ends(virtually) -> None:
    told = [(), ("a",), ("a",), ("a", "b"), (), ()]

    class Meter:
        name, period_s, lag_s = "meter", 0.1, 0.0

        async def read(self) -> Sample:
            at_s = anyio.current_time()
            return Sample(at_s=at_s, temperatures_c={"x": 50.0 + at_s}, throttled=told[min(round(at_s * 10), 5)])

    heard: list[Throttled] = []

    async def main() -> None:
        bus = Bus()
        inbox = bus.subscribe("eyes", Throttled)
        async with anyio.create_task_group() as group:
            await group.start(lambda *, task_status: SensorPoller(Meter(), bus).run(task_status=task_status))
            await anyio.sleep(0.95)
            group.cancel_scope.cancel()
        inbox.close()
        heard.extend([event async for event in inbox])

    virtually(main)
    assert [(event.sensor, event.reasons) for event in heard] == [
        ("meter", ("a",)), ("meter", ("a", "b")), ("meter", ())
    ]  # fmt: skip
