"""A Jetson TX2 by equations that were fitted to measurements, with its real frequency tables.

Equations and parameters: `sim_calibration` of the project's board profile `jetson-tx2`, fitted to the module power
and step times that were published with BoFL (hongpeng-guo/BoFL@c89944d, 936 settings for each of three trainings;
mean error 0.9 to 1.4 % in time, 3.2 to 3.5 % in power, in sample). Only the power of the whole module (VDD_IN) was
measured there: how it splits over CPU, GPU and memory is ASSUMED here, term by term of the fitted equation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ceml.domain.knobs import Knob, KnobSpace
from ceml.domain.values import DevicePower, Knowledge
from ceml.errors import SettingsError
from ceml.plant.machine import Plant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

LABELS = ("simulated", "per-device split of power assumed")

DEVICES = ("cpu", "gpu", "mem")

# Jetson TX2, JetPack 4. Both CPU clusters use one table.
CPU_HZ = tuple(1e3 * khz for khz in range(345_600, 2_035_201, 153_600))
GPU_HZ = tuple(
    1e6 * mhz
    for mhz in (114.75, 216.75, 318.75, 420.75, 522.75, 624.75, 726.75, 854.25, 930.75, 1032.75, 1122, 1236.75, 1300.5)
)
# The board has 40.8, 68, 102 and 204 MHz too; nothing was measured below 408 MHz, the equations do not reach there.
MEM_HZ = (408e6, 665.6e6, 800e6, 1062.4e6, 1331.2e6, 1600e6, 1866e6)

# No switching latency of a TX2 was ever published; these are the Orin Nano's (arXiv 2606.16106).
SETTLE_S: Mapping[str, float] = {"cpu_hz": 0.001, "gpu_hz": 0.005, "mem_hz": 0.008}

# Smallest steps seen in published readings of this board; that of `total` (VDD_IN) is assumed.
QUANTUM_W: Mapping[str, float] = {"cpu": 0.0766, "gpu": 0.0766, "mem": 0.01915, "total": 0.01915}

RANGES: Mapping[str, tuple[float, float, float]] = {
    "paper": (806.4e6, 420.75e6, 665.6e6),  # lowest levels of C2: 9 x 10 x 6 = 540 states
    "full": (0.0, 0.0, 0.0),  # 12 x 13 x 7 = 1092 states
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Parameters of one program on the board.

    Attributes:
        what: The program in words.
        time: tc, tg, tm (seconds x GHz of CPU, GPU and memory work in a step), t0 (seconds that no clock changes),
            p and q (how the parts overlap: 1 = one after the other, infinite = fully side by side).
        power: c0 to c8 of `device_powers_w`.
    """

    what: str
    time: tuple[float, float, float, float, float, float]
    power: tuple[float, ...]


_VIT_W = (1.6228, 0.125, 0.1085, 1.1009, 0.0, 1.7, 0.5976, 2.0409, 0.2966)
_RESNET_W = (1.507, 0.2084, 0.2272, 1.016, 0.0, 1.793, 0.6318, 2.1112, 0.2527)
_LSTM_W = (1.6741, 0.2437, 0.1245, 0.5697, 0.0, 1.8517, 0.5393, 2.4107, 0.1757)

PROGRAMS: Mapping[str, Program] = {
    "vit": Program(
        what="ViT-B/16 training, batch 32 (fitted)",
        time=(0.32559, 0.41862, 0.54076, 0.03118, 20.3988, 1.92564),
        power=_VIT_W,
    ),
    "resnet50": Program(
        what="ResNet-50 training, batch 8 (fitted)",
        time=(0.206, 0.72595, 0.92471, 0.06118, 4.21644, 2.02299),
        power=_RESNET_W,
    ),
    "lstm": Program(
        what="LSTM training, batch 8 (fitted)",
        time=(0.66606, 0.55745, 0.91169, 0.06965, 4.85863, 2.68632),
        power=_LSTM_W,
    ),
    "cpu-bound": Program(
        what="strongly CPU-bound (synthetic, not measured)", time=(1.0, 0.12, 0.15, 0.02, 3.0, 2.0), power=_LSTM_W
    ),
    "gpu-bound": Program(
        what="strongly GPU-bound (synthetic, not measured)", time=(0.05, 0.9, 0.35, 0.02, 6.0, 2.0), power=_VIT_W
    ),
}

# The load of the offline calibration is none of the programs: it draws the mean of the three fitted power equations.
_STRESS_W: tuple[float, ...] = tuple(float(c) for c in np.mean((_VIT_W, _RESNET_W, _LSTM_W), axis=0))


def jetson_tx2_space(range: str = "paper") -> KnobSpace:
    """The states of the board: `paper` = 9 x 10 x 6 = 540 (C2), `full` = 12 x 13 x 7 down to 408 MHz of memory clock.

    Raises:
        SettingsError: An unknown range.
    """
    if range not in RANGES:
        raise SettingsError(f"range={range!r}: the simulated Jetson TX2 knows the ranges {', '.join(RANGES)}")
    tables = {"cpu_hz": CPU_HZ, "gpu_hz": GPU_HZ, "mem_hz": MEM_HZ}
    return KnobSpace(
        Knob(name=name, levels=tuple(hz for hz in table if hz >= low), settle_s=SETTLE_S[name])
        for (name, table), low in zip(tables.items(), RANGES[range], strict=True)
    )


def step_time_s(program: Program, ghz: Numbers) -> tuple[Numbers, Numbers]:
    """Seconds per step, and the busy share of each device in it.

    T = t0 + ((tc/fc)^p + G^p)^(1/p) with G = ((tg/fg)^q + (tm/fm)^q)^(1/q) and f in GHz (see the file's docstring);
    the busy share of a device is its own part (k/f) divided by T, at most 1.

    Args:
        program: Its parameters.
        ghz: CPU, GPU and memory clock in GHz, shape (n, 3), positive.

    Returns:
        Seconds, shape (n,), and utilisation of CPU, GPU and memory, shape (n, 3).
    """
    *work, t0, p, q = program.time
    parts = np.array(work) / ghz
    device = (parts[:, 1] ** q + parts[:, 2] ** q) ** (1.0 / q)
    seconds = t0 + (parts[:, 0] ** p + device**p) ** (1.0 / p)
    return seconds, np.minimum(parts / seconds[:, None], 1.0)


def device_powers_w(power: tuple[float, ...], ghz: Numbers, busy: Numbers) -> Numbers:
    """Watts of CPU, GPU and memory; with c0 for the rest of the module they add up to VDD_IN.

    P = c0 + [c1 fc + c2 uc fc^3] + [c3 fg + c4 ug fg + c5 ug fg^3] + [c6 fm + c7 um fm + c8 um fm^3], f in GHz,
    u the busy share. The brackets are what is ASSUMED to be each device's part.

    Args:
        power: c0 to c8.
        ghz: Clocks in GHz, shape (n, 3).
        busy: Utilisation, shape (n, 3); zeros give the idle power.

    Returns:
        Watts, shape (n, 3).
    """
    _, c1, c2, c3, c4, c5, c6, c7, c8 = power
    fc, fg, fm = _columns(ghz)
    uc, ug, um = _columns(busy)
    return np.stack(
        (c1 * fc + c2 * uc * fc**3, c3 * fg + c4 * ug * fg + c5 * ug * fg**3, c6 * fm + c7 * um * fm + c8 * um * fm**3),
        axis=1,
    )


def jetson_tx2(workload: str, *, range: str = "paper") -> Plant:
    """One program on the simulated board.

    Raises:
        SettingsError: An unknown workload or range.
    """
    if workload not in PROGRAMS:
        known = "; ".join(f"{name}: {program.what}" for name, program in PROGRAMS.items())
        raise SettingsError(f"workload={workload!r}: the simulated Jetson TX2 runs {known}")
    program, space = PROGRAMS[workload], jetson_tx2_space(range)
    ghz = space.values(space.states) / 1e9
    step_s, busy = step_time_s(program, ghz)
    rail_w = _rails(program.power, ghz, busy)
    return Plant(
        space=space,
        workload=workload,
        machine="simulated jetson-tx2",
        step_s=step_s,
        power_w=rail_w["total"],
        rail_w=rail_w,
        busy=dict(zip(DEVICES, _columns(busy), strict=True)),
        idle_rail_w=_rails(_STRESS_W, ghz, np.zeros_like(ghz)),  # idle belongs to the board, not to a program
        quantum_w=QUANTUM_W,
        labels=LABELS,
    )


def _columns(table: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    return table[:, 0], table[:, 1], table[:, 2]


def _rails(power: tuple[float, ...], ghz: Numbers, busy: Numbers) -> dict[str, Numbers]:
    watts = device_powers_w(power, ghz, busy)
    return {**dict(zip(DEVICES, _columns(watts), strict=True)), "total": power[0] + watts.sum(axis=1)}


def calibration() -> Knowledge:
    """The paper's offline regression (C9, Eq. 2) on this board: one (slope, idle) pair per device and level.

    Each device is put under a stress load of 0 to 100 % utilisation at each of its levels while the others idle, and
    P = slope_w * U + idle_w is fitted to its power by least squares. The load is none of the programs above, so a
    program's own power differs from the calibration as it does on a real board. Simulated, like the board.
    """
    loads = np.linspace(0.0, 1.0, 11)
    board: dict[str, DevicePower] = {}
    for axis, (device, levels_hz) in enumerate(zip(DEVICES, (CPU_HZ, GPU_HZ, MEM_HZ), strict=True)):
        pairs = [_stress(axis, hz, loads) for hz in levels_hz]
        board[device] = DevicePower(
            levels_hz=levels_hz, slope_w=tuple(slope for slope, _ in pairs), idle_w=tuple(idle for _, idle in pairs)
        )
    return Knowledge(board=board)


def _stress(axis: int, hz: float, loads: Numbers) -> tuple[float, float]:
    """Slope and idle power of one device at one level, by linear regression over the loads."""
    ghz, busy = np.ones((len(loads), 3)), np.zeros((len(loads), 3))
    ghz[:, axis], busy[:, axis] = hz / 1e9, loads
    watts = device_powers_w(_STRESS_W, ghz, busy)[:, axis]
    apart = loads - loads.mean()
    slope = float(apart @ watts / (apart @ apart))
    return slope, float(watts.mean() - slope * loads.mean())
