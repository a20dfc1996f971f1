"""Actuator and sensor of a plant, over a machine in memory. Not covered: machines in files (test_fileboard.py)."""

import anyio
import pytest

from ceml.domain.knobs import Configuration
from ceml.errors import Refused, SettingsError
from ceml.plant.board import QUANTUM_W, jetson_tx2
from ceml.platforms.plantboard import MemoryBoard, PlantActuator, PlantSensor, check_noise
from ceml.saved import Item, Saved

VIT = jetson_tx2("vit")
TOP = VIT.space.configuration(VIT.space.max_state)


def sensor(board, **options) -> PlantSensor:
    return PlantSensor(board, **{"quantum_w": {}, "noise": 0.0, "period_s": 0.1, "seed": 0} | options)


def test_a_machine_is_found_at_its_highest_and_located_where_it_was_put(virtually):
    async def main():
        actuator = PlantActuator(MemoryBoard(VIT))
        assert await actuator.locate() == TOP
        effective = await actuator.apply(Configuration({"gpu_hz": 800e6}))
        assert effective == Configuration({**TOP, "gpu_hz": 854.25e6})
        assert await actuator.locate() == effective
        assert actuator.knobs == VIT.space.knobs

    virtually(main)


def test_a_configuration_applied_twice_changes_nothing(virtually):
    async def main():
        board = MemoryBoard(VIT)
        actuator, calls = PlantActuator(board), []
        board.disturbed = lambda: calls.append(1)
        once = await actuator.apply(Configuration({"cpu_hz": 1e9}))
        transitions = list(board.machine.transitions)
        assert await actuator.apply(once) == once
        assert board.machine.transitions == transitions
        assert len(calls) == 1

    virtually(main)


def test_leaving_puts_every_knob_back_and_twice_is_as_good_as_once(virtually):
    async def main():
        actuator = PlantActuator(MemoryBoard(VIT))
        await actuator.apply(Configuration({"cpu_hz": 806.4e6}))
        saved = await actuator.save()
        await actuator.apply(Configuration({"cpu_hz": 2035.2e6, "mem_hz": 665.6e6}))
        for _ in range(2):
            assert await actuator.restore(saved) == ()
            assert await actuator.locate() == Configuration({**TOP, "cpu_hz": 806.4e6})

    virtually(main)


def test_what_cannot_be_put_back_is_returned_and_never_raised(virtually):
    async def main():
        actuator = PlantActuator(MemoryBoard(VIT))
        (good,) = (await actuator.save()).items
        spoilt = [good._replace(value=value) for value in ("[", "[1]", "3", '{"fan": 1}', '{"cpu_hz": [1]}', None)]
        failed = await actuator.restore(Saved((*spoilt, Item("sysfs", "/elsewhere", "1"), good)))
        assert [item.target for item in failed] == [good.target] * 5

    virtually(main)


def test_what_the_board_does_not_know_is_refused_and_nothing_moves(virtually):
    async def main():
        actuator = PlantActuator(MemoryBoard(VIT))
        with pytest.raises(Refused, match="fan_hz"):
            await actuator.apply(Configuration({"cpu_hz": 806.4e6, "fan_hz": 1.0}))
        assert await actuator.locate() == TOP

    virtually(main)


def test_without_noise_a_reading_is_the_truth_of_the_state_in_force(virtually):
    async def main():
        board = MemoryBoard(VIT)
        actuator, reader = PlantActuator(board), sensor(board)
        idle = await reader.read()
        assert idle.rails_w == VIT.idle_rails_w(VIT.space.max_state)
        assert idle.utilisation == {"cpu": 0.0, "gpu": 0.0, "mem": 0.0}
        board.running = True
        slow = await actuator.apply(Configuration({"mem_hz": 665.6e6}))
        assert (await reader.read()).rails_w == VIT.rails_w(VIT.space.max_state)  # not yet in force
        await anyio.sleep(0.008)
        sample = await reader.read()
        assert sample.at_s == anyio.current_time() == 0.008
        assert sample.rails_w == VIT.rails_w(VIT.space.find(slow))
        assert sample.utilisation == VIT.utilisation(VIT.space.find(slow))
        assert (sample.covers_s, reader.lag_s, reader.period_s, reader.name) == (0.0, 0.0, 0.1, "board")

    virtually(main)


def test_noise_has_the_width_asked_for_and_comes_from_the_seed_alone(virtually):
    async def readings(seed: int) -> list[float]:
        board = MemoryBoard(VIT)
        board.running = True
        reader = sensor(board, noise=0.025, seed=seed)
        return [(await reader.read()).rails_w["total"] for _ in range(4000)]

    first, again, other = virtually(lambda: readings(1)), virtually(lambda: readings(1)), virtually(lambda: readings(2))
    assert first == again != other
    truth = VIT.rails_w(VIT.space.max_state)["total"]
    mean = sum(first) / len(first)
    std = (sum((w - mean) ** 2 for w in first) / len(first)) ** 0.5
    assert mean / truth == pytest.approx(1.0, abs=0.002)
    assert std / truth == pytest.approx(0.025, rel=0.1)


def test_readings_come_in_the_steps_of_the_sensor_and_are_never_negative(virtually):
    async def main():
        board = MemoryBoard(VIT)
        board.running = True
        reader = sensor(board, noise=1.0, quantum_w=QUANTUM_W)
        for _ in range(300):
            for rail, watts in (await reader.read()).rails_w.items():
                assert watts >= 0.0
                assert watts / QUANTUM_W[rail] == pytest.approx(round(watts / QUANTUM_W[rail]))

    virtually(main)


@pytest.mark.parametrize(("name", "number"), [("noise_time", -0.1), ("noise_power", 1.1), ("sensor_period_s", 0.0)])
def test_a_noise_or_period_out_of_range_is_named(name, number):
    check_noise(noise_time=0.0, noise_power=1.0, sensor_period_s=0.01)
    with pytest.raises(SettingsError, match=f"{name}={number}"):
        check_noise(**{name: number})
    with pytest.raises(SettingsError, match=f"{name}=nan"):
        check_noise(**{name: float("nan")})
