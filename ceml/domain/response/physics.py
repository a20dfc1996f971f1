"""Step time as the overlap of device times, power from clock and busy share: the mean of the `overlap` model."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ceml.domain.response.heritage import Belief
from ceml.domain.response.limiter import DEMAND, FLOOR, limited
from ceml.domain.values import Parameter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ceml.domain.response.devices import Devices
    from ceml.domain.response.limiter import Limited

    Numbers = NDArray[np.float64]

SCALE_SD = 5.0  # of ln seconds and ln watts: whatever the board, the scale comes from the data
FIXED = (-2.5, 1.0)  # ln of the part of a step that no clock shortens
PACED = (2.0, 1.0)  # the same of a program that mostly waits
SHARPNESS = (float(np.log(2.5)), 0.5)  # ln p: p = 1 devices take turns, large p: the slowest one decides
CONSTANT = (-1.3, 0.5)  # ln of the watts that no knob changes, as share of typical watts
WIDTH = (float(np.log(3.5)), 0.7)  # ln of how many cores a program keeps busy: loaders, threads
SATURATION = 3.0  # how sharply more cores than that stop to help
CORES_STEP = (0.0, 0.1)  # exponent of the core count in the whole step's time: sharing caches, synchronising
DRAG = (
    0.0,
    0.4,
)  # exponent of a clock in an odd program's step time; above 0 higher clocks lengthen it: heat, contention
CORES_POWER = (0.6, 0.6)  # exponent of the core count in the device's idle watts
EXTRA = (0.0, 0.3)  # exponent of a knob that belongs to no device


class Activity(NamedTuple):
    """What devices do in n states.

    Attributes:
        clocks: ln of each clock as share of its highest, also of those that a power limit leaves, (devices, n).
        cores: ln of the share of cores, of devices that have some, (cored, n).
        busy: ln of the busy share of each device, at most 0, (devices, n).
    """

    clocks: Numbers
    cores: Numbers
    busy: Numbers


class Physics:
    """ln step time and ln power of states as functions of a vector of parameters theta, with their derivatives.

    With x_d = clock of device d as share of its highest, n_d = its cores as share of the most N_d, m_d = e^width / N_d:

        L_d  = work_d - slowing_d ln x_d + ln((m_d^-q + n_d^-q) / (m_d^-q + 1)) / q     ln of the device's own time
        ln t = time + ln(e^fixed + (sum_d e^(p L_d))^(1/p)) + sum_d (drag_d ln x_d + synchronising_d ln n_d) + extras
        u_d  = min(1, e^(L_d) / t)                                            share of the step in which d works
        g_d  = x_d^steepness_d (1 - v_d + v_d x_d^3), v = sigmoid(voltage)    clock times voltage squared
        ln P = power + ln(e^constant + sum_d g_d (n_d^cores_power_d e^idle_d + u_d e^busy_d)) + extras

    with q = 3: time falls with the cores until there are more than the program keeps busy (Amdahl's law is q = 1)
    (the p-norm overlap of device times, and watts from voltage, clock and utilisation, with terms that cannot be
    negative since each is an exponential: at low clocks the voltage is at its floor and watts go with the clock;
    of the kind of the paper's C8-C13, without their straight lines). The clock of a device behind a power limit is not
    set but follows from the limit and what the program demands, see `limiter`. Range of validity: one program whose
    work per step is fixed, steady state. Relative errors of a few percent remain; the residual takes those.

    Attributes:
        parts: The devices.
        cored: Positions of those that have cores.
        names: Of the parameters.
        mean: What theta is before any measurement, shape (q,).
        variance: How sure that is, shape (q,); independent of each other on a board that is not known.
    """

    TIME, POWER, FIXED, SHARPNESS, CONSTANT = range(5)  # positions in theta

    def __init__(self, devices: Devices, *, odd: bool = False) -> None:
        self._devices = devices
        names = ["time", "power", "fixed", "sharpness", "constant"]
        priors = [(0.0, SCALE_SD), (0.0, SCALE_SD), FIXED, SHARPNESS, CONSTANT]

        def add(label: str, listed: list[tuple[float, float]], owners: list[str]) -> slice:
            start = len(names)
            names.extend(f"{owner}.{label}" for owner in owners)
            priors.extend(listed)
            return slice(start, len(names))

        parts, who = devices.devices, [device.name for device in devices.devices]
        self._work = add("work", [d.habit.work for d in parts], who)
        self._slowing = add("slowing", [d.habit.slowing for d in parts], who)
        self._idle = add("idle", [d.habit.idle for d in parts], who)
        self._busy = add("busy", [d.habit.busy for d in parts], who)
        self._steep = add("steepness", [d.habit.steepness for d in parts], who)
        self._voltage = add("voltage", [d.habit.voltage for d in parts], who)
        self._cored = [at for at, device in enumerate(parts) if device.cores >= 0]
        cored = [who[at] for at in self._cored]
        self._width = add("width", [WIDTH] * len(cored), cored)
        self._most = np.log([parts[at].most for at in self._cored])
        self._sync = add("synchronising", [CORES_STEP] * len(cored), cored)
        self._cores_power = add("cores_power", [CORES_POWER] * len(cored), cored)
        self._limited = [at for at, device in enumerate(parts) if device.limited]
        held = [who[at] for at in self._limited]
        self._demand = add("demand", [DEMAND] * len(held), held)
        self._floor = add("floor", [FLOOR] * len(held), held)
        extras = [devices.names[at] for at in devices.extras]
        self._extra_time = add("time_exponent", [EXTRA] * len(extras), extras)
        self._extra_power = add("power_exponent", [EXTRA] * len(extras), extras)
        self._dragged = [at for at, device in enumerate(parts) if odd and device.clock >= 0 and not device.limited]
        self._drag = add("drag", [DRAG] * len(self._dragged), [who[at] for at in self._dragged])  # last: see `odd`
        self.parts, self.cored = parts, tuple(self._cored)
        self.names = tuple(names)
        self.mean: Numbers = np.array([mean for mean, _ in priors], dtype=np.float64)
        self.variance: Numbers = np.array([sd * sd for _, sd in priors], dtype=np.float64)
        self._together: Numbers | None = None  # their covariance, where they hang together
        self._inverse: Numbers | None = None

    @property
    def inherits(self) -> bool:
        """Whether other programs taught something of this board."""
        return self._together is not None

    @property
    def belief(self) -> Belief:
        """What is believed of theta before any measurement."""
        together = np.eye(len(self.mean)) * self.variance if self._together is None else self._together
        return Belief(self.names, self.mean, together)

    def believe(self, belief: Belief) -> None:
        """Begin from another belief, e.g. of this very board; parameters may then hang together."""
        self.mean, self._together = belief.mean, belief.covariance
        self.variance = np.array(np.diagonal(belief.covariance))
        self._inverse = np.asarray(np.linalg.inv(belief.covariance), dtype=np.float64)

    def odd(self) -> Physics:
        """The same for a program that higher clocks may slow down: a few more parameters at the end."""
        other, q = Physics(self._devices, odd=True), len(self.mean)
        if self._together is not None:
            mean, covariance = np.array(other.mean), np.eye(len(other.mean)) * other.variance
            mean[:q], covariance[:q, :q] = self.mean, self._together
            other.believe(Belief(other.names, mean, covariance))
        return other

    def paced(self) -> Physics:
        """The same for a program that mostly waits for what no knob drives: a camera, a network, a pace of its own."""
        other = Physics(self._devices)
        other.mean, other.variance = np.array(self.mean), np.array(self.variance)
        other.mean[self.FIXED], other.variance[self.FIXED] = PACED[0], PACED[1] ** 2
        if self._together is not None:
            covariance = np.array(self._together)
            covariance[self.FIXED], covariance[:, self.FIXED] = 0.0, 0.0
            covariance[self.FIXED, self.FIXED] = other.variance[self.FIXED]
            other.believe(Belief(other.names, other.mean, covariance))
        return other

    def spread(self, slopes: Numbers) -> Numbers:
        """Prior covariance times slopes, (..., q, n): S J'."""
        return slopes * self.variance[:, None] if self._together is None else np.matmul(self._together, slopes)

    def oddity(self, off: Numbers) -> float:
        """How odd it is that theta is `off` from its mean, (q,): the squared Mahalanobis distance."""
        return float((off**2 / self.variance).sum() if self._inverse is None else off @ self._inverse @ off)

    def inputs(self, columns: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """Inputs of `evaluate`: ln x (devices, n), ln n of devices with cores (cored, n), extra columns (extras, n)."""
        n = columns.shape[1]
        still = np.zeros(n)
        parts = self._devices.devices
        clocks = np.stack([columns[device.clock] if device.clock >= 0 else still for device in parts])
        cores = [columns[parts[at].cores] for at in self._cored]
        extras = [columns[at] for at in self._devices.extras]
        return clocks, np.stack(cores) if cores else np.zeros((0, n)), np.stack(extras) if extras else np.zeros((0, n))

    def evaluate(
        self, theta: Numbers, inputs: tuple[Numbers, Numbers, Numbers], *, slopes: bool = True
    ) -> tuple[Numbers, Numbers]:
        """Give ln step time and ln power, shape (2, n), and their derivatives by theta, shape (2, q, n).

        Without `slopes` the second array is empty. Finite for any finite theta of sensible size.
        """
        limits, cores, extras = inputs
        clocks, moved = self._clocks(theta, limits)
        inputs = (clocks, cores, extras)
        values = np.empty((2, clocks.shape[1]))
        j = np.zeros((2, len(theta) if slopes else 0, clocks.shape[1]))
        own, burden = self._own_times(theta, clocks, cores)
        step = self._time(theta, inputs, own, j[0])
        values[0] = theta[self.TIME] + step + theta[self._extra_time] @ extras
        if slopes:
            j[0, self._slowing] = -j[0, self._work] * clocks
            j[0, self._width] = j[0, self._work][self._cored] * burden
            j[0, self._sync] = cores
            if self._dragged:
                j[0, self._drag] = clocks[self._dragged]
        values[1] = theta[self.POWER] + theta[self._extra_power] @ extras
        values[1] += self._power(theta, inputs, own - step, j)
        if slopes:
            j[1, self._slowing] = -j[1, self._work] * clocks
            j[1, self._width] = j[1, self._work][self._cored] * burden
            self._through_clocks(theta, clocks, moved, j)
        return values, j

    def activity(self, theta: Numbers, inputs: tuple[Numbers, Numbers, Numbers]) -> Activity:
        """What the devices do in n states, by the inputs of `evaluate`."""
        limits, cores, extras = inputs
        clocks, _ = self._clocks(theta, limits)
        own, _ = self._own_times(theta, clocks, cores)
        step = self._time(theta, (clocks, cores, extras), own, np.zeros((0, clocks.shape[1])))
        return Activity(clocks, cores, np.minimum(own - step, 0.0))

    def _clocks(self, theta: Numbers, limits: Numbers) -> tuple[Numbers, list[Limited]]:
        """Clocks of all devices (devices, n): set ones as they are, those behind a power limit as it leaves them."""
        if not self._limited:
            return limits, []
        clocks: Numbers = np.array(limits)
        numbers = zip(theta[self._demand].tolist(), theta[self._floor].tolist(), strict=True)
        moved: list[Limited] = []
        for at, (demand, floor) in zip(self._limited, numbers, strict=True):
            found = limited(limits[at], demand, floor, float(theta[self._voltage][at]))
            clocks[at] = found.clock
            moved.append(found)
        return clocks, moved

    def _through_clocks(self, theta: Numbers, clocks: Numbers, moved: list[Limited], j: Numbers) -> None:
        """Add to j what demand, floor and voltage do through the clocks that a limit leaves."""
        for place, (at, found) in enumerate(zip(self._limited, moved, strict=True)):
            by_clock = -theta[self._slowing][at] * j[:, self._work][:, at]
            v, cubes = 1.0 / (1.0 + np.exp(-theta[self._voltage][at])), np.exp(3.0 * clocks[at])
            bend = theta[self._steep][at] + 3.0 * v * cubes / (1.0 - v + v * cubes)
            by_clock[1] += bend * (j[1, self._idle][at] + j[1, self._busy][at])
            j[:, self._demand][:, place] = by_clock * found.by_demand
            j[:, self._floor][:, place] = by_clock * found.by_floor
            j[:, self._voltage][:, at] += by_clock * found.by_voltage

    def _time(self, theta: Numbers, inputs: tuple[Numbers, Numbers, Numbers], own: Numbers, j: Numbers) -> Numbers:
        """Give ln step time without its scale and extras, (n,); fills j (q, n) but for what own times are made of."""
        p = np.exp(theta[self.SHARPNESS])
        peak = own.max(axis=0)
        weights = np.exp(p * (own - peak))
        total = weights.sum(axis=0)
        weights /= total
        overlapped = peak + np.log(total) / p
        step = np.logaddexp(theta[self.FIXED], overlapped)
        if len(j):
            movable = np.exp(overlapped - step)
            j[self.TIME] = 1.0
            j[self.FIXED] = 1.0 - movable
            j[self.SHARPNESS] = movable * ((weights * own).sum(axis=0) - overlapped)
            j[self._work] = movable * weights
            j[self._extra_time] = inputs[2]
        step = step + theta[self._sync] @ inputs[1]
        return step + theta[self._drag] @ inputs[0][self._dragged] if self._dragged else step

    def _power(self, theta: Numbers, inputs: tuple[Numbers, Numbers, Numbers], busy: Numbers, j: Numbers) -> Numbers:
        """Give ln power without its scale and extras, (n,), from ln of the busy shares; fills the rest of j."""
        clocks, cores, extras = inputs
        share = 1.0 / (1.0 + np.exp(-theta[self._voltage, None]))
        cubes = np.expm1(3.0 * clocks)
        lift = 1.0 + share * cubes
        rising = np.exp(theta[self._steep, None] * clocks) * lift
        idle_w = rising * np.exp(theta[self._idle, None])
        if self._cored:
            idle_w[self._cored] *= np.exp(theta[self._cores_power, None] * cores)
        busy_w = rising * np.exp(theta[self._busy, None] + np.minimum(busy, 0.0))
        constant_w = np.exp(theta[self.CONSTANT])
        watts = constant_w + idle_w.sum(axis=0) + busy_w.sum(axis=0)
        if j.shape[1]:
            time, power = j
            idle_w /= watts
            busy_w /= watts
            moving = idle_w + busy_w
            power[self.POWER] = 1.0
            power[self.CONSTANT] = constant_w / watts
            power[self._idle] = idle_w
            power[self._busy] = busy_w
            power[self._steep] = clocks * moving
            power[self._voltage] = share * (1.0 - share) * cubes / lift * moving
            power[self._cores_power] = cores * idle_w[self._cored]
            power[self._extra_power] = extras
            # Through the busy shares u_d = e^(L_d - ln t), where they are below 1.
            busy_w *= busy < 0.0
            through = busy_w.sum(axis=0)
            power[self.FIXED] = -through * time[self.FIXED]
            power[self.SHARPNESS] = -through * time[self.SHARPNESS]
            power[self._work] = busy_w - through * time[self._work]
            power[self._sync] = -through * cores
            if self._dragged:
                power[self._drag] = -through * clocks[self._dragged]
        return np.log(watts)

    def _own_times(self, theta: Numbers, clocks: Numbers, cores: Numbers) -> tuple[Numbers, Numbers]:
        """L_d of all devices (devices, n), and dL by the width, (cored, n)."""
        own = theta[self._work, None] - theta[self._slowing, None] * clocks
        if not self._cored:
            return own, np.zeros_like(cores)
        wide = np.exp(SATURATION * (self._most[:, None] - theta[self._width, None]))
        narrow = np.exp(-SATURATION * cores)
        own[self._cored] += np.log((wide + narrow) / (wide + 1.0)) / SATURATION
        return own, wide / (wide + 1.0) - wide / (wide + narrow)

    def parameters(self, theta: Numbers) -> tuple[Parameter, ...]:
        """Theta as numbers that a person can read: seconds, watts, exponents, shares."""
        shown: list[Parameter] = []
        for name, value in zip(self.names, theta.tolist(), strict=True):
            label = name.rpartition(".")[2]
            if label in ("fixed", "work"):
                shown.append(Parameter(name=f"{name}_s", value=float(np.exp(value + theta[0])), unit="s"))
            elif label in ("constant", "idle", "busy"):
                shown.append(Parameter(name=f"{name}_w", value=float(np.exp(value + theta[1])), unit="W"))
            elif label in ("sharpness", "demand"):
                shown.append(Parameter(name=name, value=float(np.exp(value))))
            elif label in ("floor", "voltage"):  # shares of 1
                shown.append(Parameter(name=name, value=float(1.0 / (1.0 + np.exp(-value)))))
            elif label == "width":
                shown.append(Parameter(name=name, value=float(np.exp(value)), unit="cores"))
            elif label not in ("time", "power"):
                shown.append(Parameter(name=name, value=value))
        return tuple(shown)
