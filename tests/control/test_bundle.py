"""Several platforms as one. Not covered: the platforms themselves (tests/platforms)."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceml.control.bundle import bundled, members
from ceml.control.ports import Platform
from ceml.domain.knobs import Knob, KnobSpace
from ceml.domain.values import DevicePower, Knowledge
from ceml.errors import SettingsError
from ceml.testing.directory import Directory
from ceml.testing.host import FakeHost
from tests.conftest import ROOT
from tests.test_serve import CLEAN, Server, ceml, wait_until


def part(
    name: str, levels: int, *, total: tuple[str, ...] = (), holes: tuple[int, ...] = (), **more: object
) -> Platform:
    knob = Knob(name=f"{name}_hz", levels=tuple(float(level) for level in range(1, levels + 1)))
    space = KnobSpace([knob]).without(holes)
    made = Platform(
        name=name,
        space=space,
        sensors=(SimpleNamespace(name=f"{name} sensor"),),  # type: ignore[arg-type]
        actuators=(name,),  # type: ignore[arg-type]
        total_rails=total,
        rails=total,
        board={"model": name},
    )
    return replace(made, **more)  # type: ignore[arg-type]


CPU = part("cpu", 3, total=("cpu", "mem"), labels=("power of the processor packages only",))
GPU = part("gpu", 2, total=("gpu",), labels=("power of the GPUs only",))
ESTIMATE = part("share", 2, total=("estimated",), labels=("power estimated from processor load",))
METER = part("all", 2, total=("total",))


def test_one_alone_stays_as_it_is() -> None:
    assert bundled([CPU]) is CPU


def test_knobs_sensors_and_actuators_of_all_are_there() -> None:
    made = bundled([CPU, GPU])
    assert (made.name, len(made.space)) == ("cpu+gpu", 6)
    assert [sensor.name for sensor in made.sensors] == ["cpu sensor", "gpu sensor"]
    assert made.actuators == ("cpu", "gpu")
    assert made.board == {"cpu model": "cpu", "gpu model": "gpu"}
    assert made.machine == "cpu+gpu"


@pytest.mark.parametrize(
    ("parts", "counted", "labels"),
    [
        ([CPU, GPU], ("cpu", "mem", "gpu"), ("power of the processor packages and the GPUs only",)),
        ([GPU, METER], ("total",), ()),
        ([ESTIMATE, GPU], ("estimated", "gpu"), ("power of the GPUs only", "power estimated from processor load")),
        ([ESTIMATE, CPU], ("cpu", "mem"), ("power of the processor packages only",)),
        ([part("x", 2), GPU], ("gpu",), ("power of the GPUs only",)),
        ([part("x", 2), part("y", 2)], (), ()),
    ],
)
def test_no_power_counts_twice_and_what_is_missing_is_said(
    parts: list[Platform], counted: tuple[str, ...], labels: tuple[str, ...]
) -> None:
    made = bundled(parts)
    assert (made.total_rails, made.labels) == (counted, labels)


@given(holes=st.lists(st.lists(st.integers(0, 3), max_size=3, unique=True), min_size=2, max_size=4))
def test_a_state_is_there_where_each_part_of_it_is(holes: list[list[int]]) -> None:
    parts = [part(f"k{at}x", 4, holes=tuple(missing)) for at, missing in enumerate(holes)]
    made = bundled(parts)
    count = 1
    for each in parts:
        count *= len(each.space)
    assert len(made.space) == count
    for state in made.space.states[:: max(count // 20, 1)]:
        whole = made.space.configuration(int(state))
        assert all(
            each.space.find({each.space.knobs[0].name: whole[each.space.knobs[0].name]}) is not None for each in parts
        )


@pytest.mark.parametrize("clash", [{"rails": ("cpu",)}, {"sensors": CPU.sensors}, {"space": CPU.space}])
def test_what_two_of_them_have_is_refused_by_name(clash: dict) -> None:
    with pytest.raises(SettingsError, match="more than one of them has a"):
        bundled([CPU, replace(GPU, **clash)])


def test_one_program_of_its_own_is_enough() -> None:
    with pytest.raises(SettingsError, match="at most one"):
        bundled([replace(CPU, stage=object()), replace(GPU, stage=object())])  # type: ignore[arg-type]


def test_calibrations_come_together() -> None:
    power = DevicePower(levels_hz=(1.0,), slope_w=(1.0,), idle_w=(1.0,))
    made = bundled(
        [
            replace(CPU, knowledge=Knowledge(board={"cpu": power})),
            replace(GPU, knowledge=Knowledge(board={"gpu": power})),
        ]
    )
    assert made.knowledge is not None
    assert set(made.knowledge.board) == {"cpu", "gpu"}


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("linux", ["linux"]),
        ("linux:meter=a+nvml:gpu=1", ["linux:meter=a", "nvml:gpu=1"]),
        ("bandwidth:pid=3,idle_w=1e+1+amd", ["bandwidth:pid=3,idle_w=1e+1", "amd"]),
        ("a+b/c+d.py:factory:x=1", ["a+b/c+d.py:factory:x=1"]),
    ],
)
def test_a_plus_before_a_name_joins_and_no_other(reference: str, parts: list[str]) -> None:
    assert members(reference) == parts


@given(st.text())
def test_taking_apart_loses_nothing(reference: str) -> None:
    assert "+".join(members(reference)) == reference


LIBRARY = """
import sys
from ceml.testing.nvml import FakeNvml
sys.modules[__name__] = FakeNvml()
"""


def test_a_server_of_processors_and_a_gpu_is_settings_not_code(tmp_path: Path) -> None:
    (tmp_path / "pynvml.py").write_text(LIBRARY)
    host = FakeHost()
    host.add_rapl()
    before = CLEAN.get("PYTHONPATH")
    CLEAN["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(ROOT)])
    try:
        with Directory(host, tmp_path / "host") as root:
            found = {policy.governor for policy in host.policies}
            quick = ("--model", "paper", "--beats-per-state", 2, "--power-samples-per-state", 2)
            server = Server(tmp_path, "--platform", f"linux:root={root}+nvml", "--sensor-period-s", 0.05, *quick).up()
            with (tmp_path / "beats").open("w") as pipe:
                pipe.write("app=a event=join\n")
                number = 0
                while not server.events("decided"):
                    number += 1
                    pipe.write(f"app=a beat={number}\n")
                    pipe.flush()
                    assert server.process.poll() is None, server.log.read_text()
                    time.sleep(0.02)  # a step of work
            started, windows = server.events("run_started")[0], server.events("window_closed")
            code, out = server.end()
            wait_until(lambda: {policy.governor for policy in host.policies} == found, "the governors")
    finally:
        if before is None:
            del CLEAN["PYTHONPATH"]
        else:
            CLEAN["PYTHONPATH"] = before
    assert code == 0, server.log.read_text()
    assert set(started["knobs"]) == {"cpu_hz", "gpu_hz"}
    assert started["total_rails"] == ["cpu", "mem", "gpu"]
    assert started["labels"] == ["power of the processor packages and the GPUs only"]
    watts = [window["observation"]["power_w"] for window in windows if window["observation"]["power_w"] is not None]
    assert watts
    assert all(150 < power_w < 300 for power_w in watts)  # 34 W and 180 W
    assert "of the processor packages and the GPUs only" in out


def test_a_member_that_is_none_is_named() -> None:
    done = ceml("serve", "--platform", "simulated+nvlm")
    assert (done.returncode, "did you mean nvml" in done.stderr) == (2, True)
