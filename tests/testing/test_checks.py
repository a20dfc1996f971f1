"""The checks catch what they promise to: each part here breaks one. Not covered: sound parts (tests/platforms)."""

from __future__ import annotations

import time

import anyio
import pytest

from ceml.domain.knobs import Configuration, Knob
from ceml.domain.values import Sample
from ceml.errors import Refused, Unavailable
from ceml.saved import Item, Saved, Unrestored
from ceml.testing.checks import BrokenPromise, check_actuator, check_sensor, spread

KNOB = Knob(name="gpu_hz", levels=(1e8, 2e8, 3e8, 4e8))


class Sound:
    """An actuator that keeps every promise."""

    def __init__(self) -> None:
        self.value = 3e8

    @property
    def knobs(self):
        return (KNOB,)

    async def locate(self):
        return Configuration({"gpu_hz": self.value})

    async def glance(self):
        return await self.locate()

    async def apply(self, wanted):
        for name, level in wanted.items():
            if name != "gpu_hz" or level not in KNOB.levels:
                raise Refused(f"{name} = {level}", knob=name)
            self.value = level
        return await self.locate()

    async def save(self):
        return Saved((Item("x", "gpu", str(self.value)),))

    async def restore(self, saved):
        self.value = float(saved.items[0].value)
        return ()


class Believes(Sound):
    async def apply(self, wanted):
        await super().apply(wanted)
        self.value = min(self.value, 2e8)  # a cap that it does not read back
        return wanted


class TakesAnything(Sound):
    async def apply(self, wanted):
        self.value = wanted.get("gpu_hz", self.value)
        return await self.locate()


class RefusesAfterwards(Sound):
    async def apply(self, wanted):
        if wanted.get("gpu_hz") == -1.0:
            self.value = 1e8
        return await super().apply(wanted)


class NamesAnother(Sound):
    async def apply(self, wanted):
        try:
            return await super().apply(wanted)
        except Refused:
            raise Refused("no", knob="cpu_hz") from None


class ForgetsToRestore(Sound):
    async def restore(self, saved):
        return ()


class RestoresOnce(Sound):
    async def restore(self, saved):
        self.value, moved = float(saved.items[0].value), self.value
        return () if moved != self.value else (Unrestored("gpu", "again?"),)


class SavesByWriting(Sound):
    async def save(self):
        saved = await super().save()
        self.value = 1e8
        return saved


class SavesNumbers(Sound):
    async def save(self):
        return Saved((Item("x", "gpu", b"3e8"),))


class Creeps(Sound):
    async def apply(self, wanted):
        before = self.value
        answer = await super().apply(wanted)
        if wanted == Configuration({"gpu_hz": before}):
            self.value = 1e8
            return await self.locate()
        return answer


class AnswersForTooFew(Sound):
    @property
    def knobs(self):
        return (KNOB, Knob(name="cpu_hz", levels=(1e9,)))


def test_a_sound_actuator_passes() -> None:
    sound = Sound()

    async def disturb() -> None:
        sound.value = 1e8

    anyio.run(lambda: check_actuator(sound, levels_per_knob=4, disturb=disturb))
    assert sound.value == 3e8


@pytest.mark.parametrize(
    "broken",
    [
        Believes,
        TakesAnything,
        RefusesAfterwards,
        NamesAnother,
        ForgetsToRestore,
        RestoresOnce,
        SavesByWriting,
        Creeps,
        AnswersForTooFew,
    ],
)
def test_a_broken_actuator_is_caught(broken) -> None:
    with pytest.raises(BrokenPromise):
        anyio.run(lambda: check_actuator(broken()))


def test_what_no_journal_can_hold_is_caught() -> None:
    with pytest.raises((BrokenPromise, TypeError)):
        anyio.run(lambda: check_actuator(SavesNumbers()))


def test_one_that_does_not_look_is_caught() -> None:
    async def nothing() -> None:
        return None

    with pytest.raises(BrokenPromise, match="locate tells what is true"):
        anyio.run(lambda: check_actuator(Sound(), disturb=nothing))


def test_a_glance_from_memory_is_caught() -> None:
    class Remembers(Sound):
        ordered = 3e8

        async def glance(self):
            return Configuration({"gpu_hz": self.ordered})

        async def apply(self, wanted):
            effective = await super().apply(wanted)
            self.ordered = self.value
            return effective

    part = Remembers()

    async def disturb() -> None:
        part.value = 1e8 if part.value != 1e8 else 2e8

    with pytest.raises(BrokenPromise, match="glance shows what somebody else ordered"):
        anyio.run(lambda: check_actuator(part, disturb=disturb))


class Sensor:
    """A sensor that says what it is given."""

    name, period_s, lag_s = "s", 0.001, 0.0

    def __init__(self, **sample) -> None:
        self._sample = sample

    async def read(self):
        return Sample(**{"at_s": anyio.current_time(), "rails_w": {"cpu": 1.0}} | self._sample)


class Hangs(Sensor):
    async def read(self):
        await anyio.sleep(100)


def test_a_sound_sensor_passes() -> None:
    assert len(anyio.run(lambda: check_sensor(Sensor()))) == 5


@pytest.mark.parametrize(
    "sample",
    [
        {"at_s": 0.0},
        {"at_s": 1e12},
        {"rails_w": {"cpu": float("nan")}},
        {"utilisation": {"cpu": 1.2}},
        {"utilisation": {"cpu": -0.1}},
        {"covers_s": -1.0},
        {"rails_w": {}},
        {"temperatures_c": {"tj": float("inf")}},
    ],
)
def test_a_sensor_that_says_what_cannot_be_is_caught(sample) -> None:
    with pytest.raises(BrokenPromise):
        anyio.run(lambda: check_sensor(Sensor(**sample)))


def test_a_sensor_that_hangs_is_caught(virtually) -> None:
    async def main() -> None:
        with pytest.raises(BrokenPromise, match="less than"):
            await check_sensor(Hangs())

    virtually(main)


def test_levels_are_tried_from_both_sides() -> None:
    assert spread((1, 2, 3, 4, 5), 3) == [5, 3, 1, 3, 5]
    assert spread((1,), 3) == [1]


class Blocks(Sensor):
    async def read(self):
        time.sleep(0.5)
        return await super().read()


class Fails(Sensor):
    async def read(self):
        raise Unavailable("it is gone")


def test_a_sensor_that_blocks_the_loop_is_caught_and_an_error_of_its_own_comes_through() -> None:
    with pytest.raises(BrokenPromise, match=r"a reading blocks the loop for 0\.[45]"):
        anyio.run(lambda: check_sensor(Blocks()))
    with pytest.raises(Unavailable, match="it is gone"):
        anyio.run(lambda: check_sensor(Fails()))


@pytest.mark.parametrize("watts", [-20.0, 10_000.0])
def test_a_power_that_no_rail_carries_is_caught(watts: float) -> None:
    with pytest.raises(BrokenPromise, match="a power that a rail can carry"):
        anyio.run(lambda: check_sensor(Sensor(rails_w={"cpu": watts})))
