"""What a power limit does to the clock of the device that it holds back: the inner part of `physics` for such knobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

DEMAND = (-0.4, 0.5)  # ln of the watts a program would draw without a limit, as share of the highest limit
FLOOR = (-0.7, 0.7)  # logit of the share of these watts that no clock lowers: leakage, memory, fans
SOFT = 0.04  # of the highest limit: how far below its floor a device still finds clocks
KNEE = 8.0  # how sharply a limit begins to bind: peaks are clipped before the mean is
_ROUNDS = 7  # of Newton's method from above on a convex function; 1e-9 after 5 or 6 of them


class Limited(NamedTuple):
    """ln clock as share of the unlimited one, (n,), and its derivatives by demand, floor and voltage, (n,) each."""

    clock: Numbers
    by_demand: Numbers
    by_floor: Numbers
    by_voltage: Numbers


def limited(limit: Numbers, demand: float, floor: float, voltage: float) -> Limited:
    """The clock at which a device keeps a limit on its watts.

    A limit is a ceiling: with D = e^demand what the device would draw, s = sigmoid(floor) D what it draws at no clock
    at all, and g(x) = x (1 - v + v x^3), v = sigmoid(voltage), its moving watts at clock x (voltage squared times
    clock, as everywhere in `physics`), the clock x solves s + (D - s) g(x) = min(l, D). Watts then follow the limit in
    a straight line up to D and not beyond, and time rises only below D. The corners are rounded: min(1, h) is
    (1 + h^-k)^(-1/k), and l - s is s0 ln(1 + e^((l - s) / s0)), since clocks end above zero.

    Args:
        limit: ln of the limit as share of the highest one, shape (n,).
        demand: ln of what the device would draw, as share of the highest limit.
        floor: Logit of the share of it that no clock lowers.
        voltage: Logit of the share of its moving watts that goes with the voltage.
    """
    most, share = np.exp(demand), 1.0 / (1.0 + np.exp(-floor))
    z = (np.exp(limit) - most * share) / SOFT
    above = np.logaddexp(0.0, z)
    steep = np.exp(z - above) / above  # d ln(above) / dz: logistic(z) / above, since 1 + e^z = e^above
    ln_h = np.log(SOFT * above) - demand - np.log1p(-share)
    ln_g = -np.logaddexp(0.0, -KNEE * ln_h) / KNEE
    binding = np.exp(-np.logaddexp(0.0, KNEE * ln_h))
    v = 1.0 / (1.0 + np.exp(-voltage))
    x = _clock(np.exp(ln_g), v)
    cubes = x**3 - 1.0
    lift = 1.0 + v * cubes
    bend = 1.0 + 3.0 * v * x**3 / lift  # d ln g / d ln x
    return Limited(
        np.log(x),
        binding / bend * (-steep * most * share / SOFT - 1.0),
        binding / bend * (-steep * most * share * (1.0 - share) / SOFT + share),
        -v * (1.0 - v) * cubes / lift / bend,
    )


def _clock(moving: Numbers, v: float) -> Numbers:
    """Solve (1 - v) x + v x^4 = moving, (n,), 0 < moving <= 1: each term alone bounds x from above."""
    x = np.minimum(np.minimum(moving / (1.0 - v), (moving / v) ** 0.25), 1.0)
    for _ in range(_ROUNDS):
        x = x - ((1.0 - v) * x + v * x**4 - moving) / (1.0 - v + 4.0 * v * x**3)
    return x
