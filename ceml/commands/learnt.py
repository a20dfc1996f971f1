"""What programs taught of a machine, as numbers that a person can read: where the default model begins the next one."""

from __future__ import annotations

from math import exp, sqrt
from typing import TYPE_CHECKING

from ceml.domain.keeping import SURELY_Z
from ceml.domain.knobs import KnobSpace
from ceml.domain.response.overlap import overlap
from ceml.domain.values import Knowledge
from ceml.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ceml.domain.values import Remembered

TOLD = 0.9  # of the doubt that is usual must be left, at most, to be worth a line
WORDS = {
    "constant": "what draws always",
    "idle": "idle",
    "busy": "busy",
    "steepness": "exponent of the clock in power",
    "voltage": "share of the voltage that follows the clock",
    "cores_power": "exponent of the cores in idle power",
    "slowing": "exponent of the clock in time",
    "power_exponent": "exponent in power",
    "time_exponent": "exponent in time",
}
RELATIVE = ("constant", "idle", "busy")  # ln watts at the highest clocks, on the scale of the whole board


def learnt_lines(programs: Sequence[Remembered]) -> Iterator[str]:
    """One line for each number of the machine that programs made surer, 90 % ranges; nothing without programs.

    Args:
        programs: All phases of each, the latest first.
    """
    if not programs:
        return
    try:
        space = KnobSpace(programs[0].knobs)
    except SettingsError:  # larger than anything a run would have measured
        return
    usual = overlap().fit(space, ()).believed
    here = overlap().fit(space, (), prior=Knowledge(programs=tuple(programs))).believed
    count = len({program.app for program in programs})
    yield f"learnt    from {count} program{'s' * (count != 1)}, where the next one begins; 90 % ranges"
    yield "          (before any program); % of the scale of the board's power"
    for at, name in enumerate(here.names):
        owner, _, label = name.rpartition(".")
        now_sd, usual_sd = (sqrt(max(belief.covariance[at, at], 0.0)) for belief in (here, usual))
        if label not in WORDS or now_sd > TOLD * usual_sd:
            continue
        now, before = (_range(label, float(belief.mean[at]), sd) for belief, sd in ((here, now_sd), (usual, usual_sd)))
        yield f"          {owner or 'board':10} {WORDS[label]:44} {now}  ({before})"


def _range(label: str, mean: float, sd: float) -> str:
    low, high = mean - SURELY_Z * sd, mean + SURELY_Z * sd  # 5 % on either side
    if label in RELATIVE:
        return f"{100 * exp(low):.2g} .. {100 * exp(high):.2g} %"
    if label == "voltage":
        low, high = (1.0 / (1.0 + exp(-each)) for each in (low, high))
    return f"{low:.2g} .. {high:.2g}"
