"""How the power of single rails answers to the knobs: the part of `overlap` behind caps on rails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ceml.domain.response.solving import CATEGORY_SD, CLOSE, LEAST_STEP, MOST_ITERATIONS
from ceml.domain.values import Parameter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from ceml.domain.knobs import States
    from ceml.domain.response.evidence import RailEvidence
    from ceml.domain.response.physics import Activity, Physics
    from ceml.domain.response.solving import Board, Place

    Numbers = NDArray[np.float64]

CHUNK = 2_048  # states at a time
SCALE_SD = 5.0  # of ln watts: whatever the rail, the scale comes from the data
RESIDUAL_SD = 0.08  # of ln watts: what the form leaves over

# ln of the watts of each term as share of the rail's typical watts: mean and standard deviation.
OWN = {"constant": (-2.0, 1.0), "traffic": (-3.0, 1.2)}  # of a rail that feeds a device whose knobs are turned
OWN_DEVICE = {"idle": (-1.5, 0.8), "busy": (-0.4, 0.8)}
OWN_OTHERS = {"idle": (-5.0, 1.0), "busy": (-4.5, 1.0)}
SHARED = {"constant": (-0.9, 0.8), "traffic": (-1.6, 1.0)}  # of any other rail
SHARED_DEVICE = {"idle": (-2.7, 1.0), "busy": (-2.4, 1.0)}
CORES_POWER = (0.6, 0.6)  # exponent of the core count in a device's idle watts, as in `physics`
SYNONYMS = {"ddr": "mem", "emc": "mem", "dram": "mem"}


@dataclass(frozen=True, slots=True)
class Setting:
    """Some states as a rail sees them.

    Attributes:
        place: Where they lie for the residual.
        activity: Clocks, cores and busy shares there, by the fitted step time.
        rate: ln of steps per second, as share of the highest state's or the fastest one's measured, (n,).
        doubt: Variance of that, (n,).
    """

    place: Place
    activity: Activity
    rate: Numbers
    doubt: Numbers


class RailForm:
    """ln watts of one rail as function of its own parameters phi, with their derivatives.

        ln P = scale + ln(e^constant + r e^traffic + sum_d g_d (n_d^cores_power_d e^idle_d + u_d e^busy_d))

    where r is the rate as share of that in the highest state (moving data costs joules per step, whichever clock drives
    it), u_d the busy share of device d by the fitted step time, and g_d = x_d^steepness_d (1 - v_d + v_d x_d^3) clock
    times voltage squared as everywhere in `physics`, here with a steepness and a voltage of this rail's own. No term
    can be negative. A rail is expected to feed the device of its name; any other one to draw a share of everything.
    """

    SCALE, CONSTANT, TRAFFIC = range(3)  # positions in phi

    def __init__(self, board: Board, rail: str) -> None:
        devices, self._cored = board.physics.parts, list(board.physics.cored)
        words = {SYNONYMS.get(word, word) for word in rail.lower().replace("-", "_").split("_")}
        feeds = [SYNONYMS.get(d.name.rstrip("0123456789"), d.name.rstrip("0123456789")) in words for d in devices]
        general = OWN if any(feeds) else SHARED
        of = [OWN_DEVICE if own else OWN_OTHERS if any(feeds) else SHARED_DEVICE for own in feeds]
        count = len(devices)
        self._idle, self._busy, self._steep, self._voltage = (
            slice(3 + at * count, 3 + (at + 1) * count) for at in range(4)
        )
        self._cores_power = slice(3 + 4 * count, 3 + 4 * count + len(self._cored))
        priors = [(0.0, SCALE_SD), general["constant"], general["traffic"]]
        priors += [each["idle"] for each in of] + [each["busy"] for each in of]
        priors += [d.habit.steepness for d in devices] + [d.habit.voltage for d in devices]
        priors += [CORES_POWER] * len(self._cored)
        self.mean: Numbers = np.array([mean for mean, _ in priors])
        self.variance: Numbers = np.array([sd * sd for _, sd in priors])
        self.names = (
            *("scale", "constant", "traffic"),
            *(f"{d.name}.{label}" for label in ("idle", "busy", "steepness", "voltage") for d in devices),
            *(f"{devices[at].name}.cores_power" for at in self._cored),
        )

    def evaluate(self, phi: Numbers, setting: Setting) -> tuple[Numbers, Numbers, Numbers]:
        """Give ln watts, (n,), its derivatives by phi, (q, n), and by ln rate, (n,)."""
        clocks, cores, busy = setting.activity
        share = 1.0 / (1.0 + np.exp(-phi[self._voltage, None]))
        cubes = np.expm1(3.0 * clocks)
        lift = 1.0 + share * cubes
        rising = np.exp(phi[self._steep, None] * clocks) * lift
        idle_w = rising * np.exp(phi[self._idle, None])
        if self._cored:
            idle_w[self._cored] *= np.exp(phi[self._cores_power, None] * cores)
        busy_w = rising * np.exp(phi[self._busy, None] + busy)
        traffic_w = np.exp(phi[self.TRAFFIC] + setting.rate)
        watts = np.exp(phi[self.CONSTANT]) + traffic_w + idle_w.sum(axis=0) + busy_w.sum(axis=0)
        idle_w, busy_w, traffic_w = idle_w / watts, busy_w / watts, traffic_w / watts
        moving = idle_w + busy_w
        slopes = np.empty((len(phi), len(watts)))
        slopes[self.SCALE] = 1.0
        slopes[self.CONSTANT] = np.exp(phi[self.CONSTANT]) / watts
        slopes[self.TRAFFIC] = traffic_w
        slopes[self._idle], slopes[self._busy] = idle_w, busy_w
        slopes[self._steep] = clocks * moving
        slopes[self._voltage] = share * (1.0 - share) * cubes / lift * moving
        slopes[self._cores_power] = cores * idle_w[self._cored]
        return phi[self.SCALE] + np.log(watts), slopes, traffic_w + (busy_w * (busy < 0.0)).sum(axis=0)

    def parameters(self, phi: Numbers, rail: str) -> tuple[Parameter, ...]:
        """What of phi a person can read: watts of each term at full clock and speed."""
        shown = [
            Parameter(name=f"rail {rail}: {name}_w", value=float(np.exp(value + phi[self.SCALE])), unit="W")
            for name, value in zip(self.names, phi.tolist(), strict=True)
            if name.rpartition(".")[2] in ("constant", "traffic", "idle", "busy")
        ]
        return tuple(shown)


class RailFit:
    """The most probable phi of one rail, and the Gaussian around it, residual included."""

    def __init__(self, form: RailForm, setting: Setting, watts: Numbers, noise: Numbers) -> None:
        """Fit.

        Args:
            form: Of the rail.
            setting: The states where it was measured, m of them.
            watts: ln of what was measured, (m,).
            noise: Variance of that, (m,).

        Raises:
            numpy.linalg.LinAlgError: The numbers are not finite.
        """
        self.form, self._measured = form, setting
        mean = np.array(form.mean)
        mean[form.SCALE] = (watts - form.evaluate(mean, setting)[0]).mean()
        alike, shared = setting.place.alike(setting.place)
        loose = RESIDUAL_SD**2 * alike + CATEGORY_SD**2 * shared + np.eye(len(noise)) * noise
        self.phi = _climb(form, setting, watts, mean, loose)
        values, slopes, _ = form.evaluate(self.phi, setting)
        self._gain = form.variance[:, None] * slopes
        self._whiten = np.linalg.inv(np.linalg.cholesky(np.transpose(slopes) @ self._gain + loose))
        off = watts - values + np.transpose(slopes) @ (self.phi - mean)
        self._pull = np.transpose(self._whiten) @ (self._whiten @ off)

    def at(self, setting: Setting) -> tuple[Numbers, Numbers]:
        """Mean and standard deviation of ln watts, (n,) each."""
        values, slopes, by_rate = self.form.evaluate(self.phi, setting)
        alike, shared = self._measured.place.alike(setting.place)
        residual = RESIDUAL_SD**2 * alike + CATEGORY_SD**2 * shared
        mean = values + self._pull @ residual
        whitened = self._whiten @ (np.transpose(self._gain) @ slopes + residual)
        own = (self.form.variance[:, None] * slopes**2).sum(axis=0) + RESIDUAL_SD**2
        own += setting.place.categories.sum(axis=0) * CATEGORY_SD**2
        variance = np.maximum(own - (whitened**2).sum(axis=0), 1e-12) + by_rate**2 * setting.doubt
        return mean, np.sqrt(variance)


def _climb(form: RailForm, setting: Setting, watts: Numbers, mean: Numbers, loose: Numbers) -> Numbers:
    """Gauss-Newton to the most probable phi, from the prior mean, halving steps that fail."""
    tight = np.linalg.inv(loose)

    def cost_of(phi: Numbers, values: Numbers) -> float:
        off = watts - values
        return float(off @ tight @ off) + float(((phi - mean) ** 2 / form.variance).sum())

    phi = mean
    values, slopes, _ = form.evaluate(phi, setting)
    cost = cost_of(phi, values)
    for _ in range(MOST_ITERATIONS):
        gain = form.variance[:, None] * slopes
        gap = watts - values + np.transpose(slopes) @ (phi - mean)
        step = mean + gain @ np.linalg.solve(np.transpose(slopes) @ gain + loose, gap) - phi
        size, before = 1.0, cost
        while size > LEAST_STEP:
            values, slopes, _ = form.evaluate(phi + size * step, setting)
            cost = cost_of(phi + size * step, values)
            if cost <= before:
                break
            size /= 2.0
        else:
            return phi
        phi = phi + size * step
        if before - cost < CLOSE:
            break
    return phi


class Rails:
    """All rails of a fit; each is fitted when it is first asked for, which few decisions do."""

    def __init__(
        self,
        board: Board,
        physics: Physics,
        theta: Numbers,
        seen: Mapping[str, RailEvidence],
        noise: float,
        step_time: Callable[[States], tuple[Numbers, Numbers]],
    ) -> None:
        """Get ready.

        Args:
            board: The space as the model sees it.
            physics: What theta are parameters of.
            theta: Parameters of the physics.
            seen: What was measured, by rail.
            noise: Variance of ln watts of one sample.
            step_time: Mean and variance of ln step time of n states, (n,) each.
        """
        self._board, self._physics, self._theta = board, physics, theta
        self._seen, self._noise, self._step_time = seen, noise, step_time
        self._fits: dict[str, RailFit | None] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Rails that were measured, but for those that are the whole board's power."""
        return tuple(rail for rail, seen in self._seen.items() if not seen.whole)

    @property
    def every(self) -> tuple[str, ...]:
        """All rails that were measured."""
        return tuple(self._seen)

    def at(self, rail: str, states: States) -> tuple[Numbers, Numbers]:
        """Mean and standard deviation of ln watts of n states, (n,) each; NaN where the fit came to nothing."""
        with np.errstate(all="ignore"):
            fit = self._fit(rail)
            if fit is None:
                nothing = np.full(len(states), np.nan)
                return nothing, nothing
            if len(states) <= CHUNK:
                return fit.at(self._setting(rail, states))
            parts = [fit.at(self._setting(rail, states[at : at + CHUNK])) for at in range(0, len(states), CHUNK)]
        means, deviations = zip(*parts, strict=True)
        return np.concatenate(means), np.concatenate(deviations)

    def parameters(self) -> tuple[Parameter, ...]:
        """Of the rails that were asked for."""
        fits = [(rail, fit) for rail, fit in self._fits.items() if fit is not None]
        return tuple(parameter for rail, fit in fits for parameter in fit.form.parameters(fit.phi, rail))

    def _fit(self, rail: str) -> RailFit | None:
        if rail not in self._fits:
            seen, form = self._seen[rail], RailForm(self._board, rail)
            try:
                fit = RailFit(form, self._setting(rail, seen.states), seen.watts, self._noise / seen.samples)
            except np.linalg.LinAlgError:
                fit = None
            self._fits[rail] = fit if fit is not None and np.isfinite(fit.phi).all() else None
        return self._fits[rail]

    def _setting(self, rail: str, states: States) -> Setting:
        board = self._board
        place = board.everywhere if states is board.space.states else board.place(states)
        slower, doubt = self._step_time(states)
        fastest = self._step_time(np.append(self._seen[rail].states, board.space.max_state))[0].min()
        return Setting(place, self._physics.activity(self._theta, place.inputs), fastest - slower, doubt)
