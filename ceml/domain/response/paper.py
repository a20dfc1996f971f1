"""The paper's estimators: Eq. 1 for performance, Eq. 2 and 3 for power (C8-C13).

Performance and each utilisation have one form in the clocks f of CPU, GPU and memory, in GHz:

    y = a_C f_C + a_G f_G + a_M f_M + a_CG f_C f_G + a_GM f_G f_M + a_MC f_M f_C + b

Seven unknowns, found by least squares; from seven samples that is the paper's exact solve (C12). A clock that the
space does not have, or that has one level only, takes its terms with it. Other knobs are unknown to the form: they
stay at their maximum, so states with another knob below it are predicted as NaN ("nothing can be said").
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from ceml.domain.response.bilinear import BilinearForm, Columns, ghz_of, least_squares, solve
from ceml.domain.values import NAN, FitStatus, Parameter, Prediction
from ceml.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ceml.domain.contracts import Fit
    from ceml.domain.knobs import KnobSpace, States
    from ceml.domain.values import DevicePower, Knowledge, Observation

    Array = NDArray[np.float64]

MOST_STATES = 500_000  # whose terms are kept: some 200 bytes each


class _Samples(NamedTuple):
    """Observations as arrays over m of them; NaN where something was not measured."""

    columns: Array  # (k, m), of the form
    rate_hz: Array  # (m,)
    power_w: Array  # (m,)
    rail_w: Array  # (devices, m)
    busy: Array  # (devices, m), utilisation
    clock_ghz: Array  # (devices, m)

    def where(self, good: NDArray[np.bool_]) -> _Samples:
        return _Samples(*(array[..., good] for array in self))


def _samples(form: BilinearForm, observations: Sequence[Observation]) -> _Samples:
    """The observations that have a finite, positive rate and a clock for each term."""
    configurations = [seen.configuration for seen in observations]
    rail_w, busy, clock_ghz = np.full((3, len(form.clocks_ghz), len(observations)), NAN)
    for row, device in enumerate(form.clocks_ghz):
        rail_w[row] = [seen.rail_w.get(device, NAN) for seen in observations]
        busy[row] = [seen.utilisation.get(device, NAN) for seen in observations]
        clock_ghz[row] = ghz_of(configurations, device)
    samples = _Samples(
        columns=form.seen(configurations),
        rate_hz=np.array([seen.rate_hz for seen in observations], dtype=np.float64),
        power_w=np.array([seen.power_w for seen in observations], dtype=np.float64),
        rail_w=rail_w,
        busy=np.minimum(np.maximum(busy, 0.0), 1.0),
        clock_ghz=clock_ghz,
    )
    usable = np.isfinite(samples.rate_hz) & (samples.rate_hz > 0.0) & np.isfinite(samples.columns).all(axis=0)
    return samples.where(usable)


class _Power(NamedTuple):
    """How power follows from the state: total power in the form of Eq. 1, or slope * utilisation + idle per device."""

    status: FitStatus
    how: str
    coefficients: Array  # (1, k) for total power, or (devices, k) for utilisations; scaled
    slope_w: Columns | None = None  # (devices, states)
    idle_w: Columns | None = None  # (devices, states)
    board_w: float = 0.0
    parameters: tuple[Parameter, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PaperFit:
    """Eq. 1-3 with their coefficients (a `Fit`); what could not be fitted is NaN, and so are predictions from it.

    Attributes:
        status: How it went.
        sentence: The same in words.
        form: The terms.
        power: How power is predicted.
        coefficients: Scaled coefficients of rate, then of power or utilisations, shape (1 + rows of power, terms).
        everywhere: What is predicted for all states of the space.
    """

    status: FitStatus
    sentence: str
    form: BilinearForm = field(repr=False)
    power: _Power = field(repr=False)
    coefficients: Array = field(repr=False)
    everywhere: Prediction = field(repr=False)

    def predict(self, states: States) -> Prediction:
        """Rate by Eq. 1; power by Eq. 1 for the total, or by Eq. 2 with the utilisations of Eq. 3, cut to 0..1.

        The linear form may well predict a rate or a power that is not positive: it is handed on as it is, and `Score`
        takes such a state for infeasible. All states of the space were computed with the fit.
        """
        known = states is self.form.states
        return self.everywhere if known else _predict(self.form, self.coefficients, self.power, states)

    def parameters(self) -> tuple[Parameter, ...]:
        """Coefficients per GHz and per GHz^2, as the paper writes them (C8-C11)."""
        names = [("rate", "steps/s")]
        if self.power.slope_w is None:
            names.append(("power", "W"))
        else:
            names += [(f"utilisation of {device}", "") for device in self.form.clocks_ghz]
        found: list[Parameter] = []
        for (name, unit), row in zip(names, self.coefficients / self.form.scale, strict=True):
            for term, value in zip(self.form.terms, row.tolist(), strict=True):
                per = ("", "per GHz", "per GHz^2")[len(term)]
                what = " x ".join(term) or "constant"
                found.append(Parameter(name=f"{name}: {what}", value=value, unit=f"{unit} {per}".strip()))
        return (*found, *self.power.parameters)


class Paper:
    """The paper's model (a `ResponseModel`). The terms of a space are computed once and kept as long as the space."""

    def __init__(self, *, board_power: bool) -> None:
        self._board_power = board_power
        self._forms: WeakKeyDictionary[KnobSpace, BilinearForm] = WeakKeyDictionary()

    def fit(
        self,
        space: KnobSpace,
        observations: Sequence[Observation],
        *,
        prior: Knowledge | None = None,
        warm: Fit | None = None,
    ) -> PaperFit:
        """Least squares over all observations; several of one configuration all count.

        Observations without a finite, positive rate are left out. It never raises, see the status. A linear solve
        has no start, so `warm` goes unused.

        Raises:
            SettingsError: A space of more than `MOST_STATES`.
        """
        if space.present.size > MOST_STATES:
            raise SettingsError(
                f"model paper predicts all configurations at once, at most {MOST_STATES}, and there are"
                f" {space.present.size}: use --model overlap, or leave levels out, e.g. --limit KNOB=LOW..HIGH"
            )
        form = self._forms.get(space) or BilinearForm(space)
        self._forms[space] = form
        with np.errstate(all="ignore"):
            samples = _samples(form, observations)
            status, rate = solve(samples.columns, samples.rate_hz[None, :])
            power = _power(form, samples, prior.board if prior is not None else {}, board_power=self._board_power)
            coefficients: Array = np.concatenate([rate, power.coefficients])
            everywhere = _predict(form, coefficients, power, space.states)
            if np.isinf(everywhere.rate_hz + everywhere.power_w).any():
                status, coefficients = FitStatus.NOT_FINITE, np.full(coefficients.shape, np.nan)
                everywhere = _predict(form, coefficients, power, space.states)
        used = samples.rate_hz.size
        if status is FitStatus.TOO_FEW and len(observations) >= len(form.terms):
            status = FitStatus.NOT_FINITE
        return PaperFit(
            status=status if status is not FitStatus.GOOD else power.status,
            sentence=_sentence(form, status, used, len(observations) - used, power),
            form=form,
            power=power,
            coefficients=coefficients,
            everywhere=everywhere,
        )


def _predict(form: BilinearForm, coefficients: Array, power: _Power, states: States) -> Prediction:
    """Rate (Eq. 1), and power by way of `power`, of n states."""
    out: Array = coefficients @ form.columns.at(states)
    if power.slope_w is None or power.idle_w is None:
        return Prediction(rate_hz=out[0], power_w=out[1])
    rails_w = out[1:]
    np.minimum(np.maximum(rails_w, 0.0, out=rails_w), 1.0, out=rails_w)
    rails_w *= power.slope_w.at(states)
    rails_w += power.idle_w.at(states)
    power_w: Array = np.ones(len(rails_w)) @ rails_w
    power_w += power.board_w
    return Prediction(rate_hz=out[0], power_w=power_w, rail_w=dict(zip(form.clocks_ghz, rails_w, strict=True)))


def _power(form: BilinearForm, samples: _Samples, board: Mapping[str, DevicePower], *, board_power: bool) -> _Power:
    """The best of the ways to power that the measurements allow, see `paper`."""
    calibrated = set(form.clocks_ghz) <= set(board)
    needed = samples.busy + samples.clock_ghz if calibrated else samples.busy + samples.clock_ghz + samples.rail_w
    usable = samples.where(np.isfinite(needed.sum(axis=0)))
    if form.clocks_ghz:
        status, busy = solve(usable.columns, usable.busy)
        if status is FitStatus.GOOD:
            if calibrated:
                return _by_calibration(form, usable, busy, board, board_power=board_power)
            return _by_rails(form, usable, busy, board_power=board_power)
    total = samples.where(np.isfinite(samples.power_w))
    if not total.rate_hz.size:
        return _Power(FitStatus.GOOD, "no power, none was measured", np.full((1, len(form.terms)), np.nan))
    status, coefficients = solve(total.columns, total.power_w[None, :])
    return _Power(status, "total power in the same form", coefficients)


def _by_calibration(
    form: BilinearForm, samples: _Samples, busy: Array, board: Mapping[str, DevicePower], *, board_power: bool
) -> _Power:
    """Eq. 2 with (epsilon, zeta) of C9; clocks between two calibrated ones are interpolated linearly."""

    def at(device: str, ghz: Array) -> tuple[Array, Array]:
        known = board[device]
        return np.interp(ghz * 1e9, known.levels_hz, known.slope_w), np.interp(ghz * 1e9, known.levels_hz, known.idle_w)

    rest_w: Array = np.array(samples.power_w)
    for device, use, ghz in zip(form.clocks_ghz, samples.busy, samples.clock_ghz, strict=True):
        slope_w, idle_w = at(device, ghz)
        rest_w -= slope_w * use + idle_w
    pairs = [at(device, ghz) for device, ghz in form.clocks_ghz.items()]
    return _by_device("Eq. 2 with the board's calibration", form, busy, pairs, _mean(rest_w) if board_power else 0.0)


def _by_rails(form: BilinearForm, samples: _Samples, busy: Array, *, board_power: bool) -> _Power:
    """Eq. 2 with slope and idle power fitted to the rails as smooth functions of the clock.

    P_D = z0 + z1 f + U (e1 f + e3 f^3), least squares. Seven states visit four levels of a device only, and Eq. 2 has
    a pair of unknowns for every level: levels never visited must come from their neighbours. Dynamic power is V^2 f U
    with a voltage that rises about linearly with the clock (ceml.md 1.7), hence f and f^3. Where the visited levels
    cannot tell the terms apart (one level only) the smallest coefficients that fit are taken.
    """
    pairs: list[tuple[Array, Array]] = []
    parameters: list[Parameter] = []
    for device, rail_w, u, ghz in zip(form.clocks_ghz, samples.rail_w, samples.busy, samples.clock_ghz, strict=True):
        top = form.top_ghz[device]
        x, everywhere = ghz / top, form.clocks_ghz[device] / top
        design: Array = np.array([np.ones(len(x)), x, u * x, u * x**3])
        z0, z1, e1, e3 = least_squares(design, rail_w[None, :])[1][0].tolist()
        pairs.append((e1 * everywhere + e3 * everywhere**3, z0 + z1 * everywhere))
        parameters += [
            Parameter(name=f"power of {device}: idle", value=z0, unit="W"),
            Parameter(name=f"power of {device}: idle x clock", value=z1 / top, unit="W per GHz"),
            Parameter(name=f"power of {device}: busy x clock", value=e1 / top, unit="W per GHz"),
            Parameter(name=f"power of {device}: busy x clock^3", value=e3 / top**3, unit="W per GHz^3"),
        ]
    rest_w = _mean(samples.power_w - samples.rail_w.sum(axis=0)) if board_power else 0.0
    return _by_device("Eq. 2 fitted to the rails", form, busy, pairs, rest_w, parameters)


def _mean(differences_w: Array) -> float:
    """Power of what is neither CPU, GPU nor memory: mean of total minus devices; 0 where no total was measured."""
    known = differences_w[np.isfinite(differences_w)]
    return float(known.mean()) if known.size else 0.0


def _by_device(
    how: str,
    form: BilinearForm,
    busy: Array,
    pairs: Sequence[tuple[Array, Array]],
    rest_w: float,
    parameters: Sequence[Parameter] = (),
) -> _Power:
    """The power part of a fit, from (slope, idle) of each device in every state."""
    slope_w, idle_w = np.array([slope for slope, _ in pairs]), np.array([idle for _, idle in pairs])
    finite = bool(np.isfinite(slope_w).all() and np.isfinite(idle_w).all())
    return _Power(
        status=FitStatus.GOOD if finite else FitStatus.NOT_FINITE,
        how=f"power by {how}" + (f", and {rest_w:.3g} W for the rest of the board" if rest_w else ""),
        coefficients=busy,
        slope_w=Columns(form.states, slope_w),
        idle_w=Columns(form.states, idle_w),
        board_w=rest_w,
        parameters=(*parameters, Parameter(name="power of the rest of the board", value=rest_w, unit="W")),
    )


def _sentence(form: BilinearForm, status: FitStatus, used: int, left_out: int, power: _Power) -> str:
    """How the fit went, in words."""
    unknowns = f"the {len(form.terms)} unknowns of Eq. 1"
    said = {
        FitStatus.GOOD: f"{unknowns} from {used} observations; {power.how}",
        FitStatus.TOO_FEW: f"{used} observations are too few for {unknowns}",
        FitStatus.SINGULAR: f"{used} observations cannot tell {unknowns} apart: their configurations are too alike",
        FitStatus.NOT_FINITE: f"{used} observations with usable numbers are not enough for {unknowns}",
    }[status]
    if status is FitStatus.GOOD and power.status is not FitStatus.GOOD:
        said += f", which failed: {power.status.value.replace('_', ' ')}"
    if left_out:
        said += f"; {left_out} left out for want of a finite, positive rate or of a clock"
    if form.fixed:
        said += f"; no terms for {', '.join(form.fixed)}, whose clock cannot be turned"
    if form.others:
        said += f"; {', '.join(form.others)} unknown to the model, kept at the maximum"
    return said


def paper(*, board_power: bool = True) -> Paper:
    """The paper's equations: rate linear in the clocks and their products, power by device utilisation.

    Power comes from the best source at hand: the board's calibration and measured utilisations; else rails and
    utilisations of every device; else the total power, in the same form as the rate; else it is NaN.

    Args:
        board_power: Whether a constant is added for what is neither CPU, GPU nor memory; False: as the paper has it.
    """
    return Paper(board_power=board_power)
