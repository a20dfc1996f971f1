"""Step time as the overlap of device times, power from clock and busy share: the mean of the `overlap` model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ceml.domain.values import Parameter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ceml.domain.response.devices import Devices

    Numbers = NDArray[np.float64]

SCALE_SD = 5.0  # of ln seconds and ln watts: whatever the board, the scale comes from the data
FIXED = (-2.5, 1.0)  # ln of the part of a step that no clock shortens
SHARPNESS = (float(np.log(2.5)), 0.5)  # ln p: p = 1 devices take turns, large p: the slowest one decides
CONSTANT = (-1.3, 0.5)  # ln of the watts that no knob changes, as share of typical watts
PARALLEL = (-1.0, 1.5)  # logit of the share of a device's work that its cores divide
CORES_STEP = (0.0, 0.1)  # exponent of the core count in the whole step's time: sharing caches, synchronising
CORES_POWER = (0.6, 0.6)  # exponent of the core count in the device's idle watts
EXTRA = (0.0, 0.3)  # exponent of a knob that belongs to no device


class Physics:
    """ln step time and ln power of states as functions of a vector of parameters theta, with their derivatives.

    With x_d = clock of device d as share of its highest, n_d = its cores as share of the most, w = sigmoid(parallel):

        L_d  = work_d - slowing_d ln x_d + ln((1 - w_d) + w_d / n_d)          ln of the device's own time
        ln t = time + ln(e^fixed + (sum_d e^(p L_d))^(1/p)) + sum_d synchronising_d ln n_d + extras
        u_d  = min(1, e^(L_d) / t)                                            share of the step in which d works
        ln P = power + ln(e^constant + sum_d x_d^steepness_d (n_d^cores_power_d e^idle_d + u_d e^busy_d)) + extras

    (the p-norm overlap of device times, and watts from voltage, clock and utilisation, with terms that cannot be
    negative since each is an exponential; V(x)^2 x is written as a power of x). Range of validity: one program whose
    work per step is fixed, steady state. Relative errors of a few percent remain; the residual takes those.

    Attributes:
        names: Of the parameters.
        mean: What theta is before any measurement, shape (q,).
        variance: How sure that is, shape (q,); all parameters are independent beforehand.
    """

    TIME, POWER = 0, 1  # positions of the two scales in theta

    def __init__(self, devices: Devices) -> None:
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
        self._parallel = add("parallel", [PARALLEL] * len(cored), cored)
        self._sync = add("synchronising", [CORES_STEP] * len(cored), cored)
        self._cores_power = add("cores_power", [CORES_POWER] * len(cored), cored)
        extras = [devices.names[at] for at in devices.extras]
        self._extra_time = add("time_exponent", [EXTRA] * len(extras), extras)
        self._extra_power = add("power_exponent", [EXTRA] * len(extras), extras)
        self.names = tuple(names)
        self.mean = np.array([mean for mean, _ in priors])
        self.variance = np.array([sd * sd for _, sd in priors])

    def clocks_and_cores(self, columns: Numbers) -> tuple[Numbers, Numbers, Numbers]:
        """ln x (devices, n), ln n of the devices with cores (cored, n) and the extra columns (extras, n)."""
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
        """ln step time and ln power, shape (2, n), and their derivatives by theta, shape (2, q, n).

        Without `slopes` the second array is empty. Finite for any finite theta of sensible size.
        """
        clocks, cores, extras = inputs
        own, burden = self._own_times(theta, clocks, cores)
        p = np.exp(theta[3])
        peak = own.max(axis=0)
        weights = np.exp(p * (own - peak))
        total = weights.sum(axis=0)
        weights /= total
        overlapped = peak + np.log(total) / p
        step = np.logaddexp(theta[2], overlapped)
        movable = np.exp(overlapped - step)
        step_all = step + theta[self._sync] @ cores
        busy = own - step_all
        works = busy < 0.0
        np.exp(np.minimum(busy, 0.0), out=busy)
        share = 1.0 / (1.0 + np.exp(-theta[self._voltage, None]))
        cubes = np.exp(3.0 * clocks) - 1.0
        lift = 1.0 + share * cubes
        rising = np.exp(theta[self._steep, None] * clocks) * lift
        idle_w = rising * np.exp(theta[self._idle, None])
        if self._cored:
            idle_w[self._cored] *= np.exp(theta[self._cores_power, None] * cores)
        busy_w = rising * np.exp(theta[self._busy, None]) * busy
        watts = np.exp(theta[4]) + idle_w.sum(axis=0) + busy_w.sum(axis=0)
        values = np.empty((2, clocks.shape[1]))
        values[0] = theta[0] + step_all + theta[self._extra_time] @ extras
        values[1] = theta[1] + np.log(watts) + theta[self._extra_power] @ extras
        if not slopes:
            return values, np.zeros((2, 0, 0))
        # Derivatives of ln t by each device's L, then by what L is made of.
        j = np.zeros((2, len(theta), clocks.shape[1]))
        by_own = movable * weights
        j[0, 0] = 1.0
        j[0, 2] = 1.0 - movable
        j[0, 3] = movable * ((weights * own).sum(axis=0) - overlapped)
        j[0, self._work] = by_own
        j[0, self._slowing] = -by_own * clocks
        j[0, self._parallel] = by_own[self._cored] * burden
        j[0, self._sync] = cores
        j[0, self._extra_time] = extras
        # Derivatives of ln P: its own parameters, and through u_d = e^(L_d - ln t).
        idle_w /= watts
        busy_w /= watts
        j[1, 1] = 1.0
        j[1, 4] = np.exp(theta[4]) / watts
        j[1, self._idle] = idle_w
        j[1, self._busy] = busy_w
        moving = idle_w + busy_w
        j[1, self._steep] = clocks * moving
        j[1, self._voltage] = share * (1.0 - share) * cubes / lift * moving
        j[1, self._cores_power] = cores * idle_w[self._cored]
        j[1, self._extra_power] = extras
        busy_w *= works
        through = busy_w.sum(axis=0)
        for at in (2, 3):
            j[1, at] = -through * j[0, at]
        j[1, self._work] = busy_w - through * by_own
        j[1, self._slowing] = -j[1, self._work] * clocks
        j[1, self._parallel] = j[1, self._work][self._cored] * burden
        j[1, self._sync] = -through * cores
        return values, j

    def _own_times(self, theta: Numbers, clocks: Numbers, cores: Numbers) -> tuple[Numbers, Numbers]:
        """L_d of all devices (devices, n), and dL by the logit of the share that cores divide (cored, n)."""
        own = theta[self._work, None] - theta[self._slowing, None] * clocks
        share = 1.0 / (1.0 + np.exp(-theta[self._parallel, None]))
        if not self._cored:
            return own, np.zeros_like(cores)
        fewer = np.exp(-cores) - 1.0
        stretched = 1.0 + share * fewer
        own[self._cored] += np.log(stretched)
        return own, share * (1.0 - share) * fewer / stretched

    def parameters(self, theta: Numbers) -> tuple[Parameter, ...]:
        """Theta as numbers that a person can read: seconds, watts, exponents, shares."""
        shown: list[Parameter] = []
        for name, value in zip(self.names, theta.tolist(), strict=True):
            label = name.rpartition(".")[2]
            if label in ("fixed", "work"):
                shown.append(Parameter(name=f"{name}_s", value=float(np.exp(value + theta[0])), unit="s"))
            elif label in ("constant", "idle", "busy"):
                shown.append(Parameter(name=f"{name}_w", value=float(np.exp(value + theta[1])), unit="W"))
            elif label == "sharpness":
                shown.append(Parameter(name=name, value=float(np.exp(value))))
            elif label == "parallel":
                shown.append(Parameter(name=name, value=float(1 / (1 + np.exp(-value)))))
            elif label not in ("time", "power"):
                shown.append(Parameter(name=name, value=value))
        return tuple(shown)
